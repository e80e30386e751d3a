//! Names that are claimed from addresses which are not their own: counted, and told without
//! filling the log.

use crate::sink::ConflictKey;
use engine::ids::HostName;
use engine::logging::is_due;
use engine::time::Instant;
use std::time::Duration;

/// Between two lines of the log: the status tells the last claim, and counts all.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// A name that was claimed from an address that is not its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The name.
    pub name: HostName,
    /// The address that it has, and the one that claimed it.
    pub key: ConflictKey,
}

/// All of them since the start.
#[derive(Debug, Default)]
pub struct Claims {
    /// How many.
    pub count: u64,
    last: Option<Claim>,
    logged: Option<Instant>,
}

impl Claims {
    /// The last one.
    #[must_use]
    pub fn last(&self) -> Option<&Claim> {
        self.last.as_ref()
    }

    /// One more.
    pub fn add(&mut self, claim: Claim, now: Instant) {
        self.count += 1;
        if self.take_turn(&claim, now) {
            log::warn!(
                "{} is {}, and {} claims to be it: a cloned or misnamed host, or an address that its name lacks",
                claim.name,
                claim.key.expected,
                claim.key.found
            );
        }
        self.last = Some(claim);
    }

    /// Whether this one is logged: it is another than the last, and two that alternate, which
    /// are news each time, have no line for each.
    fn take_turn(&mut self, claim: &Claim, now: Instant) -> bool {
        let is_news = self.last.as_ref() != Some(claim);
        is_news && is_due(&mut self.logged, LOG_INTERVAL, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_that_alternate_are_counted_and_logged_once_a_minute() {
        let claim = |name: &str| Claim {
            name: name.parse().unwrap(),
            key: ConflictKey { expected: [127, 0, 0, 1].into(), found: [127, 0, 0, 2].into() },
        };
        let mut claims = Claims::default();
        let mut logged = 0;
        for second in 0..180 {
            let now = Instant(0) + Duration::from_secs(second);
            let claim = claim(if second % 2 == 0 { "a" } else { "b" });
            let before = claims.logged;
            claims.add(claim, now);
            logged += u64::from(claims.logged != before);
        }
        assert_eq!((claims.count, logged), (180, 3));
        assert_eq!(claims.last(), Some(&claim("b")));
    }
}
