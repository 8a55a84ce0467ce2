//! The end of a send request under every interleaving of its last frames and its cancellation: it is completed
//! once, and nobody touches its IRP afterwards.
#![expect(clippy::unwrap_used, reason = "a thread that panics has found a fault")]

mod model;

// What the check itself keeps is not part of the model, see the gate's.
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use loom::sync::Arc;
use loom::sync::atomic::Ordering::AcqRel;
use model::LoomWord;
use sluice_core::Word;
use sluice_core::transfer::Transfer;

/// A request, and what stands for its IRP.
struct Request {
    transfer: Transfer<LoomWord>,
    /// `Irp->CancelRoutine`, which everybody exchanges: 1 while a routine is set.
    routine: LoomWord,
    completions: AtomicUsize,
    /// Whoever takes the cancel routine back before giving up the frames' share; the wrong way round otherwise.
    disarm_first: bool,
}

impl Request {
    fn new(frames: u32, disarm_first: bool) -> Arc<Self> {
        let transfer = Transfer::new();
        transfer.start(frames);
        Arc::new(Self { transfer, routine: LoomWord::new(1), completions: AtomicUsize::new(0), disarm_first })
    }

    /// `IoSetCancelRoutine(irp, NULL)`: touches the IRP.
    fn take_routine(&self) -> bool {
        let was_set = self.routine.fetch_and(0, AcqRel) == 1;
        assert_eq!(self.completions.load(SeqCst), 0, "the IRP is touched after it was completed");
        was_set
    }

    fn complete(&self) {
        assert_eq!(self.completions.fetch_add(1, SeqCst), 0, "an IRP completes once");
    }

    fn frame_back(&self) {
        if !self.transfer.frames_back(1) {
            return;
        }
        if self.disarm_first {
            if self.take_routine() {
                self.transfer.give_up();
            }
            if self.transfer.give_up() {
                self.complete();
            }
        } else if self.transfer.give_up() || (self.take_routine() && self.transfer.give_up()) {
            self.complete();
        }
    }

    /// `IoCancelIrp`, while the I/O manager knows of the request.
    fn cancel(&self) {
        // The I/O manager's own reference keeps the IRP while it looks.
        if self.routine.fetch_and(0, AcqRel) == 1 && self.transfer.give_up() {
            self.complete();
        }
    }
}

fn check(disarm_first: bool) {
    loom::model(move || {
        let request = Request::new(2, disarm_first);
        let frames: Vec<_> = (0..2)
            .map(|_| {
                let request = request.clone();
                loom::thread::spawn(move || request.frame_back())
            })
            .collect();
        request.cancel();
        for frame in frames {
            frame.join().unwrap();
        }
        assert_eq!(request.completions.load(SeqCst), 1, "every request completes");
    });
}

#[test]
fn a_request_completes_once_however_it_is_cancelled() {
    check(true);
}

#[test]
fn giving_up_before_taking_the_routine_back_is_found() {
    assert!(std::panic::catch_unwind(|| check(false)).is_err());
}
