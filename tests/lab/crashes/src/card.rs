//! The bus-master card of the first document, as a driver of the old model sees it: registers in memory space, an
//! interrupt, a DPC. Both patterns use this; what differs is what they do with it.
//!
//! The simulated machine has such a card (`tests/machine/src/card.rs` lists its registers); a real computer has none,
//! and the drivers then load and do nothing.
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr::null_mut;

use wdk_sys::ntddk::{
    IoConnectInterrupt, IoDisconnectInterrupt, KeFlushQueuedDpcs, KeInitializeDpc, KeInsertQueueDpc,
    KeSetEvent, MmMapIoSpace, MmUnmapIoSpace,
};
use wdk_sys::{KDPC, KEVENT, PHYSICAL_ADDRESS, PKINTERRUPT};

/// Where the card's registers lie, and its interrupt: on a real board they come with `IRP_MN_START_DEVICE`.
const REGISTERS: i64 = 0xFEB0_0000;
const VECTOR: u32 = 0x51;
const LEVEL: u8 = 8;
const BYTES: u64 = 0x18;

const ADDRESS: usize = 0x00;
const LENGTH: usize = 0x08;
const COMMAND: usize = 0x0C;
const STATUS: usize = 0x10;
const RECEIVED: usize = 0x14;
const RECEIVE: u32 = 1;
const STOP: u32 = 2;

/// Bytes have come.
pub const ARRIVED: u32 = 1;
/// The transfer is complete: the card writes no more.
pub const COMPLETE: u32 = 2;

/// What a driver does at `DISPATCH_LEVEL` when the card has interrupted: status, bytes so far, and its context.
pub type Handler = unsafe fn(status: u32, received: u32, context: *mut c_void);

struct State {
    registers: *mut u8,
    interrupt: PKINTERRUPT,
    dpc: KDPC,
    status: u32,
    handler: Option<Handler>,
    context: *mut c_void,
}

struct Place(UnsafeCell<State>);
// SAFETY: the card is opened and closed by DriverEntry, and touched by its interrupt and its DPC.
unsafe impl Sync for Place {}

static CARD: Place = Place(UnsafeCell::new(State {
    registers: null_mut(),
    interrupt: null_mut(),
    // SAFETY: all-zero is an object that was not initialised.
    dpc: unsafe { core::mem::zeroed() },
    status: 0,
    handler: None,
    context: null_mut(),
}));

unsafe fn register(offset: usize) -> *mut u32 {
    unsafe { (*CARD.0.get()).registers.add(offset).cast() }
}

/// At the interrupt's level: what happened is remembered, and the rest is for the DPC.
unsafe extern "C" fn service(_interrupt: PKINTERRUPT, _context: *mut c_void) -> u8 {
    unsafe {
        let state = CARD.0.get();
        (*state).status |= register(STATUS).read_volatile();
        register(STATUS).write_volatile(0);
        KeInsertQueueDpc(&raw mut (*state).dpc, null_mut(), null_mut());
    }
    1
}

unsafe extern "C" fn deferred(
    _dpc: *mut KDPC,
    _context: *mut c_void,
    _first: *mut c_void,
    _second: *mut c_void,
) {
    unsafe {
        let state = CARD.0.get();
        let received = register(RECEIVED).read_volatile();
        if let Some(handler) = (*state).handler {
            handler((*state).status, received, (*state).context);
        }
    }
}

/// Maps the registers and connects the interrupt; false if there is no card.
///
/// # Safety
/// `PASSIVE_LEVEL`; `context` lives until [`close`].
pub unsafe fn open(handler: Handler, context: *mut c_void) -> bool {
    unsafe {
        let state = CARD.0.get();
        let place = PHYSICAL_ADDRESS { QuadPart: REGISTERS };
        (*state).registers = MmMapIoSpace(place, BYTES, 0).cast();
        if (*state).registers.is_null() {
            return false;
        }
        (*state).handler = Some(handler);
        (*state).context = context;
        KeInitializeDpc(&raw mut (*state).dpc, Some(deferred), null_mut());
        let interrupt = &raw mut (*state).interrupt;
        let status = IoConnectInterrupt(
            interrupt,
            Some(service),
            null_mut(),
            null_mut(),
            VECTOR,
            LEVEL,
            LEVEL,
            0,
            0,
            u64::MAX,
            0,
        );
        status == 0
    }
}

/// A handler that signals an event when a transfer is complete, and not before.
///
/// # Safety
/// `event` is a `KEVENT` that lives until [`close`].
pub unsafe fn signal_complete(status: u32, _received: u32, event: *mut c_void) {
    if status & COMPLETE != 0 {
        unsafe { KeSetEvent(event.cast::<KEVENT>(), 0, 0) };
    }
}

/// Tells the card where to write, and how much.
///
/// # Safety
/// The card is open; `logical` leads to `length` bytes that nobody frees before the card is done.
pub unsafe fn receive(logical: u64, length: u32) {
    unsafe {
        (*CARD.0.get()).status = 0;
        register(ADDRESS).cast::<u64>().write_volatile(logical);
        register(LENGTH).write_volatile(length);
        register(COMMAND).write_volatile(RECEIVE);
    }
    crate::show(c"DMA starts: logical %llx, %llu bytes", logical, u64::from(length));
}

/// Disconnects the interrupt, and waits for what it had begun.
///
/// # Safety
/// `PASSIVE_LEVEL`; the card is open.
pub unsafe fn close() {
    unsafe {
        let state = CARD.0.get();
        register(COMMAND).write_volatile(STOP);
        IoDisconnectInterrupt((*state).interrupt);
        KeFlushQueuedDpcs();
        MmUnmapIoSpace((*state).registers.cast(), BYTES);
    }
}
