use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::Verdict;
use crate::measure::process::Cpu;

/// A histogram of latencies from 1 µs to 10 min, with three significant digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1000, 600_000_000_000, 3).expect("the bounds are constants")
}

/// Counters of arriving events.
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
    /// Counts bytes that were read.
    pub(crate) fn read(&mut self, bytes: usize) {
        if self.is_open {
            self.wire += bytes as u64;
        }
    }

    /// Counts an event. Deliveries count if they arrive in the window. Latency counts if the event was due in the
    /// window, so that late events are not left out for being slow.
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

    /// Counts an event that was not the expected one.
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

/// Latency percentiles in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many latencies were recorded.
    pub count: u64,
    /// The median.
    pub p50: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile.
    pub p999: f64,
    /// The largest latency.
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

/// The result of a run. Times are in seconds, memory in bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Length of the measuring window.
    pub seconds: f64,
    /// Events published in the window.
    pub published: u64,
    /// Events received in the window, over all sockets.
    pub deliveries: u64,
    /// Deliveries to sockets that read slowly.
    pub deliveries_to_slow: u64,
    /// Deliveries per second of the window.
    pub deliveries_per_second: f64,
    /// Deliveries per second of the server's CPU time.
    pub deliveries_per_server_cpu_second: f64,
    /// The server's CPU time in the window, all its processes together.
    pub server_cpu: Cpu,
    /// CPU time of Redis in the window.
    pub redis_cpu: Cpu,
    /// CPU time of all generators in the window.
    pub generator_cpu: Cpu,
    /// How many generators there were.
    pub generators: u32,
    /// The server's resident memory before the first socket.
    pub rss_before: u64,
    /// The server's resident memory when all sockets were open.
    pub rss_open: u64,
    /// The server's resident memory at the end of the window.
    pub rss_loaded: u64,
    /// Resident memory that each socket added when all were open.
    pub rss_per_socket: f64,
    /// From the moment at which an event was due until a socket had it, without sockets that read slowly.
    pub latency: Latency,
    /// How long after that moment events were published (open loop).
    pub schedule_late: Latency,
    /// Events that a socket missed.
    pub lost: u64,
    /// Events that sockets which read slowly missed.
    pub lost_by_slow: u64,
    /// Events that a socket received again.
    pub doubled: u64,
    /// Events that a socket received after later ones.
    pub disordered: u64,
    /// Events at the end of a channel that had not arrived when the run ended.
    pub undelivered: u64,
    /// Sockets opened per second of the server's CPU time, if the command measures handshakes.
    pub handshakes_per_server_cpu_second: f64,
    /// Sockets that the server closed.
    pub closed: u64,
    /// Why the server closed the first of them.
    pub close_reason: Option<String>,
    /// Sockets that the generator closed and reopened.
    pub reopened: u64,
    /// How often a closed loop stalled and was restarted.
    pub stalls: u64,
    /// Bytes that sockets read in the window, with frames.
    pub wire_bytes: u64,
    /// Sockets with which the server agreed to compress.
    pub deflated: u64,
}

impl Outcome {
    /// Whether every socket that does not read slowly received every event exactly once and in order.
    pub fn is_clean(&self) -> bool {
        self.lost + self.doubled + self.disordered + self.undelivered == 0
    }

    /// The share of a core that one generator used; the mean if there are several.
    pub fn generator_share(&self) -> f64 {
        self.generator_cpu.total() / self.seconds / f64::from(self.generators.max(1))
    }

    /// The share of one core that the server used.
    pub fn server_share(&self) -> f64 {
        self.server_cpu.total() / self.seconds
    }
}
