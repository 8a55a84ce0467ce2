// Memory that a device may know is freed only with the proof that the gate is drained.
// expect: E0061
use sluice_kernel::irql::Passive;
use sluice_ndis::path::Host;
use sluice_ndis::slab::Slabs;

fn misuse<T: Host>(passive: &mut Passive<'_>, slabs: Slabs<T>) {
    slabs.free(passive);
}

fn main() {}
