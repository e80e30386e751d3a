//! An assignment of which nothing can be applied: its root is missing, or its catalog.

use engine::ids::Revision;
use engine::time::Instant;
use std::time::Duration;

const PAUSE_MIN: Duration = Duration::from_secs(1);
/// A root that is there again is filled within a minute, however long it was away.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What stands in the way, and when it is tried again.
#[derive(Debug)]
pub(super) struct Stuck {
    pub(super) revision: Revision,
    pub(super) why: String,
    pause: Duration,
    pub(super) next_attempt: Instant,
}

impl Stuck {
    /// Nothing of this revision could be applied, for this reason; `longest` is the longest pause
    /// between two checks. `before` is what stood in the way before, if anything did. Whether that
    /// is news.
    pub(super) fn after(
        before: Option<Self>,
        revision: Revision,
        why: &str,
        longest: Duration,
        now: Instant,
    ) -> (Self, bool) {
        let same = before.filter(|stuck| stuck.revision == revision && stuck.why == why);
        let pause = same.as_ref().map_or(PAUSE_MIN, |stuck| (stuck.pause * 2).min(PAUSE_MAX));
        let next_attempt = now + pause.min(longest);
        (Self { revision, why: why.to_owned(), pause, next_attempt }, same.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stuck_is_told_once_and_tried_after_pauses_of_a_second_to_a_minute() {
        let (now, longest) = (Instant(0), Duration::from_secs(1800));
        let mut stuck = None;
        let mut secs = |revision, why, longest| {
            let (next, is_news) = Stuck::after(stuck.take(), Revision(revision), why, longest, now);
            let pause = next.next_attempt.since(now).as_secs();
            stuck = Some(next);
            (pause, is_news)
        };
        assert_eq!(secs(1, "no root", longest), (1, true));
        let pauses = [(); 7].map(|()| secs(1, "no root", longest));
        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60].map(|pause| (pause, false)));
        assert_eq!(secs(1, "no root", Duration::from_secs(5)), (5, false));
        assert_eq!(secs(1, "no catalog", longest), (1, true));
        assert_eq!(secs(2, "no catalog", longest), (1, true));
    }
}
