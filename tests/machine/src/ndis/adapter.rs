//! Simulated network adapters: how they complete sends, what reaches the wire, and their life.
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use ndis_sys::{NET_BUFFER_LIST, NetBufferListCancelId};
use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionBlock;

use super::lists::{self, Owner};
use super::module::Module;
use super::oid::Ask;
use super::{stack, status};
use crate::kernel::objects;
use crate::machine::{Machine, current};
use crate::memory::{field, get, set};
use crate::sched::Dpc;

/// Interrupt moderation, in 100 ns.
const MODERATION: u64 = 80;

/// When an adapter completes what it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completes {
    /// Inside the send call.
    Inline,
    /// Later, in order, after this range of microseconds.
    Late(u64, u64),
    /// Later, in any order and in parts, after this range of microseconds.
    OutOfOrder(u64, u64),
    /// One of the above, chosen for each call.
    Any,
}

/// How an adapter is built.
#[expect(clippy::struct_excessive_bools, reason = "each setting is on or off by itself")]
#[derive(Clone, Debug)]
pub struct Settings {
    /// Friendly name.
    pub name: String,
    /// Bytes, without the Ethernet header.
    pub mtu: u32,
    /// Room in front of a frame that the miniport asks for.
    pub backfill: u32,
    /// When sends complete.
    pub completes: Completes,
    /// Every n-th frame comes back with an error.
    pub fails_every: Option<u64>,
    /// Where the frames go that reach the wire.
    pub capture: Option<PathBuf>,
    /// Whether frames that reach the wire are kept, for [`Adapter::wire`].
    pub keeps_frames: bool,
    /// Whether a DMA adapter can be had for the adapter's device.
    pub dma: bool,
    /// When OID requests that reach the miniport are answered.
    pub oids: Oids,
    /// Medium: 802.3 unless it says otherwise (`NDIS_MEDIUM`).
    pub medium: i32,
    /// Whether the miniport touches the first and the last byte that the MDLs of a frame describe.
    pub touches_start: bool,
    /// Whether every frame that is sent is indicated as well.
    pub loopback: bool,
    /// The link when the machine is switched on.
    pub link: Link,
    /// Whether filters are told the attributes of a restart.
    pub attributes: Attributed,
    /// Whether the miniport answers `OID_GEN_MAXIMUM_TOTAL_SIZE`, as it has to.
    pub answers_total_size: bool,
    /// How many of a hundred indications are made with `NDIS_RECEIVE_FLAGS_RESOURCES`.
    pub resources: u8,
}

/// Whether `FilterRestart` is told the attributes, which its page leaves open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attributed {
    /// At every restart.
    Always,
    /// At the first of each module; later, NDIS restarts the stack for other reasons.
    First,
    /// At none.
    Never,
    /// At some, by the seed.
    Any,
}

/// An adapter's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// `MediaConnectState…`.
    pub connected: i32,
    /// Bits per second, or `NDIS_LINK_SPEED_UNKNOWN`.
    pub speed: u64,
}

impl Link {
    /// A cable is in, at a gigabit.
    pub const UP: Self = Self { connected: ndis_sys::MediaConnectStateConnected, speed: 1_000_000_000 };
    /// No cable is in.
    pub const DOWN: Self =
        Self { connected: ndis_sys::MediaConnectStateDisconnected, speed: ndis_sys::NDIS_LINK_SPEED_UNKNOWN };
    /// The miniport does not know yet.
    pub const UNKNOWN: Self =
        Self { connected: ndis_sys::MediaConnectStateUnknown, speed: ndis_sys::NDIS_LINK_SPEED_UNKNOWN };
}

/// When an adapter answers OID requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oids {
    /// Inside the request.
    Inline,
    /// Later, on another thread.
    Late,
    /// Either.
    Any,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: "Simulated Ethernet Adapter".to_owned(),
            mtu: 1500,
            backfill: 0,
            completes: Completes::Late(5, 60),
            fails_every: None,
            capture: None,
            keeps_frames: true,
            dma: true,
            oids: Oids::Inline,
            medium: ndis_sys::NdisMedium802_3,
            touches_start: false,
            loopback: false,
            link: Link::UP,
            attributes: Attributed::Always,
            answers_total_size: true,
            resources: 0,
        }
    }
}

/// What an adapter does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The miniport runs.
    Running,
    /// The miniport is paused.
    Paused,
    /// The adapter is disabled: its stack is torn down.
    Disabled,
    /// The adapter was pulled out.
    Removed,
}

/// A list that the adapter was given.
#[derive(Clone, Debug)]
struct Transmit {
    list: u64,
    /// Logical addresses and lengths of the pieces of each frame.
    frames: Vec<Vec<(u64, u64)>>,
    due: u64,
}

/// What an adapter has counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Frames on the wire.
    pub frames: u64,
    /// Frames given back with an error.
    pub failed: u64,
    /// Lists of the host's own that were sent.
    pub host_sent: u64,
    /// Lists of the host's own that came back.
    pub host_completed: u64,
    /// Of those, the ones that a filter or the adapter gave back with `NDIS_STATUS_PAUSED`. The protocol sends nothing
    /// through a stack that does not run, and a stack is not paused before all of its lists have come back.
    pub host_paused: u64,
    /// Frames that the adapter indicated.
    pub indicated: u64,
    /// Frames that reached the host's protocol.
    pub host_received: u64,
}

/// One pause of a module that had to wait.
#[derive(Clone, Copy, Debug)]
pub struct PauseRecord {
    /// Lists out when the pause began.
    pub in_flight: u64,
    /// Simulated microseconds from the call of `FilterPause` to its completion.
    pub microseconds: u64,
}

/// How many lists, and what then.
type Trigger = (u64, Box<dyn FnOnce()>);
type Capture = PcapNgWriter<BufWriter<File>>;

/// A simulated adapter with its stack of filter modules.
pub struct Adapter {
    /// Which of the machine's adapters.
    pub index: usize,
    /// Its settings.
    pub settings: Settings,
    /// MTU from the next restart on.
    pub mtu: Cell<u32>,
    /// MTU now.
    pub(crate) medium_mtu: Cell<u32>,
    link: Cell<Link>,
    /// Whether the miniport answers `OID_GEN_MAXIMUM_TOTAL_SIZE`.
    pub answers_total_size: Cell<bool>,
    /// The device has lost its power.
    pub(crate) asleep: Cell<bool>,
    device: Cell<u64>,
    state: Cell<State>,
    /// Modules, lowest first.
    pub(crate) modules: RefCell<Vec<Rc<Module>>>,
    transmits: RefCell<Vec<Transmit>>,
    last_due: Cell<u64>,
    given: Cell<u64>,
    capture: RefCell<Option<Capture>>,
    wire: RefCell<Vec<Vec<u8>>>,
    counters: Cell<Counters>,
    pub(crate) pauses: RefCell<Vec<PauseRecord>>,
    /// Operations on the stack, one at a time, in the order in which they were asked for.
    operations: RefCell<VecDeque<u64>>,
    next_operation: Cell<u64>,
    pub(crate) protocol_running: Cell<bool>,
    trigger: RefCell<Option<Trigger>>,
    /// A mandatory filter is missing: no protocol binds.
    pub(crate) unusable: Cell<bool>,
    pub(crate) teardowns: Cell<u64>,
    pub(crate) packet_filter: Cell<u32>,
    /// A regular OID request is on its way: NDIS lets one go down at a time.
    pub(crate) oid_busy: Cell<bool>,
    /// Requests of the protocol that have not been answered.
    pub(crate) oids_out: Cell<u32>,
    /// Modules are being attached or detached: what the protocol asks meanwhile waits.
    pub(crate) oids_wait: Cell<bool>,
    /// Lists that were indicated and have not come back, and those that the protocol has.
    receives_out: Cell<u64>,
    protocol_has: RefCell<Vec<u64>>,
    /// Returns of the protocol, and indications, that are going on.
    moving: Cell<u32>,
    received: RefCell<Vec<Vec<u8>>>,
    pub(crate) restart_queued: RefCell<Vec<u64>>,
}

impl Adapter {
    pub(crate) fn new(index: usize, settings: Settings) -> Result<Self> {
        let capture = match &settings.capture {
            Some(path) => {
                let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
                let mut writer = PcapNgWriter::new(BufWriter::new(file))?;
                let block =
                    InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen: 0, options: vec![] };
                writer.write_pcapng_block(block)?;
                Some(writer)
            }
            None => None,
        };
        Ok(Self {
            index,
            mtu: Cell::new(settings.mtu),
            medium_mtu: Cell::new(settings.mtu),
            link: Cell::new(settings.link),
            answers_total_size: Cell::new(settings.answers_total_size),
            asleep: Cell::new(false),
            settings,
            device: Cell::new(0),
            state: Cell::new(State::Running),
            modules: RefCell::default(),
            transmits: RefCell::default(),
            last_due: Cell::new(0),
            given: Cell::new(0),
            capture: RefCell::new(capture),
            wire: RefCell::default(),
            counters: Cell::default(),
            pauses: RefCell::default(),
            operations: RefCell::default(),
            next_operation: Cell::new(0),
            protocol_running: Cell::new(true),
            trigger: RefCell::new(None),
            unusable: Cell::new(false),
            teardowns: Cell::new(0),
            packet_filter: Cell::new(0x2B),
            oid_busy: Cell::new(false),
            oids_out: Cell::new(0),
            oids_wait: Cell::new(false),
            receives_out: Cell::new(0),
            protocol_has: RefCell::default(),
            moving: Cell::new(0),
            received: RefCell::default(),
            restart_queued: RefCell::default(),
        })
    }

    /// GUID of the adapter, as text.
    pub fn guid(&self) -> String {
        format!("{{0ADA0000-0000-4000-8000-0000000000{:02X}}}", self.index)
    }

    /// Address of the adapter.
    pub fn mac(&self) -> [u8; 6] {
        [0x02, 0x51, 0x1C, 0xE0, 0, self.index as u8]
    }

    /// What it does.
    pub fn state(&self) -> State {
        self.state.get()
    }

    /// How often the adapter's stack was torn down, and its modules detached.
    pub fn teardowns(&self) -> u64 {
        self.teardowns.get()
    }

    pub(crate) fn set_state(&self, state: State) {
        self.state.set(state);
    }

    pub(crate) fn is_present(&self) -> bool {
        !matches!(self.state.get(), State::Removed | State::Disabled)
    }

    /// The physical device object, made when it is first needed.
    pub(crate) fn physical_device(&self) -> u64 {
        if self.device.get() == 0 {
            self.device.set(objects::device_object(0, 0));
        }
        self.device.get()
    }

    /// Writes what is still buffered of the capture.
    pub(crate) fn flush_capture(&self) {
        if let Some(writer) = self.capture.borrow_mut().as_mut()
            && let Err(error) = writer.get_mut().flush()
        {
            eprintln!("the capture cannot be written: {error}");
        }
    }

    /// Frames that reached the wire, if they are kept.
    pub fn wire(&self) -> Vec<Vec<u8>> {
        self.wire.borrow().clone()
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        self.counters.get()
    }

    /// Pauses that were completed.
    pub fn pauses(&self) -> Vec<PauseRecord> {
        self.pauses.borrow().clone()
    }

    /// Lists that the adapter holds.
    pub fn in_flight(&self) -> usize {
        self.transmits.borrow().len()
    }

    /// States of the modules, lowest first.
    pub fn module_states(&self) -> Vec<super::module::State> {
        self.modules.borrow().iter().map(|module| module.state.get()).collect()
    }

    fn count(&self, change: impl FnOnce(&mut Counters)) {
        let mut counters = self.counters.get();
        change(&mut counters);
        self.counters.set(counters);
    }

    /// Waits for the operations before, does `work`, and lets the next one go on.
    pub(crate) fn exclusively(self: &Rc<Self>, work: impl FnOnce()) {
        let ticket = self.ticket();
        self.exclusively_with(ticket, work);
    }

    /// A place in the queue of operations.
    pub(crate) fn ticket(&self) -> u64 {
        let ticket = self.next_operation.get();
        self.next_operation.set(ticket + 1);
        self.operations.borrow_mut().push_back(ticket);
        ticket
    }

    pub(crate) fn exclusively_with(self: &Rc<Self>, ticket: u64, work: impl FnOnce()) {
        let adapter = self.clone();
        current()
            .scheduler
            .wait("the stack to settle", None, move || adapter.operations.borrow().front() == Some(&ticket));
        work();
        self.operations.borrow_mut().pop_front();
    }

    /// Disables the adapter, on a thread of its own.
    pub fn disable(self: &Rc<Self>) {
        self.operation("disable", |machine, adapter| stack::tear_down(machine, adapter, State::Disabled));
    }

    /// Pulls the adapter out, on a thread of its own.
    pub fn unplug(self: &Rc<Self>) {
        self.operation("unplug", |machine, adapter| {
            adapter.fail_all(machine, status::ADAPTER_REMOVED);
            stack::tear_down(machine, adapter, State::Removed);
        });
    }

    /// Enables the adapter, on a thread of its own.
    pub fn enable(self: &Rc<Self>) {
        self.operation("enable", stack::bring_up);
    }

    /// Pauses and restarts the stack, on a thread of its own.
    pub fn restart(self: &Rc<Self>) {
        self.operation("restart", |machine, adapter| {
            if adapter.is_present() {
                stack::pause(machine, adapter, ndis_sys::NDIS_PAUSE_NDIS_INTERNAL);
                stack::restart(machine, adapter);
            }
        });
    }

    /// Whether an operation on the stack is going on or waiting.
    pub fn is_settled(&self) -> bool {
        self.operations.borrow().is_empty()
    }

    fn operation(self: &Rc<Self>, name: &str, work: fn(&Machine, &Rc<Self>)) {
        let adapter = self.clone();
        let ticket = self.ticket();
        current().spawn(&format!("{name} adapter {}", self.index), move || {
            adapter.exclusively_with(ticket, || work(current(), &adapter));
        });
    }

    /// Does `work` as soon as the adapter holds this many lists.
    pub fn when_in_flight(&self, lists: u64, work: impl FnOnce() + 'static) {
        self.trigger.replace(Some((lists, Box::new(work))));
    }

    fn pull_trigger(&self) {
        let reached = self
            .trigger
            .borrow()
            .as_ref()
            .is_some_and(|(lists, _)| self.transmits.borrow().len() as u64 >= *lists);
        if reached && let Some((_, work)) = self.trigger.take() {
            work();
        }
    }

    /// The host queries an OID through the stack, on the running thread: its status and its answer.
    pub fn query_oid(self: &Rc<Self>, oid: u32) -> (i32, u32) {
        self.ask_oid(oid, Ask::Query)
    }

    /// The host asks an OID in some way, on the running thread: its status and its answer.
    pub fn ask_oid(self: &Rc<Self>, oid: u32, how: Ask) -> (i32, u32) {
        super::oid::ask(current(), self, oid, how)
    }

    /// The system goes to sleep: the stack is paused, and does not run until it wakes. The device loses its power before
    /// or after that.
    pub fn sleep(self: &Rc<Self>) {
        self.operation("sleep of", |machine, adapter| {
            if adapter.is_present() {
                stack::device_event(machine, adapter, POWER_PROFILE_CHANGED);
                stack::net_event(machine, adapter, SET_POWER);
                if machine.scheduler.choose(2) == 0 {
                    adapter.lose_power(machine);
                }
                stack::pause(machine, adapter, ndis_sys::NDIS_PAUSE_LOW_POWER);
                adapter.asleep.set(true);
            }
        });
    }

    /// The device loses its power, while the stack runs: what it has and is given comes back with
    /// `NDIS_STATUS_LOW_POWER_STATE`, until it wakes.
    pub fn power_down(self: &Rc<Self>) {
        self.operation("power down of", |machine, adapter| {
            if adapter.is_present() {
                adapter.lose_power(machine);
            }
        });
    }

    fn lose_power(self: &Rc<Self>, machine: &Machine) {
        self.asleep.set(true);
        self.fail_all(machine, ndis_sys::NDIS_STATUS_LOW_POWER_STATE);
    }

    /// The system wakes.
    pub fn wake(self: &Rc<Self>) {
        self.operation("wake of", |machine, adapter| {
            adapter.asleep.set(false);
            if adapter.state() == State::Paused {
                stack::net_event(machine, adapter, SET_POWER);
                stack::restart(machine, adapter);
            }
        });
    }

    /// The miniport is reset: what it holds comes back aborted.
    pub fn reset(self: &Rc<Self>) {
        self.operation("reset of", |machine, adapter| {
            if adapter.is_present() {
                stack::indicate_status(machine, adapter, RESET_START, &[]);
                adapter.fail_all(machine, ndis_sys::NDIS_STATUS_RESET_IN_PROGRESS);
                stack::indicate_status(machine, adapter, RESET_END, &[]);
            }
        });
    }

    /// The cable is pulled or plugged.
    pub fn link(self: &Rc<Self>, connected: bool) {
        self.operation(
            if connected { "link up of" } else { "link down of" },
            if connected {
                |machine, adapter| link(machine, adapter, Link::UP)
            } else {
                |machine, adapter| link(machine, adapter, Link::DOWN)
            },
        );
    }

    /// The link now.
    pub fn link_state(&self) -> Link {
        self.link.get()
    }

    /// The miniport indicates a status of its own, whatever that is.
    pub fn indicate_status(self: &Rc<Self>, status: i32, data: Vec<u8>) {
        let adapter = self.clone();
        let ticket = self.ticket();
        current().spawn(&format!("status of adapter {}", self.index), move || {
            adapter.exclusively_with(ticket, || stack::indicate_status(current(), &adapter, status, &data));
        });
    }

    /// The MTU changes, which restarts the stack.
    pub fn change_mtu(self: &Rc<Self>, mtu: u32) {
        self.mtu.set(mtu);
        self.restart();
    }

    /// Frames arrive from the wire: in one indication, in the context of an interrupt's DPC.
    pub fn receive(self: &Rc<Self>, frames: Vec<Vec<u8>>) {
        let machine = current();
        let processor = machine.scheduler.choose(machine.scheduler.processors() as u64) as usize;
        let adapter = self.clone();
        machine.scheduler.interrupt(processor, move || {
            let work = Box::new(move || {
                adapter.indicate(current(), &frames, 0, false);
                crate::kernel::ke::after_dpc(current());
            });
            current().scheduler.queue_dpc(Some(processor), Dpc { object: 0, work });
        });
    }

    /// The miniport indicates frames. Of loopback frames the source is who sent them.
    fn indicate(self: &Rc<Self>, machine: &Machine, frames: &[Vec<u8>], source: u64, loopback: bool) {
        if self.state.get() != State::Running || frames.is_empty() {
            return;
        }
        let home = Owner::Adapter(self.index);
        let source = if loopback { source } else { lists::adapter_handle(self.index) };
        let lists: Vec<u64> = frames
            .iter()
            .map(|frame| {
                let list = machine.ndis.lists.machine_list(machine, home, source, frame);
                if loopback {
                    set!(list, NET_BUFFER_LIST, NblFlags, LOOPBACK_PACKET);
                }
                list
            })
            .collect();
        self.count(|counters| counters.indicated += frames.len() as u64);
        let lends = machine.scheduler.choose(100) < u64::from(self.settings.resources);
        let level = u64::from(machine.scheduler.irql() == crate::sched::DISPATCH);
        let flags = level | if lends { 2 } else { 0 };
        if !lends {
            self.receives_out.set(self.receives_out.get() + lists.len() as u64);
        }
        self.moving.set(self.moving.get() + 1);
        super::receive::receive_up(machine, self, 0, &lists, 0, flags, home);
        self.moving.set(self.moving.get() - 1);
        if lends {
            for list in lists {
                machine.ndis.lists.free_machine_list(machine, list);
            }
        }
    }

    /// A list that the adapter indicated came back.
    pub(crate) fn returned(&self, machine: &Machine, list: u64) {
        self.receives_out.set(self.receives_out.get().saturating_sub(1));
        machine.ndis.lists.free_machine_list(machine, list);
    }

    /// Lists reach the protocol: it copies what is lent, and returns the others some time later.
    pub(crate) fn protocol_receives(self: &Rc<Self>, machine: &Machine, lists: &[u64], lends: bool) {
        self.count(|counters| counters.host_received += lists.len() as u64);
        for list in lists {
            machine.ndis.lists.give(machine, *list, Owner::Protocol(self.index), "indicated to the protocol");
            for pieces in lists::pieces(*list) {
                let frame =
                    pieces.iter().flat_map(|(at, length)| crate::memory::bytes(*at, *length as usize));
                self.received.borrow_mut().push(frame.collect());
            }
        }
        if lends {
            return;
        }
        self.protocol_has.borrow_mut().extend(lists);
        let adapter = self.clone();
        let delay = machine.scheduler.choose(100) * 10;
        machine.scheduler.after(delay, move || {
            current().spawn("the protocol's returns", move || adapter.protocol_returns_all(current()));
        });
    }

    /// The protocol returns what it has, in parts.
    pub(crate) fn protocol_returns_all(self: &Rc<Self>, machine: &Machine) {
        loop {
            let part: Vec<u64> = {
                let mut all = self.protocol_has.borrow_mut();
                let count = all.len().min(1 + machine.scheduler.choose(8) as usize);
                all.drain(..count).collect()
            };
            if part.is_empty() {
                return;
            }
            let top = self.modules.borrow().len();
            self.moving.set(self.moving.get() + 1);
            super::receive::return_down(machine, self, top, &part, 0);
            self.moving.set(self.moving.get() - 1);
        }
    }

    /// The miniport is paused when every list that it indicated has come back, and no call is going on.
    pub(crate) fn receives_settle(self: &Rc<Self>, machine: &Machine) {
        loop {
            self.protocol_returns_all(machine);
            let waited = self.clone();
            machine.scheduler.wait("receives to come back", None, move || {
                !waited.protocol_has.borrow().is_empty()
                    || waited.moving.get() == 0 && waited.receives_out.get() == 0
            });
            if self.protocol_has.borrow().is_empty() {
                return;
            }
        }
    }

    /// Frames that reached the host's protocol.
    pub fn received(&self) -> Vec<Vec<u8>> {
        self.received.borrow().clone()
    }

    /// The host sends a frame of its own through the stack, on the running thread.
    pub fn host_send(self: &Rc<Self>, frame: &[u8]) {
        if !self.protocol_running.get() {
            return;
        }
        let machine = current();
        let list = machine.ndis.lists.machine_list(
            machine,
            Owner::Protocol(self.index),
            lists::protocol_handle(self.index),
            frame,
        );
        set!(list, NET_BUFFER_LIST, ProtocolReserved, list);
        self.count(|counters| counters.host_sent += 1);
        let top = self.modules.borrow().len();
        stack::send_down(machine, self, top, &[list], 0, 0);
    }

    /// Lists of the host's own that have not come back.
    pub(crate) fn host_outstanding(&self) -> u64 {
        let counters = self.counters.get();
        counters.host_sent - counters.host_completed
    }

    /// A list is completed to the protocol, which looks at what it keeps of it. It keeps nothing of one that it did not
    /// send: if no rule stopped that before, it reads at 0, or, where somebody else used the field, loses the list.
    pub(crate) fn host_completed(&self, machine: &Machine, list: u64) {
        let kept = field!(list, NET_BUFFER_LIST, ProtocolReserved, u64);
        std::hint::black_box(get::<u64>(kept));
        if machine.ndis.lists.home(list) != Some(Owner::Protocol(self.index)) {
            return;
        }
        let paused = field!(list, NET_BUFFER_LIST, Status, i32) == status::PAUSED;
        machine.ndis.lists.free_machine_list(machine, list);
        self.count(|counters| {
            counters.host_completed += 1;
            counters.host_paused += u64::from(paused);
        });
    }

    /// The miniport's send handler.
    pub(crate) fn transmit(self: &Rc<Self>, machine: &Machine, lists: &[u64]) {
        let refused = match self.state.get() {
            State::Running | State::Paused if self.asleep.get() => {
                Some(ndis_sys::NDIS_STATUS_LOW_POWER_STATE)
            }
            State::Running => None,
            State::Paused => Some(status::PAUSED),
            State::Disabled | State::Removed => Some(status::ADAPTER_REMOVED),
        };
        for list in lists {
            machine.ndis.lists.give(machine, *list, Owner::Adapter(self.index), "given to the adapter");
        }
        if let Some(refused) = refused {
            for list in lists {
                set!(*list, NET_BUFFER_LIST, Status, refused);
            }
            stack::complete_up(machine, self, 0, lists);
            return;
        }
        if self.settings.touches_start {
            for list in lists {
                lists::touch(*list);
            }
        }
        let completes = match self.settings.completes {
            Completes::Any => match machine.scheduler.choose(3) {
                0 => Completes::Inline,
                1 => Completes::Late(0, 80),
                _ => Completes::OutOfOrder(0, 200),
            },
            fixed => fixed,
        };
        let now = machine.scheduler.now();
        let entries: Vec<Transmit> = lists
            .iter()
            .map(|list| {
                let due = match completes {
                    Completes::Late(least, most) => {
                        let due = now + (least + machine.scheduler.choose(most - least + 1)) * 10;
                        self.in_order(due)
                    }
                    Completes::OutOfOrder(least, most) => {
                        now + (least + machine.scheduler.choose(most - least + 1)) * 10
                    }
                    _ => now,
                };
                Transmit { list: *list, frames: map(machine, *list), due }
            })
            .collect();
        if completes == Completes::Inline {
            let lists: Vec<u64> = entries.iter().map(|entry| self.finish(machine, entry)).collect();
            stack::complete_up(machine, self, 0, &lists);
            return;
        }
        // One interrupt for all that is due in the same eight microseconds.
        let moderated = |entry: &Transmit| (entry.due - now) / MODERATION;
        let interrupts: BTreeSet<u64> = entries.iter().map(moderated).collect();
        self.transmits.borrow_mut().extend(entries);
        for number in interrupts {
            let adapter = self.clone();
            machine.scheduler.after((number + 1) * MODERATION, move || adapter.interrupt());
        }
        self.pull_trigger();
    }

    /// A time at which a list may complete without overtaking another.
    fn in_order(&self, due: u64) -> u64 {
        self.last_due.set(self.last_due.get().max(due));
        self.last_due.get()
    }

    /// Something is due: a DPC completes it.
    fn interrupt(self: &Rc<Self>) {
        let machine = current();
        let processor = machine.scheduler.choose(machine.scheduler.processors() as u64) as usize;
        let adapter = self.clone();
        machine.scheduler.interrupt(processor, move || adapter.deferred(processor));
    }

    /// The interrupt's DPC.
    fn deferred(self: Rc<Self>, processor: usize) {
        let adapter = self;
        let work = Box::new(move || {
            let machine = current();
            let now = machine.scheduler.now();
            let mut due: Vec<Transmit> = {
                let mut transmits = adapter.transmits.borrow_mut();
                let (due, rest) = transmits.drain(..).partition(|entry| entry.due <= now);
                *transmits = rest;
                due
            };
            let shuffled = matches!(adapter.settings.completes, Completes::OutOfOrder(..) | Completes::Any);
            if shuffled {
                for index in (1..due.len()).rev() {
                    due.swap(index, machine.scheduler.choose(index as u64 + 1) as usize);
                }
            } else {
                due.sort_by_key(|entry| entry.due);
            }
            let mut rest = due.as_slice();
            while !rest.is_empty() {
                let part = if shuffled {
                    1 + machine.scheduler.choose(rest.len() as u64) as usize
                } else {
                    rest.len()
                };
                let (now, later) = rest.split_at(part);
                let lists: Vec<u64> = now.iter().map(|entry| adapter.finish(machine, entry)).collect();
                stack::complete_up(machine, &adapter, 0, &lists);
                rest = later;
            }
            crate::kernel::ke::after_dpc(machine);
        });
        current().scheduler.queue_dpc(Some(processor), Dpc { object: 0, work });
    }

    /// The device reads the frames of a list, and they are on the wire: or it fails them.
    fn finish(self: &Rc<Self>, machine: &Machine, entry: &Transmit) -> u64 {
        let number = self.given.get() + 1;
        self.given.set(number);
        if self.settings.fails_every.is_some_and(|every| number.is_multiple_of(every)) {
            self.count(|counters| counters.failed += 1);
            set!(entry.list, NET_BUFFER_LIST, Status, status::FAILURE);
            unmap(machine, entry);
            return entry.list;
        }
        for pieces in &entry.frames {
            let mut frame = Vec::new();
            for (address, length) in pieces {
                frame.extend(machine.dma.device_read(machine, self.physical_device(), *address, *length));
            }
            self.on_wire(machine, frame, field!(entry.list, NET_BUFFER_LIST, SourceHandle, u64));
        }
        unmap(machine, entry);
        set!(entry.list, NET_BUFFER_LIST, Status, status::SUCCESS);
        entry.list
    }

    fn on_wire(self: &Rc<Self>, machine: &Machine, frame: Vec<u8>, source: u64) {
        self.count(|counters| counters.frames += 1);
        if self.settings.loopback {
            self.indicate(machine, std::slice::from_ref(&frame), source, true);
        }
        if let Some(writer) = self.capture.borrow_mut().as_mut() {
            let block = EnhancedPacketBlock {
                interface_id: 0,
                timestamp: Duration::from_micros(machine.microseconds()),
                original_len: frame.len() as u32,
                data: frame.as_slice().into(),
                options: vec![],
            };
            if let Err(error) = writer.write_pcapng_block(block) {
                panic!("the capture cannot be written: {error}");
            }
        }
        if self.settings.keeps_frames {
            self.wire.borrow_mut().push(frame);
        }
    }

    /// Gives everything back with a status.
    fn fail_all(self: &Rc<Self>, machine: &Machine, with: i32) {
        let all: Vec<Transmit> = self.transmits.borrow_mut().drain(..).collect();
        self.give_back(machine, &all, with);
    }

    /// Gives back what has a cancel id.
    pub(crate) fn cancel(self: &Rc<Self>, machine: &Machine, id: u64) {
        let matches = |entry: &Transmit| {
            let slot = std::mem::offset_of!(NET_BUFFER_LIST, NetBufferListInfo) + NetBufferListCancelId * 8;
            get::<u64>(entry.list + slot as u64) == id
        };
        let cancelled: Vec<Transmit> = {
            let mut transmits = self.transmits.borrow_mut();
            let (cancelled, rest) = transmits.drain(..).partition(matches);
            *transmits = rest;
            cancelled
        };
        self.give_back(machine, &cancelled, status::SEND_ABORTED);
    }

    fn give_back(self: &Rc<Self>, machine: &Machine, entries: &[Transmit], with: i32) {
        if entries.is_empty() {
            return;
        }
        self.count(|counters| counters.failed += entries.len() as u64);
        let lists: Vec<u64> = entries.iter().map(|entry| entry.list).collect();
        for entry in entries {
            unmap(machine, entry);
        }
        for list in &lists {
            set!(*list, NET_BUFFER_LIST, Status, with);
        }
        stack::complete_up(machine, self, 0, &lists);
    }

    /// Whether the adapter holds lists of a module.
    pub(crate) fn holds_of(&self, source: u64) -> bool {
        self.transmits
            .borrow()
            .iter()
            .any(|entry| field!(entry.list, NET_BUFFER_LIST, SourceHandle, u64) == source)
    }
}

/// `NetEventSetPower`, and `NdisDevicePnPEventPowerProfileChanged`.
const SET_POWER: i32 = 0;
const POWER_PROFILE_CHANGED: i32 = 5;
/// `NDIS_STATUS_RESET_START`, `NDIS_STATUS_RESET_END`.
const RESET_START: i32 = 0x4001_0004;
const RESET_END: i32 = 0x4001_0005;
/// `NDIS_NBL_FLAGS_IS_LOOPBACK_PACKET`.
const LOOPBACK_PACKET: u32 = 0x8000;

fn link(machine: &Machine, adapter: &Rc<Adapter>, link: Link) {
    adapter.link.set(link);
    // NDIS_LINK_STATE.
    let mut data = [0; 0x28];
    data[..4].copy_from_slice(&[ndis_sys::NDIS_OBJECT_TYPE_DEFAULT, 1, 0x28, 0]);
    data[4..8].copy_from_slice(&link.connected.to_le_bytes());
    data[8..12].copy_from_slice(&ndis_sys::MediaDuplexStateFull.to_le_bytes());
    data[0x10..0x18].copy_from_slice(&link.speed.to_le_bytes());
    data[0x18..0x20].copy_from_slice(&link.speed.to_le_bytes());
    stack::indicate_status(machine, adapter, ndis_sys::NDIS_STATUS_LINK_STATE, &data);
}

/// The miniport maps a list's data for its device.
fn map(machine: &Machine, list: u64) -> Vec<Vec<(u64, u64)>> {
    let mapped = |pieces: Vec<(u64, u64)>| {
        pieces.into_iter().map(|(address, length)| (machine.dma.map(address, length), length)).collect()
    };
    lists::pieces(list).into_iter().map(mapped).collect()
}

fn unmap(machine: &Machine, entry: &Transmit) {
    for (logical, _) in entry.frames.iter().flatten() {
        machine.dma.unmap(*logical);
    }
}
