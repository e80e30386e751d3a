//! A thread beside a reactor, simulated: it does one thing after another, each takes a while,
//! and its answer takes a while too.

use engine::time::Instant;
use std::collections::VecDeque;
use std::time::Duration;

/// How long something takes: evenly between the two.
#[derive(Debug, Clone, Copy)]
pub struct Delay(pub Duration, pub Duration);

impl Delay {
    /// Always the same.
    #[must_use]
    pub const fn fixed(time: Duration) -> Self {
        Self(time, time)
    }

    /// Between so many microseconds.
    #[must_use]
    pub const fn micros(min: u64, max: u64) -> Self {
        Self(Duration::from_micros(min), Duration::from_micros(max))
    }

    fn pick(self, rng: &mut fastrand::Rng) -> Duration {
        self.0 + self.1.saturating_sub(self.0).mul_f64(rng.f64())
    }
}

/// Jobs in order, each with the time at which it is done.
#[derive(Debug)]
pub struct Line<T> {
    jobs: VecDeque<(Instant, T)>,
    last: Instant,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { jobs: VecDeque::new(), last: Instant(0) }
    }
}

impl<T> Line<T> {
    /// Takes a job.
    pub fn push(&mut self, job: T, now: Instant, delay: Delay, rng: &mut fastrand::Rng) {
        self.last = self.last.max(now) + delay.pick(rng);
        self.jobs.push_back((self.last, job));
    }

    /// The next job that is done by now.
    pub fn pop(&mut self, now: Instant) -> Option<T> {
        self.jobs.pop_front_if(|(at, _)| *at <= now).map(|(_, job)| job)
    }

    /// When the next is done.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.jobs.front().map(|(at, _)| *at)
    }
}
