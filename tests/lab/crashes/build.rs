//! Links each example as a kernel driver, as `wdk-build` does for a package's own library.

fn main() -> Result<(), wdk_build::ConfigError> {
    // Where the kernel's libraries lie.
    for path in wdk_build::Config::from_env_auto()?.library_paths()? {
        println!("cargo::rustc-link-search={}", path.display());
    }
    for argument in [
        "/DRIVER",
        "/ENTRY:DriverEntry",
        "/SUBSYSTEM:NATIVE",
        "/NODEFAULTLIB",
        "/DYNAMICBASE",
        "/NXCOMPAT",
        "/OPT:REF,ICF",
        "/RELEASE",
    ] {
        println!("cargo::rustc-link-arg={argument}");
    }
    Ok(())
}
