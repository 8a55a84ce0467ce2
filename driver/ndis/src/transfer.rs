//! A send request whose frames are out.
#![expect(unsafe_code, reason = "keeps the request's IRP and its locked pages as pointers")]
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use sluice_abi::FrameResult;
use sluice_core::transfer::Transfer;
use sluice_kernel::irp::{self, File, Irp, LockedPages, PendingIrp};
use sluice_kernel::irql::AtMostDispatch;
use sluice_kernel::shared::Shared;
use wdk_sys::{DEVICE_OBJECT, FILE_OBJECT, IRP, STATUS_SUCCESS};

use crate::path::Host;
use crate::trace;

/// Kept by the first slot of the request, which goes back to the map last.
///
/// # Invariants
/// While the request is out, `irp` is a pending IRP that this driver owns, with its reference to the host, and `pages`
/// and `length` are its locked pages. The first slot's share of the gate is held, so the host and its slabs stay.
pub(crate) struct Request<T> {
    host: *const T,
    transfer: Transfer<AtomicU64>,
    irp: AtomicPtr<IRP>,
    file: AtomicPtr<FILE_OBJECT>,
    pages: AtomicPtr<u8>,
    length: AtomicUsize,
    frames: AtomicU32,
    cancel_id: AtomicU64,
}

/// A request that is over but for giving back its slot and its share of the gate.
#[must_use = "the request's slot and its share of the gate are still held"]
pub(crate) struct Finished<T> {
    irp: PendingIrp<T>,
    frames: u32,
    batch: u64,
}

impl<T> Finished<T> {
    /// Completes the client's request. Comes before the slot and the share go back.
    pub(crate) fn complete(self) {
        let length = self.frames as usize * size_of::<FrameResult>();
        trace::batch_completed(self.batch, self.frames);
        // The share of the gate keeps the module attached, so this is not the last reference.
        drop(self.irp.complete(STATUS_SUCCESS, length));
    }
}

impl<T: Host> Request<T> {
    /// A request that is not in use.
    pub(crate) fn new(host: &Shared<T>) -> Self {
        Self {
            host: host.address(),
            transfer: Transfer::new(),
            irp: AtomicPtr::default(),
            file: AtomicPtr::default(),
            pages: AtomicPtr::default(),
            length: AtomicUsize::new(0),
            frames: AtomicU32::new(0),
            cancel_id: AtomicU64::new(0),
        }
    }

    /// Takes the IRP over. Nothing was sent yet.
    pub(crate) fn start(&self, irp: PendingIrp<T>, frames: u32, cancel_id: u64) {
        self.transfer.start(frames);
        let pages = irp.locked_pages().unwrap_or(LockedPages::none());
        self.length.store(pages.length(), Ordering::Relaxed);
        self.pages.store(pages.address().as_ptr(), Ordering::Relaxed);
        self.frames.store(frames, Ordering::Relaxed);
        self.cancel_id.store(cancel_id, Ordering::Relaxed);
        irp.set_context(self);
        self.file.store(irp.file().address(), Ordering::Release);
        self.irp.store(irp.into_raw().as_ptr(), Ordering::Release);
    }

    fn raw_irp(&self) -> Option<NonNull<IRP>> {
        NonNull::new(self.irp.load(Ordering::Acquire))
    }

    /// Arms the cancel routine. If the request was cancelled before, it is given back: nothing may be sent.
    pub(crate) fn arm(&self) -> Option<PendingIrp<T>> {
        let irp = self.raw_irp()?;
        // SAFETY: the request holds the IRP.
        unsafe { irp::set_cancel_routine(irp, Some(cancel::<T>)) };
        // SAFETY: nothing was sent, so the frames' share keeps the IRP alive.
        if !unsafe { irp::cancelled(irp) } {
            return None;
        }
        // SAFETY: as above.
        if !unsafe { irp::set_cancel_routine(irp, None) } {
            // The routine runs; it gives up its share, and cancels what is sent by then or later.
            return None;
        }
        self.close();
        // SAFETY: `start` took the IRP from its host, and the request is not out, so nobody else holds it.
        Some(unsafe { PendingIrp::from_raw(irp, self.host) })
    }

    /// Writes one frame's result.
    pub(crate) fn set_result(&self, frame: u32, result: FrameResult) {
        let Some(address) = NonNull::new(self.pages.load(Ordering::Relaxed)) else { return };
        // SAFETY: the request is out, so its IRP is not completed and its pages are locked.
        let pages = unsafe { LockedPages::of(address, self.length.load(Ordering::Relaxed)) };
        let written = pages.write(frame as usize * size_of::<FrameResult>(), &result.0.to_le_bytes());
        debug_assert!(written, "the pages have room for a result of each frame");
    }

    /// `frames` frames came back. After the last one, and unless the cancel routine still runs, the caller
    /// finishes the request.
    pub(crate) fn frames_back(&self, frames: u32) -> Option<Finished<T>> {
        if !self.transfer.frames_back(frames) {
            return None;
        }
        let irp = self.raw_irp()?;
        // SAFETY: the frames' share keeps the IRP alive.
        if unsafe { irp::set_cancel_routine(irp, None) } {
            // The routine can no longer be called: its share is given up for it.
            self.transfer.give_up();
        }
        self.transfer.give_up().then(|| self.finish(irp))
    }

    /// Takes the IRP out of the request.
    fn finish(&self, irp: NonNull<IRP>) -> Finished<T> {
        let frames = self.frames.load(Ordering::Relaxed);
        let batch = self.cancel_id.load(Ordering::Relaxed);
        self.close();
        // SAFETY: `start` took the IRP from its host; the last share was given up, so nobody else holds it.
        Finished { irp: unsafe { PendingIrp::from_raw(irp, self.host) }, frames, batch }
    }

    fn close(&self) {
        self.file.store(core::ptr::null_mut(), Ordering::Release);
        self.irp.store(core::ptr::null_mut(), Ordering::Release);
        self.pages.store(core::ptr::null_mut(), Ordering::Relaxed);
    }

    /// The cancel id, if the request is out and came through `file`.
    pub(crate) fn cancel_id_for(&self, file: File) -> Option<u64> {
        (self.file.load(Ordering::Acquire) == file.address()).then(|| self.cancel_id.load(Ordering::Relaxed))
    }
}

/// Called with the cancel spin lock held when a client cancels a request that is out.
unsafe extern "C" fn cancel<T: Host>(_device: *mut DEVICE_OBJECT, irp: *mut IRP) {
    let Some(raw) = NonNull::new(irp) else { return };
    // SAFETY: the cancel routine's share keeps the IRP alive; it is not completed through this value.
    let context = unsafe { Irp::from_raw(raw) }.context();
    // SAFETY: this is the cancel routine, and the lock was not released yet.
    unsafe { irp::release_cancel_lock(raw) };
    // SAFETY: cancel routines run at DISPATCH_LEVEL or below, and the cancel lock was released.
    let mut level = unsafe { AtMostDispatch::assume() };
    // SAFETY: `start` kept the request here; its share of the gate keeps the host and its slabs.
    let request: &Request<T> = unsafe { &*context.cast() };
    // SAFETY: as above.
    let host = unsafe { Shared::borrow(request.host) };
    let path = host.path();
    path.handle().cancel_sends(&level, request.cancel_id.load(Ordering::Relaxed));
    if request.transfer.give_up() {
        let share = path.finish_late(request.finish(raw), request);
        // Dropped when nothing of the host is borrowed any more.
        let last = share.and_then(|share| T::left(&host, &mut level, share));
        drop(last);
    }
}
