// A client's address is no memory: only pages that the I/O manager has locked can be read.
// expect: E0133
use std::ptr::NonNull;

use sluice_kernel::irp::LockedPages;

fn misuse(address: NonNull<u8>, bytes: &mut [u8]) {
    LockedPages::of(address, bytes.len()).read(0, bytes);
}

fn main() {}
