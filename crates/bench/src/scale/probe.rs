use std::{fs, net::SocketAddr};

use anyhow::Result;

use crate::{
    load::{Listeners, Share},
    measure::process::Group,
    servers::net_output,
    worker_process::Workers,
};

/// Reads the figures of every process at the beginning and the end of the window.
pub(super) struct Probe {
    workers: Workers,
    gateways: Vec<Group>,
    redis: Vec<(Group, SocketAddr)>,
    began: Figures,
    /// What the processes used in the window.
    pub(super) used: Figures,
}

/// The figures of each process.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    /// CPU seconds of each replica.
    pub(super) gateways: Vec<f64>,
    /// CPU seconds of each Redis.
    pub(super) redis: Vec<f64>,
    /// Bytes that each Redis sent.
    pub(super) output: Vec<u64>,
    /// Resident memory of each replica at the end.
    pub(super) gateways_resident: Vec<u64>,
    /// Resident memory of each Redis at the end.
    pub(super) redis_resident: Vec<u64>,
    /// Bytes of the kernel's own memory.
    pub(super) kernel: u64,
}

impl Probe {
    pub(super) fn new(workers: Workers, gateways: Vec<Group>, redis: Vec<(Group, SocketAddr)>) -> Self {
        Self { workers, gateways, redis, began: Figures::default(), used: Figures::default() }
    }

    fn figures(&self) -> Result<Figures> {
        let of = |groups: &mut dyn Iterator<Item = &Group>| groups.map(|group| group.cpu().total()).collect();
        Ok(Figures {
            gateways: of(&mut self.gateways.iter()),
            redis: of(&mut self.redis.iter().map(|(group, _)| group)),
            output: self.redis.iter().map(|(_, address)| net_output(*address)).collect::<Result<_>>()?,
            gateways_resident: self.gateways.iter().map(Group::resident).collect(),
            redis_resident: self.redis.iter().map(|(group, _)| group.resident()).collect(),
            kernel: kernel_memory(),
        })
    }
}

impl Figures {
    fn since(self, before: &Self) -> Self {
        let seconds =
            |after: &[f64], before: &[f64]| after.iter().zip(before).map(|(after, before)| after - before).collect();
        Self {
            gateways: seconds(&self.gateways, &before.gateways),
            redis: seconds(&self.redis, &before.redis),
            output: self.output.iter().zip(&before.output).map(|(after, before)| after - before).collect(),
            ..self
        }
    }
}

impl Listeners for Probe {
    fn are_awake(&mut self) -> Result<bool> {
        self.workers.are_awake()
    }

    fn begin(&mut self) -> Result<()> {
        self.began = self.figures()?;
        self.workers.begin()
    }

    fn end(&mut self) -> Result<()> {
        self.used = self.figures()?.since(&self.began);
        self.workers.end()
    }

    fn finish(&mut self, ends: &[u64]) -> Result<Vec<Share>> {
        self.workers.finish(ends)
    }
}

/// Bytes that the kernel has allocated for itself (proc(5), `Slab`): sockets, timers, descriptors.
pub(super) fn kernel_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Slab:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}
