//! Kernel objects as drivers see them: layouts of x64 Windows, from the public symbols of `ntoskrnl.exe`.
use crate::image::Image;
use crate::machine::current;
use crate::memory::{Use, get, put, put_bytes};

/// Offsets in an `IRP`.
pub(crate) mod irp {
    pub(crate) const SIZE: u64 = 0xD0;
    pub(crate) const MDL_ADDRESS: u64 = 0x08;
    pub(crate) const SYSTEM_BUFFER: u64 = 0x18;
    pub(crate) const STATUS: u64 = 0x30;
    pub(crate) const INFORMATION: u64 = 0x38;
    pub(crate) const STACK_COUNT: u64 = 0x42;
    pub(crate) const CURRENT_LOCATION: u64 = 0x43;
    pub(crate) const CANCEL: u64 = 0x44;
    pub(crate) const CANCEL_IRQL: u64 = 0x45;
    pub(crate) const CANCEL_ROUTINE: u64 = 0x68;
    pub(crate) const USER_BUFFER: u64 = 0x70;
    /// `Tail.Overlay.DriverContext[3]`, which a cancel-safe queue uses.
    pub(crate) const CSQ_CONTEXT: u64 = 0x90;
    pub(crate) const STACK_LOCATION: u64 = 0xB8;
}

/// Offsets in an `IO_STACK_LOCATION`.
pub(crate) mod location {
    pub(crate) const SIZE: u64 = 0x48;
    pub(crate) const MAJOR: u64 = 0x00;
    pub(crate) const CONTROL: u64 = 0x03;
    pub(crate) const OUTPUT_LENGTH: u64 = 0x08;
    pub(crate) const INPUT_LENGTH: u64 = 0x10;
    pub(crate) const CODE: u64 = 0x18;
    pub(crate) const DEVICE: u64 = 0x28;
    pub(crate) const FILE: u64 = 0x30;
}

/// Bytes of a `DEVICE_OBJECT`.
pub(crate) const DEVICE_OBJECT: u64 = 0x150;
/// Bytes of a `FILE_OBJECT`.
pub(crate) const FILE_OBJECT: u64 = 0xD8;
/// `DRIVER_OBJECT`: bytes, and the offset of `DriverUnload`.
const DRIVER_OBJECT: u64 = 0x150;
const DRIVER_UNLOAD: u64 = 0x68;
const MAJOR_FUNCTION: u64 = 0x70;
/// `DeviceObject` of a `DRIVER_OBJECT`: the first of its devices; `NextDevice` of a `DEVICE_OBJECT`.
const FIRST_DEVICE: u64 = 0x08;
const NEXT_DEVICE: u64 = 0x10;
/// `DeviceExtension` of a `DEVICE_OBJECT`.
pub(crate) const DEVICE_EXTENSION: u64 = 0x40;

/// A `DRIVER_OBJECT` for a loaded image.
pub(crate) fn driver_object(image: &Image) -> u64 {
    let machine = current();
    let object = machine.memory.allocate(DRIVER_OBJECT, Use::System("DRIVER_OBJECT"));
    put::<u16>(object, 4);
    put::<u16>(object + 2, DRIVER_OBJECT as u16);
    put::<u64>(object + 0x18, image.base);
    put::<u32>(object + 0x20, image.length as u32);
    put::<u64>(object + 0x58, image.entry);
    object
}

/// A driver's routine for a major function, 0 if there is none.
pub(crate) fn major_function(object: u64, major: u8) -> u64 {
    get(object + MAJOR_FUNCTION + u64::from(major) * 8)
}

/// The unload routine, 0 if there is none.
pub(crate) fn driver_unload(object: u64) -> u64 {
    get(object + DRIVER_UNLOAD)
}

/// A `DEVICE_OBJECT` with an extension of so many bytes.
pub(crate) fn device_object(driver: u64, extension: u64) -> u64 {
    let machine = current();
    let object = machine.memory.allocate(DEVICE_OBJECT + extension, Use::System("DEVICE_OBJECT"));
    put::<u64>(object + DEVICE_EXTENSION, if extension == 0 { 0 } else { object + DEVICE_OBJECT });
    put::<u16>(object, 3);
    put::<u16>(object + 2, DEVICE_OBJECT as u16);
    put::<u64>(object + 8, driver);
    object
}

/// Enters a device into its driver's list.
pub(crate) fn link_device(device: u64) {
    let driver: u64 = get(device + 8);
    put::<u64>(device + NEXT_DEVICE, get(driver + FIRST_DEVICE));
    put::<u64>(driver + FIRST_DEVICE, device);
}

/// Takes a device off its driver's list.
pub(crate) fn unlink_device(device: u64) {
    let driver: u64 = get(device + 8);
    let mut place = driver + FIRST_DEVICE;
    while get::<u64>(place) != 0 {
        let at: u64 = get(place);
        if at == device {
            put::<u64>(place, get(device + NEXT_DEVICE));
            return;
        }
        place = at + NEXT_DEVICE;
    }
}

/// `Characteristics` of a `DEVICE_OBJECT`, and `FileName` of a `FILE_OBJECT`.
pub(crate) const CHARACTERISTICS: u64 = 0x34;
const FILE_NAME: u64 = 0x58;

/// A `FILE_OBJECT` for a name below a device, empty for the device itself: as the object manager gives it, with the
/// backslash in front.
pub(crate) fn file_object(device: u64, name: &str) -> u64 {
    let machine = current();
    let units: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let length = units.len() as u64;
    // The name lies behind the object, and goes with it.
    let object = machine.memory.allocate(FILE_OBJECT + length, Use::System("FILE_OBJECT"));
    if length != 0 {
        put::<u16>(object + FILE_NAME, length as u16);
        put::<u16>(object + FILE_NAME + 2, length as u16);
        put::<u64>(object + FILE_NAME + 8, object + FILE_OBJECT);
        put_bytes(object + FILE_OBJECT, &units);
    }
    put::<u16>(object, 5);
    put::<u16>(object + 2, FILE_OBJECT as u16);
    put::<u64>(object + 8, device);
    object
}
