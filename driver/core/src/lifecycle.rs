//! A module's states and the only ways between them (page "Filter Module States and Operations").
use core::sync::atomic::Ordering::{AcqRel, Acquire};

use sluice_abi as abi;

use crate::Word;

/// States as NDIS documents them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// `FilterAttach` is running.
    Attaching = abi::STATE_ATTACHING,
    /// Attached; nothing may be originated.
    Paused = abi::STATE_PAUSED,
    /// `FilterRestart` is running.
    Restarting = abi::STATE_RESTARTING,
    /// Frames flow.
    Running = abi::STATE_RUNNING,
    /// `FilterPause` was called and something is out.
    Pausing = abi::STATE_PAUSING,
    /// `FilterDetach` was called.
    Detached = abi::STATE_DETACHED,
}

impl State {
    const ALL: [Self; 6] =
        [Self::Attaching, Self::Paused, Self::Restarting, Self::Running, Self::Pausing, Self::Detached];
}

/// The transitions that NDIS documents. There is no value for any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// `FilterAttach` succeeded.
    Attached,
    /// `FilterRestart` was called.
    Restart,
    /// `FilterRestart` succeeded.
    Restarted,
    /// `FilterRestart` failed.
    RestartFailed,
    /// `FilterPause` was called.
    Pause,
    /// The pause is complete.
    Paused,
    /// `FilterDetach` was called.
    Detach,
}

impl Edge {
    /// Every edge.
    pub const ALL: [Self; 7] = [
        Self::Attached,
        Self::Restart,
        Self::Restarted,
        Self::RestartFailed,
        Self::Pause,
        Self::Paused,
        Self::Detach,
    ];

    /// Where the edge starts and ends.
    pub const fn ends(self) -> (State, State) {
        match self {
            Self::Attached => (State::Attaching, State::Paused),
            Self::Restart => (State::Paused, State::Restarting),
            Self::Restarted => (State::Restarting, State::Running),
            Self::RestartFailed => (State::Restarting, State::Paused),
            Self::Pause => (State::Running, State::Pausing),
            Self::Paused => (State::Pausing, State::Paused),
            Self::Detach => (State::Paused, State::Detached),
        }
    }
}

/// The state of one module. NDIS calls one transition at a time; anybody may look.
#[derive(Debug)]
pub struct Lifecycle<W>(W);

impl<W: Word> Lifecycle<W> {
    /// A module that is being attached.
    pub fn new() -> Self {
        Self(W::new(State::Attaching as u64))
    }

    /// The state now.
    pub fn state(&self) -> State {
        let value = self.0.load(Acquire);
        State::ALL.into_iter().find(|state| *state as u64 == value).unwrap_or(State::Detached)
    }

    /// Goes along `edge`, or returns the state that the module is in instead of the edge's start.
    pub fn go(&self, edge: Edge) -> Result<(), State> {
        let (from, to) = edge.ends();
        self.0.compare_exchange(from as u64, to as u64, AcqRel, Acquire).map(drop).map_err(|_| self.state())
    }
}

impl<W: Word> Default for Lifecycle<W> {
    fn default() -> Self {
        Self::new()
    }
}
