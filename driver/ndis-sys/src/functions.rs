//! Imports from `ndis.sys`. IRQLs are those of the header's annotations and of the documentation pages,
//! which agree for every function here.
#![expect(unsafe_code, reason = "foreign functions")]
use core::ffi::c_void;

use crate::{
    LOCK_STATE_EX, MDL, NDIS_DEVICE_OBJECT_ATTRIBUTES, NDIS_FILTER_ATTRIBUTES,
    NDIS_FILTER_DRIVER_CHARACTERISTICS, NDIS_HANDLE, NDIS_OID_REQUEST, NDIS_PORT_NUMBER, NDIS_STATUS,
    NDIS_STATUS_INDICATION, NDIS_TIMER_CHARACTERISTICS, NET_BUFFER_LIST, NET_BUFFER_LIST_POOL_PARAMETERS,
    NET_DEVICE_PNP_EVENT, NET_PNP_EVENT_NOTIFICATION,
};

// raw-dylib makes the import table without an import library: the same on Windows and on Linux.
#[link(name = "ndis.sys", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    /// Registers a filter driver. `PASSIVE_LEVEL`, from `DriverEntry`.
    pub fn NdisFRegisterFilterDriver(
        DriverObject: *mut c_void,
        FilterDriverContext: NDIS_HANDLE,
        FilterDriverCharacteristics: *const NDIS_FILTER_DRIVER_CHARACTERISTICS,
        NdisFilterDriverHandle: *mut NDIS_HANDLE,
    ) -> NDIS_STATUS;
    /// Undoes the registration, detaching what is attached. `PASSIVE_LEVEL`, from the unload routine.
    pub fn NdisFDeregisterFilterDriver(NdisFilterDriverHandle: NDIS_HANDLE);
    /// Gives NDIS the module's context. `PASSIVE_LEVEL`, from `FilterAttach`.
    pub fn NdisFSetAttributes(
        NdisFilterHandle: NDIS_HANDLE,
        FilterModuleContext: NDIS_HANDLE,
        FilterAttributes: *const NDIS_FILTER_ATTRIBUTES,
    ) -> NDIS_STATUS;
    /// Schedules a pause and restart of the stack. Up to `DISPATCH_LEVEL`.
    pub fn NdisFRestartFilter(NdisFilterHandle: NDIS_HANDLE) -> NDIS_STATUS;
    /// Completes a pending pause. Up to `DISPATCH_LEVEL`.
    pub fn NdisFPauseComplete(NdisFilterHandle: NDIS_HANDLE);
    /// Completes a restart that pends. `PASSIVE_LEVEL`.
    pub fn NdisFRestartComplete(NdisFilterHandle: NDIS_HANDLE, Status: NDIS_STATUS);
    /// Sets optional handlers. `PASSIVE_LEVEL`, from `FilterSetOptions` or `FilterSetModuleOptions`.
    pub fn NdisSetOptionalHandlers(NdisHandle: NDIS_HANDLE, OptionalHandlers: *const c_void) -> NDIS_STATUS;

    /// Sends. Ownership of the lists goes with the call. Up to `DISPATCH_LEVEL`.
    pub fn NdisFSendNetBufferLists(
        NdisFilterHandle: NDIS_HANDLE,
        NetBufferList: *mut NET_BUFFER_LIST,
        PortNumber: NDIS_PORT_NUMBER,
        SendFlags: u32,
    );
    /// Completes sends that came from above. Up to `DISPATCH_LEVEL`.
    pub fn NdisFSendNetBufferListsComplete(
        NdisFilterHandle: NDIS_HANDLE,
        NetBufferList: *mut NET_BUFFER_LIST,
        SendCompleteFlags: u32,
    );
    /// Asks the drivers below to cancel sends. Up to `DISPATCH_LEVEL`.
    pub fn NdisFCancelSendNetBufferLists(NdisFilterHandle: NDIS_HANDLE, CancelId: *mut c_void);
    /// First byte of a cancel id, unique to the driver. Up to `DISPATCH_LEVEL`.
    pub fn NdisGeneratePartialCancelId() -> u8;

    /// Sends an OID request down. Up to `DISPATCH_LEVEL`.
    pub fn NdisFOidRequest(NdisFilterHandle: NDIS_HANDLE, OidRequest: *mut NDIS_OID_REQUEST) -> NDIS_STATUS;
    /// Completes an OID request that was pended. Up to `DISPATCH_LEVEL`.
    pub fn NdisFOidRequestComplete(
        NdisFilterHandle: NDIS_HANDLE,
        OidRequest: *mut NDIS_OID_REQUEST,
        Status: NDIS_STATUS,
    );
    /// Cancels OID requests. Up to `DISPATCH_LEVEL`.
    pub fn NdisFCancelOidRequest(NdisFilterHandle: NDIS_HANDLE, RequestId: *mut c_void);
    /// Clones an OID request. Up to `DISPATCH_LEVEL`.
    pub fn NdisAllocateCloneOidRequest(
        SourceHandle: NDIS_HANDLE,
        OidRequest: *mut NDIS_OID_REQUEST,
        PoolTag: u32,
        ClonedOidRequest: *mut *mut NDIS_OID_REQUEST,
    ) -> NDIS_STATUS;
    /// Frees a clone. Up to `DISPATCH_LEVEL`.
    pub fn NdisFreeCloneOidRequest(SourceHandle: NDIS_HANDLE, Request: *mut NDIS_OID_REQUEST);

    /// Passes a status indication up. Up to `DISPATCH_LEVEL`.
    pub fn NdisFIndicateStatus(NdisFilterHandle: NDIS_HANDLE, StatusIndication: *mut NDIS_STATUS_INDICATION);
    /// Passes a PnP event on. `PASSIVE_LEVEL`, from `FilterNetPnPEvent`.
    pub fn NdisFNetPnPEvent(
        NdisFilterHandle: NDIS_HANDLE,
        NetPnPEventNotification: *mut NET_PNP_EVENT_NOTIFICATION,
    ) -> NDIS_STATUS;
    /// Passes a device PnP event down. `PASSIVE_LEVEL`.
    pub fn NdisFDevicePnPEventNotify(
        NdisFilterHandle: NDIS_HANDLE,
        NetDevicePnPEvent: *mut NET_DEVICE_PNP_EVENT,
    );

    /// Makes a pool of lists. Up to `DISPATCH_LEVEL`.
    pub fn NdisAllocateNetBufferListPool(
        NdisHandle: NDIS_HANDLE,
        Parameters: *const NET_BUFFER_LIST_POOL_PARAMETERS,
    ) -> NDIS_HANDLE;
    /// Frees a pool whose lists have all been freed. Up to `DISPATCH_LEVEL`.
    pub fn NdisFreeNetBufferListPool(PoolHandle: NDIS_HANDLE);
    /// Makes a list with one buffer. Up to `DISPATCH_LEVEL`.
    pub fn NdisAllocateNetBufferAndNetBufferList(
        PoolHandle: NDIS_HANDLE,
        ContextSize: u16,
        ContextBackFill: u16,
        MdlChain: *mut MDL,
        DataOffset: u32,
        DataLength: usize,
    ) -> *mut NET_BUFFER_LIST;
    /// Frees a list and the buffer that came with it. Up to `DISPATCH_LEVEL`.
    pub fn NdisFreeNetBufferList(NetBufferList: *mut NET_BUFFER_LIST);
    /// Makes an MDL for nonpaged memory. Up to `DISPATCH_LEVEL`.
    pub fn NdisAllocateMdl(NdisHandle: NDIS_HANDLE, VirtualAddress: *mut c_void, Length: u32) -> *mut MDL;
    /// Frees it. Up to `DISPATCH_LEVEL`.
    pub fn NdisFreeMdl(Mdl: *mut MDL);

    /// Makes a control device. `PASSIVE_LEVEL`.
    pub fn NdisRegisterDeviceEx(
        NdisHandle: NDIS_HANDLE,
        DeviceObjectAttributes: *const NDIS_DEVICE_OBJECT_ATTRIBUTES,
        pDeviceObject: *mut *mut c_void,
        NdisDeviceHandle: *mut NDIS_HANDLE,
    ) -> NDIS_STATUS;
    /// Removes it and its symbolic link. `PASSIVE_LEVEL`.
    pub fn NdisDeregisterDeviceEx(NdisDeviceHandle: NDIS_HANDLE);

    /// Allocates a work item for the driver's handle; null if memory runs out. Up to `DISPATCH_LEVEL`.
    pub fn NdisAllocateIoWorkItem(NdisObjectHandle: NDIS_HANDLE) -> NDIS_HANDLE;
    /// Queues it; its routine runs at `PASSIVE_LEVEL`. Up to `DISPATCH_LEVEL`.
    pub fn NdisQueueIoWorkItem(
        NdisIoWorkItemHandle: NDIS_HANDLE,
        Routine: unsafe extern "system" fn(*mut c_void, NDIS_HANDLE),
        WorkItemContext: *mut c_void,
    );
    /// Frees it; it is not queued. Up to `DISPATCH_LEVEL`.
    pub fn NdisFreeIoWorkItem(NdisIoWorkItemHandle: NDIS_HANDLE);

    /// Makes a timer. Up to `DISPATCH_LEVEL`.
    pub fn NdisAllocateTimerObject(
        NdisHandle: NDIS_HANDLE,
        TimerCharacteristics: *const NDIS_TIMER_CHARACTERISTICS,
        pTimerObject: *mut NDIS_HANDLE,
    ) -> NDIS_STATUS;
    /// Sets it; returns whether it was already set. Up to `DISPATCH_LEVEL`.
    pub fn NdisSetTimerObject(
        TimerObject: NDIS_HANDLE,
        DueTime: i64,
        MillisecondsPeriod: i32,
        FunctionContext: *mut c_void,
    ) -> u8;
    /// Cancels it; returns whether it was set. Up to `DISPATCH_LEVEL` for a timer without period.
    pub fn NdisCancelTimerObject(TimerObject: NDIS_HANDLE) -> u8;
    /// Frees it. Up to `DISPATCH_LEVEL`.
    pub fn NdisFreeTimerObject(TimerObject: NDIS_HANDLE);

    /// Makes a reader-writer lock; null if memory runs out. Up to `DISPATCH_LEVEL`.
    pub fn NdisAllocateRWLock(NdisHandle: NDIS_HANDLE) -> *mut c_void;
    /// Frees it. Up to `DISPATCH_LEVEL`.
    pub fn NdisFreeRWLock(Lock: *mut c_void);
    /// Takes it with other readers, and raises to `DISPATCH_LEVEL`. Up to `DISPATCH_LEVEL`.
    pub fn NdisAcquireRWLockRead(Lock: *mut c_void, LockState: *mut LOCK_STATE_EX, Flags: u8);
    /// Takes it alone, and raises to `DISPATCH_LEVEL`. Up to `DISPATCH_LEVEL`.
    pub fn NdisAcquireRWLockWrite(Lock: *mut c_void, LockState: *mut LOCK_STATE_EX, Flags: u8);
    /// Releases it, and lowers to the level before. `DISPATCH_LEVEL`, on the processor that took it.
    pub fn NdisReleaseRWLock(Lock: *mut c_void, LockState: *mut LOCK_STATE_EX);

    /// `(major << 16) | minor` of the running NDIS. Up to `DISPATCH_LEVEL`.
    pub fn NdisGetVersion() -> u32;
}
