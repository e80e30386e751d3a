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
}

impl SystemClock {
    /// A clock whose zero is now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        // Both saturate: a wall clock before 1970 reads 0, and u64 nanoseconds last 584 years.
        let at = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Now { at: Instant(at), wall: wall() }
    }
}

/// The wall clock alone, for commands that have no loop.
#[must_use]
pub fn wall() -> WallMs {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallMs(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
}
