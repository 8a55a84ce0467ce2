//! The documents say what is: the names in them are there, and the figures are those of the machine.
#![expect(clippy::unwrap_used, reason = "a test that finds nothing there has failed")]
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sluice_suite::bugs;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

/// The rows of a document's tables, as cells.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let rows = text.lines().filter(|line| line.starts_with('|') && !line.starts_with("| ---"));
    rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// What stands in backquotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Every Rust file below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// Names of test functions, scenarios, cases of the lab, and misuse that does not compile.
fn shown() -> BTreeSet<String> {
    let mut names: BTreeSet<String> = bugs::SCENARIOS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut files = Vec::new();
    for name in ["driver", "tests", "usermode-client", "xtask"] {
        sources(&root().join(name), &mut files);
    }
    for file in files {
        let folder = file.parent().unwrap();
        if folder.ends_with("crashes/examples") || folder.ends_with("compile-fail/tests/cases") {
            names.insert(file.file_stem().unwrap().to_string_lossy().into_owned());
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (index, line) in lines.iter().enumerate() {
            let Some(name) = line.strip_prefix("fn ").and_then(|rest| rest.split('(').next()) else {
                continue;
            };
            let above = lines.get(index.saturating_sub(4)..index).unwrap_or_default();
            if above.contains(&"#[test]") {
                names.insert(name.to_owned());
            }
        }
    }
    names
}

#[test]
fn each_threat_has_something_that_shows_its_defence() {
    let (text, shown) = (read("docs/threat-model.md"), shown());
    let (_, table) = text.split_once("| threat | what enforces").unwrap();
    let mut threats = 0;
    for row in rows(table).into_iter().skip(1).filter(|row| row.len() == 3) {
        let (threat, names) = (row.first().unwrap(), quoted(row.get(2).unwrap()));
        assert!(!names.is_empty(), "{threat}: nothing shows it");
        for name in names {
            assert!(shown.contains(name), "{threat}: there is no {name}");
        }
        threats += 1;
    }
    assert!(threats >= 20, "{threats}");
}

#[test]
fn the_verifiers_table_has_the_machines_options_and_rules() {
    let text = read("docs/verifier.md");
    let mut counted = BTreeMap::<String, usize>::new();
    for rule in sluice_machine::rule::RULES {
        *counted.entry(rule.option.name().to_owned()).or_default() += 1;
    }
    let rows = rows(&text);
    for (option, count) in counted {
        let row = rows.iter().find(|row| row.get(2) == Some(&format!("`{option}`").as_str()));
        let row = row.unwrap_or_else(|| panic!("no row for {option}"));
        assert_eq!(row.last(), Some(&count.to_string().as_str()), "{option}");
    }
}

#[test]
fn the_cases_of_the_debugging_page_are_in_the_lab() {
    let text = read("docs/debugging.md");
    let (_, table) = text.split_once("| case | reads").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let mut cases = 0;
    for row in rows(table).into_iter().skip(1) {
        for case in quoted(row.first().unwrap()) {
            assert!(
                root().join("tests/lab/crashes/examples").join(case).with_extension("rs").exists(),
                "{case}"
            );
            cases += 1;
        }
    }
    assert!(cases >= 10);
}

#[test]
fn the_debugging_page_names_every_event() {
    let (text, source) = (read("docs/debugging.md"), read("driver/ndis/src/trace.rs"));
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<String>();
    let events: BTreeSet<&str> =
        code.split("write_event!(").skip(1).map(|event| event.split('"').nth(1).unwrap()).collect();
    assert!(events.len() >= 15, "{events:?}");
    for event in events {
        assert!(quoted(&text).contains(&event), "docs/debugging.md does not name {event}");
        let documented =
            source.lines().any(|line| line.starts_with("//! |") && quoted(line).contains(&event));
        assert!(documented, "the table of trace.rs does not name {event}");
    }
}
