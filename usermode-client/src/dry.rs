//! `send --dry-run`: shows the frames, and why some cannot be sent.
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::json;
use sluice_client::capture::{Fault, Reader};
use sluice_client::run::{self, Sums};
use sluice_client::select::Limits;
use sluice_client::{Error, frames, text};

use crate::JSON_VERSION;
use crate::arguments::{Arguments, SendArguments};
use crate::output::{complain, ended};
use crate::sending::frame_of_hex;

/// Shows the frames, and why some cannot be sent.
pub(crate) fn dry_run(arguments: &Arguments, options: &SendArguments) -> Result<u8, Error> {
    let limits = Limits::of_mtu(options.mtu);
    let mut shown =
        Shown { out: BufWriter::new(std::io::stdout().lock()), json: arguments.json, ended: false };
    let mut sums = Sums::default();
    let mut refusal = None;
    match (&options.hex, &options.file) {
        (Some(text), _) => {
            let data = frame_of_hex(text)?;
            let refused = limits.check(&data).err();
            shown.line(1, &data, refused.map(|why| why.to_string()))?;
            count(&mut sums, refused.map(|why| why.reason()));
            refusal = refused.map(|why| format!("--hex: frame 1 {why}"));
        }
        (None, Some(file)) => show_capture(file, limits, &mut shown, &mut sums, &mut refusal)?,
        (None, None) => {}
    }
    let sendable = sums.totals.submitted;
    let none = sendable == 0 && (refusal.is_none() || options.skip_unsendable);
    let refusal = if none {
        let path = options.file.as_deref().map_or_else(|| "--hex".to_owned(), text::path);
        Some(format!("{path}: there are no frames to send"))
    } else {
        refusal.filter(|_| !options.skip_unsendable)
    };
    let error = refusal.map(Error::Input);
    let code = error.as_ref().map_or(0, Error::exit_code);
    if arguments.json {
        let mut object = json!({
            "version": JSON_VERSION, "frames": sendable + sums.skipped, "loop": options.times().unwrap_or(0),
            "frames_skipped": sums.skipped, "skipped": sums.reasons, "exit_code": code,
        });
        if let (Some(error), Some(object)) = (&error, object.as_object_mut()) {
            object.insert("error".to_owned(), error.to_string().into());
        }
        shown.write(&format!("{object}\n"))?;
    }
    shown.flush()?;
    if let Some(error) = error {
        complain(&error.to_string());
    }
    Ok(code)
}

fn show_capture(
    file: &Path,
    limits: Limits,
    shown: &mut Shown<'_>,
    sums: &mut Sums,
    refusal: &mut Option<String>,
) -> Result<(), Error> {
    let refused = |why: &str| format!("{}: {why}", text::path(file));
    let mut reader = Reader::open(file).map_err(|fault| Error::Input(refused(&fault.to_string())))?;
    loop {
        match reader.next_frame() {
            Ok(None) => return Ok(()),
            Ok(Some(frame)) => {
                let why = frame.unsendable.map_or_else(|| limits.check(&frame.data).err(), Some);
                shown.line(frame.number, &frame.data, why.map(|why| why.to_string()))?;
                count(sums, why.map(|why| why.reason()));
                if let Some(why) = why {
                    refusal.get_or_insert_with(|| refused(&format!("frame {} {why}", frame.number)));
                }
            }
            Err(fault @ Fault::Cut(_)) => {
                count(sums, Some(run::UNFINISHED));
                refusal.get_or_insert_with(|| refused(&fault.to_string()));
                return Ok(());
            }
            Err(fault) => return Err(Error::Input(refused(&fault.to_string()))),
        }
    }
}

fn count(sums: &mut Sums, reason: Option<&'static str>) {
    match reason {
        None => sums.totals.submitted += 1,
        Some(reason) => {
            sums.skipped += 1;
            *sums.reasons.entry(reason).or_default() += 1;
        }
    }
}

/// Standard output of a dry run, until its reader goes.
struct Shown<'a> {
    out: BufWriter<std::io::StdoutLock<'a>>,
    json: bool,
    ended: bool,
}

impl Shown<'_> {
    fn line(&mut self, number: u64, data: &[u8], why: Option<String>) -> Result<(), Error> {
        if self.json || self.ended {
            return Ok(());
        }
        let what = why.map_or_else(|| frames::describe(data), |why| format!("cannot be sent: it {why}"));
        self.write(&format!("{number:>6}  {what}\n"))
    }

    fn write(&mut self, text: &str) -> Result<(), Error> {
        if self.ended {
            return Ok(());
        }
        let written = self.out.write_all(text.as_bytes());
        self.note(written)
    }

    fn flush(&mut self) -> Result<(), Error> {
        let written = self.out.flush();
        self.note(written)
    }

    fn note(&mut self, written: std::io::Result<()>) -> Result<(), Error> {
        written.or_else(|error| {
            self.ended = true;
            ended(error)
        })
    }
}
