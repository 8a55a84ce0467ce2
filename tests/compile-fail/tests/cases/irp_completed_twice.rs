// A request is completed once.
// expect: E0382
use sluice_kernel::irp::Irp;

fn misuse(irp: Irp) {
    let _ = irp.complete(0, 0);
    let _ = irp.complete(0, 0);
}

fn main() {}
