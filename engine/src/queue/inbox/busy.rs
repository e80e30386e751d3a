//! The high and the low watermark, and when the senders that were refused may come back.

use crate::time::Instant;
use std::time::Duration;

/// Shortest and longest time that a sender is asked to wait.
pub(super) const RETRY_MIN: Duration = Duration::from_millis(100);
pub(super) const RETRY_MAX: Duration = Duration::from_secs(600);

/// Whether the log is full; gives out appointments, so that the crowd comes back spread out
/// in time, and later the larger it is.
#[derive(Debug)]
pub(super) struct Busy {
    busy: bool,
    last: Instant,
    rng: fastrand::Rng,
}

impl Busy {
    pub(super) fn new(seed: u64) -> Self {
        Self { busy: false, last: Instant::default(), rng: fastrand::Rng::with_seed(seed) }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    pub(super) fn update(&mut self, bytes: u64, high: u64, low: u64) {
        self.busy = bytes >= high || (self.busy && bytes > low);
    }

    /// The next free appointment at or after `earliest`, as a time from now.
    pub(super) fn appointment(
        &mut self,
        earliest: Instant,
        spacing: Duration,
        now: Instant,
    ) -> Duration {
        let slot = (self.last + spacing).max(earliest).max(now + RETRY_MIN);
        if slot.since(now) > RETRY_MAX {
            // More than fit into the longest wait: they share its second half.
            return RETRY_MAX.mul_f64(0.5 + 0.5 * self.rng.f64());
        }
        self.last = slot;
        slot.since(now)
    }
}
