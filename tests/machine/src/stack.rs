//! Kernel stacks, and the switch between driver code on them and the machine's code on the host's.
//!
//! A driver's code runs on a stack of 24 KiB, as on Windows, and its calls into the kernel run on the
//! machine's own: how much stack a driver uses does not depend on how the machine is written.
#![expect(unsafe_code, reason = "switches stacks and calling conventions")]
use std::arch::naked_asm;
use std::cell::{Cell, RefCell};

use crate::memory::{self, PAGE};
use crate::region::{self, Area};

/// Bytes of stack that a driver has.
pub(crate) const KERNEL_STACK: u64 = 24 * 1024;
/// Stacks are aligned to this, so that a stack pointer tells where its stack's control page is.
const ALIGNMENT: u64 = 64 * 1024;
/// Where the control page lies in a stack's region.
const CONTROL: u64 = ALIGNMENT - PAGE;

/// What a driver finds on a stack that it has not written: kernel stacks are used again, and hold what others left.
const LEFT_BEHIND: u8 = 0xE5;

/// Bytes of a driver's stack that a function of the system uses, at the least.
const USED_BY_CALLS: u64 = 1024;

/// A kernel stack: an inaccessible part, the stack, and a control page that drivers do not know of.
#[derive(Debug)]
pub(crate) struct KernelStack {
    region: u64,
}

/// Kernel stacks of one machine, always in the same places.
#[derive(Debug)]
pub(crate) struct StackPool {
    area: Area,
    next: Cell<u64>,
    spare: RefCell<Vec<KernelStack>>,
    /// Whether each thread finds the same on its stack: what lies there from others shows in traces, in the upper halves
    /// of narrow arguments.
    clears: bool,
}

impl StackPool {
    pub(crate) fn new(clears: bool) -> Self {
        Self { area: region::areas().stacks, next: Cell::new(0), spare: RefCell::default(), clears }
    }

    /// A stack, new or used before.
    pub(crate) fn take(&self) -> KernelStack {
        let spare = self.spare.borrow_mut().pop();
        let stack = spare.unwrap_or_else(|| {
            let region = self.area.base + self.next.get();
            self.next.set(self.next.get() + ALIGNMENT);
            assert!(self.next.get() <= self.area.length, "no address space for a kernel stack");
            let start = region + CONTROL - KERNEL_STACK;
            memory::protect(start, (KERNEL_STACK + PAGE) / PAGE, libc::PROT_READ | libc::PROT_WRITE);
            let stack = KernelStack { region };
            stack.fill();
            stack
        });
        if self.clears {
            stack.fill();
        }
        stack
    }

    /// Keeps the stack for the next thread.
    pub(crate) fn give_back(&self, stack: KernelStack) {
        self.spare.borrow_mut().push(stack);
    }
}

impl KernelStack {
    fn fill(&self) {
        memory::fill_bytes(self.top() - KERNEL_STACK, LEFT_BEHIND, KERNEL_STACK as usize);
    }

    /// Where the stack begins, growing down.
    pub(crate) fn top(&self) -> u64 {
        self.region + CONTROL
    }

    /// Whether an address lies in the stack.
    pub(crate) fn contains(&self, address: u64) -> bool {
        (self.region + CONTROL - KERNEL_STACK..self.region + CONTROL).contains(&address)
    }

    /// Whether an address lies in the inaccessible part below the stack.
    pub(crate) fn is_guard(&self, address: u64) -> bool {
        (self.region..self.region + CONTROL - KERNEL_STACK).contains(&address)
    }

    /// The host's stack pointer at the last switch to this stack.
    pub(crate) fn host_pointer(&self) -> u64 {
        crate::memory::get(self.region + CONTROL)
    }

    /// Sets the host's stack pointer, after a nested switch.
    pub(crate) fn set_host_pointer(&self, pointer: u64) {
        crate::memory::put(self.region + CONTROL, pointer);
    }
}

/// Arguments of a call into a driver: more are never passed.
pub(crate) type Arguments = [u64; 8];

/// Registers that a driver's call into the kernel arrives with.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct CallFrame {
    /// rcx, rdx, r8, r9.
    pub(crate) registers: [u64; 4],
    saved: [u64; 20],
    padding: u64,
    rbp: u64,
    rbx: u64,
    rsi: u64,
    rdi: u64,
    /// Where the call returns to.
    pub(crate) return_address: u64,
    /// Room that the caller left for the register arguments.
    home: [u64; 4],
}

impl CallFrame {
    /// Where the kernel stack ends and begins that the call came from.
    pub(crate) fn stack_limits(&self) -> (u64, u64) {
        let frame: *const Self = self;
        let region = frame as u64 & !(ALIGNMENT - 1);
        (region + CONTROL - KERNEL_STACK, region + CONTROL)
    }

    /// Writes over what the driver left below its frames: on Windows the function that it calls uses that stack.
    pub(crate) fn use_stack(&self) {
        let frame: *const Self = self;
        let (limit, at) = (self.stack_limits().0, frame as u64);
        let used = USED_BY_CALLS.min(at - limit);
        crate::memory::fill_bytes(at - used, LEFT_BEHIND, used as usize);
    }

    /// The caller's stack pointer.
    pub(crate) fn stack_pointer(&self) -> u64 {
        (&raw const self.home) as u64
    }

    /// Argument `index` of the call.
    pub(crate) fn argument(&self, index: usize) -> u64 {
        if let Some(value) = self.registers.get(index) {
            *value
        } else {
            let frame: *const Self = self;
            crate::memory::get(frame as u64 + size_of::<Self>() as u64 + (index as u64 - 4) * 8)
        }
    }
}

/// Calls `function` with the Windows convention on the kernel stack that ends at `stack`.
///
/// # Safety
/// `function` is code of a loaded image that takes these arguments; `stack` is aligned to 16, lies in a
/// kernel stack and nothing below it is in use.
#[unsafe(naked)]
pub(crate) unsafe extern "sysv64" fn call_on(function: u64, arguments: *const Arguments, stack: u64) -> u64 {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        // The control page remembers where the machine's code goes on.
        "mov rax, rdx",
        "dec rax",
        "and rax, -0x10000",
        "mov [rax + 0xF000], rsp",
        "mov rsp, rdx",
        "sub rsp, 0x40",
        "mov rax, [rsi + 0x20]",
        "mov [rsp + 0x20], rax",
        "mov rax, [rsi + 0x28]",
        "mov [rsp + 0x28], rax",
        "mov rax, [rsi + 0x30]",
        "mov [rsp + 0x30], rax",
        "mov rax, [rsi + 0x38]",
        "mov [rsp + 0x38], rax",
        "mov rax, rdi",
        "mov rcx, [rsi]",
        "mov rdx, [rsi + 0x08]",
        "mov r8, [rsi + 0x10]",
        "mov r9, [rsi + 0x18]",
        // What registers hold that carry no argument is the same in every run.
        "xor r10d, r10d",
        "xor r11d, r11d",
        "xor r12d, r12d",
        "xor r13d, r13d",
        "xor r14d, r14d",
        "xor r15d, r15d",
        "xor ebx, ebx",
        "xor esi, esi",
        "xor edi, edi",
        "call rax",
        // rbp is preserved by both conventions.
        "lea rsp, [rbp - 0x30]",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// Where every import of a driver arrives, with the number of the export in r11: goes over to the host's
/// stack and to [`crate::kernel::dispatch`], and back.
#[unsafe(naked)]
pub(crate) unsafe extern "sysv64" fn import_entry() {
    naked_asm!(
        "push rdi",
        "push rsi",
        "push rbx",
        "push rbp",
        "sub rsp, 0xC8",
        "mov [rsp], rcx",
        "mov [rsp + 0x08], rdx",
        "mov [rsp + 0x10], r8",
        "mov [rsp + 0x18], r9",
        // The Windows convention preserves these, the host's does not.
        "movups [rsp + 0x20], xmm6",
        "movups [rsp + 0x30], xmm7",
        "movups [rsp + 0x40], xmm8",
        "movups [rsp + 0x50], xmm9",
        "movups [rsp + 0x60], xmm10",
        "movups [rsp + 0x70], xmm11",
        "movups [rsp + 0x80], xmm12",
        "movups [rsp + 0x90], xmm13",
        "movups [rsp + 0xA0], xmm14",
        "movups [rsp + 0xB0], xmm15",
        "mov edi, r11d",
        "mov rsi, rsp",
        "mov rbx, rsp",
        "mov rax, rsp",
        "and rax, -0x10000",
        "mov rsp, [rax + 0xF000]",
        "and rsp, -16",
        "call {dispatch}",
        "mov rsp, rbx",
        "movups xmm6, [rsp + 0x20]",
        "movups xmm7, [rsp + 0x30]",
        "movups xmm8, [rsp + 0x40]",
        "movups xmm9, [rsp + 0x50]",
        "movups xmm10, [rsp + 0x60]",
        "movups xmm11, [rsp + 0x70]",
        "movups xmm12, [rsp + 0x80]",
        "movups xmm13, [rsp + 0x90]",
        "movups xmm14, [rsp + 0xA0]",
        "movups xmm15, [rsp + 0xB0]",
        "add rsp, 0xC8",
        "pop rbp",
        "pop rbx",
        "pop rsi",
        "pop rdi",
        // Nothing of the machine's own is left in what the call may change.
        "xor ecx, ecx",
        "xor edx, edx",
        "xor r8d, r8d",
        "xor r9d, r9d",
        "xor r10d, r10d",
        "xor r11d, r11d",
        "ret",
        dispatch = sym crate::kernel::dispatch,
    )
}

/// `__chkstk`: touches each page of a large frame, so that an overflow meets the guard. Size in rax; every
/// register is preserved.
#[unsafe(naked)]
pub(crate) unsafe extern "sysv64" fn check_stack() {
    naked_asm!(
        "push rcx",
        "push rax",
        "lea rcx, [rsp + 0x18]",
        "2:",
        "cmp rax, 0x1000",
        "jb 3f",
        "sub rcx, 0x1000",
        "test [rcx], rcx",
        "sub rax, 0x1000",
        "jmp 2b",
        "3:",
        "sub rcx, rax",
        "test [rcx], rcx",
        "pop rax",
        "pop rcx",
        "ret",
    )
}
