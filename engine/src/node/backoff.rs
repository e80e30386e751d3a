//! How long to wait after a failure: doubling, with full jitter, so that a crowd that failed
//! together does not come back together.

use std::time::Duration;

const fn millis(time: Duration) -> u32 {
    let ms = time.as_millis();
    if ms > u32::MAX as u128 { u32::MAX } else { ms as u32 }
}

/// Doubles from `floor` to `ceiling` with each failure; reset by the first ack, never by a
/// mere connect.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// The first wait and the longest, milliseconds: a load generator has tens of thousands.
    floor_ms: u32,
    ceiling_ms: u32,
    failures: u16,
    /// Whether a wait is drawn anew each time.
    jitter: bool,
}

impl Backoff {
    /// No failure yet.
    #[must_use]
    pub const fn new(floor: Duration, ceiling: Duration) -> Self {
        Self { floor_ms: millis(floor), ceiling_ms: millis(ceiling), failures: 0, jitter: true }
    }

    /// Always the same wait, for everybody alike: what a crowd must not do, for a load generator
    /// that shows what happens if it does.
    #[must_use]
    pub const fn none(wait: Duration) -> Self {
        Self { floor_ms: millis(wait), ceiling_ms: millis(wait), failures: 0, jitter: false }
    }

    /// Failures since the last success.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures.into()
    }

    /// Another failure; how long to wait now: evenly between half and the whole of the
    /// doubled time.
    pub fn failed(&mut self, rng: &mut fastrand::Rng) -> Duration {
        let doubled = u64::from(self.floor_ms) << self.failures.min(20);
        let whole = Duration::from_millis(doubled.min(self.ceiling_ms.into()));
        self.failures = self.failures.saturating_add(1);
        if self.jitter { whole.mul_f64(0.5 + 0.5 * rng.f64()) } else { whole }
    }

    /// A success.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}
