//! A reader's way through one channel: from the log, where it must catch up, into the ring, without a
//! hole or a repeat at the seam.
//!
//! When a replica has gone away, all its readers come to another one at once, each behind an event of its own.
//! The first of them reads the log, from somewhat before its place on, while the others wait for it
//! (`history.rs`). What was read becomes the beginning of the channel's ring ([`crate::hub::Hub::prepend`]), and from there
//! everybody who comes is served. The ring knows what became of the channel: a stretch that was read before the history
//! was rewritten, or before the channel went to another owner, does not get into it.

mod channel_reads;
mod history;
mod reader;

pub use crate::broker::StateDocuments;
pub use channel_reads::{ChannelReads, Tail};
pub use history::{History, LogPage, LogRange};
pub use reader::{Opening, Read, Reader, Start};

#[cfg(test)]
mod tests;
