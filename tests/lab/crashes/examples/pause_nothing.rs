//! A pause handler that does nothing (fourth document, the question): the adapter is disabled while a client sends, the
//! module is paused and detached, and the next send goes through a handle that is gone. The document shows 0x3B with
//! 0xC0000005 in `NdisFSendNetBufferLists`.
#![no_std]

use lab::filter::Accounting;
use lab::repaired::Repaired;
use ndis_sys::{NDIS_STATUS, NDIS_STATUS_SUCCESS};

lab::filter!(Nothing, Repaired);

/// "Returning `NDIS_STATUS_SUCCESS` is all that the sample did."
struct Nothing;

impl Accounting for Nothing {
    fn restart() {}

    fn pause() -> NDIS_STATUS {
        NDIS_STATUS_SUCCESS
    }

    fn may_send() -> bool {
        true
    }

    fn sent() {}
}
