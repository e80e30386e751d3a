//! Hosts that could not be reached with what waits for them, for the log: one line a second says how
//! that came about, and how many more there were. `drover hosts` shows them all.

use engine::ids::HostName;
use engine::logging::is_due;
use engine::node::{DeliveryFailure, Led};
use engine::time::Instant;
use std::time::Duration;

/// Between two lines of the log.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Those of a daemon's life.
#[derive(Debug, Default)]
pub struct Failures {
    logged: Option<Instant>,
    /// Since the last line.
    more: u64,
}

impl Failures {
    /// One more; `led` is what led there.
    pub fn add(
        &mut self,
        host: &HostName,
        why: &DeliveryFailure,
        led: impl FnOnce() -> Led,
        now: Instant,
    ) {
        if let DeliveryFailure::Cancelled | DeliveryFailure::RateLimited = why {
            // The first was asked for; of the other kind there was one a moment ago.
            return;
        }
        if !is_due(&mut self.logged, LOG_INTERVAL, now) {
            self.more += 1;
            return;
        }
        let more = match std::mem::take(&mut self.more) {
            0 => String::new(),
            more => format!(" ({more} more since the last such line)"),
        };
        log::warn!("{host} cannot be reached with what waits for it{more}: {why}; {}", led());
    }
}
