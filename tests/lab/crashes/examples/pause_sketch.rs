//! The answer's sketch, as it is written (fourth document): `PausePending` is set only where something is in flight. If
//! nothing is, the pause succeeds, the flag stays clear, and the next send starts on a paused module: "the same BSoD
//! still happens". The crash needs its moment, and the exploration finds it.
#![no_std]

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use lab::filter::{self, Accounting};
use lab::repaired::Repaired;
use ndis_sys::{NDIS_STATUS, NDIS_STATUS_PENDING, NDIS_STATUS_SUCCESS};
use sluice_kernel::irql::AtMostDispatch;
use sluice_kernel::lock::SpinLock;

lab::filter!(Sketch, Repaired);

static LOCK: SpinLock<()> = SpinLock::new(());
static ORIGINATED: AtomicU32 = AtomicU32::new(0);
static PAUSE_PENDING: AtomicBool = AtomicBool::new(false);

/// `AcquireDatapathLock`, `ReleaseDatapathLock`.
fn locked<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: NDIS and clients call at DISPATCH_LEVEL or below.
    LOCK.with(&mut unsafe { AtMostDispatch::assume() }, |(), _| work())
}

struct Sketch;

impl Accounting for Sketch {
    fn restart() {
        PAUSE_PENDING.store(false, SeqCst);
    }

    fn pause() -> NDIS_STATUS {
        locked(|| {
            if ORIGINATED.load(SeqCst) > 0 {
                PAUSE_PENDING.store(true, SeqCst);
                NDIS_STATUS_PENDING
            } else {
                NDIS_STATUS_SUCCESS
            }
        })
    }

    fn may_send() -> bool {
        locked(|| {
            if PAUSE_PENDING.load(SeqCst) {
                return false;
            }
            ORIGINATED.fetch_add(1, SeqCst);
            true
        })
    }

    fn sent() {
        let complete = locked(|| ORIGINATED.fetch_sub(1, SeqCst) == 1 && PAUSE_PENDING.load(SeqCst));
        if complete {
            // SAFETY: as the sketch has it.
            unsafe { filter::pause_complete() };
        }
    }
}
