//! What the scripts for Windows must be, which nothing runs on Linux: their syntax, and the numbers that they pass on.
use std::path::{Path, PathBuf};

use crate::process;

/// Driver Verifier's rule classes (page "Driver Verifier Command Syntax").
const RULE_CLASSES: [(u32, &str); 25] = [
    (1, "Special pool"),
    (2, "Force IRQL checking"),
    (3, "Randomized low resources simulation"),
    (4, "Pool tracking"),
    (5, "I/O verification"),
    (6, "Deadlock detection"),
    (8, "DMA checking"),
    (9, "Security checks"),
    (10, "Force pending I/O requests"),
    (11, "IRP logging"),
    (12, "Miscellaneous checks"),
    (14, "Invariant MDL checking for stack"),
    (15, "Invariant MDL checking for driver"),
    (16, "Power framework delay fuzzing"),
    (17, "Port/miniport interface checking"),
    (18, "DDI compliance checking"),
    (19, "Systematic low resources simulation"),
    (20, "DDI compliance checking (additional)"),
    (22, "NDIS/WIFI verification"),
    (24, "Kernel synchronization delay fuzzing"),
    (25, "VM switch verification"),
    (26, "Code integrity checks"),
    (33, "Driver isolation checks"),
    (34, "WDF verification"),
    (36, "DIF mode"),
];
/// The classes that do nothing without [`DIF_MODE`].
const NEED_DIF_MODE: [u32; 2] = [19, 33];
const DIF_MODE: u32 = 36;
/// The classes that make calls fail.
const FAULTS: [u32; 2] = [3, 19];

/// Driver Verifier's flags (same page), and from which build on each is deprecated.
const FLAGS: [(u32, &str, Option<u32>); 22] = [
    (0x1, "Special pool", None),
    (0x2, "Force IRQL checking", None),
    (0x4, "Low resources simulation", None),
    (0x8, "Pool tracking", None),
    (0x10, "I/O verification", None),
    (0x20, "Deadlock detection", None),
    (0x80, "DMA verification", None),
    (0x100, "Security checks", None),
    (0x200, "Force pending I/O requests", None),
    (0x400, "IRP logging", None),
    (0x800, "Miscellaneous checks", None),
    (0x2000, "Invariant MDL checking for stack", None),
    (0x4000, "Invariant MDL checking for driver", None),
    (0x8000, "Power framework delay fuzzing", Some(19042)),
    (0x10000, "Port/miniport interface checking", None),
    (0x20000, "DDI compliance checking", None),
    (0x40000, "Systematic low resources simulation", Some(19042)),
    (0x80000, "DDI compliance checking (additional)", Some(19042)),
    (0x20_0000, "NDIS/WIFI verification", None),
    (0x80_0000, "Kernel synchronization delay fuzzing", Some(19042)),
    (0x100_0000, "VM switch verification", None),
    (0x200_0000, "Code integrity checks", None),
];
/// The flags that make calls fail.
const FAULT_FLAGS: u32 = 0x4 | 0x40000;
/// What stands by a deprecated flag. The rule class in its place needs DIF mode, which Windows 11 brought.
const OLDER_ONLY: &str = "before build 22000";

/// Programs that the scripts call, and those of their switches that are used, each from its page or its own help.
const SWITCHES: [(&str, &[&str]); 7] = [
    (
        "verifier.exe",
        &["/rc", "/flags", "/driver", "/query", "/querysettings", "/reset", "/faultssystematic"],
    ),
    ("netcfg.exe", &["-v", "-l", "-c", "-i", "-q", "-u"]),
    ("pnputil.exe", &["/delete-driver"]),
    ("bcdedit.exe", &["/set"]),
    ("wpr.exe", &["-start", "-stop", "-filemode"]),
    ("tracerpt.exe", &["-o", "-of", "-y"]),
    ("sc.exe", &[]),
];
/// The words that follow `/faultssystematic`, of which the scripts use some.
const SYSTEMATIC: [&str; 10] = [
    "enableboottime",
    "disableboottime",
    "recordboottime",
    "resetboottime",
    "enableruntime",
    "disableruntime",
    "recordruntime",
    "resetruntime",
    "querystatistics",
    "incrementcounter",
];

/// Programs that no table has, and switches that they do not have.
fn switch_faults(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with('#')) {
        let mut fault = |what: String| faults.push(format!("line {}: {what}", index + 1));
        let words: Vec<&str> = line
            .split(|character: char| character.is_whitespace() || ",'()".contains(character))
            .filter(|word| !word.is_empty())
            .collect();
        // The script's own function for verifier, its variables, or the program itself.
        let called =
            words.iter().position(|word| Path::new(word).extension().is_some_and(|end| end == "exe"));
        let called = called.filter(|at| *at > 0);
        let called = called.filter(|at| words.get(at - 1).is_some_and(|before| before.ends_with('&')));
        let arguments = match called {
            Some(at) => Some((words[at], at + 1)),
            None if line.contains("Invoke-Verifier") || line.contains("$options = ") => {
                Some(("verifier.exe", 0))
            }
            None => None,
        };
        let Some((program, start)) = arguments else { continue };
        let Some((_, switches)) = SWITCHES.iter().find(|(name, _)| *name == program) else {
            fault(format!("{program} is in no table"));
            continue;
        };
        let given: Vec<&str> = words.iter().skip(start).take_while(|word| **word != "|").copied().collect();
        for (place, word) in given.iter().enumerate() {
            let switch = word.starts_with('/') || called.is_some() && word.starts_with('-') && word.len() > 1;
            let operator = ["-join", "-match", "-notin"].contains(word);
            if switch && !operator && !switches.contains(word) {
                fault(format!("{program} has no {word}"));
            }
            if *word == "/faultssystematic"
                && !given.get(place + 1).is_some_and(|next| SYSTEMATIC.contains(next))
            {
                fault(format!("{word} has no {:?}", given.get(place + 1)));
            }
        }
    }
    faults
}

/// Where a script is no PowerShell.
fn syntax_faults(text: &str) -> Vec<String> {
    let mut parser = tree_sitter::Parser::new();
    parser.set_language(&tree_sitter_powershell::LANGUAGE.into()).unwrap();
    let tree = parser.parse(text, None).unwrap();
    let mut faults = Vec::new();
    let mut nodes = vec![tree.root_node()];
    while let Some(node) = nodes.pop() {
        if node.is_error() || node.is_missing() {
            let line = node.start_position().row + 1;
            faults.push(format!("line {line}: {}", text.lines().nth(line - 1).unwrap_or_default()));
        }
        let mut cursor = node.walk();
        nodes.extend(node.children(&mut cursor));
    }
    faults
}

/// The numbers that follow a switch of verifier, or that a variable for them is given.
fn numbers(line: &str, switches: &[&str], variable: &str) -> Vec<u32> {
    let tokens: Vec<String> = line
        .split(|character: char| character.is_whitespace() || ",'\"`()".contains(character))
        .filter(|token| !token.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    let number = |token: &String| match token.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => token.parse().ok(),
    };
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let given = token.starts_with('$') && token.ends_with(variable);
        let start = match tokens.get(index + 1) {
            Some(next) if given && next == "=" => index + 2,
            _ if switches.contains(&token.as_str()) => index + 1,
            _ => continue,
        };
        found.extend(tokens.iter().skip(start).map_while(number));
    }
    found
}

/// What is wrong with the rule classes and flags that a text gives to verifier.
fn verifier_faults(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut faults = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let mut fault = |what: String| faults.push(format!("line {}: {what}", index + 1));
        let near = lines.iter().skip(index.saturating_sub(1)).take(2).copied().collect::<Vec<_>>().join(" ");
        let rules = numbers(line, &["/rc", "/ruleclasses"], "rules");
        for rule in &rules {
            if !RULE_CLASSES.iter().any(|(number, _)| number == rule) {
                fault(format!("there is no rule class {rule}"));
            }
            if NEED_DIF_MODE.contains(rule) && !rules.contains(&DIF_MODE) {
                fault(format!("rule class {rule} does nothing without {DIF_MODE}, DIF mode"));
            }
        }
        let flags = numbers(line, &["/flags"], "flags").into_iter().fold(0, |all, flag| all | flag);
        for bit in (0..32).map(|bit| 1u32 << bit).filter(|bit| flags & bit != 0) {
            match FLAGS.iter().find(|(flag, ..)| *flag == bit) {
                None => fault(format!("there is no flag {bit:#x}")),
                Some((_, name, Some(build))) if !near.to_lowercase().contains(OLDER_ONLY) => {
                    fault(format!("{bit:#x}, {name}, is deprecated from build {build} on"));
                }
                Some(_) => {}
            }
        }
        let injects = flags & FAULT_FLAGS != 0 || rules.iter().any(|rule| FAULTS.contains(rule));
        if injects && line.contains("/driver") && line.contains("ndis.sys") {
            fault("faults in ndis.sys reach the stack of every adapter".to_owned());
        }
    }
    faults
}

/// Where a script takes the folder of a file that a user named, without asking first where that file lies.
fn path_faults(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split(|c: char| c.is_whitespace() || "()".contains(c)).collect();
        let at = words.iter().position(|word| *word == "Split-Path");
        let named = at.and_then(|at| words.iter().skip(at + 1).find(|word| !word.starts_with('-')));
        let Some(variable) = named.filter(|name| name.starts_with('$') && !name.contains('.')) else {
            continue;
        };
        let resolved = format!("{variable} = (Resolve-Path -LiteralPath {variable}).ProviderPath");
        if !text.lines().take(index).any(|line| line.trim() == resolved) {
            faults.push(format!("line {}: {variable} may be a name without a folder", index + 1));
        }
    }
    faults
}

fn scripts() -> Vec<(PathBuf, String)> {
    let entries = std::fs::read_dir(process::root().join("inf")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let scripts = paths.filter(|path| path.extension().is_some_and(|extension| extension == "ps1"));
    scripts.map(|path| (path.clone(), std::fs::read_to_string(&path).unwrap())).collect()
}

#[test]
fn every_script_is_powershell_for_administrators_that_can_be_asked_what_it_would_do() {
    let scripts = scripts();
    assert_eq!(scripts.len(), 8);
    for (path, text) in scripts {
        assert_eq!(syntax_faults(&text), Vec::<String>::new(), "{}", path.display());
        assert_eq!(path_faults(&text), Vec::<String>::new(), "{}", path.display());
        assert_eq!(switch_faults(&text), Vec::<String>::new(), "{}", path.display());
        for wanted in [
            "#Requires -Version 5.1",
            "#Requires -RunAsAdministrator",
            "SupportsShouldProcess",
            "ShouldProcess(",
            "Set-StrictMode -Version Latest",
            "$ErrorActionPreference = 'Stop'",
            ".SYNOPSIS",
        ] {
            assert!(text.contains(wanted), "{} has no {wanted}", path.display());
        }
    }
}

/// What of an uninstallation is not looked at after the last thing was removed, and what is asked in the wrong place.
fn uninstall_faults(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    // Empty when the only card is unplugged.
    if text.contains("Get-NetAdapterBinding") {
        faults.push("a binding tells nothing of the component".to_owned());
    }
    let after = text.rsplit("ShouldProcess(").next().unwrap_or_default();
    let (looked, claimed) = after.split_once("\nif ($left) {\n    throw").unwrap_or(("", after));
    for (what, by) in [
        ("component", "Get-Component"),
        ("component, by netcfg", "netcfg.exe -q"),
        ("service", "Get-Service -Name sluice"),
        ("state of the service", "StopPending"),
        ("driver's file", "System32\\drivers\\sluice.sys"),
        ("driver store", "DriverStore\\FileRepository"),
        ("certificate", "Get-Imported"),
    ] {
        if !looked.contains(by) {
            faults.push(format!("the {what} is not looked at before the script claims that it is gone"));
        }
    }
    if !claimed.contains("Write-Output") || looked.contains("Write-Output") {
        faults.push("the claim comes before the look".to_owned());
    }
    let first = text.find("ShouldProcess(").unwrap_or(0);
    if !text.get(..first).is_some_and(|before| before.contains("Get-Process -Name sluice")) {
        faults.push("holders are not named before anything is removed".to_owned());
    }
    faults
}

#[test]
fn uninstalling_names_the_holders_first_and_looks_before_it_claims() {
    let text = std::fs::read_to_string(process::root().join("inf/uninstall.ps1")).unwrap();
    assert_eq!(uninstall_faults(&text), Vec::<String>::new());
    let blind = text.replace("if (Get-Component) {\n    $left", "if ($false) {\n    $left");
    assert_eq!(uninstall_faults(&blind).len(), 1);
}

#[test]
fn a_script_with_a_fault_is_found() {
    assert!(!syntax_faults("if ($x -eq 1 { Write-Output 'x' }").is_empty());
    assert!(!syntax_faults("foreach ($a in $b) { ").is_empty());
}

#[test]
fn a_switch_that_a_program_does_not_have_is_found() {
    for (wrong, said) in [
        ("& netcfg.exe -x Sluice_sluice", "netcfg.exe has no -x"),
        ("& verifier.exe /rulez 1", "verifier.exe has no /rulez"),
        ("Invoke-Verifier '/faultssystematic', 'enable'", "/faultssystematic has no"),
        ("& format.exe C:", "format.exe is in no table"),
    ] {
        let faults = switch_faults(wrong);
        assert!(faults.iter().any(|fault| fault.contains(said)), "{wrong}: {faults:?}");
    }
    assert_eq!(switch_faults("& sc.exe stop sluice | Out-Null"), Vec::<String>::new());
}

#[test]
fn a_file_without_a_folder_has_a_place() {
    assert_eq!(path_faults("Join-Path (Split-Path $Inf) 'sluice.sys'").len(), 1);
    let resolved =
        "$Inf = (Resolve-Path -LiteralPath $Inf).ProviderPath\n$folder = Split-Path -Parent $Inf\n";
    assert_eq!(path_faults(resolved), Vec::<String>::new());
}

#[test]
fn scripts_and_documents_give_verifier_what_its_page_names() {
    let root = process::root();
    let mut files: Vec<PathBuf> = scripts().into_iter().map(|(path, _)| path).collect();
    files.extend(["README.md", "inf/README.md"].map(|name| root.join(name)));
    files.extend(std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(verifier_faults(&text), Vec::<String>::new(), "{}", path.display());
    }
}

#[test]
fn the_script_names_each_rule_class_that_it_sets_and_the_document_has_the_same() {
    let script = std::fs::read_to_string(process::root().join("inf/verifier.ps1")).unwrap();
    let document = std::fs::read_to_string(process::root().join("docs/verifier.md")).unwrap();
    let rules = |text: &str| -> Vec<Vec<u32>> {
        let lists = text.lines().map(|line| numbers(line, &["/rc"], "rules"));
        lists.filter(|list| !list.is_empty()).collect()
    };
    let set = rules(&script);
    assert_eq!(set, [vec![1, 2, 4, 5, 6, 8, 9, 12, 18, 22], vec![19, 36]]);
    for rule in set.iter().flatten() {
        let (_, name) = RULE_CLASSES.iter().find(|(number, _)| number == rule).unwrap();
        let named = format!("{name} {rule}").to_lowercase();
        assert!(script.to_lowercase().contains(&named), "verifier.ps1 does not say {named}");
    }
    assert_eq!(rules(&document), [set[0].clone(), set.concat()]);
}

#[test]
fn what_verifier_would_not_understand_or_no_longer_does_is_found() {
    for (wrong, said) in [
        (
            "$flags = '0x2609BB'",
            "0x40000, Systematic low resources simulation, is deprecated from build 19042 on",
        ),
        ("verifier /flags 0x2609BB /driver sluice.sys ndis.sys", "reach the stack of every adapter"),
        ("verifier /flags 0x400000 /all", "there is no flag 0x400000"),
        ("verifier /rc 1 7 /driver sluice.sys", "there is no rule class 7"),
        ("$faultRules = 19", "does nothing without 36"),
    ] {
        let faults = verifier_faults(wrong);
        assert!(faults.iter().any(|fault| fault.contains(said)), "{wrong}: {faults:?}");
    }
    assert_eq!(verifier_faults("# Before build 22000:\n$flags = '0x609BB'"), Vec::<String>::new());
}
