//! The command `crewcast-bench`.

use std::process::ExitCode;

use clap::Parser;
use crewcast_bench::commands::{Cli, execute};

fn main() -> ExitCode {
    match execute(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("events were lost, duplicated or out of order: see above");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
