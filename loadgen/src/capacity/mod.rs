//! How much this master carries on this machine: steps of rising load, each of which passes or
//! not, between which the answer lies.

mod search;

use crate::clients::work::{Goal, Pace, Reports, Work};
use crate::error::{Exit, LoadError};
use crate::measure::{Quantiles, Timed};
use crate::run::{Bound, Checked, Load, LoadConfig, Phase, PhaseConfig, Scenario, judge};
use crate::subject::{Constraint, Sample};
use crate::truth::Truth;
use engine::reactor::Signals;
pub use search::Limit;
use search::{Judgement, Search};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Version of the JSON: raised whenever a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;
/// A step passes only if this part of the load that was offered was carried.
const CARRIED_MIN: f64 = 0.99;
/// What a step may take beyond its slots until everything is acked.
const GRACE: Duration = Duration::from_secs(5);
/// Seconds of each step that are not judged.
const WARM_UP: Duration = Duration::from_secs(1);
/// An inbox grows if it ends a step with more than this part of a second's reports above its
/// beginning.
const INBOX_GROWTH: f64 = 0.5;
/// Memory grows if a step adds more than this to what the master had, bytes.
const MEMORY_GROWTH: u64 = 64 << 20;
/// A load that the generator itself could not offer is offered so often before that is its end.
const TRIES_MAX: u32 = 2;
/// How long the clients may take to bind at the beginning, and the inbox to empty after a step.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Durable reports a second.
    Reports,
    /// Polls a second, and so clients at a poll interval.
    Polls,
    /// Clients that bind anew at the same time, all within a while.
    Reconnects,
}

impl Question {
    fn unit(self) -> &'static str {
        match self {
            Self::Reports => "durable reports/s",
            Self::Polls => "polls/s",
            Self::Reconnects => "simultaneous reconnects",
        }
    }

    /// The kind of message that is judged.
    fn timed(self) -> Timed {
        match self {
            Self::Reports => Timed::Report,
            Self::Polls => Timed::Poll,
            Self::Reconnects => Timed::Bind,
        }
    }
}

/// A search.
#[derive(Debug, Clone, PartialEq)]
pub struct CapacityConfig {
    /// The clients and the master.
    pub load: LoadConfig,
    /// What is asked.
    pub question: Question,
    /// What latencies must keep to; all reconnects must be over within its limit.
    pub bound: Bound,
    /// How long a step offers its load.
    pub step: Duration,
    /// The first step offers this much.
    pub first: u32,
    /// The search ends, with the answer that it has, after this.
    pub budget: Duration,
    /// The poll interval for which the answer is put in clients.
    pub interval: Duration,
}

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
    /// Whether the generator, and not the master, was at its end.
    pub generator_gave_out: bool,
    /// Which resource gave out, or would.
    pub constraint: Option<Constraint>,
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
    unchecked_exit: Option<Exit>,
    /// Acks of what was never sent.
    pub false_acks: u64,
    /// Somebody interrupted it.
    pub interrupted: bool,
}

impl Answer {
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
            (Limit::Time, _) => write!(
                f,
                "; the search ended before that was confirmed ({} of {} times).",
                self.confirmed,
                search::CONFIRMATIONS
            )?,
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
fn grouped(n: u64) -> String {
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

/// Searches.
///
/// # Errors
/// Why there is no answer at all.
pub fn search(
    config: &CapacityConfig,
    stop: &AtomicBool,
    signals: Option<Signals>,
    progress: &mut crate::progress::Progress,
) -> Result<Answer, LoadError> {
    let bind = Work { goal: Goal::Settled, ..Work::storm(Duration::from_secs(1), PATIENCE) };
    let bind = PhaseConfig::done("bind", bind, PATIENCE);
    let scenario = Scenario { name: "capacity".to_owned(), phases: vec![bind] };
    let mut load = Load::prepare(&config.load, &scenario, stop, signals, progress)?;
    let begun = load.now();
    load.run(&scenario.phases[0])?;
    load.settle(PATIENCE)?;

    let mut search = Search::new(config.first, config.most());
    let mut steps: Vec<Step> = Vec::new();
    let mut false_acks = 0;
    while let Some(offered) = search.next() {
        let spent = load.now().since(begun);
        if load.is_interrupted() || spent + config.step + GRACE > config.budget && !steps.is_empty()
        {
            break;
        }
        let mut tries = 1;
        let step = loop {
            let (step, false_acks_of_step) = config.step(&mut load, offered)?;
            false_acks += false_acks_of_step;
            if load.is_interrupted() {
                // What was cut short says nothing of the master.
                break None;
            }
            load.progress.say(&step.to_string());
            load.settle(PATIENCE)?;
            // A moment in which the machine did something else is no end of the generator.
            if !step.generator_gave_out || tries == TRIES_MAX {
                break Some(step);
            }
            steps.push(step);
            tries += 1;
        };
        let Some(step) = step else { break };
        let judgement = match (step.passed, step.generator_gave_out) {
            (true, _) => Judgement::Passed,
            (false, true) => Judgement::GaveOut,
            (false, false) => Judgement::Failed,
        };
        search.judge(offered, judgement);
        steps.push(step);
    }
    let interrupted = load.is_interrupted();
    let checked = load.check(false)?;
    load.end()?;
    load.progress.close();
    let mut answer = config.answer(&search, steps);
    (answer.false_acks, answer.interrupted) = (false_acks, interrupted);
    match checked {
        Checked::Truth(truth) => answer.truth = Some(truth),
        Checked::Unanswered(error) => {
            answer.unchecked_exit = Some(error.exit());
            answer.unchecked = Some(error.to_string());
        }
        Checked::Interrupted => answer.unchecked = Some("it was interrupted".to_owned()),
        Checked::NotAsked => {}
    }
    Ok(answer)
}

impl CapacityConfig {
    /// More than this cannot be offered.
    fn most(&self) -> u32 {
        match self.question {
            Question::Reconnects => self.load.clients,
            Question::Reports | Question::Polls => u32::MAX / 4,
        }
    }

    fn phase(&self, offered: u32) -> PhaseConfig {
        if self.question == Question::Reconnects {
            let limit = self.bound.limit;
            let work = Work {
                active: Some(offered),
                goal: Goal::Settled,
                ..Work::storm(Duration::ZERO, limit)
            };
            return PhaseConfig {
                bound: Some(self.bound),
                ..PhaseConfig::done("reconnects", work, limit + GRACE)
            };
        }
        let length = WARM_UP + self.step;
        let pace = Pace::every(Duration::from_secs(u64::from(self.load.clients)) / offered.max(1));
        let (name, work) = match self.question {
            Question::Reports => {
                ("reports", Work { reports: Some(Reports::at(pace)), ..Work::idle(length) })
            }
            _ => ("polls", Work { polls: Some(pace), ..Work::idle(length) }),
        };
        PhaseConfig {
            bound: Some(self.bound),
            warm_up: WARM_UP,
            // What is acked after the last slot is no second of the load.
            cool_down: Some(Duration::ZERO),
            ..PhaseConfig::over(name, work, GRACE)
        }
    }

    /// One step, and the acks in it of what was never sent.
    fn step(&self, load: &mut Load<'_>, offered: u32) -> Result<(Step, u64), LoadError> {
        let config = self.phase(offered);
        let before = load.look();
        let phase = load.run(&config)?;
        let after = load.look();
        let false_acks = phase.record.whole().false_acks;
        Ok((self.judge(&config, offered, &phase, &before, &after), false_acks))
    }

    #[expect(clippy::cast_precision_loss, reason = "rates are judged to a percent")]
    fn judge(
        &self,
        config: &PhaseConfig,
        offered: u32,
        phase: &Phase,
        before: &Sample,
        after: &Sample,
    ) -> Step {
        let timed = self.question.timed();
        let measured = &phase.record.measured().latencies;
        let latency = measured.quantiles(timed);
        let storm = self.question == Question::Reconnects;
        let seconds = phase.record.measured_seconds();
        let carried =
            if storm { latency.count as f64 } else { latency.count as f64 / seconds.max(1) as f64 };
        let punctuality = judge::punctuality(config.bound, config.until.patience(), phase);
        let constraint = judge::constraint(phase, &punctuality, Some(before), Some(after));
        let at_quantile = measured.histogram(timed).value_at_quantile(self.bound.quantile);
        let waits = |sample: &Sample| sample.said.map(|said| said.inbox_records);
        let memory = |sample: &Sample| sample.process.as_ref().map(|p| p.anonymous_bytes);
        let grew = |of: (Option<u64>, Option<u64>)| match of {
            (Some(before), Some(after)) => after.saturating_sub(before),
            _ => 0,
        };
        let inbox = grew((waits(before), waits(after)));
        let allocated = grew((memory(before), memory(after)));
        let false_acks = phase.record.whole().false_acks;
        let why = if false_acks > 0 {
            format!("{false_acks} acks of what was never sent")
        } else if !punctuality.valid {
            punctuality.to_string()
        } else if carried < f64::from(offered) * CARRIED_MIN {
            format!("only {carried:.0} of {offered} were carried")
        } else if Duration::from_micros(at_quantile) > self.bound.limit {
            format!("{} was asked, {:.3} s it was", self.bound, at_quantile as f64 / 1e6)
        } else if !storm && inbox as f64 > f64::from(offered) * INBOX_GROWTH {
            format!("the inbox grew by {inbox}")
        } else if allocated > MEMORY_GROWTH {
            format!("the master's memory grew by {} MiB", allocated >> 20)
        } else {
            String::new()
        };
        let generator_bound = constraint.as_ref().is_some_and(|c| {
            c.resource == crate::subject::constraint::Resource::Generator && c.binds()
        });
        Step {
            offered,
            carried,
            latency,
            passed: why.is_empty(),
            generator_gave_out: !why.is_empty() && (!punctuality.valid || generator_bound),
            why,
            constraint,
        }
    }

    fn answer(&self, search: &Search, steps: Vec<Step>) -> Answer {
        let carried = search.answer();
        let failed = steps.iter().filter(|step| !step.passed && step.offered > carried);
        let constraint =
            failed.min_by_key(|step| step.offered).and_then(|step| step.constraint.clone());
        let last = steps.iter().rev().find(|step| step.passed && step.offered == carried);
        let clients = u64::from(carried).saturating_mul(self.interval.as_secs());
        Answer {
            schema: SCHEMA,
            question: self.question,
            bound: self.bound.to_string(),
            carried,
            between: search.between(),
            limit: search.limit(),
            confirmed: search.confirmed(),
            clients_at_interval: (self.question != Question::Reconnects)
                .then_some((clients, self.interval.as_secs())),
            constraint: constraint.or_else(|| last.and_then(|step| step.constraint.clone())),
            steps,
            truth: None,
            unchecked: None,
            unchecked_exit: None,
            false_acks: 0,
            interrupted: false,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offered, carried, latency, .. } = self;
        let p99 = master::table::words::duration_us(latency.p99_us);
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
mod tests {
    use super::*;

    fn answer() -> Answer {
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
