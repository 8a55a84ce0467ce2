//! `NET_BUFFER_LIST`, `NET_BUFFER` and what hangs on them.
use core::ffi::c_void;

use crate::{NDIS_HANDLE, NDIS_OBJECT_HEADER, NDIS_STATUS};

/// Memory descriptor list (page "MDL structure").
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MDL {
    /// Next MDL of the chain.
    pub Next: *mut MDL,
    /// Bytes of this structure with its page array.
    pub Size: i16,
    /// `MDL_…` flags.
    pub MdlFlags: i16,
    /// Process that owns the pages.
    pub Process: *mut c_void,
    /// System address, where mapped or built for nonpaged pool.
    pub MappedSystemVa: *mut c_void,
    /// Start of the first page.
    pub StartVa: *mut c_void,
    /// Bytes described.
    pub ByteCount: u32,
    /// Offset in the first page.
    pub ByteOffset: u32,
}

/// `NET_BUFFER_LIST_CONTEXT`: driver data in front of a list.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug)]
pub struct NET_BUFFER_LIST_CONTEXT {
    /// Next context.
    pub Next: *mut NET_BUFFER_LIST_CONTEXT,
    /// Bytes of context data.
    pub Size: u16,
    /// Where the data starts, in bytes after this header.
    pub Offset: u16,
    /// The data.
    pub ContextData: [MEMORY_ALIGNED; 0],
}

/// `MEMORY_ALLOCATION_ALIGNMENT`: 16 bytes.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug)]
pub struct MEMORY_ALIGNED([u8; 16]);

/// `SLIST_HEADER`, as far as its size and alignment matter.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug)]
pub struct SLIST_HEADER {
    /// Opaque.
    pub Opaque: [u64; 2],
}

/// First fields of a `NET_BUFFER`, or its link on a list of free ones.
#[repr(C)]
#[derive(Clone, Copy)]
pub union NET_BUFFER_HEAD {
    /// The buffer's data.
    pub Data: NET_BUFFER_DATA,
    /// The link.
    pub Link: SLIST_HEADER,
}

/// `NET_BUFFER_DATA`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct NET_BUFFER_DATA {
    /// Next buffer of the list.
    pub Next: *mut NET_BUFFER,
    /// The MDL that the data starts in.
    pub CurrentMdl: *mut MDL,
    /// Where in it, bytes.
    pub CurrentMdlOffset: u32,
    /// Bytes of data.
    pub Length: NET_BUFFER_LENGTH,
    /// First MDL of the chain.
    pub MdlChain: *mut MDL,
    /// Where the data starts in the chain, bytes.
    pub DataOffset: u32,
}

/// Bytes of data, as `ULONG` or `SIZE_T`.
#[repr(C)]
#[derive(Clone, Copy)]
pub union NET_BUFFER_LENGTH {
    /// As `ULONG`.
    pub DataLength: u32,
    /// As `SIZE_T`.
    pub stDataLength: usize,
}

/// Last field of a `NET_BUFFER`.
#[repr(C)]
#[derive(Clone, Copy)]
pub union NET_BUFFER_TAIL {
    /// Shared memory of the data.
    pub SharedMemoryInfo: *mut c_void,
    /// Scatter/gather list of the data.
    pub ScatterGatherList: *mut c_void,
}

/// One packet's data (page "`NET_BUFFER` structure").
#[repr(C, align(16))]
#[derive(Clone, Copy)]
pub struct NET_BUFFER {
    /// Data fields or free-list link.
    pub Head: NET_BUFFER_HEAD,
    /// Checksum bias.
    pub ChecksumBias: u16,
    /// Reserved.
    pub Reserved: u16,
    /// Pool.
    pub NdisPoolHandle: NDIS_HANDLE,
    /// Reserved for NDIS.
    pub NdisReserved: SLIST_HEADER,
    /// For the originator.
    pub ProtocolReserved: [*mut c_void; 6],
    /// For the miniport.
    pub MiniportReserved: [*mut c_void; 4],
    /// Physical address of the data.
    pub DataPhysicalAddress: i64,
    /// Shared memory or scatter/gather list.
    pub Tail: NET_BUFFER_TAIL,
}

/// First fields of a `NET_BUFFER_LIST`, or its link on a list of free ones.
#[repr(C)]
#[derive(Clone, Copy)]
pub union NET_BUFFER_LIST_HEADER {
    /// The list's links.
    pub Data: NET_BUFFER_LIST_DATA,
    /// The free-list link.
    pub Link: SLIST_HEADER,
}

/// `NET_BUFFER_LIST_DATA`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NET_BUFFER_LIST_DATA {
    /// Next list of the chain.
    pub Next: *mut NET_BUFFER_LIST,
    /// First packet.
    pub FirstNetBuffer: *mut NET_BUFFER,
}

/// A list of packets with common out-of-band data (page "`NET_BUFFER_LIST` structure").
///
/// Only NDIS allocates these: the number of `NetBufferListInfo` slots grew with NDIS, and the running
/// system's `ndis.sys` has more than any driver sees. Never copied, never measured with `size_of`.
#[repr(C, align(16))]
#[derive(Clone, Copy)]
pub struct NET_BUFFER_LIST {
    /// Links.
    pub Header: NET_BUFFER_LIST_HEADER,
    /// Driver contexts.
    pub Context: *mut NET_BUFFER_LIST_CONTEXT,
    /// Parent of a clone or fragment.
    pub ParentNetBufferList: *mut NET_BUFFER_LIST,
    /// Pool.
    pub NdisPoolHandle: NDIS_HANDLE,
    /// Reserved for NDIS.
    pub NdisReserved: SLIST_HEADER,
    /// For the originator.
    pub ProtocolReserved: [*mut c_void; 4],
    /// For the miniport.
    pub MiniportReserved: [*mut c_void; 2],
    /// For whoever owns the list.
    pub Scratch: *mut c_void,
    /// Who originated it: the handle that its completion goes to.
    pub SourceHandle: NDIS_HANDLE,
    /// `NDIS_NBL_FLAGS_…`.
    pub NblFlags: u32,
    /// Clones and fragments outstanding.
    pub ChildRefCount: i32,
    /// Flags by owner, see the masks.
    pub Flags: u32,
    /// Status of the completed operation.
    pub Status: NDIS_STATUS,
    /// Out-of-band data; only the slots of the running NDIS version exist, see [`crate::nbl_info_slots`].
    pub NetBufferListInfo: [*mut c_void; 0],
}

/// `NET_BUFFER_LIST_POOL_PARAMETERS`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NET_BUFFER_LIST_POOL_PARAMETERS {
    /// Type `DEFAULT`.
    pub Header: NDIS_OBJECT_HEADER,
    /// 0 for filters.
    pub ProtocolId: u8,
    /// Whether a list comes with one `NET_BUFFER`.
    pub fAllocateNetBuffer: u8,
    /// Bytes of context for each list, a multiple of 16.
    pub ContextSize: u16,
    /// Tag of the pool's memory.
    pub PoolTag: u32,
    /// Bytes of data for each buffer, 0 for none.
    pub DataSize: u32,
    /// From revision 2 on.
    pub Flags: u32,
}

/// `NET_BUFFER_POOL_PARAMETERS`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NET_BUFFER_POOL_PARAMETERS {
    /// Type `DEFAULT`.
    pub Header: NDIS_OBJECT_HEADER,
    /// Tag of the pool's memory.
    pub PoolTag: u32,
    /// Bytes of data for each buffer, 0 for none.
    pub DataSize: u32,
    /// From revision 2 on.
    pub Flags: u32,
}
