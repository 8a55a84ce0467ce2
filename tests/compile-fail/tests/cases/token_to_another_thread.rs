// A level is a processor's: a thread that raised cannot give its token to the thread that joins it.
// expect: cannot be sent between threads safely
use sluice_kernel::irql::Dispatch;

fn misuse(raise: fn() -> Dispatch<'static>) {
    let _dispatch = std::thread::spawn(raise).join();
}

fn main() {}
