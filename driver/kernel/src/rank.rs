//! The order in which locks are taken, as types.
//!
//! Two threads that take two locks in different order wait for each other for ever (page "Using Spin Locks: An
//! Example": establish an order). Here each lock has a rank, each token says the rank of the lock that is
//! held, and a lock can only be taken where its rank comes after that one. It costs nothing: ranks and tokens
//! have no size. Debug builds check the order once more, per processor, for locks that are taken through a
//! token that was made inside another lock.

/// A place in the order of locks.
pub trait Rank {
    /// The place: larger ones come later.
    const ORDER: u32;
}

/// A lock of this rank may be taken while one of rank `Held` is held.
#[diagnostic::on_unimplemented(
    message = "a lock of rank `{Self}` is taken while one of rank `{Held}` is held",
    label = "this lock's rank does not come after the rank that is held",
    note = "locks are taken in the order of `ranks!`; a `Leaf` is the last lock of all"
)]
pub trait After<Held>: Rank {}

/// No lock is held.
#[derive(Debug)]
pub struct NoLock;

/// The rank of locks inside which no other lock is taken: the usual one.
#[derive(Debug)]
pub struct Leaf;

impl Rank for NoLock {
    const ORDER: u32 = 0;
}

impl Rank for Leaf {
    const ORDER: u32 = u32::MAX;
}

impl After<NoLock> for Leaf {}
impl After<Nothing> for Leaf {}

/// No token has this rank. Every rank comes after it, so that the compiler never takes the one impl that there is
/// for what is meant, and says which ranks do not fit instead of which types.
#[doc(hidden)]
#[derive(Debug)]
pub enum Nothing {}

/// Declares ranks in the order in which their locks are taken: `ranks! { pub Table; pub Entry; }`.
#[macro_export]
macro_rules! ranks {
    ($($(#[$about:meta])* $visibility:vis $name:ident;)+) => {
        $($(#[$about])* #[derive(Debug)] $visibility struct $name;)+
        $crate::ranks!(@order 1; $($name)+);
        $crate::ranks!(@pairs $($name)+);
    };
    (@order $order:expr; $first:ident $($rest:ident)*) => {
        impl $crate::rank::Rank for $first {
            const ORDER: u32 = $order;
        }
        $crate::ranks!(@order $order + 1; $($rest)*);
    };
    (@order $order:expr;) => {};
    (@pairs $first:ident $($rest:ident)*) => {
        impl $crate::rank::After<$crate::rank::NoLock> for $first {}
        impl $crate::rank::After<$crate::rank::Nothing> for $first {}
        impl $crate::rank::After<$first> for $crate::rank::Leaf {}
        $(impl $crate::rank::After<$first> for $rest {})*
        $crate::ranks!(@pairs $($rest)*);
    };
    (@pairs) => {};
}

/// What debug builds remember of each processor: the rank of the spin lock that it holds.
#[cfg(debug_assertions)]
mod held {
    use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

    static HELD: [AtomicU32; 64] = [const { AtomicU32::new(0) }; 64];

    /// A lock of a rank is being taken, at `DISPATCH_LEVEL`; returns what was held. A stack that ends in the assertion
    /// names this function.
    #[inline(never)]
    pub(crate) fn take(order: u32) -> u32 {
        let Some(held) = HELD.get(crate::processor::current() as usize) else { return 0 };
        let before = held.swap(order, Relaxed);
        assert!(before < order, "a lock of order {order} is taken while one of order {before} is held");
        before
    }

    /// The lock is released.
    pub(crate) fn give(before: u32) {
        if let Some(held) = HELD.get(crate::processor::current() as usize) {
            held.store(before, Relaxed);
        }
    }
}

#[cfg(not(debug_assertions))]
mod held {
    pub(crate) const fn take(_order: u32) -> u32 {
        0
    }
    pub(crate) const fn give(_before: u32) {}
}

pub(crate) use held::{give, take};
