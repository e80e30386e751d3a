//! Whether the master's inbox grew while a load went on evenly: then its result store takes less
//! than comes in, and no wait at the end changes that.

use super::observer::Sample;
use engine::time::Instant;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// An inbox that grew.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Backlog {
    /// By so many records a second.
    pub per_second: f64,
}

/// In less time than this a burst cannot be told from a trend.
const LEAST: Duration = Duration::from_secs(5);
/// Nor from fewer looks.
const LOOKS_MIN: usize = 6;

impl Backlog {
    /// Looks at a while in which `offered` records came in a second. The inbox has grown if in
    /// the last third it was never less full than in the first third, and fell behind by more
    /// than a second's records between the two.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "slopes are shown in whole records")]
    pub fn during(looks: &[Sample], from: Instant, to: Instant, offered: f64) -> Option<Self> {
        let seen: Vec<(Instant, u64)> = looks
            .iter()
            .filter(|look| (from..=to).contains(&look.at()))
            .filter_map(|look| Some((look.at(), look.said.as_ref()?.inbox_records)))
            .collect();
        let [(first, _), .., (last, _)] = seen[..] else { return None };
        if last.since(first) < LEAST || seen.len() < LOOKS_MIN {
            return None;
        }
        let third = seen.len() / 3;
        let (early, late) = (&seen[..third], &seen[seen.len() - third..]);
        let most = early.iter().map(|(_, records)| *records).max()?;
        let least = late.iter().map(|(_, records)| *records).min()?;
        if (least.saturating_sub(most) as f64) <= offered {
            return None;
        }
        // From the middle of the one third to the middle of the other.
        let middle = |part: &[(Instant, u64)]| {
            let records: u64 = part.iter().map(|(_, records)| *records).sum();
            records as f64 / part.len() as f64
        };
        let apart = late[0].0.since(early[0].0).as_secs_f64();
        Some(Self { per_second: (middle(late) - middle(early)) / apart })
    }
}

impl fmt::Display for Backlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the inbox grew by {:.0} records a second", self.per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::super::observer::Said;
    use super::*;

    fn at(second: u64) -> Instant {
        Instant(0) + Duration::from_secs(second)
    }

    fn during(to: u64, inbox: impl Fn(u64) -> u64) -> Option<Backlog> {
        let look = |second: u64| Sample {
            at_ns: at(second).0,
            said: Some(Said { inbox_records: inbox(second), ..Said::default() }),
            ..Sample::default()
        };
        let looks: Vec<Sample> = (0..60).map(look).collect();
        Backlog::during(&looks, at(3), at(to), 1000.0)
    }

    #[test]
    fn steady_growth_is_told_by_its_slope() {
        let found = during(33, |second| 100 + 300 * second).unwrap();
        assert_eq!(found.to_string(), "the inbox grew by 300 records a second");
        // What is stored goes in batches, so the inbox falls in steps.
        let found = during(33, |second| 1000 * second - 3000 * (second / 5)).unwrap();
        assert!((300.0..500.0).contains(&found.per_second), "{found:?}");
    }

    #[test]
    fn bursts_and_little_growth_are_no_backlog() {
        assert_eq!(during(33, |_| 50_000), None, "full, but no fuller");
        assert_eq!(during(33, |second| 20_000 * (second % 7)), None, "it comes and goes");
        assert_eq!(during(33, |second| if second < 20 { 9000 } else { 0 }), None, "it drains");
        assert_eq!(during(33, |second| 10 * second), None, "less than a second behind");
        assert_eq!(during(7, |second| 5000 * second), None, "too short to be told");
    }
}
