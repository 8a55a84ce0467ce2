//! A filter driver: what it is called, and what its modules do. NDIS's callbacks are here; they translate in, call,
//! and translate out.
#![expect(unsafe_code, reason = "callbacks receive pointers")]
use core::ffi::c_void;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use ndis_sys::{
    NDIS_FILTER_ATTACH_PARAMETERS, NDIS_FILTER_CHARACTERISTICS_REVISION_3,
    NDIS_FILTER_DRIVER_CHARACTERISTICS, NDIS_FILTER_PARTIAL_CHARACTERISTICS,
    NDIS_FILTER_PARTIAL_CHARACTERISTICS_REVISION_1, NDIS_FILTER_PAUSE_PARAMETERS,
    NDIS_FILTER_RESTART_PARAMETERS, NDIS_HANDLE, NDIS_LINK_SPEED_UNKNOWN, NDIS_LINK_STATE,
    NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_FILTER_DRIVER_CHARACTERISTICS,
    NDIS_OBJECT_TYPE_FILTER_PARTIAL_CHARACTERISTICS, NDIS_OID_REQUEST, NDIS_RESTART_ATTRIBUTES,
    NDIS_RESTART_GENERAL_ATTRIBUTES, NDIS_SIZEOF_FILTER_ATTACH_PARAMETERS_REVISION_1,
    NDIS_SIZEOF_FILTER_ATTACH_PARAMETERS_REVISION_3, NDIS_SIZEOF_FILTER_DRIVER_CHARACTERISTICS_REVISION_3,
    NDIS_SIZEOF_FILTER_PARTIAL_CHARACTERISTICS_REVISION_1, NDIS_SIZEOF_LINK_STATE_REVISION_1,
    NDIS_SIZEOF_RESTART_GENERAL_ATTRIBUTES_REVISION_1, NDIS_STATUS, NDIS_STATUS_BAD_VERSION,
    NDIS_STATUS_FAILURE, NDIS_STATUS_INDICATION, NDIS_STATUS_LINK_STATE, NDIS_STATUS_PENDING,
    NDIS_STATUS_SUCCESS, NDIS_STRING, NET_BUFFER_LIST, NET_DEVICE_PNP_EVENT, NET_PNP_EVENT_NOTIFICATION,
    OID_GEN_MINIPORT_RESTART_ATTRIBUTES,
};
use sluice_kernel::device::{self, ControlDevice as Device};
use sluice_kernel::irql::{AtMostDispatch, Passive};
use sluice_kernel::lock::SpinLock;
use sluice_kernel::pool::Tag;
use sluice_kernel::shared::Shared;
use sluice_kernel::text::Text;
use wdk_sys::{DRIVER_OBJECT, NTSTATUS};

use crate::Status;
use crate::filter::{
    self, ControlDevice, ControlDeviceNames, Handle, PauseComplete, PhysicalDevice, Registration,
};
use crate::list::Chain;
use crate::oid::Passage;
use crate::trace;

/// The oldest NDIS of a system that this image is loaded on: 6.84, Windows 10 2004, whose kernel is the first with
/// `ExAllocatePool2`.
const OLDEST_MINOR: u32 = 84;
/// The newest NDIS that is known here: 6.89, Windows 11 24H2. That version asks a filter to understand coalesced UDP
/// receives; drivers without receive handlers let them pass.
const NEWEST_MINOR: u32 = 89;

/// What a driver is called.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// For people.
    pub friendly: Text,
    /// The filter's GUID, as in the INF's `NetCfgInstanceId`.
    pub unique: Text,
    /// The service.
    pub service: Text,
    /// `\Device\…`.
    pub device: Text,
    /// `\DosDevices\…`.
    pub symbolic: Text,
    /// Who may open the device.
    pub sddl: Text,
}

/// A filter driver with a control device.
pub trait Driver: 'static {
    /// What it has for each adapter.
    type Module: Filter;
    /// Its control device.
    type Device: Device;

    /// What it is called.
    fn names() -> Names;

    /// Its version.
    const VERSION: (u8, u8);
}

/// What a pause found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Nothing is out: the pause is complete.
    Complete,
    /// Something is out: whoever finds that it has come back makes a [`PauseComplete`], once.
    Pending,
}

/// How a restart ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// The module runs when the callback has returned.
    Complete,
    /// The module completes the restart later: [`Handle::restart_complete`], once.
    Pending,
}

/// What changed while the stack was down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartAttributes {
    /// Bytes of the longest packet, without its Ethernet header.
    pub mtu: u32,
    /// Bytes in front of a frame that the drivers below ask for.
    pub backfill: u32,
}

/// An adapter's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// `MediaConnectState…`: 0 not known, 1 connected, 2 not.
    pub connected: u32,
    /// Bits per second, of sends; 0 if NDIS does not know.
    pub speed: u64,
}

impl Link {
    fn new(connected: i32, speed: u64) -> Self {
        Self { connected: connected as u32, speed: if speed == NDIS_LINK_SPEED_UNKNOWN { 0 } else { speed } }
    }
}

/// One filter module. NDIS calls these; between [`Filter::attach`] and [`Filter::detach`] it keeps a reference.
///
/// OID requests, status indications and PnP events pass; of them a module sees how the link changes.
pub trait Filter: Sized + Send + Sync + 'static {
    /// Tag of what the glue allocates for it.
    const TAG: Tag;

    /// `FilterAttach`: makes the module of an adapter. NDIS learns of it when this has returned.
    fn attach(
        passive: &mut Passive<'_>,
        handle: Handle,
        adapter: Adapter<'_>,
    ) -> Result<Shared<Self>, Status>;

    /// NDIS knows the module.
    fn attached(this: &Shared<Self>, passive: &mut Passive<'_>) -> Result<(), Status>;

    /// `FilterDetach`, or an attach that failed after [`Filter::attach`]: nothing is out. Afterwards NDIS calls nothing,
    /// and its reference goes.
    fn detach(this: &Shared<Self>, passive: &mut Passive<'_>);

    /// `FilterSetModuleOptions`: whether the send handlers are wanted.
    fn wants_handlers(this: &Shared<Self>, passive: &mut Passive<'_>) -> bool;

    /// Whether they are there.
    fn handlers_set(this: &Shared<Self>, installed: bool);

    /// `FilterRestart`.
    fn restart(
        this: &Shared<Self>,
        passive: &mut Passive<'_>,
        attributes: Option<RestartAttributes>,
    ) -> Result<Restart, Status>;

    /// `FilterPause`, which cannot fail.
    fn pause(this: &Shared<Self>, passive: &mut Passive<'_>) -> Pause;

    /// `FilterSendNetBufferLists`: lists of the host, to be passed on or completed.
    fn send(this: &Shared<Self>, level: &mut AtMostDispatch<'_>, lists: Chain, port: u32, flags: u32);

    /// `FilterSendNetBufferListsComplete`: lists came back, own and others', in any order and mixture. What is returned
    /// is dropped last.
    fn send_complete(
        this: &Shared<Self>,
        level: &mut AtMostDispatch<'_>,
        lists: Chain,
        flags: u32,
    ) -> Option<PauseComplete>;

    /// `FilterStatus`, for `NDIS_STATUS_LINK_STATE`: the link changed. The indication is passed on afterwards.
    fn link_changed(_this: &Shared<Self>, _level: &mut AtMostDispatch<'_>, _link: Link) {}

    /// The OID requests that pass, and the module's own.
    fn oids(&self) -> &Passage;
}

/// What `FilterAttach` is told of an adapter.
#[derive(Clone, Copy, Debug)]
pub struct Adapter<'a>(&'a NDIS_FILTER_ATTACH_PARAMETERS);

impl Adapter<'_> {
    /// `NdisMedium…`.
    pub fn medium(&self) -> i32 {
        self.0.MiniportMediaType
    }

    /// The adapter's device name, `\DEVICE\{…}`.
    pub fn device_name(&self) -> &[u16] {
        // SAFETY: NDIS provides the adapter's device name, for the time of the callback.
        unsafe { text(self.0.BaseMiniportName) }
    }

    /// The adapter's name for people.
    pub fn friendly_name(&self) -> &[u16] {
        // SAFETY: NDIS provides the adapter's friendly name, for the time of the callback.
        unsafe { text(self.0.BaseMiniportInstanceName) }
    }

    /// Its LUID.
    pub fn luid(&self) -> u64 {
        self.0.BaseMiniportNetLuid
    }

    /// Its interface index.
    pub fn if_index(&self) -> u32 {
        self.0.BaseMiniportIfIndex
    }

    /// Its link, when the module is attached.
    pub fn link(&self) -> Link {
        Link::new(self.0.MediaConnectState, self.0.XmitLinkSpeed)
    }

    /// Its MAC address, of up to 32 bytes.
    pub fn mac(&self) -> &[u8] {
        let length = usize::from(self.0.MacAddressLength);
        self.0.CurrentMacAddress.get(..length).unwrap_or(&self.0.CurrentMacAddress)
    }

    /// Its physical device object, where this version of NDIS tells.
    pub fn physical_device(&self) -> Option<PhysicalDevice> {
        if self.0.Header.Size < NDIS_SIZEOF_FILTER_ATTACH_PARAMETERS_REVISION_3 {
            return None;
        }
        PhysicalDevice::new(self.0.MiniportPhysicalDeviceObject.cast())
    }

    /// `NetBufferListInfo` slots of the running system.
    pub fn list_info_slots(&self) -> usize {
        ndis_sys::nbl_info_slots(ndis_version() & 0xFFFF)
    }
}

/// # Safety
/// `string` is null or a valid counted string that outlives the result's use.
unsafe fn text<'a>(string: *const NDIS_STRING) -> &'a [u16] {
    // SAFETY: as promised by the caller.
    let Some(string) = (unsafe { string.as_ref() }) else { return &[] };
    if string.Buffer.is_null() {
        return &[];
    }
    // SAFETY: a counted string has `Length` bytes.
    unsafe { core::slice::from_raw_parts(string.Buffer, usize::from(string.Length / 2)) }
}

/// What unloading undoes.
struct Loaded {
    registration: Registration,
    device: ControlDevice,
}

static LOADED: SpinLock<Option<Loaded>> = SpinLock::new(None);
static NDIS_VERSION: AtomicU32 = AtomicU32::new(0);
static HANDLE: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());

/// The registered filter driver's handle, or null before it registers.
pub(crate) fn handle() -> NDIS_HANDLE {
    HANDLE.load(Ordering::Acquire)
}

/// `(6 << 16) | minor` that the driver registered with.
pub fn ndis_version() -> u32 {
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

const fn counted(text: Text) -> NDIS_STRING {
    let string = text.counted();
    NDIS_STRING { Length: string.Length, MaximumLength: string.MaximumLength, Buffer: string.Buffer }
}

fn characteristics<D: Driver>(minor: u32) -> NDIS_FILTER_DRIVER_CHARACTERISTICS {
    let names = D::names();
    NDIS_FILTER_DRIVER_CHARACTERISTICS {
        Header: NDIS_OBJECT_HEADER {
            Type: NDIS_OBJECT_TYPE_FILTER_DRIVER_CHARACTERISTICS,
            Revision: NDIS_FILTER_CHARACTERISTICS_REVISION_3,
            Size: NDIS_SIZEOF_FILTER_DRIVER_CHARACTERISTICS_REVISION_3,
        },
        MajorNdisVersion: 6,
        MinorNdisVersion: minor as u8,
        MajorDriverVersion: D::VERSION.0,
        MinorDriverVersion: D::VERSION.1,
        Flags: 0,
        FriendlyName: counted(names.friendly),
        UniqueName: counted(names.unique),
        ServiceName: counted(names.service),
        SetOptionsHandler: Some(set_options),
        SetFilterModuleOptionsHandler: Some(set_module_options::<D::Module>),
        AttachHandler: Some(attach::<D::Module>),
        DetachHandler: Some(detach::<D::Module>),
        RestartHandler: Some(restart::<D::Module>),
        PauseHandler: Some(pause::<D::Module>),
        // Bypass: the data handlers are installed for modules that are used.
        SendNetBufferListsHandler: None,
        SendNetBufferListsCompleteHandler: None,
        CancelSendNetBufferListsHandler: None,
        ReceiveNetBufferListsHandler: None,
        ReturnNetBufferListsHandler: None,
        OidRequestHandler: Some(oid_request::<D::Module>),
        OidRequestCompleteHandler: Some(oid_request_complete::<D::Module>),
        CancelOidRequestHandler: Some(cancel_oid_request::<D::Module>),
        DevicePnPEventNotifyHandler: Some(device_pnp_event::<D::Module>),
        NetPnPEventHandler: Some(net_pnp_event::<D::Module>),
        StatusHandler: Some(indicate_status::<D::Module>),
        DirectOidRequestHandler: None,
        DirectOidRequestCompleteHandler: None,
        CancelDirectOidRequestHandler: None,
        SynchronousOidRequestHandler: None,
        SynchronousOidRequestCompleteHandler: None,
    }
}

/// What `DriverEntry` does.
///
/// # Safety
/// The caller is `DriverEntry` and passes on its driver object. One driver in an image.
pub unsafe fn load<D: Driver>(driver: &mut DRIVER_OBJECT) -> NTSTATUS {
    // SAFETY: the system loads drivers at PASSIVE_LEVEL.
    let mut passive = unsafe { Passive::assume() };
    let Some(minor) = minor_for(filter::running_version()) else { return NDIS_STATUS_BAD_VERSION };
    NDIS_VERSION.store(6 << 16 | minor, Ordering::Relaxed);
    driver.DriverUnload = Some(unload);
    filter::take_cancel_id_prefix();
    // SAFETY: nothing of the driver runs yet; unloading, and a failure below, unregister it.
    unsafe { trace::register() };
    let loaded = load_registered::<D>(&mut passive, driver, minor);
    if loaded != NDIS_STATUS_SUCCESS {
        trace::unregister();
    }
    loaded
}

/// Registers with NDIS, and makes the control device.
fn load_registered<D: Driver>(passive: &mut Passive<'_>, driver: &mut DRIVER_OBJECT, minor: u32) -> NTSTATUS {
    // SAFETY: the driver object is the system's; strings and handlers are static.
    let registration = match unsafe { Registration::new(passive, driver, &characteristics::<D>(minor)) } {
        Ok(registration) => registration,
        Err(status) => return status,
    };
    let names = D::names();
    let names = ControlDeviceNames {
        device: counted(names.device),
        symbolic: counted(names.symbolic),
        sddl: counted(names.sddl),
    };
    let mut dispatch = device::dispatch_table::<D::Device>();
    // SAFETY: the strings are static; the table has only routines that handle their requests.
    match unsafe { registration.control_device(passive, &names, &mut dispatch) } {
        Ok(device) => {
            LOADED.with(passive, |loaded, _| *loaded = Some(Loaded { registration, device }));
            NDIS_STATUS_SUCCESS
        }
        Err(status) => {
            registration.deregister(passive);
            status
        }
    }
}

/// `DriverUnload`: no client has a handle any more.
unsafe extern "C" fn unload(_driver: *mut DRIVER_OBJECT) {
    // SAFETY: the system unloads drivers at PASSIVE_LEVEL.
    let mut passive = unsafe { Passive::assume() };
    if let Some(Loaded { registration, device }) = LOADED.with(&mut passive, |loaded, _| loaded.take()) {
        // First no client can come, then no adapter.
        device.remove(&passive);
        registration.deregister(&passive);
    }
    trace::unregister();
}

/// `DriverEntry` of an image that is a [`Driver`]: the one symbol that the system looks for.
#[macro_export]
macro_rules! driver_entry {
    ($driver:ty) => {
        /// `DriverEntry`.
        ///
        /// # Safety
        /// Called once, by the system.
        #[unsafe(export_name = "DriverEntry")]
        unsafe extern "system" fn driver_entry(
            driver: &mut $crate::driver::DriverObject,
            _registry_path: $crate::driver::RegistryPath,
        ) -> $crate::Status {
            // SAFETY: this is `DriverEntry`, and the image's only driver.
            unsafe { $crate::driver::load::<$driver>(driver) }
        }
    };
}

/// `DRIVER_OBJECT`, for [`driver_entry!`](crate::driver_entry).
pub type DriverObject = DRIVER_OBJECT;
/// `PCUNICODE_STRING`, for [`driver_entry!`](crate::driver_entry).
pub type RegistryPath = wdk_sys::PCUNICODE_STRING;

/// The module of a callback.
///
/// # Safety
/// `context` is what [`attach`] gave NDIS, and the module is not detached before the last use of what is returned.
unsafe fn module<F: Filter>(context: NDIS_HANDLE) -> core::mem::ManuallyDrop<Shared<F>> {
    // SAFETY: NDIS's reference keeps the module until FilterDetach.
    unsafe { Shared::borrow(context.cast::<F>()) }
}

/// The handle of a module, which the glue needs for what passes.
///
/// # Safety
/// As for [`module`].
unsafe fn handle_of<F: Filter>(context: NDIS_HANDLE) -> Handle {
    // SAFETY: as promised by the caller.
    unsafe { module::<F>(context) }.oids().module()
}

fn status(result: Result<(), Status>) -> NDIS_STATUS {
    result.map_or_else(|error| error, |()| NDIS_STATUS_SUCCESS)
}

/// `FilterSetOptions`: no optional driver handlers. NDIS calls it while the driver registers, before any module is
/// attached, so the handle is known to every module.
unsafe extern "system" fn set_options(driver: NDIS_HANDLE, _context: NDIS_HANDLE) -> NDIS_STATUS {
    HANDLE.store(driver, Ordering::Release);
    NDIS_STATUS_SUCCESS
}

/// `FilterAttach`: attaches a module, or leaves nothing behind.
unsafe extern "system" fn attach<F: Filter>(
    handle: NDIS_HANDLE,
    _driver_context: NDIS_HANDLE,
    parameters: *mut NDIS_FILTER_ATTACH_PARAMETERS,
) -> NDIS_STATUS {
    // SAFETY: NDIS attaches at PASSIVE_LEVEL, with no lock of this driver held.
    let mut passive = unsafe { Passive::assume() };
    // SAFETY: NDIS keeps the parameters for the time of the callback.
    let parameters = unsafe { &*parameters };
    if parameters.Header.Size < NDIS_SIZEOF_FILTER_ATTACH_PARAMETERS_REVISION_1 {
        return NDIS_STATUS_FAILURE;
    }
    // SAFETY: the module uses its handle only while it is attached.
    let handle = unsafe { Handle::from_raw(handle) };
    let module = match F::attach(&mut passive, handle, Adapter(parameters)) {
        Ok(module) => module,
        Err(refused) => {
            trace::attach_failed(refused);
            return refused;
        }
    };
    // SAFETY: the reference that is given up below lives until FilterDetach.
    let known = unsafe { handle.set_attributes(&passive, module.address().cast()) };
    if let Err(refused) = known.and_then(|()| F::attached(&module, &mut passive)) {
        trace::attach_failed(refused);
        F::detach(&module, &mut passive);
        return refused;
    }
    // NDIS holds this reference as the module's context.
    let _context = module.into_raw();
    NDIS_STATUS_SUCCESS
}

/// `FilterDetach`.
unsafe extern "system" fn detach<F: Filter>(context: NDIS_HANDLE) {
    // SAFETY: NDIS detaches at PASSIVE_LEVEL, with no lock of this driver held.
    let mut passive = unsafe { Passive::assume() };
    // SAFETY: `attach` gave this reference up, and NDIS uses the context no more.
    let module: Shared<F> = unsafe { Shared::from_raw(context.cast::<F>()) };
    F::detach(&module, &mut passive);
}

/// `FilterSetModuleOptions`: the data handlers are there while somebody uses the module, and only then.
unsafe extern "system" fn set_module_options<F: Filter>(context: NDIS_HANDLE) -> NDIS_STATUS {
    // SAFETY: NDIS keeps the module attached during the callback.
    let module = unsafe { module::<F>(context) };
    // SAFETY: NDIS calls this at PASSIVE_LEVEL, with no lock of this driver held.
    let mut passive = unsafe { Passive::assume() };
    let wanted = F::wants_handlers(&module, &mut passive);
    let mut handlers = NDIS_FILTER_PARTIAL_CHARACTERISTICS {
        Header: NDIS_OBJECT_HEADER {
            Type: NDIS_OBJECT_TYPE_FILTER_PARTIAL_CHARACTERISTICS,
            Revision: NDIS_FILTER_PARTIAL_CHARACTERISTICS_REVISION_1,
            Size: NDIS_SIZEOF_FILTER_PARTIAL_CHARACTERISTICS_REVISION_1,
        },
        Flags: 0,
        SendNetBufferListsHandler: None,
        SendNetBufferListsCompleteHandler: None,
        CancelSendNetBufferListsHandler: None,
        ReceiveNetBufferListsHandler: None,
        ReturnNetBufferListsHandler: None,
    };
    if wanted {
        handlers.SendNetBufferListsHandler = Some(send::<F>);
        handlers.SendNetBufferListsCompleteHandler = Some(send_complete::<F>);
        handlers.CancelSendNetBufferListsHandler = Some(cancel_send::<F>);
    }
    let result = module.oids().module().set_handlers(&passive, &handlers);
    F::handlers_set(&module, wanted && result.is_ok());
    status(result)
}

/// `FilterRestart`.
unsafe extern "system" fn restart<F: Filter>(
    context: NDIS_HANDLE,
    parameters: *mut NDIS_FILTER_RESTART_PARAMETERS,
) -> NDIS_STATUS {
    // SAFETY: NDIS keeps the module attached during the callback.
    let module = unsafe { module::<F>(context) };
    // SAFETY: NDIS restarts at PASSIVE_LEVEL, with no lock of this driver held.
    let mut passive = unsafe { Passive::assume() };
    // SAFETY: the parameters are passed on as they came.
    let attributes = unsafe { restart_attributes(parameters) };
    match F::restart(&module, &mut passive, attributes) {
        Ok(Restart::Complete) => NDIS_STATUS_SUCCESS,
        Ok(Restart::Pending) => NDIS_STATUS_PENDING,
        Err(failed) => failed,
    }
}

/// MTU and backfill from the restart attributes, if NDIS passes any.
///
/// # Safety
/// `parameters` are those of `FilterRestart`.
unsafe fn restart_attributes(parameters: *const NDIS_FILTER_RESTART_PARAMETERS) -> Option<RestartAttributes> {
    // SAFETY: NDIS keeps the parameters for the time of the callback.
    let mut at = unsafe { parameters.as_ref() }?.RestartAttributes.cast_const();
    // SAFETY: the list is NDIS's, linked by Next and ended by null.
    while let Some(entry) = unsafe { at.as_ref() } {
        let long_enough = entry.DataLength >= u32::from(NDIS_SIZEOF_RESTART_GENERAL_ATTRIBUTES_REVISION_1);
        if entry.Oid == OID_GEN_MINIPORT_RESTART_ATTRIBUTES && long_enough {
            let offset = core::mem::offset_of!(NDIS_RESTART_ATTRIBUTES, Data);
            // SAFETY: the data follows its entry, aligned to 16, and has been found long enough.
            let general = unsafe { at.byte_add(offset) }.cast::<NDIS_RESTART_GENERAL_ATTRIBUTES>();
            // SAFETY: as above.
            let mtu = unsafe { (*general).MtuSize };
            // SAFETY: as above; both fields are in the first revision.
            let backfill = unsafe { (*general).DataBackFillSize };
            return Some(RestartAttributes { mtu, backfill });
        }
        at = entry.Next;
    }
    None
}

/// `FilterPause`.
unsafe extern "system" fn pause<F: Filter>(
    context: NDIS_HANDLE,
    _parameters: *mut NDIS_FILTER_PAUSE_PARAMETERS,
) -> NDIS_STATUS {
    // SAFETY: NDIS keeps the module attached during the callback.
    let module = unsafe { module::<F>(context) };
    // SAFETY: NDIS pauses at PASSIVE_LEVEL, with no lock of this driver held.
    let mut passive = unsafe { Passive::assume() };
    match F::pause(&module, &mut passive) {
        Pause::Complete => NDIS_STATUS_SUCCESS,
        Pause::Pending => NDIS_STATUS_PENDING,
    }
}

/// `FilterSendNetBufferLists`.
unsafe extern "system" fn send<F: Filter>(
    context: NDIS_HANDLE,
    lists: *mut NET_BUFFER_LIST,
    port: u32,
    flags: u32,
) {
    // SAFETY: NDIS keeps the module attached during the callback.
    let module = unsafe { module::<F>(context) };
    // SAFETY: NDIS hands the lists over.
    let lists = unsafe { Chain::from_raw(lists) };
    // SAFETY: NDIS sends at DISPATCH_LEVEL or below, with no lock of this driver held.
    let mut level = unsafe { AtMostDispatch::assume() };
    F::send(&module, &mut level, lists, port, flags);
}

/// `FilterSendNetBufferListsComplete`.
unsafe extern "system" fn send_complete<F: Filter>(
    context: NDIS_HANDLE,
    lists: *mut NET_BUFFER_LIST,
    flags: u32,
) {
    // SAFETY: NDIS keeps the module attached until its last list is counted back.
    let module = unsafe { module::<F>(context) };
    // SAFETY: NDIS hands the lists over.
    let lists = unsafe { Chain::from_raw(lists) };
    // SAFETY: NDIS completes at DISPATCH_LEVEL or below, with no lock of this driver held.
    let mut level = unsafe { AtMostDispatch::assume() };
    let last = F::send_complete(&module, &mut level, lists, flags);
    // From here on the module may be detached and gone: nothing of it is touched.
    drop(last);
}

/// `FilterCancelSendNetBufferLists`: nothing of others is queued here, so the drivers below are asked.
unsafe extern "system" fn cancel_send<F: Filter>(context: NDIS_HANDLE, id: *mut c_void) {
    // SAFETY: NDIS keeps the module attached during the callback.
    let handle = unsafe { handle_of::<F>(context) };
    // SAFETY: NDIS cancels at DISPATCH_LEVEL or below, with no lock of this driver held.
    let level = unsafe { AtMostDispatch::assume() };
    handle.cancel_sends(&level, id as u64);
}

/// `FilterOidRequest`.
unsafe extern "system" fn oid_request<F: Filter>(
    context: NDIS_HANDLE,
    request: *mut NDIS_OID_REQUEST,
) -> NDIS_STATUS {
    // SAFETY: NDIS keeps the module attached during the callback.
    let module = unsafe { module::<F>(context) };
    // SAFETY: NDIS asks at DISPATCH_LEVEL or below, with no lock of this driver held.
    let mut level = unsafe { AtMostDispatch::assume() };
    // SAFETY: the request is passed on as it came.
    unsafe { module.oids().forward(&mut level, request, F::TAG) }
}

/// `FilterOidRequestComplete`.
unsafe extern "system" fn oid_request_complete<F: Filter>(
    context: NDIS_HANDLE,
    request: *mut NDIS_OID_REQUEST,
    status: NDIS_STATUS,
) {
    // SAFETY: NDIS keeps the module attached during the callback.
    let module = unsafe { module::<F>(context) };
    // SAFETY: NDIS answers at DISPATCH_LEVEL or below, with no lock of this driver held.
    let mut level = unsafe { AtMostDispatch::assume() };
    // SAFETY: the request is the clone that was forwarded.
    unsafe { module.oids().completed(&mut level, request, status) };
}

/// `FilterCancelOidRequest`.
unsafe extern "system" fn cancel_oid_request<F: Filter>(context: NDIS_HANDLE, id: *mut c_void) {
    // SAFETY: NDIS keeps the module attached during the callback.
    let module = unsafe { module::<F>(context) };
    // SAFETY: NDIS cancels at DISPATCH_LEVEL or below, with no lock of this driver held.
    let mut level = unsafe { AtMostDispatch::assume() };
    module.oids().cancel(&mut level, id as u64);
}

/// `FilterStatus`.
unsafe extern "system" fn indicate_status<F: Filter>(
    context: NDIS_HANDLE,
    indication: *mut NDIS_STATUS_INDICATION,
) {
    // SAFETY: NDIS keeps the module attached during the callback.
    let module = unsafe { module::<F>(context) };
    // SAFETY: NDIS keeps the indication for the time of the callback.
    if let Some(link) = unsafe { link_of(indication) } {
        // SAFETY: NDIS indicates at DISPATCH_LEVEL or below, with no lock of this driver held.
        let mut level = unsafe { AtMostDispatch::assume() };
        F::link_changed(&module, &mut level, link);
    }
    // SAFETY: the indication is passed on as it came.
    unsafe { module.oids().module().indicate_status(indication) };
}

/// The link's state, if an indication tells it, in all the bytes that it takes (page "`NDIS_STATUS_LINK_STATE`").
///
/// # Safety
/// `indication` is what `FilterStatus` received.
unsafe fn link_of(indication: *const NDIS_STATUS_INDICATION) -> Option<Link> {
    // SAFETY: as promised by the caller.
    let indication = unsafe { indication.as_ref() }?;
    if indication.StatusCode != NDIS_STATUS_LINK_STATE
        || indication.StatusBufferSize < u32::from(NDIS_SIZEOF_LINK_STATE_REVISION_1)
    {
        return None;
    }
    let state = indication.StatusBuffer.cast_const().cast::<NDIS_LINK_STATE>();
    // SAFETY: the buffer has as many bytes as the indication says, and they were found to be enough.
    let state = unsafe { state.as_ref() }?;
    Some(Link::new(state.MediaConnectState, state.XmitLinkSpeed))
}

/// `FilterNetPnPEvent`.
unsafe extern "system" fn net_pnp_event<F: Filter>(
    context: NDIS_HANDLE,
    event: *mut NET_PNP_EVENT_NOTIFICATION,
) -> NDIS_STATUS {
    // SAFETY: NDIS keeps the module attached during the callback.
    let handle = unsafe { handle_of::<F>(context) };
    // SAFETY: NDIS calls this at PASSIVE_LEVEL.
    let passive = unsafe { Passive::assume() };
    // SAFETY: the event is passed on as it came.
    unsafe { handle.net_pnp_event(&passive, event) }
}

/// `FilterDevicePnPEventNotify`.
unsafe extern "system" fn device_pnp_event<F: Filter>(
    context: NDIS_HANDLE,
    event: *mut NET_DEVICE_PNP_EVENT,
) {
    // SAFETY: NDIS keeps the module attached during the callback.
    let handle = unsafe { handle_of::<F>(context) };
    // SAFETY: NDIS calls this at PASSIVE_LEVEL.
    let passive = unsafe { Passive::assume() };
    // SAFETY: the event is passed on as it came.
    unsafe { handle.device_pnp_event(&passive, event) };
}
