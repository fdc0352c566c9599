//! A server-side WebSocket (RFC 6455) with permessage-deflate (RFC 7692), independent of what is sent over it.
//!
//! - [`upgrade`] turns an HTTP request into a bare TCP stream
//! - [`Socket`] speaks RFC 6455 on that stream
//! - [`frame`] encodes what the server sends, once for all sockets
//! - [`decode`] reads what a client sends
//! - [`mod@deflate`] compresses if the handshake agreed on it
//! - [`close`] holds every close code

pub mod close;
pub mod decode;
pub mod deflate;
pub mod frame;
pub mod socket;
pub mod upgrade;

pub use close::CloseCode;
pub use decode::{Decoder, Message, ProtocolError};
pub use deflate::{Agreed, Compression};
pub use frame::{close_frame, ping_frame, pong_frame, text_frame};
pub use socket::Socket;
pub use upgrade::{Handshake, HandshakeError, UpgradeError, check, take_stream};
