//! The machine's memory: an arena of guarded pages, and typed reads and writes of what drivers see.
//!
//! Every block lies on pages of its own between inaccessible ones, at the end of its last page; a freed block
//! becomes inaccessible. The machine knows of each page what it was for, so that a fault can be explained.
#![expect(unsafe_code, reason = "maps memory and reads what drivers wrote")]
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};

/// Bytes of a page.
pub(crate) const PAGE: u64 = 4096;
/// Bytes of address space of one machine.
const ARENA: u64 = 8 << 30;
/// Freed blocks that stay inaccessible before their pages are used again.
const QUARANTINE: usize = 8192;
/// What fresh pool holds where it is not zeroed, and what lies around blocks that do not fill their page.
const PATTERN: u8 = 0xF5;

/// What a freed small structure holds.
const FREED: u8 = 0xDD;
/// Bytes that small structures are packed into.
const SMALL_CHUNK: u64 = 64 * 1024;

/// What a block is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Nonpaged pool of a driver, with its tag.
    Pool {
        /// Tag.
        tag: u32,
    },
    /// A DMA common buffer.
    CommonBuffer,
    /// Pages of a client, locked and mapped for the time of a request.
    LockedPages,
    /// A structure of the system, by its Windows name.
    System(&'static str),
}

/// One block.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// Where it starts.
    pub address: u64,
    /// Bytes asked for.
    pub length: u64,
    /// What for.
    pub usage: Use,
    /// Whether it was freed.
    pub freed: bool,
    first_page: u64,
    pages: u64,
}

/// What lies at an address.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In a block, or in the freed pages of one.
    Block(Block),
    /// In the pages around a block, this many bytes after its end (or before its start, if negative).
    Near(Block, i64),
}

/// The arena.
#[derive(Debug)]
pub(crate) struct Memory {
    base: u64,
    next: Cell<u64>,
    blocks: RefCell<BTreeMap<u64, Block>>,
    quarantine: RefCell<VecDeque<u64>>,
    reusable: RefCell<BTreeMap<u64, Vec<u64>>>,
    small: RefCell<Small>,
}

/// Small structures of NDIS, packed into pages as NDIS's own pools pack them.
#[derive(Debug, Default)]
struct Small {
    next: u64,
    end: u64,
    freed: BTreeMap<u64, VecDeque<u64>>,
}

impl Memory {
    pub(crate) fn new() -> Self {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh private mapping at an address of the kernel's choice.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), ARENA as usize, libc::PROT_NONE, flags, -1, 0) };
        assert!(base != libc::MAP_FAILED, "no address space for a machine");
        Self {
            base: base as u64,
            next: Cell::new(base as u64 + PAGE),
            blocks: RefCell::default(),
            quarantine: RefCell::default(),
            reusable: RefCell::default(),
            small: RefCell::default(),
        }
    }

    /// A zeroed block. `fill_after` says whether the block may lie at its last page's end.
    pub(crate) fn allocate(&self, length: u64, usage: Use) -> u64 {
        let length = length.max(1);
        let pages = length.div_ceil(PAGE);
        let reused = self.reusable.borrow_mut().get_mut(&pages).and_then(Vec::pop);
        let first_page = reused.unwrap_or_else(|| {
            let page = self.next.get();
            // One inaccessible page stays between blocks.
            self.next.set(page + (pages + 1) * PAGE);
            assert!(self.next.get() < self.base + ARENA, "the machine's address space is used up");
            page
        });
        protect(first_page, pages, true);
        let room = pages * PAGE;
        // Blocks of a page or more start on a page, as pool does; smaller ones end with their page, aligned.
        let address =
            if length >= PAGE { first_page } else { first_page + room - length.next_multiple_of(16) };
        fill(first_page, address - first_page, PATTERN);
        fill(address, length, 0);
        fill(address + length, first_page + room - address - length, PATTERN);
        let block = Block { address, length, usage, freed: false, first_page, pages };
        self.blocks.borrow_mut().insert(first_page, block);
        address
    }

    /// Frees a block; what was written around it, if anything, is returned as the first wrong address.
    pub(crate) fn free(&self, address: u64) -> Option<u64> {
        let mut blocks = self.blocks.borrow_mut();
        let page = address & !(PAGE - 1);
        let block = blocks.get_mut(&page).filter(|block| !block.freed)?;
        block.freed = true;
        let end = block.first_page + block.pages * PAGE;
        let wrong = (block.first_page..block.address)
            .chain(block.address + block.length..end)
            .find(|at| get::<u8>(*at) != PATTERN);
        let (first_page, pages) = (block.first_page, block.pages);
        drop(blocks);
        protect(first_page, pages, false);
        let mut quarantine = self.quarantine.borrow_mut();
        quarantine.push_back(first_page);
        if quarantine.len() > QUARANTINE
            && let Some(page) = quarantine.pop_front()
            && let Some(block) = self.blocks.borrow_mut().remove(&page)
        {
            self.reusable.borrow_mut().entry(block.pages).or_default().push(page);
        }
        wrong
    }

    /// A zeroed structure of NDIS, without pages of its own: a driver has thousands of them.
    pub(crate) fn allocate_small(&self, length: u64) -> u64 {
        let length = length.next_multiple_of(16);
        let mut small = self.small.borrow_mut();
        let waiting = small.freed.entry(length).or_default();
        let reused = if waiting.len() > QUARANTINE { waiting.pop_front() } else { None };
        let address = reused.unwrap_or_else(|| {
            if small.end - small.next < length {
                small.next = self.allocate(SMALL_CHUNK, Use::System("NDIS structures"));
                small.end = small.next + SMALL_CHUNK;
            }
            let address = small.next;
            small.next += length;
            address
        });
        fill(address, length, 0);
        address
    }

    /// Frees a structure: it is overwritten, and its memory not used again for long.
    pub(crate) fn free_small(&self, address: u64, length: u64) {
        let length = length.next_multiple_of(16);
        fill(address, length, FREED);
        self.small.borrow_mut().freed.entry(length).or_default().push_back(address);
    }

    /// The block that starts at `address`, freed or not.
    pub(crate) fn block(&self, address: u64) -> Option<Block> {
        let page = address & !(PAGE - 1);
        self.blocks.borrow().get(&page).filter(|block| block.address == address).cloned()
    }

    /// Whether `length` bytes at `address` lie in one block that was not freed.
    pub(crate) fn is_live(&self, address: u64, length: u64) -> bool {
        self.blocks.borrow().range(..=address).next_back().is_some_and(|(_, block)| {
            !block.freed && address >= block.address && address + length <= block.address + block.length
        })
    }

    /// What lies at or near `address`.
    pub(crate) fn place(&self, address: u64) -> Option<Place> {
        if !(self.base..self.base + ARENA).contains(&address) {
            return None;
        }
        let blocks = self.blocks.borrow();
        let before = blocks.range(..=address).next_back().map(|(_, block)| block.clone());
        let after = blocks.range(address..).next().map(|(_, block)| block.clone());
        if let Some(block) = &before {
            if address < block.first_page + block.pages * PAGE
                && (block.freed || address < block.address + block.length)
            {
                return Some(Place::Block(block.clone()));
            }
            if address < block.first_page + (block.pages + 1) * PAGE {
                return Some(Place::Near(
                    block.clone(),
                    address as i64 - (block.address + block.length) as i64,
                ));
            }
        }
        after
            .filter(|block| address + PAGE >= block.first_page)
            .map(|block| Place::Near(block.clone(), address as i64 - block.address as i64))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the arena is this machine's, and the machine is gone.
        unsafe { libc::munmap(self.base as *mut libc::c_void, ARENA as usize) };
    }
}

fn protect(page: u64, pages: u64, accessible: bool) {
    let protection = if accessible { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_NONE };
    // SAFETY: the pages are part of this machine's arena.
    let result = unsafe { libc::mprotect(page as *mut libc::c_void, (pages * PAGE) as usize, protection) };
    assert!(result == 0, "the system refuses more mappings: vm.max_map_count is reached");
}

fn fill(address: u64, length: u64, value: u8) {
    // SAFETY: the bytes lie in pages that were just made accessible.
    unsafe { std::ptr::write_bytes(address as *mut u8, value, length as usize) };
}

/// Reads a value at an address that a driver uses. A wrong address faults, and the fault becomes a bugcheck
/// as it would on Windows.
pub(crate) fn get<T: Copy>(address: u64) -> T {
    // SAFETY: the machine's signal handler turns a fault into a bugcheck; values are plain data.
    unsafe { (address as *const T).read_unaligned() }
}

/// Writes a value at an address that a driver uses; faults as [`get`] does.
pub(crate) fn put<T: Copy>(address: u64, value: T) {
    // SAFETY: as for `get`.
    unsafe { (address as *mut T).write_unaligned(value) };
}

/// Copies bytes from an address that a driver uses; faults as [`get`] does.
pub(crate) fn bytes(address: u64, length: usize) -> Vec<u8> {
    let mut copy = vec![0; length];
    // SAFETY: as for `get`; the copy has the length.
    unsafe { std::ptr::copy_nonoverlapping(address as *const u8, copy.as_mut_ptr(), length) };
    copy
}

/// Copies bytes to an address that a driver uses; faults as [`get`] does.
pub(crate) fn put_bytes(address: u64, data: &[u8]) {
    // SAFETY: as for `get`.
    unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), address as *mut u8, data.len()) };
}

/// Reads a counted UTF-16 string.
pub(crate) fn text(string: u64) -> String {
    if string == 0 {
        return String::new();
    }
    let length = usize::from(get::<u16>(string));
    let units: Vec<u16> = bytes(get::<u64>(string + 8), length)
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    String::from_utf16_lossy(&units)
}

/// Reads a field of a structure at an address: `field!(address, Type, path.to.field, FieldType)`.
macro_rules! field {
    ($address:expr, $type:ty, $($path:ident).+, $value:ty) => {
        $crate::memory::get::<$value>($address + ::core::mem::offset_of!($type, $($path).+) as u64)
    };
}
/// Writes a field of a structure at an address: `set!(address, Type, path.to.field, value)`.
macro_rules! set {
    ($address:expr, $type:ty, $($path:ident).+, $value:expr) => {
        $crate::memory::put($address + ::core::mem::offset_of!($type, $($path).+) as u64, $value)
    };
}
pub(crate) use {field, set};
