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
        self.judge(status(control).map(|status| status.inbox_records), now)
    }

    fn judge(&mut self, left: Result<u64, CallError>, now: Instant) -> Result<bool, LoadError> {
        match left {
            Ok(0) => Ok(true),
            Ok(left) if self.latest.is_some_and(|latest| now >= latest) => {
                Err(LoadError::InboxStuck { left })
            }
            Ok(left) if left < self.fewest => {
                self.fewest = left;
                self.until = now + self.patience;
                Ok(false)
            }
            Ok(left) if now >= self.until => Err(LoadError::InboxStuck { left }),
            Err(error) if now >= self.until => Err(error.into()),
            // It may be starting again.
            Ok(_) | Err(_) => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_for_the_inbox_ends_only_when_it_is_empty_or_stuck() {
        let gone = || CallError::NotRunning { socket: "control.sock".into() };
        let at = |s| Instant(0) + Duration::from_secs(s);
        let mut inbox = InboxWait::new(at(0));
        assert!(matches!(inbox.judge(Err(gone()), at(59)), Ok(false)), "it may be starting");
        assert!(matches!(inbox.judge(Ok(7), at(59)), Ok(false)));
        assert!(matches!(inbox.judge(Ok(6), at(118)), Ok(false)), "it gets emptier");
        assert!(matches!(inbox.judge(Ok(8), at(177)), Ok(false)));
        assert!(matches!(inbox.judge(Ok(8), at(178)), Err(LoadError::InboxStuck { left: 8 })));
        assert!(matches!(inbox.judge(Err(gone()), at(178)), Err(LoadError::Control(_))));
        assert!(matches!(inbox.judge(Ok(0), at(999)), Ok(true)));
    }

    #[test]
    fn an_inbox_that_grew_is_waited_for_only_while_it_gets_emptier_and_not_for_ever() {
        let at = |s| Instant(0) + Duration::from_secs(s);
        let mut inbox = InboxWait::for_grown(at(0));
        assert!(matches!(inbox.judge(Ok(100), at(0)), Ok(false)));
        assert!(matches!(inbox.judge(Ok(100), at(4)), Ok(false)));
        assert!(matches!(inbox.judge(Ok(100), at(5)), Err(LoadError::InboxStuck { left: 100 })));
        let mut inbox = InboxWait::for_grown(at(0));
        let emptier = (0..60).all(|s| matches!(inbox.judge(Ok(100 - s), at(s)), Ok(false)));
        assert!(emptier);
        assert!(matches!(inbox.judge(Ok(40), at(60)), Err(LoadError::InboxStuck { left: 40 })));
    }
}
