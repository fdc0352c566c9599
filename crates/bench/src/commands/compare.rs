use std::time::Duration;

use anyhow::Result;

use crate::{
    load::{Load, Pace},
    options::Options,
    record::{Record, median},
    runner::Runner,
    servers::Server,
};

const ROUNDS: usize = 5;

pub(super) fn execute(options: &Options) -> Result<bool> {
    let mut runner = Runner::new("compare", options, true)?;
    let servers = runner.servers(&[])?;
    let mut records = Vec::new();
    for round in 1..=runner.rounds(ROUNDS) {
        for server in &servers {
            match one(&mut runner, &**server, round) {
                Ok(more) => records.extend(more),
                Err(error) => println!("{:<10} skipped: {error:#}", server.name()),
            }
        }
    }
    print_table(&records);
    Ok(runner.is_clean())
}

/// Measures all cases with one server.
fn one(runner: &mut Runner, server: &dyn Server, round: usize) -> Result<Vec<Record>> {
    let cases: Vec<_> = cases().into_iter().map(|(case, load)| (case, runner.shortened(load))).collect();
    let loads: Vec<Load> = cases.iter().map(|(_, load)| load.clone()).collect();
    let stage = runner.stage(server, &loads, 1)?;
    let mut records = Vec::new();
    for (case, load) in &cases {
        match runner.measure(&stage, case, round, load) {
            Ok(record) => records.push(record),
            Err(error) => println!("{:<10} {case}: {error:#}", server.name()),
        }
    }
    Ok(records)
}

/// Channels × sockets, and how many events are in flight.
pub(super) fn cases() -> Vec<(&'static str, Load)> {
    let load = |channels, sockets_per_channel, pace| Load {
        channels,
        sockets_per_channel,
        pace,
        warm_up: Duration::from_millis(700),
        window: Duration::from_millis(2500),
        ..Load::default()
    };
    vec![
        ("1 x 1000, 1 in flight", load(1, 1000, Pace::PerChannel(1))),
        ("1 x 1000, 64 in flight", load(1, 1000, Pace::PerChannel(64))),
        ("1000 x 1, 256 in total", load(1000, 1, Pace::Total(256))),
        ("100 x 100, 16 in total", load(100, 100, Pace::Total(16))),
        ("100 x 100, 16 per channel", load(100, 100, Pace::PerChannel(16))),
    ]
}

/// Prints the medians, and Crewcast's figure divided by each.
fn print_table(records: &[Record]) {
    let mut servers: Vec<&str> = Vec::new();
    for record in records.iter().filter(|record| record.round == 1) {
        if !servers.contains(&record.server.as_str()) {
            servers.push(&record.server);
        }
    }
    println!(
        "\nthousand deliveries per second of the server's CPU time, medians; in brackets Crewcast's figure divided \
         by it"
    );
    for (case, _) in cases() {
        println!("  {case}");
        let rate = |server: &str| {
            let of_case = records.iter().filter(|record| record.case == case && record.server == server);
            median(of_case.map(|record| record.outcome.deliveries_per_server_cpu_second))
        };
        let ours = rate("crewcast");
        for server in &servers {
            println!("    {server:<12} {:>8.0}  [{:.2}]", rate(server) / 1000.0, ours / rate(server));
        }
    }
}
