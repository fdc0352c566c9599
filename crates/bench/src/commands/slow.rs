use std::{slice::from_ref, time::Duration};

use anyhow::Result;

use super::Options;
use crate::{
    load::{Load, Pace},
    record::median,
    runner::Runner,
};

const ROUNDS: usize = 9;
const SHARE: f64 = 0.01;
const WITHOUT: &str = "none reads slowly";
const WITH: &str = "one in a hundred reads slowly";

/// The same load with and without slow readers, in turns: what do the others notice?
pub(super) fn execute(options: &Options) -> Result<bool> {
    let mut runner = Runner::new("slow", options, false)?;
    let servers = runner.servers(&["crewcast"])?;
    for server in &servers {
        let mut ratios = Vec::new();
        for round in 1..=runner.rounds(ROUNDS) {
            let mut p99 = [0.0; 2];
            // Which goes first changes from round to round.
            for turn in 0..2 {
                let slow = (turn + round) % 2;
                let (case, share) = if slow == 1 { (WITH, SHARE) } else { (WITHOUT, 0.0) };
                let load = runner.shortened(Load { slow: share, ..load() });
                let stage = runner.stage(&**server, from_ref(&load), 1)?;
                p99[slow] = runner.measure(&stage, case, round, &load)?.outcome.latency.p99;
            }
            ratios.push(p99[1] / p99[0]);
        }
        println!("{}: p99 of the others with slow readers, over that without: {:.2}", server.name(), median(ratios));
    }
    Ok(runner.is_clean())
}

/// Large enough events that a slow socket's buffers fill while it is measured.
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
