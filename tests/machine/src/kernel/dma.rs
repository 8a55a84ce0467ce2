//! DMA adapters and common buffers, and the IOMMU that devices go through.
use std::cell::RefCell;
use std::collections::BTreeMap;

use ndis_sys::MDL;

use super::{Call, Function, function};
use crate::machine::Machine;
use crate::memory::{PAGE, Use, field, get, put};
use crate::rule;
use crate::sched::DISPATCH;

pub(super) const HAL_FUNCTIONS: &[Function] = &[function!("HalGetAdapter", 2, Passive, |machine, call| {
    machine.stop(&rule::DMA_HAL, [call.caller(), 0, 0], "HalGetAdapter is used");
    0
})];

/// What a driver reaches through an adapter's table of operations, and where in it (`DMA_OPERATIONS`).
pub(super) const OPERATIONS: &[Function] = &[
    function!("PutDmaAdapter", 1, Dispatch, DMA_IRQL, put_adapter),
    function!("AllocateCommonBuffer", 4, Passive, DMA_IRQL, allocate),
    function!("FreeCommonBuffer", 5, Passive, DMA_IRQL, free),
    function!("GetDmaAlignment", 1, Passive, DMA_IRQL, |_, _| 1),
    function!("GetScatterGatherList", 8, AtDispatch, IRQL_DISPATCH, get_list),
    function!("PutScatterGatherList", 3, AtDispatch, IRQL_DISPATCH, put_list),
];
const OFFSETS: [u64; 6] = [0x08, 0x10, 0x18, 0x40, 0x58, 0x60];
/// Bytes of the table in the newest version; entries that are not in [`OPERATIONS`] are absent.
const OPERATIONS_SIZE: u64 = 0x140;
/// Where logical addresses start: far from any other.
const FIRST_LOGICAL: u64 = 0x1_0000_0000;

/// A DMA adapter.
#[derive(Debug, Default)]
struct Adapter {
    buffers: BTreeMap<u64, Buffer>,
    /// Scatter/gather lists, and the logical address of each.
    lists: BTreeMap<u64, u64>,
    put: bool,
}

#[derive(Clone, Copy, Debug)]
struct Buffer {
    length: u32,
    logical: u64,
    cached: u8,
}

/// `MaximumLength` of a device description.
const MAXIMUM_LENGTH: u64 = 0x20;

/// What a device does.
const READ: u64 = 1;
const WRITE: u64 = 2;

/// What a range of logical addresses leads to.
#[derive(Clone, Copy, Debug)]
struct Mapping {
    address: u64,
    length: u64,
}

/// Every DMA adapter of the machine, and the IOMMU that devices go through.
#[derive(Debug, Default)]
pub(crate) struct Dma {
    adapters: RefCell<BTreeMap<u64, Adapter>>,
    next_logical: std::cell::Cell<u64>,
    mappings: RefCell<BTreeMap<u64, Mapping>>,
    /// Logical addresses of common buffers, by address: what lies in one is reached through it.
    common: RefCell<BTreeMap<u64, u64>>,
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

    fn new_mapping(&self, address: u64, length: u64) -> u64 {
        let offset = address & (PAGE - 1);
        let start = FIRST_LOGICAL + self.next_logical.get();
        // A page stays free between ranges.
        self.next_logical.set(self.next_logical.get() + ((offset + length).div_ceil(PAGE) + 1) * PAGE);
        self.mappings.borrow_mut().insert(start + offset, Mapping { address, length });
        start + offset
    }

    /// The system maps memory for a device, for the time of a transfer: its logical address. What lies in a common
    /// buffer is mapped for as long as the buffer lives.
    pub(crate) fn map(&self, address: u64, length: u64) -> u64 {
        let common = self.common.borrow();
        if let Some((start, logical)) = common.range(..=address).next_back()
            && let Some(mapping) = self.mappings.borrow().get(logical)
            && address + length <= mapping.address + mapping.length
        {
            return logical + (address - start);
        }
        drop(common);
        self.new_mapping(address, length)
    }

    /// The transfer is over.
    pub(crate) fn unmap(&self, logical: u64) {
        let common = self.common.borrow();
        let mut mappings = self.mappings.borrow_mut();
        if mappings.get(&logical).is_some_and(|mapping| !common.contains_key(&mapping.address)) {
            mappings.remove(&logical);
        }
    }

    /// A device reads memory through a logical address. It may do so at any time between start and completion of
    /// a transfer; memory that was freed meanwhile is out of its reach.
    pub(crate) fn device_read(&self, machine: &Machine, device: u64, logical: u64, length: u64) -> Vec<u8> {
        match self.reach(machine, device, logical, length, READ) {
            Some(address) => crate::memory::bytes(address, length as usize),
            None => Vec::new(),
        }
    }

    /// A device writes memory through a logical address; false if it cannot.
    pub(crate) fn device_write(&self, machine: &Machine, device: u64, logical: u64, data: &[u8]) -> bool {
        let reached = self.reach(machine, device, logical, data.len() as u64, WRITE);
        if let Some(address) = reached {
            crate::memory::put_bytes(address, data);
        } else if !machine.verifier.enforces(rule::DMA_IOMMU.option) {
            self.write_unchecked(machine, logical, data);
            return true;
        }
        reached.is_some()
    }

    /// Without an IOMMU a device writes physical memory, which has neither protection nor gaps: what it writes beyond a
    /// mapping lands in the block whose memory comes next, whatever the page tables have between the two.
    fn write_unchecked(&self, machine: &Machine, logical: u64, data: &[u8]) {
        let mapping = {
            let mappings = self.mappings.borrow();
            mappings.range(..=logical).next_back().map(|(start, mapping)| (logical - start, *mapping))
        };
        let Some((offset, Mapping { address, length })) = mapping else { return };
        let (inside, beyond) = data.split_at(data.len().min(length.saturating_sub(offset) as usize));
        if machine.memory.is_live(address + offset, inside.len() as u64) {
            crate::memory::put_bytes(address + offset, inside);
        }
        let from = offset.saturating_sub(length);
        if let Some(next) = machine.memory.next_live(address + length)
            && let Some(room) = next.length.checked_sub(from)
        {
            let count = beyond.len().min(room as usize);
            crate::memory::put_bytes(next.address + from, &beyond[..count]);
        }
    }

    fn reach(
        &self,
        machine: &Machine,
        device: u64,
        logical: u64,
        length: u64,
        operation: u64,
    ) -> Option<u64> {
        machine.checked();
        let found = {
            let mappings = self.mappings.borrow();
            mappings.range(..=logical).next_back().and_then(|(start, mapping)| {
                let offset = logical - start;
                (offset + length <= mapping.length).then_some(mapping.address + offset)
            })
        };
        let live = found.filter(|address| machine.memory.is_live(*address, length));
        if live.is_none() {
            let verb = if operation == READ { "reads" } else { "writes" };
            let text = format!("The device {verb} memory that is not its own: the IOMMU reports a violation");
            let mut history = self.history();
            history.extend(machine.card_history());
            history.sort_by_key(|line| line.split(' ').next().and_then(|time| time.parse::<u64>().ok()));
            if operation == READ {
                // Inside a send, on the thread that sends.
                machine.stop_with(&rule::DMA_IOMMU, [0x26, device, logical, operation], text, history);
            } else {
                let who = ("a device", machine.scheduler.irql());
                machine.stop_outside(&rule::DMA_IOMMU, [device, logical, operation], text, who, history);
            }
        }
        live
    }
}

/// `IoGetDmaAdapter`.
pub(super) fn get_adapter(machine: &Machine, call: &Call<'_>) -> u64 {
    machine.checked();
    let device = call.arg(0);
    if device != 0 && !machine.ndis.is_physical_device(device) {
        let text = "IoGetDmaAdapter is given an object that is no physical device object";
        machine.stop(&rule::DMA_DEVICE, [device, 0, 0], text);
        return 0;
    }
    let version: u32 = get(call.arg(1));
    if version > 3 {
        let text = "The device description has an unknown version";
        machine.stop(&rule::DMA_VERSION, [u64::from(version), 0, 0], text);
    }
    check_description(machine, call.arg(1));
    if call.arg(2) != 0 {
        let maximum: u32 = get(call.arg(1) + MAXIMUM_LENGTH);
        put::<u32>(call.arg(2), maximum.div_ceil(PAGE as u32) + 1);
    }
    let operations = machine.memory.allocate(OPERATIONS_SIZE, Use::System("DMA_OPERATIONS"));
    put::<u32>(operations, OPERATIONS_SIZE as u32);
    for (function, offset) in OPERATIONS.iter().zip(OFFSETS) {
        put::<u64>(operations + offset, super::entry_of(function.name).unwrap_or(0));
    }
    let adapter = machine.memory.allocate(0x10, Use::System("DMA_ADAPTER"));
    put::<u16>(adapter, 1);
    put::<u16>(adapter + 2, 0x10);
    put::<u64>(adapter + 8, operations);
    machine.dma.adapters.borrow_mut().insert(adapter, Adapter::default());
    machine
        .dma
        .record(machine, &format!("adapter {} for device {}", name(machine, adapter), name(machine, device)));
    adapter
}

/// A device description has 64 bytes, whatever its version, and a bus master uses of the last 24 none (page
/// "`DEVICE_DESCRIPTION`").
fn check_description(machine: &Machine, description: u64) {
    const MASTER: u64 = 0x04;
    const RESERVED: u64 = 0x0A;
    const SYSTEM_DMA: std::ops::Range<u64> = 0x28..0x40;
    machine.checked();
    let used = get::<u8>(description + RESERVED) != 0
        || get::<u8>(description + MASTER) != 0
            && SYSTEM_DMA.step_by(8).any(|offset| get::<u64>(description + offset) != 0);
    if used {
        let text = "A device description is not zero in bytes that a bus master does not use";
        machine.stop(&rule::DMA_DESCRIPTION, [description, 0, 0], text);
    }
}

fn name(machine: &Machine, address: u64) -> String {
    format!("{:#x}", machine.memory.areas.canonical(address))
}

/// Runs `work` with an adapter that was not put yet.
fn with_adapter<R>(machine: &Machine, address: u64, work: impl FnOnce(&mut Adapter) -> R) -> Option<R> {
    machine.checked();
    let mut adapters = machine.dma.adapters.borrow_mut();
    match adapters.get_mut(&address) {
        Some(adapter) if !adapter.put => return Some(work(adapter)),
        found => {
            let rule = if found.is_some() { &rule::DMA_RELEASED } else { &rule::DMA_NULL };
            drop(adapters);
            machine.stop(rule, [address, 0, 0], "A DMA adapter is used that was released, or that is none");
        }
    }
    None
}

fn put_adapter(machine: &Machine, call: &Call<'_>) -> u64 {
    let left = with_adapter(machine, call.arg(0), |adapter| {
        adapter.put = true;
        (adapter.buffers.len(), adapter.lists.len())
    });
    let (buffers, lists) = left.unwrap_or_default();
    if buffers != 0 {
        machine.stop_with(
            &rule::DMA_PUT,
            [0x07, call.arg(0), buffers as u64, 0],
            format!("A DMA adapter is released while {buffers} of its common buffers are not freed"),
            machine.dma.history(),
        );
    }
    if lists != 0 {
        let text = format!("A DMA adapter is released while {lists} scatter/gather lists of it are not put");
        machine.stop(&rule::DMA_PUT_LISTS, [call.arg(0), lists as u64, 0], text);
    }
    machine.dma.record(machine, &format!("adapter {} released", name(machine, call.arg(0))));
    0
}

fn allocate(machine: &Machine, call: &Call<'_>) -> u64 {
    let length = call.arg32(1);
    if with_adapter(machine, call.arg(0), |_| ()).is_none() || machine.pool_fails() {
        return 0;
    }
    let address = machine.memory.allocate(u64::from(length).max(PAGE), Use::CommonBuffer);
    let dma = &machine.dma;
    let logical = dma.new_mapping(address, u64::from(length).max(PAGE));
    dma.common.borrow_mut().insert(address, logical);
    put::<u64>(call.arg(2), logical);
    let buffer = Buffer { length, logical, cached: call.arg(3) as u8 };
    with_adapter(machine, call.arg(0), |adapter| adapter.buffers.insert(address, buffer));
    machine.log.begin(machine, address, "common buffer", "allocated");
    let place = name(machine, address);
    dma.record(machine, &format!("common buffer {place}, logical {logical:#x}, {length} bytes, allocated"));
    address
}

fn free(machine: &Machine, call: &Call<'_>) -> u64 {
    let address = call.arg(3);
    let found = with_adapter(machine, call.arg(0), |adapter| adapter.buffers.remove(&address));
    let dma = &machine.dma;
    let Some(buffer) = found.flatten() else {
        let text = "A common buffer is freed that is not allocated: freed twice?";
        machine.stop_with(&rule::DMA_TWICE, [0x03, 1, 0, 0], text, dma.history());
        return 0;
    };
    let same =
        buffer.length == call.arg32(1) && buffer.logical == call.arg(2) && buffer.cached == call.arg(4) as u8;
    if !same {
        let text = "A common buffer is freed with other parameters than it was allocated with";
        let arguments = [0x00, address, buffer.logical, call.arg(2)];
        machine.stop_with(&rule::DMA_PARAMETERS, arguments, text, dma.history());
    }
    super::check_freed(machine, address, u64::from(buffer.length));
    dma.common.borrow_mut().remove(&address);
    dma.mappings.borrow_mut().remove(&buffer.logical);
    machine.event(address, "freed");
    if let Some(wrong) = machine.memory.free(address) {
        // 4 and 5: the padding in front of it and behind it.
        let side = if wrong < address { 4 } else { 5 };
        let text = "Something was written around a common buffer";
        machine.stop_about(&rule::DMA_BOUNDS, [0x0F, side, address, wrong], text, address);
    }
    dma.record(machine, &format!("common buffer {} freed", name(machine, address)));
    0
}

/// `GetScatterGatherList`: one element for each page of the range, and the driver's routine is called at once.
fn get_list(machine: &Machine, call: &Call<'_>) -> u64 {
    let (mdl, address, length) = (call.arg(2), call.arg(3), u64::from(call.arg32(4)));
    let (routine, context) = (call.arg(5), call.arg(6));
    if with_adapter(machine, call.arg(0), |_| ()).is_none() {
        return 0;
    }
    if length == 0 {
        machine.stop(&rule::DMA_ZERO, [mdl, address, 0], "A scatter/gather list is asked for no bytes");
    }
    let start = field!(mdl, MDL, StartVa, u64) + u64::from(field!(mdl, MDL, ByteOffset, u32));
    let bytes = u64::from(field!(mdl, MDL, ByteCount, u32));
    if address < start || address + length > start + bytes {
        machine.stop(&rule::DMA_MDL, [address, mdl, 0], "A scatter/gather list is asked for outside its MDL");
    }
    if machine.pool_fails() {
        return u64::from(INSUFFICIENT_RESOURCES);
    }
    let logical = machine.dma.map(address, length);
    let pages: Vec<(u64, u64)> = {
        let mut pages = Vec::new();
        let mut at = 0;
        while at < length {
            let here = (PAGE - (logical + at) % PAGE).min(length - at);
            pages.push((logical + at, here));
            at += here;
        }
        pages
    };
    let list = machine.memory.allocate(16 + 24 * pages.len() as u64, Use::System("SCATTER_GATHER_LIST"));
    put::<u32>(list, pages.len() as u32);
    for (index, (logical, length)) in pages.iter().enumerate() {
        let element = list + 16 + 24 * index as u64;
        put::<u64>(element, *logical);
        put::<u32>(element + 8, *length as u32);
    }
    with_adapter(machine, call.arg(0), |adapter| adapter.lists.insert(list, logical));
    machine.call(routine, &[call.arg(1), 0, list, context]);
    super::after_callback(machine, "A scatter/gather routine", DISPATCH);
    0
}

/// `STATUS_INSUFFICIENT_RESOURCES`.
const INSUFFICIENT_RESOURCES: u32 = 0xC000_009A;

fn put_list(machine: &Machine, call: &Call<'_>) -> u64 {
    let list = call.arg(1);
    let found = with_adapter(machine, call.arg(0), |adapter| adapter.lists.remove(&list));
    match found.flatten() {
        Some(logical) => {
            machine.dma.unmap(logical);
            machine.memory.free(list);
        }
        None => machine.stop(&rule::DMA_LISTS_TWICE, [1, 0, 0], "A scatter/gather list is put twice"),
    }
    0
}
