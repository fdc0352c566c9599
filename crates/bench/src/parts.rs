//! Further generator processes, which only hold sockets: one process can hold only so many descriptors.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::{
    load::{Generator, Load, Target},
    protocol::{Crewcast, Protocol, Raw},
    runner::{Stage, own_binary},
    servers::{Process, SECRET},
};

const OPEN: &str = "open";

/// What such a process is told.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    protocol: String,
    sockets: Vec<SocketAddr>,
    load: Load,
}

/// Processes that hold sockets until this is dropped.
pub struct Parts {
    processes: Vec<(Process, BufReader<ChildStdout>)>,
}

impl Parts {
    /// Starts so many, each with the load's sockets. They spread over the same servers.
    ///
    /// # Errors
    /// When one does not start.
    pub fn start(load: &Load, stage: &Stage, count: usize) -> Result<Self> {
        let start = |n: usize| {
            let load = Load { source: load.source + 1 + u8::try_from(n)?, ..load.clone() };
            let protocol = stage.running.protocol.name().to_owned();
            let job = Job { protocol, sockets: stage.running.endpoints.sockets.clone(), load };
            part(&job)
        };
        Ok(Self { processes: (0..count).map(start).collect::<Result<_>>()? })
    }

    /// Waits until all their sockets are open.
    ///
    /// # Errors
    /// When one could not open them.
    pub fn wait_until_open(&mut self) -> Result<()> {
        for (_, output) in &mut self.processes {
            let mut line = String::new();
            output.read_line(&mut line)?;
            ensure!(line.trim() == OPEN, "a generator says {line:?}");
        }
        Ok(())
    }
}

fn part(job: &Job) -> Result<(Process, BufReader<ChildStdout>)> {
    let mut command = Command::new(own_binary()?);
    command.arg("part").stdout(Stdio::piped());
    let mut process = Process::start_with_input(command)?;
    let child = process.child();
    let output = BufReader::new(child.stdout.take().context("no output")?);
    let input = child.stdin.as_mut().context("no input")?;
    writeln!(input, "{}", serde_json::to_string(job)?)?;
    Ok((process, output))
}

/// What such a process does: opens its sockets, tells, and holds them until its input ends.
///
/// # Errors
/// When the job makes no sense, or sockets do not open.
pub fn hold() -> Result<()> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let job: Job = serde_json::from_str(&line)?;
    let protocol: Arc<dyn Protocol> = match job.protocol.as_str() {
        "crewcast" => Arc::new(Crewcast::new(job.load.channels, SECRET)?),
        "raw" => Arc::new(Raw),
        other => bail!("sockets of {other} are opened by one process only"),
    };
    let sockets = job.load.sockets();
    let mut generator = Generator::new(job.load, Target { sockets: job.sockets, publish: None }, protocol)?;
    generator.open(0..sockets)?;
    println!("{OPEN}");
    let ended = Arc::new(AtomicBool::new(false));
    let ending = ended.clone();
    thread::spawn(move || {
        let _ = std::io::stdin().read_line(&mut String::new());
        ending.store(true, Ordering::Relaxed);
    });
    while !ended.load(Ordering::Relaxed) {
        generator.turn(Duration::from_millis(100))?;
    }
    Ok(())
}
