//! Handles, headers, and the structures of filter drivers.
use core::ffi::c_void;

use crate::{
    FILTER_ATTACH, FILTER_CANCEL_OID_REQUEST, FILTER_CANCEL_SEND_NET_BUFFER_LISTS, FILTER_DETACH,
    FILTER_DEVICE_PNP_EVENT_NOTIFY, FILTER_NET_PNP_EVENT, FILTER_OID_REQUEST, FILTER_OID_REQUEST_COMPLETE,
    FILTER_PAUSE, FILTER_RECEIVE_NET_BUFFER_LISTS, FILTER_RESTART, FILTER_RETURN_NET_BUFFER_LISTS,
    FILTER_SEND_NET_BUFFER_LISTS, FILTER_SEND_NET_BUFFER_LISTS_COMPLETE, FILTER_SET_MODULE_OPTIONS,
    FILTER_STATUS, FILTER_SYNCHRONOUS_OID_REQUEST, FILTER_SYNCHRONOUS_OID_REQUEST_COMPLETE,
    NDIS_TIMER_FUNCTION, SET_OPTIONS,
};

/// `NDIS_STATUS`, a signed 32-bit value of `NDIS_STATUS_…`.
pub type NDIS_STATUS = i32;
/// `NDIS_HANDLE`.
pub type NDIS_HANDLE = *mut c_void;
/// `NDIS_PORT_NUMBER`.
pub type NDIS_PORT_NUMBER = u32;

/// `UNICODE_STRING`: counted UTF-16, lengths in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct UNICODE_STRING {
    /// Bytes used.
    pub Length: u16,
    /// Bytes there are.
    pub MaximumLength: u16,
    /// The characters, not necessarily terminated.
    pub Buffer: *mut u16,
}
/// `NDIS_STRING` is `UNICODE_STRING`.
pub type NDIS_STRING = UNICODE_STRING;

/// `GUID`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GUID {
    /// First group.
    pub Data1: u32,
    /// Second group.
    pub Data2: u16,
    /// Third group.
    pub Data3: u16,
    /// The rest.
    pub Data4: [u8; 8],
}

/// First member of every versioned NDIS structure.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NDIS_OBJECT_HEADER {
    /// `NDIS_OBJECT_TYPE_…`.
    pub Type: u8,
    /// Revision of the structure.
    pub Revision: u8,
    /// `NDIS_SIZEOF_…` of that revision.
    pub Size: u16,
}

/// Handlers and names that a filter driver registers (page "`NDIS_FILTER_DRIVER_CHARACTERISTICS` structure").
#[repr(C)]
#[derive(Clone, Copy)]
pub struct NDIS_FILTER_DRIVER_CHARACTERISTICS {
    /// Type `FILTER_DRIVER_CHARACTERISTICS`.
    pub Header: NDIS_OBJECT_HEADER,
    /// 6.
    pub MajorNdisVersion: u8,
    /// Decimal: 85 for 6.85.
    pub MinorNdisVersion: u8,
    /// The driver's own version.
    pub MajorDriverVersion: u8,
    /// The driver's own version.
    pub MinorDriverVersion: u8,
    /// `NDIS_FILTER_DRIVER_…`.
    pub Flags: u32,
    /// For people.
    pub FriendlyName: NDIS_STRING,
    /// The INF's `NetCfgInstanceId`.
    pub UniqueName: NDIS_STRING,
    /// The INF's service name.
    pub ServiceName: NDIS_STRING,
    /// Optional.
    pub SetOptionsHandler: SET_OPTIONS,
    /// Optional.
    pub SetFilterModuleOptionsHandler: FILTER_SET_MODULE_OPTIONS,
    /// Mandatory.
    pub AttachHandler: FILTER_ATTACH,
    /// Mandatory.
    pub DetachHandler: FILTER_DETACH,
    /// Mandatory.
    pub RestartHandler: FILTER_RESTART,
    /// Mandatory.
    pub PauseHandler: FILTER_PAUSE,
    /// Data path; none for bypass.
    pub SendNetBufferListsHandler: FILTER_SEND_NET_BUFFER_LISTS,
    /// Data path; needed by a filter that sends.
    pub SendNetBufferListsCompleteHandler: FILTER_SEND_NET_BUFFER_LISTS_COMPLETE,
    /// Needed by a filter that queues sends.
    pub CancelSendNetBufferListsHandler: FILTER_CANCEL_SEND_NET_BUFFER_LISTS,
    /// Data path; none for bypass.
    pub ReceiveNetBufferListsHandler: FILTER_RECEIVE_NET_BUFFER_LISTS,
    /// Data path; needed by a filter that indicates receives.
    pub ReturnNetBufferListsHandler: FILTER_RETURN_NET_BUFFER_LISTS,
    /// Optional.
    pub OidRequestHandler: FILTER_OID_REQUEST,
    /// Optional.
    pub OidRequestCompleteHandler: FILTER_OID_REQUEST_COMPLETE,
    /// Optional.
    pub CancelOidRequestHandler: FILTER_CANCEL_OID_REQUEST,
    /// Optional.
    pub DevicePnPEventNotifyHandler: FILTER_DEVICE_PNP_EVENT_NOTIFY,
    /// Optional.
    pub NetPnPEventHandler: FILTER_NET_PNP_EVENT,
    /// Optional, but needed by a filter with receive handlers.
    pub StatusHandler: FILTER_STATUS,
    /// From revision 2 on.
    pub DirectOidRequestHandler: FILTER_OID_REQUEST,
    /// From revision 2 on.
    pub DirectOidRequestCompleteHandler: FILTER_OID_REQUEST_COMPLETE,
    /// From revision 2 on.
    pub CancelDirectOidRequestHandler: FILTER_CANCEL_OID_REQUEST,
    /// From revision 3 on.
    pub SynchronousOidRequestHandler: FILTER_SYNCHRONOUS_OID_REQUEST,
    /// From revision 3 on.
    pub SynchronousOidRequestCompleteHandler: FILTER_SYNCHRONOUS_OID_REQUEST_COMPLETE,
}

/// Data handlers that one module may change (page "`NDIS_FILTER_PARTIAL_CHARACTERISTICS` structure").
#[repr(C)]
#[derive(Clone, Copy)]
pub struct NDIS_FILTER_PARTIAL_CHARACTERISTICS {
    /// Type `FILTER_PARTIAL_CHARACTERISTICS`.
    pub Header: NDIS_OBJECT_HEADER,
    /// Reserved.
    pub Flags: u32,
    /// None for bypass.
    pub SendNetBufferListsHandler: FILTER_SEND_NET_BUFFER_LISTS,
    /// None for bypass.
    pub SendNetBufferListsCompleteHandler: FILTER_SEND_NET_BUFFER_LISTS_COMPLETE,
    /// Needed by a filter that queues sends.
    pub CancelSendNetBufferListsHandler: FILTER_CANCEL_SEND_NET_BUFFER_LISTS,
    /// None for bypass.
    pub ReceiveNetBufferListsHandler: FILTER_RECEIVE_NET_BUFFER_LISTS,
    /// None for bypass.
    pub ReturnNetBufferListsHandler: FILTER_RETURN_NET_BUFFER_LISTS,
}

/// What NDIS tells a module about the adapter below it (page "`NDIS_FILTER_ATTACH_PARAMETERS` structure").
/// Its pointers hold for the duration of the callback.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NDIS_FILTER_ATTACH_PARAMETERS {
    /// Type `FILTER_ATTACH_PARAMETERS`.
    pub Header: NDIS_OBJECT_HEADER,
    /// Interface index of the module.
    pub IfIndex: u32,
    /// LUID of the module's interface.
    pub NetLuid: u64,
    /// Name of the module.
    pub FilterModuleGuidName: *mut NDIS_STRING,
    /// Interface index of the adapter.
    pub BaseMiniportIfIndex: u32,
    /// Friendly name of the adapter.
    pub BaseMiniportInstanceName: *mut NDIS_STRING,
    /// Device name of the adapter, `\DEVICE\{GUID}`.
    pub BaseMiniportName: *mut NDIS_STRING,
    /// Whether a cable is in.
    pub MediaConnectState: i32,
    /// Half or full duplex.
    pub MediaDuplexState: i32,
    /// Bits per second.
    pub XmitLinkSpeed: u64,
    /// Bits per second.
    pub RcvLinkSpeed: u64,
    /// `NdisMedium…`.
    pub MiniportMediaType: i32,
    /// `NdisPhysicalMedium…`.
    pub MiniportPhysicalMediaType: i32,
    /// By medium.
    pub MiniportMediaSpecificAttributes: NDIS_HANDLE,
    /// Offloads.
    pub DefaultOffloadConfiguration: *mut c_void,
    /// Bytes of the address.
    pub MacAddressLength: u16,
    /// The address.
    pub CurrentMacAddress: [u8; 32],
    /// LUID of the adapter.
    pub BaseMiniportNetLuid: u64,
    /// Interface index of the next lower interface.
    pub LowerIfIndex: u32,
    /// LUID of the next lower interface.
    pub LowerIfNetLuid: u64,
    /// In and out.
    pub Flags: u32,
    /// From revision 2 on.
    pub HDSplitCurrentConfig: *mut c_void,
    /// From revision 3 on.
    pub ReceiveFilterCapabilities: *mut c_void,
    /// The adapter's physical device object; from revision 3 on.
    pub MiniportPhysicalDeviceObject: *mut c_void,
    /// From revision 3 on.
    pub NicSwitchCapabilities: *mut c_void,
    /// From revision 4 on.
    pub BaseMiniportIfConnectorPresent: u8,
    /// From revision 4 on.
    pub SriovCapabilities: *mut c_void,
    /// From revision 4 on.
    pub NicSwitchArray: *mut c_void,
}

/// `NDIS_FILTER_ATTRIBUTES`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NDIS_FILTER_ATTRIBUTES {
    /// Type `FILTER_ATTRIBUTES`.
    pub Header: NDIS_OBJECT_HEADER,
    /// Reserved.
    pub Flags: u32,
}

/// `NDIS_FILTER_PAUSE_PARAMETERS`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NDIS_FILTER_PAUSE_PARAMETERS {
    /// Type `FILTER_PAUSE_PARAMETERS`.
    pub Header: NDIS_OBJECT_HEADER,
    /// Reserved.
    pub Flags: u32,
    /// `NDIS_PAUSE_…`.
    pub PauseReason: u32,
}

/// `NDIS_FILTER_RESTART_PARAMETERS`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NDIS_FILTER_RESTART_PARAMETERS {
    /// Type `FILTER_RESTART_PARAMETERS`.
    pub Header: NDIS_OBJECT_HEADER,
    /// `NdisMedium…`.
    pub MiniportMediaType: i32,
    /// `NdisPhysicalMedium…`.
    pub MiniportPhysicalMediaType: i32,
    /// List of attributes, or null: then nothing may be added.
    pub RestartAttributes: *mut NDIS_RESTART_ATTRIBUTES,
    /// Interface index of the next lower interface.
    pub LowerIfIndex: u32,
    /// LUID of the next lower interface.
    pub LowerIfNetLuid: u64,
    /// Reserved.
    pub Flags: u32,
}

/// `NDIS_RESTART_ATTRIBUTES`: one entry of the list.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug)]
pub struct NDIS_RESTART_ATTRIBUTES {
    /// Next entry.
    pub Next: *mut NDIS_RESTART_ATTRIBUTES,
    /// Which attributes.
    pub Oid: u32,
    /// Their bytes.
    pub DataLength: u32,
    /// They follow, aligned to 16.
    pub Data: [u8; 16],
}

/// `NDIS_RESTART_GENERAL_ATTRIBUTES`, the data of `OID_GEN_MINIPORT_RESTART_ATTRIBUTES`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NDIS_RESTART_GENERAL_ATTRIBUTES {
    /// Type `RESTART_GENERAL_ATTRIBUTES`.
    pub Header: NDIS_OBJECT_HEADER,
    /// Bytes, without the media header.
    pub MtuSize: u32,
    /// Bits per second.
    pub MaxXmitLinkSpeed: u64,
    /// Bits per second.
    pub MaxRcvLinkSpeed: u64,
    /// Bytes.
    pub LookaheadSize: u32,
    /// MAC options.
    pub MacOptions: u32,
    /// Packet filters.
    pub SupportedPacketFilters: u32,
    /// Addresses.
    pub MaxMulticastListSize: u32,
    /// RSS.
    pub RecvScaleCapabilities: *mut c_void,
    /// Access type.
    pub AccessType: u32,
    /// Flags.
    pub Flags: u32,
    /// Connection type.
    pub ConnectionType: u32,
    /// Statistics.
    pub SupportedStatistics: u32,
    /// Bytes of room that the drivers below want in front of the data.
    pub DataBackFillSize: u32,
    /// Bytes of room that the drivers below want in front of the context.
    pub ContextBackFillSize: u32,
    /// OIDs.
    pub SupportedOidList: *mut u32,
    /// Their bytes.
    pub SupportedOidListLength: u32,
    /// From revision 2 on.
    pub MaxLookaheadSizeAccessed: u32,
}

/// `NDIS_DEVICE_OBJECT_ATTRIBUTES`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NDIS_DEVICE_OBJECT_ATTRIBUTES {
    /// Type `DEVICE_OBJECT_ATTRIBUTES`.
    pub Header: NDIS_OBJECT_HEADER,
    /// Name in the object manager.
    pub DeviceName: *mut NDIS_STRING,
    /// Name for Win32.
    pub SymbolicName: *mut NDIS_STRING,
    /// Table of 28 dispatch routines.
    pub MajorFunctions: *mut *mut c_void,
    /// Bytes of device extension.
    pub ExtensionSize: u32,
    /// Security descriptor.
    pub DefaultSDDLString: *const NDIS_STRING,
    /// Reserved: null.
    pub DeviceClassGuid: *const GUID,
}

/// `NDIS_LINK_STATE`, the data of `NDIS_STATUS_LINK_STATE`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NDIS_LINK_STATE {
    /// Type `DEFAULT`.
    pub Header: NDIS_OBJECT_HEADER,
    /// `NET_IF_MEDIA_CONNECT_STATE`.
    pub MediaConnectState: i32,
    /// `NET_IF_MEDIA_DUPLEX_STATE`.
    pub MediaDuplexState: i32,
    /// Bits per second, of sends.
    pub XmitLinkSpeed: u64,
    /// Bits per second, of receives.
    pub RcvLinkSpeed: u64,
    /// Pause frames.
    pub PauseFunctions: i32,
    /// What was negotiated.
    pub AutoNegotiationFlags: u32,
}

/// `NDIS_TIMER_CHARACTERISTICS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct NDIS_TIMER_CHARACTERISTICS {
    /// Type `TIMER_CHARACTERISTICS`.
    pub Header: NDIS_OBJECT_HEADER,
    /// Pool tag.
    pub AllocationTag: u32,
    /// Called at `DISPATCH_LEVEL`.
    pub TimerFunction: NDIS_TIMER_FUNCTION,
    /// Its context.
    pub FunctionContext: *mut c_void,
}

/// `LOCK_STATE_EX`, one for each acquisition of an NDIS reader-writer lock.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LOCK_STATE_EX {
    /// IRQL before.
    pub OldIrql: u8,
    /// State.
    pub LockState: u8,
    /// Flags.
    pub Flags: u8,
}

/// `NDIS_SHARED_MEMORY_PARAMETERS`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NDIS_SHARED_MEMORY_PARAMETERS {
    /// Type `DEFAULT`.
    pub Header: NDIS_OBJECT_HEADER,
    /// Flags.
    pub Flags: u32,
    /// Queue.
    pub QueueId: u32,
    /// Handle.
    pub SharedMemoryHandle: NDIS_HANDLE,
    /// NUMA node.
    pub PreferredNode: u32,
    /// What for.
    pub Usage: i32,
    /// Bytes.
    pub Length: u32,
    /// Address.
    pub VirtualAddress: *mut c_void,
    /// Bytes of the list.
    pub SGListBufferLength: u32,
    /// Scatter/gather list.
    pub SGListBuffer: *mut c_void,
    /// From revision 2 on.
    pub VPortId: u32,
}
