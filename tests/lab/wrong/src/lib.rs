//! A filter driver that is wrong in one way at a time: the last part of its registry path says which. Do not
//! learn from it: `driver/` shows how each of these things is done right.
#![no_std]

extern crate wdk_panic;

mod calls;
mod cases;
mod device;
mod memory;
mod network;
mod waits;

use core::ffi::c_void;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::SeqCst};

use cases::Moment;
use ndis_sys::*;
use wdk_sys::ntddk::{ExAllocatePool2, ExFreePoolWithTag};
use wdk_sys::{DRIVER_OBJECT, NTSTATUS, PCUNICODE_STRING};

/// Tag of everything that this driver allocates.
pub(crate) const TAG: u32 = u32::from_le_bytes(*b"gnrW");
/// Bytes of the driver's one frame.
const FRAME: u32 = 64;

/// The case, as UTF-16 of up to 32 units, and its length.
static CASE: [core::sync::atomic::AtomicU16; 32] = [const { core::sync::atomic::AtomicU16::new(0) }; 32];
static CASE_LENGTH: AtomicUsize = AtomicUsize::new(0);
static DRIVER: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
/// The module's handle, and what it owns.
pub(crate) static MODULE: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
pub(crate) static POOL: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
pub(crate) static MEMORY: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
pub(crate) static MDL: AtomicPtr<MDL> = AtomicPtr::new(null_mut());
pub(crate) static LIST: AtomicPtr<NET_BUFFER_LIST> = AtomicPtr::new(null_mut());
/// Own lists that are out; with [`PAUSED`], no more may go.
static OUT: AtomicUsize = AtomicUsize::new(0);
const PAUSED: usize = 1 << 63;
/// The driver's object.
pub(crate) static DRIVER_OBJECT_PLACE: AtomicUsize = AtomicUsize::new(0);
/// The adapter's physical device object.
pub(crate) static DEVICE: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

/// Whether this run is about a case.
pub(crate) fn case(name: &str) -> bool {
    let length = CASE_LENGTH.load(SeqCst);
    name.len() == length && name.bytes().zip(&CASE).all(|(byte, unit)| unit.load(SeqCst) == u16::from(byte))
}

fn remember_case(path: PCUNICODE_STRING) {
    let path = unsafe { &*path };
    let units = unsafe { core::slice::from_raw_parts(path.Buffer, usize::from(path.Length / 2)) };
    let name = units.rsplit(|unit| *unit == u16::from(b'\\')).next().unwrap_or_default();
    for (place, unit) in CASE.iter().zip(name) {
        place.store(*unit, SeqCst);
    }
    CASE_LENGTH.store(name.len().min(32), SeqCst);
}

/// `DriverEntry`.
///
/// # Safety
/// Called once, by the system.
#[unsafe(export_name = "DriverEntry")]
pub unsafe extern "system" fn driver_entry(driver: &mut DRIVER_OBJECT, path: PCUNICODE_STRING) -> NTSTATUS {
    remember_case(path);
    driver.DriverUnload = Some(unload);
    DRIVER_OBJECT_PLACE.store((&raw const *driver).expose_provenance(), SeqCst);
    memory::initial();
    static NAME: [u16; 5] = [b'w' as u16, b'r' as u16, b'o' as u16, b'n' as u16, b'g' as u16];
    let name = UNICODE_STRING { Length: 10, MaximumLength: 10, Buffer: NAME.as_ptr().cast_mut() };
    let mut characteristics: NDIS_FILTER_DRIVER_CHARACTERISTICS = unsafe { core::mem::zeroed() };
    characteristics.Header = NDIS_OBJECT_HEADER {
        Type: NDIS_OBJECT_TYPE_FILTER_DRIVER_CHARACTERISTICS,
        Revision: NDIS_FILTER_CHARACTERISTICS_REVISION_2,
        Size: NDIS_SIZEOF_FILTER_DRIVER_CHARACTERISTICS_REVISION_2,
    };
    characteristics.MajorNdisVersion = 6;
    characteristics.MinorNdisVersion = 30;
    characteristics.FriendlyName = name;
    characteristics.UniqueName = name;
    characteristics.ServiceName = name;
    characteristics.SetFilterModuleOptionsHandler = Some(network::module_options);
    characteristics.AttachHandler = Some(attach);
    characteristics.DetachHandler = Some(detach);
    characteristics.RestartHandler = Some(restart);
    characteristics.PauseHandler = Some(pause);
    characteristics.SendNetBufferListsHandler = Some(send);
    characteristics.ReceiveNetBufferListsHandler = Some(network::receive);
    characteristics.ReturnNetBufferListsHandler = Some(network::give_back);
    characteristics.OidRequestHandler = Some(network::oid);
    characteristics.OidRequestCompleteHandler = Some(network::oid_complete);
    characteristics.StatusHandler = Some(network::status);
    characteristics.NetPnPEventHandler = Some(network::net_event);
    characteristics.DevicePnPEventNotifyHandler = Some(network::device_event);
    if !case("no-completion-handler") {
        characteristics.SendNetBufferListsCompleteHandler = Some(send_complete);
    }
    let mut handle = null_mut();
    let object: *mut DRIVER_OBJECT = driver;
    let status = unsafe {
        NdisFRegisterFilterDriver(object.cast(), object.cast(), &raw const characteristics, &raw mut handle)
    };
    if status != 0 {
        return status;
    }
    DRIVER.store(handle, SeqCst);
    device::register(handle);
    if case("correct") {
        cases::take_cancel_id();
    }
    0
}

/// Whether NDIS's names can be read to their terminators, as drivers in the field do.
fn is_terminated(string: *const UNICODE_STRING) -> bool {
    let string = unsafe { &*string };
    unsafe { string.Buffer.add(usize::from(string.Length / 2)).read() == 0 }
}

unsafe extern "C" fn unload(_driver: *mut DRIVER_OBJECT) {
    device::deregister();
    if !case("not-deregistered") {
        unsafe { NdisFDeregisterFilterDriver(DRIVER.load(SeqCst)) };
    }
    cases::at(Moment::Unloaded);
}

unsafe extern "system" fn attach(
    handle: NDIS_HANDLE,
    _context: NDIS_HANDLE,
    parameters: *mut NDIS_FILTER_ATTACH_PARAMETERS,
) -> NDIS_STATUS {
    let parameters = unsafe { &*parameters };
    let names =
        [parameters.FilterModuleGuidName, parameters.BaseMiniportInstanceName, parameters.BaseMiniportName];
    if !names.into_iter().all(|name| is_terminated(name)) {
        return NDIS_STATUS_FAILURE;
    }
    MODULE.store(handle, SeqCst);
    DEVICE.store(parameters.MiniportPhysicalDeviceObject, SeqCst);
    let attributes = NDIS_FILTER_ATTRIBUTES {
        Header: NDIS_OBJECT_HEADER {
            Type: NDIS_OBJECT_TYPE_FILTER_ATTRIBUTES,
            Revision: NDIS_FILTER_ATTRIBUTES_REVISION_1,
            Size: NDIS_SIZEOF_FILTER_ATTRIBUTES_REVISION_1,
        },
        Flags: 0,
    };
    if !case("no-attributes") {
        unsafe { NdisFSetAttributes(handle, handle, &raw const attributes) };
    }
    let pool = NET_BUFFER_LIST_POOL_PARAMETERS {
        Header: NDIS_OBJECT_HEADER {
            Type: NDIS_OBJECT_TYPE_DEFAULT,
            Revision: NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
            Size: NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
        },
        ProtocolId: 0,
        fAllocateNetBuffer: 1,
        ContextSize: 0,
        PoolTag: TAG,
        DataSize: 0,
        Flags: 0,
    };
    let pool = unsafe { NdisAllocateNetBufferListPool(handle, &raw const pool) };
    let memory = unsafe { ExAllocatePool2(0x40, u64::from(FRAME), TAG) };
    let mdl = unsafe { NdisAllocateMdl(handle, memory, FRAME) };
    let list = unsafe { NdisAllocateNetBufferAndNetBufferList(pool, 0, 0, mdl, 0, FRAME as usize) };
    if list.is_null() {
        return NDIS_STATUS_RESOURCES;
    }
    unsafe { (*list).SourceHandle = handle };
    POOL.store(pool, SeqCst);
    MEMORY.store(memory, SeqCst);
    MDL.store(mdl, SeqCst);
    LIST.store(list, SeqCst);
    NDIS_STATUS_SUCCESS
}

unsafe extern "system" fn detach(_context: NDIS_HANDLE) {
    cases::at(Moment::Detaching);
    if case("correct") {
        network::all_answered();
    }
    if case("pool-freed-with-lists") {
        unsafe { NdisFreeNetBufferListPool(POOL.load(SeqCst)) };
    }
    unsafe { NdisFreeNetBufferList(LIST.load(SeqCst)) };
    unsafe { NdisFreeMdl(MDL.load(SeqCst)) };
    unsafe { NdisFreeNetBufferListPool(POOL.load(SeqCst)) };
    if !case("pool-leak") {
        unsafe { ExFreePoolWithTag(MEMORY.load(SeqCst), TAG) };
    }
}

unsafe extern "system" fn restart(
    _context: NDIS_HANDLE,
    _parameters: *mut NDIS_FILTER_RESTART_PARAMETERS,
) -> NDIS_STATUS {
    OUT.fetch_and(!PAUSED, SeqCst);
    cases::at(Moment::Restarting);
    if case("correct") {
        network::restart_later();
        return NDIS_STATUS_PENDING;
    }
    NDIS_STATUS_SUCCESS
}

unsafe extern "system" fn pause(
    _context: NDIS_HANDLE,
    _parameters: *mut NDIS_FILTER_PAUSE_PARAMETERS,
) -> NDIS_STATUS {
    let module = MODULE.load(SeqCst);
    if case("pause-twice") {
        unsafe { NdisFPauseComplete(module) };
        unsafe { NdisFPauseComplete(module) };
        return NDIS_STATUS_PENDING;
    }
    if case("pause-success-completed") {
        unsafe { NdisFPauseComplete(module) };
        return NDIS_STATUS_SUCCESS;
    }
    if case("pause-fails") {
        return NDIS_STATUS_FAILURE;
    }
    if case("pause-forever") {
        return NDIS_STATUS_PENDING;
    }
    if case("paused-with-lists") || case("lists-out-at-detach") || OUT.fetch_or(PAUSED, SeqCst) == 0 {
        return NDIS_STATUS_SUCCESS;
    }
    NDIS_STATUS_PENDING
}

pub(crate) unsafe extern "system" fn send(
    _context: NDIS_HANDLE,
    lists: *mut NET_BUFFER_LIST,
    port: u32,
    flags: u32,
) {
    if case("send-kept") {
        return;
    }
    if case("foreign-completed-twice") {
        let module = MODULE.load(SeqCst);
        unsafe { NdisFSendNetBufferListsComplete(module, lists, 0) };
        unsafe { NdisFSendNetBufferListsComplete(module, lists, 0) };
        return;
    }
    unsafe { NdisFSendNetBufferLists(MODULE.load(SeqCst), lists, port, flags) };
    cases::at(Moment::Running);
}

/// Sends the driver's own list, unless it is out or the module is paused.
pub(crate) fn send_own_if_it_may() {
    if OUT.compare_exchange(0, 1, SeqCst, SeqCst).is_ok() {
        unsafe { NdisFSendNetBufferLists(MODULE.load(SeqCst), LIST.load(SeqCst), 0, 0) };
    }
}

/// Sends the driver's own list, whatever happens.
pub(crate) fn send_own(flags: u32) {
    OUT.fetch_add(1, SeqCst);
    unsafe { NdisFSendNetBufferLists(MODULE.load(SeqCst), LIST.load(SeqCst), 0, flags) };
}

pub(crate) unsafe extern "system" fn send_complete(
    _context: NDIS_HANDLE,
    lists: *mut NET_BUFFER_LIST,
    flags: u32,
) {
    let module = MODULE.load(SeqCst);
    let mut at = lists;
    while !at.is_null() {
        let next = unsafe { nbl_next(at) };
        unsafe { nbl_set_next(at, null_mut()) };
        if unsafe { (*at).SourceHandle } != module {
            unsafe { NdisFSendNetBufferListsComplete(module, at, flags) };
        } else if OUT.fetch_sub(1, SeqCst) == PAUSED + 1 {
            unsafe { NdisFPauseComplete(module) };
        }
        at = next;
    }
}
