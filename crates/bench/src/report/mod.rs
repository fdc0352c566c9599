//! `docs/performance.md`: tables and plots made from records.

mod plot;
mod sections;
pub(crate) mod table;

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};

use crate::record::Record;

/// Writes `performance.md`, and its plots under `plots/`, into `folder`.
///
/// # Errors
/// If there are no records, or a file cannot be written.
pub fn write(records: &[Record], folder: &Path) -> Result<()> {
    ensure!(!records.is_empty(), "there are no records to report: measure first, see `crewcast-bench --help`");
    let report = Report { records };
    let plots = folder.join("plots");
    fs::create_dir_all(&plots).with_context(|| format!("cannot create {}", plots.display()))?;
    let mut text = report.head();
    for section in
        [Report::compare, Report::latency, Report::idle, Report::slow, Report::storm, Report::deflate, Report::publish]
    {
        let Some(section) = section(&report) else { continue };
        text += &section.text;
        if let Some((name, drawing)) = section.plot {
            fs::write(plots.join(name), drawing)?;
        }
    }
    text += &report.faults();
    let path = folder.join("performance.md");
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The records that the report is about.
struct Report<'a> {
    records: &'a [Record],
}

/// One section of the page, with its plot.
struct Section {
    text: String,
    plot: Option<(&'static str, String)>,
}

impl<'a> Report<'a> {
    /// The records of a command.
    fn of(&self, command: &'static str) -> Vec<&'a Record> {
        self.records.iter().filter(|record| record.command == command).collect()
    }
}

/// The distinct values of a field, in the order of their first appearance.
fn distinct<'a>(records: &[&'a Record], field: impl Fn(&'a Record) -> &'a str) -> Vec<&'a str> {
    let mut values = Vec::new();
    for value in records.iter().map(|record| field(record)) {
        if !values.contains(&value) {
            values.push(value);
        }
    }
    values
}

/// The median of a figure over the rounds of a case with a server.
fn median_of(records: &[&Record], server: &str, case: &str, figure: impl Fn(&Record) -> f64) -> f64 {
    let rounds = records.iter().filter(|record| record.server == server && record.case == case);
    crate::record::median(rounds.map(|record| figure(record)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        load::{Load, Outcome},
        measure::{machine::Machine, process::Cpu},
    };

    fn record(command: &str, server: &str, case: &str, lost: u64) -> Record {
        Record {
            command: command.into(),
            server: server.into(),
            server_version: "1".into(),
            redis_version: "7".into(),
            case: case.into(),
            round: 1,
            replicas: 1,
            pinned: true,
            load: Load::default(),
            machine: Machine::default(),
            outcome: Outcome {
                seconds: 3.0,
                deliveries: 300_000,
                published: 300,
                deliveries_per_server_cpu_second: if server == "raw" { 200_000.0 } else { 100_000.0 },
                server_cpu: Cpu { user: 1.0, system: 2.0 },
                rss_per_socket: 2000.0,
                wire_bytes: 300_000,
                lost,
                ..Outcome::default()
            },
            storm: None,
        }
    }

    #[test]
    fn a_report_has_tables_and_plots_of_what_was_measured_and_names_what_was_lost() {
        let folder = std::env::temp_dir().join(format!("crewcast-bench-report-{}", std::process::id()));
        let records = [
            record("compare", "raw", "1 x 1000, 1 in flight", 0),
            record("compare", "crewcast", "1 x 1000, 1 in flight", 7),
            record("idle", "crewcast", "10000 sockets", 0),
        ];
        write(&records, &folder).unwrap();
        let text = fs::read_to_string(folder.join("performance.md")).unwrap();
        assert!(text.contains("| crewcast |") && text.contains("plots/deliveries.svg"), "{text}");
        assert!(text.contains("7 lost"), "{text}");
        assert!(!text.contains("Reconnect"), "{text}");
        let plot = fs::read_to_string(folder.join("plots/deliveries.svg")).unwrap();
        assert!(plot.starts_with("<svg") && plot.ends_with("</svg>\n"));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn no_records_are_no_report() {
        assert!(write(&[], Path::new("/nonexistent")).is_err());
    }
}
