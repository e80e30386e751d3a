//! When those who were turned away may come back: one after another, so that a crowd returns
//! evenly, and later the larger it is.

use crate::time::Instant;
use std::time::Duration;

/// Shortest time that somebody is asked to wait.
pub const WAIT_MIN: Duration = Duration::from_millis(100);
/// Longest time that somebody is asked to wait.
pub const WAIT_MAX: Duration = Duration::from_secs(600);

/// Gives out times, each a bit after the last.
#[derive(Debug)]
pub struct Appointments {
    last: Instant,
    rng: fastrand::Rng,
}

impl Appointments {
    /// None given out yet; `seed` spreads those for whom there is no room within [`WAIT_MAX`].
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { last: Instant::default(), rng: fastrand::Rng::with_seed(seed) }
    }

    /// The next free appointment at or after `earliest`, `spacing` after the last one, as a time
    /// from now between [`WAIT_MIN`] and [`WAIT_MAX`].
    pub fn next(&mut self, earliest: Instant, spacing: Duration, now: Instant) -> Duration {
        let slot = (self.last + spacing).max(earliest).max(now + WAIT_MIN);
        if slot.since(now) > WAIT_MAX {
            // More than fit into the longest wait: they share its second half.
            return WAIT_MAX.mul_f64(0.5 + 0.5 * self.rng.f64());
        }
        self.last = slot;
        slot.since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_returns_evenly_and_nobody_waits_for_ever() {
        let mut appointments = Appointments::new(1);
        let now = Instant(5_000_000_000);
        let spacing = Duration::from_millis(1);
        let waits: Vec<_> = (0..1_000_000).map(|_| appointments.next(now, spacing, now)).collect();
        assert_eq!(waits[0], WAIT_MIN);
        // One a millisecond, as far as the longest wait reaches; the rest share its second half.
        let spaced = 599_901;
        assert!(waits[..spaced].windows(2).all(|two| two[1] - two[0] == spacing));
        let (least, most) = (waits[spaced..].iter().min(), waits[spaced..].iter().max());
        assert!(*least.unwrap() < WAIT_MAX.mul_f64(0.51) && *most.unwrap() <= WAIT_MAX);
        assert!(*least.unwrap() >= WAIT_MAX / 2 && *most.unwrap() > WAIT_MAX.mul_f64(0.99));
        // Those who come later are not made to wait behind a crowd that has been served.
        let later = now + WAIT_MAX * 2;
        assert_eq!(appointments.next(later, spacing, later), WAIT_MIN);
    }
}
