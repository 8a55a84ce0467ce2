// A slot is in one state at a time.
// expect: E0382
use sluice_core::slot::{Filled, Slot};

fn misuse(slot: Slot<Filled>) {
    let first = slot.submitted();
    let second = slot.submitted();
}

fn main() {}
