//! What people and scripts rely on in the client: totals in every ending, adapters that go away, names, output.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that finds nothing there has failed"
)]
mod programs;

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use programs::{Machine, json, root, text, tool};
use serde_json::Value;
use sluice_suite::captures::plain_frames;

const PATIENCE: Duration = Duration::from_secs(20);

fn mixed() -> String {
    root().join("tests/captures/mixed.pcap").to_str().unwrap().to_owned()
}

fn place(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("sluice-{name}-{}", std::process::id()))
}

/// Sends a signal by its name.
fn signal(child: &Child, name: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", child.id())]).status().unwrap();
    assert!(sent.success());
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Machine {
    fn start_client(&self, arguments: &[&str]) -> Child {
        let mut client = tool("sluice");
        client.arg("--machine").arg(&self.socket).args(arguments);
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn adapter(&self, number: usize) -> Value {
        json(&self.operate(&["status"]))["adapters"][number].clone()
    }

    fn on_wire(&self) -> u64 {
        self.adapter(0)["frames_on_wire"].as_u64().unwrap()
    }

    fn disable(&self) {
        assert!(self.operate(&["disable", "0"]).status.success());
        until("the adapter is not disabled", || {
            let adapter = self.adapter(0);
            adapter["state"] == "disabled" && adapter["settled"] == true
        });
    }

    fn enable(&self) {
        assert!(self.operate(&["enable", "0"]).status.success());
    }
}

#[test]
fn what_is_refused_while_the_adapter_is_away_is_sent_when_it_is_back() {
    let folder = place("again");
    let machine = Machine::start("again", &["--adapters=1", "--captures", folder.to_str().unwrap()]);
    let client = machine.start_client(&["--json", "send", "10", &mixed(), "--loop=40", "--wait=60"]);
    for round in 1..=3 {
        until("nothing is sent", || machine.on_wire() > round * 1000);
        assert!(machine.operate(&["disable", "0", "--in-flight=64"]).status.success());
        until("the adapter is not disabled", || {
            let adapter = machine.adapter(0);
            adapter["state"] == "disabled" && adapter["settled"] == true
        });
        machine.enable();
    }
    let output = client.wait_with_output().unwrap();
    let said = json(&output);
    assert_eq!(output.status.code(), Some(0), "{said} {}", text(&output.stderr));
    assert_eq!((&said["frames_sent"], &said["frames_paused"]), (&12_000.into(), &0.into()), "{said}");
    assert!(said["removals"].as_u64().unwrap() >= 3, "{said}");
    machine.shut_down();
    let wire = plain_frames(File::open(folder.join("adapter0.pcapng")).unwrap()).unwrap();
    let frames = plain_frames(File::open(mixed()).unwrap()).unwrap();
    assert_eq!(wire.len(), 12_000);
    let count = |frames: &[Vec<u8>], frame: &Vec<u8>| frames.iter().filter(|other| *other == frame).count();
    for frame in &frames {
        assert_eq!(count(&wire, frame), 40 * count(&frames, frame), "each once in each pass");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn an_adapter_that_is_away_at_the_start_is_waited_for() {
    let machine = Machine::start("away", &["--adapters=1"]);
    machine.disable();
    let refused = machine.client(&["--json", "send", "10", &mixed()]);
    assert_eq!((refused.status.code(), &json(&refused)["exit_code"]), (Some(5), &5.into()));
    let client = machine.start_client(&["--json", "send", "Adapter 0", &mixed(), "--wait=60"]);
    std::thread::sleep(Duration::from_millis(300));
    machine.enable();
    let output = client.wait_with_output().unwrap();
    assert_eq!(json(&output)["frames_sent"], 300, "{}", text(&output.stderr));
    machine.shut_down();
}

#[test]
fn a_wait_that_is_over_says_who_did_not_come_back() {
    let machine = Machine::start("over", &["--adapters=1"]);
    let mut client = machine.start_client(&["--json", "send", "10", "-", "--wait=1"]);
    let mut input = client.stdin.take().unwrap();
    let capture = std::fs::read(mixed()).unwrap();
    input.write_all(&capture).unwrap();
    until("nothing is sent", || machine.on_wire() == 300);
    machine.disable();
    // The client reads no further than it sends, and ends without reading all of this.
    let _ = input.write_all(&capture[24..]);
    drop(input);
    let output = client.wait_with_output().unwrap();
    let said = json(&output);
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(said["error"], "the adapter \"Simulated Ethernet Adapter 0\" did not come back within 1 s");
    assert_eq!(said["frames_sent"], 300, "totals beside the error: {said}");
    machine.shut_down();
}

#[test]
fn time_that_the_client_was_stopped_is_no_waiting() {
    let machine = Machine::start("asleep", &["--adapters=1"]);
    machine.disable();
    let client = machine.start_client(&["--json", "send", "10", &mixed(), "--wait=2"]);
    std::thread::sleep(Duration::from_millis(500));
    signal(&client, "STOP");
    std::thread::sleep(Duration::from_secs(3));
    signal(&client, "CONT");
    std::thread::sleep(Duration::from_millis(200));
    machine.enable();
    let output = client.wait_with_output().unwrap();
    assert_eq!(json(&output)["frames_sent"], 300, "{}", text(&output.stderr));
    machine.shut_down();
}

#[test]
fn a_loop_of_zero_goes_on_until_ctrl_c_and_tells_its_totals() {
    let machine = Machine::start("endless", &["--adapters=1"]);
    let client = machine.start_client(&["--json", "send", "10", &mixed(), "--loop=0"]);
    until("nothing is sent", || machine.on_wire() > 1000);
    signal(&client, "INT");
    let output = client.wait_with_output().unwrap();
    let said = json(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!((&said["interrupted"], &said["frames_unanswered"]), (&true.into(), &0.into()));
    assert_eq!(said["frames_sent"], machine.on_wire());
    machine.shut_down();
}

#[test]
fn a_client_whose_driver_keeps_everything_ends_at_the_third_ctrl_c() {
    let machine = Machine::start("kept", &["--adapters=1"]);
    let client = machine.start_client(&["--json", "send", "10", &mixed(), "--loop=0"]);
    until("nothing is sent", || machine.on_wire() > 1000);
    let kernel = machine.child.as_ref().unwrap();
    signal(kernel, "STOP");
    std::thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    for _ in 0..3 {
        signal(&client, "INT");
        std::thread::sleep(Duration::from_millis(150));
    }
    let output = client.wait_with_output().unwrap();
    signal(kernel, "CONT");
    assert!(began.elapsed() < Duration::from_secs(5));
    let said = json(&output);
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert_eq!(said["frames_unanswered"], 512, "four requests of 128: {said}");
    assert!(text(&output.stderr).contains("512 frames are outstanding"), "{}", text(&output.stderr));
    machine.shut_down();
}

#[test]
fn the_file_of_outcomes_has_a_line_for_each_frame() {
    let machine = Machine::start("outcomes", &["--adapters=1", "--fails-every=3"]);
    let file = place("outcomes.tsv");
    let path = file.to_str().unwrap();
    let output = machine.client(&["--json", "send", "10", &mixed(), "--loop=2", "--outcomes", path]);
    assert_eq!(output.status.code(), Some(6));
    let said = json(&output);
    let lines = std::fs::read_to_string(&file).unwrap();
    let rows: Vec<Vec<&str>> = lines.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows.len(), 600);
    for (index, row) in rows.iter().enumerate() {
        assert_eq!(row[0], (index + 1).to_string());
    }
    let with = |outcome: &str, status: &str| rows.iter().filter(|row| row[1..] == [outcome, status]).count();
    assert_eq!(with("sent", "0x00000000"), said["frames_sent"].as_u64().unwrap() as usize);
    assert_eq!(with("failed", "0xc0000001"), said["frames_failed"].as_u64().unwrap() as usize);
    assert_eq!(with("sent", "0x00000000") + with("failed", "0xc0000001"), 600);
    let full = machine.client(&["--json", "send", "10", &mixed(), "--loop=200", "--outcomes", "/dev/full"]);
    assert_eq!(full.status.code(), Some(1));
    assert!(json(&full)["error"].as_str().unwrap().starts_with("/dev/full: No space"), "{}", json(&full));
    std::fs::remove_file(file).unwrap();
    machine.shut_down();
}

#[test]
fn a_capture_is_never_overwritten_with_its_outcomes() {
    let machine = Machine::start("overwritten", &["--adapters=1"]);
    let (capture, link) = (place("capture"), place("link"));
    std::fs::copy(mixed(), &capture).unwrap();
    std::os::unix::fs::symlink(&capture, &link).unwrap();
    let bytes = std::fs::read(&capture).unwrap();
    let (file, other) = (capture.to_str().unwrap(), link.to_str().unwrap());
    for (input, outcomes) in [(file, file), (file, other), (other, file), ("-", file)] {
        let mut client = tool("sluice");
        client.arg("--machine").arg(&machine.socket).args(["send", "10", input, "--outcomes", outcomes]);
        let output = client.stdin(File::open(&capture).unwrap()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{input} {outcomes}");
        let said = text(&output.stderr);
        assert!(said.contains("the file of outcomes is the capture"), "{said}");
        assert_eq!(std::fs::read(&capture).unwrap(), bytes, "{input} {outcomes}");
    }
    assert_eq!(machine.on_wire(), 0);
    std::fs::remove_file(capture).unwrap();
    std::fs::remove_file(link).unwrap();
    machine.shut_down();
}

#[test]
fn what_is_left_out_is_counted_by_its_reason() {
    let machine = Machine::start("skipped", &["--adapters=1"]);
    let file = place("skipped.tsv");
    let mut client = machine.start_client(&[
        "--json",
        "send",
        "10",
        "-",
        "--skip-unsendable",
        "--outcomes",
        file.to_str().unwrap(),
    ]);
    let mut capture = std::fs::read(mixed()).unwrap();
    let record = |length: u32, original: u32| {
        let mut record = [0; 16];
        record[8..12].copy_from_slice(&length.to_le_bytes());
        record[12..].copy_from_slice(&original.to_le_bytes());
        [&record[..], &vec![0; length as usize]].concat()
    };
    for (length, original) in [(9000, 9000), (60, 100), (13, 13), (60, 60)] {
        capture.extend(record(length, original));
    }
    capture.extend([0; 5]);
    client.stdin.take().unwrap().write_all(&capture).unwrap();
    let output = client.wait_with_output().unwrap();
    let said = json(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!((&said["frames_sent"], &said["frames_skipped"]), (&301.into(), &4.into()));
    let reasons = serde_json::json!({ "too_long": 1, "cut": 1, "too_short": 1, "unfinished": 1 });
    assert_eq!(said["skipped"], reasons);
    let lines = std::fs::read_to_string(&file).unwrap();
    let last: Vec<&str> = lines.lines().skip(300).collect();
    assert_eq!(last, ["301\tskipped\t-", "302\tskipped\t-", "303\tskipped\t-", "304\tsent\t0x00000000"]);
    std::fs::remove_file(file).unwrap();
    machine.shut_down();
}

#[test]
fn what_arrives_through_a_pipe_is_sent_as_it_arrives() {
    let machine = Machine::start("live", &["--adapters=1"]);
    let capture = std::fs::read(mixed()).unwrap();
    let mut client = machine.start_client(&["--json", "send", "10", "-"]);
    let mut input = client.stdin.take().unwrap();
    // The header and the first frame; what follows comes later.
    let first = 24 + 16 + u32::from_le_bytes(capture[32..36].try_into().unwrap()) as usize;
    input.write_all(&capture[..first]).unwrap();
    until("the first frame is not sent before the second arrives", || machine.on_wire() == 1);
    // A frame that no adapter takes ends the run; what was before it is accounted for beside the error.
    input.write_all(&capture[first..]).unwrap();
    input.write_all(&[0; 16]).unwrap();
    drop(input);
    let output = client.wait_with_output().unwrap();
    let said = json(&output);
    assert_eq!((output.status.code(), &said["frames_sent"]), (Some(8), &300.into()), "{said}");
    assert_eq!(said["error"], "standard input: frame 301 has 0 bytes; an Ethernet frame has at least 14");
    machine.shut_down();
}

#[test]
fn an_adapter_is_named_in_many_ways_and_never_by_chance() {
    let machine = Machine::start("names", &[]);
    let frame = "ff".repeat(60);
    let code = |name: &str| machine.client(&["send", name, "--hex", &frame]).status.code();
    let adapters = json(&machine.client(&["list", "--json"]))["adapters"].clone();
    let guid = adapters[1]["guid"].as_str().unwrap();
    let names =
        ["11", guid, guid.trim_matches(['{', '}']), "02:51:1c:e0:00:01", "02-51-1C-E0-00-01", "adapter 1"];
    for name in names {
        assert_eq!(code(name), Some(0), "{name}");
    }
    assert_eq!(machine.adapter(1)["frames_on_wire"], names.len());
    for name in ["1", "0", "12", "nobody", ""] {
        assert_eq!(code(name), Some(5), "{name}");
    }
    let several = machine.client(&["send", "simulated", "--hex", &frame]);
    assert_eq!(several.status.code(), Some(5));
    let said = text(&several.stderr);
    assert!(said.contains("matches 2 adapters") && said.contains(guid), "{said}");
    assert_eq!(machine.on_wire(), 0);
    machine.shut_down();
}

#[test]
fn hexadecimal_text_has_many_forms() {
    let machine = Machine::start("hex", &["--adapters=1"]);
    let bytes: Vec<u8> = (0..30).collect();
    let hex =
        |separator: &str| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(separator);
    for separator in ["", "-", ":", " "] {
        let output = machine.client(&["send", "10", "--hex", &hex(separator)]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
    let mut client = machine.start_client(&["send", "10", "--hex", "-"]);
    let dump =
        "\t0x0000:  0001 0203 0405 0607 0809 0a0b 0c0d 0e0f\n\t0x0010:  1011 1213 1415 1617 1819 1a1b 1c1d\n";
    client.stdin.take().unwrap().write_all(dump.as_bytes()).unwrap();
    assert!(client.wait_with_output().unwrap().status.success());
    let statistics = json(&machine.client(&["--json", "stats", "10"]));
    assert_eq!((&statistics["frames_sent"], &statistics["bytes_sent"]), (&5.into(), &150.into()));
    machine.shut_down();
}

#[test]
fn a_closed_pipe_ends_quietly_and_a_full_disk_with_an_error() {
    let machine = Machine::start("output", &[]);
    let verbs: [&[&str]; 4] =
        [&["list"], &["--json", "list"], &["stats", "10"], &["send", "10", &mixed(), "--dry-run"]];
    for verb in verbs {
        let mut client = tool("sluice");
        client.arg("--machine").arg(&machine.socket).args(verb);
        let full = client.stdout(File::options().write(true).open("/dev/full").unwrap()).output().unwrap();
        assert_eq!(full.status.code(), Some(1), "{verb:?}");
        assert!(
            text(&full.stderr).starts_with("sluice: standard output: No space left"),
            "{}",
            text(&full.stderr)
        );
        // A reader that is gone before the first word, as `| true` is.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let closed = client.stdout(writer).output().unwrap();
        assert_eq!((closed.status.code(), text(&closed.stderr).as_str()), (Some(0), ""), "{verb:?}");
    }
    // Even with both outputs full there is no panic.
    let mut client = tool("sluice");
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let status = client.arg("list").stdout(full()).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(2));
    machine.shut_down();
}

#[test]
fn errors_of_usage_are_objects_too() {
    for arguments in
        [&["--json", "send", "10"][..], &["--json"], &["--json", "nonsense"], &["--json", "list"]]
    {
        let output = tool("sluice").args(arguments).output().unwrap();
        let said = json(&output);
        assert_eq!((output.status.code(), &said["exit_code"]), (Some(2), &2.into()), "{arguments:?}");
        assert!(said["error"].as_str().is_some_and(|error| !error.is_empty()), "{said}");
    }
    let help = tool("sluice").args(["send", "--help"]).output().unwrap();
    assert!(help.status.success() && text(&help.stdout).contains("--skip-unsendable"));
}

#[test]
fn file_names_are_what_they_are_and_reach_the_terminal_clean() {
    use std::os::unix::ffi::OsStrExt;
    let folder = place("file-names");
    std::fs::create_dir_all(&folder).unwrap();
    for name in [&b"bad\xff\xfe.pcap"[..], b"with space.pcap", "ünïcode-файл-捕获.pcap".as_bytes()] {
        let file = folder.join(std::ffi::OsStr::from_bytes(name));
        std::fs::copy(mixed(), &file).unwrap();
        let shown = tool("sluice").args(["send", "any"]).arg(&file).arg("--dry-run").output().unwrap();
        assert!(shown.status.success(), "{}", text(&shown.stderr));
    }
    let missing =
        tool("sluice").args(["send", "any", "no\u{1b}[31m\nsuch.pcap", "--dry-run"]).output().unwrap();
    let said = text(&missing.stderr);
    assert!(said.contains("no\\u{1b}[31m\\nsuch.pcap: No such file") && !said.contains('\u{1b}'), "{said}");
    let directory = tool("sluice").args(["send", "any", "/tmp", "--dry-run"]).output().unwrap();
    assert_eq!(directory.status.code(), Some(8), "{}", text(&directory.stderr));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn an_adapters_mtu_decides_what_it_takes_up_to_what_the_driver_uses() {
    let machine = Machine::start("mtu", &["--adapters=1", "--mtu=20000"]);
    let frame = |length: usize| format!("{}88b5{}", "02".repeat(12), "00".repeat(length - 14));
    assert_eq!(machine.client(&["send", "10", "--hex", &frame(16_398)]).status.code(), Some(0));
    let refused = machine.client(&["send", "10", "--hex", &frame(16_399)]);
    assert_eq!(refused.status.code(), Some(8));
    assert!(text(&refused.stderr).contains("14 to 16398 bytes"), "{}", text(&refused.stderr));
    machine.shut_down();
}

#[test]
fn a_capture_of_the_wire_is_whole_while_the_machine_runs_and_however_it_ends() {
    for name in ["TERM", "INT", "KILL"] {
        let folder = place(name);
        let mut machine = Machine::start(name, &["--adapters=1", "--captures", folder.to_str().unwrap()]);
        let wire = || plain_frames(File::open(folder.join("adapter0.pcapng")).unwrap()).unwrap().len();
        assert!(machine.client(&["send", "10", &mixed()]).status.success());
        assert_eq!(wire(), 300, "while it runs");
        let mut child = machine.child.take().unwrap();
        signal(&child, name);
        let status = child.wait().unwrap();
        assert_eq!(wire(), 300, "after {name}");
        if name != "KILL" {
            let mut last = String::new();
            child.stdout.take().unwrap().read_to_string(&mut last).unwrap();
            assert!(status.success(), "{status}");
            let last: Value = serde_json::from_str(&last).unwrap();
            assert_eq!(last["adapters"][0]["frames_on_wire"], 300);
            assert!(!machine.socket.exists(), "{name} leaves the socket behind");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn a_capture_that_is_looped_through_a_pipe_is_kept_or_refused() {
    let machine = Machine::start("looped", &["--adapters=1"]);
    let run = |file: &Path, copies: usize| {
        let capture = std::fs::read(mixed()).unwrap();
        let mut client = machine.start_client(&["--json", "send", "10", file.to_str().unwrap(), "--loop=3"]);
        let mut input = client.stdin.take().unwrap();
        let feeder = std::thread::spawn(move || {
            // A client that has seen too much does not read on.
            let _ = input.write_all(&capture);
            for _ in 1..copies {
                let _ = input.write_all(&capture[24..]);
            }
        });
        let output = client.wait_with_output().unwrap();
        feeder.join().unwrap();
        (output.status.code(), json(&output))
    };
    let (code, said) = run(Path::new("-"), 1);
    assert_eq!((code, &said["frames_sent"]), (Some(0), &900.into()), "{said}");
    let (code, said) = run(Path::new("-"), 100);
    assert_eq!((code, &said["frames_sent"]), (Some(8), &0.into()), "{said}");
    assert!(said["error"].as_str().unwrap().contains("save it to a file"), "{said}");
    machine.shut_down();
}

#[test]
fn a_folder_or_a_file_that_is_not_there_is_said_before_anything_else() {
    for (file, why) in [("/nonexistent.pcap", "No such file"), ("/tmp", "is a folder")] {
        let output = Command::new(root().join("target/tools/sluice"))
            .args(["--machine", "/nonexistent.sock", "send", "10", file])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(8), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains(why), "{}", text(&output.stderr));
    }
}
