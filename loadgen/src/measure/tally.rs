//! What is counted, a second at a time.

use super::encoded;
use super::latency::{Latencies, Timed};
use crate::clients::role::Standing;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::iter::Sum;

/// A failure's place and word: `("dial", "refused")`. They are this program's own words, but
/// for a worker's in another process.
pub type FailureKind = (Cow<'static, str>, Cow<'static, str>);

/// Everything that was counted in a while.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
    /// Clients that left.
    pub leaves: u64,
    /// Clients that came back.
    pub returns: u64,
    /// Bytes of files that were fetched.
    pub fetched_bytes: u64,
    /// Messages that were acked although they had never been sent.
    pub false_acks: u64,
    /// Messages for one client that came to another, which did not take them.
    pub misdirected: u64,
    /// Those that it took.
    pub leaked: u64,
    /// What failed, and how often.
    #[serde(with = "encoded::failures")]
    pub failures: BTreeMap<FailureKind, u64>,
}

/// How many clients have come how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Standings {
    /// Were bound at least once.
    pub bound: u64,
    /// Hold a revision that satisfies the goal.
    pub holding: u64,
    /// Have reached the goal.
    pub done: u64,
    /// Messages without their ack, and clients whose slots are not over.
    pub awaited: u64,
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
        self.awaited = self.awaited + u64::from(after.awaited) - u64::from(before.awaited);
    }
}

impl Sum for Standings {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |all, part| Self {
            bound: all.bound + part.bound,
            holding: all.holding + part.holding,
            done: all.done + part.done,
            awaited: all.awaited + part.awaited,
        })
    }
}

impl Tally {
    /// Adds what another one has counted.
    pub fn merge(&mut self, other: &Self) {
        self.latencies.merge(&other.latencies);
        self.polls += other.polls;
        self.reports += other.reports;
        self.unasked_manifests += other.unasked_manifests;
        self.repeated_manifests += other.repeated_manifests;
        self.leaves += other.leaves;
        self.returns += other.returns;
        self.fetched_bytes += other.fetched_bytes;
        self.false_acks += other.false_acks;
        self.misdirected += other.misdirected;
        self.leaked += other.leaked;
        for (kind, count) in &other.failures {
            *self.failures.entry(kind.clone()).or_default() += count;
        }
    }

    /// Counts a failure.
    pub fn failed(&mut self, place: &'static str, why: &'static str) {
        *self.failures.entry((place.into(), why.into())).or_default() += 1;
    }

    /// All failures.
    #[must_use]
    pub fn failures_all(&self) -> u64 {
        self.failures.values().sum()
    }

    /// The highest of its counters.
    #[must_use]
    pub fn count_max(&self) -> u64 {
        let timed = Timed::ALL.into_iter().map(|what| self.latencies.count(what));
        let counters = [
            self.polls,
            self.reports,
            self.unasked_manifests,
            self.repeated_manifests,
            self.leaves,
            self.returns,
            self.fetched_bytes,
            self.false_acks,
        ];
        let all = timed.chain(counters).chain(self.failures.values().copied());
        all.max().unwrap_or_default()
    }
}
