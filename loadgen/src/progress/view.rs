//! What is shown of a run that goes on, as one line or as several.

use super::terminal::Line;
use crate::fleet::Beat;
use crate::kernel::Process;
use crate::measure::{Record, Standings, Timed};
use crate::subject::Sample;
use master::table::Tone;
use master::table::words::duration_us;
use std::time::Duration;

/// Kinds of messages that are shown, those with most in the last second.
const KINDS_MAX: usize = 3;
/// Cells of the bar of time.
const BAR: usize = 20;

/// The phase that a run is in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Its number, from 1.
    pub number: usize,
    /// How many there are.
    pub of: usize,
    /// How long it takes, or may take at most.
    pub length: Duration,
}

/// A run as it stands.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Its phase.
    pub stage: &'a Stage,
    /// Time since the phase's first slot.
    pub elapsed: Duration,
    /// How many clients there are.
    pub clients: u32,
    /// How each worker stood when it last told.
    pub beats: &'a [Beat],
    /// What was measured in the phase.
    pub record: &'a Record,
    /// Looks at the master so far.
    pub samples: &'a [Sample],
}

impl View<'_> {
    fn standings(&self) -> Standings {
        self.beats.iter().map(|beat| beat.standings).sum()
    }

    fn sum(&self, of: fn(&Beat) -> u64) -> u64 {
        self.beats.iter().map(of).sum()
    }

    /// All of it in one line.
    pub(super) fn line(&self) -> String {
        let (standings, tally) = (self.standings(), self.record.whole());
        format!(
            "{:6.1} s  {} of {} bound, {} hold the release, {} done; {} reports durable; {} deliveries, {} waiting; {} failures",
            self.elapsed.as_secs_f64(),
            standings.bound,
            self.clients,
            standings.holding,
            standings.done,
            tally.latencies.count(Timed::Report),
            self.sum(|beat| beat.deliveries),
            self.sum(|beat| beat.waiting),
            tally.failures_all(),
        )
    }

    /// Six to eight lines.
    pub(super) fn lines(&self) -> Vec<Line> {
        let standings = self.standings();
        let clients = format!(
            "clients   {} of {} bound, {} hold the release, {} done",
            standings.bound, self.clients, standings.holding, standings.done
        );
        let mut lines = vec![(Tone::Head, self.head()), (Tone::Plain, clients)];
        lines.extend(self.kinds().into_iter().map(|kind| (Tone::Plain, kind)));
        lines.push((Tone::Plain, self.master()));
        lines.push((Tone::Plain, self.own()));
        let failures = self.record.whole().failures_all();
        let tone = if failures > 0 { Tone::Warn } else { Tone::Plain };
        lines.push((tone, format!("failures  {failures} so far")));
        lines
    }

    fn head(&self) -> String {
        let Stage { name, number, of, length } = self.stage;
        // A search has as many phases as it takes.
        let place = match of {
            2.. if number <= of => format!("{name}, {number} of {of}"),
            _ => name.clone(),
        };
        let share = self.elapsed.as_secs_f64() / length.as_secs_f64().max(0.001);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to BAR")]
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let full = (share.clamp(0.0, 1.0) * BAR as f64) as usize;
        format!(
            "{place}  {}{}  {:.1} of {:.1} s",
            "█".repeat(full),
            "░".repeat(BAR - full),
            self.elapsed.as_secs_f64(),
            length.as_secs_f64()
        )
    }

    /// The last second that is complete.
    fn kinds(&self) -> Vec<String> {
        let last = self.record.rows().last();
        let mut kinds: Vec<_> = last
            .iter()
            .flat_map(|row| &row.latencies)
            .filter(|(what, _)| **what != Timed::Slip)
            .collect();
        kinds.sort_by_key(|(_, quantiles)| std::cmp::Reverse(quantiles.count));
        kinds.truncate(KINDS_MAX);
        if kinds.is_empty() {
            return vec!["last s    nothing was answered".to_owned()];
        }
        let lines = kinds.into_iter().enumerate().map(|(n, (what, quantiles))| {
            let label = if n == 0 { "last s" } else { "" };
            let (p50, p99) = (duration_us(quantiles.p50_us), duration_us(quantiles.p99_us));
            format!("{label:<10}{what:<18} {:>7}/s, p50 {p50}, p99 {p99}", quantiles.count)
        });
        lines.collect()
    }

    fn master(&self) -> String {
        let Some(last) = self.samples.last() else { return "master    not seen yet".to_owned() };
        let mut seen = Vec::new();
        if let [.., before, _] = self.samples
            && let (Some(from), Some(to)) = (&before.process, &last.process)
        {
            let used = Process::cpu_all_us(to).saturating_sub(Process::cpu_all_us(from));
            let passed = last.at().since(before.at()).as_micros().max(1);
            seen.push(format!("CPU {} %", u128::from(used) * 100 / passed));
        }
        if let Some(said) = last.said {
            seen.push(format!(
                "inbox {} reports, {} connections",
                said.inbox_records, said.connections
            ));
        }
        match seen.is_empty() {
            true => "master    cannot be seen".to_owned(),
            false => format!("master    {}", seen.join(", ")),
        }
    }

    fn own(&self) -> String {
        let last = self.record.rows().last();
        let slip = last.and_then(|row| row.latencies.get(&Timed::Slip));
        let late = slip.map_or("none".to_owned(), |slip| duration_us(slip.p99_us));
        format!(
            "own       lateness p99 {late}, {} deliveries, {} waiting",
            self.sum(|beat| beat.deliveries),
            self.sum(|beat| beat.waiting)
        )
    }
}
