// Sending with a lock held, with the token from outside: the lock has borrowed it.
// expect: E0502
use sluice_kernel::irql::Passive;
use sluice_kernel::lock::SpinLock;
use sluice_ndis::filter::Handle;
use sluice_ndis::list::Chain;

fn misuse(passive: &mut Passive<'_>, lock: &SpinLock<u64>, module: Handle, lists: Chain) {
    lock.with(passive, |_, _| module.send(passive, lists));
}

fn main() {}
