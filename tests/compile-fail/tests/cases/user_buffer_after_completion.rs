// The pages are locked until the request is completed.
// expect: E0505
use sluice_kernel::irp::PendingIrp;

fn misuse<T>(irp: PendingIrp<T>, bytes: &mut [u8]) {
    let Some(pages) = irp.locked_pages() else { return };
    drop(irp.complete(0, 0));
    pages.read(0, bytes);
}

fn main() {}
