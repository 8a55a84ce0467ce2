//! Interrupt request levels as tokens.
#![expect(unsafe_code, reason = "asks the kernel for the level")]
use core::marker::PhantomData;

use wdk_sys::ntddk::KeGetCurrentIrql;

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

/// The current code runs at `PASSIVE_LEVEL` for as long as this lives.
#[derive(Debug)]
pub struct Passive<'a>(PhantomData<(*const (), &'a mut ())>);

/// The current code runs at `DISPATCH_LEVEL` for as long as this lives.
#[derive(Debug)]
pub struct Dispatch<'a>(PhantomData<(*const (), &'a mut ())>);

impl Passive<'_> {
    /// A token for a callback that the system calls at `PASSIVE_LEVEL`.
    ///
    /// # Safety
    /// The caller runs at `PASSIVE_LEVEL` until the token's lifetime ends.
    pub unsafe fn assume() -> Self {
        assert_irql!(== PASSIVE_LEVEL);
        Self(PhantomData)
    }
}

impl Dispatch<'_> {
    /// A token for a callback that the system calls at `DISPATCH_LEVEL`.
    ///
    /// # Safety
    /// The caller runs at `DISPATCH_LEVEL` until the token's lifetime ends.
    pub unsafe fn assume() -> Self {
        assert_irql!(== DISPATCH_LEVEL);
        Self(PhantomData)
    }
}

/// A level up to `DISPATCH_LEVEL` that the code knows of itself, for functions that behave the same at both.
pub trait UpToDispatch {
    /// Whether this is `DISPATCH_LEVEL`: what NDIS wants to be told in its flags.
    const AT_DISPATCH: bool;
}

impl UpToDispatch for Passive<'_> {
    const AT_DISPATCH: bool = false;
}

impl UpToDispatch for Dispatch<'_> {
    const AT_DISPATCH: bool = true;
}
