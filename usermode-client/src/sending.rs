//! The verb `send`.
use std::io::{BufWriter, IsTerminal, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use sluice_client::adapter::{self, Adapter};
use sluice_client::capture::Reader;
use sluice_client::device::Device;
use sluice_client::outcomes::{Final, Outcomes};
use sluice_client::patience::{POLL, Patience};
use sluice_client::run::{self, Connect, Connection, Observer, Options, Sums};
use sluice_client::select::Limits;
use sluice_client::send::Outcome;
use sluice_client::stop::{Stage, Stop};
use sluice_client::supply::Prepared;
use sluice_client::{Error, frames, hex, text};

use crate::arguments::{Arguments, SendArguments};
use crate::output::{complain, ended, print};
use crate::report::Report;
use crate::{JSON_VERSION, open};

/// How long the program may take to print totals after a third Ctrl-C before it ends without.
const LAST_WORDS: Duration = Duration::from_millis(500);

pub(crate) fn send(arguments: &Arguments, options: &SendArguments) -> Result<u8, Error> {
    if options.dry_run {
        return dry_run(arguments, options);
    }
    let stop = Stop::default();
    press_on_interrupt(&stop);
    let mut report = Report { endless: options.times().is_none(), ..Report::default() };
    let began = Instant::now();
    if let Err(error) = run(arguments, options, &stop, &mut report) {
        report.error.get_or_insert(error);
    }
    if report.elapsed.is_zero() {
        report.elapsed = began.elapsed();
    }
    report.interrupted = stop.is_stopped();
    if matches!(report.error, Some(Error::Stopped)) && report.endless {
        report.error = None;
    }
    let printed = if arguments.json {
        print(&format!("{}\n", report.object()))
    } else if report.adapter.is_some() {
        print(&report.text(arguments.quiet))
    } else {
        Ok(())
    };
    if let Some(error) = &report.error {
        complain(&error.to_string());
    }
    let code = report.exit_code();
    let code = printed.map_or_else(|error| crate::output_failed(&error), |()| code);
    if stop.stage() == Stage::Gone {
        // What is still outstanding would be waited for by what is left of this program.
        std::process::exit(i32::from(code));
    }
    Ok(code)
}

fn run(
    arguments: &Arguments,
    options: &SendArguments,
    stop: &Stop,
    report: &mut Report,
) -> Result<(), Error> {
    let prepared = prepare(options, stop)?;
    if !options.skip_unsendable {
        prepared.check(None)?;
    }
    let outcomes = options.outcomes.as_deref().map(Outcomes::create).transpose()?;
    let mut connector = Connector {
        arguments,
        wanted: options.adapter.clone(),
        found: None,
        bind_timeout: options.bind_timeout(),
    };
    let mut patience = Patience::new(options.wait());
    let (device, found) = connector.wait_for_adapter(&mut patience, stop)?;
    report.adapter = Some(found.guid.clone());
    let limits = limits(&found)?;
    if options.skip_unsendable {
        prepared.check_any(limits)?;
    } else {
        prepared.check(Some(limits))?;
    }
    let device = connector.bind_first(device, &found, &mut patience, stop)?;
    let mut supply = prepared.supply()?;
    report.total = supply.total();
    let mut view =
        View { bar: bar(arguments, report.total), outcomes, first_failure: None, quiet: arguments.quiet };
    let began = Instant::now();
    let how = Options {
        batch: options.batch as usize,
        depth: options.depth as usize,
        skip: options.skip_unsendable,
        wait: options.wait(),
    };
    let connection = Connection { device, limits };
    let (sums, error) = run::run(connection, supply.as_mut(), &mut connector, how, stop, &mut view);
    report.elapsed = began.elapsed();
    if let Some(bar) = &view.bar {
        bar.finish_and_clear();
    }
    report.first_failure = view.first_failure;
    let nothing = sums.totals.submitted == 0 && sums.skipped != 0 && !stop.is_stopped();
    report.sums = sums;
    report.error = error;
    if let Some(outcomes) = view.outcomes {
        outcomes.finish()?;
    }
    if nothing && report.error.is_none() {
        return Err(Error::Input(format!("{}: there are no frames to send", supply.name())));
    }
    Ok(())
}

fn prepare(options: &SendArguments, stop: &Stop) -> Result<Prepared, Error> {
    match (&options.hex, &options.file) {
        (Some(text), _) => Ok(Prepared::one(frame_of_hex(text)?, options.times())),
        (None, Some(file)) => Prepared::open(file, options.times(), stop),
        (None, None) => Err(Error::Usage("there is nothing to send".to_owned())),
    }
}

fn frame_of_hex(given: &str) -> Result<Vec<u8>, Error> {
    if given != "-" {
        return hex::frame(given);
    }
    let failed = |error: std::io::Error| Error::Input(format!("standard input: {error}"));
    let mut bytes = Vec::new();
    std::io::stdin().take(hex::LONGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > hex::LONGEST {
        return Err(Error::Input("standard input: this is too long for one frame".to_owned()));
    }
    let text =
        String::from_utf8(bytes).map_err(|_| Error::Input("standard input: this is no text".to_owned()))?;
    hex::frame(&text)
}

/// What the driver takes for an adapter.
fn limits(found: &Adapter) -> Result<Limits, Error> {
    if found.mtu == 0 { Err(Error::NoMtu(text::clean(&found.name))) } else { Ok(Limits::of_mtu(found.mtu)) }
}

/// Finds and binds the adapter, the first time and again.
struct Connector<'a> {
    arguments: &'a Arguments,
    wanted: String,
    /// The adapter that was found once, which no other replaces.
    found: Option<Adapter>,
    bind_timeout: Duration,
}

impl Connector<'_> {
    fn find(&mut self) -> Result<(Box<dyn Device>, Adapter), Error> {
        let device = open(self.arguments)?;
        let wanted = self.found.as_ref().map_or(&self.wanted, |found| &found.guid);
        let found = adapter::find(device.as_ref(), wanted)?;
        limits(&found)?;
        self.found = Some(found.clone());
        Ok((device, found))
    }

    /// Finds the adapter, and waits for it if it is away.
    fn wait_for_adapter(
        &mut self,
        patience: &mut Patience,
        stop: &Stop,
    ) -> Result<(Box<dyn Device>, Adapter), Error> {
        loop {
            if stop.is_stopped() {
                return Err(Error::Stopped);
            }
            match self.find() {
                Err(error) if error.is_absence() && !patience.is_over() => {}
                other => return other,
            }
            let step = patience.poll(POLL);
            std::thread::sleep(step);
            patience.spend(step);
        }
    }

    /// Binds a handle; without an absence before it, its limit is its own.
    fn bind(
        &self,
        device: &dyn Device,
        found: &Adapter,
        limit: Duration,
        stop: &Stop,
    ) -> (Duration, Result<(), Error>) {
        let mut patience = Patience::new(limit.min(self.bind_timeout));
        let bound = adapter::bind_within(device, found, &mut patience, stop);
        (patience.spent(), bound)
    }

    /// Binds the handle of the first look, or another one if the adapter goes away meanwhile.
    fn bind_first(
        &mut self,
        mut device: Box<dyn Device>,
        found: &Adapter,
        patience: &mut Patience,
        stop: &Stop,
    ) -> Result<Box<dyn Device>, Error> {
        loop {
            match self.bind(device.as_ref(), found, Duration::MAX, stop).1 {
                Ok(()) => return Ok(device),
                Err(error) if error.is_absence() && !patience.is_over() => {}
                Err(error) => return Err(error),
            }
            patience.spend(POLL);
            std::thread::sleep(POLL);
            device = self.wait_for_adapter(patience, stop)?.0;
        }
    }
}

impl Connect for Connector<'_> {
    fn connect(&mut self, patience: &mut Patience, stop: &Stop) -> Result<Connection, Error> {
        let (device, found) = self.find()?;
        let (spent, bound) = self.bind(device.as_ref(), &found, patience.left(), stop);
        patience.spend(spent);
        bound?;
        Ok(Connection { device, limits: limits(&found)? })
    }

    fn limits(&mut self, device: &dyn Device) -> Result<Limits, Error> {
        let wanted = self.found.as_ref().map_or(&self.wanted, |found| &found.guid);
        limits(&adapter::find(device, wanted)?)
    }

    fn name(&self) -> String {
        text::clean(self.found.as_ref().map_or(&self.wanted, |found| &found.name))
    }
}

fn bar(arguments: &Arguments, total: Option<u64>) -> Option<ProgressBar> {
    if arguments.quiet || !std::io::stderr().is_terminal() {
        return None;
    }
    let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let template = if total.is_some() {
        "{bar:40} {pos}/{len} frames, {per_sec} {msg}"
    } else {
        "{spinner} {pos} frames, {per_sec} {msg}"
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    Some(bar)
}

/// What a person sees while frames are sent, and the file of outcomes.
struct View {
    bar: Option<ProgressBar>,
    outcomes: Option<Outcomes>,
    first_failure: Option<Outcome>,
    quiet: bool,
}

impl Observer for View {
    fn frame(&mut self, number: u64, what: Final) -> Result<(), Error> {
        if let Final::Answered(outcome @ Outcome::Failed(_)) = what {
            self.first_failure.get_or_insert(outcome);
        }
        self.outcomes.as_mut().map_or(Ok(()), |outcomes| outcomes.note(number, what))
    }

    fn progress(&mut self, sums: &Sums) -> Result<(), Error> {
        if let Some(bar) = &self.bar {
            bar.set_position(sums.totals.submitted + sums.skipped);
        }
        self.outcomes.as_mut().map_or(Ok(()), Outcomes::flush)
    }

    fn stage(&mut self, stage: Stage, outstanding: u64) {
        let message = match stage {
            Stage::Draining if outstanding != 0 => {
                format!("stopping: {outstanding} frames are outstanding; Ctrl-C again cancels them")
            }
            Stage::Cancelling if outstanding != 0 => {
                format!("cancelling {outstanding} frames; Ctrl-C again does not wait for them")
            }
            _ => return,
        };
        if self.quiet {
            return;
        }
        match &self.bar {
            Some(bar) => bar.set_message(message),
            None => complain(&message),
        }
    }

    fn waiting(&mut self, waiting: bool) {
        if let Some(bar) = &self.bar {
            bar.set_message(if waiting { "waiting for the adapter" } else { "" });
        }
    }
}

/// Each Ctrl-C stops the run further.
fn press_on_interrupt(stop: &Stop) {
    let stop = stop.clone();
    let handler = move || {
        if stop.press() == Stage::Gone {
            // The run ends by itself, unless it waits for what does not come: a pipe, or a handle's last request.
            std::thread::spawn(|| {
                std::thread::sleep(LAST_WORDS);
                std::process::exit(i32::from(Error::Stopped.exit_code()));
            });
        }
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        complain(&format!("Ctrl-C will not print totals: {error}"));
    }
}

/// Shows the frames, and why some cannot be sent.
fn dry_run(arguments: &Arguments, options: &SendArguments) -> Result<u8, Error> {
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
            Err(fault @ sluice_client::capture::Fault::Cut(_)) => {
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
