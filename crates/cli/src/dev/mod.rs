//! The simulated crews and the banner of `crewcast dev`.

mod banner;
mod run;
mod script;
mod simulation;
#[cfg(test)]
mod tests;
mod tools;

pub use banner::{Addresses, banner};
pub use simulation::{SimulationOptions, run};
