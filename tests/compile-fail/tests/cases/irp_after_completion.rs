// A request that was completed may be gone.
// expect: E0382
use sluice_kernel::irp::{File, PendingIrp};

fn misuse<T>(irp: PendingIrp<T>) -> File {
    drop(irp.complete(0, 0));
    irp.file()
}

fn main() {}
