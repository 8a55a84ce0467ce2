// Completing a request may release the last reference to what worked on it: it is used through what completing returns.
// expect: E0505
use sluice_kernel::irp::PendingIrp;

fn misuse(irp: PendingIrp<u32>) -> u32 {
    let owner = irp.owner();
    drop(irp.complete(0, 0));
    **owner
}

fn main() {}
