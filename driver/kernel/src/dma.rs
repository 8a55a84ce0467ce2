//! DMA adapters and common buffers (pages "`IoGetDmaAdapter`", "`PALLOCATE_COMMON_BUFFER`").
#![expect(
    unsafe_code,
    reason = "calls through the adapter's operations; owns memory that a device may touch"
)]
use core::mem::offset_of;
use core::ptr::NonNull;

use wdk_sys::ntddk::IoGetDmaAdapter;
use wdk_sys::{DEVICE_OBJECT, DMA_ADAPTER, DMA_OPERATIONS, PHYSICAL_ADDRESS};

use crate::irql::Passive;

/// `DEVICE_DESCRIPTION_VERSION2`.
const DESCRIPTION_VERSION: u32 = 2;
/// `PAGE_SIZE`.
const PAGE: u32 = 4096;
/// `InterfaceTypeUndefined`: the driver of the device knows its bus, and a filter above it does not.
const INTERFACE_UNDEFINED: i32 = -1;

/// `DEVICE_DESCRIPTION` as the system reads it (page "`DEVICE_DESCRIPTION`"). The headers that the Linux build uses end
/// it after `DmaPort`, where Windows reads on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct DeviceDescription {
    version: u32,
    master: u8,
    scatter_gather: u8,
    demand_mode: u8,
    auto_initialize: u8,
    dma_32_bit_addresses: u8,
    ignore_count: u8,
    reserved: u8,
    dma_64_bit_addresses: u8,
    bus_number: u32,
    dma_channel: u32,
    interface_type: i32,
    dma_width: i32,
    dma_speed: i32,
    maximum_length: u32,
    dma_port: u32,
    dma_address_width: u32,
    dma_controller_instance: u32,
    dma_request_line: u32,
    /// What the compiler would leave unwritten in front of the address.
    padding: u32,
    device_address: u64,
}

const _: () = {
    assert!(size_of::<DeviceDescription>() == 64 && align_of::<DeviceDescription>() == 8);
    assert!(offset_of!(DeviceDescription, interface_type) == 0x14);
    assert!(offset_of!(DeviceDescription, maximum_length) == 0x20);
    assert!(offset_of!(DeviceDescription, dma_address_width) == 0x28);
    assert!(offset_of!(DeviceDescription, device_address) == 0x38);
};

/// A DMA adapter. [`DmaAdapter::put`] gives it up, and dropping it does the same; both are for `PASSIVE_LEVEL`.
#[derive(Debug)]
pub struct DmaAdapter(NonNull<DMA_ADAPTER>);

// SAFETY: an adapter object is not tied to a thread.
unsafe impl Send for DmaAdapter {}
// SAFETY: its operations may be called from any thread.
unsafe impl Sync for DmaAdapter {}

impl DmaAdapter {
    /// The adapter of a bus-master device with 64-bit addresses, or the HAL's own for a null device object, for common
    /// buffers: nothing is transferred through it.
    ///
    /// # Safety
    /// `device` is null or the physical device object of a started device, and that device is not removed
    /// before the adapter is dropped.
    pub unsafe fn of(_passive: &Passive<'_>, device: *mut DEVICE_OBJECT) -> Option<Self> {
        let mut description = DeviceDescription {
            version: DESCRIPTION_VERSION,
            master: 1,
            scatter_gather: 1,
            dma_32_bit_addresses: 1,
            dma_64_bit_addresses: 1,
            interface_type: INTERFACE_UNDEFINED,
            // By this the system reserves map registers, which common buffers do not need.
            maximum_length: PAGE,
            ..DeviceDescription::default()
        };
        let mut map_registers = 0;
        let description = (&raw mut description).cast();
        // SAFETY: the token shows PASSIVE_LEVEL; the caller vouches for the device; the rest are locals, of which the
        // description has the system's layout.
        let adapter = unsafe { IoGetDmaAdapter(device, description, &raw mut map_registers) };
        NonNull::new(adapter).map(Self)
    }

    fn operations(&self) -> &DMA_OPERATIONS {
        // SAFETY: an adapter lives until it is put, and so does its table of operations.
        let operations = unsafe { self.0.as_ref() }.DmaOperations;
        // SAFETY: every adapter has a table.
        unsafe { &*operations }
    }

    /// Allocates `length` bytes that processor and device both reach at any time.
    pub fn common_buffer(&self, _passive: &Passive<'_>, length: u32) -> Option<CommonBuffer> {
        let allocate = self.operations().AllocateCommonBuffer?;
        let mut logical = PHYSICAL_ADDRESS::default();
        // SAFETY: the token shows PASSIVE_LEVEL; the adapter is alive.
        let memory = unsafe { allocate(self.0.as_ptr(), length, &raw mut logical, 1) };
        NonNull::new(memory.cast()).map(|memory| CommonBuffer { memory, logical, length })
    }

    /// Gives the adapter up. Its common buffers are freed before.
    pub fn put(self, _passive: &Passive<'_>) {
        drop(self);
    }

    /// Frees a common buffer of this adapter.
    ///
    /// # Safety
    /// The buffer is this adapter's, and no device touches it any more.
    pub unsafe fn free(&self, _passive: &Passive<'_>, buffer: CommonBuffer) {
        let Some(free) = self.operations().FreeCommonBuffer else { return };
        let CommonBuffer { memory, logical, length } = buffer;
        // SAFETY: the token shows PASSIVE_LEVEL; all parameters are those of the allocation.
        unsafe { free(self.0.as_ptr(), length, logical, memory.as_ptr().cast(), 1) };
    }
}

impl Drop for DmaAdapter {
    fn drop(&mut self) {
        if let Some(put) = self.operations().PutDmaAdapter {
            // SAFETY: the adapter is not used again.
            unsafe { put(self.0.as_ptr()) };
        }
    }
}

/// Memory that a device may touch at any time. It has no `Drop`: only [`DmaAdapter::free`] frees it, and
/// that wants to be told that no device does.
#[must_use = "a common buffer that is dropped is never freed"]
pub struct CommonBuffer {
    memory: NonNull<u8>,
    logical: PHYSICAL_ADDRESS,
    length: u32,
}

// SAFETY: the buffer is memory, not tied to a thread.
unsafe impl Send for CommonBuffer {}
// SAFETY: shared access gives out addresses only.
unsafe impl Sync for CommonBuffer {}

impl CommonBuffer {
    /// Where it lies for the processor.
    pub fn address(&self) -> NonNull<u8> {
        self.memory
    }

    /// Where it lies for the device.
    pub fn logical_address(&self) -> u64 {
        // SAFETY: both halves of the union's parts are the same eight bytes.
        unsafe { self.logical.QuadPart }.cast_unsigned()
    }

    /// Bytes.
    pub fn length(&self) -> u32 {
        self.length
    }
}
