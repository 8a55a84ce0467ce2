//! OID requests that pass through a filter: cloned, forwarded, completed (page "Filtering OID Requests in an
//! NDIS Filter Driver"); and those that a module asks of its own.
#![expect(unsafe_code, reason = "requests are pointers that NDIS hands over")]
use core::cell::UnsafeCell;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicI32, Ordering};

use ndis_sys::{
    NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_OID_REQUEST, NDIS_OID_INFORMATION, NDIS_OID_REQUEST,
    NDIS_OID_REQUEST_REVISION_2, NDIS_SIZEOF_OID_REQUEST_REVISION_2, NDIS_STATUS_INVALID_LENGTH,
    NDIS_STATUS_INVALID_STATE, NDIS_STATUS_PENDING, NDIS_STATUS_REQUEST_ABORTED, NDIS_STATUS_RESOURCES,
    NDIS_STATUS_SUCCESS, NdisAllocateCloneOidRequest, NdisFCancelOidRequest, NdisFOidRequest,
    NdisFOidRequestComplete, NdisFreeCloneOidRequest, NdisRequestMethod, NdisRequestQueryInformation,
};
use sluice_kernel::event::Event;
use sluice_kernel::irql::{AtMostDispatch, BelowDispatch, NoLockHeld, Passive};
use sluice_kernel::lock::SpinLock;
use sluice_kernel::pool::{OutOfMemory, PoolBox, Tag};
use sluice_kernel::rank::{After, Leaf};

use crate::Status;
use crate::filter::Handle;

/// The regular OID requests that a module has below it, one at a time: clones of what comes from above, which NDIS
/// serialises, and the module's own.
pub struct Passage {
    module: Handle,
    below: SpinLock<Below>,
}

/// # Invariants
/// At most one of `clone` and `own` is not null. `question` is alive while it is not null: [`Passage::query`] clears it
/// before its question goes.
struct Below {
    /// The clone that is out.
    clone: *mut NDIS_OID_REQUEST,
    /// The module's own request that is out.
    own: *mut NDIS_OID_REQUEST,
    /// The question that waits for its turn, or for the answer to `own`. Meanwhile, what comes from above is held.
    question: *const Question,
    /// The request from above that is held.
    held: *mut NDIS_OID_REQUEST,
}

// SAFETY: a request is not tied to a thread.
unsafe impl Send for Below {}

/// A request of the module's own for four bytes, and the event that its thread waits for.
struct Question {
    request: UnsafeCell<NDIS_OID_REQUEST>,
    value: UnsafeCell<u32>,
    status: AtomicI32,
    /// It is this question's turn; then, its answer is there.
    moved_on: Event,
}

impl Question {
    fn new(oid: u32, tag: Tag) -> Result<PoolBox<Self>, OutOfMemory> {
        // SAFETY: all bytes zero is a request without buffers.
        let mut request: NDIS_OID_REQUEST = unsafe { core::mem::zeroed() };
        request.Header = NDIS_OBJECT_HEADER {
            Type: NDIS_OBJECT_TYPE_OID_REQUEST,
            Revision: NDIS_OID_REQUEST_REVISION_2,
            Size: NDIS_SIZEOF_OID_REQUEST_REVISION_2,
        };
        request.RequestType = NdisRequestQueryInformation;
        let question = PoolBox::new(
            Self {
                request: UnsafeCell::new(request),
                value: UnsafeCell::new(0),
                status: AtomicI32::new(NDIS_STATUS_PENDING),
                moved_on: Event::synchronization(tag)?,
            },
            tag,
        )?;
        let information = NDIS_OID_INFORMATION {
            Oid: oid,
            InformationBuffer: question.value.get().cast(),
            InformationBufferLength: size_of::<u32>() as u32,
            BytesWritten: 0,
            BytesNeeded: 0,
        };
        // SAFETY: the question is new, and is not shared yet.
        let request = unsafe { &mut *question.request.get() };
        request.DATA.QUERY_INFORMATION = information;
        Ok(question)
    }

    /// What was answered, when the request has come back.
    fn answer(&self, status: Status) -> Result<u32, Status> {
        if status != NDIS_STATUS_SUCCESS {
            return Err(status);
        }
        // SAFETY: the request has come back, so no driver below writes into it.
        let request = unsafe { &*self.request.get() };
        // SAFETY: a query uses this member of the union.
        let written = unsafe { request.DATA.QUERY_INFORMATION.BytesWritten };
        if written as usize != size_of::<u32>() {
            return Err(NDIS_STATUS_INVALID_LENGTH);
        }
        // SAFETY: as above.
        Ok(unsafe { *self.value.get() })
    }
}

impl Passage {
    /// Nothing below.
    pub const fn new(module: Handle) -> Self {
        let below =
            Below { clone: null_mut(), own: null_mut(), question: core::ptr::null(), held: null_mut() };
        Self { module, below: SpinLock::new(below) }
    }

    /// The module.
    pub fn module(&self) -> Handle {
        self.module
    }

    /// Asks the drivers below for the four bytes of an OID, and waits for the answer. What comes from above meanwhile is
    /// forwarded afterwards.
    ///
    /// # Errors
    /// The status of the answer; `NDIS_STATUS_RESOURCES`; `NDIS_STATUS_INVALID_STATE` while another question of the module
    /// is out.
    pub fn query(&self, passive: &mut Passive<'_>, oid: u32, tag: Tag) -> Result<u32, Status> {
        let question = Question::new(oid, tag).map_err(|OutOfMemory| NDIS_STATUS_RESOURCES)?;
        let request = question.request.get();
        let free = self.below.with(passive, |below, _| {
            let alone = below.question.is_null();
            if alone {
                below.question = &raw const *question;
            }
            alone.then(|| below.clone.is_null())
        });
        match free {
            Some(true) => {}
            Some(false) => question.moved_on.wait(passive),
            None => return Err(NDIS_STATUS_INVALID_STATE),
        }
        self.below.with(passive, |below, _| below.own = request);
        // SAFETY: the request is complete, and stays until it has come back; the caller's callback keeps the module.
        let mut status = unsafe { NdisFOidRequest(self.module.raw(), request) };
        if status == NDIS_STATUS_PENDING {
            question.moved_on.wait(passive);
            status = question.status.load(Ordering::Relaxed);
        }
        let held = self.below.with(passive, |below, _| {
            below.own = null_mut();
            below.question = core::ptr::null();
            core::mem::replace(&mut below.held, null_mut())
        });
        if !held.is_null() {
            // SAFETY: the request was pended by `forward`.
            unsafe { self.forward_held(passive, held, tag) };
        }
        question.answer(status)
    }

    /// Forwards a request that was held.
    ///
    /// # Safety
    /// `request` was pended by `forward`, and is not held any more.
    unsafe fn forward_held<L: NoLockHeld + BelowDispatch>(
        &self,
        level: &mut L,
        request: *mut NDIS_OID_REQUEST,
        tag: Tag,
    ) where
        Leaf: After<L::Held>,
    {
        // SAFETY: as promised by the caller.
        let status = unsafe { self.forward(level, request, tag) };
        if status != NDIS_STATUS_PENDING {
            // SAFETY: the request is pending, and owned here.
            unsafe { NdisFOidRequestComplete(self.module.raw(), request, status) };
        }
    }

    /// Forwards a clone of `request`, or holds the request while a question of the module's own is out.
    ///
    /// # Safety
    /// `request` is what `FilterOidRequest` received.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    pub unsafe fn forward<L: NoLockHeld + BelowDispatch>(
        &self,
        level: &mut L,
        request: *mut NDIS_OID_REQUEST,
        tag: Tag,
    ) -> Status
    where
        Leaf: After<L::Held>,
    {
        let mut clone = null_mut();
        // SAFETY: the request is alive until it is completed.
        let status =
            unsafe { NdisAllocateCloneOidRequest(self.module.raw(), request, tag.value(), &raw mut clone) };
        if status != NDIS_STATUS_SUCCESS {
            return status;
        }
        // SAFETY: the clone was just made.
        let fields = unsafe { &mut *clone };
        fields.SourceReserved = [request as u64, 0];
        // SAFETY: the request is alive until it is completed.
        fields.RequestId = unsafe { (*request).RequestId };
        let goes = self.below.with(level, |below, _| {
            let goes = below.question.is_null();
            *(if goes { &mut below.clone } else { &mut below.held }) = if goes { clone } else { request };
            goes
        });
        if !goes {
            // SAFETY: the clone came from NdisAllocateCloneOidRequest with this handle and was not used.
            unsafe { NdisFreeCloneOidRequest(self.module.raw(), clone) };
            return NDIS_STATUS_PENDING;
        }
        // SAFETY: the clone is owned and given up here.
        let status = unsafe { NdisFOidRequest(self.module.raw(), clone) };
        if status != NDIS_STATUS_PENDING {
            // Done without a callback: the request is answered by this call's status.
            // SAFETY: NDIS has given the clone back.
            unsafe { self.take_back(level, clone) };
        }
        status
    }

    /// Completes the original of a clone that came back, or takes the answer to the module's own question.
    ///
    /// # Safety
    /// `clone` is what `FilterOidRequestComplete` received.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    pub unsafe fn completed(
        &self,
        level: &mut AtMostDispatch<'_>,
        clone: *mut NDIS_OID_REQUEST,
        status: Status,
    ) {
        let own = self.below.with(level, |below, dispatch| {
            // SAFETY: the question is alive while it is known here.
            let question = unsafe { below.question.as_ref() }.filter(|_| below.own == clone);
            if let Some(question) = question {
                question.status.store(status, Ordering::Relaxed);
                question.moved_on.set(dispatch);
            }
            question.is_some()
        });
        if own {
            return;
        }
        // SAFETY: NDIS has given the clone back.
        let original = unsafe { self.take_back(level, clone) };
        // SAFETY: the original was pended by `forward`.
        unsafe { NdisFOidRequestComplete(self.module.raw(), original, status) };
    }

    /// Passes a cancel on, if the outstanding request is meant; one that is held comes back at once.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    pub fn cancel(&self, level: &mut AtMostDispatch<'_>, id: u64) {
        let (below, held) = self.below.with(level, |below, _| {
            let meant = |request: *mut NDIS_OID_REQUEST| {
                // SAFETY: while it is recorded, the request is alive.
                let request = unsafe { request.as_ref() };
                request.is_some_and(|request| request.RequestId as u64 == id)
            };
            let held =
                if meant(below.held) { core::mem::replace(&mut below.held, null_mut()) } else { null_mut() };
            (meant(below.clone), held)
        });
        if below {
            let id = core::ptr::without_provenance_mut(id as usize);
            // SAFETY: NDIS keeps the module attached for the time of the callback; an id that is gone does no harm.
            unsafe { NdisFCancelOidRequest(self.module.raw(), id) };
        }
        if !held.is_null() {
            // SAFETY: the request was pended by `forward`, and is not held any more.
            unsafe { NdisFOidRequestComplete(self.module.raw(), held, NDIS_STATUS_REQUEST_ABORTED) };
        }
    }

    /// Copies a clone's answer to its original, frees the clone and returns the original.
    ///
    /// # Safety
    /// `clone` was made by `forward` and is owned.
    unsafe fn take_back<L: BelowDispatch>(
        &self,
        level: &mut L,
        clone: *mut NDIS_OID_REQUEST,
    ) -> *mut NDIS_OID_REQUEST
    where
        Leaf: After<L::Held>,
    {
        self.below.with(level, |below, dispatch| {
            below.clone = null_mut();
            // SAFETY: the question is alive while it is known here.
            if let Some(question) = unsafe { below.question.as_ref() } {
                // It waited for this.
                question.moved_on.set(dispatch);
            }
        });
        // SAFETY: the clone is owned.
        let answer = unsafe { &*clone };
        let original = answer.SourceReserved[0] as *mut NDIS_OID_REQUEST;
        // SAFETY: the original is pending or in `FilterOidRequest`, and so alive.
        let fields = unsafe { &mut *original };
        fields.SupportedRevision = answer.SupportedRevision;
        if answer.RequestType == NdisRequestMethod {
            // SAFETY: the type selects this member of the union.
            let from = unsafe { answer.DATA.METHOD_INFORMATION };
            // SAFETY: as above.
            let to = unsafe { &mut fields.DATA.METHOD_INFORMATION };
            to.OutputBufferLength = from.OutputBufferLength;
            to.BytesRead = from.BytesRead;
            to.BytesNeeded = from.BytesNeeded;
            to.BytesWritten = from.BytesWritten;
        } else {
            // SAFETY: queries and sets share a layout.
            let from = unsafe { answer.DATA.QUERY_INFORMATION };
            // SAFETY: as above.
            let to = unsafe { &mut fields.DATA.QUERY_INFORMATION };
            to.BytesWritten = from.BytesWritten;
            to.BytesNeeded = from.BytesNeeded;
        }
        // SAFETY: the clone came from NdisAllocateCloneOidRequest with this handle and is not used again.
        unsafe { NdisFreeCloneOidRequest(self.module.raw(), clone) };
        original
    }
}
