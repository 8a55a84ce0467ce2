//! NDIS I/O work items: `PASSIVE_LEVEL`, on a system worker thread, for what was found at `DISPATCH_LEVEL` (page
//! "`NdisQueueIoWorkItem`").
#![expect(unsafe_code, reason = "NDIS keeps a pointer to the context")]
use core::ffi::c_void;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

use ndis_sys::{NDIS_HANDLE, NdisAllocateIoWorkItem, NdisFreeIoWorkItem, NdisQueueIoWorkItem};
use sluice_kernel::embedded::QueuedOnce;
use sluice_kernel::irql::Passive;
use sluice_kernel::pool::OutOfMemory;
use sluice_kernel::shared::Shared;

use crate::driver;

/// What an [`IoWorkItem`] works on: the shared value that it is a part of.
pub trait Work: Sized + Send + Sync + 'static {
    /// Runs at `PASSIVE_LEVEL`, on a system worker thread.
    fn work(this: &Shared<Self>, passive: &mut Passive<'_>);

    /// The part that is queued.
    fn item(&self) -> &IoWorkItem;
}

/// An I/O work item of the filter driver, a part of the shared value that it works on. The value can be freed only
/// after [`IoWorkItem::stop`]: dropping an item that was started and not stopped stops the system.
///
/// # Invariants
/// While it is started, `item` is a work item of NDIS, and it is queued at most once.
pub struct IoWorkItem {
    item: AtomicPtr<c_void>,
    life: QueuedOnce,
}

impl IoWorkItem {
    /// An item that has no routine yet.
    pub fn new() -> Self {
        Self { item: AtomicPtr::new(null_mut()), life: QueuedOnce::new() }
    }

    /// Allocates the item. Once.
    ///
    /// # Panics
    /// If the item is no part of `host`, or was started before.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    pub fn start<T: Work>(&self, host: &Shared<T>) -> Result<(), OutOfMemory> {
        self.life.start(self, host);
        // SAFETY: the handle is the registered filter driver's, for which the page allows it.
        let item = unsafe { NdisAllocateIoWorkItem(driver::handle()) };
        if item.is_null() {
            return Err(OutOfMemory);
        }
        self.item.store(item, Ordering::Release);
        self.life.admit();
        Ok(())
    }

    /// Queues the routine, unless it is queued and has not begun, or the item is not started, or stopped.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    pub fn queue<T: Work>(host: &Shared<T>) {
        let this = host.item();
        if !host.contains(this) {
            return;
        }
        this.life.queue(|| {
            let item = this.item.load(Ordering::Acquire);
            // SAFETY: the item is allocated and not queued; the use that was begun keeps it and the host until the
            // routine ends it.
            unsafe { NdisQueueIoWorkItem(item, routine::<T>, host.address().cast()) };
        });
    }

    /// Waits for a routine that is queued or running, and frees the item. It is never queued again.
    pub fn stop(&self, passive: &mut Passive<'_>) {
        if !self.life.stop(passive) {
            return;
        }
        let item = self.item.swap(null_mut(), Ordering::AcqRel);
        // SAFETY: the item is not queued and cannot be; its routine has ended.
        unsafe { NdisFreeIoWorkItem(item) };
    }
}

impl Default for IoWorkItem {
    fn default() -> Self {
        Self::new()
    }
}

unsafe extern "system" fn routine<T: Work>(context: *mut c_void, _item: NDIS_HANDLE) {
    // SAFETY: worker threads run at PASSIVE_LEVEL and hold no lock.
    let mut passive = unsafe { Passive::assume() };
    // SAFETY: `start` was given a shared value that lives until the item is stopped, which waits for this.
    let host = unsafe { Shared::borrow(context.cast::<T>()) };
    host.item().life.run(|| T::work(&host, &mut passive));
}
