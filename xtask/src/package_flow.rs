//! What `cargo make default` does in `driver/` on Windows: the real cargo-make with wdk-build's real makefile, run here
//! with a stand-in for the load script, and with programs that only write down how they are called.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Context, Result, bail, ensure};

use crate::build::Arch;
use crate::{linux_wdk, process};

/// What the flow calls, besides cargo: the WDK's tools and rust-script.
const PROGRAMS: [&str; 7] =
    ["cargo", "rust-script", "stampinf", "infverif", "inf2cat", "makecert", "signtool"];

/// The program that stands in for each of them. Cargo's description of the project is the real one, and rust-script
/// answers as wdk-build does: the command line's options become cargo's, and the driver is a WDM one.
const STAND_IN: &str = r#"#!/bin/sh
name=${0##*/}
write() { printf '%s\n' "$*" >>"$TRACE"; }
case $name in
cargo)
    case $1 in metadata | --version) export PATH="$REAL_PATH"; exec "$REAL_CARGO" "$@" ;; esac
    write "$name $*"
    ;;
rust-script)
    if [ "$1" = --version ]; then echo "rust-script 0.36.0"; exit; fi
    while [ $# -gt 0 ]; do
        case $1 in *.rs) script=$1; shift; break ;; esac
        shift
    done
    functions=$(grep -o 'wdk_build::cargo_make::[a-z_]*' "$script" | sed 's/.*:://' | tr '\n' ' ')
    write "${CARGO_MAKE_CURRENT_TASK_NAME:-init}: $functions"
    case $functions in
    validate_command_line_args*)
        flags="$*" folder=$CARGO_MAKE_CRATE_CUSTOM_TRIPLE_TARGET_DIRECTORY profile=debug
        echo "FORWARDING ARGS TO CARGO-MAKE:"
        while [ $# -gt 0 ]; do
            case $1 in
            --release) profile=release ;;
            --target) shift; folder=$folder/$1; echo "CARGO_MAKE_CRATE_TARGET_TRIPLE=$1" ;;
            esac
            shift
        done
        echo "CARGO_MAKE_CARGO_BUILD_TEST_FLAGS=$flags"
        echo "WDK_BUILD_OUTPUT_DIRECTORY=$folder/$profile"
        echo "END OF FORWARDING ARGS TO CARGO-MAKE"
        ;;
    get_cargo_metadata*)
        echo "FORWARDING ARGS TO CARGO-MAKE:"
        echo "WDK_BUILD_METADATA-DRIVER_MODEL-DRIVER_TYPE=WDM"
        echo "END OF FORWARDING ARGS TO CARGO-MAKE"
        ;;
    esac
    ;;
*) write "$name $*" ;;
esac
"#;

/// The makefiles of the root and of the driver.
struct Makefiles {
    root: String,
    driver: String,
}

impl Makefiles {
    fn of_this_checkout() -> Result<Self> {
        let read = |name: &str| {
            fs::read_to_string(process::root().join(name)).with_context(|| format!("cannot read {name}"))
        };
        Ok(Self { root: read("Makefile.toml")?, driver: read("driver/Makefile.toml")? })
    }
}

/// Fails unless the package flow is the expected one for both processors, and its absence an error.
pub(crate) fn check(cargo_make: &Path) -> Result<()> {
    let makefiles = Makefiles::of_this_checkout()?;
    let place = Place::new()?;
    let makefile = linux_wdk::source_of(&linux_wdk::metadata()?, "wdk-build")?.0;
    let link = format!(
        "folder=\"$CARGO_MAKE_WORKSPACE_WORKING_DIRECTORY/target\" && mkdir -p \"$folder\" && \
         ln -sfn '{}/rust-driver-makefile.toml' \"$folder/rust-driver-makefile.toml\"",
        makefile.display()
    );
    // On a CI server and wherever this runs.
    for (arch, server) in [(Arch::X64, true), (Arch::Arm64, false)] {
        let options = ["default", "--release", "--target", arch.target(), "--locked"];
        let (output, trace) = place.run(cargo_make, &makefiles, &link, &options, server)?;
        if !output.status.success() {
            bail!("cargo make default for {arch:?} ended with {}: {}", output.status, text(&output));
        }
        let differences = differences(&expected(arch), &trace);
        ensure!(
            differences.is_empty(),
            "cargo make default for {arch:?} is not the package flow:\n{}",
            differences.join("\n")
        );
        println!("cargo make default for {arch:?}: {} calls, the package flow", trace.len());
    }
    // Where wdk-build could not make the link, no other flow may take the place of the package's.
    let (output, trace) = place.run(cargo_make, &makefiles, "true", &["default", "--release"], false)?;
    ensure!(
        !output.status.success() && trace.is_empty() && text(&output).contains("rust-driver-makefile.toml"),
        "without wdk-build's makefile cargo make does {trace:?} and says {}",
        text(&output)
    );
    // As it stands, outside Windows.
    let mut here = process::command(cargo_make);
    here.current_dir(process::root().join("driver")).args(["make", "--disable-check-for-updates", "default"]);
    let here = here.output().context("cannot start cargo-make")?;
    ensure!(
        !here.status.success() && text(&here).contains("cargo xtask package"),
        "cargo make in driver/ does not say where the package is made: {}",
        text(&here)
    );
    Ok(())
}

/// A workspace of the same shape: cargo-make takes the crate's name, its folder and the workspace's from there.
struct Place {
    folder: PathBuf,
}

impl Place {
    fn new() -> Result<Self> {
        let folder = process::root().join("target/package-flow");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(folder.join("driver/src"))?;
        fs::create_dir_all(folder.join("bin"))?;
        fs::write(folder.join("Cargo.toml"), "[workspace]\nresolver = \"3\"\nmembers = [\"driver\"]\n")?;
        fs::write(
            folder.join("driver/Cargo.toml"),
            "[package]\nname = \"sluice\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[lib]\n\
             crate-type = [\"cdylib\"]\n",
        )?;
        fs::write(folder.join("driver/src/lib.rs"), "")?;
        for name in PROGRAMS {
            let program = folder.join("bin").join(name);
            fs::write(&program, STAND_IN)?;
            #[cfg(unix)]
            fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        }
        Ok(Self { folder })
    }

    /// Runs cargo-make in the driver's folder, with `server` as on a CI server; returns how it ended and what it called.
    fn run(
        &self,
        cargo_make: &Path,
        makefiles: &Makefiles,
        load_script: &str,
        arguments: &[&str],
        server: bool,
    ) -> Result<(Output, Vec<String>)> {
        for target in ["target", "driver/target"] {
            let target = self.folder.join(target);
            if target.exists() {
                fs::remove_dir_all(target)?;
            }
        }
        fs::write(self.folder.join("Makefile.toml"), with_load_script(&makefiles.root, load_script))?;
        fs::write(
            self.folder.join("driver/Makefile.toml"),
            with_load_script(&makefiles.driver, load_script),
        )?;
        let trace = self.folder.join("trace");
        fs::write(&trace, "")?;
        let mut make = process::command(cargo_make);
        make.current_dir(self.folder.join("driver"))
            .args(["make", "--disable-check-for-updates"])
            .args(arguments);
        let path = std::env::var("PATH").unwrap_or_default();
        make.env("PATH", format!("{}:{path}", self.folder.join("bin").display()));
        make.env("REAL_PATH", &path);
        make.env("REAL_CARGO", std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        if server {
            make.env("CI", "true");
        }
        make.env("TRACE", &trace).env_remove("CARGO").env_remove("CARGO_TARGET_DIR");
        let output = make.output().context("cannot start cargo-make")?;
        let root = format!("{}/", self.folder.display());
        let trace = fs::read_to_string(&trace)?;
        Ok((output, trace.lines().map(|line| quiet(line).replace(&root, "")).collect()))
    }
}

/// The call without what cargo-make adds to cargo's options where it sees a CI server.
fn quiet(call: &str) -> String {
    call.trim_end().replacen(" --verbose", "", 1)
}

/// The makefile with another load script in the place of the one for Windows.
fn with_load_script(makefile: &str, script: &str) -> String {
    const KEY: &str = "windows_load_script = '''";
    let Some((before, rest)) = makefile.split_once(KEY) else { return makefile.to_owned() };
    let after = rest.split_once("'''").map_or("", |(_, after)| after);
    format!("{before}linux_load_script = '''\n{script}\n'''{after}")
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

/// The calls of the package flow, in order.
fn expected(arch: Arch) -> Vec<String> {
    let out = format!("target/{}/release", arch.target());
    let (catalog, inf) = match arch {
        Arch::X64 => ("10_x64", "AMD64"),
        Arch::Arm64 => ("Server10_arm64", "ARM64"),
    };
    let install = "cargo install rust-script --version 0.30.0".to_owned();
    let build = format!("cargo build --release --target {} --locked", arch.target());
    let certificate = [
        "generate-certificate: generate_certificate_condition_script".to_owned(),
        format!(
            "makecert -r -pe -a SHA256 -eku 1.3.6.1.5.5.7.3.3 -ss WDRTestCertStore -n CN=WDRLocalTestCert \
             {out}/WDRLocalTestCert.cer"
        ),
    ];
    let sign = |file: &str| {
        format!(
            "signtool sign /v /s WDRTestCertStore /n WDRLocalTestCert /t http://timestamp.digicert.com \
             /fd SHA256 {out}/sluice_package/{file}"
        )
    };
    let copy = |task: &str| {
        format!(
            "{task}: copy_to_driver_package_folder get_wdk_build_output_directory get_current_package_name"
        )
    };
    let two = "get_wdk_build_output_directory get_current_package_name";
    let mut calls = vec![
        install.clone(),
        "init: validate_command_line_args setup_path setup_wdk_version forward_printed_env_vars".to_owned(),
        build.clone(),
        "default: package_driver_flow_condition_script".to_owned(),
        install,
        "default: get_cargo_metadata forward_printed_env_vars".to_owned(),
        build,
        "generate-driver-binary-file: condition_script".to_owned(),
        format!("generate-driver-binary-file: {two} {two}"),
        copy("copy-driver-binary-to-package"),
        copy("copy-pdb-to-package"),
        format!("copy-inx-to-output: {two} {two}"),
        format!("stampinf -f {out}/sluice.inf -d * -a {} -c sluice.cat -v *", arch.inf()),
        copy("copy-inf-to-package"),
    ];
    calls.extend(certificate.clone());
    calls.push(
        "copy-certificate-to-package: copy_to_driver_package_folder get_wdk_build_output_directory"
            .to_owned(),
    );
    calls.extend(certificate.clone());
    calls.push(sign("sluice.sys"));
    calls.push(format!("inf2cat /driver:{out}/sluice_package /os:{catalog} /uselocaltime"));
    calls.extend(certificate);
    calls.push(sign("sluice.cat"));
    calls.push(format!("infverif /v /w /wbuild NT{inf}.10.0.0.25319 {out}/sluice.inf"));
    calls
}

/// Calls that only one of the two has at its place.
fn differences(expected: &[String], found: &[String]) -> Vec<String> {
    let count = expected.len().max(found.len());
    let pairs = (0..count).map(|index| (expected.get(index), found.get(index)));
    pairs
        .enumerate()
        .filter(|(_, (expected, found))| expected != found)
        .map(|(index, (expected, found))| {
            format!("call {}: expected {expected:?}, found {found:?}", index + 1)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_is_missing_added_or_different_is_found() {
        let flow = expected(Arch::X64);
        assert!(differences(&flow, &flow).is_empty());
        let mut other = flow.clone();
        other.pop();
        assert_eq!(differences(&flow, &other).len(), 1);
        assert_eq!(differences(&other, &flow).len(), 1);
        assert!(!differences(&flow, &expected(Arch::Arm64)).is_empty());
    }

    /// A crate with the driver's way of staging its template, built by the real cargo.
    #[test]
    fn the_template_is_copied_again_when_the_copy_is_gone_and_only_then() {
        let folder = process::scratch("template");
        fs::create_dir_all(folder.join("src")).unwrap();
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        write("Cargo.toml", "[package]\nname = \"staged\"\nedition = \"2024\"\n\n[workspace]\n");
        write("src/lib.rs", "");
        write("kept.inx", "1");
        fs::copy(process::root().join("driver/template.rs"), folder.join("template.rs")).unwrap();
        write(
            "build.rs",
            "mod template;\nfn main() {\n    use std::{fs, io::Write, path::Path};\n    \
             template::stage(Path::new(\"kept.inx\"), Path::new(\"staged.inx\")).unwrap();\n    \
             let mut runs = fs::OpenOptions::new().create(true).append(true).open(\"target/runs\").unwrap();\n    \
             runs.write_all(b\".\").unwrap();\n}\n",
        );
        let runs = || {
            let mut build = process::cargo();
            build.current_dir(&folder).args(["build", "--quiet", "--offline"]);
            process::run(build.env("CARGO_TARGET_DIR", folder.join("target"))).unwrap();
            let staged = fs::read_to_string(folder.join("staged.inx")).unwrap();
            (staged, fs::read(folder.join("target/runs")).unwrap().len())
        };
        assert_eq!(runs().0, "1");
        // The copy is younger than the run that made it, so cargo looks once more.
        let (_, settled) = runs();
        assert_eq!(runs(), ("1".to_owned(), settled));
        fs::remove_file(folder.join("staged.inx")).unwrap();
        let (staged, again) = runs();
        assert_eq!((staged.as_str(), again), ("1", settled + 1));
        write("kept.inx", "2");
        assert_eq!(runs().0, "2");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_makefile_names_the_versions_of_the_manifest_and_the_build_of_the_inf() {
        let driver = Makefiles::of_this_checkout().unwrap().driver;
        let manifest = fs::read_to_string(process::root().join("Cargo.toml")).unwrap();
        let version = manifest.lines().find_map(|line| line.strip_prefix("wdk-build = ")).unwrap();
        assert!(driver.contains(&format!("//! wdk-build = {version}\n")), "wdk-build is {version}");
        let workflow = fs::read_to_string(process::root().join(".github/workflows/windows.yml")).unwrap();
        let document = fs::read_to_string(process::root().join("docs/install.md")).unwrap();
        for text in [&driver, &workflow, &document] {
            assert!(text.contains(&format!(".10.0.0.{}", crate::inf_lint::STORE_BUILD)));
        }
    }

    #[test]
    fn only_the_script_for_windows_is_replaced() {
        let made = with_load_script("a\nload_script = 'x'\nwindows_load_script = '''\nold\n'''\nb\n", "new");
        assert_eq!(made, "a\nload_script = 'x'\nlinux_load_script = '''\nnew\n'''\nb\n");
        assert_eq!(with_load_script("a\n", "new"), "a\n");
    }
}
