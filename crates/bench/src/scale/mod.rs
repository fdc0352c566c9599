//! Measures the points that the model is fitted to.

mod grid;
mod probe;
mod site;

pub use grid::{Case, grid};
pub use site::{Measured, measure};
