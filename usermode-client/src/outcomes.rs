//! What became of each frame, one line for each, in the order of the frames.
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use same_file::Handle;

use crate::send::Outcome;
use crate::{Error, text};

/// What became of a frame in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Final {
    /// The driver answered for it.
    Answered(Outcome),
    /// It cannot be sent, and was left out.
    Skipped,
    /// It was read and not sent, since the run ended before.
    Unsent,
    /// It was handed to the driver, and the run ended before the answer.
    Unanswered,
}

/// Writes outcomes: number, outcome and status of each frame, with tabs between.
pub struct Outcomes {
    path: PathBuf,
    file: BufWriter<File>,
    /// The number whose line comes next.
    next: u64,
    /// Outcomes of later frames.
    known: BTreeMap<u64, Final>,
}

impl Outcomes {
    /// Creates the file, or empties it, unless it is the capture whose frames are sent; `-` is standard input.
    ///
    /// # Errors
    /// [`Error::Usage`] if it is the capture, and [`Error::Output`] if it cannot be written.
    pub fn create(path: &Path, capture: Option<&Path>) -> Result<Self, Error> {
        if capture.is_some_and(|capture| is_same_file(path, capture)) {
            let path = text::path(path);
            return Err(Error::Usage(format!("{path}: the file of outcomes is the capture; name another")));
        }
        let file = File::create(path).map_err(|source| failed(path, source))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file), next: 1, known: BTreeMap::new() })
    }

    /// Notes what became of a frame, and writes the lines that are complete up to here.
    pub fn note(&mut self, number: u64, what: Final) -> Result<(), Error> {
        self.known.insert(number, what);
        while let Some(what) = self.known.remove(&self.next) {
            let number = self.next;
            self.next += 1;
            line(&mut self.file, number, what).map_err(|source| failed(&self.path, source))?;
        }
        Ok(())
    }

    /// Hands the lines to the system, so that a reader of the file sees them.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.file.flush().map_err(|source| failed(&self.path, source))
    }

    /// Writes what is left, and closes the file.
    pub fn finish(mut self) -> Result<(), Error> {
        for (number, what) in std::mem::take(&mut self.known) {
            line(&mut self.file, number, what).map_err(|source| failed(&self.path, source))?;
        }
        self.flush()
    }
}

/// Whether both are one file, whatever leads to it. What is no regular file keeps nothing that could be lost.
fn is_same_file(path: &Path, capture: &Path) -> bool {
    let input = || if capture == Path::new("-") { Handle::stdin() } else { Handle::from_path(capture) };
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file())
        && Handle::from_path(path).is_ok_and(|output| input().is_ok_and(|input| input == output))
}

fn failed(path: &Path, source: std::io::Error) -> Error {
    Error::Output { path: text::path(path), source }
}

fn line(file: &mut impl Write, number: u64, what: Final) -> std::io::Result<()> {
    match what {
        Final::Answered(Outcome::Sent) => writeln!(file, "{number}\tsent\t0x00000000"),
        Final::Answered(Outcome::Paused) => {
            writeln!(file, "{number}\tpaused\t{:#010x}", sluice_abi::FrameResult::PAUSED.0)
        }
        Final::Answered(Outcome::Failed(status)) => writeln!(file, "{number}\tfailed\t{status:#010x}"),
        Final::Skipped => writeln!(file, "{number}\tskipped\t-"),
        Final::Unsent => writeln!(file, "{number}\tunsent\t-"),
        Final::Unanswered => writeln!(file, "{number}\tunanswered\t-"),
    }
}
