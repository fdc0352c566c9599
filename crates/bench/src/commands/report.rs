use std::{fs, path::PathBuf};

use anyhow::{Context, Result};

use crate::{record, report};

/// What is reported, and where.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Records, as the other commands write them; otherwise all in target/bench
    files: Vec<PathBuf>,
    /// Where the report goes
    #[arg(long, default_value = "docs")]
    out: PathBuf,
}

pub(super) fn execute(args: &Args) -> Result<()> {
    let files = if args.files.is_empty() { found()? } else { args.files.clone() };
    let mut records = Vec::new();
    for file in files {
        records.extend(record::read(&file)?);
    }
    report::write(&records, &args.out)?;
    println!("wrote {}", args.out.join("performance.md").display());
    Ok(())
}

fn found() -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir("target/bench").context("nothing was measured yet")?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    // The points of `scale` are of another form, for another page.
    files.retain(|path| path.extension().is_some_and(|ending| ending == "jsonl") && !path.ends_with("scale.jsonl"));
    files.sort();
    Ok(files)
}
