//! OID requests, status indications and PnP events.
use core::ffi::c_void;

use crate::{GUID, NDIS_HANDLE, NDIS_OBJECT_HEADER, NDIS_PORT_NUMBER, NDIS_STATUS};

/// `DATA.QUERY_INFORMATION` and `DATA.SET_INFORMATION`, which share a layout.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NDIS_OID_INFORMATION {
    /// The OID.
    pub Oid: u32,
    /// The buffer.
    pub InformationBuffer: *mut c_void,
    /// Its bytes.
    pub InformationBufferLength: u32,
    /// Bytes written (query) or read (set).
    pub BytesWritten: u32,
    /// Bytes that would have been needed.
    pub BytesNeeded: u32,
}

/// `DATA.METHOD_INFORMATION`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NDIS_OID_METHOD {
    /// The OID.
    pub Oid: u32,
    /// The buffer, for both directions.
    pub InformationBuffer: *mut c_void,
    /// Bytes in.
    pub InputBufferLength: u32,
    /// Bytes of room for the answer.
    pub OutputBufferLength: u32,
    /// Method.
    pub MethodId: u32,
    /// Bytes written.
    pub BytesWritten: u32,
    /// Bytes read.
    pub BytesRead: u32,
    /// Bytes that would have been needed.
    pub BytesNeeded: u32,
}

/// `DATA` of an OID request; `RequestType` tells which.
#[repr(C)]
#[derive(Clone, Copy)]
pub union NDIS_OID_REQUEST_DATA {
    /// Query.
    pub QUERY_INFORMATION: NDIS_OID_INFORMATION,
    /// Set.
    pub SET_INFORMATION: NDIS_OID_INFORMATION,
    /// Method.
    pub METHOD_INFORMATION: NDIS_OID_METHOD,
}

/// OID request (page "`NDIS_OID_REQUEST` structure").
#[repr(C)]
#[derive(Clone, Copy)]
pub struct NDIS_OID_REQUEST {
    /// Type `OID_REQUEST`.
    pub Header: NDIS_OBJECT_HEADER,
    /// `NdisRequest…`.
    pub RequestType: i32,
    /// Port.
    pub PortNumber: NDIS_PORT_NUMBER,
    /// Seconds, 0 for no limit.
    pub Timeout: u32,
    /// Identifies the request for a cancel.
    pub RequestId: *mut c_void,
    /// Handle of the requester.
    pub RequestHandle: NDIS_HANDLE,
    /// What is asked.
    pub DATA: NDIS_OID_REQUEST_DATA,
    /// Reserved for NDIS.
    pub NdisReserved: [u64; 16],
    /// For the miniport.
    pub MiniportReserved: [u64; 2],
    /// For the originator of the request: a filter that clones keeps the original here.
    pub SourceReserved: [u64; 2],
    /// Revision that the miniport supports.
    pub SupportedRevision: u8,
    /// Reserved.
    pub Reserved1: u8,
    /// Reserved.
    pub Reserved2: u16,
    /// From revision 2 on.
    pub SwitchId: u32,
    /// From revision 2 on.
    pub VPortId: u32,
    /// From revision 2 on.
    pub Flags: u32,
}

/// Status indication (page "`NDIS_STATUS_INDICATION` structure").
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NDIS_STATUS_INDICATION {
    /// Type `STATUS_INDICATION`.
    pub Header: NDIS_OBJECT_HEADER,
    /// Who indicates.
    pub SourceHandle: NDIS_HANDLE,
    /// Port.
    pub PortNumber: NDIS_PORT_NUMBER,
    /// What happened.
    pub StatusCode: NDIS_STATUS,
    /// Reserved for NDIS.
    pub Flags: u32,
    /// Whom it is for.
    pub DestinationHandle: NDIS_HANDLE,
    /// Of the request that it answers.
    pub RequestId: *mut c_void,
    /// Details.
    pub StatusBuffer: *mut c_void,
    /// Their bytes.
    pub StatusBufferSize: u32,
    /// For WMI.
    pub Guid: GUID,
    /// Reserved.
    pub NdisReserved: [*mut c_void; 4],
}

/// `NET_PNP_EVENT`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NET_PNP_EVENT {
    /// `NetEvent…`.
    pub NetEvent: i32,
    /// Details.
    pub Buffer: *mut c_void,
    /// Their bytes.
    pub BufferLength: u32,
    /// Reserved.
    pub NdisReserved: [usize; 4],
    /// Reserved.
    pub TransportReserved: [usize; 4],
    /// Reserved.
    pub TdiReserved: [usize; 4],
    /// Reserved.
    pub TdiClientReserved: [usize; 4],
}

/// `NET_PNP_EVENT_NOTIFICATION`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NET_PNP_EVENT_NOTIFICATION {
    /// Type `DEFAULT`.
    pub Header: NDIS_OBJECT_HEADER,
    /// Port.
    pub PortNumber: NDIS_PORT_NUMBER,
    /// The event.
    pub NetPnPEvent: NET_PNP_EVENT,
    /// Flags.
    pub Flags: u32,
    /// From revision 2 on.
    pub SwitchId: u32,
    /// From revision 2 on.
    pub VPortId: u32,
}

/// `NET_DEVICE_PNP_EVENT`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NET_DEVICE_PNP_EVENT {
    /// Type `DEFAULT`.
    pub Header: NDIS_OBJECT_HEADER,
    /// Port.
    pub PortNumber: NDIS_PORT_NUMBER,
    /// `NdisDevicePnPEvent…`.
    pub DevicePnPEvent: i32,
    /// Details.
    pub InformationBuffer: *mut c_void,
    /// Their bytes.
    pub InformationBufferLength: u32,
    /// Reserved.
    pub NdisReserved: [u8; 16],
}
