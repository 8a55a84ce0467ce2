//! Every `NET_BUFFER_LIST`: its pool, its owner, its home.
use std::cell::{Cell, RefCell};

use ndis_sys::{
    MDL, NET_BUFFER, NET_BUFFER_LIST, NET_BUFFER_LIST_CONTEXT, NET_BUFFER_LIST_POOL_PARAMETERS,
    NET_BUFFER_POOL_PARAMETERS,
};
use rustc_hash::FxHashMap;

use crate::kernel::mdl;
use crate::machine::{Machine, current};
use crate::memory::{Use, field, set};
use crate::rule;

/// Bytes of a list as `ndis.sys` has it: 29 slots of out-of-band data.
const LIST_SIZE: u64 = 0x180;
/// Driver Verifier's limit for lists that a filter was given is not documented; the machine's is a minute.
const KEPT_LIMIT: u64 = 60 * 10_000_000;

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

/// A pool of lists or of buffers.
#[derive(Debug)]
struct Pool {
    owner: u64,
    context_size: u16,
    with_buffer: bool,
    data_size: u32,
    members: usize,
}

#[derive(Debug)]
struct Record {
    pool: u64,
    length: u64,
    owner: Owner,
    /// Who originated it.
    home: Owner,
    /// The module or adapter that indicated it with `NDIS_RECEIVE_FLAGS_RESOURCES`, while that call lasts.
    resources: Option<Owner>,
    /// The list that it is a clone of, and clones of it that are out.
    parent: u64,
    clones: u32,
    /// Bytes of contexts that a driver added.
    contexts: u32,
    /// When its owner got it.
    since: u64,
    /// Whether it goes up.
    received: bool,
}

/// Pools, lists and buffers.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    pools: RefCell<FxHashMap<u64, Pool>>,
    records: RefCell<FxHashMap<u64, Record>>,
    /// Buffers that were allocated apart: their pool, and whether NDIS allocated data for them.
    buffers: RefCell<FxHashMap<u64, (u64, bool)>>,
    /// Lists of others that a module has, by its handle.
    foreign: RefCell<FxHashMap<u64, i64>>,
    foreign_total: Cell<i64>,
    watchdog: Cell<Option<(u64, u64)>>,
}

impl Lists {
    /// `NdisAllocateNetBufferListPool`.
    pub(crate) fn new_pool(&self, handle: u64, owner: u64, parameters: u64) -> u64 {
        let pool = Pool {
            owner,
            context_size: field!(parameters, NET_BUFFER_LIST_POOL_PARAMETERS, ContextSize, u16),
            with_buffer: field!(parameters, NET_BUFFER_LIST_POOL_PARAMETERS, fAllocateNetBuffer, u8) != 0,
            data_size: field!(parameters, NET_BUFFER_LIST_POOL_PARAMETERS, DataSize, u32),
            members: 0,
        };
        self.pools.borrow_mut().insert(handle, pool);
        // Lists come by the hundred.
        self.records.borrow_mut().reserve(2048);
        handle
    }

    /// `NdisAllocateNetBufferPool`.
    pub(crate) fn new_buffer_pool(&self, handle: u64, owner: u64, parameters: u64) -> u64 {
        let data_size = field!(parameters, NET_BUFFER_POOL_PARAMETERS, DataSize, u32);
        let pool = Pool { owner, context_size: 0, with_buffer: true, data_size, members: 0 };
        self.pools.borrow_mut().insert(handle, pool);
        handle
    }

    /// `NdisFreeNetBufferListPool`, `NdisFreeNetBufferPool`.
    pub(crate) fn free_pool(&self, machine: &Machine, handle: u64) {
        machine.checked();
        let pool = self.pools.borrow_mut().remove(&handle);
        match pool {
            Some(pool) if pool.members == 0 => {}
            Some(pool) => machine.stop(
                &rule::OBJECT,
                [handle, pool.members as u64, 0],
                format!("A pool is freed from which {} lists or buffers are allocated", pool.members),
            ),
            None => machine.stop(&rule::OBJECT, [handle, 0, 0], "A pool is freed that is none"),
        }
    }

    /// Pools of an owner that were not freed.
    pub(crate) fn pools_left(&self) -> usize {
        self.pools.borrow().len()
    }

    fn draw(&self, machine: &Machine, pool: u64) -> Option<(u64, u64, bool, u32)> {
        machine.checked();
        let found = self.pools.borrow_mut().get_mut(&pool).map(|found| {
            found.members += 1;
            (found.owner, u64::from(found.context_size), found.with_buffer, found.data_size)
        });
        if found.is_none() {
            machine.stop(&rule::OBJECT, [pool, 0, 0], "A list or buffer is allocated from no pool");
        }
        found
    }

    /// `NdisAllocateNetBufferAndNetBufferList`, and `NdisAllocateNetBufferList` for `bare` lists.
    pub(crate) fn allocate(
        &self,
        machine: &Machine,
        pool: u64,
        data: Option<(u64, u32, u64)>,
        context: u64,
    ) -> u64 {
        let Some((owner, context_size, with_buffer, _)) = self.draw(machine, pool) else { return 0 };
        let context_size = context_size.max(context);
        let context_bytes =
            if context_size == 0 { 0 } else { size_of::<NET_BUFFER_LIST_CONTEXT>() as u64 + context_size };
        let with_buffer = with_buffer && data.is_some();
        let buffer_bytes = if with_buffer { size_of::<NET_BUFFER>() as u64 } else { 0 };
        let size = LIST_SIZE + context_bytes + buffer_bytes;
        let list = machine.memory.allocate_small(size);
        if context_bytes != 0 {
            let context = list + LIST_SIZE;
            set!(context, NET_BUFFER_LIST_CONTEXT, Size, context_size as u16);
            set!(list, NET_BUFFER_LIST, Context, context);
        }
        set!(list, NET_BUFFER_LIST, NdisPoolHandle, pool);
        if let (true, Some((mdl, offset, length))) = (with_buffer, data) {
            let buffer = list + LIST_SIZE + context_bytes;
            set!(list, NET_BUFFER_LIST, Header.Data.FirstNetBuffer, buffer);
            fill_buffer(buffer, mdl, offset, length);
        }
        self.insert(machine, list, pool, size, Owner::Module(owner), "allocated");
        list
    }

    fn insert(&self, machine: &Machine, list: u64, pool: u64, length: u64, home: Owner, event: &'static str) {
        let record = Record {
            pool,
            length,
            owner: home,
            home,
            resources: None,
            parent: 0,
            clones: 0,
            contexts: 0,
            since: machine.scheduler.now(),
            received: false,
        };
        self.records.borrow_mut().insert(list, record);
        machine.log.begin(machine, list, "NET_BUFFER_LIST", event);
    }

    /// `NdisFreeNetBufferList`, by whoever owns it.
    pub(crate) fn free(&self, machine: &Machine, list: u64) {
        machine.checked();
        let found = {
            let records = self.records.borrow();
            records.get(&list).map(|record| (record.owner, record.home, record.clones, record.contexts))
        };
        let Some((owner, home, clones, contexts)) = found else {
            machine.stop_about(
                &rule::OBJECT,
                [12, list, 0, 0],
                "A list is freed that is none: freed twice?",
                list,
            );
            return;
        };
        if home != owner {
            machine.stop_about(
                &rule::FREED_WHILE_OUT,
                [3, list, 0, 0],
                format!("A list is freed while it is out: {owner:?} owns it"),
                list,
            );
        }
        if clones != 0 {
            let text = format!("A list is freed while {clones} clones of it are out");
            machine.stop_about(&rule::CLONE_ORDER, [27, list, u64::from(clones), 0], text, list);
        }
        if contexts != 0 {
            let text = format!("A list is freed with {contexts} bytes of context that were not freed");
            machine.stop_about(&rule::CONTEXT_LEFT, [26, list, u64::from(contexts), 0], text, list);
        }
        let mut records = self.records.borrow_mut();
        let Some(record) = records.remove(&list) else { return };
        if record.parent != 0
            && let Some(parent) = records.get_mut(&record.parent)
        {
            parent.clones -= 1;
        }
        drop(records);
        if let Some(pool) = self.pools.borrow_mut().get_mut(&record.pool) {
            pool.members -= 1;
        }
        machine.event(list, "freed");
        machine.memory.free_small(list, record.length);
    }

    /// `NdisAllocateNetBuffer…`: a buffer by itself, with data of its own if the pool has some and is asked.
    pub(crate) fn allocate_buffer(
        &self,
        machine: &Machine,
        pool: u64,
        mdl: u64,
        offset: u32,
        length: u64,
        own: bool,
    ) -> u64 {
        let Some((_, _, _, data_size)) = self.draw(machine, pool) else { return 0 };
        let buffer = machine.memory.allocate_small(size_of::<NET_BUFFER>() as u64);
        set!(buffer, NET_BUFFER, NdisPoolHandle, pool);
        if own {
            let data = machine.memory.allocate(u64::from(data_size), Use::System("data of a NET_BUFFER"));
            let mdl = self::mdl(machine, data, data_size);
            // All of it lies in front of the data, which the driver retreats into.
            fill_buffer(buffer, mdl, data_size, 0);
        } else {
            fill_buffer(buffer, mdl, offset, length);
        }
        self.buffers.borrow_mut().insert(buffer, (pool, own));
        buffer
    }

    /// `NdisFreeNetBuffer`.
    pub(crate) fn free_buffer(&self, machine: &Machine, buffer: u64) {
        machine.checked();
        let found = self.buffers.borrow_mut().remove(&buffer);
        let Some((pool, own)) = found else {
            machine.stop(&rule::OBJECT, [buffer, 0, 0], "A buffer is freed that is none: freed twice?");
            return;
        };
        if own {
            let mdl = field!(buffer, NET_BUFFER, Head.Data.MdlChain, u64);
            machine.memory.free(field!(mdl, MDL, MappedSystemVa, u64));
            free_mdl(machine, mdl);
        }
        if let Some(pool) = self.pools.borrow_mut().get_mut(&pool) {
            pool.members -= 1;
        }
        machine.memory.free_small(buffer, size_of::<NET_BUFFER>() as u64);
    }

    /// One list is a clone of another, or not any more.
    pub(crate) fn set_clone(&self, clone: u64, parent: u64) {
        let mut records = self.records.borrow_mut();
        if let Some(record) = records.get_mut(&clone) {
            record.parent = parent;
        }
        if let Some(record) = records.get_mut(&parent) {
            record.clones += 1;
        }
    }

    /// Whether a list is a clone.
    pub(crate) fn is_clone(&self, list: u64) -> bool {
        self.records.borrow().get(&list).is_some_and(|record| record.parent != 0)
    }

    /// Bytes of context are added to a list, or taken.
    pub(crate) fn add_context(&self, list: u64, bytes: i32) {
        if let Some(record) = self.records.borrow_mut().get_mut(&list) {
            record.contexts = record.contexts.saturating_add_signed(bytes);
        }
    }

    /// A list of an adapter or of a protocol, made over data of its own.
    pub(crate) fn machine_list(&self, machine: &Machine, home: Owner, source: u64, data: &[u8]) -> u64 {
        let memory = machine.memory.allocate(data.len() as u64, Use::System("frame"));
        crate::memory::put_bytes(memory, data);
        let mdl = mdl(machine, memory, data.len() as u32);
        let length = LIST_SIZE + size_of::<NET_BUFFER>() as u64;
        let list = machine.memory.allocate_small(length);
        let buffer = list + LIST_SIZE;
        set!(list, NET_BUFFER_LIST, Header.Data.FirstNetBuffer, buffer);
        set!(list, NET_BUFFER_LIST, SourceHandle, source);
        fill_buffer(buffer, mdl, 0, data.len() as u64);
        self.insert(machine, list, 0, length, home, "allocated");
        list
    }

    /// Frees what [`Lists::machine_list`] made.
    pub(crate) fn free_machine_list(&self, machine: &Machine, list: u64) {
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

    /// Who originated a list.
    pub(crate) fn home(&self, list: u64) -> Option<Owner> {
        self.records.borrow().get(&list).map(|record| record.home)
    }

    /// A list of a pool that was made for the whole driver is the module's that uses it.
    pub(crate) fn adopt(&self, list: u64, driver: u64, module: u64) {
        if let Some(record) = self.records.borrow_mut().get_mut(&list)
            && record.owner == Owner::Module(driver)
        {
            record.owner = Owner::Module(module);
            record.home = Owner::Module(module);
        }
    }

    /// Who indicated a list with RESOURCES, if that call is going on.
    pub(crate) fn resources(&self, list: u64) -> Option<Owner> {
        self.records.borrow().get(&list).and_then(|record| record.resources)
    }

    /// A list is lent out with RESOURCES, or back.
    pub(crate) fn set_resources(&self, list: u64, by: Option<Owner>) {
        if let Some(record) = self.records.borrow_mut().get_mut(&list) {
            record.resources = by;
        }
    }

    /// Says whether a list goes up.
    pub(crate) fn set_received(&self, list: u64, received: bool) {
        if let Some(record) = self.records.borrow_mut().get_mut(&list) {
            record.received = received;
        }
    }

    /// Moves a list to another owner.
    pub(crate) fn give(&self, machine: &Machine, list: u64, owner: Owner, event: &'static str) {
        let mut change = [None, None];
        if let Some(record) = self.records.borrow_mut().get_mut(&list) {
            let foreign = |who: Owner| match who {
                Owner::Module(module) if record.home != who => Some(module),
                _ => None,
            };
            change = [foreign(record.owner), foreign(owner)];
            record.owner = owner;
            record.since = machine.scheduler.now();
        }
        if change[0] != change[1] {
            let mut all = self.foreign.borrow_mut();
            for (module, by) in change.into_iter().zip([-1, 1]) {
                if let Some(module) = module {
                    *all.entry(module).or_default() += by;
                    self.foreign_total.set(self.foreign_total.get() + by);
                }
            }
            drop(all);
            self.watch(machine);
        }
        machine.event(list, event);
    }

    /// Who has the lists of a module that have not come back, and what happened to the first of them.
    pub(crate) fn out_of(&self, machine: &Machine, module: u64) -> Vec<String> {
        let home = Owner::Module(module);
        let records = self.records.borrow();
        let out = |record: &Record| record.home == home && record.owner != home;
        let mut lost: Vec<(u64, Owner)> = records
            .iter()
            .filter(|(_, record)| out(record))
            .map(|(list, record)| (*list, record.owner))
            .collect();
        lost.sort_unstable_by_key(|(list, _)| *list);
        let mut lines: Vec<String> = lost
            .iter()
            .take(16)
            .map(|(list, owner)| format!("{:#x} is with {owner:?}", machine.memory.areas.canonical(*list)))
            .collect();
        if let Some((list, _)) = lost.first() {
            lines.extend(machine.log.history(*list));
        }
        lines
    }

    /// Lists of others that a module has.
    pub(crate) fn foreign_of(&self, module: u64) -> i64 {
        self.foreign.borrow().get(&module).copied().unwrap_or(0)
    }

    /// While modules have lists of others, somebody looks whether they keep them.
    fn watch(&self, machine: &Machine) {
        let watches = machine.verifier.enforces(rule::TIMED_SEND.option);
        match (watches && self.foreign_total.get() > 0, self.watchdog.get()) {
            (true, None) => {
                let event = machine.scheduler.after(KEPT_LIMIT, || current().ndis.lists.look(current()));
                self.watchdog.set(Some(event));
            }
            (false, Some(event)) => {
                machine.scheduler.cancel_event(event);
                self.watchdog.set(None);
            }
            _ => {}
        }
    }

    fn look(&self, machine: &Machine) {
        self.watchdog.set(None);
        let kept = self.records.borrow().iter().find_map(|(list, record)| match record.owner {
            Owner::Module(module)
                if record.home != record.owner && machine.scheduler.now() - record.since >= KEPT_LIMIT =>
            {
                Some((*list, module, record.received))
            }
            _ => None,
        });
        if let Some((list, module, received)) = kept {
            let (rule, what) =
                if received { (&rule::TIMED_RECEIVE, "receive") } else { (&rule::TIMED_SEND, "send") };
            let text = format!("A filter has kept a list for a minute that it was given to {what}");
            machine.stop_outside(rule, [module, list, 0], text, ("NDIS verifier", 0), Vec::new());
        }
        self.watch(machine);
    }
}

fn fill_buffer(buffer: u64, mdl: u64, offset: u32, length: u64) {
    set!(buffer, NET_BUFFER, Head.Data.CurrentMdl, mdl);
    set!(buffer, NET_BUFFER, Head.Data.MdlChain, mdl);
    set!(buffer, NET_BUFFER, Head.Data.CurrentMdlOffset, offset);
    set!(buffer, NET_BUFFER, Head.Data.DataOffset, offset);
    set!(buffer, NET_BUFFER, Head.Data.Length.stDataLength, length);
}

/// The `SourceHandle` of a protocol's lists.
pub(crate) const fn protocol_handle(adapter: usize) -> u64 {
    0xFFFF_D000_0000_0000 + adapter as u64 * 0x1000
}

/// The `SourceHandle` of an adapter's lists and indications.
pub(crate) const fn adapter_handle(adapter: usize) -> u64 {
    0xFFFF_D100_0000_0000 + adapter as u64 * 0x1000
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
    let mdl = mdl::describe(machine, address, length);
    // MDL_SOURCE_IS_NONPAGED_POOL.
    set!(mdl, MDL, MdlFlags, 4i16);
    set!(mdl, MDL, MappedSystemVa, address);
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
        frames.push(pieces_of(buffer));
        buffer = field!(buffer, NET_BUFFER, Head.Data.Next, u64);
    }
    frames
}

/// The pieces of memory that hold the data of one buffer.
pub(crate) fn pieces_of(buffer: u64) -> Vec<(u64, u64)> {
    let mut left = u64::from(field!(buffer, NET_BUFFER, Head.Data.Length.DataLength, u32));
    let mut mdl = field!(buffer, NET_BUFFER, Head.Data.CurrentMdl, u64);
    let mut offset = u64::from(field!(buffer, NET_BUFFER, Head.Data.CurrentMdlOffset, u32));
    let mut pieces = Vec::new();
    while left != 0 && mdl != 0 {
        let count = u64::from(field!(mdl, MDL, ByteCount, u32));
        let here = left.min(count.saturating_sub(offset));
        pieces.push((field!(mdl, MDL, MappedSystemVa, u64) + offset, here));
        left -= here;
        offset = 0;
        mdl = field!(mdl, MDL, Next, u64);
    }
    pieces
}

/// The first bytes of a buffer's data, zero where it has none.
pub(crate) fn start_of<const N: usize>(buffer: u64) -> [u8; N] {
    let mut start = [0; N];
    let bytes = pieces_of(buffer).into_iter().flat_map(|(at, length)| at..at + length);
    for (place, at) in start.iter_mut().zip(bytes) {
        *place = crate::memory::get(at);
    }
    start
}

/// Reads the first and the last byte that each MDL of a list describes, as some drivers do.
pub(crate) fn touch(list: u64) {
    let mut buffer = field!(list, NET_BUFFER_LIST, Header.Data.FirstNetBuffer, u64);
    while buffer != 0 {
        let mut mdl = field!(buffer, NET_BUFFER, Head.Data.MdlChain, u64);
        while mdl != 0 {
            let (start, bytes) =
                (field!(mdl, MDL, MappedSystemVa, u64), u64::from(field!(mdl, MDL, ByteCount, u32)));
            for at in [start, start + bytes.saturating_sub(1)] {
                std::hint::black_box(crate::memory::get::<u8>(at));
            }
            mdl = field!(mdl, MDL, Next, u64);
        }
        buffer = field!(buffer, NET_BUFFER, Head.Data.Next, u64);
    }
}
