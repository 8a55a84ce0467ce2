//! Runs against a driver that answers as a script says.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that finds nothing there has failed"
)]
mod scripted;

use std::rc::Rc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use scripted::{Answer, Frames, Handle, Notes, PAUSED, Reconnect, World};
use sluice_abi::{FrameResult, STATE_PAUSED};
use sluice_client::adapter::{self, Adapter};
use sluice_client::outcomes::Final;
use sluice_client::patience::Patience;
use sluice_client::run::{self, Options, Sums};
use sluice_client::send::Outcome;
use sluice_client::stop::{Stage, Stop};
use sluice_client::{Error, status};

const SENT: Final = Final::Answered(Outcome::Sent);

fn options(wait_ms: u64) -> Options {
    Options { batch: 4, depth: 3, skip: false, wait: Duration::from_millis(wait_ms) }
}

/// Sends `count` frames to the end.
fn send(world: &Rc<World>, count: u64, options: Options, stop: &Stop) -> (Sums, Option<Error>, Notes) {
    let mut notes = Notes::default();
    let mut frames = Frames { count, next: 0, lengths: |_| 60 };
    let mut connect = Reconnect(world.clone());
    let (sums, error) = run::run(world.connection(), &mut frames, &mut connect, options, stop, &mut notes);
    accounted(&sums, &notes, frames.next.min(count));
    (sums, error, notes)
}

/// Each frame that was read has one outcome, and the sums say the same.
fn accounted(sums: &Sums, notes: &Notes, read: u64) {
    let mut numbers: Vec<u64> = notes.finals.iter().map(|(number, _)| *number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=read).collect::<Vec<_>>(), "each frame that was read has one outcome");
    let totals = &sums.totals;
    assert_eq!(totals.submitted, totals.sent + totals.paused + totals.failed);
    assert_eq!(totals.submitted + sums.skipped + sums.unsent + sums.unanswered, read);
}

/// Presses Ctrl-C at these times.
fn press(stop: &Stop, at_ms: &'static [u64]) {
    let stop = stop.clone();
    std::thread::spawn(move || {
        let began = Instant::now();
        for at in at_ms {
            std::thread::sleep(Duration::from_millis(*at).saturating_sub(began.elapsed()));
            stop.press();
        }
    });
}

#[test]
fn what_a_pause_refused_is_sent_again_before_new_frames() {
    // Frames 7 and 8 are refused; 9 to 16 are outstanding when that is known, and are sent.
    let world = World::new(&[Answer::Sent, Answer::From(2, FrameResult::PAUSED)]);
    let (sums, error, _) = send(&world, 20, options(5000), &Stop::default());
    assert!(error.is_none(), "{error:?}");
    assert_eq!(*world.wire.borrow(), [1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 14, 15, 16, 7, 8, 17, 18, 19, 20]);
    assert_eq!((sums.totals.submitted, sums.totals.sent, sums.totals.paused, sums.resent), (20, 20, 0, 2));
}

#[test]
fn requests_that_a_pause_refused_one_after_the_other_keep_their_order() {
    let world = World::new(&[PAUSED, PAUSED, PAUSED, PAUSED, Answer::From(1, FrameResult::PAUSED)]);
    let (sums, error, _) = send(&world, 16, options(5000), &Stop::default());
    assert!(error.is_none(), "{error:?}");
    let mut wire = world.wire.borrow().clone();
    assert_eq!(sums.totals.sent, 16);
    wire.sort_unstable();
    assert_eq!(wire, (1..=16).collect::<Vec<_>>(), "each once");
}

#[test]
fn a_paused_module_is_asked_for_its_state_before_it_is_sent_to() {
    let world = World::new(&[PAUSED]);
    world.states.borrow_mut().extend([STATE_PAUSED; 3]);
    let (_, error, _) = send(&world, 4, options(5000), &Stop::default());
    assert!(error.is_none(), "{error:?}");
    assert_eq!((world.requests.get(), world.wire.borrow().len()), (2, 4));
    assert!(world.states.borrow().is_empty());
}

#[test]
fn without_a_wait_what_a_pause_refused_is_counted() {
    let world = World::new(&[Answer::From(1, FrameResult::PAUSED)]);
    let (sums, error, notes) = send(&world, 8, options(0), &Stop::default());
    assert!(error.is_none());
    assert_eq!((sums.totals.sent, sums.totals.paused, sums.resent), (5, 3, 0));
    assert_eq!(notes.finals[1], (2, Final::Answered(Outcome::Paused)));
}

#[test]
fn a_frame_that_a_sleeping_adapter_gave_back_was_paused() {
    let world = World::new(&[Answer::From(2, FrameResult(status::LOW_POWER_STATE))]);
    let (sums, error, _) = send(&world, 4, options(5000), &Stop::default());
    assert!(error.is_none());
    assert_eq!((sums.totals.sent, sums.resent, sums.totals.failed), (4, 2, 0));
}

#[test]
fn frames_that_met_a_removed_adapter_are_sent_when_it_is_back() {
    for wait in [0, 5000] {
        let world = World::new(&[Answer::Sent, Answer::Removed]);
        if wait != 0 {
            world.absences.borrow_mut().extend([Error::NoAdapter(String::new()), Error::Removed]);
        }
        let (sums, error, _) = send(&world, 20, options(wait), &Stop::default());
        assert!(error.is_none(), "{error:?}");
        assert_eq!(*world.wire.borrow(), (1..=20).collect::<Vec<_>>(), "in order, each once");
        assert_eq!((sums.totals.sent, sums.removals), (20, 1));
    }
}

#[test]
fn an_adapter_that_is_removed_while_it_is_paused_is_bound_again() {
    let world = World::new(&[PAUSED, Answer::Removed]);
    let (sums, error, _) = send(&world, 12, options(5000), &Stop::default());
    assert!(error.is_none(), "{error:?}");
    let mut wire = world.wire.borrow().clone();
    wire.sort_unstable();
    assert_eq!(wire, (1..=12).collect::<Vec<_>>());
    assert_eq!(sums.removals, 1);
}

#[test]
fn an_adapter_that_binds_and_takes_nothing_ends_the_run() {
    let world = World::new(&[]);
    world.always.set(Some(Answer::Removed));
    let (sums, error, _) = send(&world, 100, options(0), &Stop::default());
    assert!(matches!(error, Some(Error::Removed)), "{error:?}");
    assert_eq!((world.binds.get(), sums.totals.submitted), (1, 0));

    let (world, began) = (World::new(&[]), Instant::now());
    world.always.set(Some(Answer::Removed));
    let (_, error, _) = send(&world, 100, options(500), &Stop::default());
    assert!(matches!(error, Some(Error::Away { .. })), "{error:?}");
    assert!(world.binds.get() < 20, "{} binds in half a second", world.binds.get());
    assert!(began.elapsed() < Duration::from_secs(3), "one deadline for the whole absence");
}

#[test]
fn returns_without_progress_are_bounded_whatever_the_wait() {
    let world = World::new(&[]);
    world.always.set(Some(Answer::Removed));
    let (_, error, _) = send(&world, 100, options(3_600_000), &Stop::default());
    let said = error.unwrap().to_string();
    assert_eq!(said, "the adapter \"adapter 0\" came back 20 times and answered no frame");
}

#[test]
fn a_frame_that_is_answered_is_progress() {
    let script: Vec<Answer> = [Answer::Sent, Answer::Removed].into_iter().cycle().take(60).collect();
    let world = World::new(&script);
    let (sums, error, _) = send(&world, 400, options(2000), &Stop::default());
    assert!(error.is_none(), "{error:?}");
    assert!(sums.removals > 20, "{}", sums.removals);
    assert_eq!(*world.wire.borrow(), (1..=400).collect::<Vec<_>>());
}

#[test]
fn an_adapter_that_stays_away_ends_the_run_by_its_name() {
    let world = World::new(&[Answer::Sent, Answer::Removed]);
    world.gone.set(true);
    let (sums, error, notes) = send(&world, 40, options(200), &Stop::default());
    assert_eq!(error.unwrap().to_string(), "the adapter \"adapter 0\" did not come back within 0.2 s");
    assert_eq!((sums.totals.sent, sums.unsent), (4, 12), "what was outstanding behind it is accounted for");
    assert!(notes.finals.iter().any(|(_, what)| *what == Final::Unsent));
}

#[test]
fn ctrl_c_ends_a_run_whose_adapter_is_away() {
    for answer in [Answer::Removed, PAUSED] {
        let (world, stop, began) = (World::new(&[]), Stop::default(), Instant::now());
        world.always.set(Some(answer));
        press(&stop, &[150]);
        let (sums, error, _) = send(&world, 1000, options(60_000), &stop);
        assert!(error.is_none(), "{error:?}");
        assert!(sums.unsent + sums.totals.paused != 0);
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn the_first_ctrl_c_waits_and_the_second_cancels() {
    let (world, stop, began) = (World::new(&[]), Stop::default(), Instant::now());
    world.always.set(Some(Answer::Held));
    press(&stop, &[100, 400]);
    let (sums, error, notes) = send(&world, 1000, options(0), &stop);
    assert!(error.is_none());
    assert!(began.elapsed() >= Duration::from_millis(400), "the first waits");
    assert_eq!((world.requests.get(), world.cancelled.get()), (3, 3), "no new frames, and all are cancelled");
    assert_eq!(notes.stages, [(Stage::Draining, 12), (Stage::Cancelling, 12)]);
    assert_eq!((sums.totals.failed, sums.unanswered), (12, 0));
    assert!(notes.finals.contains(&(1, Final::Answered(Outcome::Failed(FrameResult::ABORTED.0)))));
}

#[test]
fn the_third_ctrl_c_waits_for_nothing() {
    let (world, stop, began) = (World::new(&[Answer::Sent]), Stop::default(), Instant::now());
    world.always.set(Some(Answer::Kept));
    press(&stop, &[100, 200, 300]);
    let (sums, error, notes) = send(&world, 1000, options(0), &stop);
    assert!(error.is_none());
    assert!(began.elapsed() < Duration::from_secs(3));
    assert_eq!((sums.totals.sent, sums.unanswered), (4, 12));
    assert_eq!(notes.stages.last(), Some(&(Stage::Gone, 12)));
    assert_eq!(notes.finals.iter().filter(|(_, what)| *what == Final::Unanswered).count(), 12);
}

#[test]
fn an_adapter_with_a_smaller_mtu_than_before_refuses_what_does_not_fit_it() {
    let lengths = |number| if number == 6 { 1200 } else { 60 };
    for skip in [true, false] {
        let world = World::new(&[]);
        let connection = world.connection();
        world.mtu.set(1000);
        let (mut notes, mut connect) = (Notes::default(), Reconnect(world.clone()));
        let mut frames = Frames { count: 10, next: 0, lengths };
        let options = Options { skip, ..options(0) };
        let stop = Stop::default();
        let (sums, error) = run::run(connection, &mut frames, &mut connect, options, &stop, &mut notes);
        accounted(&sums, &notes, frames.next.min(10));
        if skip {
            assert!(error.is_none(), "{error:?}");
            assert_eq!((sums.totals.sent, sums.reasons["too_long"]), (9, 1));
            assert_eq!(notes.finals.iter().filter(|(_, what)| *what == SENT).count(), 9);
        } else {
            let said = error.unwrap().to_string();
            assert!(
                said.starts_with("frames: frame 6 has 1200 bytes; the adapter takes 14 to 1014"),
                "{said}"
            );
        }
    }
}

#[test]
fn a_request_that_the_driver_refuses_leaves_its_frames_unsent() {
    let world = World::new(&[Answer::Sent, Answer::Status(0xC000_009A)]);
    let (sums, error, _) = send(&world, 40, options(0), &Stop::default());
    assert!(matches!(error, Some(Error::Refused(0xC000_009A))));
    assert_eq!((sums.totals.sent, sums.unsent), (12, 4));
}

#[test]
fn a_bind_that_pends_is_given_up_and_says_what_holds_the_stack() {
    let world = World::new(&[]);
    world.bind_pends.set(true);
    let adapter = Adapter {
        index: 10,
        name: "Ethernet".to_owned(),
        alias: None,
        guid: String::new(),
        mac: String::new(),
        state: "paused",
        mtu: 1500,
        link_speed: 0,
        connected: true,
        handles: 0,
        id: [0; 16],
    };
    let mut patience = Patience::new(Duration::from_millis(100));
    let bound = adapter::bind_within(&Handle::new(&world), &adapter, &mut patience, &Stop::default());
    let said = bound.unwrap_err();
    assert_eq!((world.cancelled.get(), said.exit_code()), (1, 9));
    let said = said.to_string();
    assert!(
        said.starts_with("the adapter \"Ethernet\" could not be bound within 0.1 s: the module is paused"),
        "{said}"
    );

    let stop = Stop::default();
    press(&stop, &[100]);
    let bound =
        adapter::bind_within(&Handle::new(&world), &adapter, &mut Patience::new(Duration::MAX), &stop);
    assert!(matches!(bound, Err(Error::Stopped)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn each_frame_is_sent_once_whatever_the_driver_answers(
        script in proptest::collection::vec(0..4u8, 0..12),
        batch in 1..6usize,
        depth in 1..5usize,
    ) {
        let answers: Vec<Answer> = script.iter().enumerate().map(|(index, kind)| match kind {
            0 => Answer::Sent,
            1 => Answer::From(index % 4, FrameResult::PAUSED),
            2 => Answer::Removed,
            _ => Answer::From(index % 3, FrameResult(status::LOW_POWER_STATE)),
        }).collect();
        let world = World::new(&answers);
        let options = Options { batch, depth, skip: false, wait: Duration::from_mins(1) };
        let (sums, error, _) = send(&world, 60, options, &Stop::default());
        prop_assert!(error.is_none(), "{error:?}");
        let mut wire = world.wire.borrow().clone();
        wire.sort_unstable();
        prop_assert_eq!(wire, (1..=60).collect::<Vec<_>>());
        prop_assert_eq!(sums.totals.sent, 60);
    }
}
