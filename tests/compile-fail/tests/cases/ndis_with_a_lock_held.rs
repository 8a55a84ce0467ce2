// Sending with a lock held: NDIS may complete the send inside the call.
// expect: holds a lock, and NDIS may call this driver back
use sluice_kernel::irql::Passive;
use sluice_kernel::lock::SpinLock;
use sluice_ndis::filter::Handle;
use sluice_ndis::list::Chain;

fn misuse(passive: &mut Passive<'_>, lock: &SpinLock<u64>, module: Handle, lists: Chain) {
    lock.with(passive, |_, inside| module.send(inside, lists));
}

fn main() {}
