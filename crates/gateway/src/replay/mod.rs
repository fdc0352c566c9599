//! A reader's way through one channel: from the log, where it must catch up, into the ring, without a
//! hole or a repeat at the seam.

mod history;
mod reader;

pub use history::{History, LogPage};
pub use reader::{Opening, Read, Reader, Start};

#[cfg(test)]
mod tests;
