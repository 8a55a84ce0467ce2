//! Waiting with a limit that counts the time awake only.
use std::time::Duration;

/// Time between two looks at what is waited for.
pub const POLL: Duration = Duration::from_millis(20);

/// A limit on waiting that counts polls.
///
/// A clock would count the time that the computer slept or the program was stopped, and the limit would pass before
/// the adapter had a chance to come back. A poll counts for no more than it was to take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    limit: Duration,
    spent: Duration,
}

impl Patience {
    /// A limit of which nothing is spent.
    pub fn new(limit: Duration) -> Self {
        Self { limit, spent: Duration::ZERO }
    }

    /// Whether the limit has passed.
    pub fn is_over(&self) -> bool {
        self.spent >= self.limit
    }

    /// How long the next poll may take: no longer than what is left.
    pub fn poll(&self, interval: Duration) -> Duration {
        interval.min(self.left())
    }

    /// What is left of the limit.
    pub fn left(&self) -> Duration {
        self.limit.saturating_sub(self.spent)
    }

    /// What is spent of the limit.
    pub fn spent(&self) -> Duration {
        self.spent
    }

    /// Counts a poll that took `interval`.
    pub fn spend(&mut self, interval: Duration) {
        self.spent = self.spent.saturating_add(interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_count_for_what_they_were_to_take() {
        let mut patience = Patience::new(Duration::from_millis(50));
        let mut polls = 0;
        while !patience.is_over() {
            patience.spend(patience.poll(POLL));
            polls += 1;
        }
        assert_eq!(polls, 3, "20 ms, 20 ms and the last 10 ms");
        assert!(Patience::new(Duration::ZERO).is_over());
    }
}
