//! An executive resource is taken outside a critical region (second document: "APCs must be disabled"). A normal kernel
//! APC may suspend the owner, and whoever waits for the resource waits with it. Driver Verifier: 0xC4 with 0x37.
#![no_std]

use lab::{NO_MEMORY, TAG, raw};
use sluice_kernel::irql::Passive;
use sluice_kernel::resource::Resource;
use wdk_sys::ntddk::{
    ExAcquireResourceExclusiveLite, ExDeleteResourceLite, ExInitializeResourceLite, ExReleaseResourceLite,
};
use wdk_sys::{ERESOURCE, NTSTATUS};

lab::crash!(wrong, safe);

/// `KeEnterCriticalRegion` is missing.
unsafe fn wrong() {
    unsafe {
        let resource = raw::nonpaged::<ERESOURCE>();
        let _ = ExInitializeResourceLite(resource);
        ExAcquireResourceExclusiveLite(resource, 1);
        ExReleaseResourceLite(resource);
        let _ = ExDeleteResourceLite(resource);
        raw::free(resource);
    }
}

/// The resource asks for the region's token, which only the region gives out.
fn safe(passive: &mut Passive<'_>) -> NTSTATUS {
    let Ok(resource) = Resource::<u64>::new(0, TAG) else { return NO_MEMORY };
    passive.critical_region(|region| resource.write(region, |value, _| *value += 1));
    let value = passive.critical_region(|region| resource.read(region, |value, _| *value));
    lab::show(c"value: %llu of %llu", value, 1);
    0
}
