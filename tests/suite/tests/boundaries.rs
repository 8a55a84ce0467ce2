//! What the driver is made of: kernel services come from `sluice-kernel` and `sluice-ndis` only, and `unsafe` stays
//! there and in `ndis-sys`.
#![expect(clippy::unwrap_used, reason = "a test that finds nothing there has failed")]
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../driver").join(name)
}

/// The Rust files of a folder of the driver, and their text.
fn sources(name: &str) -> Vec<(PathBuf, String)> {
    let files = folder(name).read_dir().unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "rs")).collect();
    assert!(!files.is_empty(), "{name}");
    files
        .into_iter()
        .map(|path| (path.clone(), std::fs::read_to_string(path).unwrap().replace("\r\n", "\n")))
        .collect()
}

/// Lines of code, without comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.split("//").next().unwrap_or_default())
}

/// Whether a word stands in a line.
fn has_word(line: &str, word: &str) -> bool {
    line.split(|character: char| !character.is_alphanumeric() && character != '_').any(|part| part == word)
}

/// Lines of a crate's code that have one of the words.
fn lines_with(name: &str, words: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in sources(name) {
        for (number, line) in code(&text).enumerate() {
            if words.iter().any(|word| has_word(line, word)) {
                found.push(format!("{}:{}: {line}", path.display(), number + 1));
            }
        }
    }
    found
}

/// Functions that a file of `ndis-sys` declares.
fn functions(file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(folder("ndis-sys/src").join(file)).unwrap();
    let names = text.lines().filter_map(|line| line.split("fn ").nth(1));
    names.filter_map(|rest| rest.split(['(', '<']).next()).map(str::to_owned).collect()
}

/// What of `wdk-sys` the driver has that is no structure, or one that it only has pointers to.
const NOT_ITS_OWN: [&str; 7] = [
    "DEVICE_OBJECT",
    "DMA_OPERATIONS",
    "IRP",
    "NTSTATUS",
    "PCUNICODE_STRING",
    "PDRIVER_DISPATCH",
    "_IO_WORKITEM",
];

#[test]
fn every_structure_of_the_kernel_that_the_driver_has_is_asserted() {
    let table = std::fs::read_to_string(folder("kernel/src/layout.rs")).unwrap();
    let mut found = 0;
    for name in ["kernel/src", "ndis/src", "src"] {
        for (path, text) in sources(name).into_iter().filter(|(path, _)| !path.ends_with("layout.rs")) {
            let text: String = code(&text).collect();
            // `wdk_sys::NAME` and `wdk_sys::{NAME, NAME}`; `wdk_sys::ntddk` has the functions.
            let used = text.split("wdk_sys::").skip(1).flat_map(|rest| match rest.strip_prefix('{') {
                Some(list) => list.split('}').next().unwrap_or_default().split(',').collect(),
                None => {
                    rest.split(|one: char| !one.is_alphanumeric() && one != '_').take(1).collect::<Vec<_>>()
                }
            });
            for used in used.map(str::trim).filter(|used| !used.is_empty() && *used != "ntddk") {
                let own = !used.starts_with("STATUS_") && !NOT_ITS_OWN.contains(&used);
                assert!(
                    !own || table.contains(&format!("    {used} = ")),
                    "{}: the size of {used} is not asserted in kernel/src/layout.rs",
                    path.display()
                );
                found += usize::from(own);
            }
        }
    }
    assert!(found >= 15, "{found}");
}

#[test]
fn nothing_outside_the_edges_is_unsafe() {
    for name in ["src", "core/src", "abi/src"] {
        let root = sources(name).into_iter().find(|(path, _)| path.ends_with("lib.rs")).unwrap();
        assert!(root.1.contains("#![forbid(unsafe_code)]"), "{name}");
        assert_eq!(lines_with(name, &["unsafe".to_owned()]), Vec::<String>::new());
    }
}

#[test]
fn kernel_services_come_from_the_kernel_crate_only() {
    for name in ["src", "core/src", "abi/src"] {
        // Functions of the kernel; what is left of `wdk_sys` is types and constants.
        assert_eq!(lines_with(name, &["ntddk".to_owned()]), Vec::<String>::new());
        let declared: Vec<_> = std::fs::read_dir(folder("ndis-sys/src"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        let calls: Vec<_> = declared.iter().flat_map(|file| functions(&file.to_string_lossy())).collect();
        assert!(calls.len() > 40 && calls.contains(&"NdisFSendNetBufferLists".to_owned()), "{calls:?}");
        assert_eq!(lines_with(name, &calls), Vec::<String>::new());
    }
    assert!(!lines_with("kernel/src", &["ntddk".to_owned()]).is_empty());
    assert!(!lines_with("ndis/src", &["NdisFSendNetBufferLists".to_owned()]).is_empty());
}
