//! What a driver image must be, read from the file itself.
use std::path::Path;

use anyhow::{Context, Result};
use object::pe;
use object::read::pe::{ImageNtHeaders, ImageOptionalHeader, PeFile64};
use object::{LittleEndian as LE, Object, ObjectSection, SectionKind};

/// Modules that a filter driver may import from.
const ALLOWED_IMPORTS: [&str; 3] = ["ntoskrnl.exe", "ndis.sys", "hal.dll"];

/// What every image of a Rust driver exports: its entry point, and symbols of its runtime that nobody imports.
const HARMLESS_EXPORTS: [&str; 5] =
    ["DriverEntry", "__CxxFrameHandler3", "__CxxFrameHandler4", "__GSHandlerCheck_EH4", "_fltused"];

/// Reads the image and returns every fault found.
pub(crate) fn faults(data: &[u8]) -> Result<Vec<String>> {
    let file = PeFile64::parse(data).context("not a 64-bit PE image")?;
    let mut faults = Vec::new();
    let mut expect = |holds: bool, fault: &str| {
        if !holds {
            faults.push(fault.to_owned());
        }
    };
    let header = file.nt_headers().file_header();
    let optional = file.nt_headers().optional_header();
    let machine = header.machine.get(LE);
    expect(
        machine == pe::IMAGE_FILE_MACHINE_AMD64 || machine == pe::IMAGE_FILE_MACHINE_ARM64,
        "the machine is neither x64 nor ARM64",
    );
    expect(optional.subsystem() == pe::IMAGE_SUBSYSTEM_NATIVE, "the subsystem is not native");
    let traits = optional.dll_characteristics();
    expect((traits & pe::IMAGE_DLLCHARACTERISTICS_NX_COMPAT).0 != 0, "the image is not NX compatible");
    expect((traits & pe::IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE).0 != 0, "the image has no dynamic base");
    expect(
        (header.characteristics.get(LE) & pe::IMAGE_FILE_RELOCS_STRIPPED).0 == 0,
        "relocations are stripped",
    );
    // An image without a single absolute address needs no relocations; then none may be there to be missed.
    let relocatable = file.data_directory(pe::IMAGE_DIRECTORY_ENTRY_BASERELOC).is_some()
        || !holds_addresses(&file, optional.image_base(), u64::from(optional.size_of_image()));
    expect(relocatable, "the image holds absolute addresses and no relocations");
    expect(optional.check_sum() == checksum(data), "the PE checksum is wrong");
    for import in file.imports()? {
        let import = import?;
        let module = String::from_utf8_lossy(import.library()).to_ascii_lowercase();
        if !ALLOWED_IMPORTS.contains(&module.as_str()) {
            faults.push(format!("imports {:?} from {module}", import.name()));
        }
    }
    // What is exported is called by whoever imports it, while this image is being loaded too; and DllInitialize is
    // called before what it calls need be there (`tests/lab/README.md`, code that is not there).
    for export in file.exports()? {
        let export = export?;
        let name = String::from_utf8_lossy(export.name().into_name().unwrap_or_default()).into_owned();
        if !HARMLESS_EXPORTS.contains(&name.as_str()) {
            faults.push(format!("exports {name}: other images could call it before this one is resident"));
        }
    }
    for section in file.section_table().iter() {
        let name = String::from_utf8_lossy(section.raw_name()).into_owned();
        let flags = section.characteristics.get(LE).0;
        let executable = flags & (pe::IMAGE_SCN_MEM_EXECUTE | pe::IMAGE_SCN_CNT_CODE).0 != 0;
        if executable && flags & pe::IMAGE_SCN_MEM_WRITE.0 != 0 {
            faults.push(format!("section {name} is writable and executable"));
        }
        // Every function of this driver can be reached at DISPATCH_LEVEL from some callback's caller, so no
        // code at all may be paged out or thrown away.
        if executable && (name.starts_with("PAGE") || name == "INIT") {
            faults.push(format!("section {name} holds code that is not always resident"));
        }
        if executable && flags & pe::IMAGE_SCN_MEM_DISCARDABLE.0 != 0 {
            faults.push(format!("section {name} holds code and is discardable"));
        }
    }
    Ok(faults)
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

/// Fails with every fault of the image at `path`.
pub(crate) fn check(path: &Path) -> Result<()> {
    let data = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let faults = faults(&data).with_context(|| path.display().to_string())?;
    anyhow::ensure!(faults.is_empty(), "{}: {}", path.display(), faults.join("; "));
    Ok(())
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

    #[test]
    fn an_import_from_elsewhere_is_refused() {
        let mut data = shipped();
        let at = data.windows(8).position(|bytes| bytes.eq_ignore_ascii_case(b"ndis.sys")).unwrap();
        data[at..at + 8].copy_from_slice(b"user.dll");
        let faults = faults(&with_checksum(data)).unwrap();
        assert!(faults.iter().all(|fault| fault.ends_with("from user.dll")), "{faults:?}");
        assert!(!faults.is_empty());
    }
}
