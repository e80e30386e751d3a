//! When to try again one resource that has failed: soon at first, then less and less often.

use engine::time::Instant;
use std::time::Duration;

const PAUSE_MIN: Duration = Duration::from_secs(60);

/// The next attempt, and how many there were.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Retry {
    attempts: u32,
    at: Instant,
}

impl Retry {
    /// It failed and had not before: it is tried again after a minute, or after `longest` if that
    /// is sooner.
    pub(super) fn failed(longest: Duration, now: Instant) -> Self {
        Self { attempts: 0, at: now + PAUSE_MIN.min(longest) }
    }

    /// It was not tried, and nothing stands in its way any more.
    pub(super) fn now(now: Instant) -> Self {
        Self { attempts: 0, at: now }
    }

    /// An attempt has failed: the pause is doubled.
    pub(super) fn handle_failed_again(&mut self, longest: Duration, now: Instant) {
        self.attempts = self.attempts.saturating_add(1);
        let pause = PAUSE_MIN.saturating_mul(1 << self.attempts.min(20)).min(longest);
        self.at = now + pause;
    }

    /// When to try again.
    pub(super) fn at(&self) -> Instant {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pauses_double_from_a_minute_up_to_the_longest() {
        let (now, longest) = (Instant(0), Duration::from_secs(1800));
        let mut retry = Retry::failed(longest, now);
        let mut minutes = Vec::new();
        for _ in 0..7 {
            minutes.push(retry.at().since(now).as_secs() / 60);
            retry.handle_failed_again(longest, now);
        }
        assert_eq!(minutes, [1, 2, 4, 8, 16, 30, 30]);
        let short = Duration::from_millis(100);
        assert_eq!(Retry::failed(short, now).at(), now + short);
        assert_eq!(Retry::now(now).at(), now);
    }
}
