//! Stacks of the simulated kernel: unwound through the image's `.pdata`, named from its PDB.
use std::cell::Cell;
use std::fs::File;
use std::ops::Range;

use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{FrameAddress, Module, ModuleSectionInfo, Unwinder};
use pdb_addr2line::pdb::PDB;

use crate::image::Image;
use crate::machine::Machine;
use crate::memory;

thread_local! {
    /// Registers of a fault: instruction, stack and frame pointer.
    static FAULT: Cell<Option<(u64, u64, u64)>> = const { Cell::new(None) };
}

/// The next stack starts at a fault.
pub(crate) fn set_fault(instruction: u64, stack_pointer: u64, frame_pointer: u64) {
    FAULT.set(Some((instruction, stack_pointer, frame_pointer)));
}

/// What the unwinder asks of an image, answered from its memory.
struct Sections<'a>(&'a Image);

impl ModuleSectionInfo<Vec<u8>> for Sections<'_> {
    fn base_svma(&self) -> u64 {
        self.0.base
    }
    fn section_svma_range(&mut self, name: &[u8]) -> Option<Range<u64>> {
        let section = self.0.sections.iter().find(|section| section.name.as_bytes() == name)?;
        Some(section.start..section.start + section.length)
    }
    fn section_data(&mut self, name: &[u8]) -> Option<Vec<u8>> {
        let range = self.section_svma_range(name)?;
        Some(memory::bytes(range.start, (range.end - range.start) as usize))
    }
    fn segment_svma_range(&mut self, _name: &[u8]) -> Option<Range<u64>> {
        None
    }
    fn segment_data(&mut self, _name: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// The stack of the running thread, innermost call first, in the words of a debugger.
pub(crate) fn stack(machine: &Machine) -> Vec<String> {
    let Some(thread) = machine.scheduler.try_this() else { return Vec::new() };
    let Ok(drivers) = machine.drivers.try_borrow() else { return Vec::new() };
    let images: Vec<_> =
        drivers.iter().map(|driver| driver.image.clone()).filter(|image| !image.unloaded.get()).collect();
    let mut unwinder = UnwinderX86_64::<Vec<u8>>::new();
    for image in &images {
        let range = image.base..image.base + image.length;
        unwinder.add_module(Module::new(image.name.clone(), range, image.base, Sections(image)));
    }
    let inside = |address: u64| images.iter().any(|image| image.contains(address));
    let mut lines = Vec::new();
    let walk = |instruction: u64, stack_pointer: u64, frame_pointer: u64| {
        let mut cache = CacheX86_64::<_>::new();
        let readable = |address: u64| {
            let stack = thread.stack.try_borrow().ok();
            let on_stack =
                stack.is_some_and(|stack| stack.as_ref().is_some_and(|stack| stack.contains(address)));
            if on_stack { Ok(memory::get::<u64>(address)) } else { Err(()) }
        };
        let mut read = readable;
        let registers = UnwindRegsX86_64::new(instruction, stack_pointer, frame_pointer);
        let mut frames = unwinder.iter_frames(instruction, registers, &mut cache, &mut read);
        let mut found = Vec::new();
        while let Ok(Some(frame)) = frames.next() {
            let address = match frame {
                FrameAddress::InstructionPointer(address) => address,
                FrameAddress::ReturnAddress(address) => address.get() - 1,
            };
            if !inside(address) {
                break;
            }
            found.push(address);
        }
        found
    };
    if let Some((instruction, stack_pointer, frame_pointer)) = FAULT.take()
        && inside(instruction)
    {
        for address in walk(instruction, stack_pointer, frame_pointer) {
            lines.extend(describe(&images, address));
        }
    }
    let Ok(calls) = thread.calls.try_borrow() else { return lines };
    for (frame, name) in calls.iter().rev() {
        lines.push((*name).to_owned());
        let return_address: u64 =
            memory::get(*frame + std::mem::offset_of!(crate::stack::CallFrame, return_address) as u64);
        let stack_pointer = *frame + std::mem::offset_of!(crate::stack::CallFrame, return_address) as u64 + 8;
        let frame_pointer: u64 = memory::get(*frame + 0xC8);
        // The walk starts in the caller, just after its call.
        for (index, address) in walk(return_address, stack_pointer, frame_pointer).into_iter().enumerate() {
            lines.extend(describe(&images, if index == 0 { address - 1 } else { address }));
        }
    }
    lines
}

/// A value as a person reads it: code by image and offset, memory in its canonical form.
pub(crate) fn value(machine: &Machine, value: u64) -> String {
    let drivers = machine.drivers.borrow();
    let image = drivers.iter().map(|driver| &driver.image).find(|image| image.contains(value));
    match image {
        Some(image) => format!("{}+{:#x}", image.name.trim_end_matches(".sys"), value - image.base),
        None => format!("{:#x}", machine.memory.areas.canonical(value)),
    }
}

/// Names an address, with inlined functions, from the PDB beside the image.
fn describe(images: &[std::rc::Rc<Image>], address: u64) -> Vec<String> {
    let Some(image) = images.iter().find(|image| image.contains(address)) else { return Vec::new() };
    let offset = address - image.base;
    let module = image.name.trim_end_matches(".sys");
    named(image, offset as u32).filter(|frames| !frames.is_empty()).map_or_else(
        || vec![format!("{module}+{offset:#x}")],
        |frames| frames.into_iter().map(|frame| format!("{module}!{frame}")).collect(),
    )
}

fn named(image: &Image, offset: u32) -> Option<Vec<String>> {
    let file = File::open(image.path.with_extension("pdb")).ok()?;
    let data = pdb_addr2line::ContextPdbData::try_from_pdb(PDB::open(file).ok()?).ok()?;
    let context = data.make_context().ok()?;
    let frames = context.find_frames(offset).ok()??;
    let describe = |frame: &pdb_addr2line::Frame<'_>| {
        let function = frame.function.clone().unwrap_or_default();
        match (&frame.file, frame.line) {
            (Some(file), Some(line)) => {
                let file = file.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
                format!("{function} [{file} @ {line}]")
            }
            _ => function,
        }
    };
    Some(frames.frames.iter().map(describe).collect())
}
