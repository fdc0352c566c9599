//! Further generator processes, which listen while this one publishes: one process can hold only so many descriptors.
//!
//! They are told what to do in lines on their standard input, and answer in lines on their standard output.

mod listener;

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

pub use listener::listen;

use crate::{
    load::{Listeners, Load, Share},
    runner::own_binary,
    servers::Process,
};

/// How long a part may take to answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a part is to listen to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// Name of the protocol.
    pub protocol: String,
    /// Key that signs tokens.
    pub secret: String,
    /// The server's addresses.
    pub sockets: Vec<SocketAddr>,
    /// Its sockets; each part has as many, on the same channels.
    pub load: Load,
}

/// What a part is told.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    Begin,
    End,
    Finish(Vec<u64>),
}

/// What a part tells.
#[derive(Debug, Serialize, Deserialize)]
enum Notice {
    Open,
    Awake,
    Share(Box<Share>),
}

/// Processes that listen until this is dropped.
pub struct Parts {
    parts: Vec<Part>,
}

struct Part {
    process: Process,
    notices: Receiver<Notice>,
    awake: bool,
}

impl Parts {
    /// Starts so many. Each takes its sockets' source addresses from a network of its own.
    ///
    /// # Errors
    /// When one does not start.
    pub fn start(job: &Job, count: usize) -> Result<Self> {
        let part = |n: usize| {
            let load = Load { source: job.load.source + 1 + u8::try_from(n)?, ..job.load.clone() };
            Part::start(&Job { load, ..job.clone() })
        };
        Ok(Self { parts: (0..count).map(part).collect::<Result<_>>()? })
    }

    /// Waits until all their sockets are open.
    ///
    /// # Errors
    /// When one could not open them.
    pub fn wait_until_open(&self) -> Result<()> {
        for part in &self.parts {
            ensure!(matches!(part.notice()?, Notice::Open), "a generator is out of step");
        }
        Ok(())
    }

    fn tell_all(&mut self, order: &Order) -> Result<()> {
        self.parts.iter_mut().try_for_each(|part| part.tell(order))
    }
}

impl Listeners for Parts {
    fn are_awake(&mut self) -> Result<bool> {
        for part in &mut self.parts {
            match part.notices.try_recv() {
                Ok(Notice::Awake) => part.awake = true,
                Ok(other) => bail!("a generator is out of step: {other:?}"),
                Err(_) => part.process.still_runs()?,
            }
        }
        Ok(self.parts.iter().all(|part| part.awake))
    }

    fn begin(&mut self) -> Result<()> {
        self.tell_all(&Order::Begin)
    }

    fn end(&mut self) -> Result<()> {
        self.tell_all(&Order::End)
    }

    fn finish(&mut self, ends: &[u64]) -> Result<Vec<Share>> {
        self.tell_all(&Order::Finish(ends.to_vec()))?;
        let share = |part: &Part| match part.notice()? {
            Notice::Share(share) => Ok(*share),
            other => bail!("a generator is out of step: {other:?}"),
        };
        self.parts.iter().map(share).collect()
    }
}

impl Part {
    fn start(job: &Job) -> Result<Self> {
        let mut command = Command::new(own_binary()?);
        command.arg("part").stdout(Stdio::piped());
        let mut process = Process::start_with_input(command)?;
        let output = process.child().stdout.take().context("no output")?;
        let (sender, notices) = channel();
        // Ends with the process.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let Ok(notice) = serde_json::from_str(&line) else { return };
                if sender.send(notice).is_err() {
                    return;
                }
            }
        });
        let mut part = Self { process, notices, awake: false };
        part.tell(job)?;
        Ok(part)
    }

    fn tell(&mut self, order: &impl Serialize) -> Result<()> {
        let input = self.process.child().stdin.as_mut().context("no input")?;
        writeln!(input, "{}", serde_json::to_string(order)?).context("a generator has gone away")
    }

    fn notice(&self) -> Result<Notice> {
        self.notices.recv_timeout(PATIENCE).context("a generator has ended, or does not answer")
    }
}
