//! The wait until the master's inbox is empty: before that, nothing can be said of what it has
//! stored.

use crate::error::LoadError;
use engine::time::Instant;
use master::control::{CallError, NoArgs, Status, ask, verb};
use std::path::Path;
use std::time::Duration;

/// Asks the daemon how it is.
///
/// # Errors
/// It does not answer.
pub fn status(control: &Path) -> Result<Status, CallError> {
    ask(control, verb::STATUS, &NoArgs {})
}

/// How long the inbox may take to get emptier, or a master to start again.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same for an inbox that grew under the load, which is judged for that anyway,
const PATIENCE_GROWN: Duration = Duration::from_secs(5);
/// and how long it is waited for at all.
const GROWN_MAX: Duration = Duration::from_secs(60);

/// How the master's own words for why it stores nothing begin.
const STUCK: [&str; 2] = ["no reports are accepted: ", "reports wait in the inbox: "];

/// Waits until all that was acked has gone from the master's inbox to its result store: before
/// that nothing can be said of it.
#[derive(Debug)]
pub struct InboxWait {
    fewest: u64,
    patience: Duration,
    /// When the patience ends.
    until: Instant,
    /// When the wait ends, even if the inbox gets emptier.
    latest: Option<Instant>,
}

impl InboxWait {
    /// Begins to wait.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { fewest: u64::MAX, patience: PATIENCE, until: now + PATIENCE, latest: None }
    }

    /// Begins to wait for an inbox that grew under the load: not for long.
    #[must_use]
    pub fn for_grown(now: Instant) -> Self {
        Self {
            fewest: u64::MAX,
            patience: PATIENCE_GROWN,
            until: now + PATIENCE_GROWN,
            latest: Some(now + GROWN_MAX),
        }
    }

    /// Asks the daemon once; `true` says that its inbox is empty.
    ///
    /// # Errors
    /// The inbox has not got emptier for long, or the daemon has not answered for long.
    pub fn ask(&mut self, control: &Path, now: Instant) -> Result<bool, LoadError> {
        let left = status(control).map(|status| {
            let stuck = |warning: &&String| STUCK.iter().any(|begin| warning.starts_with(begin));
            (status.inbox_records, status.warnings.iter().find(stuck).cloned())
        });
        self.judge(left, now)
    }

    fn judge(
        &mut self,
        left: Result<(u64, Option<String>), CallError>,
        now: Instant,
    ) -> Result<bool, LoadError> {
        match left {
            Ok((0, _)) => Ok(true),
            Ok((left, why)) if self.latest.is_some_and(|latest| now >= latest) => {
                Err(LoadError::InboxStuck { left, why })
            }
            Ok((left, _)) if left < self.fewest => {
                self.fewest = left;
                self.until = now + self.patience;
                Ok(false)
            }
            Ok((_, Some(_))) if self.patience > PATIENCE_GROWN => {
                // It says itself that nothing will come of it.
                self.patience = PATIENCE_GROWN;
                self.until = self.until.min(now + PATIENCE_GROWN);
                Ok(false)
            }
            Ok((left, why)) if now >= self.until => Err(LoadError::InboxStuck { left, why }),
            Err(error) if now >= self.until => Err(error.into()),
            // It may be starting again.
            Ok(_) | Err(_) => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "it is what a daemon answers")]
    fn left(records: u64) -> Result<(u64, Option<String>), CallError> {
        Ok((records, None))
    }

    #[test]
    fn the_wait_for_the_inbox_ends_only_when_it_is_empty_or_stuck() {
        let gone = || CallError::NotRunning { socket: "control.sock".into() };
        let at = |s| Instant(0) + Duration::from_secs(s);
        let mut inbox = InboxWait::new(at(0));
        assert!(matches!(inbox.judge(Err(gone()), at(59)), Ok(false)), "it may be starting");
        assert!(matches!(inbox.judge(left(7), at(59)), Ok(false)));
        assert!(matches!(inbox.judge(left(6), at(118)), Ok(false)), "it gets emptier");
        assert!(matches!(inbox.judge(left(8), at(177)), Ok(false)));
        assert!(matches!(
            inbox.judge(left(8), at(178)),
            Err(LoadError::InboxStuck { left: 8, .. })
        ));
        assert!(matches!(inbox.judge(Err(gone()), at(178)), Err(LoadError::Control(_))));
        assert!(matches!(inbox.judge(left(0), at(999)), Ok(true)));
    }

    #[test]
    fn an_inbox_that_grew_is_waited_for_only_while_it_gets_emptier_and_not_for_ever() {
        let at = |s| Instant(0) + Duration::from_secs(s);
        let mut inbox = InboxWait::for_grown(at(0));
        assert!(matches!(inbox.judge(left(100), at(0)), Ok(false)));
        assert!(matches!(inbox.judge(left(100), at(4)), Ok(false)));
        assert!(matches!(
            inbox.judge(left(100), at(5)),
            Err(LoadError::InboxStuck { left: 100, .. })
        ));
        let mut inbox = InboxWait::for_grown(at(0));
        let emptier = (0..60).all(|s| matches!(inbox.judge(left(100 - s), at(s)), Ok(false)));
        assert!(emptier);
        assert!(matches!(
            inbox.judge(left(40), at(60)),
            Err(LoadError::InboxStuck { left: 40, .. })
        ));
    }

    #[test]
    fn a_master_that_says_why_it_stores_nothing_is_not_waited_for_for_long() {
        let at = |s| Instant(0) + Duration::from_secs(s);
        let full = || Ok((7, Some("no reports are accepted: the disk is full".to_owned())));
        let mut inbox = InboxWait::new(at(0));
        assert!(matches!(inbox.judge(full(), at(1)), Ok(false)), "7 are fewer than were known");
        assert!(matches!(inbox.judge(full(), at(2)), Ok(false)));
        assert!(matches!(inbox.judge(full(), at(6)), Ok(false)));
        let error = inbox.judge(full(), at(7)).unwrap_err().to_string();
        assert!(
            error.contains("does not get emptier (no reports are accepted: the disk"),
            "{error}"
        );
    }
}
