//! What is kept of each run: one JSON object with all that one has to know.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::Path,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{
    load::{Load, Outcome},
    measure::machine::Machine,
};

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Which of the commands made it.
    pub command: String,
    /// The server that was measured.
    pub server: String,
    /// Its version.
    pub server_version: String,
    /// Redis' version.
    pub redis_version: String,
    /// The name of what was done.
    pub case: String,
    /// The round, from 1.
    pub round: usize,
    /// Replicas of the server.
    pub replicas: usize,
    /// Whether the server had a core of its own, and generator and Redis another; otherwise all shared all.
    pub pinned: bool,
    /// The load.
    pub load: Load,
    /// The machine.
    pub machine: Machine,
    /// What has shown.
    pub outcome: Outcome,
    /// What a storm of reconnects has shown besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storm: Option<Storm>,
}

/// All sockets were cut, events were logged meanwhile, and all came back at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Storm {
    /// Sockets.
    pub sockets: usize,
    /// Events that each had missed.
    pub missed: u64,
    /// Seconds until all were open again.
    pub open_seconds: f64,
    /// Seconds until the last one had everything.
    pub complete_seconds: f64,
}

/// Appends to the file of the record's command in `folder`.
///
/// # Errors
/// When the file cannot be written.
pub fn append(folder: &Path, record: &Record) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let path = folder.join(format!("{}.jsonl", record.command));
    let mut file = File::options().create(true).append(true).open(&path)?;
    writeln!(file, "{}", serde_json::to_string(record)?).with_context(|| format!("cannot write {}", path.display()))
}

/// The records of a file, one to a line.
///
/// # Errors
/// When it cannot be read, or holds something else.
pub fn read(path: &Path) -> Result<Vec<Record>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let parse = |line: std::io::Result<String>| Ok(serde_json::from_str(&line?)?);
    BufReader::new(file).lines().map(parse).collect::<Result<_>>().with_context(|| format!("in {}", path.display()))
}

/// The middle one of some values; of an even number the upper of the two.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert!(median([]).is_nan());
    }
}
