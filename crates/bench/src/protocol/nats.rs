use std::io::Write;

use memchr::memmem;

use super::{Framing, Outgoing, Plan, Progress, Protocol, Request, Via};

/// The first command of every connection. Without `verbose`, the server does not answer commands.
const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n";

/// NATS over WebSockets, `peers/nats`: a stream of its text protocol in binary frames. Events are published over TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nats;

impl Protocol for Nats {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn handshake(&self, _socket: &Plan) -> Request {
        Request { path: "/".into(), headers: Vec::new() }
    }

    fn hello(&self, socket: &Plan) -> Vec<Outgoing> {
        // The answer to the PING confirms the SUB before it.
        vec![Outgoing::Binary(format!("{CONNECT}SUB {} 1\r\nPING\r\n", subject(socket.channel)).into())]
    }

    fn subscribed_by_handshake(&self) -> bool {
        false
    }

    fn on_other(&self, _socket: &Plan, payload: &[u8], reply: &mut Vec<Outgoing>) -> Progress {
        let mut progress = Progress::Waiting;
        for line in lines(payload) {
            match line {
                b"PING" => reply.push(Outgoing::Binary(b"PONG\r\n".to_vec())),
                b"PONG" => progress = Progress::Subscribed,
                // INFO, or +OK with `verbose`. After an -ERR the server closes the connection.
                _ => {}
            }
        }
        progress
    }

    fn framing(&self) -> Framing {
        Framing::Stream
    }

    fn publish(&self, channel: usize, event: &[u8], out: &mut Vec<u8>) {
        let _ = write!(out, "PUB {} {}\r\n", subject(channel), event.len());
        out.extend_from_slice(event);
        out.extend_from_slice(b"\r\n");
    }

    fn publish_over(&self) -> Via {
        Via::Tcp { connections: 1, preamble: CONNECT.into() }
    }
}

fn subject(channel: usize) -> String {
    format!("graph.c{channel}")
}

/// The lines of `bytes` without their line ends.
fn lines(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let end = memmem::find(bytes, b"\r\n")?;
        let line = &bytes[..end];
        bytes = &bytes[end + 2..];
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &[u8] =
        b"INFO {\"server_id\":\"NDCCB\",\"version\":\"2.9.10\",\"proto\":1,\"max_payload\":1048576} \r\n";

    #[test]
    fn a_socket_subscribes_and_waits_for_the_pong() {
        let plan = Plan { channel: 3, ..Plan::default() };
        let Outgoing::Binary(hello) = Nats.hello(&plan).remove(0) else { panic!("NATS frames are binary") };
        assert!(hello.ends_with(b"}\r\nSUB graph.c3 1\r\nPING\r\n"));
        let mut reply = Vec::new();
        assert_eq!(Nats.on_other(&plan, INFO, &mut reply), Progress::Waiting);
        assert_eq!(Nats.on_other(&plan, b"PONG\r\n", &mut reply), Progress::Subscribed);
        assert_eq!(reply, []);
    }

    #[test]
    fn one_frame_may_contain_several_lines() {
        let mut reply = Vec::new();
        let frame = [INFO, b"PING\r\nPONG\r\n"].concat();
        assert_eq!(Nats.on_other(&Plan::default(), &frame, &mut reply), Progress::Subscribed);
        assert_eq!(reply, [Outgoing::Binary(b"PONG\r\n".to_vec())]);
    }

    #[test]
    fn an_event_is_published_with_its_length() {
        let mut out = Vec::new();
        Nats.publish(0, b"{\"a\":1}", &mut out);
        assert_eq!(out, b"PUB graph.c0 7\r\n{\"a\":1}\r\n");
    }
}
