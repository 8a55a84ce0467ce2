//! Interrupt request levels as tokens (page "Managing Hardware Priorities").
//!
//! A token says the level that code runs at and the lock that it holds; callbacks receive one from the glue.
//! Tokens have no size, are neither `Send` nor `'static`, and cannot be made by safe code, so a level cannot
//! outlive the function that raised to it. Raising borrows the caller's token mutably: until the closure
//! returns, nothing that needs the lower level compiles, and then the old level is back, always. A guard
//! could be forgotten; a closure cannot.
#![expect(unsafe_code, reason = "asks the kernel for the level, and sets it")]
use core::marker::PhantomData;

// Of lowering, one architecture exports what the other has as a macro over it.
#[cfg(not(target_arch = "aarch64"))]
use wdk_sys::ntddk::KeLowerIrql as lower_irql;
#[cfg(target_arch = "aarch64")]
use wdk_sys::ntddk::KfLowerIrql as lower_irql;
use wdk_sys::ntddk::{KeGetCurrentIrql, KfRaiseIrql};

use crate::rank::NoLock;

/// `PASSIVE_LEVEL`.
pub const PASSIVE_LEVEL: u8 = 0;
/// `APC_LEVEL`.
pub const APC_LEVEL: u8 = 1;
/// `DISPATCH_LEVEL`.
pub const DISPATCH_LEVEL: u8 = 2;

/// The level now. Only for assertions: code knows its level from its tokens.
pub fn current() -> u8 {
    // SAFETY: KeGetCurrentIrql may be called at any level.
    unsafe { KeGetCurrentIrql() }
}

/// What makes a token neither `Send` nor `Sync`, and ties it to the frame that it was made for.
type Here<'a, Held> = PhantomData<(*const Held, &'a mut ())>;

/// The current code runs at `PASSIVE_LEVEL` for as long as this lives.
#[derive(Debug)]
pub struct Passive<'a>(Here<'a, NoLock>);

/// The current code runs at `APC_LEVEL` for as long as this lives, and `Held` is the rank of the fast mutex that
/// it holds.
#[derive(Debug)]
pub struct Apc<'a, Held = NoLock>(Here<'a, Held>);

/// The current code runs at `DISPATCH_LEVEL` for as long as this lives, and `Held` is the rank of the spin lock
/// that it holds.
#[derive(Debug)]
pub struct Dispatch<'a, Held = NoLock>(Here<'a, Held>);

/// The current code runs at `DISPATCH_LEVEL` or below, which of them it does not know, and holds no lock: many
/// of NDIS's callbacks come at either.
#[derive(Debug)]
pub struct AtMostDispatch<'a>(Here<'a, NoLock>);

macro_rules! assume {
    ($($token:ident: $level:literal, $assert:tt $constant:ident;)*) => {$(
        impl $token<'_> {
            #[doc = concat!("A token for a callback that the system calls at ", $level, ".")]
            ///
            /// # Safety
            #[doc = concat!("The caller runs at ", $level, " and holds no lock until the token's lifetime ends.")]
            // A stack that ends in the assertion names this function.
            #[cfg_attr(debug_assertions, inline(never))]
            pub unsafe fn assume() -> Self {
                assert_irql!($assert $constant);
                Self(PhantomData)
            }
        }
    )*};
}

assume! {
    Passive: "`PASSIVE_LEVEL`", == PASSIVE_LEVEL;
    Apc: "`APC_LEVEL`", == APC_LEVEL;
    Dispatch: "`DISPATCH_LEVEL`", == DISPATCH_LEVEL;
    AtMostDispatch: "`DISPATCH_LEVEL` or below", <= DISPATCH_LEVEL;
}

impl<Held> Apc<'_, Held> {
    /// A token inside a fast mutex of rank `Held`.
    pub(crate) const fn inside() -> Self {
        Self(PhantomData)
    }
}

impl<Held> Dispatch<'_, Held> {
    /// A token inside a spin lock of rank `Held`.
    pub(crate) const fn inside() -> Self {
        Self(PhantomData)
    }

    /// A token inside a lock of rank `Held` that another crate wraps.
    ///
    /// # Safety
    /// The caller runs at `DISPATCH_LEVEL` and holds such a lock until the token's lifetime ends.
    pub unsafe fn holding() -> Self {
        assert_irql!(== DISPATCH_LEVEL);
        Self(PhantomData)
    }
}

mod sealed {
    pub trait Sealed {}
}
use sealed::Sealed;

/// A token for `DISPATCH_LEVEL` or below.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not show a level up to DISPATCH_LEVEL",
    note = "pass the token that the callback received"
)]
pub trait UpToDispatch: Sealed {
    /// Whether this is known to be `DISPATCH_LEVEL`: what NDIS wants to be told in its flags.
    const AT_DISPATCH: bool = false;
}

/// A token that shows that code may wait and touch paged memory: `PASSIVE_LEVEL` or `APC_LEVEL`.
#[diagnostic::on_unimplemented(
    message = "code that runs with `{Self}` may neither wait nor touch paged memory",
    label = "waiting needs PASSIVE_LEVEL or APC_LEVEL",
    note = "at DISPATCH_LEVEL the scheduler does not run; let a work item do it at PASSIVE_LEVEL"
)]
pub trait MayWait: Sealed {}

/// A token that shows that no lock of this driver is held: what a call into NDIS needs, since NDIS may call back
/// before it returns.
#[diagnostic::on_unimplemented(
    message = "`{Self}` holds a lock, and NDIS may call this driver back before it returns",
    label = "no lock may be held across this call",
    note = "collect what is to be done under the lock, release it, then call"
)]
pub trait NoLockHeld: UpToDispatch {}

/// A token from which a spin lock raises to `DISPATCH_LEVEL`.
#[diagnostic::on_unimplemented(
    message = "a lock that raises the IRQL cannot be taken with `{Self}`",
    note = "at DISPATCH_LEVEL use `with_at_dispatch`"
)]
pub trait BelowDispatch: UpToDispatch {
    /// The rank of the lock that is held.
    type Held;
}

impl Sealed for Passive<'_> {}
impl UpToDispatch for Passive<'_> {}
impl MayWait for Passive<'_> {}
impl NoLockHeld for Passive<'_> {}
impl BelowDispatch for Passive<'_> {
    type Held = NoLock;
}

impl<Held> Sealed for Apc<'_, Held> {}
impl<Held> UpToDispatch for Apc<'_, Held> {}
impl<Held> MayWait for Apc<'_, Held> {}
impl NoLockHeld for Apc<'_, NoLock> {}
impl<Held> BelowDispatch for Apc<'_, Held> {
    type Held = Held;
}

impl<Held> Sealed for Dispatch<'_, Held> {}
impl<Held> UpToDispatch for Dispatch<'_, Held> {
    const AT_DISPATCH: bool = true;
}
impl NoLockHeld for Dispatch<'_, NoLock> {}

impl Sealed for AtMostDispatch<'_> {}
impl UpToDispatch for AtMostDispatch<'_> {}
impl NoLockHeld for AtMostDispatch<'_> {}
impl BelowDispatch for AtMostDispatch<'_> {
    type Held = NoLock;
}

impl Passive<'_> {
    /// Runs `work` at `APC_LEVEL`.
    pub fn at_apc<R>(&mut self, work: impl FnOnce(&mut Apc<'_>) -> R) -> R {
        raised(APC_LEVEL, || work(&mut Apc(PhantomData)))
    }

    /// Runs `work` at `DISPATCH_LEVEL`.
    pub fn at_dispatch<R>(&mut self, work: impl FnOnce(&mut Dispatch<'_>) -> R) -> R {
        raised(DISPATCH_LEVEL, || work(&mut Dispatch(PhantomData)))
    }
}

impl<Held> Apc<'_, Held> {
    /// Runs `work` at `DISPATCH_LEVEL`.
    pub fn at_dispatch<R>(&mut self, work: impl FnOnce(&mut Dispatch<'_, Held>) -> R) -> R {
        raised(DISPATCH_LEVEL, || work(&mut Dispatch(PhantomData)))
    }
}

fn raised<R>(level: u8, work: impl FnOnce() -> R) -> R {
    // SAFETY: the callers' tokens show a level below.
    let old = unsafe { KfRaiseIrql(level) };
    let result = work();
    // SAFETY: the level from before; what `work` raised it has lowered.
    unsafe { lower_irql(old) };
    result
}
