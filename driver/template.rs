//! The template of the INF. It is kept in inf/; the Windows tools look for it in the package's folder, under the package's
//! name. A part of the build script.

use std::path::Path;

/// Copies the template if the copy is missing or another, and asks cargo to run the build script again if either changes.
pub(crate) fn stage(template: &Path, copy: &Path) -> std::io::Result<()> {
    println!("cargo::rerun-if-changed={}", template.display());
    // A file that is not there counts as changed.
    println!("cargo::rerun-if-changed={}", copy.display());
    let content = std::fs::read(template)?;
    if std::fs::read(copy).is_ok_and(|old| old == content) {
        return Ok(());
    }
    std::fs::write(copy, content)
}
