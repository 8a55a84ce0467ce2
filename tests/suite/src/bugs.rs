//! The bug classes of real filters, each as a scenario under which such a bug would show.
use sluice_machine::LowResources;
use sluice_machine::ndis::adapter::{Completes, Oids, Settings};

use crate::scenario::{Event, Outcomes, Plan, Run, Scenario, Stop, play};

/// The sorts of plan that most of them share.
fn restarts(count: usize) -> Vec<Event> {
    vec![Event::Restart; count]
}

fn everything() -> Vec<Event> {
    vec![Event::Restart, Event::Disable, Event::Reset, Event::Unplug, Event::Sleep, Event::Link]
}

macro_rules! bug_classes {
    ($($(#[doc = $doc:literal])* $function:ident = $name:literal, |$random:ident, $run:ident| $plan:expr;)*) => {
        $($(#[doc = $doc])*
        fn $function($run: &Run<'_>) -> Result<Outcomes, Stop> {
            let $random = &mut fastrand::Rng::with_seed($run.schedule.seed ^ 0xB065);
            play($run, &$plan)
        })*
        /// Every bug class by name, in the order of the list of them.
        pub const SCENARIOS: &[(&str, Scenario)] = &[$(($name, $function)),*];
    };
}

bug_classes! {
    /// 1. A pause that is complete with sends outstanding.
    sends_outstanding = "pause-with-sends-outstanding", |random, run| Plan {
        completes: vec![Completes::OutOfOrder(50, 400)],
        events: restarts(random.usize(2..5)),
        ..Plan::default()
    };
    /// 2. A pause that is completed twice.
    completed_twice = "pause-completed-twice", |random, run| Plan {
        completes: vec![Completes::Inline, Completes::Any],
        events: restarts(random.usize(3..6)),
        frames: (1, 4),
        ..Plan::default()
    };
    /// 3. A pause flag that a restart does not clear: ten restarts in each run, and sends after each.
    flag_after_restart = "pause-flag-after-restart", |_random, run| Plan {
        events: [Event::Restart, Event::Nothing(150)].repeat(10),
        handles: (4, 6),
        requests: (3, 6),
        frames: (1, 3),
        large: 0,
        ..Plan::default()
    };
    /// 4. A pause that is known to one handle and not to the others of its module.
    many_handles = "many-handles-of-one-module", |random, run| Plan {
        clients: 6,
        frames: (1, 6),
        large: 0,
        events: restarts(random.usize(1..4)),
        ..Plan::default()
    };
    /// 5. A wait for sends that gives up: completions come after one to nine seconds.
    late_completion = "completion-after-seconds", |_random, run| Plan {
        completes: vec![Completes::Late(900_000, 9_000_000), Completes::OutOfOrder(900_000, 9_000_000)],
        handles: (1, 1),
        requests: (1, 2),
        large: 0,
        ..Plan::default()
    };
    /// 6. A list that is lost: the adapter holds what it has until it is reset or pulled out.
    lost_list = "lists-held-until-reset", |random, run| Plan {
        completes: vec![Completes::Late(5_000_000, 8_000_000)],
        events: vec![Event::Reset, if random.bool() { Event::Unplug } else { Event::Disable }],
        handles: (1, 1),
        large: 0,
        ..Plan::default()
    };
    /// 7. Sends that begin while a module is pausing, in the middle of a batch.
    sends_while_pausing = "sends-while-pausing", |random, run| Plan {
        clients: 3,
        large: 40,
        requests: (3, 6),
        events: restarts(random.usize(2..4)),
        ..Plan::default()
    };
    /// 8. A state that is looked at and a count that is taken apart from each other.
    state_and_count = "state-and-count-apart", |random, run| Plan {
        clients: 3,
        frames: (1, 1),
        large: 0,
        requests: (6, 12),
        completes: vec![Completes::Inline, Completes::Late(0, 5)],
        events: restarts(random.usize(3..6)),
        ..Plan::default()
    };
    /// 9. Frames that are sent without the handlers that get them back: handlers come and go.
    handlers_come_and_go = "handlers-come-and-go", |_random, run| Plan {
        handles: (3, 5),
        requests: (1, 2),
        large: 0,
        rest: 12_000_000,
        events: vec![Event::Nothing(20_000_000), Event::Restart, Event::Nothing(10_000_000)],
        ..Plan::default()
    };
    /// 10. A count that goes below nothing: every frame fails, and many requests are cancelled.
    count_underflow = "every-frame-fails", |_random, run| Plan {
        settings: Settings { fails_every: Some(1), ..Settings::default() },
        cancels: 128,
        ..Plan::default()
    };
    /// 11. A reference that an early return leaks.
    early_returns = "early-returns", |random, run| Plan {
        low_resources: LowResources::OneIn(random.u32(200..8000)),
        nonsense: 1,
        shared: 1,
        ..Plan::default()
    };
    /// 12. A chain of own lists and others' of which only the head is looked at.
    mixed_chains = "mixed-chains", |_random, run| Plan {
        completes: vec![Completes::OutOfOrder(0, 300)],
        host_frames: (10, 30),
        frames: (1, 8),
        large: 0,
        above: Some("pass"),
        events: vec![Event::Restart, Event::Disable],
        ..Plan::default()
    };
    /// 13. Receives with `RESOURCES` that are returned.
    resources = "receives-with-resources", |_random, run| Plan {
        settings: Settings { resources: 60, ..Settings::default() },
        wire_frames: (5, 20),
        above: Some("pass"),
        ..Plan::default()
    };
    /// 14. An own frame that comes back through loopback, mistaken for an own receive.
    loopback = "own-frames-by-loopback", |_random, run| Plan {
        settings: Settings { loopback: true, resources: 30, ..Settings::default() },
        large: 0,
        above: Some("pass"),
        events: vec![Event::Restart, Event::Disable],
        ..Plan::default()
    };
    /// 15. A list whose fields are read after it was freed.
    fields_after_free = "fields-after-free", |_random, run| Plan {
        completes: vec![Completes::Inline, Completes::OutOfOrder(0, 30)],
        dies: 80,
        events: vec![Event::Disable, Event::Unplug],
        ..Plan::default()
    };
    /// 16. A list that is used again with what it had from its last use.
    recycled = "lists-used-again", |_random, run| Plan {
        handles: (1, 1),
        requests: (10, 20),
        frames: (1, 3),
        lengths: (20, 1514),
        large: 0,
        settings: Settings { touches_start: true, ..Settings::default() },
        ..Plan::default()
    };
    /// 17. Memory that is leaked or freed twice where something failed: the n-th allocation fails, for every n.
    failure_paths = "nth-allocation-fails", |_random, run| Plan {
        low_resources: LowResources::Nth(run_number(run)),
        clients: 1,
        handles: (1, 2),
        large: 0,
        ..Plan::default()
    };
    /// 18. A request that is marked pending when it may have completed: the adapter completes inside the send.
    pending_after_completion = "completes-inside-the-send", |_random, run| Plan {
        completes: vec![Completes::Inline],
        cancels: 100,
        ..Plan::default()
    };
    /// 19. A buffer that is given back before the send is complete: clients rewrite and unmap their memory, and die.
    buffer_released = "buffers-rewritten-and-unmapped", |_random, run| Plan {
        nonsense: 3,
        dies: 100,
        completes: vec![Completes::Late(50, 400), Completes::Any],
        ..Plan::default()
    };
    /// 20. An event that the waiter frees while it is being signalled.
    waiter_frees = "last-completion-against-the-waiter", |_random, run| Plan {
        frames: (1, 2),
        large: 0,
        completes: vec![Completes::Late(0, 20)],
        events: vec![Event::Disable, Event::Disable, Event::Unplug],
        handles: (3, 5),
        ..Plan::default()
    };
    /// 21. A pool that is freed at detach while its lists live elsewhere.
    pool_at_detach = "pool-freed-at-detach", |_random, run| Plan {
        completes: vec![Completes::OutOfOrder(100, 900)],
        events: vec![Event::Unplug, Event::Unplug, Event::Disable],
        dies: 60,
        ..Plan::default()
    };
    /// 22. Drivers below that touch where an MDL starts.
    touches_start = "drivers-below-touch-the-mdl", |_random, run| Plan {
        settings: Settings { touches_start: true, backfill: 32, ..Settings::default() },
        ..Plan::default()
    };
    /// 23. A handle that closes while its adapter goes and comes back.
    close_against_detach = "close-against-detach", |_random, run| Plan {
        clients: 3,
        dies: 128,
        handles: (3, 6),
        large: 0,
        events: vec![Event::Unplug, Event::Disable, Event::Unplug],
        ..Plan::default()
    };
    /// 24. A service that is stopped while frames are sent.
    unload = "stopped-while-sending", |_random, run| Plan {
        unloads_early: true,
        dies: 60,
        work_delay: 500,
        events: vec![Event::Restart],
        ..Plan::default()
    };
    /// 25. OID requests against everything that can happen to an adapter.
    oids = "oid-requests", |_random, run| Plan {
        oids: 2,
        settings: Settings { oids: Oids::Any, ..Settings::default() },
        events: [everything(), restarts(3)].concat(),
        ..Plan::default()
    };
    /// 26. Waits at `DISPATCH_LEVEL`: everything completes and is cancelled there.
    waits = "all-at-dispatch-level", |_random, run| Plan {
        completes: vec![Completes::Late(0, 10)],
        cancels: 128,
        wire_frames: (3, 10),
        host_frames: (5, 15),
        ..Plan::default()
    };
    /// 27. Pageable code and data at `DISPATCH_LEVEL`, with text made there.
    pageable = "paged-memory", |_random, run| Plan {
        completes: vec![Completes::Inline, Completes::Late(0, 10)],
        nonsense: 2,
        ..Plan::default()
    };
    /// 28. Too long at `DISPATCH_LEVEL`: the largest requests, one after the other.
    too_long = "largest-requests", |_random, run| Plan {
        large: 255,
        handles: (1, 1),
        requests: (1, 3),
        ..Plan::default()
    };
    /// 29. Frames at the limits: the shortest, the longest, and headers that adapters want apart or together.
    frames = "frames-at-the-limits", |random, run| {
        let mtu = *random.choice(&[1500, 1492, 9000, 68]).unwrap_or(&1500);
        let (tagged, longest) = if random.bool() { (true, mtu as usize + 18) } else { (false, mtu as usize + 14) };
        Plan {
            settings: Settings { mtu, backfill: random.u32(0..4) * 16, touches_start: true, ..Settings::default() },
            lengths: if random.bool() { (19, 20) } else { (longest - 1, longest) },
            tagged,
            frames: (1, 6),
            large: 0,
            ..Plan::default()
        }
    };
    /// 30. Media other than Ethernet: nothing may be sent there.
    media = "other-media", |random, run| Plan {
        settings: Settings { medium: *random.choice(&[9, 15, 19, 12]).unwrap_or(&9), ..Settings::default() },
        ..Plan::default()
    };
    /// 31. An MTU that changes across a restart.
    mtu = "mtu-changes", |random, run| Plan {
        lengths: (20, 1514),
        frames: (1, 10),
        events: (0..4).map(|_| Event::Mtu(random.u32(600..2000))).collect(),
        ..Plan::default()
    };
    /// 32. An NDIS version that keeps the system from what it could do: every version on whose Windows the driver loads,
    /// which is from 10 2004 on.
    versions = "ndis-versions", |random, run| Plan { ndis_minor: random.u32(84..=89), events: everything(), ..Plan::default() };
    /// 33. A module that is touched after the completion that let it go: threads share a handle that one of them closes
    /// while the adapter is pulled out, and are slow wherever they call the kernel.
    completion_lets_go = "handle-closed-by-another-thread", |random, run| Plan {
        clients: 0,
        shared: random.u8(1..=2),
        delay: (200, 2_500),
        events: vec![if random.bool() { Event::Unplug } else { Event::Disable }, Event::Restart],
        completes: vec![Completes::Late(500, 3_000), Completes::OutOfOrder(300, 4_000), Completes::Late(20, 200), Completes::Inline],
        ..Plan::default()
    };
    /// 34. Requests that wait for slots, cancelled, closed, paused and pulled out.
    slots_run_out = "slots-run-out", |random, run| Plan {
        clients: 3,
        large: 200,
        handles: (1, 2),
        requests: (1, 3),
        cancels: 90,
        dies: 60,
        completes: vec![Completes::Late(20_000, 90_000), Completes::OutOfOrder(5_000, 400_000), Completes::OutOfOrder(200, 20_000)],
        delay: (0, 60_000),
        events: (0..random.usize(1..4)).map(|_| *random.choice(&[Event::Restart, Event::Disable, Event::Unplug, Event::Mtu(1400), Event::Mtu(1500), Event::Reset, Event::Nothing(300_000), Event::Sleep]).unwrap_or(&Event::Restart)).collect(),
        ..Plan::default()
    };
    /// 35. Handles that are bound while the adapter comes and goes: to a module that attaches, restarts or detaches.
    binds = "binds-against-attach", |random, run| Plan {
        clients: 4,
        handles: (3, 6),
        requests: (1, 1),
        frames: (1, 3),
        large: 0,
        shared: random.u8(0..=2),
        work_delay: random.u64(0..300),
        events: (0..4).map(|_| *random.choice(&[Event::Disable, Event::Unplug, Event::Restart, Event::Nothing(50)]).unwrap_or(&Event::Disable)).collect(),
        ..Plan::default()
    };
}

/// Counts up with the seed, so that neighbouring runs fail neighbouring allocations.
fn run_number(run: &Run<'_>) -> u64 {
    run.schedule.seed % 2_000
}
