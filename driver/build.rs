//! Configures the link of a kernel driver, and puts the INF template where the Windows tools want it.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    wdk_build::configure_wdk_binary_build()?;
    // The image's checksum, which the loader of boot and system drivers checks.
    println!("cargo::rustc-cdylib-link-arg=/RELEASE");
    // A hash of the image stands where the linker would write the time: the same sources give the same image.
    println!("cargo::rustc-cdylib-link-arg=/Brepro");
    // cargo-make's package flow reads <package>/<name>.inx; the one that is kept lies in inf/.
    let template = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../inf/sluice.inx");
    println!("cargo::rerun-if-changed={}", template.display());
    if cfg!(windows) {
        std::fs::copy(&template, std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sluice.inx"))?;
    }
    Ok(())
}
