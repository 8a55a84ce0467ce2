//! The control device: what a client may ask, and what it is answered.
use sluice_abi::{
    ABI_MAJOR, ABI_MINOR, IOCTL_BIND, IOCTL_LIST, IOCTL_SEND, IOCTL_STATISTICS, IOCTL_VERSION, ListHeader,
    MAX_FRAMES, ModuleRecord, VersionReply,
};
use sluice_core::lifecycle::State;
use sluice_core::request::parse_bind;
use sluice_kernel::device::{ControlDevice, DeviceObject};
use sluice_kernel::irp::{Control, Disposition, File, Irp};
use sluice_kernel::irql::Passive;
use sluice_kernel::pool::Tag;
use sluice_kernel::shared::{OnceShared, Shared};
use sluice_ndis::driver::{self, Driver};
use sluice_ndis::trace;
use wdk_sys::NTSTATUS;
use zerocopy::IntoBytes;

use crate::module::{MODULES, Module};
use crate::{Sluice, TAG, status};

/// The device.
pub(crate) struct Device;

/// What a client's handle stands for: at most one module, bound once.
#[derive(Default)]
pub(crate) struct ClientHandle(OnceShared<Module>);

impl ClientHandle {
    /// The interface of the module that it is bound to, or 0.
    fn interface(&self) -> u32 {
        self.0.get().map_or(0, |module| module.info.if_index)
    }
}

impl Drop for ClientHandle {
    fn drop(&mut self) {
        if let Some(module) = self.0.get() {
            module.handle_closed();
        }
    }
}

impl ControlDevice for Device {
    type Handle = ClientHandle;
    const TAG: Tag = TAG;

    fn create(_passive: &mut Passive<'_>, _device: DeviceObject) -> Result<ClientHandle, NTSTATUS> {
        Ok(ClientHandle::default())
    }

    fn cleanup(passive: &mut Passive<'_>, handle: &ClientHandle, file: File) {
        if let Some(module) = handle.0.get() {
            module.cancel_all(passive, file);
        }
    }

    fn control(passive: &mut Passive<'_>, irp: Irp, control: Control, handle: &ClientHandle) -> Disposition {
        match control.code {
            IOCTL_VERSION => version(irp),
            IOCTL_LIST => list(passive, irp),
            IOCTL_BIND => bind(passive, irp, handle),
            IOCTL_SEND => send(passive, irp, handle),
            IOCTL_STATISTICS => statistics(passive, irp, control, handle),
            code => refuse(irp, handle.interface(), code, status::INVALID_DEVICE_REQUEST),
        }
    }
}

/// Completes a request of which nothing was done.
pub(crate) fn refuse(irp: Irp, interface: u32, code: u32, refused: NTSTATUS) -> Disposition {
    trace::refused(interface, code, refused);
    irp.complete(refused, 0)
}

/// Completes a buffered request with one record.
fn reply(mut irp: Irp, record: &(impl IntoBytes + zerocopy::Immutable)) -> Disposition {
    let bytes = record.as_bytes();
    match irp.output().get_mut(..bytes.len()) {
        Some(output) => output.copy_from_slice(bytes),
        None => return irp.complete(status::BUFFER_TOO_SMALL, 0),
    }
    irp.complete(status::SUCCESS, bytes.len())
}

fn version(irp: Irp) -> Disposition {
    let record = VersionReply {
        abi_major: ABI_MAJOR,
        abi_minor: ABI_MINOR,
        driver_major: u16::from(Sluice::VERSION.0),
        driver_minor: u16::from(Sluice::VERSION.1),
        ndis_version: driver::ndis_version(),
        max_frames: MAX_FRAMES as u32,
    };
    reply(irp, &record)
}

fn list(passive: &mut Passive<'_>, mut irp: Irp) -> Disposition {
    let output = irp.output();
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

/// The module of the adapter with this GUID.
fn find(passive: &mut Passive<'_>, guid: &[u8; 16]) -> Option<Shared<Module>> {
    MODULES.find(passive, |module| module.info.guid == *guid)
}

fn bind(passive: &mut Passive<'_>, irp: Irp, handle: &ClientHandle) -> Disposition {
    let guid = match parse_bind(irp.input()) {
        Ok(guid) => guid,
        Err(refusal) => return refuse(irp, handle.interface(), IOCTL_BIND, status::of_refusal(refusal)),
    };
    let Some(module) = find(passive, &guid) else {
        return refuse(irp, handle.interface(), IOCTL_BIND, status::NOT_FOUND);
    };
    if !handle.0.set(module.clone()) {
        return refuse(irp, handle.interface(), IOCTL_BIND, status::INVALID_DEVICE_STATE);
    }
    // Counted out when the handle is closed, which comes after this request.
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
        module.handle().restart(passive)
    });
    match (asked, irp) {
        (None, Some(irp)) => drop(irp.complete(status::DEVICE_REMOVED, 0)),
        (Some(Err(_)), _) => {
            // NDIS could not schedule the restart; the request is still there unless somebody was faster.
            if let Some(irp) = module.binding.pop() {
                let _ = irp.complete(status::INSUFFICIENT_RESOURCES, 0);
            }
        }
        _ => {}
    }
    disposition
}

fn send(passive: &mut Passive<'_>, irp: Irp, handle: &ClientHandle) -> Disposition {
    match handle.0.get() {
        None => refuse(irp, handle.interface(), IOCTL_SEND, status::INVALID_DEVICE_STATE),
        Some(module) if module.life.state() == State::Detached => {
            refuse(irp, handle.interface(), IOCTL_SEND, status::DEVICE_REMOVED)
        }
        Some(module) => module.send(passive, irp),
    }
}

fn statistics(passive: &mut Passive<'_>, irp: Irp, control: Control, handle: &ClientHandle) -> Disposition {
    let found = if control.input_length == 0 {
        handle.0.get().map(|module| module.statistics(passive)).ok_or(status::INVALID_DEVICE_STATE)
    } else {
        parse_bind(irp.input()).map_err(status::of_refusal).and_then(|guid| {
            find(passive, &guid).map(|module| module.statistics(passive)).ok_or(status::NOT_FOUND)
        })
    };
    match found {
        Ok(statistics) => reply(irp, &statistics),
        Err(refused) => refuse(irp, handle.interface(), IOCTL_STATISTICS, refused),
    }
}
