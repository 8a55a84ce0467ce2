//! Stopping a run: each Ctrl-C asks for more.
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// How far a run is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Not at all.
    Running,
    /// No new frames; what is outstanding is waited for.
    Draining,
    /// What is outstanding is cancelled, and waited for.
    Cancelling,
    /// Nothing is waited for.
    Gone,
}

/// Counts requests to stop. Clones share the count.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicU8>);

impl Stop {
    /// Asks for one stage more, and returns it.
    pub fn press(&self) -> Stage {
        let before =
            self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| Some(count.saturating_add(1)));
        stage(before.unwrap_or(u8::MAX).saturating_add(1))
    }

    /// The stage that has been asked for.
    pub fn stage(&self) -> Stage {
        stage(self.0.load(Ordering::SeqCst))
    }

    /// Whether anything has been asked for.
    pub fn is_stopped(&self) -> bool {
        self.stage() != Stage::Running
    }
}

fn stage(presses: u8) -> Stage {
    match presses {
        0 => Stage::Running,
        1 => Stage::Draining,
        2 => Stage::Cancelling,
        _ => Stage::Gone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_press_goes_one_stage_further() {
        let stop = Stop::default();
        assert_eq!(stop.stage(), Stage::Running);
        let pressed: Vec<Stage> = (0..300).map(|_| stop.press()).collect();
        assert_eq!(pressed[..3], [Stage::Draining, Stage::Cancelling, Stage::Gone]);
        assert!(pressed[3..].iter().all(|stage| *stage == Stage::Gone));
    }
}
