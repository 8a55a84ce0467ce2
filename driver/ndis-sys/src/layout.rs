//! Compile-time assertions of every size and offset, for `x86_64` and `aarch64`.
//!
//! The values were compiled from WDK headers 14393 to 26100 and read from the public symbols of `ndis.sys`.
//! `NET_BUFFER_LIST` is asserted without its `NetBufferListInfo` slots, whose number depends on the system.
#![cfg(target_pointer_width = "64")]
use core::mem::{align_of, offset_of, size_of};

use crate::{
    GUID, LOCK_STATE_EX, MDL, NDIS_DEVICE_OBJECT_ATTRIBUTES, NDIS_FILTER_ATTACH_PARAMETERS,
    NDIS_FILTER_ATTRIBUTES, NDIS_FILTER_DRIVER_CHARACTERISTICS, NDIS_FILTER_PARTIAL_CHARACTERISTICS,
    NDIS_FILTER_PAUSE_PARAMETERS, NDIS_FILTER_RESTART_PARAMETERS, NDIS_LINK_STATE, NDIS_OBJECT_HEADER,
    NDIS_OID_REQUEST, NDIS_OID_REQUEST_DATA, NDIS_RESTART_ATTRIBUTES, NDIS_RESTART_GENERAL_ATTRIBUTES,
    NDIS_SHARED_MEMORY_PARAMETERS, NDIS_STATUS_INDICATION, NDIS_TIMER_CHARACTERISTICS, NET_BUFFER,
    NET_BUFFER_DATA, NET_BUFFER_LIST, NET_BUFFER_LIST_CONTEXT, NET_BUFFER_LIST_DATA, NET_BUFFER_LIST_HEADER,
    NET_BUFFER_LIST_POOL_PARAMETERS, NET_BUFFER_POOL_PARAMETERS, NET_DEVICE_PNP_EVENT, NET_PNP_EVENT,
    NET_PNP_EVENT_NOTIFICATION, UNICODE_STRING,
};

macro_rules! offsets {
    ($($name:ident { $($($field:ident).+ = $offset:literal),* $(,)? })*) => {
        $(const _: () = { $(assert!(offset_of!($name, $($field).+) == $offset);)* };)*
    };
}

macro_rules! sizes {
    ($($name:ident = $size:literal),* $(,)?) => { $(const _: () = assert!(size_of::<$name>() == $size);)* };
}

sizes! {
    NDIS_OBJECT_HEADER = 0x4,
    UNICODE_STRING = 0x10,
    GUID = 0x10,
    NDIS_FILTER_DRIVER_CHARACTERISTICS = 0xF0,
    NDIS_FILTER_ATTACH_PARAMETERS = 0xE0,
    NDIS_FILTER_ATTRIBUTES = 0x8,
    NDIS_FILTER_PAUSE_PARAMETERS = 0xC,
    NDIS_FILTER_RESTART_PARAMETERS = 0x30,
    NDIS_RESTART_ATTRIBUTES = 0x20,
    NDIS_RESTART_GENERAL_ATTRIBUTES = 0x58,
    NDIS_FILTER_PARTIAL_CHARACTERISTICS = 0x30,
    NET_BUFFER_LIST_POOL_PARAMETERS = 0x14,
    NET_BUFFER_POOL_PARAMETERS = 0x10,
    NET_BUFFER = 0xB0,
    NET_BUFFER_DATA = 0x30,
    NET_BUFFER_LIST_DATA = 0x10,
    NET_BUFFER_LIST_HEADER = 0x10,
    NET_BUFFER_LIST = 0x90,
    NET_BUFFER_LIST_CONTEXT = 0x10,
    MDL = 0x30,
    NDIS_OID_REQUEST = 0xF8,
    NDIS_OID_REQUEST_DATA = 0x28,
    NDIS_STATUS_INDICATION = 0x70,
    NDIS_LINK_STATE = 0x28,
    NDIS_DEVICE_OBJECT_ATTRIBUTES = 0x38,
    NET_PNP_EVENT = 0x98,
    NET_PNP_EVENT_NOTIFICATION = 0xB0,
    NET_DEVICE_PNP_EVENT = 0x30,
    LOCK_STATE_EX = 0x3,
    NDIS_TIMER_CHARACTERISTICS = 0x18,
    NDIS_SHARED_MEMORY_PARAMETERS = 0x48,
}

const _: () = assert!(align_of::<NET_BUFFER_LIST>() == 16);
const _: () = assert!(align_of::<NET_BUFFER>() == 16);
const _: () = assert!(align_of::<NDIS_RESTART_ATTRIBUTES>() == 16);

offsets! {
    NDIS_LINK_STATE {
        MediaConnectState = 0x4,
        MediaDuplexState = 0x8,
        XmitLinkSpeed = 0x10,
        RcvLinkSpeed = 0x18,
        PauseFunctions = 0x20,
        AutoNegotiationFlags = 0x24,
    }
    NDIS_FILTER_DRIVER_CHARACTERISTICS {
        MajorNdisVersion = 0x4,
        MinorNdisVersion = 0x5,
        MajorDriverVersion = 0x6,
        MinorDriverVersion = 0x7,
        Flags = 0x8,
        FriendlyName = 0x10,
        UniqueName = 0x20,
        ServiceName = 0x30,
        SetOptionsHandler = 0x40,
        SetFilterModuleOptionsHandler = 0x48,
        AttachHandler = 0x50,
        DetachHandler = 0x58,
        RestartHandler = 0x60,
        PauseHandler = 0x68,
        SendNetBufferListsHandler = 0x70,
        SendNetBufferListsCompleteHandler = 0x78,
        CancelSendNetBufferListsHandler = 0x80,
        ReceiveNetBufferListsHandler = 0x88,
        ReturnNetBufferListsHandler = 0x90,
        OidRequestHandler = 0x98,
        OidRequestCompleteHandler = 0xA0,
        CancelOidRequestHandler = 0xA8,
        DevicePnPEventNotifyHandler = 0xB0,
        NetPnPEventHandler = 0xB8,
        StatusHandler = 0xC0,
        DirectOidRequestHandler = 0xC8,
        DirectOidRequestCompleteHandler = 0xD0,
        CancelDirectOidRequestHandler = 0xD8,
        SynchronousOidRequestHandler = 0xE0,
        SynchronousOidRequestCompleteHandler = 0xE8,
    }
    NDIS_FILTER_ATTACH_PARAMETERS {
        IfIndex = 0x4,
        NetLuid = 0x8,
        FilterModuleGuidName = 0x10,
        BaseMiniportIfIndex = 0x18,
        BaseMiniportInstanceName = 0x20,
        BaseMiniportName = 0x28,
        MediaConnectState = 0x30,
        MediaDuplexState = 0x34,
        XmitLinkSpeed = 0x38,
        RcvLinkSpeed = 0x40,
        MiniportMediaType = 0x48,
        MiniportPhysicalMediaType = 0x4C,
        MiniportMediaSpecificAttributes = 0x50,
        DefaultOffloadConfiguration = 0x58,
        MacAddressLength = 0x60,
        CurrentMacAddress = 0x62,
        BaseMiniportNetLuid = 0x88,
        LowerIfIndex = 0x90,
        LowerIfNetLuid = 0x98,
        Flags = 0xA0,
        HDSplitCurrentConfig = 0xA8,
        ReceiveFilterCapabilities = 0xB0,
        MiniportPhysicalDeviceObject = 0xB8,
        NicSwitchCapabilities = 0xC0,
        BaseMiniportIfConnectorPresent = 0xC8,
        SriovCapabilities = 0xD0,
        NicSwitchArray = 0xD8,
    }
    NDIS_FILTER_ATTRIBUTES {
        Flags = 0x4,
    }
    NDIS_FILTER_PAUSE_PARAMETERS {
        Flags = 0x4,
        PauseReason = 0x8,
    }
    NDIS_FILTER_RESTART_PARAMETERS {
        MiniportMediaType = 0x4,
        MiniportPhysicalMediaType = 0x8,
        RestartAttributes = 0x10,
        LowerIfIndex = 0x18,
        LowerIfNetLuid = 0x20,
        Flags = 0x28,
    }
    NDIS_RESTART_ATTRIBUTES {
        Oid = 0x8,
        DataLength = 0xC,
        Data = 0x10,
    }
    NDIS_FILTER_PARTIAL_CHARACTERISTICS {
        Flags = 0x4,
        SendNetBufferListsHandler = 0x8,
        ReturnNetBufferListsHandler = 0x28,
    }
    NET_BUFFER_LIST_POOL_PARAMETERS {
        ProtocolId = 0x4,
        fAllocateNetBuffer = 0x5,
        ContextSize = 0x6,
        PoolTag = 0x8,
        DataSize = 0xC,
        Flags = 0x10,
    }
    NET_BUFFER_POOL_PARAMETERS {
        PoolTag = 0x4,
        DataSize = 0x8,
        Flags = 0xC,
    }
    NET_BUFFER {
        Head.Data.Next = 0x0,
        Head.Link = 0x0,
        Head.Data.CurrentMdl = 0x8,
        Head.Data.CurrentMdlOffset = 0x10,
        Head.Data.Length.DataLength = 0x18,
        Head.Data.Length.stDataLength = 0x18,
        Head.Data.MdlChain = 0x20,
        Head.Data.DataOffset = 0x28,
        ChecksumBias = 0x30,
        Reserved = 0x32,
        NdisPoolHandle = 0x38,
        NdisReserved = 0x40,
        ProtocolReserved = 0x50,
        MiniportReserved = 0x80,
        DataPhysicalAddress = 0xA0,
        Tail.SharedMemoryInfo = 0xA8,
        Tail.ScatterGatherList = 0xA8,
    }
    NET_BUFFER_LIST {
        Header.Data.Next = 0x0,
        Header.Data.FirstNetBuffer = 0x8,
        Context = 0x10,
        ParentNetBufferList = 0x18,
        NdisPoolHandle = 0x20,
        NdisReserved = 0x30,
        ProtocolReserved = 0x40,
        MiniportReserved = 0x60,
        Scratch = 0x70,
        SourceHandle = 0x78,
        NblFlags = 0x80,
        ChildRefCount = 0x84,
        Flags = 0x88,
        Status = 0x8C,
        NetBufferListInfo = 0x90,
    }
    NET_BUFFER_LIST_CONTEXT {
        Size = 0x8,
        Offset = 0xA,
        ContextData = 0x10,
    }
    NDIS_OID_REQUEST {
        RequestType = 0x4,
        PortNumber = 0x8,
        Timeout = 0xC,
        RequestId = 0x10,
        RequestHandle = 0x18,
        DATA = 0x20,
        DATA.QUERY_INFORMATION.InformationBuffer = 0x28,
        DATA.QUERY_INFORMATION.InformationBufferLength = 0x30,
        DATA.QUERY_INFORMATION.BytesWritten = 0x34,
        DATA.QUERY_INFORMATION.BytesNeeded = 0x38,
        DATA.METHOD_INFORMATION.BytesNeeded = 0x44,
        NdisReserved = 0x48,
        MiniportReserved = 0xC8,
        SourceReserved = 0xD8,
        SupportedRevision = 0xE8,
        Reserved1 = 0xE9,
        Reserved2 = 0xEA,
        SwitchId = 0xEC,
        VPortId = 0xF0,
        Flags = 0xF4,
    }
    NET_PNP_EVENT_NOTIFICATION {
        PortNumber = 0x4,
        NetPnPEvent = 0x8,
        Flags = 0xA0,
        SwitchId = 0xA4,
        VPortId = 0xA8,
    }
    NDIS_STATUS_INDICATION {
        SourceHandle = 0x8,
        PortNumber = 0x10,
        StatusCode = 0x14,
        Flags = 0x18,
        DestinationHandle = 0x20,
        RequestId = 0x28,
        StatusBuffer = 0x30,
        StatusBufferSize = 0x38,
        Guid = 0x3C,
        NdisReserved = 0x50,
    }
    NDIS_DEVICE_OBJECT_ATTRIBUTES {
        DeviceName = 0x8,
        SymbolicName = 0x10,
        MajorFunctions = 0x18,
        ExtensionSize = 0x20,
        DefaultSDDLString = 0x28,
        DeviceClassGuid = 0x30,
    }
    NET_PNP_EVENT {
        Buffer = 0x8,
        BufferLength = 0x10,
        NdisReserved = 0x18,
        TransportReserved = 0x38,
        TdiReserved = 0x58,
        TdiClientReserved = 0x78,
    }
    NET_DEVICE_PNP_EVENT {
        PortNumber = 0x4,
        DevicePnPEvent = 0x8,
        InformationBuffer = 0x10,
        InformationBufferLength = 0x18,
        NdisReserved = 0x1C,
    }
    LOCK_STATE_EX {
        LockState = 0x1,
        Flags = 0x2,
    }
    NDIS_SHARED_MEMORY_PARAMETERS {
        Flags = 0x4,
        QueueId = 0x8,
        SharedMemoryHandle = 0x10,
        PreferredNode = 0x18,
        Usage = 0x1C,
        Length = 0x20,
        VirtualAddress = 0x28,
        SGListBufferLength = 0x30,
        SGListBuffer = 0x38,
        VPortId = 0x40,
    }
    MDL {
        Size = 0x8,
        MdlFlags = 0xA,
        Process = 0x10,
        MappedSystemVa = 0x18,
        StartVa = 0x20,
        ByteCount = 0x28,
        ByteOffset = 0x2C,
    }
    NDIS_RESTART_GENERAL_ATTRIBUTES {
        MtuSize = 0x4,
        MaxXmitLinkSpeed = 0x8,
        MaxRcvLinkSpeed = 0x10,
        LookaheadSize = 0x18,
        MacOptions = 0x1C,
        SupportedPacketFilters = 0x20,
        MaxMulticastListSize = 0x24,
        RecvScaleCapabilities = 0x28,
        AccessType = 0x30,
        Flags = 0x34,
        ConnectionType = 0x38,
        SupportedStatistics = 0x3C,
        DataBackFillSize = 0x40,
        ContextBackFillSize = 0x44,
        SupportedOidList = 0x48,
        SupportedOidListLength = 0x50,
        MaxLookaheadSizeAccessed = 0x54,
    }
    NDIS_TIMER_CHARACTERISTICS {
        AllocationTag = 0x4,
        TimerFunction = 0x8,
        FunctionContext = 0x10,
    }
    UNICODE_STRING {
        Length = 0x0,
        MaximumLength = 0x2,
        Buffer = 0x8,
    }
}
