//! A send completion that sends again (fifth document, in a network filter's terms): on an adapter that completes
//! inline each send completes inside itself, and sends again, until the 24 KiB of the kernel stack are gone: 0x7F
//! with 8, and the same frames again and again in the stack. In the document a file filter's callback asks for a
//! process, which reads a page, which calls the callback; what repeats there is `PspReferenceCidTableEntry`.
#![no_std]

use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

use lab::filter::{self, Accounting};
use lab::{TAG, repaired::Repaired};
use ndis_sys::NDIS_STATUS;
use sluice_kernel::dpc::{Deferred, Dpc};
use sluice_kernel::irql::{AtMostDispatch, Dispatch, Passive};
use sluice_kernel::lock::SpinLock;
use sluice_kernel::shared::Shared;
use sluice_kernel::stack;

lab::filter!(Inline, FromDpc);

/// How many frames follow each that a client sends.
const FOLLOWING: u32 = 1000;
/// Bytes of stack that a send may need below this filter, with a margin.
const RESERVE: usize = 8 * 1024;

static LEFT: AtomicU32 = AtomicU32::new(0);

/// Takes one of the frames that are to follow.
fn take() -> bool {
    LEFT.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok()
}

struct Inline;

impl Accounting for Inline {
    fn restart() {
        Repaired::restart();
    }

    fn pause() -> NDIS_STATUS {
        LEFT.store(0, SeqCst);
        Repaired::pause()
    }

    fn may_send() -> bool {
        LEFT.store(FOLLOWING, SeqCst);
        Repaired::may_send()
    }

    /// The completion starts the next send, on its own stack.
    fn sent() {
        Repaired::sent();
        if take() && Repaired::may_send() {
            // SAFETY: the module runs, and the frame was counted.
            unsafe { filter::send_one() };
        }
    }
}

/// Sends what follows, from a DPC: its stack is always the same depth.
struct Sender {
    dpc: Dpc,
}

static SENDER: SpinLock<Option<Shared<Sender>>> = SpinLock::new(None);

/// The sender, while the module is attached.
fn sender() -> Option<Shared<Sender>> {
    // SAFETY: NDIS calls at DISPATCH_LEVEL or below, and nothing here is called with a lock held.
    SENDER.with(&mut unsafe { AtMostDispatch::assume() }, |sender, _| sender.clone())
}

impl Deferred for Sender {
    /// The completions of these sends only queue this DPC again. It goes on in a loop while there is something to send,
    /// a few frames at a time, and looks at the stack all the same: how deep the drivers below go is not its to know.
    fn run(this: &Shared<Self>, _dispatch: &mut Dispatch<'_>) {
        for _ in 0..8 {
            if stack::remaining() < RESERVE || !take() {
                return;
            }
            if Repaired::may_send() {
                // SAFETY: the module runs, and the frame was counted.
                unsafe { filter::send_one() };
            }
        }
        this.dpc.queue();
    }
}

struct FromDpc;

impl Accounting for FromDpc {
    fn attached() {
        let Ok(sender) = Shared::new(Sender { dpc: Dpc::new() }, TAG) else { return };
        sender.dpc.start(&sender);
        // SAFETY: NDIS attaches at PASSIVE_LEVEL.
        SENDER.with(&mut unsafe { Passive::assume() }, |place, _| *place = Some(sender));
    }

    fn detaching() {
        // SAFETY: NDIS detaches at PASSIVE_LEVEL.
        let mut passive = unsafe { Passive::assume() };
        if let Some(sender) = SENDER.with(&mut passive, |place, _| place.take()) {
            sender.dpc.stop(&mut passive);
        }
    }

    fn restart() {
        Repaired::restart();
    }

    fn pause() -> NDIS_STATUS {
        LEFT.store(0, SeqCst);
        Repaired::pause()
    }

    fn may_send() -> bool {
        LEFT.store(FOLLOWING, SeqCst);
        Repaired::may_send()
    }

    /// The completion never sends: it asks the DPC to, which runs when this stack is gone.
    fn sent() {
        Repaired::sent();
        if let Some(sender) = sender() {
            sender.dpc.queue();
        }
    }
}
