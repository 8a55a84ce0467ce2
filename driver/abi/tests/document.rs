//! `docs/ioctl.md` says what the crate says.
#![expect(clippy::unwrap_used, reason = "a test that finds nothing there has failed")]
use std::mem::offset_of;
use std::path::Path;

use sluice_abi::*;

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// Offset, bytes and name of each field of a record, and the record's bytes.
macro_rules! layout {
    ($record:ident { $($field:ident),* }) => {{
        const fn size<T>(_: fn(&$record) -> &T) -> usize {
            size_of::<T>()
        }
        let fields = vec![$((offset_of!($record, $field), size(|record| &record.$field), stringify!($field))),*];
        (stringify!($record), size_of::<$record>(), fields)
    }};
}

#[test]
fn every_record_is_documented_and_has_no_padding() {
    let text = read("../../docs/ioctl.md");
    let records = [
        layout!(VersionReply { abi_major, abi_minor, driver_major, driver_minor, ndis_version, max_frames }),
        layout!(ListHeader { count, total }),
        layout!(ModuleRecord {
            guid,
            luid,
            link_speed,
            if_index,
            mtu,
            state,
            media_connect_state,
            handles,
            name_length,
            mac_length,
            mac,
            name
        }),
        layout!(BindRequest { abi_major, reserved, guid }),
        layout!(SendHeader { abi_major, flags, frame_count }),
        layout!(Statistics {
            frames_submitted,
            frames_sent,
            frames_paused,
            frames_failed,
            frames_in_flight,
            frames_waiting,
            bytes_sent,
            requests,
            pauses,
            pauses_pending,
            passed_through,
            slots,
            memory,
            state,
            reserved
        }),
    ];
    for (record, size, fields) in &records {
        let title = format!("### `{record}`, {size} bytes\n");
        let (_, section) = text.split_once(&title).unwrap_or_else(|| panic!("no heading {title}"));
        let section = section.split("\n### ").next().unwrap();
        let mut next = 0;
        for (offset, bytes, name) in fields {
            assert_eq!(*offset, next, "{record} has padding in front of {name}, or a field is missing here");
            next = offset + bytes;
            let row = format!("| {offset} | {bytes} | `{name}` |");
            assert!(section.contains(&row), "{record}: no row {row}");
        }
        assert_eq!(next, *size, "{record} has padding behind its last field, or one is missing here");
        let rows = section.lines().filter(|line| line.starts_with("| ") && line.contains(" | `"));
        let named = rows.filter(|line| line.as_bytes()[2].is_ascii_digit()).count();
        assert_eq!(named, fields.len(), "{record}: rows of fields that are not there");
    }
    assert!(text.contains(&format!("### `FrameResult`, {} bytes\n", size_of::<FrameResult>())));
}

#[test]
fn every_code_and_constant_is_documented() {
    let text = read("../../docs/ioctl.md");
    let numbers = [
        ("IOCTL_VERSION", IOCTL_VERSION),
        ("IOCTL_LIST", IOCTL_LIST),
        ("IOCTL_BIND", IOCTL_BIND),
        ("IOCTL_SEND", IOCTL_SEND),
        ("IOCTL_STATISTICS", IOCTL_STATISTICS),
        ("SENT", FrameResult::SENT.0),
        ("PAUSED", FrameResult::PAUSED.0),
        ("ABORTED", FrameResult::ABORTED.0),
    ];
    for (name, value) in numbers {
        let row = format!("| `{name}` | {value:#010X} |").replace("0X", "0x");
        assert!(text.contains(&row), "no row {row}");
    }
    let constants = [
        ("ABI_MAJOR", u64::from(ABI_MAJOR)),
        ("ABI_MINOR", u64::from(ABI_MINOR)),
        ("MAX_FRAMES", MAX_FRAMES as u64),
        ("ETHERNET_HEADER", u64::from(ETHERNET_HEADER)),
        ("VLAN_TAG", u64::from(VLAN_TAG)),
        ("MAX_MTU", u64::from(MAX_MTU)),
        ("NAME_UNITS", NAME_UNITS as u64),
        ("STATE_ATTACHING", u64::from(STATE_ATTACHING)),
        ("STATE_PAUSED", u64::from(STATE_PAUSED)),
        ("STATE_RESTARTING", u64::from(STATE_RESTARTING)),
        ("STATE_RUNNING", u64::from(STATE_RUNNING)),
        ("STATE_PAUSING", u64::from(STATE_PAUSING)),
        ("STATE_DETACHED", u64::from(STATE_DETACHED)),
        ("MEMORY_ADAPTER", u64::from(MEMORY_ADAPTER)),
        ("MEMORY_HAL", u64::from(MEMORY_HAL)),
        ("MEMORY_NONPAGED", u64::from(MEMORY_NONPAGED)),
    ];
    for (name, value) in constants {
        let row = format!("| `{name}` | {value} |");
        assert!(text.contains(&row), "no row {row}");
    }
    let texts = [
        ("DEVICE_NAME", DEVICE_NAME),
        ("SYMBOLIC_NAME", SYMBOLIC_NAME),
        ("WIN32_NAME", WIN32_NAME),
        ("DEVICE_SDDL", DEVICE_SDDL),
        ("FILTER_GUID", FILTER_GUID),
        ("SERVICE_NAME", SERVICE_NAME),
        ("FRIENDLY_NAME", FRIENDLY_NAME),
    ];
    for (name, value) in texts {
        let row = format!("| `{name}` | `{value}` |");
        assert!(text.contains(&row), "no row {row}");
    }
}

#[test]
fn nothing_of_the_crate_is_left_out() {
    let text = read("../../docs/ioctl.md");
    for file in ["control.rs", "lib.rs", "names.rs", "record.rs", "send.rs"] {
        for line in read(&format!("src/{file}")).lines() {
            let line = line.trim_start();
            let rest = line.strip_prefix("pub const ").or_else(|| line.strip_prefix("pub struct "));
            let Some(name) =
                rest.and_then(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next())
            else {
                continue;
            };
            assert!(text.contains(&format!("`{name}`")), "docs/ioctl.md does not name {name}");
        }
    }
}

#[test]
fn every_status_of_the_driver_is_documented() {
    let text = read("../../docs/ioctl.md");
    for line in read("../src/status.rs").lines() {
        let Some((name, value)) =
            line.strip_prefix("pub(crate) const ").and_then(|rest| rest.split_once(": NTSTATUS = "))
        else {
            continue;
        };
        let value = value.trim_start_matches("ntstatus(").trim_end_matches([';', ')']).replace('_', "");
        assert!(text.contains(&format!("| `STATUS_{name}` ({value}) |")), "STATUS_{name} ({value})");
    }
}

#[test]
fn a_frame_that_met_a_sleeping_adapter_is_told_as_paused() {
    assert_eq!(FrameResult::of_status(0xC023_002F), FrameResult::PAUSED);
    for status in [0, 0xC023_002A, 0xC023_000C, 0xC000_0001] {
        assert_eq!(FrameResult::of_status(status), FrameResult(status));
    }
}
