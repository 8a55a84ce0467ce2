// Taking a lock that raises, where the level is raised already.
// expect: a lock that raises the IRQL cannot be taken
use sluice_kernel::irql::Dispatch;
use sluice_kernel::lock::SpinLock;

fn misuse(dispatch: &mut Dispatch<'_>, lock: &SpinLock<u64>) {
    lock.with(dispatch, |value, _| *value += 1);
}

fn main() {}
