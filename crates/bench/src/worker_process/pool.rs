use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use super::messages::{Job, Notice, Order};
use crate::{
    load::{Listeners, Load, Share},
    servers::{Process, own_binary},
};

/// How long a worker may take to answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// Processes that listen until this is dropped.
pub struct Workers {
    workers: Vec<Worker>,
}

struct Worker {
    process: Process,
    notices: Receiver<Notice>,
    awake: bool,
}

impl Workers {
    /// Starts `count` workers. The sockets of each have source addresses from a network of their own.
    ///
    /// # Errors
    /// If a worker does not start.
    pub fn start(job: &Job, count: usize) -> Result<Self> {
        let worker = |n: usize| {
            let load = Load { source: job.load.source + 1 + u8::try_from(n)?, ..job.load.clone() };
            Worker::start(&Job { load, ..job.clone() })
        };
        Ok(Self { workers: (0..count).map(worker).collect::<Result<_>>()? })
    }

    /// Waits until the sockets of all workers are open.
    ///
    /// # Errors
    /// If a worker cannot open its sockets.
    pub fn wait_until_open(&self) -> Result<()> {
        for worker in &self.workers {
            let notice = worker.notice()?;
            ensure!(
                matches!(notice, Notice::Open),
                "a worker process reported {notice:?} before its sockets were open"
            );
        }
        Ok(())
    }

    fn send_all(&mut self, order: &Order) -> Result<()> {
        self.workers.iter_mut().try_for_each(|worker| worker.send(order))
    }
}

impl Listeners for Workers {
    fn are_awake(&mut self) -> Result<bool> {
        for worker in &mut self.workers {
            match worker.notices.try_recv() {
                Ok(Notice::Awake) => worker.awake = true,
                Ok(other) => bail!("a worker process reported {other:?} instead of its first events"),
                Err(_) => worker.process.still_runs()?,
            }
        }
        Ok(self.workers.iter().all(|worker| worker.awake))
    }

    fn begin(&mut self) -> Result<()> {
        self.send_all(&Order::Begin)
    }

    fn end(&mut self) -> Result<()> {
        self.send_all(&Order::End)
    }

    fn finish(&mut self, ends: &[u64]) -> Result<Vec<Share>> {
        self.send_all(&Order::Finish(ends.to_vec()))?;
        let share = |worker: &Worker| match worker.notice()? {
            Notice::Share(share) => Ok(*share),
            other => bail!("a worker process reported {other:?} instead of its share"),
        };
        self.workers.iter().map(share).collect()
    }
}

impl Worker {
    fn start(job: &Job) -> Result<Self> {
        let mut command = Command::new(own_binary()?);
        command.arg("worker-process").stdout(Stdio::piped());
        let mut process = Process::start_with_input(command)?;
        let output = process.child().stdout.take().context("the worker process has no output")?;
        let (sender, notices) = channel();
        // The thread ends with the process.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let Ok(notice) = serde_json::from_str(&line) else { return };
                if sender.send(notice).is_err() {
                    return;
                }
            }
        });
        let mut worker = Self { process, notices, awake: false };
        worker.send(job)?;
        Ok(worker)
    }

    fn send(&mut self, message: &impl Serialize) -> Result<()> {
        let input = self.process.child().stdin.as_mut().context("the worker process has no input")?;
        writeln!(input, "{}", serde_json::to_string(message)?).context("a worker process has ended")
    }

    fn notice(&self) -> Result<Notice> {
        self.notices.recv_timeout(PATIENCE).context("a worker process has ended, or does not answer")
    }
}
