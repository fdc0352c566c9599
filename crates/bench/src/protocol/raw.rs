use super::{Plan, Protocol, Request};
use crate::wire::resp;

/// The raw write loop ([`crate::raw_server`]), which shows the machine's limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Raw;

impl Protocol for Raw {
    fn name(&self) -> &'static str {
        "raw"
    }

    fn handshake(&self, socket: &Plan) -> Request {
        Request { path: format!("/{}", channel(socket.channel)), headers: Vec::new() }
    }

    fn publish(&self, number: usize, event: &[u8], out: &mut Vec<u8>) {
        resp::command(out, &[b"PUBLISH", channel(number).as_bytes(), event]);
    }
}

fn channel(number: usize) -> String {
    format!("graph:c{number}")
}
