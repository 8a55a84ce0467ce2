//! Which Windows exports what a driver imports.
//!
//! The versions are those of the functions' documentation pages ("Minimum supported client"); for NDIS functions they
//! follow from the NDIS version that the page names.

/// A release of Windows, by its build number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Release {
    /// Its build.
    pub(crate) build: u32,
    /// What it is called.
    pub(crate) name: &'static str,
}

const WINDOWS_2000: Release = Release { build: 2195, name: "Windows 2000" };
const WINDOWS_XP: Release = Release { build: 2600, name: "Windows XP" };
const SERVER_2003: Release = Release { build: 3790, name: "Windows Server 2003" };
const VISTA: Release = Release { build: 6000, name: "Windows Vista" };
const WINDOWS_7: Release = Release { build: 7600, name: "Windows 7" };
const WINDOWS_8: Release = Release { build: 9200, name: "Windows 8" };
const WINDOWS_10: Release = Release { build: 10240, name: "Windows 10" };
const WINDOWS_10_2004: Release = Release { build: 19041, name: "Windows 10, version 2004" };

/// Functions by the release that exported them first.
const EXPORTS: [(Release, &[&str]); 8] = [
    (
        WINDOWS_2000,
        &[
            "DbgPrint",
            "ExAcquireFastMutex",
            "ExAcquireFastMutexUnsafe",
            "ExAcquireResourceExclusiveLite",
            "ExAcquireResourceSharedLite",
            "ExAllocatePoolWithTag",
            "ExDeletePagedLookasideList",
            "ExDeleteResourceLite",
            "ExFreePool",
            "ExFreePoolWithTag",
            "ExInitializePagedLookasideList",
            "ExInitializeResourceLite",
            "ExQueueWorkItem",
            "ExReleaseFastMutex",
            "ExReleaseFastMutexUnsafe",
            "ExReleaseResourceLite",
            "ExTryToAcquireFastMutex",
            "ExUuidCreate",
            "HalGetAdapter",
            "IoAcquireCancelSpinLock",
            "IoAcquireRemoveLockEx",
            "IoAllocateIrp",
            "IoAllocateMdl",
            "IoAllocateWorkItem",
            "IoBuildPartialMdl",
            "IoConnectInterrupt",
            "IoCreateDevice",
            "IoCreateSymbolicLink",
            "IoDeleteDevice",
            "IoDeleteSymbolicLink",
            "IoDisconnectInterrupt",
            "IoFreeIrp",
            "IoFreeMdl",
            "IoFreeWorkItem",
            "IoGetDmaAdapter",
            "IoGetStackLimits",
            "IoInitializeRemoveLockEx",
            "IoQueueWorkItem",
            "IoReleaseCancelSpinLock",
            "IoReleaseRemoveLockAndWaitEx",
            "IoReleaseRemoveLockEx",
            "IofCallDriver",
            "IofCompleteRequest",
            "KeAcquireSpinLockAtDpcLevel",
            "KeAcquireSpinLockRaiseToDpc",
            "KeBugCheckEx",
            "KeCancelTimer",
            "KeClearEvent",
            "KeDelayExecutionThread",
            "KeEnterCriticalRegion",
            "KeGetCurrentIrql",
            "KeInitializeDpc",
            "KeInitializeEvent",
            "KeInitializeMutex",
            "KeInitializeSemaphore",
            "KeInitializeSpinLock",
            "KeInitializeTimerEx",
            "KeInsertQueueDpc",
            "KeLeaveCriticalRegion",
            "KeLowerIrql",
            "KeQueryPerformanceCounter",
            "KeRaiseIrqlToDpcLevel",
            "KeReadStateEvent",
            "KeReleaseMutex",
            "KeReleaseSemaphore",
            "KeReleaseSpinLock",
            "KeReleaseSpinLockFromDpcLevel",
            "KeRemoveQueueDpc",
            "KeResetEvent",
            "KeSetEvent",
            "KeSetTimer",
            "KeSetTimerEx",
            "KeStallExecutionProcessor",
            "KeWaitForMultipleObjects",
            "KeWaitForSingleObject",
            "KfLowerIrql",
            "KfRaiseIrql",
            "MmBuildMdlForNonPagedPool",
            "MmFreePagesFromMdl",
            "MmMapIoSpace",
            "MmMapLockedPages",
            "MmMapLockedPagesSpecifyCache",
            "MmProbeAndLockPages",
            "MmUnlockPages",
            "MmUnmapIoSpace",
            "MmUnmapLockedPages",
            "ObReferenceObjectByHandle",
            "ObfDereferenceObject",
            "ObfReferenceObject",
            "PsCreateSystemThread",
            "PsGetCurrentProcessId",
            "PsTerminateSystemThread",
            "RtlCopyUnicodeString",
            "RtlDeleteRegistryValue",
            "RtlInitUnicodeString",
            "ZwClose",
            "memcmp",
            "memcpy",
            "memmove",
            "memset",
        ],
    ),
    (
        WINDOWS_XP,
        &[
            "ExAcquireRundownProtection",
            "ExInitializeRundownProtection",
            "ExReleaseRundownProtection",
            "ExWaitForRundownProtectionRelease",
            "KeAcquireInStackQueuedSpinLock",
            "KeAcquireInStackQueuedSpinLockAtDpcLevel",
            "KeFlushQueuedDpcs",
            "KeReleaseInStackQueuedSpinLock",
            "KeReleaseInStackQueuedSpinLockFromDpcLevel",
        ],
    ),
    (
        SERVER_2003,
        &[
            "IoCsqInitializeEx",
            "IoCsqInsertIrpEx",
            "IoCsqRemoveIrp",
            "IoCsqRemoveNextIrp",
            "KeEnterGuardedRegion",
            "KeLeaveGuardedRegion",
            "MmAllocatePagesForMdlEx",
        ],
    ),
    (
        VISTA,
        &[
            "EtwRegister",
            "EtwUnregister",
            "EtwWrite",
            "EtwWriteTransfer",
            "ExAllocateFromLookasideListEx",
            "ExDeleteLookasideListEx",
            "ExFreeToLookasideListEx",
            "ExInitializeLookasideListEx",
            "IoGetRemainingStackSize",
            "NdisAllocateCloneNetBufferList",
            "NdisAllocateCloneOidRequest",
            "NdisAllocateIoWorkItem",
            "NdisAllocateMdl",
            "NdisAllocateNetBufferAndNetBufferList",
            "NdisAllocateNetBufferListContext",
            "NdisAllocateNetBufferListPool",
            "NdisAllocateTimerObject",
            "NdisCancelTimerObject",
            "NdisDeregisterDeviceEx",
            "NdisFCancelOidRequest",
            "NdisFCancelSendNetBufferLists",
            "NdisFDeregisterFilterDriver",
            "NdisFDevicePnPEventNotify",
            "NdisFIndicateReceiveNetBufferLists",
            "NdisFIndicateStatus",
            "NdisFNetPnPEvent",
            "NdisFOidRequest",
            "NdisFOidRequestComplete",
            "NdisFPauseComplete",
            "NdisFRegisterFilterDriver",
            "NdisFRestartComplete",
            "NdisFRestartFilter",
            "NdisFReturnNetBufferLists",
            "NdisFSendNetBufferLists",
            "NdisFSendNetBufferListsComplete",
            "NdisFSetAttributes",
            "NdisFreeCloneNetBufferList",
            "NdisFreeCloneOidRequest",
            "NdisFreeIoWorkItem",
            "NdisFreeMdl",
            "NdisFreeNetBufferList",
            "NdisFreeNetBufferListContext",
            "NdisFreeNetBufferListPool",
            "NdisFreeTimerObject",
            "NdisGeneratePartialCancelId",
            "NdisGetVersion",
            "NdisInitializeEvent",
            "NdisQueueIoWorkItem",
            "NdisRegisterDeviceEx",
            "NdisResetEvent",
            "NdisSetEvent",
            "NdisSetOptionalHandlers",
            "NdisSetTimerObject",
            "NdisWaitEvent",
        ],
    ),
    (
        WINDOWS_7,
        &[
            "KeGetCurrentProcessorNumberEx",
            "KeQueryActiveProcessorCountEx",
            "KeQueryMaximumProcessorCountEx",
            "KeQueryUnbiasedInterruptTime",
            "NdisAcquireRWLockRead",
            "NdisAcquireRWLockWrite",
            "NdisAllocateRWLock",
            "NdisFreeRWLock",
            "NdisReleaseRWLock",
        ],
    ),
    (WINDOWS_8, &["KeQuerySystemTimePrecise"]),
    (WINDOWS_10, &["EtwSetInformation", "__chkstk"]),
    (WINDOWS_10_2004, &["ExAllocatePool2", "ExAllocatePool3"]),
];

/// The release that exported a function first, if it is known here.
pub(crate) fn since(function: &str) -> Option<Release> {
    EXPORTS.iter().find(|(_, names)| names.contains(&function)).map(|(release, _)| *release)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_stands_once_and_releases_follow_each_other() {
        let names: Vec<&str> = EXPORTS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let mut once = names.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), names.len());
        assert!(EXPORTS.is_sorted_by(|(first, _), (second, _)| first < second));
    }

    #[test]
    fn the_pool_function_that_the_driver_uses_is_no_older_than_windows_10_2004() {
        assert_eq!(since("ExAllocatePool2").unwrap().build, 19041);
        assert_eq!(since("ExAllocatePoolWithTag").unwrap().build, 2195);
        assert_eq!(since("NdisOfNowhere"), None);
    }
}
