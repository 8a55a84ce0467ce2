//! Functions of the kernel and of NDIS, with all arguments as words: what is passed here is wrong anyway.

macro_rules! calls {
    ($($module:literal: $($name:ident($($argument:ident),*);)*)*) => {
        $(#[link(name = $module, kind = "raw-dylib", modifiers = "+verbatim")]
        unsafe extern "system" {
            $(pub(crate) safe fn $name($($argument: usize),*) -> usize;)*
        })*
    };
}

calls! {
    "ntoskrnl.exe":
        KeInitializeEvent(event, kind, state);
        KeSetEvent(event, increment, wait);
        KeInitializeMutex(mutex, level);
        KeReleaseMutex(mutex, wait);
        KeInitializeSemaphore(semaphore, count, limit);
        KeReleaseSemaphore(semaphore, increment, adjustment, wait);
        KeWaitForSingleObject(object, reason, mode, alertable, timeout);
        KeDelayExecutionThread(mode, alertable, interval);
        KeStallExecutionProcessor(microseconds);
        KeInitializeTimerEx(timer, kind);
        KeSetTimer(timer, due, dpc);
        KeCancelTimer(timer);
        KeInitializeDpc(dpc, routine, context);
        KeInsertQueueDpc(dpc, first, second);
        KeFlushQueuedDpcs();
        KeRaiseIrqlToDpcLevel();
        KfRaiseIrql(level);
        KeLowerIrql(level);
        KeInitializeSpinLock(lock);
        KeAcquireSpinLockRaiseToDpc(lock);
        KeReleaseSpinLock(lock, level);
        KeAcquireSpinLockAtDpcLevel(lock);
        KeReleaseSpinLockFromDpcLevel(lock);
        KeAcquireInStackQueuedSpinLock(lock, handle);
        KeReleaseInStackQueuedSpinLock(handle);
        KeEnterCriticalRegion();
        KeLeaveCriticalRegion();
        KeEnterGuardedRegion();
        KeLeaveGuardedRegion();
        ExAcquireFastMutex(mutex);
        ExTryToAcquireFastMutex(mutex);
        ExReleaseFastMutex(mutex);
        ExAcquireFastMutexUnsafe(mutex);
        ExReleaseFastMutexUnsafe(mutex);
        ExInitializeResourceLite(resource);
        ExDeleteResourceLite(resource);
        ExAcquireResourceExclusiveLite(resource, wait);
        ExReleaseResourceLite(resource);
        ExAllocatePool2(flags, bytes, tag);
        ExFreePoolWithTag(memory, tag);
        ExInitializeLookasideListEx(list, allocate, free, kind, flags, size, tag, depth);
        ExDeleteLookasideListEx(list);
        ExAllocateFromLookasideListEx(list);
        ExFreeToLookasideListEx(list, memory);
        ExInitializePagedLookasideList(list, allocate, free, flags, size, tag, depth);
        ExDeletePagedLookasideList(list);
        ExInitializeRundownProtection(reference);
        ExAcquireRundownProtection(reference);
        ExReleaseRundownProtection(reference);
        ExUuidCreate(uuid);
        ExQueueWorkItem(item, queue);
        IoAllocateWorkItem(device);
        IoQueueWorkItem(item, routine, queue, context);
        IoFreeWorkItem(item);
        IoAllocateIrp(stack, quota);
        IoFreeIrp(irp);
        IofCallDriver(device, irp);
        IoCreateDevice(driver, extension, name, kind, characteristics, exclusive, device);
        IoDeleteDevice(device);
        IoCreateSymbolicLink(link, target);
        IoDeleteSymbolicLink(link);
        IoInitializeRemoveLockEx(lock, tag, minutes, mark, bytes);
        IoAcquireRemoveLockEx(lock, tag, file, line, bytes);
        IoReleaseRemoveLockEx(lock, tag, bytes);
        IoReleaseRemoveLockAndWaitEx(lock, tag, bytes);
        IoAllocateMdl(address, length, secondary, quota, irp);
        IoFreeMdl(mdl);
        IoBuildPartialMdl(source, target, address, length);
        MmBuildMdlForNonPagedPool(mdl);
        MmProbeAndLockPages(mdl, mode, operation);
        MmUnlockPages(mdl);
        MmMapLockedPages(mdl, mode);
        MmMapLockedPagesSpecifyCache(mdl, mode, cache, address, stop, priority);
        MmUnmapLockedPages(address, mdl);
        MmAllocatePagesForMdlEx(low, high, skip, bytes, cache, flags);
        MmFreePagesFromMdl(mdl);
        ObReferenceObjectByHandle(handle, access, kind, mode, object, information);
        PsCreateSystemThread(handle, access, attributes, process, client, routine, context);
        RtlDeleteRegistryValue(relative, path, name);
        ZwClose(handle);
        EtwRegister(guid, callback, context, handle);
        EtwUnregister(handle);
        memcpy(to, from, bytes);
    "hal.dll":
        HalGetAdapter(description, registers);
    "ndis.sys":
        NdisInitializeEvent(event);
        NdisSetEvent(event);
        NdisWaitEvent(event, milliseconds);
        NdisCancelTimerObject(timer);
        NdisAllocateRWLock(handle);
        NdisFreeRWLock(lock);
        NdisAcquireRWLockRead(lock, state, flags);
        NdisAcquireRWLockWrite(lock, state, flags);
        NdisReleaseRWLock(lock, state);
        NdisFIndicateReceiveNetBufferLists(module, lists, port, count, flags);
        NdisFReturnNetBufferLists(module, lists, flags);
        NdisAllocateNetBufferListContext(list, size, backfill, tag);
        NdisFreeNetBufferListContext(list, size);
        NdisAllocateCloneNetBufferList(list, pool, buffers, flags);
        NdisFreeCloneNetBufferList(list, flags);
}
