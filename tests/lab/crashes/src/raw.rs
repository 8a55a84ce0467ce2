//! What is inline in the kernel's headers, or takes many arguments: for the wrong patterns, which use no wrappers.
use core::ffi::c_void;
use core::ptr::null_mut;

use wdk_sys::ntddk::{
    ExAllocatePool2, ExFreePoolWithTag, IoAllocateMdl, IoFreeMdl, IoGetDmaAdapter, KeInitializeEvent,
    KeLowerIrql, KeWaitForSingleObject, KfRaiseIrql, MmBuildMdlForNonPagedPool,
};
use wdk_sys::{
    DEVICE_DESCRIPTION, DEVICE_OBJECT, DMA_ADAPTER, FAST_MUTEX, IRP, KEVENT, MDL, PHYSICAL_ADDRESS,
    SCATTER_GATHER_LIST,
};

use crate::TAG;

/// `DISPATCH_LEVEL`.
const DISPATCH_LEVEL: u8 = 2;

/// Nonpaged pool, zeroed.
///
/// # Safety
/// The level is at most `DISPATCH_LEVEL`.
pub unsafe fn nonpaged<T>() -> *mut T {
    unsafe { ExAllocatePool2(0x40, size_of::<T>() as u64, TAG.value()).cast() }
}

/// Paged pool, zeroed.
///
/// # Safety
/// The level is at most `APC_LEVEL`.
pub unsafe fn paged<T>() -> *mut T {
    unsafe { ExAllocatePool2(0x100, size_of::<T>() as u64, TAG.value()).cast() }
}

/// Frees either.
///
/// # Safety
/// The memory came from one of them.
pub unsafe fn free<T>(memory: *mut T) {
    unsafe { ExFreePoolWithTag(memory.cast(), TAG.value()) };
}

/// `KeWaitForSingleObject` without a limit of time.
///
/// # Safety
/// `object` is a dispatcher object.
pub unsafe fn wait<T>(object: *mut T) {
    let _ = unsafe { KeWaitForSingleObject(object.cast::<c_void>(), 0, 0, 0, null_mut()) };
}

/// `ExInitializeFastMutex`.
///
/// # Safety
/// `mutex` is nonpaged memory.
pub unsafe fn initialize_fast_mutex(mutex: *mut FAST_MUTEX) {
    unsafe { (*mutex).Count = 1 };
    unsafe { KeInitializeEvent(&raw mut (*mutex).Event, 1, 0) };
}

/// An event that is not signalled.
///
/// # Safety
/// The level is at most `DISPATCH_LEVEL`.
pub unsafe fn event() -> *mut KEVENT {
    let event = unsafe { nonpaged::<KEVENT>() };
    unsafe { KeInitializeEvent(event, 0, 0) };
    event
}

/// A device description of the headers, and what the system reads behind it: it has 64 bytes, whatever headers say.
#[repr(C)]
struct Description {
    known: DEVICE_DESCRIPTION,
    tail: [u64; 3],
}

/// The HAL's DMA adapter, for a card that has no device object here.
///
/// # Safety
/// `PASSIVE_LEVEL`.
pub unsafe fn dma_adapter() -> *mut DMA_ADAPTER {
    let known = DEVICE_DESCRIPTION {
        Version: 2,
        Master: 1,
        ScatterGather: 1,
        Dma32BitAddresses: 1,
        Dma64BitAddresses: 1,
        InterfaceType: -1,
        MaximumLength: 1 << 20,
        ..DEVICE_DESCRIPTION::default()
    };
    let mut description = Description { known, tail: [0; 3] };
    let mut registers = 0;
    unsafe { IoGetDmaAdapter(null_mut(), (&raw mut description).cast(), &raw mut registers) }
}

/// A common buffer: its address for the processor, and the one for the card.
///
/// # Safety
/// `PASSIVE_LEVEL`; the adapter was not put.
pub unsafe fn common_buffer(adapter: *mut DMA_ADAPTER, length: u32) -> (*mut u8, u64) {
    let mut logical = PHYSICAL_ADDRESS::default();
    let operations = unsafe { &*(*adapter).DmaOperations };
    let Some(allocate) = operations.AllocateCommonBuffer else { return (null_mut(), 0) };
    let address = unsafe { allocate(adapter, length, &raw mut logical, 1) };
    (address.cast(), unsafe { logical.QuadPart }.cast_unsigned())
}

/// Memory as a card sees it for the time of a transfer, and what undoes that.
pub struct Mapped {
    /// The address for the card.
    pub logical: u64,
    mdl: *mut MDL,
    list: *mut SCATTER_GATHER_LIST,
}

unsafe extern "C" fn mapped(
    _device: *mut DEVICE_OBJECT,
    _irp: *mut IRP,
    list: *mut SCATTER_GATHER_LIST,
    place: *mut c_void,
) {
    unsafe { place.cast::<*mut SCATTER_GATHER_LIST>().write(list) };
}

/// `GetScatterGatherList` for nonpaged pool that the card writes into.
///
/// # Safety
/// `PASSIVE_LEVEL`; `memory` has `length` bytes, and the adapter was not put.
pub unsafe fn map(adapter: *mut DMA_ADAPTER, memory: *mut u8, length: u32) -> Option<Mapped> {
    let get = unsafe { &*(*adapter).DmaOperations }.GetScatterGatherList?;
    let mdl = unsafe { IoAllocateMdl(memory.cast(), length, 0, 0, null_mut()) };
    unsafe { MmBuildMdlForNonPagedPool(mdl) };
    let mut list: *mut SCATTER_GATHER_LIST = null_mut();
    let old = unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
    let place = (&raw mut list).cast();
    let _ = unsafe { get(adapter, null_mut(), mdl, memory.cast(), length, Some(mapped), place, 0) };
    unsafe { KeLowerIrql(old) };
    // The first element lies behind the two fields of the header.
    let logical = unsafe { list.byte_add(16).cast::<u64>().read() };
    Some(Mapped { logical, mdl, list })
}

/// `PutScatterGatherList`, and the adapter goes.
///
/// # Safety
/// `PASSIVE_LEVEL`; the card is done.
pub unsafe fn unmap(adapter: *mut DMA_ADAPTER, mapped: Mapped) {
    let operations = unsafe { &*(*adapter).DmaOperations };
    if let (Some(put_list), Some(put)) = (operations.PutScatterGatherList, operations.PutDmaAdapter) {
        let old = unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
        unsafe { put_list(adapter, mapped.list, 0) };
        unsafe { KeLowerIrql(old) };
        unsafe { put(adapter) };
    }
    unsafe { IoFreeMdl(mapped.mdl) };
}

/// `FreeCommonBuffer` and `PutDmaAdapter`.
///
/// # Safety
/// `PASSIVE_LEVEL`; the buffer is the adapter's.
pub unsafe fn free_common_buffer(adapter: *mut DMA_ADAPTER, length: u32, buffer: (*mut u8, u64)) {
    let operations = unsafe { &*(*adapter).DmaOperations };
    let logical = PHYSICAL_ADDRESS { QuadPart: buffer.1.cast_signed() };
    if let (Some(free), Some(put)) = (operations.FreeCommonBuffer, operations.PutDmaAdapter) {
        unsafe { free(adapter, length, logical, buffer.0.cast(), 1) };
        unsafe { put(adapter) };
    }
}
