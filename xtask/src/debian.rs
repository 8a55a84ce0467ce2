//! Debian packages that the Linux build needs.
use std::path::Path;

use anyhow::{Result, bail};

use crate::process;

/// A package, and a file that shows that it is there.
struct Package {
    name: &'static str,
    shown_by: &'static str,
}

const DRIVER: [Package; 3] = [
    Package { name: "mingw-w64-common", shown_by: "/usr/share/mingw-w64/include/ddk/ntifs.h" },
    Package { name: "mingw-w64-x86-64-dev", shown_by: "/usr/x86_64-w64-mingw32/lib/libntoskrnl.a" },
    Package { name: "libclang-19-dev", shown_by: "/usr/lib/llvm-19/lib/libclang.so" },
];

const C_DRIVERS: [Package; 1] = [Package { name: "clang-19", shown_by: "/usr/bin/clang-19" }];

/// The C compiler of the tests' drivers.
pub(crate) const CLANG: &str = "/usr/bin/clang-19";

const WINDOWS_CLIENT: [Package; 1] =
    [Package { name: "gcc-mingw-w64-x86-64", shown_by: "/usr/bin/x86_64-w64-mingw32-gcc" }];

const SIGNING: [Package; 2] = [
    Package { name: "osslsigncode", shown_by: "/usr/bin/osslsigncode" },
    Package { name: "openssl", shown_by: "/usr/bin/openssl" },
];

const CAPTURES: [Package; 1] = [Package { name: "tcpdump", shown_by: "/usr/bin/tcpdump" }];

const NODE: [Package; 1] = [Package { name: "npm", shown_by: "/usr/bin/npm" }];

const WINE_PACKAGES: [Package; 1] = [Package { name: "wine64", shown_by: WINE }];

/// Wine's loader.
pub(crate) const WINE: &str = "/usr/lib/wine/wine64";

/// Wine's server, which comes with the loader.
pub(crate) const WINE_SERVER: &str = "/usr/lib/wine/wineserver64";

/// Where bindgen finds libclang.
pub(crate) const LIBCLANG_PATH: &str = "/usr/lib/llvm-19/lib";

/// Installs what the driver's build needs, or says how.
pub(crate) fn for_driver() -> Result<()> {
    install(&DRIVER)
}

/// Installs what the tests' C drivers are built with, or says how.
pub(crate) fn for_c_drivers() -> Result<()> {
    install(&C_DRIVERS)
}

/// Installs what signs and checks a package, or says how.
pub(crate) fn for_signing() -> Result<()> {
    install(&SIGNING)
}

/// Installs what the frames of captures are compared with, or says how.
pub(crate) fn for_captures() -> Result<()> {
    install(&CAPTURES)
}

/// Installs what runs the linter of workflows, or says how; a Node.js of another origin will do.
pub(crate) fn for_node() -> Result<()> {
    if process::output(process::command("npm").arg("--version")).is_ok() { Ok(()) } else { install(&NODE) }
}

/// Installs the other reader of INFs, and what its test program is built with, or says how.
pub(crate) fn for_wine() -> Result<()> {
    for_windows_client()?;
    install(&WINE_PACKAGES)
}

/// Installs what the build of the Windows client needs, or says how.
pub(crate) fn for_windows_client() -> Result<()> {
    install(&WINDOWS_CLIENT)
}

fn install(packages: &[Package]) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .filter(|package| !Path::new(package.shown_by).exists())
        .map(|package| package.name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if !process::is_root() {
        bail!("Debian packages are missing; run: sudo apt-get install --yes --no-install-recommends {names}");
    }
    eprintln!("installing Debian packages: {names}");
    let install = || {
        let mut command = process::command("apt-get");
        command.args(["install", "--yes", "--quiet", "--no-install-recommends"]).args(&missing);
        command.env("DEBIAN_FRONTEND", "noninteractive").stdout(std::io::stderr());
        process::run(&mut command)
    };
    // An image may come without package lists; they are fetched only if the first try fails.
    install().or_else(|_| {
        process::run(process::command("apt-get").args(["update", "--quiet"]).stdout(std::io::stderr()))?;
        install()
    })
}
