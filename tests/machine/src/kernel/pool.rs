//! Pool: tracked by tag and by who allocated it.
use std::cell::{Cell, RefCell};

use rustc_hash::FxHashMap;

use crate::image::Image;
use crate::machine::{LowResources, Machine};
use crate::memory::Use;
use crate::rule;
use crate::sched::{APC, DISPATCH};

/// `PagedPool`, `NonPagedPoolNx` of `POOL_TYPE`.
const PAGED: u64 = 1;
const NONPAGED: u64 = 512;
/// What pool holds that is not asked to be zeroed.
const STALE: u8 = 0xCD;

/// What drivers have allocated.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    blocks: RefCell<FxHashMap<u64, Allocation>>,
    allocations: Cell<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Allocation {
    length: u64,
    tag: u32,
    caller: u64,
    paged: bool,
}

/// Fresh memory that a driver did not ask to be zeroed holds what was there.
pub(super) fn dirty(address: u64, length: u64) {
    crate::memory::put_bytes(address, &vec![STALE; length as usize]);
}

impl Pool {
    /// `ExAllocatePool2` and its kin.
    pub(crate) fn allocate(&self, machine: &Machine, length: u64, tag: u32, caller: u64, paged: bool) -> u64 {
        machine.checked();
        let irql = machine.scheduler.irql();
        let level = u64::from(irql);
        if paged && irql > APC {
            let text = "Paged pool is allocated above APC_LEVEL";
            machine.stop(&rule::POOL_PAGED_IRQL, [level, PAGED, length], text);
        }
        if irql > DISPATCH {
            let text = "Nonpaged pool is allocated above DISPATCH_LEVEL";
            machine.stop(&rule::POOL_IRQL, [level, NONPAGED, length], text);
        }
        let kind = if paged { PAGED } else { NONPAGED };
        if length == 0 {
            machine.stop(&rule::POOL_ZERO_BYTES, [level, kind, 0], "Zero bytes of pool are allocated");
        }
        if tag == 0 {
            machine.stop(&rule::POOL_TAG_ZERO, [kind, length, caller], "Pool is allocated with the tag 0");
        } else if tag == u32::from_le_bytes(*b"BIG\0") || tag == u32::from_le_bytes(*b"BIG ") {
            machine.stop(&rule::POOL_TAG_BIG, [kind, length, caller], "Pool is allocated with the tag BIG");
        } else if !tag.to_le_bytes().iter().any(u8::is_ascii_alphanumeric) {
            let text = "Pool is allocated with a tag without letters and digits";
            machine.stop(&rule::POOL_TAG_TEXT, [kind, length, caller], text);
        }
        machine.counts.allocations.set(machine.counts.allocations.get() + 1);
        if self.next_fails(machine) {
            return 0;
        }
        let usage = if paged { Use::PagedPool { tag } } else { Use::Pool { tag } };
        let address = machine.memory.allocate(length, usage);
        if let Some(wrong) = machine.memory.take_modified() {
            let text = "Something was written into pool that was freed";
            machine.stop_about(&rule::FREED_MODIFIED, [wrong, 1, 0, 0], text, wrong);
        }
        self.blocks.borrow_mut().insert(address, Allocation { length, tag, caller, paged });
        machine.log.begin(machine, address, "pool", "allocated");
        address
    }

    /// Counts one allocation of any kind; true if it is one that fails.
    pub(crate) fn next_fails(&self, machine: &Machine) -> bool {
        let number = self.allocations.get() + 1;
        self.allocations.set(number);
        match machine.configuration.low_resources {
            LowResources::Off => false,
            LowResources::Nth(nth) => nth == number,
            LowResources::OneIn(many) => machine.scheduler.choose(u64::from(many)) == 0,
        }
    }

    /// Allocations of any kind so far.
    pub(crate) fn allocations(&self) -> u64 {
        self.allocations.get()
    }

    /// `ExFreePoolWithTag`; tag 0 matches all.
    pub(crate) fn free(&self, machine: &Machine, address: u64, tag: u32) {
        machine.checked();
        let irql = machine.scheduler.irql();
        let level = u64::from(irql);
        let found = self.blocks.borrow().get(&address).copied();
        let Some(allocation) = found else {
            return refuse(machine, address);
        };
        let kind = if allocation.paged { PAGED } else { NONPAGED };
        if allocation.paged && irql > APC {
            let text = "Paged pool is freed above APC_LEVEL";
            machine.stop(&rule::POOL_PAGED_FREE_IRQL, [level, kind, address], text);
        }
        if irql > DISPATCH {
            let text = "Nonpaged pool is freed above DISPATCH_LEVEL";
            machine.stop(&rule::POOL_FREE_IRQL, [level, kind, address], text);
        }
        if tag != 0 && tag != allocation.tag {
            machine.stop_about(
                &rule::POOL_WRONG_TAG,
                [0x0A, address, u64::from(allocation.tag), u64::from(tag)],
                "Pool is freed with another tag than it was allocated with",
                address,
            );
        }
        super::check_freed(machine, address, allocation.length);
        super::mdl::check_freed(machine, address, allocation.length);
        self.blocks.borrow_mut().remove(&address);
        machine.event(address, "freed");
        if let Some(wrong) = machine.memory.free(address) {
            written_around(machine, address, wrong, allocation.length);
        }
    }

    /// Looks for what an image that is being unloaded has not freed.
    pub(crate) fn check_unload(&self, image: &Image) {
        let machine = crate::machine::current();
        machine.checked();
        let blocks = self.blocks.borrow();
        let mut left: Vec<_> = blocks.iter().filter(|(_, block)| image.contains(block.caller)).collect();
        if left.is_empty() {
            return;
        }
        left.sort_unstable_by_key(|(address, _)| **address);
        let bytes = |paged: bool| {
            left.iter().filter(|(_, block)| block.paged == paged).map(|(_, block)| block.length).sum()
        };
        let history = left
            .iter()
            .take(16)
            .map(|(address, block)| {
                let tag = String::from_utf8_lossy(&block.tag.to_le_bytes()).into_owned();
                format!(
                    "{:#x}: {} bytes, tag {tag}, allocated at {}+{:#x}",
                    machine.memory.areas.canonical(**address),
                    block.length,
                    image.name,
                    block.caller - image.base
                )
            })
            .collect();
        let (paged, nonpaged, count) = (bytes(true), bytes(false), left.len() as u64);
        drop(left);
        drop(blocks);
        machine.stop_with(
            &rule::POOL_LEAK,
            [0x60, paged, nonpaged, count],
            format!("{} is unloaded without freeing {count} pool blocks", image.name),
            history,
        );
    }
}

/// An address is freed that is no block of pool.
fn refuse(machine: &Machine, address: u64) {
    let block = machine.memory.block(address);
    if block.as_ref().is_some_and(|block| block.usage == Use::System("IRP") && !block.freed) {
        machine.stop(&rule::POOL_IS_IRP, [address, 0, 0], "An IRP is freed as pool");
    }
    if block.is_some_and(|block| block.freed) {
        let text = "Pool is freed that was freed already";
        machine.stop_about(&rule::POOL_FREED_TWICE, [7, 0, 0, address], text, address);
    }
    let text = "An address is freed that was never allocated";
    machine.stop(&rule::POOL_NEVER_ALLOCATED, [address, 0, 0], text);
}

/// Something was written around a block.
pub(crate) fn written_around(machine: &Machine, address: u64, wrong: u64, length: u64) {
    let (rule, how, text) = if wrong < address {
        (&rule::SPECIAL_BEFORE, 0x23, "Something was written before the block")
    } else {
        (&rule::SPECIAL_AFTER, 0x24, "Something was written behind the block")
    };
    machine.stop_about(rule, [address, wrong, length, how], text, address);
}
