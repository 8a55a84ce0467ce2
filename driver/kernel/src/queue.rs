//! Cancel-safe IRP queues (page "Cancel-Safe IRP Queues").
#![expect(unsafe_code, reason = "links IRPs through their own list entry")]
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::marker::PhantomData;
use core::mem::offset_of;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use wdk_sys::ntddk::{IoCsqInitializeEx, IoCsqInsertIrpEx, IoCsqRemoveNextIrp};
use wdk_sys::{IO_CSQ, IRP, NTSTATUS};

use crate::irp::{File, Irp};
use crate::lock::SpinLock;
use crate::shared::Shared;

/// Offset of `Tail.Overlay.ListEntry.Flink` in an IRP on 64-bit Windows.
const LIST_ENTRY: usize = 0xA8;

/// Insert context of an IRP that goes to the front.
const FRONT: *mut c_void = core::ptr::without_provenance_mut(1);

/// What happens to a request that is cancelled while it waits in a queue of kind `K`.
pub trait Waiting<K>: Sized + Send + Sync + 'static {
    /// Completes it.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    fn cancelled(this: &Shared<Self>, irp: Irp);
}

/// IRPs that wait, first come first served.
struct Waiters {
    first: *mut IRP,
    last: *mut IRP,
}

// SAFETY: the queue owns the IRPs, which are not tied to a thread.
unsafe impl Send for Waiters {}

/// A queue of IRPs from which the I/O manager may take one at any time to cancel it, a part of the shared value
/// that owns the requests. `K` tells the queues of one owner apart. Freeing a queue in which requests wait stops the
/// system: they would be lost, and their cancel routine would look for the queue.
///
/// # Invariants
/// - `csq` is the first field: the callbacks are given its address and find the queue there.
/// - After [`Queue::start`] the queue and its owner stay where they are.
#[repr(C)]
pub struct Queue<T, K = ()> {
    csq: UnsafeCell<IO_CSQ>,
    /// The owner's address; null until the queue is started.
    owner: AtomicPtr<T>,
    waiters: SpinLock<Waiters>,
    /// IRPs in the queue, changed under its lock.
    length: AtomicU32,
    kind: PhantomData<fn() -> K>,
}

// SAFETY: the IRPs are guarded by the queue's lock, and the owner is shared.
unsafe impl<T: Send + Sync, K> Sync for Queue<T, K> {}
// SAFETY: as above; a started queue does not move, since it is part of a shared value.
unsafe impl<T: Send + Sync, K> Send for Queue<T, K> {}

impl<T: Waiting<K>, K> Queue<T, K> {
    /// An empty queue.
    pub fn new() -> Self {
        Self {
            csq: UnsafeCell::new(IO_CSQ::default()),
            owner: AtomicPtr::new(null_mut()),
            waiters: SpinLock::new(Waiters { first: null_mut(), last: null_mut() }),
            length: AtomicU32::new(0),
            kind: PhantomData,
        }
    }

    /// Makes the queue ready. Once, before anybody uses it.
    ///
    /// # Panics
    /// If the queue is no part of `host`, or was started before.
    pub fn start(&self, host: &Shared<T>) {
        assert!(host.contains(self), "a queue is started with the value that it is a part of");
        // SAFETY: the structure is part of a shared value, so it stays in place, and is writable; the callbacks fit it.
        let status = unsafe {
            IoCsqInitializeEx(
                self.csq.get(),
                Some(insert::<T, K>),
                Some(remove::<T, K>),
                Some(peek::<T, K>),
                Some(acquire::<T, K>),
                Some(release::<T, K>),
                Some(complete::<T, K>),
            )
        };
        debug_assert!(status == 0, "IoCsqInitializeEx always succeeds");
        let before = self.owner.swap(host.address(), Ordering::AcqRel);
        assert!(before.is_null(), "a queue is started once");
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
        assert!(!self.owner.load(Ordering::Acquire).is_null(), "a queue is started before it is used");
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

    /// Takes the first request.
    pub fn pop(&self) -> Option<Irp> {
        self.next(null_mut())
    }

    /// Takes the first request that came through a file.
    pub fn pop_of(&self, file: File) -> Option<Irp> {
        self.next(file.address().cast())
    }

    fn next(&self, file: *mut c_void) -> Option<Irp> {
        if self.owner.load(Ordering::Acquire).is_null() {
            return None;
        }
        // SAFETY: `start` was called; the peek context is the file.
        let irp = unsafe { IoCsqRemoveNextIrp(self.csq.get(), file) };
        // SAFETY: the IRP was taken from the queue, which owned it, and cannot be cancelled any more.
        NonNull::new(irp).map(|irp| unsafe { Irp::from_raw(irp) })
    }
}

impl<T: Waiting<K>, K> Default for Queue<T, K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, K> Drop for Queue<T, K> {
    fn drop(&mut self) {
        assert!(*self.length.get_mut() == 0, "a queue is freed in which requests wait");
    }
}

/// The link of an IRP in a queue, to be touched while the queue owns the IRP and its lock is held.
fn link(irp: *mut IRP) -> *mut *mut IRP {
    irp.wrapping_byte_add(LIST_ENTRY).cast()
}

/// The queue that a callback is about.
///
/// # Safety
/// `csq` is the first field of a started `Queue<T, K>`.
unsafe fn queue<'a, T, K>(csq: *mut IO_CSQ) -> &'a Queue<T, K> {
    const { assert!(offset_of!(Queue<T, K>, csq) == 0) };
    // SAFETY: as promised by the caller.
    unsafe { &*csq.cast() }
}

unsafe extern "C" fn acquire<T: Waiting<K>, K>(csq: *mut IO_CSQ, irql: *mut u8) {
    // SAFETY: the I/O manager passes back the queue's own structure.
    let queue = unsafe { queue::<T, K>(csq) };
    // SAFETY: the I/O manager releases with the level that is stored here.
    let old = unsafe { queue.waiters.acquire() };
    // SAFETY: the I/O manager passes a place for the level.
    unsafe { *irql = old };
}

unsafe extern "C" fn release<T: Waiting<K>, K>(csq: *mut IO_CSQ, irql: u8) {
    // SAFETY: the I/O manager passes back the queue's own structure.
    let queue = unsafe { queue::<T, K>(csq) };
    // SAFETY: pairs with `acquire`.
    unsafe { queue.waiters.release(irql) };
}

unsafe extern "C" fn insert<T: Waiting<K>, K>(
    csq: *mut IO_CSQ,
    irp: *mut IRP,
    place: *mut c_void,
) -> NTSTATUS {
    // SAFETY: the I/O manager passes back the queue's own structure.
    let queue = unsafe { queue::<T, K>(csq) };
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

unsafe extern "C" fn remove<T: Waiting<K>, K>(csq: *mut IO_CSQ, irp: *mut IRP) {
    // SAFETY: the I/O manager passes back the queue's own structure.
    let queue = unsafe { queue::<T, K>(csq) };
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

unsafe extern "C" fn peek<T: Waiting<K>, K>(csq: *mut IO_CSQ, irp: *mut IRP, file: *mut c_void) -> *mut IRP {
    // SAFETY: the I/O manager passes back the queue's own structure.
    let queue = unsafe { queue::<T, K>(csq) };
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
        if file.is_null() || owner.address().cast() == file {
            return at;
        }
        // SAFETY: as above.
        at = unsafe { *link(at) };
    }
    null_mut()
}

unsafe extern "C" fn complete<T: Waiting<K>, K>(csq: *mut IO_CSQ, irp: *mut IRP) {
    // SAFETY: the I/O manager passes back the queue's own structure.
    let queue = unsafe { queue::<T, K>(csq) };
    // SAFETY: the queue is part of its owner, and is alive: an IRP was in it.
    let owner = unsafe { Shared::borrow(queue.owner.load(Ordering::Acquire)) };
    let Some(irp) = NonNull::new(irp) else { return };
    // SAFETY: the I/O manager took the IRP off the queue and hands it over.
    T::cancelled(&owner, unsafe { Irp::from_raw(irp) });
}
