//! permessage-deflate (RFC 7692): text messages compressed.
//!
//! No window is kept here from one message to the next. A client's messages come without one (`client_no_context_takeover`),
//! and what is sent refers at most to what many sockets were sent alike (`hub/chain.rs`). So a socket that agreed costs no
//! memory while it waits, and a message is compressed once for all sockets that agreed: [`agree`] in the handshake, [`Compression`] for what is sent, [`inflate`] for what a client sends.

mod agreed;
mod compress;
mod inflated;

pub use agreed::{Agreed, Answer, agree};
pub use compress::Compression;
pub use inflated::{InflateError, inflate};

/// With what each compressed message ends before it is put into frames, and what the receiver puts back (RFC 7692 sections
/// 7.2.1 and 7.2.2): the length and its complement of an empty stored block.
const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];
