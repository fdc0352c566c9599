use std::{slice::from_ref, time::Duration};

use anyhow::Result;

use crate::{
    load::{Load, Pace},
    options::Options,
    record::median,
    runner::Runner,
};

const ROUNDS: usize = 9;
const SHARE: f64 = 0.01;
const WITHOUT: &str = "no slow readers";
const WITH: &str = "1 % slow readers";

/// Measures the same load with and without slow readers in turns, to show what the other readers notice.
pub(super) fn execute(options: &Options) -> Result<bool> {
    let mut runner = Runner::new("slow", options, false)?;
    let servers = runner.servers(&["crewcast"])?;
    for server in &servers {
        let mut ratios = Vec::new();
        for round in 1..=runner.rounds(ROUNDS) {
            let mut p99 = [0.0; 2];
            // Alternate which load goes first.
            for turn in 0..2 {
                let slow = (turn + round) % 2;
                let (case, share) = if slow == 1 { (WITH, SHARE) } else { (WITHOUT, 0.0) };
                let load = runner.shortened(Load { slow: share, ..load() });
                let stage = runner.stage(&**server, from_ref(&load), 1)?;
                p99[slow] = runner.measure(&stage, case, round, &load)?.outcome.latency.p99;
            }
            ratios.push(p99[1] / p99[0]);
        }
        println!(
            "{}: p99 of the other sockets with slow readers, divided by p99 without: {:.2}",
            server.name(),
            median(ratios)
        );
    }
    Ok(runner.is_clean())
}

/// Events are large enough to fill a slow socket's buffers within the window.
fn load() -> Load {
    Load {
        sockets_per_channel: 1000,
        pace: Pace::Open(100.0),
        body: crate::load::Body::Padded(2000),
        warm_up: Duration::from_secs(2),
        window: Duration::from_secs(3),
        ..Load::default()
    }
}
