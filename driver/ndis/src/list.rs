//! `NET_BUFFER_LIST`s: pools, lists that are built once, and chains whose ownership moves.
#![expect(unsafe_code, reason = "NDIS hands lists over as pointers; a chain owns what it links")]
use core::ptr::{NonNull, null_mut};

use ndis_sys::{
    MDL, NDIS_HANDLE, NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_DEFAULT,
    NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1, NET_BUFFER_LIST, NET_BUFFER_LIST_POOL_PARAMETERS,
    NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1, NdisAllocateMdl, NdisAllocateNetBufferAndNetBufferList,
    NdisAllocateNetBufferListPool, NdisFreeMdl, NdisFreeNetBufferList, NdisFreeNetBufferListPool,
    NetBufferListCancelId,
};
use sluice_kernel::pool::{OutOfMemory, Tag};

use crate::Status;
use crate::filter::Handle;

/// Bytes of context in each list: the number of its slot. A multiple of 16.
const CONTEXT: u16 = 16;

/// A pool of lists with one buffer each and no data, freed when dropped; every list is freed before.
pub struct Pool(NDIS_HANDLE);

// SAFETY: NDIS guards its pools.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Pool {
    /// Makes a pool for a module.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    pub fn new(module: Handle, tag: Tag) -> Result<Self, OutOfMemory> {
        let parameters = NET_BUFFER_LIST_POOL_PARAMETERS {
            Header: NDIS_OBJECT_HEADER {
                Type: NDIS_OBJECT_TYPE_DEFAULT,
                Revision: NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
                Size: NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
            },
            ProtocolId: 0,
            fAllocateNetBuffer: 1,
            ContextSize: CONTEXT,
            PoolTag: tag.value(),
            DataSize: 0,
            Flags: 0,
        };
        // SAFETY: the handle is the module's; the parameters are filled in.
        let pool = unsafe { NdisAllocateNetBufferListPool(module.raw(), &raw const parameters) };
        if pool.is_null() { Err(OutOfMemory) } else { Ok(Self(pool)) }
    }

    /// Builds a list over `length` bytes at `address`, with an MDL of its own and the number `slot` in its
    /// context.
    ///
    /// # Safety
    /// The memory is nonpaged and lives as long as the list.
    pub unsafe fn prebuilt(
        &self,
        module: Handle,
        address: NonNull<u8>,
        length: u32,
        slot: u32,
    ) -> Result<Prebuilt, OutOfMemory> {
        // SAFETY: the caller vouches for the memory.
        let mdl = unsafe { NdisAllocateMdl(module.raw(), address.as_ptr().cast(), length) };
        let mdl = NonNull::new(mdl).ok_or(OutOfMemory)?;
        // SAFETY: the pool makes lists with a buffer and without data; the MDL describes `length` bytes.
        let list = unsafe {
            NdisAllocateNetBufferAndNetBufferList(self.0, CONTEXT, 0, mdl.as_ptr(), 0, length as usize)
        };
        let Some(list) = NonNull::new(list) else {
            // SAFETY: the MDL was allocated above and is not used.
            unsafe { NdisFreeMdl(mdl.as_ptr()) };
            return Err(OutOfMemory);
        };
        // SAFETY: the list was just made, with a context of 16 bytes.
        let context = unsafe { ndis_sys::nbl_context_data(list.as_ptr()) };
        // SAFETY: the context is this driver's and aligned to 16.
        unsafe { context.cast::<u32>().write(slot) };
        Ok(Prebuilt { list, mdl })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: whoever drops a pool has freed its lists.
        unsafe { NdisFreeNetBufferListPool(self.0) };
    }
}

/// A list of this driver that is used again and again. Freed when dropped, which is allowed only while the
/// driver owns it.
pub struct Prebuilt {
    list: NonNull<NET_BUFFER_LIST>,
    mdl: NonNull<MDL>,
}

// SAFETY: a list is not tied to a thread.
unsafe impl Send for Prebuilt {}
// SAFETY: shared access hands out nothing by itself.
unsafe impl Sync for Prebuilt {}

impl Prebuilt {
    /// Resets the list for a frame of `length` bytes at `offset` of its memory, and returns it to be sent.
    /// Nothing of an earlier use remains: status, flags, and every out-of-band slot that this system has.
    ///
    /// # Safety
    /// The driver owns the list: its slot was taken from the map.
    pub unsafe fn prepare(
        &self,
        module: Handle,
        offset: u32,
        length: u32,
        info_slots: usize,
        cancel_id: u64,
    ) -> List {
        let list = self.list.as_ptr();
        // SAFETY: the driver owns the list, which has the one buffer it was made with.
        let buffer = unsafe { ndis_sys::nbl_first_nb(list) };
        // SAFETY: the MDL describes the whole slot.
        unsafe { ndis_sys::nb_set_data(buffer, self.mdl.as_ptr(), offset, length) };
        // SAFETY: the driver owns the list.
        let fields = unsafe { &mut *list };
        fields.SourceHandle = module.raw();
        fields.Status = 0;
        fields.Flags = 0;
        fields.NblFlags = 0;
        fields.ParentNetBufferList = null_mut();
        fields.ChildRefCount = 0;
        // SAFETY: slot 0 exists in every version.
        let info = unsafe { ndis_sys::nbl_info(list, 0) };
        // SAFETY: the running system's lists have `info_slots` slots.
        unsafe { info.write_bytes(0, info_slots) };
        // SAFETY: the cancel id's slot exists in every version.
        let cancel = unsafe { ndis_sys::nbl_info(list, NetBufferListCancelId) };
        // SAFETY: as above.
        unsafe { cancel.write(core::ptr::without_provenance_mut(cancel_id as usize)) };
        List(self.list)
    }
}

impl Drop for Prebuilt {
    fn drop(&mut self) {
        // SAFETY: whoever drops the list owns it.
        unsafe { NdisFreeNetBufferList(self.list.as_ptr()) };
        // SAFETY: the list that referred to the MDL is gone.
        unsafe { NdisFreeMdl(self.mdl.as_ptr()) };
    }
}

/// One list that this code owns.
#[must_use = "a list that is dropped is lost to its owner"]
pub struct List(NonNull<NET_BUFFER_LIST>);

impl List {
    fn fields(&self) -> &NET_BUFFER_LIST {
        // SAFETY: the list is owned.
        unsafe { self.0.as_ref() }
    }

    /// Whether this module originated the list: by its source handle, never by guessing.
    pub fn is_from(&self, module: Handle) -> bool {
        self.fields().SourceHandle == module.raw()
    }

    /// Status of its completion.
    pub fn status(&self) -> Status {
        self.fields().Status
    }

    /// Sets the status that it is completed with.
    pub fn set_status(&mut self, status: Status) {
        // SAFETY: the list is owned.
        unsafe { self.0.as_mut() }.Status = status;
    }

    /// The number that [`Pool::prebuilt`] put into a list of this module; none of a list of others.
    pub fn slot(&self, module: Handle) -> Option<u32> {
        if !self.is_from(module) {
            return None;
        }
        // SAFETY: lists of this module have a context.
        let context = unsafe { ndis_sys::nbl_context_data(self.0.as_ptr()) };
        // SAFETY: its first four bytes are the number.
        Some(unsafe { context.cast::<u32>().read() })
    }

    /// Ends the ownership of a prebuilt list whose slot goes back to the map.
    pub fn retire(self) {
        // Nothing to free: the list stays with its slot. This consumes the only way to reach it.
        let Self(_) = self;
    }
}

/// Lists linked in order, owned together.
#[must_use = "lists that are dropped are lost to their owner"]
pub struct Chain {
    first: *mut NET_BUFFER_LIST,
    last: *mut NET_BUFFER_LIST,
}

impl Chain {
    /// No lists.
    pub const fn new() -> Self {
        Self { first: null_mut(), last: null_mut() }
    }

    /// The lists that a callback received.
    ///
    /// # Safety
    /// NDIS handed `first`, and what is linked to it, over to the caller.
    pub unsafe fn from_raw(first: *mut NET_BUFFER_LIST) -> Self {
        // The last one is not looked for: a received chain is only taken apart or passed on whole.
        Self { first, last: first }
    }

    pub(crate) fn into_raw(self) -> Option<NonNull<NET_BUFFER_LIST>> {
        NonNull::new(self.first)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// Appends a list.
    pub fn push(&mut self, list: List) {
        let list = list.0.as_ptr();
        // SAFETY: the list is owned.
        unsafe { ndis_sys::nbl_set_next(list, null_mut()) };
        if self.last.is_null() {
            self.first = list;
        } else {
            // SAFETY: the chain owns its last list.
            unsafe { ndis_sys::nbl_set_next(self.last, list) };
        }
        self.last = list;
    }
}

impl Default for Chain {
    fn default() -> Self {
        Self::new()
    }
}

impl Iterator for Chain {
    type Item = List;

    /// Takes the first list off the chain.
    fn next(&mut self) -> Option<List> {
        let list = NonNull::new(self.first)?;
        // SAFETY: the chain owns its first list.
        self.first = unsafe { ndis_sys::nbl_next(list.as_ptr()) };
        if self.first.is_null() {
            self.last = null_mut();
        }
        // SAFETY: the list is owned; it leaves the chain.
        unsafe { ndis_sys::nbl_set_next(list.as_ptr(), null_mut()) };
        Some(List(list))
    }
}
