//! What a run counts.

use crate::latency::Latencies;
use crate::role::Standing;
use std::collections::BTreeMap;

/// A failure's place and word: `("dial", "refused")`.
pub type FailureKind = (&'static str, &'static str);

/// Everything that is counted while a run goes on.
#[derive(Debug, Default)]
pub struct Tally {
    /// How long things took.
    pub latencies: Latencies,
    /// Polls that were sent on their way.
    pub polls: u64,
    /// Reports that were sent on their way.
    pub reports: u64,
    /// Manifests of an older release that came before they were asked for.
    pub unasked_manifests: u64,
    /// Manifests that came although their revision was held.
    pub repeated_manifests: u64,
    /// What failed, and how often.
    pub failures: BTreeMap<FailureKind, u64>,
    /// Clients that have come so far.
    pub standings: Standings,
}

/// How many clients have come how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standings {
    /// Were bound at least once.
    pub bound: u64,
    /// Hold a revision that satisfies the goal.
    pub holding: u64,
    /// Have reached the goal.
    pub done: u64,
}

impl Standings {
    /// A client's standing has changed.
    pub fn change(&mut self, before: Standing, after: Standing) {
        let step = |count: &mut u64, before: bool, after: bool| {
            *count = *count + u64::from(after) - u64::from(before);
        };
        step(&mut self.bound, before.bound, after.bound);
        step(&mut self.holding, before.holds, after.holds);
        step(&mut self.done, before.done, after.done);
    }
}

impl Tally {
    /// Counts a failure.
    pub fn failed(&mut self, place: &'static str, why: &'static str) {
        *self.failures.entry((place, why)).or_default() += 1;
    }

    /// All failures.
    #[must_use]
    pub fn failures_all(&self) -> u64 {
        self.failures.values().sum()
    }
}
