//! One filter module: its state, its data path, and the requests that wait for it.
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

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
use sluice_kernel::irql::{AtMostDispatch, Dispatch, NoLockHeld, Passive};
use sluice_kernel::list::SharedList;
use sluice_kernel::lock::SpinLock;
use sluice_kernel::pool::{OutOfMemory, Tag};
use sluice_kernel::queue::{Queue, Ticket};
use sluice_kernel::rundown::Rundown;
use sluice_kernel::shared::Shared;
use sluice_kernel::time;
use sluice_kernel::timer::{Timed, Timer};
use sluice_kernel::wait::Timeout;
use sluice_ndis::Status;
use sluice_ndis::driver::{Adapter, Filter, Link, Pause, Restart, RestartAttributes};
use sluice_ndis::filter::{Handle, PauseComplete};
use sluice_ndis::list::Chain;
use sluice_ndis::oid::Passage;
use sluice_ndis::path::{Host, Path};
use sluice_ndis::trace;
use sluice_ndis::work::{IoWorkItem, Work};
use wdk_sys::NTSTATUS;

use crate::bind::Binding;
use crate::send::Sending;
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

/// What becomes of a restart that pends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Restarting {
    /// None pends.
    Settled,
    /// `FilterRestart` has returned or is about to, and a worker thread completes the restart.
    Pending(Restarted),
    /// `NdisFRestartComplete` is called or was: NDIS may take sends, and may pause the module.
    Reported(Restarted),
}

/// What `FilterRestart` prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Restarted {
    /// Whether there are handlers and memory for frames, or what bind requests are told: decided here, since another
    /// restart may be on when they are.
    ready: Result<(), NTSTATUS>,
    /// Bind requests with lower tickets were queued when the restart began, and are answered by it.
    answers: Ticket,
}

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
    worker: IoWorkItem,
    /// Calls of [`Module::kick`] since the worker last found nothing left to do. The call that makes it 1 queues the
    /// worker, and so does the worker itself while there is more: two never run at once.
    kicks: AtomicU64,
    pub(crate) rundown: Rundown,
    idle: Timer,
    handles: AtomicU32,
    /// Whether the data handlers were wanted in the last `FilterSetModuleOptions`.
    asked: AtomicBool,
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
    /// When the pause began that is on, or was last, in microseconds.
    pausing_since: AtomicU64,
    /// Held while the gate is opened or closed: a pause may come as soon as NDIS was told of a restart.
    restarting: SpinLock<Restarting>,
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
            worker: IoWorkItem::new(),
            kicks: AtomicU64::new(0),
            rundown: Rundown::new(),
            idle: Timer::new(),
            handles: AtomicU32::new(0),
            asked: AtomicBool::new(false),
            installed: AtomicBool::new(false),
            usable: AtomicBool::new(false),
            mtu: AtomicU32::new(0),
            backfill: AtomicU32::new(0),
            link_speed: AtomicU64::new(adapter.link().speed),
            media_connect_state: AtomicU32::new(adapter.link().connected),
            pausing_since: AtomicU64::new(0),
            restarting: SpinLock::new(Restarting::Settled),
        })
    }

    /// NDIS's handle.
    pub(crate) fn handle(&self) -> Handle {
        self.path.handle()
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

    /// The longest frame that the adapter takes, if it is known.
    pub(crate) fn max_frame(&self) -> Option<u32> {
        self.layout().map(|layout| layout.max_frame)
    }

    fn layout(&self) -> Option<SlotLayout> {
        let mtu = Some(self.mtu.load(Ordering::Relaxed)).filter(|mtu| *mtu != 0)?;
        Some(SlotLayout::new(mtu, self.backfill.load(Ordering::Relaxed)))
    }

    /// Whether anybody uses the module: then the data handlers are wanted.
    fn wanted(&self) -> bool {
        self.handles.load(Ordering::SeqCst) != 0
    }

    /// Whether the gate is open, or was until a pause that is on.
    pub(crate) fn is_usable(&self) -> bool {
        self.usable.load(Ordering::SeqCst)
    }

    /// One more handle binds or is bound.
    pub(crate) fn handle_added(&self) {
        let before = self.handles.fetch_add(1, Ordering::SeqCst);
        trace::bound(self.info.if_index, before + 1);
    }

    /// One handle less. Some time after the last one the handlers go.
    pub(crate) fn handle_closed(&self) {
        let before = self.handles.fetch_sub(1, Ordering::SeqCst);
        trace::closed(self.info.if_index, before.saturating_sub(1));
        if before == 1 {
            self.idle.set(IDLE);
        }
    }

    /// Makes the memory fit what is wanted; or why no frame can be sent.
    fn prepare(this: &Shared<Self>, passive: &mut Passive<'_>) -> Result<(), NTSTATUS> {
        let layout = this.layout();
        let wanted = layout.filter(|_| this.installed.load(Ordering::SeqCst));
        let proof = this.path.claim().ok_or(status::INSUFFICIENT_RESOURCES)?;
        let fits = this.path.fit(passive, this, &proof, wanted);
        if fits.is_err() {
            trace::no_memory(this.info.if_index);
        }
        match (fits, layout) {
            (Ok(true), _) => Ok(()),
            (_, None) => Err(status::DEVICE_NOT_READY),
            _ => Err(status::INSUFFICIENT_RESOURCES),
        }
    }

    /// Completes a restart that pends, and opens the gate: from the moment on at which NDIS knows that the module runs.
    fn finish_restart(&self, passive: &mut Passive<'_>) {
        let pending = self.restarting.with(passive, |restarting, _| match *restarting {
            Restarting::Pending(restarted) => {
                *restarting = Restarting::Reported(restarted);
                Some(restarted)
            }
            _ => None,
        });
        let Some(restarted) = pending else { return };
        self.handle().restart_complete(passive);
        let runs = self.restarting.with(passive, |restarting, _| {
            let runs = *restarting == Restarting::Reported(restarted);
            if runs {
                *restarting = Restarting::Settled;
                self.run(restarted.ready.is_ok());
            }
            runs
        });
        let Err(refused) = restarted.ready else { return };
        if runs {
            self.refuse_waiting();
            self.refuse_binds(passive, Some(restarted.answers), refused);
        }
    }

    /// The module runs, and its gate is open if `ready`.
    fn run(&self, ready: bool) {
        let proof = self.path.claim().filter(|_| ready);
        let opened = proof.is_some();
        if let Some(proof) = proof {
            proof.open();
        }
        // Before the state: what runs and is not usable stays so until the next restart.
        self.usable.store(opened, Ordering::SeqCst);
        let runs = self.life.go(Edge::Restarted);
        debug_assert!(runs.is_ok(), "a restart is completed once");
        trace::restarted(self.info.if_index, self.mtu.load(Ordering::Relaxed), opened);
    }

    /// Whether NDIS knows that the module runs, be the gate open or about to be.
    pub(crate) fn runs_for_ndis(&self, level: &mut AtMostDispatch<'_>) -> bool {
        match self.life.state() {
            State::Running => true,
            State::Restarting => self.restarting.with(level, |restarting, _| {
                matches!(restarting, Restarting::Reported(_)) || self.life.state() == State::Running
            }),
            _ => false,
        }
    }

    /// Has a worker thread complete a restart, answer bind requests, and start sends that wait.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    pub(crate) fn kick(this: &Shared<Self>) {
        if this.kicks.fetch_add(1, Ordering::SeqCst) == 0 {
            IoWorkItem::queue(this);
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

    /// No NBL of the module is outstanding and none can be sent: the module is paused.
    fn settle_pause(&self) {
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
        passive: &mut Passive<'_>,
        handle: Handle,
        adapter: Adapter<'_>,
    ) -> Result<Shared<Self>, Status> {
        let module = Self::new(handle, Info::of(adapter)?, adapter).map_err(|_| NDIS_STATUS_RESOURCES)?;
        let module = Shared::new(module, TAG).map_err(|_| NDIS_STATUS_RESOURCES)?;
        module.queue.start(&module);
        module.binding.start(&module);
        module.idle.start(&module);
        if module.worker.start(&module).is_err() {
            module.idle.stop(passive);
            return Err(NDIS_STATUS_RESOURCES);
        }
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
        this.refuse_binds(passive, None, status::DEVICE_REMOVED);
        this.idle.stop(passive);
        this.worker.stop(passive);
        this.path.free(passive);
        trace::detached(this.info.if_index);
    }

    fn wants_handlers(this: &Shared<Self>, _passive: &mut Passive<'_>) -> bool {
        let wanted = this.wanted();
        this.asked.store(wanted, Ordering::SeqCst);
        wanted
    }

    fn handlers_set(this: &Shared<Self>, installed: bool) {
        this.installed.store(installed, Ordering::SeqCst);
    }

    fn restart(
        this: &Shared<Self>,
        passive: &mut Passive<'_>,
        attributes: Option<RestartAttributes>,
    ) -> Result<Restart, Status> {
        this.life.go(Edge::Restart).map_err(|_| NDIS_STATUS_FAILURE)?;
        this.learn_mtu(passive, attributes);
        // Requests that come from here on ask for another restart, and are answered by that one.
        let answers = this.binding.mark();
        this.usable.store(false, Ordering::SeqCst);
        let ready = Self::prepare(this, passive);
        if this.asked.load(Ordering::SeqCst) {
            // Nothing may be sent before this has returned, and no request is answered before frames may be sent.
            let restarted = Restarted { ready, answers };
            this.restarting.with(passive, |restarting, _| *restarting = Restarting::Pending(restarted));
            Self::kick(this);
            return Ok(Restart::Pending);
        }
        this.life.go(Edge::Restarted).map_err(|_| NDIS_STATUS_FAILURE)?;
        trace::restarted(this.info.if_index, this.mtu.load(Ordering::Relaxed), false);
        this.refuse_waiting();
        fence(Ordering::SeqCst);
        if !this.binding.is_empty() {
            Self::kick(this);
        }
        Ok(Restart::Complete)
    }

    /// Closes the gate whether or not anything is outstanding, and refuses the requests that wait for slots.
    fn pause(this: &Shared<Self>, passive: &mut Passive<'_>) -> Pause {
        let close = this.restarting.with(passive, |restarting, _| {
            // NDIS pauses as soon as it knows of the restart, perhaps before the worker has opened the gate.
            if let Restarting::Reported(_) = core::mem::replace(restarting, Restarting::Settled) {
                this.run(false);
            }
            this.life.go(Edge::Pause).ok()?;
            this.counters.pauses.add(1);
            this.pausing_since.store(time::microseconds(), Ordering::Relaxed);
            trace::pausing(this.info.if_index, this.path.outstanding().sends);
            Some(this.path.close())
        });
        this.refuse_waiting();
        match close {
            // A pause out of turn finds a module that has nothing outstanding.
            None => Pause::Complete,
            Some(Close::Pending) => {
                this.counters.pauses_pending.add(1);
                Pause::Pending
            }
            // A module without data handlers never opened its gate.
            Some(Close::Drained | Close::NotOpen) => {
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
        Self::sends_completed(this, level, lists, flags)
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
        Self::kick_if_waiting(this);
        this.leave(level, share)
    }
}

impl Work for Module {
    fn work(this: &Shared<Self>, passive: &mut Passive<'_>) {
        let seen = this.kicks.load(Ordering::SeqCst);
        this.finish_restart(passive);
        this.serve_binds(passive);
        let more = Self::start_waiting(this, passive);
        let settled = || this.kicks.compare_exchange(seen, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        if more || !settled() {
            IoWorkItem::queue(this);
        }
    }

    fn item(&self) -> &IoWorkItem {
        &self.worker
    }
}

impl Timed for Module {
    fn elapsed(this: &Shared<Self>, dispatch: &mut Dispatch<'_>) {
        if !this.wanted() {
            // The stack restarts, and FilterSetModuleOptions finds that the handlers are not wanted.
            this.rundown.enter(|| {
                // Out of memory: the handlers stay until the next restart, which does no harm.
                let _ = this.handle().restart(dispatch);
            });
        }
    }
}
