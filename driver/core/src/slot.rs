//! Slots: who owns a frame's memory, and when it may be touched.
//!
//! Whose memory is this, when may it live and die, does the device know? Three questions that a blue screen leaves
//! behind, and that a type answers here: a slot that was taken is the driver's and the device knows nothing of it; one in
//! flight is NDIS's and the device's, and has no bytes to be touched; it comes home through the completion callback
//! only, and its slab lives for as long as any slot is out, since freeing the slab needs the gate's proof that none is.
//!
//! A slab is one common buffer cut into slots. A slot is free (in the map), being filled (its bytes belong to
//! whoever took it), or in flight (NDIS and the device own it, and the driver holds no reference to its
//! bytes). The state is a type, so that touching a slot in flight does not compile; the map is a bitmap, so
//! that taking hundreds of slots costs a few atomic operations and no lock.
use core::marker::PhantomData;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use crate::Word;

/// The slot was taken from the map; its bytes are the holder's.
#[derive(Debug)]
pub struct Taken;
/// The slot holds a frame and can be sent.
#[derive(Debug)]
pub struct Filled;
/// NDIS owns the slot.
#[derive(Debug)]
pub struct InFlight;

/// One slot of a slab in the state `S`. Not `Clone`: ownership moves.
#[must_use = "a slot that is dropped is lost to its slab"]
#[derive(Debug, PartialEq, Eq)]
pub struct Slot<S> {
    index: u32,
    state: PhantomData<S>,
}

impl<S> Slot<S> {
    const fn at(index: u32) -> Self {
        Self { index, state: PhantomData }
    }

    /// Which slot of its slab.
    pub const fn index(&self) -> u32 {
        self.index
    }
}

impl Slot<Taken> {
    /// The holder has written a frame.
    pub fn filled(self) -> Slot<Filled> {
        Slot::at(self.index)
    }
}

impl Slot<Filled> {
    /// The slot's list is on its way to NDIS: from here on its bytes are not the driver's.
    pub fn submitted(self) -> Slot<InFlight> {
        Slot::at(self.index)
    }
}

impl Slot<InFlight> {
    /// The slot whose list came back from NDIS. Only a completion callback may say so.
    pub fn returned(index: u32) -> Self {
        Slot::at(index)
    }
}

/// The free slots of a slab: a set bit is a free slot.
#[derive(Debug)]
pub struct SlotMap<W, S> {
    words: S,
    slots: u32,
    word: PhantomData<W>,
}

/// Words that a map of `slots` slots needs.
pub const fn words_for(slots: u32) -> usize {
    slots.div_ceil(u64::BITS) as usize
}

impl<W: Word, S: AsRef<[W]>> SlotMap<W, S> {
    /// A map over [`words_for`] words, all of whose slots are free.
    pub fn new(words: S, slots: u32) -> Self {
        let map = Self { words, slots, word: PhantomData };
        for (index, word) in map.words.as_ref().iter().enumerate() {
            let left = slots.saturating_sub(index as u32 * u64::BITS);
            word.store(if left >= u64::BITS { u64::MAX } else { (1 << left) - 1 }, Relaxed);
        }
        map
    }

    /// Slots of the slab.
    pub const fn slots(&self) -> u32 {
        self.slots
    }

    /// Takes `count` slots and hands them to `each`, or takes none and returns false.
    ///
    /// `start` spreads processors over the map. A slot may be taken and put back meanwhile by another caller
    /// that finds too few, so false means "try again when something was put back".
    pub fn take(&self, count: u32, start: u32, mut each: impl FnMut(Slot<Taken>)) -> bool {
        let words = self.words.as_ref();
        // One request is at most 512 slots; what is taken is kept as masks, so that it can be put back.
        let mut masks = [0u64; 64];
        let Some(masks) = masks.get_mut(..words.len()) else { return false };
        let mut missing = count;
        for step in 0..words.len() {
            let index = (start as usize + step) % words.len();
            let (Some(word), Some(mask)) = (words.get(index), masks.get_mut(index)) else { continue };
            let mut seen = word.load(Relaxed);
            while seen != 0 && missing != 0 {
                let part = lowest(seen, missing);
                match word.compare_exchange(seen, seen & !part, AcqRel, Relaxed) {
                    Ok(_) => {
                        *mask |= part;
                        missing -= part.count_ones();
                        break;
                    }
                    Err(found) => seen = found,
                }
            }
            if missing == 0 {
                break;
            }
        }
        let enough = missing == 0;
        for (index, (word, mask)) in words.iter().zip(masks.iter()).enumerate() {
            if enough {
                let mut rest = *mask;
                while rest != 0 {
                    each(Slot::at(index as u32 * u64::BITS + rest.trailing_zeros()));
                    rest &= rest - 1;
                }
            } else if *mask != 0 {
                word.fetch_or(*mask, AcqRel);
            }
        }
        enough
    }

    /// Puts back a slot that came home.
    pub fn put(&self, slot: Slot<InFlight>) {
        let Slot { index, .. } = slot;
        self.free(index);
    }

    fn free(&self, index: u32) {
        if let Some(word) = self.words.as_ref().get((index / u64::BITS) as usize) {
            let bit = 1 << (index % u64::BITS);
            let before = word.fetch_or(bit, AcqRel);
            debug_assert!(before & bit == 0, "slot {index} was put back twice");
        }
    }

    /// Free slots. A snapshot.
    pub fn free_slots(&self) -> u32 {
        self.words.as_ref().iter().map(|word| word.load(Acquire).count_ones()).sum()
    }
}

/// The lowest `count` set bits of `bits`, or all of them if there are fewer.
const fn lowest(bits: u64, count: u32) -> u64 {
    if bits.count_ones() <= count {
        return bits;
    }
    let mut rest = bits;
    let mut left = count;
    while left != 0 {
        rest &= rest - 1;
        left -= 1;
    }
    bits & !rest
}
