//! Formats on the wire: WebSocket frames, marks in events, the protocol of Redis. No I/O.

pub mod frame;
pub mod handshake;
pub mod http;
pub mod inflate;
pub mod mark;
pub mod resp;
pub mod slots;
