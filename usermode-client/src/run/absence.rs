//! What a run does while its adapter is paused or away.
use std::time::Duration;

use sluice_abi::STATE_RUNNING;

use super::{Absence, Run};
use crate::patience::{POLL, Patience};
use crate::{Error, adapter};

/// How often an adapter may come back without answering one frame.
const FRUITLESS: u32 = 20;
/// The longest pause between two such returns.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// An absence that no answered frame has ended yet.
pub(super) struct Trouble {
    patience: Patience,
    /// Returns that brought no answer.
    fruitless: u32,
    /// Whether the last return is still to be waited for.
    pause: bool,
}

impl Run<'_> {
    /// Does one thing towards sending again: everything that was outstanding has been answered.
    pub(super) fn recover(&mut self, absence: Absence) {
        self.ungather();
        let waits = !self.options.wait.is_zero();
        let new = self.trouble.is_none();
        let trouble = self.trouble.get_or_insert_with(|| Trouble {
            patience: Patience::new(self.options.wait),
            fruitless: 0,
            pause: false,
        });
        if new {
            self.observer.waiting(true);
        }
        if trouble.fruitless >= if waits { FRUITLESS } else { 1 } {
            let times = trouble.fruitless;
            let error =
                if waits { Error::Fruitless { adapter: self.connect.name(), times } } else { Error::Removed };
            self.fail(error);
            return;
        }
        if std::mem::take(&mut trouble.pause) {
            let pause = POLL.saturating_mul(1 << trouble.fruitless.min(16)).min(LONGEST_PAUSE);
            self.sleep(pause);
            return;
        }
        let again = match absence {
            Absence::Paused => match adapter::state_of_bound(self.device.as_ref()) {
                Ok(STATE_RUNNING) => Ok(()),
                Ok(_) => Err(None),
                Err(Error::Removed) => {
                    self.absence = Some(Absence::Removed);
                    return;
                }
                Err(error) => Err(Some(error)),
            },
            Absence::Removed => {
                // Without a wait there is one try, which takes as long as a bind may.
                let mut once = Patience::new(Duration::MAX);
                let patience = if waits { &mut trouble.patience } else { &mut once };
                match self.connect.connect(patience, self.stop) {
                    Ok(connection) => {
                        self.device = connection.device;
                        self.limits = connection.limits;
                        self.sums.removals += 1;
                        Ok(())
                    }
                    Err(Error::Stopped) => return,
                    Err(Error::NoDriver) if waits => Err(None),
                    Err(Error::BindTimeout { .. }) if waits && patience.is_over() => Err(None),
                    Err(error) if error.is_absence() => Err(None),
                    Err(error) => Err(Some(error)),
                }
            }
        };
        match again {
            Ok(()) => {
                self.absence = None;
                if let Some(trouble) = &mut self.trouble {
                    trouble.fruitless += 1;
                    trouble.pause = true;
                }
                self.observer.waiting(false);
            }
            Err(Some(error)) => self.fail(error),
            Err(None) if !waits => self.fail(Error::Removed),
            Err(None) => self.sleep(POLL),
        }
    }

    /// Lets time pass that counts towards the absence, and gives up when it is over.
    fn sleep(&mut self, time: Duration) {
        let Some(trouble) = &mut self.trouble else { return };
        let mut left = time;
        while !left.is_zero() && !trouble.patience.is_over() && !self.stop.is_stopped() {
            // The system has no event for "this filter is attached again" that reaches every client.
            let step = trouble.patience.poll(POLL.min(left));
            std::thread::sleep(step);
            trouble.patience.spend(step);
            left = left.saturating_sub(step);
        }
        if trouble.patience.is_over() {
            self.fail(Error::Away { adapter: self.connect.name(), waited: self.options.wait });
        }
    }
}
