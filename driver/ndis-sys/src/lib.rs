//! Raw NDIS 6 interface of a lightweight filter driver: types, constants, imports, and the header's macros.
//!
//! Names are those of `ndis.h`. Layouts hold for `x86_64` and `aarch64` and are asserted at compile time in
//! the `layout` module, from offsets that were checked against eleven WDK header versions and the public symbols
//! of `ndis.sys`. Structures with revisions are declared in their newest revision; the `NDIS_SIZEOF_…`
//! constants are literals, because they end with the last field of the revision and not with its padding.
//!
//! The kernel's own types (`IRP`, `DEVICE_OBJECT`, …) come from `wdk-sys` in a driver and are opaque here,
//! except [`MDL`] and [`UNICODE_STRING`], which NDIS structures point to.
#![no_std]
#![expect(non_camel_case_types, non_snake_case, reason = "names are those of ndis.h")]

mod constants;
#[cfg(windows)]
mod functions;
mod handlers;
mod layout;
mod macros;
mod net_buffer;
mod oid;
mod types;

pub use constants::*;
#[cfg(windows)]
pub use functions::*;
pub use handlers::*;
pub use macros::*;
pub use net_buffer::*;
pub use oid::*;
pub use types::*;
