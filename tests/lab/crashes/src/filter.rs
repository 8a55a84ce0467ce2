//! The filter of the fourth and fifth documents: it passes the host's traffic, and sends one frame of its own for each
//! request of a client. What it does when it is paused, and when a frame comes back, is the crash's: [`Accounting`].
use core::ffi::c_void;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering::SeqCst};

use ndis_sys::*;
use sluice_kernel::text::Text;
use sluice_kernel::wide;
use wdk_sys::ntddk::{ExAllocatePool2, ExFreePoolWithTag, IofCompleteRequest};
use wdk_sys::{DEVICE_OBJECT, DRIVER_OBJECT, IRP, NTSTATUS, PDRIVER_DISPATCH};

use crate::TAG;

/// Bytes of a frame.
const FRAME: u32 = 64;

/// What a version of the filter does with its own frames.
pub trait Accounting: 'static {
    /// `FilterRestart`.
    fn restart();
    /// `FilterPause`: `NDIS_STATUS_SUCCESS` or `NDIS_STATUS_PENDING`.
    fn pause() -> NDIS_STATUS;
    /// A client wants to send: whether a frame may be made.
    fn may_send() -> bool;
    /// A frame of the filter's own has come back, and its list was freed.
    fn sent();
    /// The module is attached, and [`module`] is its handle.
    fn attached() {}
    /// The module is being detached.
    fn detaching() {}
}

static DRIVER: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
static DEVICE: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
static MODULE: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
static POOL: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

fn counted(text: Text) -> NDIS_STRING {
    let text = text.counted();
    NDIS_STRING { Length: text.Length, MaximumLength: text.MaximumLength, Buffer: text.Buffer }
}

/// The module's handle.
pub fn module() -> NDIS_HANDLE {
    MODULE.load(SeqCst)
}

/// `NdisFPauseComplete`.
///
/// # Safety
/// A pause is pending, and nothing is out.
pub unsafe fn pause_complete() {
    unsafe { NdisFPauseComplete(module()) };
}

/// Makes a frame and sends it; false if memory ran out.
///
/// # Safety
/// The module is running.
pub unsafe fn send_one() -> bool {
    unsafe {
        let memory = ExAllocatePool2(0x40, u64::from(FRAME), TAG.value());
        if memory.is_null() {
            return false;
        }
        memory.cast::<[u8; FRAME as usize]>().write([0xFF; FRAME as usize]);
        let mdl = NdisAllocateMdl(module(), memory, FRAME);
        let list = NdisAllocateNetBufferAndNetBufferList(POOL.load(SeqCst), 0, 0, mdl, 0, FRAME as usize);
        if list.is_null() {
            return false;
        }
        (*list).SourceHandle = module();
        NdisFSendNetBufferLists(module(), list, 0, 0);
    }
    true
}

/// Frees a list that [`send_one`] made.
unsafe fn free(list: *mut NET_BUFFER_LIST) {
    unsafe {
        let mdl = (*nbl_first_nb(list)).Head.Data.MdlChain;
        let memory = (*mdl).MappedSystemVa;
        NdisFreeNetBufferList(list);
        NdisFreeMdl(mdl);
        ExFreePoolWithTag(memory, TAG.value());
    }
}

/// `DriverEntry` of a filter with this accounting.
///
/// # Safety
/// Called by `DriverEntry`, with its driver object.
pub unsafe fn register<A: Accounting>(driver: &mut DRIVER_OBJECT) -> NTSTATUS {
    driver.DriverUnload = Some(unload);
    let mut characteristics: NDIS_FILTER_DRIVER_CHARACTERISTICS = unsafe { core::mem::zeroed() };
    characteristics.Header = NDIS_OBJECT_HEADER {
        Type: NDIS_OBJECT_TYPE_FILTER_DRIVER_CHARACTERISTICS,
        Revision: NDIS_FILTER_CHARACTERISTICS_REVISION_2,
        Size: NDIS_SIZEOF_FILTER_DRIVER_CHARACTERISTICS_REVISION_2,
    };
    characteristics.MajorNdisVersion = 6;
    characteristics.MinorNdisVersion = 30;
    characteristics.FriendlyName = counted(wide!("lab"));
    characteristics.UniqueName = counted(wide!("lab"));
    characteristics.ServiceName = counted(wide!("lab"));
    characteristics.AttachHandler = Some(attach::<A>);
    characteristics.DetachHandler = Some(detach::<A>);
    characteristics.RestartHandler = Some(restart::<A>);
    characteristics.PauseHandler = Some(pause::<A>);
    characteristics.SendNetBufferListsHandler = Some(send);
    characteristics.SendNetBufferListsCompleteHandler = Some(send_complete::<A>);
    let mut handle = null_mut();
    let object: *mut DRIVER_OBJECT = driver;
    let status = unsafe {
        NdisFRegisterFilterDriver(object.cast(), object.cast(), &raw const characteristics, &raw mut handle)
    };
    if status != 0 {
        return status;
    }
    DRIVER.store(handle, SeqCst);
    let pool = NET_BUFFER_LIST_POOL_PARAMETERS {
        Header: NDIS_OBJECT_HEADER {
            Type: NDIS_OBJECT_TYPE_DEFAULT,
            Revision: NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
            Size: NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
        },
        ProtocolId: 0,
        fAllocateNetBuffer: 1,
        ContextSize: 0,
        PoolTag: TAG.value(),
        DataSize: 0,
        Flags: 0,
    };
    POOL.store(unsafe { NdisAllocateNetBufferListPool(handle, &raw const pool) }, SeqCst);
    let mut routines: [PDRIVER_DISPATCH; 28] = [None; 28];
    for routine in [0x00, 0x02, 0x12] {
        routines[routine] = Some(done);
    }
    routines[0x0E] = Some(control::<A>);
    let (mut name, mut link) = (counted(wide!("\\Device\\Lab")), counted(wide!("\\DosDevices\\Lab")));
    let attributes = NDIS_DEVICE_OBJECT_ATTRIBUTES {
        Header: NDIS_OBJECT_HEADER {
            Type: NDIS_OBJECT_TYPE_DEVICE_OBJECT_ATTRIBUTES,
            Revision: NDIS_DEVICE_OBJECT_ATTRIBUTES_REVISION_1,
            Size: NDIS_SIZEOF_DEVICE_OBJECT_ATTRIBUTES_REVISION_1,
        },
        DeviceName: &raw mut name,
        SymbolicName: &raw mut link,
        MajorFunctions: routines.as_mut_ptr().cast(),
        ExtensionSize: 0,
        DefaultSDDLString: core::ptr::null(),
        DeviceClassGuid: core::ptr::null(),
    };
    let (mut device, mut registered) = (null_mut(), null_mut());
    let status =
        unsafe { NdisRegisterDeviceEx(handle, &raw const attributes, &raw mut device, &raw mut registered) };
    DEVICE.store(registered, SeqCst);
    status
}

unsafe extern "C" fn unload(_driver: *mut DRIVER_OBJECT) {
    unsafe {
        NdisDeregisterDeviceEx(DEVICE.load(SeqCst));
        NdisFreeNetBufferListPool(POOL.load(SeqCst));
        NdisFDeregisterFilterDriver(DRIVER.load(SeqCst));
    }
}

unsafe extern "C" fn done(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    unsafe { IofCompleteRequest(irp, 0) };
    0
}

/// A client's request: one frame. This is `NPF_Write` of the fourth document.
unsafe extern "C" fn control<A: Accounting>(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    unsafe {
        if A::may_send() {
            send_one();
        }
        IofCompleteRequest(irp, 0);
    }
    0
}

unsafe extern "system" fn attach<A: Accounting>(
    handle: NDIS_HANDLE,
    _context: NDIS_HANDLE,
    _parameters: *mut NDIS_FILTER_ATTACH_PARAMETERS,
) -> NDIS_STATUS {
    let attributes = NDIS_FILTER_ATTRIBUTES {
        Header: NDIS_OBJECT_HEADER {
            Type: NDIS_OBJECT_TYPE_FILTER_ATTRIBUTES,
            Revision: NDIS_FILTER_ATTRIBUTES_REVISION_1,
            Size: NDIS_SIZEOF_FILTER_ATTRIBUTES_REVISION_1,
        },
        Flags: 0,
    };
    unsafe { NdisFSetAttributes(handle, handle, &raw const attributes) };
    MODULE.store(handle, SeqCst);
    A::attached();
    NDIS_STATUS_SUCCESS
}

unsafe extern "system" fn detach<A: Accounting>(_context: NDIS_HANDLE) {
    A::detaching();
}

unsafe extern "system" fn restart<A: Accounting>(
    _context: NDIS_HANDLE,
    _parameters: *mut NDIS_FILTER_RESTART_PARAMETERS,
) -> NDIS_STATUS {
    A::restart();
    NDIS_STATUS_SUCCESS
}

unsafe extern "system" fn pause<A: Accounting>(
    _context: NDIS_HANDLE,
    _parameters: *mut NDIS_FILTER_PAUSE_PARAMETERS,
) -> NDIS_STATUS {
    A::pause()
}

unsafe extern "system" fn send(_context: NDIS_HANDLE, lists: *mut NET_BUFFER_LIST, port: u32, flags: u32) {
    unsafe { NdisFSendNetBufferLists(module(), lists, port, flags) };
}

/// Own lists are known by their source handle, in every position of the chain; the others go up.
unsafe extern "system" fn send_complete<A: Accounting>(
    _context: NDIS_HANDLE,
    lists: *mut NET_BUFFER_LIST,
    flags: u32,
) {
    let mut at = lists;
    while !at.is_null() {
        unsafe {
            let next = nbl_next(at);
            nbl_set_next(at, null_mut());
            if (*at).SourceHandle == module() {
                free(at);
                A::sent();
            } else {
                NdisFSendNetBufferListsComplete(module(), at, flags);
            }
            at = next;
        }
    }
}

/// `DriverEntry` of a filter: `filter!(Wrong, Safe)`, each an [`Accounting`].
#[macro_export]
macro_rules! filter {
    ($wrong:ty, $safe:ty) => {
        /// `DriverEntry`.
        ///
        /// # Safety
        /// Called once, by the system.
        #[unsafe(export_name = "DriverEntry")]
        pub unsafe extern "system" fn driver_entry(
            driver: &mut wdk_sys::DRIVER_OBJECT,
            path: wdk_sys::PCUNICODE_STRING,
        ) -> wdk_sys::NTSTATUS {
            let entry = unsafe { $crate::Entry::new(driver, path) };
            if entry.safe {
                unsafe { $crate::filter::register::<$safe>(entry.driver) }
            } else {
                unsafe { $crate::filter::register::<$wrong>(entry.driver) }
            }
        }
    };
}
