//! A machine behind a Unix socket: programs open its devices, send requests, cancel and close; whoever runs
//! it disables and enables adapters and asks how it is.
//!
//! A message is one line of JSON, and after it as many bytes as its fields `input`, `data` or `output` say.
//! Messages of programs: `{"op":"open","id":1,"name":"\\\\.\\Name"}`, answered with a `handle`;
//! `{"op":"control","id":2,"handle":1,"code":…,"input":…,"data":…}`, answered when the request has
//! completed; `{"op":"cancel","id":3,"request":2}`; `{"op":"close","id":4,"handle":1}`. An answer has the
//! message's `id` and a `status`. A connection that ends is a program that died.
//! Messages of the operator: `status`; `disable`, `enable` or `unplug` with `adapter`, and for the first
//! `in_flight`, the number of frames that the adapter must hold when it begins; `shutdown`.
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::bugcheck::Bugcheck;
use crate::user::{Handle, Pending};
use crate::{Configuration, LoadError, Machine};

/// Steps between looks at the socket.
const STEPS: u32 = 2_000;
/// The longest message line.
const LINE: u64 = 64 * 1024;
/// The most bytes that follow a line.
const BYTES: u64 = 64 << 20;

/// What a client says.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Message {
    op: String,
    id: u64,
    name: String,
    handle: u64,
    code: u32,
    input: u64,
    data: u64,
    request: u64,
    adapter: usize,
    in_flight: u64,
    #[serde(default = "yes")]
    administrator: bool,
}

const fn yes() -> bool {
    true
}

/// What comes from a connection's reader.
enum Event {
    Connected(u64, UnixStream),
    Said(u64, Message, Vec<u8>, Vec<u8>),
    Gone(u64),
    /// The system asks the program to end.
    Ended,
}

/// What a client's thread works off, in the order in which it was said.
type Inbox = Rc<std::cell::RefCell<VecDeque<(Message, Vec<u8>, Vec<u8>)>>>;

struct Client {
    stream: UnixStream,
    inbox: Inbox,
    shared: Rc<Shared>,
}

/// What a client's thread and the server share.
#[derive(Default)]
struct Shared {
    handles: std::cell::RefCell<BTreeMap<u64, Rc<Handle>>>,
    pending: std::cell::RefCell<BTreeMap<u64, Pending>>,
    answers: std::cell::RefCell<Vec<(serde_json::Value, Vec<u8>)>>,
    next_handle: std::cell::Cell<u64>,
    gone: std::cell::Cell<bool>,
}

/// A socket's file, removed however the server ends.
struct SocketFile<'a>(&'a Path);

impl Drop for SocketFile<'_> {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = std::fs::remove_file(self.0);
    }
}

/// Starts a machine, loads a driver, and serves until told to shut down or until the program is asked to end by SIGINT or
/// SIGTERM. Returns the final status.
///
/// Captures of the wire have what reached it whenever the server looks at its socket, and however it ends. The first
/// signal unloads the driver as a shutdown does; a second one does not wait for that.
pub fn serve(
    configuration: Configuration,
    driver: &Path,
    socket: &Path,
) -> Result<serde_json::Value, Stopped> {
    let failed = |error: anyhow::Error| Stopped::Failed(error);
    let machine = Machine::start(configuration).map_err(failed)?;
    machine.load_driver(driver).map_err(|error| match error {
        LoadError::Stopped(bugcheck) => Stopped::Bugcheck(bugcheck),
        other => Stopped::Failed(other.into()),
    })?;
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket)
        .with_context(|| format!("cannot listen at {}", socket.display()))
        .map_err(failed)?;
    let (sender, receiver) = channel();
    let _file = SocketFile(socket);
    let signals = Signals::new([SIGINT, SIGTERM]).context("cannot listen to signals").map_err(failed)?;
    let asked = sender.clone();
    let path = socket.to_owned();
    std::thread::spawn(move || end_on_signals(signals, &asked, &path));
    std::thread::spawn(move || accept(&listener, &sender));
    let mut server = Server { machine, clients: BTreeMap::new(), done: false };
    let result = server.run(&receiver);
    // A machine that stopped leaves its threads where they stood, and what they hold; captures are kept all the same.
    server.flush_captures();
    result.map_err(Stopped::Bugcheck)
}

/// Why a server ended early.
#[derive(Debug)]
pub enum Stopped {
    /// The machine stopped.
    Bugcheck(Bugcheck),
    /// It could not start.
    Failed(anyhow::Error),
}

/// Exit code of a program that SIGINT ended, as shells count.
const INTERRUPTED: i32 = 130;

fn end_on_signals(mut signals: Signals, sender: &Sender<Event>, socket: &Path) {
    let mut ends = false;
    for _ in signals.forever() {
        if ends || sender.send(Event::Ended).is_err() {
            let _ = std::fs::remove_file(socket);
            std::process::exit(INTERRUPTED);
        }
        ends = true;
    }
}

fn accept(listener: &UnixListener, sender: &Sender<Event>) {
    for (number, stream) in listener.incoming().enumerate() {
        let Ok(stream) = stream else { return };
        let Ok(writer) = stream.try_clone() else { return };
        let number = number as u64;
        if sender.send(Event::Connected(number, writer)).is_err() {
            return;
        }
        let sender = sender.clone();
        std::thread::spawn(move || {
            // Whatever ends the connection, the client is gone.
            if let Err(error) = read(number, stream, &sender) {
                eprintln!("client {number}: {error:#}");
            }
            let _ = sender.send(Event::Gone(number));
        });
    }
}

fn read(number: u64, stream: UnixStream, sender: &Sender<Event>) -> Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.by_ref().take(LINE).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let message: Message = serde_json::from_str(&line).context("a message that is none")?;
        if message.input > BYTES || message.data > BYTES {
            bail!("a message with too many bytes");
        }
        let mut input = vec![0; message.input as usize];
        reader.read_exact(&mut input)?;
        let mut data = vec![0; message.data as usize];
        reader.read_exact(&mut data)?;
        if sender.send(Event::Said(number, message, input, data)).is_err() {
            return Ok(());
        }
    }
}

struct Server {
    machine: Box<Machine>,
    clients: BTreeMap<u64, Client>,
    done: bool,
}

impl Server {
    fn run(&mut self, events: &Receiver<Event>) -> Result<serde_json::Value, Bugcheck> {
        loop {
            while let Ok(event) = events.try_recv() {
                self.handle(event);
            }
            if self.done {
                self.clients.values().for_each(|client| client.shared.gone.set(true));
                self.machine.unload_driver()?;
                return Ok(self.status());
            }
            let busy = self.machine.run_steps(STEPS)?;
            self.flush_captures();
            self.answer();
            if !busy {
                // Nothing happens on the machine until somebody says something.
                match events.recv_timeout(Duration::from_secs(1)) {
                    Ok(event) => self.handle(event),
                    Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                    Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => self.done = true,
                }
            }
        }
    }

    /// Hands what reached the wire to the system: a reader of a capture sees it before the client is answered.
    fn flush_captures(&self) {
        for adapter in self.machine.adapters() {
            adapter.flush_capture();
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Ended => self.done = true,
            Event::Connected(number, stream) => {
                let (inbox, shared) = (Inbox::default(), Rc::new(Shared::default()));
                let (messages, state) = (inbox.clone(), shared.clone());
                self.machine.spawn(&format!("client {number}"), move || serve_client(&messages, &state));
                self.clients.insert(number, Client { stream, inbox, shared });
            }
            Event::Gone(number) => {
                if let Some(client) = self.clients.remove(&number) {
                    client.shared.gone.set(true);
                }
            }
            Event::Said(number, message, input, data) => match message.op.as_str() {
                "open" | "control" | "cancel" | "close" => {
                    if let Some(client) = self.clients.get(&number) {
                        client.inbox.borrow_mut().push_back((message, input, data));
                    }
                }
                _ => {
                    let mut answer = self.operate(&message);
                    answer["id"] = message.id.into();
                    self.reply(number, &answer, &[]);
                }
            },
        }
    }

    /// What the operator asks for.
    fn operate(&mut self, message: &Message) -> serde_json::Value {
        let adapter = self.machine.adapters().get(message.adapter).cloned();
        match (message.op.as_str(), adapter) {
            ("status", _) => self.status(),
            ("shutdown", _) => {
                self.done = true;
                json!({ "status": 0 })
            }
            ("disable", Some(adapter)) => {
                let disabled = adapter.clone();
                match message.in_flight {
                    0 => disabled.disable(),
                    lists => adapter.when_in_flight(lists, move || disabled.disable()),
                }
                json!({ "status": 0 })
            }
            ("enable", Some(adapter)) => {
                adapter.enable();
                json!({ "status": 0 })
            }
            ("unplug", Some(adapter)) => {
                adapter.unplug();
                json!({ "status": 0 })
            }
            ("disable" | "enable" | "unplug", None) => json!({ "status": 1, "error": "no such adapter" }),
            (other, _) => json!({ "status": 1, "error": format!("\"{other}\" is no operation") }),
        }
    }

    fn status(&self) -> serde_json::Value {
        let adapters: Vec<_> = self
            .machine
            .adapters()
            .iter()
            .map(|adapter| {
                let counters = adapter.counters();
                let pauses: Vec<_> = adapter
                    .pauses()
                    .iter()
                    .map(|pause| json!({ "in_flight": pause.in_flight, "microseconds": pause.microseconds }))
                    .collect();
                json!({
                    "name": adapter.settings.name,
                    "guid": adapter.guid(),
                    "state": format!("{:?}", adapter.state()).to_lowercase(),
                    "settled": adapter.is_settled(),
                    "frames_on_wire": counters.frames,
                    "frames_failed": counters.failed,
                    "in_flight": adapter.in_flight(),
                    "capture": adapter.settings.capture,
                    "pauses": pauses,
                })
            })
            .collect();
        let counts = self.machine.counts();
        json!({
            "status": 0,
            "microseconds": self.machine.microseconds(),
            "calls": counts.calls.get(),
            "checks": counts.checks.get(),
            "allocations": counts.allocations.get(),
            "locks": counts.locks.get(),
            "adapters": adapters,
        })
    }

    /// Sends what has been answered.
    fn answer(&mut self) {
        let mut ready = Vec::new();
        for (number, client) in &self.clients {
            for (answer, output) in client.shared.answers.take() {
                ready.push((*number, answer, output));
            }
            let done: Vec<u64> = client
                .shared
                .pending
                .borrow()
                .iter()
                .filter(|(_, pending)| pending.result().is_some())
                .map(|(id, _)| *id)
                .collect();
            for id in done {
                let finished =
                    client.shared.pending.borrow_mut().remove(&id).and_then(|pending| pending.result());
                if let Some(finished) = finished {
                    let answer = json!({
                        "id": id, "status": finished.status as u32, "information": finished.information,
                        "output": finished.output.len(),
                    });
                    ready.push((*number, answer, finished.output));
                }
            }
        }
        for (number, answer, output) in ready {
            self.reply(number, &answer, &output);
        }
    }

    fn reply(&mut self, number: u64, answer: &serde_json::Value, output: &[u8]) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        let mut bytes = answer.to_string().into_bytes();
        bytes.push(b'\n');
        bytes.extend_from_slice(output);
        // A client that does not listen any more is gone, which its reader notices.
        let _ = client.stream.write_all(&bytes);
    }
}

/// A program's thread: does what its connection says, in order.
fn serve_client(inbox: &Inbox, shared: &Rc<Shared>) {
    loop {
        let (messages, state) = (inbox.clone(), shared.clone());
        crate::user::wait_for("its program", move || state.gone.get() || !messages.borrow().is_empty());
        let next = inbox.borrow_mut().pop_front();
        let Some((message, input, data)) = next else {
            // The program died: its requests are cancelled and its handles closed.
            for (_, handle) in std::mem::take(&mut *shared.handles.borrow_mut()) {
                if let Some(handle) = Rc::into_inner(handle) {
                    handle.die();
                }
            }
            return;
        };
        let answer = |value: serde_json::Value| shared.answers.borrow_mut().push((value, Vec::new()));
        let handle = shared.handles.borrow().get(&message.handle).cloned();
        match (message.op.as_str(), handle) {
            ("open", _) => match Handle::open(&message.name, message.administrator) {
                Ok(handle) => {
                    let number = shared.next_handle.get() + 1;
                    shared.next_handle.set(number);
                    shared.handles.borrow_mut().insert(number, Rc::new(handle));
                    answer(json!({ "id": message.id, "status": 0, "handle": number }));
                }
                Err(status) => answer(json!({ "id": message.id, "status": status as u32 })),
            },
            ("control", Some(handle)) => {
                let pending = handle.control(message.code, &input, data);
                shared.pending.borrow_mut().insert(message.id, pending);
            }
            ("cancel", _) => {
                let pending = shared.pending.borrow().get(&message.request).cloned();
                if let Some(pending) = pending {
                    pending.cancel();
                }
                answer(json!({ "id": message.id, "status": 0 }));
            }
            ("close", Some(handle)) => {
                shared.handles.borrow_mut().remove(&message.handle);
                if let Some(handle) = Rc::into_inner(handle) {
                    handle.close();
                }
                answer(json!({ "id": message.id, "status": 0 }));
            }
            // STATUS_INVALID_HANDLE.
            _ => answer(json!({ "id": message.id, "status": 0xC000_0008_u32 })),
        }
    }
}

/// Says one thing to a machine as its operator, and returns the answer.
pub fn operate(socket: &Path, message: &serde_json::Value) -> Result<serde_json::Value> {
    let mut stream =
        UnixStream::connect(socket).with_context(|| format!("no machine listens at {}", socket.display()))?;
    stream.write_all(format!("{message}\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let answer: serde_json::Value =
        serde_json::from_str(&line).context("the machine ended without an answer")?;
    match answer["error"].as_str() {
        Some(error) => bail!("{error}"),
        None => Ok(answer),
    }
}
