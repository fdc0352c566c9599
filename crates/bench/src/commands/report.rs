use std::path::PathBuf;

use anyhow::Result;

/// What is reported, and where.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Records; otherwise all of target/bench
    files: Vec<PathBuf>,
    /// Where the report goes
    #[arg(long, default_value = "docs")]
    out: PathBuf,
}

pub(super) fn execute(_args: &Args) -> Result<()> {
    Ok(())
}
