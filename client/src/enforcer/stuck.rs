//! An assignment of which nothing can be applied: its root is missing, or its catalog.

use engine::ids::Revision;
use engine::time::Instant;
use std::time::Duration;

const PAUSE_MIN: Duration = Duration::from_secs(1);
/// A root that is there again is filled within a minute, however long it was away.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What stands in the way, and how long it is waited for.
#[derive(Debug)]
pub(super) struct Stuck {
    revision: Revision,
    why: String,
    pause: Duration,
}

impl Stuck {
    /// Nothing of this revision could be applied, for this reason.
    pub(super) fn new(revision: Revision, why: &str) -> Self {
        Self { revision, why: why.to_owned(), pause: PAUSE_MIN }
    }

    /// Whether it is still the same.
    pub(super) fn is(&self, revision: Revision, why: &str) -> bool {
        self.revision == revision && self.why == why
    }

    /// When to try again; `longest` is the longest pause between two checks.
    pub(super) fn next_attempt(&mut self, longest: Duration, now: Instant) -> Instant {
        let pause = self.pause.min(longest);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        now + pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stuck_is_tried_after_pauses_of_a_second_to_a_minute() {
        let (now, longest) = (Instant(0), Duration::from_secs(1800));
        let mut stuck = Stuck::new(Revision(1), "no root");
        let mut secs = |longest| stuck.next_attempt(longest, now).since(now).as_secs();
        assert_eq!([(); 8].map(|()| secs(longest)), [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(secs(Duration::from_secs(5)), 5);
        assert!(stuck.is(Revision(1), "no root"));
        assert!(!stuck.is(Revision(2), "no root") && !stuck.is(Revision(1), "no catalog"));
    }
}
