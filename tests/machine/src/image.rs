//! Driver images in memory: sections at their protections, relocations, imports and exports by name. In which order
//! images that import from each other are loaded is `loader.rs`'s.
#![expect(unsafe_code, reason = "maps executable memory")]
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};
use object::LittleEndian as LE;
use object::pe;
use object::read::pe::{ExportTarget, ImageNtHeaders, ImageOptionalHeader, PeFile64};

use crate::machine::current;
use crate::memory::{PAGE, fill_bytes, get, put, put_bytes};
use crate::{stack, system};

/// A section's place, protection, and whether it stays.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) start: u64,
    pub(crate) length: u64,
    pub(crate) protection: i32,
    pageable: bool,
    discardable: bool,
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
    /// What other images may import, by name.
    exports: HashMap<String, u64>,
    data: Rc<Vec<u8>>,
}

/// Bytes of address space for each image.
const ROOM: u64 = 32 << 20;

impl Image {
    /// Maps an image as the machine's n-th: its bytes are there, at its place, and nothing is protected or bound yet.
    pub(crate) fn map(path: &Path, number: usize) -> Result<Self> {
        let data = read(path)?;
        Self::map_data(path, number, &data).with_context(|| format!("cannot load {}", path.display()))
    }

    fn map_data(path: &Path, number: usize, shared: &Rc<Vec<u8>>) -> Result<Self> {
        let data = shared.as_slice();
        let file = PeFile64::parse(data).context("not a 64-bit PE image")?;
        let machine = file.nt_headers().file_header().machine.get(LE);
        ensure!(machine == pe::IMAGE_FILE_MACHINE_AMD64, "the image is for another processor than x64");
        let optional = file.nt_headers().optional_header();
        ensure!(
            optional.subsystem() == pe::IMAGE_SUBSYSTEM_NATIVE,
            "the image is no driver: its subsystem is not native"
        );
        let length = u64::from(optional.size_of_image()).next_multiple_of(PAGE);
        let area = current().memory.areas.images;
        let base = area.base + number as u64 * ROOM;
        ensure!(length <= ROOM && base + ROOM <= area.base + area.length, "no address space for the image");
        protect(base, length, libc::PROT_READ | libc::PROT_WRITE);
        // Sections are copied; what lies between them and behind their bytes is zero.
        fill_bytes(base, 0, length as usize);
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
            exports: exports(&file, base)?,
            data: shared.clone(),
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
            let flags = section.characteristics.get(LE).0;
            let mut protection = libc::PROT_READ;
            if flags & pe::IMAGE_SCN_MEM_WRITE.0 != 0 {
                protection |= libc::PROT_WRITE;
            }
            if flags & pe::IMAGE_SCN_MEM_EXECUTE.0 != 0 {
                protection |= libc::PROT_EXEC;
            }
            image.sections.push(Section {
                // Sections whose names start with PAGE can be paged out, and INIT goes after DriverEntry.
                pageable: name.starts_with("PAGE"),
                discardable: name == "INIT",
                name,
                start,
                length: room,
                protection,
            });
        }
        image.relocate(&file)?;
        protect(base, PAGE, libc::PROT_READ);
        Ok(image)
    }

    /// The modules that it imports from, in the order of its import table.
    pub(crate) fn modules(&self) -> Result<Vec<String>> {
        let file = PeFile64::parse(self.data.as_slice())?;
        let mut modules = Vec::new();
        if let Some(table) = file.import_table()? {
            let mut descriptors = table.descriptors()?;
            while let Some(descriptor) = descriptors.next()? {
                let name = table.name(descriptor.name.get(LE))?;
                modules.push(String::from_utf8_lossy(name).to_ascii_lowercase());
            }
        }
        Ok(modules)
    }

    /// Fills the part of its import table that is for one module. `resolve` finds the address of an export. Returns what
    /// it did not find, as `module!name`.
    pub(crate) fn bind(
        &self,
        module: &str,
        resolve: &dyn Fn(&str, &str) -> Option<u64>,
    ) -> Result<Vec<String>> {
        let file = PeFile64::parse(self.data.as_slice())?;
        let (bound, missing) = imports(&file, Some(module), resolve)?;
        for (place, address) in bound {
            put(self.base + place, address);
        }
        Ok(missing)
    }

    /// What it exports under a name.
    pub(crate) fn export(&self, name: &str) -> Option<u64> {
        self.exports.get(name).copied()
    }

    /// Its sections get the protections that they have from now on, and stay in memory, but for the pageable ones.
    pub(crate) fn settle(&self) {
        for section in &self.sections {
            protect(section.start, section.length.next_multiple_of(PAGE), section.protection);
            if section.pageable {
                current().memory.add_pageable(section.start, section.length, section.protection);
            }
        }
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

    /// `DriverEntry` has returned: its section goes.
    pub(crate) fn discard_init(&self) {
        for section in self.sections.iter().filter(|section| section.discardable) {
            protect(section.start, section.length.next_multiple_of(PAGE), libc::PROT_NONE);
        }
    }

    /// The section that an address lies in.
    pub(crate) fn section_of(&self, address: u64) -> Option<&Section> {
        self.sections.iter().find(|section| {
            (section.start..section.start + section.length.next_multiple_of(PAGE)).contains(&address)
        })
    }

    /// Whether an address lies in the image.
    pub(crate) fn contains(&self, address: u64) -> bool {
        (self.base..self.base + self.length).contains(&address)
    }

    /// Makes the image inaccessible: whoever calls into it now, faults.
    pub(crate) fn unload(&self) {
        current().memory.remove_pageable(self.base, self.length);
        protect(self.base, self.length, libc::PROT_NONE);
        self.unloaded.set(true);
    }
}

impl Section {
    /// Whether it was discarded after `DriverEntry`.
    pub(crate) fn is_discardable(&self) -> bool {
        self.discardable
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        protect(self.base, self.length, libc::PROT_NONE);
    }
}

/// Files that were read lately, by path, with the time and length that they had: machines load the same drivers
/// again and again.
type Files = RefCell<HashMap<PathBuf, (SystemTime, u64, Rc<Vec<u8>>)>>;

fn read(path: &Path) -> Result<Rc<Vec<u8>>> {
    thread_local! {
        static FILES: Files = RefCell::default();
    }
    let open = || format!("cannot read {}", path.display());
    let about = std::fs::metadata(path).with_context(open)?;
    let (time, length) = (about.modified().unwrap_or(SystemTime::UNIX_EPOCH), about.len());
    FILES.with_borrow_mut(|files| {
        if let Some((known_time, known_length, data)) = files.get(path)
            && (*known_time, *known_length) == (time, length)
        {
            return Ok(data.clone());
        }
        let data = Rc::new(std::fs::read(path).with_context(open)?);
        files.insert(path.to_path_buf(), (time, length, data.clone()));
        Ok(data)
    })
}

/// The exports of an image at a base.
fn exports(file: &PeFile64<'_>, base: u64) -> Result<HashMap<String, u64>> {
    let mut found = HashMap::new();
    if let Some(table) = file.export_table()? {
        for export in table.exports()? {
            if let (Some(name), ExportTarget::Address(address)) = (export.name, export.target) {
                found.insert(String::from_utf8_lossy(name).into_owned(), base + u64::from(address));
            }
        }
    }
    Ok(found)
}

/// What an image imports that the machine does not have, or a build of Windows not yet, as `module!name`.
pub fn missing_imports(path: &Path, build: u32) -> Result<Vec<String>> {
    let data = read(path)?;
    let file = PeFile64::parse(data.as_slice()).context("not a 64-bit PE image")?;
    let resolve = |module: &str, name: &str| {
        crate::kernel::resolve(module, name).filter(|_| system::exports(build, name))
    };
    let (_, missing) = imports(&file, None, &resolve)?;
    Ok(missing.iter().map(|import| system::missing(build, import)).collect())
}

/// Where the address of each import goes in an image, and what is not there.
type Imports = (Vec<(u64, u64)>, Vec<String>);

/// What an image imports, from one module if `only` names it.
fn imports(
    file: &PeFile64<'_>,
    only: Option<&str>,
    resolve: &dyn Fn(&str, &str) -> Option<u64>,
) -> Result<Imports> {
    let (mut bound, mut missing) = (Vec::new(), Vec::new());
    let Some(table) = file.import_table()? else { return Ok((bound, missing)) };
    let mut descriptors = table.descriptors()?;
    while let Some(descriptor) = descriptors.next()? {
        let module = String::from_utf8_lossy(table.name(descriptor.name.get(LE))?).to_ascii_lowercase();
        if only.is_some_and(|only| only != module) {
            continue;
        }
        let lookup = match descriptor.original_first_thunk.get(LE) {
            0 => descriptor.first_thunk.get(LE),
            first => first,
        };
        let mut thunks = table.thunks(lookup)?;
        let mut place = u64::from(descriptor.first_thunk.get(LE));
        while let Some(thunk) = thunks.next::<pe::ImageNtHeaders64>()? {
            match table.import::<pe::ImageNtHeaders64>(thunk)? {
                object::read::pe::Import::Name(_, name) => {
                    let name = String::from_utf8_lossy(name).into_owned();
                    match resolve(&module, &name) {
                        Some(address) => bound.push((place, address)),
                        None => missing.push(format!("{module}!{name}")),
                    }
                }
                object::read::pe::Import::Ordinal(ordinal) => missing.push(format!("{module}!#{ordinal}")),
            }
            place += 8;
        }
    }
    Ok((bound, missing))
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

/// Where entries of the system's functions lie, in every run.
const ENTRIES: u64 = 0x0F00_0000_0000;

/// Entries of all functions, one after the other: where drivers' calls of them arrive.
pub(crate) fn entries(count: u32) -> u64 {
    let length = (u64::from(count) * THUNK).next_multiple_of(PAGE);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a fresh private mapping that replaces nothing.
    let base = unsafe { libc::mmap(ENTRIES as *mut _, length as usize, protection, flags, -1, 0) };
    assert!(base as u64 == ENTRIES, "the address space of the system's functions is in use");
    for number in 0..count {
        put_bytes(ENTRIES + u64::from(number) * THUNK, &thunk_code(number));
    }
    protect(ENTRIES, length, libc::PROT_READ | libc::PROT_EXEC);
    ENTRIES
}

fn protect(start: u64, length: u64, protection: i32) {
    // SAFETY: the range is part of this image's mapping.
    let result = unsafe { libc::mprotect(start as *mut libc::c_void, length as usize, protection) };
    assert!(result == 0, "an image's protection cannot be set");
}
