// A disposition is returned from its dispatch routine, and not kept for another's.
// expect: lifetime may not live long enough
use sluice_kernel::device::Request;
use sluice_kernel::irp::Disposition;

fn misuse(request: Request<'_, ()>, kept: &mut Option<Disposition<'static>>) {
    *kept = Some(request.complete(0, 0));
}

fn main() {}
