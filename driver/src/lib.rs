//! `sluice.sys`: an NDIS 6 lightweight filter that sends Ethernet frames for user-mode clients.
//!
//! This crate decides what happens when: what a module does in its life, what a client may ask. How the kernel
//! and NDIS are used is decided in `sluice-kernel` and `sluice-ndis`, and the rules that need neither are in
//! `sluice-core`. There is no `unsafe` here.
#![no_std]
#![forbid(unsafe_code)]

mod bind;
mod device;
mod module;
mod send;
mod status;

use sluice_abi::{DEVICE_NAME, DEVICE_SDDL, FILTER_GUID, FRIENDLY_NAME, SERVICE_NAME, SYMBOLIC_NAME};
use sluice_kernel::pool::Tag;
use sluice_kernel::wide;
use sluice_ndis::driver::{Driver, Names};

// Linked for its panic handler, which stops the machine as an assertion in a driver does.
extern crate wdk_panic;

/// `wdk` needs an allocator to exist. This driver allocates through `sluice_kernel::pool` only, which
/// reports failure; nothing here uses `alloc`.
#[global_allocator]
static ALLOCATOR: wdk_alloc::WdkAllocator = wdk_alloc::WdkAllocator;

/// Tag of everything that this driver allocates.
const TAG: Tag = Tag::new(*b"Slce");

/// The driver.
struct Sluice;

impl Driver for Sluice {
    type Module = module::Module;
    type Device = device::Device;
    const VERSION: (u8, u8) = (0, 1);

    fn names() -> Names {
        Names {
            friendly: wide!(FRIENDLY_NAME),
            unique: wide!(FILTER_GUID),
            service: wide!(SERVICE_NAME),
            device: wide!(DEVICE_NAME),
            symbolic: wide!(SYMBOLIC_NAME),
            sddl: wide!(DEVICE_SDDL),
        }
    }
}

sluice_ndis::driver_entry!(Sluice);
