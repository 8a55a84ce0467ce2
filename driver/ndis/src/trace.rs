//! What the driver tells who listens: an ETW provider that describes its own events (page "Trace Logging
//! API").
//!
//! Nothing is written per frame. Where nobody listens an event costs less than ten instructions and no call
//! (`tests/suite/tests/event_cost.rs`). The kernel's addresses are in events of their own keyword, and in no other.
//!
//! | keyword | events |
//! |---|---|
//! | 0x1 life | `ModuleAttached`, `AttachFailed`, `ModulePausing`, `ModulePaused`, `ModuleRestarted`, `MtuUnknown`, `LinkState`, `ModuleDetached` |
//! | 0x2 DMA | `DmaAdapter`, `CommonBufferAllocated`, `CommonBufferFreed`, `MemoryUnavailable`, `BatchStarted`, `BatchCompleted` |
//! | 0x4 requests | `HandleBound`, `HandleClosed`, `RequestRefused`, `FramesFailed` |
//! | 0x8 addresses | `CommonBufferAddress` |
#![expect(unsafe_code, reason = "registers the provider")]
use tracelogging::{define_provider, write_event};

use crate::Status;

define_provider!(PROVIDER, "Sluice.NdisFilter", id("4b1d7c7e-6d0b-4d43-9a43-2f8f6f5c91a7"));

/// Registers the provider. Events are dropped if that fails.
///
/// # Safety
/// [`unregister`] is called before the driver is unloaded, and no other thread uses the provider meanwhile.
///
/// # IRQL
/// `PASSIVE_LEVEL`.
pub unsafe fn register() {
    // SAFETY: as promised by the caller.
    let _ = unsafe { PROVIDER.register() };
}

/// Unregisters it: nobody listens any more.
///
/// # IRQL
/// `PASSIVE_LEVEL`.
pub fn unregister() {
    let _ = PROVIDER.unregister();
}

/// A module is attached.
pub fn attached(interface: u32, luid: u64) {
    write_event!(
        PROVIDER,
        "ModuleAttached",
        level(Informational),
        keyword(0x1),
        u32("InterfaceIndex", &interface),
        u64_hex("Luid", &luid),
    );
}

/// A module could not be attached.
pub fn attach_failed(status: Status) {
    write_event!(PROVIDER, "AttachFailed", level(Error), keyword(0x1), i32_hex("Status", &status));
}

/// A pause begins.
pub fn pausing(interface: u32, in_flight: u64) {
    write_event!(
        PROVIDER,
        "ModulePausing",
        level(Informational),
        keyword(0x1),
        u32("InterfaceIndex", &interface),
        u64("InFlight", &in_flight),
    );
}

/// A pause is complete.
pub fn paused(interface: u32, microseconds: u64) {
    write_event!(
        PROVIDER,
        "ModulePaused",
        level(Informational),
        keyword(0x1),
        u32("InterfaceIndex", &interface),
        u64("Microseconds", &microseconds),
    );
}

/// A module runs again.
pub fn restarted(interface: u32, mtu: u32, usable: bool) {
    write_event!(
        PROVIDER,
        "ModuleRestarted",
        level(Informational),
        keyword(0x1),
        u32("InterfaceIndex", &interface),
        u32("Mtu", &mtu),
        bool8("Usable", &usable),
    );
}

/// NDIS did not tell a module's MTU when it was restarted, and the drivers below did not answer either: nothing can be
/// sent.
pub fn mtu_unknown(interface: u32, status: Status) {
    write_event!(
        PROVIDER,
        "MtuUnknown",
        level(Error),
        keyword(0x1),
        u32("InterfaceIndex", &interface),
        i32_hex("Status", &status),
    );
}

/// The adapter's link changed: `MediaConnectState…`, and bits per second, or 0.
pub fn link_state(interface: u32, connected: u32, speed: u64) {
    write_event!(
        PROVIDER,
        "LinkState",
        level(Informational),
        keyword(0x1),
        u32("InterfaceIndex", &interface),
        u32("MediaConnectState", &connected),
        u64("Speed", &speed),
    );
}

/// A module is detached.
pub fn detached(interface: u32) {
    write_event!(
        PROVIDER,
        "ModuleDetached",
        level(Informational),
        keyword(0x1),
        u32("InterfaceIndex", &interface),
    );
}

/// A handle was bound to a module.
pub fn bound(interface: u32, handles: u32) {
    write_event!(
        PROVIDER,
        "HandleBound",
        level(Informational),
        keyword(0x4),
        u32("InterfaceIndex", &interface),
        u32("Handles", &handles),
    );
}

/// A bound handle was closed.
pub fn closed(interface: u32, handles: u32) {
    write_event!(
        PROVIDER,
        "HandleClosed",
        level(Informational),
        keyword(0x4),
        u32("InterfaceIndex", &interface),
        u32("Handles", &handles),
    );
}

/// A request was refused before anything was done. The interface is 0 if the handle is not bound.
pub fn refused(interface: u32, code: u32, status: Status) {
    write_event!(
        PROVIDER,
        "RequestRefused",
        level(Warning),
        keyword(0x4),
        u32("InterfaceIndex", &interface),
        u32_hex("Code", &code),
        i32_hex("Status", &status),
    );
}

/// Frames came back with an error; `status` is the first one's.
pub fn frames_failed(interface: u32, frames: u64, status: Status) {
    write_event!(
        PROVIDER,
        "FramesFailed",
        level(Warning),
        keyword(0x4),
        u32("InterfaceIndex", &interface),
        u64("Frames", &frames),
        i32_hex("Status", &status),
    );
}

/// There is no memory for a module's frames.
pub fn no_memory(interface: u32) {
    write_event!(
        PROVIDER,
        "MemoryUnavailable",
        level(Error),
        keyword(0x2),
        u32("InterfaceIndex", &interface)
    );
}

/// Where frame memory comes from: `MEMORY_…`.
pub(crate) fn adapter(kind: u32) {
    write_event!(PROVIDER, "DmaAdapter", level(Informational), keyword(0x2), u32("Kind", &kind));
}

/// A common buffer was allocated.
pub(crate) fn allocated(address: u64, logical: u64, length: u32) {
    write_event!(
        PROVIDER,
        "CommonBufferAllocated",
        level(Informational),
        keyword(0x2),
        u64_hex("Logical", &logical),
        u32("Length", &length),
    );
    write_event!(
        PROVIDER,
        "CommonBufferAddress",
        level(Verbose),
        keyword(0x8),
        u64_hex("Virtual", &address),
        u64_hex("Logical", &logical),
    );
}

/// A common buffer is about to be freed.
pub(crate) fn freed(logical: u64, length: u32) {
    write_event!(
        PROVIDER,
        "CommonBufferFreed",
        level(Informational),
        keyword(0x2),
        u64_hex("Logical", &logical),
        u32("Length", &length),
    );
}

/// A request's frames are about to go to the device.
pub(crate) fn batch_started(batch: u64, frames: u32, bytes: u32) {
    write_event!(
        PROVIDER,
        "BatchStarted",
        level(Verbose),
        keyword(0x2),
        u64_hex("Batch", &batch),
        u32("Frames", &frames),
        u32("Bytes", &bytes),
    );
}

/// All of a request's frames have come back.
pub(crate) fn batch_completed(batch: u64, frames: u32) {
    write_event!(
        PROVIDER,
        "BatchCompleted",
        level(Verbose),
        keyword(0x2),
        u64_hex("Batch", &batch),
        u32("Frames", &frames),
    );
}
