//! Compile-time assertions of the sizes and alignments of every structure of `wdk-sys` that this crate allocates, has as a
//! part of its own, or passes by value, for `x86_64` and `aarch64`.
//!
//! The values are those of Microsoft's headers (WDK 10.0.26100), which are the same on both. A build with headers that
//! say otherwise fails here, and not on the machine of a user. `DEVICE_OBJECT`, `DRIVER_OBJECT`, `FILE_OBJECT`, `IRP`,
//! `IO_STACK_LOCATION`, `MDL`, `DMA_ADAPTER` and `DMA_OPERATIONS` are reached through pointers that the system gave; of
//! them the offsets that are used are asserted beside their use, and here the sizes of those that have one in all headers.
#![cfg(target_pointer_width = "64")]
use wdk_sys::{
    DISPATCHER_HEADER, DMA_ADAPTER, DRIVER_OBJECT, ERESOURCE, EX_RUNDOWN_REF, FAST_MUTEX, FILE_OBJECT,
    IO_CSQ, IO_REMOVE_LOCK, IO_STACK_LOCATION, IO_STATUS_BLOCK, KDPC, KEVENT, KLOCK_QUEUE_HANDLE, KMUTEX,
    KSEMAPHORE, KSPIN_LOCK, KTIMER, LARGE_INTEGER, LIST_ENTRY, MDL, PHYSICAL_ADDRESS, UNICODE_STRING,
};

macro_rules! sizes {
    ($($name:ident = $size:literal),* $(,)?) => {$(const _: () = {
        assert!(size_of::<$name>() == $size);
        assert!(align_of::<$name>() == 8);
    };)*};
}

sizes! {
    DISPATCHER_HEADER = 24,
    DMA_ADAPTER = 16,
    DRIVER_OBJECT = 336,
    ERESOURCE = 104,
    EX_RUNDOWN_REF = 8,
    FAST_MUTEX = 56,
    FILE_OBJECT = 216,
    IO_CSQ = 64,
    IO_REMOVE_LOCK = 32,
    IO_STACK_LOCATION = 72,
    IO_STATUS_BLOCK = 16,
    KDPC = 64,
    KEVENT = 24,
    KLOCK_QUEUE_HANDLE = 24,
    KMUTEX = 56,
    KSEMAPHORE = 32,
    KSPIN_LOCK = 8,
    KTIMER = 64,
    LARGE_INTEGER = 8,
    LIST_ENTRY = 16,
    MDL = 48,
    PHYSICAL_ADDRESS = 8,
    UNICODE_STRING = 16,
}
