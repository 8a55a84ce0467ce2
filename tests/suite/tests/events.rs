//! What the driver tells who listens to its events, decoded by the machine from the events themselves.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that finds nothing there has failed"
)]
use sluice_abi::IOCTL_SEND;
use sluice_client::adapter;
use sluice_client::device::{Device, Driver};
use sluice_machine::ndis::adapter::Completes;
use sluice_machine::{Configuration, Event, LowResources, Machine, Session, user};
use sluice_suite::bench::{self, Bench, adapter_that, bound};
use sluice_suite::client::Local;
use sluice_suite::image::{self, Build};
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
fn refusals_and_errors_are_told_with_their_status() {
    let mut configuration = Configuration {
        etw: Some(Session { level: 5, keywords: REQUESTS, print: false }),
        ..adapter_that(Completes::Late(50, 60))
    };
    configuration.adapters[0].fails_every = Some(4);
    let bench = Bench::new(configuration);
    bench.run(|| {
        let nobody = bench::open();
        let unbound = nobody.start(IOCTL_SEND, vec![0; 12], vec![0; 64]).unwrap().wait().unwrap();
        assert_eq!(unbound.status, 0xC000_0184);
        let device = bound();
        let short = device.start(IOCTL_SEND, vec![1, 0], Vec::new()).unwrap().wait().unwrap();
        assert_eq!(short.status, 0xC000_0023);
        bench::send(device.as_ref(), (0..8).map(|number| frame(1, number, 100)).collect()).unwrap();
    });
    bench.machine.run_until_idle().unwrap();
    let events = bench.machine.events();
    let told: Vec<_> = events
        .iter()
        .filter(|event| event.name == "RequestRefused")
        .map(|event| ["InterfaceIndex", "Code", "Status"].map(|name| field(event, name)))
        .collect();
    let code = format!("{IOCTL_SEND:#x}");
    let interface = field(events.iter().find(|event| event.name == "HandleBound").unwrap(), "InterfaceIndex");
    assert_eq!(told, [["0", &code, "0xc0000184"], [interface, &code, "0xc0000023"]]);
    let failed = events.iter().filter(|event| event.name == "FramesFailed");
    let frames: u64 = failed.clone().map(|event| field(event, "Frames").parse::<u64>().unwrap()).sum();
    assert_eq!(frames, 2);
    assert!(failed.into_iter().all(|event| field(event, "Status") == "0xc0000001"), "{events:#?}");
    assert_eq!(events.iter().filter(|event| event.name == "HandleClosed").count(), 1);
    bench.finish();
}

/// A handle that is bound to the first adapter, if the driver had the memory.
fn try_to_bind() -> Option<Box<dyn Device>> {
    let device = (Local { administrator: true }).open().ok()?;
    let adapters = adapter::list(device.as_ref()).ok()?;
    adapter::bind(device.as_ref(), adapters.first()?).ok()?;
    Some(device)
}

#[test]
fn memory_that_is_not_there_is_told() {
    let mut missing = vec!["AttachFailed", "MemoryUnavailable"];
    for number in 1..200 {
        let configuration = Configuration {
            etw: Some(Session { level: 2, keywords: LIFE | DMA, print: false }),
            low_resources: LowResources::Nth(number),
            ..adapter_that(Completes::Any)
        };
        let machine = Machine::start(configuration).unwrap();
        if machine.load_driver(&image::path(Build::Release)).is_err() {
            continue;
        }
        machine.spawn("client", || drop(try_to_bind()));
        machine.run_until_idle().unwrap();
        machine.unload_driver().unwrap();
        missing.retain(|name| machine.events().iter().all(|event| event.name != *name));
        if missing.is_empty() {
            return;
        }
    }
    panic!("never told: {missing:?}");
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
