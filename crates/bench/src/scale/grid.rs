use std::time::Duration;

use crate::load::{Body, Load, Pace};

/// Every fifth point from the fourth on is held out. The choice was made before anything was measured.
const HOLD_OUT: (usize, usize) = (5, 3);
/// Numbers of replicas and Redis.
const SITES: [(usize, usize); 6] = [(1, 1), (2, 1), (4, 1), (1, 3), (2, 3), (4, 3)];
/// The loads of each site: channels, sockets per channel, events per second over all channels, bytes per event. The
/// machine can sustain every rate, so that the cost of an event is measured and not a queue.
const LOADS: [(usize, usize, f64, usize); 7] = [
    (100, 10, 500.0, 200),
    (1000, 1, 4000.0, 200),
    (20, 100, 150.0, 200),
    (100, 20, 500.0, 1000),
    (100, 50, 150.0, 1000),
    (1000, 4, 2000.0, 200),
    (10, 1000, 12.0, 200),
];
/// Many sockets and few events: replicas, Redis, channels, sockets per channel, events per second, processes that open
/// the sockets.
const MANY: [(usize, usize, usize, usize, f64, usize); 5] = [
    (1, 1, 100, 150, 20.0, 1),
    (2, 1, 100, 150, 10.0, 2),
    (4, 1, 100, 100, 20.0, 3),
    (4, 1, 100, 125, 10.0, 4),
    (4, 3, 100, 125, 20.0, 4),
];
/// Nearly silent sockets, measured long enough that each is pinged: replicas, sockets per channel of 100 channels.
const QUIET: [(usize, usize); 3] = [(1, 50), (1, 120), (2, 80)];

const WARM_UP: Duration = Duration::from_millis(700);
const WINDOW: Duration = Duration::from_secs(3);
/// Long enough for the pings, which come every 30 s.
const QUIET_WINDOW: Duration = Duration::from_secs(30);

/// A point to measure.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// The number of the point.
    pub number: usize,
    /// Whether the point is held out of the fit.
    pub held_out: bool,
    /// Number of replicas.
    pub replicas: usize,
    /// Number of Redis servers.
    pub nodes: usize,
    /// Processes that share the sockets.
    pub processes: usize,
    /// The load of each process.
    pub load: Load,
}

impl Case {
    /// Replicas that have a reader of each channel. Every process spreads the sockets of a channel evenly over the same
    /// replicas.
    pub fn copies(&self) -> usize {
        self.load.sockets_per_channel.min(self.replicas)
    }
}

/// All points, in the order in which they are measured.
pub fn grid() -> Vec<Case> {
    let mut cases = Vec::new();
    for (replicas, nodes) in SITES {
        for (channels, per_channel, rate, bytes) in LOADS {
            cases.push((replicas, nodes, 1, load(channels, per_channel, rate, bytes)));
        }
    }
    for (replicas, nodes, channels, per_channel, rate, processes) in MANY {
        cases.push((replicas, nodes, processes, load(channels, per_channel, rate, 200)));
    }
    for (replicas, per_channel) in QUIET {
        let load = Load { window: QUIET_WINDOW, ..load(100, per_channel, 2.0, 200) };
        cases.push((replicas, 1, 1, load));
    }
    let case = |(number, (replicas, nodes, processes, load))| Case {
        number,
        held_out: number % HOLD_OUT.0 == HOLD_OUT.1,
        replicas,
        nodes,
        processes,
        load,
    };
    cases.into_iter().enumerate().map(case).collect()
}

fn load(channels: usize, sockets_per_channel: usize, rate: f64, bytes: usize) -> Load {
    Load {
        channels,
        sockets_per_channel,
        pace: Pace::Open(rate),
        body: Body::Padded(bytes),
        warm_up: WARM_UP,
        window: WINDOW,
        ..Load::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_is_held_out_of_every_kind() {
        let grid = grid();
        let held: Vec<&Case> = grid.iter().filter(|case| case.held_out).collect();
        assert_eq!(held.len(), grid.len() / 5);
        for replicas in [1, 2, 4] {
            assert!(held.iter().any(|case| case.replicas == replicas));
        }
        assert!(held.iter().any(|case| case.nodes == 3) && held.iter().any(|case| case.processes > 1));
    }

    #[test]
    fn the_grid_reaches_from_a_thousand_to_fifty_thousand_sockets() {
        let sockets: Vec<usize> = grid().iter().map(|case| case.load.sockets() * case.processes).collect();
        assert_eq!((sockets.iter().min(), sockets.iter().max()), (Some(&1000), Some(&50_000)));
    }
}
