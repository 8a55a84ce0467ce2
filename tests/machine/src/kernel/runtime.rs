//! C runtime and debug output.
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use super::{Call, Function, function};
use crate::machine::Machine;
use crate::memory::{bytes, copy, fill_bytes, get};
use crate::rule;

pub(super) const FUNCTIONS: &[Function] = &[
    function!("memcpy", 3, Any, |machine, call| {
        let (to, from, length) = (call.arg(0), call.arg(1), call.arg(2));
        if to != from && to < from + length && from < to + length {
            let text = "memcpy is given ranges that overlap";
            machine.stop(&rule::MEMCPY_OVERLAP, [to, from, length], text);
        }
        machine.scheduler.copied(length);
        copy(to, from, length as usize);
        to
    }),
    function!("memmove", 3, Any, |machine, call| {
        machine.scheduler.copied(call.arg(2));
        copy(call.arg(0), call.arg(1), call.arg(2) as usize);
        call.arg(0)
    }),
    function!("memset", 3, Any, |machine, call| {
        machine.scheduler.copied(call.arg(2));
        fill_bytes(call.arg(0), call.arg(1) as u8, call.arg(2) as usize);
        call.arg(0)
    }),
    function!("memcmp", 3, Any, |_, call| {
        let length = call.arg(2) as usize;
        bytes(call.arg(0), length).cmp(&bytes(call.arg(1), length)) as i64 as u64
    }),
    // Compilers call it for structured exceptions, of which the machine raises none that a driver may handle.
    function!("__C_specific_handler", 4, Any, |_, _| 1),
    function!("strlen", 1, Any, |_, call| c_string(call.arg(0)).len() as u64),
    function!("DbgPrint", 1, Any, print),
    function!("DbgPrintEx", 3, Any, print),
];

/// Length of a C string.
fn c_string(address: u64) -> Vec<u8> {
    let mut text = Vec::new();
    let mut at = address;
    loop {
        match get::<u8>(at) {
            0 => return text,
            byte => text.push(byte),
        }
        at += 1;
    }
}

/// `DbgPrint`, for the conversions that drivers of today use: `%s`, `%d`, `%u`, `%x`, `%p` and `%%`.
fn print(machine: &Machine, call: &Call<'_>) -> u64 {
    // DbgPrintEx has a component and a level before the format.
    let first = call.function.arguments - 1;
    let format = c_string(call.arg(first));
    let mut text = String::new();
    let mut next = first + 1;
    let mut at = format.iter().copied();
    while let Some(byte) = at.next() {
        if byte != b'%' {
            text.push(char::from(byte));
            continue;
        }
        let conversion =
            at.by_ref().find(|byte| byte.is_ascii_alphabetic() && !b"lhIz".contains(byte) || *byte == b'%');
        let value = call.arg(next);
        next += usize::from(conversion != Some(b'%'));
        // Writing to a string does not fail.
        let mut append = |value: std::fmt::Arguments<'_>| {
            let _ = text.write_fmt(value);
        };
        match conversion {
            Some(b's') => append(format_args!("{}", String::from_utf8_lossy(&c_string(value)))),
            Some(b'd' | b'i') => append(format_args!("{}", value as i32)),
            Some(b'u') => append(format_args!("{}", value as u32)),
            Some(b'x' | b'X') => append(format_args!("{:x}", value as u32)),
            Some(b'p') => append(format_args!("{value:016x}")),
            Some(_) => append(format_args!("%")),
            None => {}
        }
    }
    if machine.echo_debug_output.get() {
        eprint!("{text}");
    }
    machine.debug_output.borrow_mut().push(text);
    0
}

/// Variables that drivers import.
pub(super) const DATA: [&str; 5] = [
    "NtBuildNumber",
    "MmHighestUserAddress",
    "MmUserProbeAddress",
    "MmSystemRangeStart",
    "PsInitialSystemProcess",
];
/// What they hold on x64, with the build to be filled in.
const VALUES: [u64; 5] =
    [0xF000_0000, 0x0000_7FFF_FFFE_FFFF, 0x0000_7FFF_FFFF_0000, 0xFFFF_8000_0000_0000, 0xFFFF_B000_0000_0040];

/// The address of a variable.
pub(super) fn data(name: &str) -> Option<u64> {
    /// One for each build, since drivers keep their addresses.
    static PLACES: Mutex<BTreeMap<u32, &'static [u64; 5]>> = Mutex::new(BTreeMap::new());
    let place = DATA.iter().position(|known| *known == name)?;
    let build = crate::machine::try_current().map_or(0, crate::machine::Machine::build);
    let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
    let values = places.entry(build).or_insert_with(|| {
        let mut values = VALUES;
        values[0] |= u64::from(build);
        Box::leak(Box::new(values))
    });
    values.get(place).map(|value| std::ptr::from_ref(value) as u64)
}
