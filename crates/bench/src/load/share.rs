use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Generator, Latency, Outcome, outcome::Tally};
use crate::measure::process::Cpu;

/// What the sockets of another generator received of the same events.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Share {
    deliveries: u64,
    lost: u64,
    doubled: u64,
    disordered: u64,
    undelivered: u64,
    wire_bytes: u64,
    deflated: u64,
    closed: u64,
    close_reason: Option<String>,
    /// CPU time of that generator in the window.
    pub(crate) cpu: Cpu,
    /// Latencies in nanoseconds, and how often each occurred.
    latency: Vec<(u64, u64)>,
}

/// Other generators, which only listen while this one publishes.
pub trait Listeners {
    /// Whether all their sockets have received an event.
    ///
    /// # Errors
    /// If a generator has failed.
    fn are_awake(&mut self) -> Result<bool>;

    /// Begins the measuring window.
    ///
    /// # Errors
    /// If a generator has ended.
    fn begin(&mut self) -> Result<()>;

    /// Ends the measuring window.
    ///
    /// # Errors
    /// If a generator has ended.
    fn end(&mut self) -> Result<()>;

    /// Ends the run: `ends` holds how many events each channel has had. Returns what the generators received.
    ///
    /// # Errors
    /// If a generator has ended.
    fn finish(&mut self, ends: &[u64]) -> Result<Vec<Share>>;
}

/// No other generators.
impl Listeners for () {
    fn are_awake(&mut self) -> Result<bool> {
        Ok(true)
    }

    fn begin(&mut self) -> Result<()> {
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self, _ends: &[u64]) -> Result<Vec<Share>> {
        Ok(Vec::new())
    }
}

impl Generator {
    /// What the sockets of this generator received, if another one publishes.
    pub(crate) fn share(&self, cpu: Cpu) -> Share {
        let tally = &self.receiver.checker.tally;
        Share {
            deliveries: tally.deliveries,
            lost: tally.lost,
            doubled: tally.doubled,
            disordered: tally.disordered,
            undelivered: self.undelivered(),
            wire_bytes: tally.wire,
            deflated: tally.deflated,
            closed: self.closed,
            close_reason: self.close_reason.clone(),
            cpu,
            latency: tally.latency.iter_recorded().map(|at| (at.value_iterated_to(), at.count_at_value())).collect(),
        }
    }
}

impl Outcome {
    /// Adds the shares of other generators. `tally` is the one of this generator.
    pub(crate) fn with(mut self, shares: Vec<Share>, tally: &mut Tally) -> Self {
        for share in shares {
            self.deliveries += share.deliveries;
            self.lost += share.lost;
            self.doubled += share.doubled;
            self.disordered += share.disordered;
            self.undelivered += share.undelivered;
            self.wire_bytes += share.wire_bytes;
            self.deflated += share.deflated;
            self.closed += share.closed;
            self.close_reason = self.close_reason.or(share.close_reason);
            self.generator_cpu += share.cpu;
            self.generators += 1;
            for (nanoseconds, count) in share.latency {
                tally.latency.saturating_record_n(nanoseconds, count);
            }
        }
        self.latency = Latency::from(&tally.latency);
        self.deliveries_per_second = self.deliveries as f64 / self.seconds;
        let cpu = self.server_cpu.total();
        self.deliveries_per_server_cpu_second = if cpu > 0.0 { self.deliveries as f64 / cpu } else { 0.0 };
        self
    }
}
