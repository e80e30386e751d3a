//! Keeps the client from fighting at full speed with whatever keeps changing a managed file.

use super::fight::Fights;
use engine::time::Instant;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// So many runs after drift may begin within [`WINDOW`].
const RUNS_MAX: usize = 50;
const WINDOW: Duration = Duration::from_secs(2);
/// Between two runs beside another one: as many fit in the window.
const SPREAD: Duration = Duration::from_millis(40);

/// When runs after drift began.
#[derive(Debug, Default)]
pub(super) struct Pace(VecDeque<Instant>);

impl Pace {
    /// When the next run may begin, if it may not now.
    fn next_start(&self, now: Instant) -> Option<Instant> {
        let first = self.0.front().filter(|_| self.0.len() == RUNS_MAX);
        first.map(|first| *first + WINDOW).filter(|at| *at > now)
    }

    /// When the next run beside another one may begin, if it may not now. They are spread evenly:
    /// what the other one writes is noticed too, and would use up at once what drift needs.
    pub(super) fn next_beside(&self, now: Instant) -> Option<Instant> {
        let spread = self.0.back().map(|last| *last + SPREAD).filter(|at| *at > now);
        spread.max(self.next_start(now))
    }

    /// Begins a run, or says when one may begin.
    fn poll_start(&mut self, now: Instant) -> Result<(), Instant> {
        if let Some(at) = self.next_start(now) {
            return Err(at);
        }
        if self.0.len() == RUNS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(now);
        Ok(())
    }

    /// Begins a run of those drifted resources that are not left alone just now; or says when to
    /// ask again.
    pub(super) fn poll_drift(
        &mut self,
        fights: &Fights,
        drifted: &BTreeSet<u32>,
        now: Instant,
    ) -> Result<BTreeSet<u32>, Option<Instant>> {
        let (due, later) = fights.due(drifted, now);
        if due.is_empty() {
            return Err(later);
        }
        match self.poll_start(now) {
            Ok(()) => Ok(due),
            Err(at) => Err(Some(later.map_or(at, |later| later.min(at)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_healed_at_once_and_a_fight_is_slowed_down() {
        let mut pace = Pace::default();
        let at = |ms: u64| Instant(ms * 1_000_000);
        assert!((0..50).all(|ms| pace.poll_start(at(ms)).is_ok()));
        assert_eq!(pace.poll_start(at(60)), Err(at(2000)));
        assert_eq!(pace.poll_start(at(2000)), Ok(()));
        assert_eq!(pace.poll_start(at(2000)), Err(at(2001)));
        assert_eq!(pace.next_beside(at(2000)), Some(at(2040)));
        assert_eq!(pace.next_beside(at(2040)), None);
        // Beside a run a burst does not use up what comes later.
        let mut pace = Pace::default();
        for run in 0..200 {
            assert_eq!(pace.next_beside(at(run * 40)), None);
            assert_eq!(pace.poll_start(at(run * 40)), Ok(()));
        }
    }
}
