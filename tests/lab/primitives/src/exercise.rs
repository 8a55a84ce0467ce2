//! The exercises. Each is called by several clients at once, at `PASSIVE_LEVEL`, and returns what it found.
use core::cell::Cell;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use sluice_kernel::device::DeviceObject;
use sluice_kernel::dpc::{Deferred, Dpc};
use sluice_kernel::event::Event;
use sluice_kernel::interlocked::Counter;
use sluice_kernel::irql::{self, Dispatch, Passive};
use sluice_kernel::lock::{QueuedSpinLock, SpinLock};
use sluice_kernel::mdl::Mdl;
use sluice_kernel::mutex::{FastMutex, Mutex};
use sluice_kernel::pool::{OutOfMemory, PagedBox, PoolBox, PoolSlice};
use sluice_kernel::rank::Leaf;
use sluice_kernel::remove_lock::RemoveLock;
use sluice_kernel::resource::Resource;
use sluice_kernel::rundown::Rundown;
use sluice_kernel::semaphore::Semaphore;
use sluice_kernel::shared::Shared;
use sluice_kernel::timer::{Timed, Timer};
use sluice_kernel::wait::{self, Timeout, Waited};
use sluice_kernel::work::{Work, WorkItem};
use sluice_kernel::{ranks, stack};
use sluice_ndis::filter::Handle;
use sluice_ndis::oid::Passage;
use sluice_ndis::rwlock::RwLock;

use crate::TAG;

ranks! {
    /// Taken first.
    pub(crate) Outer;
    /// Taken inside it.
    pub(crate) Inner;
}

/// What an exercise returns; none if memory ran out.
type Exercise = fn(&mut Passive<'_>, &Shared<Bench>, DeviceObject) -> Option<u64>;

/// The exercises, by the number in their control code.
pub(crate) const ALL: [Exercise; 17] = [
    raised,
    spin_locks,
    queued_spin_locks,
    rw_lock,
    mutex,
    fast_mutex,
    semaphore,
    resource,
    regions,
    events,
    dpc,
    timer,
    work_item,
    rundown,
    remove_lock,
    memory,
    interlocked,
];

/// How often each client does what it does.
const ROUNDS: u64 = 3;

/// One of everything.
pub(crate) struct Bench {
    pub(crate) oids: Passage,
    outer: SpinLock<u64, Outer>,
    inner: SpinLock<u64, Inner>,
    leaf: SpinLock<u64>,
    queued_outer: QueuedSpinLock<u64, Outer>,
    queued: QueuedSpinLock<u64>,
    pair: RwLock<(u64, u64)>,
    mutex: Mutex<Cell<u64>>,
    fast_outer: FastMutex<u64, Outer>,
    fast: FastMutex<u64>,
    semaphore: Semaphore,
    inside: Counter,
    resource: Resource<(u64, u64)>,
    start: Event,
    turn: Event,
    arrived: Counter,
    dpc: Dpc,
    dpc_ran: Event,
    timer: Timer,
    ticks: Counter,
    ticked: Event,
    work: WorkItem,
    work_started: AtomicBool,
    worked: Counter,
    work_done: Event,
    rundown: Rundown,
    removal: RemoveLock,
    users: Counter,
    gone: AtomicU32,
    counter: Counter,
}

impl Bench {
    pub(crate) fn new(passive: &Passive<'_>, module: Handle) -> Result<Self, OutOfMemory> {
        Ok(Self {
            oids: Passage::new(module),
            outer: SpinLock::new(0),
            inner: SpinLock::new(0),
            leaf: SpinLock::new(0),
            queued_outer: QueuedSpinLock::new(0),
            queued: QueuedSpinLock::new(0),
            pair: RwLock::new(module, (0, 0))?,
            mutex: Mutex::new(Cell::new(0), TAG)?,
            fast_outer: FastMutex::new(0, TAG)?,
            fast: FastMutex::new(0, TAG)?,
            semaphore: Semaphore::new(2, TAG)?,
            inside: Counter::new(0),
            resource: Resource::new((0, 0), TAG)?,
            start: Event::notification(TAG)?,
            turn: Event::synchronization(TAG)?,
            arrived: Counter::new(0),
            dpc: Dpc::new(),
            dpc_ran: Event::notification(TAG)?,
            timer: Timer::new(),
            ticks: Counter::new(0),
            ticked: Event::synchronization(TAG)?,
            work: WorkItem::new(),
            work_started: AtomicBool::new(false),
            worked: Counter::new(0),
            work_done: Event::notification(TAG)?,
            rundown: Rundown::new(),
            removal: RemoveLock::new(passive, TAG)?,
            users: Counter::new(0),
            gone: AtomicU32::new(0),
            counter: Counter::new(0),
        })
    }

    pub(crate) fn start(&self, this: &Shared<Self>) {
        self.dpc.start(this);
        self.timer.start(this);
    }

    pub(crate) fn stop(&self, passive: &mut Passive<'_>) {
        self.timer.stop(passive);
        self.dpc.stop(passive);
        self.work.stop(passive);
    }
}

impl Deferred for Bench {
    fn run(this: &Shared<Self>, dispatch: &mut Dispatch<'_>) {
        let at_dispatch = irql::current() == irql::DISPATCH_LEVEL;
        this.outer.with_at_dispatch(dispatch, |_, outer| {
            this.inner.with_at_dispatch(outer, |inner, _| *inner += u64::from(at_dispatch));
        });
        this.queued_outer.with_at_dispatch(dispatch, |outer, inside| {
            *outer += 1;
            this.queued.with_at_dispatch(inside, |queued, _| *queued += 1);
        });
        this.dpc_ran.set(dispatch);
    }
}

impl Timed for Bench {
    fn elapsed(this: &Shared<Self>, dispatch: &mut Dispatch<'_>) {
        this.ticks.increment();
        this.ticked.set(dispatch);
    }
}

impl Work for Bench {
    fn work(this: &Shared<Self>, passive: &mut Passive<'_>) {
        // What a DPC may not do: wait.
        wait::sleep(passive, Timeout::microseconds(10));
        this.worked.increment();
        this.work_done.set(passive);
    }

    fn item(&self) -> &WorkItem {
        &self.work
    }
}

/// The level, as it is raised and lowered: one digit each.
fn raised(passive: &mut Passive<'_>, _bench: &Shared<Bench>, _device: DeviceObject) -> Option<u64> {
    let mut seen = 0;
    let mut look = || seen = seen * 10 + u64::from(irql::current());
    look();
    passive.at_apc(|apc| {
        look();
        apc.at_dispatch(|_| look());
        look();
    });
    passive.at_dispatch(|_| look());
    look();
    Some(seen)
}

/// Takes three locks in order, and the last of them from each level; what was counted under it.
fn spin_locks(passive: &mut Passive<'_>, bench: &Shared<Bench>, _device: DeviceObject) -> Option<u64> {
    for _ in 0..ROUNDS {
        bench.outer.with(passive, |outer, inside| {
            *outer += 1;
            bench.inner.with_at_dispatch(inside, |_, inside| {
                bench.leaf.with_at_dispatch(inside, |leaf, _| *leaf += 1);
            });
        });
        passive.at_apc(|apc| bench.leaf.with(apc, |leaf, _| *leaf += 1));
        passive.at_dispatch(|dispatch| bench.leaf.with_at_dispatch(dispatch, |leaf, _| *leaf += 1));
    }
    Some(bench.leaf.with(passive, |leaf, _| *leaf))
}

fn queued_spin_locks(passive: &mut Passive<'_>, bench: &Shared<Bench>, _device: DeviceObject) -> Option<u64> {
    for _ in 0..ROUNDS {
        bench.queued_outer.with(passive, |_, inside| {
            bench.queued.with_at_dispatch(inside, |queued, _| *queued += 1);
        });
        bench.queued.with(passive, |queued, _| *queued += 1);
    }
    Some(bench.queued.with(passive, |queued, _| *queued))
}

/// Writers change both halves, readers compare them; what was written, and a thousand more for each torn pair.
fn rw_lock(passive: &mut Passive<'_>, bench: &Shared<Bench>, _device: DeviceObject) -> Option<u64> {
    let mut torn = 0;
    for _ in 0..ROUNDS {
        bench.pair.write(passive, |pair, _| {
            pair.0 += 1;
            bench.counter.increment();
            pair.1 += 1;
        });
        torn += bench.pair.read(passive, |pair, _| u64::from(pair.0 != pair.1));
    }
    Some(torn * 1000 + bench.pair.read(passive, |pair, _| pair.0))
}

/// Takes the mutex, again inside, and once with a limit of time; then what was counted under it.
fn mutex(passive: &mut Passive<'_>, bench: &Shared<Bench>, _device: DeviceObject) -> Option<u64> {
    for _ in 0..ROUNDS {
        bench.mutex.with(passive, |count| {
            let before = count.get();
            wait::sleep(passive, Timeout::microseconds(50));
            // The owner may take it again.
            bench.mutex.with(passive, |again| again.set(before + 1));
        });
    }
    let patient = bench.mutex.with_timeout(passive, Timeout::milliseconds(1000), Cell::get);
    // Somebody who has no time gets it, or does not, and goes on.
    bench.mutex.with_timeout(passive, Timeout::microseconds(1), |_| ());
    patient
}

fn fast_mutex(passive: &mut Passive<'_>, bench: &Shared<Bench>, _device: DeviceObject) -> Option<u64> {
    for _ in 0..ROUNDS {
        bench.fast_outer.with(passive, |_, apc| {
            wait::sleep(apc, Timeout::microseconds(20));
            bench.fast.with_at_apc(apc, |fast, _| *fast += u64::from(irql::current() == irql::APC_LEVEL));
        });
        passive.guarded_region(|guarded| {
            bench
                .fast
                .with_guarded(guarded, |fast| *fast += u64::from(irql::current() == irql::PASSIVE_LEVEL));
        });
        if bench.fast.try_with(passive, |fast, _| *fast += 1).is_none() {
            bench.fast.with(passive, |fast, _| *fast += 1);
        }
    }
    Some(bench.fast.with(passive, |fast, _| *fast))
}

/// Two permits: how often a third client was inside.
fn semaphore(passive: &mut Passive<'_>, bench: &Shared<Bench>, _device: DeviceObject) -> Option<u64> {
    let mut crowded = 0;
    for _ in 0..ROUNDS {
        crowded += bench.semaphore.with(passive, || {
            let now = bench.inside.increment();
            wait::sleep(passive, Timeout::microseconds(30));
            bench.inside.decrement();
            u64::from(now > 2)
        });
        bench.semaphore.with_timeout(passive, Timeout::microseconds(1), || ());
    }
    Some(crowded)
}

fn resource(passive: &mut Passive<'_>, bench: &Shared<Bench>, _device: DeviceObject) -> Option<u64> {
    let mut torn = 0;
    for _ in 0..ROUNDS {
        torn += passive.critical_region(|region| {
            bench.resource.write(region, |pair, region| {
                pair.0 += 1;
                wait::sleep(region.passive(), Timeout::microseconds(10));
                pair.1 += 1;
            });
            bench.resource.read(region, |pair, _| u64::from(pair.0 != pair.1))
        });
    }
    let count = passive.guarded_region(|guarded| bench.resource.read(guarded.critical(), |pair, _| pair.0));
    Some(torn * 1000 + count)
}

/// A region in a region; the level inside.
fn regions(passive: &mut Passive<'_>, _bench: &Shared<Bench>, _device: DeviceObject) -> Option<u64> {
    let critical = passive.critical_region(|region| {
        wait::sleep(region.passive(), Timeout::microseconds(1));
        u64::from(irql::current())
    });
    let guarded = passive.guarded_region(|_| u64::from(irql::current()));
    Some(critical + guarded)
}

/// Three clients: each waits in vain, then the last lets all go, and then one after the other gets a turn.
fn events(passive: &mut Passive<'_>, bench: &Shared<Bench>, _device: DeviceObject) -> Option<u64> {
    let early = if bench.arrived.get() == 0 {
        bench.start.wait_for(passive, Timeout::microseconds(1))
    } else {
        Waited::TimedOut
    };
    if bench.arrived.increment() == 3 {
        bench.start.set(passive);
        bench.turn.set(passive);
    }
    bench.start.wait(passive);
    // Allowed at DISPATCH_LEVEL, since it never waits; a notification event stays signalled.
    let polled = passive.at_dispatch(|dispatch| bench.start.poll(dispatch));
    bench.turn.wait(passive);
    let alone = !bench.turn.is_set(passive);
    bench.turn.set(passive);
    Some(u64::from(
        polled == Waited::Signalled && alone && (early == Waited::TimedOut || bench.arrived.get() == 3),
    ))
}

fn dpc(passive: &mut Passive<'_>, bench: &Shared<Bench>, _device: DeviceObject) -> Option<u64> {
    bench.dpc_ran.clear(passive);
    bench.dpc.queue();
    bench.dpc.queue();
    passive.at_dispatch(|_| bench.dpc.queue());
    bench.dpc_ran.wait(passive);
    let ran = bench.inner.with(passive, |inner, _| *inner);
    Some(u64::from(ran > 0))
}

/// Ticks of a timer that is set again and again, and cancelled; whether it went on after that.
fn timer(passive: &mut Passive<'_>, bench: &Shared<Bench>, _device: DeviceObject) -> Option<u64> {
    bench.timer.set(Timeout::milliseconds(1));
    bench.ticked.wait_for(passive, Timeout::milliseconds(50)).then_some()?;
    bench.timer.set_periodic(Timeout::milliseconds(1), 2);
    bench.ticked.wait_for(passive, Timeout::milliseconds(50)).then_some()?;
    bench.ticked.wait_for(passive, Timeout::milliseconds(50)).then_some()?;
    passive.at_dispatch(|_| bench.timer.cancel());
    // One that is on its way may still come.
    wait::sleep(passive, Timeout::milliseconds(5));
    let before = bench.ticks.get();
    wait::sleep(passive, Timeout::milliseconds(20));
    Some(bench.ticks.get().abs_diff(before))
}

/// Turns a wait into a `?`.
trait ThenSome {
    fn then_some(self) -> Option<()>;
}

impl ThenSome for Waited {
    fn then_some(self) -> Option<()> {
        (self == Self::Signalled).then_some(())
    }
}

fn work_item(passive: &mut Passive<'_>, bench: &Shared<Bench>, device: DeviceObject) -> Option<u64> {
    if !bench.work_started.swap(true, SeqCst) {
        bench.work.start(device, bench).ok()?;
    }
    for _ in 0..ROUNDS {
        bench.work_done.clear(passive);
        passive.at_dispatch(|_| WorkItem::queue(bench));
        WorkItem::queue(bench);
        // Another client may have cleared the event after its work was done.
        let _ = bench.work_done.wait_for(passive, Timeout::milliseconds(5));
    }
    Some(u64::from(bench.worked.get() > 0))
}

/// Clients use something, and the first runs it down: how many users were there afterwards.
fn rundown(passive: &mut Passive<'_>, bench: &Shared<Bench>, _device: DeviceObject) -> Option<u64> {
    for _ in 0..ROUNDS {
        bench.rundown.enter(|| {
            bench.users.increment();
            wait::sleep(passive, Timeout::microseconds(20));
            bench.users.decrement();
        });
    }
    if bench.gone.swap(1, SeqCst) == 0 {
        bench.rundown.run_down(passive);
        return Some(bench.users.get().unsigned_abs());
    }
    Some(0)
}

fn remove_lock(passive: &mut Passive<'_>, bench: &Shared<Bench>, _device: DeviceObject) -> Option<u64> {
    for _ in 0..ROUNDS {
        bench.removal.enter(|| {
            bench.users.increment();
            wait::sleep(passive, Timeout::microseconds(20));
            bench.users.decrement();
        });
    }
    if bench.gone.swap(1, SeqCst) == 0 {
        bench.removal.remove(passive);
        return Some(bench.users.get().unsigned_abs() + u64::from(bench.removal.enter(|| ()).is_some()));
    }
    Some(0)
}

/// A sum over paged and nonpaged memory, an MDL's length, and whether there is stack left.
fn memory(passive: &mut Passive<'_>, _bench: &Shared<Bench>, _device: DeviceObject) -> Option<u64> {
    let mut paged = PagedBox::new(passive, [1u64; 64], TAG).ok()?;
    if let Some(first) = paged.get_mut(passive).first_mut() {
        *first = 2;
    }
    let sum: u64 = paged.get(passive).iter().sum();
    paged.free(passive);
    let boxed = PoolBox::new(35u64, TAG).ok()?;
    let slice = PoolSlice::new(5000, TAG, |index| index as u8).ok()?;
    let mdl = Mdl::over(&slice).ok()?;
    let left = stack::remaining();
    Some(sum + *boxed + mdl.length() as u64 + u64::from(left > 4096 && left < 24 * 1024))
}

fn interlocked(_passive: &mut Passive<'_>, bench: &Shared<Bench>, _device: DeviceObject) -> Option<u64> {
    let counter = &bench.counter;
    for _ in 0..ROUNDS {
        counter.increment();
        counter.add(2);
        counter.decrement();
        // The value does not change, whoever exchanges what.
        let seen = counter.get();
        counter.compare_exchange(seen, seen);
    }
    Some(counter.get().unsigned_abs())
}

const _: () = {
    use sluice_kernel::rank::{After, Rank};
    const fn comes_after<R: After<Held>, Held: Rank>() -> bool {
        R::ORDER > Held::ORDER
    }
    assert!(comes_after::<Inner, Outer>() && comes_after::<Leaf, Inner>() && comes_after::<Leaf, Outer>());
};
