//! Signatures: made and checked by osslsigncode and OpenSSL.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::process;

/// Where the password of a PKCS #12 file is taken from.
const PASSWORD: &str = "SLUICE_CERT_PASSWORD";

/// A certificate for code signing and its private key, as one PEM file.
pub(crate) struct Signer {
    pem: PathBuf,
}

impl Signer {
    /// The signer of a file: PEM with certificate and key, or PKCS #12.
    pub(crate) fn from_file(path: &Path) -> Result<Self> {
        ensure!(path.exists(), "there is no certificate file {}", path.display());
        let pem = if path.extension().is_some_and(|extension| extension == "pfx" || extension == "p12") {
            let pem = folder()?.join("imported.pem");
            private(&pem)?;
            let mut openssl = process::command("openssl");
            openssl.args(["pkcs12", "-nodes", "-in"]).arg(path).arg("-out").arg(&pem);
            if std::env::var_os(PASSWORD).is_none() {
                openssl.env(PASSWORD, "");
            }
            process::output(openssl.args(["-passin", &format!("env:{PASSWORD}")])).with_context(|| {
                format!("{} cannot be opened; its password is read from {PASSWORD}", path.display())
            })?;
            pem
        } else {
            std::path::absolute(path)?
        };
        let text = fs::read_to_string(&pem).with_context(|| format!("cannot read {}", pem.display()))?;
        for (wanted, what) in [("BEGIN CERTIFICATE", "certificate"), ("PRIVATE KEY", "private key")] {
            ensure!(text.contains(wanted), "{} holds no {what} in PEM form", path.display());
        }
        let signer = Self { pem };
        let purpose = signer.x509(&["-noout", "-ext", "extendedKeyUsage"])?;
        ensure!(
            purpose.contains("Code Signing"),
            "{}: the certificate is not for code signing",
            path.display()
        );
        signer
            .x509(&["-noout", "-checkend", "0"])
            .with_context(|| format!("{}: the certificate has expired", path.display()))?;
        Ok(signer)
    }

    /// The test signer of this checkout: made on first use, never committed.
    pub(crate) fn of_this_checkout() -> Result<Self> {
        let pem = folder()?.join("test.pem");
        if !pem.exists() {
            let fresh = pem.with_extension("new");
            private(&fresh)?;
            let mut openssl = process::command("openssl");
            openssl.args(["req", "-x509", "-newkey", "rsa:3072", "-sha256", "-nodes", "-days", "3650"]);
            openssl.args(["-config", "/dev/null", "-subj", "/CN=Sluice test certificate"]);
            // Not a certification authority: trusted on the test machine, it vouches for no other certificate.
            for extension in [
                "basicConstraints=critical,CA:FALSE",
                "keyUsage=critical,digitalSignature",
                "extendedKeyUsage=codeSigning",
            ] {
                openssl.args(["-addext", extension]);
            }
            process::output(
                openssl.arg("-keyout").arg(&fresh).arg("-out").arg(fresh.with_extension("cert")),
            )?;
            let certificate = fs::read_to_string(fresh.with_extension("cert"))?;
            fs::write(&fresh, fs::read_to_string(&fresh)? + &certificate)?;
            fs::remove_file(fresh.with_extension("cert"))?;
            fs::rename(&fresh, &pem)?;
            eprintln!("made a test certificate: {}", pem.display());
        }
        Self::from_file(&pem)
    }

    /// Writes the certificate alone, as Windows imports it.
    pub(crate) fn export(&self, path: &Path) -> Result<()> {
        process::output(
            process::command("openssl")
                .args(["x509", "-outform", "DER", "-in"])
                .arg(&self.pem)
                .arg("-out")
                .arg(path),
        )?;
        Ok(())
    }

    /// Signs an image or a catalog with SHA-256.
    pub(crate) fn sign(&self, from: &Path, to: &Path) -> Result<()> {
        let _ = fs::remove_file(to);
        let mut tool = process::command("osslsigncode");
        tool.args(["sign", "-h", "sha256", "-n", "Sluice", "-certs"])
            .arg(&self.pem)
            .arg("-key")
            .arg(&self.pem);
        process::output(tool.arg("-in").arg(from).arg("-out").arg(to))?;
        Ok(())
    }

    /// osslsigncode's word on a signed file, and with `catalog` on the file's place in a signed catalog.
    pub(crate) fn verify(&self, file: &Path, catalog: Option<&Path>) -> Result<()> {
        let mut tool = process::command("osslsigncode");
        tool.arg("verify").arg("-CAfile").arg(&self.pem);
        if let Some(catalog) = catalog {
            tool.arg("-catalog").arg(catalog);
        }
        let text = process::output(tool.arg("-in").arg(file))?;
        // The tool also ends with 0 where there was nothing to check.
        let (all, counted) =
            (text.contains("\nSucceeded"), text.contains("Number of verified signatures: 1"));
        ensure!(all && counted, "osslsigncode does not say that {} is signed:\n{text}", file.display());
        Ok(())
    }

    fn x509(&self, arguments: &[&str]) -> Result<String> {
        process::output(process::command("openssl").arg("x509").args(arguments).arg("-in").arg(&self.pem))
    }
}

/// What OpenSSL reads in a file of ASN.1; fails if it finds an error.
pub(crate) fn asn1(path: &Path) -> Result<String> {
    process::output(process::command("openssl").args(["asn1parse", "-inform", "DER", "-i", "-in"]).arg(path))
}

/// Where keys of this checkout lie.
fn folder() -> Result<PathBuf> {
    let folder = process::root().join("target/certificate");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// An empty file that only its owner may read.
#[cfg(unix)]
fn private(path: &Path) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let _ = fs::remove_file(path);
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(())
}

/// Packages are not made by this program elsewhere.
#[cfg(not(unix))]
fn private(path: &Path) -> Result<()> {
    anyhow::bail!("{} cannot be kept private here", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str, text: &str) -> String {
        let path = process::scratch(&format!("signer-{name}"));
        fs::write(&path, text).unwrap();
        let said = Signer::from_file(&path).err();
        fs::remove_file(&path).unwrap();
        said.map(|error| format!("{error:#}")).unwrap_or_default()
    }

    fn made(options: &[&str]) -> String {
        let key = process::scratch(&format!("key-{}", options.len()));
        let mut openssl = process::command("openssl");
        openssl.args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-config",
            "/dev/null",
            "-subj",
            "/CN=x",
        ]);
        let certificate = process::output(openssl.args(options).arg("-keyout").arg(&key)).unwrap();
        let text = certificate + &fs::read_to_string(&key).unwrap();
        fs::remove_file(&key).unwrap();
        text
    }

    #[test]
    fn a_file_that_cannot_sign_is_refused_with_a_reason() {
        assert!(
            Signer::from_file(Path::new("/nowhere.pem"))
                .is_err_and(|error| error.to_string().contains("there is no"))
        );
        assert!(refused("a.pem", "hello").contains("holds no certificate"));
        assert!(refused("b.pfx", "hello").contains("SLUICE_CERT_PASSWORD"));
        let other_purpose = made(&["-addext", "extendedKeyUsage=serverAuth"]);
        assert!(refused("c.pem", &other_purpose).contains("not for code signing"));
        let key = other_purpose.find("-----BEGIN PRIVATE").unwrap();
        assert!(refused("d.pem", &other_purpose[..key]).contains("holds no private key"));
    }
}
