//! Configures the link of a kernel driver.

fn main() -> Result<(), wdk_build::ConfigError> {
    wdk_build::configure_wdk_binary_build()?;
    println!("cargo::rustc-cdylib-link-arg=/RELEASE");
    Ok(())
}
