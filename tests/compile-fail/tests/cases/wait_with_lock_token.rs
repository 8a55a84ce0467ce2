// Waiting with the token that a spin lock gives out.
// expect: may neither wait nor touch paged memory
use sluice_kernel::irql::Passive;
use sluice_kernel::lock::SpinLock;
use sluice_kernel::wait::{self, Timeout};

fn misuse(passive: &mut Passive<'_>, lock: &SpinLock<u64>) {
    lock.with(passive, |_, inside| wait::sleep(inside, Timeout::milliseconds(1)));
}

fn main() {}
