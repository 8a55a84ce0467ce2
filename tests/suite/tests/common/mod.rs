//! What the tests of costs read in their image.
use std::collections::BTreeMap;

use object::read::pe::PeFile64;
use object::{ExportTarget, Object};

/// The bytes of the image whose functions are compared.
pub(crate) fn image() -> Vec<u8> {
    std::fs::read(sluice_suite::image::lab("cost")).unwrap()
}

/// Where its exports lie, by name.
pub(crate) fn exports(file: &PeFile64<'_>) -> BTreeMap<String, u64> {
    let named = file.exports().unwrap().map(|export| {
        let export = export.unwrap();
        let ExportTarget::Address { address } = export.target() else {
            panic!("an export that lies elsewhere")
        };
        (String::from_utf8_lossy(export.name().name().unwrap()).into_owned(), address)
    });
    named.collect()
}
