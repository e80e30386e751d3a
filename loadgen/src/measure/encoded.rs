//! What was measured, on its way from one process to another: histograms as HdrHistogram's V2
//! encoding, in which the tools of other languages read them too.

use super::latency::{DIGITS, Latencies, Timed};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer as V2Deserializer, Serializer as _, V2Serializer};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

/// Bytes before the counts: cookie, length, offset, digits, bounds, ratio.
const HEAD: usize = 40;
/// Where in them the length of the counts and the digits lie.
const LENGTH: usize = 4;
const HEAD_DIGITS: usize = 12;
/// Bytes of the longest count; more than 2^49 of anything are not counted.
const COUNT_BYTES_MAX: usize = 7;

/// Latencies and service times of what was counted at all.
type Encoded = BTreeMap<Timed, (Vec<u8>, Vec<u8>)>;

fn encode(histogram: &Histogram<u64>) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let encoded = V2Serializer::new().serialize(histogram, &mut bytes);
    encoded.map(|_| bytes).map_err(|error| format!("a histogram: {error}"))
}

/// Adds an encoded histogram. Its head is looked at first: the decoder allocates what that says,
/// and takes the sum of no bytes for granted.
fn add(histogram: &mut Histogram<u64>, bytes: &[u8]) -> Result<(), String> {
    let number = |at: usize| {
        let field = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_be_bytes(field))
    };
    let counts = bytes.get(HEAD..).ok_or("a histogram that is cut short")?;
    if number(LENGTH).map(|length| length as usize) != Some(counts.len()) {
        return Err("a histogram of another length than it says".into());
    }
    if number(HEAD_DIGITS) != Some(DIGITS.into()) {
        return Err(format!("a histogram with other than {DIGITS} digits"));
    }
    // A count's last byte has no high bit.
    if counts.split(|byte| byte & 0x80 == 0).any(|more| more.len() >= COUNT_BYTES_MAX) {
        return Err("a histogram with a count that cannot be".into());
    }
    let other = V2Deserializer::new().deserialize::<u64, _>(&mut &bytes[..]);
    let other = other.map_err(|error| format!("a histogram: {error}"))?;
    histogram.add(&other).map_err(|error| format!("a histogram: {error}"))
}

impl Serialize for Latencies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all = Encoded::new();
        for what in Timed::ALL.into_iter().filter(|what| self.count(*what) > 0) {
            let both = encode(self.histogram(what))
                .and_then(|latency| Ok((latency, encode(self.service(what))?)));
            all.insert(what, both.map_err(S::Error::custom)?);
        }
        all.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Latencies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut latencies = Self::default();
        for (what, (latency, service)) in Encoded::deserialize(deserializer)? {
            add(&mut latencies.latency[what as usize], &latency).map_err(D::Error::custom)?;
            add(&mut latencies.service[what as usize], &service).map_err(D::Error::custom)?;
        }
        Ok(latencies)
    }
}

/// Failures as a list: their kinds are pairs, which JSON takes for no keys.
pub(super) mod failures {
    use crate::measure::FailureKind;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::collections::BTreeMap;

    pub(in crate::measure) fn serialize<S: Serializer>(
        failures: &BTreeMap<FailureKind, u64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        failures.iter().collect::<Vec<_>>().serialize(serializer)
    }

    pub(in crate::measure) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<FailureKind, u64>, D::Error> {
        Ok(Vec::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Tally;
    use crate::measure::latency::{LATENCY_MAX_US, Took};
    use std::time::Duration;

    fn tally(from: u64, to: u64) -> Tally {
        let mut tally = Tally { polls: to - from, fetched_bytes: from, ..Tally::default() };
        for us in from..to {
            let latency = Duration::from_micros(us * us);
            let took = Took { latency, service: Duration::from_micros(us) };
            tally.latencies.record(Timed::Report, took);
        }
        tally.latencies.record(Timed::Slip, Took::from_due(Duration::from_micros(from)));
        tally.failed("dial", "refused");
        tally
    }

    fn there_and_back(tally: &Tally) -> Tally {
        serde_json::from_slice(&serde_json::to_vec(tally).unwrap()).unwrap()
    }

    #[test]
    fn what_another_process_measured_merges_like_what_was_measured_here() {
        let parts = [tally(0, 1000), tally(1000, 50_000), tally(50_000, 60_000), Tally::default()];
        let (mut here, mut there) = (Tally::default(), Tally::default());
        for part in &parts {
            here.merge(part);
            there.merge(&there_and_back(part));
        }
        assert_eq!(there, here);
        for what in Timed::ALL {
            assert_eq!(there.latencies.quantiles(what), here.latencies.quantiles(what), "{what}");
        }
        let all = there.latencies.quantiles(Timed::Report);
        assert!(all.count == 60_000 && all.max_us * 1000 > LATENCY_MAX_US * 999, "{all:?}");
        assert_eq!(there.failures[&("dial".into(), "refused".into())], 3);
        assert_eq!(there.count_max(), 60_000);
    }

    #[test]
    fn a_damaged_histogram_is_refused() {
        let whole = encode(tally(0, 100).latencies.histogram(Timed::Report)).unwrap();
        let refused = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = whole.clone();
            change(&mut bytes);
            add(&mut Latencies::default().latency[0], &bytes).unwrap_err()
        };
        assert_eq!(add(&mut Latencies::default().latency[0], &whole), Ok(()));
        for cut in 0..whole.len() {
            refused(&|bytes| bytes.truncate(cut));
        }
        // What would be allocated is named by the length, and by digits and bounds.
        let length = refused(&|bytes| bytes[LENGTH] = 0x7F);
        assert!(length.contains("another length"), "{length}");
        let digits = refused(&|bytes| bytes[HEAD_DIGITS + 3] = 5);
        assert!(digits.contains("3 digits"), "{digits}");
        // The lowest number there is would not have an opposite.
        let count = refused(&|bytes| {
            bytes.splice(HEAD.., [0xFF; 9]);
            bytes[LENGTH..LENGTH + 4].copy_from_slice(&9_u32.to_be_bytes());
        });
        assert!(count.contains("cannot be"), "{count}");
        refused(&|bytes| bytes[0] ^= 1);
    }
}
