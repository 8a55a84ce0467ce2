// A level is a processor's: its token cannot go to another thread.
// expect: cannot be sent between threads safely
use sluice_kernel::irql::Dispatch;

fn misuse(dispatch: Dispatch<'static>) {
    std::thread::spawn(move || drop(dispatch));
}

fn main() {}
