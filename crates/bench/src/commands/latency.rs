use std::slice::from_ref;

use anyhow::Result;

use crate::{
    load::{Load, Pace},
    options::Options,
    runner::Runner,
};

const ROUNDS: usize = 3;

/// Measures open loops at rates that a server can sustain, with no process bound to a core.
pub(super) fn execute(options: &Options) -> Result<bool> {
    let mut runner = Runner::new("latency", options, false)?;
    let servers = runner.servers(&["raw", "crewcast"])?;
    for round in 1..=runner.rounds(ROUNDS) {
        for (case, load) in cases() {
            let load = runner.shortened(load);
            for server in &servers {
                let stage = runner.stage(&**server, from_ref(&load), 1)?;
                runner.measure(&stage, case, round, &load)?;
            }
        }
    }
    Ok(runner.is_clean())
}

fn cases() -> [(&'static str, Load); 2] {
    let load = |sockets_per_channel, rate| Load { sockets_per_channel, pace: Pace::Open(rate), ..Load::default() };
    [("200 events/s x 100 sockets", load(100, 200.0)), ("2000 events/s x 1000 sockets", load(1000, 2000.0))]
}
