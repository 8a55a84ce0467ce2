//! IRPs: owned until completed, and completed once.
//!
//! A handle stays open while one of its IRPs is not completed, so completing an IRP may release what the handle keeps,
//! and with it the last reference to the driver's own objects. Both ways to complete an IRP rule out a use after that:
//! a dispatch routine's answer is a [`Disposition`], which the glue completes when the routine has returned; an IRP
//! that pends is a [`PendingIrp`], which carries a counted reference and gives it back when it is completed.
#![expect(unsafe_code, reason = "reads and completes IRPs")]
use core::ffi::c_void;
use core::marker::PhantomData;
use core::mem::offset_of;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, Ordering};

use wdk_sys::ntddk::{IoReleaseCancelSpinLock, IofCompleteRequest, MmMapLockedPagesSpecifyCache};
use wdk_sys::{DEVICE_OBJECT, FILE_OBJECT, IO_STACK_LOCATION, IRP, MDL, NTSTATUS, STATUS_PENDING};

use crate::shared::Shared;

/// Offset of `Tail.Overlay.CurrentStackLocation` in an IRP on 64-bit Windows; bindgen numbers the unnamed
/// members that lie between, so their path is not spelled.
const CURRENT_STACK_LOCATION: usize = 0xB8;
/// `SL_PENDING_RETURNED`.
const PENDING_RETURNED: u8 = 1;
/// `MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL`.
const MAPPED: i16 = 0x5;
/// `MmCached`.
const CACHED: i32 = 1;
/// `NormalPagePriority | MdlMappingNoExecute`.
const PRIORITY: i32 = 16 | 0x4000_0000;

const _: () = {
    assert!(size_of::<IRP>() == 0xD0);
    assert!(offset_of!(IRP, IoStatus) == 0x30);
    assert!(offset_of!(IRP, CancelRoutine) == 0x68);
    assert!(offset_of!(IRP, Tail) == 0x78);
    assert!(size_of::<IO_STACK_LOCATION>() == 0x48);
    assert!(offset_of!(IO_STACK_LOCATION, FileObject) == 0x30);
    assert!(offset_of!(FILE_OBJECT, FsContext) == 0x18);
    assert!(offset_of!(FILE_OBJECT, RelatedFileObject) == 0x40);
    assert!(offset_of!(FILE_OBJECT, FileName) == 0x58);
    assert!(size_of::<MDL>() == 0x30);
};

/// What a dispatch routine returns: the answer to its IRP, or that the IRP pends. Only answering or pending an IRP makes
/// one; the glue completes an answered IRP after the routine has returned, when nothing is borrowed from its handle.
///
/// `'irp` is that of the request, and no other request's: a routine returns the disposition of the request that it was
/// called with, and keeps none for later.
#[must_use = "an answer that is dropped never completes its IRP"]
#[derive(Debug)]
pub struct Disposition<'irp>(Answer, Brand<'irp>);

/// Makes a lifetime invariant: two requests have different ones.
pub(crate) type Brand<'irp> = PhantomData<fn(&'irp ()) -> &'irp ()>;

#[derive(Debug)]
enum Answer {
    Complete(Irp, NTSTATUS),
    Pending,
}

impl Disposition<'_> {
    /// Completes an answered IRP; returns the status for the I/O manager. The IRP's handle, and what only that handle
    /// keeps, may be gone afterwards.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    pub(crate) fn finish(self) -> NTSTATUS {
        match self.0 {
            Answer::Complete(irp, status) => {
                irp.complete();
                status
            }
            Answer::Pending => STATUS_PENDING,
        }
    }
}

/// An IRP that this driver owns: read through this type, completed through [`Disposition`] or [`PendingIrp`].
#[must_use = "an IRP that is dropped never completes"]
#[derive(Debug)]
pub struct Irp(NonNull<IRP>);

// SAFETY: whoever owns an IRP may use it from any thread.
unsafe impl Send for Irp {}

/// `IRP_MJ_DEVICE_CONTROL`.
const DEVICE_CONTROL: u8 = 0x0E;

/// Parameters of a device control request.
#[derive(Clone, Copy, Debug)]
pub struct Control {
    /// The control code.
    pub code: u32,
    /// Bytes of input.
    pub input_length: usize,
    /// Bytes of room for output.
    pub output_length: usize,
}

/// How a control code's data comes, which its low two bits say (page "Buffer Descriptions for I/O Control Codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Buffered,
    Direct,
    Neither,
}

impl Control {
    const fn method(self) -> Method {
        match self.code & 3 {
            0 => Method::Buffered,
            3 => Method::Neither,
            _ => Method::Direct,
        }
    }
}

/// The file object that a request came through: all requests of one handle have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File(*mut FILE_OBJECT);

// SAFETY: the pointer is only compared, or used by this crate where it is known to be alive.
unsafe impl Send for File {}
// SAFETY: as above.
unsafe impl Sync for File {}

impl File {
    /// The object's address, for comparisons that take no type.
    pub fn address(self) -> *mut FILE_OBJECT {
        self.0
    }

    /// The place in the file object that is its driver's, where `create` keeps what the handle stands for.
    ///
    /// # Safety
    /// The file is open until the reference ends, and its context is null or an `H`.
    pub(crate) unsafe fn handle<'a, H>(self) -> Option<&'a H> {
        // SAFETY: as promised by the caller.
        let context = unsafe { (*self.0).FsContext };
        // SAFETY: as promised by the caller.
        unsafe { context.cast::<H>().as_ref() }
    }
}

/// A client's pages that the I/O manager has locked, mapped for the kernel: they stay until the request is
/// completed, but the client may change them at any time, so bytes are copied out before they are looked at.
#[derive(Clone, Copy, Debug)]
pub struct LockedPages<'irp> {
    address: NonNull<u8>,
    length: usize,
    irp: PhantomData<&'irp [u8]>,
}

impl LockedPages<'_> {
    /// No pages, of a request without data.
    pub const fn none() -> Self {
        Self { address: NonNull::dangling(), length: 0, irp: PhantomData }
    }

    /// Bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Where they lie, for whoever keeps the request and looks at the length.
    pub fn address(&self) -> NonNull<u8> {
        self.address
    }

    /// Pages that [`LockedPages::address`] and [`LockedPages::length`] told of.
    ///
    /// # Safety
    /// The request that the pages belong to is not completed before the lifetime ends.
    pub unsafe fn of(address: NonNull<u8>, length: usize) -> Self {
        Self { address, length, irp: PhantomData }
    }

    /// Copies bytes out; false, and nothing is copied, if they do not lie inside.
    ///
    /// # IRQL
    /// Any: the pages are locked. So is writing.
    pub fn read(&self, offset: usize, to: &mut [u8]) -> bool {
        if offset.checked_add(to.len()).is_none_or(|end| end > self.length) {
            return false;
        }
        let from = self.address.as_ptr().wrapping_add(offset);
        // SAFETY: the span lies inside the pages, which the request keeps; `to` is the driver's.
        unsafe { from.copy_to_nonoverlapping(to.as_mut_ptr(), to.len()) };
        true
    }

    /// Copies bytes in; false, and nothing is copied, if they do not lie inside.
    pub fn write(&self, offset: usize, from: &[u8]) -> bool {
        if offset.checked_add(from.len()).is_none_or(|end| end > self.length) {
            return false;
        }
        let to = self.address.as_ptr().wrapping_add(offset);
        // SAFETY: the span lies inside the pages, which the request keeps; `from` is the driver's.
        unsafe { to.copy_from_nonoverlapping(from.as_ptr(), from.len()) };
        true
    }
}

impl Irp {
    /// Takes the IRP that a dispatch routine received.
    ///
    /// # Safety
    /// The caller owns `irp`, and passes it on nowhere else.
    pub unsafe fn from_raw(irp: NonNull<IRP>) -> Self {
        Self(irp)
    }

    /// Gives the IRP up as a pointer; it is still to be completed.
    pub fn into_raw(self) -> NonNull<IRP> {
        self.0
    }

    fn get(&self) -> &IRP {
        // SAFETY: an owned IRP lives until it is completed.
        unsafe { self.0.as_ref() }
    }

    fn stack(&self) -> *mut IO_STACK_LOCATION {
        // SAFETY: the field lies inside the IRP.
        let field = unsafe { self.0.as_ptr().byte_add(CURRENT_STACK_LOCATION) };
        // SAFETY: every IRP that was dispatched has a current stack location.
        unsafe { *field.cast::<*mut IO_STACK_LOCATION>() }
    }

    /// The file object that the request came through.
    pub fn file(&self) -> File {
        // SAFETY: the stack location is this driver's.
        File(unsafe { (*self.stack()).FileObject })
    }

    /// Whether an `IRP_MJ_CREATE` is for a name below the device, or relative to another file, and not for the device
    /// itself. Of other requests it says nothing: a file's name is valid while it is created.
    pub(crate) fn opens_below(&self) -> bool {
        // SAFETY: the I/O manager keeps the file object for as long as a request for it.
        let file = unsafe { self.file().address().as_ref() };
        file.is_some_and(|file| file.FileName.Length != 0 || !file.RelatedFileObject.is_null())
    }

    /// Parameters, if this is a device control request.
    pub fn control(&self) -> Option<Control> {
        // SAFETY: the stack location is this driver's.
        let location = unsafe { &*self.stack() };
        if location.MajorFunction != DEVICE_CONTROL {
            return None;
        }
        // SAFETY: the major function selects this member of the union.
        let parameters = unsafe { location.Parameters.DeviceIoControl };
        Some(Control {
            code: parameters.IoControlCode,
            input_length: parameters.InputBufferLength as usize,
            output_length: parameters.OutputBufferLength as usize,
        })
    }

    /// The I/O manager's buffer of a buffered or direct request.
    fn system_buffer(&self) -> Option<NonNull<u8>> {
        // SAFETY: buffered and direct requests use this member of the union, and the callers know them to be that.
        NonNull::new(unsafe { self.get().AssociatedIrp.SystemBuffer }.cast())
    }

    /// The I/O manager's copy of a device control request's input. Empty where there is none: a request with
    /// `METHOD_NEITHER` has only addresses of the client's, which this crate gives no way to read.
    pub fn input(&self) -> &[u8] {
        let Some(control) = self.control().filter(|control| control.method() != Method::Neither) else {
            return &[];
        };
        match self.system_buffer() {
            Some(buffer) if control.input_length != 0 => {
                // SAFETY: the buffer holds the input; the I/O manager keeps it until completion.
                unsafe { core::slice::from_raw_parts(buffer.as_ptr(), control.input_length) }
            }
            _ => &[],
        }
    }

    /// The I/O manager's buffer for the answer to a buffered device control request. Empty where there is none.
    pub(crate) fn output(&mut self) -> &mut [u8] {
        let Some(control) = self.control().filter(|control| control.method() == Method::Buffered) else {
            return &mut [];
        };
        match self.system_buffer() {
            Some(buffer) if control.output_length != 0 => {
                // SAFETY: the buffer has room for the longer of input and output, and the IRP is borrowed mutably; the
                // I/O manager keeps it until completion.
                unsafe { core::slice::from_raw_parts_mut(buffer.as_ptr(), control.output_length) }
            }
            _ => &mut [],
        }
    }

    /// The client's own pages of a direct request, mapped for the kernel: `MmGetSystemAddressForMdlSafe`.
    /// None if the request has no pages, or memory for the mapping ran out.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    pub fn locked_pages(&self) -> Option<LockedPages<'_>> {
        let mdl = self.get().MdlAddress;
        if mdl.is_null() {
            return None;
        }
        // SAFETY: the I/O manager built and locked the MDL of a direct request.
        let fields = unsafe { &*mdl };
        let address = if fields.MdlFlags & MAPPED != 0 {
            fields.MappedSystemVa
        } else {
            // SAFETY: the pages are locked; the mapping is undone when the request is completed.
            unsafe { MmMapLockedPagesSpecifyCache(mdl, 0, CACHED, core::ptr::null_mut(), 0, PRIORITY as _) }
        };
        let address = NonNull::new(address.cast())?;
        Some(LockedPages { address, length: fields.ByteCount as usize, irp: PhantomData })
    }

    /// Sets the answer; the dispatch routine returns it, and the glue completes the request.
    pub(crate) fn answer<'irp>(mut self, status: NTSTATUS, information: usize) -> Disposition<'irp> {
        self.set_status(status, information);
        Disposition(Answer::Complete(self, status), PhantomData)
    }

    fn set_status(&mut self, status: NTSTATUS, information: usize) {
        // The I/O manager copies as many bytes to the client, whatever lies behind the buffer.
        let room = self.control().map_or(information, |control| control.output_length);
        assert!(information <= room, "an answer is no longer than the room for it");
        // SAFETY: the IRP is owned, and written only here.
        let irp = unsafe { self.0.as_mut() };
        irp.IoStatus.Information = information as u64;
        // The status is the named half of a union with a pointer; its offset is fixed.
        let place: *mut c_void = (&raw mut irp.IoStatus).cast();
        // SAFETY: the status is the first member of the block.
        unsafe { place.cast::<NTSTATUS>().write(status) };
    }

    /// Completes the request, whose answer is set.
    fn complete(self) {
        // SAFETY: the IRP is owned and not used again; it has no cancel routine.
        unsafe { IofCompleteRequest(self.0.as_ptr(), 0) };
    }

    /// Marks the request pending: the dispatch routine returns the disposition, and the IRP completes later, perhaps
    /// before the routine has returned. `owner` is the reference that the IRP keeps until then.
    pub(crate) fn pend<'irp, T>(self, owner: Shared<T>) -> (PendingIrp<T>, Disposition<'irp>) {
        // SAFETY: the stack location is this driver's.
        unsafe { (*self.stack()).Control |= PENDING_RETURNED };
        (PendingIrp { irp: self, owner }, Disposition(Answer::Pending, PhantomData))
    }

    /// Keeps a pointer in the part of the IRP that is the driver's while it owns it.
    pub fn set_context<T>(&self, context: &T) {
        let context: *const T = context;
        // SAFETY: the place lies inside the owned IRP.
        unsafe { self.context_place().write(context.cast()) };
    }

    /// What [`Irp::set_context`] kept.
    pub fn context(&self) -> *const c_void {
        // SAFETY: the place lies inside the owned IRP.
        unsafe { self.context_place().read() }
    }

    /// `DriverContext`, the first member of the tail's overlay.
    fn context_place(&self) -> *mut *const c_void {
        self.0.as_ptr().wrapping_byte_add(offset_of!(IRP, Tail)).cast()
    }
}

/// A value whose requests may pend: it belongs to a device with handles of one type.
pub trait Pends: Send + Sync + 'static {
    /// What a handle to the device stands for: [`crate::device::ControlDevice::Handle`].
    type Handle: Send + Sync + 'static;
}

/// An IRP that pends, and the reference that it keeps to the value that works on it.
///
/// While the IRP pends its handle stays open. Completing it may close the handle; what is done with the value
/// afterwards is done through the reference that [`PendingIrp::complete`] returns.
///
/// # Invariants
/// The IRP came through a handle to a device whose handles are `T::Handle`s.
#[must_use = "an IRP that is dropped never completes"]
pub struct PendingIrp<T> {
    irp: Irp,
    owner: Shared<T>,
}

impl<T> PendingIrp<T> {
    /// The value that works on the request.
    pub fn owner(&self) -> &Shared<T> {
        &self.owner
    }

    /// Completes the request. The reference that it kept is the caller's now; it may be the last one.
    ///
    /// # Panics
    /// If `information` is more bytes than the request has room for.
    ///
    /// # IRQL
    /// Up to `DISPATCH_LEVEL`.
    pub fn complete(mut self, status: NTSTATUS, information: usize) -> Shared<T> {
        self.irp.set_status(status, information);
        self.irp.complete();
        self.owner
    }

    /// Gives the IRP up as a pointer, and its reference with it; it is still to be completed.
    pub fn into_raw(self) -> NonNull<IRP> {
        let _reference = self.owner.into_raw();
        self.irp.into_raw()
    }

    /// Takes the IRP back.
    ///
    /// # Safety
    /// `irp` came from [`PendingIrp::into_raw`] of an IRP whose owner is at `owner`, and was not taken back before.
    pub unsafe fn from_raw(irp: NonNull<IRP>, owner: *const T) -> Self {
        // SAFETY: `into_raw` gave this reference up with the IRP.
        let owner = unsafe { Shared::from_raw(owner) };
        Self { irp: Irp(irp), owner }
    }
}

impl<T: Pends> PendingIrp<T> {
    /// The handle that the request came through. It is borrowed from the IRP, so it is not used after completion.
    pub fn handle(&self) -> Option<&T::Handle> {
        // SAFETY: the file object of an IRP that pends is open, and its context is a `T::Handle` by the invariant.
        unsafe { self.irp.file().handle() }
    }
}

impl<T> Deref for PendingIrp<T> {
    type Target = Irp;
    fn deref(&self) -> &Irp {
        &self.irp
    }
}

/// A cancel routine's own signature.
pub type CancelRoutine = unsafe extern "C" fn(*mut DEVICE_OBJECT, *mut IRP);

/// `IoSetCancelRoutine`: arms or disarms, and returns whether a routine was armed until now. A routine that
/// was not armed any more has been called, or is about to be.
///
/// # Safety
/// `irp` is alive for the time of the call.
///
/// # IRQL
/// Up to `DISPATCH_LEVEL`.
pub unsafe fn set_cancel_routine(irp: NonNull<IRP>, routine: Option<CancelRoutine>) -> bool {
    let new = routine.map_or(core::ptr::null_mut(), |routine| routine as *mut c_void);
    // SAFETY: the caller keeps the IRP alive, and the field lies inside it.
    let field = unsafe { &raw mut (*irp.as_ptr()).CancelRoutine };
    // SAFETY: the field is an aligned pointer that everybody changes atomically.
    let field = unsafe { AtomicPtr::from_ptr(field.cast::<*mut c_void>()) };
    !field.swap(new, Ordering::SeqCst).is_null()
}

/// Whether the request was asked to be cancelled.
///
/// # Safety
/// `irp` is alive for the time of the call.
pub unsafe fn cancelled(irp: NonNull<IRP>) -> bool {
    // SAFETY: the caller keeps the IRP alive.
    let flag = unsafe { &raw const (*irp.as_ptr()).Cancel };
    // SAFETY: the flag lies inside the IRP; the I/O manager sets it at any time.
    unsafe { flag.read_volatile() != 0 }
}

/// Releases the cancel spin lock, first thing in a cancel routine.
///
/// # Safety
/// The caller is a cancel routine that was called with `irp` and has not released the lock.
pub unsafe fn release_cancel_lock(irp: NonNull<IRP>) {
    // SAFETY: the IRP is alive in its cancel routine.
    let old = unsafe { (*irp.as_ptr()).CancelIrql };
    // SAFETY: the I/O manager took the lock for this call and left the old level in the IRP.
    unsafe { IoReleaseCancelSpinLock(old) };
}
