//! The filter driver, its control device, and the handle of a module.
#![expect(unsafe_code, reason = "calls NDIS with handles that it gave out")]
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicU64, Ordering};

use ndis_sys::{
    NDIS_DEFAULT_PORT_NUMBER, NDIS_DEVICE_OBJECT_ATTRIBUTES, NDIS_DEVICE_OBJECT_ATTRIBUTES_REVISION_1,
    NDIS_FILTER_ATTRIBUTES, NDIS_FILTER_ATTRIBUTES_REVISION_1, NDIS_FILTER_DRIVER_CHARACTERISTICS,
    NDIS_FILTER_PARTIAL_CHARACTERISTICS, NDIS_HANDLE, NDIS_OBJECT_HEADER,
    NDIS_OBJECT_TYPE_DEVICE_OBJECT_ATTRIBUTES, NDIS_OBJECT_TYPE_FILTER_ATTRIBUTES,
    NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL, NDIS_SEND_FLAGS_DISPATCH_LEVEL,
    NDIS_SIZEOF_DEVICE_OBJECT_ATTRIBUTES_REVISION_1, NDIS_SIZEOF_FILTER_ATTRIBUTES_REVISION_1,
    NDIS_STATUS_INDICATION, NDIS_STATUS_SUCCESS, NDIS_STRING, NET_DEVICE_PNP_EVENT,
    NET_PNP_EVENT_NOTIFICATION, NdisDeregisterDeviceEx, NdisFCancelSendNetBufferLists,
    NdisFDeregisterFilterDriver, NdisFDevicePnPEventNotify, NdisFIndicateStatus, NdisFNetPnPEvent,
    NdisFPauseComplete, NdisFRegisterFilterDriver, NdisFRestartComplete, NdisFRestartFilter,
    NdisFSendNetBufferLists, NdisFSendNetBufferListsComplete, NdisFSetAttributes,
    NdisGeneratePartialCancelId, NdisGetVersion, NdisRegisterDeviceEx, NdisSetOptionalHandlers,
};
use sluice_kernel::irql::{NoLockHeld, Passive};
use wdk_sys::{DEVICE_OBJECT, DRIVER_OBJECT, PDRIVER_DISPATCH};

use crate::Status;
use crate::list::Chain;

/// `(major << 16) | minor` of the running NDIS, the minor version decimal.
pub fn running_version() -> u32 {
    // SAFETY: may be called up to DISPATCH_LEVEL.
    unsafe { NdisGetVersion() }
}

/// The next cancel id of the driver.
static CANCEL_IDS: AtomicU64 = AtomicU64::new(0);

/// Takes the first byte of this driver's cancel ids, once, in `DriverEntry`: all drivers of the system share 256 of them
/// (page "`NdisGeneratePartialCancelId`").
pub(crate) fn take_cancel_id_prefix() {
    // SAFETY: may be called up to DISPATCH_LEVEL.
    let prefix = unsafe { NdisGeneratePartialCancelId() };
    CANCEL_IDS.store(u64::from(prefix) << 56, Ordering::Relaxed);
}

/// A cancel id that no other send has, of whichever module.
pub(crate) fn next_cancel_id() -> u64 {
    CANCEL_IDS.fetch_add(1, Ordering::Relaxed)
}

/// A registered filter driver. It must be deregistered: dropping it does not.
#[must_use = "a registration has to be undone in the unload routine"]
#[derive(Debug)]
pub struct Registration(NDIS_HANDLE);

// SAFETY: the handle may be used from any thread.
unsafe impl Send for Registration {}
// SAFETY: as above.
unsafe impl Sync for Registration {}

impl Registration {
    /// Registers. Any callback may come before this returns.
    ///
    /// # Safety
    /// `driver` is the driver object that `DriverEntry` received. The strings and handlers of
    /// `characteristics` live as long as the driver is loaded.
    pub unsafe fn new(
        _passive: &Passive<'_>,
        driver: *mut DRIVER_OBJECT,
        characteristics: &NDIS_FILTER_DRIVER_CHARACTERISTICS,
    ) -> Result<Self, Status> {
        let mut handle = null_mut();
        // SAFETY: the token shows PASSIVE_LEVEL; the caller vouches for the rest.
        let status = unsafe {
            NdisFRegisterFilterDriver(driver.cast(), driver.cast(), characteristics, &raw mut handle)
        };
        if status == NDIS_STATUS_SUCCESS { Ok(Self(handle)) } else { Err(status) }
    }

    /// Undoes the registration; NDIS detaches what is attached meanwhile.
    pub fn deregister(self, _passive: &Passive<'_>) {
        // SAFETY: the handle is registered, and given up here.
        unsafe { NdisFDeregisterFilterDriver(self.0) };
    }

    /// Makes the control device.
    ///
    /// # Safety
    /// The strings live as long as the device; `dispatch` has entries only for routines that handle them.
    pub unsafe fn control_device(
        &self,
        _passive: &Passive<'_>,
        names: &ControlDeviceNames,
        dispatch: &mut [PDRIVER_DISPATCH; 28],
    ) -> Result<ControlDevice, Status> {
        let mut device_name = names.device;
        let mut symbolic_name = names.symbolic;
        let attributes = NDIS_DEVICE_OBJECT_ATTRIBUTES {
            Header: NDIS_OBJECT_HEADER {
                Type: NDIS_OBJECT_TYPE_DEVICE_OBJECT_ATTRIBUTES,
                Revision: NDIS_DEVICE_OBJECT_ATTRIBUTES_REVISION_1,
                Size: NDIS_SIZEOF_DEVICE_OBJECT_ATTRIBUTES_REVISION_1,
            },
            DeviceName: &raw mut device_name,
            SymbolicName: &raw mut symbolic_name,
            MajorFunctions: dispatch.as_mut_ptr().cast(),
            ExtensionSize: 0,
            DefaultSDDLString: &raw const names.sddl,
            DeviceClassGuid: core::ptr::null(),
        };
        let mut device = null_mut();
        let mut handle = null_mut();
        // SAFETY: the token shows PASSIVE_LEVEL; the attributes are filled in.
        let status =
            unsafe { NdisRegisterDeviceEx(self.0, &raw const attributes, &raw mut device, &raw mut handle) };
        if status == NDIS_STATUS_SUCCESS {
            Ok(ControlDevice { handle, object: device.cast() })
        } else {
            Err(status)
        }
    }
}

/// Names and protection of a control device.
#[derive(Clone, Copy, Debug)]
pub struct ControlDeviceNames {
    /// `\Device\…`.
    pub device: NDIS_STRING,
    /// `\DosDevices\…`.
    pub symbolic: NDIS_STRING,
    /// Security descriptor.
    pub sddl: NDIS_STRING,
}

/// The control device. It must be removed: dropping it does not.
#[must_use = "a device has to be removed in the unload routine"]
#[derive(Debug)]
pub struct ControlDevice {
    handle: NDIS_HANDLE,
    object: *mut DEVICE_OBJECT,
}

// SAFETY: the handle may be used from any thread.
unsafe impl Send for ControlDevice {}
// SAFETY: as above.
unsafe impl Sync for ControlDevice {}

impl ControlDevice {
    /// Whether a request's device object is this one.
    pub fn is(&self, object: *mut DEVICE_OBJECT) -> bool {
        self.object == object
    }

    /// Removes the device and its symbolic link.
    pub fn remove(self, _passive: &Passive<'_>) {
        // SAFETY: the handle is registered, and given up here.
        unsafe { NdisDeregisterDeviceEx(self.handle) };
    }
}

/// The physical device object of the card that a module sits on. It is valid until `FilterDetach` returns.
#[derive(Clone, Copy, Debug)]
pub struct PhysicalDevice(NonNull<DEVICE_OBJECT>);

// SAFETY: a device object is not tied to a thread.
unsafe impl Send for PhysicalDevice {}
// SAFETY: as above.
unsafe impl Sync for PhysicalDevice {}

impl PhysicalDevice {
    /// The object that the attach parameters name, if they do.
    pub(crate) fn new(object: *mut DEVICE_OBJECT) -> Option<Self> {
        NonNull::new(object).map(Self)
    }

    pub(crate) fn raw(self) -> *mut DEVICE_OBJECT {
        self.0.as_ptr()
    }
}

/// The duty to complete a pause (`NdisFPauseComplete`), which dropping does, once. The module may be detached and
/// freed before that returns: so it is dropped last, by the callback's glue, when nothing of the module is borrowed
/// any more.
#[must_use = "dropping it completes the pause: let it be the last thing"]
#[derive(Debug)]
pub struct PauseComplete(Handle);

impl Drop for PauseComplete {
    fn drop(&mut self) {
        // SAFETY: a pausing module is attached until its pause is complete.
        unsafe { NdisFPauseComplete(self.0.raw()) };
    }
}

/// NDIS's handle of one module. It is valid from `FilterAttach` until `FilterDetach` returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle(NDIS_HANDLE);

// SAFETY: the handle may be used from any thread.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Handle {
    /// The handle that `FilterAttach` received.
    ///
    /// # Safety
    /// Whoever uses the handle makes sure that the module is not detached meanwhile.
    pub unsafe fn from_raw(handle: NDIS_HANDLE) -> Self {
        Self(handle)
    }

    /// The handle as NDIS knows it: the `SourceHandle` of what the module originates.
    pub fn raw(self) -> NDIS_HANDLE {
        self.0
    }

    /// Gives NDIS the module's context, in `FilterAttach`.
    ///
    /// # Safety
    /// `context` lives until `FilterDetach` returns.
    pub unsafe fn set_attributes(self, _passive: &Passive<'_>, context: NDIS_HANDLE) -> Result<(), Status> {
        let attributes = NDIS_FILTER_ATTRIBUTES {
            Header: NDIS_OBJECT_HEADER {
                Type: NDIS_OBJECT_TYPE_FILTER_ATTRIBUTES,
                Revision: NDIS_FILTER_ATTRIBUTES_REVISION_1,
                Size: NDIS_SIZEOF_FILTER_ATTRIBUTES_REVISION_1,
            },
            Flags: 0,
        };
        // SAFETY: the token shows PASSIVE_LEVEL; the caller vouches for the context.
        let status = unsafe { NdisFSetAttributes(self.0, context, &raw const attributes) };
        if status == NDIS_STATUS_SUCCESS { Ok(()) } else { Err(status) }
    }

    /// Sets the module's data handlers, in `FilterSetModuleOptions`.
    pub fn set_handlers(
        self,
        _passive: &Passive<'_>,
        handlers: &NDIS_FILTER_PARTIAL_CHARACTERISTICS,
    ) -> Result<(), Status> {
        let handlers: *const NDIS_FILTER_PARTIAL_CHARACTERISTICS = handlers;
        // SAFETY: the token shows PASSIVE_LEVEL; the structure is filled in.
        let status = unsafe { NdisSetOptionalHandlers(self.0, handlers.cast()) };
        if status == NDIS_STATUS_SUCCESS { Ok(()) } else { Err(status) }
    }

    /// Schedules a pause and restart of the stack, with new module options.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    pub fn restart(self, _level: &impl NoLockHeld) -> Result<(), Status> {
        // SAFETY: users of a handle keep the module attached.
        let status = unsafe { NdisFRestartFilter(self.0) };
        if status == NDIS_STATUS_SUCCESS { Ok(()) } else { Err(status) }
    }

    /// Completes a restart that pends (`NdisFRestartComplete`): the module runs, and may be paused before this returns.
    pub fn restart_complete(self, _passive: &mut Passive<'_>) {
        // SAFETY: a module whose restart pends is attached; the token shows PASSIVE_LEVEL.
        unsafe { NdisFRestartComplete(self.0, NDIS_STATUS_SUCCESS) };
    }

    /// The duty to complete a pause that was pended, for whoever found that nothing is out any more.
    pub fn paused(self, _level: &impl NoLockHeld) -> PauseComplete {
        PauseComplete(self)
    }

    /// Sends lists, own and foreign; ownership goes with them. Own ones may have come back before this
    /// returns.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`; the token says which, and so do the flags.
    pub fn send<L: NoLockHeld>(self, level: &L, lists: Chain) {
        let flags = if L::AT_DISPATCH { NDIS_SEND_FLAGS_DISPATCH_LEVEL } else { 0 };
        self.forward_send(level, lists, NDIS_DEFAULT_PORT_NUMBER, flags);
    }

    /// Passes on lists that came from above, with the flags that they came with.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    pub fn forward_send(self, _level: &impl NoLockHeld, lists: Chain, port: u32, flags: u32) {
        if let Some(first) = lists.into_raw() {
            // SAFETY: the lists are owned and given up here; users of a handle keep the module attached.
            unsafe { NdisFSendNetBufferLists(self.0, first.as_ptr(), port, flags) };
        }
    }

    /// Completes lists that came from above.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    pub fn complete_send(self, _level: &impl NoLockHeld, lists: Chain, flags: u32) {
        if let Some(first) = lists.into_raw() {
            // SAFETY: the lists are owned and given up here; users of a handle keep the module attached.
            unsafe { NdisFSendNetBufferListsComplete(self.0, first.as_ptr(), flags) };
        }
    }

    /// Flags of a completion at the level of a send that came with `send_flags`.
    pub fn completion_flags(send_flags: u32) -> u32 {
        if send_flags & NDIS_SEND_FLAGS_DISPATCH_LEVEL != 0 {
            NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL
        } else {
            0
        }
    }

    /// Asks the drivers below to give back sends with this cancel id.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    pub fn cancel_sends(self, _level: &impl NoLockHeld, id: u64) {
        // SAFETY: users of a handle keep the module attached; the id is a number in the shape of a pointer.
        unsafe { NdisFCancelSendNetBufferLists(self.0, core::ptr::without_provenance_mut(id as usize)) };
    }

    /// Passes a status indication up.
    ///
    /// # Safety
    /// `indication` is what `FilterStatus` received.
    pub unsafe fn indicate_status(self, indication: *mut NDIS_STATUS_INDICATION) {
        // SAFETY: NDIS keeps the module attached for the time of the callback.
        unsafe { NdisFIndicateStatus(self.0, indication) };
    }

    /// Passes a PnP event on.
    ///
    /// # Safety
    /// `event` is what `FilterNetPnPEvent` received.
    pub unsafe fn net_pnp_event(
        self,
        _passive: &Passive<'_>,
        event: *mut NET_PNP_EVENT_NOTIFICATION,
    ) -> Status {
        // SAFETY: NDIS keeps the module attached for the time of the callback.
        unsafe { NdisFNetPnPEvent(self.0, event) }
    }

    /// Passes a device PnP event down.
    ///
    /// # Safety
    /// `event` is what `FilterDevicePnPEventNotify` received.
    pub unsafe fn device_pnp_event(self, _passive: &Passive<'_>, event: *mut NET_DEVICE_PNP_EVENT) {
        // SAFETY: NDIS keeps the module attached for the time of the callback.
        unsafe { NdisFDevicePnPEventNotify(self.0, event) };
    }
}
