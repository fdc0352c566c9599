use std::{
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
};

use anyhow::{Context, Result, bail};
use mio::{Interest, Registry, Token, net::TcpStream};

/// What answers are read into, to be counted and forgotten.
const READ: usize = 64 * 1024;

/// A connection that publishes: written to without waiting for answers.
pub(crate) struct Pipe {
    stream: TcpStream,
    out: Vec<u8>,
    written: usize,
    /// The beginning of the last answer, for errors.
    answer: Vec<u8>,
}

impl Pipe {
    pub(crate) fn open(registry: &Registry, token: Token, address: SocketAddr, preamble: &[u8]) -> Result<Self> {
        let stream = std::net::TcpStream::connect(address)
            .with_context(|| format!("cannot connect to {address}, where events are published"))?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let mut stream = TcpStream::from_std(stream);
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { stream, out: preamble.to_vec(), written: 0, answer: Vec::new() })
    }

    /// What is to be written next; [`Pipe::flush`] does it.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Writes as much as the connection takes.
    pub(crate) fn flush(&mut self) -> Result<()> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context(self.last_answer()),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads the answers away.
    pub(crate) fn discard(&mut self, buffer: &mut Vec<u8>) -> Result<()> {
        buffer.resize(READ.max(buffer.len()), 0);
        loop {
            match self.stream.read(&mut buffer[..READ]) {
                Ok(0) => bail!("the connection that publishes was closed; {}", self.last_answer()),
                Ok(read) => {
                    self.answer.clear();
                    self.answer.extend_from_slice(&buffer[..read.min(200)]);
                    if self.answer.starts_with(b"-") {
                        bail!("publishing is refused; {}", self.last_answer());
                    }
                    if read < READ {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context(self.last_answer()),
            }
        }
    }

    pub(crate) fn last_answer(&self) -> String {
        format!("the last answer to a publication was {:?}", String::from_utf8_lossy(&self.answer))
    }
}
