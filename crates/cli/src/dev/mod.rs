//! `crewcast dev`: everything on one machine. Here are the crews that it simulates and what it prints.

mod banner;
mod run;
mod script;
mod simulation;
#[cfg(test)]
mod tests;
mod tools;

pub use banner::{Addresses, banner};
pub use simulation::{SimulationOptions, run};
