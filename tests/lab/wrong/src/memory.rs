//! Cases about pool, lookaside lists, MDLs, faults and devices.
use core::arch::asm;
use core::hint::black_box;
use core::sync::atomic::Ordering::SeqCst;

use crate::calls::*;
use crate::{DRIVER_OBJECT_PLACE, MEMORY, TAG};

/// Flags of `ExAllocatePool2`: nonpaged, executable, paged.
const NONPAGED: usize = 0x40;
const EXECUTABLE: usize = 0x80;
const PAGED: usize = 0x100;
const TAG_WORD: usize = TAG as usize;

/// Nonpaged pool.
pub(crate) fn pool(bytes: usize) -> usize {
    ExAllocatePool2(NONPAGED, bytes, TAG_WORD)
}

/// Paged pool.
pub(crate) fn paged(bytes: usize) -> usize {
    ExAllocatePool2(PAGED, bytes, TAG_WORD)
}

pub(crate) fn free(memory: usize) {
    ExFreePoolWithTag(memory, TAG_WORD);
}

pub(crate) fn raise() -> usize {
    KeRaiseIrqlToDpcLevel()
}

/// Reads and writes words at addresses that are wrong.
pub(crate) fn read(address: usize) -> usize {
    unsafe { core::ptr::with_exposed_provenance::<usize>(black_box(address)).read_volatile() }
}

pub(crate) fn write(address: usize, value: usize) {
    unsafe { core::ptr::with_exposed_provenance_mut::<usize>(black_box(address)).write_volatile(value) };
}

fn call(address: usize) {
    let function = core::ptr::with_exposed_provenance::<()>(black_box(address));
    let function: extern "system" fn() = unsafe { core::mem::transmute(function) };
    function();
}

/// A counted string with one letter.
pub(crate) fn name(letter: u8) -> usize {
    let memory = pool(32);
    let text = [b'\\', b'?', b'?', b'\\', letter];
    write(memory, 10 | 10 << 16);
    write(memory + 8, memory + 16);
    for (index, unit) in text.into_iter().enumerate() {
        unsafe {
            core::ptr::with_exposed_provenance_mut::<u16>(memory + 16 + index * 2).write(u16::from(unit))
        };
    }
    memory
}

fn mdl(address: usize, bytes: usize) -> usize {
    IoAllocateMdl(address, bytes, 0, 0, 0)
}

/// A partial MDL over pages that are locked.
fn partial() -> usize {
    let memory = paged(64);
    let (source, target) = (mdl(memory, 64), mdl(memory, 64));
    MmProbeAndLockPages(source, 0, 0);
    MmMapLockedPagesSpecifyCache(source, 0, 1, 0, 0, 16);
    IoBuildPartialMdl(source, target, memory + 32, 32);
    target
}

#[unsafe(link_section = "PAGE")]
#[inline(never)]
extern "system" fn pageable() -> usize {
    black_box(1)
}

#[unsafe(link_section = "INIT")]
#[inline(never)]
pub(crate) extern "system" fn initial() -> usize {
    black_box(2)
}

static READONLY: usize = 3;

fn lookaside(place: usize, size: usize, paged: usize) {
    ExInitializeLookasideListEx(place, 0, 0, if paged == 1 { 1 } else { 512 }, 0, size, TAG_WORD, 0);
}

fn device() -> usize {
    let place = pool(8);
    IoCreateDevice(DRIVER_OBJECT_PLACE.load(SeqCst), 0, 0, 0x22, 0, 0, place);
    read(place)
}

/// Each case.
pub(crate) const CASES: &[(&str, fn())] = &[
    ("pool-paged-at-dispatch", || {
        raise();
        paged(16);
    }),
    ("pool-paged-freed-at-dispatch", || {
        let memory = paged(16);
        raise();
        free(memory);
    }),
    ("pool-tag-big", || {
        ExAllocatePool2(NONPAGED, 16, u32::from_le_bytes(*b"BIG ") as usize);
    }),
    ("pool-tag-text", || {
        ExAllocatePool2(NONPAGED, 16, u32::from_le_bytes(*b"!?!?") as usize);
    }),
    ("pool-executable", || {
        ExAllocatePool2(EXECUTABLE, 16, TAG_WORD);
    }),
    ("pool-written-behind", || {
        let memory = pool(60);
        unsafe { core::ptr::with_exposed_provenance_mut::<u8>(memory + 61).write_volatile(1) };
        free(memory);
    }),
    ("pool-freed-to-system", || {
        let memory = pool(64);
        free(memory);
        KeInitializeEvent(memory, 0, 0);
    }),
    ("pool-overrun-by-system", || {
        let memory = pool(64);
        KeInitializeEvent(memory + 64, 0, 0);
    }),
    ("pool-is-irp", || {
        let irp = IoAllocateIrp(1, 0);
        free(irp);
    }),
    ("pool-holds-resource", || {
        let memory = pool(0x68);
        ExInitializeResourceLite(memory);
        free(memory);
    }),
    ("pool-holds-timer", || {
        let memory = pool(0x40);
        KeInitializeTimerEx(memory, 0);
        KeSetTimer(memory, -1_000_000_isize as usize, 0);
        free(memory);
    }),
    ("pool-holds-lookaside", || {
        let memory = pool(0x60);
        lookaside(memory, 64, 0);
        free(memory);
    }),
    ("lookaside-twice", || {
        let memory = pool(0x60);
        lookaside(memory, 64, 0);
        lookaside(memory, 64, 0);
    }),
    ("lookaside-none", || {
        ExDeleteLookasideListEx(MEMORY.load(SeqCst).addr());
    }),
    ("lookaside-small", || lookaside(pool(0x60), 4, 0)),
    ("paged-lookaside-at-dispatch", || {
        let memory = pool(0x60);
        raise();
        ExInitializePagedLookasideList(memory, 0, 0, 0, 64, TAG_WORD, 0);
    }),
    ("memcpy-overlap", || {
        let memory = MEMORY.load(SeqCst).addr();
        memcpy(memory, memory + 8, 32);
    }),
    ("paged-read-at-dispatch", || {
        let memory = paged(64);
        raise();
        read(memory);
    }),
    ("paged-write-at-dispatch", || {
        let memory = paged(64);
        raise();
        write(memory, 1);
    }),
    ("paged-code-at-dispatch", || {
        raise();
        black_box(pageable());
    }),
    ("init-after-entry", || {
        let function: extern "system" fn() -> usize = initial;
        black_box(black_box(function)());
    }),
    ("null-read-at-dispatch", || {
        raise();
        read(16);
    }),
    ("bad-event-at-dispatch", || {
        raise();
        KeSetEvent(16, 0, 0);
    }),
    ("null-to-system", || {
        KeInitializeSpinLock(0);
    }),
    ("data-executed", || call(pool(64))),
    ("readonly-written", || write(core::ptr::from_ref(&READONLY).expose_provenance(), 4)),
    ("illegal-instruction", || unsafe { asm!("ud2") }),
    ("divided-by-zero", || unsafe {
        asm!("xor edx, edx", "mov eax, 1", "xor ecx, ecx", "div ecx", out("eax") _, out("ecx") _, out("edx") _);
    }),
    ("list-corrupt", || unsafe { asm!("int 0x29", in("ecx") 3) }),
    ("mdl-locked-above-dispatch", || {
        let mdl = mdl(pool(64), 64);
        KfRaiseIrql(5);
        MmProbeAndLockPages(mdl, 0, 0);
    }),
    ("mdl-unlocked-never-locked", || {
        MmUnlockPages(mdl(pool(64), 64));
    }),
    ("mdl-unlocked-nonpaged", || {
        let mdl = mdl(pool(64), 64);
        MmBuildMdlForNonPagedPool(mdl);
        MmUnlockPages(mdl);
    }),
    ("mdl-built-for-paged", || {
        MmBuildMdlForNonPagedPool(mdl(paged(64), 64));
    }),
    ("mdl-mapped-old", || {
        let mdl = mdl(paged(64), 64);
        MmProbeAndLockPages(mdl, 0, 0);
        MmMapLockedPages(mdl, 0);
    }),
    ("mdl-locked-twice", || {
        let mdl = mdl(paged(64), 64);
        MmProbeAndLockPages(mdl, 0, 0);
        MmProbeAndLockPages(mdl, 0, 0);
    }),
    ("mdl-unmapped-not-mapped", || {
        let mdl = mdl(paged(64), 64);
        MmProbeAndLockPages(mdl, 0, 0);
        MmUnmapLockedPages(0, mdl);
    }),
    ("mdl-mapped-unlocked", || {
        MmMapLockedPagesSpecifyCache(mdl(paged(64), 64), 0, 1, 0, 0, 16);
    }),
    ("mdl-partial-unlocked", || {
        MmUnlockPages(partial());
    }),
    ("mdl-partial-unmapped", || {
        MmUnmapLockedPages(0, partial());
    }),
    ("pool-modified-after-free", || {
        let memory = pool(48);
        free(memory);
        write(memory, 1);
        for _ in 0..200 {
            free(pool(48));
        }
    }),
    ("mdl-freed-mapped", || {
        let mdl = mdl(paged(64), 64);
        MmProbeAndLockPages(mdl, 0, 0);
        MmMapLockedPagesSpecifyCache(mdl, 0, 1, 0, 0, 16);
        IoFreeMdl(mdl);
    }),
    ("mdl-pages-left", || {
        MmProbeAndLockPages(mdl(core::ptr::from_ref(&READONLY).expose_provenance(), 8), 0, 0);
    }),
    ("mdl-pool-freed-locked", || {
        let memory = paged(64);
        MmProbeAndLockPages(mdl(memory, 64), 0, 0);
        free(memory);
    }),
    ("mdl-partial-outside", || {
        let memory = pool(64);
        let (source, target) = (mdl(memory, 64), mdl(memory, 64));
        MmBuildMdlForNonPagedPool(source);
        IoBuildPartialMdl(source, target, memory + 32, 64);
    }),
    ("pages-at-dispatch", || {
        raise();
        MmAllocatePagesForMdlEx(0, usize::MAX, 0, 4096, 1, 0);
    }),
    ("device-created-at-dispatch", || {
        let place = pool(8);
        raise();
        IoCreateDevice(DRIVER_OBJECT_PLACE.load(SeqCst), 0, 0, 0x22, 0, 0, place);
    }),
    ("device-deleted-at-dispatch", || {
        let device = device();
        raise();
        IoDeleteDevice(device);
    }),
    ("device-deleted-twice", || {
        let device = device();
        IoDeleteDevice(device);
        IoDeleteDevice(device);
    }),
    ("link-created-at-dispatch", || {
        let name = name(b'L');
        raise();
        IoCreateSymbolicLink(name, name);
    }),
    ("link-deleted-at-dispatch", || {
        let name = name(b'L');
        raise();
        IoDeleteSymbolicLink(name);
    }),
    ("irp-sent-above-dispatch", || {
        let irp = IoAllocateIrp(2, 0);
        let device = device();
        KfRaiseIrql(5);
        IofCallDriver(device, irp);
    }),
];

/// What older headers have inline: the IRQL from CR8, the current thread and processor from the processor's block, the
/// time from the page that is shared with programs. What is read wrong stops the system.
fn inline() {
    let (before, raised, thread, processor, major): (u64, u64, u64, u32, u32);
    unsafe { asm!("mov {}, cr8", out(reg) before) };
    unsafe { asm!("mov cr8, {}", in(reg) 2_u64) };
    unsafe { asm!("mov {}, cr8", out(reg) raised) };
    let level = u64::from(unsafe { wdk_sys::ntddk::KeGetCurrentIrql() });
    unsafe { asm!("mov cr8, {}", in(reg) before) };
    unsafe { asm!("mov {}, gs:[0x188]", out(reg) thread) };
    unsafe { asm!("mov {:e}, gs:[0x1A4]", out(reg) processor) };
    unsafe { asm!("mov {:e}, [{}]", out(reg) major, in(reg) 0xFFFF_F780_0000_026C_u64) };
    if (before, raised, level) != (0, 2, 2) || thread == 0 || processor > 64 || major != 10 {
        unsafe { asm!("ud2") };
    }
}

/// The same things done right.
pub(crate) fn correct() {
    inline();
    let memory = pool(60);
    unsafe { core::ptr::with_exposed_provenance_mut::<u8>(memory + 59).write_volatile(1) };
    free(memory);
    let memory = paged(64);
    write(memory, 1);
    let level = raise();
    KeLowerIrql(level);
    read(memory);
    black_box(pageable());
    let described = mdl(memory, 64);
    MmProbeAndLockPages(described, 0, 0);
    let mapped = MmMapLockedPagesSpecifyCache(described, 0, 1, 0, 0, 16);
    read(mapped);
    MmUnmapLockedPages(mapped, described);
    MmUnlockPages(described);
    IoFreeMdl(described);
    free(memory);
    let memory = pool(64);
    let (source, target) = (mdl(memory, 64), mdl(memory, 64));
    MmBuildMdlForNonPagedPool(source);
    IoBuildPartialMdl(source, target, memory + 32, 32);
    IoFreeMdl(target);
    IoFreeMdl(source);
    memcpy(memory, memory + 32, 32);
    free(memory);
    let pages = MmAllocatePagesForMdlEx(0, usize::MAX, 0, 4096, 1, 0);
    MmFreePagesFromMdl(pages);
    IoFreeMdl(pages);
    let list = pool(0x60);
    lookaside(list, 64, 0);
    let block = ExAllocateFromLookasideListEx(list);
    ExFreeToLookasideListEx(list, block);
    ExDeleteLookasideListEx(list);
    free(list);
    let list = pool(0x60);
    ExInitializePagedLookasideList(list, 0, 0, 0, 64, TAG_WORD, 0);
    ExDeletePagedLookasideList(list);
    free(list);
    let place = pool(8);
    IoCreateDevice(DRIVER_OBJECT_PLACE.load(SeqCst), 0, 0, 0x22, 0, 0, place);
    IoDeleteDevice(read(place));
    free(place);
    let irp = IoAllocateIrp(1, 0);
    IoFreeIrp(irp);
    let (link, target) = (name(b'L'), name(b'T'));
    IoCreateSymbolicLink(link, target);
    IoDeleteSymbolicLink(link);
    free(link);
    free(target);
}
