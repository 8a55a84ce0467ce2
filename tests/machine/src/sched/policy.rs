//! Which of the things that may happen next does: by chance, by priorities that change a few times, or as told.
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use anyhow::{Context, bail};

use super::Candidate;

/// How a schedule is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// By chance; how often the running thread goes on is drawn for each run.
    #[default]
    Random,
    /// Probabilistic concurrency testing (Burckhardt and others, 2010): threads have random priorities, and at
    /// `depth - 1` random ones of `steps` decisions the running thread's becomes the lowest.
    Pct {
        /// Depth of the bugs that are looked for.
        depth: u32,
        /// Decisions of a run.
        steps: u64,
    },
    /// The running thread goes on while it can, but at these decisions something else happens: the number of
    /// the decision, and which of the things that could happen.
    Told(Vec<(u64, u16)>),
}

/// How a run is chosen: data, such as when an adapter completes a send, comes from the seed in every case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Seed of data, and of the schedule where that is left to chance.
    pub seed: u64,
    /// What chooses the schedule.
    pub strategy: Strategy,
}

impl Schedule {
    /// A schedule by chance.
    pub const fn random(seed: u64) -> Self {
        Self { seed, strategy: Strategy::Random }
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self::random(1)
    }
}

/// The token of a schedule: `0x2a` by chance, `0x2a/pct:3:2000`, `0x2a/told:17.1,40.2`.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.seed)?;
        match &self.strategy {
            Strategy::Random => Ok(()),
            Strategy::Pct { depth, steps } => write!(f, "/pct:{depth}:{steps}"),
            Strategy::Told(changes) => {
                write!(f, "/told:")?;
                for (index, (decision, choice)) in changes.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}{decision}.{choice}")?;
                }
                Ok(())
            }
        }
    }
}

fn number(text: &str) -> anyhow::Result<u64> {
    text.strip_prefix("0x")
        .map_or_else(|| text.parse(), |digits| u64::from_str_radix(digits, 16))
        .with_context(|| format!("\"{text}\" is no number"))
}

impl FromStr for Schedule {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (seed, rest) = text.split_once('/').map_or((text, None), |(seed, rest)| (seed, Some(rest)));
        let seed = number(seed)?;
        let strategy = match rest.map(|rest| rest.split_once(':').unwrap_or((rest, ""))) {
            None => Strategy::Random,
            Some(("pct", numbers)) => {
                let (depth, steps) = numbers.split_once(':').context("PCT is pct:DEPTH:STEPS")?;
                Strategy::Pct { depth: number(depth)? as u32, steps: number(steps)? }
            }
            Some(("told", changes)) => {
                let change = |text: &str| {
                    let (decision, choice) = text.split_once('.').context("a change is DECISION.CHOICE")?;
                    anyhow::Ok((number(decision)?, number(choice)? as u16))
                };
                let changes = changes.split(',').filter(|change| !change.is_empty());
                Strategy::Told(changes.map(change).collect::<anyhow::Result<_>>()?)
            }
            Some((other, _)) => bail!("\"{other}\" is no way to choose a schedule: there are pct and told"),
        };
        Ok(Self { seed, strategy })
    }
}

/// One decision of a run: how many things could have happened, and which did. What costs no preemption is 0
/// where the running thread could go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Things that could happen.
    pub candidates: u16,
    /// The one that did; 0 is the running thread, if it could go on, and otherwise the first in order.
    pub chosen: u16,
    /// Whether the running thread could have gone on: to choose another is a preemption.
    pub preempts: bool,
}

/// The chooser of one run.
#[derive(Debug)]
pub(super) struct Policy {
    strategy: Strategy,
    random: fastrand::Rng,
    /// Of 256: how often the running thread goes on if it may.
    sticky: u8,
    /// Priorities of threads, and at which decisions the running one's sinks.
    priorities: BTreeMap<u32, u64>,
    changes: Vec<u64>,
    changed: u64,
    /// Decisions so far, and those to come of a told schedule.
    decision: u64,
    told: BTreeMap<u64, u16>,
    record: Option<Vec<Decision>>,
}

impl Policy {
    pub(super) fn new(schedule: &Schedule, record: bool) -> Self {
        let mut random = fastrand::Rng::with_seed(schedule.seed ^ 0x5C4E_D01E);
        let sticky = *random.choice(&[64, 160, 208, 232, 244, 250, 253, 254]).unwrap_or(&224);
        let mut changes = Vec::new();
        let mut told = BTreeMap::new();
        match &schedule.strategy {
            Strategy::Random => {}
            Strategy::Pct { depth, steps } => {
                changes = (1..*depth).map(|_| random.u64(1..=(*steps).max(1))).collect();
                changes.sort_unstable();
            }
            Strategy::Told(list) => told = list.iter().copied().collect(),
        }
        Self {
            strategy: schedule.strategy.clone(),
            random,
            sticky,
            priorities: BTreeMap::new(),
            changes,
            changed: 0,
            decision: 0,
            told,
            record: record.then(Vec::new),
        }
    }

    /// At a scheduling point: whether the running thread goes on, no matter what else may happen.
    pub(super) fn stays(&mut self) -> bool {
        matches!(self.strategy, Strategy::Random) && self.random.u8(..) < self.sticky
    }

    /// Whether every decision has to be looked at.
    pub(super) fn looks_at_all(&self) -> bool {
        self.record.is_some() || !matches!(self.strategy, Strategy::Random)
    }

    /// The running thread cannot do anything useful now: it polls.
    pub(super) fn polls(&mut self, thread: u32) {
        if matches!(self.strategy, Strategy::Pct { .. }) {
            self.sink(thread);
        }
    }

    fn sink(&mut self, thread: u32) {
        self.changed += 1;
        self.priorities.insert(thread, (1 << 20) - self.changed);
    }

    fn priority(&mut self, thread: u32) -> u64 {
        let random = &mut self.random;
        *self.priorities.entry(thread).or_insert_with(|| (1 << 32) + u64::from(random.u32(..)))
    }

    /// Chooses one of at least one candidate. The first is the running thread if `goes_on`; `stays` says that
    /// chance has already kept it.
    pub(super) fn pick(&mut self, candidates: &[Candidate], goes_on: bool, stays: bool) -> usize {
        let index = match &self.strategy {
            Strategy::Random if stays && goes_on => 0,
            Strategy::Random => self.random.usize(..candidates.len()),
            Strategy::Pct { .. } => {
                let running = candidates[0].thread;
                while self.changes.first().is_some_and(|change| *change <= self.decision + 1) {
                    self.changes.remove(0);
                    if goes_on {
                        self.sink(running);
                    }
                }
                let priorities: Vec<u64> =
                    candidates.iter().map(|candidate| self.priority(candidate.thread)).collect();
                let most = priorities.iter().copied().max().unwrap_or(0);
                priorities.iter().position(|priority| *priority == most).unwrap_or(0)
            }
            Strategy::Told(_) => {
                let told = self.told.get(&self.decision).map_or(0, |choice| usize::from(*choice));
                if told < candidates.len() { told } else { 0 }
            }
        };
        if candidates.len() > 1 {
            self.decision += 1;
            if let Some(record) = &mut self.record {
                let (candidates, chosen) = (candidates.len() as u16, index as u16);
                record.push(Decision { candidates, chosen, preempts: goes_on });
            }
        }
        index
    }

    /// The decisions of the run, if they were recorded.
    pub(super) fn decisions(&self) -> Vec<Decision> {
        self.record.clone().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{Schedule, Strategy};

    #[test]
    fn a_token_says_what_the_schedule_is() {
        for strategy in [
            Strategy::Random,
            Strategy::Pct { depth: 3, steps: 2000 },
            Strategy::Told(vec![(17, 1), (40, 2)]),
            Strategy::Told(Vec::new()),
        ] {
            let schedule = Schedule { seed: 0x2A, strategy };
            assert_eq!(schedule.to_string().parse::<Schedule>().ok(), Some(schedule));
        }
        for wrong in ["", "x", "1/", "1/fair", "1/pct:3", "1/told:1", "1/told:1.x"] {
            assert!(wrong.parse::<Schedule>().is_err(), "{wrong}");
        }
    }
}
