//! NDIS's callbacks: translate in, call, translate out.
#![expect(unsafe_code, reason = "callbacks receive pointers")]
use core::ffi::c_void;
use core::sync::atomic::Ordering;

use ndis_sys::{
    NDIS_FILTER_ATTACH_PARAMETERS, NDIS_FILTER_PARTIAL_CHARACTERISTICS,
    NDIS_FILTER_PARTIAL_CHARACTERISTICS_REVISION_1, NDIS_FILTER_PAUSE_PARAMETERS,
    NDIS_FILTER_RESTART_PARAMETERS, NDIS_HANDLE, NDIS_OBJECT_HEADER,
    NDIS_OBJECT_TYPE_FILTER_PARTIAL_CHARACTERISTICS, NDIS_OID_REQUEST,
    NDIS_SIZEOF_FILTER_PARTIAL_CHARACTERISTICS_REVISION_1, NDIS_STATUS, NDIS_STATUS_FAILURE,
    NDIS_STATUS_INDICATION, NDIS_STATUS_PAUSED, NDIS_STATUS_PENDING, NDIS_STATUS_SUCCESS, NET_BUFFER_LIST,
    NET_DEVICE_PNP_EVENT, NET_PNP_EVENT_NOTIFICATION,
};
use sluice_core::lifecycle::State;
use sluice_kernel::irql::Passive;
use sluice_ndis::filter::Handle;
use sluice_ndis::list::Chain;

use crate::module::Module;
use crate::{TAG, attach};

/// The module of a callback.
///
/// # Safety
/// `context` is what `FilterAttach` gave NDIS, and the module is not detached during the callback.
unsafe fn module<'a>(context: NDIS_HANDLE) -> &'a Module {
    // SAFETY: NDIS's reference keeps the module until FilterDetach.
    unsafe { &*context.cast::<Module>() }
}

fn status(result: Result<(), NDIS_STATUS>) -> NDIS_STATUS {
    result.map_or_else(|error| error, |()| NDIS_STATUS_SUCCESS)
}

/// `FilterSetOptions`: no optional driver handlers.
pub(crate) unsafe extern "system" fn set_options(_driver: NDIS_HANDLE, _context: NDIS_HANDLE) -> NDIS_STATUS {
    NDIS_STATUS_SUCCESS
}

/// `FilterAttach`.
pub(crate) unsafe extern "system" fn filter_attach(
    handle: NDIS_HANDLE,
    _driver_context: NDIS_HANDLE,
    parameters: *mut NDIS_FILTER_ATTACH_PARAMETERS,
) -> NDIS_STATUS {
    // SAFETY: NDIS attaches at PASSIVE_LEVEL.
    let mut passive = unsafe { Passive::assume() };
    // SAFETY: the arguments are passed on as they came.
    status(unsafe { attach::attach(&mut passive, handle, parameters) })
}

/// `FilterDetach`.
pub(crate) unsafe extern "system" fn filter_detach(context: NDIS_HANDLE) {
    // SAFETY: NDIS detaches at PASSIVE_LEVEL.
    let mut passive = unsafe { Passive::assume() };
    // SAFETY: NDIS uses the context no more.
    unsafe { attach::detach(&mut passive, context) };
}

/// `FilterSetModuleOptions`: the data handlers are there while somebody uses the module, and only then.
pub(crate) unsafe extern "system" fn set_module_options(context: NDIS_HANDLE) -> NDIS_STATUS {
    // SAFETY: NDIS keeps the module attached during the callback.
    let module = unsafe { module(context) };
    // SAFETY: NDIS calls this at PASSIVE_LEVEL.
    let passive = unsafe { Passive::assume() };
    let wanted = module.wanted();
    let mut handlers = NDIS_FILTER_PARTIAL_CHARACTERISTICS {
        Header: NDIS_OBJECT_HEADER {
            Type: NDIS_OBJECT_TYPE_FILTER_PARTIAL_CHARACTERISTICS,
            Revision: NDIS_FILTER_PARTIAL_CHARACTERISTICS_REVISION_1,
            Size: NDIS_SIZEOF_FILTER_PARTIAL_CHARACTERISTICS_REVISION_1,
        },
        Flags: 0,
        SendNetBufferListsHandler: None,
        SendNetBufferListsCompleteHandler: None,
        CancelSendNetBufferListsHandler: None,
        ReceiveNetBufferListsHandler: None,
        ReturnNetBufferListsHandler: None,
    };
    if wanted {
        handlers.SendNetBufferListsHandler = Some(send);
        handlers.SendNetBufferListsCompleteHandler = Some(send_complete);
        handlers.CancelSendNetBufferListsHandler = Some(cancel_send);
    }
    let result = module.handle.set_handlers(&passive, &handlers);
    module.installed.store(wanted && result.is_ok(), Ordering::SeqCst);
    status(result)
}

/// `FilterRestart`.
pub(crate) unsafe extern "system" fn filter_restart(
    context: NDIS_HANDLE,
    parameters: *mut NDIS_FILTER_RESTART_PARAMETERS,
) -> NDIS_STATUS {
    // SAFETY: NDIS keeps the module attached during the callback.
    let module = unsafe { module(context) };
    // SAFETY: NDIS restarts at PASSIVE_LEVEL.
    let mut passive = unsafe { Passive::assume() };
    // SAFETY: the parameters are passed on as they came.
    let attributes = unsafe { attach::restart_attributes(parameters) };
    match module.restart(&mut passive, attributes) {
        Ok(()) => NDIS_STATUS_SUCCESS,
        Err(_) => NDIS_STATUS_FAILURE,
    }
}

/// `FilterPause`, which cannot fail.
pub(crate) unsafe extern "system" fn filter_pause(
    context: NDIS_HANDLE,
    _parameters: *mut NDIS_FILTER_PAUSE_PARAMETERS,
) -> NDIS_STATUS {
    // SAFETY: NDIS keeps the module attached during the callback.
    let module = unsafe { module(context) };
    match module.pause() {
        // A pause out of turn finds a module from which nothing is out.
        Ok(true) | Err(_) => NDIS_STATUS_SUCCESS,
        Ok(false) => NDIS_STATUS_PENDING,
    }
}

/// `FilterSendNetBufferLists`: the host's traffic passes.
unsafe extern "system" fn send(context: NDIS_HANDLE, lists: *mut NET_BUFFER_LIST, port: u32, flags: u32) {
    // SAFETY: NDIS keeps the module attached during the callback.
    let module = unsafe { module(context) };
    // SAFETY: NDIS hands the lists over.
    let lists = unsafe { Chain::from_raw(lists) };
    if module.life.state() == State::Running {
        module.counters.passed_through.add(1);
        module.handle.forward_send(lists, port, flags);
        return;
    }
    let mut refused = Chain::new();
    for mut list in lists {
        list.set_status(NDIS_STATUS_PAUSED);
        refused.push(list);
    }
    module.handle.complete_send(refused, Handle::completion_flags(flags));
}

/// `FilterSendNetBufferListsComplete`.
unsafe extern "system" fn send_complete(context: NDIS_HANDLE, lists: *mut NET_BUFFER_LIST, flags: u32) {
    // SAFETY: NDIS keeps the module attached during the callback, or until its last list is counted back.
    let module = unsafe { module(context) };
    // SAFETY: NDIS hands the lists over.
    let lists = unsafe { Chain::from_raw(lists) };
    module.sends_completed(lists, flags);
}

/// `FilterCancelSendNetBufferLists`: nothing of others is queued here, so the drivers below are asked.
unsafe extern "system" fn cancel_send(context: NDIS_HANDLE, id: *mut c_void) {
    // SAFETY: NDIS keeps the module attached during the callback.
    let module = unsafe { module(context) };
    module.handle.cancel_sends(id as u64);
}

/// `FilterOidRequest`.
pub(crate) unsafe extern "system" fn oid_request(
    context: NDIS_HANDLE,
    request: *mut NDIS_OID_REQUEST,
) -> NDIS_STATUS {
    // SAFETY: NDIS keeps the module attached during the callback.
    let module = unsafe { module(context) };
    // SAFETY: the request is passed on as it came.
    unsafe { module.oid.forward(module.handle, request, TAG) }
}

/// `FilterOidRequestComplete`.
pub(crate) unsafe extern "system" fn oid_request_complete(
    context: NDIS_HANDLE,
    request: *mut NDIS_OID_REQUEST,
    status: NDIS_STATUS,
) {
    // SAFETY: NDIS keeps the module attached during the callback.
    let module = unsafe { module(context) };
    // SAFETY: the request is the clone that was forwarded.
    unsafe { module.oid.completed(module.handle, request, status) };
}

/// `FilterCancelOidRequest`.
pub(crate) unsafe extern "system" fn cancel_oid_request(context: NDIS_HANDLE, id: *mut c_void) {
    // SAFETY: NDIS keeps the module attached during the callback.
    let module = unsafe { module(context) };
    module.oid.cancel(module.handle, id as u64);
}

/// `FilterStatus`.
pub(crate) unsafe extern "system" fn filter_status(
    context: NDIS_HANDLE,
    indication: *mut NDIS_STATUS_INDICATION,
) {
    // SAFETY: NDIS keeps the module attached during the callback.
    let module = unsafe { module(context) };
    // SAFETY: the indication is passed on as it came.
    unsafe { module.handle.indicate_status(indication) };
}

/// `FilterNetPnPEvent`.
pub(crate) unsafe extern "system" fn net_pnp_event(
    context: NDIS_HANDLE,
    event: *mut NET_PNP_EVENT_NOTIFICATION,
) -> NDIS_STATUS {
    // SAFETY: NDIS keeps the module attached during the callback.
    let module = unsafe { module(context) };
    // SAFETY: NDIS calls this at PASSIVE_LEVEL.
    let passive = unsafe { Passive::assume() };
    // SAFETY: the event is passed on as it came.
    unsafe { module.handle.net_pnp_event(&passive, event) }
}

/// `FilterDevicePnPEventNotify`.
pub(crate) unsafe extern "system" fn device_pnp_event(
    context: NDIS_HANDLE,
    event: *mut NET_DEVICE_PNP_EVENT,
) {
    // SAFETY: NDIS keeps the module attached during the callback.
    let module = unsafe { module(context) };
    // SAFETY: NDIS calls this at PASSIVE_LEVEL.
    let passive = unsafe { Passive::assume() };
    // SAFETY: the event is passed on as it came.
    unsafe { module.handle.device_pnp_event(&passive, event) };
}
