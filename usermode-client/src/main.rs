//! `sluice`: sends Ethernet frames through a network adapter.
mod arguments;
mod connect;
mod dry;
mod output;
mod report;
mod sending;

use std::fmt::Write;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use serde_json::json;
use sluice_abi::{MEMORY_ADAPTER, MEMORY_HAL, MEMORY_NONPAGED, Statistics};
use sluice_client::device::{Device, Driver};
use sluice_client::{Error, adapter, text};

use arguments::{Arguments, Verb};
use output::{complain, print};

/// Version of the JSON that this program prints.
const JSON_VERSION: u32 = 1;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let result = match &arguments.verb {
        Verb::List => list(&arguments),
        Verb::Send(options) => sending::send(&arguments, options),
        Verb::Stats { adapter } => stats(&arguments, adapter),
    };
    ExitCode::from(result.unwrap_or_else(|error| failed(&arguments, &error)))
}

/// Tells an error on standard error, and as an object if that was asked for; returns the exit code.
fn failed(arguments: &Arguments, error: &Error) -> u8 {
    complain(&error.to_string());
    let code = error.exit_code();
    if !arguments.json {
        return code;
    }
    print(&format!("{}\n", error_object(&error.to_string(), code)))
        .map_or_else(|error| output_failed(&error), |()| code)
}

fn error_object(text: &str, code: u8) -> serde_json::Value {
    json!({ "version": JSON_VERSION, "error": text, "exit_code": code })
}

/// What the program prints cannot be written, its errors included.
fn output_failed(error: &Error) -> u8 {
    complain(&error.to_string());
    error.exit_code()
}

/// Usage errors, help and the version; usage errors are objects too if that was asked for.
fn usage(error: &clap::Error) -> ExitCode {
    let code = error.exit_code() as u8;
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let printed = print(&error.render().to_string());
        return ExitCode::from(printed.map_or_else(|error| output_failed(&error), |()| code));
    }
    // Nothing can be done about a standard error that is closed.
    let _ = error.print();
    // The arguments could not be parsed, so `--json` is looked for among them; behind `--` it would be a name.
    let json =
        std::env::args_os().take_while(|argument| argument != "--").any(|argument| argument == "--json");
    if json {
        let text = error.render().to_string();
        let first = text.split("\n\n").next().unwrap_or_default();
        let text = first.strip_prefix("error: ").unwrap_or(first).trim();
        let printed = print(&format!("{}\n", error_object(text, code)));
        return ExitCode::from(printed.map_or_else(|error| output_failed(&error), |()| code));
    }
    ExitCode::from(code)
}

#[cfg(windows)]
fn driver(arguments: &Arguments) -> Result<Box<dyn Driver>, Error> {
    if arguments.machine.is_some() {
        return Err(Error::Usage(
            "--machine is for Linux; on Windows the driver of this computer is used".to_owned(),
        ));
    }
    Ok(Box::new(sluice_client::windows::Local))
}

#[cfg(unix)]
fn driver(arguments: &Arguments) -> Result<Box<dyn Driver>, Error> {
    match &arguments.machine {
        Some(socket) => Ok(Box::new(sluice_client::machine::Machine { socket: socket.clone() })),
        None => Err(Error::Usage(
            "the driver runs on Windows; name a simulated machine with --machine PATH, see: cargo xtask machine run"
                .to_owned(),
        )),
    }
}

fn open(arguments: &Arguments) -> Result<Box<dyn Device>, Error> {
    let device = driver(arguments)?.open()?;
    adapter::version(device.as_ref())?;
    Ok(device)
}

fn list(arguments: &Arguments) -> Result<u8, Error> {
    let adapters = adapter::list(open(arguments)?.as_ref())?;
    if arguments.json {
        print(&format!("{}\n", json!({ "version": JSON_VERSION, "adapters": adapters })))?;
        return Ok(0);
    }
    let aliases = adapters.iter().any(|adapter| adapter.alias.is_some());
    let mut rows = vec![["INDEX", "ALIAS", "NAME", "MAC", "MTU", "STATE", "GUID"].map(str::to_owned)];
    for adapter in adapters {
        let alias = text::clean(adapter.alias.as_deref().unwrap_or_default());
        let mtu = if adapter.mtu == 0 { "-".to_owned() } else { adapter.mtu.to_string() };
        let (index, name) = (adapter.index.to_string(), text::clean(&adapter.name));
        rows.push([index, alias, name, adapter.mac, mtu, adapter.state.to_owned(), adapter.guid]);
    }
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let (alias, name) = (width(1), width(2));
    let mut text = String::new();
    for [index, known_as, called, mac, mtu, state, guid] in &rows {
        let known_as = if aliases { format!("{known_as:alias$}  ") } else { String::new() };
        let _ =
            writeln!(text, "{index:>5}  {known_as}{called:name$}  {mac:17}  {mtu:>5}  {state:10}  {guid}");
    }
    print(&text)?;
    Ok(0)
}

fn stats(arguments: &Arguments, wanted: &str) -> Result<u8, Error> {
    let device = open(arguments)?;
    let found = adapter::find(device.as_ref(), wanted)?;
    let statistics = adapter::statistics(device.as_ref(), &found)?;
    let rows = rows(&statistics);
    if arguments.json {
        let mut object = serde_json::Map::new();
        object.insert("version".to_owned(), JSON_VERSION.into());
        object.insert("adapter".to_owned(), json!(found));
        object.extend(rows.into_iter().map(|(name, value)| (name.to_owned(), value)));
        print(&format!("{}\n", serde_json::Value::from(object)))?;
        return Ok(0);
    }
    let mut text = String::new();
    for (name, value) in rows {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let _ = writeln!(text, "{:18} {value}", name.replace('_', " "));
    }
    print(&text)?;
    Ok(0)
}

fn rows(statistics: &Statistics) -> Vec<(&'static str, serde_json::Value)> {
    let memory = match statistics.memory {
        MEMORY_ADAPTER => "common buffer of the adapter",
        MEMORY_HAL => "common buffer of the HAL",
        MEMORY_NONPAGED => "nonpaged memory",
        _ => "none",
    };
    vec![
        ("state", adapter::state_name(statistics.state).into()),
        ("frames_submitted", statistics.frames_submitted.into()),
        ("frames_sent", statistics.frames_sent.into()),
        ("frames_paused", statistics.frames_paused.into()),
        ("frames_failed", statistics.frames_failed.into()),
        ("frames_in_flight", statistics.frames_in_flight.into()),
        ("frames_waiting", statistics.frames_waiting.into()),
        ("bytes_sent", statistics.bytes_sent.into()),
        ("requests", statistics.requests.into()),
        ("pauses", statistics.pauses.into()),
        ("pauses_pending", statistics.pauses_pending.into()),
        ("passed_through", statistics.passed_through.into()),
        ("slots", statistics.slots.into()),
        ("memory", memory.into()),
    ]
}
