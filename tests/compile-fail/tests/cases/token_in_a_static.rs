// A token in a static would outlive the function that raised.
// expect: cannot be sent between threads safely
use std::sync::Mutex;

use sluice_kernel::irql::Dispatch;

static KEPT: Mutex<Option<Dispatch<'static>>> = Mutex::new(None);

fn main() {}
