//! What got better or worse between two runs, beyond what each run's own seconds vary.

use super::{Outcome, PhaseReport, Report};
use crate::kernel::Process;
use crate::measure::{Part, Quantiles, Row, Timed};
use master::table::words::duration_us;
use master::table::{Cell, Paint, Table};
use serde::Serialize;

/// A change below this part is never told from noise.
const NOISE_MIN: f64 = 0.05;
/// Nor is so much CPU time, seconds: starting and ending alone vary by as much.
const CPU_NOISE_S: f64 = 0.5;

/// How one figure changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// What.
    pub what: String,
    /// In the first run.
    pub before: f64,
    /// In the second.
    pub after: f64,
    /// The change as a part of the first.
    pub change: f64,
    /// So large a change is noise, as both runs' own seconds vary.
    pub noise: f64,
    /// What that means.
    pub meaning: Meaning,
}

/// What a change means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Meaning {
    /// Better by more than noise.
    Better,
    /// Worse by more than noise.
    Worse,
    /// Not to be told from noise.
    Same,
}

/// Why two runs cannot be compared, or only with care.
#[must_use]
pub fn cautions(before: &Report, after: &Report) -> Vec<String> {
    let mut found = Vec::new();
    let mut differ = |what: &str, a: &str, b: &str| {
        if a != b {
            found.push(format!("{what} differs: {a} and {b}"));
        }
    };
    differ("the scenario", &before.scenario, &after.scenario);
    differ("the number of clients", &before.clients.to_string(), &after.clients.to_string());
    differ("the kernel", &before.environment.kernel, &after.environment.kernel);
    differ("the machine", &before.environment.processors, &after.environment.processors);
    for (name, report) in [("the first", before), ("the second", after)] {
        if report.outcome == Outcome::Violated {
            found.push(format!("{name} run has no figures, it has a defect: {}", report.summary));
        } else if report.outcome != Outcome::Reached {
            found.push(format!("{name} run did not do what was asked: {}", report.summary));
        }
        if let Some(phase) = report.judged().find(|phase| !phase.punctuality.valid) {
            let phase = &phase.name;
            found.push(format!(
                "{name} run is invalid in the phase {phase}: its figures do not count"
            ));
        }
    }
    found
}

/// Whether the second run is worse in what a run is for, whatever its figures are.
#[must_use]
pub fn fell(before: &Report, after: &Report) -> bool {
    let rank = |report: &Report| match report.outcome {
        Outcome::Reached => 0,
        Outcome::Violated => 2,
        _ => 1,
    };
    rank(after) > rank(before)
}

/// Compares two runs of one scenario, phase by phase.
#[must_use]
pub fn compare(before: &Report, after: &Report) -> Vec<Change> {
    let mut changes = Vec::new();
    let is_named = before.judged().count() > 1;
    for a in before.judged() {
        let b = after.judged().find(|phase| phase.name == a.name);
        let prefix = if is_named { format!("{}: ", a.name) } else { String::new() };
        for mut change in b.map(|b| compare_phase((before, a), (after, b))).unwrap_or_default() {
            change.what.insert_str(0, &prefix);
            changes.push(change);
        }
    }
    let cpu = |report: &Report| report.generator.cpu_s;
    for (what, cpu) in
        [("generator CPU (s)", cpu as fn(&Report) -> f64), ("master's CPU (s)", master_cpu)]
    {
        let (a, b) = (cpu(before), cpu(after));
        changes.push(change(what.into(), a, b, CPU_NOISE_S / a.max(CPU_NOISE_S), false));
    }
    changes
}

/// CPU time of the master's processes over the whole run; 0 if it was not seen.
#[expect(clippy::cast_precision_loss, reason = "figures have three digits")]
fn master_cpu(report: &Report) -> f64 {
    let seen = report.samples.iter().filter_map(|sample| sample.process.as_ref());
    let seen: Vec<_> = seen.collect();
    let took = |pair: &[&Process]| pair[1].took_since(pair[0], Process::cpu_all_us);
    seen.windows(2).map(took).sum::<u64>() as f64 / 1e6
}

/// One of the figures of what was timed.
type Figure = fn(&Quantiles) -> u64;

#[expect(clippy::cast_precision_loss, reason = "figures have three digits")]
fn compare_phase(before: (&Report, &PhaseReport), after: (&Report, &PhaseReport)) -> Vec<Change> {
    let mut changes = Vec::new();
    for what in Timed::ALL.into_iter().filter(|what| *what != Timed::Slip) {
        let found = |(_, phase): (&Report, &PhaseReport)| phase.latencies.get(&what).copied();
        let (Some(a), Some(b)) = (found(before), found(after)) else { continue };
        // Each figure varies in a way of its own.
        let noise = |of: Figure| {
            let of = |row: &Row| Some(of(row.latencies.get(&what)?) as f64);
            spread(before, of).max(spread(after, of))
        };
        for (name, of) in [("p50", (|q| q.p50_us) as Figure), ("p99", |q| q.p99_us)] {
            let (a, b) = (of(&a) as f64, of(&b) as f64);
            changes.push(change(format!("{what}, {name} (us)"), a, b, noise(of), false));
        }
        let rate = |(_, phase): (&Report, &PhaseReport), count: u64| {
            count as f64 / phase.measured_s.max(0.001)
        };
        let (a, b) = (rate(before, a.count), rate(after, b.count));
        let noise = noise(|found| found.count);
        changes.push(change(format!("{what}, a second"), a, b, noise, true));
    }
    changes
}

/// How far a figure varies over a phase's own seconds: half the distance between the quartiles, as
/// a part of the median.
fn spread((report, phase): (&Report, &PhaseReport), of: impl Fn(&Row) -> Option<f64>) -> f64 {
    let rows = report.rows.iter();
    let rows = rows.filter(|row| row.phase == phase.name && row.part == Part::Measured);
    let mut values: Vec<f64> = rows.filter_map(of).collect();
    values.sort_by(f64::total_cmp);
    let at = |quarter: usize| values.get(values.len() * quarter / 4).copied();
    match (at(1), at(2), at(3)) {
        (Some(low), Some(middle), Some(high)) if middle > 0.0 => (high - low) / 2.0 / middle,
        _ => NOISE_MIN,
    }
}

fn change(what: String, before: f64, after: f64, noise: f64, more_is_better: bool) -> Change {
    let noise = noise.max(NOISE_MIN);
    let change = if before > 0.0 { after / before - 1.0 } else { 0.0 };
    let meaning = match change {
        c if c.abs() <= noise => Meaning::Same,
        c if (c > 0.0) == more_is_better => Meaning::Better,
        _ => Meaning::Worse,
    };
    Change { what, before, after, change, noise, meaning }
}

/// A table for people.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "shown with few digits"
)]
pub fn render(changes: &[Change], paint: Paint) -> String {
    let mut table = Table::new(&["what", ">before", ">after", ">change", ">noise", "verdict"]);
    for change in changes {
        let show = |value: f64| {
            if change.what.ends_with("(us)") {
                duration_us(value as u64)
            } else {
                format!("{value:.1}")
            }
        };
        let meaning = match change.meaning {
            Meaning::Better => "better",
            Meaning::Worse => "WORSE",
            Meaning::Same => "same",
        };
        table.row(vec![
            Cell::from(change.what.trim_end_matches(" (us)").to_owned()),
            show(change.before).into(),
            show(change.after).into(),
            format!("{:+.0} %", change.change * 100.0).into(),
            format!("±{:.0} %", change.noise * 100.0).into(),
            meaning.to_owned().into(),
        ]);
    }
    table.render(paint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_only_beyond_noise() {
        let meaning =
            |before, after, noise, more| change(String::new(), before, after, noise, more).meaning;
        assert_eq!(meaning(100.0, 104.0, 0.0, false), Meaning::Same, "less than 5 % never counts");
        assert_eq!(meaning(100.0, 120.0, 0.0, false), Meaning::Worse);
        assert_eq!(meaning(100.0, 120.0, 0.3, false), Meaning::Same);
        assert_eq!(meaning(100.0, 70.0, 0.1, false), Meaning::Better);
        assert_eq!(meaning(100.0, 70.0, 0.1, true), Meaning::Worse);
        assert_eq!(meaning(0.0, 70.0, 0.1, true), Meaning::Same);
    }
}
