//! Names that the driver, its INF and its clients share: this is the one place where they are written.

/// NT name of the control device.
pub const DEVICE_NAME: &str = "\\Device\\Sluice";
/// Symbolic link of the control device.
pub const SYMBOLIC_NAME: &str = "\\DosDevices\\Sluice";
/// What a client opens.
pub const WIN32_NAME: &str = "\\\\.\\Sluice";
/// Who may open the control device: the system and administrators, nobody else.
pub const DEVICE_SDDL: &str = "D:P(A;;GA;;;SY)(A;;GA;;;BA)";
/// The INF's `NetCfgInstanceId`, and the `UniqueName` of the filter driver.
pub const FILTER_GUID: &str = "{6E1B57A4-3C0D-4F0E-9C55-9E5D2B8A7F31}";
/// Service name.
pub const SERVICE_NAME: &str = "sluice";
/// Name for people.
pub const FRIENDLY_NAME: &str = "Sluice NDIS Lightweight Filter";
