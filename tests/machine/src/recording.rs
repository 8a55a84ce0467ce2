//! A recorded run: as a trace of kernel calls, as a timeline to look at, and in the Chrome trace format.
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use crate::bugcheck::Bugcheck;
use crate::log::{Event, What};
use crate::machine::Machine;
use crate::region::Areas;

/// Spans that a timeline shows.
const SPANS: usize = 80;
/// Calls before the end that a timeline lists.
const CALLS: usize = 200;

thread_local! {
    static LAST: RefCell<Option<Recording>> = const { RefCell::new(None) };
}

/// Everything that happened in a run.
#[derive(Debug)]
pub struct Recording {
    events: Vec<Event>,
    names: BTreeMap<u32, String>,
    kinds: BTreeMap<u64, &'static str>,
    areas: Areas,
    images: Vec<(String, u64, u64)>,
    processors: usize,
    schedule: String,
}

/// The recording of the last run of this host thread's that was recorded.
pub fn take() -> Option<Recording> {
    LAST.take()
}

/// Keeps what a machine has recorded.
pub(crate) fn keep(machine: &Machine) {
    LAST.set(Some(Recording::of(machine)));
}

impl Recording {
    pub(crate) fn of(machine: &Machine) -> Self {
        let images = machine.drivers.borrow();
        let image = |driver: &crate::machine::Driver| {
            let image = &driver.image;
            (image.name.trim_end_matches(".sys").to_owned(), image.base, image.length)
        };
        Self {
            events: machine.log.take_events(),
            names: machine.log.names(),
            kinds: machine.log.kinds(),
            areas: machine.memory.areas,
            images: images.iter().map(image).collect(),
            processors: machine.scheduler.processors(),
            schedule: machine.configuration.schedule.to_string(),
        }
    }

    fn name(&self, thread: u32) -> String {
        self.names.get(&thread).cloned().unwrap_or_else(|| format!("thread {thread}"))
    }

    /// A value as a person reads it: code by image and offset, memory in its canonical form.
    fn value(&self, value: u64) -> String {
        let image = self.images.iter().find(|(_, base, length)| value.wrapping_sub(*base) < *length);
        match image {
            Some((name, base, _)) => format!("{name}+{:#x}", value - base),
            None => format!("{:#x}", self.areas.canonical(value)),
        }
    }

    /// Every kernel call, a line each, as it returns: time in microseconds, processor, IRQL, thread, arguments and
    /// result. With a filter only functions whose names contain it.
    pub fn trace(&self, filter: Option<&str>) -> String {
        let mut open: BTreeMap<u32, Vec<(&Event, String)>> = BTreeMap::new();
        let mut text = String::new();
        let mut line = |event: &Event, depth: usize, call: &str| {
            let indent = 2 * depth;
            let (time, name) = (event.time as f64 / 10.0, self.name(event.thread));
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "{time:>12.1} cpu{} irql{} [{name}] {:indent$}{call}",
                event.processor, event.irql, ""
            );
        };
        for event in &self.events {
            let stack = open.entry(event.thread).or_default();
            match &event.what {
                What::Call { function, arguments } => {
                    let arguments: Vec<String> = arguments.iter().map(|one| self.value(*one)).collect();
                    stack.push((event, format!("{function}({})", arguments.join(", "))));
                }
                What::Returned { value, .. } => {
                    if let Some((began, call)) = stack.pop()
                        && filter.is_none_or(|filter| call.contains(filter))
                    {
                        line(began, stack.len(), &format!("{call} = {}", self.value(*value)));
                    }
                }
                _ => {}
            }
        }
        // Calls that never returned: where the run ended.
        let mut left: Vec<(u64, usize, &Event, String)> = Vec::new();
        for stack in open.into_values() {
            for (depth, (event, call)) in stack.into_iter().enumerate() {
                left.push((event.time, depth, event, call));
            }
        }
        left.sort_by_key(|(time, depth, ..)| (*time, *depth));
        for (_, depth, event, call) in
            left.iter().filter(|one| filter.is_none_or(|filter| one.3.contains(filter)))
        {
            line(event, *depth, &format!("{call} ..."));
        }
        text
    }

    fn end(&self) -> u64 {
        self.events.last().map_or(0, |event| event.time)
    }

    /// When each processor ran which thread: processor, thread, from, to.
    fn runs(&self) -> Vec<(usize, u32, u64, u64)> {
        let mut runs: Vec<(usize, u32, u64, u64)> = Vec::new();
        for event in &self.events {
            if let What::Runs { processor, thread } = event.what {
                if let Some(last) = runs.last_mut() {
                    last.3 = event.time;
                }
                runs.push((processor, thread, event.time, event.time));
            }
        }
        if let Some(last) = runs.last_mut() {
            last.3 = self.end();
        }
        runs
    }

    /// Objects, in the order in which they came: address, kind, and what happened to them.
    fn objects(&self) -> Vec<(u64, &'static str, Vec<&Event>)> {
        let mut places: BTreeMap<u64, usize> = BTreeMap::new();
        let mut objects: Vec<(u64, &'static str, Vec<&Event>)> = Vec::new();
        for event in self.events.iter().filter(|event| event.object != 0) {
            let place = *places.entry(event.object).or_insert_with(|| {
                let kind = self.kinds.get(&event.object).copied().unwrap_or("object");
                objects.push((event.object, kind, Vec::new()));
                objects.len() - 1
            });
            objects[place].2.push(event);
        }
        objects
    }

    /// The run in the Chrome trace format, which Perfetto shows (page "Trace Event Format").
    pub fn chrome(&self) -> String {
        let mut events: Vec<Value> = Vec::new();
        let time = |time: u64| time as f64 / 10.0;
        for processor in 0..self.processors {
            let name = format!("processor {processor}");
            events.push(json!({ "ph": "M", "name": "thread_name", "pid": 0, "tid": processor, "args": { "name": name } }));
        }
        for (process, name) in [(0, "processors"), (1, "threads"), (2, "objects")] {
            events
                .push(json!({ "ph": "M", "name": "process_name", "pid": process, "args": { "name": name } }));
        }
        for (thread, name) in &self.names {
            events.push(json!({ "ph": "M", "name": "thread_name", "pid": 1, "tid": thread, "args": { "name": name } }));
        }
        for (processor, thread, from, to) in self.runs() {
            events.push(json!({
                "ph": "X", "name": self.name(thread), "pid": 0, "tid": processor,
                "ts": time(from), "dur": time(to - from),
            }));
        }
        for event in &self.events {
            match &event.what {
                What::Call { function, arguments } => {
                    let arguments: Vec<String> = arguments.iter().map(|one| self.value(*one)).collect();
                    events.push(json!({
                        "ph": "B", "name": function, "pid": 1, "tid": event.thread, "ts": time(event.time),
                        "args": { "arguments": arguments, "irql": event.irql, "processor": event.processor },
                    }));
                }
                What::Returned { function, value } => events.push(json!({
                    "ph": "E", "name": function, "pid": 1, "tid": event.thread, "ts": time(event.time),
                    "args": { "result": self.value(*value) },
                })),
                What::Irql(irql) => events.push(json!({
                    "ph": "C", "name": format!("IRQL of processor {}", event.processor), "pid": 0,
                    "ts": time(event.time), "args": { "irql": irql },
                })),
                _ => {}
            }
        }
        for (number, (object, kind, history)) in self.objects().into_iter().enumerate() {
            let name = format!("{kind} {}", self.value(object));
            let (Some(first), Some(last)) = (history.first(), history.last()) else { continue };
            for (phase, at) in [("b", first.time), ("e", last.time)] {
                events.push(
                    json!({ "ph": phase, "cat": kind, "name": name, "id": number, "pid": 2, "ts": time(at) }),
                );
            }
            for event in history {
                if let What::Object(what) = event.what {
                    events.push(json!({ "ph": "n", "cat": kind, "name": what, "id": number, "pid": 2, "ts": time(event.time) }));
                }
            }
        }
        json!({ "traceEvents": events, "displayTimeUnit": "ns", "otherData": { "schedule": self.schedule } })
            .to_string()
    }

    /// The run as a page to look at, with nothing beside it: processors as rows with the IRQL as height, and lists,
    /// buffers and other objects as spans. The timeline counts steps, since time jumps when nobody has anything to do.
    pub fn html(&self, bugcheck: Option<&Bugcheck>) -> String {
        let mut page = Page { recording: self, svg: String::new(), y: 24 };
        page.processors();
        page.objects(bugcheck);
        let (width, height) = (self.events.len().max(100), page.y + 20);
        let title =
            bugcheck.map_or_else(|| "A run".to_owned(), |found| format!("{} ({:x})", found.name, found.code));
        let report =
            bugcheck.map(|found| format!("<pre>{}</pre>", escape(&found.to_string()))).unwrap_or_default();
        let trace = self.trace(None);
        let lines: Vec<&str> = trace.lines().collect();
        let calls = lines[lines.len().saturating_sub(CALLS)..].join("\n");
        TEMPLATE
            .replace("{{title}}", &escape(&title))
            .replace("{{schedule}}", &escape(&self.schedule))
            .replace("{{report}}", &report)
            .replace("{{width}}", &width.to_string())
            .replace("{{height}}", &height.to_string())
            .replace("{{calls}}", &escape(&calls))
            .replace("{{svg}}", &page.svg)
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A timeline as it is drawn.
struct Page<'a> {
    recording: &'a Recording,
    svg: String,
    y: usize,
}

impl Page<'_> {
    fn label(&mut self, text: &str) {
        let _ = writeln!(self.svg, "<text class=\"l\" x=\"4\" y=\"{}\">{}</text>", self.y - 4, escape(text));
    }

    /// A row for each processor: a box for each stretch of one thread, as high as the IRQL.
    fn processors(&mut self) {
        for processor in 0..self.recording.processors {
            self.y += 14;
            self.label(&format!("processor {processor}"));
            let bottom = self.y + 40;
            let mut open: Option<(usize, u32, u8)> = None;
            let mut boxes: Vec<(usize, usize, u32, u8)> = Vec::new();
            for (index, event) in self.recording.events.iter().enumerate() {
                let now = match event.what {
                    What::Runs { processor: on, thread } => (on == processor).then_some((thread, event.irql)),
                    _ if event.processor == processor && event.thread != 0 => {
                        Some((event.thread, event.irql))
                    }
                    _ => continue,
                };
                let same =
                    matches!((open, now), (Some((_, thread, irql)), Some(now)) if (thread, irql) == now);
                if same {
                    continue;
                }
                if let Some((from, thread, irql)) = open.take() {
                    boxes.push((from, index, thread, irql));
                }
                open = now.map(|(thread, irql)| (index, thread, irql));
            }
            if let Some((from, thread, irql)) = open {
                boxes.push((from, self.recording.events.len(), thread, irql));
            }
            for (from, to, thread, irql) in boxes {
                let height = 6 + usize::from(irql.min(8)) * 4;
                let (hue, name) = (thread * 47 % 360, escape(&self.recording.name(thread)));
                let (y, width) = (bottom - height, to - from);
                let _ = writeln!(
                    self.svg,
                    "<rect x=\"{from}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"hsl({hue} 60% 60%)\"><title>{name}, IRQL {irql}</title></rect>"
                );
            }
            self.y = bottom + 6;
        }
    }

    /// A span for each object: the ones at fault first, then lists and buffers, then others.
    fn objects(&mut self, bugcheck: Option<&Bugcheck>) {
        let numbers: BTreeMap<*const Event, usize> = self
            .recording
            .events
            .iter()
            .enumerate()
            .map(|(index, event)| (std::ptr::from_ref(event), index))
            .collect();
        let areas = self.recording.areas;
        let guilty =
            |object: u64| bugcheck.is_some_and(|found| found.arguments.contains(&areas.canonical(object)));
        let mut objects = self.recording.objects();
        objects.sort_by_key(|(object, kind, history)| {
            let rank = match *kind {
                _ if guilty(*object) => 0,
                "common buffer" => 1,
                "NET_BUFFER_LIST" if history.len() > 2 => 2,
                "IRP" | "NDIS_OID_REQUEST" => 3,
                _ => 4,
            };
            (rank, std::cmp::Reverse(history.len()))
        });
        for (object, kind, history) in objects.into_iter().take(SPANS) {
            self.y += 18;
            let place = |event: &Event| numbers.get(&std::ptr::from_ref(event)).copied().unwrap_or(0);
            let (Some(first), Some(last)) = (history.first(), history.last()) else { continue };
            let (from, to) = (place(first), place(last));
            let fill = if guilty(object) { "#d33" } else { "#9ab" };
            self.label(&format!("{kind} {}", self.recording.value(object)));
            let (y, width) = (self.y, (to - from).max(2));
            let _ = writeln!(
                self.svg,
                "<rect x=\"{from}\" y=\"{y}\" width=\"{width}\" height=\"4\" fill=\"{fill}\"/>"
            );
            for event in history {
                if let What::Object(what) = event.what {
                    let (x, name) = (place(event), escape(&self.recording.name(event.thread)));
                    let time = event.time / 10;
                    let _ = writeln!(
                        self.svg,
                        "<ellipse cx=\"{x}\" cy=\"{}\" rx=\"3\" ry=\"3\"><title>{time} us: {what} ({name})</title></ellipse>",
                        y + 2
                    );
                }
            }
        }
    }
}

const TEMPLATE: &str = include_str!("timeline.html");
