//! What the driver tells who listens to its events, decoded by the machine from the events themselves.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that finds nothing there has failed"
)]
use sluice_machine::ndis::adapter::Completes;
use sluice_machine::{Configuration, Event, Session, user};
use sluice_suite::bench::{self, Bench, adapter_that, bound};
use sluice_suite::scenario::frame;

const LIFE: u64 = 0x1;
const DMA: u64 = 0x2;
const REQUESTS: u64 = 0x4;
const ADDRESSES: u64 = 0x8;

/// Sends twelve frames, and pauses the stack while they are out; what was told.
fn told(keywords: Option<u64>) -> (Vec<Event>, u64) {
    let configuration = Configuration {
        etw: keywords.map(|keywords| Session { level: 5, keywords, print: false }),
        ..adapter_that(Completes::Late(500, 600))
    };
    let bench = Bench::new(configuration);
    let adapter = bench.machine.adapters()[0].clone();
    let pausing = adapter.clone();
    adapter.when_in_flight(12, move || pausing.restart());
    bench.run(|| {
        let device = bound();
        let frames = (0..12).map(|number| frame(1, number, 100)).collect();
        bench::send(device.as_ref(), frames).unwrap();
        user::sleep(5_000);
    });
    bench.machine.run_until_idle().unwrap();
    bench.machine.unload_driver().unwrap();
    (bench.machine.events(), bench.machine.events_written())
}

fn field<'a>(event: &'a Event, name: &str) -> &'a str {
    event.fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str()).unwrap()
}

#[test]
fn a_pause_with_frames_in_flight_is_told_in_order() {
    let (events, _) = told(Some(LIFE | DMA));
    assert!(events.iter().all(|event| event.provider == "Sluice.NdisFilter"), "{events:#?}");
    let names: Vec<_> = events.iter().map(|event| event.name.as_str()).collect();
    let at = |name: &str, from: usize| from + names[from..].iter().position(|found| *found == name).unwrap();
    let attached = at("ModuleAttached", 0);
    let allocated = at("CommonBufferAllocated", attached);
    let batch = at("BatchStarted", allocated);
    assert_eq!((field(&events[batch], "Frames"), field(&events[batch], "Bytes")), ("12", "1200"));
    let pausing = at("ModulePausing", batch);
    assert_eq!(field(&events[pausing], "InFlight"), "12");
    let completed = at("BatchCompleted", pausing);
    assert_eq!(field(&events[completed], "Batch"), field(&events[batch], "Batch"));
    let paused = at("ModulePaused", completed);
    let latency: u64 = field(&events[paused], "Microseconds").parse().unwrap();
    assert!((1..2_000).contains(&latency), "{latency}");
    let restarted = at("ModuleRestarted", paused);
    assert_eq!(field(&events[restarted], "Usable"), "true");
    at("ModuleDetached", at("CommonBufferFreed", restarted));
    let count = |name: &str| names.iter().filter(|found| **found == name).count();
    assert_eq!(count("CommonBufferAllocated"), count("CommonBufferFreed"));
    assert_eq!(count("ModuleAttached"), count("ModuleDetached"));
}

#[test]
fn nothing_is_written_when_nobody_listens() {
    let (events, written) = told(None);
    assert_eq!((events.len(), written), (0, 0));
}

#[test]
fn addresses_are_told_with_their_keyword_only() {
    let (told_with, _) = told(Some(ADDRESSES));
    assert!(!told_with.is_empty() && told_with.iter().all(|event| event.name == "CommonBufferAddress"));
    let addresses: Vec<_> = told_with.iter().map(|event| field(event, "Virtual")).collect();
    // The same schedule, and so the same addresses.
    let (told_without, _) = told(Some(LIFE | DMA | REQUESTS));
    assert!(told_without.len() > told_with.len());
    for event in &told_without {
        assert!(event.fields.iter().all(|(_, value)| !addresses.contains(&value.as_str())), "{event}");
    }
}
