//! Events (page "Defining and Using an Event Object").
#![expect(unsafe_code, reason = "the kernel links waiters into the object")]
use core::cell::UnsafeCell;

use wdk_sys::KEVENT;
use wdk_sys::ntddk::{KeClearEvent, KeInitializeEvent, KeReadStateEvent, KeSetEvent};

use crate::irql::{MayWait, UpToDispatch};
use crate::pool::{OutOfMemory, PoolBox, Tag};
use crate::wait::{self, Timeout, Waited};

/// `NotificationEvent`.
const NOTIFICATION: i32 = 0;
/// `SynchronizationEvent`.
const SYNCHRONIZATION: i32 = 1;

/// An event, in nonpaged pool of its own: the kernel's waiters are linked to its address. Whoever waits borrows
/// it, so it cannot be freed while somebody waits; to let several threads have it, put it into a
/// [`crate::shared::Shared`].
pub struct Event(PoolBox<UnsafeCell<KEVENT>>);

// SAFETY: the kernel's functions guard the object.
unsafe impl Sync for Event {}
// SAFETY: an event is not tied to a thread.
unsafe impl Send for Event {}

impl Event {
    fn new(kind: i32, tag: Tag) -> Result<Self, OutOfMemory> {
        let event = PoolBox::new(UnsafeCell::new(KEVENT::default()), tag)?;
        // SAFETY: the object is nonpaged, stays in place, and is not in use.
        unsafe { KeInitializeEvent(event.get(), kind, 0) };
        Ok(Self(event))
    }

    /// An event that lets all waiters go and stays signalled until it is cleared. Not signalled yet.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    pub fn notification(tag: Tag) -> Result<Self, OutOfMemory> {
        Self::new(NOTIFICATION, tag)
    }

    /// An event that lets one waiter go and is not signalled then. Not signalled yet.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    pub fn synchronization(tag: Tag) -> Result<Self, OutOfMemory> {
        Self::new(SYNCHRONIZATION, tag)
    }

    /// Signals it. The level is not raised for a wait that follows (`Wait` is FALSE).
    pub fn set(&self, _level: &impl UpToDispatch) {
        // SAFETY: `new` initialised the object; the token shows a level up to DISPATCH_LEVEL.
        unsafe { KeSetEvent(self.0.get(), 0, 0) };
    }

    /// Takes the signal back.
    pub fn clear(&self, _level: &impl UpToDispatch) {
        // SAFETY: as for `set`.
        unsafe { KeClearEvent(self.0.get()) };
    }

    /// Whether it is signalled at this moment.
    pub fn is_set(&self, _level: &impl UpToDispatch) -> bool {
        // SAFETY: as for `set`.
        unsafe { KeReadStateEvent(self.0.get()) != 0 }
    }

    /// Waits until it is signalled.
    pub fn wait(&self, level: &impl MayWait) {
        // SAFETY: `new` initialised the object, and it is borrowed until the wait ends.
        unsafe { wait::forever(level, self.0.get().cast()) };
    }

    /// Waits until it is signalled or the time is up.
    pub fn wait_for(&self, level: &impl MayWait, time: Timeout) -> Waited {
        // SAFETY: as for `wait`.
        unsafe { wait::until(level, self.0.get().cast(), time) }
    }

    /// Looks whether it is signalled, as a wait without time does: a synchronization event is taken.
    pub fn poll(&self, _level: &impl UpToDispatch) -> Waited {
        // SAFETY: `new` initialised the object.
        unsafe { wait::poll(self.0.get().cast()) }
    }
}
