//! MDLs: locking, mapping, building, and pages of their own.
use std::cell::RefCell;

use ndis_sys::MDL;
use rustc_hash::FxHashMap;

use super::{Call, Function, function};
use crate::image::Image;
use crate::machine::Machine;
use crate::memory::{PAGE, Use, field, get, put, set};
use crate::rule;

pub(super) const FUNCTIONS: &[Function] = &[
    function!("IoAllocateMdl", 5, Dispatch, |machine, call| {
        if machine.pool_fails() {
            return 0;
        }
        let mdl = allocate(machine, call.arg(0), call.arg32(1), call.caller());
        if call.arg(4) != 0 {
            put::<u64>(call.arg(4) + super::objects::irp::MDL_ADDRESS, mdl);
        }
        mdl
    }),
    function!("IoFreeMdl", 1, Dispatch, |machine, call| {
        free(machine, call.arg(0));
        0
    }),
    function!("MmBuildMdlForNonPagedPool", 1, Dispatch, |machine, call| {
        let mdl = call.arg(0);
        let address = address_of(mdl);
        if machine.memory.is_pageable(address) {
            let arguments = [u64::from(machine.scheduler.irql()), mdl, flags(mdl) as u64];
            machine.stop(
                &rule::MDL_BUILD_PAGED,
                arguments,
                "MmBuildMdlForNonPagedPool is used for paged pool",
            );
        }
        set!(mdl, MDL, MdlFlags, flags(mdl) | NONPAGED);
        set!(mdl, MDL, MappedSystemVa, address);
        0
    }),
    function!("MmProbeAndLockPages", 3, Dispatch, MDL_LOCK_IRQL, lock),
    function!("MmUnlockPages", 1, Dispatch, unlock),
    function!("MmMapLockedPagesSpecifyCache", 6, Dispatch, map),
    function!("MmMapLockedPages", 2, Dispatch, |machine, call| {
        let arguments = [call.arg(0), flags(call.arg(0)) as u64, 0];
        machine.stop(&rule::MDL_OLD_MAP, arguments, "MmMapLockedPages is used: it cannot fail, it stops");
        map(machine, call)
    }),
    function!("MmUnmapLockedPages", 2, Dispatch, |machine, call| {
        unmap(machine, call.arg(1));
        0
    }),
    function!("IoBuildPartialMdl", 4, Dispatch, build_partial),
    function!("MmAllocatePagesForMdlEx", 6, Apc, IRQL_MM, |machine, call| {
        if machine.pool_fails() {
            return 0;
        }
        let length = call.arg(3).next_multiple_of(PAGE);
        let pages = machine.memory.allocate(length, Use::System("pages of an MDL"));
        let mdl = allocate(machine, pages, length as u32, call.caller());
        set!(mdl, MDL, MdlFlags, LOCKED);
        if let Some(state) = machine.kernel.mdls.known.borrow_mut().get_mut(&mdl) {
            state.pages = pages;
        }
        mdl
    }),
    function!("MmFreePagesFromMdl", 1, Apc, IRQL_MM, |machine, call| {
        let pages = machine
            .kernel
            .mdls
            .known
            .borrow_mut()
            .get_mut(&call.arg(0))
            .map(|state| std::mem::take(&mut state.pages));
        if let Some(pages) = pages.filter(|pages| *pages != 0) {
            machine.memory.free(pages);
        }
        set!(call.arg(0), MDL, MdlFlags, flags(call.arg(0)) & !(LOCKED | MAPPED));
        0
    }),
    function!("MmGetPhysicalAddress", 1, Any, |machine, call| machine.memory.areas.canonical(call.arg(0))
        & 0xFFFF_FFFF_FFFF),
    function!("MmIsAddressValid", 1, Dispatch, |machine, call| u64::from(
        machine.memory.block_around(call.arg(0)).is_some()
    )),
    function!("MmAllocateContiguousMemory", 2, Dispatch, |machine, call| {
        if machine.pool_fails() {
            return 0;
        }
        machine.memory.allocate(call.arg(0).max(PAGE), Use::System("contiguous memory"))
    }),
    function!("MmFreeContiguousMemory", 1, Dispatch, |machine, call| {
        machine.memory.free(call.arg(0));
        0
    }),
];

/// `MDL_MAPPED_TO_SYSTEM_VA`, `MDL_PAGES_LOCKED`, `MDL_SOURCE_IS_NONPAGED_POOL`, `MDL_PARTIAL`,
/// `MDL_PARTIAL_HAS_BEEN_MAPPED`.
const MAPPED: i16 = 1;
const LOCKED: i16 = 2;
const NONPAGED: i16 = 4;
const PARTIAL: i16 = 16;
const OWN_MAPPING: i16 = 32;

#[derive(Debug)]
struct State {
    bytes: u64,
    caller: u64,
    /// Pages of its own.
    pages: u64,
}

/// MDLs that drivers allocated, by address, and what is locked by drivers: address and length.
#[derive(Debug, Default)]
pub(crate) struct Mdls {
    known: RefCell<FxHashMap<u64, State>>,
    locked: RefCell<Vec<(u64, u64, u64)>>,
}

fn flags(mdl: u64) -> i16 {
    field!(mdl, MDL, MdlFlags, i16)
}

fn length_of(mdl: u64) -> u64 {
    u64::from(field!(mdl, MDL, ByteCount, u32))
}

fn address_of(mdl: u64) -> u64 {
    field!(mdl, MDL, StartVa, u64) + u64::from(field!(mdl, MDL, ByteOffset, u32))
}

/// An MDL over a range of addresses.
pub(crate) fn describe(machine: &Machine, address: u64, length: u32) -> u64 {
    let pages = (u64::from(length) + (address & 0xFFF)).div_ceil(PAGE);
    let bytes = size_of::<MDL>() as u64 + 8 * pages;
    let mdl = machine.memory.allocate_small(bytes);
    set!(mdl, MDL, Size, bytes as i16);
    set!(mdl, MDL, StartVa, address & !0xFFF);
    set!(mdl, MDL, ByteOffset, (address & 0xFFF) as u32);
    set!(mdl, MDL, ByteCount, length);
    mdl
}

/// Bytes of the MDL that [`describe`] made over a range.
pub(crate) fn bytes_for(address: u64, length: u32) -> u64 {
    size_of::<MDL>() as u64 + 8 * (u64::from(length) + (address & 0xFFF)).div_ceil(PAGE)
}

fn allocate(machine: &Machine, address: u64, length: u32, caller: u64) -> u64 {
    let mdl = describe(machine, address, length);
    let state = State { bytes: bytes_for(address, length), caller, pages: 0 };
    machine.kernel.mdls.known.borrow_mut().insert(mdl, state);
    mdl
}

fn free(machine: &Machine, mdl: u64) {
    machine.checked();
    let found = machine.kernel.mdls.known.borrow_mut().remove(&mdl);
    let Some(state) = found else {
        machine.stop(&rule::OBJECT, [mdl, 0, 0], "An MDL is freed that is not allocated: freed twice?");
        return;
    };
    if flags(mdl) & MAPPED != 0 && flags(mdl) & NONPAGED == 0 {
        machine.stop(
            &rule::MDL_FREED_MAPPED,
            [mdl, flags(mdl) as u64, 0],
            "An MDL is freed while it is mapped",
        );
    }
    machine.memory.free_small(mdl, state.bytes);
}

fn lock(machine: &Machine, call: &Call<'_>) -> u64 {
    machine.checked();
    let mdl = call.arg(0);
    if flags(mdl) & (LOCKED | NONPAGED | PARTIAL) != 0 {
        let arguments = [mdl, flags(mdl) as u64, (LOCKED | NONPAGED | PARTIAL) as u64];
        machine.stop(&rule::MDL_LOCK_FLAGS, arguments, "Pages are locked that are locked, or need not be");
    }
    // Touching the pages brings them in; what is not there raises an access violation.
    let (address, length) = (address_of(mdl), length_of(mdl));
    for page in (0..length).step_by(PAGE as usize) {
        let _: u8 = get(address + page);
    }
    set!(mdl, MDL, MdlFlags, flags(mdl) | LOCKED);
    machine.kernel.mdls.locked.borrow_mut().push((mdl, address, length));
    0
}

fn unlock(machine: &Machine, call: &Call<'_>) -> u64 {
    machine.checked();
    let mdl = call.arg(0);
    let arguments = [mdl, flags(mdl) as u64, 0];
    if flags(mdl) & PARTIAL != 0 {
        let arguments = [mdl, flags(mdl) as u64, PARTIAL as u64];
        machine.stop(&rule::MDL_UNLOCK_PARTIAL, arguments, "A partial MDL is unlocked");
    } else if flags(mdl) & NONPAGED != 0 {
        machine.stop(&rule::MDL_UNLOCK_NONPAGED, arguments, "An MDL of nonpaged pool is unlocked");
    } else if flags(mdl) & LOCKED == 0 {
        machine.stop(&rule::MDL_UNLOCK_NEVER, arguments, "An MDL is unlocked that was never locked");
    }
    if flags(mdl) & MAPPED != 0 {
        unmap(machine, mdl);
    }
    set!(mdl, MDL, MdlFlags, flags(mdl) & !LOCKED);
    machine.kernel.mdls.locked.borrow_mut().retain(|(other, ..)| *other != mdl);
    0
}

fn map(machine: &Machine, call: &Call<'_>) -> u64 {
    machine.checked();
    let mdl = call.arg(0);
    let now = flags(mdl);
    if now & (LOCKED | NONPAGED) == 0 {
        let arguments = [mdl, now as u64, (LOCKED | NONPAGED) as u64];
        machine.stop(&rule::MDL_MAPPED_UNLOCKED, arguments, "Pages are mapped that are not locked");
    }
    if now & MAPPED != 0 {
        let arguments = [mdl, now as u64, MAPPED as u64];
        machine.stop(&rule::MDL_MAPPED_TWICE, arguments, "Pages are mapped that are mapped already");
    }
    if machine.pool_fails() {
        return 0;
    }
    let address = address_of(mdl);
    let mapped = if machine.memory.areas.user.contains(address) {
        machine.memory.map_user(address, length_of(mdl), true)
    } else {
        address
    };
    set!(mdl, MDL, MappedSystemVa, mapped);
    let own = if now & PARTIAL == 0 { 0 } else { OWN_MAPPING };
    set!(mdl, MDL, MdlFlags, now | MAPPED | own);
    mapped
}

/// Takes the mapping of an MDL away, if it has one.
pub(crate) fn unmap_if_mapped(machine: &Machine, mdl: u64) {
    if flags(mdl) & MAPPED != 0 {
        unmap(machine, mdl);
    }
}

fn unmap(machine: &Machine, mdl: u64) {
    machine.checked();
    if flags(mdl) & PARTIAL != 0 && flags(mdl) & OWN_MAPPING == 0 {
        let arguments = [mdl, flags(mdl) as u64, PARTIAL as u64];
        machine.stop(
            &rule::MDL_UNMAP_PARTIAL,
            arguments,
            "A partial MDL is unmapped that has no mapping of its own",
        );
        return;
    }
    if flags(mdl) & MAPPED == 0 {
        let arguments = [mdl, flags(mdl) as u64, MAPPED as u64];
        machine.stop(&rule::MDL_UNMAP_NOT_MAPPED, arguments, "An MDL is unmapped that is not mapped");
        return;
    }
    let address = address_of(mdl);
    if machine.memory.areas.user.contains(address) {
        machine.memory.map_user(address, length_of(mdl), false);
    }
    set!(mdl, MDL, MdlFlags, flags(mdl) & !MAPPED);
}

fn build_partial(machine: &Machine, call: &Call<'_>) -> u64 {
    machine.checked();
    let (source, target, address, length) = (call.arg(0), call.arg(1), call.arg(2), u64::from(call.arg32(3)));
    let (start, bytes) = (address_of(source), length_of(source));
    let length = if length == 0 { (start + bytes).saturating_sub(address) } else { length };
    if address < start || address + length > start + bytes {
        let text = "A partial MDL lies outside its source";
        machine.stop_about(&rule::MDL_PARTIAL, [source, target, address, length], text, 0);
    }
    set!(target, MDL, StartVa, address & !0xFFF);
    set!(target, MDL, ByteOffset, (address & 0xFFF) as u32);
    set!(target, MDL, ByteCount, length as u32);
    let inherited = flags(source) & (NONPAGED | MAPPED);
    if inherited != 0 {
        let mapped: u64 = field!(source, MDL, MappedSystemVa, u64);
        set!(target, MDL, MappedSystemVa, mapped + (address - start));
    }
    set!(target, MDL, MdlFlags, PARTIAL | inherited | flags(source) & LOCKED);
    0
}

/// Pool is about to be freed: no pages of it may be locked.
pub(super) fn check_freed(machine: &Machine, start: u64, length: u64) {
    let locked = machine.kernel.mdls.locked.borrow();
    let overlaps = |(_, at, bytes): &&(u64, u64, u64)| *at < start + length && start < at + bytes;
    let found = locked.iter().find(overlaps).copied();
    drop(locked);
    if let Some((mdl, at, _)) = found {
        let text = "Pool is freed whose pages are locked";
        machine.stop(&rule::MDL_FREED_LOCKED, [at, 1, mdl], text);
    }
}

/// What a request leaves locked of its client's pages, or an image at its end.
pub(crate) fn check_left(machine: &Machine, image: &Image) {
    machine.checked();
    let known = machine.kernel.mdls.known.borrow();
    let locked = machine.kernel.mdls.locked.borrow();
    let left =
        locked.iter().find(|(mdl, ..)| known.get(mdl).is_some_and(|state| image.contains(state.caller)));
    let left = left.copied();
    let count = known.values().filter(|state| image.contains(state.caller)).count() as u64;
    drop((known, locked));
    if let Some((mdl, _, length)) = left {
        let text = "A driver is unloaded and leaves pages locked";
        machine.stop_about(&rule::MDL_PAGES_LEFT, [0, 0, mdl, length.div_ceil(PAGE)], text, mdl);
    }
    if count != 0 {
        let text = format!("A driver is unloaded without freeing {count} MDLs");
        machine.stop(&rule::OBJECTS_LEFT, [image.base, 0, count], text);
    }
}
