//! The control device: what a client may ask, and what it is answered.
use sluice_abi::{
    ABI_MAJOR, ABI_MINOR, IOCTL_BIND, IOCTL_LIST, IOCTL_SEND, IOCTL_STATISTICS, IOCTL_VERSION, ListHeader,
    MAX_FRAMES, ModuleRecord, VersionReply,
};
use sluice_core::lifecycle::State;
use sluice_core::request::parse_bind;
use sluice_kernel::device::{ControlDevice, DeviceObject, Request};
use sluice_kernel::irp::{Disposition, File};
use sluice_kernel::irql::Passive;
use sluice_kernel::pool::Tag;
use sluice_kernel::shared::Shared;
use sluice_ndis::driver::{self, Driver};
use sluice_ndis::trace;
use wdk_sys::NTSTATUS;
use zerocopy::IntoBytes;

use crate::bind::ClientHandle;
use crate::module::{MODULES, Module};
use crate::{Sluice, TAG, status};

/// The device.
pub(crate) struct Device;

impl ControlDevice for Device {
    type Handle = ClientHandle;
    const TAG: Tag = TAG;

    fn create(_passive: &mut Passive<'_>, _device: DeviceObject) -> Result<ClientHandle, NTSTATUS> {
        Ok(ClientHandle::new())
    }

    fn cleanup(passive: &mut Passive<'_>, handle: &ClientHandle, file: File) {
        handle.cancel_bind(passive, file);
        if let Some(module) = handle.module() {
            module.cancel_all(passive, file);
        }
    }

    fn control<'a>(passive: &mut Passive<'_>, request: Request<'a, ClientHandle>) -> Disposition<'a> {
        match request.parameters().code {
            IOCTL_VERSION => version(request),
            IOCTL_LIST => list(passive, request),
            IOCTL_BIND => bind(passive, request),
            IOCTL_SEND => send(passive, request),
            IOCTL_STATISTICS => statistics(passive, request),
            _ => refuse(request, status::INVALID_DEVICE_REQUEST),
        }
    }
}

/// Answers a request of which nothing was done.
pub(crate) fn refuse(request: Request<'_, ClientHandle>, refused: NTSTATUS) -> Disposition<'_> {
    let interface = request.handle().module().map_or(0, |module| module.info.if_index);
    trace::refused(interface, request.parameters().code, refused);
    request.complete(refused, 0)
}

/// Answers a buffered request with one record.
fn reply<'a>(
    mut request: Request<'a, ClientHandle>,
    record: &(impl IntoBytes + zerocopy::Immutable),
) -> Disposition<'a> {
    let bytes = record.as_bytes();
    match request.output().get_mut(..bytes.len()) {
        Some(output) => output.copy_from_slice(bytes),
        None => return request.complete(status::BUFFER_TOO_SMALL, 0),
    }
    request.complete(status::SUCCESS, bytes.len())
}

fn version(request: Request<'_, ClientHandle>) -> Disposition<'_> {
    let record = VersionReply {
        abi_major: ABI_MAJOR,
        abi_minor: ABI_MINOR,
        driver_major: u16::from(Sluice::VERSION.0),
        driver_minor: u16::from(Sluice::VERSION.1),
        ndis_version: driver::ndis_version(),
        max_frames: MAX_FRAMES as u32,
    };
    reply(request, &record)
}

fn list<'a>(passive: &mut Passive<'_>, mut request: Request<'a, ClientHandle>) -> Disposition<'a> {
    let output = request.output();
    let Some((header_bytes, mut records)) = output.split_at_mut_checked(size_of::<ListHeader>()) else {
        return request.complete(status::BUFFER_TOO_SMALL, 0);
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
    request.complete(status::SUCCESS, length)
}

/// The module of the adapter with this GUID.
fn find(passive: &mut Passive<'_>, guid: &[u8; 16]) -> Option<Shared<Module>> {
    MODULES.find(passive, |module| module.info.guid == *guid)
}

fn bind<'a>(passive: &mut Passive<'_>, request: Request<'a, ClientHandle>) -> Disposition<'a> {
    let guid = match parse_bind(request.input()) {
        Ok(guid) => guid,
        Err(refusal) => return refuse(request, status::of_refusal(refusal)),
    };
    let Some(module) = find(passive, &guid) else {
        return refuse(request, status::NOT_FOUND);
    };
    if !request.handle().begin(passive, &module) {
        return refuse(request, status::INVALID_DEVICE_STATE);
    }
    Module::bind(&module, passive, request)
}

fn send<'a>(passive: &mut Passive<'_>, request: Request<'a, ClientHandle>) -> Disposition<'a> {
    let module = request.handle().module().map(|module| module.clone());
    match module {
        None => refuse(request, status::INVALID_DEVICE_STATE),
        Some(module) if module.life.state() == State::Detached => refuse(request, status::DEVICE_REMOVED),
        Some(module) => Module::send(&module, passive, request),
    }
}

fn statistics<'a>(passive: &mut Passive<'_>, request: Request<'a, ClientHandle>) -> Disposition<'a> {
    let found = if request.parameters().input_length == 0 {
        let module = request.handle().module();
        module.map(|module| module.statistics(passive)).ok_or(status::INVALID_DEVICE_STATE)
    } else {
        parse_bind(request.input()).map_err(status::of_refusal).and_then(|guid| {
            find(passive, &guid).map(|module| module.statistics(passive)).ok_or(status::NOT_FOUND)
        })
    };
    match found {
        Ok(statistics) => reply(request, &statistics),
        Err(refused) => refuse(request, refused),
    }
}
