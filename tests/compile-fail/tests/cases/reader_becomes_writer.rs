// A reader that would become the writer waits for itself.
// expect: a lock of rank `Leaf` is taken while one of rank `Leaf` is held
use sluice_kernel::irql::Passive;
use sluice_kernel::resource::Resource;

fn misuse(passive: &mut Passive<'_>, resource: &Resource<u64>) {
    passive.critical_region(|region| {
        resource.read(region, |_, inside| resource.write(inside, |value, _| *value += 1));
    });
}

fn main() {}
