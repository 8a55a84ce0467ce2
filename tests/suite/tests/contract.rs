//! What real NDIS and a real I/O manager do that the driver once did not expect.
#![expect(clippy::indexing_slicing, reason = "a test that finds nothing there has failed")]
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use sluice_abi::{ABI_MAJOR, IOCTL_BIND, IOCTL_SEND, WIN32_NAME};
use sluice_client::Error;
use sluice_client::adapter::{self, Adapter as Listed};
use sluice_client::device::Device;
use sluice_client::send::{self as sending, Outcome};
use sluice_machine::ndis::adapter::{Adapter, Attributed, Completes, Link, Settings};
use sluice_machine::{Configuration, Session, user};
use sluice_suite::bench::{self, Bench, adapter_that, bound, open};
use sluice_suite::scenario::{frame, tag};

const LATE: Completes = Completes::Late(50, 100);
/// `STATUS_DEVICE_NOT_READY`, `STATUS_OBJECT_NAME_INVALID`, `STATUS_NO_SUCH_DEVICE`, `STATUS_INVALID_BUFFER_SIZE`.
const NOT_READY: u32 = 0xC000_00A3;
const NAME_INVALID: i32 = 0xC000_0033_u32 as i32;
const NO_SUCH_DEVICE: i32 = 0xC000_000E_u32 as i32;
const INVALID_BUFFER_SIZE: i32 = 0xC000_0206_u32 as i32;

fn with(change: impl FnOnce(&mut Settings)) -> Configuration {
    let mut configuration = adapter_that(LATE);
    change(&mut configuration.adapters[0]);
    configuration
}

fn settled(adapter: &Rc<Adapter>) {
    let watched = adapter.clone();
    user::wait_for("the adapter", move || watched.is_settled());
}

fn listed() -> Listed {
    bench::adapter(open().as_ref(), 0)
}

/// A frame with a tag of a kind in front of its type.
fn tagged(kind: [u8; 2], length: usize) -> Vec<u8> {
    let mut frame = frame(1, 1, length);
    frame[12..14].copy_from_slice(&kind);
    frame
}

#[test]
fn only_a_frame_with_a_tag_is_longer_than_header_and_mtu() {
    let bench = Bench::new(adapter_that(LATE));
    let wire = bench.machine.adapters()[0].clone();
    bench.run(move || {
        let device = bound();
        let send = |frame: Vec<u8>| bench::send(device.as_ref(), vec![frame]);
        assert_eq!(send(frame(1, 1, 1514)).unwrap(), [Outcome::Sent]);
        for length in 1515..=1519 {
            assert!(matches!(send(frame(1, 1, length)), Err(Error::Input(_))), "{length} bytes");
        }
        for kind in [[0x81, 0x00], [0x88, 0xA8]] {
            assert_eq!(send(tagged(kind, 1518)).unwrap(), [Outcome::Sent]);
            assert!(matches!(send(tagged(kind, 1519)), Err(Error::Input(_))));
        }
        assert!(matches!(send(tagged([0x91, 0x00], 1515)), Err(Error::Input(_))), "no tag of IEEE 802.1Q");
        // One of them refuses all: nothing of the request is sent.
        let found = bench::adapter(device.as_ref(), 0);
        let counted = || adapter::statistics(device.as_ref(), &found).unwrap();
        let (before, statistics) = (wire.wire().len(), counted());
        assert_eq!(
            (statistics.frames_submitted, statistics.requests),
            (3, 3),
            "what was refused is not counted"
        );
        let mixed = vec![frame(1, 2, 60), frame(1, 3, 1516), tagged([0x81, 0x00], 1518)];
        assert!(matches!(bench::send(device.as_ref(), mixed), Err(Error::Input(_))));
        user::sleep(1_000);
        assert_eq!(wire.wire().len(), before);
        assert_eq!(counted(), statistics);
    });
    bench.finish();
}

#[test]
fn a_tag_is_looked_for_in_the_frame_that_is_sent() {
    let bench = Bench::new(adapter_that(Completes::Late(20_000, 30_000)));
    bench.run(|| {
        let device = bound();
        let handle = user::Handle::open(WIN32_NAME, true).unwrap();
        let mut bind = vec![ABI_MAJOR as u8, 0, 0, 0, 0, 0, 0, 0];
        bind.extend_from_slice(&bench::adapter(device.as_ref(), 0).id);
        assert_eq!(handle.control(IOCTL_BIND, &bind, Vec::new()).wait().status, 0);
        // All slots are taken, so that the next request waits.
        let batches: Vec<_> = (0..3)
            .map(|number| sending::start(device.as_ref(), vec![frame(number, 1, 100); 400]).unwrap())
            .collect();
        let mut input = vec![ABI_MAJOR as u8, 0, 0, 0, 1, 0, 0, 0];
        input.extend_from_slice(&1518u32.to_le_bytes());
        let data = [vec![0; 4], tagged([0x81, 0x00], 1518)].concat();
        let waiting = handle.control(IOCTL_SEND, &input, data);
        assert!(waiting.rewrite(4 + 12, &[0x88, 0xB5]), "the request waits");
        assert_eq!(waiting.wait().status, INVALID_BUFFER_SIZE);
        for batch in batches {
            batch.wait().unwrap();
        }
        handle.close();
    });
    bench.finish();
}

#[test]
fn a_name_below_the_device_is_refused_to_every_caller() {
    let bench = Bench::new(adapter_that(LATE));
    bench.run(|| {
        for administrator in [false, true] {
            for below in ["\\x", "\\", "\\x\\y"] {
                let name = format!("{WIN32_NAME}{below}");
                let refused = user::Handle::open(&name, administrator).map(user::Handle::close);
                assert_eq!(refused, Err(NAME_INVALID), "{name}");
            }
        }
        assert!(user::Handle::open(WIN32_NAME, true).map(user::Handle::close).is_ok());
    });
    bench.finish();
}

#[test]
fn a_driver_that_is_being_stopped_is_not_opened_again() {
    let bench = Bench::new(adapter_that(LATE));
    bench.run(|| {
        let kept = user::Handle::open(WIN32_NAME, true).unwrap();
        user::unload("sluice");
        user::sleep(100);
        let refused = user::Handle::open(WIN32_NAME, true).map(user::Handle::close);
        assert_eq!(refused, Err(NO_SUCH_DEVICE));
        kept.close();
    });
    assert_eq!(bench.machine.waiting_threads(), Vec::<String>::new(), "the driver is unloaded");
    assert!(bench.machine.adapters()[0].module_states().is_empty());
}

#[test]
fn frames_that_meet_a_device_without_power_are_told_as_paused() {
    let bench = Bench::new(adapter_that(Completes::Late(500, 900)));
    let adapter = bench.machine.adapters()[0].clone();
    bench.run(move || {
        let device = bound();
        let sleeping = adapter.clone();
        adapter.when_in_flight(8, move || sleeping.power_down());
        let outcomes = bench::send(device.as_ref(), vec![frame(1, 1, 100); 8]).unwrap();
        assert_eq!(outcomes, [Outcome::Paused; 8], "what the device had");
        settled(&adapter);
        let outcomes = bench::send(device.as_ref(), vec![frame(1, 1, 100); 2]).unwrap();
        assert_eq!(outcomes, [Outcome::Paused; 2], "what it was given afterwards");
        let found = bench::adapter(device.as_ref(), 0);
        let statistics = adapter::statistics(device.as_ref(), &found).unwrap();
        assert_eq!((statistics.frames_paused, statistics.frames_failed), (10, 0));
        adapter.wake();
        settled(&adapter);
        assert_eq!(bench::send(device.as_ref(), vec![frame(1, 1, 100)]).unwrap(), [Outcome::Sent]);
    });
    bench.finish();
}

#[test]
fn a_list_shows_the_link_as_it_is() {
    for first in [Link::UP, Link::DOWN, Link::UNKNOWN] {
        let bench = Bench::new(with(|settings| settings.link = first));
        let adapter = bench.machine.adapters()[0].clone();
        bench.run(move || {
            let shown = || (listed().connected, listed().link_speed);
            let (up, down) = ((true, 1_000_000_000), (false, 0));
            assert_eq!(shown(), if first == Link::UP { up } else { down }, "attached as {first:?}");
            for connected in [true, false, true] {
                adapter.link(connected);
                settled(&adapter);
                assert_eq!(shown(), if connected { up } else { down });
            }
            // What is too short to be a link's state is none.
            let mut short = vec![0x80, 1, 8, 0];
            short.extend_from_slice(&2u32.to_le_bytes());
            adapter.indicate_status(ndis_sys::NDIS_STATUS_LINK_STATE, short);
            adapter.indicate_status(ndis_sys::NDIS_STATUS_LINK_STATE, Vec::new());
            settled(&adapter);
            assert_eq!(shown(), up);
        });
        bench.finish();
    }
}

#[test]
fn where_a_restart_brings_no_attributes_the_drivers_below_are_asked() {
    for attributes in [Attributed::First, Attributed::Never] {
        let bench = Bench::new(with(|settings| {
            settings.attributes = attributes;
            settings.mtu = 4000;
        }));
        let adapter = bench.machine.adapters()[0].clone();
        bench.run(move || {
            let device = bound();
            for mtu in [4000, 1000, 9000] {
                adapter.change_mtu(mtu);
                settled(&adapter);
                assert_eq!(listed().mtu, mtu, "{attributes:?}");
                let longest = mtu as usize + 14;
                let mut tagged = frame(1, 1, longest + 4);
                tag(&mut tagged);
                let both = vec![frame(1, 1, longest), tagged];
                assert_eq!(bench::send(device.as_ref(), both).unwrap(), [Outcome::Sent; 2]);
                let long = vec![frame(1, 1, longest + 1)];
                assert!(matches!(bench::send(device.as_ref(), long), Err(Error::Input(_))));
            }
        });
        bench.finish();
    }
}

fn restarted(adapter: &Rc<Adapter>) {
    adapter.restart();
    settled(adapter);
}

#[test]
fn a_module_without_an_mtu_says_so_and_sends_nothing() {
    let mut configuration = with(|settings| settings.attributes = Attributed::Never);
    configuration.etw = Some(Session { level: 5, keywords: 1, print: false });
    let bench = Bench::new(configuration);
    let adapter = bench.machine.adapters()[0].clone();
    let device: Rc<RefCell<Option<Box<dyn Device>>>> = Rc::default();
    let kept = device.clone();
    bench.run(move || {
        adapter.answers_total_size.set(false);
        let refused = adapter::bind(open().as_ref(), &listed());
        assert!(matches!(refused, Err(Error::Refused(NOT_READY))), "{refused:?}");
        assert_eq!(listed().mtu, 0);
        // It is known from the next restart on, for as long as every restart has it.
        adapter.answers_total_size.set(true);
        let device = bound();
        assert_eq!(listed().mtu, 1500);
        assert_eq!(bench::send(device.as_ref(), vec![frame(1, 1, 1514)]).unwrap(), [Outcome::Sent]);
        adapter.answers_total_size.set(false);
        restarted(&adapter);
        let refused = bench::send(device.as_ref(), vec![frame(1, 1, 60)]);
        assert!(matches!(refused, Err(Error::Refused(NOT_READY))), "{refused:?}");
        adapter.answers_total_size.set(true);
        restarted(&adapter);
        assert_eq!(bench::send(device.as_ref(), vec![frame(1, 1, 60)]).unwrap(), [Outcome::Sent]);
        kept.replace(Some(device));
    });
    if let Some(device) = device.borrow_mut().take() {
        bench.run(move || drop(device));
    }
    let events = bench.machine.events();
    assert!(events.iter().any(|event| event.name == "MtuUnknown"), "{events:#?}");
    bench.finish();
}

#[test]
fn an_oid_request_from_above_waits_while_the_module_asks_its_own() {
    let bench = Bench::new(with(|settings| {
        settings.attributes = Attributed::Never;
        settings.oids = sluice_machine::ndis::adapter::Oids::Late;
    }));
    let adapter = bench.machine.adapters()[0].clone();
    let (asked, cancelled) = bench.run(move || {
        let host = adapter.clone();
        adapter.restart();
        let (mut asked, mut cancelled) = (0, 0);
        for _ in 0..200 {
            let how = if asked % 2 == 0 {
                sluice_machine::ndis::oid::Ask::Query
            } else {
                sluice_machine::ndis::oid::Ask::QueryCancelled
            };
            let (status, value) = host.ask_oid(ndis_sys::OID_GEN_CURRENT_PACKET_FILTER, how);
            if status == 0 {
                assert_eq!(value, 0x2B);
            } else {
                assert_eq!(status, ndis_sys::NDIS_STATUS_REQUEST_ABORTED);
                cancelled += 1;
            }
            asked += 1;
            if host.is_settled() {
                host.restart();
            }
        }
        settled(&adapter);
        (asked, cancelled)
    });
    assert_eq!(asked, 200);
    assert!(cancelled > 0);
    bench.finish();
}

#[test]
fn one_prefix_serves_the_cancel_ids_of_every_adapter() {
    let configuration = Configuration {
        adapters: vec![Settings { completes: LATE, ..Settings::default() }; 2],
        etw: Some(Session { level: 5, keywords: 2, print: false }),
        ..Configuration::default()
    };
    let bench = Bench::new(configuration);
    bench.run(|| {
        for number in [0, 1, 0, 1] {
            let device = open();
            adapter::bind(device.as_ref(), &bench::adapter(device.as_ref(), number)).unwrap();
            assert_eq!(bench::send(device.as_ref(), vec![frame(1, 1, 60)]).unwrap(), [Outcome::Sent]);
        }
    });
    let ids: BTreeSet<u64> = bench
        .machine
        .events()
        .iter()
        .filter(|event| event.name == "BatchStarted")
        .filter_map(|event| event.fields.iter().find(|(name, _)| name == "Batch"))
        .map(|(_, id)| u64::from_str_radix(id.trim_start_matches("0x"), 16).unwrap())
        .collect();
    assert_eq!(ids.len(), 4, "no id twice: {ids:x?}");
    let prefixes: BTreeSet<u64> = ids.iter().map(|id| id >> 56).collect();
    assert_eq!(prefixes, BTreeSet::from([1]), "the first that NDIS gives: {ids:x?}");
    bench.finish();
}

/// From `NdisFRestartComplete` on the module runs for NDIS, whatever the driver has yet to do.
#[test]
fn the_hosts_lists_pass_as_soon_as_ndis_knows_that_the_module_runs() {
    let bench = Bench::new(adapter_that(LATE));
    let adapter = bench.machine.adapters()[0].clone();
    let (go, held) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
    let (until, reached) = (go.clone(), held.clone());
    bench.machine.hold_after("worker", "NdisFRestartComplete", move || {
        reached.set(true);
        until.get()
    });
    let (host, sent) = (adapter.clone(), Rc::new(Cell::new(false)));
    let done = sent.clone();
    bench.machine.spawn("host", move || {
        user::wait_for("the restart to be told", move || held.get());
        user::sleep(100);
        for number in 0..10 {
            host.host_send(&frame(0xFF, number, 60));
        }
        user::sleep(500);
        done.set(true);
        go.set(true);
    });
    bench.run(move || {
        let device = bound();
        assert!(sent.get(), "the worker was held back");
        assert_eq!(bench::send(device.as_ref(), vec![frame(1, 1, 60)]).unwrap(), [Outcome::Sent]);
    });
    let counters = adapter.counters();
    assert_eq!((counters.host_sent, counters.host_completed, counters.host_paused), (10, 10, 0));
    assert_eq!(adapter.wire().len(), 11);
    bench.finish();
}

/// NDIS gives a module no OID request before `FilterAttach` has returned, nor once `FilterDetach` is called.
#[test]
fn the_hosts_oid_requests_wait_while_modules_are_attached_and_detached() {
    let bench = Bench::new(with(|settings| settings.oids = sluice_machine::ndis::adapter::Oids::Any));
    let adapter = bench.machine.adapters()[0].clone();
    let over = Rc::new(Cell::new(false));
    for number in 0..2 {
        let (host, over) = (adapter.clone(), over.clone());
        bench.machine.spawn(&format!("host {number}"), move || {
            while !over.get() {
                host.ask_oid(ndis_sys::OID_GEN_CURRENT_PACKET_FILTER, sluice_machine::ndis::oid::Ask::Query);
                user::sleep(1);
            }
        });
    }
    bench.run(move || {
        for _ in 0..200 {
            adapter.disable();
            settled(&adapter);
            adapter.enable();
            settled(&adapter);
        }
        over.set(true);
    });
    bench.finish();
}
