//! How often the master's loop stood still, and for how long: everybody waits for it meanwhile.

use super::observer::{Said, Sample};
use engine::reactor::STALL;
use master::table::words::{duration_us, plural};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Turns of the master's loop that took [`STALL`] or longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stalls {
    /// How many.
    pub times: u64,
    /// The longest turn of the master's life: one of these, or an earlier one that was longer.
    pub longest_us: u64,
}

impl Stalls {
    /// Those between the first of these looks and the last; `None` if there was none. A master
    /// that was started anew meanwhile began to count anew.
    #[must_use]
    pub fn between(looks: &[Sample]) -> Option<Self> {
        let said: Vec<&Said> = looks.iter().filter_map(|look| look.said.as_ref()).collect();
        let mut found = Self { times: 0, longest_us: 0 };
        for pair in said.windows(2) {
            let [before, after] = [pair[0].stalls, pair[1].stalls];
            let more = if after < before { after } else { after - before };
            if more > 0 {
                found.times += more;
                found.longest_us = found.longest_us.max(pair[1].loop_lag_max_us);
            }
        }
        (found.times > 0).then_some(found)
    }
}

impl fmt::Display for Stalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the master's loop stood still {} for {} ms or longer, up to {}",
            plural(self.times, "time", "times"),
            STALL.as_millis(),
            duration_us(self.longest_us)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(stalls: u64, loop_lag_max_us: u64) -> Sample {
        let said = Said { stalls, loop_lag_max_us, ..Said::default() };
        Sample { said: Some(said), ..Sample::default() }
    }

    #[test]
    fn what_was_before_is_not_counted_and_a_restart_begins_anew() {
        let quiet = [look(3, 900_000), Sample::default(), look(3, 900_000)];
        assert_eq!(Stalls::between(&quiet), None);
        let looks = [look(3, 150_000), look(4, 201_000), look(1, 120_000), look(1, 120_000)];
        let found = Stalls::between(&looks).unwrap();
        assert_eq!((found.times, found.longest_us), (2, 201_000));
        assert_eq!(
            found.to_string(),
            "the master's loop stood still 2 times for 100 ms or longer, up to 201.0ms"
        );
    }
}
