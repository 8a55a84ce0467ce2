//! Cases about receives, OID requests, status indications, clones and scatter/gather lists.
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::SeqCst};

use ndis_sys::*;

use crate::calls::*;
use crate::memory::{pool, raise, read};
use crate::{DEVICE, LIST, MDL, MODULE, POOL, case};

/// The OID request of others that was passed on, and its clone's original.
static ORIGINAL: AtomicPtr<NDIS_OID_REQUEST> = AtomicPtr::new(null_mut());
static KEPT: AtomicPtr<NET_BUFFER_LIST> = AtomicPtr::new(null_mut());
static REQUEST: AtomicUsize = AtomicUsize::new(0);
/// A `KEVENT`, signalled when the driver's own request is answered.
static ANSWERED: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];
/// `NotificationEvent`.
const NOTIFICATION: usize = 0;
static ASKED_TO_RESTART: AtomicUsize = AtomicUsize::new(0);

fn module() -> usize {
    MODULE.load(SeqCst).expose_provenance()
}

fn list() -> usize {
    LIST.load(SeqCst).expose_provenance()
}

fn indicate() {
    NdisFIndicateReceiveNetBufferLists(module(), list(), 0, 1, 0);
}

/// An OID request of the driver's own, which asks for the packet filter.
fn request() -> *mut NDIS_OID_REQUEST {
    let memory = pool(size_of::<NDIS_OID_REQUEST>());
    let request: *mut NDIS_OID_REQUEST = core::ptr::with_exposed_provenance_mut(memory);
    let header = NDIS_OBJECT_HEADER {
        Type: NDIS_OBJECT_TYPE_OID_REQUEST,
        Revision: NDIS_OID_REQUEST_REVISION_2,
        Size: NDIS_SIZEOF_OID_REQUEST_REVISION_2,
    };
    let information = NDIS_OID_INFORMATION {
        Oid: OID_GEN_CURRENT_PACKET_FILTER,
        InformationBuffer: core::ptr::with_exposed_provenance_mut(pool(4)),
        InformationBufferLength: 4,
        BytesWritten: 0,
        BytesNeeded: 0,
    };
    unsafe { (*request).Header = header };
    unsafe { (*request).DATA.QUERY_INFORMATION = information };
    request
}

pub(crate) fn ask() {
    let request = request();
    KeInitializeEvent(answered_event(), NOTIFICATION, 0);
    REQUEST.store(request.expose_provenance(), SeqCst);
    let status = unsafe { NdisFOidRequest(MODULE.load(SeqCst), request) };
    if case("correct") && status != NDIS_STATUS_PENDING {
        answered(request);
    }
}

/// Frees a request of the driver's own; only then may it ask again, or be detached.
fn answered(request: *mut NDIS_OID_REQUEST) {
    let buffer = unsafe { (*request).DATA.QUERY_INFORMATION.InformationBuffer };
    crate::memory::free(buffer.expose_provenance());
    crate::memory::free(request.expose_provenance());
    REQUEST.store(0, SeqCst);
    KeSetEvent(answered_event(), 0, 0);
}

fn answered_event() -> usize {
    ANSWERED.as_ptr().expose_provenance()
}

/// Waits for the answer of the driver's own request.
pub(crate) fn all_answered() {
    if REQUEST.load(SeqCst) != 0 {
        crate::waits::wait(answered_event(), 0);
    }
}

/// A restart that takes longer than its callback: completed by a work item, which frees itself.
pub(crate) fn restart_later() {
    let item = IoAllocateWorkItem(crate::DRIVER_OBJECT_PLACE.load(SeqCst));
    IoQueueWorkItem(item, (restarted as *const ()).expose_provenance(), 1, item);
}

extern "system" fn restarted(_object: usize, item: usize) {
    unsafe { NdisFRestartComplete(MODULE.load(SeqCst).cast(), 0) };
    IoFreeWorkItem(item);
}

/// `FilterSetModuleOptions`: the handlers that the module has already.
pub(crate) unsafe extern "system" fn module_options(context: NDIS_HANDLE) -> NDIS_STATUS {
    if !case("correct") {
        return NDIS_STATUS_SUCCESS;
    }
    let handlers = NDIS_FILTER_PARTIAL_CHARACTERISTICS {
        Header: NDIS_OBJECT_HEADER {
            Type: NDIS_OBJECT_TYPE_FILTER_PARTIAL_CHARACTERISTICS,
            Revision: NDIS_FILTER_PARTIAL_CHARACTERISTICS_REVISION_1,
            Size: NDIS_SIZEOF_FILTER_PARTIAL_CHARACTERISTICS_REVISION_1,
        },
        Flags: 0,
        SendNetBufferListsHandler: Some(crate::send),
        SendNetBufferListsCompleteHandler: Some(crate::send_complete),
        CancelSendNetBufferListsHandler: None,
        ReceiveNetBufferListsHandler: Some(receive),
        ReturnNetBufferListsHandler: Some(give_back),
    };
    unsafe { NdisSetOptionalHandlers(context, (&raw const handlers).cast()) }
}

/// A status indication of the driver's own.
fn indication() -> *mut NDIS_STATUS_INDICATION {
    let memory = pool(size_of::<NDIS_STATUS_INDICATION>());
    let indication: *mut NDIS_STATUS_INDICATION = core::ptr::with_exposed_provenance_mut(memory);
    let header = NDIS_OBJECT_HEADER {
        Type: NDIS_OBJECT_TYPE_STATUS_INDICATION,
        Revision: NDIS_STATUS_INDICATION_REVISION_1,
        Size: NDIS_SIZEOF_STATUS_INDICATION_REVISION_1,
    };
    unsafe { (*indication).Header = header };
    unsafe { (*indication).SourceHandle = MODULE.load(SeqCst) };
    unsafe { (*indication).StatusCode = NDIS_STATUS_LINK_STATE };
    indication
}

fn indicate_status(indication: *mut NDIS_STATUS_INDICATION) {
    unsafe { NdisFIndicateStatus(MODULE.load(SeqCst), indication) };
}

/// Offsets in `DMA_OPERATIONS`.
const GET_LIST: usize = 0x58;
const PUT_LIST: usize = 0x60;

extern "system" fn got(_device: usize, _irp: usize, list: usize, place: usize) {
    unsafe { core::ptr::with_exposed_provenance_mut::<usize>(place).write(list) };
}

/// A scatter/gather list over part of the driver's memory.
fn get_list(adapter: usize, offset: usize, bytes: usize) -> usize {
    type Get = extern "system" fn(usize, usize, usize, usize, usize, usize, usize, usize) -> usize;
    let place = pool(8);
    let function: Get = unsafe { core::mem::transmute(read(read(adapter + 8) + GET_LIST)) };
    let mdl = MDL.load(SeqCst);
    let start = unsafe { (*mdl).StartVa }.addr() + unsafe { (*mdl).ByteOffset } as usize;
    let routine = (got as *const ()).expose_provenance();
    function(adapter, 0, mdl.expose_provenance(), start + offset, bytes, routine, place, 0);
    let list = read(place);
    crate::memory::free(place);
    list
}

fn put_list(adapter: usize, list: usize) {
    let function: extern "system" fn(usize, usize, usize) =
        unsafe { core::mem::transmute(read(read(adapter + 8) + PUT_LIST)) };
    function(adapter, list, 1);
}

fn adapter() -> usize {
    crate::cases::adapter().expose_provenance()
}

/// Each case.
pub(crate) const CASES: &[(&str, fn())] = &[
    ("nbl-indicated-twice", || {
        indicate();
        indicate();
    }),
    ("receive-many-buffers", || {
        let list = LIST.load(SeqCst);
        let first = unsafe { (*list).Header.Data.FirstNetBuffer };
        let second: *mut NET_BUFFER = core::ptr::with_exposed_provenance_mut(pool(size_of::<NET_BUFFER>()));
        unsafe { (*first).Head.Data.Next = second };
        indicate();
    }),
    ("restart-complete-unasked", || {
        unsafe { NdisFRestartComplete(MODULE.load(SeqCst).cast(), 0) };
    }),
    ("oid-two-at-once", || {
        ask();
        ask();
    }),
    ("status-without-buffer", || {
        let indication = indication();
        unsafe { (*indication).StatusBufferSize = 16 };
        indicate_status(indication);
    }),
    ("status-without-header", || {
        let indication = indication();
        unsafe { (*indication).Header.Type = 0 };
        indicate_status(indication);
    }),
    ("status-source-handle", || {
        let indication = indication();
        unsafe { (*indication).SourceHandle = null_mut() };
        indicate_status(indication);
    }),
    ("pnp-illegal", || {
        let memory = pool(size_of::<NET_PNP_EVENT_NOTIFICATION>());
        let event: *mut NET_PNP_EVENT_NOTIFICATION = core::ptr::with_exposed_provenance_mut(memory);
        unsafe { (*event).NetPnPEvent.NetEvent = 99 };
        unsafe { NdisFNetPnPEvent(MODULE.load(SeqCst), event) };
    }),
    ("nbl-context-left", || {
        NdisAllocateNetBufferListContext(list(), 16, 0, crate::TAG as usize);
    }),
    ("nbl-freed-before-clone", || {
        NdisAllocateCloneNetBufferList(list(), POOL.load(SeqCst).expose_provenance(), 0, 0);
        unsafe { NdisFreeNetBufferList(LIST.load(SeqCst)) };
    }),
    ("dma-hal", || {
        HalGetAdapter(0, 0);
    }),
    ("sg-list-at-passive", || {
        get_list(adapter(), 0, 64);
    }),
    ("sg-list-put-twice", || {
        let adapter = adapter();
        raise();
        let list = get_list(adapter, 0, 64);
        put_list(adapter, list);
        put_list(adapter, list);
    }),
    ("sg-list-outside", || {
        let adapter = adapter();
        raise();
        get_list(adapter, 32, 64);
    }),
    ("sg-list-empty", || {
        let adapter = adapter();
        raise();
        get_list(adapter, 0, 0);
    }),
    ("dma-put-with-lists", || {
        let adapter = adapter();
        raise();
        get_list(adapter, 0, 64);
        crate::cases::put(core::ptr::with_exposed_provenance_mut(adapter));
    }),
];

/// The same things done right.
pub(crate) fn correct() {
    let clone = NdisAllocateCloneNetBufferList(list(), POOL.load(SeqCst).expose_provenance(), 0, 0);
    NdisFreeCloneNetBufferList(clone, 0);
    NdisAllocateNetBufferListContext(list(), 16, 0, crate::TAG as usize);
    NdisFreeNetBufferListContext(list(), 16);
    if !DEVICE.load(SeqCst).is_null() {
        let adapter = adapter();
        let level = raise();
        let list = get_list(adapter, 0, 64);
        put_list(adapter, list);
        KeLowerIrql(level);
        crate::cases::put(core::ptr::with_exposed_provenance_mut(adapter));
    }
    let indication = indication();
    indicate_status(indication);
    crate::memory::free(indication.expose_provenance());
    if REQUEST.load(SeqCst) == 0 {
        ask();
    }
    if ASKED_TO_RESTART.swap(1, SeqCst) == 0 {
        unsafe { NdisFRestartFilter(MODULE.load(SeqCst)) };
    }
}

/// `FilterReceiveNetBufferLists`.
pub(crate) unsafe extern "system" fn receive(
    _context: NDIS_HANDLE,
    lists: *mut NET_BUFFER_LIST,
    port: u32,
    count: u32,
    flags: u32,
) {
    let (chain, lent) = (lists.expose_provenance(), flags & NDIS_RECEIVE_FLAGS_RESOURCES != 0);
    if lent && case("resources-returned") {
        NdisFReturnNetBufferLists(module(), chain, 1);
        return;
    }
    if lent && case("resources-kept") {
        unsafe { nbl_set_next(lists, null_mut()) };
        return;
    }
    if !lent && case("nbl-returned-twice") {
        NdisFReturnNetBufferLists(module(), chain, 1);
        NdisFReturnNetBufferLists(module(), chain, 1);
        return;
    }
    if !lent && case("receive-kept") {
        return;
    }
    if !lent && case("paused-with-foreign") {
        KEPT.store(lists, SeqCst);
        unsafe { NdisFRestartFilter(MODULE.load(SeqCst)) };
        return;
    }
    NdisFIndicateReceiveNetBufferLists(module(), chain, port as usize, count as usize, flags as usize);
}

/// `FilterReturnNetBufferLists`: the driver's own list stays here.
pub(crate) unsafe extern "system" fn give_back(
    _context: NDIS_HANDLE,
    lists: *mut NET_BUFFER_LIST,
    flags: u32,
) {
    let mut at = lists;
    while !at.is_null() {
        let next = unsafe { nbl_next(at) };
        unsafe { nbl_set_next(at, null_mut()) };
        if at != LIST.load(SeqCst) {
            NdisFReturnNetBufferLists(module(), at.expose_provenance(), flags as usize);
        }
        at = next;
    }
}

/// `FilterOidRequest`: a clone goes down, one at a time.
pub(crate) unsafe extern "system" fn oid(
    _context: NDIS_HANDLE,
    request: *mut NDIS_OID_REQUEST,
) -> NDIS_STATUS {
    let module = MODULE.load(SeqCst);
    if case("oid-completed-pending") {
        unsafe { NdisFOidRequestComplete(module, request, NDIS_STATUS_PENDING) };
        return NDIS_STATUS_PENDING;
    }
    if case("oid-never-answered") {
        return NDIS_STATUS_PENDING;
    }
    if case("oid-bytes-written") {
        unsafe { (*request).DATA.QUERY_INFORMATION.BytesWritten = 1000 };
        return NDIS_STATUS_SUCCESS;
    }
    if case("oid-original") {
        return unsafe { NdisFOidRequest(module, request) };
    }
    let mut clone = null_mut();
    let status = unsafe { NdisAllocateCloneOidRequest(module, request, crate::TAG, &raw mut clone) };
    if status != NDIS_STATUS_SUCCESS {
        return status;
    }
    ORIGINAL.store(request, SeqCst);
    let status = unsafe { NdisFOidRequest(module, clone) };
    if status != NDIS_STATUS_PENDING {
        unsafe { finish(clone, request) };
    }
    status
}

/// What was answered to a clone goes to its original.
unsafe fn finish(clone: *mut NDIS_OID_REQUEST, original: *mut NDIS_OID_REQUEST) {
    let (written, needed) = unsafe {
        let answered = &(*clone).DATA.QUERY_INFORMATION;
        (answered.BytesWritten, answered.BytesNeeded)
    };
    unsafe { (*original).DATA.QUERY_INFORMATION.BytesWritten = written };
    unsafe { (*original).DATA.QUERY_INFORMATION.BytesNeeded = needed };
    unsafe { NdisFreeCloneOidRequest(MODULE.load(SeqCst), clone) };
}

/// `FilterOidRequestComplete`.
pub(crate) unsafe extern "system" fn oid_complete(
    _context: NDIS_HANDLE,
    clone: *mut NDIS_OID_REQUEST,
    status: NDIS_STATUS,
) {
    if clone.expose_provenance() == REQUEST.load(SeqCst) {
        if case("correct") {
            answered(clone);
        }
        return;
    }
    let original = ORIGINAL.load(SeqCst);
    unsafe { finish(clone, original) };
    unsafe { NdisFOidRequestComplete(MODULE.load(SeqCst), original, status) };
}

/// `FilterStatus`.
pub(crate) unsafe extern "system" fn status(_context: NDIS_HANDLE, indication: *mut NDIS_STATUS_INDICATION) {
    unsafe { NdisFIndicateStatus(MODULE.load(SeqCst), indication) };
}

/// `FilterNetPnPEvent`.
pub(crate) unsafe extern "system" fn net_event(
    _context: NDIS_HANDLE,
    event: *mut NET_PNP_EVENT_NOTIFICATION,
) -> NDIS_STATUS {
    unsafe { NdisFNetPnPEvent(MODULE.load(SeqCst), event) }
}

/// `FilterDevicePnPEventNotify`.
pub(crate) unsafe extern "system" fn device_event(_context: NDIS_HANDLE, event: *mut NET_DEVICE_PNP_EVENT) {
    unsafe { NdisFDevicePnPEventNotify(MODULE.load(SeqCst), event) };
}
