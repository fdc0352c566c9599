//! Bytes on the wire: accepting, the WebSocket handshake, frames.
//!
//! Nothing here knows channels, tokens or dialects. [`listener`] accepts and speaks HTTP/1, [`upgrade`] turns
//! a request into a bare TCP stream, and [`Socket`] speaks RFC 6455 on it: [`frame`] encodes what the server
//! sends, once for all sockets, [`decode`] reads what a client sends, and [`mod@deflate`] compresses where that was agreed.
//! [`close`] holds every close code.

pub mod close;
pub mod decode;
pub mod deflate;
pub mod frame;
pub mod listener;
mod proxy;
pub mod socket;
pub mod upgrade;

pub use close::CloseCode;
pub use decode::{Decoder, Message, ProtocolError};
pub use deflate::{Agreed, Compression};
pub use frame::{close_frame, ping_frame, pong_frame, text_frame};
pub use listener::{ClientAddress, ListenOptions, serve};
pub use socket::Socket;
pub use upgrade::{Handshake, HandshakeError, UpgradeError, check, take_stream};
