//! A send request whose frames are out.
#![expect(unsafe_code, reason = "keeps the request's IRP and its locked pages as pointers")]
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use sluice_abi::FrameResult;
use sluice_core::gate::{Direction, Pass};
use sluice_core::transfer::Transfer;
use sluice_kernel::irp::{self, Irp};
use wdk_sys::{DEVICE_OBJECT, FILE_OBJECT, IRP};

use crate::module::Module;
use crate::status;

/// Kept by the first slot of the request, which goes back to the map last.
///
/// # Invariants
/// While the request is out, `irp` is a pending IRP that this driver owns, and `results` points to
/// `frames` results in its locked pages. The first slot's share of the gate is held, so the module stays.
pub(crate) struct Request {
    module: *const Module,
    transfer: Transfer<AtomicU64>,
    irp: AtomicPtr<IRP>,
    file: AtomicPtr<FILE_OBJECT>,
    results: AtomicPtr<u8>,
    frames: AtomicU32,
    cancel_id: AtomicU64,
}

/// A request that is over but for giving back its slot and its share of the gate.
#[must_use = "the request's slot and its share of the gate are still held"]
pub(crate) struct Finished {
    irp: Irp,
    frames: u32,
}

impl Finished {
    /// Tells the client. Comes before the slot and the share go back.
    pub(crate) fn complete(self) {
        let length = self.frames as usize * size_of::<FrameResult>();
        let _ = self.irp.complete(status::SUCCESS, length);
    }
}

impl Request {
    /// A request that is not in use.
    pub(crate) fn new(module: &Module) -> Self {
        Self {
            module,
            transfer: Transfer::new(),
            irp: AtomicPtr::default(),
            file: AtomicPtr::default(),
            results: AtomicPtr::default(),
            frames: AtomicU32::new(0),
            cancel_id: AtomicU64::new(0),
        }
    }

    /// Takes the IRP over. Nothing was sent yet.
    pub(crate) fn start(&self, irp: Irp, results: NonNull<u8>, frames: u32, cancel_id: u64) {
        self.transfer.start(frames);
        self.results.store(results.as_ptr(), Ordering::Relaxed);
        self.frames.store(frames, Ordering::Relaxed);
        self.cancel_id.store(cancel_id, Ordering::Relaxed);
        irp.set_context(self);
        self.file.store(irp.file(), Ordering::Release);
        self.irp.store(irp.into_raw().as_ptr(), Ordering::Release);
    }

    fn raw_irp(&self) -> Option<NonNull<IRP>> {
        NonNull::new(self.irp.load(Ordering::Acquire))
    }

    /// Arms the cancel routine. If the request was cancelled before, it is given back: nothing may be sent.
    pub(crate) fn arm(&self) -> Option<Irp> {
        let irp = self.raw_irp()?;
        // SAFETY: the request holds the IRP.
        unsafe { irp::set_cancel_routine(irp, Some(cancel)) };
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
        // SAFETY: the request is not out, so nobody else holds the IRP.
        Some(unsafe { Irp::from_raw(irp) })
    }

    /// Writes one frame's result.
    pub(crate) fn set_result(&self, frame: u32, result: FrameResult) {
        let results = self.results.load(Ordering::Relaxed);
        if frame >= self.frames.load(Ordering::Relaxed) || results.is_null() {
            return;
        }
        let place = results.cast::<FrameResult>().wrapping_add(frame as usize);
        // SAFETY: the locked pages hold a result for each frame; they need not be aligned.
        unsafe { place.write_unaligned(result) };
    }

    /// `frames` frames came back. After the last one, and unless the cancel routine still runs, the caller
    /// finishes the request.
    pub(crate) fn frames_back(&self, frames: u32) -> Option<Finished> {
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
    fn finish(&self, irp: NonNull<IRP>) -> Finished {
        let frames = self.frames.load(Ordering::Relaxed);
        self.close();
        // SAFETY: the last share was given up, so nobody else holds the IRP.
        Finished { irp: unsafe { Irp::from_raw(irp) }, frames }
    }

    fn close(&self) {
        self.file.store(core::ptr::null_mut(), Ordering::Release);
        self.irp.store(core::ptr::null_mut(), Ordering::Release);
        self.results.store(core::ptr::null_mut(), Ordering::Relaxed);
    }

    /// The cancel id, if the request is out and came through `file`.
    pub(crate) fn cancel_id_for(&self, file: *mut FILE_OBJECT) -> Option<u64> {
        (self.file.load(Ordering::Acquire) == file).then(|| self.cancel_id.load(Ordering::Relaxed))
    }
}

/// Called with the cancel spin lock held when a client cancels a request that is out.
unsafe extern "C" fn cancel(_device: *mut DEVICE_OBJECT, irp: *mut IRP) {
    let Some(raw) = NonNull::new(irp) else { return };
    // SAFETY: the cancel routine's share keeps the IRP alive; it is not completed through this value.
    let context = unsafe { Irp::from_raw(raw) }.context();
    // SAFETY: this is the cancel routine, and the lock was not released yet.
    unsafe { irp::release_cancel_lock(raw) };
    // SAFETY: `start` kept the request here; its share of the gate keeps the module and its slabs.
    let request: &Request = unsafe { &*context.cast() };
    // SAFETY: as above.
    let module = unsafe { &*request.module };
    module.handle.cancel_sends(request.cancel_id.load(Ordering::Relaxed));
    if request.transfer.give_up() {
        module.finish_late(request.finish(raw), request);
    }
}

/// The share of the gate that a request's first slot holds.
pub(crate) const fn share(shard: u16) -> Pass {
    Pass::resume(shard, Direction::Send, 1)
}
