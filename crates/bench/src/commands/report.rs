use std::{fs, path::PathBuf};

use anyhow::{Context, Result};

use crate::{record, report};

/// The records to report, and the folder of the report.
#[derive(Debug, clap::Args)]
pub(super) struct ReportArgs {
    /// Files of records that other commands wrote [default: all in target/bench]
    files: Vec<PathBuf>,
    /// Folder for the report
    #[arg(long, default_value = "docs")]
    out: PathBuf,
}

pub(super) fn execute(args: &ReportArgs) -> Result<()> {
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
    let entries = fs::read_dir("target/bench")
        .context("there are no records in target/bench: measure first, see `crewcast-bench --help`")?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    // The points of `scale` have another format and belong to another page.
    files.retain(|path| path.extension().is_some_and(|ending| ending == "jsonl") && !path.ends_with("scale.jsonl"));
    files.sort();
    Ok(files)
}
