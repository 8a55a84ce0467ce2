//! Lookaside lists. Blocks go to pool and come from it each time, so that the rules of pool hold for each block.
use std::cell::RefCell;

use rustc_hash::FxHashMap;

use super::{Call, Function, function};
use crate::machine::Machine;
use crate::memory::{get, put};
use crate::rule;

pub(super) const FUNCTIONS: &[Function] = &[
    function!("ExInitializeLookasideListEx", 8, Dispatch, |machine, call| {
        let paged = call.arg32(3) & 1 != 0;
        initialize(machine, call.arg(0), call.arg(5), call.arg32(6), paged, (call.arg(1), call.arg(2)));
        0
    }),
    function!("ExDeleteLookasideListEx", 1, Dispatch, delete),
    function!("ExAllocateFromLookasideListEx", 1, Dispatch, allocate),
    function!("ExFreeToLookasideListEx", 2, Dispatch, free),
    function!("ExInitializeNPagedLookasideList", 7, Dispatch, |machine, call| {
        initialize(machine, call.arg(0), call.arg(4), call.arg32(5), false, (call.arg(1), call.arg(2)));
        0
    }),
    function!("ExDeleteNPagedLookasideList", 1, Dispatch, delete),
    function!("ExInitializePagedLookasideList", 7, Apc, IRQL_PAGED_LOOKASIDE, |machine, call| {
        initialize(machine, call.arg(0), call.arg(4), call.arg32(5), true, (call.arg(1), call.arg(2)));
        0
    }),
    function!("ExDeletePagedLookasideList", 1, Apc, IRQL_PAGED_LOOKASIDE, delete),
];

/// Offsets in a `GENERAL_LOOKASIDE`: the routines that its inline functions call when the list is empty or full,
/// its tag and size.
const POOL_TYPE: u64 = 0x24;
const TAG: u64 = 0x28;
const SIZE: u64 = 0x2C;
const ALLOCATE: u64 = 0x30;
const FREE: u64 = 0x38;
/// Bytes of a list.
const LENGTH: u64 = 0x60;
/// The least size of a block: its links.
const LEAST: u64 = 8;
/// `PagedPool`, `NonPagedPoolNx`.
const PAGED: u32 = 1;
const NONPAGED_NX: u32 = 512;

#[derive(Clone, Copy, Debug)]
struct List {
    size: u64,
    tag: u32,
    paged: bool,
    routines: (u64, u64),
}

/// Lists that are initialised, by address.
#[derive(Debug, Default)]
pub(crate) struct Lookasides {
    lists: RefCell<FxHashMap<u64, List>>,
}

fn initialize(machine: &Machine, list: u64, size: u64, tag: u32, paged: bool, routines: (u64, u64)) {
    machine.checked();
    if size < LEAST {
        let text = format!("A lookaside list has blocks of {size} bytes");
        machine.stop(&rule::LOOKASIDE_SMALL, [list, size, LEAST], text);
    }
    let entry = |routine: u64, name: &str| {
        if routine == 0 { super::entry_of(name).unwrap_or(0) } else { routine }
    };
    for offset in (0..LENGTH).step_by(8) {
        put::<u64>(list + offset, 0);
    }
    put::<u32>(list + POOL_TYPE, if paged { PAGED } else { NONPAGED_NX });
    put::<u32>(list + TAG, tag);
    put::<u32>(list + SIZE, size as u32);
    put::<u64>(list + ALLOCATE, entry(routines.0, "ExAllocatePoolWithTag"));
    put::<u64>(list + FREE, entry(routines.1, "ExFreePool"));
    let state = List { size, tag, paged, routines };
    if machine.kernel.lookasides.lists.borrow_mut().insert(list, state).is_some() {
        machine.stop(&rule::LOOKASIDE_TWICE, [list, 0, 0], "A lookaside list is initialised twice");
    }
}

fn known(machine: &Machine, list: u64) -> Option<List> {
    machine.checked();
    let found = machine.kernel.lookasides.lists.borrow().get(&list).copied();
    if found.is_none() {
        let text = "A lookaside list is used that was not initialised";
        machine.stop(&rule::LOOKASIDE_NONE, [list, 0, 0], text);
    }
    found
}

fn delete(machine: &Machine, call: &Call<'_>) -> u64 {
    if known(machine, call.arg(0)).is_some() {
        machine.kernel.lookasides.lists.borrow_mut().remove(&call.arg(0));
    }
    0
}

fn allocate(machine: &Machine, call: &Call<'_>) -> u64 {
    let Some(list) = known(machine, call.arg(0)) else { return 0 };
    if list.routines.0 != 0 {
        let kind = get::<u32>(call.arg(0) + POOL_TYPE);
        return machine
            .call(list.routines.0, &[u64::from(kind), list.size, u64::from(list.tag), call.arg(0)]);
    }
    machine.pool.allocate(machine, list.size, list.tag, call.caller(), list.paged)
}

fn free(machine: &Machine, call: &Call<'_>) -> u64 {
    let Some(list) = known(machine, call.arg(0)) else { return 0 };
    if list.routines.1 != 0 {
        machine.call(list.routines.1, &[call.arg(1), call.arg(0)]);
    } else {
        machine.pool.free(machine, call.arg(1), list.tag);
    }
    0
}

/// Memory is about to be freed: no active lookaside list may be in it.
pub(super) fn check_freed(machine: &Machine, start: u64, length: u64) {
    let lists = machine.kernel.lookasides.lists.borrow();
    let found = lists.keys().copied().find(|list| list.wrapping_sub(start) < length);
    drop(lists);
    if let Some(list) = found {
        let text = "Memory is freed that holds an active lookaside list";
        machine.stop(&rule::POOL_HOLDS_LOOKASIDE, [list, start, length], text);
    }
}
