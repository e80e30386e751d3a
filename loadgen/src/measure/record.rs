//! What a phase of a run has measured: second by second, and over its parts.

use super::latency::{Quantiles, Timed};
use super::tally::{Standings, Tally};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The parts of a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The beginning, which is not judged.
    WarmUp,
    /// What is judged.
    Measured,
    /// The end, which is not judged.
    CoolDown,
}

/// Where the parts of a phase begin and end, in whole seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parts {
    /// Seconds before the measured part.
    pub warm_up: u64,
    /// The second at which the measured part ends, if it does before the phase.
    pub cool_down_at: Option<u64>,
}

impl Parts {
    /// The part in which a second lies.
    #[must_use]
    pub fn of(&self, second: u64) -> Part {
        if second < self.warm_up {
            Part::WarmUp
        } else if self.cool_down_at.is_some_and(|at| second >= at) {
            Part::CoolDown
        } else {
            Part::Measured
        }
    }
}

/// One second of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its number, from 0 at the beginning of the run.
    pub second: u64,
    /// Its phase.
    pub phase: String,
    /// Its part of the phase.
    pub part: Part,
    /// Polls that were sent on their way.
    pub polls: u64,
    /// Reports that were sent on their way.
    pub reports: u64,
    /// Failures, all kinds.
    pub failures: u64,
    /// What was timed in it.
    pub latencies: BTreeMap<Timed, Quantiles>,
    /// How the clients stood at its end.
    pub standings: Standings,
    /// The most open connections of the generator at once, those of its workers added up.
    pub connections: u64,
    /// CPU time of the generator's workers, microseconds.
    pub cpu_us: u64,
    /// CPU time of the busiest of them.
    pub cpu_busiest_us: u64,
}

/// A second that not all workers have told of yet.
#[derive(Debug, Default)]
struct Open {
    workers: usize,
    tally: Tally,
    connections: u64,
    cpu_us: u64,
    cpu_busiest_us: u64,
}

/// Everything that was measured in a phase.
#[derive(Debug)]
pub struct Record {
    phase: String,
    /// The phase begins in this second of the run.
    first: u64,
    parts: Parts,
    workers: usize,
    open: BTreeMap<u64, Open>,
    rows: Vec<Row>,
    whole: Tally,
    measured: Tally,
}

/// A second stays open for a worker that is late by up to so many seconds.
const LATE_MAX: u64 = 3;

impl Record {
    /// Nothing measured yet.
    #[must_use]
    pub fn new(phase: &str, first: u64, parts: Parts, workers: usize) -> Self {
        Self {
            phase: phase.to_owned(),
            first,
            parts,
            workers,
            open: BTreeMap::new(),
            rows: Vec::new(),
            whole: Tally::default(),
            measured: Tally::default(),
        }
    }

    /// A worker has told of what ended so long after the start.
    pub fn add(&mut self, end: Duration, tally: &Tally, connections: u64, cpu_us: u64) {
        // It tells a little after the second that it tells of; the last one may be a part.
        let second = end.saturating_sub(Duration::from_millis(500)).as_secs();
        let next = self.rows.last().map_or(0, |row| row.second + 1 - self.first);
        let second = second.max(next);
        let open = self.open.entry(second).or_default();
        open.workers += 1;
        open.tally.merge(tally);
        open.connections += connections;
        open.cpu_us += cpu_us;
        open.cpu_busiest_us = open.cpu_busiest_us.max(cpu_us);
    }

    /// Closes the seconds that are complete, or all; `each` sees what was counted in each.
    pub fn close(&mut self, standings: Standings, all: bool, mut each: impl FnMut(&Row, &Tally)) {
        let newest = self.open.keys().last().copied().unwrap_or(0);
        while let Some((second, open)) = self.open.first_key_value() {
            if !all && open.workers < self.workers && second + LATE_MAX > newest {
                return;
            }
            let Some((second, open)) = self.open.pop_first() else { return };
            let part = self.parts.of(second);
            self.whole.merge(&open.tally);
            if part == Part::Measured {
                self.measured.merge(&open.tally);
            }
            let timed = Timed::ALL.into_iter().filter(|what| open.tally.latencies.count(*what) > 0);
            let row = Row {
                second: self.first + second,
                phase: self.phase.clone(),
                part,
                polls: open.tally.polls,
                reports: open.tally.reports,
                failures: open.tally.failures_all(),
                latencies: timed.map(|what| (what, open.tally.latencies.quantiles(what))).collect(),
                standings,
                connections: open.connections,
                cpu_us: open.cpu_us,
                cpu_busiest_us: open.cpu_busiest_us,
            };
            each(&row, &open.tally);
            self.rows.push(row);
        }
    }

    /// The seconds that are complete.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Seconds of the part that is judged.
    #[must_use]
    pub fn measured_seconds(&self) -> u64 {
        self.rows.iter().filter(|row| row.part == Part::Measured).count() as u64
    }

    /// All that was counted.
    #[must_use]
    pub fn whole(&self) -> &Tally {
        &self.whole
    }

    /// What was counted in the part that is judged.
    #[must_use]
    pub fn measured(&self) -> &Tally {
        &self.measured
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::latency::Took;

    const MS: Duration = Duration::from_millis(1);

    fn tally(polls: u64, took: Duration) -> Tally {
        let mut tally = Tally { polls, ..Tally::default() };
        (0..polls).for_each(|_| tally.latencies.record(Timed::Poll, Took::from_due(took)));
        tally
    }

    #[test]
    fn seconds_of_all_workers_are_one_row_each() {
        let mut record = Record::new("load", 100, Parts { warm_up: 1, cool_down_at: Some(3) }, 2);
        let mut seen = Vec::new();
        for second in 1..=4u32 {
            for worker in 0..2 {
                let late = MS * (5 + worker);
                record.add(second * 1000 * MS + late, &tally(10, second * MS), 3, 7);
                let rows = record.rows().len();
                record.close(Standings::default(), false, |row, tally| {
                    seen.push((row.second, row.part, tally.polls));
                });
                assert_eq!(record.rows().len() - rows, worker as usize, "once both have told");
            }
        }
        use Part::{CoolDown, Measured, WarmUp};
        assert_eq!(
            seen,
            [(100, WarmUp, 20), (101, Measured, 20), (102, Measured, 20), (103, CoolDown, 20)]
        );
        assert_eq!((record.whole().polls, record.measured().polls), (80, 40));
        let measured = record.measured().latencies.quantiles(Timed::Poll);
        assert_eq!(measured.count, 40);
        assert!(measured.max_us.abs_diff(3000) <= 3, "{measured:?}");
        assert_eq!((record.rows()[0].connections, record.rows()[0].cpu_us), (6, 14));
    }

    #[test]
    fn a_worker_that_sleeps_delays_no_row_for_long_and_loses_nothing() {
        let mut record = Record::new("load", 0, Parts::default(), 2);
        for second in 1..=10u32 {
            record.add(second * 1000 * MS, &tally(1, MS), 0, 0);
            record.close(Standings::default(), false, |_, _| {});
        }
        assert_eq!(record.rows().len(), 7);
        record.add(10_200 * MS, &tally(30, MS), 0, 0);
        record.close(Standings::default(), true, |_, _| {});
        assert_eq!(record.whole().polls, 40);
        assert_eq!(record.rows().iter().map(|row| row.polls).sum::<u64>(), 40);
    }
}
