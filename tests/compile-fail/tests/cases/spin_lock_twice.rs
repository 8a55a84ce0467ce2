// Taking a spin lock that this processor holds: it would spin for ever.
// expect: a lock of rank `Leaf` is taken while one of rank `Leaf` is held
use sluice_kernel::irql::Passive;
use sluice_kernel::lock::SpinLock;

fn misuse(passive: &mut Passive<'_>, lock: &SpinLock<u64>) {
    lock.with(passive, |_, inside| lock.with_at_dispatch(inside, |_, _| ()));
}

fn main() {}
