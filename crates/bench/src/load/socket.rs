use std::{
    io::{ErrorKind, Write},
    net::{Ipv4Addr, SocketAddr},
};

use anyhow::{Context, Result, bail};
use mio::net::TcpStream;
use socket2::{Domain, SockRef, Type};

use super::Sequence;
use crate::{
    protocol::{Outgoing, Plan},
    wire::{frame, inflate::InflateWindow, mark::Finder},
};

/// Sockets per source address; the system has about 28,000 ports for each.
const PER_ADDRESS: usize = 4000;
/// Receive buffer of a socket that reads slowly.
const SLOW_BUFFER: usize = 4096;

/// The progress of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Connecting,
    Handshaking,
    Subscribing,
    Open,
    Closed,
}

/// A socket of the run.
pub(crate) struct Socket {
    pub(crate) plan: Plan,
    pub(crate) slow: bool,
    pub(crate) state: State,
    pub(crate) stream: Option<TcpStream>,
    /// The beginning of a frame whose end has not arrived yet.
    pub(crate) carry: Vec<u8>,
    /// The end of a stream's payload, if it may be the beginning of a mark.
    pub(crate) cut: Vec<u8>,
    pub(crate) out: Vec<u8>,
    pub(crate) sequence: Sequence,
    pub(crate) finder: Finder,
    /// The window of compressed messages.
    pub(crate) window: Option<Box<InflateWindow>>,
    /// Id of the last event, if the run resumes.
    pub(crate) last_id: String,
}

impl Socket {
    pub(crate) fn new(plan: Plan, slow: bool) -> Self {
        Self {
            plan,
            slow,
            state: State::Closed,
            stream: None,
            carry: Vec::new(),
            cut: Vec::new(),
            out: Vec::new(),
            sequence: Sequence::default(),
            finder: Finder::default(),
            window: None,
            last_id: String::new(),
        }
    }

    /// Starts to connect from 127.0.`source`.y.
    pub(crate) fn connect(&mut self, server: SocketAddr, source: u8) -> Result<&mut TcpStream> {
        let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM.nonblocking().cloexec(), None)
            .context("no file descriptor is left for another socket: raise `ulimit -n`, or pass --processes")?;
        socket.set_tcp_nodelay(true)?;
        if self.slow {
            socket.set_recv_buffer_size(SLOW_BUFFER)?;
        }
        let last = 1 + self.plan.index / PER_ADDRESS;
        let from = Ipv4Addr::new(
            127,
            0,
            source,
            u8::try_from(last).context("too many sockets for one process: pass --processes")?,
        );
        socket.bind(&SocketAddr::from((from, 0)).into()).context("no port is left for another socket")?;
        match socket.connect(&server.into()) {
            Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
                return Err(error).with_context(|| format!("cannot connect to {server}"));
            }
            _ => {}
        }
        self.state = State::Connecting;
        self.carry.clear();
        self.cut.clear();
        self.out.clear();
        Ok(self.stream.insert(TcpStream::from_std(socket.into())))
    }

    /// Frames, masks and queues messages.
    pub(crate) fn queue(&mut self, messages: &mut Vec<Outgoing>) {
        for message in messages.drain(..) {
            match message {
                Outgoing::Text(payload) => frame::push_masked(&mut self.out, frame::TEXT, &payload),
                Outgoing::Binary(payload) => frame::push_masked(&mut self.out, frame::BINARY, &payload),
            }
        }
    }

    /// Writes what is queued.
    pub(crate) fn flush(&mut self) -> Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        while !self.out.is_empty() {
            match stream.write(&self.out) {
                Ok(written) => drop(self.out.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Whether the connection is established.
    pub(crate) fn connected(&self) -> Result<bool> {
        let Some(stream) = &self.stream else { return Ok(false) };
        if let Some(error) = stream.take_error()? {
            bail!("cannot connect: {error}");
        }
        Ok(stream.peer_addr().is_ok())
    }

    /// Resets the connection, so that no port is left in TIME_WAIT.
    pub(crate) fn cut(&mut self) {
        if let Some(stream) = self.stream.take() {
            let _ = SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO));
        }
        self.state = State::Closed;
    }
}
