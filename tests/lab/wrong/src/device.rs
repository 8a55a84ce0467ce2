//! A control device whose device control routine is wrong.
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering::SeqCst};

use ndis_sys::*;
use wdk_sys::ntddk::{
    IofCompleteRequest, KeAcquireSpinLockRaiseToDpc, KeLowerIrql, KfRaiseIrql, MmMapLockedPagesSpecifyCache,
};
use wdk_sys::{DEVICE_OBJECT, IRP, NTSTATUS, PDRIVER_DISPATCH};

use crate::case;

static HANDLE: AtomicPtr<core::ffi::c_void> = AtomicPtr::new(null_mut());

/// Text as UTF-16, with room behind it.
const fn wide<const N: usize, const M: usize>(text: &[u8; N]) -> [u16; M] {
    let mut units = [0; M];
    let mut index = 0;
    while index < N {
        units[index] = text[index] as u16;
        index += 1;
    }
    units
}

static DEVICE_NAME: [u16; 14] = wide(b"\\Device\\Wrong");
static SYMBOLIC_NAME: [u16; 18] = wide(b"\\DosDevices\\Wrong");
static SDDL: [u16; 16] = wide(b"D:P(A;;GA;;;BA)");
/// The same three, with what lies behind them in memory: no terminator.
static OPEN_DEVICE_NAME: [u16; 16] = wide(b"\\Device\\WrongD:");
static OPEN_SYMBOLIC_NAME: [u16; 20] = wide(b"\\DosDevices\\WrongD:");
static OPEN_SDDL: [u16; 18] = wide(b"D:P(A;;GA;;;BA)\\D");

/// A text of a static that ends with a terminator; or, in the case of the name, the one that has none.
fn counted(text: &'static [u16], wrong: &str, open: &'static [u16]) -> UNICODE_STRING {
    let (length, room, text) = ((text.len() - 1) * 2, text.len() * 2, if case(wrong) { open } else { text });
    UNICODE_STRING { Length: length as u16, MaximumLength: room as u16, Buffer: text.as_ptr().cast_mut() }
}

pub(crate) fn register(driver: NDIS_HANDLE) {
    let mut table: [PDRIVER_DISPATCH; 28] = [None; 28];
    table[0x0E] = Some(control);
    let mut name = counted(&DEVICE_NAME, "device-name-open", &OPEN_DEVICE_NAME);
    let mut symbolic = counted(&SYMBOLIC_NAME, "symbolic-name-open", &OPEN_SYMBOLIC_NAME);
    let sddl = counted(&SDDL, "sddl-open", &OPEN_SDDL);
    if case("device-name-without-room") {
        name.MaximumLength = name.Length;
    }
    let attributes = NDIS_DEVICE_OBJECT_ATTRIBUTES {
        Header: NDIS_OBJECT_HEADER {
            Type: NDIS_OBJECT_TYPE_DEVICE_OBJECT_ATTRIBUTES,
            Revision: NDIS_DEVICE_OBJECT_ATTRIBUTES_REVISION_1,
            Size: NDIS_SIZEOF_DEVICE_OBJECT_ATTRIBUTES_REVISION_1,
        },
        DeviceName: &raw mut name,
        SymbolicName: &raw mut symbolic,
        MajorFunctions: table.as_mut_ptr().cast(),
        ExtensionSize: 0,
        DefaultSDDLString: &raw const sddl,
        DeviceClassGuid: core::ptr::null(),
    };
    let (mut device, mut handle) = (null_mut(), null_mut());
    unsafe { NdisRegisterDeviceEx(driver, &raw const attributes, &raw mut device, &raw mut handle) };
    HANDLE.store(handle, SeqCst);
}

pub(crate) fn deregister() {
    if !case("device-left") {
        unsafe { NdisDeregisterDeviceEx(HANDLE.load(SeqCst)) };
    }
}

fn complete(irp: *mut IRP, status: NTSTATUS, information: u64) {
    unsafe { (&raw mut (*irp).IoStatus).cast::<NTSTATUS>().write(status) };
    unsafe { (*irp).IoStatus.Information = information };
    unsafe { IofCompleteRequest(irp, 0) };
}

/// `IoMarkIrpPending`.
fn mark(irp: *mut IRP) {
    let location = unsafe { *irp.byte_add(0xB8).cast::<*mut u8>() };
    unsafe { *location.add(3) |= 1 };
}

/// A cancel routine that keeps the cancel spin lock.
unsafe extern "C" fn keeps_the_lock(_device: *mut DEVICE_OBJECT, irp: *mut IRP) {
    complete(irp, 0xC000_0120_u32 as i32, 0);
}

unsafe extern "C" fn control(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    const PENDING: NTSTATUS = 0x103;
    if case("irp-twice") {
        complete(irp, 0, 0);
        unsafe { IofCompleteRequest(irp, 0) };
    } else if case("irp-pending-unmarked") {
        return PENDING;
    } else if case("irp-marked-not-pending") {
        mark(irp);
        return 0;
    } else if case("irp-neither") {
        return 0;
    } else if case("irp-other-status") {
        complete(irp, 0, 0);
        return 0xC000_0001_u32 as i32;
    } else if case("irp-completed-pending") {
        complete(irp, PENDING, 0);
    } else if case("irp-information") {
        complete(irp, 0, 1 << 20);
    } else if case("irp-cancel-routine-left") {
        unsafe { (*irp).CancelRoutine = Some(keeps_the_lock) };
        complete(irp, 0, 0);
    } else if case("irp-above-dispatch") {
        crate::calls::KfRaiseIrql(5);
        complete(irp, 0, 0);
    } else if case("irp-illegal-status") {
        complete(irp, 0, 0);
        return -1;
    } else if case("irp-region-kept") {
        complete(irp, 0, 0);
        crate::calls::KeEnterCriticalRegion();
    } else if case("irp-cancel-ignored") {
        mark(irp);
        return PENDING;
    } else if case("user-address") {
        let mdl = unsafe { (*irp).MdlAddress };
        let address = unsafe { (*mdl).StartVa }.addr() + unsafe { (*mdl).ByteOffset } as usize;
        crate::calls::KeWaitForSingleObject(address, 0, 0, 0, crate::memory::pool(8));
    } else if case("irp-irql") {
        complete(irp, 0, 0);
        unsafe { KfRaiseIrql(2) };
    } else if case("irp-lock-on-return") {
        let mut lock = 0;
        unsafe { KeAcquireSpinLockRaiseToDpc(&raw mut lock) };
        unsafe { KeLowerIrql(0) };
        complete(irp, 0, 0);
    } else if case("cancel-lock-kept") {
        mark(irp);
        unsafe { (*irp).CancelRoutine = Some(keeps_the_lock) };
        return PENDING;
    } else if case("mutex-not-owned-in-service") {
        let mutex = crate::memory::pool(0x38);
        crate::calls::KeInitializeMutex(mutex, 0);
        crate::calls::KeReleaseMutex(mutex, 0);
        complete(irp, 0, 0);
    } else if case("mdl-mapped-twice") {
        let mdl = unsafe { (*irp).MdlAddress };
        unsafe { MmMapLockedPagesSpecifyCache(mdl, 0, 1, null_mut(), 0, 16) };
        unsafe { MmMapLockedPagesSpecifyCache(mdl, 0, 1, null_mut(), 0, 16) };
    } else {
        complete(irp, 0, 0);
    }
    0
}
