//! A bus-master card that receives by DMA: registers in memory space, a line interrupt, and a transfer that comes in
//! two parts. It is what `seeds/000` is about, and what no filter has: drivers for it are the machine's own guests.
//!
//! Registers, little-endian, at [`REGISTERS`]:
//!
//! | offset | | |
//! |---|---|---|
//! | 0x00 | address | logical address to write to, 64 bits |
//! | 0x08 | length | bytes to receive |
//! | 0x0C | command | 1 receives, 2 stops; the card takes it and writes 0 |
//! | 0x10 | status | bit 0: bytes have come; bit 1: the transfer is complete; the driver clears it |
//! | 0x14 | received | bytes so far |
use std::cell::{Cell, RefCell};

use crate::kernel::{Call, Function, function};
use crate::machine::{Machine, current};
use crate::memory::{self, PAGE, Use, get, put};

/// Physical address of the registers.
pub const REGISTERS: u64 = 0xFEB0_0000;
/// The interrupt's vector, as `IoConnectInterrupt` takes it.
pub const VECTOR: u32 = 0x51;

const ADDRESS: u64 = 0x00;
const LENGTH: u64 = 0x08;
const COMMAND: u64 = 0x0C;
const STATUS: u64 = 0x10;
const RECEIVED: u64 = 0x14;
const RECEIVE: u32 = 1;
const STOP: u32 = 2;
const ARRIVED: u32 = 1;
const COMPLETE: u32 = 2;

/// Level of its interrupt.
const LEVEL: u8 = 8;
/// Within how many microseconds a part of a transfer comes.
const LATENCY: u64 = 100;
/// `STATUS_INVALID_PARAMETER`.
const INVALID_PARAMETER: u64 = 0xC000_000D;

pub(crate) const FUNCTIONS: &[Function] = &[
    function!("MmMapIoSpace", 3, Dispatch, |machine, call| map(machine, call)),
    function!("MmMapIoSpaceEx", 3, Dispatch, |machine, call| map(machine, call)),
    function!("MmUnmapIoSpace", 2, Dispatch, |_, _| 0),
    function!("IoConnectInterrupt", 11, Passive, connect),
    function!("IoDisconnectInterrupt", 1, Passive, |machine, call| {
        machine.cards.interrupt.set(None);
        machine.memory.free(call.arg(0));
        0
    }),
];

/// A connected interrupt: its object, routine and context.
#[derive(Clone, Copy, Debug)]
struct Interrupt {
    object: u64,
    routine: u64,
    context: u64,
}

/// The machine's card, if it has one.
#[derive(Debug, Default)]
pub(crate) struct Cards {
    /// Where the registers lie, 0 without a card.
    registers: Cell<u64>,
    /// Stands for the card in reports.
    device: Cell<u64>,
    interrupt: Cell<Option<Interrupt>>,
    /// Number of the transfer that is on, so that a part of one that was stopped is not taken for another's.
    transfer: Cell<u64>,
    history: RefCell<Vec<String>>,
}

impl Machine {
    /// Puts a card into the machine.
    pub fn plug_card(&self) {
        let registers = self.memory.allocate(PAGE, Use::System("device registers"));
        self.cards.registers.set(registers);
        self.cards.device.set(self.memory.allocate(16, Use::System("DEVICE_OBJECT")));
    }

    /// What the card did: starts, parts and ends of transfers, with times and addresses.
    pub fn card_history(&self) -> Vec<String> {
        self.cards.history.borrow().clone()
    }
}

impl Cards {
    /// The card looks at its command register.
    pub(crate) fn look(&self, machine: &Machine) {
        let registers = self.registers.get();
        if registers == 0 {
            return;
        }
        let command: u32 = get(registers + COMMAND);
        if command == 0 {
            return;
        }
        put::<u32>(registers + COMMAND, 0);
        let transfer = self.transfer.get() + 1;
        self.transfer.set(transfer);
        match command {
            RECEIVE => {
                let logical: u64 = get(registers + ADDRESS);
                let length: u32 = get(registers + LENGTH);
                put::<u32>(registers + RECEIVED, 0);
                self.record(machine, format!("DMA starts: logical {logical:#x}, {length} bytes"));
                let half = length.div_ceil(2);
                Self::later(machine, transfer, logical, 0, half, length);
            }
            STOP => self.record(machine, "DMA is stopped".to_owned()),
            other => self.record(machine, format!("command {other} is unknown")),
        }
    }

    fn record(&self, machine: &Machine, event: String) {
        self.history.borrow_mut().push(format!("{} us: {event}", machine.microseconds()));
    }

    /// Bytes `from` to `to` of a transfer come, some time from now.
    fn later(machine: &Machine, transfer: u64, logical: u64, from: u32, to: u32, length: u32) {
        let delay = 1 + machine.scheduler.choose(LATENCY);
        machine.scheduler.after(delay * 10, move || {
            let machine = current();
            machine.cards.part(machine, transfer, logical, from, to, length);
        });
    }

    fn part(&self, machine: &Machine, transfer: u64, logical: u64, from: u32, to: u32, length: u32) {
        if self.transfer.get() != transfer {
            return;
        }
        let bytes: Vec<u8> = (from..to).map(|index| index as u8).collect();
        let start = logical + u64::from(from);
        self.record(machine, format!("DMA writes {} bytes to logical {start:#x}", bytes.len()));
        if !machine.dma.device_write(machine, self.device.get(), start, &bytes) {
            return;
        }
        let registers = self.registers.get();
        put::<u32>(registers + RECEIVED, to);
        let complete = to == length;
        let status: u32 = get(registers + STATUS);
        put::<u32>(registers + STATUS, status | ARRIVED | if complete { COMPLETE } else { 0 });
        if complete {
            self.record(machine, "DMA is complete".to_owned());
        } else {
            Self::later(machine, transfer, logical, to, length, length);
        }
        self.raise(machine);
    }

    /// The card interrupts a processor.
    fn raise(&self, machine: &Machine) {
        if self.interrupt.get().is_none() {
            return;
        }
        let processor = machine.scheduler.choose(machine.scheduler.processors() as u64) as usize;
        machine.scheduler.interrupt(processor, || {
            let machine = current();
            // Disconnecting waits for the routine, and a routine that is not connected is not called.
            if let Some(Interrupt { object, routine, context }) = machine.cards.interrupt.get() {
                machine.call(routine, &[object, context]);
                crate::kernel::after_callback(machine, "An interrupt service routine", LEVEL);
            }
        });
    }
}

fn map(machine: &Machine, call: &Call<'_>) -> u64 {
    let registers = machine.cards.registers.get();
    let inside = (REGISTERS..REGISTERS + PAGE).contains(&call.arg(0));
    if registers == 0 || !inside { 0 } else { registers + (call.arg(0) - REGISTERS) }
}

fn connect(machine: &Machine, call: &Call<'_>) -> u64 {
    if call.arg32(4) != VECTOR || call.arg(5) as u8 != LEVEL || machine.cards.registers.get() == 0 {
        return INVALID_PARAMETER;
    }
    let object = machine.memory.allocate(0x100, Use::System("KINTERRUPT"));
    let interrupt = Interrupt { object, routine: call.arg(1), context: call.arg(2) };
    machine.cards.interrupt.set(Some(interrupt));
    memory::put::<u64>(call.arg(0), object);
    0
}
