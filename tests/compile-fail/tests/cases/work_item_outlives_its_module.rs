// What a work item works on is kept by the item's own value, and borrows nothing that could die before it.
// expect: E0478
use sluice_kernel::irql::Passive;
use sluice_kernel::shared::Shared;
use sluice_kernel::work::{Work, WorkItem};

struct Module;

struct Context<'module> {
    module: &'module Module,
    item: WorkItem,
}

impl<'module> Work for Context<'module> {
    fn work(_this: &Shared<Self>, _passive: &mut Passive<'_>) {}

    fn item(&self) -> &WorkItem {
        &self.item
    }
}

fn main() {}
