//! Loading driver images: sections at their protections, relocations, imports by name.
#![expect(unsafe_code, reason = "maps executable memory")]
use std::cell::Cell;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use object::LittleEndian as LE;
use object::pe;
use object::read::pe::{ImageNtHeaders, ImageOptionalHeader, PeFile64};

use crate::memory::{PAGE, get, put, put_bytes};
use crate::stack;

/// A section's place, and whether it is code.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) start: u64,
    pub(crate) length: u64,
}

/// A loaded image.
#[derive(Debug)]
pub(crate) struct Image {
    /// File name without folder.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Where it lies.
    pub base: u64,
    /// Bytes.
    pub length: u64,
    pub(crate) entry: u64,
    pub(crate) sections: Vec<Section>,
    pub(crate) preferred_base: u64,
    pub(crate) unloaded: Cell<bool>,
    /// Executable memory with one entry for each import.
    thunks: u64,
    thunks_length: u64,
}

/// An export of the machine that images may import.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Export {
    /// Number of a kernel function, run on the host's stack.
    Function(u32),
    /// Code that runs where it is called.
    Direct(u64),
}

impl Image {
    /// Loads an image. `resolve` finds an export by module and name.
    pub(crate) fn load(path: &Path, resolve: &dyn Fn(&str, &str) -> Option<Export>) -> Result<Self> {
        let data = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::load_data(path, &data, resolve).with_context(|| format!("cannot load {}", path.display()))
    }

    fn load_data(path: &Path, data: &[u8], resolve: &dyn Fn(&str, &str) -> Option<Export>) -> Result<Self> {
        let file = PeFile64::parse(data).context("not a 64-bit PE image")?;
        let machine = file.nt_headers().file_header().machine.get(LE);
        ensure!(machine == pe::IMAGE_FILE_MACHINE_AMD64, "the image is for another processor than x64");
        let optional = file.nt_headers().optional_header();
        ensure!(
            optional.subsystem() == pe::IMAGE_SUBSYSTEM_NATIVE,
            "the image is no driver: its subsystem is not native"
        );
        let length = u64::from(optional.size_of_image()).next_multiple_of(PAGE);
        let base = map(length);
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let mut image = Self {
            name,
            path: path.to_path_buf(),
            base,
            length,
            entry: base + u64::from(optional.address_of_entry_point()),
            sections: Vec::new(),
            preferred_base: optional.image_base(),
            unloaded: Cell::new(false),
            thunks: 0,
            thunks_length: 0,
        };
        let headers = (optional.size_of_headers() as usize).min(data.len());
        put_bytes(base, data.get(..headers).unwrap_or_default());
        for section in file.section_table().iter() {
            let start = base + u64::from(section.virtual_address.get(LE));
            let bytes = section.pe_data(data).context("a section lies outside the file")?;
            let room = u64::from(section.virtual_size.get(LE)).max(bytes.len() as u64);
            ensure!(start + room <= base + length, "a section lies outside the image");
            put_bytes(start, bytes);
            let name = String::from_utf8_lossy(section.raw_name()).trim_end_matches('\0').to_owned();
            image.sections.push(Section { name, start, length: room });
        }
        image.relocate(&file)?;
        image.bind(&file, resolve)?;
        for (section, place) in file.section_table().iter().zip(&image.sections) {
            let flags = section.characteristics.get(LE).0;
            let mut protection = libc::PROT_READ;
            if flags & pe::IMAGE_SCN_MEM_WRITE.0 != 0 {
                protection |= libc::PROT_WRITE;
            }
            if flags & pe::IMAGE_SCN_MEM_EXECUTE.0 != 0 {
                protection |= libc::PROT_EXEC;
            }
            protect(place.start, place.length.next_multiple_of(PAGE), protection);
        }
        protect(base, PAGE, libc::PROT_READ);
        Ok(image)
    }

    fn relocate(&self, file: &PeFile64<'_>) -> Result<()> {
        let delta = self.base.wrapping_sub(self.preferred_base);
        let sections = file.section_table();
        let Some(mut blocks) = file.data_directories().relocation_blocks(file.data(), &sections)? else {
            return Ok(());
        };
        while let Some(block) = blocks.next()? {
            for relocation in block {
                match relocation.typ {
                    pe::IMAGE_REL_BASED_ABSOLUTE => {}
                    pe::IMAGE_REL_BASED_DIR64 => {
                        let at = self.base + u64::from(relocation.virtual_address);
                        put(at, get::<u64>(at).wrapping_add(delta));
                    }
                    other => bail!("relocation of unknown type {other:?}"),
                }
            }
        }
        Ok(())
    }

    fn bind(&mut self, file: &PeFile64<'_>, resolve: &dyn Fn(&str, &str) -> Option<Export>) -> Result<()> {
        let Some(table) = file.import_table()? else { return Ok(()) };
        let mut missing = Vec::new();
        let mut bound = Vec::new();
        let mut descriptors = table.descriptors()?;
        while let Some(descriptor) = descriptors.next()? {
            let module = String::from_utf8_lossy(table.name(descriptor.name.get(LE))?).to_ascii_lowercase();
            let lookup = match descriptor.original_first_thunk.get(LE) {
                0 => descriptor.first_thunk.get(LE),
                first => first,
            };
            let mut thunks = table.thunks(lookup)?;
            let mut place = self.base + u64::from(descriptor.first_thunk.get(LE));
            while let Some(thunk) = thunks.next::<pe::ImageNtHeaders64>()? {
                match table.import::<pe::ImageNtHeaders64>(thunk)? {
                    object::read::pe::Import::Name(_, name) => {
                        let name = String::from_utf8_lossy(name).into_owned();
                        match resolve(&module, &name) {
                            Some(export) => bound.push((place, export)),
                            None => missing.push(format!("{module}!{name}")),
                        }
                    }
                    object::read::pe::Import::Ordinal(ordinal) => {
                        missing.push(format!("{module}!#{ordinal}"));
                    }
                }
                place += 8;
            }
        }
        ensure!(missing.is_empty(), "the machine has no {}", missing.join(", "));
        self.thunks_length = (bound.len() as u64 * THUNK).next_multiple_of(PAGE).max(PAGE);
        self.thunks = map(self.thunks_length);
        let mut thunk = self.thunks;
        for (place, export) in bound {
            match export {
                Export::Direct(address) => put(place, address),
                Export::Function(number) => {
                    put_bytes(thunk, &thunk_code(number));
                    put(place, thunk);
                    thunk += THUNK;
                }
            }
        }
        protect(self.thunks, self.thunks_length, libc::PROT_READ | libc::PROT_EXEC);
        Ok(())
    }

    /// Whether an address lies in the image.
    pub(crate) fn contains(&self, address: u64) -> bool {
        (self.base..self.base + self.length).contains(&address)
    }

    /// Makes the image inaccessible: whoever calls into it now, faults.
    pub(crate) fn unload(&self) {
        protect(self.base, self.length, libc::PROT_NONE);
        self.unloaded.set(true);
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        for (start, length) in [(self.base, self.length), (self.thunks, self.thunks_length)] {
            if start != 0 {
                // SAFETY: the mapping is this image's own.
                unsafe { libc::munmap(start as *mut libc::c_void, length as usize) };
            }
        }
    }
}

/// Bytes of one import's entry.
pub(crate) const THUNK: u64 = 32;

/// `mov r11d, number; mov rax, import_entry; jmp rax`.
fn thunk_code(number: u32) -> [u8; THUNK as usize] {
    let entry = stack::import_entry as *const () as u64;
    let mut code = [0xCC; THUNK as usize];
    code[..2].copy_from_slice(&[0x41, 0xBB]);
    code[2..6].copy_from_slice(&number.to_le_bytes());
    code[6..8].copy_from_slice(&[0x48, 0xB8]);
    code[8..16].copy_from_slice(&entry.to_le_bytes());
    code[16..18].copy_from_slice(&[0xFF, 0xE0]);
    code
}

/// Entries for functions that drivers reach through pointers, one after the other.
pub(crate) fn entries(numbers: impl Iterator<Item = u32>) -> u64 {
    let page = map(PAGE);
    for (index, number) in numbers.enumerate() {
        put_bytes(page + index as u64 * THUNK, &thunk_code(number));
    }
    protect(page, PAGE, libc::PROT_READ | libc::PROT_EXEC);
    page
}

fn map(length: u64) -> u64 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a fresh private mapping at an address of the kernel's choice.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), length as usize, protection, flags, -1, 0) };
    assert!(base != libc::MAP_FAILED, "no memory for an image");
    base as u64
}

fn protect(start: u64, length: u64, protection: i32) {
    // SAFETY: the range is part of this image's mapping.
    let result = unsafe { libc::mprotect(start as *mut libc::c_void, length as usize, protection) };
    assert!(result == 0, "an image's protection cannot be set");
}
