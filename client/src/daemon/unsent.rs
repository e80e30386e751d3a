//! Runs that the outbox had no room for: folded into one summary, so that enforcement goes on
//! for as long as the master is gone and its operator still learns that things changed.

use engine::ids::Revision;
use engine::wire::message::{Report, outcome, trigger};

/// Counts of the runs that were folded.
#[derive(Debug, Default)]
pub struct Unsent {
    reports: u64,
    changed: u64,
    failed: u64,
    first_ms: u64,
    last_ms: u64,
}

impl Unsent {
    /// How many runs are folded.
    #[must_use]
    pub fn reports(&self) -> u64 {
        self.reports
    }

    /// Takes a run.
    pub fn fold(&mut self, report: &Report) {
        let count = |of: u8| report.results.iter().filter(|r| r.outcome == of).count() as u64;
        if self.reports == 0 {
            self.first_ms = report.started_ms;
        }
        self.last_ms = report.started_ms;
        self.reports += 1;
        self.changed += count(outcome::CHANGED);
        self.failed += count(outcome::FAILED);
    }

    /// One report that stands for all of them; `None` if there is none.
    #[must_use]
    pub fn summary(&self, revision: Revision) -> Option<Report> {
        (self.reports > 0).then(|| Report {
            revision: revision.0,
            trigger: trigger::INTERVAL,
            started_ms: self.first_ms,
            duration_us: self.last_ms.saturating_sub(self.first_ms) * 1000,
            busy_us: 0,
            checked: 0,
            results: Vec::new(),
            note: format!(
                "{} runs had no room in the queue: {} resources changed and {} failed between {} and {} ms since 1970",
                self.reports, self.changed, self.failed, self.first_ms, self.last_ms
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::wire::message::ResourceResult;

    #[test]
    fn runs_are_folded_into_one_summary() {
        let result = |of| ResourceResult {
            id: b"file /x".to_vec(),
            outcome: of,
            before: String::new(),
            after: String::new(),
            error: String::new(),
            duration_us: 1,
            output: Vec::new(),
        };
        let mut unsent = Unsent::default();
        assert_eq!(unsent.summary(Revision(3)), None);
        for started_ms in [1000, 2000] {
            unsent.fold(&Report {
                revision: 3,
                trigger: trigger::DRIFT,
                started_ms,
                duration_us: 5,
                busy_us: 5,
                checked: 2,
                results: vec![result(outcome::CHANGED), result(outcome::FAILED)],
                note: String::new(),
            });
        }
        let summary = unsent.summary(Revision(3)).unwrap();
        assert_eq!((summary.started_ms, summary.duration_us), (1000, 1_000_000));
        assert!(
            summary
                .note
                .starts_with("2 runs had no room in the queue: 2 resources changed and 2 failed")
        );
    }
}
