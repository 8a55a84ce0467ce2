//! `cargo xtask image`: what a driver image must be, read from the file itself, whichever linker made it.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use object::pe;
use object::read::pe::{ImageNtHeaders, ImageOptionalHeader, PeFile64};
use object::{LittleEndian as LE, Object, ObjectSection, SectionKind};

use crate::imports::{self, Release};
use crate::inf_file;

/// Modules that a filter driver may import from.
const ALLOWED_IMPORTS: [&str; 3] = ["ntoskrnl.exe", "ndis.sys", "hal.dll"];

/// What the image of a driver in Rust exports: its entry point, which rustc exports as it does every function with a
/// fixed name of the crate, and four symbols of `wdk-sys` that stand in for the C runtime's. No linker option takes them
/// away again; none of them is an entry that the system calls by itself, and no import library names them.
const HARMLESS_EXPORTS: [&str; 5] =
    ["DriverEntry", "__CxxFrameHandler3", "__CxxFrameHandler4", "__GSHandlerCheck_EH4", "_fltused"];

/// Options of `cargo xtask image`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The image.
    file: PathBuf,
    /// Compare the Windows that its imports need with the oldest that this INF installs it on.
    #[arg(long)]
    inf: Option<PathBuf>,
}

/// Checks an image and says what is in it, or every fault; ends with 0 if there is none, and 1 otherwise.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let (image, faults) = read(&options.file, options.inf.as_deref())?;
    print!("{}", image.report());
    for fault in &faults {
        eprintln!("{}: {fault}", options.file.display());
    }
    if !faults.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    println!("{}: no fault", options.file.display());
    Ok(ExitCode::SUCCESS)
}

/// Fails with every fault of the image at `path`, and with `inf` of what the two say of Windows.
pub(crate) fn check(path: &Path, inf: Option<&Path>) -> Result<()> {
    let (_, faults) = read(path, inf)?;
    anyhow::ensure!(faults.is_empty(), "{}: {}", path.display(), faults.join("; "));
    Ok(())
}

fn read(path: &Path, inf: Option<&Path>) -> Result<(Image, Vec<String>)> {
    let data = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (image, mut faults) = examine(&data).with_context(|| path.display().to_string())?;
    if let Some(inf) = inf {
        faults.extend(image.newer_than(&promised(inf, image.architecture)?));
    }
    Ok((image, faults))
}

/// The targets of an INF's models for an architecture, and their builds.
fn promised(inf: &Path, architecture: &str) -> Result<Vec<(String, Option<u32>)>> {
    let prefix = format!("NT{architecture}");
    let mut targets = Vec::new();
    for line in inf_file::lines(inf)? {
        if !line.section.eq_ignore_ascii_case("Manufacturer") {
            continue;
        }
        for target in line.fields.iter().skip(1) {
            let rest = target.get(..prefix.len()).filter(|start| start.eq_ignore_ascii_case(&prefix));
            if rest.is_some() {
                targets.push((target.clone(), target.split('.').nth(5).and_then(inf_file::number)));
            }
        }
    }
    anyhow::ensure!(!targets.is_empty(), "{}: no models for {architecture}", inf.display());
    Ok(targets)
}

/// A section's name and rights.
struct Section {
    name: String,
    rights: String,
}

/// What is reported of an image.
struct Image {
    /// As an INF names it.
    architecture: &'static str,
    checksum: u32,
    traits: Vec<&'static str>,
    sections: Vec<Section>,
    /// Functions by module.
    imports: BTreeMap<String, Vec<String>>,
    exports: Vec<String>,
}

impl Image {
    /// The import that needs the newest Windows.
    fn newest(&self) -> Option<(Release, &str)> {
        let names = self.imports.values().flatten();
        names
            .filter_map(|name| Some((imports::since(name)?, name.as_str())))
            .max_by_key(|(release, _)| *release)
    }

    /// Where an INF promises a Windows that does not export what the image imports.
    fn newer_than(&self, targets: &[(String, Option<u32>)]) -> Vec<String> {
        let Some((release, function)) = self.newest() else { return Vec::new() };
        let mut faults = Vec::new();
        for (target, build) in targets {
            match build {
                Some(build) if *build >= release.build => {}
                Some(_) => faults.push(format!(
                    "imports {function}, which {} (build {}) exported first, but the INF has models for {target}",
                    release.name, release.build
                )),
                None => faults.push(format!(
                    "imports {function}, which {} (build {}) exported first, but {target} of the INF names no build",
                    release.name, release.build
                )),
            }
        }
        faults
    }

    fn report(&self) -> String {
        let sections: Vec<String> =
            self.sections.iter().map(|section| format!("{} {}", section.name, section.rights)).collect();
        let imports: Vec<String> =
            self.imports.iter().map(|(module, names)| format!("{} from {module}", names.len())).collect();
        let newest = self.newest().map_or("none".to_owned(), |(release, function)| {
            format!("{}, build {}, for {function}", release.name, release.build)
        });
        format!(
            "architecture  {}, checksum {:#x}, {}\n    sections  {}\n     imports  {}\n       needs  {newest}\n     exports  {}\n",
            self.architecture,
            self.checksum,
            self.traits.join(", "),
            sections.join(", "),
            imports.join(", "),
            self.exports.join(", "),
        )
    }
}

/// Reads the image; returns what is reported of it and every fault found.
fn examine(data: &[u8]) -> Result<(Image, Vec<String>)> {
    let file = PeFile64::parse(data).context("not a 64-bit PE image")?;
    let mut faults = Vec::new();
    let mut expect = |holds: bool, fault: &str| {
        if !holds {
            faults.push(fault.to_owned());
        }
        holds
    };
    let header = file.nt_headers().file_header();
    let optional = file.nt_headers().optional_header();
    let machine = header.machine.get(LE);
    let architecture = match machine {
        pe::IMAGE_FILE_MACHINE_AMD64 => "amd64",
        pe::IMAGE_FILE_MACHINE_ARM64 => "arm64",
        _ => "unknown",
    };
    expect(architecture != "unknown", "the machine is neither x64 nor ARM64");
    expect(optional.subsystem() == pe::IMAGE_SUBSYSTEM_NATIVE, "the subsystem is not native");
    let flags = optional.dll_characteristics();
    let mut traits = Vec::new();
    for (flag, name, fault) in [
        (pe::IMAGE_DLLCHARACTERISTICS_NX_COMPAT, "NX", Some("the image is not NX compatible")),
        (pe::IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE, "dynamic base", Some("the image has no dynamic base")),
        (pe::IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY, "integrity check", None),
        (pe::IMAGE_DLLCHARACTERISTICS_GUARD_CF, "control flow guard", None),
    ] {
        let set = (flags & flag).0 != 0;
        if set {
            traits.push(name);
        }
        if let Some(fault) = fault {
            expect(set, fault);
        }
    }
    expect(
        (header.characteristics.get(LE) & pe::IMAGE_FILE_RELOCS_STRIPPED).0 == 0,
        "relocations are stripped",
    );
    // An image without a single absolute address needs no relocations; then none may be there to be missed.
    let relocatable = file.data_directory(pe::IMAGE_DIRECTORY_ENTRY_BASERELOC).is_some()
        || !holds_addresses(&file, optional.image_base(), u64::from(optional.size_of_image()));
    expect(relocatable, "the image holds absolute addresses and no relocations");
    expect(optional.check_sum() == checksum(data), "the PE checksum is wrong");

    let mut imports: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for import in file.imports()? {
        let import = import?;
        let module = String::from_utf8_lossy(import.library()).to_ascii_lowercase();
        let name = match import.name().into_name() {
            Some(name) => String::from_utf8_lossy(name).into_owned(),
            None => "a function by its ordinal".to_owned(),
        };
        if !ALLOWED_IMPORTS.contains(&module.as_str()) {
            faults.push(format!(
                "imports {name} from {module}; a filter driver has {} only",
                ALLOWED_IMPORTS.join(", ")
            ));
        } else if imports::since(&name).is_none() {
            faults.push(format!(
                "imports {name}, for which xtask/src/imports.rs names no Windows: add the one that its page names"
            ));
        }
        imports.entry(module).or_default().push(name);
    }
    // Another image that imports an export may call it while this one is still being loaded; and DllInitialize is
    // called before what it calls need be there (`tests/lab/README.md`, code that is not there).
    let mut exports = Vec::new();
    for export in file.exports()? {
        let export = export?;
        let name = String::from_utf8_lossy(export.name().into_name().unwrap_or_default()).into_owned();
        if !HARMLESS_EXPORTS.contains(&name.as_str()) {
            faults.push(format!("exports {name}: other images could call it before this one is resident"));
        }
        exports.push(name);
    }
    let (sections, wrong) = sections(&file)?;
    faults.extend(wrong);
    let checksum = optional.check_sum();
    Ok((Image { architecture, checksum, traits, sections, imports, exports }, faults))
}

/// Sections with their rights, and what is wrong with them.
fn sections(file: &PeFile64<'_>) -> Result<(Vec<Section>, Vec<String>)> {
    let code = code(file)?;
    let import_table = file.data_directory(pe::IMAGE_DIRECTORY_ENTRY_IMPORT);
    let import_table = import_table.map(|directory| directory.virtual_address.get(LE));
    let (mut sections, mut faults) = (Vec::new(), Vec::new());
    for section in file.section_table().iter() {
        let name = String::from_utf8_lossy(section.raw_name()).into_owned();
        let flags = section.characteristics.get(LE).0;
        let has = |flag: u32| flags & flag != 0;
        let executable = has(pe::IMAGE_SCN_MEM_EXECUTE.0 | pe::IMAGE_SCN_CNT_CODE.0);
        let rights = [
            ("r", has(pe::IMAGE_SCN_MEM_READ.0)),
            ("w", has(pe::IMAGE_SCN_MEM_WRITE.0)),
            ("x", executable),
            (" discardable", has(pe::IMAGE_SCN_MEM_DISCARDABLE.0)),
        ];
        let rights = rights.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect();
        if executable && has(pe::IMAGE_SCN_MEM_WRITE.0) {
            faults.push(format!("section {name} is writable and executable"));
        }
        // Every function of this driver can be reached at DISPATCH_LEVEL from some callback's caller, so no code at all
        // may be paged out or thrown away. link.exe keeps the import table in a section INIT that counts as code.
        let begin = section.virtual_address.get(LE);
        let inside = |address: &u32| (begin..begin + section.virtual_size.get(LE)).contains(address);
        let holds_code = executable && (code.iter().any(inside) || !import_table.iter().any(inside));
        if holds_code && (name.starts_with("PAGE") || name == "INIT") {
            faults.push(format!("section {name} holds code that is not always resident"));
        }
        if holds_code && has(pe::IMAGE_SCN_MEM_DISCARDABLE.0) {
            faults.push(format!("section {name} holds code and is discardable"));
        }
        sections.push(Section { name, rights });
    }
    Ok((sections, faults))
}

/// Addresses, relative to the image, at which functions begin: of the table for unwinding, and the entry point.
fn code(file: &PeFile64<'_>) -> Result<Vec<u32>> {
    let mut begins = vec![file.nt_headers().optional_header().address_of_entry_point()];
    let entry = match file.nt_headers().file_header().machine.get(LE) {
        pe::IMAGE_FILE_MACHINE_AMD64 => 12,
        _ => 8,
    };
    if let Some(directory) = file.data_directory(pe::IMAGE_DIRECTORY_ENTRY_EXCEPTION) {
        let table = directory.data(file.data(), &file.section_table()).context("the table for unwinding")?;
        begins.extend(table.chunks_exact(entry).filter_map(|function| function.get(..4)).map(le));
    }
    Ok(begins)
}

/// Whether an aligned word of a data section looks like an address inside the image.
fn holds_addresses(file: &PeFile64<'_>, base: u64, length: u64) -> bool {
    file.sections()
        .filter(|section| !matches!(section.kind(), SectionKind::Text))
        .filter_map(|section| section.data().ok())
        .flat_map(|data| data.chunks_exact(8))
        .filter_map(|word| word.try_into().map(u64::from_le_bytes).ok())
        .any(|word| (base..base + length).contains(&word))
}

/// The checksum of the image's optional header: one's complement sum of its words, plus its length.
fn checksum(data: &[u8]) -> u32 {
    let header = data.get(0x3C..0x40).map_or(0, le) as usize;
    let field = header + 0x58;
    let sum = data.chunks(2).enumerate().fold(0u32, |sum, (index, pair)| {
        let at = index * 2;
        if at == field || at == field + 2 {
            return sum;
        }
        let sum = sum + le(pair);
        (sum & 0xFFFF) + (sum >> 16)
    });
    sum + data.len() as u32
}

fn le(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> Vec<u8> {
        let path = crate::process::root().join("target/sluice/sluice.sys");
        std::fs::read(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; run: cargo xtask build", path.display()))
    }

    /// Offset of a field of the optional header.
    fn optional(data: &[u8], field: usize) -> usize {
        le(&data[0x3C..0x40]) as usize + 0x18 + field
    }

    /// Offset of the first section header.
    fn first_section(data: &[u8]) -> usize {
        let nt = le(&data[0x3C..0x40]) as usize;
        nt + 0x18 + le(&data[nt + 0x14..nt + 0x16]) as usize
    }

    fn with_checksum(mut data: Vec<u8>) -> Vec<u8> {
        let at = optional(&data, 0x40);
        let sum = checksum(&data);
        data[at..at + 4].copy_from_slice(&sum.to_le_bytes());
        data
    }

    fn faults(data: &[u8]) -> Result<Vec<String>> {
        Ok(examine(data)?.1)
    }

    fn only_fault(data: &[u8]) -> String {
        let faults = faults(data).unwrap();
        assert_eq!(faults.len(), 1, "{faults:?}");
        faults.into_iter().next().unwrap()
    }

    #[test]
    fn the_shipped_image_has_no_fault() {
        assert_eq!(faults(&shipped()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_changed_byte_breaks_the_checksum() {
        let mut data = shipped();
        let last = data.len() - 1;
        data[last] ^= 1;
        assert_eq!(only_fault(&data), "the PE checksum is wrong");
    }

    #[test]
    fn a_console_program_is_refused() {
        let mut data = shipped();
        let at = optional(&data, 0x44);
        data[at] = 3;
        assert_eq!(only_fault(&with_checksum(data)), "the subsystem is not native");
    }

    #[test]
    fn an_image_without_nx_is_refused() {
        let mut data = shipped();
        let at = optional(&data, 0x46);
        data[at + 1] &= !1;
        assert_eq!(only_fault(&with_checksum(data)), "the image is not NX compatible");
    }

    #[test]
    fn code_in_a_pageable_section_is_refused() {
        let mut data = shipped();
        let at = first_section(&data);
        data[at..at + 8].copy_from_slice(b"PAGE\0\0\0\0");
        assert_eq!(only_fault(&with_checksum(data)), "section PAGE holds code that is not always resident");
    }

    #[test]
    fn a_writable_code_section_is_refused() {
        let mut data = shipped();
        let at = first_section(&data) + 0x27;
        data[at] |= 0x80;
        assert!(only_fault(&with_checksum(data)).contains("is writable and executable"));
    }

    #[test]
    fn a_discardable_code_section_is_refused() {
        let mut data = shipped();
        let at = first_section(&data) + 0x27;
        data[at] |= 0x02;
        assert!(only_fault(&with_checksum(data)).contains("holds code and is discardable"));
    }

    #[test]
    fn an_image_that_others_call_while_it_is_loaded_is_refused() {
        let path = crate::process::root().join("target/lab/crashes/late_code_second.sys");
        let data = std::fs::read(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; run: cargo xtask build --all", path.display()));
        let faults = faults(&data).unwrap().join("\n");
        assert!(faults.contains("exports DllInitialize"), "{faults}");
        assert!(faults.contains("from late_code_first.sys"), "{faults}");
    }

    /// The image with the name of a module or function replaced by another of the same length.
    fn renamed(from: &[u8], to: &[u8]) -> Vec<u8> {
        assert_eq!(from.len(), to.len());
        let mut data = shipped();
        let at = data.windows(from.len()).position(|bytes| bytes.eq_ignore_ascii_case(from)).unwrap();
        data[at..at + to.len()].copy_from_slice(to);
        with_checksum(data)
    }

    #[test]
    fn an_import_from_elsewhere_is_refused() {
        // The tracelogging crate names one function of it, which the linker drops.
        let faults = faults(&renamed(b"ntoskrnl.exe", b"rpcrt4.dll\0\0")).unwrap();
        assert!(faults.iter().all(|fault| fault.contains("from rpcrt4.dll")), "{faults:?}");
        assert!(!faults.is_empty());
    }

    #[test]
    fn an_import_of_which_no_windows_is_known_asks_for_an_entry() {
        let fault = only_fault(&renamed(b"KeBugCheckEx", b"KeBigCheckEx"));
        assert!(fault.starts_with("imports KeBigCheckEx") && fault.contains("imports.rs"), "{fault}");
    }

    #[test]
    fn an_init_section_that_holds_only_the_import_table_is_what_link_exe_makes() {
        // The section that holds the import table, with link.exe's name and rights for it.
        let mut data = shipped();
        let at = first_section(&data) + 40;
        assert_eq!(&data[at..at + 6], b".rdata");
        data[at..at + 8].copy_from_slice(b"INIT\0\0\0\0");
        data[at + 0x24..at + 0x28].copy_from_slice(&0x6200_0020u32.to_le_bytes());
        assert_eq!(faults(&with_checksum(data)).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn an_inf_for_an_older_windows_than_the_imports_need_is_refused() {
        let image = examine(&shipped()).unwrap().0;
        let target = |build| vec![(format!("NTamd64.10.0...{build}"), Some(build))];
        assert_eq!(image.newest().unwrap().0.build, 19041);
        assert_eq!(image.newer_than(&target(19041)), Vec::<String>::new());
        let faults = image.newer_than(&target(16299));
        assert_eq!(
            faults,
            [
                "imports ExAllocatePool2, which Windows 10, version 2004 (build 19041) exported first, but the INF has \
              models for NTamd64.10.0...16299"
            ]
        );
        assert_eq!(image.newer_than(&[("NTamd64".to_owned(), None)]).len(), 1);
    }

    #[test]
    fn the_oldest_windows_of_the_inf_is_that_of_the_imports() {
        let inf = crate::process::root().join("target/sluice/sluice.inf");
        let targets = promised(&inf, "amd64").unwrap();
        let lowest = targets.iter().filter_map(|(_, build)| *build).min().unwrap();
        assert_eq!(examine(&shipped()).unwrap().0.newest().unwrap().0.build, lowest);
        assert!(promised(&inf, "arm64").unwrap_err().to_string().contains("no models for arm64"));
    }

    /// `wdk-alloc` ignores alignments over 16. The driver allocates through its own pool, and of the global allocator,
    /// which frees with `ExFreePool`, nothing is linked.
    #[test]
    fn no_layout_reaches_the_global_allocator() {
        let image = examine(&shipped()).unwrap().0;
        let functions: Vec<&String> = image.imports.values().flatten().collect();
        assert!(functions.iter().any(|name| *name == "ExFreePoolWithTag"));
        assert!(!functions.iter().any(|name| *name == "ExFreePool"));
    }
}
