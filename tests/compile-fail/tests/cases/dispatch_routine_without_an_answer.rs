// A dispatch routine completes or pends its request: only that makes what it returns.
// expect: E0308
use sluice_kernel::irp::{Disposition, Irp};

fn misuse(_irp: Irp) -> Disposition {}

fn main() {}
