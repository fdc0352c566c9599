use std::{
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
};

use anyhow::{Context, Result, bail};
use mio::{Interest, Registry, Token, net::TcpStream};

use crate::wire::resp::{self, Reply};

const BUFFER: usize = 256 * 1024;

/// The subscribed connection to Redis.
pub(super) struct Feed {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Feed {
    pub(super) fn connect(redis: SocketAddr, registry: &Registry, token: Token) -> Result<Self> {
        let stream = std::net::TcpStream::connect(redis).context("cannot connect to Redis")?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let mut stream = TcpStream::from_std(stream);
        registry.register(&mut stream, token, Interest::READABLE)?;
        Ok(Self { stream, buffer: vec![0; BUFFER], filled: 0 })
    }

    /// Subscribes to another channel.
    pub(super) fn subscribe(&mut self, channel: &[u8]) -> Result<()> {
        let mut command = Vec::new();
        resp::command(&mut command, &[b"SUBSCRIBE", channel]);
        let mut rest = &command[..];
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads once, and passes on each complete message. Returns whether more may be waiting.
    pub(super) fn read(&mut self, mut message: impl FnMut(&[u8], &[u8])) -> Result<bool> {
        if self.filled == self.buffer.len() {
            self.buffer.resize(self.filled * 2, 0);
        }
        let read = match self.stream.read(&mut self.buffer[self.filled..]) {
            Ok(0) => bail!("Redis has closed the connection"),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        self.filled += read;
        let more = self.filled == self.buffer.len();
        let mut at = 0;
        while let Some((reply, length)) = resp::pushed(&self.buffer[at..self.filled]) {
            at += length;
            if let Reply::Message { channel, payload } = reply {
                message(channel, payload);
            }
        }
        self.buffer.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(more)
    }
}
