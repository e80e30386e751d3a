//! Hosts that could not be reached with what waits for them, for the log: one line says how that came
//! about, and one a second later how many more there were. `drover hosts` shows them all.

use engine::ids::HostName;
use engine::node::{DeliveryFailure, Led};
use engine::time::Instant;
use std::time::Duration;

/// After a line of the log, others are only counted for so long.
const COUNT_FOR: Duration = Duration::from_secs(1);

/// Those of a daemon's life.
#[derive(Debug, Default)]
pub struct Failures {
    /// Until then they are counted.
    until: Option<Instant>,
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
        self.handle_timeout(now);
        if self.until.is_some() {
            self.more += 1;
            return;
        }
        self.until = Some(now + COUNT_FOR);
        log::warn!("{host} cannot be reached with what waits for it: {why}; {}", led());
    }

    /// Tells how many were counted, if it is time.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.until.take_if(|until| *until <= now).is_some() && self.more > 0 {
            let more = std::mem::take(&mut self.more);
            log::warn!(
                "{more} more deliveries failed; `drover hosts` shows the last error of each host"
            );
        }
    }

    /// When to call it: not if there is nothing to tell.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.until.filter(|_| self.more > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::node::io::CloseReason;

    #[test]
    fn a_crowd_of_failures_has_a_line_for_the_first_and_one_for_the_others() {
        let (mut failures, host) = (Failures::default(), "web-1".parse().unwrap());
        let why = DeliveryFailure::Connection(CloseReason::Refused);
        let at = |ms| Instant::default() + Duration::from_millis(ms);
        let mut fail = |why: &DeliveryFailure, ms| {
            failures.add(&host, why, Led::default, at(ms));
            (failures.until, failures.more, failures.next_timeout())
        };
        assert_eq!(fail(&DeliveryFailure::Cancelled, 0), (None, 0, None));
        assert_eq!(fail(&why, 0), (Some(at(1000)), 0, None), "there is nothing more to tell");
        assert_eq!(fail(&why, 10), (Some(at(1000)), 1, Some(at(1000))));
        assert_eq!(fail(&why, 999), (Some(at(1000)), 2, Some(at(1000))));
        failures.handle_timeout(at(1000));
        assert_eq!((failures.until, failures.more), (None, 0));
        // The next one is news again, whenever it comes.
        let mut fail = |ms| {
            failures.add(&host, &why, Led::default, at(ms));
            (failures.until, failures.more)
        };
        assert_eq!(fail(1001), (Some(at(2001)), 0));
        assert_eq!(fail(9000), (Some(at(10_000)), 0));
    }
}
