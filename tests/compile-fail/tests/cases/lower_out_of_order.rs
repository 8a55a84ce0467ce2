// A token that is kept after its level was lowered.
// expect: E0521
use sluice_kernel::irql::{Dispatch, Passive};

fn misuse(passive: &mut Passive<'_>) {
    let mut kept: Option<&mut Dispatch<'_>> = None;
    passive.at_dispatch(|dispatch| kept = Some(dispatch));
}

fn main() {}
