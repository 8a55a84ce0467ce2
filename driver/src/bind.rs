//! Binding a handle to a module: the request pends until the module can send, and leaves the handle unbound if it
//! cannot.
use core::sync::atomic::{Ordering, fence};

use sluice_core::lifecycle::State;
use sluice_kernel::device::Request;
use sluice_kernel::irp::{Disposition, File, PendingIrp, Pends};
use sluice_kernel::irql::{AtMostDispatch, BelowDispatch, Passive};
use sluice_kernel::lock::SpinLock;
use sluice_kernel::queue::{Ticket, Waiting};
use sluice_kernel::rank::NoLock;
use sluice_kernel::shared::{Kept, OnceShared, Shared};
use wdk_sys::NTSTATUS;

use crate::module::Module;
use crate::status;

/// What a client's handle stands for: at most one module.
pub(crate) struct ClientHandle {
    /// The module that the handle is bound to, until it is closed.
    module: OnceShared<Module>,
    progress: SpinLock<Progress>,
}

/// How far a handle has come.
enum Progress {
    Unbound,
    /// A bind request pends.
    Binding(Shared<Module>),
    Bound,
}

impl ClientHandle {
    /// An unbound handle.
    pub(crate) const fn new() -> Self {
        Self { module: OnceShared::new(), progress: SpinLock::new(Progress::Unbound) }
    }

    /// The module that the handle is bound to.
    pub(crate) fn module(&self) -> Option<Kept<'_, Module>> {
        self.module.get()
    }

    /// Begins to bind; false if the handle is bound, or another request binds it.
    pub(crate) fn begin(&self, passive: &mut Passive<'_>, module: &Shared<Module>) -> bool {
        self.progress.with(passive, |progress, _| {
            let unbound = matches!(progress, Progress::Unbound);
            if unbound {
                *progress = Progress::Binding(module.clone());
            }
            unbound
        })
    }

    /// Ends what [`ClientHandle::begin`] began.
    fn end(&self, level: &mut impl BelowDispatch<Held = NoLock>, end: Progress) {
        let before = self.progress.with(level, |progress, _| core::mem::replace(progress, end));
        // Outside the lock: it may be the last reference.
        drop(before);
    }

    /// Cancels a bind request of the handle that pends.
    pub(crate) fn cancel_bind(&self, passive: &mut Passive<'_>, file: File) {
        let module = self.progress.with(passive, |progress, _| match progress {
            Progress::Binding(module) => Some(module.clone()),
            _ => None,
        });
        let Some(module) = module else { return };
        while let Some(irp) = module.binding.pop_of(file) {
            refuse(passive, irp, status::CANCELLED);
        }
    }
}

impl Drop for ClientHandle {
    fn drop(&mut self) {
        if let Some(module) = self.module.get() {
            module.handle_closed();
        }
    }
}

/// The queue of bind requests that wait for their module to run.
pub(crate) struct Binding;

impl Pends for Module {
    type Handle = ClientHandle;
}

impl Module {
    /// Takes a bind request from its dispatch routine. Its handle was taken for it.
    pub(crate) fn bind<'a>(
        this: &Shared<Self>,
        passive: &mut Passive<'_>,
        request: Request<'a, ClientHandle>,
    ) -> Disposition<'a> {
        this.handle_added();
        let (irp, disposition) = request.pend(this.clone());
        let mut irp = Some(irp);
        // While the rundown is held the module is attached; detaching answers what is queued by then.
        this.rundown.enter(|| {
            if let Some(irp) = irp.take() {
                let ticket = this.binding.push(irp);
                this.bind_queued(passive, ticket);
            }
        });
        if let Some(irp) = irp {
            refuse(passive, irp, status::DEVICE_REMOVED);
        }
        disposition
    }

    /// A bind request was queued: it is answered now, by the restart that is on or follows, or by one that is asked
    /// for.
    fn bind_queued(&self, passive: &mut Passive<'_>, ticket: Ticket) {
        // The end of a restart changes the state and then looks at the queue; here it is the reverse.
        fence(Ordering::SeqCst);
        if self.life.state() != State::Running {
            return;
        }
        if self.is_usable() {
            self.complete_binds(passive);
        } else if self.handle().restart(passive).is_err()
            && let Some(irp) = self.binding.take(ticket)
        {
            // NDIS has no memory to schedule the restart.
            refuse(passive, irp, status::INSUFFICIENT_RESOURCES);
        }
    }

    /// Binds the handles whose requests are queued: the module can send.
    fn complete_binds(&self, passive: &mut Passive<'_>) {
        while let Some(irp) = self.binding.pop() {
            if let Some(handle) = irp.handle() {
                let set = handle.module.set(irp.owner().clone());
                debug_assert!(set, "a handle is bound once");
                handle.end(passive, Progress::Bound);
            }
            drop(irp.complete(status::SUCCESS, 0));
        }
    }

    /// Refuses the bind requests that were queued before `mark`, which is later than all of them if there is none.
    pub(crate) fn refuse_binds(&self, passive: &mut Passive<'_>, mark: Option<Ticket>, refused: NTSTATUS) {
        let next = || mark.map_or_else(|| self.binding.pop(), |mark| self.binding.pop_before(mark));
        while let Some(irp) = next() {
            refuse(passive, irp, refused);
        }
    }

    /// At the end of a restart: requests that came while it was on, and that it did not answer, need another.
    pub(crate) fn serve_binds(&self, passive: &mut Passive<'_>) {
        fence(Ordering::SeqCst);
        let mark = self.binding.mark();
        if self.binding.is_empty() || self.life.state() != State::Running {
            return;
        }
        if self.is_usable() {
            self.complete_binds(passive);
            return;
        }
        let asked = self.rundown.enter(|| self.handle().restart(passive));
        if asked.is_some_and(|asked| asked.is_err()) {
            self.refuse_binds(passive, Some(mark), status::INSUFFICIENT_RESOURCES);
        }
    }
}

/// Answers a bind request that leaves its handle unbound.
fn refuse(level: &mut impl BelowDispatch<Held = NoLock>, irp: PendingIrp<Module>, refused: NTSTATUS) {
    irp.owner().handle_closed();
    if let Some(handle) = irp.handle() {
        handle.end(level, Progress::Unbound);
    }
    drop(irp.complete(refused, 0));
}

impl Waiting<Binding> for Module {
    fn cancelled(level: &mut AtMostDispatch<'_>, irp: PendingIrp<Self>) {
        refuse(level, irp, status::CANCELLED);
    }
}
