//! A model of what Crewcast costs: laws fitted to measurements, and predictions for deployments that no test machine
//! can hold.
//!
//! [`Quantities`] describe what happens, a [`law::Law`] says what it costs, and [`fit`] finds the coefficients.
//! [`predict`] applies the laws to deployments, and [`document`] writes the results.

pub mod breaks;
pub mod copies;
pub mod document;
pub mod fit;
pub mod law;
/// The questions: scenarios, placements, and assumptions about machines.
pub mod plan;
/// The measured points, and what happened in each.
pub mod point;
pub mod predict;
pub mod regression;
/// All points with the questions to the model: `docs/scaling.json`.
pub mod study;

pub use fit::Model;
pub use plan::{Assumptions, Placement, Scenario};
pub use point::{Point, Quantities};
pub use study::Study;
