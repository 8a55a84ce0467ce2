//! OID requests: regular, direct and synchronous, down a stack and back.
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ndis_sys::{
    NDIS_OID_REQUEST as Request, NDIS_STATUS_INVALID_OID, NDIS_STATUS_INVALID_PARAMETER,
    NDIS_STATUS_REQUEST_ABORTED, NDIS_STATUS_RESOURCES, OID_802_3_CURRENT_ADDRESS,
    OID_GEN_CURRENT_PACKET_FILTER, OID_GEN_LINK_SPEED, OID_GEN_MAXIMUM_FRAME_SIZE,
    OID_GEN_MAXIMUM_TOTAL_SIZE, OID_GEN_MEDIA_CONNECT_STATUS,
};
use rustc_hash::FxHashMap;

use super::adapter::{Adapter, Oids};
use super::module::{Module, OidHandlers};
use super::{stack, status};
use crate::kernel::{Call, Function, after_callback, function};
use crate::machine::{Machine, current};
use crate::memory::{Use, bytes, field, get, put, put_bytes, set};
use crate::rule;

pub(crate) const FUNCTIONS: &[Function] = &[
    function!("NdisFOidRequest", 2, Dispatch, |machine, call| request(machine, call, Kind::Regular)),
    function!("NdisFOidRequestComplete", 3, Dispatch, |machine, call| complete_call(machine, call)),
    function!("NdisFCancelOidRequest", 2, Dispatch, |machine, call| cancel_call(
        machine,
        call,
        Kind::Regular
    )),
    function!("NdisFDirectOidRequest", 2, Dispatch, |machine, call| request(machine, call, Kind::Direct)),
    function!("NdisFDirectOidRequestComplete", 3, Dispatch, |machine, call| complete_call(machine, call)),
    function!("NdisFCancelDirectOidRequest", 2, Dispatch, |machine, call| {
        cancel_call(machine, call, Kind::Direct)
    }),
    function!("NdisFSynchronousOidRequest", 2, Dispatch, |machine, call| {
        let module = machine.ndis.module(machine, call.arg(0), "NdisFSynchronousOidRequest");
        let adapter = module.adapter();
        let at = stack::position(&adapter, &module);
        synchronous(machine, &adapter, at, call.arg(1)) as u64
    }),
    function!("NdisAllocateCloneOidRequest", 4, Dispatch, clone),
    function!("NdisFreeCloneOidRequest", 2, Dispatch, |machine, call| {
        machine.checked();
        if !machine.ndis.oids.clones.borrow_mut().contains_key(&call.arg(1)) {
            let text = "A clone of an OID request is freed that is not allocated: freed twice?";
            machine.stop(&rule::OBJECT, [call.arg(1), 0, 0], text);
            return 0;
        }
        machine.ndis.oids.clones.borrow_mut().remove(&call.arg(1));
        machine.memory.free(call.arg(1));
        0
    }),
];

/// NDIS's watchdog for a request that a filter does not answer: 12 seconds, as Driver Verifier has it for miniports.
const LIMIT: u64 = 12 * 10_000_000;

/// Bytes of an Ethernet header, which the longest packet counts and the MTU does not.
const ETHERNET_HEADER: u32 = 14;

/// Which of the handlers a request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Regular,
    Direct,
}

/// Who waits for an answer.
#[derive(Clone)]
enum Issuer {
    Protocol(Rc<Cell<Option<i32>>>),
    Module(Rc<Module>),
}

struct Pending {
    issuer: Issuer,
    /// The module that has it, or 0 for the adapter.
    holder: u64,
    kind: Kind,
    adapter: Rc<Adapter>,
}

/// Requests on their way, by address, and clones.
#[derive(Default)]
pub(crate) struct OidRequests {
    pending: RefCell<FxHashMap<u64, Pending>>,
    clones: RefCell<FxHashMap<u64, u64>>,
}

impl OidRequests {
    /// Clones that were not freed.
    pub(crate) fn clones_left(&self) -> usize {
        self.clones.borrow().len()
    }

    /// Requests of a module that are out, or that it has not answered.
    pub(crate) fn left_with(&self, module: u64) -> usize {
        let of = |pending: &&Pending| {
            pending.holder == module
                || matches!(&pending.issuer, Issuer::Module(issuer) if issuer.handle == module)
        };
        self.pending.borrow().values().filter(of).count()
    }
}

fn handlers(module: &Module, kind: Kind) -> OidHandlers {
    match kind {
        Kind::Regular => module.driver.handlers.oid,
        Kind::Direct => module.driver.handlers.direct_oid,
    }
}

fn clone(machine: &Machine, call: &Call<'_>) -> u64 {
    machine.ndis.module(machine, call.arg(0), "NdisAllocateCloneOidRequest");
    if machine.pool_fails() {
        return u64::from(NDIS_STATUS_RESOURCES as u32);
    }
    let size = size_of::<Request>();
    let clone = machine.memory.allocate(size as u64, Use::System("NDIS_OID_REQUEST"));
    put_bytes(clone, &bytes(call.arg(1), size));
    machine.ndis.oids.clones.borrow_mut().insert(clone, call.arg(1));
    put(call.arg(3), clone);
    0
}

/// Gives a request to the module below position `from`, or to the adapter; its status, or PENDING.
fn down(
    machine: &Machine,
    adapter: &Rc<Adapter>,
    from: usize,
    request: u64,
    kind: Kind,
    issuer: Issuer,
) -> i32 {
    let lower = {
        let modules = adapter.modules.borrow();
        modules.iter().take(from).rev().find(|module| handlers(module, kind).request != 0).cloned()
    };
    let pending = Pending {
        issuer,
        holder: lower.as_ref().map_or(0, |module| module.handle),
        kind,
        adapter: adapter.clone(),
    };
    machine.ndis.oids.pending.borrow_mut().insert(request, pending);
    machine.log.kind(request, "NDIS_OID_REQUEST");
    machine.event(request, "given down");
    let result = match lower {
        Some(module) => {
            let irql = machine.scheduler.irql();
            let result =
                machine.call(handlers(&module, kind).request, &[module.context.get(), request]) as i32;
            after_callback(machine, "FilterOidRequest", irql);
            if result == status::PENDING {
                watch(machine, request, module.handle);
            }
            result
        }
        None => adapter_request(machine, adapter, request),
    };
    if result != status::PENDING {
        machine.ndis.oids.pending.borrow_mut().remove(&request);
        check_answer(machine, request, result);
    }
    result
}

fn watch(machine: &Machine, request: u64, holder: u64) {
    machine.scheduler.after(LIMIT, move || {
        let machine = current();
        let same = {
            let pending = machine.ndis.oids.pending.borrow();
            pending.get(&request).is_some_and(|pending| pending.holder == holder)
        };
        if same {
            let text = "A filter has not answered an OID request within 12 seconds".to_owned();
            let who = ("NDIS watchdog", 0);
            machine.stop_outside(&rule::OID_WATCHDOG, [0x24, holder, request], text, who, Vec::new());
        }
    });
}

/// What a miniport does with a request: at once, or later.
fn adapter_request(machine: &Machine, adapter: &Rc<Adapter>, request: u64) -> i32 {
    let later = match adapter.settings.oids {
        Oids::Inline => false,
        Oids::Late => true,
        Oids::Any => machine.scheduler.choose(2) == 1,
    };
    if !later {
        return miniport(adapter, request);
    }
    let delay = machine.scheduler.choose(200) * 10;
    let adapter = adapter.clone();
    machine.scheduler.after(delay, move || {
        let owner = adapter.clone();
        current().spawn("the miniport's OID requests", move || {
            let still = current().ndis.oids.pending.borrow().contains_key(&request);
            if still {
                let status = miniport(&owner, request);
                complete(current(), request, 0, status);
            }
        });
    });
    status::PENDING
}

/// What NDIS answers itself for a miniport, and does not to a filter: an NDIS developer's word on a filter's own queries
/// of these (nmap issue 1127).
const NOT_FOR_FILTERS: [u32; 3] =
    [OID_GEN_MAXIMUM_FRAME_SIZE, OID_GEN_LINK_SPEED, OID_GEN_MEDIA_CONNECT_STATUS];

/// The miniport's OID handler: it knows the packet filter, its address, and how long a packet may be.
fn miniport(adapter: &Adapter, request: u64) -> i32 {
    let oid = field!(request, Request, DATA.QUERY_INFORMATION.Oid, u32);
    let buffer = field!(request, Request, DATA.QUERY_INFORMATION.InformationBuffer, u64);
    let length = field!(request, Request, DATA.QUERY_INFORMATION.InformationBufferLength, u32);
    let sets = field!(request, Request, RequestType, i32) == ndis_sys::NdisRequestSetInformation;
    let mut value = adapter.packet_filter.get().to_le_bytes().to_vec();
    match oid {
        OID_GEN_CURRENT_PACKET_FILTER => {}
        OID_GEN_MAXIMUM_TOTAL_SIZE if !sets && adapter.answers_total_size.get() => {
            value = (adapter.medium_mtu.get() + ETHERNET_HEADER).to_le_bytes().to_vec();
        }
        OID_802_3_CURRENT_ADDRESS if !sets => value = adapter.mac().to_vec(),
        _ => return NDIS_STATUS_INVALID_OID,
    }
    if (length as usize) < value.len() {
        set!(request, Request, DATA.QUERY_INFORMATION.BytesNeeded, value.len() as u32);
        return ndis_sys::NDIS_STATUS_BUFFER_TOO_SHORT;
    }
    if sets {
        adapter.packet_filter.set(get::<u32>(buffer));
    } else {
        put_bytes(buffer, &value);
    }
    set!(request, Request, DATA.QUERY_INFORMATION.BytesWritten, value.len() as u32);
    status::SUCCESS
}

fn check_answer(machine: &Machine, request: u64, status: i32) {
    machine.checked();
    let query = field!(request, Request, RequestType, i32) != ndis_sys::NdisRequestMethod;
    let length = field!(request, Request, DATA.QUERY_INFORMATION.InformationBufferLength, u32);
    let written = field!(request, Request, DATA.QUERY_INFORMATION.BytesWritten, u32);
    if status == status::SUCCESS && query && written > length {
        let text =
            format!("An OID request is completed with {written} bytes written to a buffer of {length}");
        machine.stop_about(&rule::OID_BUFFER, [0x1D, request, u64::from(written), 0], text, request);
    }
}

/// A request is completed by who has it: whoever issued it goes on.
fn complete(machine: &Machine, request: u64, by: u64, status: i32) {
    machine.checked();
    if status == status::PENDING {
        let text = "An OID request is completed with NDIS_STATUS_PENDING (rule NdisOidComplete)";
        machine.stop_about(&rule::OID_COMPLETE, [0x91001, request, 0, 0], text, request);
    }
    let mine = {
        let pending = machine.ndis.oids.pending.borrow();
        pending.get(&request).is_some_and(|pending| pending.holder == by)
    };
    if !mine {
        let text = "An OID request is completed that is not pending (rule NdisOidDoubleComplete)";
        machine.stop_about(&rule::OID_TWICE, [0x91002, request, 0, 0], text, request);
        return;
    }
    let Some(pending) = machine.ndis.oids.pending.borrow_mut().remove(&request) else { return };
    machine.event(request, "completed");
    check_answer(machine, request, status);
    match pending.issuer {
        Issuer::Protocol(done) => done.set(Some(status)),
        Issuer::Module(module) => {
            if pending.kind == Kind::Regular {
                module.own_oid.set(0);
            }
            let handler = handlers(&module, pending.kind).complete;
            if handler == 0 {
                let text = "An OID request comes back to a module without FilterOidRequestComplete";
                machine.stop(&rule::MISSING_HANDLER, [module.handle, request, 0], text);
                return;
            }
            let irql = machine.scheduler.irql();
            machine.call(handler, &[module.context.get(), request, status as u64]);
            after_callback(machine, "FilterOidRequestComplete", irql);
        }
    }
}

fn complete_call(machine: &Machine, call: &Call<'_>) -> u64 {
    let module = machine.ndis.module(machine, call.arg(0), call.function.name);
    complete(machine, call.arg(1), module.handle, call.arg(2) as i32);
    0
}

/// `NdisFOidRequest` and its direct kin: a module asks what is below it.
fn request(machine: &Machine, call: &Call<'_>, kind: Kind) -> u64 {
    let module = machine.ndis.module(machine, call.arg(0), call.function.name);
    stack::may_indicate(machine, &module, call.function.name);
    super::exports::check_no_locks(machine, call.function.name);
    let request = call.arg(1);
    if get::<u8>(request) != ndis_sys::NDIS_OBJECT_TYPE_OID_REQUEST {
        return u64::from(NDIS_STATUS_INVALID_PARAMETER as u32);
    }
    machine.checked();
    let foreign = {
        let pending = machine.ndis.oids.pending.borrow();
        pending.get(&request).is_some_and(|pending| pending.holder == module.handle)
    };
    if foreign {
        let text = "An OID request of others is passed on itself and not as a clone";
        machine.stop_about(&rule::OID_ORIGINAL, [24, request, module.handle, 0], text, request);
    }
    if kind == Kind::Regular {
        let before = module.own_oid.replace(request);
        if before != 0 {
            let text = "A module sends an OID request down while another of its own is out";
            machine.stop_about(&rule::OID_SERIAL, [23, request, before, module.handle], text, request);
        }
    }
    let adapter = module.adapter();
    let at = stack::position(&adapter, &module);
    let own = !machine.ndis.oids.clones.borrow().contains_key(&request);
    let oid = field!(request, Request, DATA.QUERY_INFORMATION.Oid, u32);
    if own && NOT_FOR_FILTERS.contains(&oid) {
        module.own_oid.set(0);
        return u64::from(NDIS_STATUS_INVALID_OID as u32);
    }
    let status = down(machine, &adapter, at, request, kind, Issuer::Module(module.clone()));
    if status != status::PENDING && kind == Kind::Regular {
        module.own_oid.set(0);
    }
    u64::from(status as u32)
}

fn cancel_call(machine: &Machine, call: &Call<'_>, kind: Kind) -> u64 {
    let module = machine.ndis.module(machine, call.arg(0), call.function.name);
    let adapter = module.adapter();
    let at = stack::position(&adapter, &module);
    cancel(machine, &adapter, at, call.arg(1), kind);
    0
}

/// Cancels requests with an id, from above position `from`: the module that has one is told, or the adapter.
fn cancel(machine: &Machine, adapter: &Rc<Adapter>, from: usize, id: u64, kind: Kind) {
    let found: Vec<(u64, u64)> = {
        let pending = machine.ndis.oids.pending.borrow();
        let matches = |(request, pending): &(&u64, &Pending)| {
            Rc::ptr_eq(&pending.adapter, adapter)
                && pending.kind == kind
                && field!(**request, Request, RequestId, u64) == id
        };
        let mut found: Vec<_> = pending.iter().filter(matches).map(|(at, one)| (*at, one.holder)).collect();
        found.sort_unstable();
        found
    };
    let below: Vec<Rc<Module>> = adapter.modules.borrow().iter().take(from).rev().cloned().collect();
    for module in below {
        if found.iter().any(|(_, holder)| *holder == module.handle) {
            let handler = handlers(&module, kind).cancel;
            if handler != 0 {
                let irql = machine.scheduler.irql();
                machine.call(handler, &[module.context.get(), id]);
                after_callback(machine, "FilterCancelOidRequest", irql);
            }
            return;
        }
    }
    for (request, _) in found.iter().filter(|(_, holder)| *holder == 0) {
        complete(machine, *request, 0, NDIS_STATUS_REQUEST_ABORTED);
    }
}

fn synchronous(machine: &Machine, adapter: &Rc<Adapter>, from: usize, request: u64) -> i32 {
    let lower = {
        let modules = adapter.modules.borrow();
        let handled = |module: &&Rc<Module>| module.driver.handlers.synchronous_oid != (0, 0);
        modules.iter().take(from).rev().find(handled).cloned()
    };
    let Some(module) = lower else { return miniport(adapter, request) };
    let (ask, answered) = module.driver.handlers.synchronous_oid;
    let below = stack::position(adapter, &module);
    let place = machine.memory.allocate(16, Use::System("call context and status"));
    let irql = machine.scheduler.irql();
    let mut result = status::SUCCESS;
    if ask != 0 {
        result = machine.call(ask, &[module.context.get(), request, place]) as i32;
        after_callback(machine, "FilterSynchronousOidRequest", irql);
    }
    if result == status::SUCCESS {
        result = synchronous(machine, adapter, below, request);
        if answered != 0 {
            put::<i32>(place + 8, result);
            machine.call(answered, &[module.context.get(), request, place + 8, get(place)]);
            after_callback(machine, "FilterSynchronousOidRequestComplete", irql);
            result = get(place + 8);
        }
    }
    machine.memory.free(place);
    result
}

/// How a protocol asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A regular query.
    Query,
    /// A regular query that is cancelled at once if it pends.
    QueryCancelled,
    /// A regular set, of a value of four bytes.
    Set(u32),
    /// A direct query.
    Direct,
    /// A synchronous query.
    Synchronous,
}

/// The protocol asks an OID through the stack, on the running thread: status and answer of four bytes.
pub(crate) fn ask(machine: &Machine, adapter: &Rc<Adapter>, oid: u32, how: Ask) -> (i32, u32) {
    let watched = adapter.clone();
    machine.scheduler.wait("the stack to be complete", None, move || !watched.oids_wait.get());
    // A protocol that is not bound asks nobody.
    if !adapter.is_present() {
        return (status::ADAPTER_REMOVED, 0);
    }
    adapter.oids_out.set(adapter.oids_out.get() + 1);
    let answer = ask_bound(machine, adapter, oid, how);
    adapter.oids_out.set(adapter.oids_out.get() - 1);
    answer
}

fn ask_bound(machine: &Machine, adapter: &Rc<Adapter>, oid: u32, how: Ask) -> (i32, u32) {
    let request = machine.memory.allocate(size_of::<Request>() as u64, Use::System("NDIS_OID_REQUEST"));
    let answer = machine.memory.allocate(8, Use::System("OID buffer"));
    stack::header(
        request,
        ndis_sys::NDIS_OBJECT_TYPE_OID_REQUEST,
        ndis_sys::NDIS_OID_REQUEST_REVISION_2,
        ndis_sys::NDIS_SIZEOF_OID_REQUEST_REVISION_2,
    );
    let id = machine.ndis.new_handle();
    set!(request, Request, RequestId, id);
    let sets = matches!(how, Ask::Set(_));
    let kind = if sets { ndis_sys::NdisRequestSetInformation } else { ndis_sys::NdisRequestQueryInformation };
    set!(request, Request, RequestType, kind);
    set!(request, Request, DATA.QUERY_INFORMATION.Oid, oid);
    set!(request, Request, DATA.QUERY_INFORMATION.InformationBuffer, answer);
    set!(request, Request, DATA.QUERY_INFORMATION.InformationBufferLength, 8u32);
    if let Ask::Set(value) = how {
        put::<u32>(answer, value);
    }
    let top = adapter.modules.borrow().len();
    let status = if how == Ask::Synchronous {
        synchronous(machine, adapter, top, request)
    } else {
        let kind = if how == Ask::Direct { Kind::Direct } else { Kind::Regular };
        if kind == Kind::Regular {
            let before = adapter.clone();
            machine.scheduler.wait("the OID request before", None, move || !before.oid_busy.get());
            adapter.oid_busy.set(true);
        }
        let done = Rc::new(Cell::new(None));
        let status = down(machine, adapter, top, request, kind, Issuer::Protocol(done.clone()));
        let status = if status == status::PENDING {
            if how == Ask::QueryCancelled {
                machine.scheduler.point();
                cancel(machine, adapter, top, id, kind);
            }
            let waited = done.clone();
            machine.scheduler.wait("an OID request", None, move || waited.get().is_some());
            done.get().unwrap_or(status)
        } else {
            status
        };
        if kind == Kind::Regular {
            adapter.oid_busy.set(false);
        }
        status
    };
    let value = get(answer);
    machine.memory.free(request);
    machine.memory.free(answer);
    (status, value)
}
