//! Bytes: WebSocket frames, marks in events, Redis' protocol. No I/O.

pub mod frame;
pub mod handshake;
pub mod http;
pub mod inflate;
pub mod mark;
pub mod resp;
