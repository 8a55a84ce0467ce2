//! Targets and components of `rust-toolchain.toml`, where rustup does not install them by itself.
use anyhow::Result;

use crate::process;

/// Adds what the toolchain file names and the toolchain lacks.
pub(crate) fn complete() -> Result<()> {
    let file = std::fs::read_to_string(process::root().join("rust-toolchain.toml"))?;
    for (kind, key) in [("target", "targets"), ("component", "components")] {
        let wanted = list(&file, key);
        let Ok(installed) = process::output(process::command("rustup").args([kind, "list", "--installed"]))
        else {
            // A toolchain without rustup has what its packager gave it; the build will say what is missing.
            return Ok(());
        };
        let lacks = |name: &&String| !installed.lines().any(|line| line.starts_with(name.as_str()));
        let missing: Vec<&String> = wanted.iter().filter(lacks).collect();
        if !missing.is_empty() {
            let mut add = process::command("rustup");
            add.args([kind, "add"]).args(missing).stdout(std::io::stderr());
            process::run(&mut add)?;
        }
    }
    Ok(())
}

/// The strings of one list of the toolchain file.
fn list(file: &str, key: &str) -> Vec<String> {
    file.lines()
        .find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix('='))
        .map(|values| values.split('"').skip(1).step_by(2).map(str::to_owned).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn lists_of_the_toolchain_file_are_read() {
        let file = "[toolchain]\ncomponents = [\"clippy\", \"rustfmt\"]\n";
        assert_eq!(super::list(file, "components"), ["clippy", "rustfmt"]);
        assert!(super::list(file, "targets").is_empty());
    }
}
