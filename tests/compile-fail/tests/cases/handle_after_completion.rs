// Completing a request may close its handle.
// expect: E0505
use sluice_kernel::irp::{PendingIrp, Pends};

fn misuse<T: Pends<Handle = u32>>(irp: PendingIrp<T>) -> u32 {
    let Some(handle) = irp.handle() else { return 0 };
    drop(irp.complete(0, 0));
    *handle
}

fn main() {}
