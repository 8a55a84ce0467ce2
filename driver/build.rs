//! Configures the link of a kernel driver, and puts the INF template where the Windows tools want it.

mod template;

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    wdk_build::configure_wdk_binary_build()?;
    // The image's checksum, which the loader of boot and system drivers checks.
    println!("cargo::rustc-cdylib-link-arg=/RELEASE");
    // A hash of the image stands where the linker would write the time: the same sources give the same image.
    println!("cargo::rustc-cdylib-link-arg=/Brepro");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=template.rs");
    if cfg!(windows) {
        // cargo-make's package flow and cargo-wdk read <package>/<name>.inx.
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        template::stage(&folder.join("../inf/sluice.inx"), &folder.join("sluice.inx"))?;
    }
    Ok(())
}
