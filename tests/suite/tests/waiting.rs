//! Requests that wait for slots: what gives slots back, or the place in front, lets them start.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that finds nothing there has failed"
)]
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use sluice_client::adapter;
use sluice_client::device::Device;
use sluice_client::send::{self as sending, Answer, Batch, Outcome};
use sluice_machine::ndis::adapter::Completes;
use sluice_machine::{Configuration, user};
use sluice_suite::bench::{self, Bench, adapter_that, bound};
use sluice_suite::scenario::frame;

/// The adapter keeps what it has for five seconds, unless it is cancelled.
const HOLDS: Completes = Completes::Late(5_000_000, 5_000_000);

fn start(device: &dyn Device, client: u8, count: u32) -> Batch {
    start_long(device, client, count, 60)
}

fn start_long(device: &dyn Device, client: u8, count: u32, length: usize) -> Batch {
    sending::start(device, (0..count).map(|number| frame(client, number, length)).collect()).unwrap()
}

fn in_flight(device: &dyn Device) -> u64 {
    adapter::statistics(device, &bench::adapter(device, 0)).unwrap().frames_in_flight
}

/// What waits is served in order; a request that is cancelled makes room for those behind it at once.
#[test]
fn a_waiting_request_starts_when_the_larger_one_in_front_of_it_is_cancelled() {
    let bench = Bench::new(adapter_that(HOLDS));
    bench.run(|| {
        let device = bound();
        let (first, second) = (start(device.as_ref(), 1, 512), start(device.as_ref(), 2, 500));
        let (large, small) = (start(device.as_ref(), 3, 13), start(device.as_ref(), 4, 12));
        user::sleep(1_000);
        assert_eq!(in_flight(device.as_ref()), 1012, "both wait");
        large.cancel().unwrap();
        user::sleep(1_000);
        assert_eq!(in_flight(device.as_ref()), 1024, "the small one fits");
        for batch in [first, second, small] {
            assert!(matches!(batch.wait().unwrap().1, Answer::Frames(_)));
        }
        drop(large.wait());
    });
    bench.finish();
}

/// The slot that keeps a request goes back when its cancel routine is through, after those of its other frames.
#[test]
fn a_waiting_request_starts_when_one_that_is_outstanding_was_cancelled() {
    let bench = Bench::new(adapter_that(HOLDS));
    bench.run(|| {
        let device = bound();
        let (first, second) = (start(device.as_ref(), 1, 512), start(device.as_ref(), 2, 512));
        let third = start(device.as_ref(), 3, 512);
        user::sleep(1_000);
        first.cancel().unwrap();
        user::sleep(10_000);
        assert_eq!(in_flight(device.as_ref()), 1024, "the third is outstanding");
        drop(first.wait());
        for batch in [second, third] {
            assert!(matches!(batch.wait().unwrap().1, Answer::Frames(_)));
        }
    });
    bench.finish();
}

/// The worker finds too few slots, and a pause sweeps the queue before the request is back in its place.
#[test]
fn a_request_that_is_put_back_behind_the_sweep_of_a_pause_is_refused() {
    let bench = Bench::new(adapter_that(HOLDS));
    let adapter = bench.machine.adapters()[0].clone();
    let (go, held) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
    let (until, reached) = (go.clone(), held.clone());
    bench.machine.hold("worker", "IoCsqInsertIrpEx", move || {
        reached.set(true);
        until.get()
    });
    bench.run(move || {
        let device = bound();
        let _outstanding = [start(device.as_ref(), 1, 512), start(device.as_ref(), 2, 512)];
        let waits = start(device.as_ref(), 3, 512);
        user::wait_for("the worker", move || held.get());
        adapter.disable();
        user::sleep(1_000);
        go.set(true);
        let (_, answer) = waits.wait().unwrap();
        let Answer::Frames(outcomes) = answer else { panic!("the adapter is there") };
        assert_eq!(outcomes, vec![Outcome::Paused; 512]);
    });
    bench.finish();
}

/// Four requests wait for the end of a restart. Frames that were handed to the adapter when the worker had run once, after
/// which it queues itself again, and in the end.
fn runs_after_a_restart(configuration: Configuration, frames: u32, length: usize) -> (u64, u64) {
    let bench = Bench::new(configuration);
    let adapter = bench.machine.adapters()[0].clone();
    let device: Rc<RefCell<Option<Box<dyn Device>>>> = Rc::default();
    let place = device.clone();
    bench.run(move || place.replace(Some(bound())));
    let (go, first) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(None)));
    let (until, run, watched) = (go.clone(), first.clone(), adapter.clone());
    let held = Rc::new(Cell::new(false));
    let reached = held.clone();
    bench.machine.hold("worker", "NdisFRestartComplete", move || {
        reached.set(true);
        until.get()
    });
    let handed = move || watched.counters().frames + watched.in_flight() as u64;
    bench.machine.hold("worker", "NdisQueueIoWorkItem", move || {
        run.set(run.get().or(Some(handed())));
        true
    });
    let last = bench.run(move || {
        let device = device.borrow_mut().take().unwrap();
        adapter.restart();
        user::wait_for("the restart", move || held.get());
        let batches: Vec<Batch> =
            (0..4).map(|number| start_long(device.as_ref(), number, frames, length)).collect();
        user::sleep(1_000);
        assert_eq!(in_flight(device.as_ref()), 0, "all wait for the restart");
        go.set(true);
        user::sleep(100_000);
        let last = adapter.counters().frames + adapter.in_flight() as u64;
        for batch in batches {
            let Answer::Frames(outcomes) = batch.wait().unwrap().1 else { panic!("the adapter is there") };
            assert_eq!(outcomes, vec![Outcome::Sent; frames as usize], "a restart loses no frame");
        }
        last
    });
    bench.finish();
    (first.get().unwrap(), last)
}

#[test]
fn a_run_of_the_worker_ends_after_a_thousand_frames_and_another_follows() {
    assert_eq!(runs_after_a_restart(adapter_that(Completes::Inline), 512, 60), (1024, 2048));
}

/// Nothing has come back by then that would wake the worker.
#[test]
fn a_run_of_the_worker_ends_after_a_megabyte_and_another_follows() {
    let mut configuration = adapter_that(HOLDS);
    configuration.adapters[0].mtu = 9000;
    assert_eq!(runs_after_a_restart(configuration, 100, 9014), (200, 400));
}

#[test]
fn when_nothing_waits_any_more_a_send_begins_in_its_own_dispatch() {
    let bench = Bench::new(adapter_that(HOLDS));
    let device: Rc<RefCell<Option<Box<dyn Device>>>> = Rc::default();
    let place = device.clone();
    bench.run(move || {
        let device = bound();
        let batches: Vec<Batch> = (0..3).map(|number| start(device.as_ref(), number, 512)).collect();
        for batch in batches {
            assert!(matches!(batch.wait().unwrap().1, Answer::Frames(_)));
        }
        place.replace(Some(device));
    });
    let go = Rc::new(Cell::new(false));
    let until = go.clone();
    bench.machine.hold("worker", "IoCsqRemoveNextIrp", move || until.get());
    bench.run(move || {
        let device = device.borrow_mut().take().unwrap();
        let batch = start(device.as_ref(), 4, 10);
        user::sleep(1_000);
        assert_eq!(in_flight(device.as_ref()), 10);
        go.set(true);
        assert!(matches!(batch.wait().unwrap().1, Answer::Frames(_)));
    });
    bench.finish();
}
