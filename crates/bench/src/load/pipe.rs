use std::{
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
};

use anyhow::{Context, Result, bail};
use mio::{Interest, Registry, Token, net::TcpStream};

/// Bytes of answers that one read takes.
const READ: usize = 64 * 1024;

/// A connection that publishes without waiting for answers.
pub(crate) struct Pipe {
    stream: TcpStream,
    out: Vec<u8>,
    written: usize,
    /// The beginning of the last answer, for error messages.
    answer: Vec<u8>,
}

impl Pipe {
    pub(crate) fn open(registry: &Registry, token: Token, address: SocketAddr, preamble: &[u8]) -> Result<Self> {
        let stream =
            std::net::TcpStream::connect(address).with_context(|| format!("cannot connect to {address} to publish"))?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let mut stream = TcpStream::from_std(stream);
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { stream, out: preamble.to_vec(), written: 0, answer: Vec::new() })
    }

    /// The bytes that [`Pipe::flush`] writes next.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Writes as much as the connection accepts.
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

    /// Reads and discards the answers.
    pub(crate) fn discard(&mut self, buffer: &mut Vec<u8>) -> Result<()> {
        buffer.resize(READ.max(buffer.len()), 0);
        loop {
            match self.stream.read(&mut buffer[..READ]) {
                Ok(0) => bail!("the server closed the connection that publishes; {}", self.last_answer()),
                Ok(read) => {
                    self.answer.clear();
                    self.answer.extend_from_slice(&buffer[..read.min(200)]);
                    if self.answer.starts_with(b"-") {
                        bail!("the server refused a publish; {}", self.last_answer());
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
        format!("the last answer to a publish was {:?}", String::from_utf8_lossy(&self.answer))
    }
}
