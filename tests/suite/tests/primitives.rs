//! Every primitive of the kernel crate, used for real: by several clients at once, on two processors, under many
//! schedules, with assertions and without. The machine's rules look on.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that finds nothing there has failed")]
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use sluice_machine::{Configuration, Machine, Schedule, user};
use sluice_suite::image;

const SEEDS: u64 = 40;

/// What the clients were answered.
type Answers = Vec<u64>;

/// Runs one exercise with so many clients at once, under many schedules.
fn run(number: u32, clients: usize, check: impl Fn(&Answers) -> bool) {
    for build in ["primitives", "primitives-checked"] {
        for seed in 1..=SEEDS {
            let answers = once(&image::lab(build), number, clients, seed);
            assert!(check(&answers), "{build}, exercise {number}, seed {seed}: {answers:?}");
        }
    }
}

fn once(image: &Path, number: u32, clients: usize, seed: u64) -> Answers {
    let configuration = Configuration { schedule: Schedule::random(seed), ..Configuration::default() };
    let machine = Machine::start(configuration).unwrap();
    machine.load_driver_as(image, "primitives").unwrap();
    let answers = Rc::new(RefCell::new(Vec::new()));
    for client in 0..clients {
        let answers = answers.clone();
        machine.spawn(&format!("client {client}"), move || {
            let handle = user::Handle::open("\\\\.\\Primitives", true).unwrap();
            let done = handle.control(0x0012_C000 | number << 2, &[], vec![0; 8]).wait();
            assert_eq!(done.status, 0, "exercise {number}");
            answers.borrow_mut().push(u64::from_le_bytes(done.output.try_into().unwrap()));
            handle.close();
        });
    }
    let ended = machine.run_until_idle().and_then(|()| machine.unload_driver());
    if let Err(bugcheck) = ended {
        panic!("exercise {number}, seed {seed}: {bugcheck}");
    }
    let answers = answers.borrow().clone();
    assert_eq!(
        answers.len(),
        clients,
        "exercise {number}, seed {seed}: waits {:?}",
        machine.waiting_threads()
    );
    answers
}

/// The last of them to look saw everything that was counted.
fn most(answers: &Answers) -> u64 {
    *answers.iter().max().unwrap()
}

fn all(answers: &Answers, value: u64) -> bool {
    answers.iter().all(|answer| *answer == value)
}

#[test]
fn the_level_is_raised_and_lowered_in_order() {
    // PASSIVE, APC, DISPATCH, APC, DISPATCH, PASSIVE.
    run(0, 2, |answers| all(answers, 12_120));
}

#[test]
fn spin_locks_count_what_three_clients_do_at_three_levels() {
    run(1, 3, |answers| most(answers) == 27);
}

#[test]
fn queued_spin_locks_count_what_three_clients_do() {
    run(2, 3, |answers| most(answers) == 18);
}

#[test]
fn readers_never_see_half_of_what_a_writer_did() {
    run(3, 3, |answers| most(answers) == 9);
}

#[test]
fn a_mutex_is_taken_again_by_its_owner_only() {
    run(4, 3, |answers| most(answers) == 9);
}

#[test]
fn a_fast_mutex_is_taken_at_apc_level_and_in_guarded_regions() {
    run(5, 3, |answers| most(answers) == 27);
}

#[test]
fn a_semaphore_admits_two_of_three() {
    run(6, 3, |answers| all(answers, 0));
}

#[test]
fn a_resource_has_many_readers_or_one_writer() {
    run(7, 3, |answers| most(answers) == 9);
}

#[test]
fn regions_nest_and_leave_the_level_alone() {
    run(8, 2, |answers| all(answers, 0));
}

#[test]
fn events_let_all_go_or_one_and_waits_time_out() {
    run(9, 3, |answers| all(answers, 1));
}

#[test]
fn a_dpc_runs_at_dispatch_level_and_takes_locks_there() {
    run(10, 3, |answers| all(answers, 1));
}

#[test]
fn a_timer_elapses_again_and_again_until_it_is_cancelled() {
    run(11, 1, |answers| all(answers, 0));
}

#[test]
fn a_work_item_is_queued_once_and_waits_for() {
    run(12, 3, |answers| most(answers) == 1);
}

#[test]
fn nobody_is_inside_after_a_rundown() {
    run(13, 3, |answers| all(answers, 0));
}

#[test]
fn nobody_is_inside_after_a_removal() {
    run(14, 3, |answers| all(answers, 0));
}

#[test]
fn memory_is_what_was_put_there() {
    run(15, 2, |answers| all(answers, 65 + 35 + 5000 + 1));
}

#[test]
fn interlocked_operations_lose_nothing() {
    run(16, 3, |answers| most(answers) == 18);
}
