//! `cargo xtask inf-lint`: what an INF of a filter driver must be (pages
//! "Specifying WFP and NDIS Filter Driver Installation Settings", "Using a Universal INF File", "`InfVerif`").
use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::build::Arch;
use crate::inf_file::{Entry, Sections, fields, number, parse};

/// `NetService`.
const CLASS_GUID: &str = "{4D36E974-E325-11CE-BFC1-08002BE10318}";
/// `NCF_LW_FILTER`.
const CHARACTERISTICS: u32 = 0x40000;
/// From this build on network services run from the driver store (DIRID 13); below it from `drivers` (DIRID 12).
pub(crate) const STORE_BUILD: u32 = 25_319;
/// Classes of modifying filters, from the top of the stack to its bottom.
const FILTER_CLASSES: [&str; 9] = [
    "scheduler",
    "encryption",
    "compression",
    "vpn",
    "loadbalance",
    "failover",
    "diagnostic",
    "custom",
    "provider_address",
];
/// The lowest of them that sees Ethernet frames of a Wi-Fi adapter, as npcap shows; lower ones may see native 802.11.
const LOWEST_FOR_WIFI: &str = "compression";

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Line, counted from 1; 0 if there is none to point at.
    pub(crate) line: usize,
    /// Section.
    pub(crate) section: String,
    /// Which rule.
    pub(crate) rule: &'static str,
    /// What is wrong.
    pub(crate) text: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { line, section, rule, text } = self;
        write!(f, "line {line}: [{section}] {rule}: {text}")
    }
}

/// Fails with every fault of the INF at `path`.
pub(crate) fn check(path: &Path, arch: Arch) -> Result<()> {
    let faults = faults(path, arch)?;
    if faults.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = faults.iter().map(|fault| format!("{}: {fault}", path.display())).collect();
    bail!("{}", lines.join("\n"))
}

/// Every fault of an INF.
pub(crate) fn faults(path: &Path, arch: Arch) -> Result<Vec<Fault>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut lint = Lint { sections: parse(&text), text, faults: Vec::new(), referenced: BTreeSet::new() };
    lint.version();
    lint.manufacturer(arch);
    lint.files();
    lint.strings();
    lint.sections();
    lint.faults.sort_by_key(|fault| fault.line);
    Ok(lint.faults)
}

struct Lint {
    sections: Sections,
    text: String,
    faults: Vec<Fault>,
    /// Sections that something refers to.
    referenced: BTreeSet<String>,
}

impl Lint {
    fn fault(&mut self, section: &str, about: &str, rule: &'static str, text: impl Into<String>) {
        let line = self.line(section, about);
        self.faults.push(Fault { line, section: section.to_owned(), rule, text: text.into() });
    }

    /// The line in a section that begins with some text, or the section's own.
    fn line(&self, section: &str, about: &str) -> usize {
        let header = format!("[{section}]");
        let lines: Vec<&str> = self.text.lines().map(str::trim).collect();
        let Some(start) = lines.iter().position(|line| line.eq_ignore_ascii_case(&header)) else { return 0 };
        let inside = lines.iter().skip(start + 1).take_while(|line| !line.starts_with('['));
        let folded = |text: &str| text.replace([' ', '"'], "").to_ascii_lowercase();
        let found = inside.enumerate().find(|(_, line)| folded(line).starts_with(&folded(about)));
        found.filter(|_| !about.is_empty()).map_or(start + 1, |(offset, _)| start + offset + 2)
    }

    fn entries(&self, section: &str) -> Vec<Entry> {
        let found = self.sections.iter().find(|(name, _)| name.eq_ignore_ascii_case(section));
        found.map(|(_, entries)| entries.clone()).unwrap_or_default()
    }

    fn has(&self, section: &str) -> bool {
        self.sections.iter().any(|(name, _)| name.eq_ignore_ascii_case(section))
    }

    /// The value of a directive, if the section has it.
    fn value(&self, section: &str, key: &str) -> Option<String> {
        self.entries(section).iter().find_map(|entry| match entry {
            Entry::KeyValue(name, value) if name.eq_ignore_ascii_case(key) => Some(value.clone()),
            _ => None,
        })
    }

    /// A section that something refers to must be there.
    fn refer(&mut self, from: &str, about: &str, section: &str) -> bool {
        self.referenced.insert(section.to_ascii_lowercase());
        let there = self.has(section);
        if !there {
            self.fault(from, about, "missing-section", format!("[{section}] is not there"));
        }
        there
    }

    /// A directive that must have one of some values.
    fn expect(&mut self, section: &str, key: &str, rule: &'static str, allowed: &[&str]) {
        match self.value(section, key) {
            None => self.fault(section, "", rule, format!("{key} is missing")),
            Some(value) if !allowed.iter().any(|one| one.eq_ignore_ascii_case(&value)) => {
                self.fault(
                    section,
                    key,
                    rule,
                    format!("{key} is {value}; it must be {}", allowed.join(" or ")),
                );
            }
            Some(_) => {}
        }
    }

    fn version(&mut self) {
        const SECTION: &str = "Version";
        self.expect(SECTION, "Signature", "version", &["$Windows NT$"]);
        self.expect(SECTION, "Class", "version", &["NetService"]);
        self.expect(SECTION, "ClassGUID", "version", &[CLASS_GUID]);
        self.expect(SECTION, "PnpLockdown", "pnp-lockdown", &["1"]);
        if self.value(SECTION, "Provider").is_none_or(|value| value.is_empty()) {
            self.fault(SECTION, "Provider", "version", "Provider is missing");
        }
        let catalog = self.value(SECTION, "CatalogFile").unwrap_or_default();
        if Path::new(&catalog).extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("cat")) {
            self.fault(
                SECTION,
                "CatalogFile",
                "catalog",
                "without a CatalogFile the package counts as unsigned",
            );
        }
        let stamped = self.value(SECTION, "DriverVer").unwrap_or_default();
        let parts = fields(&stamped);
        let date: Vec<&str> = parts.first().map(|date| date.split('/').collect()).unwrap_or_default();
        let version: Vec<&str> = parts.get(1).map(|version| version.split('.').collect()).unwrap_or_default();
        let numbers = |parts: &[&str]| parts.iter().all(|part| part.parse::<u16>().is_ok());
        let dated = date.len() == 3 && date.iter().map(|part| part.len()).eq([2, 2, 4]) && numbers(&date);
        if !dated || version.len() != 4 || !numbers(&version) {
            self.fault(
                SECTION,
                "DriverVer",
                "driver-ver",
                format!("DriverVer is {stamped:?}, not mm/dd/yyyy,w.x.y.z"),
            );
        }
    }

    /// Manufacturers, their Models sections, and what those install.
    fn manufacturer(&mut self, arch: Arch) {
        for entry in self.entries("Manufacturer") {
            let Entry::KeyValue(name, value) = entry else { continue };
            let parts = fields(&value);
            let Some((models, targets)) = parts.split_first() else { continue };
            let builds: Vec<u32> =
                targets.iter().filter_map(|target| self.target(&name, target, arch)).collect();
            let below = builds.iter().any(|build| *build < STORE_BUILD);
            if !below || !builds.iter().any(|build| *build >= STORE_BUILD) {
                let text = format!("Models for builds below {STORE_BUILD} and from there are both needed");
                self.fault("Manufacturer", &name, "models", text);
            }
            for (target, build) in targets.iter().zip(builds) {
                let section = format!("{models}.{target}");
                if self.refer("Manufacturer", &name, &section) {
                    self.models(&section, build);
                }
            }
        }
        if self.entries("Manufacturer").is_empty() {
            self.fault("Manufacturer", "", "models", "no manufacturer");
        }
    }

    /// The build of `NTamd64.10.0...19041`.
    fn target(&mut self, manufacturer: &str, target: &str, arch: Arch) -> Option<u32> {
        let rest = target.strip_prefix("NT").and_then(|rest| rest.strip_prefix(arch.inf()));
        let Some(rest) = rest else {
            let text = format!("{target} is not for {}", arch.inf());
            self.fault("Manufacturer", manufacturer, "architecture", text);
            return None;
        };
        let build = rest.split('.').nth(5).and_then(number);
        if build.is_none() {
            let text = format!("{target} names no build; the directory of the driver depends on it");
            self.fault("Manufacturer", manufacturer, "models", text);
        }
        build
    }

    fn models(&mut self, section: &str, build: u32) {
        for entry in self.entries(section) {
            let Entry::KeyValue(name, value) = entry else { continue };
            let parts = fields(&value);
            if !parts.get(1).is_some_and(|id| id.contains('_')) {
                let text = "the component's id is provider_name, which netcfg installs by";
                self.fault(section, &name, "component-id", text);
            }
            if let Some(install) = parts.first()
                && self.refer(section, &name, install)
            {
                self.install(install, build);
            }
        }
    }

    fn install(&mut self, section: &str, build: u32) {
        let directory = if build < STORE_BUILD { "12" } else { "13" };
        let characteristics = self.value(section, "Characteristics");
        if characteristics.as_deref().and_then(number) != Some(CHARACTERISTICS) {
            let text =
                "Characteristics is 0x40000 (NCF_LW_FILTER) for a lightweight filter, and nothing else";
            self.fault(section, "Characteristics", "characteristics", text);
        }
        self.expect(section, "NetCfgInstanceId", "guid", &[sluice_abi::FILTER_GUID]);
        match self.value(section, "AddReg") {
            None => self.fault(section, "", "add-reg", "AddReg is missing"),
            Some(sections) => {
                for registry in fields(&sections) {
                    if self.refer(section, "AddReg", &registry) {
                        self.component(&registry);
                    }
                }
            }
        }
        let mut copied = BTreeSet::new();
        match self.value(section, "CopyFiles") {
            None => self.fault(section, "", "copy-files", "CopyFiles is missing"),
            Some(sections) => {
                for list in fields(&sections) {
                    if self.refer(section, "CopyFiles", &list) {
                        copied.extend(self.copied(&list, directory));
                    }
                }
            }
        }
        let services = format!("{section}.Services");
        if self.refer(section, "", &services) {
            self.services(&services, directory, &copied);
        }
        let removal = format!("{section}.Remove.Services");
        if self.refer(section, "", &removal) {
            let expected = format!("{},0x200", sluice_abi::SERVICE_NAME);
            self.expect(&removal, "DelService", "del-service", &[&expected]);
        }
    }

    /// What a list of files copies, and that it goes where this build wants it.
    fn copied(&mut self, list: &str, directory: &str) -> Vec<String> {
        let target = self.value("DestinationDirs", list).unwrap_or_default();
        if fields(&target).first().map(String::as_str) != Some(directory) {
            let text = format!("{list} goes to {target:?}; for these builds it is DIRID {directory}");
            self.fault("DestinationDirs", list, "dirid", text);
        }
        let mut files = Vec::new();
        for entry in self.entries(list) {
            let Entry::OnlyValue(value) = entry else { continue };
            let Some(file) = fields(&value).into_iter().next() else { continue };
            if self.value("SourceDisksFiles", &file).is_none() {
                self.fault(list, &file, "source-files", format!("{file} is not in [SourceDisksFiles]"));
            }
            files.push(file.to_ascii_lowercase());
        }
        files
    }

    fn services(&mut self, section: &str, directory: &str, copied: &BTreeSet<String>) {
        let Some(line) = self.value(section, "AddService") else {
            self.fault(section, "", "add-service", "AddService is missing");
            return;
        };
        let parts = fields(&line);
        if parts.first().map(String::as_str) != Some(sluice_abi::SERVICE_NAME) {
            let text = format!(
                "the service is {:?}; the driver registers as {}",
                parts.first(),
                sluice_abi::SERVICE_NAME
            );
            self.fault(section, "AddService", "service-name", text);
        }
        let Some(service) = parts.get(2).filter(|name| !name.is_empty()) else {
            self.fault(section, "AddService", "add-service", "AddService names no section");
            return;
        };
        if self.refer(section, "AddService", service) {
            self.service(service, directory, copied);
        }
    }

    fn service(&mut self, section: &str, directory: &str, copied: &BTreeSet<String>) {
        self.expect(section, "ServiceType", "service", &["1"]);
        self.expect(section, "StartType", "service", &["1", "3"]);
        self.expect(section, "ErrorControl", "service", &["1"]);
        self.expect(section, "LoadOrderGroup", "service", &["NDIS"]);
        let binary = self.value(section, "ServiceBinary").unwrap_or_default();
        let place = format!("%{directory}%\\");
        match binary.strip_prefix(&place) {
            Some(file) if copied.contains(&file.to_ascii_lowercase()) => {}
            Some(file) => {
                self.fault(section, "ServiceBinary", "service-binary", format!("{file} is not copied"));
            }
            None => {
                let text = format!("ServiceBinary is {binary:?}; for these builds it lies in {place}");
                self.fault(section, "ServiceBinary", "dirid", text);
            }
        }
        for registry in fields(&self.value(section, "AddReg").unwrap_or_default()) {
            if registry.is_empty() || !self.refer(section, "AddReg", &registry) {
                continue;
            }
            for line in self.registry(&registry) {
                let key = line.get(1).map(String::as_str).unwrap_or_default();
                if !key.eq_ignore_ascii_case("Parameters") && !key.starts_with("Parameters\\") {
                    let text = "a service's values lie under Parameters, never directly under its key";
                    self.fault(&registry, &line.join(","), "isolation", text);
                }
            }
        }
    }

    /// The lines of an `AddReg` section, by their fields. Only HKR is isolated.
    fn registry(&mut self, section: &str) -> Vec<Vec<String>> {
        let mut lines = Vec::new();
        for entry in self.entries(section) {
            let line = match entry {
                Entry::OnlyValue(value) => value,
                Entry::KeyValue(key, value) => format!("{key}={value}"),
            };
            let parts = fields(&line);
            if !parts.first().is_some_and(|root| root.eq_ignore_ascii_case("HKR")) {
                self.fault(
                    section,
                    &line,
                    "isolation",
                    "only HKR is allowed: a package keeps to its own keys",
                );
            }
            lines.push(parts);
        }
        lines
    }

    /// `Ndi` and what lies below it.
    fn component(&mut self, section: &str) {
        let lines = self.registry(section);
        let find = |key: &str, name: &str| {
            let found = lines.iter().find(|line| {
                line.get(1).is_some_and(|found| found.eq_ignore_ascii_case(key))
                    && line.get(2).is_some_and(|found| found.eq_ignore_ascii_case(name))
            });
            found.and_then(|line| line.get(4..)).map(|rest| rest.join(","))
        };
        let (run, kind, class) =
            (find("Ndi", "FilterRunType"), find("Ndi", "FilterType"), find("Ndi", "FilterClass"));
        let mut expect = |key: &str, name: &str, rule: &'static str, allowed: &[&str]| {
            let about = format!("HKR,{key},{name}");
            match find(key, name) {
                None => self.fault(section, "", rule, format!("{key},{name} is missing")),
                Some(value) if !allowed.contains(&value.as_str()) => {
                    let text = format!("{key},{name} is {value:?}; it must be {}", allowed.join(" or "));
                    self.fault(section, &about, rule, text);
                }
                Some(_) => {}
            }
        };
        expect("Ndi", "Service", "service-name", &[sluice_abi::SERVICE_NAME]);
        expect("Ndi", "CoServices", "service-name", &[sluice_abi::SERVICE_NAME]);
        expect("Ndi", "FilterType", "filter-type", &["1", "2"]);
        expect("Ndi", "FilterRunType", "filter-run-type", &["1", "2"]);
        expect("Ndi\\Interfaces", "UpperRange", "interfaces", &["noupper"]);
        expect("Ndi\\Interfaces", "LowerRange", "interfaces", &["nolower"]);
        match (kind.as_deref(), class.as_deref()) {
            (Some("2"), Some(class)) if FILTER_CLASSES.contains(&class) => {}
            (Some("2"), class) => {
                let text =
                    format!("FilterClass is {class:?}; a modifying filter has one of the documented ones");
                self.fault(section, "HKR,Ndi,FilterClass", "filter-class", text);
            }
            (Some("1"), Some(_)) => {
                let text = "a monitoring filter has no FilterClass";
                self.fault(section, "HKR,Ndi,FilterClass", "filter-class", text);
            }
            _ => {}
        }
        if (kind.as_deref(), run.as_deref()) == (Some("1"), Some("1")) {
            let text = "a monitoring filter that is mandatory makes adapters unusable";
            self.fault(section, "HKR,Ndi,FilterRunType", "filter-run-type", text);
        }
        let media = find("Ndi\\Interfaces", "FilterMediaTypes").unwrap_or_default();
        let media: Vec<&str> = media.split(',').map(str::trim).collect();
        let place = |class: &str| FILTER_CLASSES.iter().position(|known| *known == class);
        if let Some(class) = class.as_deref().filter(|_| media.contains(&"wlan"))
            && place(class) > place(LOWEST_FOR_WIFI)
        {
            let text = format!(
                "with wlan among FilterMediaTypes the class is {LOWEST_FOR_WIFI} or above, not {class}"
            );
            self.fault(section, "HKR,Ndi,FilterClass", "filter-class", text);
        }
        for wanted in ["ethernet", "wlan"] {
            if !media.contains(&wanted) {
                let text = format!("FilterMediaTypes has no {wanted}");
                self.fault(section, "HKR,Ndi\\Interfaces,FilterMediaTypes", "interfaces", text);
            }
        }
    }

    /// Source disks.
    fn files(&mut self) {
        for entry in self.entries("SourceDisksFiles") {
            let Entry::KeyValue(file, disk) = entry else { continue };
            let disk = fields(&disk).into_iter().next().unwrap_or_default();
            if self.value("SourceDisksNames", &disk).is_none() {
                self.fault("SourceDisksFiles", &file, "source-files", format!("there is no disk {disk}"));
            }
        }
    }

    /// Every %token% is defined, and every string used.
    fn strings(&mut self) {
        let mut defined = BTreeSet::new();
        for entry in self.entries("Strings") {
            if let Entry::KeyValue(name, _) = entry {
                defined.insert(name.to_ascii_lowercase());
            }
        }
        let (mut section, mut used, mut missing) = (String::new(), BTreeSet::new(), Vec::new());
        for (index, line) in self.text.lines().enumerate() {
            let line = line.trim();
            if line.starts_with('[') {
                line.trim_matches(['[', ']']).clone_into(&mut section);
            } else if !line.starts_with(';') && !section.eq_ignore_ascii_case("Strings") {
                for token in line.split('%').skip(1).step_by(2) {
                    let token = token.to_ascii_lowercase();
                    let directory = token.parse::<u32>().is_ok();
                    if !directory && !defined.contains(&token) {
                        missing.push((index + 1, section.clone(), token.clone()));
                    }
                    used.insert(token);
                }
            }
        }
        for (line, section, token) in missing {
            let text = format!("%{token}% is not in [Strings]");
            self.faults.push(Fault { line, section, rule: "undefined-string", text });
        }
        for name in defined.difference(&used) {
            self.fault("Strings", name, "unused-string", format!("{name} is used nowhere"));
        }
    }

    /// Sections that nothing refers to, and sections that stand twice.
    fn sections(&mut self) {
        const KNOWN: [&str; 6] =
            ["version", "manufacturer", "destinationdirs", "sourcedisksnames", "sourcedisksfiles", "strings"];
        let mut seen = BTreeSet::new();
        let headers: Vec<(usize, String)> = self
            .text
            .lines()
            .enumerate()
            .filter_map(|(index, line)| {
                let name = line.trim().strip_prefix('[')?.strip_suffix(']')?;
                Some((index + 1, name.to_owned()))
            })
            .collect();
        for (line, name) in headers {
            let folded = name.to_ascii_lowercase();
            let fault = |rule, text: &str| Fault { line, section: name.clone(), rule, text: text.to_owned() };
            if !seen.insert(folded.clone()) {
                self.faults.push(fault("duplicate-section", "the section stands twice"));
            } else if !KNOWN.contains(&folded.as_str()) && !self.referenced.contains(&folded) {
                self.faults.push(fault("dead-section", "nothing refers to the section"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right() -> String {
        let path = crate::process::root().join("target/sluice/sluice.inf");
        std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; run: cargo xtask build", path.display()))
    }

    fn lint(text: &str, name: &str) -> Vec<Fault> {
        let path = crate::process::scratch(&format!("lint-{name}.inf"));
        std::fs::write(&path, text).unwrap();
        let found = faults(&path, Arch::X64).unwrap();
        std::fs::remove_file(&path).unwrap();
        found
    }

    #[test]
    fn the_shipped_inf_has_no_fault() {
        assert_eq!(lint(&right(), "right"), []);
    }

    /// What is changed in the right INF, and the rule and section that find it.
    const WRONG: [(&str, &str, &str, &str); 25] = [
        ("Class       = NetService", "Class       = NetTrans", "version", "Version"),
        ("$Windows NT$", "$Chicago$", "version", "Version"),
        ("CatalogFile = sluice.cat", "", "catalog", "Version"),
        ("PnpLockdown = 1", "PnpLockdown = 0", "pnp-lockdown", "Version"),
        ("DriverVer = ", "DriverVer = 1/2/26,", "driver-ver", "Version"),
        (",NTamd64.10.0...25319", ",NTarm64.10.0...25319", "architecture", "Manufacturer"),
        (",NTamd64.10.0...25319", "", "models", "Manufacturer"),
        (
            "Install.Store, Sluice_sluice",
            "Install.Store, sluice",
            "component-id",
            "Sluice.NTamd64.10.0...25319",
        ),
        ("Files.Store   = 13", "Files.Store   = 12", "dirid", "DestinationDirs"),
        ("%12%\\sluice.sys", "%13%\\sluice.sys", "dirid", "Service.Drivers"),
        ("sluice.sys = 1", "sluice.sys = 2", "source-files", "SourceDisksFiles"),
        ("sluice.sys,,,2", "other.sys,,,2", "source-files", "Files.Drivers"),
        ("Characteristics  = 0x40000", "Characteristics  = 0x400", "characteristics", "Install.Drivers"),
        ("{6E1B57A4", "{6E1B57A5", "guid", "Install.Drivers"),
        (
            "AddService = sluice,,Service.Drivers",
            "AddService = other,,Service.Drivers",
            "service-name",
            "Install.Drivers.Services",
        ),
        (
            "DelService = sluice,0x200",
            "DelService = sluice",
            "del-service",
            "Install.Drivers.Remove.Services",
        ),
        ("HKR, Ndi, CoServices", "HKLM, Ndi, CoServices", "isolation", "Install.Component"),
        ("FilterClass,, compression", "FilterClass,, firewall", "filter-class", "Install.Component"),
        ("FilterClass,, compression", "FilterClass,, custom", "filter-class", "Install.Component"),
        ("FilterType, 0x00010001, 2", "FilterType, 0x00010001, 3", "filter-type", "Install.Component"),
        ("\"ethernet, wlan\"", "\"ethernet\"", "interfaces", "Install.Component"),
        ("StartType      = 1", "StartType      = 2", "service", "Service.Drivers"),
        (
            "LoadOrderGroup = NDIS",
            "AddReg = Values\r\nLoadOrderGroup = NDIS\r\n\r\n[Values]\r\nHKR,,Speed,,1\r\n",
            "isolation",
            "Values",
        ),
        ("HelpText    = ", "Help        = ", "undefined-string", "Install.Component"),
        ("[Install.Store.Services]", "[Install.Shop.Services]", "missing-section", "Install.Store"),
    ];

    #[test]
    fn each_wrong_inf_is_rejected_with_its_section_line_and_rule() {
        for (index, (find, put, rule, section)) in WRONG.into_iter().enumerate() {
            let right = right();
            assert!(right.contains(find), "{find}");
            let found = lint(&right.replacen(find, put, 1), &index.to_string());
            let hit = found.iter().find(|fault| fault.rule == rule && fault.section == section);
            let hit = hit.unwrap_or_else(|| panic!("{find} -> {put}: {rule} expected, found {found:#?}"));
            assert!(hit.line > 0 && hit.to_string().contains(rule), "{hit}");
        }
    }

    /// Where a filter sits over Wi-Fi is said three times.
    #[test]
    fn template_and_document_have_one_word_on_the_class() {
        let read = |name: &str| std::fs::read_to_string(crate::process::root().join(name)).unwrap();
        let class =
            right().lines().find_map(|line| line.strip_prefix("HKR, Ndi, FilterClass,, ").map(str::to_owned));
        let class = class.unwrap();
        assert!(read("inf/sluice.inx").contains(&format!("Class {class} sits above it")));
        assert!(read("docs/install.md").contains(&format!("`FilterClass` is `{class}`")));
        for text in [read("inf/sluice.inx"), read("docs/install.md")] {
            assert!(text.contains("NdisMedium802_3") && text.contains("To be seen on Windows"));
        }
        let driver = read("driver/src/module.rs");
        assert!(driver.contains("NdisMedium802_3") && driver.contains("NDIS_STATUS_UNSUPPORTED_MEDIA"));
    }

    #[test]
    fn fields_keep_commas_inside_quotes() {
        assert_eq!(fields("HKR, Ndi, Help,, \"a, b\""), ["HKR", "Ndi", "Help", "", "a, b"]);
    }
}
