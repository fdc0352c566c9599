use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token, event::Event};

use super::{
    Load, Pace,
    outcome::histogram,
    pace::ClosedLoop,
    producer::Producer,
    receiver::Receiver,
    socket::{Socket, State},
    timer::{Timer, now},
};
use crate::protocol::{Plan, Protocol};

/// The token of the timer. The token of a socket is its index.
const TIMER: usize = usize::MAX;
/// The first token of the connections that publish.
const PIPES: usize = usize::MAX / 2;
/// Readiness events taken per poll.
const EVENTS: usize = 4096;
/// The longest wait of one turn.
const TURN: Duration = Duration::from_millis(20);
/// A closed loop in which nothing arrives for this long has lost an event.
const STALL: Duration = Duration::from_secs(2);
/// How long to wait for the next socket to open.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many bytes a slow socket reads at a time, and how often.
const SLOW_BYTES: usize = 4096;
const SLOW_EVERY: Duration = Duration::from_millis(100);

/// The addresses of the server under load.
#[derive(Debug, Clone)]
pub struct Target {
    /// Addresses that sockets are spread over.
    pub sockets: Vec<SocketAddr>,
    /// Address that events are published to. `None` if this generator only listens.
    pub publish: Option<SocketAddr>,
}

/// Sockets, their producer, and the loop that drives both.
pub struct Generator {
    pub(crate) load: Load,
    target: Target,
    poll: Poll,
    events: Events,
    timer: Timer,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) receiver: Receiver,
    pub(crate) producer: Option<Producer>,
    protocol: Arc<dyn Protocol>,
    scratch: Vec<u8>,
    due: Vec<usize>,
    schedule: Option<Schedule>,
    pub(crate) late: Histogram<u64>,
    opening: Vec<usize>,
    slow_read: Option<Instant>,
    churn_debt: f64,
    churn_next: usize,
    churned: Instant,
    progress: (u64, Instant),
    /// How many events each channel has had, set if another generator publishes.
    pub(crate) ends: Vec<u64>,
    pub(crate) reopened: u64,
    pub(crate) stalls: u64,
    pub(crate) closed: u64,
    pub(crate) close_reason: Option<String>,
}

/// The schedule of an open loop.
struct Schedule {
    began: u64,
    interval: f64,
    done: u64,
}

impl Schedule {
    fn next(&self) -> u64 {
        self.began + (self.done as f64 * self.interval) as u64
    }
}

impl Generator {
    /// A generator for `load`. No socket is open yet.
    ///
    /// # Errors
    /// If the connections that publish cannot be opened.
    pub fn new(load: Load, target: Target, protocol: Arc<dyn Protocol>) -> Result<Self> {
        ensure!(!target.sockets.is_empty() && load.channels > 0, "a load needs at least one server and one channel");
        let poll = Poll::new()?;
        let producer = target
            .publish
            .map(|address| Producer::new(&load, protocol.clone(), address, poll.registry(), PIPES))
            .transpose()?;
        let plan =
            |index| Plan { index, channel: index / load.sockets_per_channel, types: load.types.clone(), since: None };
        let sockets = (0..load.sockets()).map(|index| Socket::new(plan(index), load.is_slow(index))).collect();
        Ok(Self {
            timer: Timer::new(poll.registry(), Token(TIMER))?,
            events: Events::with_capacity(EVENTS),
            receiver: Receiver::new(protocol.clone()),
            late: histogram(),
            progress: (0, Instant::now()),
            churned: Instant::now(),
            sockets,
            producer,
            poll,
            load,
            target,
            protocol,
            scratch: Vec::new(),
            due: Vec::new(),
            schedule: None,
            opening: Vec::new(),
            slow_read: None,
            churn_debt: 0.0,
            churn_next: 0,
            ends: Vec::new(),
            reopened: 0,
            stalls: 0,
            closed: 0,
            close_reason: None,
        })
    }

    /// Opens these sockets, a few at a time, and waits until the server has confirmed all subscriptions it confirms.
    ///
    /// # Errors
    /// If a socket is refused, or none opens for 30 s.
    pub fn open(&mut self, sockets: impl IntoIterator<Item = usize>) -> Result<()> {
        let mut waiting = sockets.into_iter();
        let (mut left, mut last) = (true, Instant::now());
        while left || !self.opening.is_empty() {
            while left && self.opening.len() < self.load.opening {
                match waiting.next() {
                    Some(index) => self.connect(index)?,
                    None => left = false,
                }
            }
            let before = self.opening.len();
            self.turn(TURN)?;
            self.settle_opening()?;
            if self.opening.len() < before {
                last = Instant::now();
            }
            ensure!(last.elapsed() < PATIENCE, "{} sockets did not open within {PATIENCE:?}", self.opening.len());
        }
        Ok(())
    }

    fn connect(&mut self, index: usize) -> Result<()> {
        let server = self.target.sockets[index % self.target.sockets.len()];
        let stream = self.sockets[index].connect(server, self.load.source)?;
        self.poll.registry().register(stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        self.opening.push(index);
        Ok(())
    }

    /// Removes sockets from the opening ones once they are open.
    fn settle_opening(&mut self) -> Result<()> {
        let sockets = &self.sockets;
        if self.opening.iter().any(|index| sockets[*index].state == State::Closed) {
            bail!("a socket failed to open: {}", self.close_reason.as_deref().unwrap_or("closed"));
        }
        self.opening.retain(|index| sockets[*index].state != State::Open);
        Ok(())
    }

    /// One turn of the loop: waits up to `longest`, reads what has arrived, and publishes what is due.
    ///
    /// # Errors
    /// If publishing fails.
    pub fn turn(&mut self, longest: Duration) -> Result<()> {
        let longest = if self.due.is_empty() { longest } else { Duration::ZERO };
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        match self.poll.poll(&mut events, Some(longest)) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            match event.token().0 {
                TIMER => {}
                pipe if pipe >= PIPES => self.serve_pipe(pipe - PIPES, event)?,
                index => self.serve_socket(index, event),
            }
        }
        self.events = events;
        self.read_slowly();
        self.publish_due()
    }

    fn serve_pipe(&mut self, pipe: usize, event: &Event) -> Result<()> {
        let Some(producer) = &mut self.producer else { return Ok(()) };
        if event.is_writable() {
            producer.flush()?;
        }
        if event.is_readable() {
            producer.discard(pipe, &mut self.scratch)?;
        }
        Ok(())
    }

    fn serve_socket(&mut self, index: usize, event: &Event) {
        let socket = &mut self.sockets[index];
        let served = if socket.state == State::Connecting { self.begin_handshake(index) } else { socket.flush() };
        let served = served.and_then(|()| match event.is_readable() {
            true => self.receiver.read(&mut self.sockets[index], None),
            false => Ok(()),
        });
        if let Err(error) = served {
            self.lose(index, &format!("{error:#}"));
        }
    }

    fn begin_handshake(&mut self, index: usize) -> Result<()> {
        let socket = &mut self.sockets[index];
        if !socket.connected()? {
            return Ok(());
        }
        let request = self.protocol.handshake(&socket.plan);
        crate::wire::handshake::request(&mut socket.out, &request, self.load.deflate);
        socket.state = State::Handshaking;
        socket.flush()
    }

    fn lose(&mut self, index: usize, reason: &str) {
        if self.sockets[index].state != State::Closed {
            self.sockets[index].cut();
            self.closed += 1;
            self.close_reason.get_or_insert_with(|| reason.to_owned());
        }
    }

    /// Lets slow sockets read slowly from now on.
    pub(crate) fn begin_slowness(&mut self) -> Result<()> {
        self.slow_read = Some(Instant::now());
        self.for_slow_streams(|registry, stream, _| registry.deregister(stream))
    }

    /// Lets slow sockets read like the others again.
    pub(crate) fn end_slowness(&mut self) -> Result<()> {
        if self.slow_read.take().is_some() {
            let both = Interest::READABLE | Interest::WRITABLE;
            self.for_slow_streams(|registry, stream, index| registry.register(stream, Token(index), both))?;
        }
        Ok(())
    }

    fn for_slow_streams(
        &mut self,
        change: impl Fn(&mio::Registry, &mut mio::net::TcpStream, usize) -> std::io::Result<()>,
    ) -> Result<()> {
        for (index, socket) in self.sockets.iter_mut().enumerate().filter(|(_, socket)| socket.slow) {
            if let Some(stream) = &mut socket.stream {
                change(self.poll.registry(), stream, index)?;
            }
        }
        Ok(())
    }

    fn read_slowly(&mut self) {
        if self.slow_read.is_none_or(|last| last.elapsed() < SLOW_EVERY) {
            return;
        }
        self.slow_read = Some(Instant::now());
        for index in 0..self.sockets.len() {
            if !self.sockets[index].slow {
                continue;
            }
            if let Err(error) = self.receiver.read(&mut self.sockets[index], Some(SLOW_BYTES)) {
                self.lose(index, &format!("{error:#}"));
            }
        }
    }

    /// Begins to publish at the pace of the load.
    pub(crate) fn begin_pace(&mut self) -> Result<()> {
        let fast = |channel: usize| {
            let of_channel = self.sockets.iter().skip(channel * self.load.sockets_per_channel);
            of_channel.take(self.load.sockets_per_channel).filter(|socket| !socket.slow).count() as u32
        };
        if let Some(window) = self.load.pace.window() {
            let mut closed = ClosedLoop::new(window, (0..self.load.channels).map(fast));
            closed.begin();
            self.receiver.checker.closed = Some(closed);
        }
        if let Pace::Open(rate) = self.load.pace {
            self.schedule = Some(Schedule { began: now(), interval: 1e9 / rate, done: 0 });
        }
        self.progress = (0, Instant::now());
        self.churned = Instant::now();
        Ok(())
    }

    /// Stops publishing.
    pub(crate) fn end_pace(&mut self) {
        self.receiver.checker.closed = None;
        self.schedule = None;
        self.due.clear();
    }

    /// Publishes an event on each of these channels, now.
    pub(crate) fn publish_on(&mut self, channels: impl IntoIterator<Item = usize>) -> Result<()> {
        let producer = self.producer.as_mut().context("this generator only listens and cannot publish")?;
        for channel in channels {
            producer.publish(channel, now())?;
        }
        producer.flush()
    }

    fn publish_due(&mut self) -> Result<()> {
        let Some(producer) = &mut self.producer else { return Ok(()) };
        if let Some(closed) = &mut self.receiver.checker.closed {
            closed.take_due(&mut self.due);
            for channel in self.due.drain(..) {
                closed.published(channel, producer.publish(channel, now())?);
            }
        }
        if let Some(schedule) = &mut self.schedule {
            let now = now();
            while schedule.next() <= now {
                let channel = schedule.done as usize % self.load.channels;
                producer.publish(channel, schedule.next())?;
                self.late.saturating_record(now - schedule.next());
                schedule.done += 1;
            }
            self.timer.at(schedule.next())?;
        }
        producer.flush()
    }

    /// Turns for `time` with churn, and restarts a closed loop that has stalled.
    ///
    /// # Errors
    /// As [`Generator::turn`].
    pub fn run_for(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn(TURN.min(end.saturating_duration_since(Instant::now())))?;
            self.churn()?;
            self.watch_progress();
        }
        Ok(())
    }

    fn watch_progress(&mut self) {
        let published = self.producer.as_ref().map_or(0, |producer| producer.published);
        if published != self.progress.0 {
            self.progress = (published, Instant::now());
        } else if let Some(closed) = &mut self.receiver.checker.closed
            && self.progress.1.elapsed() > STALL
        {
            closed.restart();
            self.stalls += 1;
            self.progress.1 = Instant::now();
        }
    }

    /// Closes and reopens the sockets that have become due since the last call.
    fn churn(&mut self) -> Result<()> {
        if self.load.churn == 0.0 {
            return Ok(());
        }
        self.opening.retain(|index| !matches!(self.sockets[*index].state, State::Open | State::Closed));
        let seconds = self.churned.elapsed().as_secs_f64();
        self.churned = Instant::now();
        self.churn_debt += seconds * self.load.churn * self.sockets.len() as f64;
        while self.churn_debt >= 1.0 && self.opening.len() < self.load.opening {
            self.churn_debt -= 1.0;
            let index = self.churn_next;
            self.churn_next = (index + 1) % self.sockets.len();
            if self.sockets[index].state == State::Open && !self.sockets[index].slow {
                self.sockets[index].cut();
                self.sockets[index].sequence = Default::default();
                self.connect(index)?;
                self.reopened += 1;
            }
        }
        Ok(())
    }
}
