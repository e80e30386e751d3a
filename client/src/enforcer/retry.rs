//! When to try again what has failed: soon at first, then less and less often.

use engine::time::Instant;
use std::time::Duration;

const PAUSE_MIN: Duration = Duration::from_secs(60);

/// The next attempt, and how many there were.
#[derive(Debug, Default)]
pub(super) struct Retry {
    attempts: u32,
    at: Option<Instant>,
}

impl Retry {
    /// Something failed that had not before: it is tried again after a minute, or after
    /// `longest` if that is sooner.
    pub(super) fn handle_failed(&mut self, longest: Duration, now: Instant) {
        *self = Self { attempts: 0, at: Some(now + PAUSE_MIN.min(longest)) };
    }

    /// An attempt at all that had failed left some of it so: the pause is doubled.
    pub(super) fn handle_failed_again(&mut self, longest: Duration, now: Instant) {
        self.attempts = self.attempts.saturating_add(1);
        let pause = PAUSE_MIN.saturating_mul(1 << self.attempts.min(20)).min(longest);
        self.at = Some(now + pause);
    }

    /// Nothing is left to try again.
    pub(super) fn handle_settled(&mut self) {
        *self = Self::default();
    }

    /// When to try again.
    pub(super) fn at(&self) -> Option<Instant> {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pauses_double_from_a_minute_up_to_the_longest() {
        let (now, longest) = (Instant(0), Duration::from_secs(1800));
        let mut retry = Retry::default();
        retry.handle_failed(longest, now);
        let mut minutes = Vec::new();
        for _ in 0..7 {
            minutes.push(retry.at().unwrap().since(now).as_secs() / 60);
            retry.handle_failed_again(longest, now);
        }
        assert_eq!(minutes, [1, 2, 4, 8, 16, 30, 30]);
        retry.handle_failed(longest, now);
        assert_eq!(retry.at(), Some(now + PAUSE_MIN), "what is new does not wait so long");
        retry.handle_settled();
        assert_eq!(retry.at(), None);
        retry.handle_failed(Duration::from_millis(100), now);
        assert_eq!(retry.at(), Some(now + Duration::from_millis(100)));
    }
}
