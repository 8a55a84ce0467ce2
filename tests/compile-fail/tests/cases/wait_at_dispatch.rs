// Waiting with a dispatch token.
// expect: may neither wait nor touch paged memory
use sluice_kernel::event::Event;
use sluice_kernel::irql::Dispatch;

fn misuse(dispatch: &mut Dispatch<'_>, event: &Event) {
    event.wait(dispatch);
}

fn main() {}
