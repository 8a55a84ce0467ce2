//! Loading and unloading.
#![expect(unsafe_code, reason = "the system's entry points")]
use core::sync::atomic::{AtomicU32, Ordering};

use ndis_sys::{
    NDIS_FILTER_CHARACTERISTICS_REVISION_2, NDIS_FILTER_CHARACTERISTICS_REVISION_3,
    NDIS_FILTER_DRIVER_CHARACTERISTICS, NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_FILTER_DRIVER_CHARACTERISTICS,
    NDIS_SIZEOF_FILTER_DRIVER_CHARACTERISTICS_REVISION_2,
    NDIS_SIZEOF_FILTER_DRIVER_CHARACTERISTICS_REVISION_3, NDIS_STATUS_BAD_VERSION,
};
use sluice_abi::{DEVICE_NAME, DEVICE_SDDL, FILTER_GUID, FRIENDLY_NAME, SERVICE_NAME, SYMBOLIC_NAME};
use sluice_kernel::irql::Passive;
use sluice_kernel::lock::SpinLock;
use sluice_ndis::filter::{self, ControlDevice, ControlDeviceNames, Registration};
use wdk_sys::{DRIVER_OBJECT, NTSTATUS, PCUNICODE_STRING};

use crate::text::wide;
use crate::{callbacks, device, status};

/// The driver's own version.
pub(crate) const VERSION: (u8, u8) = (0, 1);

/// The oldest NDIS that offers all that this driver uses: 6.30, Windows 8.
const OLDEST_MINOR: u32 = 30;
/// The newest NDIS that this driver knows: 6.89, Windows 11 24H2. That version asks a filter to understand
/// coalesced UDP receives; this one has no receive handlers, so they pass.
const NEWEST_MINOR: u32 = 89;
/// From 6.80 on, characteristics have revision 3.
const REVISION_3_MINOR: u32 = 80;

/// What `DriverUnload` undoes.
struct Loaded {
    registration: Registration,
    device: ControlDevice,
}

static LOADED: SpinLock<Option<Loaded>> = SpinLock::new(None);
static NDIS_VERSION: AtomicU32 = AtomicU32::new(0);

/// `(6 << 16) | minor` that the driver registered with.
pub(crate) fn ndis_version() -> u32 {
    NDIS_VERSION.load(Ordering::Relaxed)
}

/// The minor version of NDIS 6 to register with on a system that offers `running`.
const fn minor_for(running: u32) -> Option<u32> {
    let minor = running & 0xFFFF;
    match running >> 16 {
        6 if minor < OLDEST_MINOR => None,
        6 if minor < NEWEST_MINOR => Some(minor),
        6.. => Some(NEWEST_MINOR),
        _ => None,
    }
}

fn characteristics(minor: u32) -> NDIS_FILTER_DRIVER_CHARACTERISTICS {
    let (revision, size) = if minor >= REVISION_3_MINOR {
        (NDIS_FILTER_CHARACTERISTICS_REVISION_3, NDIS_SIZEOF_FILTER_DRIVER_CHARACTERISTICS_REVISION_3)
    } else {
        (NDIS_FILTER_CHARACTERISTICS_REVISION_2, NDIS_SIZEOF_FILTER_DRIVER_CHARACTERISTICS_REVISION_2)
    };
    NDIS_FILTER_DRIVER_CHARACTERISTICS {
        Header: NDIS_OBJECT_HEADER {
            Type: NDIS_OBJECT_TYPE_FILTER_DRIVER_CHARACTERISTICS,
            Revision: revision,
            Size: size,
        },
        MajorNdisVersion: 6,
        MinorNdisVersion: minor as u8,
        MajorDriverVersion: VERSION.0,
        MinorDriverVersion: VERSION.1,
        Flags: 0,
        FriendlyName: wide!(FRIENDLY_NAME),
        UniqueName: wide!(FILTER_GUID),
        ServiceName: wide!(SERVICE_NAME),
        SetOptionsHandler: Some(callbacks::set_options),
        SetFilterModuleOptionsHandler: Some(callbacks::set_module_options),
        AttachHandler: Some(callbacks::filter_attach),
        DetachHandler: Some(callbacks::filter_detach),
        RestartHandler: Some(callbacks::filter_restart),
        PauseHandler: Some(callbacks::filter_pause),
        // Bypass: the data handlers are installed for modules that are used.
        SendNetBufferListsHandler: None,
        SendNetBufferListsCompleteHandler: None,
        CancelSendNetBufferListsHandler: None,
        ReceiveNetBufferListsHandler: None,
        ReturnNetBufferListsHandler: None,
        OidRequestHandler: Some(callbacks::oid_request),
        OidRequestCompleteHandler: Some(callbacks::oid_request_complete),
        CancelOidRequestHandler: Some(callbacks::cancel_oid_request),
        DevicePnPEventNotifyHandler: Some(callbacks::device_pnp_event),
        NetPnPEventHandler: Some(callbacks::net_pnp_event),
        StatusHandler: Some(callbacks::filter_status),
        DirectOidRequestHandler: None,
        DirectOidRequestCompleteHandler: None,
        CancelDirectOidRequestHandler: None,
        SynchronousOidRequestHandler: None,
        SynchronousOidRequestCompleteHandler: None,
    }
}

/// `DriverEntry`.
///
/// # Safety
/// Called once, by the system.
#[unsafe(export_name = "DriverEntry")]
pub(crate) unsafe extern "system" fn driver_entry(
    driver: &mut DRIVER_OBJECT,
    _registry_path: PCUNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: the system loads drivers at PASSIVE_LEVEL.
    let mut passive = unsafe { Passive::assume() };
    let Some(minor) = minor_for(filter::running_version()) else { return NDIS_STATUS_BAD_VERSION };
    NDIS_VERSION.store(6 << 16 | minor, Ordering::Relaxed);
    driver.DriverUnload = Some(driver_unload);
    // SAFETY: the driver object is the system's; strings and handlers are static.
    let registration = match unsafe { Registration::new(&passive, driver, &characteristics(minor)) } {
        Ok(registration) => registration,
        Err(status) => return status,
    };
    let names = ControlDeviceNames {
        device: wide!(DEVICE_NAME),
        symbolic: wide!(SYMBOLIC_NAME),
        sddl: wide!(DEVICE_SDDL),
    };
    // SAFETY: the strings are static; the table has only routines that handle their requests.
    match unsafe { registration.control_device(&passive, &names, &mut device::dispatch_table()) } {
        Ok(device) => {
            LOADED.with(&mut passive, |loaded, _| *loaded = Some(Loaded { registration, device }));
            status::SUCCESS
        }
        Err(status) => {
            registration.deregister(&passive);
            status
        }
    }
}

/// `DriverUnload`: no client has a handle any more.
unsafe extern "C" fn driver_unload(_driver: *mut DRIVER_OBJECT) {
    // SAFETY: the system unloads drivers at PASSIVE_LEVEL.
    let mut passive = unsafe { Passive::assume() };
    if let Some(Loaded { registration, device }) = LOADED.with(&mut passive, |loaded, _| loaded.take()) {
        // First no client can come, then no adapter.
        device.remove(&passive);
        registration.deregister(&passive);
    }
}
