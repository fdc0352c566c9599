use std::{
    io::{ErrorKind, Read},
    sync::Arc,
};

use anyhow::{Context, Result, bail};

use super::{
    outcome::Tally,
    pace::ClosedLoop,
    sequence::Verdict,
    socket::{Socket, State},
    timer::now,
};
use crate::{
    protocol::{Framing, Outgoing, Progress, Protocol},
    wire::{
        frame, handshake,
        inflate::Inflater,
        mark::{self, Mark},
    },
};

/// The most bytes that one read takes.
const BUFFER: usize = 512 * 1024;

/// Reads sockets, and checks and times their events.
pub(crate) struct Receiver {
    buffer: Vec<u8>,
    inflater: Inflater,
    pub(crate) checker: Checker,
}

/// Checks the content of frames.
pub(crate) struct Checker {
    protocol: Arc<dyn Protocol>,
    framing: Framing,
    replies: Vec<Outgoing>,
    /// When the current bytes were read.
    now: u64,
    /// The closed loop, if the pace has one.
    pub(crate) closed: Option<ClosedLoop>,
    /// Whether sockets remember the ids of events.
    pub(crate) remember_ids: bool,
    /// Sockets that have received an event.
    pub(crate) awake: usize,
    pub(crate) tally: Tally,
}

impl Receiver {
    pub(crate) fn new(protocol: Arc<dyn Protocol>) -> Self {
        let framing = protocol.framing();
        let checker = Checker {
            protocol,
            framing,
            replies: Vec::new(),
            now: 0,
            closed: None,
            remember_ids: false,
            awake: 0,
            tally: Tally::default(),
        };
        Self { buffer: vec![0; BUFFER], inflater: Inflater::default(), checker }
    }

    /// Reads everything that has arrived, or up to `most` bytes.
    pub(crate) fn read(&mut self, socket: &mut Socket, most: Option<usize>) -> Result<()> {
        loop {
            let carried = socket.carry.len();
            if self.buffer.len() < carried + BUFFER / 2 {
                self.buffer.resize(carried + BUFFER, 0);
            }
            self.buffer[..carried].copy_from_slice(&socket.carry);
            let end = most.map_or(self.buffer.len(), |most| carried + most);
            let Some(stream) = &mut socket.stream else { return Ok(()) };
            let read = match stream.read(&mut self.buffer[carried..end]) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            self.checker.now = now();
            self.checker.tally.read(read);
            let used = self.take(socket, carried + read)?;
            socket.carry.clear();
            socket.carry.extend_from_slice(&self.buffer[used..carried + read]);
            // After a short read nothing is left: a second call would only learn that.
            if carried + read < end || most.is_some() {
                return Ok(());
            }
        }
    }

    /// Handles the whole frames among the first `end` bytes of the buffer. Returns their length.
    fn take(&mut self, socket: &mut Socket, end: usize) -> Result<usize> {
        let Self { buffer, inflater, checker } = self;
        let bytes = &buffer[..end];
        let mut at = 0;
        if socket.state == State::Handshaking {
            let Some(accepted) = handshake::answer(bytes)? else { return Ok(0) };
            at = accepted.length;
            checker.accepted(socket, accepted.deflate)?;
        }
        while let Some((frame, length)) = frame::first(&bytes[at..]) {
            at += length;
            match frame.opcode {
                0..=frame::BINARY if frame.compressed => {
                    let payload = inflater
                        .inflate(socket.window.get_or_insert_default(), frame.payload)
                        .context("the server sent a message that cannot be inflated")?;
                    checker.payload(socket, payload)?;
                }
                0..=frame::BINARY => checker.payload(socket, frame.payload)?,
                opcode => checker.control(socket, opcode, frame.payload)?,
            }
        }
        Ok(at)
    }
}

impl Checker {
    fn accepted(&mut self, socket: &mut Socket, deflate: bool) -> Result<()> {
        socket.window = None;
        self.tally.deflated += u64::from(deflate);
        socket.queue(&mut self.protocol.hello(&socket.plan));
        socket.flush()?;
        socket.state = if self.protocol.subscribed_by_handshake() { State::Open } else { State::Subscribing };
        Ok(())
    }

    fn control(&mut self, socket: &mut Socket, opcode: u8, payload: &[u8]) -> Result<()> {
        match opcode {
            frame::PING => {
                frame::push_masked(&mut socket.out, frame::PONG, payload);
                socket.flush()
            }
            frame::CLOSE => {
                let code = payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
                bail!(
                    "the server closed the connection with {code} {}",
                    String::from_utf8_lossy(payload.get(2..).unwrap_or_default())
                )
            }
            _ => Ok(()),
        }
    }

    #[inline]
    fn payload(&mut self, socket: &mut Socket, payload: &[u8]) -> Result<()> {
        let found = match self.framing {
            Framing::OnePerFrame => match socket.finder.first(payload) {
                Some(mark) => {
                    self.event(socket, mark);
                    true
                }
                None => false,
            },
            Framing::SeveralPerFrame => self.events(socket, payload),
            Framing::Stream => self.stream(socket, payload),
        };
        if !found {
            return self.other(socket, payload);
        }
        if self.remember_ids {
            remember_id(socket, payload);
        }
        Ok(())
    }

    fn events(&mut self, socket: &mut Socket, payload: &[u8]) -> bool {
        mark::all(payload).map(|mark| self.event(socket, mark)).count() > 0
    }

    /// The end of a frame may cut a mark: bytes that may begin one wait for the next frame.
    fn stream(&mut self, socket: &mut Socket, payload: &[u8]) -> bool {
        let joined;
        let payload = if socket.cut.is_empty() {
            payload
        } else {
            joined = [&socket.cut, payload].concat();
            &joined
        };
        let found = self.events(socket, payload);
        socket.cut.clear();
        socket.cut.extend_from_slice(&payload[payload.len() - mark::cut(payload)..]);
        found || !socket.cut.is_empty()
    }

    #[inline]
    fn event(&mut self, socket: &mut Socket, mark: Mark) {
        match socket.sequence.take(mark.number) {
            Verdict::InOrder => {}
            Verdict::First => self.awake += 1,
            verdict => self.tally.fault(verdict, socket.slow),
        }
        self.tally.delivered(self.now, mark.age(self.now), socket.slow);
        if !socket.slow
            && let Some(closed) = &mut self.closed
        {
            closed.received(socket.plan.channel, mark.number);
        }
    }

    fn other(&mut self, socket: &mut Socket, payload: &[u8]) -> Result<()> {
        let progress = self.protocol.on_other(&socket.plan, payload, &mut self.replies);
        if progress == Progress::Subscribed && socket.state == State::Subscribing {
            socket.state = State::Open;
        }
        socket.queue(&mut self.replies);
        socket.flush()
    }
}

/// Keeps the id at the beginning of a logged event.
fn remember_id(socket: &mut Socket, payload: &[u8]) {
    let Some(rest) = payload.strip_prefix(br#"{"id":""#) else { return };
    let id = rest.split(|byte| *byte == b'"').next().unwrap_or_default();
    socket.last_id.clear();
    socket.last_id.push_str(&String::from_utf8_lossy(id));
}
