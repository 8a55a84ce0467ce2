//! An event for which nobody listens: the processor counts the instructions of the release build, one by one.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that finds nothing there has failed")]
#![expect(unsafe_code, reason = "runs code of the image, and steps through it")]
mod common;

use std::arch::asm;
use std::collections::BTreeMap;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use object::read::pe::PeFile64;
use object::{LittleEndian, Object, ObjectSection};

/// Where the image is mapped: the trap handler counts there only.
static START: AtomicU64 = AtomicU64::new(0);
static END: AtomicU64 = AtomicU64::new(0);
static COUNTED: AtomicU64 = AtomicU64::new(0);

/// Counts an instruction of the image. Linux clears the trap flag for the handler and restores it behind it.
extern "C" fn trapped(_signal: i32, _info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the third argument is the context of the interrupted thread.
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    // Trapped after each instruction: this is the address of the next one.
    let next = context.uc_mcontext.gregs.get(libc::REG_RIP as usize).map_or(0, |rip| *rip as u64);
    if (START.load(Relaxed)..END.load(Relaxed)).contains(&next) {
        COUNTED.fetch_add(1, Relaxed);
    }
}

/// Puts the image at the address that it was linked for; its exports.
fn mapped() -> BTreeMap<String, u64> {
    let data = common::image();
    let file = PeFile64::parse(data.as_slice()).unwrap();
    let base = file.relative_address_base();
    let length = file.nt_headers().optional_header.size_of_image.get(LittleEndian) as usize;
    let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: the kernel refuses a place where something lies already.
    let place = unsafe { libc::mmap(base as *mut _, length, protection, flags, -1, 0) };
    assert_eq!(place as u64, base, "the image's own address is taken");
    for section in file.sections() {
        let bytes = section.data().unwrap();
        let to = section.address() as *mut u8;
        // SAFETY: sections lie inside the image, which is mapped here and used by nobody else yet.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len().min(section.size() as usize)) };
    }
    START.store(base, Relaxed);
    END.store(base + length as u64, Relaxed);
    common::exports(&file)
}

/// Runs a function of the image, of which no import is bound: a call would end the test; returns how many of its instructions ran.
fn steps(function: u64) -> u64 {
    // SAFETY: every export that is asked for has these arguments.
    let function: extern "win64" fn(u32, i32) = unsafe { std::mem::transmute(function as *const ()) };
    COUNTED.store(0, Relaxed);
    // SAFETY: sets the trap flag alone.
    unsafe { asm!("pushfq", "or dword ptr [rsp], 0x100", "popfq") };
    function(7, 0);
    // SAFETY: clears it again.
    unsafe { asm!("pushfq", "and dword ptr [rsp], 0xfffffeff", "popfq") };
    COUNTED.load(Relaxed)
}

#[test]
fn an_event_without_a_listener_costs_less_than_ten_instructions_and_no_call() {
    let exports = mapped();
    // SAFETY: all zeros are an action without flags and with an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = trapped as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the handler touches atomics only.
    assert_eq!(unsafe { libc::sigaction(libc::SIGTRAP, &raw const action, null_mut()) }, 0);
    let [none, one, two] =
        ["no_event", "event", "event_twice"].map(|name| steps(*exports.get(name).unwrap()));
    println!("instructions: {none} without an event, {one} with one, {two} with two");
    assert_eq!(none, 1, "a function that does nothing returns");
    assert!(one - none < 10, "an event costs {}", one - none);
    assert!(two - one < 10, "another event costs {}", two - one);
}
