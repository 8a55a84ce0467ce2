// A dispatch routine answers or pends its request: only that makes what it returns.
// expect: E0308
use sluice_kernel::device::Request;
use sluice_kernel::irp::Disposition;

fn misuse(_request: Request<'_, ()>) -> Disposition<'_> {}

fn main() {}
