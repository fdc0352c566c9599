//! Predicts what a deployment needs.

use super::{
    Assumptions, Model, Placement, Quantities, Scenario,
    copies::copies,
    law::{GATEWAY_CPU, KERNEL, REDIS_CPU, REDIS_OUTPUT, RESIDENT, WIRE},
    point::PING_INTERVAL,
};

/// The most replicas or servers that are tried.
pub const MOST: f64 = 1e7;
/// Probes that a replica sends in one `ready.window`.
const PROBES_IN_WINDOW: f64 = 5.0;
const GIB: f64 = 1_073_741_824.0;

/// How many replicas or servers one bound needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    /// The name of the bound.
    pub name: &'static str,
    /// The least number that is enough. `None` if no number is.
    pub needed: Option<f64>,
}

/// What a scenario needs for a number of sockets.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Number of sockets.
    pub sockets: f64,
    /// Replicas that each bound needs.
    pub replica_bounds: Vec<Bound>,
    /// Redis servers that each bound needs.
    pub node_bounds: Vec<Bound>,
    /// Number of replicas.
    pub replicas: f64,
    /// Number of Redis servers.
    pub nodes: f64,
    /// Deliveries per second.
    pub deliveries: f64,
    /// Events per second.
    pub events: f64,
    /// Replicas that Redis sends an event to.
    pub copies: f64,
    /// Busy cores of all replicas.
    pub gateway_cores: f64,
    /// Busy cores of all Redis.
    pub redis_cores: f64,
    /// Bits per second to all sockets.
    pub egress: f64,
    /// Bits per second from all Redis.
    pub redis_egress: f64,
    /// Bytes of memory of all replicas, with kernel memory for sockets.
    pub memory: f64,
    /// Cores that are paid for.
    pub paid_cores: f64,
    /// Price per hour.
    pub price: f64,
    /// Share of one Redis that the busiest channel takes. A channel cannot be divided.
    pub channel_share: f64,
}

impl Prediction {
    /// The bound that needs the most replicas.
    pub fn tightest_replica_bound(&self) -> &'static str {
        tightest(&self.replica_bounds)
    }

    /// The bound that needs the most Redis.
    pub fn tightest_node_bound(&self) -> &'static str {
        tightest(&self.node_bounds)
    }
}

fn tightest(bounds: &[Bound]) -> &'static str {
    let needed = |bound: &&Bound| bound.needed.unwrap_or(f64::INFINITY);
    bounds.iter().max_by(|a, b| needed(a).total_cmp(&needed(b))).map_or("", |bound| bound.name)
}

/// One question to the model.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// The coefficients.
    pub model: &'a Model,
    /// The load.
    pub scenario: &'a Scenario,
    /// Where the sockets of a channel are.
    pub placement: Placement,
    /// What the machines are like.
    pub assumptions: &'a Assumptions,
}

impl Question<'_> {
    /// The answer for a number of sockets.
    pub fn answer(&self, sockets: f64) -> Prediction {
        let (replica_bounds, node_bounds) = self.settled(sockets);
        let (replicas, nodes) = (largest(&replica_bounds), largest(&node_bounds));
        let second = self.second(sockets, replicas, nodes);
        let paid_cores = replicas * self.assumptions.cores + nodes * self.assumptions.redis_cores;
        Prediction {
            sockets,
            replicas,
            nodes,
            deliveries: second.deliveries,
            events: second.published,
            copies: second.copies / second.published,
            gateway_cores: self.model.cost(&GATEWAY_CPU, &second) / 1e6,
            redis_cores: self.model.cost(&REDIS_CPU, &second) / 1e6,
            egress: 8.0 * self.model.cost(&WIRE, &second),
            redis_egress: 8.0 * self.model.cost(&REDIS_OUTPUT, &second),
            memory: self.memory(&second),
            paid_cores,
            price: paid_cores * self.assumptions.price,
            channel_share: self.channel_share(&second, self.scenario.channels(sockets)),
            replica_bounds,
            node_bounds,
        }
    }

    /// The bounds of replicas and Redis. More replicas need more Redis, and more Redis need more replicas, because each
    /// replica probes through each Redis: repeat until both are enough.
    fn settled(&self, sockets: f64) -> (Vec<Bound>, Vec<Bound>) {
        let mut nodes = 1.0;
        loop {
            let replica_bounds = self.replica_bounds(sockets, nodes);
            let node_bounds = self.node_bounds(sockets, largest(&replica_bounds));
            let asked = largest(&node_bounds);
            if asked <= nodes {
                return (replica_bounds, node_bounds);
            }
            nodes = asked;
        }
    }

    /// What happens in one second, over all replicas.
    fn second(&self, sockets: f64, replicas: f64, nodes: f64) -> Quantities {
        let (readers, channels) = (self.scenario.readers(sockets), self.scenario.channels(sockets));
        let copies = copies(self.placement, replicas, readers, channels);
        let published = channels * self.scenario.rate;
        Quantities {
            replica_seconds: replicas,
            node_seconds: nodes,
            probes: replicas * nodes * PROBES_IN_WINDOW / self.assumptions.ready_window,
            published,
            bytes: self.scenario.bytes,
            copies: published * copies,
            deliveries: sockets * self.scenario.rate,
            pings: sockets / PING_INTERVAL,
            replicas,
            sockets,
            held_channels: channels * copies,
        }
    }

    fn replica_bounds(&self, sockets: f64, nodes: f64) -> Vec<Bound> {
        let limits = self.assumptions;
        let bound = |name, fits: &dyn Fn(&Quantities, f64) -> bool| Bound {
            name,
            needed: least(|replicas| fits(&self.second(sockets, replicas, nodes), replicas)),
        };
        let cores = |all: &Quantities| self.model.cost(&GATEWAY_CPU, all) / 1e6;
        let bits = |all: &Quantities| 8.0 * self.model.cost(&WIRE, all);
        vec![
            bound("cores", &|all, replicas| cores(all) <= replicas * limits.cores * limits.load),
            bound("sockets", &|_, replicas| sockets <= replicas * limits.per_replica),
            bound("memory", &|all, replicas| self.memory(all) <= replicas * limits.memory * GIB),
            bound("network", &|all, replicas| bits(all) <= replicas * limits.network * 1e9 * limits.load),
        ]
    }

    fn node_bounds(&self, sockets: f64, replicas: f64) -> Vec<Bound> {
        let limits = self.assumptions;
        let bound = |name, fits: &dyn Fn(&Quantities, f64) -> bool| Bound {
            name,
            needed: least(|nodes| fits(&self.second(sockets, replicas, nodes), nodes)),
        };
        let cores = |all: &Quantities| self.model.cost(&REDIS_CPU, all) / 1e6;
        let bits = |all: &Quantities| 8.0 * self.model.cost(&REDIS_OUTPUT, all);
        vec![
            bound("CPU", &|all, nodes| cores(all) <= nodes * limits.load),
            bound("output", &|all, nodes| bits(all) <= nodes * limits.network * 1e9 * limits.load),
        ]
    }

    fn memory(&self, second: &Quantities) -> f64 {
        self.model.cost(&RESIDENT, second) + self.model.cost(&KERNEL, second)
    }

    fn channel_share(&self, second: &Quantities, channels: f64) -> f64 {
        let one = Quantities {
            published: second.published / channels,
            copies: second.copies / channels,
            bytes: second.bytes,
            ..Quantities::default()
        };
        let cpu = self.model.cost(&REDIS_CPU, &one) / 1e6;
        let output = 8.0 * self.model.cost(&REDIS_OUTPUT, &one) / (self.assumptions.network * 1e9);
        cpu.max(output) / self.assumptions.load
    }
}

fn largest(bounds: &[Bound]) -> f64 {
    bounds.iter().map(|bound| bound.needed.unwrap_or(f64::INFINITY)).fold(1.0, f64::max).min(MOST)
}

/// The least whole number that fits. If a number fits, every larger one does: the share of each replica shrinks.
fn least(fits: impl Fn(f64) -> bool) -> Option<f64> {
    let mut enough = 1.0;
    while !fits(enough) {
        enough *= 2.0;
        if enough > MOST {
            return None;
        }
    }
    let mut short = (enough / 2.0f64).floor();
    while enough - short > 1.0 {
        let middle = ((enough + short) / 2.0).floor();
        if fits(middle) { enough = middle } else { short = middle }
    }
    Some(enough)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::study::tests::study;

    #[test]
    fn more_sockets_never_need_less() {
        let (study, model) = study();
        for scenario in Scenario::usual() {
            for placement in Placement::ALL {
                let question =
                    Question { model: &model, scenario: &scenario, placement, assumptions: &study.assumptions };
                let mut last = question.answer(1e3);
                for sockets in [3e3, 1e4, 1e5, 1e6, 1e7, 3e7] {
                    let next = question.answer(sockets);
                    assert!(next.replicas >= last.replicas && next.nodes >= last.nodes, "{next:?} after {last:?}");
                    assert!(next.gateway_cores > last.gateway_cores && next.memory > last.memory);
                    assert!(next.egress > last.egress && next.price >= last.price);
                    last = next;
                }
            }
        }
    }

    #[test]
    fn channels_kept_together_never_need_more() {
        let (study, model) = study();
        for scenario in Scenario::usual() {
            let of = |placement| {
                Question { model: &model, scenario: &scenario, placement, assumptions: &study.assumptions }.answer(1e7)
            };
            let (scattered, together) = (of(Placement::Scattered), of(Placement::ByChannel));
            assert!(together.replicas <= scattered.replicas && together.nodes <= scattered.nodes);
            assert!(together.copies <= scattered.copies + 1e-6);
        }
    }

    #[test]
    fn the_least_is_found() {
        for needed in [1.0, 2.0, 3.0, 4.0, 5.0, 63.0, 64.0, 65.0, 1000.0] {
            assert_eq!(least(|count| count >= needed), Some(needed));
        }
        assert_eq!(least(|_| false), None);
    }
}
