//! Pools of lists and buffers, and what is done to the data of one: contexts, clones, starts of data.
use ndis_sys::{MDL, NDIS_STATUS_RESOURCES, NET_BUFFER, NET_BUFFER_LIST, NET_BUFFER_LIST_CONTEXT};

use super::lists;
use crate::kernel::{Call, Function, function};
use crate::machine::Machine;
use crate::memory::{bytes, copy, field, put, put_bytes, set};
use crate::rule;

pub(crate) const FUNCTIONS: &[Function] = &[
    function!("NdisAllocateNetBufferListPool", 2, Dispatch, |machine, call| {
        if machine.pool_fails() {
            return 0;
        }
        machine.ndis.support.mdls.borrow_mut().reserve(2048);
        machine.ndis.lists.new_pool(machine.ndis.new_handle(), call.arg(0), call.arg(1))
    }),
    function!("NdisFreeNetBufferListPool", 1, Dispatch, |machine, call| {
        machine.ndis.lists.free_pool(machine, call.arg(0));
        0
    }),
    function!("NdisAllocateNetBufferPool", 2, Dispatch, |machine, call| {
        if machine.pool_fails() {
            return 0;
        }
        machine.ndis.lists.new_buffer_pool(machine.ndis.new_handle(), call.arg(0), call.arg(1))
    }),
    function!("NdisFreeNetBufferPool", 1, Dispatch, |machine, call| {
        machine.ndis.lists.free_pool(machine, call.arg(0));
        0
    }),
    function!("NdisAllocateNetBufferAndNetBufferList", 6, Dispatch, |machine, call| {
        if machine.pool_fails() {
            return 0;
        }
        let data = (call.arg(3), call.arg32(4), call.arg(5));
        machine.ndis.lists.allocate(machine, call.arg(0), Some(data), call.arg(1) & 0xFFFF)
    }),
    function!("NdisAllocateNetBufferList", 3, Dispatch, |machine, call| {
        if machine.pool_fails() {
            return 0;
        }
        machine.ndis.lists.allocate(machine, call.arg(0), None, call.arg(1) & 0xFFFF)
    }),
    function!("NdisFreeNetBufferList", 1, Dispatch, |machine, call| {
        machine.ndis.lists.free(machine, call.arg(0));
        0
    }),
    function!("NdisAllocateNetBuffer", 4, Dispatch, |machine, call| {
        if machine.pool_fails() {
            return 0;
        }
        let (mdl, offset, length) = (call.arg(1), call.arg32(2), call.arg(3));
        machine.ndis.lists.allocate_buffer(machine, call.arg(0), mdl, offset, length, false)
    }),
    function!("NdisAllocateNetBufferMdlAndData", 1, Dispatch, |machine, call| {
        if machine.pool_fails() {
            return 0;
        }
        machine.ndis.lists.allocate_buffer(machine, call.arg(0), 0, 0, 0, true)
    }),
    function!("NdisFreeNetBuffer", 1, Dispatch, |machine, call| {
        machine.ndis.lists.free_buffer(machine, call.arg(0));
        0
    }),
    function!("NdisAllocateNetBufferListContext", 4, Dispatch, allocate_context),
    function!("NdisFreeNetBufferListContext", 2, Dispatch, free_context),
    function!("NdisAllocateCloneNetBufferList", 4, Dispatch, clone),
    function!("NdisFreeCloneNetBufferList", 2, Dispatch, free_clone),
    function!("NdisGetDataBuffer", 5, Dispatch, data_buffer),
    function!("NdisRetreatNetBufferDataStart", 4, Dispatch, |machine, call| {
        retreat(machine, call.arg(0), call.arg32(1), call.arg32(2)) as u64
    }),
    function!("NdisAdvanceNetBufferDataStart", 4, Dispatch, |machine, call| {
        advance(machine, call.arg(0), call.arg32(1), call.arg(2) as u8 != 0);
        0
    }),
    function!("NdisRetreatNetBufferListDataStart", 5, Dispatch, |machine, call| {
        let buffers = buffers_of(call.arg(0));
        for (done, buffer) in buffers.iter().enumerate() {
            let status = retreat(machine, *buffer, call.arg32(1), call.arg32(2));
            if status != 0 {
                for buffer in buffers.iter().take(done) {
                    advance(machine, *buffer, call.arg32(1), true);
                }
                return status as u64;
            }
        }
        0
    }),
    function!("NdisAdvanceNetBufferListDataStart", 4, Dispatch, |machine, call| {
        for buffer in buffers_of(call.arg(0)) {
            advance(machine, buffer, call.arg32(1), call.arg(2) as u8 != 0);
        }
        0
    }),
    function!("NdisAdjustNetBufferCurrentMdl", 1, Dispatch, |_, call| {
        adjust(call.arg(0));
        0
    }),
    function!("NdisCopySendNetBufferListInfo", 2, Dispatch, copy_info),
    function!("NdisCopyReceiveNetBufferListInfo", 2, Dispatch, copy_info),
    function!("NdisCopyFromNetBufferToNetBuffer", 6, Dispatch, copy_data),
    function!("NdisGetPoolFromNetBufferList", 1, Dispatch, |_, call| {
        field!(call.arg(0), NET_BUFFER_LIST, NdisPoolHandle, u64)
    }),
    function!("NdisGetPoolFromNetBuffer", 1, Dispatch, |_, call| {
        field!(call.arg(0), NET_BUFFER, NdisPoolHandle, u64)
    }),
    function!("NdisGetNetBufferListProtocolId", 1, Dispatch, |_, _| 0),
    function!("NdisAllocateMdl", 3, Dispatch, |machine, call| {
        if machine.pool_fails() {
            return 0;
        }
        let mdl = lists::mdl(machine, call.arg(1), call.arg32(2));
        machine.ndis.support.mdls.borrow_mut().insert(mdl);
        mdl
    }),
    function!("NdisFreeMdl", 1, Dispatch, |machine, call| {
        machine.checked();
        if !machine.ndis.support.mdls.borrow_mut().remove(&call.arg(0)) {
            let text = "An MDL is freed that is not allocated: freed twice?";
            machine.stop(&rule::OBJECT, [call.arg(0), 0, 0], text);
            return 0;
        }
        lists::free_mdl(machine, call.arg(0));
        0
    }),
    function!("NdisGeneratePartialCancelId", 0, Dispatch, |machine, call| {
        machine.checked();
        let id = machine.ndis.support.next_partial_id.get().wrapping_add(1);
        if machine.is_initialised(call.caller()) {
            let text = "NdisGeneratePartialCancelId is called by a driver whose DriverEntry has returned";
            machine.stop(&rule::CANCEL_ID, [u64::from(id), 0, 0], text);
        }
        machine.ndis.support.next_partial_id.set(id);
        u64::from(id)
    }),
];

/// Where out-of-band data lies in a list, and its bytes in the drivers' view.
const INFO: u64 = 0x90;
const INFO_BYTES: usize = 27 * 8;
/// `NDIS_CLONE_FLAGS_USE_ORIGINAL_MDLS`.
const USE_ORIGINAL_MDLS: u64 = 2;

/// The buffers of a list.
fn buffers_of(list: u64) -> Vec<u64> {
    let mut buffers = Vec::new();
    let mut buffer = field!(list, NET_BUFFER_LIST, Header.Data.FirstNetBuffer, u64);
    while buffer != 0 {
        buffers.push(buffer);
        buffer = field!(buffer, NET_BUFFER, Head.Data.Next, u64);
    }
    buffers
}

fn allocate_context(machine: &Machine, call: &Call<'_>) -> u64 {
    let (list, size, backfill) = (call.arg(0), call.arg(1) & 0xFFFF, call.arg(2) & 0xFFFF);
    if machine.pool_fails() {
        return u64::from(NDIS_STATUS_RESOURCES as u32);
    }
    let header = size_of::<NET_BUFFER_LIST_CONTEXT>() as u64;
    let context = machine.memory.allocate_small(header + size + backfill);
    set!(context, NET_BUFFER_LIST_CONTEXT, Next, field!(list, NET_BUFFER_LIST, Context, u64));
    set!(context, NET_BUFFER_LIST_CONTEXT, Size, (size + backfill) as u16);
    set!(context, NET_BUFFER_LIST_CONTEXT, Offset, backfill as u16);
    set!(list, NET_BUFFER_LIST, Context, context);
    machine.ndis.lists.add_context(list, size as i32);
    0
}

fn free_context(machine: &Machine, call: &Call<'_>) -> u64 {
    let (list, size) = (call.arg(0), call.arg(1) & 0xFFFF);
    let context = field!(list, NET_BUFFER_LIST, Context, u64);
    if context == 0 {
        let text = "A context is freed of a list that has none";
        machine.stop(&rule::OBJECT, [list, 0, 0], text);
        return 0;
    }
    set!(list, NET_BUFFER_LIST, Context, field!(context, NET_BUFFER_LIST_CONTEXT, Next, u64));
    let bytes = u64::from(field!(context, NET_BUFFER_LIST_CONTEXT, Size, u16));
    machine.memory.free_small(context, size_of::<NET_BUFFER_LIST_CONTEXT>() as u64 + bytes);
    machine.ndis.lists.add_context(list, -(size as i32));
    0
}

/// A list over the same data: an MDL chain of its own over the same memory, or the original's.
fn clone(machine: &Machine, call: &Call<'_>) -> u64 {
    let (original, pool, flags) = (call.arg(0), call.arg(1), call.arg(3));
    if machine.pool_fails() {
        return 0;
    }
    let pool = if pool == 0 { field!(original, NET_BUFFER_LIST, NdisPoolHandle, u64) } else { pool };
    let clone = machine.ndis.lists.allocate(machine, pool, Some((0, 0, 0)), 0);
    if clone == 0 {
        return 0;
    }
    let first = field!(clone, NET_BUFFER_LIST, Header.Data.FirstNetBuffer, u64);
    let originals = buffers_of(original);
    let mut last = 0;
    for (index, buffer) in originals.iter().enumerate() {
        let copy = if index == 0 && first != 0 {
            first
        } else {
            machine.memory.allocate_small(size_of::<NET_BUFFER>() as u64)
        };
        let length = field!(*buffer, NET_BUFFER, Head.Data.Length.DataLength, u32);
        let (mdl, offset) = if flags & USE_ORIGINAL_MDLS != 0 {
            let current = field!(*buffer, NET_BUFFER, Head.Data.CurrentMdl, u64);
            (current, field!(*buffer, NET_BUFFER, Head.Data.CurrentMdlOffset, u32))
        } else {
            (partial(machine, *buffer), 0)
        };
        set!(copy, NET_BUFFER, Head.Data.CurrentMdl, mdl);
        set!(copy, NET_BUFFER, Head.Data.MdlChain, mdl);
        set!(copy, NET_BUFFER, Head.Data.CurrentMdlOffset, offset);
        set!(copy, NET_BUFFER, Head.Data.DataOffset, offset);
        set!(copy, NET_BUFFER, Head.Data.Length.stDataLength, u64::from(length));
        if last == 0 {
            set!(clone, NET_BUFFER_LIST, Header.Data.FirstNetBuffer, copy);
        } else {
            set!(last, NET_BUFFER, Head.Data.Next, copy);
        }
        last = copy;
    }
    machine.ndis.lists.set_clone(clone, original);
    clone
}

/// MDLs over the data of a buffer.
fn partial(machine: &Machine, buffer: u64) -> u64 {
    let (mut first, mut last) = (0, 0);
    for (address, length) in lists::pieces_of(buffer) {
        let mdl = lists::mdl(machine, address, length as u32);
        if last == 0 {
            first = mdl;
        } else {
            set!(last, MDL, Next, mdl);
        }
        last = mdl;
    }
    first
}

fn free_clone(machine: &Machine, call: &Call<'_>) -> u64 {
    let (clone, flags) = (call.arg(0), call.arg(1));
    machine.checked();
    if !machine.ndis.lists.is_clone(clone) {
        let text = "A clone is freed that is none: freed twice?";
        machine.stop_about(&rule::OBJECT, [12, clone, 0, 0], text, clone);
        return 0;
    }
    for (index, buffer) in buffers_of(clone).into_iter().enumerate() {
        if flags & USE_ORIGINAL_MDLS == 0 {
            let mut mdl = field!(buffer, NET_BUFFER, Head.Data.MdlChain, u64);
            while mdl != 0 {
                let next = field!(mdl, MDL, Next, u64);
                lists::free_mdl(machine, mdl);
                mdl = next;
            }
        }
        if index != 0 {
            machine.memory.free_small(buffer, size_of::<NET_BUFFER>() as u64);
        }
    }
    machine.ndis.lists.free(machine, clone);
    0
}

fn data_buffer(_machine: &Machine, call: &Call<'_>) -> u64 {
    let (buffer, needed, storage) = (call.arg(0), u64::from(call.arg32(1)), call.arg(2));
    if u64::from(field!(buffer, NET_BUFFER, Head.Data.Length.DataLength, u32)) < needed {
        return 0;
    }
    let pieces = lists::pieces_of(buffer);
    let (multiple, offset) = (u64::from(call.arg32(3)).max(1), u64::from(call.arg32(4)));
    match pieces.first() {
        Some((address, length)) if *length >= needed && address % multiple == offset % multiple => *address,
        _ if storage != 0 => {
            let mut at = 0;
            for (address, length) in pieces {
                let here = length.min(needed - at);
                copy(storage + at, address, here as usize);
                at += here;
            }
            storage
        }
        _ => 0,
    }
}

/// Moves the start of data towards the front; a new MDL where there is no room.
fn retreat(machine: &Machine, buffer: u64, delta: u32, backfill: u32) -> i32 {
    let offset = field!(buffer, NET_BUFFER, Head.Data.DataOffset, u32);
    let length = field!(buffer, NET_BUFFER, Head.Data.Length.DataLength, u32);
    if delta <= offset {
        set!(buffer, NET_BUFFER, Head.Data.DataOffset, offset - delta);
    } else {
        if machine.pool_fails() {
            return NDIS_STATUS_RESOURCES;
        }
        let room = delta - offset + backfill;
        let data =
            machine.memory.allocate(u64::from(room), crate::memory::Use::System("data of a NET_BUFFER"));
        let mdl = lists::mdl(machine, data, room);
        set!(mdl, MDL, Next, field!(buffer, NET_BUFFER, Head.Data.MdlChain, u64));
        machine.ndis.support.retreats.borrow_mut().insert(mdl);
        set!(buffer, NET_BUFFER, Head.Data.MdlChain, mdl);
        set!(buffer, NET_BUFFER, Head.Data.DataOffset, backfill);
    }
    set!(buffer, NET_BUFFER, Head.Data.Length.stDataLength, u64::from(length + delta));
    adjust(buffer);
    0
}

/// Moves the start of data towards the end, and frees MDLs that a retreat allocated, if asked.
fn advance(machine: &Machine, buffer: u64, delta: u32, free: bool) {
    machine.checked();
    let offset = field!(buffer, NET_BUFFER, Head.Data.DataOffset, u32);
    let length = field!(buffer, NET_BUFFER, Head.Data.Length.DataLength, u32);
    set!(buffer, NET_BUFFER, Head.Data.DataOffset, offset + delta);
    set!(buffer, NET_BUFFER, Head.Data.Length.stDataLength, u64::from(length.saturating_sub(delta)));
    let first = field!(buffer, NET_BUFFER, Head.Data.MdlChain, u64);
    if free && first != 0 {
        let bytes = field!(first, MDL, ByteCount, u32);
        if offset + delta >= bytes && machine.ndis.support.retreats.borrow_mut().remove(&first) {
            set!(buffer, NET_BUFFER, Head.Data.MdlChain, field!(first, MDL, Next, u64));
            set!(buffer, NET_BUFFER, Head.Data.DataOffset, offset + delta - bytes);
            machine.memory.free(field!(first, MDL, MappedSystemVa, u64));
            lists::free_mdl(machine, first);
        }
    }
    adjust(buffer);
}

/// Finds the MDL that the data starts in.
fn adjust(buffer: u64) {
    let mut offset = field!(buffer, NET_BUFFER, Head.Data.DataOffset, u32);
    let mut mdl = field!(buffer, NET_BUFFER, Head.Data.MdlChain, u64);
    while mdl != 0 && offset >= field!(mdl, MDL, ByteCount, u32) {
        let next = field!(mdl, MDL, Next, u64);
        if next == 0 {
            break;
        }
        offset -= field!(mdl, MDL, ByteCount, u32);
        mdl = next;
    }
    set!(buffer, NET_BUFFER, Head.Data.CurrentMdl, mdl);
    set!(buffer, NET_BUFFER, Head.Data.CurrentMdlOffset, offset);
}

fn copy_info(_machine: &Machine, call: &Call<'_>) -> u64 {
    put_bytes(call.arg(0) + INFO, &bytes(call.arg(1) + INFO, INFO_BYTES));
    0
}

fn copy_data(_machine: &Machine, call: &Call<'_>) -> u64 {
    let (to, at, length) = (call.arg(0), u64::from(call.arg32(1)), u64::from(call.arg32(2)));
    let (from, start) = (call.arg(3), u64::from(call.arg32(4)));
    let mut data = Vec::new();
    for (address, bytes_here) in lists::pieces_of(from) {
        data.extend(bytes(address, bytes_here as usize));
    }
    let wanted = data.get(start as usize..).unwrap_or_default();
    let wanted = &wanted[..wanted.len().min(length as usize)];
    let (mut skip, mut done) = (at, 0);
    for (address, room) in lists::pieces_of(to) {
        let room_here = room.saturating_sub(skip);
        let here = room_here.min((wanted.len() - done) as u64);
        if here != 0 {
            put_bytes(address + skip, &wanted[done..done + here as usize]);
            done += here as usize;
        }
        skip = skip.saturating_sub(room);
    }
    if call.arg(5) != 0 {
        put::<u32>(call.arg(5), done as u32);
    }
    0
}
