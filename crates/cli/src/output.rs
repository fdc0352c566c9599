//! Standard output. A reader that has had enough (`| head`) is no error.

use std::io::{ErrorKind, Write};

use crate::error::CliError;

/// Whether anybody still reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reader {
    /// Yes.
    There,
    /// The pipe is closed.
    Gone,
}

/// Prints one line and flushes it, so that pipes see it at once.
///
/// # Errors
/// [`CliError::Io`], but not for a closed pipe.
pub fn line(text: &str) -> Result<Reader, CliError> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(CliError::io("standard output")(error)),
    }
}
