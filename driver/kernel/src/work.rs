//! Work items: `PASSIVE_LEVEL` for what was found at `DISPATCH_LEVEL` (page "System Worker Threads").
#![expect(unsafe_code, reason = "the I/O manager keeps a pointer to the context")]
use core::ffi::c_void;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

use wdk_sys::ntddk::{IoAllocateWorkItem, IoFreeWorkItem, IoQueueWorkItem};
use wdk_sys::{_IO_WORKITEM, DEVICE_OBJECT};

use crate::device::DeviceObject;
use crate::embedded::QueuedOnce;
use crate::irql::Passive;
use crate::pool::OutOfMemory;
use crate::shared::Shared;

/// `DelayedWorkQueue`.
const DELAYED: i32 = 1;

/// What a [`WorkItem`] works on: the shared value that it is a part of.
pub trait Work: Sized + Send + Sync + 'static {
    /// Runs at `PASSIVE_LEVEL`, on a thread of the system.
    fn work(this: &Shared<Self>, passive: &mut Passive<'_>);

    /// The part that is queued.
    fn item(&self) -> &WorkItem;
}

/// A work item, a part of the shared value that it works on. The value can be freed only after
/// [`WorkItem::stop`], as with a [`crate::dpc::Dpc`]. While its routine is queued or runs, the I/O manager holds
/// the device object, and so the driver.
///
/// # Invariants
/// While it is started, `item` is a work item of the I/O manager, and it is queued at most once.
pub struct WorkItem {
    item: AtomicPtr<_IO_WORKITEM>,
    life: QueuedOnce,
}

impl WorkItem {
    /// An item that has no routine yet.
    pub fn new() -> Self {
        Self { item: AtomicPtr::new(null_mut()), life: QueuedOnce::new() }
    }

    /// Allocates the item for a device. Once.
    ///
    /// # Panics
    /// If the item is no part of `host`, or was started before.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    pub fn start<T: Work>(&self, device: DeviceObject, host: &Shared<T>) -> Result<(), OutOfMemory> {
        self.life.start(self, host);
        // SAFETY: the device object is alive.
        let item = unsafe { IoAllocateWorkItem(device.raw()) };
        if item.is_null() {
            return Err(OutOfMemory);
        }
        self.item.store(item.cast(), Ordering::Release);
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
            unsafe { IoQueueWorkItem(item.cast(), Some(routine::<T>), DELAYED, host.address().cast()) };
        });
    }

    /// Waits for a routine that is queued or running, and frees the item. It is never queued again.
    pub fn stop(&self, passive: &mut Passive<'_>) {
        if !self.life.stop(passive) {
            return;
        }
        let item = self.item.swap(null_mut(), Ordering::AcqRel);
        // SAFETY: the item is not queued and cannot be; its routine has ended.
        unsafe { IoFreeWorkItem(item.cast()) };
    }
}

impl Default for WorkItem {
    fn default() -> Self {
        Self::new()
    }
}

unsafe extern "C" fn routine<T: Work>(_device: *mut DEVICE_OBJECT, context: *mut c_void) {
    // SAFETY: worker threads run at PASSIVE_LEVEL and hold no lock.
    let mut passive = unsafe { Passive::assume() };
    // SAFETY: `start` was given a shared value that lives until the item is stopped, which waits for this.
    let host = unsafe { Shared::borrow(context.cast::<T>()) };
    host.item().life.run(|| T::work(&host, &mut passive));
}
