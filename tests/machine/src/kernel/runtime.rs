//! C runtime and debug output.
use std::fmt::Write;

use super::{Call, Function, function};
use crate::machine::Machine;
use crate::memory::{bytes, get, put_bytes};

pub(super) const FUNCTIONS: &[Function] = &[
    function!("memcpy", Any, |_, call| {
        put_bytes(call.arg(0), &bytes(call.arg(1), call.arg(2) as usize));
        call.arg(0)
    }),
    function!("memmove", Any, |_, call| {
        put_bytes(call.arg(0), &bytes(call.arg(1), call.arg(2) as usize));
        call.arg(0)
    }),
    function!("memset", Any, |_, call| {
        put_bytes(call.arg(0), &vec![call.arg(1) as u8; call.arg(2) as usize]);
        call.arg(0)
    }),
    function!("memcmp", Any, |_, call| {
        let length = call.arg(2) as usize;
        bytes(call.arg(0), length).cmp(&bytes(call.arg(1), length)) as i64 as u64
    }),
    function!("DbgPrint", Any, print),
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
    let format = c_string(call.arg(0));
    let mut text = String::new();
    let mut next = 1;
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
