//! The I/O manager: devices, files, and requests from a client's call to their completion.
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use ndis_sys::MDL;

use crate::bugcheck::code;
use crate::kernel::objects::{self, irp, location};
use crate::machine::{Machine, current};
use crate::memory::{Use, bytes, get, put, put_bytes, set};
use crate::sched::DISPATCH;

/// `STATUS_PENDING`.
const PENDING: i32 = 0x103;
/// `STATUS_INVALID_DEVICE_REQUEST`.
const INVALID_DEVICE_REQUEST: i32 = 0xC000_0010_u32 as i32;
/// `STATUS_ACCESS_DENIED`.
const ACCESS_DENIED: i32 = 0xC000_0022_u32 as i32;
/// `STATUS_OBJECT_NAME_NOT_FOUND`.
const NAME_NOT_FOUND: i32 = 0xC000_0034_u32 as i32;

const MAJOR_CREATE: u8 = 0x00;
const MAJOR_CLOSE: u8 = 0x02;
const MAJOR_DEVICE_CONTROL: u8 = 0x0E;
const MAJOR_CLEANUP: u8 = 0x12;
/// `SL_PENDING_RETURNED`.
const PENDING_RETURNED: u8 = 1;
/// `METHOD_BUFFERED`, `METHOD_IN_DIRECT`, `METHOD_OUT_DIRECT` of a control code.
const METHOD: u32 = 3;
const BUFFERED: u32 = 0;
const NEITHER: u32 = 3;

struct Device {
    object: u64,
    driver: u64,
    symbolic: String,
    sddl: String,
    dispatch: [u64; 28],
    removed: bool,
}

struct File {
    device: u64,
    outstanding: usize,
    closing: bool,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// `IoStatus.Status`.
    pub status: i32,
    /// `IoStatus.Information`.
    pub information: u64,
    /// Output: the bytes of a buffered request, or all of a direct request's buffer.
    pub output: Vec<u8>,
}

struct Request {
    file: u64,
    major: u8,
    system_buffer: u64,
    mdl: u64,
    pages: u64,
    data_length: usize,
    output_length: usize,
    buffered: bool,
    /// Filled in by the completion.
    done: Rc<RefCell<Option<Completion>>>,
}

/// See the module's description.
#[derive(Default)]
pub(crate) struct IoManager {
    devices: RefCell<Vec<Device>>,
    files: RefCell<BTreeMap<u64, File>>,
    requests: RefCell<BTreeMap<u64, Request>>,
    cancel_lock: Cell<u64>,
}

impl IoManager {
    /// Makes a device with a symbolic link.
    pub(crate) fn add_device(&self, driver: u64, symbolic: String, sddl: String, dispatch: [u64; 28]) -> u64 {
        let object = objects::device_object(driver);
        self.devices.borrow_mut().push(Device { object, driver, symbolic, sddl, dispatch, removed: false });
        object
    }

    /// Removes a device and its symbolic link.
    pub(crate) fn remove_device(&self, object: u64) {
        if let Some(device) = self.devices.borrow_mut().iter_mut().find(|device| device.object == object) {
            device.removed = true;
        }
    }

    /// Files that are open, or still have requests.
    pub(crate) fn open_files(&self) -> usize {
        self.files.borrow().len()
    }

    /// Looks for what a driver that is being unloaded has left.
    pub(crate) fn check_unload(&self, driver: u64) {
        let machine = current();
        machine.checked();
        let left = self
            .devices
            .borrow()
            .iter()
            .find(|device| device.driver == driver && !device.removed)
            .map(|device| device.object);
        if let Some(object) = left {
            machine.bugcheck(0xCE, [object, 0, 0, 0], "A driver is unloaded while its device is there");
        }
    }

    /// Opens a device by the name that a program uses, `\\.\Name`.
    pub(crate) fn open(&self, machine: &Machine, name: &str, administrator: bool) -> Result<u64, i32> {
        let link = name.strip_prefix("\\\\.\\").unwrap_or(name);
        let (device, sddl) = {
            let devices = self.devices.borrow();
            let named = |device: &&Device| {
                let symbolic =
                    device.symbolic.trim_start_matches("\\DosDevices\\").trim_start_matches("\\??\\");
                !device.removed && symbolic.eq_ignore_ascii_case(link)
            };
            let device = devices.iter().find(named).ok_or(NAME_NOT_FOUND)?;
            (device.object, device.sddl.clone())
        };
        if !administrator && !admits_everybody(&sddl) {
            return Err(ACCESS_DENIED);
        }
        let file = objects::file_object(device);
        self.files.borrow_mut().insert(file, File { device, outstanding: 0, closing: false });
        let done = self.submit(machine, file, MAJOR_CREATE, 0, &[], Vec::new());
        let status = wait(&done).status;
        if status < 0 {
            self.files.borrow_mut().remove(&file);
            machine.memory.free(file);
            return Err(status);
        }
        Ok(file)
    }

    /// Closes the last handle of a file. Its memory goes when its last request has completed.
    pub(crate) fn close(&self, machine: &Machine, file: u64) {
        wait(&self.submit(machine, file, MAJOR_CLEANUP, 0, &[], Vec::new()));
        if let Some(file) = self.files.borrow_mut().get_mut(&file) {
            file.closing = true;
        }
        self.close_if_last(machine, file);
    }

    fn close_if_last(&self, machine: &Machine, file: u64) {
        let last =
            self.files.borrow().get(&file).is_some_and(|state| state.closing && state.outstanding == 0);
        if last {
            if let Some(state) = self.files.borrow_mut().get_mut(&file) {
                // One close only.
                state.closing = false;
            }
            // The object manager sends it at PASSIVE_LEVEL, wherever the last reference went.
            machine.spawn("close", move || {
                let machine = current();
                wait(&machine.io.submit(machine, file, MAJOR_CLOSE, 0, &[], Vec::new()));
                machine.io.files.borrow_mut().remove(&file);
                machine.memory.free(file);
            });
        }
    }

    /// Sends a device control request.
    pub(crate) fn control(
        &self,
        machine: &Machine,
        file: u64,
        control_code: u32,
        input: &[u8],
        data: Vec<u8>,
    ) -> Rc<RefCell<Option<Completion>>> {
        self.submit(machine, file, MAJOR_DEVICE_CONTROL, control_code, input, data)
    }

    /// Builds an IRP, hands it to the driver, and checks what its dispatch routine did.
    fn submit(
        &self,
        machine: &Machine,
        file: u64,
        major: u8,
        control_code: u32,
        input: &[u8],
        data: Vec<u8>,
    ) -> Rc<RefCell<Option<Completion>>> {
        let method = control_code & METHOD;
        let buffered = method == BUFFERED;
        let (output_length, data_length) = (data.len(), if buffered { 0 } else { data.len() });
        let system_length = if buffered { input.len().max(data.len()) } else { input.len() };
        let system_buffer = match system_length {
            0 => 0,
            length => machine.memory.allocate(length as u64, Use::System("system buffer of an IRP")),
        };
        put_bytes(system_buffer, input);
        let (mdl, pages) =
            if data_length == 0 || method == NEITHER { (0, 0) } else { locked(machine, &data) };
        let request = machine.memory.allocate(irp::SIZE + location::SIZE, Use::System("IRP"));
        let (device, handler) = {
            let mut files = self.files.borrow_mut();
            let state =
                files.get_mut(&file).unwrap_or_else(|| panic!("a request for a file that is not open"));
            if !matches!(major, MAJOR_CLOSE) {
                state.outstanding += 1;
            }
            let device = state.device;
            let devices = self.devices.borrow();
            let found = devices.iter().find(|entry| entry.object == device);
            (device, found.and_then(|entry| entry.dispatch.get(usize::from(major)).copied()).unwrap_or(0))
        };
        let stack = request + irp::SIZE;
        put::<u16>(request, 6);
        put::<u16>(request + 2, (irp::SIZE + location::SIZE) as u16);
        put::<u64>(request + irp::MDL_ADDRESS, mdl);
        put::<u64>(request + irp::SYSTEM_BUFFER, system_buffer);
        put::<u8>(request + irp::STACK_COUNT, 1);
        put::<u8>(request + irp::CURRENT_LOCATION, 1);
        put::<u64>(request + irp::STACK_LOCATION, stack);
        put::<u8>(stack + location::MAJOR, major);
        put::<u32>(stack + location::OUTPUT_LENGTH, output_length as u32);
        put::<u32>(stack + location::INPUT_LENGTH, input.len() as u32);
        put::<u32>(stack + location::CODE, control_code);
        put::<u64>(stack + location::DEVICE, device);
        put::<u64>(stack + location::FILE, file);
        let done = Rc::new(RefCell::new(None));
        let state = Request {
            file,
            major,
            system_buffer,
            mdl,
            pages,
            data_length,
            output_length,
            buffered,
            done: done.clone(),
        };
        self.requests.borrow_mut().insert(request, state);
        if handler == 0 {
            // Drivers without a routine get the I/O manager's own.
            put::<i32>(
                request + irp::STATUS,
                if major == MAJOR_DEVICE_CONTROL { INVALID_DEVICE_REQUEST } else { 0 },
            );
            self.complete(machine, request);
            return done;
        }
        self.dispatch(machine, handler, device, request, &done);
        done
    }

    fn dispatch(
        &self,
        machine: &Machine,
        handler: u64,
        device: u64,
        request: u64,
        done: &Rc<RefCell<Option<Completion>>>,
    ) {
        let before = machine.scheduler.irql();
        let this = machine.scheduler.this();
        let outer = this.in_service.replace(true);
        let status = machine.call(handler, &[device, request]) as i32;
        this.in_service.set(outer);
        let after = machine.scheduler.irql();
        machine.checked();
        let violation = |subcode: u64, text: &str| {
            machine.bugcheck(
                code::DRIVER_VERIFIER_IOMANAGER_VIOLATION,
                [subcode, handler, request, status as u64],
                text,
            )
        };
        if before != after {
            machine.bugcheck(
                code::DRIVER_VERIFIER_IOMANAGER_VIOLATION,
                [0x05, device, u64::from(before), u64::from(after)],
                "A dispatch routine returned at another IRQL",
            );
        }
        if let Some(lock) = machine.scheduler.locks_held().first() {
            machine.bugcheck(
                code::DRIVER_VERIFIER_DETECTED_VIOLATION,
                [0x40009, *lock, 0, 0],
                "A dispatch routine returned holding a spin lock (rule SpinLock)",
            );
        }
        // A request that is still there says whether it was marked pending; a completed one has said so then.
        let here = self.requests.borrow().contains_key(&request);
        let marked = here && get::<u8>(request + irp::SIZE + location::CONTROL) & PENDING_RETURNED != 0;
        match (status, here) {
            (PENDING, true) if !marked => {
                violation(0x23D, "A dispatch routine returned STATUS_PENDING without IoMarkIrpPending");
            }
            (PENDING, _) => {}
            (_, true) if marked => {
                violation(0x23E, "A dispatch routine marked a request pending and returned another status");
            }
            (_, true) => violation(0x226, "A dispatch routine neither completed nor pended its request"),
            (_, false) => {
                let completed = done.borrow().as_ref().map_or(status, |completion| completion.status);
                if completed != status {
                    violation(
                        0x224,
                        "A dispatch routine returned another status than it completed its request with",
                    );
                }
            }
        }
    }

    /// `IoMarkIrpPending`, as a queue does it.
    pub(crate) fn mark_pending(request: u64) {
        let control = request + irp::SIZE + location::CONTROL;
        put::<u8>(control, get::<u8>(control) | PENDING_RETURNED);
    }

    /// `IoSetCancelRoutine`; true if a routine was set.
    pub(crate) fn set_cancel(request: u64, routine: Option<u64>) -> bool {
        let before: u64 = get(request + irp::CANCEL_ROUTINE);
        put::<u64>(request + irp::CANCEL_ROUTINE, routine.unwrap_or(0));
        before != 0
    }

    /// `IofCompleteRequest`.
    pub(crate) fn complete(&self, machine: &Machine, request: u64) {
        machine.checked();
        let Some(state) = self.requests.borrow_mut().remove(&request) else {
            machine.bugcheck(
                code::MULTIPLE_IRP_COMPLETE_REQUESTS,
                [request, 0, 0, 0],
                "A request is completed that was completed already, or that is none",
            )
        };
        let status: i32 = get(request + irp::STATUS);
        let information: u64 = get(request + irp::INFORMATION);
        let violation = |subcode: u64, argument: u64, text: &str| {
            machine.bugcheck(code::DRIVER_VERIFIER_IOMANAGER_VIOLATION, [subcode, argument, request, 0], text)
        };
        if status == PENDING || status == -1 {
            violation(0x06, status as u64, "A request is completed with STATUS_PENDING or -1");
        }
        if get::<u64>(request + irp::CANCEL_ROUTINE) != 0 {
            violation(
                0x07,
                get(request + irp::CANCEL_ROUTINE),
                "A request is completed while its cancel routine is set",
            );
        }
        if state.major == MAJOR_DEVICE_CONTROL && information > state.output_length as u64 && status >= 0 {
            violation(0x312, information, "IoStatus.Information is beyond the output buffer");
        }
        let output = match (state.buffered, status >= 0) {
            (true, true) => bytes(state.system_buffer, information as usize),
            (true, false) => Vec::new(),
            (false, _) => bytes(state.pages, state.data_length),
        };
        for block in [state.system_buffer, state.mdl, request] {
            if block != 0 {
                free_system(machine, block);
            }
        }
        if state.pages != 0 {
            free_system(machine, state.pages);
        }
        state.done.replace(Some(Completion { status, information, output }));
        if state.major != MAJOR_CLOSE {
            if let Some(file) = self.files.borrow_mut().get_mut(&state.file) {
                file.outstanding -= 1;
            }
            self.close_if_last(machine, state.file);
        }
    }

    /// `IoAcquireCancelSpinLock`: returns the level before.
    pub(crate) fn acquire_cancel_lock(&self, machine: &Machine) -> u8 {
        let old = machine.scheduler.irql();
        machine.scheduler.set_irql(DISPATCH);
        if self.cancel_lock.get() == 0 {
            self.cancel_lock.set(machine.memory.allocate(8, Use::System("cancel spin lock")));
        }
        machine.scheduler.acquire_lock(self.cancel_lock.get());
        old
    }

    /// `IoReleaseCancelSpinLock`.
    pub(crate) fn release_cancel_lock(&self, machine: &Machine, old: u8) {
        machine.scheduler.release_lock(self.cancel_lock.get());
        machine.scheduler.set_irql(old);
    }

    /// `IoCancelIrp` for the requests of a file whose completion is not there yet: all, or the one that
    /// `done` belongs to.
    pub(crate) fn cancel(
        &self,
        machine: &Machine,
        file: u64,
        only: Option<&Rc<RefCell<Option<Completion>>>>,
    ) {
        let chosen = |request: &Request| {
            request.file == file
                && request.major == MAJOR_DEVICE_CONTROL
                && only.is_none_or(|done| Rc::ptr_eq(done, &request.done))
        };
        let requests: Vec<u64> = self
            .requests
            .borrow()
            .iter()
            .filter(|(_, request)| chosen(request))
            .map(|(address, _)| *address)
            .collect();
        for request in requests {
            machine.scheduler.point();
            let old = self.acquire_cancel_lock(machine);
            // It may have completed in the meantime; the I/O manager holds its list of requests still.
            if !self.requests.borrow().contains_key(&request) {
                self.release_cancel_lock(machine, old);
                continue;
            }
            put::<u8>(request + irp::CANCEL, 1);
            let routine: u64 = get(request + irp::CANCEL_ROUTINE);
            put::<u64>(request + irp::CANCEL_ROUTINE, 0);
            if routine == 0 {
                self.release_cancel_lock(machine, old);
                continue;
            }
            put::<u8>(request + irp::CANCEL_IRQL, old);
            if routine == crate::kernel::io::csq_cancel_marker() {
                crate::kernel::io::csq_cancel(machine, request);
            } else {
                let device: u64 = get(request + irp::SIZE + location::DEVICE);
                machine.call(routine, &[device, request]);
            }
            machine.checked();
            let after = machine.scheduler.irql();
            if after != old {
                machine.bugcheck(
                    code::DRIVER_VERIFIER_IOMANAGER_VIOLATION,
                    [0x1B, u64::from(old), u64::from(after), routine],
                    "A cancel routine returned at another IRQL: the cancel spin lock was not released",
                );
            }
        }
    }
}

fn free_system(machine: &Machine, block: u64) {
    if let Some(wrong) = machine.memory.free(block) {
        machine.bugcheck(
            code::SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION,
            [block, wrong, 0, 0x24],
            "Something was written around a buffer of a request",
        );
    }
}

/// A client's buffer as locked pages, with its MDL.
fn locked(machine: &Machine, data: &[u8]) -> (u64, u64) {
    let pages = machine.memory.allocate(data.len() as u64, Use::LockedPages);
    put_bytes(pages, data);
    let mdl = machine.memory.allocate(
        size_of::<MDL>() as u64 + 8 * (data.len() as u64).div_ceil(4096).max(2),
        Use::System("MDL"),
    );
    set!(mdl, MDL, Size, size_of::<MDL>() as i16);
    set!(mdl, MDL, MdlFlags, 2i16);
    set!(mdl, MDL, StartVa, pages & !0xFFF);
    set!(mdl, MDL, ByteOffset, (pages & 0xFFF) as u32);
    set!(mdl, MDL, ByteCount, data.len() as u32);
    (mdl, pages)
}

/// Whether a security descriptor grants anything to callers who are no administrators.
fn admits_everybody(sddl: &str) -> bool {
    sddl.split('(').skip(1).filter_map(|ace| ace.split(')').next()).any(|ace| {
        let trustee = ace.rsplit(';').next().unwrap_or_default();
        ace.starts_with('A') && matches!(trustee, "WD" | "AU" | "BU" | "IU")
    })
}

/// Waits for a request on the running thread.
pub(crate) fn wait(done: &Rc<RefCell<Option<Completion>>>) -> Completion {
    let watched = done.clone();
    current().scheduler.wait("a request", None, move || watched.borrow().is_some());
    let completion = done.borrow().clone();
    completion.unwrap_or_else(|| panic!("the wait ended before the request"))
}
