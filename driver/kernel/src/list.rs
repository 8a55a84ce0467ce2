//! A list of shared values behind a spin lock.
use crate::irql::BelowDispatch;
use crate::lock::SpinLock;
use crate::pool::{OutOfMemory, PoolBox, Tag};
use crate::rank::{After, Leaf};
use crate::shared::Shared;

struct Node<T> {
    value: Shared<T>,
    next: Option<PoolBox<Node<T>>>,
}

/// Values that anybody may look for, each with a reference of the list's own.
pub struct SharedList<T>(SpinLock<Option<PoolBox<Node<T>>>>);

impl<T: Send + Sync> SharedList<T> {
    /// An empty list.
    pub const fn new() -> Self {
        Self(SpinLock::new(None))
    }

    /// Adds a value.
    pub fn add<L: BelowDispatch>(&self, level: &mut L, value: Shared<T>, tag: Tag) -> Result<(), OutOfMemory>
    where
        Leaf: After<L::Held>,
    {
        let mut node = PoolBox::new(Node { value, next: None }, tag)?;
        self.0.with(level, |first, _| {
            node.next = first.take();
            *first = Some(node);
        });
        Ok(())
    }

    /// Removes a value, if it is there.
    pub fn remove<L: BelowDispatch>(&self, level: &mut L, value: &Shared<T>)
    where
        Leaf: After<L::Held>,
    {
        let removed = self.0.with(level, |first, _| {
            let mut place = first;
            while !place.as_ref()?.value.same(value) {
                place = &mut place.as_mut()?.next;
            }
            let mut node = place.take()?;
            *place = node.next.take();
            Some(node)
        });
        // Dropped outside the lock: it may be the last reference.
        drop(removed);
    }

    /// The first value that fits.
    pub fn find<L: BelowDispatch>(&self, level: &mut L, mut fits: impl FnMut(&T) -> bool) -> Option<Shared<T>>
    where
        Leaf: After<L::Held>,
    {
        let mut found = None;
        self.visit(level, |value| {
            if found.is_none() && fits(value) {
                found = Some(value.clone());
            }
        });
        found
    }

    /// Shows every value to `each`, at `DISPATCH_LEVEL`.
    pub fn visit<L: BelowDispatch>(&self, level: &mut L, mut each: impl FnMut(&Shared<T>))
    where
        Leaf: After<L::Held>,
    {
        self.0.with(level, |first, _| {
            let mut at = first.as_ref();
            while let Some(node) = at {
                each(&node.value);
                at = node.next.as_ref();
            }
        });
    }
}

impl<T: Send + Sync> Default for SharedList<T> {
    fn default() -> Self {
        Self::new()
    }
}
