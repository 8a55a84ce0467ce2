// The pages are locked until the request is completed.
// expect: E0505
use sluice_kernel::irp::Irp;

fn misuse(irp: Irp, bytes: &mut [u8]) {
    let Some(pages) = irp.locked_pages() else { return };
    let _ = irp.complete(0, 0);
    pages.read(0, bytes);
}

fn main() {}
