use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};

use super::{
    Generator, Latency, Load, Outcome, Pace, Target,
    outcome::{Tally, histogram},
    share::Listeners,
    socket::{Socket, State},
    timer::now,
};
use crate::{
    measure::process::{Cpu, Group, own_cpu},
    protocol::Protocol,
};

/// How often an event is published to sockets that have not received any.
const CALL_EVERY: Duration = Duration::from_millis(100);
/// How long sockets may take to receive their first event.
const WAKE: Duration = Duration::from_secs(20);
/// When nothing arrives for this long, the run ends.
const SILENCE: Duration = Duration::from_secs(3);
/// The longest wait for late events after the load.
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

/// What the processes had used up to a moment.
pub(crate) struct Usage {
    at: Instant,
    server: Cpu,
    redis: Cpu,
    own: Cpu,
    published: u64,
}

impl Usage {
    /// CPU time of this process since `before`.
    pub(crate) fn own_since(&self, before: &Self) -> Cpu {
        self.own - before.own
    }
}

/// Puts a load on a target, and measures.
///
/// # Errors
/// If sockets do not open or receive no event, or publishing fails.
pub fn run(load: &Load, target: Target, protocol: Arc<dyn Protocol>, watched: &Watched) -> Result<Outcome> {
    run_with(load, target, protocol, watched, &mut ())
}

/// Like [`run`], with further generators that listen in other processes. Their sockets are already open; `load`
/// describes the sockets of this generator only.
///
/// # Errors
/// As [`run`], and if one of the other generators fails.
pub fn run_with(
    load: &Load,
    target: Target,
    protocol: Arc<dyn Protocol>,
    watched: &Watched,
    others: &mut dyn Listeners,
) -> Result<Outcome> {
    let rss_before = watched.server.resident();
    let mut generator = Generator::new(load.clone(), target, protocol)?;
    generator.open(0..load.sockets())?;
    if load.pace != Pace::Idle {
        generator.wake(others)?;
    }
    let rss_open = watched.server.resident();
    generator.begin_slowness()?;
    generator.begin_pace()?;
    generator.run_for(load.warm_up)?;
    others.begin()?;
    let before = generator.begin_window(watched);
    generator.run_for(load.window)?;
    let after = generator.end_window(watched);
    others.end()?;
    let rss_loaded = watched.server.resident();
    generator.end_pace();
    generator.end_slowness()?;
    generator.drain()?;
    let shares = others.finish(&generator.ends())?;
    let outcome = generator.outcome(&before, &after).with(shares, &mut generator.receiver.checker.tally);
    let rss_per_socket = rss_open.saturating_sub(rss_before) as f64 / load.sockets() as f64;
    Ok(Outcome { rss_before, rss_open, rss_loaded, rss_per_socket, ..outcome })
}

impl Generator {
    /// Publishes until each socket has received an event, and waits until all have received the last one.
    pub(crate) fn wake(&mut self, others: &mut dyn Listeners) -> Result<()> {
        let began = Instant::now();
        while !self.is_awake() || !others.are_awake()? {
            self.publish_on(self.to_call())?;
            let pause = Instant::now() + CALL_EVERY;
            while Instant::now() < pause && !(self.is_awake() && others.are_awake()?) {
                self.turn(TURN)?;
            }
            if began.elapsed() > WAKE {
                let answer = self.producer.as_ref().map(|producer| producer.last_answer()).unwrap_or_default();
                let awake = self.receiver.checker.awake;
                bail!("only {awake} of {} sockets receive events; {answer}", self.sockets.len());
            }
        }
        ensure!(self.closed == 0, "the server closed a socket: {}", self.close_reason.as_deref().unwrap_or_default());
        self.drain()
    }

    /// Whether all sockets have received an event.
    pub(crate) fn is_awake(&self) -> bool {
        self.receiver.checker.awake >= self.sockets.len()
    }

    /// Channels with sockets that have not received an event. All channels if only other generators wait.
    fn to_call(&self) -> Vec<usize> {
        let asleep = self.sockets.iter().filter(|socket| socket.sequence.next().is_none());
        let mut channels: Vec<usize> = asleep.map(|socket| socket.plan.channel).collect();
        channels.dedup();
        if channels.is_empty() { (0..self.load.channels).collect() } else { channels }
    }

    /// How many events each channel has had.
    pub(crate) fn ends(&self) -> Vec<u64> {
        match &self.producer {
            Some(producer) => (0..self.load.channels).map(|channel| producer.next(channel)).collect(),
            None => self.ends.clone(),
        }
    }

    /// Turns until every socket has every event, or nothing more arrives.
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

    /// Lets sockets keep the ids of logged events from now on.
    pub(crate) fn remember_positions(&mut self) {
        self.receiver.checker.remember_ids = true;
    }

    /// Lets sockets resume after the last event that they received.
    pub(crate) fn resume_positions(&mut self) -> Result<()> {
        for socket in &mut self.sockets {
            ensure!(!socket.last_id.is_empty(), "a socket has no position: the server sends events without ids");
            socket.plan.since = Some(socket.last_id.clone());
        }
        Ok(())
    }

    /// Resets all connections.
    pub(crate) fn cut_all(&mut self) {
        self.sockets.iter_mut().for_each(Socket::cut);
    }

    /// Turns until the publisher has nothing left to send.
    pub(crate) fn wait_until_published(&mut self) -> Result<()> {
        let began = Instant::now();
        while self.queued() > 0 {
            self.turn(TURN)?;
            ensure!(began.elapsed() < WAKE, "{} events were not published within {WAKE:?}", self.queued());
        }
        Ok(())
    }

    /// Events that wait in the publisher.
    pub(crate) fn queued(&self) -> usize {
        self.producer.as_ref().map_or(0, |producer| producer.queued())
    }

    /// Events that were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.producer.as_ref().map_or(0, |producer| producer.sent())
    }

    /// How many sockets the server has closed.
    pub fn closed(&self) -> u64 {
        self.closed
    }

    /// How many events have not arrived yet, over all open sockets, plus those that wait to be published.
    fn behind(&self) -> u64 {
        let (ends, open) = (self.ends(), self.sockets.iter().filter(|socket| socket.state == State::Open));
        let behind = |socket: &Socket| ends.get(socket.plan.channel).map_or(0, |end| socket.sequence.behind(*end));
        open.map(behind).sum::<u64>() + self.queued() as u64
    }

    /// Events that have not arrived, over all sockets that do not read slowly, closed ones included.
    pub(crate) fn undelivered(&self) -> u64 {
        let (ends, fast) = (self.ends(), self.sockets.iter().filter(|socket| !socket.slow));
        fast.map(|socket| ends.get(socket.plan.channel).map_or(0, |end| socket.sequence.behind(*end))).sum()
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
            generators: 1,
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
