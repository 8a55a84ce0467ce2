//! The INF: stamped from `inf/sluice.inx`, as `stampinf` does it.
use std::path::Path;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::build::Arch;
use crate::process;

/// Writes the INF of this version and of today.
pub(crate) fn stamp(path: &Path, arch: Arch) -> Result<()> {
    let template = process::root().join("inf/sluice.inx");
    let text = std::fs::read_to_string(&template).with_context(|| template.display().to_string())?;
    std::fs::write(path, stamped(&text, arch, day()?, env!("CARGO_PKG_VERSION"))?)?;
    Ok(())
}

/// The day of the build, counted from 1970: the one on which this program began, or that `SOURCE_DATE_EPOCH` names.
pub(crate) fn day() -> Result<u64> {
    static BEGAN: OnceLock<SystemTime> = OnceLock::new();
    let seconds = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text.parse().context("SOURCE_DATE_EPOCH is not a number of seconds")?,
        Err(_) => BEGAN.get_or_init(SystemTime::now).duration_since(UNIX_EPOCH)?.as_secs(),
    };
    Ok(seconds / 86_400)
}

/// Fills in the architecture and `DriverVer`; `days` counts from 1970.
fn stamped(template: &str, arch: Arch, days: u64, version: &str) -> Result<String> {
    let (year, month, day) = date(days);
    let driver_version = format!("DriverVer = {month:02}/{day:02}/{year},{version}.0");
    let text = template.replace("$ARCH$", arch.inf());
    anyhow::ensure!(text.contains("DriverVer ="), "inf/sluice.inx has no DriverVer line to fill in");
    let lines =
        text.lines().map(|line| if line.starts_with("DriverVer =") { driver_version.as_str() } else { line });
    Ok(lines.flat_map(|line| [line, "\r\n"]).collect())
}

/// Year, month and day of a day counted from 1970, in the Gregorian calendar.
fn date(days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    let mut rest = days;
    while rest >= 365 + u64::from(leap(year)) {
        rest -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    (year, month, rest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(789), (1972, 2, 29));
        assert_eq!(date(11_016), (2000, 2, 29));
        assert_eq!(date(20_778), (2026, 11, 21));
    }

    #[test]
    fn inf_image_and_client_use_the_same_names() {
        let inf = std::fs::read_to_string(process::root().join("inf/sluice.inx")).unwrap();
        let image = process::root().join("target/sluice/sluice.sys");
        let image = std::fs::read(&image).unwrap_or_else(|error| panic!("{error}; run: cargo xtask build"));
        let in_image = |name: &str| {
            let wide: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
            image.windows(wide.len()).any(|bytes| bytes == wide)
        };
        let id = format!("NetCfgInstanceId = \"{}\"", sluice_abi::FILTER_GUID);
        assert_eq!(inf.matches(&id).count(), 2, "both install sections");
        assert_eq!(inf.matches(&format!("AddService = {},", sluice_abi::SERVICE_NAME)).count(), 2);
        assert!(inf.contains(&format!("Service,, \"{}\"", sluice_abi::SERVICE_NAME)));
        for name in [
            sluice_abi::FILTER_GUID,
            sluice_abi::SERVICE_NAME,
            sluice_abi::DEVICE_NAME,
            sluice_abi::SYMBOLIC_NAME,
            sluice_abi::DEVICE_SDDL,
        ] {
            assert!(in_image(name), "{name} is not in the image");
        }
        assert!(sluice_abi::SYMBOLIC_NAME.ends_with(sluice_abi::WIN32_NAME.trim_start_matches("\\\\.\\")));
        let client = crate::package::folder(Arch::X64).join("sluice.exe");
        let client =
            std::fs::read(&client).unwrap_or_else(|error| panic!("{error}; run: cargo xtask package"));
        let in_client = |name: &str| client.windows(name.len()).any(|bytes| bytes == name.as_bytes());
        assert!(in_client(sluice_abi::WIN32_NAME), "the client opens another device");
    }

    #[test]
    fn the_names_stand_in_one_place_of_the_sources() {
        let folders = ["driver", "usermode-client", "tests", "xtask"];
        let files = process::output(process::command("git").args(["ls-files", "--"]).args(folders)).unwrap();
        let sources = files
            .lines()
            .filter(|file| std::path::Path::new(file).extension().is_some_and(|extension| extension == "rs"));
        let mut places: Vec<String> = Vec::new();
        for file in sources {
            let text = std::fs::read_to_string(process::root().join(file)).unwrap();
            // As they stand in a source, in quotes.
            let names = [
                sluice_abi::FILTER_GUID,
                sluice_abi::DEVICE_NAME,
                sluice_abi::SYMBOLIC_NAME,
                sluice_abi::WIN32_NAME,
            ];
            if names.iter().any(|name| text.contains(&format!("{name:?}"))) {
                places.push(file.to_owned());
            }
        }
        assert_eq!(places, ["driver/abi/src/names.rs"]);
    }

    #[test]
    fn architecture_and_version_are_filled_in() {
        let text = stamped("[V]\nDriverVer = \nx = NT$ARCH$\n", Arch::X64, 20_778, "1.2.3").unwrap();
        assert_eq!(text, "[V]\r\nDriverVer = 11/21/2026,1.2.3.0\r\nx = NTamd64\r\n");
    }

    #[test]
    fn the_trace_profile_names_the_drivers_provider() {
        let read = |name: &str| std::fs::read_to_string(process::root().join(name)).unwrap();
        let source = read("driver/ndis/src/trace.rs");
        let id = source.split("id(\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        assert_eq!(id.len(), 36);
        assert!(read("inf/sluice.wprp").contains(id) && read("docs/debugging.md").contains(id));
    }
}
