//! What a handle and a request keep, and for how long: the last reference to a module may go with the completion of any
//! request, and a bind that fails leaves its handle as it was.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that finds nothing there has failed"
)]
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use sluice_abi::{ABI_MAJOR, BindRequest, FrameResult, IOCTL_BIND, IOCTL_SEND, SendHeader, WIN32_NAME};
use sluice_machine::bugcheck::Bugcheck;
use sluice_machine::ndis::adapter::{Adapter, Completes};
use sluice_machine::user::{Handle, Pending};
use sluice_machine::{Machine, Schedule, user};
use sluice_suite::bench::{self, Bench, adapter_that};
use sluice_suite::image::{Build, path};
use zerocopy::IntoBytes;

const SUCCESS: i32 = 0;
const CANCELLED: i32 = 0xC000_0120_u32 as i32;
const INVALID_DEVICE_STATE: i32 = 0xC000_0184_u32 as i32;
const DEVICE_REMOVED: i32 = 0xC000_02B6_u32 as i32;

fn open() -> Handle {
    Handle::open(WIN32_NAME, true).unwrap()
}

fn bind(handle: &Handle, adapter: &Adapter) -> Pending {
    let text = adapter.guid();
    let digits: Vec<u8> =
        text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    let guid: Vec<u8> = digits.as_chunks().0.iter().map(|[high, low]| high << 4 | low).collect();
    let record = BindRequest { abi_major: ABI_MAJOR, reserved: [0; 6], guid: guid.try_into().unwrap() };
    handle.control(IOCTL_BIND, record.as_bytes(), Vec::new())
}

fn send(handle: &Handle, frames: u32) -> Pending {
    let header = SendHeader { abi_major: ABI_MAJOR, flags: 0, frame_count: frames };
    let mut input = header.as_bytes().to_vec();
    let mut data = vec![0xEE; size_of::<FrameResult>() * frames as usize];
    for _ in 0..frames {
        input.extend_from_slice(&60_u32.to_le_bytes());
        data.extend_from_slice(&[0x55; 60]);
    }
    handle.control(IOCTL_SEND, &input, data)
}

/// A request is completed by a slow thread, after its handle was closed and its adapter pulled out by another. Whether it
/// was so, or the bugcheck.
fn completed_last(seed: u64, cancel: bool) -> Result<bool, Bugcheck> {
    let completes = if cancel { Completes::Late(9_000_000, 9_000_000) } else { Completes::Late(50, 100) };
    let mut configuration = adapter_that(completes);
    configuration.schedule = Schedule::random(seed);
    let machine = Machine::start(configuration).unwrap();
    machine.load_driver(&path(Build::Release)).unwrap();
    let adapter = machine.adapters()[0].clone();
    let (ready, closed, last) =
        (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
    let place: Rc<RefCell<Option<Handle>>> = Rc::default();
    let (is_ready, kept, bound_to) = (ready.clone(), place.clone(), adapter.clone());
    let (was_closed, was_last) = (closed.clone(), last.clone());
    machine.spawn("sender", move || {
        let handle = open();
        assert_eq!(bind(&handle, &bound_to).wait().status, SUCCESS);
        kept.replace(Some(handle.clone()));
        if cancel {
            let _outstanding = [send(&handle, 512), send(&handle, 512)];
            let waits = send(&handle, 512);
            assert!(waits.result().is_none());
            is_ready.set(true);
            user::sleep(10);
            waits.cancel();
        } else {
            is_ready.set(true);
            user::sleep(10);
            send(&handle, 3).wait();
        }
        was_last.set(was_closed.get());
    });
    machine.run_until(|| ready.get())?;
    let until = closed.clone();
    let held_at = if cancel { "IofCompleteRequest" } else { "KeGetCurrentProcessorNumberEx" };
    machine.hold("sender", held_at, move || until.get());
    machine.spawn("other", move || {
        user::sleep(100);
        adapter.unplug();
        let watched = adapter.clone();
        user::wait_for("the stack", move || watched.is_settled());
        place.take().unwrap().close();
        closed.set(true);
    });
    machine.run_until_idle()?;
    Ok(last.get())
}

fn nothing_of_a_module_is_used(cancel: bool) {
    let mut last = 0;
    for seed in 1..=1000 {
        last += u32::from(completed_last(seed, cancel).unwrap_or_else(|stop| panic!("{stop}")));
    }
    // The path was taken: the completion came after the close.
    assert!(last > 500, "only {last} of 1000 completions came last");
}

#[test]
fn a_send_that_is_refused_after_its_handle_was_closed_uses_nothing_of_its_module() {
    nothing_of_a_module_is_used(false);
}

#[test]
fn a_waiting_send_that_is_cancelled_after_its_handle_was_closed_uses_nothing_of_its_module() {
    nothing_of_a_module_is_used(true);
}

/// A machine on which the restart that a bind asks for stops in `FilterPause`, until the condition holds.
fn restart_that_waits(go: &Rc<Cell<bool>>) -> Bench {
    let bench = Bench::new(adapter_that(Completes::Late(50, 100)));
    let until = go.clone();
    bench.machine.hold("NDIS restarts adapter 0", "KeAcquireSpinLockRaiseToDpc", move || until.get());
    bench
}

#[test]
fn a_bind_that_is_cancelled_leaves_its_handle_unbound() {
    let go = Rc::new(Cell::new(false));
    let bench = restart_that_waits(&go);
    let adapter = bench.machine.adapters()[0].clone();
    bench.run(move || {
        let handle = open();
        let first = bind(&handle, &adapter);
        user::sleep(500);
        assert!(first.result().is_none(), "the restart is held back");
        assert_eq!(bind(&handle, &adapter).wait().status, INVALID_DEVICE_STATE, "another bind pends");
        assert_eq!(send(&handle, 1).wait().status, INVALID_DEVICE_STATE, "the handle is not bound yet");
        first.cancel();
        assert_eq!(first.wait().status, CANCELLED);
        assert_eq!(send(&handle, 1).wait().status, INVALID_DEVICE_STATE);
        let second = bind(&handle, &adapter);
        go.set(true);
        assert_eq!(second.wait().status, SUCCESS);
        assert_eq!(send(&handle, 1).wait().status, SUCCESS);
        assert_eq!(bind(&handle, &adapter).wait().status, INVALID_DEVICE_STATE, "the handle is bound");
        handle.close();
        user::sleep(100);
        assert_eq!(
            bench::adapter(bench::open().as_ref(), 0).handles,
            0,
            "a bind that failed counts as no handle"
        );
    });
    bench.finish();
}

#[test]
fn a_bind_whose_adapter_goes_leaves_its_handle_unbound() {
    let mut removed = 0;
    for seed in 1..=100 {
        let mut configuration = adapter_that(Completes::Late(50, 100));
        configuration.schedule = Schedule::random(seed);
        let bench = Bench::new(configuration);
        let adapter = bench.machine.adapters()[0].clone();
        removed += bench.run(move || {
            let settled = || {
                let watched = adapter.clone();
                user::wait_for("the stack", move || watched.is_settled());
            };
            let handle = open();
            let first = bind(&handle, &adapter);
            adapter.unplug();
            settled();
            let status = first.wait().status;
            assert!(status == DEVICE_REMOVED || status == SUCCESS, "{status:#x}");
            adapter.enable();
            settled();
            if status == DEVICE_REMOVED {
                assert_eq!(bind(&handle, &adapter).wait().status, SUCCESS);
                assert_eq!(send(&handle, 1).wait().status, SUCCESS);
            } else {
                assert_eq!(send(&handle, 1).wait().status, DEVICE_REMOVED);
            }
            handle.close();
            u32::from(status == DEVICE_REMOVED)
        });
        bench.finish();
    }
    assert!((10..90).contains(&removed), "{removed} of 100 binds met the end of their module");
}

#[test]
fn a_handle_that_is_closed_while_it_binds_is_closed() {
    let go = Rc::new(Cell::new(false));
    let bench = restart_that_waits(&go);
    let adapter = bench.machine.adapters()[0].clone();
    bench.run(move || {
        let handle = open();
        let first = bind(&handle, &adapter);
        user::sleep(500);
        handle.clone().close();
        assert_eq!(first.wait().status, CANCELLED);
        user::wait_for("the end of the handle", move || handle.is_gone());
        go.set(true);
    });
    bench.finish();
}

/// The module is listed before `FilterAttach` has returned, and NDIS restarts no module then.
#[test]
fn a_bind_that_comes_before_attach_has_returned_waits_for_the_restart_that_follows() {
    let bench = Bench::new(adapter_that(Completes::Late(50, 100)));
    let adapter = bench.machine.adapters()[0].clone();
    let away = adapter.clone();
    bench.run(move || {
        away.disable();
        user::wait_for("the stack", move || away.is_settled());
    });
    let (go, held) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
    let (until, reached) = (go.clone(), held.clone());
    // The list's lock is the last call of FilterAttach into the kernel.
    bench.machine.hold_after("enable adapter 0", "KeReleaseSpinLock", move || {
        reached.set(true);
        until.get()
    });
    bench.run(move || {
        adapter.enable();
        user::wait_for("the module to be listed", move || held.get());
        let handle = open();
        let bound = bind(&handle, &adapter);
        user::sleep(100);
        assert!(bound.result().is_none(), "{:?}", bound.result());
        go.set(true);
        assert_eq!(bound.wait().status, SUCCESS);
        assert_eq!(send(&handle, 1).wait().status, SUCCESS);
        handle.close();
    });
    bench.finish();
}

/// The worker tells that it has ended, and the driver is unloaded, before its routine has returned.
#[test]
fn a_work_item_keeps_its_driver_until_its_routine_has_returned() {
    let bench = Bench::new(adapter_that(Completes::Late(50, 100)));
    let (go, held) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
    let (until, reached) = (go.clone(), held.clone());
    bench.machine.hold_after("worker", "ExReleaseRundownProtection", move || {
        reached.set(true);
        until.get()
    });
    bench.run(|| drop(bench::bound()));
    assert!(held.get(), "the worker is about to return");
    bench.machine.spawn("time", move || {
        user::sleep(1_000_000);
        go.set(true);
    });
    bench.finish();
}
