//! One filter module: its state, its data path, and the requests that wait for it.
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use ndis_sys::{
    NDIS_STATUS_FAILURE, NDIS_STATUS_RESOURCES, NDIS_STATUS_UNSUPPORTED_MEDIA, NdisMedium802_3,
    OID_GEN_MAXIMUM_TOTAL_SIZE,
};
use sluice_abi::{ETHERNET_HEADER, ModuleRecord, NAME_UNITS, Statistics};
use sluice_core::counters::Counters;
use sluice_core::gate::{Close, Pass};
use sluice_core::guid;
use sluice_core::layout::SlotLayout;
use sluice_core::lifecycle::{Edge, Lifecycle, State};
use sluice_kernel::dpc::Dpc;
use sluice_kernel::irp::Irp;
use sluice_kernel::irql::{AtMostDispatch, Dispatch, NoLockHeld, Passive};
use sluice_kernel::list::SharedList;
use sluice_kernel::pool::{OutOfMemory, Tag};
use sluice_kernel::queue::{Queue, Waiting};
use sluice_kernel::rundown::Rundown;
use sluice_kernel::shared::Shared;
use sluice_kernel::time;
use sluice_kernel::timer::{Timed, Timer};
use sluice_kernel::wait::Timeout;
use sluice_ndis::Status;
use sluice_ndis::driver::{Adapter, Filter, Link, Pause, RestartAttributes};
use sluice_ndis::filter::{Handle, PauseComplete};
use sluice_ndis::list::Chain;
use sluice_ndis::oid::Passage;
use sluice_ndis::path::{Host, Path};
use sluice_ndis::slab::ModuleDrained;
use sluice_ndis::trace;
use wdk_sys::NTSTATUS;

use crate::{TAG, status};

/// How long the data handlers stay after the last handle was closed.
const IDLE: Timeout = Timeout::milliseconds(5_000);

/// Every module that is attached, for clients that look for one.
pub(crate) static MODULES: SharedList<Module> = SharedList::new();

/// What `FilterAttach` was told, copied.
pub(crate) struct Info {
    pub(crate) guid: [u8; 16],
    luid: u64,
    pub(crate) if_index: u32,
    name: [u16; NAME_UNITS],
    name_length: u16,
    mac: [u8; 32],
    mac_length: u16,
}

/// The queue of requests that wait for slots.
pub(crate) struct Sending;

/// The queue of handles that wait for their module to run.
pub(crate) struct Binding;

/// See the module's description.
pub(crate) struct Module {
    pub(crate) info: Info,
    pub(crate) life: Lifecycle<AtomicU64>,
    pub(crate) path: Path<Self>,
    pub(crate) counters: Counters<AtomicU64>,
    oids: Passage,
    pub(crate) queue: Queue<Self, Sending>,
    pub(crate) binding: Queue<Self, Binding>,
    /// Requests in `queue`, or on their way into it.
    pub(crate) waiting: AtomicU64,
    pub(crate) starter: Dpc,
    pub(crate) rundown: Rundown,
    idle: Timer,
    handles: AtomicU32,
    /// Whether the data handlers are installed: decided in `FilterSetModuleOptions`.
    installed: AtomicBool,
    /// Whether frames can be sent: the handlers are there, and so is the memory.
    usable: AtomicBool,
    /// 0 while it is not known.
    mtu: AtomicU32,
    backfill: AtomicU32,
    /// Of the adapter, as it was told last.
    link_speed: AtomicU64,
    media_connect_state: AtomicU32,
    /// When the pause began that is on, or was last.
    pausing_since: AtomicU64,
}

impl Info {
    /// What is kept of what NDIS tells, or why the adapter is left alone.
    fn of(adapter: Adapter<'_>) -> Result<Self, Status> {
        if adapter.medium() != NdisMedium802_3 {
            // Frames are Ethernet frames; a medium that takes others is left alone.
            return Err(NDIS_STATUS_UNSUPPORTED_MEDIA);
        }
        let guid = guid::parse(adapter.device_name()).ok_or(NDIS_STATUS_FAILURE)?;
        let friendly = adapter.friendly_name();
        let mut name = [0; NAME_UNITS];
        for (place, unit) in name.iter_mut().zip(friendly) {
            *place = *unit;
        }
        let mut mac = [0; 32];
        for (place, byte) in mac.iter_mut().zip(adapter.mac()) {
            *place = *byte;
        }
        Ok(Self {
            guid,
            luid: adapter.luid(),
            if_index: adapter.if_index(),
            name,
            name_length: friendly.len().min(NAME_UNITS) as u16,
            mac,
            mac_length: adapter.mac().len() as u16,
        })
    }
}

impl Module {
    /// A module that is being attached; its parts are started when it has its place.
    fn new(handle: Handle, info: Info, adapter: Adapter<'_>) -> Result<Self, OutOfMemory> {
        Ok(Self {
            info,
            life: Lifecycle::new(),
            path: Path::new(handle, adapter.physical_device(), adapter.list_info_slots(), TAG)?,
            counters: Counters::new(),
            oids: Passage::new(handle),
            queue: Queue::new(),
            binding: Queue::new(),
            waiting: AtomicU64::new(0),
            starter: Dpc::new(),
            rundown: Rundown::new(),
            idle: Timer::new(),
            handles: AtomicU32::new(0),
            installed: AtomicBool::new(false),
            usable: AtomicBool::new(false),
            mtu: AtomicU32::new(0),
            backfill: AtomicU32::new(0),
            link_speed: AtomicU64::new(adapter.link().speed),
            media_connect_state: AtomicU32::new(adapter.link().connected),
            pausing_since: AtomicU64::new(0),
        })
    }

    /// NDIS's handle.
    pub(crate) fn handle(&self) -> Handle {
        self.path.handle()
    }

    /// Whether it is known how long a frame may be.
    pub(crate) fn knows_mtu(&self) -> bool {
        self.mtu.load(Ordering::Relaxed) != 0
    }

    /// Learns the MTU that counts from this restart on. NDIS need not tell it (page "`FILTER_RESTART`"); then the drivers
    /// below are asked, since the one from before may no longer be true.
    fn learn_mtu(&self, passive: &mut Passive<'_>, attributes: Option<RestartAttributes>) {
        if let Some(RestartAttributes { backfill, .. }) = attributes {
            self.backfill.store(backfill, Ordering::Relaxed);
        }
        let told = attributes.map(|attributes| attributes.mtu).filter(|mtu| *mtu != 0);
        let mtu = told.unwrap_or_else(|| match self.oids.query(passive, OID_GEN_MAXIMUM_TOTAL_SIZE, TAG) {
            Ok(total) => total.saturating_sub(ETHERNET_HEADER),
            Err(refused) => {
                trace::mtu_unknown(self.info.if_index, refused);
                0
            }
        });
        self.mtu.store(mtu, Ordering::Relaxed);
    }

    /// The longest frame that the adapter takes.
    pub(crate) fn max_frame(&self) -> u32 {
        self.layout().max_frame
    }

    fn layout(&self) -> SlotLayout {
        SlotLayout::new(self.mtu.load(Ordering::Relaxed), self.backfill.load(Ordering::Relaxed))
    }

    /// Whether anybody uses the module: then the data handlers are wanted.
    fn wanted(&self) -> bool {
        self.handles.load(Ordering::SeqCst) != 0
    }

    /// One handle more; true if the stack has to be restarted first, for handlers or memory that are missing.
    pub(crate) fn handle_bound(&self) -> bool {
        let before = self.handles.fetch_add(1, Ordering::SeqCst);
        trace::bound(self.info.if_index, before + 1);
        !(self.usable.load(Ordering::SeqCst) && self.life.state() == State::Running)
    }

    /// One handle less. After the last one the handlers go, unless somebody comes soon.
    pub(crate) fn handle_closed(&self) {
        let before = self.handles.fetch_sub(1, Ordering::SeqCst);
        trace::closed(self.info.if_index, before.saturating_sub(1));
        if before == 1 {
            self.idle.set(IDLE);
        }
    }

    /// Makes the memory fit what is wanted, and opens the gate if frames can be sent.
    fn open(this: &Shared<Self>, passive: &mut Passive<'_>, proof: ModuleDrained<'_>) -> bool {
        let wanted = this.installed.load(Ordering::SeqCst) && this.knows_mtu();
        let fits = this.path.fit(passive, this, &proof, this.layout(), wanted);
        if fits.is_err() {
            trace::no_memory(this.info.if_index);
        }
        if fits != Ok(true) {
            return false;
        }
        proof.open();
        this.usable.store(true, Ordering::SeqCst);
        true
    }

    /// Completes up to `most` of the handles that wait for the module, those that came first.
    fn answer_binding(&self, answer: NTSTATUS, most: u32) {
        for _ in 0..most {
            let Some(irp) = self.binding.pop() else { return };
            let _ = irp.complete(answer, 0);
        }
    }

    /// Gives a share of the gate back. What is returned is dropped when nothing of the module is used any more.
    pub(crate) fn leave(&self, level: &impl NoLockHeld, share: Pass) -> Option<PauseComplete> {
        if !self.path.leave(share) {
            return None;
        }
        self.settle_pause();
        Some(self.handle().paused(level))
    }

    /// Nothing is out and nothing can come in: what waits is refused, and the module is paused.
    fn settle_pause(&self) {
        while let Some(irp) = self.queue.pop() {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            self.refuse_paused(irp, true);
        }
        let gone = self.life.go(Edge::Paused);
        debug_assert!(gone.is_ok(), "a pause completes once");
        let began = self.pausing_since.load(Ordering::Relaxed);
        trace::paused(self.info.if_index, time::microseconds().saturating_sub(began));
    }

    /// What a list shows of the module.
    pub(crate) fn describe(&self) -> ModuleRecord {
        ModuleRecord {
            guid: self.info.guid,
            luid: self.info.luid,
            link_speed: self.link_speed.load(Ordering::Relaxed),
            if_index: self.info.if_index,
            mtu: self.mtu.load(Ordering::Relaxed),
            state: self.life.state() as u32,
            media_connect_state: self.media_connect_state.load(Ordering::Relaxed),
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
        let (slots, memory) = self.path.memory(passive);
        Statistics {
            frames_submitted: counters.frames_submitted.get(),
            frames_sent: counters.frames_sent.get(),
            frames_paused: counters.frames_paused.get(),
            frames_failed: counters.frames_failed.get(),
            frames_in_flight: self.path.outstanding().sends,
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

impl Filter for Module {
    const TAG: Tag = TAG;

    fn attach(
        _passive: &mut Passive<'_>,
        handle: Handle,
        adapter: Adapter<'_>,
    ) -> Result<Shared<Self>, Status> {
        let module = Self::new(handle, Info::of(adapter)?, adapter).map_err(|_| NDIS_STATUS_RESOURCES)?;
        let module = Shared::new(module, TAG).map_err(|_| NDIS_STATUS_RESOURCES)?;
        module.queue.start(&module);
        module.binding.start(&module);
        module.starter.start(&module);
        module.idle.start(&module);
        Ok(module)
    }

    fn attached(this: &Shared<Self>, passive: &mut Passive<'_>) -> Result<(), Status> {
        MODULES.add(passive, this.clone(), TAG).map_err(|_| NDIS_STATUS_RESOURCES)?;
        let _ = this.life.go(Edge::Attached);
        trace::attached(this.info.if_index, this.info.luid);
        Ok(())
    }

    /// Stops everything that could still call into the module, and frees its memory. Afterwards only clients'
    /// references keep it.
    fn detach(this: &Shared<Self>, passive: &mut Passive<'_>) {
        MODULES.remove(passive, this);
        // An attach that failed has nothing to leave.
        let _ = this.life.go(Edge::Detach);
        this.rundown.run_down(passive);
        this.answer_binding(status::DEVICE_REMOVED, u32::MAX);
        this.idle.stop(passive);
        this.starter.stop(passive);
        this.path.free(passive);
        trace::detached(this.info.if_index);
    }

    fn wants_handlers(this: &Shared<Self>, _passive: &mut Passive<'_>) -> bool {
        this.wanted()
    }

    fn handlers_set(this: &Shared<Self>, installed: bool) {
        this.installed.store(installed, Ordering::SeqCst);
    }

    fn restart(
        this: &Shared<Self>,
        passive: &mut Passive<'_>,
        attributes: Option<RestartAttributes>,
    ) -> Result<(), Status> {
        this.life.go(Edge::Restart).map_err(|_| NDIS_STATUS_FAILURE)?;
        this.learn_mtu(passive, attributes);
        // Whoever asks from here on asked for another restart, and is answered by that one.
        let waiting = this.binding.len();
        this.usable.store(false, Ordering::SeqCst);
        let opened = this.path.claim().is_some_and(|proof| Self::open(this, passive, proof));
        this.life.go(Edge::Restarted).map_err(|_| NDIS_STATUS_FAILURE)?;
        trace::restarted(this.info.if_index, this.mtu.load(Ordering::Relaxed), opened);
        if this.installed.load(Ordering::SeqCst) {
            let (answer, most) = match opened {
                true => (status::SUCCESS, u32::MAX),
                false if this.knows_mtu() => (status::INSUFFICIENT_RESOURCES, waiting),
                false => (status::DEVICE_NOT_READY, waiting),
            };
            this.answer_binding(answer, most);
        }
        Ok(())
    }

    /// Closes the gate whether or not anything is out.
    fn pause(this: &Shared<Self>, _passive: &mut Passive<'_>) -> Pause {
        if this.life.go(Edge::Pause).is_err() {
            // A pause out of turn finds a module from which nothing is out.
            return Pause::Complete;
        }
        this.counters.pauses.add(1);
        this.pausing_since.store(time::microseconds(), Ordering::Relaxed);
        trace::pausing(this.info.if_index, this.path.outstanding().sends);
        match this.path.close() {
            Close::Pending => {
                this.counters.pauses_pending.add(1);
                Pause::Pending
            }
            // A module without data handlers never opened its gate.
            Close::Drained | Close::NotOpen => {
                this.settle_pause();
                Pause::Complete
            }
        }
    }

    fn send(this: &Shared<Self>, level: &mut AtMostDispatch<'_>, lists: Chain, port: u32, flags: u32) {
        this.pass_on(level, lists, port, flags);
    }

    fn send_complete(
        this: &Shared<Self>,
        level: &mut AtMostDispatch<'_>,
        lists: Chain,
        flags: u32,
    ) -> Option<PauseComplete> {
        this.sends_completed(level, lists, flags)
    }

    fn link_changed(this: &Shared<Self>, _level: &mut AtMostDispatch<'_>, link: Link) {
        let Link { connected, speed } = link;
        this.media_connect_state.store(connected, Ordering::Relaxed);
        this.link_speed.store(speed, Ordering::Relaxed);
        trace::link_state(this.info.if_index, connected, speed);
    }

    fn oids(&self) -> &Passage {
        &self.oids
    }
}

impl Host for Module {
    fn path(&self) -> &Path<Self> {
        &self.path
    }

    fn left(this: &Shared<Self>, level: &mut AtMostDispatch<'_>, share: Pass) -> Option<PauseComplete> {
        this.kick();
        this.leave(level, share)
    }
}

impl Waiting<Binding> for Module {
    fn cancelled(_this: &Shared<Self>, irp: Irp) {
        let _ = irp.complete(status::CANCELLED, 0);
    }
}

impl Timed for Module {
    fn elapsed(this: &Shared<Self>, dispatch: &mut Dispatch<'_>) {
        if !this.wanted() {
            // The stack restarts, and FilterSetModuleOptions finds that nobody wants the handlers.
            this.rundown.enter(|| {
                // Out of memory: the handlers stay until the next restart, which does no harm.
                let _ = this.handle().restart(dispatch);
            });
        }
    }
}
