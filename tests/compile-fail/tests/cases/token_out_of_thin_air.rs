// Only the glue makes a token, where the system has promised the level.
// expect: E0133
use sluice_kernel::irql::Passive;

fn misuse() -> Passive<'static> {
    Passive::assume()
}

fn main() {}
