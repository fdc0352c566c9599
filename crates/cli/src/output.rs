//! Standard output. A reader that stops early (`| head`) is not an error.

use std::io::{ErrorKind, Write};

use crate::error::CliError;

/// The state of standard output after a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pipe {
    /// The reader is there.
    Open,
    /// The reader has closed the pipe.
    Closed,
}

/// Prints one line and flushes, so that a pipe gets it at once.
///
/// # Errors
/// [`CliError::Io`], except for a closed pipe.
pub(crate) fn line(text: &str) -> Result<Pipe, CliError> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(Pipe::Open),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Pipe::Closed),
        Err(error) => Err(CliError::io("standard output")(error)),
    }
}
