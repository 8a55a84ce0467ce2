//! One filter module: its state, its gate, its memory, and the requests that wait for it.
#![expect(unsafe_code, reason = "slabs are reached without a lock, by those whose lists keep them alive")]
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use sluice_abi::{ModuleRecord, NAME_UNITS, Statistics};
use sluice_core::counters::Counters;
use sluice_core::gate::{Close, Gate, Pass, Shard};
use sluice_core::layout::SlotLayout;
use sluice_core::lifecycle::{Edge, Lifecycle, State};
use sluice_kernel::dpc::Dpc;
use sluice_kernel::irp::Irp;
use sluice_kernel::irql::{Dispatch, Passive};
use sluice_kernel::lock::SpinLock;
use sluice_kernel::pool::{OutOfMemory, PoolSlice};
use sluice_kernel::processor;
use sluice_kernel::queue::{Queue, Waiting};
use sluice_kernel::rundown::Rundown;
use sluice_ndis::filter::{self, Handle};
use sluice_ndis::oid::Passage;
use sluice_ndis::timer::{Timed, Timer};
use wdk_sys::{DEVICE_OBJECT, NTSTATUS};

use crate::modules::Link;
use crate::slab::{ModuleDrained, Slabs};
use crate::{TAG, status};

/// How long the data handlers stay after the last handle was closed.
const IDLE_MILLISECONDS: u32 = 5_000;

/// What `FilterAttach` was told, copied.
pub(crate) struct Info {
    pub(crate) guid: [u8; 16],
    pub(crate) luid: u64,
    pub(crate) link_speed: u64,
    pub(crate) if_index: u32,
    pub(crate) media_connect_state: u32,
    pub(crate) name: [u16; NAME_UNITS],
    pub(crate) name_length: u16,
    pub(crate) mac: [u8; 32],
    pub(crate) mac_length: u16,
    /// The adapter's physical device object, or null.
    pub(crate) physical_device: *mut DEVICE_OBJECT,
    /// `NetBufferListInfo` slots of the running system.
    pub(crate) list_info_slots: usize,
}

/// Handles that wait for their module to run.
pub(crate) struct Binding;

impl Waiting for Binding {
    fn cancelled(&self, irp: Irp) {
        let _ = irp.complete(status::CANCELLED, 0);
    }
}

/// What the binding requests' queue calls back.
static BINDING: Binding = Binding;

/// See the module's description.
///
/// # Invariants
/// - `slabs` changes only with the proof that the gate is drained, and under `slabs_lock`. It is read by
///   whoever holds a share of the gate, or `slabs_lock`.
pub(crate) struct Module {
    pub(crate) handle: Handle,
    pub(crate) info: Info,
    pub(crate) link: Link,
    pub(crate) life: Lifecycle<AtomicU64>,
    pub(crate) gate: Gate<AtomicU64, PoolSlice<Shard<AtomicU64>>>,
    pub(crate) counters: Counters<AtomicU64>,
    pub(crate) oid: Passage,
    pub(crate) queue: Queue<Self>,
    pub(crate) binding: Queue<Binding>,
    /// Requests in `queue`, or on their way into it.
    pub(crate) waiting: AtomicU64,
    pub(crate) starter: Dpc,
    pub(crate) rundown: Rundown,
    slabs: UnsafeCell<Option<Slabs>>,
    slabs_lock: SpinLock<()>,
    idle: Timer,
    handles: AtomicU32,
    /// Whether the data handlers are installed: decided in `FilterSetModuleOptions`.
    pub(crate) installed: AtomicBool,
    /// Whether frames can be sent: the handlers are there, and so is the memory.
    usable: AtomicBool,
    mtu: AtomicU32,
    backfill: AtomicU32,
    cancel_ids: AtomicU64,
}

// SAFETY: see the invariants; every other field is shared as its type allows.
unsafe impl Sync for Module {}
// SAFETY: a module is not tied to a thread.
unsafe impl Send for Module {}

impl Module {
    /// A module that is being attached; [`Module::start`] makes it ready.
    pub(crate) fn new(handle: Handle, info: Info) -> Result<Self, OutOfMemory> {
        let shards = PoolSlice::new(processor::maximum() as usize, TAG, |_| Shard::new())?;
        Ok(Self {
            handle,
            info,
            link: Link::default(),
            life: Lifecycle::new(),
            gate: Gate::new(shards),
            counters: Counters::new(),
            oid: Passage::new(),
            queue: Queue::new(),
            binding: Queue::new(),
            waiting: AtomicU64::new(0),
            starter: Dpc::new(),
            rundown: Rundown::new(),
            slabs: UnsafeCell::new(None),
            slabs_lock: SpinLock::new(()),
            idle: Timer::new(),
            handles: AtomicU32::new(0),
            installed: AtomicBool::new(false),
            usable: AtomicBool::new(false),
            mtu: AtomicU32::new(1500),
            backfill: AtomicU32::new(0),
            cancel_ids: AtomicU64::new(u64::from(filter::partial_cancel_id()) << 56),
        })
    }

    /// Connects what needs the module's address.
    ///
    /// # Safety
    /// The module does not move any more, and [`Module::detach`] comes before it dies.
    pub(crate) unsafe fn start(&self) -> Result<(), OutOfMemory> {
        let this: *const Self = self;
        // SAFETY: the module is not in use yet and stays in place.
        unsafe { self.queue.start(this) };
        // SAFETY: the owner is static.
        unsafe { self.binding.start(&raw const BINDING) };
        // SAFETY: the module stays in place until `detach` has stopped the DPC.
        unsafe { self.starter.start(self) };
        // SAFETY: the module stays in place until `detach` has stopped the timer.
        unsafe { self.idle.start(self.handle, this, TAG) }
    }

    /// The slabs, for a caller whose lists or share of the gate keep them.
    ///
    /// # Safety
    /// The caller holds a share of the gate.
    pub(crate) unsafe fn slabs(&self) -> Option<&Slabs> {
        // SAFETY: slabs change only while the gate is drained, and it is not.
        unsafe { (*self.slabs.get()).as_ref() }
    }

    /// The slabs, for the holder of an admission.
    pub(crate) fn slabs_for(&self, _pass: &Pass) -> Option<&Slabs> {
        // SAFETY: the pass is a share of the gate.
        unsafe { self.slabs() }
    }

    /// Puts other slabs in place and returns those that were there.
    fn swap_slabs(
        &self,
        passive: &mut Passive<'_>,
        _proof: &ModuleDrained<'_>,
        new: Option<Slabs>,
    ) -> Option<Slabs> {
        self.slabs_lock.with(passive, |(), _| {
            // SAFETY: the proof shows that nobody holds a share of the gate; the lock keeps everybody else out.
            core::mem::replace(unsafe { &mut *self.slabs.get() }, new)
        })
    }

    /// Runs `work` with the slabs if there are any, without a share of the gate, at `DISPATCH_LEVEL`.
    pub(crate) fn with_slabs<R>(
        &self,
        passive: &mut Passive<'_>,
        work: impl FnOnce(&Slabs) -> R,
    ) -> Option<R> {
        self.slabs_lock.with(passive, |(), _| {
            // SAFETY: the lock keeps the slabs in place.
            unsafe { (*self.slabs.get()).as_ref() }.map(work)
        })
    }

    /// The longest frame that the adapter takes.
    pub(crate) fn max_frame(&self) -> u32 {
        self.layout().max_frame
    }

    fn layout(&self) -> SlotLayout {
        SlotLayout::new(self.mtu.load(Ordering::Relaxed), self.backfill.load(Ordering::Relaxed))
    }

    /// A number that no other request of this driver has.
    pub(crate) fn next_cancel_id(&self) -> u64 {
        self.cancel_ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether anybody uses the module: then the data handlers are wanted.
    pub(crate) fn wanted(&self) -> bool {
        self.handles.load(Ordering::SeqCst) != 0
    }

    /// One handle more; true if the stack has to be restarted first, for handlers or memory that are missing.
    pub(crate) fn handle_bound(&self) -> bool {
        self.handles.fetch_add(1, Ordering::SeqCst);
        !(self.usable.load(Ordering::SeqCst) && self.life.state() == State::Running)
    }

    /// One handle less. After the last one the handlers go, unless somebody comes soon.
    pub(crate) fn handle_closed(&self) {
        if self.handles.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.rundown.enter(|| self.idle.set(IDLE_MILLISECONDS));
        }
    }

    /// `FilterRestart`: makes memory fit what is wanted, and opens the gate.
    pub(crate) fn restart(
        &self,
        passive: &mut Passive<'_>,
        attributes: Option<(u32, u32)>,
    ) -> Result<(), State> {
        self.life.go(Edge::Restart)?;
        if let Some((mtu, backfill)) = attributes {
            self.mtu.store(mtu, Ordering::Relaxed);
            self.backfill.store(backfill, Ordering::Relaxed);
        }
        let installed = self.installed.load(Ordering::SeqCst);
        // Whoever asks from here on asked for another restart, and is answered by that one.
        let waiting = self.binding.len();
        let mut outcome = status::INSUFFICIENT_RESOURCES;
        self.usable.store(false, Ordering::SeqCst);
        if let Some(proof) = self.gate.claim()
            && let Ok(true) = self.fit_slabs(passive, &proof, installed)
        {
            proof.open();
            self.usable.store(true, Ordering::SeqCst);
            outcome = status::SUCCESS;
        }
        self.life.go(Edge::Restarted)?;
        if installed {
            self.answer_binding(outcome, if outcome == status::SUCCESS { u32::MAX } else { waiting });
        }
        Ok(())
    }

    /// Allocates, keeps, replaces or frees the slabs; true if frames can be sent.
    fn fit_slabs(
        &self,
        passive: &mut Passive<'_>,
        proof: &ModuleDrained<'_>,
        wanted: bool,
    ) -> Result<bool, OutOfMemory> {
        let layout = self.layout();
        let fits = self.with_slabs(passive, |slabs| slabs.layout == layout);
        if wanted && fits == Some(true) {
            return Ok(true);
        }
        if let Some(old) = self.swap_slabs(passive, proof, None) {
            old.free(passive, proof);
        }
        if !wanted {
            return Ok(false);
        }
        let new = Slabs::build(passive, self, layout)?;
        let none = self.swap_slabs(passive, proof, Some(new));
        debug_assert!(none.is_none(), "the old slabs were freed above");
        Ok(true)
    }

    /// Completes up to `most` of the handles that wait for the module, those that came first.
    fn answer_binding(&self, answer: NTSTATUS, most: u32) {
        for _ in 0..most {
            let Some(irp) = self.binding.pop(core::ptr::null_mut()) else { return };
            let _ = irp.complete(answer, 0);
        }
    }

    /// `FilterPause`: closes the gate whether or not anything is out. True if the pause is complete.
    pub(crate) fn pause(&self) -> Result<bool, State> {
        self.life.go(Edge::Pause)?;
        self.counters.pauses.add(1);
        match self.gate.close() {
            Close::Pending => {
                self.counters.pauses_pending.add(1);
                Ok(false)
            }
            // A module without data handlers never opened its gate.
            Close::Drained | Close::NotOpen => {
                self.settle_pause();
                Ok(true)
            }
        }
    }

    /// The last list of a pausing module came back.
    pub(crate) fn drained(&self) {
        let handle = self.handle;
        self.settle_pause();
        // From here on the module may be detached and gone.
        handle.pause_complete();
    }

    /// Nothing is out and nothing can come in: what waits is refused, and the module is paused.
    fn settle_pause(&self) {
        while let Some(irp) = self.queue.pop(core::ptr::null_mut()) {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            self.refuse_paused(irp, true);
        }
        let gone = self.life.go(Edge::Paused);
        debug_assert!(gone.is_ok(), "a pause completes once");
    }

    /// `FilterDetach`: nothing is out. Afterwards only clients' references keep the module's memory.
    pub(crate) fn detach(&self, passive: &mut Passive<'_>) {
        let gone = self.life.go(Edge::Detach);
        debug_assert!(gone.is_ok(), "only a paused module is detached");
        self.teardown(passive);
    }

    /// Stops everything that could still call into the module, and frees its memory.
    pub(crate) fn teardown(&self, passive: &mut Passive<'_>) {
        self.rundown.run_down(passive);
        self.answer_binding(status::DEVICE_REMOVED, u32::MAX);
        self.idle.stop(passive);
        self.starter.stop(passive);
        if let Some(proof) = self.gate.claim()
            && let Some(slabs) = self.swap_slabs(passive, &proof, None)
        {
            slabs.free(passive, &proof);
        }
    }

    /// What a list shows of the module.
    pub(crate) fn describe(&self) -> ModuleRecord {
        ModuleRecord {
            guid: self.info.guid,
            luid: self.info.luid,
            link_speed: self.info.link_speed,
            if_index: self.info.if_index,
            mtu: self.mtu.load(Ordering::Relaxed),
            state: self.life.state() as u32,
            media_connect_state: self.info.media_connect_state,
            handles: self.handles.load(Ordering::Relaxed),
            name_length: self.info.name_length,
            mac_length: self.info.mac_length,
            mac: self.info.mac,
            name: self.info.name,
        }
    }

    /// The module's statistics.
    pub(crate) fn statistics(&self, passive: &mut Passive<'_>) -> Statistics {
        let counters = &self.counters;
        let slabs = self.with_slabs(passive, |slabs| (slabs.map.slots(), slabs.kind));
        let (slots, memory) = slabs.unwrap_or((0, 0));
        Statistics {
            frames_submitted: counters.frames_submitted.get(),
            frames_sent: counters.frames_sent.get(),
            frames_paused: counters.frames_paused.get(),
            frames_failed: counters.frames_failed.get(),
            frames_in_flight: self.gate.outstanding().sends,
            frames_waiting: counters.frames_waiting.get(),
            bytes_sent: counters.bytes_sent.get(),
            requests: counters.requests.get(),
            pauses: counters.pauses.get(),
            pauses_pending: counters.pauses_pending.get(),
            passed_through: counters.passed_through.get(),
            slots,
            memory,
            state: self.life.state() as u32,
            reserved: 0,
        }
    }
}

impl Timed for Module {
    fn elapsed(&self, _dispatch: &Dispatch<'_>) {
        if !self.wanted() {
            // The stack restarts, and FilterSetModuleOptions finds that nobody wants the handlers.
            self.rundown.enter(|| {
                // Out of memory: the handlers stay until the next restart, which does no harm.
                let _ = self.handle.restart();
            });
        }
    }
}
