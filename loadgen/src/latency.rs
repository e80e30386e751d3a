//! How long things took, counted from the moment at which they should have begun: a request
//! that started late because the generator or the master was behind is late by all of it.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timed {
    /// From the slot of a client's first connection (or the loss of its parent) until the
    /// master's `BindResp` has been dialled back.
    Bind,
    /// From the slot of a poll until its ack.
    Poll,
    /// From the slot of a poll of a client that holds nothing until its manifest has been
    /// dialled back.
    Assignment,
    /// From the publication of a release (by the wall clock of this machine) until a client
    /// that held an older one has been pushed its manifest.
    Push,
    /// From the moment at which a report was due until its ack, which says that it is durable.
    Report,
    /// From a slot until the generator got to it: its own lateness, contained in the others.
    Slip,
}

impl Timed {
    /// All of them, in the order of the report.
    pub const ALL: [Timed; 6] =
        [Self::Bind, Self::Poll, Self::Assignment, Self::Push, Self::Report, Self::Slip];
}

impl fmt::Display for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Bind => "bind → answer",
            Self::Poll => "poll → ack",
            Self::Assignment => "poll → manifest",
            Self::Push => "publish → manifest",
            Self::Report => "report → durable",
            Self::Slip => "own lateness",
        })
    }
}

/// Longest latency that is told from longer ones: an hour, in microseconds.
const LATENCY_MAX_US: u64 = 3_600_000_000;
/// Decimal digits that are kept.
const DIGITS: u8 = 3;

/// A histogram for each thing that is timed: 1 µs to 1 h, three digits.
#[derive(Debug, Clone)]
pub struct Latencies(Vec<Histogram<u64>>);

impl Default for Latencies {
    fn default() -> Self {
        let empty = Histogram::new_with_bounds(1, LATENCY_MAX_US, DIGITS);
        Self(vec![empty.expect("these bounds are valid"); Timed::ALL.len()])
    }
}

/// Quantiles of one histogram, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Quantiles {
    /// How many were timed.
    pub count: u64,
    /// Half took at most this.
    pub p50_us: u64,
    /// 90 % took at most this.
    pub p90_us: u64,
    /// 99 % took at most this.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

impl Latencies {
    /// Counts one; what took longer than an hour counts as an hour.
    pub fn record(&mut self, what: Timed, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.0[what as usize].saturating_record(us.max(1));
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self, what: Timed) -> u64 {
        self.0[what as usize].len()
    }

    /// The quantiles; all zero if nothing was counted.
    #[must_use]
    pub fn quantiles(&self, what: Timed) -> Quantiles {
        let histogram = &self.0[what as usize];
        Quantiles {
            count: histogram.len(),
            p50_us: histogram.value_at_quantile(0.5),
            p90_us: histogram.value_at_quantile(0.9),
            p99_us: histogram.value_at_quantile(0.99),
            max_us: histogram.max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_keep_three_digits() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantiles(Timed::Poll), Quantiles::default());
        (1..=100_000).for_each(|us| latencies.record(Timed::Poll, Duration::from_micros(us)));
        let found = latencies.quantiles(Timed::Poll);
        assert_eq!(found.count, 100_000);
        for (value, exact) in
            [(found.p50_us, 50_000), (found.p99_us, 99_000), (found.max_us, 100_000)]
        {
            assert!(value.abs_diff(exact) * 1000 <= exact, "{value} for {exact}");
        }
        assert_eq!(latencies.count(Timed::Report), 0);
    }

    #[test]
    fn extremes_are_counted_at_the_ends() {
        let mut latencies = Latencies::default();
        latencies.record(Timed::Slip, Duration::ZERO);
        latencies.record(Timed::Slip, Duration::from_secs(1_000_000));
        let found = latencies.quantiles(Timed::Slip);
        assert_eq!((found.count, found.p50_us), (2, 1));
        assert!(found.max_us.abs_diff(LATENCY_MAX_US) * 1000 <= LATENCY_MAX_US);
    }
}
