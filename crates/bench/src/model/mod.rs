//! What Crewcast costs, as laws fitted to what was measured, and what they say of deployments that no machine here can hold.
//!
//! [`Quantities`] is what happens; a [`law::Law`] says what it costs; [`fit`] finds the coefficients; [`predict`] asks them of
//! deployments; [`document`] writes it all down.

pub mod breaks;
pub mod copies;
pub mod document;
pub mod fit;
pub mod law;
/// What is asked: scenarios, placements, and what machines are like.
pub mod plan;
/// What was measured, and what happened in it.
pub mod point;
pub mod predict;
pub mod regression;
/// All points with what is asked of them: `docs/scaling.json`.
pub mod study;

pub use fit::Model;
pub use plan::{Assumptions, Placement, Scenario};
pub use point::{Point, Quantities};
pub use study::Study;
