//! The verb `send`.
use std::io::{IsTerminal, Read};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use sluice_client::outcomes::{Final, Outcomes};
use sluice_client::patience::Patience;
use sluice_client::run::{self, Connection, Observer, Options, Sums};
use sluice_client::send::Outcome;
use sluice_client::stop::{Stage, Stop};
use sluice_client::supply::Prepared;
use sluice_client::{Error, hex};

use crate::arguments::{Arguments, SendArguments};
use crate::connect::{Connector, limits};
use crate::dry::dry_run;
use crate::output::{complain, print};
use crate::report::Report;

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
    } else if report.started {
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
    let capture = options.file.as_deref();
    let outcomes = options.outcomes.as_deref().map(|path| Outcomes::create(path, capture)).transpose()?;
    let mut connector = Connector::new(arguments, options);
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
    report.started = true;
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

pub(crate) fn frame_of_hex(given: &str) -> Result<Vec<u8>, Error> {
    let read =
        |name: &str, text: &str| hex::frame(text).map_err(|error| Error::Input(format!("{name}: {error}")));
    if given != "-" {
        return read("--hex", given);
    }
    let failed = |error: std::io::Error| Error::Input(format!("standard input: {error}"));
    let mut bytes = Vec::new();
    std::io::stdin().take(hex::LONGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > hex::LONGEST {
        return Err(Error::Input("standard input: too long for one frame".to_owned()));
    }
    let text =
        String::from_utf8(bytes).map_err(|_| Error::Input("standard input: not UTF-8 text".to_owned()))?;
    read("standard input", &text)
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
