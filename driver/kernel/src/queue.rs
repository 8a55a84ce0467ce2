//! Cancel-safe IRP queues (page "Cancel-Safe IRP Queues").
#![expect(unsafe_code, reason = "links IRPs through their own list entry")]
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::mem::offset_of;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicU32, Ordering};

use wdk_sys::ntddk::{IoCsqInitializeEx, IoCsqInsertIrpEx, IoCsqRemoveNextIrp};
use wdk_sys::{FILE_OBJECT, IO_CSQ, IRP, NTSTATUS};

use crate::irp::Irp;
use crate::lock::SpinLock;

/// Offset of `Tail.Overlay.ListEntry.Flink` in an IRP on 64-bit Windows.
const LIST_ENTRY: usize = 0xA8;

/// Insert context of an IRP that goes to the front.
const FRONT: *mut c_void = core::ptr::without_provenance_mut(1);

/// What happens to a request that is cancelled while it waits.
pub trait Waiting {
    /// Completes it.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    fn cancelled(&self, irp: Irp);
}

/// IRPs that wait, first come first served.
struct Waiters {
    first: *mut IRP,
    last: *mut IRP,
}

// SAFETY: the queue owns the IRPs, which are not tied to a thread.
unsafe impl Send for Waiters {}

/// A queue of IRPs from which the I/O manager may take one at any time to cancel it.
///
/// # Invariants
/// - `csq` is the first field: the callbacks are given its address and find the queue there.
/// - After [`Queue::start`] the queue and its owner stay where they are.
#[repr(C)]
pub struct Queue<T> {
    csq: UnsafeCell<IO_CSQ>,
    owner: UnsafeCell<*const T>,
    waiters: SpinLock<Waiters>,
    /// IRPs in the queue, changed under its lock.
    length: AtomicU32,
}

// SAFETY: the IRPs are guarded by the queue's lock, and the owner is only read.
unsafe impl<T: Sync> Sync for Queue<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Send for Queue<T> {}

impl<T: Waiting> Queue<T> {
    /// An empty queue.
    pub fn new() -> Self {
        Self {
            csq: UnsafeCell::new(IO_CSQ::default()),
            owner: UnsafeCell::new(core::ptr::null()),
            waiters: SpinLock::new(Waiters { first: null_mut(), last: null_mut() }),
            length: AtomicU32::new(0),
        }
    }

    /// Makes the queue ready.
    ///
    /// # Safety
    /// Nobody uses the queue yet, and neither it nor `owner` moves or dies while an IRP is in it.
    pub unsafe fn start(&self, owner: *const T) {
        // SAFETY: nobody else uses the queue.
        unsafe { *self.owner.get() = owner };
        // SAFETY: the structure is writable; the callbacks fit it.
        let status = unsafe {
            IoCsqInitializeEx(
                self.csq.get(),
                Some(insert::<T>),
                Some(remove::<T>),
                Some(peek::<T>),
                Some(acquire::<T>),
                Some(release::<T>),
                Some(complete::<T>),
            )
        };
        debug_assert!(status == 0, "IoCsqInitializeEx always succeeds");
    }

    /// Appends a request that was marked pending. It may be cancelled before this returns.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`, as for the other functions.
    pub fn push(&self, irp: Irp) {
        self.insert(irp, null_mut());
    }

    /// Puts a request back that was first until now.
    pub fn push_front(&self, irp: Irp) {
        self.insert(irp, FRONT);
    }

    fn insert(&self, irp: Irp, place: *mut c_void) {
        // SAFETY: `start` was called; the IRP is owned and goes to the queue, which accepts all.
        let status = unsafe { IoCsqInsertIrpEx(self.csq.get(), irp.into_raw().as_ptr(), null_mut(), place) };
        debug_assert!(status == 0, "the queue accepts every request");
    }

    /// How many requests wait at this moment.
    pub fn len(&self) -> u32 {
        self.length.load(Ordering::SeqCst)
    }

    /// Whether no request waits at this moment.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the first request, or the first one of `file` if that is not null.
    pub fn pop(&self, file: *mut FILE_OBJECT) -> Option<Irp> {
        // SAFETY: `start` was called; the peek context is the file.
        let irp = unsafe { IoCsqRemoveNextIrp(self.csq.get(), file.cast()) };
        // SAFETY: the IRP was taken from the queue, which owned it, and cannot be cancelled any more.
        NonNull::new(irp).map(|irp| unsafe { Irp::from_raw(irp) })
    }
}

impl<T: Waiting> Default for Queue<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// The link of an IRP in a queue, to be touched while the queue owns the IRP and its lock is held.
fn link(irp: *mut IRP) -> *mut *mut IRP {
    irp.wrapping_byte_add(LIST_ENTRY).cast()
}

/// The queue that a callback is about.
///
/// # Safety
/// `csq` is the first field of a started `Queue<T>`.
unsafe fn queue<'a, T>(csq: *mut IO_CSQ) -> &'a Queue<T> {
    const { assert!(offset_of!(Queue<T>, csq) == 0) };
    // SAFETY: as promised by the caller.
    unsafe { &*csq.cast() }
}

unsafe extern "C" fn acquire<T: Waiting>(csq: *mut IO_CSQ, irql: *mut u8) {
    // SAFETY: the I/O manager passes back the queue's own structure.
    let queue = unsafe { queue::<T>(csq) };
    // SAFETY: the I/O manager releases with the level that is stored here.
    let old = unsafe { queue.waiters.acquire() };
    // SAFETY: the I/O manager passes a place for the level.
    unsafe { *irql = old };
}

unsafe extern "C" fn release<T: Waiting>(csq: *mut IO_CSQ, irql: u8) {
    // SAFETY: the I/O manager passes back the queue's own structure.
    let queue = unsafe { queue::<T>(csq) };
    // SAFETY: pairs with `acquire`.
    unsafe { queue.waiters.release(irql) };
}

unsafe extern "C" fn insert<T: Waiting>(csq: *mut IO_CSQ, irp: *mut IRP, place: *mut c_void) -> NTSTATUS {
    // SAFETY: the I/O manager passes back the queue's own structure.
    let queue = unsafe { queue::<T>(csq) };
    // SAFETY: the I/O manager holds the queue's lock around this callback.
    let waiters = unsafe { queue.waiters.data() };
    queue.length.fetch_add(1, Ordering::SeqCst);
    let own = link(irp);
    let front = place == FRONT && !waiters.first.is_null();
    // SAFETY: the link lies in the IRP.
    unsafe { *own = if front { waiters.first } else { null_mut() } };
    if front {
        waiters.first = irp;
        return 0;
    }
    if waiters.last.is_null() {
        waiters.first = irp;
    } else {
        // SAFETY: the last IRP belongs to the queue.
        unsafe { *link(waiters.last) = irp };
    }
    waiters.last = irp;
    0
}

unsafe extern "C" fn remove<T: Waiting>(csq: *mut IO_CSQ, irp: *mut IRP) {
    // SAFETY: the I/O manager passes back the queue's own structure.
    let queue = unsafe { queue::<T>(csq) };
    // SAFETY: the I/O manager holds the queue's lock around this callback.
    let waiters = unsafe { queue.waiters.data() };
    let mut before: *mut IRP = null_mut();
    let mut at = waiters.first;
    while !at.is_null() {
        // SAFETY: IRPs on the list belong to the queue.
        let next = unsafe { *link(at) };
        if at == irp {
            queue.length.fetch_sub(1, Ordering::SeqCst);
            if before.is_null() {
                waiters.first = next;
            } else {
                // SAFETY: as above.
                unsafe { *link(before) = next };
            }
            if waiters.last == irp {
                waiters.last = before;
            }
            return;
        }
        before = at;
        at = next;
    }
}

unsafe extern "C" fn peek<T: Waiting>(csq: *mut IO_CSQ, irp: *mut IRP, file: *mut c_void) -> *mut IRP {
    // SAFETY: the I/O manager passes back the queue's own structure.
    let queue = unsafe { queue::<T>(csq) };
    // SAFETY: the I/O manager holds the queue's lock around this callback.
    let waiters = unsafe { queue.waiters.data() };
    let mut at = if irp.is_null() {
        waiters.first
    } else {
        // SAFETY: the IRP belongs to the queue.
        unsafe { *link(irp) }
    };
    while let Some(irp) = NonNull::new(at) {
        // SAFETY: the IRP belongs to the queue; it is only looked at, and not completed through this value.
        let owner = unsafe { Irp::from_raw(irp) }.file();
        if file.is_null() || owner.cast() == file {
            return at;
        }
        // SAFETY: as above.
        at = unsafe { *link(at) };
    }
    null_mut()
}

unsafe extern "C" fn complete<T: Waiting>(csq: *mut IO_CSQ, irp: *mut IRP) {
    // SAFETY: the I/O manager passes back the queue's own structure.
    let queue = unsafe { queue::<T>(csq) };
    // SAFETY: the owner is set once, by `start`.
    let owner = unsafe { *queue.owner.get() };
    // SAFETY: the owner outlives the IRPs in the queue.
    let owner = unsafe { &*owner };
    let Some(irp) = NonNull::new(irp) else { return };
    // SAFETY: the I/O manager took the IRP off the queue and hands it over.
    owner.cancelled(unsafe { Irp::from_raw(irp) });
}
