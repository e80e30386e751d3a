//! Doubling, then halving the gap, then confirming: how a capacity is found among noise.

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
            gave_out: false,
            confirmed: 0,
        }
    }

    /// What is to be offered next; `None` when the answer stands.
    pub(super) fn next(&self) -> Option<u32> {
        match (self.passed, self.failed) {
            (None, None) => Some(self.first),
            (Some(passed), None) if passed >= self.most => self.confirm(passed),
            (Some(passed), None) => Some(passed.saturating_mul(2).min(self.most)),
            // Nothing passed yet: look further down.
            (None, Some(failed)) => (failed > 1).then_some(failed / 2),
            (Some(passed), Some(failed)) if self.is_close(passed, failed) => self.confirm(passed),
            (Some(passed), Some(failed)) => Some(passed + (failed - passed) / 2),
        }
    }

    fn is_close(&self, passed: u32, failed: u32) -> bool {
        let gap = failed - passed.min(failed);
        f64::from(gap) <= (f64::from(passed) * self.precision).max(1.0)
    }

    fn confirm(&self, passed: u32) -> Option<u32> {
        (self.confirmed < CONFIRMATIONS).then_some(passed)
    }

    pub(super) fn judge(&mut self, offered: u32, judgement: Judgement) {
        let confirms = self.passed == Some(offered);
        match judgement {
            Judgement::Passed if confirms => self.confirmed += 1,
            Judgement::Passed => {
                self.passed = Some(offered);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches where everything up to `limit` is carried, and says what was offered.
    fn offered(first: u32, most: u32, judgement: impl Fn(u32) -> Judgement) -> (Search, Vec<u32>) {
        let mut search = Search::new(first, most, 0.05);
        let mut offered = Vec::new();
        while let Some(next) = search.next() {
            offered.push(next);
            search.judge(next, judgement(next));
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
        search.judge(1000, Judgement::Passed);
        assert_eq!((search.answer(), search.limit()), (1000, Limit::Time));
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
