//! Rundown protection (page "Run-Down Protection").
#![expect(unsafe_code, reason = "the kernel changes the reference through a pointer")]
use core::cell::UnsafeCell;

use wdk_sys::EX_RUNDOWN_REF;
use wdk_sys::ntddk::{
    ExAcquireRundownProtection, ExInitializeRundownProtection, ExReleaseRundownProtection,
    ExWaitForRundownProtectionRelease,
};

use crate::irql::Passive;

/// Protects an object that others use until it is run down: they enter, and may be refused; the owner waits
/// once, and refuses everybody from then on.
pub struct Rundown(UnsafeCell<EX_RUNDOWN_REF>);

// SAFETY: the kernel's functions change the reference atomically.
unsafe impl Sync for Rundown {}
// SAFETY: the reference is not tied to a thread.
unsafe impl Send for Rundown {}

impl Rundown {
    /// Protection that admits.
    pub fn new() -> Self {
        let mut raw = EX_RUNDOWN_REF::default();
        // SAFETY: the reference is writable and not in use.
        unsafe { ExInitializeRundownProtection(&raw mut raw) };
        Self(UnsafeCell::new(raw))
    }

    /// Runs `work` while the object cannot be run down, or not at all if it was.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    pub fn enter<R>(&self, work: impl FnOnce() -> R) -> Option<R> {
        if !self.acquire() {
            return None;
        }
        let result = work();
        self.release();
        Some(result)
    }

    /// Begins a use that ends elsewhere, with [`Rundown::release`]; false if the object was run down.
    pub(crate) fn acquire(&self) -> bool {
        // SAFETY: `new` initialised the reference.
        unsafe { ExAcquireRundownProtection(self.0.get()) != 0 }
    }

    /// Ends a use that [`Rundown::acquire`] began.
    pub(crate) fn release(&self) {
        // SAFETY: this crate releases what it acquired, once.
        unsafe { ExReleaseRundownProtection(self.0.get()) };
    }

    /// Refuses everybody from now on and waits until all that entered have left.
    pub fn run_down(&self, _passive: &mut Passive<'_>) {
        // SAFETY: the token shows PASSIVE_LEVEL, where waiting is allowed.
        unsafe { ExWaitForRundownProtectionRelease(self.0.get()) };
    }
}

impl Default for Rundown {
    fn default() -> Self {
        Self::new()
    }
}
