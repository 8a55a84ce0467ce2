//! What stands in for Microsoft's WDK on Linux: headers of mingw-w64 in the shape of a WDK, import libraries
//! made from its export names, and a build-time copy of `wdk-build` that runs on this host.
//!
//! Nothing of it is committed and nothing of it reaches a Windows build: it lives under `target/` and is put
//! in place by a cargo configuration that only this route passes.
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

use crate::{debian, process};

/// Version of the WDK whose shape is imitated.
pub(crate) const WDK_VERSION: &str = "10.0.26100.0";
/// The release that the edits below fit.
const WDK_BUILD_VERSION: &str = "0.6.0";
const MINGW_HEADERS: &str = "/usr/share/mingw-w64/include";
const MINGW_LIBRARIES: &str = "/usr/x86_64-w64-mingw32/lib";

/// Architectures as a WDK's folders name them, and as the linker does.
const ARCHITECTURES: [(&str, &str); 2] = [("x64", "/machine:x64"), ("ARM64", "/machine:arm64")];

/// Exports of the real libraries that mingw-w64's lists lack.
const EXTRA_EXPORTS: [(&str, &str, &[&str]); 5] = [
    (
        "ntoskrnl",
        "ntoskrnl.exe",
        &[
            "__chkstk",
            "ExAllocatePool2",
            "ExAllocatePool3",
            "KeInitializeSpinLock",
            "KfRaiseIrql",
            "KfLowerIrql",
            "KeLowerIrql",
            "EtwSetInformation",
        ],
    ),
    ("hal", "hal.dll", &[]),
    ("ndis", "ndis.sys", &[]),
    ("wmilib", "wmilib.sys", &["WmiSystemControl"]),
    // tracelogging names it for a function that no driver calls; the linker drops it, and the image check looks.
    ("rpcrt4", "rpcrt4.dll", &["UuidCreate"]),
];

/// Functions of the kernel that are macros over another in one architecture's `wdm.h`, and so are no exports to be linked.
/// The overlay's `wdk_overlay.h` says the same in C.
const MACROS: [(&str, &str); 2] = [("x64", "KfLowerIrql"), ("ARM64", "KeLowerIrql")];

/// One edit of `wdk-build`'s sources.
struct Edit {
    what: &'static str,
    file: &'static str,
    find: &'static str,
    put: &'static str,
    times: usize,
}

const EDITS: [Edit; 9] = [
    Edit {
        what: "import of the windows crate only on Windows",
        file: "src/utils.rs",
        find: "use windows::{",
        put: "#[cfg(windows)]\nuse windows::{",
        times: 1,
    },
    Edit {
        what: "CStr is used only by the registry code",
        file: "src/utils.rs",
        find: "    ffi::{CStr, OsStr},",
        put: "    ffi::OsStr,",
        times: 1,
    },
    Edit {
        what: "CStr named in full in the registry code",
        file: "src/utils.rs",
        find: "                    CStr::from_bytes",
        put: "                    std::ffi::CStr::from_bytes",
        times: 1,
    },
    Edit {
        what: "registry lookups only on Windows",
        file: "src/utils.rs",
        find: "    if let Some(path) = read_registry",
        put: "    #[cfg(windows)]\n    if let Some(path) = read_registry",
        times: 2,
    },
    Edit {
        what: "registry reader only on Windows",
        file: "src/utils.rs",
        find: "fn read_registry_key_string_value(",
        put: "#[cfg(windows)]\nfn read_registry_key_string_value(",
        times: 1,
    },
    Edit {
        what: "symlink_file of this host, used",
        file: "src/cargo_make.rs",
        find: "std::os::windows::fs::symlink_file(",
        put: "symlink_file(",
        times: 2,
    },
    Edit {
        what: "symlink_file of this host, imported",
        file: "src/cargo_make.rs",
        find: "use anyhow::Context;\n",
        put: "#[cfg(not(windows))]\nuse std::os::unix::fs::symlink as symlink_file;\n#[cfg(windows)]\nuse \
              std::os::windows::fs::symlink_file;\n\nuse anyhow::Context;\n",
        times: 1,
    },
    Edit {
        what: "setting an environment variable on this host",
        file: "src/utils.rs",
        find: concat!(
            "pub fn set_var<K, V>(_key: K, _value: V)\nwhere\n    K: AsRef<OsStr>,\n    V: AsRef<OsStr>,\n{\n",
            "    compile_error!(\n        \"windows-drivers-rs is designed to be run on a Windows host machine in a ",
            "WDK environment. \\\n         Please build using a Windows target.\"\n    );\n}"
        ),
        put: concat!(
            "pub fn set_var<K, V>(key: K, value: V)\nwhere\n    K: AsRef<OsStr>,\n    V: AsRef<OsStr>,\n{\n",
            "    // SAFETY: called by build scripts and cargo-make helpers, which have one thread.\n",
            "    unsafe { env::set_var(key, value) }\n}"
        ),
        times: 1,
    },
    Edit {
        what: "removing an environment variable on this host",
        file: "src/utils.rs",
        find: concat!(
            "pub fn remove_var<K>(_key: K)\nwhere\n    K: AsRef<OsStr>,\n{\n",
            "    compile_error!(\n        \"windows-drivers-rs is designed to be run on a Windows host machine in a ",
            "WDK environment. \\\n         Please build using a Windows target.\"\n    );\n}"
        ),
        put: concat!(
            "pub fn remove_var<K>(key: K)\nwhere\n    K: AsRef<OsStr>,\n{\n",
            "    // SAFETY: called by build scripts and cargo-make helpers, which have one thread.\n",
            "    unsafe { env::remove_var(key) }\n}"
        ),
        times: 1,
    },
];

/// The cargo configuration that puts all of it in place, to be passed with `--config`. It is made once in a run of this
/// program, anew: that takes less than a second.
pub(crate) fn config() -> Result<&'static Path> {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    if let Some(made) = MADE.get() {
        return Ok(made);
    }
    let made = make()?;
    Ok(MADE.get_or_init(|| made))
}

fn make() -> Result<PathBuf> {
    debian::for_driver()?;
    let home = process::root().join("target/linux-wdk");
    fs::create_dir_all(&home)?;
    headers(&home)?;
    for (folder, machine) in ARCHITECTURES {
        libraries(&home, folder, machine)?;
    }
    process::run(process::cargo().args(["fetch", "--quiet", "--locked"]))?;
    let metadata = metadata()?;
    let overrides = [patched_wdk_build(&home, &metadata)?, empty_windows_future(&home, &metadata)?];
    linker(&home)?;
    let config = home.join("config.toml");
    write_if_changed(&config, &configuration(&home, &overrides))?;
    Ok(config)
}

/// The toolchain's linker, which writes its arguments into the PDB, and by that into the image. rustc passes the list of
/// exports in a folder with a random name; here it gets a name that stays, so that the same sources give the same image.
fn linker(home: &Path) -> Result<()> {
    let path = home.join("rust-lld");
    let lines = [
        "#!/bin/sh",
        "for argument do",
        "    case $argument in /OUT:*) image=${argument#/OUT:} ;; esac",
        "done",
        "for argument do",
        "    shift",
        "    case $argument in",
        "    /DEF:*) cp \"${argument#/DEF:}\" \"$image.def\" && argument=/DEF:$image.def ;;",
        "    esac",
        "    set -- \"$@\" \"$argument\"",
        "done",
    ];
    let text = format!("{}\nexec '{}' \"$@\"\n", lines.join("\n"), tools()?.join("rust-lld").display());
    write_if_changed(&path, &text)?;
    #[cfg(unix)]
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(())
}

fn configuration(home: &Path, overrides: &[PathBuf]) -> String {
    // Its name tells rustc how to call it.
    let linker = home.join("rust-lld").display().to_string();
    let paths: Vec<String> =
        overrides.iter().map(|path| format!("{:?}", path.display().to_string())).collect();
    format!(
        "paths = [{}]\n\
         [target.x86_64-pc-windows-msvc]\nlinker = {linker:?}\n\
         [target.aarch64-pc-windows-msvc]\nlinker = {linker:?}\n\
         [env]\nLIBCLANG_PATH = \"{}\"\nWDKContentRoot = {:?}\nVersion_Number = \"{WDK_VERSION}\"\n",
        paths.join(", "),
        debian::LIBCLANG_PATH,
        home.join("wdk").display().to_string(),
    )
}

/// Writes only what differs, so that cargo does not rebuild for nothing.
fn write_if_changed(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn link(target: &Path, link: &Path) -> Result<()> {
    if fs::read_link(link).is_ok_and(|old| old == target) {
        return Ok(());
    }
    #[cfg(unix)]
    return std::os::unix::fs::symlink(target, link)
        .with_context(|| format!("cannot link {}", link.display()));
    #[cfg(not(unix))]
    bail!("{}: what stands in for the WDK is made on Linux only", link.display())
}

/// `Include/<version>/km` with an overlay in `km/crt`, where the search starts.
fn headers(home: &Path) -> Result<()> {
    let include = home.join("wdk/Include").join(WDK_VERSION);
    let km = include.join("km");
    fs::create_dir_all(km.join("crt"))?;
    link(Path::new(MINGW_HEADERS), &include.join("shared"))?;
    for entry in fs::read_dir(Path::new(MINGW_HEADERS).join("ddk"))? {
        let path = entry?.path();
        if let (Some(name), true) = (path.file_name(), path.extension().is_some_and(|kind| kind == "h")) {
            link(&path, &km.join(name))?;
        }
    }
    for entry in fs::read_dir(process::root().join("xtask/wdk-overlay"))? {
        let path = entry?.path();
        if let Some(name) = path.file_name() {
            write_if_changed(&km.join("crt").join(name), &fs::read_to_string(&path)?)?;
        }
    }
    Ok(())
}

/// `Lib/<version>/km/<architecture>`: import libraries out of export names, which are the same for both but for [`MACROS`].
fn libraries(home: &Path, architecture: &str, machine: &str) -> Result<()> {
    let folder = home.join("wdk/Lib").join(WDK_VERSION).join("km").join(architecture);
    fs::create_dir_all(&folder)?;
    let tools = tools()?;
    for (library, module, extra) in EXTRA_EXPORTS {
        let archive = Path::new(MINGW_LIBRARIES).join(format!("lib{library}.a"));
        let mut names: BTreeSet<String> = extra.iter().map(|name| (*name).to_owned()).collect();
        if archive.exists() {
            let mut nm = process::command(tools.join("llvm-nm"));
            let symbols = process::output(nm.args(["--extern-only", "--defined-only"]).arg(&archive))?;
            names.extend(
                symbols.lines().filter_map(|line| line.split_once(" T ")).map(|(_, name)| name.to_owned()),
            );
        }
        names.retain(|name| !MACROS.contains(&(architecture, name.as_str())));
        let names: Vec<String> = names.into_iter().collect();
        let definition = folder.join(format!("{library}.def"));
        let text = format!("LIBRARY {module}\nEXPORTS\n{}\n", names.join("\n"));
        let output = folder.join(format!("{library}.lib"));
        if output.exists() && fs::read_to_string(&definition).is_ok_and(|old| old == text) {
            continue;
        }
        fs::write(&definition, text)?;
        process::run(
            process::command(tools.join("rust-lld"))
                .args(["-flavor", "link", "/lib", "/nologo", machine])
                .arg(format!("/def:{}", definition.display()))
                .arg(format!("/out:{}", output.display())),
        )?;
    }
    // rustc emits no stack cookies, and brings ARM64's runtime itself: nothing of these libraries is referenced.
    for name in ["BufferOverflowFastFailK.lib", "arm64rt.lib"] {
        let empty = folder.join(name);
        if !empty.exists() {
            process::run(process::command(tools.join("llvm-ar")).arg("crs").arg(empty))?;
        }
    }
    Ok(())
}

/// One of the import libraries.
pub(crate) fn library(name: &str) -> PathBuf {
    let folder = process::root().join("target/linux-wdk/wdk/Lib").join(WDK_VERSION).join("km/x64");
    folder.join(name).with_extension("lib")
}

/// The toolchain's own binary tools.
pub(crate) fn tools() -> Result<PathBuf> {
    let sysroot = process::output(process::command("rustc").args(["--print", "sysroot"]))?;
    let version = process::output(process::command("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    let folder = Path::new(sysroot.trim()).join("lib/rustlib").join(host).join("bin");
    if folder.join("llvm-nm").exists() {
        Ok(folder)
    } else {
        bail!("the toolchain lacks its binary tools; run: rustup component add llvm-tools")
    }
}

/// What cargo knows of the workspace's dependencies.
pub(crate) fn metadata() -> Result<serde_json::Value> {
    let text = process::output(process::cargo().args(["metadata", "--format-version=1", "--locked"]))?;
    Ok(serde_json::from_str(&text)?)
}

/// Folder of a dependency's sources.
pub(crate) fn source_of(metadata: &serde_json::Value, name: &str) -> Result<(PathBuf, String)> {
    let package = metadata
        .get("packages")
        .and_then(serde_json::Value::as_array)
        .and_then(|packages| packages.iter().find(|package| package["name"] == name))
        .with_context(|| format!("{name} is not a dependency of this workspace"))?;
    let manifest = package["manifest_path"].as_str().context("package without manifest")?;
    let folder = Path::new(manifest).parent().context("manifest without folder")?.to_path_buf();
    Ok((folder, package["version"].as_str().unwrap_or_default().to_owned()))
}

fn copy_tree(from: &Path, to: &Path, edit: &dyn Fn(&Path, String) -> Result<String>) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let Some(name) = path.file_name() else { continue };
        if path.is_dir() {
            copy_tree(&path, &to.join(name), edit)?;
        } else if path.extension().is_some_and(|kind| kind == "rs" || kind == "toml") {
            write_if_changed(&to.join(name), &edit(&path, fs::read_to_string(&path)?)?)?;
        }
    }
    Ok(())
}

fn patched_wdk_build(home: &Path, metadata: &serde_json::Value) -> Result<PathBuf> {
    let (source, version) = source_of(metadata, "wdk-build")?;
    if version != WDK_BUILD_VERSION {
        bail!(
            "wdk-build is {version}, but the edits in xtask/src/linux_wdk.rs are for {WDK_BUILD_VERSION}: \
             check each of them against the new sources, then change WDK_BUILD_VERSION"
        );
    }
    let target = home.join("wdk-build");
    copy_tree(&source, &target, &|path, text| edited(path.strip_prefix(&source)?, &text))?;
    Ok(target)
}

/// Applies the edits of one file, and says which one no longer applies.
fn edited(file: &Path, text: &str) -> Result<String> {
    let mut text = text.replace("\r\n", "\n");
    for edit in EDITS.iter().filter(|edit| file == Path::new(edit.file)) {
        let found = text.matches(edit.find).count();
        if found != edit.times {
            bail!(
                "the edit \"{}\" of wdk-build's {} no longer applies: expected {:?} {} time(s), found {found}",
                edit.what,
                edit.file,
                edit.find,
                edit.times
            );
        }
        text = text.replace(edit.find, edit.put);
    }
    Ok(text)
}

/// `windows-future` does not build on other hosts, and nothing here calls it.
fn empty_windows_future(home: &Path, metadata: &serde_json::Value) -> Result<PathBuf> {
    let (source, _) = source_of(metadata, "windows-future")?;
    let target = home.join("windows-future");
    write_if_changed(&target.join("Cargo.toml"), &fs::read_to_string(source.join("Cargo.toml"))?)?;
    write_if_changed(&target.join("src/lib.rs"), "#![no_std]\n")?;
    write_if_changed(&target.join("readme.md"), "")?;
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edits_fit_the_pinned_release() {
        let (source, version) = source_of(&metadata().unwrap(), "wdk-build").unwrap();
        assert_eq!(version, WDK_BUILD_VERSION);
        for file in ["src/utils.rs", "src/cargo_make.rs"] {
            let text = fs::read_to_string(source.join(file)).unwrap();
            assert_ne!(edited(Path::new(file), &text).unwrap(), text);
        }
    }

    #[test]
    fn each_architecture_has_the_one_function_that_lowers_the_irql_there() {
        let overlay = fs::read_to_string(process::root().join("xtask/wdk-overlay/wdk_overlay.h")).unwrap();
        let (_, arm64) = overlay.split_once("#if defined(_M_ARM64)").unwrap();
        let (arm64, x64) = arm64.split_once("#else").unwrap();
        for (text, architecture, function, other) in
            [(arm64, "ARM64", "KfLowerIrql", "KeLowerIrql"), (x64, "x64", "KeLowerIrql", "KfLowerIrql")]
        {
            assert!(text.contains(&format!("NTAPI {function}(")), "{architecture}");
            assert!(text.contains(&format!("#define {other}(")), "{architecture}");
            assert!(MACROS.contains(&(architecture, other)) && !MACROS.contains(&(architecture, function)));
        }
    }

    #[test]
    fn an_edit_that_no_longer_applies_is_named() {
        let text = "use windows::{\n    ffi::{CStr, OsStr},\n";
        let error = edited(Path::new("src/utils.rs"), text).unwrap_err().to_string();
        assert!(error.contains("CStr named in full in the registry code"), "{error}");
        assert!(error.contains("no longer applies"), "{error}");
    }
}
