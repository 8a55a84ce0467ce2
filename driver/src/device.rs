//! The control device: create, cleanup, close, and device control.
#![expect(unsafe_code, reason = "dispatch routines receive pointers")]
use core::ptr::NonNull;

use sluice_abi::{
    ABI_MAJOR, ABI_MINOR, IOCTL_BIND, IOCTL_LIST, IOCTL_SEND, IOCTL_STATISTICS, IOCTL_VERSION, ListHeader,
    MAX_FRAMES, ModuleRecord, VersionReply,
};
use sluice_core::lifecycle::State;
use sluice_core::request::parse_bind;
use sluice_kernel::irp::{Control, Disposition, Irp};
use sluice_kernel::irql::Passive;
use wdk_sys::{DEVICE_OBJECT, IRP, NTSTATUS, PDRIVER_DISPATCH};
use zerocopy::IntoBytes;

use crate::handle::ClientHandle;
use crate::modules::MODULES;
use crate::{entry, status};

const IRP_MJ_CREATE: usize = 0x00;
const IRP_MJ_CLOSE: usize = 0x02;
const IRP_MJ_DEVICE_CONTROL: usize = 0x0E;
const IRP_MJ_CLEANUP: usize = 0x12;

/// The dispatch table of the device: what is not here, the I/O manager refuses.
pub(crate) fn dispatch_table() -> [PDRIVER_DISPATCH; 28] {
    let mut table: [PDRIVER_DISPATCH; 28] = [None; 28];
    table[IRP_MJ_CREATE] = Some(create);
    table[IRP_MJ_CLOSE] = Some(close);
    table[IRP_MJ_DEVICE_CONTROL] = Some(control);
    table[IRP_MJ_CLEANUP] = Some(cleanup);
    table
}

/// Runs a dispatch routine's work.
///
/// # Safety
/// The caller is a dispatch routine of this device and passes on what it received.
unsafe fn dispatch(irp: *mut IRP, work: impl FnOnce(&mut Passive<'_>, Irp) -> Disposition) -> NTSTATUS {
    let Some(irp) = NonNull::new(irp) else { return status::INVALID_PARAMETER };
    // SAFETY: the I/O manager hands the IRP over.
    let irp = unsafe { Irp::from_raw(irp) };
    // SAFETY: requests of user-mode clients arrive at PASSIVE_LEVEL, and no driver sits above this device.
    let mut passive = unsafe { Passive::assume() };
    work(&mut passive, irp).status()
}

unsafe extern "C" fn create(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    let work = |_: &mut Passive<'_>, irp: Irp| {
        // SAFETY: this is IRP_MJ_CREATE.
        match unsafe { ClientHandle::open(irp.file()) } {
            Ok(()) => irp.complete(status::SUCCESS, 0),
            Err(_) => irp.complete(status::INSUFFICIENT_RESOURCES, 0),
        }
    };
    // SAFETY: this is a dispatch routine.
    unsafe { dispatch(irp, work) }
}

/// The last handle to the file object was closed: what it has waiting or out is cancelled. The I/O manager
/// sends `IRP_MJ_CLOSE` when all of it has completed.
unsafe extern "C" fn cleanup(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    let work = |passive: &mut Passive<'_>, irp: Irp| {
        let file = irp.file();
        // SAFETY: the file is open until IRP_MJ_CLOSE.
        if let Some(module) = unsafe { ClientHandle::of(file) }.and_then(ClientHandle::module) {
            module.cancel_all(passive, file);
        }
        irp.complete(status::SUCCESS, 0)
    };
    // SAFETY: this is a dispatch routine.
    unsafe { dispatch(irp, work) }
}

unsafe extern "C" fn close(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    let work = |_: &mut Passive<'_>, irp: Irp| {
        // SAFETY: this is IRP_MJ_CLOSE.
        unsafe { ClientHandle::close(irp.file()) };
        irp.complete(status::SUCCESS, 0)
    };
    // SAFETY: this is a dispatch routine.
    unsafe { dispatch(irp, work) }
}

unsafe extern "C" fn control(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    let work = |passive: &mut Passive<'_>, irp: Irp| {
        // SAFETY: this is IRP_MJ_DEVICE_CONTROL.
        let control = unsafe { irp.control() };
        // SAFETY: the file is open until IRP_MJ_CLOSE, which waits for this request.
        let Some(handle) = (unsafe { ClientHandle::of(irp.file()) }) else {
            return irp.complete(status::INVALID_DEVICE_STATE, 0);
        };
        match control.code {
            IOCTL_VERSION => version(irp, control),
            IOCTL_LIST => list(passive, irp, control),
            IOCTL_BIND => bind(passive, irp, control, handle),
            IOCTL_SEND => send(passive, irp, handle),
            IOCTL_STATISTICS => statistics(passive, irp, control, handle),
            _ => irp.complete(status::INVALID_DEVICE_REQUEST, 0),
        }
    };
    // SAFETY: this is a dispatch routine.
    unsafe { dispatch(irp, work) }
}

/// Completes a buffered request with one record.
fn reply(mut irp: Irp, control: Control, record: &(impl IntoBytes + zerocopy::Immutable)) -> Disposition {
    let bytes = record.as_bytes();
    // SAFETY: the control codes that come here are buffered.
    match unsafe { irp.output(control.output_length) }.get_mut(..bytes.len()) {
        Some(output) => output.copy_from_slice(bytes),
        None => return irp.complete(status::BUFFER_TOO_SMALL, 0),
    }
    irp.complete(status::SUCCESS, bytes.len())
}

fn version(irp: Irp, control: Control) -> Disposition {
    let record = VersionReply {
        abi_major: ABI_MAJOR,
        abi_minor: ABI_MINOR,
        driver_major: u16::from(entry::VERSION.0),
        driver_minor: u16::from(entry::VERSION.1),
        ndis_version: entry::ndis_version(),
        max_frames: MAX_FRAMES as u32,
    };
    reply(irp, control, &record)
}

fn list(passive: &mut Passive<'_>, mut irp: Irp, control: Control) -> Disposition {
    // SAFETY: IOCTL_LIST is buffered.
    let output = unsafe { irp.output(control.output_length) };
    let Some((header_bytes, mut records)) = output.split_at_mut_checked(size_of::<ListHeader>()) else {
        return irp.complete(status::BUFFER_TOO_SMALL, 0);
    };
    let mut header = ListHeader::default();
    MODULES.visit(passive, |module| {
        header.total += 1;
        let rest = core::mem::take(&mut records);
        if let Some((place, rest)) = rest.split_at_mut_checked(size_of::<ModuleRecord>()) {
            place.copy_from_slice(module.describe().as_bytes());
            header.count += 1;
            records = rest;
        }
    });
    header_bytes.copy_from_slice(header.as_bytes());
    let length = size_of::<ListHeader>() + header.count as usize * size_of::<ModuleRecord>();
    irp.complete(status::SUCCESS, length)
}

fn bind(passive: &mut Passive<'_>, irp: Irp, control: Control, handle: &ClientHandle) -> Disposition {
    // SAFETY: IOCTL_BIND is buffered.
    let guid = match parse_bind(unsafe { irp.input(control.input_length) }) {
        Ok(guid) => guid,
        Err(refusal) => return irp.complete(status::of_refusal(refusal), 0),
    };
    let Some(module) = MODULES.find(passive, &guid) else {
        return irp.complete(status::NOT_FOUND, 0);
    };
    if !handle.bind(module.clone()) {
        return irp.complete(status::INVALID_DEVICE_STATE, 0);
    }
    if !module.handle_bound() {
        return irp.complete(status::SUCCESS, 0);
    }
    // The data handlers are installed by a restart of the stack; the request completes when the module runs.
    let (irp, disposition) = irp.pend();
    let mut irp = Some(irp);
    // Detaching runs this down before it answers what waits, so nothing is queued behind its back.
    let asked = module.rundown.enter(|| {
        if let Some(irp) = irp.take() {
            module.binding.push(irp);
        }
        module.handle.restart()
    });
    match (asked, irp) {
        (None, Some(irp)) => drop(irp.complete(status::DEVICE_REMOVED, 0)),
        (Some(Err(_)), _) => {
            // NDIS could not schedule the restart; the request is still there unless somebody was faster.
            if let Some(irp) = module.binding.pop(core::ptr::null_mut()) {
                let _ = irp.complete(status::INSUFFICIENT_RESOURCES, 0);
            }
        }
        _ => {}
    }
    disposition
}

fn send(passive: &mut Passive<'_>, irp: Irp, handle: &ClientHandle) -> Disposition {
    match handle.module() {
        None => irp.complete(status::INVALID_DEVICE_STATE, 0),
        Some(module) if module.life.state() == State::Detached => irp.complete(status::DEVICE_REMOVED, 0),
        // SAFETY: the control code is IOCTL_SEND.
        Some(module) => unsafe { module.send(passive, irp) },
    }
}

fn statistics(passive: &mut Passive<'_>, irp: Irp, control: Control, handle: &ClientHandle) -> Disposition {
    let found = if control.input_length == 0 {
        handle.module().map(|module| module.statistics(passive)).ok_or(status::INVALID_DEVICE_STATE)
    } else {
        // SAFETY: IOCTL_STATISTICS is buffered.
        parse_bind(unsafe { irp.input(control.input_length) }).map_err(status::of_refusal).and_then(|guid| {
            MODULES.find(passive, &guid).map(|module| module.statistics(passive)).ok_or(status::NOT_FOUND)
        })
    };
    match found {
        Ok(statistics) => reply(irp, control, &statistics),
        Err(refused) => irp.complete(refused, 0),
    }
}
