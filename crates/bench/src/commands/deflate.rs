use std::slice::from_ref;

use anyhow::Result;

use crate::{
    load::{Body, Load, Pace},
    options::Options,
    record::{Record, median},
    runner::Runner,
};

const ROUNDS: usize = 5;

/// Compares bytes on the wire and CPU time of the same events, plain and deflated in turns, at a fixed rate.
pub(super) fn execute(options: &Options) -> Result<bool> {
    let mut runner = Runner::new("deflate", options, true)?;
    let servers = runner.servers(&["crewcast"])?;
    for server in &servers {
        let mut records = Vec::new();
        for round in 1..=runner.rounds(ROUNDS) {
            for deflate in [false, true] {
                let load = runner.shortened(Load { deflate, ..load() });
                let stage = runner.stage(&**server, from_ref(&load), 1)?;
                let case = if deflate { "deflate" } else { "plain" };
                records.push(runner.measure(&stage, case, round, &load)?);
            }
        }
        print_ratios(server.name(), &records);
    }
    Ok(runner.is_clean())
}

fn load() -> Load {
    Load { channels: 10, sockets_per_channel: 100, pace: Pace::Open(400.0), body: Body::Typical, ..Load::default() }
}

fn print_ratios(server: &str, records: &[Record]) {
    let ratio = |value: &dyn Fn(&Record) -> f64| {
        let of = |case: &str| median(records.iter().filter(|record| record.case == case).map(value));
        of("deflate") / of("plain")
    };
    let agreed = records.iter().filter(|record| record.case == "deflate").all(|record| record.outcome.deflated > 0);
    if !agreed {
        println!("{server}: does not compress");
        return;
    }
    let bytes = ratio(&|record| record.outcome.wire_bytes as f64 / record.outcome.deliveries as f64);
    let cpu = ratio(&|record| record.outcome.server_cpu.total() / record.outcome.deliveries as f64);
    println!("{server}: deflated takes {bytes:.2} of the bytes and {cpu:.2} of the CPU time of plain");
}
