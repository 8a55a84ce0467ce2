//! Address space of a machine: a fixed place for each host thread, so that a run has the same addresses every
//! time. Reports and traces show them in a canonical form that looks like Windows'.
#![expect(unsafe_code, reason = "maps address space")]
use std::cell::{Cell, OnceCell};
use std::sync::atomic::{AtomicU64, Ordering};

/// Where the first host thread's place begins.
const FIRST: u64 = 0x1000_0000_0000;
/// Bytes of one place.
const SLOT: u64 = 64 << 30;
/// Host threads that can run machines at a time.
const SLOTS: u32 = 64;
const GIB: u64 = 1 << 30;

/// Areas of a place, from its beginning: start and bytes.
const NONPAGED: (u64, u64) = (0, 16 * GIB);
const PAGED: (u64, u64) = (16 * GIB, 4 * GIB);
const USER: (u64, u64) = (20 * GIB, 4 * GIB);
const STACKS: (u64, u64) = (24 * GIB, 4 * GIB);
const IMAGES: (u64, u64) = (28 * GIB, 4 * GIB);
/// A second view of user memory: what locked pages are mapped to.
const ALIAS: (u64, u64) = (32 * GIB, 4 * GIB);
const END: u64 = 36 * GIB;

/// Canonical addresses of system memory, user memory and images.
const SYSTEM_BASE: u64 = 0xFFFF_8000_0000_0000;
const USER_BASE: u64 = 0x0000_0200_0000_0000;
const IMAGE_BASE: u64 = 0xFFFF_F800_0000_0000;

static TAKEN: AtomicU64 = AtomicU64::new(0);

/// One area of address space.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Area {
    pub(crate) base: u64,
    pub(crate) length: u64,
}

impl Area {
    pub(crate) fn contains(self, address: u64) -> bool {
        address.wrapping_sub(self.base) < self.length
    }
}

/// The place of a host thread.
#[derive(Debug)]
pub(crate) struct Region {
    slot: u32,
    base: u64,
    /// How far each of the three arenas has been used, for the next machine to clear.
    pub(crate) used: [Cell<u64>; 3],
    /// How far the first arena stays accessible, from one machine without special pool to the next.
    pub(crate) open: Cell<u64>,
}

thread_local! {
    static REGION: OnceCell<Region> = const { OnceCell::new() };
}

impl Region {
    fn take() -> Self {
        let slot = loop {
            let taken = TAKEN.load(Ordering::Acquire);
            let slot = taken.trailing_ones();
            assert!(slot < SLOTS, "{SLOTS} host threads run machines already");
            let with = taken | 1 << slot;
            if TAKEN.compare_exchange(taken, with, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                break slot;
            }
        };
        let base = FIRST + u64::from(slot) * SLOT;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: a fresh private mapping that replaces nothing.
        let mapped = unsafe { libc::mmap(base as *mut _, END as usize, libc::PROT_NONE, flags, -1, 0) };
        assert!(mapped as u64 == base, "the machine's address space at {base:#x} is in use");
        // User memory has two views: the program's, and the system's of pages that are locked.
        // SAFETY: the name is a string that ends with 0.
        let file = unsafe { libc::memfd_create(c"sluice-machine-user".as_ptr(), libc::MFD_CLOEXEC) };
        // SAFETY: the file was just made.
        let sized = unsafe { libc::ftruncate(file, USER.1 as libc::off_t) };
        assert!(file >= 0 && sized == 0, "no memory for programs");
        for start in [USER.0, ALIAS.0] {
            let flags = libc::MAP_SHARED | libc::MAP_NORESERVE | libc::MAP_FIXED;
            let (at, length) = ((base + start) as *mut libc::c_void, USER.1 as usize);
            // SAFETY: the range lies in the mapping that was just made.
            let view = unsafe { libc::mmap(at, length, libc::PROT_NONE, flags, file, 0) };
            assert!(view == at, "user memory cannot be mapped");
        }
        // SAFETY: the mappings keep the file.
        unsafe { libc::close(file) };
        Self { slot, base, used: [const { Cell::new(0) }; 3], open: Cell::new(0) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is this place's own, and its thread ends.
        unsafe { libc::munmap(self.base as *mut libc::c_void, END as usize) };
        TAKEN.fetch_and(!(1 << self.slot), Ordering::AcqRel);
    }
}

/// Areas of this host thread's place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Areas {
    pub(crate) base: u64,
    pub(crate) nonpaged: Area,
    pub(crate) paged: Area,
    pub(crate) user: Area,
    pub(crate) stacks: Area,
    pub(crate) images: Area,
    pub(crate) alias: Area,
}

/// This host thread's place, taken when it is first asked for.
pub(crate) fn with<R>(work: impl FnOnce(&Region) -> R) -> R {
    REGION.with(|region| work(region.get_or_init(Region::take)))
}

/// The areas of this host thread.
pub(crate) fn areas() -> Areas {
    let base = with(|region| region.base);
    let area = |(start, length): (u64, u64)| Area { base: base + start, length };
    Areas {
        base,
        nonpaged: area(NONPAGED),
        paged: area(PAGED),
        user: area(USER),
        stacks: area(STACKS),
        images: area(IMAGES),
        alias: area(ALIAS),
    }
}

impl Areas {
    /// An address as reports show it: the same in every run, and with system memory in the upper half.
    pub(crate) fn canonical(&self, address: u64) -> u64 {
        let offset = address.wrapping_sub(self.base);
        if offset >= END {
            return address;
        }
        if self.user.contains(address) {
            USER_BASE + (address - self.user.base)
        } else if self.images.contains(address) {
            IMAGE_BASE + (address - self.images.base)
        } else {
            SYSTEM_BASE + offset
        }
    }
}
