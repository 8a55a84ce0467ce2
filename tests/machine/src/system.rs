//! Which Windows the machine is: the build that has its NDIS, and what that build did not export yet.

/// Minor versions of NDIS 6 and the first build of Windows with each (page "Overview of NDIS versions", and `ndis.h`;
/// where they disagree, the header).
const VERSIONS: [(u32, u32); 18] = [
    (0, 6000),
    (1, 6001),
    (20, 7600),
    (30, 9200),
    (40, 9600),
    (50, 10240),
    (51, 10586),
    (60, 14393),
    (70, 15063),
    (80, 16299),
    (81, 17134),
    (82, 17763),
    (83, 18362),
    (84, 19041),
    (85, 20348),
    (86, 22000),
    (87, 22621),
    (88, 25398),
];
/// The newest that the machine knows: 6.89.
const NEWEST: (u32, u32) = (89, 26100);

/// Exports that are newer than Windows 8, and the first build that has them: "Minimum supported client" of their pages.
const SINCE: [(&str, u32); 7] = [
    ("EtwSetInformation", 10240),
    ("ExAllocatePool2", 19041),
    ("ExAllocatePool3", 19041),
    ("ExFreePool2", 19041),
    ("KeQueryInterruptTimePrecise", 9600),
    ("MmMapIoSpaceEx", 10240),
    ("NdisFSynchronousOidRequest", 16299),
];

/// The build of Windows that has a version of NDIS, `(6 << 16) | minor`.
pub fn build_of(ndis_version: u32) -> u32 {
    let minor = ndis_version & 0xFFFF;
    let known = VERSIONS.iter().chain([&NEWEST]).rev().find(|(known, _)| *known <= minor);
    known.map_or(0, |(_, build)| *build)
}

/// The first build that exports a function, of those that are newer than Windows 8.
pub fn first_build(name: &str) -> Option<u32> {
    SINCE.iter().find(|(known, _)| *known == name).map(|(_, build)| *build)
}

/// Whether a build exports a function that the newest one does.
pub(crate) fn exports(build: u32, name: &str) -> bool {
    first_build(name).is_none_or(|first| first <= build)
}

/// How a system says that it does not have an import.
pub(crate) fn missing(build: u32, import: &str) -> String {
    let name = import.rsplit('!').next().unwrap_or(import);
    match first_build(name) {
        Some(first) if first > build => format!("{import}, which is exported from build {first} on"),
        _ => import.to_owned(),
    }
}
