//! Requests that wait for slots: what gives slots back, or the place in front, lets them start.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that finds nothing there has failed"
)]
use std::cell::Cell;
use std::rc::Rc;

use sluice_client::adapter;
use sluice_client::device::Device;
use sluice_client::send::{self as sending, Answer, Batch, Outcome};
use sluice_machine::ndis::adapter::Completes;
use sluice_machine::user;
use sluice_suite::bench::{self, Bench, adapter_that, bound};
use sluice_suite::scenario::frame;

/// The adapter keeps what it has for five seconds, unless it is cancelled.
const HOLDS: Completes = Completes::Late(5_000_000, 5_000_000);

fn start(device: &dyn Device, client: u8, count: u32) -> Batch {
    sending::start(device, (0..count).map(|number| frame(client, number, 60)).collect()).unwrap()
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
        user::sleep(1_000);
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
