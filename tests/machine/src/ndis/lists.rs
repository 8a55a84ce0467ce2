//! Every `NET_BUFFER_LIST`: its pool, its owner, its history.
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use ndis_sys::{MDL, NET_BUFFER, NET_BUFFER_LIST, NET_BUFFER_LIST_CONTEXT, NET_BUFFER_LIST_POOL_PARAMETERS};

use crate::bugcheck::contract;
use crate::machine::Machine;
use crate::memory::{Use, field, set};

/// Events that a list remembers.
const HISTORY: usize = 32;
/// Bytes of a list as `ndis.sys` has it: 29 slots of out-of-band data.
const LIST_SIZE: u64 = 0x180;

/// Who may touch a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A filter module, or the driver that allocated the list for it.
    Module(u64),
    /// NDIS, between two drivers.
    Ndis,
    /// An adapter.
    Adapter(usize),
    /// The protocol above an adapter.
    Protocol(usize),
}

#[derive(Debug)]
struct Pool {
    owner: u64,
    context_size: u16,
    with_buffer: bool,
    lists: usize,
}

#[derive(Debug)]
struct Record {
    pool: u64,
    length: u64,
    owner: Owner,
    history: VecDeque<Event>,
}

/// Something that happened to a list.
#[derive(Clone, Debug)]
struct Event {
    microseconds: u64,
    what: &'static str,
    thread: u32,
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} us: {} (thread {})", self.microseconds, self.what, self.thread)
    }
}

/// Pools and lists.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    pools: RefCell<BTreeMap<u64, Pool>>,
    records: RefCell<BTreeMap<u64, Record>>,
}

impl Lists {
    /// `NdisAllocateNetBufferListPool`.
    pub(crate) fn new_pool(&self, handle: u64, owner: u64, parameters: u64) -> u64 {
        let pool = Pool {
            owner,
            context_size: field!(parameters, NET_BUFFER_LIST_POOL_PARAMETERS, ContextSize, u16),
            with_buffer: field!(parameters, NET_BUFFER_LIST_POOL_PARAMETERS, fAllocateNetBuffer, u8) != 0,
            lists: 0,
        };
        self.pools.borrow_mut().insert(handle, pool);
        handle
    }

    /// `NdisFreeNetBufferListPool`.
    pub(crate) fn free_pool(&self, machine: &Machine, handle: u64) {
        machine.checked();
        match self.pools.borrow_mut().remove(&handle) {
            Some(pool) if pool.lists == 0 => {}
            Some(pool) => machine.contract(
                contract::INVALID_OBJECT,
                [handle, pool.lists as u64, 0],
                format!("A pool is freed from which {} lists are allocated", pool.lists),
                Vec::new(),
            ),
            None => machine.contract(
                contract::INVALID_OBJECT,
                [handle, 0, 0],
                "A pool is freed that is none",
                Vec::new(),
            ),
        }
    }

    /// Pools that were not freed.
    pub(crate) fn pools_left(&self) -> usize {
        self.pools.borrow().len()
    }

    /// `NdisAllocateNetBufferAndNetBufferList`.
    pub(crate) fn allocate(&self, machine: &Machine, pool: u64, mdl: u64, offset: u32, length: u64) -> u64 {
        let (owner, context_size, with_buffer) = {
            let mut pools = self.pools.borrow_mut();
            let Some(found) = pools.get_mut(&pool) else {
                drop(pools);
                machine.contract(
                    contract::INVALID_OBJECT,
                    [pool, 0, 0],
                    "A list is allocated from no pool",
                    Vec::new(),
                );
                return 0;
            };
            found.lists += 1;
            (found.owner, u64::from(found.context_size), found.with_buffer)
        };
        let context_bytes =
            if context_size == 0 { 0 } else { size_of::<NET_BUFFER_LIST_CONTEXT>() as u64 + context_size };
        let buffer_bytes = if with_buffer { size_of::<NET_BUFFER>() as u64 } else { 0 };
        let size = LIST_SIZE + context_bytes + buffer_bytes;
        let block = machine.memory.allocate_small(size);
        let list = block;
        if context_bytes != 0 {
            let context = block + LIST_SIZE;
            set!(context, NET_BUFFER_LIST_CONTEXT, Size, context_size as u16);
            set!(list, NET_BUFFER_LIST, Context, context);
        }
        set!(list, NET_BUFFER_LIST, NdisPoolHandle, pool);
        if with_buffer {
            let buffer = block + LIST_SIZE + context_bytes;
            set!(list, NET_BUFFER_LIST, Header.Data.FirstNetBuffer, buffer);
            set!(buffer, NET_BUFFER, Head.Data.CurrentMdl, mdl);
            set!(buffer, NET_BUFFER, Head.Data.MdlChain, mdl);
            set!(buffer, NET_BUFFER, Head.Data.CurrentMdlOffset, offset);
            set!(buffer, NET_BUFFER, Head.Data.DataOffset, offset);
            set!(buffer, NET_BUFFER, Head.Data.Length.stDataLength, length);
        }
        let record = Record { pool, length: size, owner: Owner::Module(owner), history: VecDeque::new() };
        self.records.borrow_mut().insert(list, record);
        self.note(machine, list, "allocated");
        list
    }

    /// `NdisFreeNetBufferList`, by whoever owns it.
    pub(crate) fn free(&self, machine: &Machine, list: u64) {
        machine.checked();
        let Some(record) = self.records.borrow_mut().remove(&list) else {
            machine.contract(
                contract::INVALID_OBJECT,
                [list, 0, 0],
                "A list is freed that is none",
                Vec::new(),
            );
            return;
        };
        let home = self.pools.borrow().get(&record.pool).map(|pool| Owner::Module(pool.owner));
        if home != Some(record.owner) && !matches!(record.owner, Owner::Protocol(_)) {
            machine.contract(
                contract::NBL_FREED_WHILE_OUT,
                [list, 0, 0],
                format!("A list is freed while it is out: {:?} owns it", record.owner),
                record.history.iter().map(Event::to_string).collect(),
            );
        }
        if let Some(pool) = self.pools.borrow_mut().get_mut(&record.pool) {
            pool.lists -= 1;
        }
        machine.memory.free_small(list, record.length);
    }

    /// A list of a protocol, made over data of its own.
    pub(crate) fn protocol_list(&self, machine: &Machine, adapter: usize, data: &[u8]) -> u64 {
        let memory = machine.memory.allocate(data.len() as u64, Use::System("frame of a protocol"));
        crate::memory::put_bytes(memory, data);
        let mdl = mdl(machine, memory, data.len() as u32);
        let length = LIST_SIZE + size_of::<NET_BUFFER>() as u64;
        let list = machine.memory.allocate_small(length);
        let buffer = list + LIST_SIZE;
        set!(list, NET_BUFFER_LIST, Header.Data.FirstNetBuffer, buffer);
        set!(list, NET_BUFFER_LIST, SourceHandle, protocol_handle(adapter));
        set!(buffer, NET_BUFFER, Head.Data.CurrentMdl, mdl);
        set!(buffer, NET_BUFFER, Head.Data.MdlChain, mdl);
        set!(buffer, NET_BUFFER, Head.Data.Length.stDataLength, data.len() as u64);
        let record = Record { pool: 0, length, owner: Owner::Protocol(adapter), history: VecDeque::new() };
        self.records.borrow_mut().insert(list, record);
        self.note(machine, list, "allocated by the protocol");
        list
    }

    /// Frees a list of a protocol with its data.
    pub(crate) fn free_protocol_list(&self, machine: &Machine, list: u64) {
        let buffer = field!(list, NET_BUFFER_LIST, Header.Data.FirstNetBuffer, u64);
        let mdl = field!(buffer, NET_BUFFER, Head.Data.MdlChain, u64);
        machine.memory.free(field!(mdl, MDL, MappedSystemVa, u64));
        free_mdl(machine, mdl);
        self.free(machine, list);
    }

    /// Who owns a list; nothing if it is none.
    pub(crate) fn owner(&self, list: u64) -> Option<Owner> {
        self.records.borrow().get(&list).map(|record| record.owner)
    }

    /// Moves a list to another owner.
    pub(crate) fn give(&self, machine: &Machine, list: u64, owner: Owner, event: &'static str) {
        if let Some(record) = self.records.borrow_mut().get_mut(&list) {
            record.owner = owner;
        }
        self.note(machine, list, event);
    }

    fn note(&self, machine: &Machine, list: u64, what: &'static str) {
        if let Some(record) = self.records.borrow_mut().get_mut(&list) {
            if record.history.len() == HISTORY {
                record.history.pop_front();
            }
            let thread = machine.scheduler.thread_id();
            record.history.push_back(Event { microseconds: machine.microseconds(), what, thread });
        }
    }

    /// What happened to a list.
    pub(crate) fn history(&self, list: u64) -> Vec<String> {
        self.records
            .borrow()
            .get(&list)
            .map(|record| record.history.iter().map(Event::to_string).collect())
            .unwrap_or_default()
    }
}

/// The `SourceHandle` of a protocol's lists.
pub(crate) const fn protocol_handle(adapter: usize) -> u64 {
    0xFFFF_D000_0000_0000 + adapter as u64 * 0x1000
}

/// Walks a chain of lists, as far as they are lists: behind one that was freed nothing is looked for.
pub(crate) fn chain(machine: &Machine, first: u64) -> Vec<u64> {
    let mut lists = Vec::new();
    let mut at = first;
    while at != 0 {
        lists.push(at);
        if machine.ndis.lists.owner(at).is_none() {
            return lists;
        }
        at = field!(at, NET_BUFFER_LIST, Header.Data.Next, u64);
    }
    lists
}

/// Links lists to a chain and returns the first.
pub(crate) fn link(lists: &[u64]) -> u64 {
    for (list, next) in lists.iter().zip(lists.iter().skip(1).chain(&[0])) {
        set!(*list, NET_BUFFER_LIST, Header.Data.Next, *next);
    }
    lists.first().copied().unwrap_or(0)
}

/// An MDL over nonpaged memory.
pub(crate) fn mdl(machine: &Machine, address: u64, length: u32) -> u64 {
    let pages = (u64::from(length) + (address & 0xFFF)).div_ceil(4096);
    let mdl = machine.memory.allocate_small(size_of::<MDL>() as u64 + 8 * pages);
    set!(mdl, MDL, Size, (size_of::<MDL>() as u64 + 8 * pages) as i16);
    // MDL_SOURCE_IS_NONPAGED_POOL.
    set!(mdl, MDL, MdlFlags, 4i16);
    set!(mdl, MDL, MappedSystemVa, address);
    set!(mdl, MDL, StartVa, address & !0xFFF);
    set!(mdl, MDL, ByteOffset, (address & 0xFFF) as u32);
    set!(mdl, MDL, ByteCount, length);
    mdl
}

/// Frees what [`mdl`] made.
pub(crate) fn free_mdl(machine: &Machine, mdl: u64) {
    machine.memory.free_small(mdl, field!(mdl, MDL, Size, i16) as u64);
}

/// The pieces of memory that hold a list's frames: one vector for each frame.
pub(crate) fn pieces(list: u64) -> Vec<Vec<(u64, u64)>> {
    let mut frames = Vec::new();
    let mut buffer = field!(list, NET_BUFFER_LIST, Header.Data.FirstNetBuffer, u64);
    while buffer != 0 {
        let mut left = u64::from(field!(buffer, NET_BUFFER, Head.Data.Length.DataLength, u32));
        let mut mdl = field!(buffer, NET_BUFFER, Head.Data.CurrentMdl, u64);
        let mut offset = u64::from(field!(buffer, NET_BUFFER, Head.Data.CurrentMdlOffset, u32));
        let mut frame = Vec::new();
        while left != 0 && mdl != 0 {
            let count = u64::from(field!(mdl, MDL, ByteCount, u32));
            let here = left.min(count.saturating_sub(offset));
            frame.push((field!(mdl, MDL, MappedSystemVa, u64) + offset, here));
            left -= here;
            offset = 0;
            mdl = field!(mdl, MDL, Next, u64);
        }
        frames.push(frame);
        buffer = field!(buffer, NET_BUFFER, Head.Data.Next, u64);
    }
    frames
}
