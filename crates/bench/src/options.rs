use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use clap::Args;

use crate::{load::Load, runner::own_binary};

/// What all commands take that start servers.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The crewcast binary; otherwise the one beside this program
    #[arg(long)]
    pub crewcast: Option<PathBuf>,
    /// Where peers are installed
    #[arg(long, default_value = "target/bench/peers")]
    pub peers: PathBuf,
    /// Where records go
    #[arg(long, default_value = "target/bench")]
    pub out: PathBuf,
    /// Which servers, with commas between
    #[arg(long, value_delimiter = ',')]
    pub servers: Vec<String>,
    /// How often everything is done
    #[arg(long)]
    pub rounds: Option<usize>,
    /// Only a test of whether it works: one short round
    #[arg(long)]
    pub quick: bool,
}

impl Options {
    /// The crewcast binary.
    ///
    /// # Errors
    /// When it is not there.
    pub fn crewcast(&self) -> Result<PathBuf> {
        let path = match &self.crewcast {
            Some(path) => path.clone(),
            None => own_binary()?.with_file_name("crewcast"),
        };
        ensure!(path.exists(), "{} is not there: cargo build --release -p crewcast", path.display());
        Ok(path)
    }

    /// The load, or a short form of it for a test.
    pub fn shortened(&self, load: Load) -> Load {
        if !self.quick {
            return load;
        }
        let (warm_up, window) = (Duration::from_millis(200), Duration::from_millis(700));
        Load { warm_up, window, ..load }
    }
}
