//! Cases about waits, locks, regions, timers, DPCs, work items and threads.
use core::ffi::c_void;
use core::sync::atomic::Ordering::SeqCst;

use crate::calls::*;
use crate::memory::{free, paged, pool, raise, read, write};
use crate::{DRIVER_OBJECT_PLACE, MEMORY, MODULE, TAG, case};

/// `SystemMode`, `SynchronizationEvent`.
const KERNEL: usize = 0;
const SYNCHRONIZATION: usize = 1;

/// An event that is not signalled.
fn event() -> usize {
    let memory = pool(0x18);
    KeInitializeEvent(memory, SYNCHRONIZATION, 0);
    memory
}

pub(crate) fn wait(object: usize, timeout: usize) -> usize {
    KeWaitForSingleObject(object, 0, KERNEL, 0, timeout)
}

/// A timeout of so many 100 ns, from now.
fn timeout(units: isize) -> usize {
    let memory = pool(8);
    write(memory, (-units).cast_unsigned());
    memory
}

/// A fast mutex that nobody holds (`ExInitializeFastMutex` is inline).
fn fast_mutex() -> usize {
    let memory = pool(0x38);
    write(memory, 1);
    KeInitializeEvent(memory + 0x18, SYNCHRONIZATION, 0);
    memory
}

fn resource() -> usize {
    let memory = pool(0x68);
    ExInitializeResourceLite(memory);
    memory
}

/// Runs a routine on a thread of its own; its handle.
fn thread(routine: extern "system" fn(*mut c_void), context: usize) -> usize {
    let handle = pool(8);
    PsCreateSystemThread(handle, 0, 0, 0, 0, (routine as *const ()).expose_provenance(), context);
    let value = read(handle);
    free(handle);
    value
}

/// Starts a thread and waits for its end.
fn finish(routine: extern "system" fn(*mut c_void), context: usize) {
    let handle = thread(routine, context);
    let place = pool(8);
    ObReferenceObjectByHandle(handle, 0, 0, KERNEL, place, 0);
    wait(read(place), 0);
    ZwClose(handle);
    free(place);
}

fn dpc(routine: extern "system" fn(usize, usize, usize, usize), context: usize) -> usize {
    let memory = pool(0x40);
    KeInitializeDpc(memory, (routine as *const ()).expose_provenance(), context);
    memory
}

fn sleep(units: isize) {
    let time = timeout(units);
    KeDelayExecutionThread(KERNEL, 0, time);
    free(time);
}

extern "system" fn deferred(_dpc: usize, context: usize, _first: usize, _second: usize) {
    if case("wait-in-dpc") {
        wait(context, 0);
    }
    if case("dpc-too-long") {
        for _ in 0..500_000 {
            KeStallExecutionProcessor(50);
        }
    }
    if case("dpc-over-budget") {
        for _ in 0..25 {
            KeStallExecutionProcessor(50);
        }
    }
    if case("dpc-apcs") {
        KeEnterCriticalRegion();
    }
    if case("correct") {
        KeStallExecutionProcessor(50);
        KeSetEvent(context, 0, 0);
    }
}

extern "system" fn worker(_device: usize, _context: usize) {
    if case("work-irql") {
        raise();
    }
}

extern "system" fn work(event: usize) {
    if case("correct") {
        KeSetEvent(event, 0, 0);
    }
}

extern "system" fn on_thread(context: *mut c_void) {
    let object = context.addr();
    if case("thread-ends-with-lock") {
        ExAcquireFastMutex(object);
    }
    if case("event-freed-while-waited-on") {
        wait(object, 0);
    }
    if case("mutex-not-owned") {
        KeReleaseMutex(object, 0);
    }
    if case("resource-not-owned") {
        KeEnterCriticalRegion();
        ExReleaseResourceLite(object);
    }
    if case("lock-never-released") {
        KeAcquireSpinLockRaiseToDpc(object);
    }
    if case("lock-released-elsewhere") {
        raise();
        KeReleaseSpinLockFromDpcLevel(object);
    }
    if case("lock-freed-while-held") {
        free(object);
    }
    if case("unloaded-with-thread") {
        sleep(1_000_000_000);
    }
    if case("correct") {
        ExAcquireFastMutex(object);
        ExReleaseFastMutex(object);
    }
}

/// A `WORK_QUEUE_ITEM` in some memory.
fn work_item(memory: usize) -> usize {
    write(memory + 0x10, (work as *const ()).expose_provenance());
    memory
}

/// Each case.
pub(crate) const CASES: &[(&str, fn())] = &[
    ("wait-above-dispatch", || {
        let (event, time) = (event(), timeout(0));
        KfRaiseIrql(5);
        wait(event, time);
    }),
    ("wait-at-dispatch", || {
        let event = event();
        raise();
        wait(event, 0);
    }),
    ("wait-at-dispatch-with-time", || {
        let (event, time) = (event(), timeout(100));
        raise();
        wait(event, time);
    }),
    ("wait-in-dpc", || {
        KeInsertQueueDpc(dpc(deferred, event()), 0, 0);
    }),
    ("wait-on-nothing", || {
        wait(pool(0x18), timeout(0));
    }),
    ("object-paged", || {
        KeInitializeEvent(paged(0x18), SYNCHRONIZATION, 0);
    }),
    ("event-above-dispatch", || {
        let event = event();
        KfRaiseIrql(5);
        KeSetEvent(event, 0, 0);
    }),
    ("event-wait-at-dispatch", || {
        let event = event();
        raise();
        KeSetEvent(event, 0, 1);
    }),
    ("event-freed-while-waited-on", || {
        let event = event();
        thread(on_thread, event);
        sleep(10_000);
        free(event);
    }),
    ("mutex-not-owned", || {
        let mutex = pool(0x38);
        KeInitializeMutex(mutex, 0);
        wait(mutex, 0);
        finish(on_thread, mutex);
    }),
    ("semaphore-limit", || {
        let semaphore = pool(0x20);
        KeInitializeSemaphore(semaphore, 1, 1);
        KeReleaseSemaphore(semaphore, 0, 1, 0);
    }),
    ("fast-mutex-at-dispatch", || {
        let mutex = fast_mutex();
        raise();
        ExAcquireFastMutex(mutex);
    }),
    ("fast-mutex-released-lower", || {
        let mutex = fast_mutex();
        ExAcquireFastMutex(mutex);
        KeLowerIrql(0);
        ExReleaseFastMutex(mutex);
    }),
    ("fast-mutex-twice", || {
        let mutex = fast_mutex();
        ExAcquireFastMutex(mutex);
        ExAcquireFastMutex(mutex);
    }),
    ("try-mutex-at-dispatch", || {
        let mutex = fast_mutex();
        raise();
        ExTryToAcquireFastMutex(mutex);
    }),
    ("unsafe-mutex-with-apcs", || {
        ExAcquireFastMutexUnsafe(fast_mutex());
    }),
    ("unsafe-mutex-released", || {
        let mutex = fast_mutex();
        KeEnterCriticalRegion();
        ExAcquireFastMutexUnsafe(mutex);
        KeLeaveCriticalRegion();
        ExReleaseFastMutexUnsafe(mutex);
    }),
    ("resource-without-region", || {
        ExAcquireResourceExclusiveLite(resource(), 1);
    }),
    ("resource-released-outside", || {
        let resource = resource();
        KeEnterCriticalRegion();
        ExAcquireResourceExclusiveLite(resource, 1);
        KeLeaveCriticalRegion();
        ExReleaseResourceLite(resource);
    }),
    ("resource-at-dispatch", || {
        let resource = resource();
        raise();
        ExAcquireResourceExclusiveLite(resource, 1);
    }),
    ("resource-not-owned", || {
        let resource = resource();
        KeEnterCriticalRegion();
        ExAcquireResourceExclusiveLite(resource, 1);
        KeLeaveCriticalRegion();
        finish(on_thread, resource);
    }),
    ("zw-in-region", || {
        KeEnterCriticalRegion();
        ZwClose(4);
    }),
    ("zw-at-dispatch", || {
        raise();
        ZwClose(4);
    }),
    ("region-entered-at-dispatch", || {
        raise();
        KeEnterCriticalRegion();
    }),
    ("region-left-at-dispatch", || {
        KeEnterCriticalRegion();
        raise();
        KeLeaveCriticalRegion();
    }),
    ("region-left-twice", || {
        KeLeaveCriticalRegion();
    }),
    ("region-kept", || {
        KeEnterCriticalRegion();
    }),
    ("guarded-region-kept", || {
        KeEnterGuardedRegion();
    }),
    ("guarded-region-at-dispatch", || {
        raise();
        KeEnterGuardedRegion();
    }),
    ("queued-lock-released-at-passive", || {
        let (lock, handle) = (pool(8), pool(0x18));
        KeAcquireInStackQueuedSpinLock(lock, handle);
        KeLowerIrql(0);
        KeReleaseInStackQueuedSpinLock(handle);
    }),
    ("lock-order", || {
        let (first, second) = (pool(8), pool(8));
        for (outer, inner) in [(first, second), (second, first)] {
            let level = KeAcquireSpinLockRaiseToDpc(outer);
            KeAcquireSpinLockAtDpcLevel(inner);
            KeReleaseSpinLockFromDpcLevel(inner);
            KeReleaseSpinLock(outer, level);
        }
    }),
    ("lock-uninitialised", || {
        let lock = pool(8);
        write(lock, 0xABCD);
        KeAcquireSpinLockRaiseToDpc(lock);
    }),
    ("lock-released-elsewhere", || {
        let lock = pool(8);
        KeAcquireSpinLockRaiseToDpc(lock);
        KeLowerIrql(0);
        finish(on_thread, lock);
    }),
    ("lock-initialised-while-held", || {
        let lock = pool(8);
        KeAcquireSpinLockRaiseToDpc(lock);
        KeInitializeSpinLock(lock);
    }),
    ("lock-released-otherwise", || {
        let (lock, handle) = (pool(8), pool(0x18));
        KeAcquireInStackQueuedSpinLock(lock, handle);
        KeReleaseSpinLock(lock, 0);
    }),
    ("thread-ends-with-lock", || finish(on_thread, fast_mutex())),
    ("lock-freed-while-held", || {
        let lock = pool(8);
        KeAcquireSpinLockRaiseToDpc(lock);
        free(lock);
    }),
    ("lock-never-released", || {
        let lock = pool(8);
        KeAcquireSpinLockRaiseToDpc(lock);
        KeLowerIrql(0);
        finish(on_thread, lock);
    }),
    ("dpc-too-long", || {
        KeInsertQueueDpc(dpc(deferred, 0), 0, 0);
    }),
    ("dpc-over-budget", || {
        KeInsertQueueDpc(dpc(deferred, 0), 0, 0);
    }),
    ("dpc-apcs", || {
        KeInsertQueueDpc(dpc(deferred, 0), 0, 0);
    }),
    ("stall-too-long", || {
        KeStallExecutionProcessor(1000);
    }),
    ("delay-at-dispatch", || {
        let time = timeout(100);
        raise();
        KeDelayExecutionThread(KERNEL, 0, time);
    }),
    ("timer-above-dispatch", || {
        let timer = pool(0x40);
        KeInitializeTimerEx(timer, 0);
        KfRaiseIrql(5);
        KeSetTimer(timer, usize::MAX, 0);
    }),
    ("uuid-at-dispatch", || {
        let memory = pool(16);
        raise();
        ExUuidCreate(memory);
    }),
    ("reference-at-dispatch", || {
        let memory = pool(16);
        raise();
        ObReferenceObjectByHandle(4, 0, 0, KERNEL, memory, 0);
    }),
    ("thread-at-dispatch", || {
        raise();
        thread(on_thread, 0);
    }),
    ("registry-at-dispatch", || {
        raise();
        RtlDeleteRegistryValue(0, 0, 0);
    }),
    ("work-pool-freed", || {
        let item = work_item(pool(0x20));
        ExQueueWorkItem(item, 1);
        free(item);
    }),
    ("work-queued-twice", || {
        let item = work_item(pool(0x20));
        raise();
        ExQueueWorkItem(item, 1);
        ExQueueWorkItem(item, 1);
    }),
    ("work-invalid", || {
        ExQueueWorkItem(pool(0x20), 1);
    }),
    ("work-paged", || {
        ExQueueWorkItem(work_item(paged(0x20)), 1);
    }),
    ("io-work-freed-queued", || {
        let item = IoAllocateWorkItem(DRIVER_OBJECT_PLACE.load(SeqCst));
        IoQueueWorkItem(item, (worker as *const ()).expose_provenance(), 1, 0);
        IoFreeWorkItem(item);
    }),
    ("work-irql", || {
        let item = IoAllocateWorkItem(DRIVER_OBJECT_PLACE.load(SeqCst));
        IoQueueWorkItem(item, (worker as *const ()).expose_provenance(), 1, 0);
    }),
    ("etw-left", || {
        let handle = pool(8);
        EtwRegister(MEMORY.load(SeqCst).addr(), 0, 0, handle);
        free(handle);
    }),
    ("etw-handle", || {
        EtwUnregister(77);
    }),
    ("remove-lock-tag", || {
        let lock = pool(0x20);
        IoInitializeRemoveLockEx(lock, TAG as usize, 0, 0, 0x20);
        IoAcquireRemoveLockEx(lock, 1, 0, 0, 0x20);
        IoReleaseRemoveLockEx(lock, 2, 0x20);
    }),
    ("remove-lock-wait-tag", || {
        let lock = pool(0x20);
        IoInitializeRemoveLockEx(lock, TAG as usize, 0, 0, 0x20);
        IoAcquireRemoveLockEx(lock, 1, 0, 0, 0x20);
        IoReleaseRemoveLockAndWaitEx(lock, 2, 0x20);
    }),
    ("rundown-underflow", || {
        let reference = pool(8);
        ExInitializeRundownProtection(reference);
        ExReleaseRundownProtection(reference);
    }),
    ("ndis-wait-at-dispatch", || {
        let event = event();
        raise();
        NdisWaitEvent(event, 1);
    }),
    ("rwlock-upgraded", || {
        let (lock, state) = (NdisAllocateRWLock(MODULE.load(SeqCst).addr()), pool(8));
        NdisAcquireRWLockRead(lock, state, 0);
        NdisAcquireRWLockWrite(lock, state, 1);
    }),
];

/// Cases about what a driver leaves behind, begun when its module is detached.
pub(crate) const AT_DETACH: &[(&str, fn())] = &[
    ("dpc-routine-unloaded", || {
        let timer = pool(0x40);
        KeInitializeTimerEx(timer, 0);
        KeSetTimer(timer, (-10_000_000_isize).cast_unsigned(), dpc(deferred, 0));
    }),
    ("unloaded-with-thread", || {
        thread(on_thread, 0);
    }),
    ("oid-left", crate::network::ask),
    ("callback-after-unload", || {
        crate::cases::arm_timer();
    }),
];

/// The same things done right.
pub(crate) fn correct() {
    deferred_right();
    let object = event();
    KeSetEvent(object, 0, 0);
    wait(object, 0);
    let time = timeout(0);
    let level = raise();
    wait(object, time);
    KeSetEvent(object, 0, 0);
    KeLowerIrql(level);
    free(time);
    free(object);
    let mutex = pool(0x38);
    KeInitializeMutex(mutex, 0);
    wait(mutex, 0);
    wait(mutex, 0);
    KeReleaseMutex(mutex, 0);
    KeReleaseMutex(mutex, 0);
    free(mutex);
    let semaphore = pool(0x20);
    KeInitializeSemaphore(semaphore, 0, 1);
    KeReleaseSemaphore(semaphore, 0, 1, 0);
    wait(semaphore, 0);
    free(semaphore);
    let mutex = fast_mutex();
    ExAcquireFastMutex(mutex);
    ExReleaseFastMutex(mutex);
    finish(on_thread, mutex);
    KeEnterCriticalRegion();
    ExAcquireFastMutexUnsafe(mutex);
    ExReleaseFastMutexUnsafe(mutex);
    if ExTryToAcquireFastMutex(mutex) & 0xFF == 1 {
        ExReleaseFastMutex(mutex);
    }
    let resource = resource();
    ExAcquireResourceExclusiveLite(resource, 1);
    ExReleaseResourceLite(resource);
    KeLeaveCriticalRegion();
    ExDeleteResourceLite(resource);
    free(resource);
    free(mutex);
    KeEnterGuardedRegion();
    KeLeaveGuardedRegion();
    let (first, second, handle) = (pool(8), pool(8), pool(0x18));
    KeInitializeSpinLock(first);
    for _ in 0..2 {
        let level = KeAcquireSpinLockRaiseToDpc(first);
        KeAcquireSpinLockAtDpcLevel(second);
        KeReleaseSpinLockFromDpcLevel(second);
        KeReleaseSpinLock(first, level);
    }
    KeAcquireInStackQueuedSpinLock(first, handle);
    KeReleaseInStackQueuedSpinLock(handle);
    free(first);
    free(second);
    free(handle);
    let timer = pool(0x40);
    KeInitializeTimerEx(timer, 0);
    KeSetTimer(timer, (-100_000_isize).cast_unsigned(), 0);
    wait(timer, 0);
    KeSetTimer(timer, (-100_000_isize).cast_unsigned(), 0);
    KeCancelTimer(timer);
    free(timer);
    let reference = pool(8);
    ExInitializeRundownProtection(reference);
    ExAcquireRundownProtection(reference);
    ExReleaseRundownProtection(reference);
    free(reference);
    let handle = pool(8);
    EtwRegister(MEMORY.load(SeqCst).addr(), 0, 0, handle);
    EtwUnregister(read(handle));
    free(handle);
    let lock = pool(0x20);
    IoInitializeRemoveLockEx(lock, TAG as usize, 0, 0, 0x20);
    IoAcquireRemoveLockEx(lock, 1, 0, 0, 0x20);
    IoAcquireRemoveLockEx(lock, 2, 0, 0, 0x20);
    IoReleaseRemoveLockEx(lock, 2, 0x20);
    IoReleaseRemoveLockAndWaitEx(lock, 1, 0x20);
    free(lock);
    let item = IoAllocateWorkItem(DRIVER_OBJECT_PLACE.load(SeqCst));
    IoQueueWorkItem(item, (worker as *const ()).expose_provenance(), 1, 0);
    sleep(1_000_000);
    IoFreeWorkItem(item);
    let (lock, state) = (NdisAllocateRWLock(MODULE.load(SeqCst).addr()), pool(8));
    NdisAcquireRWLockRead(lock, state, 0);
    NdisReleaseRWLock(lock, state);
    NdisAcquireRWLockWrite(lock, state, 0);
    NdisReleaseRWLock(lock, state);
    NdisFreeRWLock(lock);
    free(state);
    KeStallExecutionProcessor(50);
    let event = pool(0x18);
    NdisInitializeEvent(event);
    NdisSetEvent(event);
    NdisWaitEvent(event, 1);
    free(event);
    let memory = pool(16);
    ExUuidCreate(memory);
    // RTL_REGISTRY_SERVICES, and a path and a name of one letter each, which nobody has.
    write(memory, usize::from(b'x'));
    RtlDeleteRegistryValue(1, memory, memory);
    free(memory);
}

/// DPCs, timers and work items, each of which runs before its memory goes.
fn deferred_right() {
    let object = event();
    let (call, timer) = (dpc(deferred, object), pool(0x40));
    KeInsertQueueDpc(call, 0, 0);
    wait(object, 0);
    KeInitializeTimerEx(timer, 0);
    KeSetTimer(timer, (-1000_isize).cast_unsigned(), call);
    wait(object, 0);
    KeFlushQueuedDpcs();
    free(timer);
    free(call);
    let item = work_item(pool(0x20));
    write(item + 0x18, object);
    ExQueueWorkItem(item, 1);
    wait(object, 0);
    ExQueueWorkItem(item, 1);
    wait(object, 0);
    free(item);
    free(object);
    let timer = crate::cases::arm_timer();
    NdisCancelTimerObject(timer.expose_provenance());
    crate::cases::free_timer(timer);
}
