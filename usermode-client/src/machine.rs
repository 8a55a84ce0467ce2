//! The driver on a simulated machine, reached through its Unix socket.
//!
//! A message is one line of JSON and the bytes that its fields `input`, `data` or `output` announce.
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use sluice_abi::WIN32_NAME;

use crate::Error;
use crate::device::{Device, Driver, Pending, Reply};

/// A running machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its socket.
    pub socket: PathBuf,
}

/// An answer with its bytes.
type Answer = (Value, Vec<u8>);
type Waiting = HashMap<u64, Sender<Answer>>;

/// A connection: one writer, and a thread that hands answers to whoever waits for them.
struct Connection {
    writer: Mutex<(UnixStream, u64)>,
    waiting: Arc<Mutex<Option<Waiting>>>,
}

impl Connection {
    fn open(socket: &Path) -> Result<Self, Error> {
        let unreachable = |source| Error::NoMachine { path: socket.display().to_string(), source };
        let writer = UnixStream::connect(socket).map_err(unreachable)?;
        let reader = writer.try_clone().map_err(unreachable)?;
        let waiting = Arc::new(Mutex::new(Some(Waiting::new())));
        let answers = waiting.clone();
        std::thread::spawn(move || {
            // However it ends, whoever waits learns that the connection is gone.
            let _ = deliver(reader, &answers);
            answers.lock().unwrap_or_else(PoisonError::into_inner).take();
        });
        Ok(Self { writer: Mutex::new((writer, 0)), waiting })
    }

    /// Sends a message with its bytes, and returns its number and where its answer comes.
    fn say(&self, mut message: Value, bytes: [&[u8]; 2]) -> Result<(u64, Receiver<Answer>), Error> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let (stream, last) = &mut *writer;
        *last += 1;
        let id = *last;
        if let Some(fields) = message.as_object_mut() {
            fields.insert("id".to_owned(), id.into());
        }
        let (sender, receiver) = channel();
        match self.waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(waiting) => waiting.insert(id, sender),
            None => return Err(ended()),
        };
        let mut all = message.to_string().into_bytes();
        all.push(b'\n');
        for part in bytes {
            all.extend_from_slice(part);
        }
        stream.write_all(&all).map_err(|error| Error::Broken(error.to_string()))?;
        Ok((id, receiver))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // Ends the reader's thread too; a machine that is gone already does not mind.
        let _ = writer.0.shutdown(std::net::Shutdown::Both);
    }
}

fn ended() -> Error {
    Error::Broken("the machine has ended".to_owned())
}

fn deliver(stream: UnixStream, waiting: &Mutex<Option<Waiting>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let answer: Value = serde_json::from_str(&line)?;
        let mut output = vec![0; number(&answer, "output") as usize];
        reader.read_exact(&mut output)?;
        let id = number(&answer, "id");
        let sender = waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
            .and_then(|waiting| waiting.remove(&id));
        if let Some(sender) = sender {
            // Whoever asked may have stopped waiting.
            let _ = sender.send((answer, output));
        }
    }
}

fn number(answer: &Value, field: &str) -> u64 {
    answer.get(field).and_then(Value::as_u64).unwrap_or(0)
}

fn status_of(answer: &Value) -> u32 {
    answer.get("status").and_then(Value::as_u64).unwrap_or(u64::from(u32::MAX)) as u32
}

impl Driver for Machine {
    fn open(&self) -> Result<Box<dyn Device>, Error> {
        let connection = Arc::new(Connection::open(&self.socket)?);
        let (_, answer) = connection.say(json!({ "op": "open", "name": WIN32_NAME }), [&[], &[]])?;
        let (answer, _) = answer.recv().map_err(|_| ended())?;
        match status_of(&answer) {
            0 => Ok(Box::new(Open { connection, handle: number(&answer, "handle") })),
            status => Err(Error::of_status(status)),
        }
    }
}

struct Open {
    connection: Arc<Connection>,
    handle: u64,
}

impl Device for Open {
    fn start(&self, code: u32, input: Vec<u8>, data: Vec<u8>) -> Result<Box<dyn Pending>, Error> {
        let message = json!({
            "op": "control", "handle": self.handle, "code": code, "input": input.len(), "data": data.len(),
        });
        let (id, answer) = self.connection.say(message, [&input, &data])?;
        Ok(Box::new(Request { connection: self.connection.clone(), id, answer, arrived: None }))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // The connection ends with the handle, which closes it: an answer is waited for so that a program
        // that opens another handle next finds this one closed.
        if let Ok((_, answer)) =
            self.connection.say(json!({ "op": "close", "handle": self.handle }), [&[], &[]])
        {
            let _ = answer.recv();
        }
    }
}

struct Request {
    connection: Arc<Connection>,
    id: u64,
    answer: Receiver<Answer>,
    arrived: Option<Answer>,
}

impl Pending for Request {
    fn wait(mut self: Box<Self>) -> Result<Reply, Error> {
        let (answer, output) = match self.arrived.take() {
            Some(answer) => answer,
            None => self.answer.recv().map_err(|_| ended())?,
        };
        Ok(Reply { status: status_of(&answer), output })
    }

    fn wait_for(&mut self, limit: Duration) -> Result<bool, Error> {
        if self.arrived.is_none() {
            match self.answer.recv_timeout(limit) {
                Ok(answer) => self.arrived = Some(answer),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(ended()),
            }
        }
        Ok(self.arrived.is_some())
    }

    fn cancel(&self) -> Result<(), Error> {
        self.connection.say(json!({ "op": "cancel", "request": self.id }), [&[], &[]]).map(drop)
    }
}
