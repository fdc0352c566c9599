use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};

use super::{
    Generator, Latency, Load, Outcome, Pace, Target,
    outcome::{Tally, histogram},
    socket::State,
    timer::now,
};
use crate::{
    measure::process::{Cpu, Group, own_cpu},
    protocol::Protocol,
};

/// How often an event goes out while sockets are waited for that have seen none.
const CALL_EVERY: Duration = Duration::from_millis(100);
/// How long sockets may take to see their first event.
const WAKE: Duration = Duration::from_secs(20);
/// When nothing has come for so long, nothing more is waited for.
const SILENCE: Duration = Duration::from_secs(3);
/// What is waited for at most, after a load that was too much.
const DRAIN: Duration = Duration::from_secs(20);
const TURN: Duration = Duration::from_millis(5);

/// Processes whose CPU time and memory are measured.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    /// The server, with all its processes.
    pub server: Group,
    /// Redis.
    pub redis: Group,
}

/// What the processes had used at a moment.
pub(crate) struct Usage {
    at: Instant,
    server: Cpu,
    redis: Cpu,
    own: Cpu,
    published: u64,
}

/// Puts the load on the target, and measures.
///
/// # Errors
/// When sockets do not open or see no event, or publishing fails.
pub fn run(load: &Load, target: Target, protocol: Arc<dyn Protocol>, watched: &Watched) -> Result<Outcome> {
    let rss_before = watched.server.resident();
    let mut generator = Generator::new(load.clone(), target, protocol)?;
    generator.open(0..load.sockets())?;
    if load.pace != Pace::Idle {
        generator.wake()?;
    }
    let rss_open = watched.server.resident();
    generator.begin_slowness()?;
    generator.begin_pace()?;
    generator.run_for(load.warm_up)?;
    let before = generator.begin_window(watched);
    generator.run_for(load.window)?;
    let after = generator.end_window(watched);
    let rss_loaded = watched.server.resident();
    generator.end_pace();
    generator.end_slowness()?;
    generator.drain()?;
    let outcome = Outcome { rss_before, rss_open, rss_loaded, ..generator.outcome(&before, &after) };
    Ok(Outcome { rss_per_socket: rss_open.saturating_sub(rss_before) as f64 / load.sockets() as f64, ..outcome })
}

impl Generator {
    /// Publishes until each socket has seen an event, and until all have seen the last one.
    pub(crate) fn wake(&mut self) -> Result<()> {
        let began = Instant::now();
        while self.receiver.checker.awake < self.sockets.len() {
            let mut asleep: Vec<usize> = self
                .sockets
                .iter()
                .filter(|socket| socket.sequence.next().is_none())
                .map(|socket| socket.plan.channel)
                .collect();
            asleep.dedup();
            self.publish_on(asleep)?;
            let pause = Instant::now() + CALL_EVERY;
            while Instant::now() < pause && self.receiver.checker.awake < self.sockets.len() {
                self.turn(TURN)?;
            }
            if began.elapsed() > WAKE {
                let answer = self.producer.as_ref().map(|producer| producer.last_answer()).unwrap_or_default();
                let awake = self.receiver.checker.awake;
                bail!("{awake} of {} sockets see events; {answer}", self.sockets.len());
            }
        }
        ensure!(self.closed == 0, "the server closed: {}", self.close_reason.as_deref().unwrap_or_default());
        self.drain()
    }

    /// Turns until every socket has every event, or nothing more comes.
    pub(crate) fn drain(&mut self) -> Result<()> {
        let (began, mut last, mut behind) = (Instant::now(), Instant::now(), u64::MAX);
        loop {
            let now_behind = self.behind();
            if now_behind < behind {
                (behind, last) = (now_behind, Instant::now());
            }
            if behind == 0 || last.elapsed() > SILENCE || began.elapsed() > DRAIN {
                return Ok(());
            }
            let pause = Instant::now() + TURN;
            while Instant::now() < pause {
                self.turn(TURN)?;
            }
        }
    }

    /// From now on sockets keep the ids of logged events.
    pub(crate) fn remember_positions(&mut self) {
        self.receiver.checker.remember_ids = true;
    }

    /// Sockets that are opened next go on behind the last event that they have seen.
    pub(crate) fn resume_positions(&mut self) -> Result<()> {
        for socket in &mut self.sockets {
            ensure!(!socket.last_id.is_empty(), "the server gives events no ids");
            socket.plan.since = Some(socket.last_id.clone());
        }
        Ok(())
    }

    /// Cuts all connections, hard.
    pub(crate) fn cut_all(&mut self) {
        self.sockets.iter_mut().for_each(super::socket::Socket::cut);
    }

    /// Turns until the publisher has nothing left to send.
    pub(crate) fn wait_until_published(&mut self) -> Result<()> {
        let began = Instant::now();
        while self.queued() > 0 {
            self.turn(TURN)?;
            ensure!(began.elapsed() < WAKE, "{} events cannot be published", self.queued());
        }
        Ok(())
    }

    /// Events that wait to be sent.
    pub(crate) fn queued(&self) -> usize {
        self.producer.as_ref().map_or(0, |producer| producer.queued())
    }

    /// Events that were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.producer.as_ref().map_or(0, |producer| producer.published - producer.queued() as u64)
    }

    /// How many sockets the server has closed.
    pub fn closed(&self) -> u64 {
        self.closed
    }

    /// How many events have not come yet, over all open sockets, with those that still wait to be published.
    fn behind(&self) -> u64 {
        let Some(producer) = &self.producer else { return 0 };
        let open = self.sockets.iter().filter(|socket| socket.state == State::Open);
        open.map(|socket| socket.sequence.behind(producer.next(socket.plan.channel))).sum::<u64>()
            + producer.queued() as u64
    }

    /// Of sockets that read at their pace, those too that were closed.
    fn undelivered(&self) -> u64 {
        let Some(producer) = &self.producer else { return 0 };
        let fast = self.sockets.iter().filter(|socket| !socket.slow);
        fast.map(|socket| socket.sequence.behind(producer.next(socket.plan.channel))).sum()
    }

    pub(crate) fn begin_window(&mut self, watched: &Watched) -> Usage {
        self.late = histogram();
        self.receiver.checker.tally.is_open = true;
        self.receiver.checker.tally.window.0 = now();
        self.usage(watched)
    }

    pub(crate) fn end_window(&mut self, watched: &Watched) -> Usage {
        self.receiver.checker.tally.is_open = false;
        self.receiver.checker.tally.window.1 = now();
        self.usage(watched)
    }

    fn usage(&self, watched: &Watched) -> Usage {
        Usage {
            at: Instant::now(),
            server: watched.server.cpu(),
            redis: watched.redis.cpu(),
            own: own_cpu(),
            published: self.producer.as_ref().map_or(0, |producer| producer.published),
        }
    }

    pub(crate) fn outcome(&self, before: &Usage, after: &Usage) -> Outcome {
        let tally: &Tally = &self.receiver.checker.tally;
        let seconds = (after.at - before.at).as_secs_f64();
        let server_cpu = after.server - before.server;
        Outcome {
            seconds,
            published: after.published - before.published,
            deliveries: tally.deliveries,
            deliveries_to_slow: tally.to_slow,
            deliveries_per_second: tally.deliveries as f64 / seconds,
            deliveries_per_server_cpu_second: per(tally.deliveries as f64, server_cpu.total()),
            server_cpu,
            redis_cpu: after.redis - before.redis,
            generator_cpu: after.own - before.own,
            latency: Latency::from(&tally.latency),
            schedule_late: Latency::from(&self.late),
            lost: tally.lost,
            lost_by_slow: tally.lost_by_slow,
            doubled: tally.doubled,
            disordered: tally.disordered,
            undelivered: self.undelivered(),
            closed: self.closed,
            close_reason: self.close_reason.clone(),
            reopened: self.reopened,
            stalls: self.stalls,
            wire_bytes: tally.wire,
            deflated: tally.deflated,
            ..Outcome::default()
        }
    }
}

fn per(count: f64, seconds: f64) -> f64 {
    if seconds > 0.0 { count / seconds } else { 0.0 }
}
