//! Event tracing: providers of drivers, and the events that they write.
use std::cell::{Cell, RefCell};
use std::fmt;

use rustc_hash::FxHashMap;
use serde::Serialize;

use super::{Call, Function, function};
use crate::image::Image;
use crate::machine::Machine;
use crate::memory::{self, get, put};
use crate::rule;

pub(super) const FUNCTIONS: &[Function] = &[
    function!("EtwRegister", 4, Apc, register),
    function!("EtwUnregister", 1, Apc, |machine, call| {
        machine.checked();
        if machine.kernel.etw.providers.borrow_mut().remove(&call.arg(0)).is_none() {
            let text = "EtwUnregister is given what is no registration";
            machine.stop(&rule::ETW_HANDLE, [call.arg(0), 0, 0], text);
        }
        0
    }),
    function!("EtwWrite", 5, Any, |machine, call| written(machine, call, 3)),
    function!("EtwWriteTransfer", 6, Any, |machine, call| written(machine, call, 4)),
    function!("EtwWriteEx", 8, Any, |machine, call| written(machine, call, 6)),
    function!("EtwSetInformation", 4, Dispatch, |_, _| 0),
    function!("EtwEventEnabled", 2, Any, |machine, call| {
        let descriptor = call.arg(1);
        u64::from(listens(machine, get(descriptor + LEVEL), get(descriptor + KEYWORD)))
    }),
    function!("EtwProviderEnabled", 3, Any, |machine, call| {
        u64::from(listens(machine, call.arg(1) as u8, call.arg(2)))
    }),
];

/// Offsets in an `EVENT_DESCRIPTOR`.
const LEVEL: u64 = 4;
const KEYWORD: u64 = 8;
/// Bytes of an `EVENT_DATA_DESCRIPTOR`, and offsets in it.
const DATA: u64 = 16;
const DATA_SIZE: u64 = 8;
const DATA_TYPE: u64 = 12;
/// `EVENT_DATA_DESCRIPTOR_TYPE_EVENT_METADATA`, `EVENT_DATA_DESCRIPTOR_TYPE_PROVIDER_METADATA`.
const EVENT_METADATA: u8 = 1;
const PROVIDER_METADATA: u8 = 2;
/// `EVENT_CONTROL_CODE_ENABLE_PROVIDER`.
const ENABLE: u64 = 1;

/// Who listens: to events up to a level, with any of some keywords.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// 1 critical to 5 verbose.
    pub level: u8,
    /// Bits, one of which an event must have; events without a keyword always come.
    pub keywords: u64,
    /// Prints events on standard error as they come.
    pub print: bool,
}

/// An event that a driver wrote, decoded from its own metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Simulated microseconds since the start.
    pub microseconds: u64,
    /// Processor.
    pub processor: usize,
    /// IRQL.
    pub irql: u8,
    /// Name of the provider.
    pub provider: String,
    /// Name of the event.
    pub name: String,
    /// Level.
    pub level: u8,
    /// Keywords.
    pub keyword: u64,
    /// Fields in order, as text.
    pub fields: Vec<(String, String)>,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { microseconds, processor, irql, provider, name, level, .. } = self;
        write!(f, "{microseconds:>10} us cpu{processor} irql{irql} {provider}/{name} level {level}")?;
        self.fields.iter().try_for_each(|(field, value)| write!(f, " {field}={value}"))
    }
}

/// Registrations by handle, with who made them, and what was written.
#[derive(Debug, Default)]
pub(crate) struct Etw {
    providers: RefCell<FxHashMap<u64, u64>>,
    next: Cell<u64>,
    written: Cell<u64>,
    events: RefCell<Vec<Event>>,
}

impl Etw {
    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.borrow().clone()
    }

    pub(crate) fn written(&self) -> u64 {
        self.written.get()
    }
}

fn listens(machine: &Machine, level: u8, keyword: u64) -> bool {
    machine
        .configuration
        .etw
        .is_some_and(|session| level <= session.level && (keyword == 0 || keyword & session.keywords != 0))
}

/// Whoever listens already is told to the new provider's callback before this returns, as ETW may.
fn register(machine: &Machine, call: &Call<'_>) -> u64 {
    let etw = &machine.kernel.etw;
    let handle = etw.next.get() + 1;
    etw.next.set(handle);
    etw.providers.borrow_mut().insert(handle, call.caller());
    put::<u64>(call.arg(3), handle);
    let (id, callback, context) = (call.arg(0), call.arg(1), call.arg(2));
    if let Some(session) = machine.configuration.etw
        && callback != 0
    {
        machine.call(callback, &[id, ENABLE, u64::from(session.level), session.keywords, 0, 0, context]);
    }
    0
}

/// An event: `count` is the number of the argument that says how many pieces of data follow.
fn written(machine: &Machine, call: &Call<'_>, count: usize) -> u64 {
    let etw = &machine.kernel.etw;
    etw.written.set(etw.written.get() + 1);
    let descriptor = call.arg(1);
    let (level, keyword) = (get::<u8>(descriptor + LEVEL), get::<u64>(descriptor + KEYWORD));
    let Some(session) = machine.configuration.etw.filter(|_| listens(machine, level, keyword)) else {
        return 0;
    };
    let pieces: Vec<(u8, Vec<u8>)> = (0..u64::from(call.arg32(count)))
        .map(|index| {
            let piece = call.arg(count + 1) + index * DATA;
            let bytes = memory::bytes(get(piece), get::<u32>(piece + DATA_SIZE) as usize);
            (get::<u8>(piece + DATA_TYPE), bytes)
        })
        .collect();
    let of = |kind: u8| pieces.iter().find(|(found, _)| *found == kind).map(|(_, bytes)| bytes.as_slice());
    let data: Vec<&[u8]> =
        pieces.iter().filter(|(kind, _)| *kind == 0).map(|(_, bytes)| bytes.as_slice()).collect();
    let (name, fields) = decode(of(EVENT_METADATA).unwrap_or_default(), &data);
    let event = Event {
        microseconds: machine.microseconds(),
        processor: machine.scheduler.processor(),
        irql: machine.scheduler.irql(),
        provider: of(PROVIDER_METADATA).map_or_else(String::new, |traits| zero_ended(traits.get(2..)).0),
        name,
        level,
        keyword,
        fields,
    };
    if session.print {
        eprintln!("{event}");
    }
    etw.events.borrow_mut().push(event);
    0
}

/// Text up to its zero, and what follows.
fn zero_ended(bytes: Option<&[u8]>) -> (String, &[u8]) {
    let bytes = bytes.unwrap_or_default();
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned();
    (text, bytes.get(end + 1..).unwrap_or_default())
}

/// What follows bytes of which all but the last have their top bit set.
fn after_tags(bytes: &[u8]) -> &[u8] {
    let tags = bytes.iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
    bytes.get(tags..).unwrap_or_default()
}

/// An event's name and fields, from the metadata that it carries (`TraceLoggingProvider.h`): size, tags, name, and for
/// each field its name, the type of its data and, where a bit says so, how to show it.
fn decode(metadata: &[u8], data: &[&[u8]]) -> (String, Vec<(String, String)>) {
    let (name, mut rest) = zero_ended(metadata.get(2..).map(after_tags));
    let mut fields = Vec::new();
    let mut data = data.iter();
    while !rest.is_empty() {
        let (field, after) = zero_ended(Some(rest));
        let Some((kind, after)) = after.split_first() else { break };
        rest = after;
        let mut shown = 0;
        if kind & 0x80 != 0
            && let Some((format, after)) = rest.split_first()
        {
            shown = format & 0x7F;
            rest = if format & 0x80 == 0 { after } else { after_tags(after) };
        }
        let value = data.next().map_or_else(String::new, |bytes| value(kind & 0x7F, shown, bytes));
        fields.push((field, value));
    }
    (name, fields)
}

/// A field's value as text.
fn value(kind: u8, shown: u8, bytes: &[u8]) -> String {
    /// `TlgInHEXINT32`, `TlgInHEXINT64`; `TlgOutHEX`, `TlgOutBOOLEAN`.
    const HEX: [u8; 2] = [20, 21];
    const SHOWN_HEX: u8 = 4;
    const SHOWN_BOOLEAN: u8 = 3;
    let mut wide = [0; 8];
    let length = bytes.len().min(8);
    for (place, byte) in wide.iter_mut().zip(bytes) {
        *place = *byte;
    }
    let number = u64::from_le_bytes(wide);
    match kind {
        1 => {
            let units: Vec<u16> = bytes
                .chunks_exact(2)
                .filter_map(|pair| pair.try_into().map(u16::from_le_bytes).ok())
                .collect();
            String::from_utf16_lossy(&units).trim_end_matches('\0').to_owned()
        }
        2 => zero_ended(Some(bytes)).0,
        _ if shown == SHOWN_BOOLEAN => (number != 0).to_string(),
        _ if HEX.contains(&kind) || shown == SHOWN_HEX => format!("{number:#x}"),
        // Signed ones have odd numbers.
        3 | 5 | 7 | 9 => {
            let unused = 64 - 8 * length as u32;
            ((number << unused).cast_signed() >> unused).to_string()
        }
        4 | 6 | 8 | 10 => number.to_string(),
        _ => format!("{bytes:02x?}"),
    }
}

/// An image is about to go: its providers are unregistered.
pub(super) fn check_unload(machine: &Machine, image: &Image) {
    machine.checked();
    let providers = machine.kernel.etw.providers.borrow();
    let left =
        providers.iter().find(|(_, caller)| image.contains(**caller)).map(|(at, caller)| (*at, *caller));
    drop(providers);
    if let Some((handle, caller)) = left {
        let text = "A driver is unloaded without unregistering its ETW provider";
        machine.stop(&rule::ETW_LEFT, [caller, image.base, handle], text);
    }
    super::mdl::check_left(machine, image);
}
