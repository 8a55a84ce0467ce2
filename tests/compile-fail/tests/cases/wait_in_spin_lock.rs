// Waiting while a spin lock is held: the token that shows that waiting is allowed is borrowed by the lock.
// expect: E0502
use sluice_kernel::event::Event;
use sluice_kernel::irql::Passive;
use sluice_kernel::lock::SpinLock;

fn misuse(passive: &mut Passive<'_>, lock: &SpinLock<u64>, event: &Event) {
    lock.with(passive, |_, _| event.wait(passive));
}

fn main() {}
