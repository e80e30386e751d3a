//! The only place that reads a clock.

use crate::time::{Instant, Now, WallMs};
use std::time::SystemTime;

/// Where the reactor reads the time: once a turn.
pub trait Clock {
    /// Both clocks, now.
    fn now(&self) -> Now;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: std::time::Instant,
    /// What it read at its start.
    reading: Instant,
}

impl SystemClock {
    /// A clock whose zero is now.
    #[must_use]
    pub fn start() -> Self {
        Self::start_at(Instant(0))
    }

    /// A clock that reads this now: the same as one in another process, but for the time that
    /// the reading took to get here.
    #[must_use]
    pub fn start_at(reading: Instant) -> Self {
        Self { start: std::time::Instant::now(), reading }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        // Both saturate: a wall clock before 1970 reads 0, and u64 nanoseconds last 584 years.
        Now { at: self.reading + self.start.elapsed(), wall: wall() }
    }
}

/// The wall clock alone, for commands that have no loop.
#[must_use]
pub fn wall() -> WallMs {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallMs(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
}

/// CPU time that the calling thread has taken, microseconds; 0 if the kernel does not say.
#[must_use]
#[allow(unsafe_code)]
pub fn thread_cpu_us() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec for the kernel to fill; no safe call tells this.
    if unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } != 0 {
        return 0;
    }
    let us = time.tv_sec * 1_000_000 + time.tv_nsec / 1000;
    u64::try_from(us).unwrap_or(0)
}
