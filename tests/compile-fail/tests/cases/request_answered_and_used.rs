// A dispatch routine's request belongs to its answer.
// expect: E0382
use sluice_kernel::device::Request;
use sluice_kernel::irp::Disposition;

fn misuse(request: Request<'_, u32>) -> (Disposition<'_>, u32) {
    let answer = request.complete(0, 0);
    (answer, *request.handle())
}

fn main() {}
