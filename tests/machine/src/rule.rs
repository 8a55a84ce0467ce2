//! Every rule of the machine: its name, the bugcheck that it stops with, what it checks, and the wrong driver that
//! trips it. Nothing stops the machine but a rule of this table.
//!
//! Names are Microsoft's where a rule has one (pages "DDI compliance rules" and "NDIS/WIFI rules"), and say what
//! the bugcheck's page says where it has none.
use serde::{Serialize, Serializer};

use crate::bugcheck::code;

/// Options of Driver Verifier that rules belong to (page "Driver Verifier Options").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Checks that Driver Verifier always makes.
    Always,
    /// Special pool.
    SpecialPool,
    /// Force IRQL checking.
    ForceIrql,
    /// Pool tracking.
    PoolTracking,
    /// I/O verification.
    IoVerification,
    /// Deadlock detection.
    DeadlockDetection,
    /// DMA checking.
    DmaChecking,
    /// Security checks.
    Security,
    /// Miscellaneous checks.
    Misc,
    /// DDI compliance checking.
    DdiCompliance,
    /// NDIS/WIFI verification.
    NdisVerification,
    /// Code integrity checking.
    CodeIntegrity,
    /// What the kernel and NDIS find without Driver Verifier.
    Kernel,
    /// Documented rules of the contract whose breach has no documented bugcheck.
    Contract,
}

impl Serialize for Check {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// One rule.
#[derive(Debug, Serialize)]
pub struct Rule {
    /// Name.
    pub name: &'static str,
    /// The bugcheck that it stops with.
    pub bugcheck: u32,
    /// The first argument of the bugcheck, where that tells the rule.
    pub first: Option<u64>,
    /// The option of Driver Verifier that it belongs to.
    pub option: Check,
    /// What holds while the rule is kept.
    pub checks: &'static str,
    /// The case of the wrong driver that trips it.
    pub tripped_by: &'static str,
}

macro_rules! rules {
    ($($constant:ident: $name:literal, $code:ident, $first:expr, $option:ident, $checks:literal, $case:literal;)*) => {
        $(pub(crate) const $constant: Rule = Rule {
            name: $name,
            bugcheck: code::$code,
            first: $first,
            option: Check::$option,
            checks: $checks,
            tripped_by: $case,
        };)*
        /// Every rule but the one that says that the machine itself failed.
        pub const RULES: &[&Rule] = &[$(&$constant),*];
    };
}

/// The machine itself failed: no rule for drivers.
pub(crate) const INTERNAL: Rule = Rule {
    name: "InternalError",
    bugcheck: code::SLUICE_CONTRACT_VIOLATION,
    first: Some(99),
    option: Check::Kernel,
    checks: "the machine itself does not fail",
    tripped_by: "",
};

rules! {
    POOL_ZERO_BYTES: "PoolZeroBytes", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0), Always,
        "no allocation of zero bytes", "pool-zero-bytes";
    POOL_PAGED_IRQL: "PoolPagedAllocationIrql", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(1), Always,
        "paged pool is allocated at or below APC_LEVEL", "pool-paged-at-dispatch";
    POOL_IRQL: "PoolNonpagedAllocationIrql", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(2), Always,
        "nonpaged pool is allocated at or below DISPATCH_LEVEL", "pool-above-dispatch";
    POOL_NEVER_ALLOCATED: "PoolNeverAllocated", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x10), Always,
        "what is freed was allocated", "pool-never-allocated";
    POOL_PAGED_FREE_IRQL: "PoolPagedFreeIrql", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x11), Always,
        "paged pool is freed at or below APC_LEVEL", "pool-paged-freed-at-dispatch";
    POOL_FREE_IRQL: "PoolNonpagedFreeIrql", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x12), Always,
        "nonpaged pool is freed at or below DISPATCH_LEVEL", "pool-freed-above-dispatch";
    POOL_HOLDS_TIMER: "PoolHoldsActiveTimer", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x15), Always,
        "freed pool holds no active timer", "pool-holds-timer";
    POOL_HOLDS_RESOURCE: "PoolHoldsResource", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0xD2), Misc,
        "freed pool holds no executive resource", "pool-holds-resource";
    POOL_HOLDS_LOOKASIDE: "PoolHoldsLookaside", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0xCC), Misc,
        "freed pool holds no active lookaside list", "pool-holds-lookaside";
    POOL_IS_IRP: "PoolFreeOfIrp", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x105), IoVerification,
        "no IRP is freed as pool", "pool-is-irp";
    POOL_LEAK: "PoolLeakAtUnload", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x60), PoolTracking,
        "a driver that is unloaded has freed its pool", "pool-leak";
    OBJECTS_LEFT: "ObjectsLeftAtUnload", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x62), PoolTracking,
        "a driver that is unloaded has freed its list pools, MDLs, clones, timers, locks and common buffers", "mdl-left";
    POOL_TAG_ZERO: "PoolTagZero", BAD_POOL_CALLER, Some(0x9B), Always,
        "pool has a tag", "pool-tag-zero";
    POOL_TAG_BIG: "PoolTagBig", BAD_POOL_CALLER, Some(0x9C), Always,
        "the tag of pool is not \"BIG\"", "pool-tag-big";
    POOL_TAG_TEXT: "PoolTagText", BAD_POOL_CALLER, Some(0x9D), Always,
        "the tag of pool has letters or digits", "pool-tag-text";
    POOL_FREED_TWICE: "PoolFreedTwice", BAD_POOL_CALLER, Some(7), Always,
        "pool is freed once", "pool-freed-twice";
    POOL_WRONG_TAG: "PoolWrongTag", BAD_POOL_CALLER, Some(0xA), Always,
        "pool is freed with its tag", "pool-wrong-tag";
    POOL_EXECUTABLE: "PoolExecutable", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x2000), CodeIntegrity,
        "no executable pool is allocated", "pool-executable";
    SPECIAL_BEFORE: "SpecialPoolBytesAround", SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION, None, SpecialPool,
        "nothing is written around a block (last argument 0x23)", "pool-underrun";
    SPECIAL_AFTER: "SpecialPoolBytesAfter", SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION, None, SpecialPool,
        "nothing is written behind a block, in its last page (last argument 0x24)", "pool-written-behind";
    FREED_BY_SYSTEM: "SpecialPoolFreedSystem", PAGE_FAULT_IN_FREED_SPECIAL_POOL, None, SpecialPool,
        "no function of the system is given freed pool", "pool-freed-to-system";
    FREED_BY_DRIVER: "SpecialPoolFreedDriver", DRIVER_PAGE_FAULT_IN_FREED_SPECIAL_POOL, None, SpecialPool,
        "freed pool is not touched", "pool-used-after-free";
    BEYOND_BY_SYSTEM: "SpecialPoolBeyondSystem", PAGE_FAULT_BEYOND_END_OF_ALLOCATION, None, SpecialPool,
        "no function of the system is led beyond a block", "pool-overrun-by-system";
    BEYOND_BY_DRIVER: "SpecialPoolBeyondDriver", DRIVER_PAGE_FAULT_BEYOND_END_OF_ALLOCATION, None, SpecialPool,
        "nothing beyond a block is touched", "pool-overrun";
    FREED_MODIFIED: "FreedPoolModified", DRIVER_CAUGHT_MODIFYING_FREED_POOL, None, Kernel,
        "freed pool is not written, where special pool is off", "pool-modified-after-free";
    LOOKASIDE_TWICE: "LookasideInitialisedTwice", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0xCA), Misc,
        "a lookaside list is initialised once", "lookaside-twice";
    LOOKASIDE_NONE: "LookasideNotInitialised", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0xCB), Misc,
        "a lookaside list is initialised before it is deleted", "lookaside-none";
    LOOKASIDE_SMALL: "LookasideBlockSize", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0xCD), Misc,
        "blocks of a lookaside list can hold its links", "lookaside-small";
    RAISE: "IrqlRaise", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x30), Always,
        "the IRQL is raised, and not above HIGH_LEVEL", "irql-raised-down";
    LOWER: "IrqlLower", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x31), Always,
        "the IRQL is lowered, and in a DPC not below DISPATCH_LEVEL", "irql-lowered-up";
    WAIT_ABOVE: "WaitAboveDispatch", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x120), DdiCompliance,
        "nobody waits above DISPATCH_LEVEL", "wait-above-dispatch";
    WAIT_AT: "WaitAtDispatchWithoutTimeout", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x121), DdiCompliance,
        "a wait at DISPATCH_LEVEL has a timeout", "wait-at-dispatch";
    WAIT_TIMEOUT: "WaitAtDispatchTimeout", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x122), DdiCompliance,
        "a wait at DISPATCH_LEVEL has the timeout 0", "wait-at-dispatch-with-time";
    WAIT_KERNEL: "SwitchAtDispatch", ATTEMPTED_SWITCH_FROM_DPC, None, Kernel,
        "nothing waits in a DPC", "wait-in-dpc";
    SET_EVENT_IRQL: "SetEventIrql", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x80), Always,
        "KeSetEvent is called at or below DISPATCH_LEVEL", "event-above-dispatch";
    SET_EVENT_WAIT: "IrqlKeSetEvent", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x20016), DdiCompliance,
        "KeSetEvent with Wait is called at or below APC_LEVEL", "event-wait-at-dispatch";
    OBJECT_INVALID: "SynchronisationObject", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0xE1), ForceIrql,
        "what is waited on or signalled is an initialised object", "wait-on-nothing";
    OBJECT_PAGED: "SynchronisationObjectPaged", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0xDF), ForceIrql,
        "synchronisation objects lie in nonpaged memory", "object-paged";
    MUTEX_NOT_OWNED: "MutantNotOwned", SYSTEM_THREAD_EXCEPTION_NOT_HANDLED, Some(0xC0000046), Kernel,
        "a mutex is released by its owner", "mutex-not-owned";
    MUTEX_NOT_OWNED_SERVICE: "MutantNotOwnedInService", SYSTEM_SERVICE_EXCEPTION, Some(0xC0000046), Kernel,
        "a mutex is released by its owner, in a client's request too", "mutex-not-owned-in-service";
    SEMAPHORE_LIMIT: "SemaphoreLimit", SYSTEM_SERVICE_EXCEPTION, Some(0xC0000047), Kernel,
        "a semaphore is not released beyond its limit", "semaphore-limit";
    FAST_MUTEX_IRQL: "FastMutexIrql", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x33), Always,
        "a fast mutex is acquired at or below APC_LEVEL", "fast-mutex-at-dispatch";
    FAST_MUTEX_RELEASE: "FastMutexReleaseIrql", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x34), Always,
        "a fast mutex is released at APC_LEVEL", "fast-mutex-released-lower";
    RESOURCE_ACQUIRE: "ResourceAcquireApcs", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x37), Always,
        "an executive resource is acquired with APCs disabled", "resource-without-region";
    RESOURCE_RELEASE: "ResourceReleaseApcs", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x38), Always,
        "an executive resource is released with APCs disabled", "resource-released-outside";
    RESOURCE_IRQL: "IrqlExApcLte3", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x20007), DdiCompliance,
        "executive resources are used at or below APC_LEVEL", "resource-at-dispatch";
    RESOURCE_NOT_OWNED: "ResourceNotOwned", RESOURCE_NOT_OWNED, None, Kernel,
        "an executive resource is released by its owner", "resource-not-owned";
    UNSAFE_MUTEX: "UnsafeFastMutexApcs", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x39), Always,
        "an unsafe fast mutex is acquired with APCs disabled", "unsafe-mutex-with-apcs";
    UNSAFE_MUTEX_RELEASE: "UnsafeFastMutexReleaseApcs", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x3A), Always,
        "an unsafe fast mutex is released with APCs disabled", "unsafe-mutex-released";
    ZW_IRQL: "ZwApcsDisabled", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0xE6), Always,
        "Zw functions are called at PASSIVE_LEVEL with APCs enabled", "zw-in-region";
    ENTER_CRITICAL_IRQL: "EnterCriticalRegionIrql", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x11A), ForceIrql,
        "a critical region is entered at or below APC_LEVEL", "region-entered-at-dispatch";
    LEAVE_CRITICAL_IRQL: "LeaveCriticalRegionIrql", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x11B), ForceIrql,
        "a critical region is left at or below APC_LEVEL", "region-left-at-dispatch";
    LEAVE_CRITICAL: "LeaveCriticalRegionUnpaired", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x3E), Always,
        "a critical region is left that was entered", "region-left-twice";
    CRITICAL_REGIONS: "CriticalRegions", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x40003), DdiCompliance,
        "a callback leaves the critical regions that it entered", "region-kept";
    GUARDED_REGIONS: "GuardedRegions", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x4000E), DdiCompliance,
        "a callback leaves the guarded regions that it entered", "guarded-region-kept";
    PAGED_AT_DISPATCH: "PagedMemoryAtDispatch", DRIVER_IRQL_NOT_LESS_OR_EQUAL, None, ForceIrql,
        "paged memory is not touched at or above DISPATCH_LEVEL: read (0), written (1), executed (8)", "paged-read-at-dispatch";
    USER_ADDRESS: "UserAddressToKernel", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0xE0), Security,
        "no function of the kernel is given an address of user memory", "user-address";
    MEMCPY_OVERLAP: "MemcpyOverlap", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0xF0), Always,
        "memory that is copied does not overlap", "memcpy-overlap";
    LOCK_RELEASE_LEVEL: "SpinLockReleaseLevel", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x32), Always,
        "a spin lock is released at DISPATCH_LEVEL", "lock-released-at-passive";
    QUEUED_RELEASE_LEVEL: "QueuedSpinLockReleaseLevel", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x35), Always,
        "a queued spin lock is released at DISPATCH_LEVEL", "queued-lock-released-at-passive";
    LOCK_AT_DPC: "SpinLockAtDpcLevel", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x40), Always,
        "KeAcquireSpinLockAtDpcLevel is called at or above DISPATCH_LEVEL", "lock-at-dpc-below";
    LOCK_FROM_DPC: "SpinLockFromDpcLevel", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x41), Always,
        "KeReleaseSpinLockFromDpcLevel is called at or above DISPATCH_LEVEL", "lock-from-dpc-below";
    LOCK_ABOVE: "SpinLockAboveDispatch", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x42), Always,
        "KeAcquireSpinLock is called at or below DISPATCH_LEVEL", "lock-above-dispatch";
    SPIN_LOCK: "SpinLock", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x40009), DdiCompliance,
        "a callback returns without spin locks", "lock-on-return";
    DEADLOCK_SELF: "DeadlockSelf", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x1000), DeadlockDetection,
        "a lock is not acquired by who holds it", "lock-twice";
    DEADLOCK_ORDER: "DeadlockOrder", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x1001), DeadlockDetection,
        "locks are acquired in one order, by everybody and at all times", "lock-order";
    DEADLOCK_UNINITIALISED: "DeadlockUninitialised", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x1002), DeadlockDetection,
        "a lock is initialised before it is acquired", "lock-uninitialised";
    DEADLOCK_OTHER_THREAD: "DeadlockOtherThread", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x1004), DeadlockDetection,
        "a lock is released by the thread that acquired it", "lock-released-elsewhere";
    DEADLOCK_INITIALISED_TWICE: "DeadlockInitialisedTwice", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x1005), DeadlockDetection,
        "a lock is not initialised while it is held", "lock-initialised-while-held";
    DEADLOCK_NOT_HELD: "DeadlockNotHeld", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x1007), DeadlockDetection,
        "a lock is acquired before it is released", "lock-not-held";
    DEADLOCK_RELEASE_API: "DeadlockReleaseMismatch", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x1009), DeadlockDetection,
        "a queued spin lock is released through its handle, and others are not", "lock-released-otherwise";
    DEADLOCK_THREAD_ENDED: "DeadlockThreadEnded", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x100A), DeadlockDetection,
        "a thread that ends holds no lock", "thread-ends-with-lock";
    DEADLOCK_FREED: "DeadlockFreed", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x100B), DeadlockDetection,
        "a lock that is freed is not held", "lock-freed-while-held";
    SPINS_FOR_EVER: "DpcWatchdog", DPC_WATCHDOG_VIOLATION, Some(1), Kernel,
        "a processor does not stay at DISPATCH_LEVEL for two minutes", "lock-never-released";
    DPC_TOO_LONG: "DpcTimeout", DPC_WATCHDOG_VIOLATION, Some(0), Kernel,
        "a DPC does not run for 20 seconds", "dpc-too-long";
    IRQL_DISPATCH: "IrqlDispatch", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x20003), DdiCompliance,
        "scatter/gather lists are got and put at DISPATCH_LEVEL", "sg-list-at-passive";
    IRQL_FAST_MUTEX: "IrqlExApcLte1", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x20005), DdiCompliance,
        "ExTryToAcquireFastMutex is called at or below APC_LEVEL", "try-mutex-at-dispatch";
    IRQL_PAGED_LOOKASIDE: "IrqlExApcLte2", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x20006), DdiCompliance,
        "paged lookaside lists and probes are used at or below APC_LEVEL", "paged-lookaside-at-dispatch";
    IRQL_EX_PASSIVE: "IrqlExPassive", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x20008), DdiCompliance,
        "ExUuidCreate is called at PASSIVE_LEVEL", "uuid-at-dispatch";
    IRQL_DELETE_DEVICE: "IrqlIoApcLte", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x20009), DdiCompliance,
        "IoDeleteDevice is called at or below APC_LEVEL", "device-deleted-at-dispatch";
    IRQL_CREATE_DEVICE: "IrqlIoPassive1", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x2000A), DdiCompliance,
        "IoCreateDevice is called at PASSIVE_LEVEL", "device-created-at-dispatch";
    IRQL_CREATE_LINK: "IrqlIoPassive3", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x2000C), DdiCompliance,
        "IoCreateSymbolicLink is called at PASSIVE_LEVEL", "link-created-at-dispatch";
    IRQL_DELETE_LINK: "IrqlIoPassive4", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x2000D), DdiCompliance,
        "IoDeleteSymbolicLink is called at PASSIVE_LEVEL", "link-deleted-at-dispatch";
    IRQL_DMA_ADAPTER: "IrqlIoPassive5", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x2000E), DdiCompliance,
        "IoGetDmaAdapter is called at PASSIVE_LEVEL", "dma-adapter-at-dispatch";
    IRQL_DELAY: "IrqlKeApcLte1", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x2000F), DdiCompliance,
        "KeDelayExecutionThread and guarded mutexes are used at or below APC_LEVEL", "delay-at-dispatch";
    IRQL_REGIONS: "IrqlKeApcLte2", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x20010), DdiCompliance,
        "guarded regions are entered and left at or below APC_LEVEL", "guarded-region-at-dispatch";
    IRQL_KE: "IrqlKeDispatchLte", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x20011), DdiCompliance,
        "timers are set and cancelled, and events cleared, at or below DISPATCH_LEVEL", "timer-above-dispatch";
    IRQL_MM: "IrqlMmApcLte", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x20019), DdiCompliance,
        "pages for MDLs are allocated at or below APC_LEVEL", "pages-at-dispatch";
    IRQL_OB: "IrqlObPassive", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x2001B), DdiCompliance,
        "ObReferenceObjectByHandle is called at PASSIVE_LEVEL", "reference-at-dispatch";
    IRQL_PS: "IrqlPsPassive", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x2001C), DdiCompliance,
        "PsCreateSystemThread is called at PASSIVE_LEVEL", "thread-at-dispatch";
    IRQL_RTL: "IrqlRtlPassive", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x2001E), DdiCompliance,
        "RtlDeleteRegistryValue is called at PASSIVE_LEVEL", "registry-at-dispatch";
    IRQL_ZW: "IrqlZwPassive", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x2001F), DdiCompliance,
        "ZwClose is called at PASSIVE_LEVEL", "zw-at-dispatch";
    MDL_LOCK_IRQL: "MdlLockIrql", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x70), Always,
        "pages are locked at or below DISPATCH_LEVEL", "mdl-locked-above-dispatch";
    MDL_UNLOCK_NEVER: "MdlNeverLocked", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x7C), Always,
        "what is unlocked was locked", "mdl-unlocked-never-locked";
    MDL_UNLOCK_NONPAGED: "MdlUnlockNonpaged", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x7D), Always,
        "nonpaged pool is not unlocked", "mdl-unlocked-nonpaged";
    MDL_BUILD_PAGED: "MdlBuildPaged", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x7F), Always,
        "MmBuildMdlForNonPagedPool is not used for paged pool", "mdl-built-for-paged";
    MDL_OLD_MAP: "MdlOldMapping", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x81), Always,
        "MmMapLockedPages is not used", "mdl-mapped-old";
    MDL_LOCK_FLAGS: "MdlLockFlags", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0xB0), Always,
        "an MDL is locked once", "mdl-locked-twice";
    MDL_MAPPED_TWICE: "MdlMappedTwice", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0xB2), Always,
        "an MDL is mapped once", "mdl-mapped-twice";
    MDL_MAPPED_UNLOCKED: "MdlMappedUnlocked", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0xB3), Always,
        "pages are locked before they are mapped", "mdl-mapped-unlocked";
    MDL_UNMAP_NOT_MAPPED: "MdlUnmappedTwice", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0xB6), Always,
        "what is unmapped was mapped", "mdl-unmapped-not-mapped";
    MDL_UNLOCK_PARTIAL: "MdlPartialUnlocked", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0xB4), Always,
        "a partial MDL is not unlocked: its source is", "mdl-partial-unlocked";
    MDL_UNMAP_PARTIAL: "MdlPartialUnmapped", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0xB5), Always,
        "a partial MDL that has no mapping of its own is not unmapped", "mdl-partial-unmapped";
    MDL_FREED_MAPPED: "MdlFreedMapped", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0xB8), Always,
        "an MDL is unmapped before it is freed", "mdl-freed-mapped";
    MDL_PAGES_LEFT: "MdlPagesLeftLocked", DRIVER_LEFT_LOCKED_PAGES_IN_PROCESS, None, PoolTracking,
        "pages that were locked are unlocked", "mdl-pages-left";
    MDL_FREED_LOCKED: "PagesFreedWhileLocked", PFN_LIST_CORRUPT, Some(0x9A), Kernel,
        "locked pages are not freed", "mdl-pool-freed-locked";
    MDL_PARTIAL: "MdlPartialRange", INVALID_MDL_RANGE, None, Kernel,
        "a partial MDL lies within its source", "mdl-partial-outside";
    IRP_TWICE: "IrpCompletedTwice", MULTIPLE_IRP_COMPLETE_REQUESTS, None, Kernel,
        "an IRP is completed once", "irp-twice";
    IRP_IRQL: "IrpDispatchIrql", DRIVER_VERIFIER_IOMANAGER_VIOLATION, Some(5), IoVerification,
        "a dispatch routine returns at its IRQL", "irp-irql";
    IRP_STATUS: "IrpCompletedPending", DRIVER_VERIFIER_IOMANAGER_VIOLATION, Some(6), IoVerification,
        "an IRP is not completed with STATUS_PENDING or -1", "irp-completed-pending";
    IRP_CANCEL_LEFT: "IrpCancelRoutineLeft", DRIVER_VERIFIER_IOMANAGER_VIOLATION, Some(7), IoVerification,
        "an IRP is completed without a cancel routine", "irp-cancel-routine-left";
    IRP_COMPLETE_IRQL: "IrpCompleteIrql", DRIVER_VERIFIER_IOMANAGER_VIOLATION, Some(0xE), IoVerification,
        "IRPs are completed at or below DISPATCH_LEVEL", "irp-above-dispatch";
    IRP_CALL_IRQL: "IrpCallDriverIrql", DRIVER_VERIFIER_IOMANAGER_VIOLATION, Some(0x10), IoVerification,
        "IoCallDriver is called at or below DISPATCH_LEVEL", "irp-sent-above-dispatch";
    IRP_CANCEL_LOCK: "IrpCancelLockKept", DRIVER_VERIFIER_IOMANAGER_VIOLATION, Some(0x1B), IoVerification,
        "a cancel routine releases the cancel spin lock", "cancel-lock-kept";
    IRP_OTHER_STATUS: "IrpOtherStatus", DRIVER_VERIFIER_IOMANAGER_VIOLATION, Some(0x224), IoVerification,
        "a dispatch routine returns the status that it completed with", "irp-other-status";
    IRP_ILLEGAL_STATUS: "IrpIllegalStatus", DRIVER_VERIFIER_IOMANAGER_VIOLATION, Some(0x225), IoVerification,
        "a dispatch routine returns a legal status", "irp-illegal-status";
    IRP_NEITHER: "IrpNotCompleted", DRIVER_VERIFIER_IOMANAGER_VIOLATION, Some(0x226), IoVerification,
        "a dispatch routine completes, passes on or pends its request", "irp-neither";
    IRP_UNMARKED: "IrpPendingUnmarked", DRIVER_VERIFIER_IOMANAGER_VIOLATION, Some(0x23D), IoVerification,
        "STATUS_PENDING is returned after IoMarkIrpPending", "irp-pending-unmarked";
    IRP_MARKED: "IrpMarkedNotPending", DRIVER_VERIFIER_IOMANAGER_VIOLATION, Some(0x23E), IoVerification,
        "after IoMarkIrpPending STATUS_PENDING is returned", "irp-marked-not-pending";
    DEVICE_TWICE: "DeviceDeletedTwice", DRIVER_VERIFIER_IOMANAGER_VIOLATION, Some(0x240), IoVerification,
        "a device is deleted once", "device-deleted-twice";
    IRP_INFORMATION: "IrpInformation", DRIVER_VERIFIER_IOMANAGER_VIOLATION, Some(0x312), IoVerification,
        "IoStatus.Information is within the output", "irp-information";
    IRP_APCS: "IrpDispatchApcs", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0xC5), IoVerification,
        "a dispatch routine leaves APCs as they were", "irp-region-kept";
    IRP_NOT_CANCELLED: "IrpCancelledNotCompleted", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x135), IoVerification,
        "a cancelled IRP is completed within a minute", "irp-cancel-ignored";
    REMOVE_LOCK_TAG: "RemoveLockTag", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0xD6), IoVerification,
        "a remove lock is released with the tag of its acquisition", "remove-lock-tag";
    REMOVE_LOCK_WAIT: "RemoveLockWaitTag", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0xD5), IoVerification,
        "IoReleaseRemoveLockAndWait is given the tag of an acquisition", "remove-lock-wait-tag";
    TIMER_FREED: "TimerFreedActive", TIMER_OR_DPC_INVALID, Some(0), Always,
        "a timer that is freed, or whose driver is unloaded, is not active", "timer-freed-while-set";
    DPC_FREED: "DpcFreedQueued", TIMER_OR_DPC_INVALID, Some(1), Always,
        "a DPC that is queued is initialised, and not freed", "dpc-uninitialised";
    DPC_ROUTINE_GONE: "DpcRoutineUnloaded", TIMER_OR_DPC_INVALID, Some(2), Always,
        "the routine of a queued DPC is not unloaded", "dpc-routine-unloaded";
    DPC_APCS: "DpcApcs", TIMER_OR_DPC_INVALID, Some(4), Kernel,
        "a DPC leaves APCs as they were", "dpc-apcs";
    DPC_IRQL: "DpcIrql", IRQL_UNEXPECTED_VALUE, None, Kernel,
        "a DPC returns at DISPATCH_LEVEL", "dpc-irql";
    WORK_FREED: "WorkItemFreedActive", WORKER_INVALID, Some(0), Misc,
        "an active work item is not freed", "work-pool-freed";
    WORK_TWICE: "WorkItemQueuedTwice", WORKER_INVALID, Some(1), Misc,
        "a work item is queued once", "work-queued-twice";
    IO_WORK_FREED: "IoWorkItemFreedQueued", WORKER_INVALID, Some(2), Misc,
        "a queued I/O work item is not freed", "io-work-freed-queued";
    WORK_INVALID: "WorkItemInvalid", WORKER_INVALID, Some(3), Misc,
        "what is queued as a work item is one", "work-invalid";
    WORK_IRQL: "WorkerReturnedHigh", WORKER_THREAD_RETURNED_AT_BAD_IRQL, None, Kernel,
        "a work item returns at PASSIVE_LEVEL", "work-irql";
    WORK_PAGED: "WorkItemPaged", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x131), Always,
        "work items lie in nonpaged memory", "work-paged";
    UNLOADED_PENDING: "UnloadedWithPendingOperations", DRIVER_UNLOADED_WITHOUT_CANCELLING_PENDING_OPERATIONS, None, Kernel,
        "a driver that is unloaded leaves no device and no thread", "device-left";
    ETW_LEFT: "EtwLeftRegistered", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0xDD), Misc,
        "a driver that is unloaded has unregistered its ETW providers", "etw-left";
    ETW_HANDLE: "EtwHandle", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0xDC), Misc,
        "EtwUnregister is given a registration", "etw-handle";
    DMA_PARAMETERS: "DmaFreeParameters", DRIVER_VERIFIER_DMA_VIOLATION, Some(0), DmaChecking,
        "a common buffer is freed with the parameters of its allocation", "dma-other-length";
    DMA_TWICE: "DmaFreedTwice", DRIVER_VERIFIER_DMA_VIOLATION, Some(3), DmaChecking,
        "a common buffer is freed once", "dma-freed-twice";
    DMA_LISTS_TWICE: "DmaListsFreedTwice", DRIVER_VERIFIER_DMA_VIOLATION, Some(6), DmaChecking,
        "a scatter/gather list is put once", "sg-list-put-twice";
    DMA_PUT: "DmaAdapterReleasedWithBuffers", DRIVER_VERIFIER_DMA_VIOLATION, Some(7), DmaChecking,
        "an adapter is released without common buffers", "dma-put-with-buffers";
    DMA_PUT_LISTS: "DmaAdapterReleasedWithLists", DRIVER_VERIFIER_DMA_VIOLATION, Some(0xA), DmaChecking,
        "an adapter is released without scatter/gather lists", "dma-put-with-lists";
    DMA_BOUNDS: "DmaOutOfBounds", DRIVER_VERIFIER_DMA_VIOLATION, Some(0xF), DmaChecking,
        "nothing is written around a common buffer", "dma-overrun";
    DMA_IRQL: "DmaIrql", DRIVER_VERIFIER_DMA_VIOLATION, Some(0x13), DmaChecking,
        "DMA functions are called at their IRQL", "dma-freed-at-dispatch";
    DMA_RELEASED: "DmaAdapterReleased", DRIVER_VERIFIER_DMA_VIOLATION, Some(0x18), DmaChecking,
        "an adapter is not used after its release", "dma-adapter-after-put";
    DMA_NULL: "DmaAdapterNull", DRIVER_VERIFIER_DMA_VIOLATION, Some(0x19), DmaChecking,
        "what is used as an adapter is one", "dma-no-adapter";
    DMA_MDL: "DmaOutsideMdl", DRIVER_VERIFIER_DMA_VIOLATION, Some(0x1B), DmaChecking,
        "a transfer lies within its MDL", "sg-list-outside";
    DMA_HAL: "DmaHalGetAdapter", DRIVER_VERIFIER_DMA_VIOLATION, Some(0x1E), DmaChecking,
        "HalGetAdapter is not used", "dma-hal";
    DMA_ZERO: "DmaZeroLength", DRIVER_VERIFIER_DMA_VIOLATION, Some(0x21), DmaChecking,
        "a transfer is not empty", "sg-list-empty";
    DMA_VERSION: "DmaDescriptionVersion", DRIVER_VERIFIER_DMA_VIOLATION, Some(0x25), DmaChecking,
        "a device description has a known version", "dma-version";
    DMA_IOMMU: "DmaIommu", DRIVER_VERIFIER_DMA_VIOLATION, Some(0x26), DmaChecking,
        "devices touch only memory that is there", "slab-freed-in-flight";
    DMA_DEVICE: "DmaPhysicalDevice", PNP_DETECTED_FATAL_ERROR, Some(2), Kernel,
        "IoGetDmaAdapter is given a physical device object", "dma-no-device";
    PAUSE: "NdisFilterTimedPauseComplete", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x92010), NdisVerification,
        "a pause does not fail, is completed within 10 seconds, and once", "pause-twice";
    TIMED_SEND: "NdisFilterTimedDataSend", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x92011), NdisVerification,
        "lists that a filter was given to send go on or come back within a minute", "send-kept";
    TIMED_RECEIVE: "NdisFilterTimedDataReceive", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x92012), NdisVerification,
        "lists that a filter was given to receive go on or come back within a minute", "receive-kept";
    OID_COMPLETE: "NdisOidComplete", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x91001), NdisVerification,
        "an OID request is completed with a legal status", "oid-completed-pending";
    OID_TWICE: "NdisOidDoubleComplete", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x91002), NdisVerification,
        "an OID request is completed once", "oid-completed-unasked";
    OID_WATCHDOG: "NdisWatchdogOid", BUGCODE_NDIS_DRIVER, Some(0x25), Kernel,
        "an OID request is answered within 12 seconds", "oid-never-answered";
    NDIS_WAIT: "WaitEventHighIrql", BUGCODE_NDIS_DRIVER, Some(0x14), Kernel,
        "NdisWaitEvent is called at PASSIVE_LEVEL", "ndis-wait-at-dispatch";
    OID_BUFFER: "OidRequestInvalidBuffer", BUGCODE_NDIS_DRIVER, Some(0x1D), Kernel,
        "BytesWritten is within the buffer", "oid-bytes-written";
    STATUS_BUFFER: "StatusIndicationInvalidBuffer", BUGCODE_NDIS_DRIVER, Some(0x20), Kernel,
        "a status indication has a buffer for its bytes", "status-without-buffer";
    OBJECT_HEADER: "InvalidObjectHeader", BUGCODE_NDIS_DRIVER, Some(0x21), Kernel,
        "structures for NDIS have a header", "status-without-header";
    NET_PNP_EVENT: "IllegalNetPnpEvent", BUGCODE_NDIS_DRIVER, Some(0x22), Kernel,
        "a PnP event that is passed on is legal", "pnp-illegal";
    LEAKED_NBL: "LeakedNbl", BUGCODE_NDIS_DRIVER, Some(0x27), Kernel,
        "a module that is detached has no lists out", "lists-out-at-detach";
    SEND_NOT_OWNED: "NblNotOwnedAtSend", SLUICE_CONTRACT_VIOLATION, Some(1), Contract,
        "a list is sent by its owner, once", "nbl-sent-twice";
    COMPLETE_NOT_OWNED: "NblNotOwnedAtComplete", SLUICE_CONTRACT_VIOLATION, Some(2), Contract,
        "a list is completed upward by its owner, once, and never an own one", "own-completed-upward";
    FREED_WHILE_OUT: "NblFreedWhileOut", SLUICE_CONTRACT_VIOLATION, Some(3), Contract,
        "a list is freed by its owner", "nbl-freed-while-out";
    NOT_RUNNING: "SendWhileNotRunning", SLUICE_CONTRACT_VIOLATION, Some(4), Contract,
        "a module originates while it runs", "send-in-restart";
    PAUSED_WITH_LISTS: "PausedWithNblsOut", SLUICE_CONTRACT_VIOLATION, Some(5), Contract,
        "a module is paused when all of its lists have come back", "paused-with-lists";
    PAUSE_UNASKED: "PauseCompleteWithoutPause", SLUICE_CONTRACT_VIOLATION, Some(6), Contract,
        "NdisFPauseComplete answers a pause that pends", "pause-complete-unasked";
    RESTART_UNASKED: "RestartCompleteWithoutRestart", SLUICE_CONTRACT_VIOLATION, Some(7), Contract,
        "NdisFRestartComplete answers a restart that pends", "restart-complete-unasked";
    SOURCE_HANDLE: "SourceHandle", SLUICE_CONTRACT_VIOLATION, Some(8), Contract,
        "SourceHandle of an own list is the module, and of others is not changed", "source-handle";
    MISSING_HANDLER: "MissingHandler", SLUICE_CONTRACT_VIOLATION, Some(9), Contract,
        "handlers are set in the pairs that NDIS asks for", "no-completion-handler";
    IRQL: "Irql_Filter_Driver_Function", SLUICE_CONTRACT_VIOLATION, Some(0xA), Contract,
        "functions are called at the IRQL of their page", "ndis-above-its-irql";
    DISPATCH_FLAG: "Flags_Irql", SLUICE_CONTRACT_VIOLATION, Some(0xB), Contract,
        "a flag for DISPATCH_LEVEL is true", "dispatch-flag";
    OBJECT: "InvalidObject", SLUICE_CONTRACT_VIOLATION, Some(0xC), Contract,
        "objects are used and freed that are there", "mdl-freed-twice";
    NOT_DEREGISTERED: "NdisFDeregisterFilterDriver", SLUICE_CONTRACT_VIOLATION, Some(0xD), Contract,
        "a driver that is unloaded has deregistered", "not-deregistered";
    LOCK_ACROSS_NDIS: "LockAcrossNdis", SLUICE_CONTRACT_VIOLATION, Some(0xE), Contract,
        "NDIS is not called with a spin lock held", "send-with-lock";
    IRQL_ON_RETURN: "IrqlReturn", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x2001D), DdiCompliance,
        "a callback returns at its IRQL", "irql-on-return";
    INDICATE_NOT_OWNED: "NblNotOwnedAtIndicate", SLUICE_CONTRACT_VIOLATION, Some(0x10), Contract,
        "a list is indicated by its owner, once", "nbl-indicated-twice";
    RETURN_NOT_OWNED: "NblNotOwnedAtReturn", SLUICE_CONTRACT_VIOLATION, Some(0x11), Contract,
        "a list is returned by its owner, once, and never an own one", "nbl-returned-twice";
    RETURN_RESOURCES: "NblReturnedWithResources", SLUICE_CONTRACT_VIOLATION, Some(0x12), Contract,
        "lists indicated with RESOURCES are not returned by call", "resources-returned";
    RESOURCES_KEPT: "NblResourcesKept", SLUICE_CONTRACT_VIOLATION, Some(0x13), Contract,
        "lists indicated with RESOURCES are not kept, and their chain is restored", "resources-kept";
    MANY_BUFFERS: "NblWithManyBuffers", SLUICE_CONTRACT_VIOLATION, Some(0x14), Contract,
        "a list that is received has one NET_BUFFER", "receive-many-buffers";
    FOREIGN_KEPT: "PausedWithForeignNbls", SLUICE_CONTRACT_VIOLATION, Some(0x15), Contract,
        "a module that is paused keeps no lists of others", "paused-with-foreign";
    OID_SERIAL: "OidRequestsSerialised", SLUICE_CONTRACT_VIOLATION, Some(0x17), Contract,
        "a module has one OID request of its own at a time below it", "oid-two-at-once";
    OID_ORIGINAL: "OidOriginalForwarded", SLUICE_CONTRACT_VIOLATION, Some(0x18), Contract,
        "an OID request is cloned before it is passed on", "oid-original";
    OID_LEFT: "OidRequestsLeft", SLUICE_CONTRACT_VIOLATION, Some(0x19), Contract,
        "a module that is detached has no OID requests out", "oid-left";
    CONTEXT_LEFT: "NblContextLeft", SLUICE_CONTRACT_VIOLATION, Some(0x1A), Contract,
        "the context of a list is freed before the list", "nbl-context-left";
    CLONE_ORDER: "NblFreedBeforeClone", SLUICE_CONTRACT_VIOLATION, Some(0x1B), Contract,
        "a list is freed after its clones", "nbl-freed-before-clone";
    STATUS_SOURCE: "StatusSourceHandle", SLUICE_CONTRACT_VIOLATION, Some(0x1C), Contract,
        "SourceHandle of an own status indication is the module", "status-source-handle";
    STALL: "NdisStallExecution_Delay", SLUICE_CONTRACT_VIOLATION, Some(0x1D), Contract,
        "a stall is at most 50 microseconds", "stall-too-long";
    RWLOCK: "Irql_Synch_Function", SLUICE_CONTRACT_VIOLATION, Some(0x1E), Contract,
        "an NDIS reader-writer lock is released by who holds it, and not upgraded", "rwlock-upgraded";
    WAITED_ON_FREED: "FreedWhileWaitedOn", SLUICE_CONTRACT_VIOLATION, Some(0x1F), Contract,
        "an object that somebody waits on is not freed", "event-freed-while-waited-on";
    REENTRY: "FastMutexRecursive", DRIVER_VERIFIER_DETECTED_VIOLATION, Some(0x1000), DeadlockDetection,
        "a fast mutex is not acquired by who holds it", "fast-mutex-twice";
    RUNDOWN: "RundownUnderflow", SLUICE_CONTRACT_VIOLATION, Some(0x20), Contract,
        "rundown protection is released as often as it was acquired", "rundown-underflow";
    NAME_TERMINATED: "DeviceNameTerminated", SLUICE_CONTRACT_VIOLATION, Some(0x23), Contract,
        "names and descriptors of devices that NDIS makes end with a terminator, which MaximumLength counts", "device-name-open";
    DMA_DESCRIPTION: "DeviceDescriptionZeroed", SLUICE_CONTRACT_VIOLATION, Some(0x24), Contract,
        "what a device description does not use of its 64 bytes is zero", "dma-description-tail";
    FRAME_TOO_LONG: "FrameLongerThanMedium", SLUICE_CONTRACT_VIOLATION, Some(0x25), Contract,
        "an originated frame has the header and the MTU at most, and four bytes more if it carries a VLAN tag", "frame-too-long";
    CANCEL_ID: "PartialCancelIdAtInitialisation", SLUICE_CONTRACT_VIOLATION, Some(0x26), Contract,
        "a driver takes its partial cancel ids while it is initialised: the system has 256", "cancel-id-late";
    DPC_BUDGET: "DpcBudget", SLUICE_CONTRACT_VIOLATION, Some(0x27), Contract,
        "a DPC uses no more processor time than its budget, which is an option", "dpc-over-budget";
    ATTACH_FAILED_STATE: "AttachWithoutAttributes", SLUICE_CONTRACT_VIOLATION, Some(0x21), Contract,
        "FilterAttach that succeeds has called NdisFSetAttributes", "no-attributes";
    OPTIONS: "OptionalHandlersOutside", SLUICE_CONTRACT_VIOLATION, Some(0x22), Contract,
        "NdisSetOptionalHandlers is called in FilterSetModuleOptions", "handlers-outside-options";
    STACK: "KernelStackOverflow", UNEXPECTED_KERNEL_MODE_TRAP, Some(8), Kernel,
        "a driver stays within 24 KiB of stack", "stack-overflow";
    ACCESS_SYSTEM: "AccessViolationSystemThread", SYSTEM_THREAD_EXCEPTION_NOT_HANDLED, Some(0xC0000005), Kernel,
        "nothing is touched that is no memory, on a system thread", "null-read";
    ACCESS_SERVICE: "AccessViolationSystemService", SYSTEM_SERVICE_EXCEPTION, Some(0xC0000005), Kernel,
        "nothing is touched that is no memory, in a system service", "stale-handle";
    ACCESS_RAISED: "FaultAtRaisedIrql", DRIVER_IRQL_NOT_LESS_OR_EQUAL, None, Kernel,
        "nothing is touched that is no memory, at raised IRQL", "null-read-at-dispatch";
    ACCESS_RAISED_SYSTEM: "SystemFaultAtRaisedIrql", IRQL_NOT_LESS_OR_EQUAL, None, Kernel,
        "no function of the system is given what is no memory, at raised IRQL", "bad-event-at-dispatch";
    PAGE_FAULT: "PageFaultInNonpagedArea", PAGE_FAULT_IN_NONPAGED_AREA, None, Kernel,
        "no system memory is touched that is gone", "common-buffer-used-after-free";
    EXECUTE: "ExecuteNoExecute", ATTEMPTED_EXECUTE_OF_NOEXECUTE_MEMORY, None, Kernel,
        "no data is executed", "data-executed";
    WRITE_READONLY: "WriteToReadonly", ATTEMPTED_WRITE_TO_READONLY_MEMORY, None, Kernel,
        "nothing is written to read-only memory", "readonly-written";
    ILLEGAL: "IllegalInstruction", SYSTEM_THREAD_EXCEPTION_NOT_HANDLED, Some(0xC000001D), Kernel,
        "code is executed that is code", "illegal-instruction";
    DIVIDE: "DivideByZero", SYSTEM_THREAD_EXCEPTION_NOT_HANDLED, Some(0xC0000094), Kernel,
        "nothing is divided by zero", "divided-by-zero";
    FAST_FAIL: "FastFail", KERNEL_SECURITY_CHECK_FAILURE, None, Kernel,
        "a driver does not fail fast: lists are whole", "list-corrupt";
    UNLOADED_CODE: "UnloadedCodeCalled", DRIVER_UNLOADED_WITHOUT_CANCELLING_PENDING_OPERATIONS, None, Kernel,
        "code of a driver that was unloaded is not called", "callback-after-unload";
    INIT_GONE: "InitSectionGone", PAGE_FAULT_IN_NONPAGED_AREA, None, Kernel,
        "code of the INIT section is not called after DriverEntry", "init-after-entry";
}
