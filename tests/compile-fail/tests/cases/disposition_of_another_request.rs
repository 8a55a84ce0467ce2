// A dispatch routine returns the disposition of the request that it was called with, not of another.
// expect: lifetime may not live long enough
use sluice_kernel::device::Request;
use sluice_kernel::irp::Disposition;

fn misuse<'a, 'b>(request: Request<'a, ()>, other: Request<'b, ()>) -> Disposition<'a> {
    let _its_own = request.complete(0, 0);
    other.complete(0, 0)
}

fn main() {}
