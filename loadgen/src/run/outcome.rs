//! The judgement of a run, and its report.

use super::{Checked, Phase, RunConfig, Session, Workload};
use crate::clients::role::VERSION;
use crate::error::{Exit, LoadError};
use crate::kernel::{self, Process};
use crate::measure::{Row, Timed};
use crate::report::environment::Environment;
use crate::report::{
    Clients, Connections, Generator, Messages, Outcome, Punctuality, Report, SCHEMA,
};
use crate::subject::constraint::{self, Constraint, Own};
use crate::subject::{Backlog, Sample, Stalls, Target};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

/// Of the latency bound, a generator may be late by this part at the 99th percentile.
const SLIP_SHARE: u32 = 100;

/// The report on a run that has ended.
pub(super) fn report(
    config: &RunConfig,
    session: &Session<'_>,
    phase: &Phase,
    checked: Checked,
    backlog: Option<Backlog>,
) -> Report {
    Judge { config, session, phase }.report(checked, backlog)
}

/// Whether the master's inbox grew in the part that is judged. Only an even load can tell: one
/// that comes at once fills it, whatever the master carries.
#[expect(clippy::cast_precision_loss, reason = "a rate is judged to a percent")]
pub(super) fn backlog(config: &RunConfig, phase: &Phase) -> Option<Backlog> {
    let duration = config.workload.duration()?;
    let (from, to) =
        (phase.start + config.warm_up, phase.start + duration.saturating_sub(config.cool_down));
    let acked = phase.record.whole().latencies.count(Timed::Report) as f64;
    let offered = acked / phase.elapsed.as_secs_f64().max(1.0);
    Backlog::during(&phase.samples, from, to, offered)
}

/// Whether the generator was punctual in a phase, and which resource gave out, or would.
pub(crate) fn health(
    config: &RunConfig,
    session: &Session<'_>,
    phase: &Phase,
    before: Option<&Sample>,
    after: Option<&Sample>,
) -> (Punctuality, Option<Constraint>) {
    let judge = Judge { config, session, phase };
    let punctuality = judge.punctuality();
    let constraint = judge.constraint(&punctuality, before, after);
    (punctuality, constraint)
}

struct Judge<'a> {
    config: &'a RunConfig,
    session: &'a Session<'a>,
    phase: &'a Phase,
}

impl Judge<'_> {
    fn report(&self, checked: Checked, backlog: Option<Backlog>) -> Report {
        let Self { session, phase, .. } = self;
        let punctuality = self.punctuality();
        let remarks = self.remarks(&checked, backlog);
        let (outcome, mut summary) = self.judge(&checked, &punctuality, backlog);
        if outcome == Outcome::Missed {
            // Why it was missed may stand there.
            remarks.iter().for_each(|remark| summary = format!("{summary}; {remark}"));
        }
        let tally = phase.record.whole();
        let measured = &phase.record.measured().latencies;
        let standings = session.standings();
        let count = |what| tally.latencies.count(what);
        let ended = &session.ended;
        let unfinished = ended.iter().flat_map(|ended| ended.unfinished_first.iter().cloned());
        let timed = Timed::ALL.into_iter().filter(|what| measured.count(*what) > 0);
        let own = Process::own();
        let taken = own.resident_bytes.saturating_sub(session.resident_before);
        let clients = u64::from(self.config.clients);
        Report {
            schema: SCHEMA,
            version: VERSION.to_owned(),
            workload: self.config.workload.name().to_owned(),
            outcome,
            summary,
            remarks,
            master: session.target.addr.to_string(),
            master_version: session.target.version.clone(),
            started_ms: phase.began.wall.0,
            elapsed_s: phase.elapsed.as_secs_f64(),
            measured_s: self.measured().as_secs_f64(),
            seed: self.config.seed,
            bound: self.config.bound.map(|bound| bound.to_string()),
            connections: Connections::of(&phase.record, &phase.samples),
            clients: Clients {
                all: clients,
                bound: standings.bound,
                holding: standings.holding,
                done: standings.done,
                unfinished_first: unfinished.collect(),
            },
            messages: Messages {
                polls: tally.polls,
                polls_acked: count(Timed::Poll),
                manifests: count(Timed::Assignment) + count(Timed::Push) + tally.unasked_manifests,
                manifests_repeated: tally.repeated_manifests,
                reports: tally.reports,
                reports_acked: count(Timed::Report),
            },
            latencies: timed.map(|what| (what, measured.quantiles(what))).collect(),
            failures: tally
                .failures
                .iter()
                .map(|((place, why), count)| (format!("{place}: {why}"), *count))
                .collect::<BTreeMap<_, _>>(),
            truth: match checked {
                Checked::Truth(truth) => Some(truth),
                _ => None,
            },
            punctuality,
            generator: Generator {
                workers: session.workers() as u64,
                descriptors: session.descriptors as u64,
                cpu_s: Duration::from_micros(kernel::own_cpu_us()).as_secs_f64(),
                resident_bytes: own.resident_bytes,
                read_bytes: own.read_bytes,
                written_bytes: own.written_bytes,
                bytes_per_client: taken / clients.max(1),
                loop_lag_p99_us: ended.iter().map(|e| e.loop_lag_p99_us).max().unwrap_or(0),
                loop_lag_max_us: ended.iter().map(|e| e.loop_lag_max_us).max().unwrap_or(0),
            },
            constraint: self.constraint(&punctuality, phase.samples.first(), phase.samples.last()),
            rows: phase.record.rows().to_vec(),
            samples: phase.samples.clone(),
            start_ns: phase.start.0,
            master_kills: session.kills(),
            environment: Environment::read(),
            percentiles: measured.by_percentile(),
        }
    }

    /// The time that is judged: all of it, or the whole seconds between its warm-up and its end.
    fn measured(&self) -> Duration {
        let is_whole = self.config.warm_up.is_zero() && self.config.cool_down.is_zero();
        match is_whole {
            true => self.phase.elapsed,
            false => Duration::from_secs(self.phase.record.measured_seconds()),
        }
    }

    /// Whether the generator kept to its own schedule well enough for its figures to count.
    fn punctuality(&self) -> Punctuality {
        // Without a bound of its own a run has to do with its timeout.
        let limit = self.config.bound.map_or(self.config.timeout, |bound| bound.limit);
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let slip = self.phase.record.measured().latencies.quantiles(Timed::Slip);
        let (p99_allowed_us, max_allowed_us) = (us(limit / SLIP_SHARE), us(limit));
        Punctuality {
            valid: slip.p99_us <= p99_allowed_us.max(1) && slip.max_us <= max_allowed_us,
            slip_p99_us: slip.p99_us,
            slip_max_us: slip.max_us,
            p99_allowed_us,
            max_allowed_us,
        }
    }

    /// Which resource gave out, or would.
    fn constraint(
        &self,
        punctuality: &Punctuality,
        first: Option<&Sample>,
        last: Option<&Sample>,
    ) -> Option<Constraint> {
        let (first, last) = (first?, last?);
        let rows = self.phase.record.rows();
        let seconds = Duration::from_secs(rows.len().max(1) as u64).as_secs_f64();
        let cpu = |of: fn(&Row) -> u64| {
            Duration::from_micros(rows.iter().map(of).sum()).as_secs_f64() / seconds
        };
        let own = Own {
            busiest: cpu(|row| row.cpu_busiest_us),
            processors: cpu(|row| row.cpu_us),
            punctual: punctuality.valid,
        };
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Some(constraint::judge(first, last, own, processors))
    }

    /// What was seen of the master that its user should know, whether the goal was reached or not.
    fn remarks(&self, checked: &Checked, backlog: Option<Backlog>) -> Vec<String> {
        let stalls = Stalls::between(&self.phase.samples).map(|stalls| stalls.to_string());
        let backlog = backlog.map(|backlog| match checked {
            Checked::Unanswered(LoadError::InboxStuck { left }) => {
                format!("{backlog} and does not empty: {left} are left")
            }
            _ => backlog.to_string(),
        });
        stalls.into_iter().chain(backlog).collect()
    }

    fn judge(
        &self,
        checked: &Checked,
        punctuality: &Punctuality,
        backlog: Option<Backlog>,
    ) -> (Outcome, String) {
        let (done, all) = (self.session.standings().done, u64::from(self.config.clients));
        if let Checked::Truth(truth) = checked
            && !truth.holds()
        {
            let summary = format!(
                "VIOLATED: of the acked reports {} are missing in the master's result store, {} are there twice, {} out of order, {} altered",
                truth.lost, truth.doubled, truth.disordered, truth.altered
            );
            return (Outcome::Violated, summary);
        }
        let false_acks = self.phase.record.whole().false_acks;
        if false_acks > 0 {
            let summary =
                format!("VIOLATED: the master acked {false_acks} times what was never sent to it");
            return (Outcome::Violated, summary);
        }
        if self.session.is_interrupted() || matches!(checked, Checked::Interrupted) {
            return (
                Outcome::Interrupted,
                format!("interrupted: {done} of {all} clients are done"),
            );
        }
        // A master that has gone is another matter than one that is slow.
        if done < all
            && let Err(error) = Target::ask(self.session.target.addr)
        {
            let summary = format!("the master is gone: {done} of {all} clients are done; {error}");
            return (Outcome::Unreachable, summary);
        }
        if !punctuality.valid {
            return (Outcome::Invalid, punctuality.to_string());
        }
        if done < all {
            return (Outcome::Missed, format!("missed: {done} of {all} clients are done"));
        }
        if let Some(missed) = self.missed_bound() {
            return (Outcome::Missed, missed);
        }
        if backlog.is_some() {
            let summary = "missed: the master stores less than it takes".to_owned();
            return (Outcome::Missed, summary);
        }
        match checked {
            Checked::Unanswered(error) => {
                let outcome = match error.exit() {
                    Exit::Unreachable => Outcome::Unreachable,
                    _ => Outcome::Missed,
                };
                (outcome, format!("the clients are done, but not checked: {error}"))
            }
            _ => (Outcome::Reached, format!("all {all} clients {}", self.achievement())),
        }
    }

    /// The first kind of message that did not keep to the bound.
    fn missed_bound(&self) -> Option<String> {
        let bound = self.config.bound?;
        let latencies = &self.phase.record.measured().latencies;
        let found = |what| {
            Duration::from_micros(latencies.histogram(what).value_at_quantile(bound.quantile))
        };
        let judged = Timed::ALL.into_iter().filter(|what| *what != Timed::Slip);
        let missed = judged.map(|what| (what, found(what))).find(|(_, found)| *found > bound.limit);
        missed.map(|(what, found)| {
            format!("missed: {bound} was asked, {what} took {:.3} s", found.as_secs_f64())
        })
    }

    fn achievement(&self) -> String {
        match self.config.workload {
            Workload::Steady { revision: Some(revision), .. } => {
                format!("hold revision {revision} and have reported it")
            }
            Workload::Steady { revision: None, .. } => {
                "are bound, and all that they sent was acked".to_owned()
            }
            Workload::Storm { .. } => "bound, polled, got their manifest and reported".to_owned(),
        }
    }
}
