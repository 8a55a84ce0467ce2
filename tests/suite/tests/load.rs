//! Load that does not end: clients that send their next request as soon as one is back.
#![expect(clippy::unwrap_used, reason = "a test that finds nothing there has failed")]
use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use sluice_client::adapter;
use sluice_client::send::{self, Answer, Outcome};
use sluice_machine::bugcheck::Bugcheck;
use sluice_machine::ndis::adapter::Completes;
use sluice_machine::{Configuration, Machine, user};
use sluice_suite::bench::{adapter_that, bound};
use sluice_suite::image::{Build, path};
use sluice_suite::scenario::frame;

const CLIENTS: u8 = 6;
/// Requests that a client has outstanding.
const DEPTH: u32 = 4;

/// What six clients saw.
#[derive(Default)]
struct Seen {
    bound: Cell<u8>,
    requests: Cell<u64>,
    /// The most frames that waited for slots.
    waiting: Cell<u64>,
    /// The longest that a client waited for a request, in microseconds.
    longest: Cell<u64>,
    /// Requests of the client that was served least, and most.
    served: RefCell<Vec<u64>>,
}

/// Six clients send requests of 512 frames for some simulated time.
fn load(driver: &Path, completes: Completes, seconds: u64) -> Result<(Box<Machine>, Rc<Seen>), Bugcheck> {
    let configuration = Configuration { processors: 4, ..adapter_that(completes) };
    let machine = Machine::start(configuration).unwrap();
    machine.load_driver(driver).unwrap();
    let seen = Rc::new(Seen { served: RefCell::new(vec![0; usize::from(CLIENTS)]), ..Seen::default() });
    for client in 0..CLIENTS {
        let seen = seen.clone();
        machine.spawn(&format!("client {client}"), move || {
            let device = bound();
            // A bind may restart the stack, so nothing is sent before all are bound.
            seen.bound.set(seen.bound.get() + 1);
            let others = seen.clone();
            user::wait_for("the other clients", move || others.bound.get() == CLIENTS);
            user::sleep(10_000);
            let begin = |number: u32| {
                let frames = (0..512).map(|index| frame(client, number << 9 | index, 60)).collect();
                (user::now(), send::start(device.as_ref(), frames).unwrap())
            };
            let mut number = DEPTH;
            let mut batches: std::collections::VecDeque<_> = (0..DEPTH).map(begin).collect();
            while let Some((began, batch)) = batches.pop_front() {
                let (_, answer) = batch.wait().unwrap();
                let Answer::Frames(outcomes) = answer else { panic!("the adapter is there") };
                assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Sent), "{outcomes:?}");
                seen.longest.set(seen.longest.get().max(user::now() - began));
                seen.requests.set(seen.requests.get() + 1);
                *seen.served.borrow_mut().get_mut(usize::from(client)).unwrap() += 1;
                if user::now() < seconds * 1_000_000 {
                    batches.push_back(begin(number));
                    number += 1;
                }
            }
        });
    }
    let watched = seen.clone();
    machine.spawn("statistics", move || {
        let device = sluice_suite::bench::open();
        let found = sluice_suite::bench::adapter(device.as_ref(), 0);
        while user::now() < seconds * 1_000_000 {
            let statistics = adapter::statistics(device.as_ref(), &found).unwrap();
            watched.waiting.set(watched.waiting.get().max(statistics.frames_waiting));
            user::sleep(500);
        }
    });
    machine.run_until_idle()?;
    assert_eq!(machine.waiting_threads(), Vec::<String>::new());
    Ok((machine, seen))
}

#[test]
fn six_clients_in_a_closed_loop_keep_no_processor_at_dispatch_level() {
    let (machine, seen) =
        load(&path(Build::Release), Completes::Inline, 10).unwrap_or_else(|stop| panic!("{stop}"));
    println!(
        "{} requests of 512 frames in 10 simulated seconds, {} frames waited at most, a client {} µs; the longest DPC {:?}",
        seen.requests.get(),
        seen.waiting.get(),
        seen.longest.get(),
        machine.longest_dpc()
    );
    // The path was taken: requests waited for slots.
    assert!(seen.waiting.get() >= 512, "no request waited");
    assert!(machine.longest_dpc() < Duration::from_micros(100), "a DPC took {:?}", machine.longest_dpc());
    let served = seen.served.borrow();
    let (least, most) = (served.iter().min().unwrap(), served.iter().max().unwrap());
    assert!(least * 2 > *most, "first come is not first served: {served:?}");
}

#[test]
fn completions_under_load_stay_within_a_dpcs_budget() {
    let late = Completes::OutOfOrder(20, 2_000);
    let (machine, seen) = load(&path(Build::Release), late, 2).unwrap_or_else(|stop| panic!("{stop}"));
    println!("{} requests; the longest DPC {:?}", seen.requests.get(), machine.longest_dpc());
    assert!(seen.waiting.get() >= 512, "no request waited");
    assert!(machine.longest_dpc() > Duration::ZERO, "nothing completed in a DPC");
}

#[test]
fn first_come_is_first_served_on_four_processors() {
    let driver = path(Build::Release);
    let (machine, seen) = load(&driver, Completes::Inline, 1).unwrap_or_else(|stop| panic!("{stop}"));
    assert!(seen.waiting.get() >= 512, "no request waited");
    // A client has the next request taken when the one before was.
    let mut last = vec![None; usize::from(CLIENTS)];
    for frame in machine.adapters()[0].wire() {
        let client = usize::from(frame[14]);
        let number = u32::from_be_bytes(frame[15..19].try_into().unwrap());
        assert!(last[client] < Some(number), "client {client}: frame {number} after {:?}", last[client]);
        last[client] = Some(number);
    }
}
