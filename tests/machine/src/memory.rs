//! The machine's memory: pool, common buffers, system structures and user buffers, and typed reads and writes
//! of what drivers see.
//!
//! With special pool every block lies on pages of its own between inaccessible ones, at the end of its last
//! page, and a freed block becomes inaccessible. Without it blocks are packed, with a pattern around them. The
//! machine knows of each block what it was for, so that a fault can be explained.
#![expect(unsafe_code, reason = "protects memory and reads what drivers wrote")]
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};

use rustc_hash::FxHashMap;

use crate::region::{self, Area, Areas};

/// Bytes of a page.
pub(crate) const PAGE: u64 = 4096;
/// Freed blocks that stay inaccessible before their pages are used again.
const QUARANTINE: usize = 8192;
/// The same without special pool, in blocks of one size.
const PACKED_QUARANTINE: usize = 64;
/// What lies around blocks that do not fill their page.
const PATTERN: u8 = 0xF5;
/// What a freed small structure holds.
const FREED: u8 = 0xDD;
/// Bytes that small structures are packed into.
const SMALL_CHUNK: u64 = 64 * 1024;
/// What these bytes are for.
const SMALL: Use = Use::System("NDIS structures");
/// Bytes of pattern before and after a block without special pool.
const FENCE: u64 = 16;
/// Bytes that become accessible at a time without special pool.
const STRIDE: u64 = 4 << 20;

/// What a block is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Nonpaged pool of a driver, with its tag.
    Pool {
        /// Tag.
        tag: u32,
    },
    /// Paged pool of a driver, with its tag.
    PagedPool {
        /// Tag.
        tag: u32,
    },
    /// A DMA common buffer.
    CommonBuffer,
    /// Pages of a program.
    User,
    /// A structure of the system, by its Windows name.
    System(&'static str),
}

/// One block.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// Where it starts.
    pub(crate) address: u64,
    /// Bytes asked for.
    pub(crate) length: u64,
    /// What for.
    pub(crate) usage: Use,
    /// Whether it was freed.
    pub(crate) freed: bool,
    start: u64,
    end: u64,
}

/// What lies at an address.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In a block, or in the freed pages of one.
    Block(Block),
    /// In the pages around a block, this many bytes after its end (or before its start, if negative).
    Near(Block, i64),
}

/// Address space that blocks of one kind are taken from.
#[derive(Debug)]
struct Arena {
    area: Area,
    number: usize,
    next: Cell<u64>,
    open: Cell<u64>,
    /// How far it has been used, for the next machine to clear.
    used: Cell<u64>,
    quarantine: RefCell<VecDeque<(u64, u64)>>,
    reusable: RefCell<FxHashMap<u64, VecDeque<u64>>>,
}

impl Arena {
    fn new(area: Area, number: usize, special: bool) -> Self {
        let start = area.base + PAGE;
        let kept = region::with(|region| {
            let stays = !special && number == 0;
            let used = region.used[number].get().max(if number == 0 { region.open.get() } else { 0 });
            if used != 0 && !(stays && region.open.get() >= used) {
                protect(area.base, used / PAGE, libc::PROT_NONE);
                if number == 0 {
                    region.open.set(0);
                }
            }
            if stays { region.open.get() } else { 0 }
        });
        Self {
            area,
            number,
            next: Cell::new(start),
            open: Cell::new(start.max(area.base + kept)),
            used: Cell::new(0),
            quarantine: RefCell::default(),
            reusable: RefCell::default(),
        }
    }

    fn take(&self, bytes: u64) -> u64 {
        let at = self.next.get();
        self.next.set(at + bytes);
        assert!(self.next.get() < self.area.base + self.area.length, "the machine's memory is used up");
        self.used.set(self.used.get().max((self.next.get() - self.area.base).next_multiple_of(PAGE)));
        at
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        region::with(|region| region.used[self.number].set(self.used.get()));
    }
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) areas: Areas,
    special: bool,
    nonpaged: Arena,
    paged: Arena,
    user: Arena,
    blocks: RefCell<BTreeMap<u64, Block>>,
    small: RefCell<Small>,
    /// Pageable parts of images and whether paged memory can be touched now.
    pageable: RefCell<Vec<(u64, u64, i32)>>,
    /// Sections of images that are being loaded: image, start, bytes, protection.
    late: RefCell<Vec<(u64, u64, u64, i32)>>,
    paged_live: Cell<usize>,
    /// What was written in a freed block that is used again.
    modified: Cell<Option<u64>>,
    paged_open: Cell<bool>,
}

/// Small structures of NDIS, packed into pages as NDIS's own pools pack them.
#[derive(Debug, Default)]
struct Small {
    next: u64,
    end: u64,
    freed: Vec<VecDeque<u64>>,
}

impl Memory {
    pub(crate) fn new(special: bool) -> Self {
        let areas = region::areas();
        Self {
            areas,
            special,
            nonpaged: Arena::new(areas.nonpaged, 0, special),
            paged: Arena::new(areas.paged, 1, true),
            user: Arena::new(areas.user, 2, true),
            blocks: RefCell::default(),
            small: RefCell::default(),
            pageable: RefCell::default(),
            late: RefCell::default(),
            paged_live: Cell::new(0),
            modified: Cell::new(None),
            paged_open: Cell::new(true),
        }
    }

    fn arena(&self, usage: &Use) -> &Arena {
        match usage {
            Use::PagedPool { .. } => &self.paged,
            Use::User => &self.user,
            _ => &self.nonpaged,
        }
    }

    /// Whether blocks of a kind lie on pages of their own: paged and user memory always does.
    fn is_special(&self, usage: &Use) -> bool {
        self.special || matches!(usage, Use::PagedPool { .. } | Use::User)
    }

    /// A zeroed block; a common buffer without special pool holds what was there.
    pub(crate) fn allocate(&self, length: u64, usage: Use) -> u64 {
        let length = length.max(1);
        let block = if self.is_special(&usage) {
            self.allocate_special(length, usage)
        } else {
            self.allocate_packed(length, usage)
        };
        let address = block.address;
        self.blocks.borrow_mut().insert(block.start, block);
        address
    }

    fn allocate_special(&self, length: u64, usage: Use) -> Block {
        let arena = self.arena(&usage);
        let pages = length.div_ceil(PAGE);
        let reused = arena.reusable.borrow_mut().get_mut(&pages).and_then(VecDeque::pop_front);
        // One inaccessible page stays between blocks.
        let start = reused.unwrap_or_else(|| arena.take((pages + 1) * PAGE));
        if matches!(usage, Use::PagedPool { .. }) {
            self.paged_live.set(self.paged_live.get() + 1);
        }
        protect(start, pages, libc::PROT_READ | libc::PROT_WRITE);
        let end = start + pages * PAGE;
        // Blocks of a page or more start on a page, as pool does; smaller ones end with their page, aligned.
        let address = if length >= PAGE { start } else { end - length.next_multiple_of(16) };
        fill(start, address - start, PATTERN);
        // Small structures are cleared one by one.
        if usage != SMALL {
            fill(address, length, 0);
        }
        fill(address + length, end - address - length, PATTERN);
        if matches!(usage, Use::PagedPool { .. }) && !self.paged_open.get() {
            protect(start, pages, libc::PROT_NONE);
        }
        Block { address, length, usage, freed: false, start, end }
    }

    fn allocate_packed(&self, length: u64, usage: Use) -> Block {
        let arena = &self.nonpaged;
        let pages = length >= PAGE;
        let bytes = if pages {
            length.next_multiple_of(PAGE) + 2 * PAGE
        } else {
            length.next_multiple_of(16) + 2 * FENCE
        };
        let reused = {
            let mut reusable = arena.reusable.borrow_mut();
            reusable
                .get_mut(&bytes)
                .filter(|waiting| waiting.len() > PACKED_QUARANTINE || pages && !waiting.is_empty())
                .and_then(VecDeque::pop_front)
        };
        let start = reused.unwrap_or_else(|| {
            if pages {
                arena.next.set(arena.next.get().next_multiple_of(PAGE));
            }
            let start = arena.take(bytes);
            while arena.open.get() < start + bytes {
                protect(arena.open.get(), STRIDE / PAGE, libc::PROT_READ | libc::PROT_WRITE);
                arena.open.set(arena.open.get() + STRIDE);
                region::with(|region| region.open.set(arena.open.get() - arena.area.base));
            }
            start
        });
        let address = if pages { start + PAGE } else { start + FENCE };
        if reused.is_some() && !pages {
            let freed = self.blocks.borrow().get(&start).map_or(0, |block| block.length);
            let wrong = (address..address + freed).find(|at| get::<u8>(*at) != FREED);
            self.modified.set(self.modified.get().or(wrong));
        }
        fill(address - FENCE, FENCE, PATTERN);
        if usage != Use::CommonBuffer && usage != SMALL {
            fill(address, length, 0);
        }
        let fence = (address + length).next_multiple_of(16) + FENCE;
        fill(address + length, fence - address - length, PATTERN);
        Block { address, length, usage, freed: false, start, end: start + bytes }
    }

    /// An address in freed memory that was written, once.
    pub(crate) fn take_modified(&self) -> Option<u64> {
        self.modified.take()
    }

    /// Frees a block; what was written around it, if anything, is returned as the first wrong address.
    pub(crate) fn free(&self, address: u64) -> Option<u64> {
        let mut blocks = self.blocks.borrow_mut();
        let (_, block) = blocks.range_mut(..=address).next_back()?;
        if block.freed || block.address != address {
            return None;
        }
        block.freed = true;
        let (start, end, length) = (block.start, block.end, block.length);
        let special = self.is_special(&block.usage);
        let paged = matches!(block.usage, Use::PagedPool { .. });
        let arena = self.arena(&block.usage);
        let closed = paged && !self.paged_open.get();
        if closed {
            protect(start, (end - start) / PAGE, libc::PROT_READ | libc::PROT_WRITE);
        }
        let (before, after) = if special {
            (start, end)
        } else {
            (address - FENCE, (address + length).next_multiple_of(16) + FENCE)
        };
        let wrong = differs(before, address).or_else(|| differs(address + length, after));
        if special {
            drop(blocks);
            protect(start, (end - start) / PAGE, libc::PROT_NONE);
            if paged {
                self.paged_live.set(self.paged_live.get() - 1);
            }
            let mut quarantine = arena.quarantine.borrow_mut();
            quarantine.push_back((start, (end - start) / PAGE));
            if quarantine.len() > QUARANTINE
                && let Some((page, pages)) = quarantine.pop_front()
            {
                self.blocks.borrow_mut().remove(&page);
                arena.reusable.borrow_mut().entry(pages).or_default().push_back(page);
            }
        } else {
            if length < PAGE {
                fill(address, length, FREED);
            }
            arena.reusable.borrow_mut().entry(end - start).or_default().push_back(start);
        }
        wrong
    }

    /// A zeroed structure of NDIS, without pages of its own: a driver has thousands of them.
    pub(crate) fn allocate_small(&self, length: u64) -> u64 {
        let length = length.next_multiple_of(16);
        let mut small = self.small.borrow_mut();
        let class = (length / 16) as usize;
        if small.freed.len() <= class {
            small.freed.resize_with(class + 1, VecDeque::new);
        }
        let waiting = &mut small.freed[class];
        let keep = if self.special { QUARANTINE } else { PACKED_QUARANTINE };
        let reused = if waiting.len() > keep { waiting.pop_front() } else { None };
        let address = reused.unwrap_or_else(|| {
            if small.end - small.next < length {
                small.next = self.allocate(SMALL_CHUNK, SMALL);
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
        self.small.borrow_mut().freed[(length / 16) as usize].push_back(address);
    }

    /// The block that starts at `address`, freed or not.
    pub(crate) fn block(&self, address: u64) -> Option<Block> {
        let blocks = self.blocks.borrow();
        let (_, block) = blocks.range(..=address).next_back()?;
        (block.address == address).then(|| block.clone())
    }

    /// The live block that an address lies in.
    pub(crate) fn block_around(&self, address: u64) -> Option<Block> {
        let blocks = self.blocks.borrow();
        let (_, block) = blocks.range(..=address).next_back()?;
        (!block.freed && address >= block.address && address < block.address + block.length)
            .then(|| block.clone())
    }

    /// The first nonpaged block from an address on that was not freed.
    pub(crate) fn next_live(&self, address: u64) -> Option<Block> {
        let nonpaged = |block: &&Block| !block.freed && self.areas.nonpaged.contains(block.address);
        self.blocks.borrow().range(address..).map(|(_, block)| block).find(nonpaged).cloned()
    }

    /// Whether `length` bytes at `address` lie in one block that was not freed.
    pub(crate) fn is_live(&self, address: u64, length: u64) -> bool {
        self.blocks.borrow().range(..=address).next_back().is_some_and(|(_, block)| {
            !block.freed && address >= block.address && address + length <= block.address + block.length
        })
    }

    /// What lies at or near `address`.
    pub(crate) fn place(&self, address: u64) -> Option<Place> {
        let areas = &self.areas;
        if ![areas.nonpaged, areas.paged, areas.user].iter().any(|area| area.contains(address)) {
            return None;
        }
        let blocks = self.blocks.borrow();
        let before = blocks.range(..=address).next_back().map(|(_, block)| block.clone());
        let after = blocks.range(address..).next().map(|(_, block)| block.clone());
        if let Some(block) = &before {
            if address < block.end && (block.freed || address < block.address + block.length) {
                return Some(Place::Block(block.clone()));
            }
            if address < block.end + PAGE {
                let distance = address as i64 - (block.address + block.length) as i64;
                return Some(Place::Near(block.clone(), distance));
            }
        }
        after
            .filter(|block| address + PAGE >= block.start)
            .map(|block| Place::Near(block.clone(), address as i64 - block.address as i64))
    }

    /// Opens or closes the system's view of locked user pages: the address in it.
    pub(crate) fn map_user(&self, address: u64, length: u64, open: bool) -> u64 {
        let alias = self.areas.alias.base + (address - self.areas.user.base);
        let first = alias & !(PAGE - 1);
        let pages = (alias + length.max(1) - first).div_ceil(PAGE);
        protect(first, pages, if open { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_NONE });
        alias
    }

    /// A program unmaps pages of its own, or maps them again.
    pub(crate) fn open_user(&self, address: u64, open: bool) {
        let block = self.block_around(address);
        if let Some(block) = block {
            let protection = if open { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_NONE };
            protect(block.start, (block.end - block.start) / PAGE, protection);
        }
    }

    /// A part of an image can be paged out: start, bytes and its protection.
    pub(crate) fn add_pageable(&self, start: u64, length: u64, protection: i32) {
        self.pageable.borrow_mut().push((start, length.next_multiple_of(PAGE), protection));
    }

    /// Parts of an image that is gone.
    pub(crate) fn remove_pageable(&self, start: u64, length: u64) {
        self.pageable.borrow_mut().retain(|part| part.0 < start || part.0 >= start + length);
    }

    /// Whether an address lies in memory that can be paged out.
    pub(crate) fn is_pageable(&self, address: u64) -> bool {
        self.areas.paged.contains(address)
            || self.pageable.borrow().iter().any(|part| (part.0..part.0 + part.1).contains(&address))
    }

    /// An image's sections are not resident yet: a page comes when it is touched, below `DISPATCH_LEVEL`.
    pub(crate) fn add_late(&self, image: &crate::image::Image) {
        for section in &image.sections {
            let length = section.length.next_multiple_of(PAGE);
            self.late.borrow_mut().push((image.base, section.start, length, section.protection));
            protect(section.start, length / PAGE, libc::PROT_NONE);
        }
    }

    /// The loader writes into an image whose sections are not resident.
    pub(crate) fn open_late(&self, image: u64) {
        self.protect_late(image, libc::PROT_READ | libc::PROT_WRITE);
    }

    /// The loader has written.
    pub(crate) fn close_late(&self, image: u64) {
        self.protect_late(image, libc::PROT_NONE);
    }

    fn protect_late(&self, image: u64, protection: i32) {
        for (_, start, length, _) in self.late.borrow().iter().filter(|part| part.0 == image) {
            protect(*start, length / PAGE, protection);
        }
    }

    /// An image's sections are resident, or gone.
    pub(crate) fn forget_late(&self, image: u64) {
        self.late.borrow_mut().retain(|part| part.0 != image);
    }

    /// Nothing is missing any more: the machine has stopped, and looks at what is there.
    pub(crate) fn settle_late(&self) {
        for (_, start, length, protection) in self.late.borrow_mut().drain(..) {
            protect(start, length / PAGE, protection);
        }
    }

    /// Whether an address lies in a section that is not resident yet.
    pub(crate) fn is_late(&self, address: u64) -> bool {
        self.late.borrow().iter().any(|part| address.wrapping_sub(part.1) < part.2)
    }

    /// A page of such a section is touched: it comes, and stays. False if it is no such page.
    pub(crate) fn page_in(&self, address: u64) -> bool {
        let Ok(late) = self.late.try_borrow() else { return false };
        let Some(part) = late.iter().find(|part| address.wrapping_sub(part.1) < part.2) else { return false };
        protect(address & !(PAGE - 1), 1, part.3);
        true
    }

    /// Paged memory is there below `DISPATCH_LEVEL`; at and above it, it is as if paged out.
    pub(crate) fn open_paged(&self, open: bool) {
        if self.paged_open.get() == open {
            return;
        }
        let parts = self.pageable.borrow();
        if self.paged_live.get() == 0 && parts.is_empty() {
            return;
        }
        self.paged_open.set(open);
        for (start, length, protection) in parts.iter() {
            protect(*start, length / PAGE, if open { *protection } else { libc::PROT_NONE });
        }
        let protection = if open { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_NONE };
        let area = self.areas.paged;
        for block in self.blocks.borrow().range(area.base..area.base + area.length).map(|(_, block)| block) {
            if !block.freed {
                protect(block.start, (block.end - block.start) / PAGE, protection);
            }
        }
    }
}

/// The first address of a range that does not hold the pattern.
fn differs(start: u64, end: u64) -> Option<u64> {
    if start >= end {
        return None;
    }
    // SAFETY: the range lies in a block's own pages, which are accessible.
    let bytes = unsafe { std::slice::from_raw_parts(start as *const u8, (end - start) as usize) };
    let wrong = bytes.iter().position(|byte| *byte != PATTERN)?;
    Some(start + wrong as u64)
}

pub(crate) fn protect(page: u64, pages: u64, protection: i32) {
    // SAFETY: the pages are part of this machine's address space.
    let result = unsafe { libc::mprotect(page as *mut libc::c_void, (pages * PAGE) as usize, protection) };
    assert!(result == 0, "the system refuses more mappings: vm.max_map_count is reached");
}

fn fill(address: u64, length: u64, value: u8) {
    // SAFETY: the bytes lie in pages that were just made accessible.
    unsafe { std::ptr::write_bytes(address as *mut u8, value, length as usize) };
}

/// Where to read so many bytes. At 0 it reads as the processor does: to the compiler such an access has no meaning, and
/// where assertions are on it ends the process before there is a fault.
fn source<T>(address: u64, length: usize) -> *const T {
    if address == 0 && length != 0 {
        // SAFETY: as for `get`.
        unsafe { std::arch::asm!("mov {0:l}, byte ptr [{0:r}]", inout(reg_abcd) 0u64 => _) };
    }
    address as *const T
}

/// Where to write so many bytes; at 0 it writes, as [`source`] reads.
fn target<T>(address: u64, length: usize) -> *mut T {
    if address == 0 && length != 0 {
        // SAFETY: as for `get`.
        unsafe { std::arch::asm!("mov byte ptr [{0:r}], {0:l}", in(reg_abcd) 0u64) };
    }
    address as *mut T
}

/// Reads a value at an address that a driver uses. A wrong address faults, and the fault becomes a bugcheck
/// as it would on Windows.
pub(crate) fn get<T: Copy>(address: u64) -> T {
    let from = source::<T>(address, size_of::<T>());
    // SAFETY: the machine's signal handler turns a fault into a bugcheck; values are plain data.
    unsafe { from.read_unaligned() }
}

/// Writes a value at an address that a driver uses; faults as [`get`] does.
pub(crate) fn put<T: Copy>(address: u64, value: T) {
    let to = target::<T>(address, size_of::<T>());
    // SAFETY: as for `get`.
    unsafe { to.write_unaligned(value) };
}

/// Copies bytes from an address that a driver uses; faults as [`get`] does.
pub(crate) fn bytes(address: u64, length: usize) -> Vec<u8> {
    let mut copy = vec![0; length];
    let from = source(address, length);
    // SAFETY: as for `get`; the copy has the length.
    unsafe { std::ptr::copy_nonoverlapping(from, copy.as_mut_ptr(), length) };
    copy
}

/// Copies bytes to an address that a driver uses; faults as [`get`] does.
pub(crate) fn put_bytes(address: u64, data: &[u8]) {
    let to = target(address, data.len());
    // SAFETY: as for `get`.
    unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), to, data.len()) };
}

/// Copies bytes between addresses that drivers use, which may overlap; faults as [`get`] does.
pub(crate) fn copy(to: u64, from: u64, length: usize) {
    let (from, to) = (source::<u8>(from, length), target(to, length));
    // SAFETY: as for `get`.
    unsafe { std::ptr::copy(from, to, length) };
}

/// Fills bytes at an address that a driver uses; faults as [`get`] does.
pub(crate) fn fill_bytes(address: u64, value: u8, length: usize) {
    let to = target(address, length);
    // SAFETY: as for `get`.
    unsafe { std::ptr::write_bytes::<u8>(to, value, length) };
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
