// A slot in flight belongs to NDIS and to the device: there is nothing to fill.
// expect: E0599
use sluice_core::slot::{InFlight, Slot};

fn misuse(slot: Slot<InFlight>) {
    slot.filled();
}

fn main() {}
