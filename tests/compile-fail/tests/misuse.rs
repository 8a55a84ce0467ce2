//! Each case fails to compile, for the reason that its second line names; what the compiler says is kept beside it, so
//! that somebody reads it before it changes.
#![expect(unsafe_code, reason = "changes this program's environment, before it has other threads")]
use std::path::Path;

use anyhow::{Context, Result, ensure};

fn main() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = folder.join("../../target/linux-wdk/config.toml");
    let mut variables = vec![
        ("SLUICE_REAL_CARGO", std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())),
        ("SLUICE_DRIVER_TARGET", folder.join("../../target/driver").into()),
        ("CARGO", env!("CARGO_BIN_EXE_cargo-for-windows").into()),
    ];
    if cfg!(not(windows)) {
        ensure!(config.exists(), "{} is not there; make it with: cargo xtask build", config.display());
        variables.push(("SLUICE_WDK_CONFIG", config.into()));
    }
    for (name, value) in variables {
        // SAFETY: this program has one thread so far.
        unsafe { std::env::set_var(name, value) };
    }
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/cases/*.rs");
    // The cases run here.
    drop(cases);
    let (mut count, mut faults) = (0, Vec::new());
    for entry in folder.join("tests/cases").read_dir()? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            count += 1;
            if let Err(fault) = reason(&path) {
                faults.push(format!("{}: {fault}", path.display()));
            }
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    println!("{count} cases fail to compile, each for the reason that it names");
    Ok(())
}

/// Whether a case fails for the reason that it names.
fn reason(path: &Path) -> Result<()> {
    let case = std::fs::read_to_string(path)?;
    let expected = case.lines().nth(1).and_then(|line| line.strip_prefix("// expect: "));
    let expected = expected.context("the second line does not say what is expected")?;
    let said = std::fs::read_to_string(path.with_extension("stderr"))?;
    ensure!(said.contains(expected), "the compiler does not say {expected:?}, but:\n{said}");
    ensure!(
        !said.contains("{closure@"),
        "a closure's name has its file's path, which the compiler shortens when it is long"
    );
    Ok(())
}
