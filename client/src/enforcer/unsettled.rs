//! What of the assignment in force is not as wanted, and when each of it is tried again.

use super::retry::Retry;
use crate::executor::run::RunDone;
use engine::time::Instant;
use engine::wire::message::{outcome, trigger};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Resources that a later run must look at again.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    all: BTreeSet<u32>,
    /// Which of them failed, and why.
    failing: BTreeMap<u32, String>,
    /// Those that were skipped, each with the one that it waits for.
    waiting: BTreeMap<u32, u32>,
    /// Those that wait for none: each has a time of its own.
    retries: BTreeMap<u32, Retry>,
}

impl Unsettled {
    /// A run is done; `longest` is the longest pause between two attempts.
    pub(super) fn handle_run(&mut self, done: &RunDone, longest: Duration, now: Instant) {
        for resource in &done.settled {
            self.all.remove(resource);
            self.failing.remove(resource);
            self.waiting.remove(resource);
            self.retries.remove(resource);
        }
        self.all.extend(&done.unsettled);
        for (resource, result) in done.resources.iter().zip(&done.report.results) {
            if result.outcome == outcome::FAILED {
                let id = String::from_utf8_lossy(&result.id);
                self.failing.insert(*resource, format!("{id}: {}", result.error));
            }
        }
        let is_drift = done.report.trigger == trigger::DRIFT;
        for resource in &done.unsettled {
            if let Some(by) = done.blocked.get(resource) {
                self.waiting.insert(*resource, *by);
                self.retries.remove(resource);
                continue;
            }
            self.waiting.remove(resource);
            match self.retries.get_mut(resource) {
                None => drop(self.retries.insert(*resource, Retry::failed(longest, now))),
                // What changes all the time and fails does not put off its own next attempt.
                Some(_) if is_drift => {}
                Some(retry) => retry.handle_failed_again(longest, now),
            }
        }
        // What waited for something that is as wanted now waits no longer.
        let free: Vec<u32> =
            self.waiting.keys().copied().filter(|r| self.cause(*r) == *r).collect();
        for resource in free {
            self.waiting.remove(&resource);
            self.retries.insert(resource, Retry::now(now));
        }
    }

    /// Nothing could be run: what was due is put off.
    pub(super) fn handle_not_run(&mut self, longest: Duration, now: Instant) {
        for retry in self.retries.values_mut().filter(|retry| retry.at() <= now) {
            retry.handle_failed_again(longest, now);
        }
    }

    /// The one that a resource waits for in the end; itself if it waits for none.
    fn cause(&self, resource: u32) -> u32 {
        let mut cause = resource;
        // A requirement is never in a circle; the bound is for a catalog that was changed meanwhile.
        for _ in 0..=self.waiting.len() {
            match self.waiting.get(&cause).filter(|by| self.all.contains(by)) {
                Some(by) => cause = *by,
                None => break,
            }
        }
        cause
    }

    /// Those to be tried now, with those that wait for them.
    pub(super) fn due(&self, now: Instant) -> BTreeSet<u32> {
        let is_due = |r: &u32| self.retries.get(r).is_some_and(|retry| retry.at() <= now);
        self.all.iter().copied().filter(|r| is_due(&self.cause(*r))).collect()
    }

    /// When the next of them is to be tried.
    pub(super) fn next_attempt(&self) -> Option<Instant> {
        self.retries.values().map(Retry::at).min()
    }

    /// All of them.
    pub(super) fn all(&self) -> &BTreeSet<u32> {
        &self.all
    }

    /// The first that failed, and why.
    pub(super) fn first_failure(&self) -> Option<&String> {
        self.failing.values().next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::wire::message::{Report, ResourceResult};

    const LONGEST: Duration = Duration::from_secs(1800);

    fn at(secs: u64) -> Instant {
        Instant(0) + Duration::from_secs(secs)
    }

    /// A run that looked at these: those that failed, those that were skipped for another one, and
    /// those that are as wanted.
    fn run(trigger: u8, failed: &[u32], blocked: &[(u32, u32)], settled: &[u32]) -> RunDone {
        let result = |r: &u32| ResourceResult {
            id: format!("exec {r}").into_bytes(),
            outcome: outcome::FAILED,
            before: String::new(),
            after: String::new(),
            error: "why".to_owned(),
            duration_us: 0,
            output: Vec::new(),
        };
        RunDone {
            report: Report {
                revision: 1,
                trigger,
                started_ms: 0,
                duration_us: 0,
                busy_us: 0,
                checked: 0,
                results: failed.iter().map(result).collect(),
                note: String::new(),
            },
            resources: failed.to_vec(),
            diffs: Vec::new(),
            to_fetch: BTreeSet::new(),
            unsettled: failed.iter().copied().chain(blocked.iter().map(|b| b.0)).collect(),
            blocked: blocked.iter().copied().collect(),
            settled: settled.iter().copied().collect(),
            to_end: true,
        }
    }

    #[test]
    fn each_failure_is_tried_again_in_its_own_time() {
        let mut unsettled = Unsettled::default();
        unsettled.handle_run(&run(trigger::START, &[1], &[], &[2]), LONGEST, at(0));
        // Another one fails a moment before the first is due: that one is not put off.
        unsettled.handle_run(&run(trigger::DRIFT, &[2], &[], &[]), LONGEST, at(50));
        assert_eq!(unsettled.next_attempt(), Some(at(60)));
        assert_eq!(unsettled.due(at(60)), BTreeSet::from([1]));
        unsettled.handle_run(&run(trigger::INTERVAL, &[1], &[], &[]), LONGEST, at(60));
        // Nor does the first one's longer pause hold up the second.
        assert_eq!(unsettled.due(at(110)), BTreeSet::from([2]));
        unsettled.handle_run(&run(trigger::INTERVAL, &[], &[], &[2]), LONGEST, at(110));
        assert_eq!(unsettled.next_attempt(), Some(at(180)));
        // Drift of what fails does not put off its next attempt.
        unsettled.handle_run(&run(trigger::DRIFT, &[1], &[], &[]), LONGEST, at(170));
        assert_eq!(unsettled.next_attempt(), Some(at(180)));
        assert_eq!(unsettled.first_failure().unwrap(), "exec 1: why");
        unsettled.handle_not_run(LONGEST, at(180));
        assert_eq!(unsettled.next_attempt(), Some(at(420)));
        unsettled.handle_run(&run(trigger::INTERVAL, &[], &[], &[1]), LONGEST, at(420));
        assert_eq!((unsettled.next_attempt(), unsettled.all().len()), (None, 0));
    }

    #[test]
    fn what_was_skipped_is_tried_with_what_it_waits_for() {
        let mut unsettled = Unsettled::default();
        let first = run(trigger::START, &[1, 5], &[(2, 1), (3, 2)], &[]);
        unsettled.handle_run(&first, LONGEST, at(0));
        unsettled.handle_run(&run(trigger::INTERVAL, &[5], &[], &[]), LONGEST, at(30));
        assert_eq!(unsettled.due(at(60)), BTreeSet::from([1, 2, 3]));
        // Drift has the first put right: what waited for it is tried at once.
        unsettled.handle_run(&run(trigger::DRIFT, &[], &[], &[1]), LONGEST, at(40));
        assert_eq!(unsettled.due(at(40)), BTreeSet::from([2, 3]));
        unsettled.handle_run(&run(trigger::INTERVAL, &[], &[], &[2, 3]), LONGEST, at(41));
        assert_eq!(unsettled.all(), &BTreeSet::from([5]));
    }
}
