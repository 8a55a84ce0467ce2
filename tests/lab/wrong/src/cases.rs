//! The cases, by the moment at which they go wrong.
use core::ffi::c_void;
use core::hint::black_box;
use core::ptr::null_mut;
use core::sync::atomic::Ordering::SeqCst;

use ndis_sys::*;
use wdk_sys::ntddk::*;
use wdk_sys::{DEVICE_DESCRIPTION, DMA_ADAPTER, KDPC, KSPIN_LOCK, PHYSICAL_ADDRESS};

use crate::{DEVICE, LIST, MEMORY, MODULE, TAG, case, send_own, send_own_if_it_may};

/// When something is done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// In `FilterRestart`.
    Restarting,
    /// In `FilterSendNetBufferLists`, at `PASSIVE_LEVEL`.
    Running,
    /// In `FilterDetach`.
    Detaching,
    /// In the unload routine, after everything was undone.
    Unloaded,
}

/// `DISPATCH_LEVEL`.
const DISPATCH: u8 = 2;

/// Does what the case says for a moment.
pub(crate) fn at(moment: Moment) {
    match moment {
        Moment::Restarting if case("send-in-restart") => send_own(0),
        Moment::Detaching if case("send-in-detach") => send_own(0),
        Moment::Unloaded if case("stale-handle") => send_own(0),
        Moment::Detaching => {
            for (name, wrong) in crate::waits::AT_DETACH {
                if case(name) {
                    wrong();
                }
            }
        }
        Moment::Running => {
            for (name, wrong) in
                crate::memory::CASES.iter().chain(crate::waits::CASES).chain(crate::network::CASES)
            {
                if case(name) {
                    wrong();
                }
            }
            if case("correct") {
                crate::memory::correct();
                crate::waits::correct();
                crate::network::correct();
            }
            lists();
            pool();
            locks();
            levels();
            dma();
            rest();
        }
        _ => {}
    }
}

fn lists() {
    let module = MODULE.load(SeqCst);
    let list = LIST.load(SeqCst);
    if case("correct") {
        send_own_if_it_may();
    }
    if case("paused-with-lists") || case("lists-out-at-detach") || case("nbl-sent-twice") {
        send_own(0);
    }
    if case("nbl-sent-twice") {
        send_own(0);
    }
    if case("nbl-freed-while-out") {
        send_own(0);
        unsafe { NdisFreeNetBufferList(list) };
    }
    if case("own-completed-upward") {
        unsafe { NdisFSendNetBufferListsComplete(module, list, 0) };
    }
    if case("source-handle") {
        unsafe { (*list).SourceHandle = null_mut() };
        send_own(0);
    }
    if case("dispatch-flag") {
        send_own(NDIS_SEND_FLAGS_DISPATCH_LEVEL);
    }
    if case("no-completion-handler") {
        send_own(0);
    }
    if case("cancel-id-late") {
        take_cancel_id();
    }
    if case("frame-too-long") {
        let buffer = unsafe { nbl_first_nb(list) };
        unsafe { (*buffer).Head.Data.Length.stDataLength = 1515 };
        send_own(0);
    }
    if case("send-with-lock") {
        let mut lock: KSPIN_LOCK = 0;
        unsafe { KeAcquireSpinLockRaiseToDpc(&raw mut lock) };
        send_own(NDIS_SEND_FLAGS_DISPATCH_LEVEL);
    }
    if case("slab-freed-in-flight") {
        send_own(0);
        unsafe { ExFreePoolWithTag(MEMORY.load(SeqCst), TAG) };
    }
    if case("pause-complete-unasked") {
        unsafe { NdisFPauseComplete(module) };
    }
    if case("handlers-outside-options") {
        let mut handlers: NDIS_FILTER_PARTIAL_CHARACTERISTICS = unsafe { core::mem::zeroed() };
        handlers.Header.Type = NDIS_OBJECT_TYPE_FILTER_PARTIAL_CHARACTERISTICS;
        unsafe { NdisSetOptionalHandlers(module, (&raw const handlers).cast()) };
    }
}

pub(crate) fn take_cancel_id() {
    black_box(unsafe { NdisGeneratePartialCancelId() });
}

fn allocate(bytes: u64) -> *mut u8 {
    unsafe { ExAllocatePool2(0x40, bytes, TAG) }.cast()
}

fn free(memory: *mut u8, tag: u32) {
    unsafe { ExFreePoolWithTag(memory.cast(), tag) };
}

fn pool() {
    if case("correct") {
        let memory = allocate(100);
        unsafe { memory.add(99).write_volatile(1) };
        free(memory, TAG);
    }
    if case("pool-zero-bytes") {
        allocate(0);
    }
    if case("pool-tag-zero") {
        unsafe { ExAllocatePool2(0x40, 16, 0) };
    }
    if case("pool-above-dispatch") {
        unsafe { KfRaiseIrql(5) };
        allocate(16);
    }
    if case("pool-freed-above-dispatch") {
        let memory = allocate(16);
        unsafe { KfRaiseIrql(5) };
        free(memory, TAG);
    }
    if case("pool-freed-twice") {
        let memory = allocate(16);
        free(memory, TAG);
        free(memory, TAG);
    }
    if case("pool-wrong-tag") {
        free(allocate(16), TAG + 1);
    }
    if case("pool-never-allocated") {
        free(unsafe { allocate(64).add(16) }, TAG);
    }
    if case("pool-overrun") {
        let memory = allocate(64);
        unsafe { memory.add(black_box(64)).write_volatile(1) };
    }
    if case("pool-underrun") {
        let memory = allocate(64);
        unsafe { memory.sub(black_box(1)).write_volatile(1) };
        free(memory, TAG);
    }
    if case("pool-used-after-free") {
        let memory = allocate(64);
        free(memory, TAG);
        black_box(unsafe { memory.read_volatile() });
    }
}

fn locks() {
    let mut lock: KSPIN_LOCK = 0;
    let lock = &raw mut lock;
    if case("correct") {
        let old = unsafe { KeAcquireSpinLockRaiseToDpc(lock) };
        unsafe { KeReleaseSpinLock(lock, old) };
    }
    if case("lock-twice") {
        unsafe { KeAcquireSpinLockRaiseToDpc(lock) };
        unsafe { KeAcquireSpinLockRaiseToDpc(lock) };
    }
    if case("lock-not-held") {
        unsafe { KfRaiseIrql(DISPATCH) };
        unsafe { KeReleaseSpinLock(lock, 0) };
    }
    if case("lock-released-at-passive") {
        unsafe { KeReleaseSpinLock(lock, 0) };
    }
    if case("lock-at-dpc-below") {
        unsafe { KeAcquireSpinLockAtDpcLevel(lock) };
    }
    if case("lock-from-dpc-below") {
        unsafe { KeReleaseSpinLockFromDpcLevel(lock) };
    }
    if case("lock-above-dispatch") {
        unsafe { KfRaiseIrql(5) };
        unsafe { KeAcquireSpinLockRaiseToDpc(lock) };
    }
    if case("lock-released-too-high") {
        unsafe { KeAcquireSpinLockRaiseToDpc(lock) };
        unsafe { KeReleaseSpinLock(lock, 9) };
    }
    if case("lock-on-return") {
        unsafe { KeAcquireSpinLockRaiseToDpc(lock) };
        unsafe { KeLowerIrql(0) };
    }
}

fn levels() {
    if case("correct") {
        let old = unsafe { KfRaiseIrql(DISPATCH) };
        unsafe { KeLowerIrql(old) };
    }
    if case("irql-raised-down") {
        unsafe { KfRaiseIrql(DISPATCH) };
        unsafe { KfRaiseIrql(1) };
    }
    if case("irql-lowered-up") {
        unsafe { KeLowerIrql(DISPATCH) };
    }
    if case("irql-on-return") {
        unsafe { KfRaiseIrql(DISPATCH) };
    }
    if case("ndis-above-its-irql") {
        unsafe { KfRaiseIrql(DISPATCH) };
        unsafe { NdisDeregisterDeviceEx(null_mut()) };
    }
}

/// A device description of the headers, and what the system reads behind it.
#[repr(C)]
struct Description {
    known: DEVICE_DESCRIPTION,
    tail: [u64; 3],
}

/// A DMA adapter of the card.
pub(crate) fn adapter() -> *mut DMA_ADAPTER {
    let known =
        DEVICE_DESCRIPTION { Version: 2, Master: 1, ScatterGather: 1, ..DEVICE_DESCRIPTION::default() };
    // The system's has 64 bytes, whatever headers say.
    let mut description = Description { known, tail: [0; 3] };
    if case("dma-version") {
        description.known.Version = 9;
    }
    if case("dma-description-tail") {
        description.tail = [0x5555; 3];
    }
    let mut registers = 0;
    unsafe { IoGetDmaAdapter(DEVICE.load(SeqCst).cast(), (&raw mut description).cast(), &raw mut registers) }
}

fn common(adapter: *mut DMA_ADAPTER, logical: &mut PHYSICAL_ADDRESS) -> *mut c_void {
    let operations = unsafe { &*(*adapter).DmaOperations };
    unsafe { operations.AllocateCommonBuffer.unwrap_unchecked()(adapter, 4096, logical, 1) }
}

fn free_common(adapter: *mut DMA_ADAPTER, length: u32, logical: PHYSICAL_ADDRESS, memory: *mut c_void) {
    let operations = unsafe { &*(*adapter).DmaOperations };
    unsafe { operations.FreeCommonBuffer.unwrap_unchecked()(adapter, length, logical, memory, 1) };
}

pub(crate) fn put(adapter: *mut DMA_ADAPTER) {
    let operations = unsafe { &*(*adapter).DmaOperations };
    unsafe { operations.PutDmaAdapter.unwrap_unchecked()(adapter) };
}

fn dma() {
    let mut logical = PHYSICAL_ADDRESS::default();
    if case("correct") {
        let adapter = adapter();
        let memory = common(adapter, &mut logical);
        free_common(adapter, 4096, logical, memory);
        put(adapter);
    }
    if case("dma-adapter-at-dispatch") {
        unsafe { KfRaiseIrql(DISPATCH) };
        adapter();
    }
    if case("dma-version") || case("dma-description-tail") {
        adapter();
    }
    if case("dma-no-device") {
        DEVICE.store(LIST.load(SeqCst).cast(), SeqCst);
        adapter();
    }
    if case("dma-put-with-buffers") {
        let adapter = adapter();
        common(adapter, &mut logical);
        put(adapter);
    }
    if case("dma-freed-twice") {
        let adapter = adapter();
        let memory = common(adapter, &mut logical);
        free_common(adapter, 4096, logical, memory);
        free_common(adapter, 4096, logical, memory);
    }
    if case("common-buffer-used-after-free") {
        let adapter = adapter();
        let memory = common(adapter, &mut logical);
        free_common(adapter, 4096, logical, memory);
        black_box(unsafe { memory.cast::<u8>().read_volatile() });
    }
    if case("dma-other-length") {
        let adapter = adapter();
        let memory = common(adapter, &mut logical);
        free_common(adapter, 8192, logical, memory);
    }
    if case("dma-freed-at-dispatch") {
        let adapter = adapter();
        let memory = common(adapter, &mut logical);
        unsafe { KfRaiseIrql(DISPATCH) };
        free_common(adapter, 4096, logical, memory);
    }
    if case("dma-overrun") {
        let adapter = adapter();
        let operations = unsafe { &*(*adapter).DmaOperations };
        let memory =
            unsafe { operations.AllocateCommonBuffer.unwrap_unchecked()(adapter, 5000, &mut logical, 1) };
        unsafe { memory.cast::<u8>().add(5000).write_volatile(1) };
        free_common(adapter, 5000, logical, memory);
    }
    if case("dma-no-adapter") {
        let adapter = adapter();
        let operations = unsafe { &*(*adapter).DmaOperations };
        unsafe { operations.PutDmaAdapter.unwrap_unchecked()(MEMORY.load(SeqCst).cast()) };
    }
    if case("dma-adapter-after-put") {
        let adapter = adapter();
        put(adapter);
        common(adapter, &mut logical);
    }
}

/// Needs more stack the deeper it is.
fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if depth == 0 { frame[0] } else { deeper(depth - 1) + black_box(frame)[1] }
}

/// A DPC that returns at another level, or with a lock.
unsafe extern "C" fn deferred(_dpc: *mut KDPC, lock: *mut c_void, _: *mut c_void, _: *mut c_void) {
    if case("dpc-irql") {
        unsafe { KfRaiseIrql(5) };
    }
    if case("dpc-lock") {
        unsafe { KeAcquireSpinLockAtDpcLevel(lock.cast()) };
    }
}

unsafe extern "system" fn nothing(_: *mut c_void, _: *mut c_void, _: *mut c_void, _: *mut c_void) {}

fn rest() {
    if case("stack-overflow") {
        black_box(deeper(1000));
    }
    if case("null-read") {
        black_box(unsafe { black_box(core::ptr::without_provenance::<u8>(8)).read_volatile() });
    }
    if case("dpc-irql") || case("dpc-lock") {
        // In memory that stays: the driver's own block.
        let dpc = allocate(64 + 8).cast::<KDPC>();
        let lock = unsafe { dpc.add(1) };
        unsafe { KeInitializeDpc(dpc, Some(deferred), lock.cast()) };
        unsafe { KeInsertQueueDpc(dpc, null_mut(), null_mut()) };
    }
    if case("mdl-left") || case("mdl-freed-twice") {
        let mdl = unsafe { NdisAllocateMdl(MODULE.load(SeqCst), MEMORY.load(SeqCst), 16) };
        if case("mdl-freed-twice") {
            unsafe { NdisFreeMdl(mdl) };
            unsafe { NdisFreeMdl(mdl) };
        }
    }
    if case("oid-completed-unasked") {
        let mut request: NDIS_OID_REQUEST = unsafe { core::mem::zeroed() };
        unsafe { NdisFOidRequestComplete(MODULE.load(SeqCst), &raw mut request, 0) };
    }
    if case("dpc-uninitialised") {
        let mut dpc = KDPC::default();
        unsafe { KeInsertQueueDpc(&raw mut dpc, null_mut(), null_mut()) };
    }
    if case("timer-freed-while-set") {
        free_timer(arm_timer());
    }
}

/// A timer that elapses in a second.
pub(crate) fn arm_timer() -> NDIS_HANDLE {
    let characteristics = NDIS_TIMER_CHARACTERISTICS {
        Header: NDIS_OBJECT_HEADER {
            Type: NDIS_OBJECT_TYPE_TIMER_CHARACTERISTICS,
            Revision: NDIS_TIMER_CHARACTERISTICS_REVISION_1,
            Size: NDIS_SIZEOF_TIMER_CHARACTERISTICS_REVISION_1,
        },
        AllocationTag: TAG,
        TimerFunction: Some(nothing),
        FunctionContext: null_mut(),
    };
    let mut timer = null_mut();
    unsafe { NdisAllocateTimerObject(MODULE.load(SeqCst), &raw const characteristics, &raw mut timer) };
    unsafe { NdisSetTimerObject(timer, -10_000_000, 0, null_mut()) };
    timer
}

pub(crate) fn free_timer(timer: NDIS_HANDLE) {
    unsafe { NdisFreeTimerObject(timer) };
}
