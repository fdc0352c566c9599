//! The simulated crews and the banner of `crewcast dev`.

mod banner;
mod org;
mod run;
mod script;
mod simulation;
#[cfg(test)]
mod tests;
mod tools;

pub(crate) use banner::{Addresses, banner};
pub(crate) use simulation::{SimulationOptions, run};
