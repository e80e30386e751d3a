//! How long things took, counted from the moment at which they should have begun: a request
//! that started late because the generator or the master was behind is late by all of it. The
//! service time, from the real beginning, stands beside it and is never judged: it hides what a
//! stall did to everybody who had to wait behind it.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
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
    /// From a manifest's arrival until all its files have been fetched.
    Fetch,
    /// From the moment at which a report was due until its ack, which says that it is durable.
    Report,
    /// From a slot until the generator got to it: its own lateness, contained in the others.
    Slip,
}

impl Timed {
    /// Its name in files for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Poll => "poll",
            Self::Assignment => "assignment",
            Self::Push => "push",
            Self::Fetch => "fetch",
            Self::Report => "report",
            Self::Slip => "slip",
        }
    }

    /// All of them, in the order of the report.
    pub const ALL: [Timed; 7] = [
        Self::Bind,
        Self::Poll,
        Self::Assignment,
        Self::Push,
        Self::Fetch,
        Self::Report,
        Self::Slip,
    ];
}

impl fmt::Display for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Bind => "bind → answer",
            Self::Poll => "poll → ack",
            Self::Assignment => "poll → manifest",
            Self::Push => "publish → manifest",
            Self::Fetch => "manifest → files",
            Self::Report => "report → durable",
            Self::Slip => "own lateness",
        })
    }
}

/// Longest latency that is told from longer ones: an hour, in microseconds.
pub const LATENCY_MAX_US: u64 = 3_600_000_000;
/// Decimal digits that are kept.
pub(super) const DIGITS: u8 = 3;

/// Points of a percentile plot for each halving of the distance to 100 %.
const PERCENTILE_TICKS: u32 = 4;

/// How long something took, from both of its beginnings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Took {
    /// From the moment at which it should have begun.
    pub latency: Duration,
    /// From the moment at which it did begin.
    pub service: Duration,
}

impl Took {
    /// Something that began when it should have.
    #[must_use]
    pub fn from_due(latency: Duration) -> Self {
        Self { latency, service: latency }
    }
}

/// Two histograms for each thing that is timed, 1 µs to 1 h, three digits: latencies and
/// service times. They grow with the longest value.
#[derive(Debug, Clone, PartialEq)]
pub struct Latencies {
    pub(super) latency: Vec<Histogram<u64>>,
    pub(super) service: Vec<Histogram<u64>>,
}

impl Default for Latencies {
    fn default() -> Self {
        let empty = Histogram::new(DIGITS).expect("three digits are valid");
        let all = vec![empty; Timed::ALL.len()];
        Self { latency: all.clone(), service: all }
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
    /// 99.9 % took at most this.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
    /// 99 % of the service times, from the real beginning, were at most this.
    pub service_p99_us: u64,
}

impl Latencies {
    /// Counts one; what took longer than an hour counts as an hour.
    pub fn record(&mut self, what: Timed, took: Took) {
        let us = |duration: Duration| {
            u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).clamp(1, LATENCY_MAX_US)
        };
        for (histograms, took) in
            [(&mut self.latency, took.latency), (&mut self.service, took.service)]
        {
            histograms[what as usize].record(us(took)).expect("it grows as far as an hour");
        }
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self, what: Timed) -> u64 {
        self.latency[what as usize].len()
    }

    /// Adds what another one has counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in
            [(&mut self.latency, &other.latency), (&mut self.service, &other.service)]
        {
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                mine.add(theirs).expect("all of them grow");
            }
        }
    }

    /// Latencies from the intended beginning.
    #[must_use]
    pub fn histogram(&self, what: Timed) -> &Histogram<u64> {
        &self.latency[what as usize]
    }

    /// Times from the real beginning.
    #[must_use]
    pub fn service(&self, what: Timed) -> &Histogram<u64> {
        &self.service[what as usize]
    }

    /// The latencies of each kind that was counted, by percentile: share of the messages,
    /// microseconds.
    #[must_use]
    pub fn by_percentile(&self) -> BTreeMap<Timed, Vec<(f64, u64)>> {
        let kinds = Timed::ALL.into_iter().filter(|what| self.count(*what) > 0);
        let points = |what| {
            let values = self.histogram(what).iter_quantiles(PERCENTILE_TICKS);
            values.map(|v| (v.quantile_iterated_to(), v.value_iterated_to())).collect()
        };
        kinds.map(|what| (what, points(what))).collect()
    }

    /// The quantiles; all zero if nothing was counted.
    #[must_use]
    pub fn quantiles(&self, what: Timed) -> Quantiles {
        let histogram = self.histogram(what);
        Quantiles {
            count: histogram.len(),
            p50_us: histogram.value_at_quantile(0.5),
            p90_us: histogram.value_at_quantile(0.9),
            p99_us: histogram.value_at_quantile(0.99),
            p999_us: histogram.value_at_quantile(0.999),
            max_us: histogram.max(),
            service_p99_us: self.service(what).value_at_quantile(0.99),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(us: u64) -> Took {
        Took::from_due(Duration::from_micros(us))
    }

    #[test]
    fn quantiles_keep_three_digits() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantiles(Timed::Poll), Quantiles::default());
        (1..=100_000).for_each(|us| latencies.record(Timed::Poll, took(us)));
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
        latencies.record(Timed::Slip, took(0));
        latencies.record(Timed::Slip, took(u64::MAX));
        let found = latencies.quantiles(Timed::Slip);
        assert_eq!((found.count, found.p50_us), (2, 1));
        assert!(found.max_us.abs_diff(LATENCY_MAX_US) * 1000 <= LATENCY_MAX_US);
    }

    #[test]
    fn parts_that_were_measured_apart_are_as_one() {
        let (mut all, mut parts) = (Latencies::default(), Latencies::default());
        for part in 0..4u64 {
            let mut latencies = Latencies::default();
            for us in (1..=50_000).filter(|us| us % 4 == part) {
                let took = Took { latency: took(us * 100).latency, service: took(us).service };
                latencies.record(Timed::Report, took);
                all.record(Timed::Report, took);
            }
            parts.merge(&latencies);
        }
        assert_eq!(parts.quantiles(Timed::Report), all.quantiles(Timed::Report));
        assert!(
            all.quantiles(Timed::Report).service_p99_us * 50 < all.quantiles(Timed::Report).p99_us
        );
    }
}
