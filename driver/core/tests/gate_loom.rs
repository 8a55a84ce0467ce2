//! The gate under every interleaving of two senders, a pauser and a restarter on two shards; and wrong gates,
//! each of which the same check must find wrong.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that finds nothing there has failed"
)]
mod model;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicUsize as StdAtomicUsize, Ordering as StdOrdering};

// What the check itself keeps is not part of the model: loom runs one thread at a time, so these see the order
// in which things happen, and add no interleavings.
use std::sync::atomic::{AtomicBool, AtomicUsize};

use loom::sync::Arc;
use loom::sync::atomic::Ordering;
use model::LoomWord;
use sluice_core::Word;
use sluice_core::gate::{Close, Direction, Gate, Leave, Pass, Shard};

/// What the check needs of a gate, right or wrong.
trait Keeper: Send + Sync + 'static {
    /// An open gate.
    fn open_gate() -> Self;
    fn enter(&self, processor: u32) -> Option<Pass>;
    /// True for whoever has to complete the pause.
    fn leave(&self, pass: Pass) -> bool;
    /// True if nothing is out.
    fn close(&self) -> bool;
    /// Opens a gate that is drained.
    fn reopen(&self);
}

impl Keeper for Gate<LoomWord, Vec<Shard<LoomWord>>> {
    fn open_gate() -> Self {
        let gate = Self::new(vec![Shard::new(), Shard::new()]);
        gate.claim().unwrap().open();
        gate
    }
    fn enter(&self, processor: u32) -> Option<Pass> {
        self.enter(processor, Direction::Send, 1)
    }
    fn leave(&self, pass: Pass) -> bool {
        self.leave(pass) == Leave::Drained
    }
    fn close(&self) -> bool {
        self.close() == Close::Drained
    }
    fn reopen(&self) {
        self.claim().expect("a completed pause leaves a drained gate").open();
    }
}

/// What all threads of one run share.
struct Run<K> {
    gate: K,
    /// The pause is complete: nothing may be out, and nothing may come in.
    paused: AtomicBool,
    completions: AtomicUsize,
    out: AtomicUsize,
}

impl<K: Keeper> Run<K> {
    fn complete(&self) {
        assert_eq!(self.completions.fetch_add(1, Ordering::AcqRel), 0, "a pause completes once");
        assert_eq!(self.out.load(Ordering::Acquire), 0, "a pause completes when everything is back");
        self.paused.store(true, Ordering::Release);
    }

    fn send(&self, processor: u32) {
        if let Some(pass) = self.gate.enter(processor) {
            self.out.fetch_add(1, Ordering::AcqRel);
            assert!(!self.paused.load(Ordering::Acquire), "no send begins while paused");
            let before = self.out.fetch_sub(1, Ordering::AcqRel);
            assert!(before > 0, "counts are never negative");
            if self.gate.leave(pass) {
                self.complete();
            }
        }
    }
}

/// Two senders on two shards, a pauser, and a restarter that opens the gate once the pause is complete.
fn check<K: Keeper>(runs: &StdArc<StdAtomicUsize>) {
    let runs = runs.clone();
    loom::model(move || {
        runs.fetch_add(1, StdOrdering::Relaxed);
        let run = Arc::new(Run {
            gate: K::open_gate(),
            paused: AtomicBool::new(false),
            completions: AtomicUsize::new(0),
            out: AtomicUsize::new(0),
        });
        let senders: Vec<_> = (0..2)
            .map(|processor| {
                let run = run.clone();
                loom::thread::spawn(move || run.send(processor))
            })
            .collect();
        let restarter = {
            let run = run.clone();
            loom::thread::spawn(move || {
                // NDIS restarts after the pause is complete; a restarter that comes early finds nothing to do.
                if run.paused.load(Ordering::Acquire) {
                    run.paused.store(false, Ordering::Release);
                    run.gate.reopen();
                    return true;
                }
                false
            })
        };
        // The pauser is this thread.
        if run.gate.close() {
            run.complete();
        }
        for sender in senders {
            sender.join().unwrap();
        }
        let restarted = restarter.join().unwrap();
        assert_eq!(run.completions.load(Ordering::Acquire), 1, "every pause completes");
        if !restarted {
            run.paused.store(false, Ordering::Release);
            run.gate.reopen();
        }
        let pass = run.gate.enter(0).expect("an opened gate admits");
        assert!(!run.gate.leave(pass));
    });
}

/// Loom finds a violation in a wrong gate.
fn must_be_found<K: Keeper>() {
    let runs = StdArc::new(StdAtomicUsize::new(0));
    let result = catch_unwind(AssertUnwindSafe(|| check::<K>(&runs)));
    println!("{} interleavings until it is found", runs.load(StdOrdering::Relaxed));
    assert!(result.is_err(), "the check does not find this gate wrong");
}

#[test]
fn the_gate_holds_under_every_interleaving() {
    let runs = StdArc::new(StdAtomicUsize::new(0));
    check::<Gate<LoomWord, Vec<Shard<LoomWord>>>>(&runs);
    println!("{} interleavings", runs.load(StdOrdering::Relaxed));
}

const CLOSED: u64 = 1 << 63;

fn words() -> [LoomWord; 2] {
    [LoomWord::new(0), LoomWord::new(0)]
}

fn enter(word: &LoomWord, processor: u32) -> Option<Pass> {
    let mut seen = word.load(Ordering::Relaxed);
    loop {
        if seen & CLOSED != 0 {
            return None;
        }
        match word.compare_exchange(seen, seen + 1, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return Some(Pass::resume(processor as u16, Direction::Send, 1)),
            Err(found) => seen = found,
        }
    }
}

/// Seed 003's first sketch: the flag is set only in the branch that finds something in flight.
struct FlagInOneBranch(LoomWord);

impl Keeper for FlagInOneBranch {
    fn open_gate() -> Self {
        Self(LoomWord::new(0))
    }
    fn enter(&self, processor: u32) -> Option<Pass> {
        enter(&self.0, processor)
    }
    fn leave(&self, pass: Pass) -> bool {
        pass.into_items();
        self.0.fetch_sub(1, Ordering::AcqRel) == CLOSED | 1
    }
    fn close(&self) -> bool {
        let seen = self.0.load(Ordering::Acquire);
        if seen == 0 {
            return true;
        }
        self.0.fetch_or(CLOSED, Ordering::AcqRel) == 0
    }
    fn reopen(&self) {
        self.0.fetch_and(!CLOSED, Ordering::Release);
    }
}

/// The leaver counts down, and looks afterwards whether it was the last.
struct DecidedOutsideTheAtomic(LoomWord);

impl Keeper for DecidedOutsideTheAtomic {
    fn open_gate() -> Self {
        Self(LoomWord::new(0))
    }
    fn enter(&self, processor: u32) -> Option<Pass> {
        enter(&self.0, processor)
    }
    fn leave(&self, pass: Pass) -> bool {
        pass.into_items();
        self.0.fetch_sub(1, Ordering::AcqRel);
        self.0.load(Ordering::Acquire) == CLOSED
    }
    fn close(&self) -> bool {
        self.0.fetch_or(CLOSED, Ordering::AcqRel) == 0
    }
    fn reopen(&self) {
        self.0.fetch_and(!CLOSED, Ordering::Release);
    }
}

/// Closing forgets the second shard.
struct ShardForgotten([LoomWord; 2]);

impl Keeper for ShardForgotten {
    fn open_gate() -> Self {
        Self(words())
    }
    fn enter(&self, processor: u32) -> Option<Pass> {
        enter(&self.0[processor as usize % 2], processor)
    }
    fn leave(&self, pass: Pass) -> bool {
        let shard = usize::from(pass.shard());
        pass.into_items();
        self.0[shard].fetch_sub(1, Ordering::AcqRel) == CLOSED | 1
    }
    fn close(&self) -> bool {
        self.0[0].fetch_or(CLOSED, Ordering::AcqRel) == 0
    }
    fn reopen(&self) {
        self.0[0].fetch_and(!CLOSED, Ordering::Release);
    }
}

#[test]
fn a_flag_that_is_set_only_in_one_branch_is_found() {
    must_be_found::<FlagInOneBranch>();
}

#[test]
fn a_completion_that_is_decided_outside_the_atomic_is_found() {
    must_be_found::<DecidedOutsideTheAtomic>();
}

#[test]
fn a_shard_that_is_forgotten_is_found() {
    must_be_found::<ShardForgotten>();
}
