//! Faults of driver code, turned into the bugchecks that Windows gives.
#![expect(unsafe_code, reason = "handles signals and redirects the faulting thread")]
use std::cell::Cell;
use std::sync::Once;

use crate::machine::{Machine, current, try_current};
use crate::memory::{Place, Use};
use crate::rule;
use crate::sched::DISPATCH;

/// `STATUS_ACCESS_VIOLATION`.
const ACCESS_VIOLATION: u64 = 0xC000_0005;

/// A fault as the processor reports it.
#[derive(Clone, Copy, Debug, Default)]
struct Fault {
    address: u64,
    instruction: u64,
    error: u64,
    stack_pointer: u64,
    frame_pointer: u64,
    signal: i32,
    /// Whether code of a driver faulted, and not code of the machine that a driver called.
    in_driver: bool,
    trap: u64,
    rcx: u64,
}

thread_local! {
    static LAST: Cell<Fault> = Cell::new(Fault::default());
}

/// Exceptions of the processor: divide error, invalid opcode.
const DIVIDE: u64 = 0;
/// `int 29h` of `__fastfail`, as Linux reports it: a general protection fault whose error is the vector's.
const FAST_FAIL: u64 = 0x29 << 3 | 2;

static INSTALL: Once = Once::new();

/// Installs the handler, once for the process.
pub(crate) fn install() {
    INSTALL.call_once(|| {
        for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGTRAP, libc::SIGFPE] {
            // SAFETY: all-zero is a valid sigaction.
            let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
            action.sa_sigaction = handle as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            // SAFETY: the handler has the signature that SA_SIGINFO asks for.
            let result = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
            assert!(result == 0, "cannot install the fault handler");
        }
    });
    alternate_stack();
}

/// Gives the host thread a stack for the handler, unless the standard library has.
fn alternate_stack() {
    thread_local! {
        static STACK: Cell<*mut u8> = const { Cell::new(std::ptr::null_mut()) };
    }
    const BYTES: usize = 64 * 1024;
    if STACK.get().is_null() {
        let memory = Box::leak(vec![0u8; BYTES].into_boxed_slice()).as_mut_ptr();
        STACK.set(memory);
        let stack = libc::stack_t { ss_sp: memory.cast(), ss_flags: 0, ss_size: BYTES };
        // SAFETY: the memory is leaked, so it lives as long as the thread.
        let result = unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) };
        assert!(result == 0, "cannot set the handler's stack");
    }
}

unsafe extern "C" fn handle(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes the interrupted thread's context.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    let registers = &mut context.uc_mcontext.gregs;
    let thread = try_current().and_then(|machine| machine.scheduler.try_this());
    let Some(thread) = thread else {
        // Not a thread of a machine: the fault is the host program's own.
        // SAFETY: restores the default, so that returning repeats the fault and ends the process.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    };
    // SAFETY: the kernel passes the fault's address.
    let info = unsafe { &*info };
    // SAFETY: the signals that are handled have an address.
    let address = unsafe { info.si_addr() } as u64;
    let stack_pointer = registers[libc::REG_RSP as usize] as u64;
    let instruction = registers[libc::REG_RIP as usize] as u64;
    let in_driver = try_current().is_some_and(|machine| machine.memory.areas.images.contains(instruction));
    // A page of an image that is being loaded comes from its file, where the thread may wait for it.
    if thread.irql.get() < DISPATCH && try_current().is_some_and(|machine| machine.memory.page_in(address)) {
        return;
    }
    // What cannot be fetched cannot be emulated.
    let fetched = registers[libc::REG_ERR as usize] & 16 == 0 && address != instruction;
    if in_driver && fetched && crate::emulate::instruction(registers, address, &thread.irql) {
        return;
    }
    LAST.set(Fault {
        address,
        instruction,
        error: registers[libc::REG_ERR as usize] as u64,
        stack_pointer,
        frame_pointer: registers[libc::REG_RBP as usize] as u64,
        signal,
        in_driver: thread
            .stack
            .try_borrow()
            .is_ok_and(|stack| stack.as_ref().is_some_and(|stack| stack.contains(stack_pointer))),
        trap: registers[libc::REG_TRAPNO as usize] as u64,
        rcx: registers[libc::REG_RCX as usize] as u64,
    });
    let on_kernel_stack = thread.stack.try_borrow().ok().and_then(|stack| {
        stack.as_ref().map(|stack| {
            (stack.contains(stack_pointer) || stack.is_guard(stack_pointer), stack.host_pointer())
        })
    });
    // The machine goes on, on its own stack, in `landing`.
    let host = match on_kernel_stack {
        Some((true, host)) => host,
        _ => stack_pointer,
    };
    registers[libc::REG_RSP as usize] = ((host - 1024) & !15) as i64 - 8;
    registers[libc::REG_RIP as usize] = landing as *const () as i64;
}

/// Runs on the machine's stack after a fault, in place of what faulted.
extern "sysv64" fn landing() -> ! {
    let fault = LAST.get();
    let machine = current();
    // A driver's code runs without the lock that the machine's code runs under.
    if fault.in_driver
        && let Some(giant) = &machine.scheduler.giant
    {
        giant.acquire();
    }
    crate::report::set_fault(fault.instruction, fault.stack_pointer, fault.frame_pointer);
    explain(machine, fault)
}

/// What was done, in numbers and in words.
struct Access {
    operation: u64,
    verb: &'static str,
}

/// The bugcheck for a fault.
fn explain(machine: &Machine, fault: Fault) -> ! {
    let thread = machine.scheduler.this();
    let irql = u64::from(thread.irql.get());
    let guard = thread.stack.borrow().as_ref().is_some_and(|stack| stack.is_guard(fault.address));
    let write = fault.error & 2 != 0;
    let execute = fault.error & 16 != 0 || fault.address == fault.instruction;
    let access = Access {
        operation: if execute { 8 } else { u64::from(write) },
        verb: match (execute, write) {
            (true, _) => "executes",
            (_, true) => "writes",
            _ => "reads",
        },
    };
    if guard {
        machine.stop_for_good(&rule::STACK, [8, 0, 0, 0], "The kernel stack overflowed");
    }
    if fault.signal != libc::SIGSEGV && fault.signal != libc::SIGBUS {
        exception(machine, fault);
    }
    if fault.error == FAST_FAIL {
        let text = "The driver fails fast: it found that something is corrupt";
        machine.stop_for_good(&rule::FAST_FAIL, [fault.rcx, 0, 0, 0], text);
    }
    let who = if fault.in_driver { "The driver" } else { "A function of the system that the driver called" };
    let shown = machine.memory.areas.canonical(fault.address);
    if machine.memory.is_late(fault.address) && irql >= u64::from(DISPATCH) {
        let text = format!(
            "{who} {} {shown:#x}, which the loader has not made resident yet, at IRQL {irql}",
            access.verb
        );
        let arguments = [fault.address, irql, access.operation, fault.instruction];
        machine.stop_for_good(&rule::PAGED_AT_DISPATCH, arguments, text);
    }
    if machine.memory.is_pageable(fault.address) && irql >= u64::from(DISPATCH) {
        let text = format!("{who} {} {shown:#x}, which can be paged out, at IRQL {irql}", access.verb);
        let arguments = [fault.address, irql, access.operation, fault.instruction];
        machine.stop_for_good(&rule::PAGED_AT_DISPATCH, arguments, text);
    }
    if machine.memory.areas.images.contains(fault.address) {
        in_image(machine, fault, &access, irql);
    }
    let place = machine.memory.place(fault.address);
    if let Some(Place::Block(block) | Place::Near(block, _)) = &place
        && matches!(block.usage, Use::Pool { .. } | Use::PagedPool { .. })
    {
        in_pool(machine, fault, &access, who, place.as_ref(), block);
    }
    if execute && machine.memory.areas.nonpaged.contains(fault.address) {
        let text = format!("{who} executes {shown:#x}, which is data");
        machine.stop_for_good(&rule::EXECUTE, [fault.address, 0, 0, 0], text);
    }
    let what = match &place {
        Some(Place::Block(block)) => {
            let state = if block.freed { "freed" } else { "live" };
            format!("in a {state} block of {} bytes: {:?}", block.length, block.usage)
        }
        Some(Place::Near(block, distance)) => format!("{distance} bytes from a block: {:?}", block.usage),
        None => "outside all memory".to_owned(),
    };
    let text = format!("{who} {} {shown:#x}, {what}", access.verb);
    if irql >= u64::from(DISPATCH) {
        let rule = if fault.in_driver { &rule::ACCESS_RAISED } else { &rule::ACCESS_RAISED_SYSTEM };
        machine.stop_for_good(rule, [fault.address, irql, access.operation, fault.instruction], text)
    }
    let user =
        matches!(&place, Some(Place::Block(block) | Place::Near(block, _)) if block.usage == Use::User);
    if place.is_none() || user {
        // No address of the kernel's: an access violation that nobody handles.
        let rule = if thread.in_service.get() { &rule::ACCESS_SERVICE } else { &rule::ACCESS_SYSTEM };
        machine.stop_for_good(rule, [ACCESS_VIOLATION, fault.instruction, fault.address, 0], text)
    }
    machine.stop_for_good(&rule::PAGE_FAULT, [fault.address, access.operation, fault.instruction, 2], text)
}

/// An exception that is no fault of memory.
fn exception(machine: &Machine, fault: Fault) -> ! {
    if fault.trap == DIVIDE {
        let arguments = [0xC000_0094, fault.instruction, 0, 0];
        machine.stop_for_good(&rule::DIVIDE, arguments, "Something is divided by zero");
    }
    let text = "An instruction that cannot be executed: an assertion or a panic of the driver";
    machine.stop_for_good(&rule::ILLEGAL, [0xC000_001D, fault.instruction, 0, 0], text)
}

/// A fault in an image: code of a driver that is gone, or a section that is protected.
fn in_image(machine: &Machine, fault: Fault, access: &Access, irql: u64) {
    let image = {
        let drivers = machine.drivers.borrow();
        drivers.iter().map(|driver| driver.image.clone()).find(|image| image.contains(fault.address))
    };
    let Some(image) = image else { return };
    let shown = format!("{}+{:#x}", image.name, fault.address - image.base);
    if image.unloaded.get() {
        let text = format!("{shown} is used after the driver was unloaded");
        let arguments = [fault.address, access.operation, fault.instruction, 0];
        machine.stop_for_good(&rule::UNLOADED_CODE, arguments, text);
    }
    let Some(section) = image.section_of(fault.address) else { return };
    if section.is_discardable() {
        let text = format!("{shown} is used after DriverEntry: the INIT section is gone");
        let arguments = [fault.address, access.operation, fault.instruction, 2];
        machine.stop_for_good(&rule::INIT_GONE, arguments, text);
    }
    if access.operation == 8 {
        let text = format!("{shown} is executed, which is data");
        machine.stop_for_good(&rule::EXECUTE, [fault.address, 0, 0, 0], text);
    }
    let text = format!("{shown} is written, which is read-only (IRQL {irql})");
    machine.stop_for_good(&rule::WRITE_READONLY, [fault.address, 0, fault.instruction, 0], text)
}

/// A fault in or around a block of pool.
fn in_pool(
    machine: &Machine,
    fault: Fault,
    access: &Access,
    who: &str,
    place: Option<&Place>,
    block: &crate::memory::Block,
) {
    let arguments = [fault.address, access.operation, fault.instruction, 0];
    let shown = machine.memory.areas.canonical(block.address);
    let text = match place {
        Some(Place::Block(_)) if access.operation == 8 => {
            let text = format!("{who} executes pool: block {shown:#x}");
            machine.stop_for_good(&rule::EXECUTE, [fault.address, 0, 0, 0], text);
        }
        Some(Place::Block(_)) => {
            let rule = if fault.in_driver { &rule::FREED_BY_DRIVER } else { &rule::FREED_BY_SYSTEM };
            let text = format!(
                "{who} {} pool that was freed: block {shown:#x} of {} bytes",
                access.verb, block.length
            );
            machine.stop_about(rule, arguments, text.clone(), block.address);
            text
        }
        Some(Place::Near(_, distance)) => {
            let rule = if fault.in_driver { &rule::BEYOND_BY_DRIVER } else { &rule::BEYOND_BY_SYSTEM };
            let text =
                format!("{who} {} {distance} bytes from the end of pool block {shown:#x}", access.verb);
            machine.stop_about(rule, arguments, text.clone(), block.address);
            text
        }
        None => return,
    };
    // Without special pool the pages are as gone as they are with it.
    machine.stop_for_good(&rule::PAGE_FAULT, [fault.address, access.operation, fault.instruction, 2], text)
}
