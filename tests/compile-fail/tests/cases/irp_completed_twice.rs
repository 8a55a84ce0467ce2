// A request is completed once.
// expect: E0382
use sluice_kernel::irp::PendingIrp;

fn misuse<T>(irp: PendingIrp<T>) {
    drop(irp.complete(0, 0));
    drop(irp.complete(0, 0));
}

fn main() {}
