// An MDL borrows the memory that it describes.
// expect: E0505
use sluice_kernel::mdl::Mdl;
use sluice_kernel::pool::PoolSlice;

fn misuse(memory: PoolSlice<u8>) -> usize {
    let Ok(mdl) = Mdl::over(&memory) else { return 0 };
    drop(memory);
    mdl.length()
}

fn main() {}
