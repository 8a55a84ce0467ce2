// What a timer works on is kept by the timer's own value, and borrows nothing that could die before it.
// expect: E0478
use sluice_kernel::irql::Dispatch;
use sluice_kernel::shared::Shared;
use sluice_kernel::timer::Timed;

struct Module;

struct Context<'module>(&'module Module);

impl<'module> Timed for Context<'module> {
    fn elapsed(_this: &Shared<Self>, _dispatch: &mut Dispatch<'_>) {}
}

fn main() {}
