//! Scenarios: what happens on a machine, for a schedule to decide when.
use std::cell::{Cell, OnceCell, RefCell};
use std::path::Path;
use std::rc::Rc;

use sluice_abi::{ABI_MAJOR, FrameResult, IOCTL_SEND, SendHeader, WIN32_NAME};
use sluice_client::Error;
use sluice_client::adapter;
use sluice_client::device::{Device, Driver};
use sluice_client::send::{self, Answer, Outcome, Totals};
use sluice_machine::bugcheck::Bugcheck;
use sluice_machine::ndis::adapter::{Adapter, Attributed, Completes, Link, Settings};
use sluice_machine::ndis::oid::Ask;
use sluice_machine::{Configuration, Decision, LoadError, LowResources, Machine, Schedule, Verifier, user};
use zerocopy::IntoBytes;

use crate::bugs;
use crate::client::Local;
use crate::shared_handle::{self, SharedHandle};

/// One run of a scenario.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// The driver.
    pub driver: &'a Path,
    /// The schedule.
    pub schedule: Schedule,
    /// What the machine checks.
    pub verifier: Verifier,
    /// Whether everything that happens is recorded.
    pub record: bool,
    /// Whether processors are host threads.
    pub parallel: bool,
    /// Which allocations fail, if not those that the scenario says.
    pub low_resources: Option<LowResources>,
}

impl<'a> Run<'a> {
    /// A run by chance, with everything checked.
    pub fn random(driver: &'a Path, seed: u64) -> Self {
        let (schedule, verifier) = (Schedule::random(seed), Verifier::default());
        Self { driver, schedule, verifier, record: false, parallel: false, low_resources: None }
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcomes {
    /// What the clients were told.
    pub totals: Totals,
    /// A number that tells the schedule.
    pub schedule: u64,
    /// Decisions of the schedule, if the run was recorded.
    pub decisions: Vec<Decision>,
    /// Allocations of the driver, of everything that may run out.
    pub allocations: u64,
    /// What is wrong, if anything, that is no bugcheck: frames not accounted for, threads that hang.
    pub faults: Vec<String>,
}

/// Why a run stopped.
#[derive(Debug)]
pub enum Stop {
    /// The machine stopped; the decisions so far, if the run was recorded.
    Bugcheck(Box<Bugcheck>, Vec<Decision>),
    /// The driver could not be loaded.
    Load(String),
}

/// A scenario by name.
pub type Scenario = fn(&Run<'_>) -> Result<Outcomes, Stop>;

/// Every scenario: the whole life of a module, and one for each bug class of real filters.
pub fn scenarios() -> Vec<(&'static str, Scenario)> {
    std::iter::once(("lifecycle", lifecycle as Scenario)).chain(bugs::SCENARIOS.iter().copied()).collect()
}

/// A frame that no other of the run equals: its number is in it.
pub fn frame(client: u8, number: u32, length: usize) -> Vec<u8> {
    let mut frame = vec![0x02, 0x51, 0x1C, 0xE0, 0xFF, 0x01, 0x02, 0x51, 0x1C, 0xE0, 0xFF, 0x02, 0x88, 0xB5];
    frame.push(client);
    frame.extend_from_slice(&number.to_be_bytes());
    while frame.len() < length {
        frame.push(frame.len() as u8 ^ client ^ number as u8);
    }
    frame
}

/// Makes a frame one with a VLAN tag: what follows is its priority and number.
pub fn tag(frame: &mut [u8]) {
    if let Some(kind) = frame.get_mut(12..14) {
        kind.copy_from_slice(&[0x81, 0x00]);
    }
}

/// What a scenario's clients share.
#[derive(Default)]
pub struct Ledger {
    /// Sums of what clients were told.
    pub totals: Cell<Totals>,
    /// Frames that clients were told are sent.
    pub sent: RefCell<Vec<Vec<u8>>>,
    /// What went wrong for a client that should not have.
    pub faults: RefCell<Vec<String>>,
}

impl Ledger {
    /// Notes what became of a batch.
    pub fn note(&self, frames: &[Vec<u8>], answer: Answer) -> bool {
        let Answer::Frames(outcomes) = answer else { return false };
        let mut totals = self.totals.get();
        for (frame, outcome) in frames.iter().zip(outcomes) {
            totals.count(outcome, frame.len());
            if outcome == Outcome::Sent {
                self.sent.borrow_mut().push(frame.clone());
            }
        }
        self.totals.set(totals);
        true
    }

    /// Notes a fault.
    pub fn fault(&self, what: impl Into<String>) {
        self.faults.borrow_mut().push(what.into());
    }
}

/// Opens a handle and binds it to the run's adapter, waiting for the adapter to be there. Gives up when the run is over.
fn open_bound(stage: &Stage) -> Option<Box<dyn Device>> {
    let driver = Local { administrator: true };
    let mut pause = 600;
    while !stage.over.get() {
        let device = driver.open().ok()?;
        let found = adapter::find(device.as_ref(), &stage.adapter.settings.name);
        let bound = found.and_then(|found| adapter::bind(device.as_ref(), &found));
        match bound {
            Ok(()) => return Some(device),
            // Each try restarts the stack, and the MTU may never be known.
            Err(Error::Refused(NOT_READY)) => pause = (pause * 2).min(1_000_000),
            Err(Error::NoAdapter(_) | Error::Removed) => {}
            // Memory ran out, or the service stops.
            Err(_) if !stage.strict || stage.over.get() => {}
            Err(error) => stage.ledger.fault(format!("a bind was refused: {error}")),
        }
        drop(device);
        user::sleep(pause);
    }
    None
}

/// What the adapter goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Disabled, and enabled again.
    Disable,
    /// Pulled out, and put back.
    Unplug,
    /// Its stack is paused and restarted.
    Restart,
    /// The miniport is reset.
    Reset,
    /// Another MTU, which restarts the stack.
    Mtu(u32),
    /// The system sleeps and wakes.
    Sleep,
    /// The cable is pulled and plugged.
    Link,
    /// Nothing, for so many microseconds.
    Nothing(u64),
}

/// Who does what in a run. Ranges are drawn from by the seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Clients that send.
    pub clients: u8,
    /// Handles that each of them opens, one after the other.
    pub handles: (u32, u32),
    /// Requests on each.
    pub requests: (u32, u32),
    /// Frames of a request.
    pub frames: (u32, u32),
    /// Of 256 requests, those that carry 400 frames.
    pub large: u8,
    /// Bytes of a frame.
    pub lengths: (usize, usize),
    /// Whether frames carry a VLAN tag.
    pub tagged: bool,
    /// Of 256 requests, those that are cancelled.
    pub cancels: u8,
    /// Of 256 handles, those that close with requests out.
    pub dies: u8,
    /// Programs whose threads share a handle, which one of them closes.
    pub shared: u8,
    /// Clients that send nonsense, or rewrite and unmap their memory while the driver has it.
    pub nonsense: u8,
    /// Frames of the host's own.
    pub host_frames: (u32, u32),
    /// Frames from the wire.
    pub wire_frames: (u32, u32),
    /// OID requests of the host.
    pub oids: u32,
    /// What the adapter goes through, at random times.
    pub events: Vec<Event>,
    /// How long before the first of them, in microseconds.
    pub delay: (u64, u64),
    /// When the adapter completes; drawn if there is more than one.
    pub completes: Vec<Completes>,
    /// Other settings of the adapter.
    pub settings: Settings,
    /// Which allocations fail.
    pub low_resources: LowResources,
    /// Minor version of NDIS 6.
    pub ndis_minor: u32,
    /// How long work items wait for their turn, and how late timers are, at most, in microseconds.
    pub work_delay: u64,
    /// Whether the driver is unloaded while clients are still there.
    pub unloads_early: bool,
    /// A pause of the clients between handles, in microseconds: longer than the driver keeps its handlers.
    pub rest: u64,
    /// Another filter in the stack, above the driver.
    pub above: Option<&'static str>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            clients: 2,
            handles: (1, 2),
            requests: (1, 3),
            frames: (1, 12),
            large: 2,
            lengths: (20, 200),
            tagged: false,
            cancels: 40,
            dies: 0,
            shared: 0,
            nonsense: 0,
            host_frames: (0, 10),
            wire_frames: (0, 0),
            oids: 0,
            events: vec![Event::Disable],
            delay: (0, 900),
            completes: vec![
                Completes::Inline,
                Completes::Late(0, 60),
                Completes::OutOfOrder(0, 150),
                Completes::Any,
            ],
            settings: Settings::default(),
            low_resources: LowResources::Off,
            ndis_minor: 89,
            work_delay: 0,
            unloads_early: false,
            rest: 0,
            above: None,
        }
    }
}

/// Whether filters are told attributes at a restart.
const ATTRIBUTED: [Attributed; 4] =
    [Attributed::Always, Attributed::First, Attributed::Never, Attributed::Any];

/// Attach, restart, sends by two clients, disable or unplug at a random step, enable, detach, unload.
pub fn lifecycle(run: &Run<'_>) -> Result<Outcomes, Stop> {
    let mut random = fastrand::Rng::with_seed(run.schedule.seed ^ 0x0011_FE00);
    let event = if random.bool() { Event::Disable } else { Event::Unplug };
    play(run, &Plan { events: vec![event], ..Plan::default() })
}

fn between(random: &mut fastrand::Rng, (least, most): (u32, u32)) -> u32 {
    random.u32(least..=most.max(least))
}

/// What the threads of a run share.
struct Stage {
    adapter: Rc<Adapter>,
    ledger: Ledger,
    over: Cell<bool>,
    running: Cell<u32>,
    /// Whether clients are told the truth about every frame: without memory nothing can be promised but that.
    strict: bool,
}

/// Plays a plan.
pub fn play(run: &Run<'_>, plan: &Plan) -> Result<Outcomes, Stop> {
    let mut random = fastrand::Rng::with_seed(run.schedule.seed ^ 0x5EED);
    let settings = Settings {
        name: "Adapter 0".to_owned(),
        completes: *random.choice(&plan.completes).unwrap_or(&Completes::Any),
        fails_every: plan.settings.fails_every.or_else(|| random.bool().then_some(7)),
        attributes: *random.choice(&ATTRIBUTED).unwrap_or(&Attributed::Any),
        // A miniport that does not do what it has to is rare.
        answers_total_size: random.u8(..) >= 16,
        link: *random.choice(&[Link::UP, Link::DOWN, Link::UNKNOWN]).unwrap_or(&Link::UP),
        ..plan.settings.clone()
    };
    let low_resources = run.low_resources.unwrap_or(plan.low_resources);
    let configuration = Configuration {
        processors: if run.parallel { 4 } else { random.usize(1..=3) },
        schedule: run.schedule.clone(),
        verifier: run.verifier.clone(),
        record: run.record,
        parallel: run.parallel,
        low_resources,
        ndis_version: 6 << 16 | plan.ndis_minor,
        adapters: vec![settings],
        ..Configuration::default()
    };
    let machine = Machine::start(configuration).map_err(|error| Stop::Load(error.to_string()))?;
    machine.delay_work(plan.work_delay);
    let stopped =
        |bugcheck: Bugcheck, machine: &Machine| Stop::Bugcheck(Box::new(bugcheck), machine.decisions());
    let strict = low_resources == LowResources::Off;
    match machine.load_driver(run.driver) {
        Ok(()) => {}
        Err(LoadError::Stopped(bugcheck)) => return Err(stopped(bugcheck, &machine)),
        // Without memory a driver may refuse to load, cleanly.
        Err(LoadError::Refused(_)) if !strict => return Ok(finish(&machine, &Ledger::default(), Vec::new())),
        Err(error) => return Err(Stop::Load(error.to_string())),
    }
    if let Some(service) = plan.above {
        let path = crate::image::lab("wrong");
        match machine.load_driver_as(&path, service) {
            Ok(()) => {}
            Err(LoadError::Stopped(bugcheck)) => return Err(stopped(bugcheck, &machine)),
            Err(error) => return Err(Stop::Load(error.to_string())),
        }
    }
    let adapter = machine.adapters().into_iter().next().ok_or_else(|| Stop::Load("no adapter".to_owned()))?;
    let stage = Rc::new(Stage {
        adapter,
        ledger: Ledger::default(),
        over: Cell::new(false),
        running: Cell::new(0),
        strict,
    });
    cast(&machine, &stage, plan, &mut random);
    if plan.unloads_early {
        // The service is stopped while clients are at work; the I/O manager waits for their handles.
        let service = run.driver.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let delay = random.u64(plan.delay.0..=plan.delay.1);
        let over = stage.clone();
        machine.spawn("service control", move || {
            user::sleep(delay);
            over.over.set(true);
            user::unload(&service);
        });
    }
    let result = machine.run_until_idle();
    if let Err(bugcheck) = result {
        return Err(stopped(bugcheck, &machine));
    }
    let mut faults: Vec<String> = machine.waiting_threads();
    if stage.running.get() == 0 {
        if !run.parallel {
            let stage = stage.clone();
            machine.spawn("accountant", move || at_rest(&stage));
            machine.run_until_idle().map_err(|bugcheck| stopped(bugcheck, &machine))?;
        }
        for _ in 0..2 {
            machine.unload_driver().map_err(|bugcheck| stopped(bugcheck, &machine))?;
        }
        faults.extend(machine.waiting_threads());
    }
    let early = machine.counts().restarting_sends.get();
    if early != 0 {
        faults.push(format!("{early} frames were sent before their module's restart was complete"));
    }
    if !run.parallel {
        faults.extend(compare(&stage.adapter, &stage.ledger));
    }
    let host = stage.adapter.counters();
    if host.host_paused != 0 {
        faults.push(format!(
            "{} of {} lists of the host came back with NDIS_STATUS_PAUSED from a stack that ran",
            host.host_paused, host.host_sent
        ));
    }
    let ledger = Rc::into_inner(stage).map(|stage| stage.ledger).unwrap_or_default();
    Ok(finish(&machine, &ledger, faults))
}

fn finish(machine: &Machine, ledger: &Ledger, mut faults: Vec<String>) -> Outcomes {
    faults.extend(ledger.faults.borrow().iter().cloned());
    let totals = ledger.totals.get();
    if totals.submitted != totals.sent + totals.paused + totals.failed {
        faults.push(format!("the sums do not match: {totals:?}"));
    }
    Outcomes {
        totals,
        schedule: machine.schedule_hash(),
        decisions: machine.decisions(),
        allocations: machine.allocations(),
        faults,
    }
}

/// What is on the wire is what clients were told is sent.
fn compare(adapter: &Adapter, ledger: &Ledger) -> Option<String> {
    let of_clients = |frame: &Vec<u8>| frame.get(14).is_some_and(|client| *client < FOREIGN);
    let mut on_wire: Vec<Vec<u8>> = adapter.wire().into_iter().filter(of_clients).collect();
    let mut reported = ledger.sent.borrow().clone();
    on_wire.sort_unstable();
    reported.sort_unstable();
    (on_wire != reported)
        .then(|| format!("{} frames are on the wire, clients were told of {}", on_wire.len(), reported.len()))
}

/// Numbers from here on are no clients whose frames are compared.
const FOREIGN: u8 = 0xF0;

/// The first number of those whose handles are shared.
const SHARED: u8 = 0x80;

/// What a thread of a run does.
type Part = Box<dyn FnOnce(&Stage, &mut fastrand::Rng)>;

/// Starts a program whose threads share a handle.
fn program(number: u8, start: &dyn Fn(&str, u64, Part), random: &mut fastrand::Rng) {
    let threads = random.u8(1..=3);
    let place: Rc<OnceCell<Option<Rc<SharedHandle>>>> = Rc::default();
    let opened = place.clone();
    let close = move |stage: &Stage, random: &mut fastrand::Rng| {
        let shared = SharedHandle::open(stage.strict);
        if let Some(shared) = opened.get_or_init(|| shared) {
            shared_handle::closer(shared, random);
        }
    };
    start(&format!("program {number}"), random.u64(..), Box::new(close));
    for thread in 0..threads {
        let place = place.clone();
        let work = move |stage: &Stage, random: &mut fastrand::Rng| {
            let there = place.clone();
            user::wait_for("the handle", move || there.get().is_some());
            if let Some(Some(shared)) = place.get() {
                let client = SHARED + number * 8 + thread;
                shared_handle::user(client, shared, random, &stage.adapter, &stage.ledger);
            }
        };
        start(&format!("thread {thread} of program {number}"), random.u64(..), Box::new(work));
    }
}

/// Starts everybody.
fn cast(machine: &Machine, stage: &Rc<Stage>, plan: &Plan, random: &mut fastrand::Rng) {
    let start = |name: &str, seed: u64, work: Part| {
        stage.running.set(stage.running.get() + 1);
        let stage = stage.clone();
        machine.spawn(name, move || {
            work(&stage, &mut fastrand::Rng::with_seed(seed));
            stage.running.set(stage.running.get() - 1);
        });
    };
    for client in 0..plan.clients {
        let plan = plan.clone();
        start(
            &format!("client {client}"),
            random.u64(..),
            Box::new(move |stage, random| sender(client, random, stage, &plan)),
        );
    }
    for number in 0..plan.shared {
        program(number, &start, random);
    }
    for number in 0..plan.nonsense {
        let work =
            Box::new(move |stage: &Stage, random: &mut fastrand::Rng| troublemaker(number, random, stage));
        start(&format!("troublemaker {number}"), random.u64(..), work);
    }
    let host = between(random, plan.host_frames);
    if host != 0 {
        start(
            "host traffic",
            random.u64(..),
            Box::new(move |stage, random| {
                for number in 0..host {
                    stage.adapter.host_send(&frame(0xFF, number, 60));
                    user::sleep(random.u64(0..60));
                    if stage.over.get() {
                        break;
                    }
                }
            }),
        );
    }
    let wire = between(random, plan.wire_frames);
    if wire != 0 {
        start(
            "wire",
            random.u64(..),
            Box::new(move |stage, random| {
                for number in 0..wire {
                    let count = random.usize(1..6);
                    stage
                        .adapter
                        .receive((0..count).map(|_| frame(0xFE, number, random.usize(60..200))).collect());
                    user::sleep(random.u64(0..60));
                    if stage.over.get() {
                        break;
                    }
                }
            }),
        );
    }
    for number in 0..plan.oids {
        start(
            &format!("OID requests {number}"),
            random.u64(..),
            Box::new(move |stage, random| {
                for _ in 0..random.u32(1..4) {
                    let how = *random
                        .choice(&[
                            Ask::Query,
                            Ask::QueryCancelled,
                            Ask::Set(0x2B),
                            Ask::Direct,
                            Ask::Synchronous,
                        ])
                        .unwrap_or(&Ask::Query);
                    stage.adapter.ask_oid(ndis_sys::OID_GEN_CURRENT_PACKET_FILTER, how);
                    user::sleep(random.u64(0..100));
                }
            }),
        );
    }
    let (events, delay) = (plan.events.clone(), random.u64(plan.delay.0..=plan.delay.1));
    let stage = stage.clone();
    let seed = random.u64(..);
    machine.spawn("plug and play", move || {
        user::sleep(delay);
        let mut random = fastrand::Rng::with_seed(seed);
        for event in events {
            happens(&stage.adapter, event);
            user::sleep(random.u64(0..300));
            listed(&stage);
        }
        user::sleep(400);
        stage.over.set(true);
    });
}

fn happens(adapter: &Rc<Adapter>, event: Event) {
    let settled = |what: &str| {
        let watched = adapter.clone();
        user::wait_for(what, move || watched.is_settled());
    };
    match event {
        Event::Disable | Event::Unplug => {
            if event == Event::Disable {
                adapter.disable();
            } else {
                adapter.unplug();
            }
            settled("the stack to be torn down");
            adapter.enable();
        }
        Event::Restart => adapter.restart(),
        Event::Reset => adapter.reset(),
        Event::Mtu(mtu) => adapter.change_mtu(mtu),
        Event::Sleep => {
            adapter.sleep();
            settled("the stack to be paused");
            user::sleep(200);
            adapter.wake();
        }
        Event::Link => {
            adapter.link(false);
            settled("the link to be down");
            adapter.link(true);
        }
        Event::Nothing(microseconds) => user::sleep(microseconds),
    }
    settled("the stack to be there");
}

/// `STATUS_DEVICE_NOT_READY`.
const NOT_READY: u32 = 0xC000_00A3;

/// What the driver lists of the adapter is what the adapter is.
fn listed(stage: &Stage) {
    let Ok(device) = (Local { administrator: true }).open() else { return };
    let Ok(listed) = adapter::list(device.as_ref()) else { return };
    let (adapter, link) = (&stage.adapter, stage.adapter.link_state());
    let connected = link.connected == ndis_sys::MediaConnectStateConnected;
    let speed = if link.speed == ndis_sys::NDIS_LINK_SPEED_UNKNOWN { 0 } else { link.speed };
    for found in listed {
        if (found.connected, found.link_speed) != (connected, speed) {
            stage.ledger.fault(format!("the link is {link:?}, and listed as {found:?}"));
        }
        let unknown = found.mtu == 0 && (!adapter.answers_total_size.get() || !stage.strict);
        if found.mtu != adapter.mtu.get() && !unknown {
            stage.ledger.fault(format!("the MTU is {}, and listed as {}", adapter.mtu.get(), found.mtu));
        }
    }
}

/// When every client is gone, nothing is bound, waits or is outstanding, and every frame is accounted for.
fn at_rest(stage: &Stage) {
    let Ok(device) = (Local { administrator: true }).open() else { return };
    for found in adapter::list(device.as_ref()).unwrap_or_default() {
        if found.handles != 0 {
            stage.ledger.fault(format!("{} handles are bound when none is open", found.handles));
        }
        let Ok(counted) = adapter::statistics(device.as_ref(), &found) else { continue };
        let answered = counted.frames_sent + counted.frames_paused + counted.frames_failed;
        if counted.frames_submitted != answered || counted.frames_in_flight + counted.frames_waiting != 0 {
            stage.ledger.fault(format!("at rest a module's statistics do not match: {counted:?}"));
        }
    }
}

/// A client that sends a few batches, and now and then cancels, closes early, or dies.
fn sender(client: u8, random: &mut fastrand::Rng, stage: &Stage, plan: &Plan) {
    let ledger = &stage.ledger;
    let mut number = 0;
    for _ in 0..between(random, plan.handles) {
        let Some(device) = open_bound(stage) else { return };
        for _ in 0..between(random, plan.requests) {
            let depth = random.usize(1..=2);
            let mut batches = Vec::new();
            for _ in 0..depth {
                let count = if random.u8(..) < plan.large { 400 } else { between(random, plan.frames) };
                let frames = (0..count)
                    .map(|_| {
                        number += 1;
                        let mut frame = frame(client, number, random.usize(plan.lengths.0..=plan.lengths.1));
                        if plan.tagged {
                            tag(&mut frame);
                        }
                        frame
                    })
                    .collect();
                match send::start(device.as_ref(), frames) {
                    Ok(batch) => batches.push(batch),
                    Err(error) => ledger.fault(format!("a send was not taken: {error}")),
                }
            }
            if random.u8(..) < plan.cancels
                && let Some(batch) = batches.last()
                && let Err(error) = batch.cancel()
            {
                ledger.fault(format!("a cancel was not taken: {error}"));
            }
            if random.u8(..) < plan.dies {
                // The handle closes with requests out; what became of them is told all the same.
                drop(device);
                for batch in batches {
                    if let Ok((frames, answer)) = batch.wait() {
                        ledger.note(&frames, answer);
                    }
                }
                break;
            }
            let mut removed = false;
            for batch in batches {
                match batch.wait() {
                    Ok((frames, answer)) => removed |= !ledger.note(&frames, answer),
                    Err(Error::Removed) => removed = true,
                    // An MTU that has become smaller, or memory that ran out: the driver says so and takes nothing.
                    Err(Error::Input(_))
                        if plan.events.iter().any(|event| matches!(event, Event::Mtu(_))) => {}
                    // The MTU is not known: no restart told it, and the miniport does not answer.
                    Err(Error::Refused(NOT_READY)) if !stage.adapter.answers_total_size.get() => {}
                    Err(_) if !stage.strict => {}
                    Err(error) => ledger.fault(format!("a send failed: {error}")),
                }
            }
            if removed {
                break;
            }
        }
        if plan.rest != 0 {
            user::sleep(random.u64(0..plan.rest));
        }
    }
}

/// A client that sends what it should not, rewrites its memory while the driver has it, unmaps it, and dies.
fn troublemaker(number: u8, random: &mut fastrand::Rng, stage: &Stage) {
    for _ in 0..random.u32(1..4) {
        let Some(bound) = open_bound(stage) else { return };
        let Ok(handle) = user::Handle::open(WIN32_NAME, true) else { return };
        let frames: Vec<Vec<u8>> =
            (0..random.u32(1..8)).map(|index| frame(FOREIGN + number, index, 80)).collect();
        let header = SendHeader { abi_major: ABI_MAJOR, flags: 0, frame_count: frames.len() as u32 };
        let mut input = header.as_bytes().to_vec();
        let mut data = vec![0xFF; size_of::<FrameResult>() * frames.len()];
        for frame in &frames {
            input.extend_from_slice(&(frame.len() as u32).to_le_bytes());
            data.extend_from_slice(frame);
        }
        if random.bool() {
            // Nonsense: any code, any bytes, any lengths.
            let place = random.usize(..input.len());
            if let Some(byte) = input.get_mut(place) {
                *byte = random.u8(..);
            }
            input.truncate(random.usize(..=input.len()));
            data.truncate(random.usize(..=data.len()));
        }
        let code =
            if random.u8(..) < 200 { IOCTL_SEND } else { IOCTL_SEND & !0x3FFC | random.u32(..64) << 2 };
        let pending = handle.control(code, &input, data);
        for _ in 0..random.u32(0..4) {
            pending.rewrite(random.u64(0..16), &[random.u8(..)]);
            user::sleep(random.u64(0..20));
        }
        if random.bool() {
            pending.unmap();
        }
        if random.bool() {
            handle.die();
        } else {
            pending.wait();
            handle.close();
        }
        drop(bound);
    }
}
