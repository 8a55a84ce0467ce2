//! Faults of driver code, turned into the bugchecks that Windows gives.
#![expect(unsafe_code, reason = "handles signals and redirects the faulting thread")]
use std::cell::Cell;
use std::sync::Once;

use crate::bugcheck::code;
use crate::machine::{Machine, current, try_current};
use crate::memory::{Place, Use};
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
    illegal: bool,
}

thread_local! {
    static LAST: Cell<Fault> = const { Cell::new(Fault { address: 0, instruction: 0, error: 0, stack_pointer: 0, frame_pointer: 0, illegal: false }) };
}

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
    LAST.set(Fault {
        address,
        instruction: registers[libc::REG_RIP as usize] as u64,
        error: registers[libc::REG_ERR as usize] as u64,
        stack_pointer,
        frame_pointer: registers[libc::REG_RBP as usize] as u64,
        illegal: signal != libc::SIGSEGV && signal != libc::SIGBUS,
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
    crate::report::set_fault(fault.instruction, fault.stack_pointer, fault.frame_pointer);
    explain(machine, fault)
}

/// The bugcheck for a fault.
fn explain(machine: &Machine, fault: Fault) -> ! {
    let thread = machine.scheduler.this();
    let irql = thread.irql.get();
    let guard = thread.stack.borrow().as_ref().is_some_and(|stack| stack.is_guard(fault.address));
    let write = fault.error & 2 != 0;
    let execute = fault.error & 16 != 0 || fault.address == fault.instruction;
    let operation = if execute { 8 } else { u64::from(write) };
    let verb = if execute {
        "executes"
    } else if write {
        "writes"
    } else {
        "reads"
    };
    if fault.illegal {
        machine.bugcheck(
            code::SYSTEM_SERVICE_EXCEPTION,
            [0xC000_001D, fault.instruction, 0, 0],
            "An instruction that cannot be executed: an assertion or a panic of the driver",
        );
    }
    if guard {
        machine.bugcheck(code::UNEXPECTED_KERNEL_MODE_TRAP, [8, 0, 0, 0], "The kernel stack overflowed");
    }
    match machine.memory.place(fault.address) {
        Some(Place::Block(block)) if block.freed && matches!(block.usage, Use::Pool { .. }) => machine
            .bugcheck(
                code::DRIVER_PAGE_FAULT_IN_FREED_SPECIAL_POOL,
                [fault.address, u64::from(write), fault.instruction, 0],
                format!(
                    "The driver {verb} pool that was freed: block {:#x} of {} bytes",
                    block.address, block.length
                ),
            ),
        Some(Place::Near(block, distance)) if matches!(block.usage, Use::Pool { .. }) => machine.bugcheck(
            code::DRIVER_PAGE_FAULT_BEYOND_END_OF_ALLOCATION,
            [fault.address, u64::from(write), fault.instruction, 0],
            format!("The driver {verb} {distance} bytes from the end of pool block {:#x}", block.address),
        ),
        place => {
            let what = match &place {
                Some(Place::Block(block)) => {
                    let state = if block.freed { "freed" } else { "live" };
                    format!("in a {state} block of {} bytes: {:?}", block.length, block.usage)
                }
                Some(Place::Near(block, distance)) => {
                    format!("{distance} bytes from a block: {:?}", block.usage)
                }
                None => "outside all memory".to_owned(),
            };
            let text = format!("The driver {verb} {:#x}, {what}", fault.address);
            if irql >= DISPATCH {
                let arguments = [fault.address, u64::from(irql), operation, fault.instruction];
                machine.bugcheck(code::DRIVER_IRQL_NOT_LESS_OR_EQUAL, arguments, text)
            }
            if place.is_none() {
                // No address of the kernel's: an access violation that nobody handles.
                let thread_of_system = !thread.in_service.get();
                let arguments = [ACCESS_VIOLATION, fault.instruction, fault.address, 0];
                machine.bugcheck(
                    if thread_of_system {
                        code::SYSTEM_THREAD_EXCEPTION_NOT_HANDLED
                    } else {
                        code::SYSTEM_SERVICE_EXCEPTION
                    },
                    arguments,
                    text,
                )
            }
            let arguments = [fault.address, operation, fault.instruction, 2];
            machine.bugcheck(code::PAGE_FAULT_IN_NONPAGED_AREA, arguments, text)
        }
    }
}
