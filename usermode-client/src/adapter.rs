//! Adapters that frames can be sent through.
use std::time::Duration;

use serde::Serialize;
use sluice_abi::{
    ABI_MAJOR, BindRequest, IOCTL_BIND, IOCTL_LIST, IOCTL_STATISTICS, IOCTL_VERSION, ListHeader,
    ModuleRecord, Statistics, VersionReply,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::device::Device;
use crate::error::status;
use crate::patience::{POLL, Patience};
use crate::stop::Stop;
use crate::{Error, naming, text};

/// One adapter, as the driver knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Adapter {
    /// Index of its interface.
    pub index: u32,
    /// Friendly name.
    pub name: String,
    /// The name that Windows shows for it, such as "Ethernet".
    pub alias: Option<String>,
    /// GUID, in braces.
    pub guid: String,
    /// Address.
    pub mac: String,
    /// What the driver's module on it does.
    pub state: &'static str,
    /// Bytes, without the Ethernet header; 0 while the driver does not know it.
    pub mtu: u32,
    /// Bits per second.
    pub link_speed: u64,
    /// Whether a cable is in.
    pub connected: bool,
    /// Client handles that are bound.
    pub handles: u32,
    /// GUID as the driver takes it.
    #[serde(skip)]
    pub id: [u8; 16],
}

/// A module's state in words.
pub fn state_name(state: u32) -> &'static str {
    match state {
        sluice_abi::STATE_ATTACHING => "attaching",
        sluice_abi::STATE_PAUSED => "paused",
        sluice_abi::STATE_RESTARTING => "restarting",
        sluice_abi::STATE_RUNNING => "running",
        sluice_abi::STATE_PAUSING => "pausing",
        sluice_abi::STATE_DETACHED => "detached",
        _ => "unknown",
    }
}

/// A GUID as text, its bytes in the order of the text.
fn guid_text(bytes: &[u8; 16]) -> String {
    let number = u128::from_be_bytes(*bytes);
    let part = |shift: u32, bits: u32| (number >> shift) & ((1 << bits) - 1);
    format!(
        "{{{:08X}-{:04X}-{:04X}-{:04X}-{:012X}}}",
        part(96, 32),
        part(80, 16),
        part(64, 16),
        part(48, 16),
        part(0, 48)
    )
}

#[cfg(windows)]
use crate::windows::alias;

/// Windows alone knows aliases.
#[cfg(not(windows))]
fn alias(_luid: u64) -> Option<String> {
    None
}

impl From<&ModuleRecord> for Adapter {
    fn from(record: &ModuleRecord) -> Self {
        let name = record.name.get(..usize::from(record.name_length)).unwrap_or_default();
        let mac = record.mac.get(..usize::from(record.mac_length)).unwrap_or_default();
        Self {
            index: record.if_index,
            name: String::from_utf16_lossy(name),
            alias: alias(record.luid),
            guid: guid_text(&record.guid),
            mac: mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"),
            state: state_name(record.state),
            mtu: record.mtu,
            link_speed: record.link_speed,
            connected: record.media_connect_state == 1,
            handles: record.handles,
            id: record.guid,
        }
    }
}

fn record<T: FromBytes>(bytes: &[u8]) -> Result<T, Error> {
    T::read_from_prefix(bytes)
        .map(|(record, _)| record)
        .map_err(|_| Error::Broken("the driver's answer is too short".to_owned()))
}

/// Versions and limits of the driver.
pub fn version(device: &dyn Device) -> Result<VersionReply, Error> {
    let reply: VersionReply =
        record(&device.control(IOCTL_VERSION, Vec::new(), vec![0; size_of::<VersionReply>()])?)?;
    if reply.abi_major == ABI_MAJOR { Ok(reply) } else { Err(Error::Version) }
}

/// Every adapter, by index.
pub fn list(device: &dyn Device) -> Result<Vec<Adapter>, Error> {
    let mut room = 16;
    loop {
        let length = size_of::<ListHeader>() + room * size_of::<ModuleRecord>();
        let answer = device.control(IOCTL_LIST, Vec::new(), vec![0; length])?;
        let header: ListHeader = record(&answer)?;
        if header.total > header.count {
            // More came meanwhile than there was room for.
            room = header.total as usize + 4;
            continue;
        }
        let records = answer.get(size_of::<ListHeader>()..).unwrap_or_default();
        let mut adapters = Vec::new();
        for bytes in records.chunks_exact(size_of::<ModuleRecord>()) {
            adapters.push(Adapter::from(&record::<ModuleRecord>(bytes)?));
        }
        adapters.sort_by_key(|adapter| adapter.index);
        return Ok(adapters);
    }
}

/// The adapter that a person means (see [`naming::choose`]).
pub fn find(device: &dyn Device, wanted: &str) -> Result<Adapter, Error> {
    naming::choose(&list(device)?, wanted)
}

/// Binds a handle to an adapter, and waits until frames can be sent.
pub fn bind(device: &dyn Device, adapter: &Adapter) -> Result<(), Error> {
    let input = request(adapter).as_bytes().to_vec();
    device.control(IOCTL_BIND, input, Vec::new()).map(drop).map_err(|error| missing(adapter, error))
}

/// Binds a handle to an adapter as [`bind`] does, and gives up when the patience is over or the caller stops.
///
/// A bind that is given up is cancelled; the handle is of no further use.
pub fn bind_within(
    device: &dyn Device,
    adapter: &Adapter,
    patience: &mut Patience,
    stop: &Stop,
) -> Result<(), Error> {
    let mut pending = device.start(IOCTL_BIND, request(adapter).as_bytes().to_vec(), Vec::new())?;
    while !pending.wait_for(patience.poll(POLL))? {
        patience.spend(patience.poll(POLL));
        if !patience.is_over() && !stop.is_stopped() {
            continue;
        }
        pending.cancel()?;
        let mut end = Patience::new(CANCELLING);
        while !end.is_over() && !pending.wait_for(POLL)? {
            end.spend(POLL);
        }
        if stop.is_stopped() {
            return Err(Error::Stopped);
        }
        let holder = holder(device, adapter);
        return Err(Error::BindTimeout {
            adapter: text::clean(&adapter.name),
            waited: patience.spent(),
            holder,
        });
    }
    match pending.wait()?.status {
        0 => Ok(()),
        status => Err(missing(adapter, Error::of_status(status))),
    }
}

/// How long the driver may take to give a cancelled bind back.
const CANCELLING: Duration = Duration::from_secs(2);

/// What keeps an adapter's stack from running, as far as the driver knows.
fn holder(device: &dyn Device, adapter: &Adapter) -> String {
    let Ok(statistics) = statistics(device, adapter) else {
        return "the adapter is gone".to_owned();
    };
    match statistics.state {
        sluice_abi::STATE_RUNNING => {
            "NDIS has not restarted its stack since; another driver of the stack holds the pause, \
            see: Get-NetAdapterBinding"
                .to_owned()
        }
        sluice_abi::STATE_PAUSING if statistics.frames_in_flight != 0 => format!(
            "the module waits to pause, and the drivers below hold {} frames that Sluice sent",
            statistics.frames_in_flight
        ),
        state => format!(
            "the module is {}; NDIS, the adapter or another driver of its stack has not restarted it, see: \
             Get-NetAdapter, Get-NetAdapterBinding",
            state_name(state)
        ),
    }
}

/// State of the module that the handle is bound to, one of the `STATE_…` constants.
pub fn state_of_bound(device: &dyn Device) -> Result<u32, Error> {
    let answer = device.control(IOCTL_STATISTICS, Vec::new(), vec![0; size_of::<Statistics>()])?;
    record::<Statistics>(&answer).map(|statistics| statistics.state)
}

/// Statistics of an adapter's module. Binds nothing, and so disturbs nothing.
pub fn statistics(device: &dyn Device, adapter: &Adapter) -> Result<Statistics, Error> {
    let input = request(adapter).as_bytes().to_vec();
    let answer = device.control(IOCTL_STATISTICS, input, vec![0; size_of::<Statistics>()]);
    record(&answer.map_err(|error| missing(adapter, error))?)
}

fn request(adapter: &Adapter) -> BindRequest {
    BindRequest { abi_major: ABI_MAJOR, reserved: [0; 6], guid: adapter.id }
}

/// The adapter may have gone since it was listed.
fn missing(adapter: &Adapter, error: Error) -> Error {
    match error {
        Error::Refused(status::NOT_FOUND) => Error::NoAdapter(text::clean(&adapter.name)),
        other => other,
    }
}
