//! CPU time and resident memory from `/proc` (proc(5)).

use std::{
    collections::HashMap,
    fs,
    iter::Sum,
    ops::{AddAssign, Sub},
};

use serde::{Deserialize, Serialize};

/// Clock ticks of `/proc/<pid>/stat` per second: `USER_HZ`, which is 100 on every current Linux.
const TICKS: f64 = 100.0;
/// Seconds by which clock ticks may be ahead of the scheduler's count.
const COARSE: f64 = 2.0 / TICKS;

/// CPU time in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// Time in user code.
    pub user: f64,
    /// Time in the kernel.
    pub system: f64,
}

impl Cpu {
    /// User and system time together.
    pub fn total(self) -> f64 {
        self.user + self.system
    }
}

impl AddAssign for Cpu {
    fn add_assign(&mut self, other: Self) {
        self.user += other.user;
        self.system += other.system;
    }
}

impl Sum for Cpu {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        let mut total = Self::default();
        all.for_each(|cpu| total += cpu);
        total
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { user: self.user - before.user, system: self.system - before.system }
    }
}

/// Processes that are measured together, such as a server and its children.
#[derive(Debug, Clone, Default)]
pub struct Group {
    pids: Vec<u32>,
}

impl Group {
    /// These processes and their current descendants.
    pub fn of(pids: impl IntoIterator<Item = u32>) -> Self {
        let mut all = Vec::new();
        for pid in pids {
            all.push(pid);
            all.extend(descendants(pid));
        }
        all.sort_unstable();
        all.dedup();
        Self { pids: all }
    }

    /// CPU time since the processes started. The sum comes from the scheduler, in nanoseconds if the kernel reports
    /// them; clock ticks determine the split into user and system time.
    pub fn cpu(&self) -> Cpu {
        self.pids.iter().map(|pid| cpu(*pid)).sum()
    }

    /// Current resident memory in bytes.
    pub fn resident(&self) -> u64 {
        self.pids.iter().map(|pid| resident(*pid)).sum()
    }
}

/// CPU time of this process.
pub fn own_cpu() -> Cpu {
    cpu(std::process::id())
}

fn cpu(pid: u32) -> Cpu {
    let Some(ticks) = ticks(pid) else { return Cpu::default() };
    let Some(exact) = scheduled(pid) else { return ticks };
    // Only the ticks, which are coarse, include threads that have ended.
    let total = exact.max(ticks.total() - COARSE);
    let user = if ticks.total() > 0.0 { ticks.user / ticks.total() } else { 0.5 };
    Cpu { user: total * user, system: total * (1.0 - user) }
}

fn ticks(pid: u32) -> Option<Cpu> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything. The third field follows it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let seconds = |field: usize| Some(fields.get(field - 3)?.parse::<f64>().ok()? / TICKS);
    Some(Cpu { user: seconds(14)?, system: seconds(15)? })
}

/// CPU seconds of all living threads.
fn scheduled(pid: u32) -> Option<f64> {
    let mut nanoseconds = 0u64;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
        nanoseconds += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    (nanoseconds > 0).then_some(nanoseconds as f64 / 1e9)
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// All descendants of a process.
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(parent) = parent(child) {
            children.entry(parent).or_default().push(child);
        }
    }
    let (mut found, mut next) = (Vec::new(), vec![pid]);
    while let Some(pid) = next.pop() {
        let below = children.get(&pid).cloned().unwrap_or_default();
        next.extend(&below);
        found.extend(below);
    }
    found
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::time::{ClockId, clock_gettime};

    use super::*;

    #[test]
    fn a_process_that_computes_uses_cpu_and_memory() {
        let group = Group::of([std::process::id()]);
        let before = group.cpu();
        // By the CPU clock, so that a busy machine does not cut the computation short.
        let used = || clock_gettime(ClockId::ProcessCPUTime);
        let began = used();
        while (used() - began).tv_nsec < 100_000_000 {}
        assert!((group.cpu() - before).total() > 0.05);
        assert!(group.resident() > 100_000);
    }

    #[test]
    fn children_belong_to_the_group() {
        let mut child = Command::new("sleep").arg("5").spawn().unwrap();
        assert!(descendants(std::process::id()).contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
