//! The rules, one by one; these also run under Miri.
#![expect(clippy::unwrap_used, reason = "a test that finds nothing there has failed")]
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use sluice_core::counters::Counters;
use sluice_core::gate::{Close, Direction, Gate, Leave, Outstanding, Shard};
use sluice_core::layout::{CANARY, SlotLayout};
use sluice_core::lifecycle::{Edge, Lifecycle, State};
use sluice_core::slot::{InFlight, Slot, SlotMap, Taken, words_for};
use sluice_core::transfer::Transfer;
use sluice_core::{guid, request};

type TestGate = Gate<AtomicU64, Vec<Shard<AtomicU64>>>;

fn gate(shards: usize) -> TestGate {
    Gate::new((0..shards).map(|_| Shard::new()).collect())
}

fn open(gate: &TestGate) {
    gate.claim().unwrap().open();
}

#[test]
fn a_new_gate_is_closed_and_drained() {
    let gate = gate(2);
    assert!(gate.enter(0, Direction::Send, 1).is_none());
    assert!(gate.claim().is_some());
}

#[test]
fn a_pause_with_nothing_in_flight_closes_the_gate_all_the_same() {
    let gate = gate(2);
    open(&gate);
    assert_eq!(gate.close(), Close::Drained);
    assert!(gate.enter(0, Direction::Send, 1).is_none());
    assert!(gate.enter(1, Direction::Receive, 1).is_none());
}

#[test]
fn a_frame_in_flight_delays_the_pause_until_it_is_back() {
    let gate = gate(2);
    open(&gate);
    let pass = gate.enter(1, Direction::Send, 1).unwrap();
    assert_eq!(gate.close(), Close::Pending);
    assert!(gate.claim().is_none(), "nothing may be freed while a frame is out");
    assert_eq!(gate.leave(pass), Leave::Drained);
    assert!(gate.claim().is_some());
}

#[test]
fn sends_and_receives_are_counted_apart_and_both_are_drained() {
    let gate = gate(1);
    open(&gate);
    let send = gate.enter(0, Direction::Send, 3).unwrap();
    let receive = gate.enter(0, Direction::Receive, 2).unwrap();
    assert_eq!(gate.outstanding(), Outstanding { sends: 3, receives: 2 });
    assert_eq!(gate.close(), Close::Pending);
    assert_eq!(gate.leave(send), Leave::Left);
    assert_eq!(gate.outstanding(), Outstanding { sends: 0, receives: 2 });
    assert_eq!(gate.leave(receive), Leave::Drained);
}

#[test]
fn a_chain_leaves_in_parts_and_the_last_part_drains() {
    use sluice_core::gate::Pass;
    let gate = gate(2);
    open(&gate);
    let pass = gate.enter(1, Direction::Send, 512).unwrap();
    let shard = pass.shard();
    assert_eq!(pass.into_items(), 512);
    assert_eq!(gate.close(), Close::Pending);
    for _ in 0..511 {
        assert_eq!(gate.leave(Pass::resume(shard, Direction::Send, 1)), Leave::Left);
    }
    assert_eq!(gate.leave(Pass::resume(shard, Direction::Send, 1)), Leave::Drained);
}

#[test]
fn every_shard_has_to_be_empty() {
    let gate = gate(3);
    open(&gate);
    let passes: Vec<_> = (0..3).map(|shard| gate.enter(shard, Direction::Send, 1).unwrap()).collect();
    assert_eq!(gate.close(), Close::Pending);
    let left: Vec<_> = passes.into_iter().map(|pass| gate.leave(pass)).collect();
    assert_eq!(left, [Leave::Left, Leave::Left, Leave::Drained]);
}

#[test]
fn a_gate_opens_again_after_each_drain() {
    let cycles = if cfg!(miri) { 50 } else { 10_000 };
    let gate = gate(2);
    for cycle in 0..cycles {
        open(&gate);
        let pass = gate.enter(cycle, Direction::Send, 1).unwrap();
        assert_eq!(gate.close(), Close::Pending);
        assert_eq!(gate.close(), Close::NotOpen, "a gate closes once");
        assert_eq!(gate.leave(pass), Leave::Drained);
    }
}

#[test]
fn the_proof_is_given_to_one_holder_at_a_time() {
    let gate = gate(1);
    let proof = gate.claim().unwrap();
    assert!(gate.claim().is_none());
    drop(proof);
    assert!(gate.claim().is_some());
}

#[test]
fn an_open_gate_gives_no_proof() {
    let gate = gate(1);
    open(&gate);
    assert!(gate.claim().is_none());
}

#[test]
fn one_leaver_of_many_threads_completes_the_pause() {
    let (threads, rounds) = if cfg!(miri) { (3, 4) } else { (4, 200) };
    let gate = gate(2);
    for _ in 0..rounds {
        open(&gate);
        let drained = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (gate, drained) = (&gate, &drained);
                scope.spawn(move || {
                    while let Some(pass) = gate.enter(thread, Direction::Send, 2) {
                        if gate.leave(pass) == Leave::Drained {
                            drained.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            let (gate, drained) = (&gate, &drained);
            scope.spawn(move || {
                std::thread::yield_now();
                if gate.close() == Close::Drained {
                    drained.fetch_add(1, Ordering::Relaxed);
                }
            });
        });
        assert_eq!(drained.load(Ordering::Relaxed), 1);
        assert_eq!(gate.outstanding(), Outstanding::default());
    }
}

fn map(slots: u32) -> SlotMap<AtomicU64, Vec<AtomicU64>> {
    SlotMap::new((0..words_for(slots)).map(|_| AtomicU64::new(0)).collect(), slots)
}

fn take(map: &SlotMap<AtomicU64, Vec<AtomicU64>>, count: u32, start: u32) -> Option<Vec<Slot<Taken>>> {
    let mut slots = Vec::new();
    map.take(count, start, |slot| slots.push(slot)).then_some(slots)
}

fn fly(slot: Slot<Taken>) -> Slot<InFlight> {
    slot.filled().submitted()
}

#[test]
fn a_map_hands_out_each_slot_once() {
    let map = map(100);
    let mut taken: Vec<u32> = take(&map, 100, 1).unwrap().iter().map(Slot::index).collect();
    taken.sort_unstable();
    assert_eq!(taken, (0..100).collect::<Vec<_>>());
    assert!(take(&map, 1, 0).is_none());
}

#[test]
fn a_map_with_too_few_slots_hands_out_none() {
    let map = map(128);
    let some = take(&map, 100, 0).unwrap();
    assert!(take(&map, 29, 0).is_none());
    assert_eq!(map.free_slots(), 28, "what was taken for a request that failed is back");
    assert_eq!(take(&map, 28, 0).unwrap().len(), 28);
    some.into_iter().map(fly).for_each(|slot| map.put(slot));
    assert_eq!(map.free_slots(), 100);
}

#[test]
fn threads_share_a_map_without_losing_slots() {
    let rounds = if cfg!(miri) { 5 } else { 500 };
    let map = map(192);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let map = &map;
            scope.spawn(move || {
                for round in 0..rounds {
                    if let Some(slots) = take(map, 1 + (round * 7 + thread) % 90, thread) {
                        slots.into_iter().map(fly).for_each(|slot| map.put(slot));
                    }
                }
            });
        }
    });
    assert_eq!(map.free_slots(), 192);
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "put back twice")]
fn a_slot_that_is_put_back_twice_is_noticed() {
    let map = map(64);
    let slots = take(&map, 1, 0).unwrap();
    let index = slots[0].index();
    slots.into_iter().map(fly).for_each(|slot| map.put(slot));
    map.put(Slot::returned(index));
}

#[test]
fn the_last_frame_finishes_a_request_that_nobody_cancels() {
    let transfer = Transfer::<AtomicU64>::new();
    transfer.start(3);
    assert!(!transfer.frames_back(2));
    assert!(transfer.frames_back(1));
    assert!(!transfer.give_up(), "the cancel routine's share, taken back with the routine");
    assert!(transfer.give_up(), "the frames' share");
}

#[test]
fn a_cancel_routine_that_runs_last_finishes_the_request() {
    let transfer = Transfer::<AtomicU64>::new();
    transfer.start(1);
    assert!(transfer.frames_back(1));
    assert!(!transfer.give_up(), "the frames' share: the routine still runs");
    assert!(transfer.give_up(), "the routine's share");
}

#[test]
fn only_documented_edges_lead_anywhere() {
    for edge in Edge::ALL {
        for path in [
            &[][..],
            &[Edge::Attached],
            &[Edge::Attached, Edge::Restart],
            &[Edge::Attached, Edge::Restart, Edge::Restarted],
            &[Edge::Attached, Edge::Restart, Edge::Restarted, Edge::Pause],
            &[Edge::Attached, Edge::Detach],
        ] {
            let life = Lifecycle::<AtomicU64>::new();
            for step in path {
                life.go(*step).unwrap();
            }
            let at = life.state();
            let (from, to) = edge.ends();
            if from == at {
                life.go(edge).unwrap();
                assert_eq!(life.state(), to);
            } else {
                assert_eq!(life.go(edge), Err(at));
                assert_eq!(life.state(), at, "a forbidden edge changes nothing");
            }
        }
    }
}

#[test]
fn pause_restart_and_pause_again_is_a_circle() {
    let life = Lifecycle::<AtomicU64>::new();
    life.go(Edge::Attached).unwrap();
    for _ in 0..10 {
        for edge in [Edge::Restart, Edge::Restarted, Edge::Pause, Edge::Paused] {
            life.go(edge).unwrap();
        }
    }
    life.go(Edge::Restart).unwrap();
    life.go(Edge::RestartFailed).unwrap();
    assert_eq!(life.state(), State::Paused);
}

#[test]
fn slots_have_room_for_a_tagged_frame_and_a_canary() {
    let layout = SlotLayout::new(1500, 16);
    assert_eq!(layout.max_frame, 1518);
    assert!(layout.stride >= layout.mapped_length() + CANARY);
    assert_eq!(layout.stride % 64, 0);
    assert_eq!(layout.slab_length(64), layout.stride * 64);
}

#[test]
fn only_a_frame_with_a_tag_may_be_as_long_as_its_slot() {
    let layout = SlotLayout::new(1500, 0);
    let frame = |kind: [u8; 2]| [&[0; 12][..], &kind].concat();
    for kind in [[0x08, 0x00], [0x81, 0x01], [0x91, 0x00], [0x00, 0x81], [0x88, 0xB5]] {
        assert!(layout.takes(1514, &frame(kind)), "{kind:x?}");
        assert!(!layout.takes(1515, &frame(kind)), "{kind:x?}");
    }
    for kind in [[0x81, 0x00], [0x88, 0xA8]] {
        assert!(layout.takes(1518, &frame(kind)), "{kind:x?}");
        assert!(!layout.takes(1519, &frame(kind)), "{kind:x?}");
    }
    assert!(!layout.takes(1515, &[]), "a frame that is too short for a tag has none");
}

#[test]
fn an_adapter_cannot_ask_for_absurd_slots() {
    let layout = SlotLayout::new(u32::MAX, u32::MAX);
    assert!(layout.stride < 32 * 1024);
}

#[test]
fn guids_are_read_from_device_names() {
    let wide = |text: &str| text.encode_utf16().collect::<Vec<u16>>();
    let name = wide("\\DEVICE\\{00112233-4455-6677-8899-aAbBcCdDeEfF}");
    let expected =
        [0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0xFF];
    assert_eq!(guid::parse(&name), Some(expected));
    for wrong in [
        "",
        "{",
        "\\DEVICE\\NoGuid",
        "{00112233-4455-6677-8899-aabbccddeef}",
        "{00112233+4455-6677-8899-aabbccddeeff}",
    ] {
        assert_eq!(guid::parse(&wide(wrong)), None, "{wrong}");
    }
}

#[test]
fn counters_count() {
    let counters = Counters::<AtomicU64>::new();
    counters.frames_waiting.add(5);
    counters.frames_waiting.sub(2);
    assert_eq!(counters.frames_waiting.get(), 3);
}

fn send(lengths: &[u32]) -> Vec<u8> {
    let mut input = vec![1, 0, 0, 0];
    input.extend_from_slice(&(lengths.len() as u32).to_le_bytes());
    for length in lengths {
        input.extend_from_slice(&length.to_le_bytes());
    }
    input
}

#[test]
fn frames_lie_one_after_the_other_behind_the_results() {
    let input = send(&[60, 1514, 14]);
    let request = request::Send::parse(&input, 12 + 60 + 1514 + 14, 1518).unwrap();
    assert_eq!(request.frames(), 3);
    assert_eq!((request.bytes(), request.longest()), (1588, 1514));
    assert_eq!(request.spans().collect::<Vec<_>>(), [(12, 60), (72, 1514), (1586, 14)]);
}

#[test]
fn each_fault_of_a_send_request_has_its_refusal() {
    use request::Refusal;
    let refused = |input: &[u8], data| request::Send::parse(input, data, 1518).unwrap_err();
    let good = send(&[60]);
    assert_eq!(refused(&[], 0), Refusal::TooShort);
    assert_eq!(refused(&good[..7], 64), Refusal::TooShort);
    assert_eq!(refused(&good[..9], 64), Refusal::TooShort);
    assert_eq!(refused(&[&good[..], &[0]].concat(), 64), Refusal::TrailingBytes);
    assert_eq!(refused(&[2, 0, 0, 0, 1, 0, 0, 0, 60, 0, 0, 0], 64), Refusal::Version);
    assert_eq!(refused(&[1, 0, 1, 0, 1, 0, 0, 0, 60, 0, 0, 0], 64), Refusal::Reserved);
    assert_eq!(refused(&send(&[]), 0), Refusal::FrameCount);
    assert_eq!(refused(&send(&[60; 513]), 513 * 64), Refusal::FrameCount);
    assert_eq!(refused(&send(&[13]), 17), Refusal::FrameTooShort);
    assert_eq!(refused(&send(&[1519]), 1523), Refusal::FrameTooLong);
    assert_eq!(refused(&send(&[u32::MAX]), 3), Refusal::FrameTooLong);
    assert_eq!(refused(&good, 63), Refusal::DataLength);
    assert_eq!(refused(&good, 65), Refusal::DataLength);
}

#[test]
fn each_fault_of_a_bind_request_has_its_refusal() {
    use request::{Refusal, parse_bind};
    let mut good = vec![1, 0, 0, 0, 0, 0, 0, 0];
    good.extend(0..16);
    assert_eq!(parse_bind(&good).unwrap()[15], 15);
    assert_eq!(parse_bind(&good[..23]), Err(Refusal::TooShort));
    assert_eq!(parse_bind(&[&good[..], &[0]].concat()), Err(Refusal::TrailingBytes));
    good[7] = 1;
    assert_eq!(parse_bind(&good), Err(Refusal::Reserved));
    good[0] = 9;
    assert_eq!(parse_bind(&good), Err(Refusal::Version));
}
