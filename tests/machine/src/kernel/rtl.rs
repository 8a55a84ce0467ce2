//! `Rtl…` strings and memory, the registry's parameters of a service, and functions found by name.
use std::cmp::Ordering;

use super::work::zw;
use super::{Call, Function, function};
use crate::memory::{bytes, copy, fill_bytes, get, put, text};

pub(super) const FUNCTIONS: &[Function] = &[
    function!("RtlInitUnicodeString", 2, Any, |_, call| {
        let length = if call.arg(1) == 0 { 0 } else { wide_length(call.arg(1)) };
        put::<u16>(call.arg(0), length);
        put::<u16>(call.arg(0) + 2, if call.arg(1) == 0 { 0 } else { length + 2 });
        put::<u64>(call.arg(0) + 8, call.arg(1));
        0
    }),
    function!("RtlCopyUnicodeString", 2, Dispatch, |_, call| {
        let (to, from) = (call.arg(0), call.arg(1));
        let length = if from == 0 { 0 } else { get::<u16>(from).min(get::<u16>(to + 2)) };
        if length != 0 {
            copy(get(to + 8), get(from + 8), usize::from(length));
        }
        put::<u16>(to, length);
        0
    }),
    function!("RtlAppendUnicodeStringToString", 2, Dispatch, |_, call| {
        let (to, from) = (call.arg(0), call.arg(1));
        append(to, get(from + 8), get(from))
    }),
    function!("RtlAppendUnicodeToString", 2, Dispatch, |_, call| append(
        call.arg(0),
        call.arg(1),
        wide_length(call.arg(1))
    )),
    function!("RtlEqualUnicodeString", 3, Passive, |_, call| u64::from(compare(call) == Ordering::Equal)),
    function!("RtlCompareUnicodeString", 3, Passive, |_, call| compare(call) as i64 as u64),
    function!("RtlCompareMemory", 3, Any, |_, call| {
        let length = call.arg(2) as usize;
        let (first, second) = (bytes(call.arg(0), length), bytes(call.arg(1), length));
        first.iter().zip(&second).take_while(|(one, other)| one == other).count() as u64
    }),
    function!("RtlGetVersion", 1, Passive, |machine, call| {
        // RTL_OSVERSIONINFOW. Windows 10 and 11 are both version 10.0; 8 and 8.1 are 6.2 and 6.3.
        let build = machine.build();
        let (major, minor) = match build {
            10240.. => (10, 0),
            9600.. => (6, 3),
            9200.. => (6, 2),
            7600.. => (6, 1),
            _ => (6, 0),
        };
        put::<u32>(call.arg(0) + 4, major);
        put::<u32>(call.arg(0) + 8, minor);
        put::<u32>(call.arg(0) + 12, build);
        put::<u32>(call.arg(0) + 16, 2);
        0
    }),
    function!("RtlRandomEx", 1, Apc, |machine, _| machine.scheduler.choose(0x7FFF_FFFF)),
    function!("RtlZeroMemory", 2, Any, |_, call| {
        fill_bytes(call.arg(0), 0, call.arg(1) as usize);
        0
    }),
    function!("RtlDeleteRegistryValue", 3, Passive, IRQL_RTL, |_, _| u64::from(NAME_NOT_FOUND)),
    function!("RtlQueryRegistryValues", 5, Passive, |_, _| u64::from(NAME_NOT_FOUND)),
    function!("ZwOpenKey", 3, Passive, IRQL_ZW, |machine, call| {
        zw(machine, call);
        // A service has no parameters here, and no key for them.
        u64::from(NAME_NOT_FOUND)
    }),
    function!("ZwQueryValueKey", 6, Passive, IRQL_ZW, |machine, call| {
        zw(machine, call);
        u64::from(NAME_NOT_FOUND)
    }),
    function!("MmGetSystemRoutineAddress", 1, Passive, |machine, call| {
        super::routine_address(machine, &text(call.arg(0)))
    }),
];

/// `STATUS_OBJECT_NAME_NOT_FOUND`, `STATUS_BUFFER_TOO_SMALL`.
const NAME_NOT_FOUND: u32 = 0xC000_0034;
const BUFFER_TOO_SMALL: u32 = 0xC000_0023;

/// Bytes of a UTF-16 string that ends with 0.
fn wide_length(address: u64) -> u16 {
    let mut length = 0;
    while get::<u16>(address + u64::from(length)) != 0 {
        length += 2;
    }
    length
}

fn append(to: u64, from: u64, length: u16) -> u64 {
    let (used, room) = (get::<u16>(to), get::<u16>(to + 2));
    if room - used < length {
        return u64::from(BUFFER_TOO_SMALL);
    }
    copy(get::<u64>(to + 8) + u64::from(used), from, usize::from(length));
    put::<u16>(to, used + length);
    0
}

fn compare(call: &Call<'_>) -> Ordering {
    let (mut first, mut second) = (text(call.arg(0)), text(call.arg(1)));
    if call.arg(2) as u8 != 0 {
        first = first.to_uppercase();
        second = second.to_uppercase();
    }
    first.cmp(&second)
}
