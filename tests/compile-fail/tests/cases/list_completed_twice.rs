// A list that was completed is its originator's again.
// expect: E0382
use sluice_kernel::irql::AtMostDispatch;
use sluice_ndis::filter::Handle;
use sluice_ndis::list::Chain;

fn misuse(level: &mut AtMostDispatch<'_>, module: Handle, lists: Chain) {
    module.complete_send(level, lists, 0);
    module.complete_send(level, lists, 0);
}

fn main() {}
