//! What a search has found: in one sentence for people, and with all its steps for programs.

use super::Question;
use super::search::{CONFIRMATIONS, Limit};
use crate::error::Exit;
use crate::kernel::Stolen;
use crate::measure::Quantiles;
use crate::subject::Constraint;
use crate::truth::Truth;
use master::table::words::duration_us;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Version of the JSON: raised whenever a field changes its meaning or goes.
pub const SCHEMA: u32 = 2;

/// One step of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What was offered: a second, or at once.
    pub offered: u32,
    /// What was carried.
    pub carried: f64,
    /// Latencies of what was judged.
    pub latency: Quantiles,
    /// Whether it passed.
    pub passed: bool,
    /// Why not; empty if it passed.
    pub why: String,
    /// CPU time that the master took for each message that is judged, microseconds.
    pub master_us_each: Option<f64>,
    /// Memory that the master took at its end, bytes.
    pub master_bytes: Option<u64>,
    /// Whether the generator, and not the master, was at its end.
    pub generator_gave_out: bool,
    /// Which resource gave out, or would.
    pub constraint: Option<Constraint>,
}

impl Step {
    /// The load that would use up what was scarcest, if that is used as the load is.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
    pub(super) fn full(&self) -> Option<u32> {
        let used = self.constraint.as_ref().map(|constraint| constraint.used);
        used.filter(|used| *used > 0.0).map(|used| (f64::from(self.offered) / used) as u32)
    }
}

/// What a search has found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What was asked.
    pub question: Question,
    /// How the bound was put.
    pub bound: String,
    /// The highest load that was carried.
    pub carried: u32,
    /// The least that may be the truth, and the most if anything was not carried.
    pub between: (u32, Option<u32>),
    /// What ended the search: the answer is "at least" unless it was the master.
    pub limit: Limit,
    /// How often the answer was confirmed.
    pub confirmed: usize,
    /// Clients that this means at the poll interval, in seconds; `None` for reconnects.
    pub clients_at_interval: Option<(u64, u64)>,
    /// Which resource gave out first.
    pub constraint: Option<Constraint>,
    /// All steps in their order.
    pub steps: Vec<Step>,
    /// Acked against stored over the whole search.
    pub truth: Option<Truth>,
    /// Why acked and stored were not compared, and the exit status of that.
    pub unchecked: Option<String>,
    #[serde(skip)]
    pub(super) unchecked_exit: Option<Exit>,
    /// Acks of what was never sent.
    pub false_acks: u64,
    /// Somebody interrupted it.
    pub interrupted: bool,
    /// Which part of the processor time that was wanted the host of a virtual machine took, if it
    /// was enough to move the answer.
    #[serde(default)]
    pub stolen: Option<f64>,
}

impl Answer {
    /// The step that carried what is the answer, if any did.
    #[must_use]
    pub fn best(&self) -> Option<&Step> {
        let at = |step: &&Step| step.passed && step.offered == self.carried;
        self.steps.iter().rev().find(at)
    }

    /// Whether more may be carried than what it says.
    #[must_use]
    pub fn is_least(&self) -> bool {
        self.limit != Limit::Master || self.between.1.is_none()
    }

    /// The exit status that it has: an honest "at least" is no failure.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match &self.truth {
            Some(truth) if !truth.holds() => Exit::Violated,
            _ if self.false_acks > 0 => Exit::Violated,
            _ if self.interrupted => Exit::Interrupted,
            _ if self.carried == 0 => Exit::Missed,
            _ => self.unchecked_exit.unwrap_or(Exit::Reached),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = self.question.unit();
        if let Some(truth) = self.truth.as_ref().filter(|truth| !truth.holds()) {
            return write!(f, "VIOLATED: {truth}");
        }
        if self.false_acks > 0 {
            return write!(
                f,
                "VIOLATED: the master acked {} times what was never sent to it",
                self.false_acks
            );
        }
        if self.interrupted {
            f.write_str("Interrupted: ")?;
        }
        if self.carried == 0 && self.interrupted {
            return f.write_str("no step had passed.");
        }
        if self.carried == 0 {
            let why = self.steps.first().map_or("nothing was tried", |step| &step.why);
            return write!(f, "This master did not carry even the first step: {why}.");
        }
        let carried = grouped(self.carried.into());
        match (self.limit, self.between) {
            (Limit::Master, (low, Some(high))) => {
                let (low, high) = (grouped(low.into()), grouped(high.into()));
                write!(
                    f,
                    "This master carries {carried} {unit} on this machine (between {low} and {high})"
                )?;
            }
            _ => write!(f, "This master carries at least {carried} {unit} on this machine")?,
        }
        write!(f, " with {}", self.bound)?;
        if let Some((clients, interval)) = self.clients_at_interval {
            let every = duration_words(interval);
            write!(
                f,
                ", enough for {} clients of which each sends one every {every}",
                grouped(clients)
            )?;
        }
        match (self.limit, &self.constraint) {
            (Limit::Master, Some(constraint)) if constraint.binds() => {
                write!(f, "; what gives out first is {constraint}.")?;
            }
            (Limit::Master, Some(Constraint { resource, why, .. })) => {
                write!(f, "; no resource was used up, the most used was {resource} ({why}).")?;
            }
            (Limit::Master, None) => f.write_str(".")?,
            (Limit::Generator, _) => f.write_str("; the generator gave out first.")?,
            (Limit::Offered, _) => {
                f.write_str("; more was not offered: give it more --clients.")?
            }
            (Limit::Time, _) => {
                write!(
                    f,
                    "; the search ended before that was confirmed ({} of {} times)",
                    self.confirmed, CONFIRMATIONS
                )?;
                let above = |step: &&Step| step.generator_gave_out && step.offered > self.carried;
                match self.steps.iter().find(above) {
                    Some(step) => {
                        let offered = grouped(step.offered.into());
                        write!(f, ", and at {offered} the generator gave out first.")?;
                    }
                    None => f.write_str(".")?,
                }
            }
        }
        if let Some(share) = self.stolen {
            write!(f, " Beware: {}.", Stolen::told(share))?;
        }
        match &self.unchecked {
            Some(why) => write!(f, " Acked and stored were not compared: {why}."),
            None => Ok(()),
        }
    }
}

fn duration_words(seconds: u64) -> String {
    match seconds {
        s if s >= 60 && s.is_multiple_of(60) => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

/// `12345678` as `12,345,678`.
pub(super) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offered, carried, latency, .. } = self;
        let p99 = duration_us(latency.p99_us);
        write!(
            f,
            "{:>9} offered: {:>9} carried, p99 {p99:>7}: ",
            grouped((*offered).into()),
            format!("{carried:.0}")
        )?;
        if self.passed { f.write_str("passed") } else { f.write_str(&self.why) }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn answer() -> Answer {
        Answer {
            schema: SCHEMA,
            question: Question::Reports,
            bound: "p99 ≤ 1.00s".into(),
            carried: 12_500,
            between: (12_100, Some(13_000)),
            limit: Limit::Master,
            confirmed: 3,
            clients_at_interval: Some((22_500_000, 1800)),
            constraint: None,
            steps: Vec::new(),
            truth: Some(Truth::default()),
            unchecked: None,
            unchecked_exit: None,
            false_acks: 0,
            interrupted: false,
            stolen: None,
        }
    }

    #[test]
    fn one_sentence_for_people() {
        assert_eq!(
            answer().to_string(),
            "This master carries 12,500 durable reports/s on this machine (between 12,100 and 13,000) \
             with p99 ≤ 1.00s, enough for 22,500,000 clients of which each sends one every 30 min."
        );
        let least = Answer { limit: Limit::Generator, ..answer() }.to_string();
        assert!(
            least.contains("carries at least 12,500")
                && least.ends_with("the generator gave out first."),
            "{least}"
        );
        // Of a machine that others use as well the answer is less, and nobody here sees them.
        let stolen = Answer { stolen: Some(0.1), ..answer() }.to_string();
        assert!(
            stolen.contains(". Beware: the host of this virtual machine took 10 %"),
            "{stolen}"
        );
    }

    #[test]
    fn a_search_that_ended_too_early_tells_what_the_generator_could_not_offer() {
        let early = Answer { limit: Limit::Time, confirmed: 1, ..answer() };
        let ends = |answer: &Answer, end: &str| {
            let text = answer.to_string();
            assert!(text.ends_with(end), "{text}");
        };
        ends(&early, "the search ended before that was confirmed (1 of 3 times).");
        let step = Step {
            offered: 16_000,
            carried: 15_000.0,
            latency: Quantiles::default(),
            passed: false,
            why: "too late".into(),
            master_us_each: None,
            master_bytes: None,
            generator_gave_out: true,
            constraint: None,
        };
        let below = Step { offered: 12_000, ..step.clone() };
        ends(&Answer { steps: vec![below], ..early.clone() }, "(1 of 3 times).");
        let above = "(1 of 3 times), and at 16,000 the generator gave out first.";
        ends(&Answer { steps: vec![step], ..early }, above);
    }

    #[test]
    fn a_lost_report_fails_whatever_was_carried() {
        let truth = Some(Truth { lost: 1, ..Truth::default() });
        let answer = Answer { truth, ..answer() };
        assert_eq!(answer.exit(), Exit::Violated);
        assert!(answer.to_string().starts_with("VIOLATED"));
        assert_eq!(Answer { carried: 0, truth: None, ..answer }.exit(), Exit::Missed);
    }

    #[test]
    fn what_was_not_compared_or_acked_wrongly_is_no_success() {
        let unchecked = Answer {
            truth: None,
            unchecked: Some("the master is not running".into()),
            unchecked_exit: Some(Exit::Unreachable),
            ..answer()
        };
        assert_eq!(unchecked.exit(), Exit::Unreachable);
        assert!(unchecked.to_string().ends_with("were not compared: the master is not running."));
        assert_eq!(Answer { false_acks: 1, ..answer() }.exit(), Exit::Violated);
    }
}
