use std::io::{ErrorKind, Read, Write};

use anyhow::Result;
use mio::{Registry, net::TcpStream};

/// The answer to every request. The load generator does not check the key.
const ACCEPTED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
/// The longest request in bytes.
const LONGEST_REQUEST: usize = 8192;

/// A socket of the raw write loop.
pub(super) struct Client {
    stream: TcpStream,
    /// The request at first; after that, bytes that wait to be written.
    bytes: Vec<u8>,
    gone: bool,
}

impl Client {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, bytes: Vec::new(), gone: false }
    }

    /// The channel in the request, once the request is complete.
    pub(super) fn requested(&mut self) -> Option<Vec<u8>> {
        let mut buffer = [0; 2048];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.gone = true,
                Ok(read) => self.bytes.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.gone = true,
            }
            if self.gone || self.bytes.len() > LONGEST_REQUEST {
                self.gone = true;
                return None;
            }
        }
        memchr::memmem::find(&self.bytes, b"\r\n\r\n")?;
        Some(self.bytes.strip_prefix(b"GET /")?.split(|byte| *byte == b' ').next()?.to_vec())
    }

    /// Answers the request, and removes the socket from the poll: from now on it is only written to.
    pub(super) fn accept(&mut self, registry: &Registry) -> Result<()> {
        registry.deregister(&mut self.stream)?;
        self.bytes = Vec::new();
        self.send(ACCEPTED);
        Ok(())
    }

    /// Writes waiting bytes and then `frames`. Keeps what the socket does not accept.
    #[inline]
    pub(super) fn send(&mut self, frames: &[u8]) {
        if !self.bytes.is_empty() {
            self.bytes.extend_from_slice(frames);
            let written = self.write_waiting();
            self.bytes.drain(..written);
            return;
        }
        match self.stream.write(frames) {
            Ok(written) if written == frames.len() => {}
            Ok(written) => self.bytes.extend_from_slice(&frames[written..]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.bytes.extend_from_slice(frames),
            Err(_) => self.gone = true,
        }
    }

    fn write_waiting(&mut self) -> usize {
        match self.stream.write(&self.bytes) {
            Ok(written) => written,
            Err(error) => {
                self.gone |= error.kind() != ErrorKind::WouldBlock;
                0
            }
        }
    }

    /// Whether bytes wait to be written.
    pub(super) fn waits(&self) -> bool {
        !self.bytes.is_empty()
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }
}
