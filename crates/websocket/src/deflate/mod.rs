//! permessage-deflate (RFC 7692): compressed text messages.
//!
//! No window is kept per socket from one message to the next. A client's messages come without one
//! (`client_no_context_takeover`), and sent messages refer at most to what many sockets were sent alike. A socket with
//! compression therefore costs no memory while it waits, and a message is compressed once for all sockets that agreed.
//!
//! - [`agree`] in the handshake
//! - [`Compression`] for sent messages
//! - [`inflate`] for a client's messages

mod agreed;
mod compress;
mod inflated;

pub use agreed::{Agreed, Answer, agree};
pub use compress::Compression;
pub use inflated::{InflateError, inflate};

/// The end of each compressed message, which its sender leaves out and its receiver puts back (RFC 7692 sections 7.2.1
/// and 7.2.2): the length and its complement of an empty stored block.
const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];
