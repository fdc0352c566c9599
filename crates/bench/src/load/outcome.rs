use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::Verdict;
use crate::measure::process::Cpu;

/// Latencies from 1 µs to 10 min, to three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1000, 600_000_000_000, 3).expect("the bounds are constants")
}

/// What is counted while events arrive.
pub(crate) struct Tally {
    /// The measuring window, in nanoseconds of the monotonic clock.
    pub(crate) window: (u64, u64),
    pub(crate) latency: Histogram<u64>,
    pub(crate) deliveries: u64,
    pub(crate) to_slow: u64,
    pub(crate) lost: u64,
    pub(crate) lost_by_slow: u64,
    pub(crate) doubled: u64,
    pub(crate) disordered: u64,
    pub(crate) wire: u64,
    pub(crate) deflated: u64,
    pub(crate) is_open: bool,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            window: (u64::MAX, u64::MAX),
            latency: histogram(),
            deliveries: 0,
            to_slow: 0,
            lost: 0,
            lost_by_slow: 0,
            doubled: 0,
            disordered: 0,
            wire: 0,
            deflated: 0,
            is_open: false,
        }
    }
}

impl Tally {
    /// Bytes were read.
    pub(crate) fn read(&mut self, bytes: usize) {
        if self.is_open {
            self.wire += bytes as u64;
        }
    }

    /// An event was received. Deliveries count in the window; latency counts by when the event was to be published, so
    /// that one which comes after the window is not left out for being slow.
    #[inline]
    pub(crate) fn delivered(&mut self, now: u64, age: u64, slow: bool) {
        if self.is_open {
            self.deliveries += 1;
            self.to_slow += u64::from(slow);
        }
        let published = now - age;
        if published >= self.window.0 && published < self.window.1 && !slow {
            self.latency.saturating_record(age);
        }
    }

    /// An event was not the one that was due.
    pub(crate) fn fault(&mut self, verdict: Verdict, slow: bool) {
        match verdict {
            Verdict::Gap(events) if slow => self.lost_by_slow += events,
            Verdict::Gap(events) => self.lost += events,
            Verdict::Late => {
                let lost = if slow { &mut self.lost_by_slow } else { &mut self.lost };
                *lost = lost.saturating_sub(1);
                self.disordered += 1;
            }
            Verdict::Double => self.doubled += 1,
            Verdict::First | Verdict::InOrder => {}
        }
    }
}

/// Percentiles, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// Half are below.
    pub p50: f64,
    /// 90 % are below.
    pub p90: f64,
    /// 99 % are below.
    pub p99: f64,
    /// 99.9 % are below.
    pub p999: f64,
    /// The largest.
    pub max: f64,
}

impl From<&Histogram<u64>> for Latency {
    fn from(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e6;
        Self {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e6,
        }
    }
}

/// What a run has shown. Times are in seconds, memory in bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Length of the measuring window.
    pub seconds: f64,
    /// Events published in it.
    pub published: u64,
    /// Events received in it, over all sockets.
    pub deliveries: u64,
    /// Those of sockets that read slowly.
    pub deliveries_to_slow: u64,
    /// Deliveries per second of the window.
    pub deliveries_per_second: f64,
    /// Deliveries per second of the server's CPU time.
    pub deliveries_per_server_cpu_second: f64,
    /// The server's CPU time in the window, all its processes together.
    pub server_cpu: Cpu,
    /// Redis' CPU time in the window.
    pub redis_cpu: Cpu,
    /// The generators' own.
    pub generator_cpu: Cpu,
    /// How many generators there were.
    pub generators: u32,
    /// The server's resident memory before the first socket.
    pub rss_before: u64,
    /// When all sockets were open.
    pub rss_open: u64,
    /// At the end of the window.
    pub rss_loaded: u64,
    /// What a socket added, when all were open.
    pub rss_per_socket: f64,
    /// From the moment when an event was to be published to when a socket had it; sockets that read slowly apart.
    pub latency: Latency,
    /// How late events were published after that moment (open loop).
    pub schedule_late: Latency,
    /// Events that a socket was passed over with.
    pub lost: u64,
    /// The same of sockets that read slowly.
    pub lost_by_slow: u64,
    /// Events that a socket got again.
    pub doubled: u64,
    /// Events that a socket got behind later ones.
    pub disordered: u64,
    /// Events that had not come when nothing more came.
    pub undelivered: u64,
    /// Sockets opened per second of the server's CPU time, where that is what was measured.
    pub handshakes_per_server_cpu_second: f64,
    /// Sockets that the server closed.
    pub closed: u64,
    /// Why the first of them was.
    pub close_reason: Option<String>,
    /// Sockets that were closed and opened again by the generator.
    pub reopened: u64,
    /// Times at which a closed loop had waited too long, and began anew.
    pub stalls: u64,
    /// Bytes of the connections' payloads that were read in the window.
    pub wire_bytes: u64,
    /// Sockets with which the server agreed to compress.
    pub deflated: u64,
}

impl Outcome {
    /// Whether everything came, once and in order, to all that read at their pace.
    pub fn is_clean(&self) -> bool {
        self.lost + self.doubled + self.disordered + self.undelivered == 0
    }

    /// The generator's share of a core; of several their mean.
    pub fn generator_share(&self) -> f64 {
        self.generator_cpu.total() / self.seconds / f64::from(self.generators.max(1))
    }

    /// The server's share of a core.
    pub fn server_share(&self) -> f64 {
        self.server_cpu.total() / self.seconds
    }
}
