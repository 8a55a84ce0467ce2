//! The programs as a person or a script runs them: a machine behind a socket, and clients.
#![expect(clippy::unwrap_used, reason = "a test that finds nothing there has failed")]
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sluice_suite::image::{Build, path};

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub(crate) fn tool(name: &str) -> Command {
    let path = root().join("target/tools").join(name);
    assert!(path.exists(), "{} is not there; run: cargo xtask test", path.display());
    Command::new(path)
}

/// A machine of this test's own.
pub(crate) struct Machine {
    pub(crate) child: Option<Child>,
    pub(crate) socket: PathBuf,
}

impl Machine {
    pub(crate) fn start(name: &str, extra: &[&str]) -> Self {
        let socket = std::env::temp_dir().join(format!("sluice-{name}-{}.sock", std::process::id()));
        let mut command = tool("sluice-machine");
        command.arg("run").arg("--driver").arg(path(Build::Release)).arg("--socket").arg(&socket).args(extra);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let machine = Self { child: Some(child), socket };
        let began = Instant::now();
        while !machine.operate(&["status"]).status.success() {
            assert!(began.elapsed() < Duration::from_secs(20), "the machine does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
        machine
    }

    pub(crate) fn operate(&self, arguments: &[&str]) -> Output {
        tool("sluice-machine").args(arguments).arg("--socket").arg(&self.socket).output().unwrap()
    }

    pub(crate) fn client(&self, arguments: &[&str]) -> Output {
        tool("sluice").arg("--machine").arg(&self.socket).args(arguments).output().unwrap()
    }

    /// Unloads the driver and returns the machine's last word.
    pub(crate) fn shut_down(mut self) -> Value {
        assert!(self.operate(&["shutdown"]).status.success());
        let output = self.child.take().unwrap().wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // A test that failed leaves a machine that runs; one that passed has shut it down.
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_file(&self.socket);
    }
}

pub(crate) fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)))
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
