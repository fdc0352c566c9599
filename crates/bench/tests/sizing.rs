//! The commands of docs/sizing.md, and its table, which is what the first of them prints.

use std::{fs, path::Path, process::Command};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn page() -> String {
    fs::read_to_string(root().join("docs/sizing.md")).unwrap()
}

/// The page's calls of `crewcast-bench`, each as its arguments.
fn calls() -> Vec<Vec<String>> {
    let page = page();
    let lines = page.lines().filter_map(|line| line.strip_prefix("target/release/crewcast-bench "));
    lines.map(|arguments| arguments.split(' ').map(str::to_owned).collect()).collect()
}

fn printed(arguments: &[String]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crewcast-bench"));
    let output = command.args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn cells(row: &str) -> Vec<String> {
    row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}

/// The columns of `crewcast-bench scale` that the page shows: cores, replicas, Redis cores, Redis servers, network and
/// memory.
const SHOWN: [usize; 6] = [4, 5, 6, 7, 8, 10];

#[test]
fn the_table_is_what_the_model_says() {
    let printed = printed(&calls()[0]);
    let page = page();
    let rows: Vec<_> = page.lines().filter(|row| row.contains("| watching |") || row.contains("| busy |")).collect();
    assert_eq!(rows.len(), 6);
    for row in rows {
        let row = cells(row);
        let section =
            printed.split("### ").find(|section| section.starts_with(&format!("{} sockets", row[0]))).unwrap();
        let scenario = format!("| {}, scattered |", row[1]);
        let computed = cells(section.lines().find(|line| line.starts_with(&scenario)).unwrap());
        assert_eq!(row[2..], SHOWN.map(|column| computed[column].clone()), "{row:?}");
    }
}

#[test]
fn every_command_runs() {
    let calls = calls();
    assert_eq!(calls.len(), 2);
    for arguments in calls {
        assert!(printed(&arguments).contains("sockets"), "{arguments:?}");
    }
}

/// The figures that the page takes from another page.
#[test]
fn its_measured_figures_are_those_of_performance() {
    let performance = fs::read_to_string(root().join("docs/performance.md")).unwrap();
    let cell = |row: &str, column: usize| {
        let row = performance.lines().find(|line| line.starts_with(row)).unwrap_or_else(|| panic!("{row}"));
        cells(row)[column].clone()
    };
    let page = page();
    for (figure, unit) in [
        (cell("| logged, one event ", 2), "µs of CPU"),
        (cell("| plain PUBLISH", 2), "µs for a plain `PUBLISH`"),
        (cell("| crewcast: 10000 sockets, 100 missed ", 2), "s ("),
    ] {
        assert!(page.contains(&format!("{figure} {unit}")), "{figure} {unit}");
    }
}
