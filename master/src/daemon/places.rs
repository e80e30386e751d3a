//! How many connections the master takes, and what its operator should know of that.

use crate::table::words::{plural, span};
use engine::reactor::Metrics;
use engine::time::Instant;
use std::time::Duration;

/// A pause of accepting is told of for this long.
const TELL_FOR: Duration = Duration::from_secs(60);

/// Places for connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// So many there are.
    pub max: usize,
    /// So many `limits.connections_max` wants: more, where the descriptors do not suffice.
    pub configured: usize,
}

impl Places {
    /// As many as are configured.
    #[must_use]
    pub fn all(max: usize) -> Self {
        Self { max, configured: max }
    }

    /// What an operator should know of them.
    #[must_use]
    pub fn warnings(&self, metrics: &Metrics, now: Instant) -> Vec<String> {
        let Self { max, configured } = *self;
        let mut warnings = Vec::new();
        if max < configured {
            warnings.push(format!(
                "{max} connections are taken at most, not the {configured} of limits.connections_max, since the system grants too few file descriptors: raise the limit (`LimitNOFILE=`, `ulimit -n`) and restart the master, or lower limits.connections_max"
            ));
        }
        let recent = |(at, _): &(Instant, bool)| now.since(*at) < TELL_FOR;
        if let Some((at, full)) = metrics.accept_paused_last().filter(recent) {
            let times = plural(metrics.accept_pauses.value(), "time", "times");
            let last = span(u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX));
            let why = if full {
                let raise = if max < configured { "LimitNOFILE" } else { "limits.connections_max" };
                format!(
                    "all {max} places were taken: `ss -tnx` shows by whom; if they are hosts, raise {raise}"
                )
            } else {
                "file descriptors or memory had run out: raise LimitNOFILE, or lower limits.connections_max"
                    .to_owned()
            };
            warnings.push(format!(
                "accepting has paused {times} since the start, last {last} ago, because {why}"
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Instant {
        Instant::default() + Duration::from_secs(s)
    }

    #[test]
    fn fewer_places_than_configured_are_warned_of() {
        let metrics = Metrics::default();
        assert!(Places::all(16_000).warnings(&metrics, at(1)).is_empty());
        let lowered = Places { max: 48, configured: 16_000 };
        let said = "48 connections are taken at most, not the 16000 of limits.connections_max, since the system grants too few file descriptors: raise the limit (`LimitNOFILE=`, `ulimit -n`) and restart the master, or lower limits.connections_max";
        assert_eq!(lowered.warnings(&metrics, at(1)), [said]);
    }

    #[test]
    fn a_pause_of_the_last_minute_is_warned_of_with_its_reason() {
        let (places, metrics) = (Places::all(64), Metrics::default());
        metrics.accepting_paused(at(100), false);
        let said = "accepting has paused 1 time since the start, last 5s ago, because file descriptors or memory had run out: raise LimitNOFILE, or lower limits.connections_max";
        assert_eq!(places.warnings(&metrics, at(105)), [said]);
        metrics.accepting_paused(at(109), false);
        metrics.accepting_paused(at(110), true);
        let said = "accepting has paused 3 times since the start, last 59s ago, because all 64 places were taken: `ss -tnx` shows by whom; if they are hosts, raise limits.connections_max";
        assert_eq!(places.warnings(&metrics, at(169)), [said]);
        assert!(places.warnings(&metrics, at(170)).is_empty(), "that is long ago");
        // More places in the configuration would not help there.
        let lowered = Places { max: 64, configured: 16_000 }.warnings(&metrics, at(169));
        assert!(lowered[1].ends_with("if they are hosts, raise LimitNOFILE"), "{lowered:?}");
    }
}
