//! How much this master carries on this machine: steps of rising load, each of which passes or
//! not, between which the answer lies.

mod answer;
mod question;
mod search;
pub mod table;

pub use answer::{Answer, SCHEMA, Step};
pub use question::Question;
pub use search::Limit;

use crate::clients::work::Goal;
use crate::error::{Exit, LoadError};
use crate::kernel::{Process, Stolen};
use crate::progress::Progress;
use crate::run::scenario::bind;
use crate::run::{Bound, Checked, Load, LoadConfig, Phase, PhaseConfig, Scenario, judge};
use crate::subject::Sample;
use crate::subject::constraint::Resource;
use crate::truth::Truth;
use engine::clock::{Clock, SystemClock};
use engine::time::Instant;
use question::GRACE;
use search::{Judgement, Search};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// A step passes only if this part of the load that was offered was carried.
const CARRIED_MIN: f64 = 0.99;
/// An inbox grows if it ends a step with more than this part of a second's reports above its
/// beginning.
const INBOX_GROWTH: f64 = 0.5;
/// Memory grows if a step adds more than this to what the master had, bytes.
const MEMORY_GROWTH: u64 = 64 << 20;
/// A load that the generator itself could not offer is offered so often before that is its end.
const TRIES_MAX: u32 = 2;
/// How long the clients may take to bind at the beginning, and the inbox to empty after a step.
const PATIENCE: Duration = Duration::from_secs(60);

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
    /// Bytes of the version that is fetched.
    pub release_bytes: u64,
    /// The gap between what passed and what failed is closed to this part of what passed.
    pub precision: f64,
    /// What goes beyond all that passed is offered once: there is no time for more, and less comes
    /// next.
    pub hurried: bool,
    /// The first step offers this much.
    pub first: u32,
    /// The search ends, with the answer that it has, after this.
    pub budget: Duration,
    /// The poll interval for which the answer is put in clients.
    pub interval: Duration,
}

/// A search that goes on.
struct Hunt {
    search: Search,
    steps: Vec<Step>,
    clock: SystemClock,
    begun: Instant,
    stolen: Stolen,
    truth: Option<Truth>,
    /// Why acked and stored were not compared, and the exit status of that.
    unchecked: Option<(String, Exit)>,
    false_acks: u64,
    interrupted: bool,
}

/// Searches. `stop` ends it, with the answer so far.
///
/// # Errors
/// Why there is no answer at all.
pub fn search(
    config: &CapacityConfig,
    stop: &AtomicBool,
    progress: &mut Progress,
) -> Result<Answer, LoadError> {
    let clock = SystemClock::start();
    let mut hunt = Hunt {
        search: Search::new(config.first, config.most(), config.precision),
        steps: Vec::new(),
        clock,
        begun: clock.now().at,
        stolen: Stolen::read(),
        truth: None,
        unchecked: None,
        false_acks: 0,
        interrupted: false,
    };
    if config.question.begins_anew() {
        while let Some(offered) = hunt.next(config) {
            let own = LoadConfig { clients: offered, ..config.load.clone() };
            let mut load = bound(&own, Goal::Revision(1), stop, progress)?;
            hunt.step(config, &mut load, offered)?;
            hunt.end(load)?;
        }
    } else {
        let mut load = bound(&config.load, Goal::Settled, stop, progress)?;
        // Setting up is no part of the search.
        hunt.begun = clock.now().at;
        while let Some(offered) = hunt.next(config) {
            hunt.step(config, &mut load, offered)?;
        }
        hunt.end(load)?;
    }
    Ok(config.answer(hunt))
}

/// A master whose clients are all bound.
fn bound<'a>(
    config: &LoadConfig,
    goal: Goal,
    stop: &'a AtomicBool,
    progress: &'a mut Progress,
) -> Result<Load<'a>, LoadError> {
    let phases = vec![bind(config.clients, goal, PATIENCE)];
    let scenario = Scenario { name: "capacity".to_owned(), phases };
    let mut load = Load::prepare(config, &scenario, stop, progress)?;
    load.run(&scenario.phases[0])?;
    load.settle(PATIENCE)?;
    Ok(load)
}

impl Hunt {
    /// What is to be offered next, if there is time for it.
    fn next(&self, config: &CapacityConfig) -> Option<u32> {
        let spent = self.clock.now().at.since(self.begun);
        let is_late = spent + config.step + GRACE > config.budget && !self.steps.is_empty();
        if self.interrupted || is_late { None } else { self.search.next() }
    }

    /// Offers so much, and judges whether it was carried.
    fn step(
        &mut self,
        config: &CapacityConfig,
        load: &mut Load<'_>,
        offered: u32,
    ) -> Result<(), LoadError> {
        let is_beyond = self.search.passed().is_some_and(|passed| offered > passed);
        let tries_max = if config.hurried && is_beyond { 1 } else { TRIES_MAX };
        for tries in 1.. {
            let phase_config = config.phase(offered);
            let before = load.look();
            let phase = load.run(&phase_config)?;
            let after = load.look();
            self.false_acks += phase.record.whole().false_acks;
            if phase.interrupted {
                // What was cut short says nothing of the master.
                self.interrupted = true;
                return Ok(());
            }
            let step = config.judge(&phase_config, offered, &phase, &before, &after);
            load.progress.say(&step.to_string());
            load.settle(PATIENCE)?;
            let judgement = match (step.passed, step.generator_gave_out) {
                (true, _) => Judgement::Passed,
                (false, true) => Judgement::GaveOut,
                (false, false) => Judgement::Failed,
            };
            let full = step.full().filter(|_| config.question.is_rate());
            self.steps.push(step);
            // A moment in which the machine did something else is no end of the generator.
            if judgement != Judgement::GaveOut || tries == tries_max {
                self.search.judge(offered, judgement, full);
                break;
            }
        }
        Ok(())
    }

    /// Ends a load, and compares what was acked with what is stored.
    fn end(&mut self, mut load: Load<'_>) -> Result<(), LoadError> {
        let checked = load.check(false)?;
        load.end()?;
        load.progress.close();
        match checked {
            Checked::Truth(truth) => self.truth.get_or_insert_default().add(truth),
            Checked::Unanswered(error) => self.unchecked = Some((error.to_string(), error.exit())),
            Checked::Interrupted => {
                self.unchecked = Some(("it was interrupted".to_owned(), Exit::Interrupted));
            }
            Checked::NotAsked => {}
        }
        Ok(())
    }
}

impl CapacityConfig {
    /// More than this cannot be offered.
    fn most(&self) -> u32 {
        if self.question.is_rate() { u32::MAX / 4 } else { self.load.clients }
    }

    /// Clients that are there when so much is offered.
    fn clients(&self, offered: u32) -> u32 {
        if self.question.begins_anew() { offered } else { self.load.clients }
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
        let storm = !self.question.is_rate();
        let seconds = phase.record.measured_seconds();
        let carried =
            if storm { latency.count as f64 } else { latency.count as f64 / seconds.max(1) as f64 };
        let punctuality = judge::punctuality(config.bound, config.until.patience(), phase);
        let constraint = judge::constraint(phase, &punctuality, &[before.clone(), after.clone()]);
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
        let seen = before.process.as_ref().zip(after.process.as_ref());
        let master_us_each = seen.map(|(before, after)| {
            let whole = phase.record.whole().latencies.count(timed).max(1);
            after.took_since(before, Process::cpu_all_us) as f64 / whole as f64
        });
        let why = if false_acks > 0 {
            format!("{false_acks} acks of what was never sent")
        } else if !punctuality.valid {
            punctuality.to_string()
        } else if storm && phase.standings.done < u64::from(self.clients(offered)) {
            format!("only {} of {offered} were done", phase.standings.done)
        } else if storm && phase.elapsed > self.bound.limit {
            format!("{} was asked, {:.1} s it was", self.bound, phase.elapsed.as_secs_f64())
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
        let generator_bound =
            constraint.as_ref().is_some_and(|c| c.resource == Resource::Generator && c.binds());
        Step {
            offered,
            carried,
            latency,
            passed: why.is_empty(),
            generator_gave_out: !why.is_empty() && (!punctuality.valid || generator_bound),
            why,
            constraint,
            master_us_each,
            master_bytes: after.process.as_ref().map(|process| process.resident_bytes),
        }
    }

    fn answer(&self, hunt: Hunt) -> Answer {
        let stolen = Stolen::read().share_since(&hunt.stolen);
        let Hunt { search, steps, truth, unchecked, false_acks, interrupted, .. } = hunt;
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
            clients_at_interval: self
                .question
                .is_rate()
                .then_some((clients, self.interval.as_secs())),
            constraint: constraint.or_else(|| last.and_then(|step| step.constraint.clone())),
            steps,
            truth,
            unchecked_exit: unchecked.as_ref().map(|(_, exit)| *exit),
            unchecked: unchecked.map(|(why, _)| why),
            false_acks,
            interrupted,
            stolen,
        }
    }
}
