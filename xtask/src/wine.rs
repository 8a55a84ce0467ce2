//! The INF as another implementation reads it: setupapi of Wine.
use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::build::Arch;
use crate::inf_file::{self, Line};
use crate::{debian, package, process};

/// Directories as Wine 8 names them; one that it does not know is `unknown`.
const DIRECTORIES: [(&str, &str); 2] =
    [("%12%", r"C:\windows\system32\drivers"), ("%13%", r"C:\windows\system32\unknown")];

/// Fails unless Wine reads in the packages' INFs what this program reads; says how many lines that were.
pub(crate) fn reads_the_same() -> Result<()> {
    debian::for_wine()?;
    let place = process::root().join("target/wine");
    fs::create_dir_all(&place)?;
    let program = place.join("values.exe");
    let mut compile = process::command("x86_64-w64-mingw32-gcc");
    compile
        .args(["-municode", "-O1", "-Wall", "-Werror", "-o"])
        .arg(&program)
        .args(["tests/inf/values.c", "-lsetupapi"]);
    process::run(&mut compile)?;
    for arch in [Arch::X64, Arch::Arm64] {
        let inf = package::folder(arch).join("sluice.inf");
        let mut wine = process::command(debian::WINE);
        wine.arg(&program).arg(format!("Z:{}", inf.display()).replace('/', "\\"));
        wine.env("WINEPREFIX", place.join("prefix")).env("WINEDEBUG", "-all").env("HOME", &place);
        // Wine would offer to fetch what .NET programs and pages need.
        wine.env("WINEDLLOVERRIDES", "mscoree,mshtml=");
        let theirs = process::output(&mut wine)?;
        let ours = ours(&inf)?;
        let different = differences(&ours, &theirs);
        ensure!(different.is_empty(), "Wine reads {} differently:\n{}", inf.display(), different.join("\n"));
        println!("{}: {} lines, the same to Wine", inf.display(), ours.len());
    }
    Ok(())
}

fn ours(inf: &Path) -> Result<Vec<String>> {
    Ok(inf_file::lines(inf)?.iter().map(as_setupapi_prints).collect())
}

/// A line as `tests/inf/values.c` prints it. A lone field is its own key to setupapi.
fn as_setupapi_prints(line: &Line) -> String {
    let lone = || line.fields.first().filter(|_| line.fields.len() == 1).cloned().unwrap_or_default();
    let key = line.key.clone().unwrap_or_else(lone);
    let mut text = format!("{}\t{}\t{key}", line.section, line.fields.len());
    for field in &line.fields {
        let named = DIRECTORIES.iter().fold(field.clone(), |field, (id, path)| field.replace(id, path));
        text.push('\t');
        text.push_str(&named);
    }
    text
}

/// Lines that only one of the two has, in order.
fn differences(ours: &[String], theirs: &str) -> Vec<String> {
    let theirs: Vec<&str> = theirs.lines().map(|line| line.trim_end_matches('\r')).collect();
    let count = ours.len().max(theirs.len());
    let pairs = (0..count).map(|index| (ours.get(index).map(String::as_str), theirs.get(index).copied()));
    pairs.filter(|(a, b)| a != b).map(|(a, b)| format!("ours {a:?}, Wine's {b:?}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_reads_otherwise_is_found() {
        let ours = ["Version\t1\tClass\tNetService".to_owned()];
        assert!(differences(&ours, "Version\t1\tClass\tNetService\r\n").is_empty());
        assert_eq!(differences(&ours, "Version\t1\tClass\tNet\r\n").len(), 1);
        assert_eq!(differences(&ours, "").len(), 1);
        assert_eq!(differences(&[], "Version\t1\tClass\tNetService\n").len(), 1);
    }
}
