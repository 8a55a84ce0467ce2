// An executive resource is taken in a critical region, or its owner may be suspended with it.
// expect: expected `&mut Critical
use sluice_kernel::irql::Passive;
use sluice_kernel::resource::Resource;

fn misuse(passive: &mut Passive<'_>, resource: &Resource<u64>) {
    resource.write(passive, |value, _| *value += 1);
}

fn main() {}
