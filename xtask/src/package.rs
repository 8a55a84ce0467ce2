//! `cargo xtask package`: the folder that is copied to a test machine.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use object::Object;
use sha2::{Digest, Sha256};

use crate::build::{self, Arch, Flavor};
use crate::signing::{self, Signer};
use crate::{catalog, debian, image, inf, inf_file, process};

/// Options of `cargo xtask package`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The processor of the machine that it is for.
    #[arg(long, value_enum, default_value_t)]
    arch: Arch,
    /// Sign with this certificate: PEM with its private key, or PKCS #12 with its password in `SLUICE_CERT_PASSWORD`.
    /// A test certificate, made on first use below target/certificate, by default.
    #[arg(long)]
    cert: Option<PathBuf>,
}

/// Everything in the folder; signed files last.
const BESIDE: [&str; 10] = [
    "README.md",
    "prepare.ps1",
    "install.ps1",
    "upgrade.ps1",
    "uninstall.ps1",
    "verifier.ps1",
    "stress.ps1",
    "trace.ps1",
    "dump.ps1",
    "sluice.wprp",
];

/// DLLs that every Windows 10 has, with which the client may be linked.
const SYSTEM_LIBRARIES: [&str; 8] = [
    "kernel32.dll",
    "ntdll.dll",
    "advapi32.dll",
    "msvcrt.dll",
    "ws2_32.dll",
    "userenv.dll",
    "iphlpapi.dll",
    "bcryptprimitives.dll",
];

/// The target of the client in the package.
pub(crate) const CLIENT_TARGET: &str = "x86_64-pc-windows-gnu";

/// Makes the package, checks it and says what is in it.
pub(crate) fn run(options: &Options) -> Result<()> {
    if cfg!(windows) {
        bail!(
            "on Windows `cargo make` in driver/ makes the package, with stampinf, inf2cat and signtool of the WDK"
        );
    }
    let folder = make(options.arch, options.cert.as_deref())?;
    println!("{}", folder.display());
    for (name, bytes) in contents(&folder)? {
        println!("  {:<14} {:>9} bytes  sha256 {}", name, bytes.len(), hex(&Sha256::digest(&bytes)));
    }
    println!(
        "signed, and checked with osslsigncode, OpenSSL and the authenticode crate; Windows has not seen it"
    );
    Ok(())
}

/// Makes the package of a processor and checks it; returns where it is.
pub(crate) fn make(arch: Arch, certificate: Option<&Path>) -> Result<PathBuf> {
    the_client_can_be_linked_in(&process::root())?;
    debian::for_signing()?;
    let signer = match certificate {
        Some(path) => Signer::from_file(path)?,
        None => Signer::of_this_checkout()?,
    };
    let built = build::driver_for(Flavor::Release, arch)?;
    let client = client()?;
    let parts = build::folder(Flavor::Release, arch);
    let folder = folder(arch);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let copy = |from: &Path, name: &str| {
        fs::copy(from, folder.join(name)).with_context(|| format!("cannot copy {}", from.display()))
    };
    for name in BESIDE {
        copy(&process::root().join("inf").join(name), name)?;
    }
    copy(&parts.join("sluice.inf"), "sluice.inf")?;
    copy(&parts.join("sluice.pdb"), "sluice.pdb")?;
    signer.export(&folder.join("sluice.cer"))?;
    signer.sign(&built, &folder.join("sluice.sys"))?;
    signer.sign(&client, &folder.join("sluice.exe"))?;

    let unsigned = parts.join("sluice.cat");
    fs::write(&unsigned, catalog(&folder, arch)?)?;
    signer.sign(&unsigned, &folder.join("sluice.cat"))?;
    check(&folder, &signer)?;
    Ok(folder)
}

/// The folder of a processor's package.
pub(crate) fn folder(arch: Arch) -> PathBuf {
    process::root().join("target").join(match arch {
        Arch::X64 => "sluice_package",
        Arch::Arm64 => "sluice_package-arm64",
    })
}

/// Removes the driver and the client, so that they are built and linked again; what they depend on stays.
pub(crate) fn forget(architectures: &[Arch]) -> Result<()> {
    let clean = |package: &str, target: &str| {
        let mut clean = process::cargo();
        clean.args(["clean", "--quiet", "--locked", "--package", package, "--target", target]);
        clean
    };
    for arch in architectures {
        let mut driver = clean("sluice", arch.target());
        driver.arg("--release").arg("--target-dir").arg(process::root().join("target/driver"));
        process::run(&mut driver)?;
    }
    process::run(clean("sluice-client", CLIENT_TARGET).arg("--profile=dist"))
}

/// What of a package does not depend on its signatures, by name.
pub(crate) fn unsigned_content(arch: Arch) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = contents(&folder(arch))?;
    let parts = build::folder(Flavor::Release, arch);
    for name in ["sluice.sys", "sluice.cat"] {
        files.insert(name.to_owned(), fs::read(parts.join(name))?);
    }
    files.insert("sluice.exe".to_owned(), fs::read(built_client())?);
    Ok(files)
}

fn contents(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().context("a file without a name")?.to_string_lossy().into_owned();
        files.insert(name, fs::read(&path)?);
    }
    Ok(files)
}

/// `Inf2Cat`'s word for the systems that wdk-build's makefile asks for: `10_x64` and `Server10_arm64`.
fn systems(arch: Arch) -> &'static str {
    match arch {
        Arch::X64 => "_v100_X64",
        Arch::Arm64 => "Server_v100_ARM64",
    }
}

/// The unsigned catalog of a folder: the INF and every file that it installs.
fn catalog(folder: &Path, arch: Arch) -> Result<Vec<u8>> {
    let inf = folder.join("sluice.inf");
    let lines = inf_file::lines(&inf)?;
    let mut members = vec![catalog::Member::flat(&inf)?];
    for file in inf_file::files(&lines) {
        let path = folder.join(&file);
        members.push(if path.extension().is_some_and(|extension| extension == "sys") {
            catalog::Member::image(&path)?
        } else {
            catalog::Member::flat(&path)?
        });
    }
    let ids = inf_file::hardware_ids(&lines);
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    catalog::write(&members, systems(arch), &ids, inf::day()?)
}

/// Checks a package with tools that this project did not write.
pub(crate) fn check(folder: &Path, signer: &Signer) -> Result<()> {
    let (image, list) = (folder.join("sluice.sys"), folder.join("sluice.cat"));
    let client = folder.join("sluice.exe");
    client_is_alone(&client)?;
    signer.verify(&client, None)?;
    signer.verify(&image, None)?;
    // Signing changes the header and the end of the file.
    image::check(&image, Some(&folder.join("sluice.inf")))?;
    signer.verify(&list, None)?;
    signer.verify(&image, Some(&list))?;

    let bytes = fs::read(&list)?;
    let members = catalog::members(&bytes)?;
    let asn1 = signing::asn1(&list)?;
    let lines = inf_file::lines(&folder.join("sluice.inf"))?;
    let mut expected = inf_file::files(&lines);
    expected.push("sluice.inf".to_owned());
    ensure!(
        members.len() == expected.len(),
        "the catalog has {} members, not {}",
        members.len(),
        expected.len()
    );
    for file in &expected {
        let named = members.iter().find(|(name, _)| name == file);
        let (_, digest) = named.with_context(|| format!("the catalog does not name {file}"))?;
        let content = fs::read(folder.join(file))?;
        let computed = match file.rsplit_once('.') {
            Some((_, "sys")) => catalog::image_digest::<Sha256>(&content)?,
            _ => Sha256::digest(&content).to_vec(),
        };
        ensure!(*digest == computed, "{file} is not the file of which the catalog has the hash");
        ensure!(
            asn1.contains(&hex(digest).to_uppercase()),
            "OpenSSL does not find the hash of {file} in the catalog"
        );
    }
    for part in
        ["pkcs7-signedData", "1.3.6.1.4.1.311.10.1", "1.3.6.1.4.1.311.12.1.1", "1.3.6.1.4.1.311.12.1.3"]
    {
        ensure!(asn1.contains(part), "OpenSSL does not find {part} in the catalog");
    }
    Ok(())
}

/// The client needs no library that it would have to bring.
fn client_is_alone(path: &Path) -> Result<()> {
    let bytes = fs::read(path)?;
    let file = object::File::parse(bytes.as_slice())?;
    for import in file.imports()? {
        let library = String::from_utf8_lossy(import?.library()).to_ascii_lowercase();
        let system = library.starts_with("api-ms-win-") || SYSTEM_LIBRARIES.contains(&library.as_str());
        ensure!(system, "sluice.exe needs {library}, which Windows may not have");
    }
    Ok(())
}

/// Binutils' dlltool, which rustc runs for the client's imports, passes the folder on to the assembler as words.
fn the_client_can_be_linked_in(root: &Path) -> Result<()> {
    if root.to_string_lossy().contains(char::is_whitespace) {
        bail!(
            "dlltool of Binutils cannot work below \"{}\": move the checkout to a path without spaces",
            root.display()
        );
    }
    Ok(())
}

/// Builds the client for Windows; the one for x64 also runs on ARM64.
fn client() -> Result<PathBuf> {
    debian::for_windows_client()?;
    let package = ["build", "--locked", "--quiet", "--package=sluice-client", "--profile=dist"];
    process::run(process::cargo().args(package).args(["--target", CLIENT_TARGET]))?;
    Ok(built_client())
}

/// Where cargo leaves the client, not signed yet.
fn built_client() -> PathBuf {
    process::root().join("target").join(CLIENT_TARGET).join("dist/sluice.exe")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkout_below_a_folder_with_a_space_is_refused_in_words() {
        let refused = the_client_can_be_linked_in(Path::new("a user/sluice")).unwrap_err().to_string();
        assert!(refused.contains("without spaces"), "{refused}");
        the_client_can_be_linked_in(Path::new("köpie/sluice")).unwrap();
    }

    /// A copy of the package in which one file is changed, and what the checks say of it.
    fn changed(name: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
        let copy = process::scratch(&format!("package-{name}"));
        fs::create_dir_all(&copy).unwrap();
        let package = folder(Arch::X64);
        for (name, bytes) in
            contents(&package).unwrap_or_else(|error| panic!("{error}; run: cargo xtask package"))
        {
            fs::write(copy.join(name), bytes).unwrap();
        }
        let mut bytes = fs::read(copy.join(name)).unwrap();
        change(&mut bytes);
        fs::write(copy.join(name), bytes).unwrap();
        let said = check(&copy, &Signer::of_this_checkout().unwrap());
        fs::remove_dir_all(&copy).unwrap();
        said.map_or_else(|error| format!("{error:#}"), |()| String::new())
    }

    #[test]
    fn the_package_passes_as_it_is() {
        assert_eq!(changed("sluice.inf", |_| {}), "");
    }

    #[test]
    fn a_changed_image_fails() {
        assert!(changed("sluice.sys", |bytes| bytes[0x800] ^= 1).contains("osslsigncode"));
    }

    #[test]
    fn a_changed_client_fails() {
        assert!(changed("sluice.exe", |bytes| bytes[0x800] ^= 1).contains("osslsigncode"));
    }

    #[test]
    fn a_changed_inf_fails() {
        assert!(changed("sluice.inf", |bytes| bytes.push(b'\n')).starts_with("sluice.inf is not the file"));
    }

    #[test]
    fn a_changed_catalog_fails() {
        let swap = |bytes: &mut Vec<u8>| {
            let place = bytes.windows(4).position(|four| four == b"2\0:\0").unwrap();
            bytes[place] = b'3';
        };
        assert!(changed("sluice.cat", swap).contains("osslsigncode"));
    }

    #[test]
    fn a_client_that_needs_more_than_windows_has_fails() {
        let rename = |bytes: &mut Vec<u8>| {
            let place =
                bytes.windows(12).position(|text| text.eq_ignore_ascii_case(b"kernel32.dll")).unwrap();
            bytes[place..place + 12].copy_from_slice(b"libgcc_s.dll");
        };
        assert!(changed("sluice.exe", rename).contains("libgcc_s.dll"));
    }
}
