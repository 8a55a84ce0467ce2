//! Critical and guarded regions (page "Critical Regions and Guarded Regions").
#![expect(unsafe_code, reason = "disables APCs of the thread")]
use core::marker::PhantomData;

use wdk_sys::ntddk::{
    KeEnterCriticalRegion, KeEnterGuardedRegion, KeLeaveCriticalRegion, KeLeaveGuardedRegion,
};

use crate::irql::Passive;
use crate::rank::NoLock;

/// The thread is in a critical region, or a guarded one, for as long as this lives: normal kernel APCs are
/// disabled, so it cannot be suspended with an executive resource in its hands. `Held` is the rank of the
/// resource that it holds.
#[derive(Debug)]
pub struct Critical<'a, Held = NoLock> {
    passive: Passive<'a>,
    held: PhantomData<Held>,
}

/// The thread is in a guarded region for as long as this lives: all its APCs are disabled.
#[derive(Debug)]
pub struct Guarded<'a>(Critical<'a>);

impl<'a, Held> Critical<'a, Held> {
    /// The level, which is still `PASSIVE_LEVEL`: for what may wait.
    pub fn passive(&self) -> &Passive<'a> {
        &self.passive
    }

    /// A token inside a resource of rank `Held`.
    ///
    /// # Safety
    /// The thread is in a critical or guarded region at `PASSIVE_LEVEL` until the token's lifetime ends.
    pub(crate) unsafe fn inside() -> Self {
        // SAFETY: as promised by the caller.
        Self { passive: unsafe { Passive::assume() }, held: PhantomData }
    }
}

impl<'a> Guarded<'a> {
    /// A guarded region is a critical one too.
    pub fn critical(&mut self) -> &mut Critical<'a> {
        &mut self.0
    }
}

impl Passive<'_> {
    /// Runs `work` in a critical region. Enter and leave always come in pairs.
    pub fn critical_region<R>(&mut self, work: impl FnOnce(&mut Critical<'_>) -> R) -> R {
        // SAFETY: the token shows PASSIVE_LEVEL.
        unsafe { KeEnterCriticalRegion() };
        // SAFETY: entered above, left below, at the level of the borrowed token.
        let mut region = unsafe { Critical::inside() };
        let result = work(&mut region);
        // SAFETY: entered above, by this thread.
        unsafe { KeLeaveCriticalRegion() };
        result
    }

    /// Runs `work` in a guarded region. Enter and leave always come in pairs.
    pub fn guarded_region<R>(&mut self, work: impl FnOnce(&mut Guarded<'_>) -> R) -> R {
        // SAFETY: the token shows PASSIVE_LEVEL.
        unsafe { KeEnterGuardedRegion() };
        // SAFETY: entered above, left below, at the level of the borrowed token.
        let mut region = Guarded(unsafe { Critical::inside() });
        let result = work(&mut region);
        // SAFETY: entered above, by this thread.
        unsafe { KeLeaveGuardedRegion() };
        result
    }
}
