//! Bytes: WebSocket frames, marks in events, Redis' protocol. No I/O.

pub mod http;
pub mod resp;
