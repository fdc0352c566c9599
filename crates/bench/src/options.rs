//! The options that commands share.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use clap::Args;

use crate::{load::Load, servers::own_binary};

/// The options of every command that starts servers.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Path of the crewcast binary [default: next to this program]
    #[arg(long)]
    pub crewcast: Option<PathBuf>,
    /// Folder in which peers are installed
    #[arg(long, default_value = "target/bench/peers")]
    pub peers: PathBuf,
    /// Folder for the records
    #[arg(long, default_value = "target/bench")]
    pub out: PathBuf,
    /// Servers to measure, separated by commas
    #[arg(long, value_delimiter = ',')]
    pub servers: Vec<String>,
    /// Number of rounds
    #[arg(long)]
    pub rounds: Option<usize>,
    /// Run one short round, to test that everything works
    #[arg(long)]
    pub quick: bool,
}

impl Options {
    /// The path of the crewcast binary.
    ///
    /// # Errors
    /// If the binary does not exist.
    pub fn crewcast(&self) -> Result<PathBuf> {
        let path = match &self.crewcast {
            Some(path) => path.clone(),
            None => own_binary()?.with_file_name("crewcast"),
        };
        ensure!(
            path.exists(),
            "{} does not exist: run `cargo build --release -p crewcast`, or pass --crewcast",
            path.display()
        );
        Ok(path)
    }

    /// The load, or a short form of it with `--quick`.
    pub fn shortened(&self, load: Load) -> Load {
        if !self.quick {
            return load;
        }
        let (warm_up, window) = (Duration::from_millis(200), Duration::from_millis(700));
        Load { warm_up, window, ..load }
    }
}
