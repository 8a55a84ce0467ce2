// Raising and lowering again inside: the level of the outer function is not there to be restored twice.
// expect: E0500
use sluice_kernel::irql::Passive;

fn misuse(passive: &mut Passive<'_>) {
    passive.at_dispatch(|_| passive.at_dispatch(|_| ()));
}

fn main() {}
