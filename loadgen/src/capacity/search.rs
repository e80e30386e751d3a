//! Doubling, or going to where something would be used up; then halving the gap, then confirming:
//! how a capacity is found among noise.

use serde::{Deserialize, Serialize};

/// The answer is confirmed so often.
pub(super) const CONFIRMATIONS: usize = 3;

/// What ended a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The master: more was offered, and it did not carry it.
    Master,
    /// The generator, which could not offer more.
    Generator,
    /// More was not there to be offered.
    Offered,
    /// The time for the search was over, or somebody interrupted it.
    Time,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    /// The load was carried.
    Passed,
    /// The master did not carry it.
    Failed,
    /// The generator could not offer it.
    GaveOut,
}

/// A search for the highest load that is carried.
#[derive(Debug, Clone)]
pub(super) struct Search {
    first: u32,
    most: u32,
    /// The gap between what passed and what failed is closed to this part of what passed.
    precision: f64,
    passed: Option<u32>,
    /// All that ever passed, in ascending order.
    all_passed: Vec<u32>,
    failed: Option<u32>,
    /// So much would use up what was scarcest when the last one passed, if that is known.
    full: Option<u32>,
    gave_out: bool,
    confirmed: usize,
}

impl Search {
    pub(super) fn new(first: u32, most: u32, precision: f64) -> Self {
        let first = first.clamp(1, most);
        Self {
            first,
            most,
            precision,
            passed: None,
            all_passed: Vec::new(),
            failed: None,
            full: None,
            gave_out: false,
            confirmed: 0,
        }
    }

    /// What is to be offered next; `None` when the answer stands.
    pub(super) fn next(&self) -> Option<u32> {
        match (self.passed, self.failed) {
            (None, None) => Some(self.first),
            (Some(passed), None) if passed >= self.most => self.confirm(passed),
            (Some(passed), None) => Some(self.above(passed)),
            // Nothing passed yet: look further down.
            (None, Some(failed)) => (failed > 1).then_some(failed / 2),
            (Some(passed), Some(failed)) if self.is_close(passed, failed) => self.confirm(passed),
            (Some(passed), Some(failed)) => Some(passed + (failed - passed) / 2),
        }
    }

    /// Twice as much, unless less would use something up: what is offered far beyond that costs time
    /// and says nothing.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "part of a u32")]
    fn above(&self, passed: u32) -> u32 {
        let least = passed + (f64::from(passed) * self.precision).max(1.0) as u32;
        let twice = passed.saturating_mul(2);
        self.full.map_or(twice, |full| rounded(full).clamp(least, twice)).min(self.most)
    }

    fn is_close(&self, passed: u32, failed: u32) -> bool {
        let gap = failed - passed.min(failed);
        f64::from(gap) <= (f64::from(passed) * self.precision).max(1.0)
    }

    fn confirm(&self, passed: u32) -> Option<u32> {
        (self.confirmed < CONFIRMATIONS).then_some(passed)
    }

    /// Notes how an offer ended; `full` is the load that would use up what was scarcest.
    pub(super) fn judge(&mut self, offered: u32, judgement: Judgement, full: Option<u32>) {
        let confirms = self.passed == Some(offered);
        match judgement {
            Judgement::Passed if confirms => self.confirmed += 1,
            Judgement::Passed => {
                self.passed = Some(offered);
                self.full = full;
                self.all_passed.push(offered);
                self.all_passed.sort_unstable();
                self.confirmed = 0;
            }
            Judgement::Failed | Judgement::GaveOut => {
                self.gave_out = judgement == Judgement::GaveOut;
                self.failed = Some(offered);
                if confirms {
                    // It had passed by luck: the truth lies between what passed before and this.
                    self.confirmed = 0;
                    self.all_passed.retain(|passed| *passed < offered);
                    self.passed = self.all_passed.last().copied();
                }
            }
        }
    }

    /// The highest load that has passed.
    pub(super) fn passed(&self) -> Option<u32> {
        self.passed
    }

    /// What was carried; 0 if nothing was.
    pub(super) fn answer(&self) -> u32 {
        self.passed.unwrap_or(0)
    }

    /// The least that may be the truth, and the most if anything was not carried.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "part of a u32")]
    pub(super) fn between(&self) -> (u32, Option<u32>) {
        let least = f64::from(self.answer()) * (1.0 - self.precision);
        (least as u32, self.failed)
    }

    pub(super) fn confirmed(&self) -> usize {
        self.confirmed
    }

    /// What the answer is bounded by.
    pub(super) fn limit(&self) -> Limit {
        match self.failed {
            _ if self.confirmed < CONFIRMATIONS => Limit::Time,
            None => Limit::Offered,
            Some(_) if self.gave_out => Limit::Generator,
            Some(_) => Limit::Master,
        }
    }
}

/// With two digits, for people.
fn rounded(n: u32) -> u32 {
    let unit = 10_u32.pow(n.max(1).ilog10().saturating_sub(1));
    n / unit * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches where everything up to `limit` is carried, and says what was offered.
    fn offered(first: u32, most: u32, judgement: impl Fn(u32) -> Judgement) -> (Search, Vec<u32>) {
        let mut search = Search::new(first, most, 0.05);
        let mut offered = Vec::new();
        while let Some(next) = search.next() {
            offered.push(next);
            search.judge(next, judgement(next), None);
            assert!(offered.len() < 60, "{offered:?}");
        }
        (search, offered)
    }

    fn up_to(limit: u32) -> impl Fn(u32) -> Judgement {
        move |load| if load <= limit { Judgement::Passed } else { Judgement::Failed }
    }

    #[test]
    fn the_answer_is_within_five_percent_and_confirmed_three_times() {
        for limit in [3, 700, 1000, 12_345, 99_999, 4_000_000] {
            let (search, steps) = offered(1000, u32::MAX / 4, up_to(limit));
            let found = search.answer();
            assert!(found <= limit, "{found} of {limit}");
            assert!(
                f64::from(found) >= f64::from(limit) * 0.95 - 1.0,
                "{found} of {limit}: {steps:?}"
            );
            let (low, high) = search.between();
            assert!(low <= limit && high.unwrap() >= limit, "{search:?}");
            assert_eq!((search.confirmed(), search.limit()), (3, Limit::Master));
        }
    }

    #[test]
    fn what_cannot_be_offered_beyond_is_the_answer() {
        let (search, steps) = offered(1000, 5000, up_to(u32::MAX));
        assert_eq!((search.answer(), search.between()), (5000, (4750, None)));
        assert_eq!(search.limit(), Limit::Offered);
        assert_eq!(steps, [1000, 2000, 4000, 5000, 5000, 5000, 5000]);
    }

    #[test]
    fn a_generator_that_gives_out_says_so() {
        let (search, _) = offered(1000, u32::MAX / 4, |load| {
            if load <= 8000 { Judgement::Passed } else { Judgement::GaveOut }
        });
        assert_eq!(search.answer(), 8000);
        assert_eq!(search.limit(), Limit::Generator);
    }

    #[test]
    fn a_search_that_was_cut_short_says_so() {
        let mut search = Search::new(1000, 5000, 0.05);
        search.judge(1000, Judgement::Passed, None);
        assert_eq!((search.answer(), search.limit()), (1000, Limit::Time));
    }

    /// Whatever is scarcest is used as the load is, or costs less as the load grows.
    #[test]
    fn where_something_is_nearly_used_up_no_step_goes_far_beyond() {
        for (limit, cheaper) in [(12_345, 1.0), (12_345, 0.7), (15_900, 1.0), (16_100, 0.8)] {
            let mut search = Search::new(4_000, u32::MAX / 4, 0.1);
            let mut steps = Vec::new();
            while let Some(next) = search.next() {
                steps.push(next);
                let share = f64::from(next) / f64::from(limit);
                let used = share.powf(cheaper);
                let full = (f64::from(next) / used) as u32;
                search.judge(next, up_to(limit)(next), Some(full));
            }
            let found = search.answer();
            assert!(found <= limit && f64::from(found) >= f64::from(limit) * 0.88, "{steps:?}");
            assert!(steps.len() <= 9, "{steps:?}");
            assert!(
                steps.iter().all(|step| f64::from(*step) <= f64::from(limit) * 1.2),
                "{steps:?}"
            );
        }
        assert_eq!([9, 10, 13_333, 999].map(rounded), [9, 10, 13_000, 990]);
    }

    #[test]
    fn what_passed_by_luck_is_not_the_answer() {
        let tries = std::cell::Cell::new(0);
        let (search, steps) = offered(1000, u32::MAX / 4, |load| {
            tries.set(tries.get() + u32::from(load == 2000));
            let lucky = load == 2000 && tries.get() == 1;
            if load < 1950 || lucky { Judgement::Passed } else { Judgement::Failed }
        });
        assert!(search.answer() < 1950 && search.answer() >= 1800, "{steps:?}");
        assert_eq!(search.confirmed(), 3);
    }

    #[test]
    fn nothing_is_an_answer_too() {
        let (search, steps) = offered(1000, 5000, up_to(0));
        assert_eq!(search.answer(), 0);
        assert!(steps.len() <= 11, "{steps:?}");
    }
}
