//! The command line against a machine behind a socket, as a person or a script uses both.
mod programs;

use std::process::Stdio;
use std::time::{Duration, Instant};

use programs::{Machine, json, root, text, tool};
use serde_json::Value;
use sluice_suite::image::{Build, path};

#[test]
fn a_capture_is_sent_and_accounted_for() {
    let machine = Machine::start("send", &[]);
    let capture = root().join("tests/captures/mixed.pcap");
    let output = machine.client(&["--json", "send", "Adapter 1", capture.to_str().unwrap(), "--loop", "2"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let sent = json(&output);
    assert_eq!((&sent["frames_submitted"], &sent["frames_sent"]), (&600.into(), &600.into()));
    let statistics = json(&machine.client(&["--json", "stats", "11"]));
    assert_eq!(statistics["frames_sent"], 600);
    assert_eq!(statistics["frames_in_flight"], 0);
    let last = machine.shut_down();
    assert_eq!(last["adapters"][1]["frames_on_wire"], 600);
    assert_eq!(last["adapters"][0]["frames_on_wire"], 0);
}

#[test]
fn the_list_shows_every_adapter() {
    let machine = Machine::start("list", &["--adapters=3"]);
    let output = machine.client(&["list"]);
    let listed = text(&output.stdout);
    assert_eq!(listed.lines().count(), 4, "{listed}");
    assert!(listed.lines().nth(1).unwrap().contains("02:51:1c:e0:00:00"), "{listed}");
    let adapters = json(&machine.client(&["list", "--json"]));
    assert_eq!(adapters["adapters"].as_array().unwrap().len(), 3);
    assert_eq!(adapters["version"], 1);
    assert!(machine.operate(&["disable", "1"]).status.success());
    let began = Instant::now();
    while json(&machine.client(&["list", "--json"]))["adapters"].as_array().unwrap().len() != 2 {
        assert!(began.elapsed() < Duration::from_secs(10));
    }
    machine.shut_down();
}

#[test]
fn each_failure_has_its_exit_code_and_says_what_to_do() {
    let machine = Machine::start("errors", &["--fails-every=2"]);
    let expect = |arguments: &[&str], code: i32, said: &str| {
        let output = machine.client(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output.stderr));
        let all = text(&output.stderr) + &text(&output.stdout);
        assert!(all.contains(said), "{arguments:?}: {all}");
    };
    let frame = "ff".repeat(60);
    expect(&["send", "99", "--hex", &frame], 5, "sluice list");
    expect(&["send", "Adapter", "--hex", &frame], 5, "matches 2 adapters");
    expect(&["send", "10", "--hex", "ffff"], 8, "has 2 bytes; an Ethernet frame has at least 14");
    expect(&["send", "10", "--hex", "ff"], 8, "has 1 byte;");
    expect(&["send", "10", "--hex", &frame, "--loop", "-1"], 2, "invalid value '-1' for '--loop <TIMES>'");
    expect(&["send", "10", "--hex", &frame, "--dry-run", "--mtu", "0"], 2, "0 is not in 1..=16384");
    expect(&["send", "10", "--hex", &"ff".repeat(1515)], 8, "the adapter takes 14 to 1514");
    expect(&["send", "10", "--hex", "xyz"], 8, "--hex: \"x\" is not a hexadecimal digit");
    expect(&["send", "10", "no-such-file.pcap"], 8, "no-such-file.pcap");
    expect(&["send", "10", "Cargo.toml"], 8, "neither pcap nor pcapng");
    expect(&["send", "10"], 2, "required");
    expect(&["send", "10", "--hex", &frame, "--loop", "4"], 6, "2 frames came back with an error");
    let refused = machine.client(&["--json", "stats", "nobody"]);
    assert_eq!(json(&refused)["exit_code"], 5);
    let nowhere = tool("sluice").args(["--machine", "/nonexistent.sock", "list"]).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(3));
    machine.shut_down();
}

#[test]
fn a_dry_run_needs_no_driver() {
    let capture = root().join("tests/captures/mixed.pcap");
    let output =
        tool("sluice").args(["send", "any", capture.to_str().unwrap(), "--dry-run"]).output().unwrap();
    assert!(output.status.success());
    let shown = text(&output.stdout);
    assert_eq!(shown.lines().count(), 300);
    assert!(shown.lines().nth(1).unwrap().contains("192.0.2.1 > 192.0.2.2 UDP"), "{shown}");
}

#[test]
fn a_client_that_is_killed_leaves_a_machine_that_unloads() {
    let machine = Machine::start("killed", &[]);
    let capture = root().join("tests/captures/mixed.pcap");
    let mut client = tool("sluice");
    client
        .arg("--machine")
        .arg(&machine.socket)
        .args(["--json", "send", "10"])
        .arg(capture)
        .arg("--loop=100000");
    let mut client = client.stdout(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while json(&machine.operate(&["status"]))["adapters"][0]["frames_on_wire"] == 0 {
        assert!(began.elapsed() < Duration::from_secs(20));
    }
    client.kill().unwrap();
    client.wait().unwrap();
    let last = machine.shut_down();
    assert_eq!(last["adapters"][0]["in_flight"], 0);
}

#[test]
fn nonsense_at_the_socket_ends_that_connection_only() {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    let machine = Machine::start("nonsense", &[]);
    for nonsense in [
        "\n",
        "{}\n",
        "no json\n",
        "{\"op\":\"control\",\"handle\":77}\n",
        "{\"op\":\"open\",\"input\":99999999999}\n",
    ] {
        let mut stream = UnixStream::connect(&machine.socket).unwrap();
        stream.write_all(nonsense.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(!answer.contains("\"status\":0"), "{nonsense}: {answer}");
    }
    assert!(machine.client(&["list"]).status.success());
    machine.shut_down();
}

#[test]
fn the_machine_lists_its_rules_and_what_a_driver_lacks() {
    let rules = tool("sluice-machine").args(["rules", "--json"]).output().unwrap();
    let rules: Vec<Value> = serde_json::from_slice(&rules.stdout).unwrap();
    assert!(rules.len() >= 60, "{}", rules.len());
    for rule in &rules {
        for field in ["name", "checks", "tripped_by"] {
            assert!(rule[field].as_str().is_some_and(|text| !text.is_empty()), "{rule}");
        }
        assert!(rule["bugcheck"].is_u64(), "{rule}");
    }
    let missing =
        tool("sluice-machine").args(["exports", "--missing"]).arg(path(Build::Release)).output().unwrap();
    assert!(missing.status.success() && missing.stdout.is_empty(), "{missing:?}");
    let old = tool("sluice-machine")
        .args(["exports", "--ndis-minor", "83", "--missing"])
        .arg(path(Build::Release))
        .output()
        .unwrap();
    let only = "ntoskrnl.exe!ExAllocatePool2, which is exported from build 19041 on\n";
    assert_eq!((old.status.code(), String::from_utf8_lossy(&old.stdout).as_ref()), (Some(1), only));
    let none = tool("sluice-machine").args(["exports", "--missing", "/dev/null"]).output().unwrap();
    assert!(!none.status.success() && String::from_utf8_lossy(&none.stderr).contains("PE image"), "{none:?}");
}

#[test]
fn a_driver_of_ones_own_lives_and_its_fault_is_replayed_and_shown() {
    let driver = sluice_suite::image::lab("c-originate-1");
    let lives = |name: &str| {
        let mut command = tool("sluice-machine");
        command
            .arg("explore")
            .arg("--driver")
            .arg(sluice_suite::image::lab(name))
            .args(["--schedules", "50"]);
        command.output().unwrap()
    };
    assert!(lives("c-pass").status.success());
    let found = lives("c-originate-1");
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    assert_eq!(found.status.code(), Some(70), "{text}");
    let token = text.trim_end().rsplit(' ').next().unwrap();
    let folder = std::env::temp_dir().join(format!("sluice-replay-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (html, chrome) = (folder.join("report.html"), folder.join("trace.json"));
    let mut replay = tool("sluice-machine");
    replay.arg("replay").arg("--driver").arg(&driver).args([token, "--trace", "--html"]).arg(&html);
    let replayed = replay.arg("--chrome").arg(&chrome).output().unwrap();
    let text = String::from_utf8_lossy(&replayed.stdout).into_owned();
    assert!(text.contains("PausedWithNblsOut") && text.contains("NdisFSendNetBufferLists("), "{text}");
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(
        page.contains("PausedWithNblsOut")
            && page.contains("processor 0")
            && page.contains("NET_BUFFER_LIST")
    );
    let trace: Value = serde_json::from_str(&std::fs::read_to_string(&chrome).unwrap()).unwrap();
    assert!(trace["traceEvents"].as_array().is_some_and(|events| events.len() > 100));
    std::fs::remove_dir_all(folder).unwrap();
}

/// A DPC of the driver that completes sends uses some processor time: less than a millisecond, more than nothing.
#[test]
fn the_budget_of_a_dpc_is_an_option_and_part_of_what_is_replayed() {
    let driver = sluice_suite::image::lab("c-pass");
    let lives = |verb: &str, options: &[&str]| {
        let mut command = tool("sluice-machine");
        let output = command.arg(verb).arg("--driver").arg(&driver).args(options).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, said) = lives("explore", &["--schedules", "50"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = lives("explore", &["--schedules", "50", "--dpc-budget", "0"]);
    assert!(code == Some(70) && said.contains("DpcBudget") && said.contains("its budget is 0 µs"), "{said}");
    let command = said.trim_end().rsplit('\n').next().unwrap();
    assert!(command.contains(" --dpc-budget 0 "), "{command}");
    let token = command.rsplit(' ').next().unwrap();
    let (code, said) = lives("replay", &["--dpc-budget", "0", token]);
    assert!(code == Some(70) && said.contains("DpcBudget") && said.contains("--dpc-budget 0"), "{said}");
    let (code, said) = lives("replay", &[token]);
    assert_eq!(code, Some(0), "{said}");

    let explored = |options: &[&str]| {
        let mut command = tool("explore");
        command.arg("--driver").arg(path(Build::Release)).args(["--scenario", "all-at-dispatch-level"]);
        let output = command.args(["--schedules", "8", "--no-minimise"]).args(options).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(explored(&[]).0, Some(0));
    let (code, said) = explored(&["--dpc-budget", "0"]);
    assert!(code == Some(1) && said.contains("DpcBudget"), "{said}");
    let command = said.lines().find(|line| line.contains("--replay")).unwrap();
    assert!(command.ends_with(" --dpc-budget 0"), "{command}");
    let token = command.split_whitespace().nth(4).unwrap();
    let mut replay = tool("explore");
    replay.arg("--driver").arg(path(Build::Release)).args(["--replay", token, "--dpc-budget", "0"]);
    assert_eq!(replay.output().unwrap().status.code(), Some(1));
}
