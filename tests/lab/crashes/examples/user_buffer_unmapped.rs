//! A client's buffer is unmapped while the driver reads it (second document: "never trust data of user mode"). A
//! control code with `METHOD_NEITHER` gives the driver the client's bare address; whatever was checked a moment ago,
//! another thread of the client may free it now. C drivers put `__try` around each access; Rust has no such thing,
//! and needs none.
#![no_std]

use core::ffi::c_void;
use core::ptr::null_mut;

use lab::{Entry, TAG, show};
use sluice_kernel::device::{self, ControlDevice, DeviceObject, Request};
use sluice_kernel::irp::{Disposition, File};
use sluice_kernel::irql::Passive;
use sluice_kernel::pool::Tag;
use sluice_kernel::text::Text;
use sluice_kernel::wait::{self, Timeout};
use sluice_kernel::wide;
use wdk_sys::ntddk::{
    IoCreateDevice, IoCreateSymbolicLink, IoDeleteDevice, IoDeleteSymbolicLink, IofCompleteRequest,
};
use wdk_sys::{DEVICE_OBJECT, DRIVER_OBJECT, IRP, NTSTATUS, PCUNICODE_STRING};

const DEVICE: Text = wide!("\\Device\\Lab");
const LINK: Text = wide!("\\DosDevices\\Lab");

/// `DriverEntry`.
///
/// # Safety
/// Called once, by the system.
#[unsafe(export_name = "DriverEntry")]
pub unsafe extern "system" fn driver_entry(driver: &mut DRIVER_OBJECT, path: PCUNICODE_STRING) -> NTSTATUS {
    unsafe {
        let entry = Entry::new(driver, path);
        entry.driver.DriverUnload = Some(unload);
        if entry.safe {
            entry.driver.MajorFunction = device::dispatch_table::<Safe>();
        } else {
            for routine in [0x00, 0x02, 0x12] {
                entry.driver.MajorFunction[routine] = Some(done);
            }
            entry.driver.MajorFunction[0x0E] = Some(wrong);
        }
        let (mut name, mut link) = (DEVICE.counted(), LINK.counted());
        let mut object = null_mut();
        let status = IoCreateDevice(entry.driver, 0, &raw mut name, 0x12, 0, 0, &raw mut object);
        if status != 0 {
            return status;
        }
        IoCreateSymbolicLink(&raw mut link, &raw mut name)
    }
}

unsafe extern "C" fn unload(driver: *mut DRIVER_OBJECT) {
    unsafe {
        let mut link = LINK.counted();
        let _ = IoDeleteSymbolicLink(&raw mut link);
        IoDeleteDevice((*driver).DeviceObject);
    }
}

unsafe extern "C" fn done(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    unsafe { IofCompleteRequest(irp, 0) };
    0
}

/// Reads eight bytes at the client's address, after a moment in which it had other things to do.
unsafe extern "C" fn wrong(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    unsafe {
        let buffer: *mut c_void = (*irp).UserBuffer;
        wait::sleep(&Passive::assume(), Timeout::microseconds(200));
        let value = buffer.cast::<u64>().read_unaligned();
        show(c"read %llu at %llx", value, buffer as u64);
        IofCompleteRequest(irp, 0);
    }
    0
}

/// With a direct control code the I/O manager locks the pages before the driver sees the request, and they stay until it
/// is completed: the client may unmap its own view, and write into the pages, but not take them away.
struct Safe;

impl ControlDevice for Safe {
    type Handle = ();
    const TAG: Tag = TAG;

    fn create(_passive: &mut Passive<'_>, _device: DeviceObject) -> Result<(), NTSTATUS> {
        Ok(())
    }

    fn cleanup(_passive: &mut Passive<'_>, _handle: &(), _file: File) {}

    fn control<'a>(passive: &mut Passive<'_>, request: Request<'a, ()>) -> Disposition<'a> {
        wait::sleep(passive, Timeout::microseconds(200));
        let mut value = [0; 8];
        let read = request.locked_pages().is_some_and(|pages| pages.read(0, &mut value));
        show(c"read %llu, there %llu", u64::from_le_bytes(value), u64::from(read));
        request.complete(0, 0)
    }
}
