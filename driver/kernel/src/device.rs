//! A control device's dispatch routines, and what each handle to it stands for.
#![expect(unsafe_code, reason = "dispatch routines receive pointers")]
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;

use wdk_sys::{DEVICE_OBJECT, IRP, NTSTATUS, PDRIVER_DISPATCH, STATUS_INSUFFICIENT_RESOURCES};
use wdk_sys::{
    STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_DEVICE_STATE, STATUS_INVALID_PARAMETER,
    STATUS_OBJECT_NAME_INVALID,
};

use crate::irp::{Brand, Control, Disposition, File, Irp, PendingIrp, Pends};
use crate::irql::Passive;
use crate::pool::{PoolBox, Tag};
use crate::shared::Shared;

const IRP_MJ_CREATE: usize = 0x00;
const IRP_MJ_CLOSE: usize = 0x02;
const IRP_MJ_DEVICE_CONTROL: usize = 0x0E;
const IRP_MJ_CLEANUP: usize = 0x12;

/// A device object of this driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceObject(NonNull<DEVICE_OBJECT>);

// SAFETY: a device object is not tied to a thread.
unsafe impl Send for DeviceObject {}
// SAFETY: as above.
unsafe impl Sync for DeviceObject {}

impl DeviceObject {
    /// A device object.
    ///
    /// # Safety
    /// The object lives for as long as what is made with it: work items, and their users.
    pub unsafe fn from_raw(object: NonNull<DEVICE_OBJECT>) -> Self {
        Self(object)
    }

    /// The object as the kernel takes it.
    pub fn raw(self) -> *mut DEVICE_OBJECT {
        self.0.as_ptr()
    }
}

/// What a control device does, whose clients run in user mode.
pub trait ControlDevice: 'static {
    /// What a handle stands for. It is made when the handle is opened, and dropped when it is closed, which comes
    /// after all its requests have been completed.
    type Handle: Send + Sync + 'static;

    /// Tag of the handles.
    const TAG: Tag;

    /// A handle to `device` is opened.
    fn create(passive: &mut Passive<'_>, device: DeviceObject) -> Result<Self::Handle, NTSTATUS>;

    /// The last handle to a file object was closed: what came through it and waits is cancelled.
    fn cleanup(passive: &mut Passive<'_>, handle: &Self::Handle, file: File);

    /// A device control request.
    fn control<'a>(passive: &mut Passive<'_>, request: Request<'a, Self::Handle>) -> Disposition<'a>;
}

/// A device control request in its dispatch routine, with the handle that it came through.
///
/// An answered request is completed when the routine has returned. One that pends may be completed, and its handle
/// closed, at any moment: [`Request::pend`] consumes what the handle is borrowed from.
#[must_use = "a request is answered or pends"]
pub struct Request<'a, H> {
    irp: Irp,
    control: Control,
    handle: &'a H,
    brand: Brand<'a>,
}

impl<'a, H: Send + Sync + 'static> Request<'a, H> {
    /// Its parameters.
    pub fn parameters(&self) -> Control {
        self.control
    }

    /// What its handle stands for.
    pub fn handle(&self) -> &H {
        self.handle
    }

    /// The I/O manager's buffer for the answer to a buffered request. Empty where there is none.
    pub fn output(&mut self) -> &mut [u8] {
        self.irp.output()
    }

    /// Answers the request; `information` is in bytes.
    ///
    /// # Panics
    /// If that is more than the request has room for.
    pub fn complete(self, status: NTSTATUS, information: usize) -> Disposition<'a> {
        self.irp.answer(status, information)
    }

    /// Lets the request pend: the routine returns the disposition, and `owner` works on the IRP.
    pub fn pend<T: Pends<Handle = H>>(self, owner: Shared<T>) -> (PendingIrp<T>, Disposition<'a>) {
        self.irp.pend(owner)
    }
}

impl<H> Deref for Request<'_, H> {
    type Target = Irp;
    fn deref(&self) -> &Irp {
        &self.irp
    }
}

/// The dispatch table of a device: what is not here, the I/O manager refuses.
pub fn dispatch_table<D: ControlDevice>() -> [PDRIVER_DISPATCH; 28] {
    let mut table: [PDRIVER_DISPATCH; 28] = [None; 28];
    table[IRP_MJ_CREATE] = Some(create::<D>);
    table[IRP_MJ_CLOSE] = Some(close::<D>);
    table[IRP_MJ_DEVICE_CONTROL] = Some(control::<D>);
    table[IRP_MJ_CLEANUP] = Some(cleanup::<D>);
    table
}

/// Runs a dispatch routine's work.
///
/// # Safety
/// The caller is a dispatch routine of this device and passes on what it received.
unsafe fn dispatch(
    irp: *mut IRP,
    work: impl FnOnce(&mut Passive<'_>, Irp) -> Disposition<'static>,
) -> NTSTATUS {
    let Some(irp) = NonNull::new(irp) else { return STATUS_INVALID_PARAMETER };
    // SAFETY: the I/O manager hands the IRP over.
    let irp = unsafe { Irp::from_raw(irp) };
    // SAFETY: requests of user-mode clients arrive at PASSIVE_LEVEL, and no driver sits above this device.
    let mut passive = unsafe { Passive::assume() };
    // Completing the IRP is the last thing: the handle may be closed by then.
    work(&mut passive, irp).finish()
}

unsafe extern "C" fn create<D: ControlDevice>(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    let work = |passive: &mut Passive<'_>, irp: Irp| {
        let Some(device) = NonNull::new(device) else { return irp.answer(STATUS_INVALID_PARAMETER, 0) };
        if irp.opens_below() {
            // The I/O manager compares the descriptor of a device with who opens a name below it only where the device
            // has FILE_DEVICE_SECURE_OPEN, and nothing says that those which NDIS makes have.
            return irp.answer(STATUS_OBJECT_NAME_INVALID, 0);
        }
        // SAFETY: a device object lives while handles to it are open, and longer if work items refer to it.
        let handle = match D::create(passive, unsafe { DeviceObject::from_raw(device) }) {
            Ok(handle) => handle,
            Err(refused) => return irp.answer(refused, 0),
        };
        let Ok(handle) = PoolBox::new(handle, D::TAG) else {
            return irp.answer(STATUS_INSUFFICIENT_RESOURCES, 0);
        };
        // SAFETY: a file object that is being created is its driver's to fill in.
        unsafe { (*irp.file().address()).FsContext = handle.into_raw().cast() };
        irp.answer(0, 0)
    };
    // SAFETY: this is a dispatch routine.
    unsafe { dispatch(irp, work) }
}

unsafe extern "C" fn cleanup<D: ControlDevice>(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    let work = |passive: &mut Passive<'_>, irp: Irp| {
        let file = irp.file();
        // SAFETY: the file is open until IRP_MJ_CLOSE.
        if let Some(handle) = unsafe { file.handle::<D::Handle>() } {
            D::cleanup(passive, handle, file);
        }
        irp.answer(0, 0)
    };
    // SAFETY: this is a dispatch routine.
    unsafe { dispatch(irp, work) }
}

unsafe extern "C" fn close<D: ControlDevice>(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    let work = |_: &mut Passive<'_>, irp: Irp| {
        let file = irp.file().address();
        // SAFETY: the file object is alive during IRP_MJ_CLOSE.
        let handle = unsafe { core::mem::replace(&mut (*file).FsContext, core::ptr::null_mut()) };
        if let Some(handle) = NonNull::new(handle.cast::<D::Handle>()) {
            // SAFETY: `create` made it as a box with this tag; after the last request nobody uses it.
            drop(unsafe { PoolBox::from_raw(handle, D::TAG) });
        }
        irp.answer(0, 0)
    };
    // SAFETY: this is a dispatch routine.
    unsafe { dispatch(irp, work) }
}

unsafe extern "C" fn control<D: ControlDevice>(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    let work = |passive: &mut Passive<'_>, irp: Irp| {
        let Some(control) = irp.control() else { return irp.answer(STATUS_INVALID_DEVICE_REQUEST, 0) };
        // SAFETY: the file is open until IRP_MJ_CLOSE, which waits for this request.
        match unsafe { irp.file().handle::<D::Handle>() } {
            Some(handle) => D::control(passive, Request { irp, control, handle, brand: PhantomData }),
            None => irp.answer(STATUS_INVALID_DEVICE_STATE, 0),
        }
    };
    // SAFETY: this is a dispatch routine.
    unsafe { dispatch(irp, work) }
}
