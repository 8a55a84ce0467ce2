//! OID requests that pass through a filter: cloned, forwarded, completed (page "Filtering OID Requests in an
//! NDIS Filter Driver").
#![expect(unsafe_code, reason = "requests are pointers that NDIS hands over")]
use core::ptr::null_mut;

use ndis_sys::{
    NDIS_OID_REQUEST, NDIS_STATUS_PENDING, NDIS_STATUS_SUCCESS, NdisAllocateCloneOidRequest,
    NdisFCancelOidRequest, NdisFOidRequest, NdisFOidRequestComplete, NdisFreeCloneOidRequest,
    NdisRequestMethod,
};
use sluice_kernel::irql::AtMostDispatch;
use sluice_kernel::lock::SpinLock;
use sluice_kernel::pool::Tag;

use crate::Status;
use crate::filter::Handle;

/// The one clone that a module may have outstanding: NDIS serialises regular OID requests.
pub struct Passage {
    module: Handle,
    outstanding: SpinLock<Outstanding>,
}

struct Outstanding(*mut NDIS_OID_REQUEST);

// SAFETY: a request is not tied to a thread.
unsafe impl Send for Outstanding {}

impl Passage {
    /// Nothing outstanding.
    pub const fn new(module: Handle) -> Self {
        Self { module, outstanding: SpinLock::new(Outstanding(null_mut())) }
    }

    /// The module.
    pub fn module(&self) -> Handle {
        self.module
    }

    /// Forwards a clone of `request`.
    ///
    /// # Safety
    /// `request` is what `FilterOidRequest` received.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    pub unsafe fn forward(
        &self,
        level: &mut AtMostDispatch<'_>,
        request: *mut NDIS_OID_REQUEST,
        tag: Tag,
    ) -> Status {
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
        self.outstanding.with(level, |outstanding, _| outstanding.0 = clone);
        // SAFETY: the clone is owned and given up here.
        let status = unsafe { NdisFOidRequest(self.module.raw(), clone) };
        if status != NDIS_STATUS_PENDING {
            // Done without a callback: the request is answered by this call's status.
            // SAFETY: NDIS has given the clone back.
            unsafe { self.take_back(level, clone) };
        }
        status
    }

    /// Completes the original of a clone that came back.
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
        // SAFETY: NDIS has given the clone back.
        let original = unsafe { self.take_back(level, clone) };
        // SAFETY: the original was pended by `forward`.
        unsafe { NdisFOidRequestComplete(self.module.raw(), original, status) };
    }

    /// Passes a cancel on, if the outstanding request is meant.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    pub fn cancel(&self, level: &mut AtMostDispatch<'_>, id: u64) {
        let matches = self.outstanding.with(level, |outstanding, _| {
            // SAFETY: while it is recorded, the clone is alive.
            !outstanding.0.is_null() && unsafe { (*outstanding.0).RequestId } as u64 == id
        });
        if matches {
            let id = core::ptr::without_provenance_mut(id as usize);
            // SAFETY: NDIS keeps the module attached for the time of the callback; an id that is gone does no harm.
            unsafe { NdisFCancelOidRequest(self.module.raw(), id) };
        }
    }

    /// Copies a clone's answer to its original, frees the clone and returns the original.
    ///
    /// # Safety
    /// `clone` was made by `forward` and is owned.
    unsafe fn take_back(
        &self,
        level: &mut AtMostDispatch<'_>,
        clone: *mut NDIS_OID_REQUEST,
    ) -> *mut NDIS_OID_REQUEST {
        self.outstanding.with(level, |outstanding, _| outstanding.0 = null_mut());
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
