//! The gate: counts what a module has originated, and opens, closes and drains.
//!
//! Each processor has a shard of its own, one atomic word that holds a closed bit and two counts: sends, and
//! receives that were indicated. Entering adds to a shard unless it is closed, in one compare-and-swap;
//! leaving subtracts from the same shard. Closing sets the bit on every shard, whether or not anything is
//! out, and learns what still is; each shard that is empty then, or becomes empty later, is crossed off in
//! `pending`, and whoever crosses off the last item, of which the closer itself holds one, drains the
//! gate: exactly one caller is told. Nothing waits, nothing polls, nothing is locked.
//!
//! A caller that was told [`Leave::Drained`] completes the pause. Once that is done the gate may be gone, so
//! no caller touches it after its own last atomic operation.
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::Word;

/// Set in a shard's word while the gate is closed.
const CLOSED: u64 = 1 << 63;
/// One send.
const SEND: u64 = 1;
/// One receive that was indicated.
const RECEIVE: u64 = 1 << 32;
/// The counts of a shard's word.
const COUNTS: u64 = !CLOSED;

/// `pending` while the gate is open.
const OPEN: u64 = 1 << 62;
/// `pending` while somebody holds [`Drained`].
const CLAIMED: u64 = 1 << 61;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// A send, towards the adapter.
    Send,
    /// A receive indication, towards the host.
    Receive,
}

impl Direction {
    const fn unit(self) -> u64 {
        match self {
            Self::Send => SEND,
            Self::Receive => RECEIVE,
        }
    }
}

/// One processor's part of a gate, on a cache line of its own.
#[repr(align(64))]
#[derive(Debug)]
pub struct Shard<W>(W);

impl<W: Word> Shard<W> {
    /// A shard of a closed gate.
    pub fn new() -> Self {
        Self(W::new(CLOSED))
    }
}

impl<W: Word> Default for Shard<W> {
    fn default() -> Self {
        Self::new()
    }
}

/// See the module's description. `S` holds the shards: a boxed slice in the driver, a vector in tests.
///
/// # Invariants
/// - A shard's counts grow only while its closed bit is clear.
/// - `pending` is `OPEN`, or `CLAIMED`, or the number of shards that are not yet known to be empty, plus
///   one while the closer is at work.
#[derive(Debug)]
pub struct Gate<W, S> {
    shards: S,
    pending: W,
}

/// Admission of `count` items on one shard. It must be given back to [`Gate::leave`], as one or in parts.
#[must_use = "an admission that is dropped keeps the gate from draining"]
#[derive(Debug, PartialEq, Eq)]
pub struct Pass {
    shard: u16,
    direction: Direction,
    count: u32,
}

impl Pass {
    /// The part of an admission that was split among the items of a chain: `count` items of `shard`.
    ///
    /// The items carry the shard while they are out, since nothing else travels with them.
    pub const fn resume(shard: u16, direction: Direction, count: u32) -> Self {
        Self { shard, direction, count }
    }

    /// The shard, to be remembered by each item.
    pub const fn shard(&self) -> u16 {
        self.shard
    }

    /// Turns the admission into `count` items that will leave one by one; each remembers [`Pass::shard`].
    pub fn into_items(self) -> u32 {
        self.count
    }
}

/// What closing found.
#[derive(Debug, PartialEq, Eq)]
pub enum Close {
    /// Nothing was out: the gate is drained.
    Drained,
    /// Something is out: a later [`Gate::leave`] returns [`Leave::Drained`].
    Pending,
    /// The gate was not open.
    NotOpen,
}

/// What leaving found.
#[must_use = "the one who drains the gate completes the pause"]
#[derive(Debug, PartialEq, Eq)]
pub enum Leave {
    /// The gate is open, or something else is still out.
    Left,
    /// That was the last item of a closed gate. Only one caller is ever told.
    Drained,
}

/// Items that are out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outstanding {
    /// Sends.
    pub sends: u64,
    /// Receives that were indicated.
    pub receives: u64,
}

/// Proof that the gate is closed and nothing is out, as long as it is held. Only one can be held at a time.
#[derive(Debug)]
pub struct Drained<'gate, W: Word, S: AsRef<[Shard<W>]>>(&'gate Gate<W, S>);

impl<W: Word, S: AsRef<[Shard<W>]>> Gate<W, S> {
    /// A closed and drained gate.
    pub fn new(shards: S) -> Self {
        Self { shards, pending: W::new(0) }
    }

    /// Admits `count` items on the shard of `processor`, or none if the gate is closed.
    ///
    /// # IRQL
    /// Any. A caller that moves to another processor meanwhile loses nothing but speed.
    pub fn enter(&self, processor: u32, direction: Direction, count: u32) -> Option<Pass> {
        let shards = self.shards.as_ref();
        let index = processor as usize % shards.len().max(1);
        let word = &shards.get(index)?.0;
        let amount = direction.unit() * u64::from(count);
        let mut seen = word.load(Relaxed);
        loop {
            if seen & CLOSED != 0 && !cfg!(feature = "gate-bypass") {
                return None;
            }
            match word.compare_exchange(seen, seen + amount, Acquire, Relaxed) {
                Ok(_) => return Some(Pass { shard: index as u16, direction, count }),
                Err(found) => seen = found,
            }
        }
    }

    /// Gives an admission back. On [`Leave::Drained`] the caller completes the pause, and touches the gate
    /// no more.
    ///
    /// # IRQL
    /// Any.
    pub fn leave(&self, pass: Pass) -> Leave {
        let Pass { shard, direction, count } = pass;
        let Some(shard) = self.shards.as_ref().get(usize::from(shard)) else { return Leave::Left };
        let amount = direction.unit() * u64::from(count);
        let before = shard.0.fetch_sub(amount, AcqRel);
        debug_assert!(before & COUNTS >= amount, "the gate's count would be negative");
        if before == CLOSED | amount && !cfg!(feature = "gate-bypass") {
            self.cross_off()
        } else {
            Leave::Left
        }
    }

    /// Closes every shard, whether or not anything is out.
    ///
    /// # IRQL
    /// Any; in practice `FilterPause`, at `PASSIVE_LEVEL`.
    pub fn close(&self) -> Close {
        let shards = self.shards.as_ref();
        // The closer's own item keeps the gate from draining before every shard is closed.
        if self.pending.compare_exchange(OPEN, shards.len() as u64 + 1, AcqRel, Relaxed).is_err() {
            return Close::NotOpen;
        }
        for shard in shards {
            if shard.0.fetch_or(CLOSED, AcqRel) & COUNTS == 0 || cfg!(feature = "gate-bypass") {
                let _ = self.cross_off();
            }
        }
        match self.cross_off() {
            Leave::Drained => Close::Drained,
            Leave::Left => Close::Pending,
        }
    }

    /// The proof that nothing is out, if that is so and nobody else holds it.
    ///
    /// # IRQL
    /// Any.
    pub fn claim(&self) -> Option<Drained<'_, W, S>> {
        self.pending.compare_exchange(0, CLAIMED, AcqRel, Relaxed).ok().map(|_| Drained(self))
    }

    /// How much is out. A snapshot: by the time the caller looks at it, it may be history.
    pub fn outstanding(&self) -> Outstanding {
        self.shards.as_ref().iter().fold(Outstanding::default(), |sum, shard| {
            let counts = shard.0.load(Relaxed) & COUNTS;
            Outstanding { sends: sum.sends + (counts % RECEIVE), receives: sum.receives + counts / RECEIVE }
        })
    }

    /// Crosses off one item of `pending`; whoever crosses off the last has drained the gate.
    fn cross_off(&self) -> Leave {
        if self.pending.fetch_sub(1, AcqRel) == 1 { Leave::Drained } else { Leave::Left }
    }
}

impl<W: Word, S: AsRef<[Shard<W>]>> Drained<'_, W, S> {
    /// Opens the gate, which ends the proof.
    pub fn open(self) {
        self.0.pending.store(OPEN, Release);
        for shard in self.0.shards.as_ref() {
            shard.0.fetch_and(!CLOSED, Release);
        }
        core::mem::forget(self);
    }
}

impl<W: Word, S: AsRef<[Shard<W>]>> Drop for Drained<'_, W, S> {
    fn drop(&mut self) {
        self.0.pending.store(0, Release);
    }
}
