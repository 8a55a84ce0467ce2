//! `sluice.sys`: an NDIS 6 lightweight filter that sends Ethernet frames for user-mode clients.
//!
//! This crate is the glue: callbacks translate in, call safe code, translate out. What the driver does when
//! is decided in `sluice-core`; how the kernel and NDIS are used is decided in `sluice-kernel` and
//! `sluice-ndis`.
#![no_std]

mod attach;
mod callbacks;
mod device;
mod entry;
mod handle;
mod module;
mod modules;
mod request;
mod send;
mod slab;
mod status;
mod text;

use sluice_kernel::pool::Tag;

// Linked for its panic handler, which stops the machine as an assertion in a driver does.
extern crate wdk_panic;

/// `wdk` needs an allocator to exist. This driver allocates through `sluice_kernel::pool` only, which
/// reports failure; nothing here uses `alloc`.
#[global_allocator]
static ALLOCATOR: wdk_alloc::WdkAllocator = wdk_alloc::WdkAllocator;

/// Tag of everything that this driver allocates.
const TAG: Tag = Tag::new(*b"Slce");
