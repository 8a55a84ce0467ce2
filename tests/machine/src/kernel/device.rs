//! Devices, symbolic links, and IRPs that drivers make.
use std::cell::RefCell;

use super::objects::{self, irp, location};
use super::{Call, Function, function};
use crate::machine::Machine;
use crate::memory::{Use, get, put, text};
use crate::rule;

pub(super) const FUNCTIONS: &[Function] = &[
    function!("IoCreateDevice", 7, Passive, IRQL_CREATE_DEVICE, create),
    function!("IoCreateDeviceSecure", 9, Passive, IRQL_CREATE_DEVICE, create),
    function!("WdmlibIoCreateDeviceSecure", 9, Passive, IRQL_CREATE_DEVICE, create),
    function!("IoDeleteDevice", 1, Apc, IRQL_DELETE_DEVICE, |machine, call| {
        machine.checked();
        if !machine.io.remove_device(call.arg(0)) {
            let text = "A device is deleted that is deleted already, or is none";
            machine.stop(&rule::DEVICE_TWICE, [call.arg(0), 0, 0], text);
            return 0;
        }
        objects::unlink_device(call.arg(0));
        0
    }),
    function!("IoCreateSymbolicLink", 2, Passive, IRQL_CREATE_LINK, |machine, call| {
        let (link, target) = (text(call.arg(0)), text(call.arg(1)));
        if machine.io.link(&link, &target) { 0 } else { u64::from(NAME_COLLISION) }
    }),
    function!("IoDeleteSymbolicLink", 1, Passive, IRQL_DELETE_LINK, |machine, call| {
        if machine.io.unlink(&text(call.arg(0))) { 0 } else { u64::from(NAME_NOT_FOUND) }
    }),
    function!("IoAllocateIrp", 2, Dispatch, |machine, call| {
        if machine.pool_fails() {
            return 0;
        }
        let stack = call.arg(0) as u8;
        let length = irp::SIZE + u64::from(stack) * location::SIZE;
        let request = machine.memory.allocate(length, Use::System("IRP"));
        put::<u16>(request, 6);
        put::<u16>(request + 2, length as u16);
        put::<u8>(request + irp::STACK_COUNT, stack);
        put::<u8>(request + irp::CURRENT_LOCATION, stack + 1);
        put::<u64>(request + irp::STACK_LOCATION, request + length);
        machine.kernel.devices.irps.borrow_mut().push(request);
        request
    }),
    function!("IoFreeIrp", 1, Dispatch, |machine, call| {
        let mut irps = machine.kernel.devices.irps.borrow_mut();
        let place = irps.iter().position(|request| *request == call.arg(0));
        if let Some(place) = place {
            irps.remove(place);
            drop(irps);
            machine.memory.free(call.arg(0));
        } else {
            drop(irps);
            machine.stop(&rule::OBJECT, [call.arg(0), 0, 0], "An IRP is freed that is none: freed twice?");
        }
        0
    }),
    function!("IofCallDriver", 2, Dispatch, IRP_CALL_IRQL, |machine, call| {
        let (device, request) = (call.arg(0), call.arg(1));
        // The I/O manager goes to the next stack location, and calls the device's driver.
        let current = get::<u8>(request + irp::CURRENT_LOCATION) - 1;
        let stack = get::<u64>(request + irp::STACK_LOCATION) - location::SIZE;
        put::<u8>(request + irp::CURRENT_LOCATION, current);
        put::<u64>(request + irp::STACK_LOCATION, stack);
        put::<u64>(stack + location::DEVICE, device);
        let major: u8 = get(stack + location::MAJOR);
        match machine.io.routine(device, major) {
            0 => u64::from(INVALID_DEVICE_REQUEST),
            routine => machine.call(routine, &[device, request]),
        }
    }),
];

/// `STATUS_OBJECT_NAME_COLLISION`, `STATUS_OBJECT_NAME_NOT_FOUND`, `STATUS_INVALID_DEVICE_REQUEST`.
const NAME_COLLISION: u32 = 0xC000_0035;
const NAME_NOT_FOUND: u32 = 0xC000_0034;
const INVALID_DEVICE_REQUEST: u32 = 0xC000_0010;
/// `STATUS_INSUFFICIENT_RESOURCES`.
const INSUFFICIENT_RESOURCES: u32 = 0xC000_009A;

/// IRPs that drivers made, and tags of remove locks that are held.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    irps: RefCell<Vec<u64>>,
    pub(crate) remove_tags: RefCell<Vec<(u64, u64)>>,
}

fn create(machine: &Machine, call: &Call<'_>) -> u64 {
    if machine.pool_fails() {
        return u64::from(INSUFFICIENT_RESOURCES);
    }
    let name = if call.arg(2) == 0 { String::new() } else { text(call.arg(2)) };
    let sddl = if call.function.arguments == 9 { text(call.arg(6)) } else { "D:P(A;;GA;;;WD)".to_owned() };
    if !name.is_empty() && machine.io.has_device(&name) {
        return u64::from(NAME_COLLISION);
    }
    let object = objects::device_object(call.arg(0), u64::from(call.arg32(1)));
    put::<u32>(object + objects::CHARACTERISTICS, call.arg32(4));
    machine.io.add_named_device(object, call.arg(0), name, sddl);
    objects::link_device(object);
    // The secure variant has the class GUID before the place of the result.
    let out = if call.function.arguments == 9 { call.arg(8) } else { call.arg(6) };
    put::<u64>(out, object);
    0
}
