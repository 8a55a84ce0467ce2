//! Instructions of drivers that only a kernel can execute: access to CR8, where drivers built with older headers
//! read and write the IRQL, and reads of the page that the kernel shares with programs.
use std::cell::Cell;

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use crate::kernel::ke::BOOT;
use crate::machine::current;
use crate::memory::bytes;
use crate::sched::DISPATCH;

/// `KUSER_SHARED_DATA` on x64.
const SHARED_PAGE: u64 = 0xFFFF_F780_0000_0000;
const PAGE: u64 = 4096;
/// Offsets in it: tick count multiplier, interrupt time, system time, versions, tick count.
const TICK_MULTIPLIER: u64 = 0x04;
const INTERRUPT_TIME: u64 = 0x08;
const SYSTEM_TIME: u64 = 0x14;
const BUILD_NUMBER: u64 = 0x260;
const MAJOR_VERSION: u64 = 0x26C;
const MINOR_VERSION: u64 = 0x270;
const TICK_COUNT: u64 = 0x320;

type Registers = [i64; 23];

/// Executes the instruction that faulted, if it is one of these; the registers are those after it then.
pub(crate) fn instruction(registers: &mut Registers, address: u64, irql: &Cell<u8>) -> bool {
    let at = registers[libc::REG_RIP as usize] as u64;
    // The next page may be inaccessible.
    let code = bytes(at, (PAGE - at % PAGE).min(16) as usize);
    let mut decoder = Decoder::with_ip(64, &code, at, DecoderOptions::NONE);
    let decoded = decoder.decode();
    let done = match decoded.code() {
        Code::Mov_cr_r64 if decoded.op0_register() == Register::CR8 => {
            let level = value(registers, decoded.op1_register());
            irql.set(level as u8);
            let machine = current();
            if machine.scheduler.giant.is_none() && machine.verifier.force_irql {
                machine.memory.open_paged(level < u64::from(DISPATCH));
            }
            true
        }
        Code::Mov_r64_cr if decoded.op1_register() == Register::CR8 => {
            set(registers, decoded.op0_register(), u64::from(irql.get()));
            true
        }
        _ => {
            address.wrapping_sub(SHARED_PAGE) < PAGE
                && read_shared(registers, &decoded, address - SHARED_PAGE)
        }
    };
    if done {
        registers[libc::REG_RIP as usize] = decoded.next_ip() as i64;
    }
    done
}

/// A move from the shared page into a register.
fn read_shared(registers: &mut Registers, decoded: &Instruction, offset: u64) -> bool {
    let loads = matches!(decoded.mnemonic(), Mnemonic::Mov | Mnemonic::Movzx)
        && decoded.op0_kind() == OpKind::Register
        && decoded.op1_kind() == OpKind::Memory;
    if !loads {
        return false;
    }
    let now = current().scheduler.now();
    let mut page = [0u8; PAGE as usize + 8];
    let mut put = |at: u64, value: u64, length: usize| {
        page[at as usize..at as usize + length].copy_from_slice(&value.to_le_bytes()[..length]);
    };
    put(TICK_MULTIPLIER, 0x0FA0_0000, 4);
    put(INTERRUPT_TIME, now, 8);
    put(SYSTEM_TIME, now + BOOT, 8);
    put(BUILD_NUMBER, 26100, 4);
    put(MAJOR_VERSION, 10, 4);
    put(MINOR_VERSION, 0, 4);
    put(TICK_COUNT, now / 156_250, 8);
    let length = decoded.memory_size().size().min(8);
    let mut value = [0; 8];
    value[..length].copy_from_slice(&page[offset as usize..offset as usize + length]);
    set(registers, decoded.op0_register(), u64::from_le_bytes(value));
    true
}

fn place(register: Register) -> Option<usize> {
    let index = match register.full_register() {
        Register::RAX => libc::REG_RAX,
        Register::RBX => libc::REG_RBX,
        Register::RCX => libc::REG_RCX,
        Register::RDX => libc::REG_RDX,
        Register::RSI => libc::REG_RSI,
        Register::RDI => libc::REG_RDI,
        Register::RBP => libc::REG_RBP,
        Register::RSP => libc::REG_RSP,
        Register::R8 => libc::REG_R8,
        Register::R9 => libc::REG_R9,
        Register::R10 => libc::REG_R10,
        Register::R11 => libc::REG_R11,
        Register::R12 => libc::REG_R12,
        Register::R13 => libc::REG_R13,
        Register::R14 => libc::REG_R14,
        Register::R15 => libc::REG_R15,
        _ => return None,
    };
    Some(index as usize)
}

fn value(registers: &Registers, register: Register) -> u64 {
    place(register).map_or(0, |index| registers[index] as u64)
}

/// Sets a register; one of 32 bits clears the upper half, smaller ones keep the rest.
fn set(registers: &mut Registers, register: Register, value: u64) {
    let Some(index) = place(register) else { return };
    let before = registers[index] as u64;
    registers[index] = match register.size() {
        1 => before & !0xFF | value & 0xFF,
        2 => before & !0xFFFF | value & 0xFFFF,
        4 => value & 0xFFFF_FFFF,
        _ => value,
    } as i64;
}
