//! DMA adapters and common buffers, and the IOMMU that devices go through.
use std::cell::RefCell;
use std::collections::BTreeMap;

use super::{Breach, Call, Function, Irql, function};
use crate::bugcheck::code;
use crate::machine::Machine;
use crate::memory::{Use, get, put};

pub(super) const HAL_FUNCTIONS: &[Function] = &[function!("HalGetAdapter", Passive, |machine, call| {
    machine.bugcheck(
        code::DRIVER_VERIFIER_DMA_VIOLATION,
        [0x1E, call.caller(), 0, 0],
        "HalGetAdapter is used",
    )
})];

/// Offsets in `DMA_OPERATIONS`.
const PUT_DMA_ADAPTER: u64 = 0x08;
const ALLOCATE_COMMON_BUFFER: u64 = 0x10;
const FREE_COMMON_BUFFER: u64 = 0x18;
/// Bytes of the table in the newest version, all entries of which but these are absent.
const OPERATIONS_SIZE: u64 = 0x140;
/// Where logical addresses start: far from any other.
const FIRST_LOGICAL: u64 = 0x1_0000_0000;

/// What a driver reaches through an adapter's table of operations.
pub(super) static OPERATIONS: [Function; 3] = [
    Function { name: "PutDmaAdapter", irql: Irql::Dispatch, breach: Breach::Dma, run: put_adapter },
    Function { name: "AllocateCommonBuffer", irql: Irql::Passive, breach: Breach::Dma, run: allocate },
    Function { name: "FreeCommonBuffer", irql: Irql::Passive, breach: Breach::Dma, run: free },
];

/// A DMA adapter.
#[derive(Debug, Default)]
struct Adapter {
    buffers: BTreeMap<u64, Buffer>,
    put: bool,
}

#[derive(Clone, Copy, Debug)]
struct Buffer {
    length: u32,
    logical: u64,
    cached: u8,
}

/// Every DMA adapter of the machine.
#[derive(Debug, Default)]
pub(crate) struct Dma {
    adapters: RefCell<BTreeMap<u64, Adapter>>,
    next_logical: std::cell::Cell<u64>,
    history: RefCell<Vec<String>>,
}

impl Dma {
    fn record(&self, machine: &Machine, event: &str) {
        self.history.borrow_mut().push(format!("{} us: {event}", machine.microseconds()));
    }

    /// Allocations and frees of common buffers, with their times and addresses.
    pub(crate) fn history(&self) -> Vec<String> {
        self.history.borrow().clone()
    }

    /// Common buffers that were not freed.
    pub(crate) fn buffers_left(&self) -> usize {
        self.adapters.borrow().values().map(|adapter| adapter.buffers.len()).sum()
    }

    /// A device reads memory. It may do so at any time between start and completion of a transfer; memory
    /// that was freed meanwhile is out of its reach.
    pub(crate) fn device_read(&self, machine: &Machine, device: u64, address: u64, length: u64) -> Vec<u8> {
        machine.checked();
        if !machine.memory.is_live(address, length) {
            machine.bugcheck_with_history(
                code::DRIVER_VERIFIER_DMA_VIOLATION,
                [0x26, device, address, 0],
                "The device reads memory that is not there any more: the IOMMU reports a violation",
                self.history(),
            );
        }
        crate::memory::bytes(address, length as usize)
    }
}

/// `IoGetDmaAdapter`.
pub(super) fn get_adapter(machine: &Machine, call: &Call<'_>) -> u64 {
    let device = call.arg(0);
    if device != 0 && !machine.ndis.is_physical_device(device) {
        machine.bugcheck(
            0xCA,
            [2, device, 0, 0],
            "IoGetDmaAdapter is given an object that is no physical device object",
        );
    }
    let version: u32 = get(call.arg(1));
    machine.checked();
    if version > 3 {
        machine.bugcheck(
            code::DRIVER_VERIFIER_DMA_VIOLATION,
            [0x25, u64::from(version), 0, 0],
            "The device description has an unknown version",
        );
    }
    if call.arg(2) != 0 {
        put::<u32>(call.arg(2), 64);
    }
    let operations = machine.memory.allocate(OPERATIONS_SIZE, Use::System("DMA_OPERATIONS"));
    put::<u32>(operations, OPERATIONS_SIZE as u32);
    for (index, offset) in
        [PUT_DMA_ADAPTER, ALLOCATE_COMMON_BUFFER, FREE_COMMON_BUFFER].into_iter().enumerate()
    {
        put::<u64>(operations + offset, machine.hidden_entries + index as u64 * crate::image::THUNK);
    }
    let adapter = machine.memory.allocate(0x10, Use::System("DMA_ADAPTER"));
    put::<u16>(adapter, 1);
    put::<u16>(adapter + 2, 0x10);
    put::<u64>(adapter + 8, operations);
    machine.dma.adapters.borrow_mut().insert(adapter, Adapter::default());
    machine.dma.record(machine, &format!("adapter {adapter:#x} for device {device:#x}"));
    adapter
}

/// Runs `work` with an adapter that was not put yet.
fn with_adapter<R>(machine: &Machine, address: u64, work: impl FnOnce(&mut Adapter) -> R) -> R {
    machine.checked();
    let mut adapters = machine.dma.adapters.borrow_mut();
    match adapters.get_mut(&address) {
        Some(adapter) if !adapter.put => work(adapter),
        found => {
            let code = if found.is_some() { 0x18 } else { 0x19 };
            drop(adapters);
            machine.bugcheck(
                code::DRIVER_VERIFIER_DMA_VIOLATION,
                [code, address, 0, 0],
                "A DMA adapter is used that was released, or that is none",
            )
        }
    }
}

fn put_adapter(machine: &Machine, call: &Call<'_>) -> u64 {
    let left = with_adapter(machine, call.arg(0), |adapter| {
        adapter.put = true;
        adapter.buffers.len()
    });
    if left != 0 {
        machine.bugcheck_with_history(
            code::DRIVER_VERIFIER_DMA_VIOLATION,
            [0x07, call.arg(0), left as u64, 0],
            format!("A DMA adapter is released while {left} of its common buffers are not freed"),
            machine.dma.history(),
        );
    }
    machine.dma.record(machine, &format!("adapter {:#x} released", call.arg(0)));
    0
}

fn allocate(machine: &Machine, call: &Call<'_>) -> u64 {
    let length = call.arg32(1);
    with_adapter(machine, call.arg(0), |_| ());
    if machine.pool_fails() {
        return 0;
    }
    let address = machine.memory.allocate(u64::from(length).max(4096), Use::CommonBuffer);
    let dma = &machine.dma;
    let logical = FIRST_LOGICAL + dma.next_logical.get();
    // A page stays free between buffers, in logical addresses too.
    dma.next_logical.set(dma.next_logical.get() + (u64::from(length).div_ceil(4096) + 1) * 4096);
    put::<u64>(call.arg(2), logical);
    let buffer = Buffer { length, logical, cached: call.arg(3) as u8 };
    with_adapter(machine, call.arg(0), |adapter| adapter.buffers.insert(address, buffer));
    dma.record(
        machine,
        &format!("common buffer {address:#x}, logical {logical:#x}, {length} bytes, allocated"),
    );
    address
}

fn free(machine: &Machine, call: &Call<'_>) -> u64 {
    let address = call.arg(3);
    let found = with_adapter(machine, call.arg(0), |adapter| adapter.buffers.remove(&address));
    let dma = &machine.dma;
    let Some(buffer) = found else {
        machine.bugcheck_with_history(
            code::DRIVER_VERIFIER_DMA_VIOLATION,
            [0x03, 1, 0, 0],
            "A common buffer is freed that is not allocated: freed twice?",
            dma.history(),
        );
    };
    let same =
        buffer.length == call.arg32(1) && buffer.logical == call.arg(2) && buffer.cached == call.arg(4) as u8;
    if !same {
        machine.bugcheck_with_history(
            code::DRIVER_VERIFIER_DMA_VIOLATION,
            [0x00, address, buffer.logical, call.arg(2)],
            "A common buffer is freed with other parameters than it was allocated with",
            dma.history(),
        );
    }
    if let Some(wrong) = machine.memory.free(address) {
        machine.bugcheck(
            code::DRIVER_VERIFIER_DMA_VIOLATION,
            [0x0F, 5, address, wrong],
            "Something was written around a common buffer",
        );
    }
    dma.record(machine, &format!("common buffer {address:#x} freed"));
    0
}
