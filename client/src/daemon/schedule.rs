//! When to poll: first after a splay, then every interval, with jitter, so that a crowd that
//! started together spreads out and stays spread.

use engine::time::{Instant, Now};
use std::time::Duration;

/// Share of the interval by which each poll is early or late, at most.
const JITTER: f64 = 0.1;

/// The times of a client's polls.
#[derive(Debug, Clone, Copy)]
pub struct PollSchedule {
    interval: Duration,
    next: Instant,
}

impl PollSchedule {
    /// The first poll comes within `splay` from now, evenly.
    #[must_use]
    pub fn new(interval: Duration, splay: Duration, rng: &mut fastrand::Rng, now: Now) -> Self {
        Self { interval, next: now.at + splay.mul_f64(rng.f64()) }
    }

    /// When the next poll is due.
    #[must_use]
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Makes it due now.
    pub fn now(&mut self, now: Now) {
        self.next = now.at;
    }

    /// Whether a poll is due; if so, the next one is set.
    pub fn advance(&mut self, now: Now, rng: &mut fastrand::Rng) -> bool {
        let due = self.next <= now.at;
        if due {
            self.next = now.at + self.interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * rng.f64());
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::time::WallMs;

    #[test]
    fn s1_14_polls_are_splayed_and_jittered() {
        let interval = Duration::from_secs(600);
        let start = Now { at: Instant(0), wall: WallMs(0) };
        let mut firsts = Vec::new();
        for seed in 0..1000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut schedule = PollSchedule::new(interval, interval, &mut rng, start);
            firsts.push(schedule.next());
            for _ in 0..10 {
                let due = schedule.next();
                assert!(!schedule.advance(Now { at: Instant(due.0 - 1), ..start }, &mut rng));
                assert!(schedule.advance(Now { at: due, ..start }, &mut rng));
                let wait = schedule.next().since(due);
                assert!(
                    wait >= Duration::from_secs(540) && wait <= Duration::from_secs(660),
                    "{wait:?}"
                );
            }
        }
        // A thousand clients over 600 s: no tenth of it has more than 150 of them.
        for tenth in 0..10 {
            let within = |at: &&Instant| at.0 / 60_000_000_000 == tenth;
            assert!(firsts.iter().filter(within).count() < 150);
        }
    }
}
