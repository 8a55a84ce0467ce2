//! Scenarios: what happens on a machine, for a seed to decide when.
use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

use sluice_client::Error;
use sluice_client::adapter;
use sluice_client::device::{Device, Driver};
use sluice_client::send::{self, Answer, Outcome, Totals};
use sluice_machine::ndis::adapter::{Completes, Settings};
use sluice_machine::bugcheck::Bugcheck;
use sluice_machine::{Configuration, LoadError, Machine, Schedule, Verifier, user};

use crate::client::Local;

/// How a run ended.
#[derive(Debug)]
pub struct Outcomes {
    /// What the clients were told.
    pub totals: Totals,
    /// A number that tells the schedule.
    pub schedule: u64,
    /// What is wrong, if anything, that is no bugcheck: frames not accounted for, threads that hang.
    pub faults: Vec<String>,
}

/// Why a run stopped.
#[derive(Debug)]
pub enum Stop {
    /// The machine stopped.
    Bugcheck(Bugcheck),
    /// The driver could not be loaded.
    Load(String),
}

impl From<Bugcheck> for Stop {
    fn from(bugcheck: Bugcheck) -> Self {
        Self::Bugcheck(bugcheck)
    }
}

impl From<LoadError> for Stop {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Stopped(bugcheck) => Self::Bugcheck(bugcheck),
            other => Self::Load(other.to_string()),
        }
    }
}

/// A scenario by name.
pub type Scenario = fn(&Path, u64, bool) -> Result<Outcomes, Stop>;

/// Every scenario.
pub const SCENARIOS: [(&str, Scenario); 1] = [("lifecycle", lifecycle)];

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

/// Opens a handle and binds it to an adapter, waiting for the adapter to be there. Gives up when `over`.
pub fn open_bound(adapter: &str, over: &Cell<bool>) -> Option<Box<dyn Device>> {
    let driver = Local { administrator: true };
    while !over.get() {
        let device = driver.open().ok()?;
        let bound =
            adapter::find(device.as_ref(), adapter).and_then(|found| adapter::bind(device.as_ref(), &found));
        if let Ok(()) = bound {
            return Some(device);
        }
        drop(device);
        user::sleep(50);
    }
    None
}

/// Attach, restart, sends by two clients, disable or unplug at a random step, enable, detach, unload.
pub fn lifecycle(driver: &Path, seed: u64, contract_rules: bool) -> Result<Outcomes, Stop> {
    let mut random = fastrand::Rng::with_seed(seed ^ 0x5EED);
    let settings = |index: usize, random: &mut fastrand::Rng| Settings {
        name: format!("Adapter {index}"),
        completes: *random
            .choice(&[
                Completes::Inline,
                Completes::Late(0, 60),
                Completes::OutOfOrder(0, 150),
                Completes::Any,
            ])
            .unwrap_or(&Completes::Any),
        fails_every: random.bool().then_some(7),
        ..Settings::default()
    };
    let configuration = Configuration {
        processors: random.usize(1..=3),
        schedule: Schedule::random(seed),
        verifier: Verifier { contract: contract_rules, list_tracking: contract_rules, ..Verifier::default() },
        adapters: vec![settings(0, &mut random)],
        ..Configuration::default()
    };
    let machine = Machine::start(configuration).map_err(|error| Stop::Load(error.to_string()))?;
    machine.load_driver(driver)?;
    let adapter = machine.adapters().into_iter().next().ok_or_else(|| Stop::Load("no adapter".to_owned()))?;
    let ledger = Rc::new(Ledger::default());
    let over = Rc::new(Cell::new(false));
    let running = Rc::new(Cell::new(0));
    for client in 0..2u8 {
        let (ledger, over, running) = (ledger.clone(), over.clone(), running.clone());
        let mut random = fastrand::Rng::with_seed(random.u64(..));
        running.set(running.get() + 1);
        machine.spawn(&format!("client {client}"), move || {
            sender(client, &mut random, &ledger, &over);
            running.set(running.get() - 1);
        });
    }
    if random.bool() {
        let (adapter, over, running) = (adapter.clone(), over.clone(), running.clone());
        let mut random = fastrand::Rng::with_seed(random.u64(..));
        running.set(running.get() + 1);
        machine.spawn("host traffic", move || {
            for number in 0..random.u32(2..12) {
                adapter.host_send(&frame(0xFF, number, 60));
                user::sleep(random.u64(0..60));
                if over.get() {
                    break;
                }
            }
            running.set(running.get() - 1);
        });
    }
    let (pnp, unplug, delay) = (adapter.clone(), random.bool(), random.u64(0..900));
    let settled = over.clone();
    machine.spawn("plug and play", move || {
        user::sleep(delay);
        if unplug {
            pnp.unplug();
        } else {
            pnp.disable();
        }
        let watched = pnp.clone();
        user::wait_for("the stack to be torn down", move || watched.is_settled());
        pnp.enable();
        let watched = pnp.clone();
        user::wait_for("the stack to be there", move || watched.is_settled());
        user::sleep(400);
        settled.set(true);
    });
    machine.run_until_idle()?;
    let mut faults: Vec<String> = machine.waiting_threads();
    if running.get() == 0 {
        machine.unload_driver()?;
        faults.extend(machine.waiting_threads());
    }
    let mut on_wire: Vec<Vec<u8>> =
        adapter.wire().into_iter().filter(|frame| frame.get(14) != Some(&0xFF)).collect();
    let mut reported = ledger.sent.borrow().clone();
    on_wire.sort();
    reported.sort();
    if on_wire != reported {
        faults.push(format!(
            "{} frames are on the wire, clients were told of {}",
            on_wire.len(),
            reported.len()
        ));
    }
    faults.extend(ledger.faults.borrow().iter().cloned());
    let totals = ledger.totals.get();
    if totals.submitted != totals.sent + totals.paused + totals.failed {
        faults.push(format!("the sums do not match: {totals:?}"));
    }
    Ok(Outcomes { totals, schedule: machine.schedule_hash(), faults })
}

/// A client that sends a few batches, and now and then cancels, closes early, or dies.
fn sender(client: u8, random: &mut fastrand::Rng, ledger: &Ledger, over: &Cell<bool>) {
    let mut number = 0;
    for _ in 0..random.u32(1..4) {
        let Some(device) = open_bound("Adapter 0", over) else { return };
        for _ in 0..random.u32(1..5) {
            let depth = random.usize(1..4);
            let mut batches = Vec::new();
            for _ in 0..depth {
                let count = if random.u8(..) < 20 { 400 } else { random.u32(1..40) };
                let frames = (0..count)
                    .map(|_| {
                        number += 1;
                        frame(client, number, random.usize(20..200))
                    })
                    .collect();
                match send::start(device.as_ref(), frames) {
                    Ok(batch) => batches.push(batch),
                    Err(error) => ledger.fault(format!("a send was not taken: {error}")),
                }
            }
            if random.u8(..) < 40
                && let Some(batch) = batches.last()
                && let Err(error) = batch.cancel()
            {
                ledger.fault(format!("a cancel was not taken: {error}"));
            }
            let mut removed = false;
            for batch in batches {
                match batch.wait() {
                    Ok((frames, answer)) => removed |= !ledger.note(&frames, answer),
                    Err(Error::Removed) => removed = true,
                    Err(error) => ledger.fault(format!("a send failed: {error}")),
                }
            }
            if removed {
                break;
            }
        }
        drop(device);
    }
}
