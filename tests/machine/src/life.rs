//! A life of any filter driver: loaded, attached, with traffic both ways and requests, restarted, disabled, unplugged,
//! asleep, and unloaded.
use std::path::Path;
use std::rc::Rc;

use anyhow::Result;

use crate::bugcheck::Bugcheck;
use crate::ndis::adapter::{Adapter, Attributed, Completes, Link, Oids, Settings};
use crate::ndis::oid::Ask;
use crate::sched::Schedule;
use crate::verifier::Verifier;
use crate::{Configuration, LoadError, Machine, user};

/// `OID_GEN_CURRENT_PACKET_FILTER`.
const PACKET_FILTER: u32 = ndis_sys::OID_GEN_CURRENT_PACKET_FILTER;

/// Lives one life of a driver; the bugcheck that ended it, if one did.
pub fn live(
    driver: &Path,
    schedule: &Schedule,
    verifier: &Verifier,
    record: bool,
) -> Result<Result<(), Bugcheck>> {
    let mut random = fastrand::Rng::with_seed(schedule.seed ^ 0x11FE);
    let settings = Settings {
        completes: Completes::Any,
        oids: Oids::Any,
        resources: random.u8(0..60),
        touches_start: random.bool(),
        fails_every: random.bool().then_some(9),
        attributes: *random
            .choice(&[Attributed::Always, Attributed::First, Attributed::Any])
            .unwrap_or(&Attributed::Any),
        link: *random.choice(&[Link::UP, Link::DOWN, Link::UNKNOWN]).unwrap_or(&Link::UP),
        ..Settings::default()
    };
    let configuration = Configuration {
        processors: random.usize(1..=3),
        schedule: schedule.clone(),
        verifier: verifier.clone(),
        record,
        adapters: vec![settings],
        ..Configuration::default()
    };
    let machine = Machine::start(configuration)?;
    match machine.load_driver(driver) {
        Ok(()) => {}
        Err(LoadError::Stopped(bugcheck)) => return Ok(Err(bugcheck)),
        Err(error) => return Err(error.into()),
    }
    let Some(adapter) = machine.adapters().into_iter().next() else { return Ok(Ok(())) };
    let (host, wire, asker) = (adapter.clone(), adapter.clone(), adapter.clone());
    let counts = [random.u32(0..20), random.u32(0..20), random.u32(0..5)];
    machine.spawn("host", move || {
        for _ in 0..counts[0] {
            host.host_send(&[0x55; 60]);
            user::sleep(40);
        }
    });
    machine.spawn("wire", move || {
        for _ in 0..counts[1] {
            wire.receive(vec![vec![0x66; 60]; 3]);
            user::sleep(40);
        }
    });
    machine.spawn("OID requests", move || {
        for how in
            [Ask::Query, Ask::Set(1), Ask::QueryCancelled, Ask::Direct].into_iter().take(counts[2] as usize)
        {
            asker.ask_oid(PACKET_FILTER, how);
        }
    });
    let service = driver.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let delay = random.u64(0..600);
    machine.spawn("plug and play", move || {
        user::sleep(delay);
        for change in 0..4 {
            happens(&adapter, (random.u32(..6) + change) % 6);
            user::sleep(random.u64(0..300));
        }
        // What the driver does by itself goes on until it is unloaded.
        user::unload(&service);
    });
    Ok(machine.run_until_idle())
}

fn happens(adapter: &Rc<Adapter>, what: u32) {
    let settled = || {
        let watched = adapter.clone();
        user::wait_for("the stack", move || watched.is_settled());
    };
    match what {
        0 => adapter.restart(),
        1 => adapter.disable(),
        2 => adapter.unplug(),
        3 => adapter.sleep(),
        4 => adapter.link(false),
        _ => adapter.reset(),
    }
    settled();
    adapter.link(true);
    adapter.enable();
    adapter.wake();
    settled();
}
