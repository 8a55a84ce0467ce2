//! The safe wrappers cost nothing: the release build has the same instructions for a wrapper and for the raw calls
//! that it stands for.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that finds nothing there has failed")]
mod common;

use std::collections::BTreeMap;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction};
use object::read::pe::PeFile64;
use object::{Object, ObjectSection};

/// Code and exports of the image.
struct Code {
    text: Vec<u8>,
    base: u64,
    exports: BTreeMap<String, u64>,
}

fn code() -> Code {
    let data = common::image();
    let file = PeFile64::parse(data.as_slice()).unwrap();
    let text = file.sections().find(|section| section.name() == Ok(".text")).unwrap();
    Code { text: text.data().unwrap().to_vec(), base: text.address(), exports: common::exports(&file) }
}

impl Code {
    /// The instructions of a function, up to its return; targets inside it are relative to its start.
    fn function(&self, name: &str) -> Vec<Instruction> {
        let start = *self.exports.get(name).unwrap_or_else(|| panic!("no export {name}"));
        let bytes = self.text.get((start - self.base) as usize..).unwrap();
        let mut decoder = Decoder::with_ip(64, bytes, start, DecoderOptions::NONE);
        let (mut instructions, mut furthest) = (Vec::new(), start);
        loop {
            let mut instruction = decoder.decode();
            assert!(!instruction.is_invalid(), "{name} is not code");
            let at = instruction.ip();
            let target = instruction.near_branch_target();
            // A jump into the import table's stubs is the function's last call.
            let inside = match instruction.flow_control() {
                FlowControl::ConditionalBranch => true,
                FlowControl::UnconditionalBranch => !self.is_stub(target),
                _ => false,
            };
            if inside {
                furthest = furthest.max(target);
                instruction.set_near_branch64(target.wrapping_sub(start));
            }
            let ends = matches!(
                instruction.flow_control(),
                FlowControl::Return | FlowControl::UnconditionalBranch | FlowControl::IndirectBranch
            );
            instructions.push(instruction);
            if ends && at >= furthest {
                return instructions;
            }
        }
    }

    /// Whether an import's stub is there: `jmp [address]`.
    fn is_stub(&self, address: u64) -> bool {
        let bytes = self.text.get((address - self.base) as usize..).unwrap_or_default();
        bytes.starts_with(&[0xFF, 0x25])
    }
}

#[test]
fn a_wrapper_has_the_instructions_of_the_raw_calls() {
    let code = code();
    let wrapped: Vec<_> = code.exports.keys().filter_map(|name| name.strip_prefix("wrapped_")).collect();
    assert!(wrapped.len() >= 11, "{wrapped:?}");
    for name in wrapped {
        let (with, without) =
            (code.function(&format!("wrapped_{name}")), code.function(&format!("raw_{name}")));
        println!("{name}: {} instructions", with.len());
        assert!(with.len() >= 3, "{name}");
        let codes = |of: &[Instruction]| of.iter().map(Instruction::code).collect::<Vec<_>>();
        assert!(with == without, "{name}: {:?} and raw {:?}", codes(&with), codes(&without));
    }
}

#[test]
fn a_function_that_does_more_is_found_out() {
    let code = code();
    assert!(code.function("wrapped_spin_lock") != code.function("raw_at_dispatch"));
    assert!(code.function("wrapped_event_wait") != code.function("raw_event_set"));
}
