// A request that pends may be completed, and its handle closed, at any moment: what the handle keeps may be gone.
// expect: E0505
use sluice_kernel::device::Request;
use sluice_kernel::irp::{Disposition, PendingIrp, Pends};
use sluice_kernel::shared::Shared;

fn misuse<'a, T: Pends<Handle = u32>>(
    request: Request<'a, u32>,
    owner: Shared<T>,
    queue: impl FnOnce(PendingIrp<T>),
) -> (Disposition<'a>, u32) {
    let handle = request.handle();
    let (irp, disposition) = request.pend(owner);
    queue(irp);
    (disposition, *handle)
}

fn main() {}
