//! A filter driver whose clients exercise every primitive of `sluice-kernel`, and NDIS's reader-writer lock: each
//! control code is an exercise (`exercise.rs`), and several clients run it at once. The answer is a number that the
//! test knows.
#![no_std]
#![forbid(unsafe_code)]
#![expect(clippy::unnecessary_wraps, reason = "all exercises have one signature")]

mod exercise;

use sluice_kernel::device::{ControlDevice, DeviceObject, Request};
use sluice_kernel::irp::{Disposition, File};
use sluice_kernel::irql::{AtMostDispatch, Passive};
use sluice_kernel::list::SharedList;
use sluice_kernel::pool::Tag;
use sluice_kernel::shared::Shared;
use sluice_kernel::wide;
use sluice_ndis::Status;
use sluice_ndis::driver::{Adapter, Driver, Filter, Names, Pause, Restart, RestartAttributes};
use sluice_ndis::filter::{Handle, PauseComplete};
use sluice_ndis::list::Chain;
use sluice_ndis::oid::Passage;
use wdk_sys::{
    NTSTATUS, STATUS_BUFFER_TOO_SMALL, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_DEVICE_REQUEST,
    STATUS_NO_SUCH_DEVICE,
};

use crate::exercise::Bench;

extern crate wdk_panic;

const TAG: Tag = Tag::new(*b"mirP");

/// Every module, of which clients take the first.
static BENCHES: SharedList<Bench> = SharedList::new();

struct Primitives;

sluice_ndis::driver_entry!(Primitives);

impl Driver for Primitives {
    type Module = Bench;
    type Device = Device;
    const VERSION: (u8, u8) = (0, 1);

    fn names() -> Names {
        Names {
            friendly: wide!("Primitives"),
            unique: wide!("{5D1F6AC4-8E7C-4AE4-9E24-5B8A3C0C71A9}"),
            service: wide!("primitives"),
            device: wide!("\\Device\\Primitives"),
            symbolic: wide!("\\DosDevices\\Primitives"),
            sddl: wide!("D:P(A;;GA;;;SY)(A;;GA;;;BA)"),
        }
    }
}

impl Filter for Bench {
    const TAG: Tag = TAG;

    fn attach(
        passive: &mut Passive<'_>,
        handle: Handle,
        _adapter: Adapter<'_>,
    ) -> Result<Shared<Self>, Status> {
        let bench = Self::new(passive, handle).and_then(|bench| Shared::new(bench, TAG));
        let bench = bench.map_err(|_| STATUS_INSUFFICIENT_RESOURCES)?;
        bench.start(&bench);
        Ok(bench)
    }

    fn attached(this: &Shared<Self>, passive: &mut Passive<'_>) -> Result<(), Status> {
        BENCHES.add(passive, this.clone(), TAG).map_err(|_| STATUS_INSUFFICIENT_RESOURCES)
    }

    fn detach(this: &Shared<Self>, passive: &mut Passive<'_>) {
        BENCHES.remove(passive, this);
        this.stop(passive);
    }

    fn wants_handlers(_this: &Shared<Self>, _passive: &mut Passive<'_>) -> bool {
        false
    }

    fn handlers_set(_this: &Shared<Self>, _installed: bool) {}

    fn restart(
        _this: &Shared<Self>,
        _passive: &mut Passive<'_>,
        _attributes: Option<RestartAttributes>,
    ) -> Result<Restart, Status> {
        Ok(Restart::Complete)
    }

    fn pause(_this: &Shared<Self>, _passive: &mut Passive<'_>) -> Pause {
        Pause::Complete
    }

    fn send(this: &Shared<Self>, level: &mut AtMostDispatch<'_>, lists: Chain, port: u32, flags: u32) {
        this.oids().module().forward_send(level, lists, port, flags);
    }

    fn send_complete(
        this: &Shared<Self>,
        level: &mut AtMostDispatch<'_>,
        lists: Chain,
        flags: u32,
    ) -> Option<PauseComplete> {
        this.oids().module().complete_send(level, lists, flags);
        None
    }

    fn oids(&self) -> &Passage {
        &self.oids
    }
}

struct Device;

/// What a handle stands for: the bench, and the device for work items.
struct Client {
    bench: Shared<Bench>,
    device: DeviceObject,
}

impl ControlDevice for Device {
    type Handle = Client;
    const TAG: Tag = TAG;

    fn create(passive: &mut Passive<'_>, device: DeviceObject) -> Result<Client, NTSTATUS> {
        let bench = BENCHES.find(passive, |_| true).ok_or(STATUS_NO_SUCH_DEVICE)?;
        Ok(Client { bench, device })
    }

    fn cleanup(_passive: &mut Passive<'_>, _handle: &Client, _file: File) {}

    fn control<'a>(passive: &mut Passive<'_>, mut request: Request<'a, Client>) -> Disposition<'a> {
        let number = (request.parameters().code >> 2 & 0xFFF) as usize;
        let Some(exercise) = exercise::ALL.get(number) else {
            return request.complete(STATUS_INVALID_DEVICE_REQUEST, 0);
        };
        let Client { bench, device } = request.handle();
        let Some(result) = exercise(passive, bench, *device) else {
            return request.complete(STATUS_INSUFFICIENT_RESOURCES, 0);
        };
        match request.output().first_chunk_mut() {
            Some(place) => *place = result.to_le_bytes(),
            None => return request.complete(STATUS_BUFFER_TOO_SMALL, 0),
        }
        request.complete(0, 8)
    }
}
