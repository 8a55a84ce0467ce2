//! Callback types of a filter driver, with the highest IRQL that NDIS calls them at.
use core::ffi::c_void;

use crate::{
    MDL, NDIS_FILTER_ATTACH_PARAMETERS, NDIS_FILTER_PAUSE_PARAMETERS, NDIS_FILTER_RESTART_PARAMETERS,
    NDIS_HANDLE, NDIS_OID_REQUEST, NDIS_PORT_NUMBER, NDIS_STATUS, NDIS_STATUS_INDICATION, NET_BUFFER_LIST,
    NET_DEVICE_PNP_EVENT, NET_PNP_EVENT_NOTIFICATION,
};

macro_rules! handlers {
    ($($(#[$meta:meta])* $name:ident($($arg:ty),*) $(-> $ret:ty)?;)*) => {
        $($(#[$meta])* pub type $name = Option<unsafe extern "system" fn($($arg),*) $(-> $ret)?>;)*
    };
}

handlers! {
    /// `FilterSetOptions`, `PASSIVE_LEVEL`.
    SET_OPTIONS(NDIS_HANDLE, NDIS_HANDLE) -> NDIS_STATUS;
    /// `FilterSetModuleOptions`, `PASSIVE_LEVEL`.
    FILTER_SET_MODULE_OPTIONS(NDIS_HANDLE) -> NDIS_STATUS;
    /// `FilterAttach`, `PASSIVE_LEVEL`.
    FILTER_ATTACH(NDIS_HANDLE, NDIS_HANDLE, *mut NDIS_FILTER_ATTACH_PARAMETERS) -> NDIS_STATUS;
    /// `FilterDetach`, `PASSIVE_LEVEL`.
    FILTER_DETACH(NDIS_HANDLE);
    /// `FilterRestart`, `PASSIVE_LEVEL`.
    FILTER_RESTART(NDIS_HANDLE, *mut NDIS_FILTER_RESTART_PARAMETERS) -> NDIS_STATUS;
    /// `FilterPause`, `PASSIVE_LEVEL`.
    FILTER_PAUSE(NDIS_HANDLE, *mut NDIS_FILTER_PAUSE_PARAMETERS) -> NDIS_STATUS;
    /// `FilterSendNetBufferLists`, up to `DISPATCH_LEVEL`.
    FILTER_SEND_NET_BUFFER_LISTS(NDIS_HANDLE, *mut NET_BUFFER_LIST, NDIS_PORT_NUMBER, u32);
    /// `FilterSendNetBufferListsComplete`, up to `DISPATCH_LEVEL`.
    FILTER_SEND_NET_BUFFER_LISTS_COMPLETE(NDIS_HANDLE, *mut NET_BUFFER_LIST, u32);
    /// `FilterCancelSendNetBufferLists`, up to `DISPATCH_LEVEL`.
    FILTER_CANCEL_SEND_NET_BUFFER_LISTS(NDIS_HANDLE, *mut c_void);
    /// `FilterReceiveNetBufferLists`, up to `DISPATCH_LEVEL`.
    FILTER_RECEIVE_NET_BUFFER_LISTS(NDIS_HANDLE, *mut NET_BUFFER_LIST, NDIS_PORT_NUMBER, u32, u32);
    /// `FilterReturnNetBufferLists`, up to `DISPATCH_LEVEL`.
    FILTER_RETURN_NET_BUFFER_LISTS(NDIS_HANDLE, *mut NET_BUFFER_LIST, u32);
    /// `FilterOidRequest` and `FilterDirectOidRequest`, up to `DISPATCH_LEVEL`.
    FILTER_OID_REQUEST(NDIS_HANDLE, *mut NDIS_OID_REQUEST) -> NDIS_STATUS;
    /// `FilterOidRequestComplete` and its direct twin, up to `DISPATCH_LEVEL`.
    FILTER_OID_REQUEST_COMPLETE(NDIS_HANDLE, *mut NDIS_OID_REQUEST, NDIS_STATUS);
    /// `FilterCancelOidRequest` and its direct twin, up to `DISPATCH_LEVEL`.
    FILTER_CANCEL_OID_REQUEST(NDIS_HANDLE, *mut c_void);
    /// `FilterSynchronousOidRequest`, up to `DISPATCH_LEVEL`.
    FILTER_SYNCHRONOUS_OID_REQUEST(NDIS_HANDLE, *mut NDIS_OID_REQUEST, *mut *mut c_void) -> NDIS_STATUS;
    /// `FilterSynchronousOidRequestComplete`, up to `DISPATCH_LEVEL`.
    FILTER_SYNCHRONOUS_OID_REQUEST_COMPLETE(NDIS_HANDLE, *mut NDIS_OID_REQUEST, *mut NDIS_STATUS, *mut c_void);
    /// `FilterDevicePnPEventNotify`, `PASSIVE_LEVEL`.
    FILTER_DEVICE_PNP_EVENT_NOTIFY(NDIS_HANDLE, *mut NET_DEVICE_PNP_EVENT);
    /// `FilterNetPnPEvent`, `PASSIVE_LEVEL`.
    FILTER_NET_PNP_EVENT(NDIS_HANDLE, *mut NET_PNP_EVENT_NOTIFICATION) -> NDIS_STATUS;
    /// `FilterStatus`, up to `DISPATCH_LEVEL`.
    FILTER_STATUS(NDIS_HANDLE, *mut NDIS_STATUS_INDICATION);
    /// `NetTimerCallback`, `DISPATCH_LEVEL`.
    NDIS_TIMER_FUNCTION(*mut c_void, *mut c_void, *mut c_void, *mut c_void);
    /// `NDIS_IO_WORKITEM_FUNCTION`, `PASSIVE_LEVEL`.
    NDIS_IO_WORKITEM_FUNCTION(*mut c_void, NDIS_HANDLE);
    /// `NetAllocateMdl`, up to `DISPATCH_LEVEL`.
    NET_BUFFER_ALLOCATE_MDL_HANDLER(*mut u32) -> *mut MDL;
    /// `NetFreeMdl`, up to `DISPATCH_LEVEL`.
    NET_BUFFER_FREE_MDL_HANDLER(*mut MDL);
}
