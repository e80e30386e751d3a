//! Keeps the client from fighting at full speed with whatever keeps changing a managed file.

use engine::time::Instant;
use std::collections::VecDeque;
use std::time::Duration;

/// So many runs after drift may begin within [`WINDOW`].
const RUNS_MAX: usize = 50;
const WINDOW: Duration = Duration::from_secs(2);

/// When runs after drift began.
#[derive(Debug, Default)]
pub(super) struct Pace(VecDeque<Instant>);

impl Pace {
    /// Begins a run, or says when one may begin.
    pub(super) fn poll_start(&mut self, now: Instant) -> Result<(), Instant> {
        if let Some(first) = self.0.front().copied()
            && self.0.len() == RUNS_MAX
        {
            if first + WINDOW > now {
                return Err(first + WINDOW);
            }
            self.0.pop_front();
        }
        self.0.push_back(now);
        Ok(())
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
    }
}
