//! What a program does: open a device, send requests, cancel, close. To be used on threads of a machine.
use std::cell::{Cell, RefCell};
use std::rc::Rc;

pub use crate::io::Completion;
use crate::io::wait;
use crate::machine::current;
use crate::sched::Stall;

/// `STATUS_INVALID_HANDLE`.
const INVALID_HANDLE: i32 = 0xC000_0008_u32 as i32;

/// A handle. Its clones are the same handle, as the threads of a program share it: one of them may close it while others
/// use it, and what they ask of it afterwards fails with `STATUS_INVALID_HANDLE`.
#[derive(Clone, Debug)]
pub struct Handle {
    file: u64,
    open: Rc<Cell<bool>>,
}

/// A request that was sent.
#[derive(Clone, Debug)]
pub struct Pending {
    handle: Handle,
    /// The request's memory in the program, 0 if it has none of its own.
    pages: u64,
    done: Rc<RefCell<Option<Completion>>>,
}

impl Handle {
    /// `CreateFile`.
    pub fn open(name: &str, administrator: bool) -> Result<Self, i32> {
        let machine = current();
        let file = machine.io.open(machine, name, administrator)?;
        Ok(Self { file, open: Rc::new(Cell::new(true)) })
    }

    /// `DeviceIoControl`, overlapped. `data` is the output buffer: room for a buffered request's answer, or a
    /// direct request's own memory.
    pub fn control(&self, code: u32, input: &[u8], data: Vec<u8>) -> Pending {
        self.control_at(code, input, data, &SharedMemory::default())
    }

    /// As [`Handle::control`]: `memory` tells the program's other threads where the
    /// request's data lies, before the driver sees it.
    pub fn control_at(&self, code: u32, input: &[u8], data: Vec<u8>, memory: &SharedMemory) -> Pending {
        let machine = current();
        let done = if self.open.get() {
            machine.io.control(machine, self.file, code, input, data, &memory.0)
        } else {
            let completion = Completion { status: INVALID_HANDLE, information: 0, output: data };
            Rc::new(RefCell::new(Some(completion)))
        };
        Pending { handle: self.clone(), pages: memory.0.get(), done }
    }

    /// `CancelIoEx` for every request of the handle.
    pub fn cancel_all(&self) {
        let machine = current();
        if self.open.get() {
            machine.io.cancel(machine, self.file, None);
        }
    }

    /// Whether the driver has seen the end of the handle: it was closed, and its last request has completed.
    pub fn is_gone(&self) -> bool {
        !self.open.get() && !current().io.is_open(self.file)
    }

    /// `CloseHandle`, for all clones. Requests that pend stay, as the driver wants it.
    pub fn close(self) {
        let machine = current();
        if self.open.replace(false) {
            machine.io.close(machine, self.file);
        }
    }

    /// What happens to the handle of a program that dies: its requests are cancelled, then it is closed.
    pub fn die(self) {
        self.cancel_all();
        self.close();
    }
}

/// Memory of a request that several threads of a program know.
#[derive(Clone, Debug, Default)]
pub struct SharedMemory(Rc<Cell<u64>>);

impl SharedMemory {
    /// A thread unmaps the memory, whatever the driver does with it; false if there is none yet.
    pub fn unmap(&self) -> bool {
        let pages = self.0.get();
        if pages != 0 {
            current().memory.open_user(pages, false);
        }
        pages != 0
    }
}

impl Pending {
    /// `GetOverlappedResult`, waiting.
    pub fn wait(&self) -> Completion {
        wait(&self.done)
    }

    /// `GetOverlappedResult`, not waiting.
    pub fn result(&self) -> Option<Completion> {
        self.done.borrow().clone()
    }

    /// The program writes into the request's memory while the driver works on it; false if it has completed.
    pub fn rewrite(&self, offset: u64, data: &[u8]) -> bool {
        let open = self.pages != 0 && self.done.borrow().is_none();
        if open {
            crate::memory::put_bytes(self.pages + offset, data);
        }
        open
    }

    /// The program unmaps the request's memory while the driver works on it: what the I/O manager locked stays.
    pub fn unmap(&self) -> bool {
        let open = self.pages != 0 && self.done.borrow().is_none();
        if open {
            current().memory.open_user(self.pages, false);
        }
        open
    }

    /// `CancelIoEx` for this request.
    pub fn cancel(&self) {
        let machine = current();
        if self.handle.open.get() {
            machine.io.cancel(machine, self.handle.file, Some(&self.done));
        }
    }
}

/// Pool allocations and spin locks of drivers so far.
pub fn counts() -> (u64, u64) {
    let counts = current().counts();
    (counts.allocations.get(), counts.locks.get())
}

/// Stops a driver's service, on a thread of its own: the driver is unloaded when its handles are closed.
pub fn unload(service: &str) {
    current().start_unload(service);
}

/// From here on the schedule is explored, or not (see [`crate::Machine::window`]).
pub fn window(open: bool) {
    current().window(open);
}

/// The calling thread stalls once, inside the kernel: at the scheduling point that `points` others precede (each call of
/// a driver into the kernel has one before it and one after it), or the next one below `DISPATCH_LEVEL`, until a condition
/// holds or 5 ms have passed. For what happens to a driver while one of its threads is slow.
pub fn stall(points: u32, until: impl Fn() -> bool + 'static) {
    current().scheduler.this().stall.replace(Some(Stall { points, until: Box::new(until) }));
}

/// Ends what [`stall`] began, if the thread has not come that far.
pub fn stall_no_more() {
    current().scheduler.this().stall.replace(None);
}

/// Gives other threads a chance, as any system call does.
pub fn pause() {
    current().scheduler.poll();
}

/// Waits for simulated time to pass.
pub fn sleep(microseconds: u64) {
    let until = current().scheduler.now() + microseconds * 10;
    current().scheduler.wait("time", Some(until), || false);
}

/// Waits until a condition holds, or for so many microseconds; whether it holds.
pub fn wait_at_most(what: &str, microseconds: u64, condition: impl Fn() -> bool + 'static) -> bool {
    let until = current().scheduler.now() + microseconds * 10;
    current().scheduler.wait(what, Some(until), condition)
}

/// Waits until a condition holds.
pub fn wait_for(what: &str, condition: impl Fn() -> bool + 'static) {
    current().scheduler.wait(what, None, condition);
}

/// Simulated time in microseconds.
pub fn now() -> u64 {
    current().scheduler.now() / 10
}
