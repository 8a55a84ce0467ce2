//! What `ndis.h` offers as macros and inline functions, as functions on raw pointers.
#![expect(unsafe_code, reason = "field access through raw pointers; the caller owns the list")]
use core::ffi::c_void;

use crate::{MDL, NET_BUFFER, NET_BUFFER_LIST, NET_BUFFER_LIST_CONTEXT};

/// Number of `NetBufferListInfo` slots that a driver may touch on a system of NDIS 6.`minor`.
///
/// Source: the header's own conditions, compiled for each NDIS version.
pub const fn nbl_info_slots(minor: u32) -> usize {
    match minor {
        0 => 11,
        1..=19 => 13,
        20..=29 => 18,
        30..=49 => 24,
        50..=79 => 26,
        _ => 27,
    }
}

/// `NET_BUFFER_LIST_NEXT_NBL`.
///
/// # Safety
/// `nbl` is a list that the caller owns.
pub const unsafe fn nbl_next(nbl: *const NET_BUFFER_LIST) -> *mut NET_BUFFER_LIST {
    // SAFETY: the caller owns the list, so its first pointer can be read.
    unsafe { *nbl.cast::<*mut NET_BUFFER_LIST>() }
}

/// `NET_BUFFER_LIST_NEXT_NBL(nbl) = next`.
///
/// # Safety
/// `nbl` is a list that the caller owns.
pub const unsafe fn nbl_set_next(nbl: *mut NET_BUFFER_LIST, next: *mut NET_BUFFER_LIST) {
    // SAFETY: the caller owns the list, so its first pointer can be written.
    unsafe { *nbl.cast::<*mut NET_BUFFER_LIST>() = next }
}

/// `NET_BUFFER_LIST_FIRST_NB`.
///
/// # Safety
/// `nbl` is a list that the caller owns.
pub const unsafe fn nbl_first_nb(nbl: *const NET_BUFFER_LIST) -> *mut NET_BUFFER {
    // SAFETY: the caller owns the list, so its header can be read.
    let header = unsafe { (*nbl).Header };
    // SAFETY: a list that is in use holds its links there.
    unsafe { header.Data.FirstNetBuffer }
}

/// `NET_BUFFER_LIST_INFO(nbl, id)`.
///
/// # Safety
/// `nbl` is a list that the caller owns, and `id` is below [`nbl_info_slots`] of the running version.
pub const unsafe fn nbl_info(nbl: *mut NET_BUFFER_LIST, id: usize) -> *mut *mut c_void {
    // SAFETY: the slots follow the fixed part of the list.
    let first = unsafe { &raw mut (*nbl).NetBufferListInfo }.cast::<*mut c_void>();
    // SAFETY: the caller says that slot `id` exists.
    unsafe { first.add(id) }
}

/// `NET_BUFFER_LIST_CONTEXT_DATA_START`.
///
/// # Safety
/// `nbl` is a list that the caller owns and that has a context.
pub const unsafe fn nbl_context_data(nbl: *const NET_BUFFER_LIST) -> *mut c_void {
    // SAFETY: the caller owns the list.
    let context: *mut NET_BUFFER_LIST_CONTEXT = unsafe { (*nbl).Context };
    // SAFETY: the list has a context.
    let offset = unsafe { (*context).Offset } as usize;
    // SAFETY: the context's data follows its header, inside the same allocation.
    let data = unsafe { context.add(1) };
    // SAFETY: the data starts `Offset` bytes further on, inside the same allocation.
    unsafe { data.byte_add(offset) }.cast()
}

/// Points the list's one `NET_BUFFER` at `length` bytes of `mdl`, starting at `offset`.
///
/// # Safety
/// The caller owns `nb`; `mdl` describes at least `offset + length` bytes.
pub unsafe fn nb_set_data(nb: *mut NET_BUFFER, mdl: *mut MDL, offset: u32, length: u32) {
    let data = crate::NET_BUFFER_DATA {
        Next: core::ptr::null_mut(),
        CurrentMdl: mdl,
        CurrentMdlOffset: offset,
        Length: crate::NET_BUFFER_LENGTH { stDataLength: length as usize },
        MdlChain: mdl,
        DataOffset: offset,
    };
    // SAFETY: the caller owns the buffer, whose head comes first.
    unsafe { nb.cast::<crate::NET_BUFFER_DATA>().write(data) }
}
