//! What a name service does wrong, and how often: drawn from a seed, so that a client's third
//! question is answered alike in every run of that seed, whoever else asks before it.

use crate::run::file::permille;
use engine::config::parse_duration;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// How often a name service does what wrong, in parts of a thousand of the questions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NameFaults {
    /// Its answer comes late,
    pub slow: u16,
    /// by so much.
    pub slow_by: Duration,
    /// It says that there is no such name.
    pub nxdomain: u16,
    /// It gives the address of another client.
    pub wrong: u16,
    /// Its answer comes twice.
    pub duplicate: u16,
    /// It gives the client's second address, and not the one that it gave before.
    pub changing: u16,
}

/// What is said of a name, instead of its address or with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Its address.
    Address,
    /// That there is none.
    Nxdomain,
    /// Somebody else's.
    Wrong,
    /// Its second address.
    Changed,
}

/// What becomes of one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// What is said.
    pub said: Said,
    /// Whether it is said late.
    pub slow: bool,
    /// Whether it is said twice.
    pub duplicate: bool,
}

/// How often which kind of answer was given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameCounts {
    /// Questions for the address of a client.
    pub questions: u64,
    /// Questions that came again while the answer was on its way.
    pub again: u64,
    /// Answered late.
    pub slow: u64,
    /// Answered that there is no such name.
    pub nxdomain: u64,
    /// Answered with the address of another client.
    pub wrong: u64,
    /// Answered twice.
    pub duplicate: u64,
    /// Answered with the client's second address.
    pub changing: u64,
    /// Questions for names that no client has.
    pub strange: u64,
}

impl fmt::Display for NameCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { questions, again, slow, nxdomain, wrong, duplicate, changing, strange } = self;
        write!(
            f,
            "{questions} questions answered, {slow} late, {nxdomain} NXDOMAIN, {wrong} wrong, {duplicate} twice, {changing} changed"
        )?;
        for (count, what) in [(again, "asked again"), (strange, "for strange names")] {
            if *count > 0 {
                write!(f, "; {count} {what}")?;
            }
        }
        Ok(())
    }
}

impl NameFaults {
    /// Reads `slow=5%@2s,nxdomain=1%,wrong=1%,duplicate=10%,changing=5%`.
    ///
    /// # Errors
    /// It is none of these, or more than all answers would be wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut faults = Self::default();
        for part in text.split(',') {
            let wrong = || {
                format!(
                    "`{part}` is no fault of a name service; write slow=5%@2s, nxdomain=1%, wrong=1%, duplicate=10% or changing=5%, and commas between them"
                )
            };
            let (kind, rest) = part.trim().split_once('=').ok_or_else(wrong)?;
            let (share, by) = match rest.split_once('@') {
                Some((share, by)) => (share, Some(by)),
                None => (rest, None),
            };
            let percent = share.strip_suffix('%').and_then(|number| number.parse().ok());
            let share = permille(percent.ok_or_else(wrong)?)?;
            let place = match (kind, by) {
                ("slow", Some(by)) => {
                    faults.slow_by =
                        parse_duration(by).map_err(|error| format!("`{part}`: {error}"))?;
                    &mut faults.slow
                }
                ("slow", None) => {
                    return Err(format!("`{part}`: by how much? Write for example slow=5%@2s"));
                }
                ("nxdomain", None) => &mut faults.nxdomain,
                ("wrong", None) => &mut faults.wrong,
                ("duplicate", None) => &mut faults.duplicate,
                ("changing", None) => &mut faults.changing,
                _ => return Err(wrong()),
            };
            *place = share;
        }
        if faults.nxdomain + faults.wrong + faults.changing > 1000 {
            return Err(
                "nxdomain, wrong and changing exclude each other, and are more than 100% together"
                    .to_owned(),
            );
        }
        Ok(faults)
    }

    /// What becomes of the nth question for the address of a client.
    #[must_use]
    pub fn draw(&self, seed: u64, client: u32, nth: u32) -> Draw {
        let place = u64::from(client) << 32 | u64::from(nth);
        let mut rng = fastrand::Rng::with_seed(seed.rotate_left(17) ^ place);
        let said = match rng.u16(..1000) {
            n if n < self.nxdomain => Said::Nxdomain,
            n if n < self.nxdomain + self.wrong => Said::Wrong,
            n if n < self.nxdomain + self.wrong + self.changing => Said::Changed,
            _ => Said::Address,
        };
        let slow = rng.u16(..1000) < self.slow;
        Draw { said, slow, duplicate: rng.u16(..1000) < self.duplicate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read() {
        let faults = NameFaults::parse("slow=5%@2s,nxdomain=1%, wrong=0.5%,duplicate=10%");
        let slow_by = Duration::from_secs(2);
        let wanted =
            NameFaults { slow: 50, slow_by, nxdomain: 10, wrong: 5, duplicate: 100, changing: 0 };
        assert_eq!(faults, Ok(wanted));
        for (text, told) in [
            ("", "`` is no fault of a name service; write slow=5%@2s, nxdomain=1%"),
            ("slow=5%", "`slow=5%`: by how much? Write for example slow=5%@2s"),
            ("slow=5%@2", "`slow=5%@2`: "),
            ("wrong=1%@2s", "`wrong=1%@2s` is no fault"),
            ("wrong=1", "`wrong=1` is no fault"),
            ("wrong=1%,late=2%", "`late=2%` is no fault"),
            ("nxdomain=101%", "101 is no part of a hundred"),
            ("nxdomain=50%,wrong=40%,changing=20%", "more than 100% together"),
        ] {
            let error = NameFaults::parse(text).unwrap_err();
            assert!(error.contains(told), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_same_seed_draws_alike_and_each_fault_as_often_as_was_asked() {
        let faults =
            NameFaults::parse("slow=5%@2s,nxdomain=1%,wrong=2%,duplicate=10%,changing=4%").unwrap();
        let draws = |seed| {
            let all = (0..500).flat_map(|client| (0..200).map(move |nth| (client, nth)));
            all.map(|(client, nth)| faults.draw(seed, client, nth)).collect::<Vec<_>>()
        };
        let (first, other) = (draws(1), draws(2));
        assert_eq!(first, draws(1));
        assert_ne!(first, other);
        let count = |is: fn(&Draw) -> bool| first.iter().filter(|draw| is(draw)).count();
        for (found, wanted) in [
            (count(|draw| draw.slow), 5000),
            (count(|draw| draw.said == Said::Nxdomain), 1000),
            (count(|draw| draw.said == Said::Wrong), 2000),
            (count(|draw| draw.duplicate), 10_000),
            (count(|draw| draw.said == Said::Changed), 4000),
        ] {
            assert!(found.abs_diff(wanted) < wanted / 5, "{found} of {wanted}");
        }
    }
}
