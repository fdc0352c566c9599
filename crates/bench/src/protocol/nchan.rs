use super::{Plan, Protocol, Request, Via};
use crate::wire::http;

/// Connections that publish. HTTP answers the requests of a connection one after the other, so several are needed.
/// With 16, a second of CPU time delivers a tenth less.
const CONNECTIONS: usize = 64;

/// nginx with nchan, `peers/nchan`: sockets name their channel in the query. Events are published with HTTP.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nchan;

impl Protocol for Nchan {
    fn name(&self) -> &'static str {
        "nchan"
    }

    fn handshake(&self, socket: &Plan) -> Request {
        Request { path: format!("/sub?id=c{}", socket.channel), headers: Vec::new() }
    }

    fn publish(&self, channel: usize, event: &[u8], out: &mut Vec<u8>) {
        http::post(out, &format!("/pub?id=c{channel}"), &[("Content-Type", "application/json")], event);
    }

    fn publish_over(&self) -> Via {
        Via::Tcp { connections: CONNECTIONS, preamble: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_the_body_of_a_post() {
        let mut out = Vec::new();
        Nchan.publish(2, b"{}", &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("POST /pub?id=c2 HTTP/1.1\r\n") && text.ends_with("\r\n\r\n{}"), "{text}");
        assert_eq!(Nchan.handshake(&Plan { channel: 2, ..Plan::default() }).path, "/sub?id=c2");
    }
}
