// A request that was completed may be gone.
// expect: E0382
use sluice_kernel::irp::{File, Irp};

fn misuse(irp: Irp) -> File {
    let _ = irp.complete(0, 0);
    irp.file()
}

fn main() {}
