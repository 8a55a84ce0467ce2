//! Standard output and standard error, which may be closed or full.
use std::io::{ErrorKind, Write};

use sluice_client::{Error, text};

/// Writes text to standard output, all of it. A reader that has gone has read what it wanted.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.or_else(ended).map(drop)
}

/// Tells whether a failure to write means that nobody reads any more; other failures are errors.
pub(crate) fn ended(error: std::io::Error) -> Result<(), Error> {
    // ERROR_PIPE_NOT_CONNECTED: what some pipes of Windows and all of Wine's say; the standard library has no kind for it.
    let disconnected = cfg!(windows) && error.raw_os_error() == Some(233);
    if error.kind() == ErrorKind::BrokenPipe || disconnected {
        return Ok(());
    }
    Err(Error::Output { path: "standard output".to_owned(), source: error })
}

/// Writes a message to standard error. There is no other place to tell that this failed.
pub(crate) fn complain(message: &str) {
    let lines: Vec<String> = message.lines().map(text::clean).collect();
    let _ = writeln!(std::io::stderr(), "sluice: {}", lines.join("\n"));
}
