//! Counters, gauges and histograms that one thread writes and any may read: relaxed atomics,
//! no lock, no allocation.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A number that only grows. One thread writes it, so adding needs no locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Adds 1.
    pub fn bump(&self) {
        self.add(1);
    }

    /// Its value.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down. One thread writes it.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// Its value.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Values below this have a bucket each; above it every power of two has this many.
const LINEAR: u64 = 8;
const BUCKETS: usize = 8 * 62;

/// How often durations of about which length occurred: buckets whose width is at most an
/// eighth of their value, in nanoseconds.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[Counter; BUCKETS]>,
    max: Gauge,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: Box::new([const { Counter(AtomicU64::new(0)) }; BUCKETS]),
            max: Gauge::default(),
        }
    }
}

fn bucket_of(ns: u64) -> usize {
    if ns < LINEAR {
        return usize::try_from(ns).expect("below 8");
    }
    let octave = ns.ilog2() - 3;
    let part = (ns >> octave) - LINEAR;
    usize::try_from(u64::from(octave + 1) * LINEAR + part).expect("below 496")
}

/// The largest value that falls into a bucket.
fn bucket_end(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < LINEAR {
        return bucket;
    }
    let octave = bucket / LINEAR - 1;
    let end = u128::from(LINEAR + bucket % LINEAR + 1) << octave;
    u64::try_from(end - 1).unwrap_or(u64::MAX)
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(ns)].bump();
        self.max.set(self.max.value().max(ns));
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(Counter::value).sum()
    }

    /// The longest.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max.value())
    }

    /// A duration that at least `share` (0 to 1) of all did not exceed, at most an eighth too
    /// long; zero if there is none.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank need not be exact beyond 2^52 values"
    )]
    pub fn quantile(&self, share: f64) -> Duration {
        let rank = ((self.count() as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (i, bucket) in self.buckets.iter().enumerate() {
            seen += bucket.value();
            if seen >= rank {
                return Duration::from_nanos(bucket_end(i).min(self.max.value()));
            }
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_step_with_their_ends() {
        for ns in (0..5000).chain((3..64).flat_map(|b| {
            let p = 1u64 << b;
            [p - 1, p, p + 1, p + p / 2]
        })) {
            let bucket = bucket_of(ns);
            assert!(ns <= bucket_end(bucket), "{ns} in bucket {bucket}");
            assert!(bucket == 0 || ns > bucket_end(bucket - 1), "{ns} in bucket {bucket}");
            assert!(bucket_end(bucket) as f64 <= ns as f64 * 1.125 + 1.0, "{ns}: too wide");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert_eq!(bucket_end(BUCKETS - 1), u64::MAX);
    }

    #[test]
    fn quantiles_of_a_known_set() {
        let histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.99), Duration::ZERO);
        (1..=1000).for_each(|us| histogram.record(Duration::from_micros(us)));
        assert_eq!((histogram.count(), histogram.max()), (1000, Duration::from_millis(1)));
        for (share, us) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = histogram.quantile(share).as_secs_f64() * 1e6;
            assert!((us..=us * 1.126).contains(&found), "{share}: {found} µs");
        }
    }
}
