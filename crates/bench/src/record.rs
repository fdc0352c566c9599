//! Records of runs: one JSON object per run with everything needed to interpret it.

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

/// The record of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The command that made the record.
    pub command: String,
    /// The name of the server.
    pub server: String,
    /// The version of the server.
    pub server_version: String,
    /// The version of Redis.
    pub redis_version: String,
    /// The name of the case.
    pub case: String,
    /// Number of the round, from 1.
    pub round: usize,
    /// How many replicas the server had.
    pub replicas: usize,
    /// Whether the server was bound to one core, and generator and Redis to another. Otherwise all cores were shared.
    pub pinned: bool,
    /// The load that was put on the server.
    pub load: Load,
    /// The machine on which it ran.
    pub machine: Machine,
    /// What was measured.
    pub outcome: Outcome,
    /// What was measured of a reconnect storm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storm: Option<Storm>,
}

/// A reconnect storm: all sockets are cut, events are logged meanwhile, and all sockets come back at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Storm {
    /// How many sockets.
    pub sockets: usize,
    /// Events that each socket missed.
    pub missed: u64,
    /// Seconds until all sockets were open again.
    pub open_seconds: f64,
    /// Seconds until the last socket had received every missed event.
    pub complete_seconds: f64,
}

/// Appends a record to the file of its command in `folder`.
///
/// # Errors
/// If the file cannot be written.
pub fn append(folder: &Path, record: &Record) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let path = folder.join(format!("{}.jsonl", record.command));
    let mut file = File::options().create(true).append(true).open(&path)?;
    writeln!(file, "{}", serde_json::to_string(record)?).with_context(|| format!("cannot write {}", path.display()))
}

/// Reads the records of a file, one per line.
///
/// # Errors
/// If the file cannot be read, or a line is not a record.
pub fn read(path: &Path) -> Result<Vec<Record>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let parse = |line: std::io::Result<String>| Ok(serde_json::from_str(&line?)?);
    BufReader::new(file).lines().map(parse).collect::<Result<_>>().with_context(|| format!("in {}", path.display()))
}

/// The median; of an even number of values, the upper of the middle two. NaN for no values.
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
