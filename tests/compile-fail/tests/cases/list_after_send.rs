// A list that was sent is not the driver's any more.
// expect: E0382
use sluice_kernel::irql::AtMostDispatch;
use sluice_ndis::filter::Handle;
use sluice_ndis::list::Chain;

fn misuse(level: &mut AtMostDispatch<'_>, module: Handle, lists: Chain) -> bool {
    module.send(level, lists);
    lists.is_empty()
}

fn main() {}
