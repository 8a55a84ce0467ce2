// Taking a lock as at DISPATCH_LEVEL, without a token for that.
// expect: expected `&mut Dispatch
use sluice_kernel::irql::Passive;
use sluice_kernel::lock::SpinLock;

fn misuse(passive: &mut Passive<'_>, lock: &SpinLock<u64>) {
    lock.with_at_dispatch(passive, |value, _| *value += 1);
}

fn main() {}
