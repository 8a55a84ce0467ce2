//! The third version of the fourth document's conversation: what its answer meant, and its reader asked for.
//!
//! - The flag is set in both branches of the pause, under the lock: with nothing in flight and the flag unset, the next
//!   send would start. (The reader's first question.)
//! - Restarting clears it, and nothing else does. (The reader's second: no, `FilterRestart` must not set it; the
//!   module was paused, and that is over.)
//! - A frame is counted under the same lock that looks at the flag, so the pause sees either the frame or a sender that
//!   sees the pause.
//! - NDIS is called after the lock was released, and `NdisFPauseComplete` by whoever brought the last frame back, once.
use sluice_kernel::irql::AtMostDispatch;
use sluice_kernel::lock::SpinLock;

use ndis_sys::{NDIS_STATUS, NDIS_STATUS_PENDING, NDIS_STATUS_SUCCESS};

use crate::filter::{self, Accounting};

/// What the lock guards.
struct Datapath {
    originated: u32,
    paused: bool,
}

static DATAPATH: SpinLock<Datapath> = SpinLock::new(Datapath { originated: 0, paused: true });

/// A module is attached paused, and runs from its first restart on.
pub struct Repaired;

fn level() -> AtMostDispatch<'static> {
    // SAFETY: NDIS and clients call at DISPATCH_LEVEL or below, and nothing here is called with a lock held.
    unsafe { AtMostDispatch::assume() }
}

impl Accounting for Repaired {
    fn restart() {
        DATAPATH.with(&mut level(), |path, _| path.paused = false);
    }

    fn pause() -> NDIS_STATUS {
        DATAPATH.with(&mut level(), |path, _| {
            path.paused = true;
            if path.originated == 0 { NDIS_STATUS_SUCCESS } else { NDIS_STATUS_PENDING }
        })
    }

    fn may_send() -> bool {
        DATAPATH.with(&mut level(), |path, _| {
            if !path.paused {
                path.originated += 1;
            }
            !path.paused
        })
    }

    fn sent() {
        let last = DATAPATH.with(&mut level(), |path, _| {
            path.originated -= 1;
            path.originated == 0 && path.paused
        });
        if last {
            // SAFETY: the pause found this frame out and is pending; it was the last.
            unsafe { filter::pause_complete() };
        }
    }
}
