//! How long to wait after a failure: doubling, with full jitter, so that a crowd that failed
//! together does not come back together.

use std::time::Duration;

/// Doubles from `floor` to `ceiling` with each failure; reset by the first ack, never by a
/// mere connect.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    floor: Duration,
    ceiling: Duration,
    failures: u32,
    /// Whether a wait is drawn anew each time.
    jitter: bool,
}

impl Backoff {
    /// No failure yet.
    #[must_use]
    pub const fn new(floor: Duration, ceiling: Duration) -> Self {
        Self { floor, ceiling, failures: 0, jitter: true }
    }

    /// Always the same wait, for everybody alike: what a crowd must not do, for a load generator
    /// that shows what happens if it does.
    #[must_use]
    pub const fn none(wait: Duration) -> Self {
        Self { floor: wait, ceiling: wait, failures: 0, jitter: false }
    }

    /// Failures since the last success.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Another failure; how long to wait now: evenly between half and the whole of the
    /// doubled time.
    pub fn failed(&mut self, rng: &mut fastrand::Rng) -> Duration {
        let whole = self.floor.saturating_mul(1 << self.failures.min(20)).min(self.ceiling);
        self.failures = self.failures.saturating_add(1);
        if self.jitter { whole.mul_f64(0.5 + 0.5 * rng.f64()) } else { whole }
    }

    /// A success.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}
