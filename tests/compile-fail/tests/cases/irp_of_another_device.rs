// An IRP pends with a value that knows what the handles of its device are.
// expect: E0271
use sluice_kernel::device::Request;
use sluice_kernel::irp::{Disposition, PendingIrp, Pends};
use sluice_kernel::shared::Shared;

fn misuse<'a, T: Pends<Handle = u64>>(
    request: Request<'a, u32>,
    owner: Shared<T>,
) -> (PendingIrp<T>, Disposition<'a>) {
    request.pend(owner)
}

fn main() {}
