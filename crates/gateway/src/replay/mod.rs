//! A reader's path through one channel: from the log, where it catches up, into the ring, without a hole or a repeat at
//! the seam.
//!
//! When a replica goes away, all its readers come to other replicas at once, each behind an event of its own. The first
//! of them reads the log, from somewhat before its own position, while the others wait for that read (`history.rs`).
//! The page becomes the beginning of the channel's ring ([`crate::hub::Hub::prepend`]), which serves every reader that
//! follows. The ring knows the channel's history: a page read before a rewrite, or before the channel moved to another
//! owner, does not enter it.

mod channel_reads;
mod history;
mod reader;
mod reader_state;

pub(crate) use crate::broker::{StateDocuments, captured::lines_of};
pub(crate) use channel_reads::{ChannelReads, Tail};
pub(crate) use history::{History, LogPage, LogRange};
pub(crate) use reader::{Opening, Read, Reader, Start};

#[cfg(test)]
mod tests;
