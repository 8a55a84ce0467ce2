//! Cancel-safe IRP queues (page "Cancel-Safe IRP Queues").
#![expect(unsafe_code, reason = "links IRPs through their own list entry")]
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::marker::PhantomData;
use core::mem::offset_of;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use wdk_sys::ntddk::{IoCsqInitializeEx, IoCsqInsertIrpEx, IoCsqRemoveNextIrp};
use wdk_sys::{IO_CSQ, IRP, NTSTATUS};

use crate::irp::{File, Irp, PendingIrp, Pends};
use crate::irql::AtMostDispatch;
use crate::lock::SpinLock;
use crate::shared::Shared;

/// Offset of `Tail.Overlay.ListEntry.Flink` in an IRP on 64-bit Windows.
const LIST_ENTRY: usize = 0xA8;

/// Offset of `Tail.Overlay.DriverContext[1]`: the ticket of an IRP in a queue. The queue's own routines use the last
/// of the four places.
const TICKET: usize = offset_of!(IRP, Tail) + 8;

/// What happens to a request that is cancelled while it waits in a queue of kind `K`.
pub trait Waiting<K>: Pends + Sized {
    /// Completes it.
    fn cancelled(level: &mut AtMostDispatch<'_>, irp: PendingIrp<Self>);
}

/// The place of a request in the order in which requests came to a queue. No two requests of a queue have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// Where an IRP is put: the insert context.
enum Place {
    /// Behind all others; the ticket that it gets is written here.
    Back(Ticket),
    /// In front of all others, with the ticket that it has.
    Front,
}

/// Which IRP is taken: the peek context. Null stands for the first.
enum Wanted {
    /// The first that came through a file.
    Of(File),
    /// The first, if it has a lower ticket.
    Before(Ticket),
    /// The one with this ticket.
    Exactly(Ticket),
}

/// IRPs that wait, first come first served.
struct Waiters {
    first: *mut IRP,
    last: *mut IRP,
}

// SAFETY: the queue owns the IRPs, which are not tied to a thread.
unsafe impl Send for Waiters {}

/// A queue of IRPs from which the I/O manager may take one at any time to cancel it, a part of the shared value
/// that works on the requests. `K` tells the queues of one owner apart. Each request that waits keeps a reference to the
/// owner, so a queue is freed only when it is empty.
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
    /// The next ticket, changed under its lock.
    next: AtomicU64,
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
            next: AtomicU64::new(0),
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

    /// Appends a request. It may be cancelled before this returns.
    ///
    /// # Panics
    /// If the request's owner is not the value that the queue is a part of.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`, as for the other functions.
    pub fn push(&self, irp: PendingIrp<T>) -> Ticket {
        let mut place = Place::Back(Ticket(0));
        self.insert(irp, &mut place);
        match place {
            Place::Back(ticket) => ticket,
            Place::Front => unreachable!("the place was the back"),
        }
    }

    /// Puts a request back that was first until now.
    pub fn push_front(&self, irp: PendingIrp<T>) {
        self.insert(irp, &mut Place::Front);
    }

    fn insert(&self, irp: PendingIrp<T>, place: &mut Place) {
        let owner = self.owner.load(Ordering::Acquire);
        assert!(owner == irp.owner().address(), "a started queue takes the requests of its own owner");
        let place: *mut Place = place;
        // SAFETY: `start` was called; the IRP is owned and goes to the queue, which accepts all; the place outlives
        // the call.
        let status =
            unsafe { IoCsqInsertIrpEx(self.csq.get(), irp.into_raw().as_ptr(), null_mut(), place.cast()) };
        debug_assert!(status == 0, "the queue accepts every request");
    }

    /// The ticket that the next request will get: all requests that wait now have lower ones.
    pub fn mark(&self) -> Ticket {
        Ticket(self.next.load(Ordering::SeqCst))
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
    pub fn pop(&self) -> Option<PendingIrp<T>> {
        self.next(None)
    }

    /// Takes the first request that came through a file.
    pub fn pop_of(&self, file: File) -> Option<PendingIrp<T>> {
        self.next(Some(Wanted::Of(file)))
    }

    /// Takes the first request if it came before [`Queue::mark`] returned `mark`.
    pub fn pop_before(&self, mark: Ticket) -> Option<PendingIrp<T>> {
        self.next(Some(Wanted::Before(mark)))
    }

    /// Takes the request with a ticket, if it still waits.
    pub fn take(&self, ticket: Ticket) -> Option<PendingIrp<T>> {
        self.next(Some(Wanted::Exactly(ticket)))
    }

    fn next(&self, wanted: Option<Wanted>) -> Option<PendingIrp<T>> {
        let owner = self.owner.load(Ordering::Acquire);
        if owner.is_null() {
            return None;
        }
        let context = wanted.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
        // SAFETY: `start` was called; the peek context outlives the call and is only read.
        let irp = unsafe { IoCsqRemoveNextIrp(self.csq.get(), context.cast_mut().cast()) };
        // SAFETY: the IRP was taken from the queue, which had it from `insert` with this owner, and cannot be
        // cancelled any more.
        NonNull::new(irp).map(|irp| unsafe { PendingIrp::from_raw(irp, owner) })
    }
}

impl<T: Waiting<K>, K> Default for Queue<T, K> {
    fn default() -> Self {
        Self::new()
    }
}

/// The link of an IRP in a queue, to be touched while the queue owns the IRP and its lock is held.
fn link(irp: *mut IRP) -> *mut *mut IRP {
    irp.wrapping_byte_add(LIST_ENTRY).cast()
}

/// The ticket of an IRP in a queue, to be touched as [`link`] is.
fn ticket(irp: *mut IRP) -> *mut Ticket {
    irp.wrapping_byte_add(TICKET).cast()
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
    // SAFETY: `Queue::insert` passes its place, and waits for this callback.
    let place = unsafe { &mut *place.cast::<Place>() };
    if let Place::Back(given) = place {
        *given = Ticket(queue.next.fetch_add(1, Ordering::SeqCst));
        // SAFETY: the place lies in the IRP, which the queue owns.
        unsafe { *ticket(irp) = *given };
    }
    let own = link(irp);
    let front = matches!(place, Place::Front) && !waiters.first.is_null();
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

unsafe extern "C" fn peek<T: Waiting<K>, K>(
    csq: *mut IO_CSQ,
    irp: *mut IRP,
    wanted: *mut c_void,
) -> *mut IRP {
    // SAFETY: the I/O manager passes back the queue's own structure.
    let queue = unsafe { queue::<T, K>(csq) };
    // SAFETY: `Queue::next` passes null, or what it wants, and waits for this callback.
    let wanted = unsafe { wanted.cast::<Wanted>().as_ref() };
    // SAFETY: the I/O manager holds the queue's lock around this callback.
    let waiters = unsafe { queue.waiters.data() };
    let mut at = if irp.is_null() {
        waiters.first
    } else {
        // SAFETY: the IRP belongs to the queue.
        unsafe { *link(irp) }
    };
    while let Some(irp) = NonNull::new(at) {
        // SAFETY: the IRP belongs to the queue.
        let own = unsafe { *ticket(at) };
        let fits = match wanted {
            // SAFETY: the IRP belongs to the queue; it is only looked at, and not completed through this value.
            Some(Wanted::Of(file)) => unsafe { Irp::from_raw(irp) }.file() == *file,
            Some(Wanted::Before(mark)) if own >= *mark => return null_mut(),
            None | Some(Wanted::Before(_)) => true,
            Some(Wanted::Exactly(ticket)) => own == *ticket,
        };
        if fits {
            return at;
        }
        // SAFETY: as above.
        at = unsafe { *link(at) };
    }
    null_mut()
}

unsafe extern "C" fn complete<T: Waiting<K>, K>(csq: *mut IO_CSQ, irp: *mut IRP) {
    // SAFETY: the I/O manager passes back the queue's own structure, which the IRP's reference keeps.
    let queue = unsafe { queue::<T, K>(csq) };
    let owner = queue.owner.load(Ordering::Acquire);
    let Some(irp) = NonNull::new(irp) else { return };
    // SAFETY: cancel routines run at DISPATCH_LEVEL or below, and the queue's lock and the cancel lock were released.
    let mut level = unsafe { AtMostDispatch::assume() };
    // SAFETY: the I/O manager took the IRP off the queue and hands it over; `insert` put it there with this owner.
    T::cancelled(&mut level, unsafe { PendingIrp::from_raw(irp, owner) });
    // The queue may be gone with the reference that the IRP kept.
}
