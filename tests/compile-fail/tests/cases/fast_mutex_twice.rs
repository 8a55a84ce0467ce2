// Taking a fast mutex that this thread holds: it would wait for itself.
// expect: a lock of rank `Leaf` is taken while one of rank `Leaf` is held
use sluice_kernel::irql::Passive;
use sluice_kernel::mutex::FastMutex;

fn misuse(passive: &mut Passive<'_>, mutex: &FastMutex<u64>) {
    mutex.with(passive, |_, inside| mutex.with_at_apc(inside, |_, _| ()));
}

fn main() {}
