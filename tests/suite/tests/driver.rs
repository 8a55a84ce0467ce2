//! The shipped driver on the simulated machine, one promise at a time.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that finds nothing there has failed"
)]
use std::cell::Cell;
use std::rc::Rc;

use sluice_abi::{IOCTL_BIND, IOCTL_LIST, IOCTL_SEND, IOCTL_STATISTICS, IOCTL_VERSION};
use sluice_client::Error;
use sluice_client::adapter;
use sluice_client::device::Driver;
use sluice_client::send::{self as sending, Answer, Outcome};
use sluice_machine::ndis::adapter::{Completes, Settings, State};
use sluice_machine::{Configuration, LoadError, LowResources, Machine, Schedule, system, user};
use sluice_suite::bench::{self, Bench, adapter_that, bound, open};
use sluice_suite::client::Local;
use sluice_suite::explore::{Plan, explore};
use sluice_suite::image::{self, Build};
use sluice_suite::scenario::{frame, tag};

const LATE: Completes = Completes::Late(50, 100);

fn frames(client: u8, count: u32) -> Vec<Vec<u8>> {
    (0..count).map(|number| frame(client, number, 60 + number as usize % 1400)).collect()
}

/// A frame with a VLAN tag.
fn tagged(length: usize) -> Vec<u8> {
    let mut frame = frame(1, 1, length);
    tag(&mut frame);
    frame
}

fn sorted(mut frames: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    frames.sort();
    frames
}

#[test]
fn frames_reach_the_wire_byte_for_byte() {
    for completes in [Completes::Inline, LATE, Completes::OutOfOrder(0, 300), Completes::Any] {
        let bench = Bench::new(adapter_that(completes));
        let sent = frames(1, 300);
        let given = sent.clone();
        let outcomes = bench.run(move || bench::send(bound().as_ref(), given)).unwrap();
        assert_eq!(outcomes, vec![Outcome::Sent; 300]);
        let adapter = &bench.machine.adapters()[0];
        assert!(sorted(adapter.wire()) == sorted(sent), "{completes:?}");
        bench.finish();
    }
}

#[test]
fn an_adapter_that_completes_in_order_sends_in_order() {
    let bench = Bench::new(adapter_that(LATE));
    let sent = frames(1, 512);
    let given = sent.clone();
    bench.run(move || bench::send(bound().as_ref(), given)).unwrap();
    assert!(bench.machine.adapters()[0].wire() == sent, "frames overtook each other");
    bench.finish();
}

#[test]
fn each_frame_has_its_own_outcome() {
    let mut configuration = adapter_that(LATE);
    configuration.adapters[0].fails_every = Some(3);
    let bench = Bench::new(configuration);
    let outcomes = bench.run(|| bench::send(bound().as_ref(), frames(1, 9))).unwrap();
    let failed = Outcome::Failed(0xC000_0001);
    let sent = Outcome::Sent;
    assert_eq!(outcomes, [sent, sent, failed, sent, sent, failed, sent, sent, failed]);
    bench.finish();
}

#[test]
fn a_pause_with_nothing_in_flight_completes_at_once() {
    let bench = Bench::new(adapter_that(LATE));
    let adapter = bench.machine.adapters()[0].clone();
    let pausing = adapter.clone();
    bench.run(move || {
        let device = bound();
        bench::send(device.as_ref(), frames(1, 1)).unwrap();
        pausing.restart();
        let watched = pausing.clone();
        user::wait_for("the restart", move || watched.is_settled());
        assert_eq!(bench::send(device.as_ref(), frames(1, 1)).unwrap(), [Outcome::Sent]);
    });
    assert_eq!(adapter.pauses().last().unwrap().in_flight, 0);
    bench.finish();
}

/// Sends `count` frames and restarts the stack as soon as all are in flight.
fn pause_with_in_flight(count: u32) {
    let bench = Bench::new(adapter_that(Completes::Late(500, 900)));
    let adapter = bench.machine.adapters()[0].clone();
    let pausing = adapter.clone();
    let outcomes = bench.run(move || {
        let device = bound();
        let begun = pausing.pauses().len();
        let restarted = pausing.clone();
        pausing.when_in_flight(u64::from(count), move || restarted.restart());
        let outcomes = bench::send(device.as_ref(), frames(1, count)).unwrap();
        let watched = pausing.clone();
        user::wait_for("the restart", move || watched.pauses().len() > begun && watched.is_settled());
        // The gate opens again.
        assert_eq!(bench::send(device.as_ref(), frames(2, 1)).unwrap(), [Outcome::Sent]);
        outcomes
    });
    assert_eq!(outcomes, vec![Outcome::Sent; count as usize]);
    let pause = adapter.pauses().into_iter().find(|pause| pause.in_flight != 0).unwrap();
    assert_eq!(pause.in_flight, u64::from(count));
    assert!(pause.microseconds >= 100, "the pause waits for the frames: {pause:?}");
    bench.finish();
}

#[test]
fn a_pause_waits_for_one_frame_in_flight() {
    pause_with_in_flight(1);
}

#[test]
fn a_pause_waits_for_many_frames_in_flight() {
    pause_with_in_flight(512);
}

#[test]
fn a_send_while_pausing_is_refused_frame_by_frame() {
    let bench = Bench::new(adapter_that(Completes::Late(900, 900)));
    let adapter = bench.machine.adapters()[0].clone();
    let outcomes = bench.run(move || {
        let device = bound();
        let restarted = adapter.clone();
        adapter.when_in_flight(1, move || restarted.restart());
        let first = sending::start(device.as_ref(), frames(1, 1)).unwrap();
        user::sleep(300);
        let refused = bench::send(device.as_ref(), frames(2, 3)).unwrap();
        let (_, first) = first.wait().unwrap();
        assert!(matches!(first, Answer::Frames(outcomes) if outcomes == [Outcome::Sent]));
        refused
    });
    assert_eq!(outcomes, [Outcome::Paused; 3]);
    bench.finish();
}

#[test]
fn a_handle_of_a_detached_module_is_stale_and_says_so() {
    let bench = Bench::new(adapter_that(LATE));
    let adapter = bench.machine.adapters()[0].clone();
    let disabled = adapter.clone();
    bench.run(move || {
        let device = bound();
        disabled.disable();
        let watched = disabled.clone();
        user::wait_for("the adapter to go", move || {
            watched.state() == State::Disabled && watched.is_settled()
        });
        assert!(matches!(bench::send(device.as_ref(), frames(1, 2)), Err(Error::Removed)));
        assert!(adapter::list(device.as_ref()).unwrap().is_empty());
        // Statistics of what was can still be read through the handle.
        let answer = device.control(IOCTL_STATISTICS, Vec::new(), vec![0; 128]).unwrap();
        assert!(!answer.is_empty());
        disabled.enable();
        let watched = disabled.clone();
        user::wait_for("the adapter to come back", move || {
            watched.state() == State::Running && watched.is_settled()
        });
        assert!(matches!(bench::send(device.as_ref(), frames(1, 2)), Err(Error::Removed)), "stale for ever");
        assert_eq!(bench::send(bound().as_ref(), frames(1, 1)).unwrap(), [Outcome::Sent]);
    });
    assert!(adapter.is_settled());
    bench.finish();
}

#[test]
fn disabling_during_the_largest_request_loses_nothing() {
    for seed in 1..=40 {
        let mut configuration = adapter_that(Completes::OutOfOrder(0, 400));
        configuration.schedule = Schedule::random(seed);
        let bench = Bench::new(configuration);
        let adapter = bench.machine.adapters()[0].clone();
        let disabled = adapter.clone();
        let outcomes = bench.run(move || {
            let device = bound();
            let at = 1 + seed * 12 % 512;
            let going = disabled.clone();
            disabled.when_in_flight(at, move || going.disable());
            bench::send(device.as_ref(), frames(1, 512)).unwrap()
        });
        assert_eq!(outcomes.len(), 512);
        let sent = outcomes.iter().filter(|outcome| **outcome == Outcome::Sent).count();
        assert_eq!(adapter.wire().len(), sent);
        bench.finish();
    }
}

#[test]
fn two_handles_share_an_adapter() {
    let bench = Bench::new(adapter_that(Completes::Any));
    let both: Vec<_> = (1..=2)
        .map(|client| {
            bench.client(move || {
                let device = bound();
                let all = (0..20).flat_map(|_| bench::send(device.as_ref(), frames(client, 100)).unwrap());
                all.collect::<Vec<_>>()
            })
        })
        .collect();
    bench.settle();
    let mut sent = 0;
    for client in both {
        let outcomes = client.borrow_mut().take().unwrap();
        assert_eq!(outcomes.len(), 2000);
        // The other's bind may restart the stack, which refuses frames while it does.
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Sent | Outcome::Paused)));
        sent += outcomes.iter().filter(|outcome| **outcome == Outcome::Sent).count();
    }
    assert!(sent >= 2000, "{sent}");
    assert_eq!(bench.machine.adapters()[0].wire().len(), sent);
    bench.finish();
}

#[test]
fn requests_that_find_no_slots_wait_their_turn() {
    let bench = Bench::new(adapter_that(Completes::Late(200, 400)));
    let adapter = bench.machine.adapters()[0].clone();
    bench.run(|| {
        let device = bound();
        let batches: Vec<_> =
            (0..8).map(|number| sending::start(device.as_ref(), frames(number, 400)).unwrap()).collect();
        for batch in batches {
            let (_, answer) = batch.wait().unwrap();
            assert!(matches!(answer, Answer::Frames(outcomes) if outcomes == vec![Outcome::Sent; 400]));
        }
    });
    let order: Vec<u8> = adapter.wire().iter().map(|frame| frame[14]).collect();
    assert!(order.is_sorted(), "requests are served in the order in which they came");
    bench.finish();
}

#[test]
fn a_handle_that_is_closed_with_frames_in_flight_waits_for_them() {
    let bench = Bench::new(adapter_that(Completes::Late(300, 600)));
    let adapter = bench.machine.adapters()[0].clone();
    bench.run(|| {
        let device = bound();
        let batches: Vec<_> =
            (0..6).map(|number| sending::start(device.as_ref(), frames(number, 300)).unwrap()).collect();
        drop(device);
        let mut answered = 0;
        for batch in batches {
            if let (_, Answer::Frames(outcomes)) = batch.wait().unwrap() {
                answered += outcomes.len();
            }
        }
        assert_eq!(answered, 1800, "each frame of a closed handle has its outcome");
    });
    assert_eq!(adapter.in_flight(), 0);
    bench.finish();
}

#[test]
fn a_program_that_dies_leaves_nothing_behind() {
    let bench = Bench::new(adapter_that(Completes::Late(300, 600)));
    bench.run(|| {
        let handle = user::Handle::open(sluice_abi::WIN32_NAME, true).unwrap();
        let device = open();
        let found = bench::adapter(device.as_ref(), 0);
        let mut bind = vec![1, 0, 0, 0, 0, 0, 0, 0];
        bind.extend_from_slice(&found.id);
        assert_eq!(handle.control(IOCTL_BIND, &bind, Vec::new()).wait().status, 0);
        let mut input = vec![1, 0, 0, 0, 1, 0, 0, 0];
        input.extend_from_slice(&60u32.to_le_bytes());
        let data = [vec![0; 4], frame(1, 1, 60)].concat();
        let pending: Vec<_> = (0..5).map(|_| handle.control(IOCTL_SEND, &input, data.clone())).collect();
        handle.die();
        for request in pending {
            request.wait();
        }
    });
    bench.finish();
}

#[test]
fn cancelling_gives_back_what_was_not_sent() {
    for seed in 1..=60 {
        let mut configuration = adapter_that(Completes::Late(200, 800));
        configuration.schedule = Schedule::random(seed);
        let bench = Bench::new(configuration);
        let adapter = bench.machine.adapters()[0].clone();
        let (sent, aborted) = bench.run(move || {
            let device = bound();
            let batches: Vec<_> =
                (0..6).map(|number| sending::start(device.as_ref(), frames(number, 300)).unwrap()).collect();
            user::sleep(seed * 17 % 600);
            batches[1].cancel().unwrap();
            batches[5].cancel().unwrap();
            let (mut sent, mut aborted) = (0, 0);
            for batch in batches {
                let (_, Answer::Frames(outcomes)) = batch.wait().unwrap() else {
                    panic!("nobody was removed")
                };
                assert_eq!(outcomes.len(), 300);
                sent += outcomes.iter().filter(|outcome| **outcome == Outcome::Sent).count();
                aborted +=
                    outcomes.iter().filter(|outcome| **outcome == Outcome::Failed(0xC023_000C)).count();
            }
            (sent, aborted)
        });
        assert_eq!(sent + aborted, 1800);
        assert_eq!(adapter.wire().len(), sent);
        bench.finish();
    }
}

#[test]
fn a_bound_handle_costs_no_pool_and_no_lock_per_frame() {
    for completes in [LATE, Completes::Inline, Completes::OutOfOrder(10, 200)] {
        let bench = Bench::with(adapter_that(completes), Build::Release);
        let counts = Rc::new(Cell::new((0, 0)));
        let result = counts.clone();
        let measured = bench.machine.counts();
        let before = Rc::new(Cell::new((0, 0)));
        let start = before.clone();
        bench.run(move || {
            let device = bound();
            let frame = frame(1, 1, 1514);
            bench::send(device.as_ref(), vec![frame.clone(); 512]).unwrap();
            start.set(count());
            for _ in 0..20 {
                let outcomes = bench::send(device.as_ref(), vec![frame.clone(); 512]).unwrap();
                assert_eq!(outcomes, vec![Outcome::Sent; 512]);
            }
            result.set(count());
        });
        let ((allocations, locks), (allocations_before, locks_before)) = (counts.get(), before.get());
        assert_eq!(allocations - allocations_before, 0, "pool allocations for 10,240 frames ({completes:?})");
        assert_eq!(locks - locks_before, 0, "spin locks for 10,240 frames ({completes:?})");
        assert!(measured.allocations.get() > 0 && measured.locks.get() > 0, "the machine counts");
        bench.finish();
    }
}

/// Pool allocations and spin locks of the driver so far.
fn count() -> (u64, u64) {
    sluice_machine::user::counts()
}

#[test]
fn frames_live_in_the_adapters_common_buffer_if_there_is_one() {
    for (dma, expected) in [(true, sluice_abi::MEMORY_ADAPTER), (false, sluice_abi::MEMORY_HAL)] {
        let mut configuration = adapter_that(LATE);
        configuration.adapters[0].dma = dma;
        let bench = Bench::new(configuration);
        let memory = bench.run(move || {
            let device = bound();
            bench::send(device.as_ref(), frames(1, 5)).unwrap();
            let found = bench::adapter(device.as_ref(), 0);
            adapter::statistics(device.as_ref(), &found).unwrap().memory
        });
        assert_eq!(memory, expected);
        assert!(!bench.machine.dma_history().is_empty());
        bench.finish();
    }
}

#[test]
fn only_administrators_open_the_device() {
    let bench = Bench::new(adapter_that(LATE));
    bench.run(|| {
        let refused = Local { administrator: false }.open();
        assert!(matches!(refused, Err(Error::AccessDenied)));
    });
    bench.finish();
}

#[test]
fn the_host_passes_untouched_and_pays_only_while_a_handle_is_bound() {
    let bench = Bench::new(adapter_that(Completes::Any));
    let adapter = bench.machine.adapters()[0].clone();
    let host = adapter.clone();
    let passed = bench.run(move || {
        for number in 0..10 {
            host.host_send(&frame(0xFF, number, 60));
        }
        user::sleep(1000);
        let device = open();
        let found = bench::adapter(device.as_ref(), 0);
        let before = adapter::statistics(device.as_ref(), &found).unwrap().passed_through;
        adapter::bind(device.as_ref(), &found).unwrap();
        let batch = sending::start(device.as_ref(), frames(1, 50)).unwrap();
        for number in 10..20 {
            host.host_send(&frame(0xFF, number, 60));
        }
        batch.wait().unwrap();
        user::sleep(1000);
        (before, adapter::statistics(device.as_ref(), &found).unwrap().passed_through)
    });
    assert_eq!(passed.0, 0, "in bypass the driver sees nothing");
    assert_eq!(passed.1, 10);
    assert_eq!(adapter.counters().host_sent, 20);
    assert_eq!(adapter.counters().host_completed, 20);
    assert_eq!(adapter.wire().len(), 70);
    bench.finish();
}

#[test]
fn the_handlers_go_some_time_after_the_last_handle() {
    let bench = Bench::new(adapter_that(LATE));
    let adapter = bench.machine.adapters()[0].clone();
    bench.run(|| drop(bound()));
    // Time runs on while nothing happens: the idle timer has elapsed, and the stack was restarted for it.
    assert!(bench.machine.microseconds() >= 5_000_000);
    assert_eq!(bench.machine.common_buffers(), 0, "memory goes with the handlers");
    let pauses = adapter.pauses().len();
    assert!(pauses >= 2, "one restart installs the handlers, another removes them: {pauses} pauses");
    let sent = bench.run(|| bench::send(bound().as_ref(), frames(1, 1)));
    assert_eq!(sent.unwrap(), [Outcome::Sent], "the next handle has them installed again");
    bench.finish();
}

#[test]
fn oid_requests_pass_through_the_filter() {
    let bench = Bench::new(adapter_that(LATE));
    let adapter = bench.machine.adapters()[0].clone();
    let (known, unknown) =
        bench.run(move || (adapter.query_oid(0x0001_010E), adapter.query_oid(0x0101_0101)));
    assert_eq!(known, (0, 0x2B));
    assert_eq!(unknown.0 as u32, 0xC001_0017, "NDIS_STATUS_INVALID_OID comes back from the miniport");
    bench.finish();
}

#[test]
fn a_smaller_mtu_after_a_restart_refuses_longer_frames() {
    let bench = Bench::new(adapter_that(LATE));
    let adapter = bench.machine.adapters()[0].clone();
    bench.run(move || {
        let device = bound();
        let long = vec![tagged(1518)];
        assert_eq!(bench::send(device.as_ref(), long.clone()).unwrap(), [Outcome::Sent]);
        adapter.mtu.set(1000);
        adapter.restart();
        let watched = adapter.clone();
        user::wait_for("the restart", move || watched.is_settled());
        assert!(matches!(bench::send(device.as_ref(), long), Err(Error::Input(_))));
        assert_eq!(bench::send(device.as_ref(), vec![tagged(1018)]).unwrap(), [Outcome::Sent]);
        adapter.mtu.set(9000);
        adapter.restart();
        let watched = adapter.clone();
        user::wait_for("the restart", move || watched.is_settled());
        assert_eq!(bench::send(device.as_ref(), vec![tagged(9018)]).unwrap(), [Outcome::Sent]);
    });
    bench.finish();
}

#[test]
fn room_that_the_stack_asks_for_lies_in_front_of_the_frame() {
    let mut configuration = adapter_that(LATE);
    configuration.adapters[0].backfill = 32;
    let bench = Bench::new(configuration);
    let outcomes = bench.run(|| bench::send(bound().as_ref(), frames(1, 64)));
    assert_eq!(outcomes.unwrap(), vec![Outcome::Sent; 64]);
    assert!(bench.machine.adapters()[0].wire() == frames(1, 64));
    bench.finish();
}

#[test]
fn bad_requests_are_refused_and_change_nothing() {
    let bench = Bench::new(adapter_that(LATE));
    bench.run(|| {
        let device = open();
        let status = |code: u32, input: &[u8], data: usize| {
            device.start(code, input.to_vec(), vec![0; data]).unwrap().wait().unwrap().status
        };
        assert_eq!(status(IOCTL_SEND, &[0; 12], 64), 0xC000_0184, "not bound");
        assert_eq!(status(IOCTL_STATISTICS, &[], 200), 0xC000_0184, "not bound");
        assert_eq!(status(IOCTL_VERSION, &[], 3), 0xC000_0023, "no room");
        assert_eq!(status(IOCTL_LIST, &[], 7), 0xC000_0023, "no room");
        assert_eq!(status(IOCTL_BIND, &[1, 0], 0), 0xC000_0023, "too short");
        assert_eq!(status(0x0012_DEAD & !3, &[], 0), 0xC000_0010, "unknown code");
        let mut nobody = vec![1, 0, 0, 0, 0, 0, 0, 0];
        nobody.extend([0xEE; 16]);
        assert_eq!(status(IOCTL_BIND, &nobody, 0), 0xC000_0225, "no such adapter");
        let found = bench::adapter(device.as_ref(), 0);
        adapter::bind(device.as_ref(), &found).unwrap();
        assert!(
            matches!(adapter::bind(device.as_ref(), &found), Err(Error::Refused(0xC000_0184))),
            "bound already"
        );
        assert_eq!(status(IOCTL_SEND, &[], 0), 0xC000_0023);
        assert_eq!(status(IOCTL_SEND, &[1, 0, 0, 0, 1, 0, 0, 0, 60, 0, 0, 0], 63), 0xC000_0206);
        assert_eq!(status(IOCTL_SEND, &[9, 0, 0, 0, 1, 0, 0, 0, 60, 0, 0, 0], 64), 0xC000_0059);
        let statistics = adapter::statistics(device.as_ref(), &found).unwrap();
        assert_eq!((statistics.frames_submitted, statistics.requests), (0, 0));
    });
    bench.finish();
}

#[test]
fn a_list_tells_how_much_did_not_fit() {
    let bench =
        Bench::new(Configuration { adapters: vec![Settings::default(); 5], ..Configuration::default() });
    bench.run(|| {
        let device = open();
        let answer = device.control(IOCTL_LIST, Vec::new(), vec![0; 8 + 2 * 400]).unwrap();
        assert_eq!(answer[4..8], 5u32.to_le_bytes(), "total");
        assert!(answer[0] < 5, "fewer fitted");
        assert_eq!(adapter::list(device.as_ref()).unwrap().len(), 5);
    });
    bench.finish();
}

#[test]
fn statistics_account_for_every_frame() {
    let mut configuration = adapter_that(Completes::Any);
    configuration.adapters[0].fails_every = Some(5);
    let bench = Bench::new(configuration);
    let statistics = bench.run(|| {
        let device = bound();
        for number in 0..10 {
            bench::send(device.as_ref(), frames(number, 77)).unwrap();
        }
        let found = bench::adapter(device.as_ref(), 0);
        adapter::statistics(device.as_ref(), &found).unwrap()
    });
    assert_eq!(statistics.frames_submitted, 770);
    assert_eq!(statistics.frames_failed, 154);
    assert_eq!(statistics.frames_sent, 616);
    assert_eq!((statistics.frames_in_flight, statistics.frames_waiting), (0, 0));
    bench.finish();
}

#[test]
fn the_driver_registers_with_what_the_system_offers() {
    for (minor, expected) in [(84, 84), (85, 85), (88, 88), (89, 89), (120, 89)] {
        let bench = Bench::new(Configuration { ndis_version: 6 << 16 | minor, ..adapter_that(LATE) });
        let registered = bench.run(|| adapter::version(open().as_ref()).unwrap().ndis_version);
        assert_eq!(registered, 6 << 16 | expected);
        let outcomes = bench.run(|| bench::send(bound().as_ref(), frames(1, 3)).unwrap());
        assert_eq!(outcomes, [Outcome::Sent; 3]);
        bench.finish();
    }
}

#[test]
fn a_system_that_is_too_old_is_refused() {
    for minor in [20, 30, 60, 80, 83] {
        let configuration = Configuration { ndis_version: 6 << 16 | minor, ..adapter_that(LATE) };
        let machine = Machine::start(configuration).unwrap();
        let Err(LoadError::Image(error)) = machine.load_driver(&image::path(Build::Release)) else {
            panic!("6.{minor} has all that the image imports")
        };
        let (text, build) = (error.to_string(), system::build_of(6 << 16 | minor));
        assert!(
            text.contains("ntoskrnl.exe!ExAllocatePool2, which is exported from build 19041 on"),
            "{text}"
        );
        assert!(text.contains(&format!("this system, build {build}, has no")), "{text}");
    }
}

#[test]
fn each_version_of_ndis_belongs_to_a_build() {
    let builds = [(30, 9200), (79, 15063), (80, 16299), (83, 18362), (84, 19041), (85, 20348), (86, 22000)];
    for (minor, build) in builds {
        assert_eq!(system::build_of(6 << 16 | minor), build);
    }
    assert_eq!(system::build_of(6 << 16 | 89), 26100);
}

/// What became of 40 frames, if the driver had the memory to take them.
fn try_to_send() -> Option<Vec<Outcome>> {
    let device = (Local { administrator: true }).open().ok()?;
    let adapters = adapter::list(device.as_ref()).ok()?;
    adapter::bind(device.as_ref(), adapters.first()?).ok()?;
    bench::send(device.as_ref(), frames(1, 40)).ok()
}

#[test]
fn whichever_allocation_fails_nothing_breaks() {
    let mut number = 0;
    loop {
        number += 1;
        let configuration =
            Configuration { low_resources: LowResources::Nth(number), ..adapter_that(Completes::Any) };
        let machine = Machine::start(configuration).unwrap();
        let loaded = match machine.load_driver(&image::path(Build::Checked)) {
            Ok(()) => true,
            Err(LoadError::Refused(_)) => false,
            Err(error) => panic!("allocation {number}: {error}"),
        };
        if loaded {
            // NDIS goes on without an optional filter whose attach failed.
            let attached = !machine.adapters()[0].module_states().is_empty();
            machine.spawn("client", move || {
                // One allocation fails: whatever it broke, the next try succeeds.
                let tries: Vec<_> = (0..2).map(|_| try_to_send()).collect();
                assert!(
                    !attached || tries.contains(&Some(vec![Outcome::Sent; 40])),
                    "allocation {number}: {tries:?}"
                );
            });
            machine.run_until_idle().unwrap_or_else(|bugcheck| panic!("allocation {number}: {bugcheck}"));
            machine.unload_driver().unwrap_or_else(|bugcheck| panic!("allocation {number}: {bugcheck}"));
            assert_eq!(machine.waiting_threads(), Vec::<String>::new(), "allocation {number}");
        }
        if machine.allocations() < number {
            println!("{} allocations, each of which failed alone", number - 1);
            assert!(number > 1000, "the driver allocates more than that: {number}");
            return;
        }
    }
}

#[test]
fn the_checked_driver_and_the_shipped_one_pass_the_same_exploration() {
    for build in [Build::Release, Build::Checked] {
        let path = image::path(build);
        let scenario = sluice_suite::scenario::lifecycle;
        let mut summary = explore(&Plan { seed: 0xA11CE, ..Plan::new(&path, "lifecycle", scenario, 150) });
        summary.settle();
        assert!(summary.first_failure.is_none(), "{:#?}", summary.first_failure);
        assert!(summary.distinct >= 145);
    }
}

#[test]
fn a_frame_that_was_checked_before_the_mtu_shrank_is_not_written_into_smaller_slots() {
    let mut configuration = adapter_that(LATE);
    configuration.adapters[0].mtu = 9000;
    let bench = Bench::new(configuration);
    let adapter = bench.machine.adapters()[0].clone();
    let (ready, shrunk) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
    let (is_ready, has_shrunk) = (ready.clone(), shrunk.clone());
    let sender = bench.client(move || {
        let device = bound();
        is_ready.set(true);
        // The test holds this thread back from here on.
        user::sleep(10);
        bench::send(device.as_ref(), vec![tagged(9018); 64])
    });
    bench.machine.run_until(|| ready.get()).unwrap();
    // The request has been read and is about to enter the gate.
    let until = shrunk.clone();
    bench.machine.hold("client", "KeGetCurrentProcessorNumberEx", move || until.get());
    bench.run(move || {
        user::sleep(100);
        adapter.mtu.set(1000);
        adapter.restart();
        let watched = adapter.clone();
        user::wait_for("the restart", move || watched.is_settled());
        // The worker opens the gate after NDIS knows of the restart.
        user::sleep(1_000);
        has_shrunk.set(true);
    });
    let refused = sender.borrow_mut().take().expect("the sender hangs");
    assert!(matches!(refused, Err(Error::Input(_))), "{refused:?}");
    assert!(bench.machine.adapters()[0].wire().is_empty());
    bench.finish();
}
