//! The I/O manager: devices, files, and requests from a client's call to their completion.
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use ndis_sys::MDL;

use crate::kernel::objects::{self, irp, location};
use crate::machine::{Machine, current};
use crate::memory::{Use, bytes, get, put, put_bytes, set};
use crate::rule::{self, Rule};
use crate::sched::{DISPATCH, LockKind};

/// `STATUS_PENDING`.
const PENDING: i32 = 0x103;
/// `STATUS_INVALID_DEVICE_REQUEST`.
const INVALID_DEVICE_REQUEST: i32 = 0xC000_0010_u32 as i32;
/// `STATUS_ACCESS_DENIED`.
const ACCESS_DENIED: i32 = 0xC000_0022_u32 as i32;
/// `STATUS_NO_SUCH_DEVICE`.
const NO_SUCH_DEVICE: i32 = 0xC000_000E_u32 as i32;
/// `FILE_DEVICE_SECURE_OPEN`.
const SECURE_OPEN: u32 = 0x100;
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
    name: String,
    /// Links to it.
    symbolic: Vec<String>,
    sddl: String,
    /// Its own routines; a device that a driver made has those of its driver.
    dispatch: Option<[u64; 28]>,
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
    mdl_bytes: u64,
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
    /// Drivers that are being stopped: their devices are opened no more.
    stopping: RefCell<BTreeSet<u64>>,
    requests: RefCell<BTreeMap<u64, Request>>,
    cancel_lock: Cell<u64>,
    /// When requests were cancelled that have not completed.
    cancelled: RefCell<BTreeMap<u64, u64>>,
}

/// A cancelled request has this long to complete, in 100 ns (0xC4/135).
const CANCEL_LIMIT: u64 = 60 * 10_000_000;

impl IoManager {
    /// Makes a device with a symbolic link and routines of its own.
    pub(crate) fn add_device(&self, driver: u64, symbolic: String, sddl: String, dispatch: [u64; 28]) -> u64 {
        let object = objects::device_object(driver, 0);
        let (name, symbolic, dispatch) = (String::new(), vec![symbolic], Some(dispatch));
        self.devices.borrow_mut().push(Device {
            object,
            driver,
            name,
            symbolic,
            sddl,
            dispatch,
            removed: false,
        });
        object
    }

    /// Makes a device that its driver's routines serve.
    pub(crate) fn add_named_device(&self, object: u64, driver: u64, name: String, sddl: String) {
        let (symbolic, dispatch) = (Vec::new(), None);
        self.devices.borrow_mut().push(Device {
            object,
            driver,
            name,
            symbolic,
            sddl,
            dispatch,
            removed: false,
        });
    }

    /// Whether there is a device of a name.
    pub(crate) fn has_device(&self, name: &str) -> bool {
        self.devices.borrow().iter().any(|device| !device.removed && device.name.eq_ignore_ascii_case(name))
    }

    /// Makes a symbolic link to a device; false if there is one of the name.
    pub(crate) fn link(&self, link: &str, target: &str) -> bool {
        let mut devices = self.devices.borrow_mut();
        let taken = |device: &Device| !device.removed && device.symbolic.iter().any(|one| one == link);
        if devices.iter().any(taken) {
            return false;
        }
        let found =
            devices.iter_mut().find(|device| !device.removed && device.name.eq_ignore_ascii_case(target));
        // A link may be made to what is not there; nobody can open it.
        if let Some(device) = found {
            device.symbolic.push(link.to_owned());
        }
        true
    }

    /// Removes a symbolic link; false if there is none.
    pub(crate) fn unlink(&self, link: &str) -> bool {
        self.devices.borrow_mut().iter_mut().any(|device| {
            let before = device.symbolic.len();
            device.symbolic.retain(|one| one != link);
            device.symbolic.len() != before
        })
    }

    /// Removes a device and its symbolic links; false if it is gone, or none.
    pub(crate) fn remove_device(&self, object: u64) -> bool {
        let mut devices = self.devices.borrow_mut();
        let found = devices.iter_mut().find(|device| device.object == object && !device.removed);
        found.map(|device| device.removed = true).is_some()
    }

    /// The routine that serves a major function of a device; 0 if there is none.
    pub(crate) fn routine(&self, object: u64, major: u8) -> u64 {
        let devices = self.devices.borrow();
        let Some(device) = devices.iter().find(|device| device.object == object) else { return 0 };
        match &device.dispatch {
            Some(dispatch) => dispatch.get(usize::from(major)).copied().unwrap_or(0),
            None => objects::major_function(device.driver, major),
        }
    }

    /// Files of a driver's devices that are open, or still have requests.
    pub(crate) fn open_files(&self, driver: u64) -> usize {
        let devices = self.devices.borrow();
        let of_driver = |file: &&File| {
            devices.iter().any(|device| device.object == file.device && device.driver == driver)
        };
        self.files.borrow().values().filter(of_driver).count()
    }

    /// A driver's service is stopped: it waits for the handles that are open, and no more are opened.
    pub(crate) fn refuse_opens(&self, driver: u64) {
        self.stopping.borrow_mut().insert(driver);
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
            let text = "A driver is unloaded while its device is there";
            machine.stop_about(&rule::UNLOADED_PENDING, [object, 0, 0, 0], text, object);
        }
    }

    /// Opens a device by the name that a program uses, `\\.\Name`, or a name below it, `\\.\Name\below`, which is the
    /// driver's to make sense of. The device's descriptor guards names below it only if the device asks for that.
    pub(crate) fn open(&self, machine: &Machine, name: &str, administrator: bool) -> Result<u64, i32> {
        let path = name.strip_prefix("\\\\.\\").unwrap_or(name);
        let (link, below) = path.split_at(path.find('\\').unwrap_or(path.len()));
        let (device, driver, sddl) = {
            let devices = self.devices.borrow();
            let named = |device: &&Device| {
                let matches = |symbolic: &String| {
                    let name = symbolic.trim_start_matches("\\DosDevices\\").trim_start_matches("\\??\\");
                    name.eq_ignore_ascii_case(link)
                };
                !device.removed && device.symbolic.iter().any(matches)
            };
            let device = devices.iter().find(named).ok_or(NAME_NOT_FOUND)?;
            (device.object, device.driver, device.sddl.clone())
        };
        if self.stopping.borrow().contains(&driver) {
            return Err(NO_SUCH_DEVICE);
        }
        let guarded = below.is_empty() || get::<u32>(device + objects::CHARACTERISTICS) & SECURE_OPEN != 0;
        if guarded && !administrator && !admits_everybody(&sddl) {
            return Err(ACCESS_DENIED);
        }
        let file = objects::file_object(device, below);
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

    /// Whether a file object is there.
    pub(crate) fn is_open(&self, file: u64) -> bool {
        self.files.borrow().contains_key(&file)
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

    /// Sends a device control request; `told` gets the address of the program's memory before the driver sees it.
    pub(crate) fn control(
        &self,
        machine: &Machine,
        file: u64,
        control_code: u32,
        input: &[u8],
        data: Vec<u8>,
        told: &Rc<Cell<u64>>,
    ) -> Rc<RefCell<Option<Completion>>> {
        self.submit_with(machine, file, MAJOR_DEVICE_CONTROL, control_code, input, data, told)
    }

    /// As [`IoManager::submit_with`], for requests that have no memory of a program.
    fn submit(
        &self,
        machine: &Machine,
        file: u64,
        major: u8,
        control_code: u32,
        input: &[u8],
        data: Vec<u8>,
    ) -> Rc<RefCell<Option<Completion>>> {
        self.submit_with(machine, file, major, control_code, input, data, &Rc::new(Cell::new(0)))
    }

    /// Builds an IRP, hands it to the driver, and checks what its dispatch routine did. The program's memory, if
    /// it has any, is told before the driver sees the request.
    #[expect(clippy::too_many_arguments, reason = "what a request consists of")]
    fn submit_with(
        &self,
        machine: &Machine,
        file: u64,
        major: u8,
        control_code: u32,
        input: &[u8],
        data: Vec<u8>,
        told: &Rc<Cell<u64>>,
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
        let pages = if data_length == 0 { 0 } else { user_pages(machine, &data) };
        told.set(pages);
        let (mdl, mdl_bytes) =
            if pages == 0 || method == NEITHER { (0, 0) } else { locked(machine, pages, data_length as u32) };
        let request = machine.memory.allocate(irp::SIZE + location::SIZE, Use::System("IRP"));
        let device = {
            let mut files = self.files.borrow_mut();
            let state =
                files.get_mut(&file).unwrap_or_else(|| panic!("a request for a file that is not open"));
            if !matches!(major, MAJOR_CLOSE) {
                state.outstanding += 1;
            }
            state.device
        };
        let handler = self.routine(device, major);
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
        if method == NEITHER {
            put::<u64>(request + irp::USER_BUFFER, pages);
        }
        machine.log.begin(machine, request, "IRP", "sent to the driver");
        let done = Rc::new(RefCell::new(None));
        let state = Request {
            file,
            major,
            system_buffer,
            mdl,
            pages,
            mdl_bytes,
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
        let apcs = (this.critical.get(), this.guarded.get());
        let status = machine.call(handler, &[device, request]) as i32;
        this.in_service.set(outer);
        let after = machine.scheduler.irql();
        machine.checked();
        let violation = |rule: &Rule, text: &str| {
            let arguments = [rule.first.unwrap_or(0), handler, request, status as u64];
            machine.stop_about(rule, arguments, text, request);
        };
        if before != after {
            let arguments = [device, u64::from(before), u64::from(after)];
            machine.stop(&rule::IRP_IRQL, arguments, "A dispatch routine returned at another IRQL");
        }
        if let Some(lock) = this.spin_lock() {
            machine.stop(&rule::SPIN_LOCK, [lock, 0, 0], "A dispatch routine returned holding a spin lock");
        }
        if apcs != (this.critical.get(), this.guarded.get()) {
            let arguments = [handler, this.critical.get() as u64, apcs.0 as u64];
            machine.stop(&rule::IRP_APCS, arguments, "A dispatch routine changed the APC disable count");
        }
        // Statuses of severity 0 to 3 with no customer or reserved bits set are legal; -1 is not.
        if status == -1 || status as u32 & 0x1000_0000 != 0 {
            violation(&rule::IRP_ILLEGAL_STATUS, "A dispatch routine returned an illegal status");
        }
        // A request that is still there says whether it was marked pending; a completed one has said so then.
        let here = self.requests.borrow().contains_key(&request);
        let marked = here && get::<u8>(request + irp::SIZE + location::CONTROL) & PENDING_RETURNED != 0;
        match (status, here) {
            (PENDING, true) if !marked => {
                violation(
                    &rule::IRP_UNMARKED,
                    "A dispatch routine returned STATUS_PENDING without IoMarkIrpPending",
                );
            }
            (PENDING, _) => {}
            (_, true) if marked => {
                violation(
                    &rule::IRP_MARKED,
                    "A dispatch routine marked a request pending and returned another status",
                );
            }
            (_, true) => {
                violation(&rule::IRP_NEITHER, "A dispatch routine neither completed nor pended its request");
            }
            (_, false) => {
                let completed = done.borrow().as_ref().map_or(status, |completion| completion.status);
                if completed != status {
                    violation(
                        &rule::IRP_OTHER_STATUS,
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
            let text = "A request is completed that was completed already, or that is none";
            machine.stop_about(&rule::IRP_TWICE, [request, 0, 0, 0], text, request);
            return;
        };
        machine.event(request, "completed");
        let late = self.cancelled.borrow_mut().remove(&request);
        if late.is_some_and(|since| machine.scheduler.now() - since > CANCEL_LIMIT) {
            let text = "A cancelled request was not completed within a minute";
            machine.stop(&rule::IRP_NOT_CANCELLED, [request, CANCEL_LIMIT / 10_000, 0], text);
        }
        let status: i32 = get(request + irp::STATUS);
        let information: u64 = get(request + irp::INFORMATION);
        let violation = |rule: &Rule, argument: u64, text: &str| {
            machine.stop_about(rule, [rule.first.unwrap_or(0), argument, request, 0], text, request);
        };
        if status == PENDING || status == -1 {
            violation(&rule::IRP_STATUS, status as u64, "A request is completed with STATUS_PENDING or -1");
        }
        if get::<u64>(request + irp::CANCEL_ROUTINE) != 0 {
            violation(
                &rule::IRP_CANCEL_LEFT,
                get(request + irp::CANCEL_ROUTINE),
                "A request is completed while its cancel routine is set",
            );
        }
        if state.major == MAJOR_DEVICE_CONTROL && information > state.output_length as u64 && status >= 0 {
            violation(
                &rule::IRP_INFORMATION,
                information,
                "IoStatus.Information is beyond the output buffer",
            );
        }
        let information = information.min(state.output_length as u64);
        let output = match (state.buffered, status >= 0) {
            (true, true) => bytes(state.system_buffer, information as usize),
            (true, false) => Vec::new(),
            (false, _) if state.pages == 0 => Vec::new(),
            (false, _) => {
                machine.memory.open_user(state.pages, true);
                bytes(state.pages, state.data_length)
            }
        };
        if state.mdl != 0 {
            crate::kernel::mdl::unmap_if_mapped(machine, state.mdl);
            machine.memory.free_small(state.mdl, state.mdl_bytes);
        }
        for block in [state.system_buffer, request, state.pages] {
            if block != 0 {
                free_system(machine, block);
            }
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
        machine.scheduler.acquire_lock(self.cancel_lock.get(), LockKind::Spin);
        old
    }

    /// `IoReleaseCancelSpinLock`.
    pub(crate) fn release_cancel_lock(&self, machine: &Machine, old: u8) {
        machine.scheduler.release_lock(self.cancel_lock.get(), LockKind::Spin);
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
            machine.event(request, "cancelled");
            self.cancelled.borrow_mut().insert(request, machine.scheduler.now());
            machine.scheduler.after(CANCEL_LIMIT + 1, move || current().io.check_cancelled(request));
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
                let arguments = [u64::from(old), u64::from(after), routine];
                let text = "A cancel routine returned at another IRQL: the cancel spin lock was not released";
                machine.stop(&rule::IRP_CANCEL_LOCK, arguments, text);
            }
        }
    }

    /// A minute has passed since a request was cancelled.
    fn check_cancelled(&self, request: u64) {
        let since = self.cancelled.borrow().get(&request).copied();
        let machine = current();
        if since.is_some_and(|since| machine.scheduler.now() - since > CANCEL_LIMIT) {
            let text = "A cancelled request was not completed within a minute".to_owned();
            let arguments = [request, CANCEL_LIMIT / 10_000, 0];
            let who = ("I/O manager", 0);
            machine.stop_outside(&rule::IRP_NOT_CANCELLED, arguments, text, who, Vec::new());
        }
    }
}

fn free_system(machine: &Machine, block: u64) {
    let length = machine.memory.block(block).map_or(0, |block| block.length);
    if let Some(wrong) = machine.memory.free(block) {
        crate::kernel::pool::written_around(machine, block, wrong, length);
    }
}

/// Pages of a program with its data.
fn user_pages(machine: &Machine, data: &[u8]) -> u64 {
    let pages = machine.memory.allocate(data.len() as u64, Use::User);
    put_bytes(pages, data);
    pages
}

/// An MDL over a program's pages, which are locked: its address and bytes.
fn locked(machine: &Machine, pages: u64, length: u32) -> (u64, u64) {
    let mdl = crate::kernel::mdl::describe(machine, pages, length);
    set!(mdl, MDL, MdlFlags, 2i16);
    (mdl, crate::kernel::mdl::bytes_for(pages, length))
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
