//! The processor block that code finds behind GS: what inline functions of the kernel's headers read.
#![expect(unsafe_code, reason = "sets a segment's base")]
use crate::memory::{Memory, PAGE, Use, put};
use crate::sched::Thread;

/// Offsets in a `KPCR` on x64 (public symbols of `ntoskrnl.exe`): itself, its `KPRCB`, and in that the current
/// thread and the number of the processor.
const SELF: u64 = 0x18;
const CURRENT_BLOCK: u64 = 0x20;
const BLOCK: u64 = 0x180;
const LEGACY_NUMBER: u64 = 0x184;
const CURRENT_THREAD: u64 = 0x188;
const NUMBER: u64 = 0x1A4;
/// Bytes of what a `KTHREAD` is here: an identity, and nothing that drivers may look at.
const THREAD: u64 = 64;
/// `ARCH_SET_GS` of `arch_prctl`.
const SET_GS: libc::c_int = 0x1001;

/// The blocks of all processors; where they take turns on one host thread there is one.
#[derive(Debug)]
pub(crate) struct ProcessorBlock {
    pages: Vec<u64>,
}

impl ProcessorBlock {
    pub(crate) fn new(memory: &Memory, processors: usize, parallel: bool) -> Self {
        let count = if parallel { processors } else { 1 };
        let page = || {
            let page = memory.allocate(PAGE, Use::System("KPCR"));
            put::<u64>(page + SELF, page);
            put::<u64>(page + CURRENT_BLOCK, page + BLOCK);
            page
        };
        Self { pages: (0..count).map(|_| page()).collect() }
    }

    fn page(&self, processor: usize) -> u64 {
        self.pages[processor.min(self.pages.len() - 1)]
    }

    /// This host thread executes code of a processor.
    pub(crate) fn enter(&self, processor: usize) {
        set_base(self.page(processor));
    }

    /// This host thread executes none any more.
    pub(crate) fn leave() {
        set_base(0);
    }

    /// A thread has ended.
    #[expect(clippy::unused_self, reason = "the counterpart of switching to it")]
    pub(crate) fn forget(&self, thread: &Thread) {
        let object = thread.object.replace(0);
        if object != 0 {
            crate::machine::current().memory.free_small(object, THREAD);
        }
    }

    /// A processor goes on with a thread.
    pub(crate) fn switch(&self, thread: &Thread, processor: usize) {
        let page = self.page(processor);
        if thread.object.get() == 0 {
            thread.object.set(crate::machine::current().memory.allocate_small(THREAD));
        }
        put::<u64>(page + CURRENT_THREAD, thread.object.get());
        put::<u8>(page + LEGACY_NUMBER, processor as u8);
        put::<u32>(page + NUMBER, processor as u32);
    }
}

fn set_base(address: u64) {
    // SAFETY: nothing on Linux uses GS; the page outlives the machine's code on this host thread.
    let result = unsafe { libc::syscall(libc::SYS_arch_prctl, SET_GS, address) };
    assert!(result == 0, "the base of GS cannot be set");
}
