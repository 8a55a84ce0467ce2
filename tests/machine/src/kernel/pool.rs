//! Pool: special pool for every allocation, tracked by tag and by who allocated it.
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use crate::bugcheck::code;
use crate::image::Image;
use crate::machine::Machine;
use crate::memory::Use;
use crate::sched::DISPATCH;

/// What drivers have allocated.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    blocks: RefCell<BTreeMap<u64, Allocation>>,
    allocations: Cell<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Allocation {
    length: u64,
    tag: u32,
    caller: u64,
}

impl Pool {
    /// `ExAllocatePool2` and its kin, for nonpaged pool.
    pub(crate) fn allocate(&self, machine: &Machine, length: u64, tag: u32, caller: u64) -> u64 {
        let irql = machine.scheduler.irql();
        machine.checked();
        if irql > DISPATCH {
            machine.bugcheck(
                code::DRIVER_VERIFIER_DETECTED_VIOLATION,
                [0x02, u64::from(irql), 0, length],
                "Nonpaged pool is allocated above DISPATCH_LEVEL",
            );
        }
        if length == 0 {
            machine.bugcheck(
                code::DRIVER_VERIFIER_DETECTED_VIOLATION,
                [0x00, u64::from(irql), 0, 0],
                "Zero bytes of pool are allocated",
            );
        }
        if tag == 0 {
            machine.bugcheck(
                code::BAD_POOL_CALLER,
                [0x9B, 0, length, caller],
                "Pool is allocated with the tag 0",
            );
        }
        machine.counts.allocations.set(machine.counts.allocations.get() + 1);
        if self.next_fails(machine) {
            return 0;
        }
        let address = machine.memory.allocate(length, Use::Pool { tag });
        self.blocks.borrow_mut().insert(address, Allocation { length, tag, caller });
        address
    }

    /// Counts one allocation of any kind; true if it is the one that fails.
    pub(crate) fn next_fails(&self, machine: &Machine) -> bool {
        let number = self.allocations.get() + 1;
        self.allocations.set(number);
        machine.configuration.fail_allocation == Some(number)
    }

    /// Allocations of any kind so far.
    pub(crate) fn allocations(&self) -> u64 {
        self.allocations.get()
    }

    /// `ExFreePoolWithTag`; tag 0 matches all.
    pub(crate) fn free(&self, machine: &Machine, address: u64, tag: u32) {
        let irql = u64::from(machine.scheduler.irql());
        machine.checked();
        if irql > u64::from(DISPATCH) {
            machine.bugcheck(
                code::DRIVER_VERIFIER_DETECTED_VIOLATION,
                [0x12, irql, 0, address],
                "Nonpaged pool is freed above DISPATCH_LEVEL",
            );
        }
        let found = self.blocks.borrow_mut().remove(&address);
        let Some(allocation) = found else {
            let freed = machine.memory.block(address).is_some_and(|block| block.freed);
            if freed {
                machine.bugcheck(
                    code::BAD_POOL_CALLER,
                    [0x07, 0, 0, address],
                    "Pool is freed that was freed already",
                );
            }
            machine.bugcheck(
                code::DRIVER_VERIFIER_DETECTED_VIOLATION,
                [0x10, address, 0, 0],
                "An address is freed that was never allocated",
            );
        };
        if tag != 0 && tag != allocation.tag {
            machine.bugcheck(
                code::BAD_POOL_CALLER,
                [0x0A, address, u64::from(allocation.tag), u64::from(tag)],
                "Pool is freed with another tag than it was allocated with",
            );
        }
        if let Some(wrong) = machine.memory.free(address) {
            machine.bugcheck(
                code::SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION,
                [address, wrong, allocation.length, 0x23],
                "Something was written around the block",
            );
        }
    }

    /// Looks for what an image that is being unloaded has not freed.
    pub(crate) fn check_unload(&self, image: &Image) {
        let machine = crate::machine::current();
        machine.checked();
        let blocks = self.blocks.borrow();
        let left: Vec<_> = blocks.iter().filter(|(_, block)| image.contains(block.caller)).collect();
        if left.is_empty() {
            return;
        }
        let bytes = left.iter().map(|(_, block)| block.length).sum();
        let history = left
            .iter()
            .take(16)
            .map(|(address, block)| {
                let tag = String::from_utf8_lossy(&block.tag.to_le_bytes()).into_owned();
                format!(
                    "{address:#x}: {} bytes, tag {tag}, allocated at {}+{:#x}",
                    block.length,
                    image.name,
                    block.caller - image.base
                )
            })
            .collect();
        let count = left.len() as u64;
        drop(blocks);
        machine.bugcheck_with_history(
            code::DRIVER_VERIFIER_DETECTED_VIOLATION,
            [0x60, 0, bytes, count],
            format!("{} is unloaded without freeing {count} pool blocks", image.name),
            history,
        );
    }
}
