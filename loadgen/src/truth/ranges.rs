//! A set of numbers that mostly follow one another.

use std::ops::RangeInclusive;

/// Ranges in ascending order, none of which touches the next.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds all numbers of a range.
    pub fn insert(&mut self, range: RangeInclusive<u64>) {
        let (mut first, mut last) = range.into_inner();
        if first > last {
            return;
        }
        // All that the new range overlaps or touches becomes one with it.
        let from = self.0.partition_point(|(_, end)| end.saturating_add(1) < first);
        let to = self.0.partition_point(|(start, _)| *start <= last.saturating_add(1));
        if from < to {
            first = first.min(self.0[from].0);
            last = last.max(self.0[to - 1].1);
        }
        self.0.splice(from..to, [(first, last)]);
    }

    /// Whether a number is in it.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        let at = self.0.partition_point(|(_, end)| *end < number);
        self.0.get(at).is_some_and(|(start, _)| *start <= number)
    }

    /// How many numbers.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start + 1).sum()
    }

    /// The highest number.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.0.last().map(|(_, end)| *end)
    }

    /// The numbers that are in this one and not in the other.
    #[must_use]
    pub fn without(&self, other: &Self) -> Vec<u64> {
        let all = self.0.iter().flat_map(|(start, end)| *start..=*end);
        if other == self { Vec::new() } else { all.filter(|n| !other.contains(*n)).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn it_is_a_set() {
        let mut rng = fastrand::Rng::with_seed(5);
        for _ in 0..200 {
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            for _ in 0..rng.u64(1..30) {
                let first = rng.u64(0..60);
                let last = first + rng.u64(0..6);
                ranges.insert(first..=last);
                model.extend(first..=last);
            }
            assert_eq!(ranges.count(), model.len() as u64);
            assert_eq!(ranges.last(), model.last().copied());
            assert!((0..70).all(|n| ranges.contains(n) == model.contains(&n)), "{ranges:?}");
            assert!(ranges.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{ranges:?}");
            let mut other = Ranges::default();
            other.insert(10..=40);
            let wanted: Vec<_> =
                model.iter().filter(|n| !(10..=40).contains(*n)).copied().collect();
            assert_eq!(ranges.without(&other), wanted);
        }
    }

    #[test]
    fn numbers_that_follow_one_another_take_one_place() {
        let mut ranges = Ranges::default();
        (1..=100_000).for_each(|n| ranges.insert(n..=n));
        assert_eq!(ranges.0, [(1, 100_000)]);
        ranges.insert(u64::MAX..=u64::MAX);
        assert!(ranges.contains(u64::MAX));
    }
}
