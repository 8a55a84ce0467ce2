//! Every module of this driver, for clients that look for one.
#![expect(unsafe_code, reason = "modules are linked through a field that the list's lock guards")]
use core::cell::UnsafeCell;

use sluice_kernel::irql::Passive;
use sluice_kernel::lock::SpinLock;
use sluice_kernel::shared::Shared;

use crate::module::Module;

/// The list.
pub(crate) static MODULES: Modules = Modules(SpinLock::new(Head(None)));

/// The modules that are attached.
pub(crate) struct Modules(SpinLock<Head>);

struct Head(Option<Shared<Module>>);

/// A module's place in the list.
///
/// # Invariants
/// Only touched while the list's lock is held.
#[derive(Default)]
pub(crate) struct Link(UnsafeCell<Option<Shared<Module>>>);

// SAFETY: the list's lock guards every link.
unsafe impl Sync for Link {}
// SAFETY: a module may be used from any thread.
unsafe impl Send for Link {}

impl Modules {
    /// Adds a module.
    pub(crate) fn add(&self, passive: &mut Passive<'_>, module: Shared<Module>) {
        self.0.with(passive, |head, _| {
            // SAFETY: the list's lock is held.
            unsafe { *module.link.0.get() = head.0.take() };
            head.0 = Some(module);
        });
    }

    /// Removes a module.
    pub(crate) fn remove(&self, passive: &mut Passive<'_>, module: &Module) {
        let removed = self.0.with(passive, |head, _| {
            let mut place: *mut Option<Shared<Module>> = &raw mut head.0;
            loop {
                // SAFETY: the list's lock is held; the place is the head or the link of a listed module.
                let slot = unsafe { &mut *place };
                let current = slot.as_ref()?;
                if core::ptr::eq(&raw const **current, module) {
                    // SAFETY: the list's lock is held.
                    let next = unsafe { (*current.link.0.get()).take() };
                    return core::mem::replace(slot, next);
                }
                place = current.link.0.get();
            }
        });
        // Dropped outside the lock: it may be the last reference.
        drop(removed);
    }

    /// The module of the adapter with this GUID.
    pub(crate) fn find(&self, passive: &mut Passive<'_>, guid: &[u8; 16]) -> Option<Shared<Module>> {
        let mut found = None;
        self.visit(passive, |module| {
            if module.info.guid == *guid {
                found = Some(module.clone());
            }
        });
        found
    }

    /// Shows every module to `each`, at `DISPATCH_LEVEL`.
    pub(crate) fn visit(&self, passive: &mut Passive<'_>, mut each: impl FnMut(&Shared<Module>)) {
        self.0.with(passive, |head, _| {
            let mut at = head.0.as_ref();
            while let Some(module) = at {
                each(module);
                // SAFETY: the list's lock is held.
                at = unsafe { (*module.link.0.get()).as_ref() };
            }
        });
    }
}
