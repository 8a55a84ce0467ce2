//! Captures of every kind, from the file to the wire.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that finds nothing there has failed"
)]
mod programs;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use programs::{Machine, json, text, tool};
use sluice_client::capture::{Direction, Frame, Reader};
use sluice_suite::captures::{Case, cases, plain_frames};

/// A folder with the cases, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sluice-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, case: &Case) -> PathBuf {
        let path = self.0.join(case.name);
        std::fs::write(&path, &case.bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn frames(case: &str) -> Vec<Frame> {
    let case = cases().into_iter().find(|known| known.name == case).unwrap_or_else(|| panic!("{case}"));
    let mut reader = Reader::new(Box::new(std::io::Cursor::new(case.bytes))).unwrap();
    std::iter::from_fn(|| reader.next_frame().unwrap()).collect()
}

#[test]
fn each_capture_is_sent_to_the_byte_or_refused_in_words() {
    let folder = Folder::new("cases");
    let machine = Machine::start("cases", &["--adapters=1", "--captures", folder.0.to_str().unwrap()]);
    let mut expected: Vec<Vec<u8>> = Vec::new();
    let mut named: Vec<(usize, &str)> = Vec::new();
    let cases = cases();
    for case in &cases {
        let file = folder.write(case);
        let path = file.to_str().unwrap();
        let run = |more: &[&str]| {
            let output = machine.client(&[&["--json", "send", "10", path], more].concat());
            (output.status.code(), json(&output))
        };
        let (code, said) = run(&[]);
        named.push((expected.len(), case.name));
        if let Some(why) = case.refused {
            assert_eq!(code, Some(8), "{}: {said}", case.name);
            assert_eq!(said["error"], format!("{path}: {why}"));
            assert_eq!(said["frames_sent"], 0, "{}", case.name);
            let (code, said) = run(&["--skip-unsendable"]);
            let fails = case.refused_always || case.frames.is_empty();
            assert_eq!(code, Some(if fails { 8 } else { 0 }), "{}: {said}", case.name);
            assert_eq!(said["frames_sent"], case.frames.len(), "{}: {said}", case.name);
            if case.refused_always {
                assert_eq!(said["error"], format!("{path}: {why}"));
            }
        } else {
            assert_eq!(
                (code, &said["frames_sent"]),
                (Some(0), &case.frames.len().into()),
                "{}: {said}",
                case.name
            );
        }
        let dry = tool("sluice").args(["send", "any", path, "--dry-run"]).output().unwrap();
        assert_eq!(dry.status.code(), Some(if case.refused.is_some() { 8 } else { 0 }), "{}", case.name);
        assert!(case.refused.is_none_or(|why| text(&dry.stderr).contains(why)), "{}", text(&dry.stderr));
        expected.extend(case.frames.iter().cloned());
    }
    machine.shut_down();
    let wire = plain_frames(File::open(folder.0.join("adapter0.pcapng")).unwrap()).unwrap();
    for (index, (on_wire, frame)) in wire.iter().zip(&expected).enumerate() {
        let case = named.iter().rev().find(|(first, _)| *first <= index).unwrap().1;
        assert_eq!(on_wire, frame, "{case}");
    }
    assert_eq!(wire.len(), expected.len());
    assert!(cases.len() >= 114, "{}", cases.len());
}

#[test]
fn what_tcpdump_reads_is_what_is_sent() {
    let folder = Folder::new("tcpdump");
    let (mut equal, mut unlike, mut wrong) = (0, 0, Vec::new());
    for case in cases() {
        let path = folder.write(&case);
        // Whoever runs this as root keeps the right to read the folder.
        let mut tcpdump = Command::new("/usr/bin/tcpdump");
        tcpdump.args(["-Z", "root", "-r"]).arg(&path).args(["-w", "-"]);
        let output = tcpdump.output().expect("tcpdump is there; cargo xtask test installs it");
        let theirs = plain_frames(&output.stdout[..]).unwrap();
        match (case.tcpdump, theirs == case.frames) {
            (None, true) => equal += 1,
            (Some(why), false) => {
                println!("{}: tcpdump {}, sent {}: {why}", case.name, theirs.len(), case.frames.len());
                unlike += 1;
            }
            (why, _) => wrong.push((case.name, why, theirs.len(), case.frames.len())),
        }
    }
    assert!(wrong.is_empty(), "no reason, or no difference: {wrong:?}");
    println!("{equal} captures with the frames of tcpdump, {unlike} without");
    assert!(equal >= 70, "{equal}");
}

#[test]
fn a_frame_has_its_time_interface_and_direction() {
    let second = 1_700_000_000_000_000_000;
    let times = |name: &str| frames(name).iter().map(|frame| frame.time_ns.unwrap()).collect::<Vec<i128>>();
    assert_eq!(times("ok.pcap")[..2], [second, second + 1_000_000_000]);
    assert_eq!(times("be.pcap")[4], second + 4_000_000_000);
    assert_eq!(times("nano.pcap")[0], second + 999_999_999);
    assert_eq!(times("usec-1e6.pcap")[0], second + 1_000_000_000);
    assert_eq!(times("time-0.pcap")[0], 0);
    assert_eq!(times("ng.pcapng")[0], second);
    assert_eq!(times("ng-tsresol-1s.pcapng")[0], second);
    assert_eq!(times("ng-tsresol-2^-63.pcapng")[0], 1_000_000_000);
    assert_eq!(times("ng-tsresol-10^-20.pcapng")[0], 17_000, "1.7e15 of 1e-20 s");
    assert_eq!(times("ng-options.pcapng")[0], 1_700_000_000_000_000 + 5_000_000_000, "ns, and 5 s of offset");
    assert_eq!(times("ng-ts-max.pcapng")[0], i128::from(u64::MAX) * 1000);
    assert!(frames("ng-spb.pcapng").iter().all(|frame| frame.time_ns.is_none()));
    let ways: Vec<_> = frames("ng-inbound-outbound.pcapng").iter().map(|frame| frame.direction).collect();
    assert_eq!(ways[..2], [Some(Direction::Inbound), Some(Direction::Outbound)]);
    let interfaces: Vec<_> = frames("ng-two-ifaces-eth.pcapng").iter().map(|frame| frame.interface).collect();
    assert_eq!(interfaces, [0, 1, 0, 1]);
    assert_eq!(frames("ng-fcslen.pcapng")[0].original, 64);
    assert_eq!(frames("snaplen-cut.pcap")[1].original, 64);
}

#[test]
fn captures_with_bytes_changed_or_cut_end_in_frames_or_in_words() {
    let mut random = fastrand::Rng::with_seed(1);
    let cases = cases();
    let (mut whole, mut faults) = (0, 0);
    for _ in 0..20_000 {
        let case = random.choice(&cases).unwrap();
        let mut bytes = case.bytes.clone();
        for _ in 0..random.usize(1..4) {
            if bytes.is_empty() {
                break;
            }
            let at = random.usize(..bytes.len());
            match random.u8(..4) {
                0 => bytes[at] ^= 1 << random.u8(..8),
                1 => bytes[at] = random.u8(..),
                2 => bytes[at] = 0xFF,
                _ => bytes.truncate(at),
            }
        }
        let mut left = bytes.len() + 1;
        let ended = Reader::new(Box::new(std::io::Cursor::new(bytes))).and_then(|mut reader| {
            while let Some(frame) = reader.next_frame()? {
                assert!(frame.unsendable.is_some() || frame.data.len() >= 14);
                left -= 1;
            }
            Ok(())
        });
        match ended {
            Ok(()) => whole += 1,
            Err(fault) => {
                assert!(!fault.to_string().is_empty());
                faults += 1;
            }
        }
    }
    assert!(whole > 1000 && faults > 1000, "{whole} {faults}");
}

/// What a client has used of memory at most, in bytes.
fn peak(client: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", client.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn write_capture(mut out: impl Write, frames: u32) {
    let mut header = vec![0xD4, 0xC3, 0xB2, 0xA1, 2, 0, 4, 0];
    header.extend([0; 8]);
    header.extend([0, 0, 4, 0, 1, 0, 0, 0]);
    out.write_all(&header).unwrap();
    let mut frame = vec![0x5A; 1514];
    frame[12..14].copy_from_slice(&[0x88, 0xB5]);
    let mut record = [0; 16];
    record[8..12].copy_from_slice(&1514u32.to_le_bytes());
    record[12..16].copy_from_slice(&1514u32.to_le_bytes());
    for number in 0..frames {
        frame[14..18].copy_from_slice(&number.to_be_bytes());
        out.write_all(&record).unwrap();
        out.write_all(&frame).unwrap();
    }
}

#[test]
fn memory_does_not_grow_with_the_capture() {
    const FRAMES: u32 = 80_000;
    let machine = Machine::start("memory", &["--adapters=1"]);
    let start = |file: &Path, input: Stdio| {
        let mut client = tool("sluice");
        client.arg("--machine").arg(&machine.socket).args(["--json", "send", "10"]).arg(file);
        client.stdin(input).stdout(Stdio::piped()).spawn().unwrap()
    };
    // By a pipe: the client has read nearly all of it when the last byte is written, and waits for the end.
    let mut client = start(Path::new("-"), Stdio::piped());
    let mut input = client.stdin.take().unwrap();
    write_capture(std::io::BufWriter::new(&mut input), FRAMES);
    let by_pipe = peak(&client);
    drop(input);
    assert_eq!(json(&client.wait_with_output().unwrap())["frames_sent"], FRAMES);
    // By a file: looked at as long as it is sent.
    let folder = Folder::new("memory");
    let file = folder.0.join("large.pcap");
    write_capture(std::io::BufWriter::new(File::create(&file).unwrap()), FRAMES);
    let mut client = start(&file, Stdio::null());
    let mut by_file = 0;
    while client.try_wait().unwrap().is_none() {
        // A client that ends meanwhile has no figure any more.
        let status = std::fs::read_to_string(format!("/proc/{}/status", client.id())).unwrap_or_default();
        if status.contains("VmHWM:") {
            by_file = peak(&client).max(by_file);
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(json(&client.wait_with_output().unwrap())["frames_sent"], FRAMES);
    println!("{} bytes by a pipe, {} by a file, of {} in the capture", by_pipe, by_file, FRAMES * 1530);
    machine.shut_down();
    assert!(by_pipe < 64 << 20 && by_file < 64 << 20 && by_file != 0, "{by_pipe} {by_file}");
}
