//! Attaching: what NDIS tells about the adapter is read once, here.
#![expect(unsafe_code, reason = "reads NDIS's parameters")]
use ndis_sys::{
    NDIS_FILTER_ATTACH_PARAMETERS, NDIS_FILTER_RESTART_PARAMETERS, NDIS_HANDLE, NDIS_RESTART_ATTRIBUTES,
    NDIS_RESTART_GENERAL_ATTRIBUTES, NDIS_SIZEOF_FILTER_ATTACH_PARAMETERS_REVISION_1,
    NDIS_SIZEOF_FILTER_ATTACH_PARAMETERS_REVISION_3, NDIS_SIZEOF_RESTART_GENERAL_ATTRIBUTES_REVISION_1,
    NDIS_STATUS_FAILURE, NDIS_STATUS_RESOURCES, NDIS_STATUS_UNSUPPORTED_MEDIA, NDIS_STRING, NdisMedium802_3,
    OID_GEN_MINIPORT_RESTART_ATTRIBUTES,
};
use sluice_abi::NAME_UNITS;
use sluice_core::guid;
use sluice_core::lifecycle::Edge;
use sluice_kernel::irql::Passive;
use sluice_kernel::shared::Shared;
use sluice_ndis::Status;
use sluice_ndis::filter::Handle;

use crate::module::{Info, Module};
use crate::modules::MODULES;
use crate::{TAG, entry};

/// Attaches a module, or leaves nothing behind.
///
/// # Safety
/// The arguments are those of `FilterAttach`.
pub(crate) unsafe fn attach(
    passive: &mut Passive<'_>,
    handle: NDIS_HANDLE,
    parameters: *const NDIS_FILTER_ATTACH_PARAMETERS,
) -> Result<(), Status> {
    // SAFETY: NDIS keeps the parameters for the time of the callback.
    let parameters = unsafe { &*parameters };
    // SAFETY: the parameters' pointers are NDIS's.
    let info = unsafe { info(parameters) }?;
    // SAFETY: the module uses its handle only while it is attached.
    let handle = unsafe { Handle::from_raw(handle) };
    let module = Module::new(handle, info).map_err(|_| NDIS_STATUS_RESOURCES)?;
    let module = Shared::new(module, TAG).map_err(|_| NDIS_STATUS_RESOURCES)?;
    // SAFETY: a shared value does not move; the teardown below or in FilterDetach comes before it dies.
    let started = unsafe { module.start() }.map_err(|_| NDIS_STATUS_RESOURCES);
    let context: *const Module = &raw const *module;
    // SAFETY: the reference that is given up below lives until FilterDetach.
    let ready = started.and_then(|()| unsafe { handle.set_attributes(passive, context.cast_mut().cast()) });
    if let Err(status) = ready {
        module.teardown(passive);
        return Err(status);
    }
    let _ = module.life.go(Edge::Attached);
    MODULES.add(passive, module.clone());
    // NDIS holds this reference as the module's context.
    let _context = module.into_raw();
    Ok(())
}

/// Detaches the module and drops NDIS's reference.
///
/// # Safety
/// `context` is what `attach` gave NDIS, and NDIS calls nothing with it afterwards.
pub(crate) unsafe fn detach(passive: &mut Passive<'_>, context: NDIS_HANDLE) {
    // SAFETY: `attach` gave this reference up.
    let module: Shared<Module> = unsafe { Shared::from_raw(context.cast::<Module>()) };
    MODULES.remove(passive, &module);
    module.detach(passive);
}

/// # Safety
/// The pointers in `parameters` are null or valid, as NDIS provides them.
unsafe fn info(parameters: &NDIS_FILTER_ATTACH_PARAMETERS) -> Result<Info, Status> {
    let size = parameters.Header.Size;
    if size < NDIS_SIZEOF_FILTER_ATTACH_PARAMETERS_REVISION_1 {
        return Err(NDIS_STATUS_FAILURE);
    }
    if parameters.MiniportMediaType != NdisMedium802_3 {
        // Frames are Ethernet frames; a medium that takes others is left alone.
        return Err(NDIS_STATUS_UNSUPPORTED_MEDIA);
    }
    // SAFETY: NDIS provides the adapter's device name.
    let device = unsafe { text(parameters.BaseMiniportName) };
    let guid = guid::parse(device).ok_or(NDIS_STATUS_FAILURE)?;
    // SAFETY: NDIS provides the adapter's friendly name.
    let friendly = unsafe { text(parameters.BaseMiniportInstanceName) };
    let mut name = [0; NAME_UNITS];
    for (place, unit) in name.iter_mut().zip(friendly) {
        *place = *unit;
    }
    let has_device = size >= NDIS_SIZEOF_FILTER_ATTACH_PARAMETERS_REVISION_3;
    Ok(Info {
        guid,
        luid: parameters.BaseMiniportNetLuid,
        link_speed: parameters.XmitLinkSpeed,
        if_index: parameters.BaseMiniportIfIndex,
        media_connect_state: parameters.MediaConnectState as u32,
        name,
        name_length: friendly.len().min(NAME_UNITS) as u16,
        mac: parameters.CurrentMacAddress,
        mac_length: parameters.MacAddressLength.min(32),
        physical_device: if has_device {
            parameters.MiniportPhysicalDeviceObject.cast()
        } else {
            core::ptr::null_mut()
        },
        list_info_slots: ndis_sys::nbl_info_slots(entry::ndis_version() & 0xFFFF),
    })
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

/// MTU and backfill from the restart attributes, if NDIS passes any.
///
/// # Safety
/// `parameters` are those of `FilterRestart`.
pub(crate) unsafe fn restart_attributes(
    parameters: *const NDIS_FILTER_RESTART_PARAMETERS,
) -> Option<(u32, u32)> {
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
            return Some((mtu, unsafe { (*general).DataBackFillSize }));
        }
        at = entry.Next;
    }
    None
}
