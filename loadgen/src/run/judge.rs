//! The judgement of a run: what was asked of it, and whether each of that holds.

use super::{Bound, Checked, Load, LoadConfig, Phase, PhaseConfig, Scenario, Until};
use crate::clients::role::VERSION;
use crate::error::{Exit, LoadError};
use crate::kernel::{self, Process, Stolen};
use crate::measure::{Row, Timed};
use crate::report::environment::Environment;
use crate::report::{
    Check, Clients, Connections, Generator, Messages, Outcome, PhaseReport, Punctuality, Report,
    SCHEMA,
};
use crate::subject::constraint::{self, Constraint, Own};
use crate::subject::{Backlog, Sample, Stalls, Target, warnings};
use master::table::words::duration_us;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

/// What is asked of the generator itself.
pub(super) const PUNCTUAL: &str = "the generator is punctual";

/// Of the latency bound, a generator may be late by this part at the 99th percentile.
const SLIP_SHARE: u32 = 100;

/// The report on a run that has ended; `phases` are those that were begun.
pub(super) fn report(
    config: &LoadConfig,
    scenario: &Scenario,
    load: &Load<'_>,
    phases: &[Phase],
    checked: Checked,
) -> Report {
    let mut reports: Vec<PhaseReport> = Vec::new();
    let mut checks = Vec::new();
    for (config, phase) in scenario.phases.iter().zip(phases) {
        let report = phase_report(config, load, phase, &checked);
        checks.extend(phase_checks(config, phase, &report, &reports, load));
        reports.push(report);
    }
    checks.extend(truth_checks(&checked, phases, load.kept()));
    let (outcome, summary) = Check::sum_up(&checks).unwrap_or_else(|| {
        (Outcome::Reached, achievement(scenario, phases, u64::from(config.clients)))
    });
    let ended = &load.ended;
    let unfinished = ended.iter().flat_map(|ended| ended.unfinished_first.iter().cloned());
    let own = Process::own();
    let taken = own.resident_bytes.saturating_sub(load.resident_before);
    let clients = u64::from(config.clients);
    let start = load.began().unwrap_or_default();
    Report {
        schema: SCHEMA,
        version: VERSION.to_owned(),
        scenario: scenario.name.clone(),
        outcome,
        summary,
        unwritten: None,
        checks,
        master: load.target.addr.to_string(),
        master_version: load.target.version.clone(),
        started_ms: phases.first().map_or(0, |phase| phase.began.wall.0),
        elapsed_s: phases
            .last()
            .map_or(0.0, |phase| (phase.start + phase.elapsed).since(start).as_secs_f64()),
        seed: config.seed,
        clients,
        unfinished_first: unfinished.collect(),
        phases: reports,
        truth: match checked {
            Checked::Truth(truth) => Some(truth),
            _ => None,
        },
        names: load.name_counts(),
        generator: Generator {
            workers: load.workers() as u64,
            descriptors: load.descriptors as u64,
            cpu_s: Duration::from_micros(kernel::own_cpu_us()).as_secs_f64(),
            resident_bytes: own.resident_bytes,
            read_bytes: own.read_bytes,
            written_bytes: own.written_bytes,
            bytes_per_client: taken / clients.max(1),
            loop_lag_p99_us: ended.iter().map(|e| e.loop_lag_p99_us).max().unwrap_or(0),
            loop_lag_max_us: ended.iter().map(|e| e.loop_lag_max_us).max().unwrap_or(0),
        },
        rows: phases.iter().flat_map(|phase| phase.record.rows()).cloned().collect(),
        samples: load.samples().to_vec(),
        start_ns: start.0,
        master_kills: load.kills(),
        environment: Environment::read(),
    }
}

fn phase_report(
    config: &PhaseConfig,
    load: &Load<'_>,
    phase: &Phase,
    checked: &Checked,
) -> PhaseReport {
    let tally = phase.record.whole();
    let measured = &phase.record.measured().latencies;
    let count = |what| tally.latencies.count(what);
    let timed = Timed::ALL.into_iter().filter(|what| measured.count(*what) > 0);
    let punctuality = punctuality(config.bound, config.until.patience(), phase);
    // Without parts all of it is judged, and not only whole seconds.
    let is_whole = config.warm_up.is_zero() && config.cool_down.is_none();
    let measured_time = match is_whole {
        true => phase.elapsed,
        false => Duration::from_secs(phase.record.measured_seconds()),
    };
    PhaseReport {
        name: config.name.clone(),
        judged: config.judged,
        start_s: phase.start.since(load.began().unwrap_or_default()).as_secs_f64(),
        elapsed_s: phase.elapsed.as_secs_f64(),
        measured_s: measured_time.as_secs_f64(),
        bound: config.bound.map(|bound| bound.to_string()),
        clients: Clients {
            bound: phase.standings.bound,
            holding: phase.standings.holding,
            done: phase.standings.done,
        },
        connections: Connections::of(&phase.record, &phase.samples),
        messages: Messages {
            polls: tally.polls,
            polls_acked: count(Timed::Poll),
            manifests: count(Timed::Assignment) + count(Timed::Push) + tally.unasked_manifests,
            manifests_repeated: tally.repeated_manifests,
            reports: tally.reports,
            reports_acked: count(Timed::Report),
            fetched_bytes: tally.fetched_bytes,
            leaves: tally.leaves,
            returns: tally.returns,
            misdirected: tally.misdirected,
        },
        latencies: timed.clone().map(|what| (what, measured.quantiles(what))).collect(),
        percentiles: measured.by_percentile(),
        failures: tally
            .failures
            .iter()
            .map(|((place, why), count)| (format!("{place}: {why}"), *count))
            .collect(),
        peers: phase.peers.clone(),
        remarks: remarks(config, phase, checked),
        constraint: constraint(phase, &punctuality, &phase.samples),
        punctuality,
    }
}

/// Whether the generator kept to its own schedule well enough for its figures to count.
/// Without a bound of its own a phase has to do with its patience.
pub(crate) fn punctuality(bound: Option<Bound>, patience: Duration, phase: &Phase) -> Punctuality {
    let limit = bound.map_or(patience, |bound| bound.limit);
    let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let slip = phase.record.measured().latencies.quantiles(Timed::Slip);
    let (p99_allowed_us, max_allowed_us) = (us(limit / SLIP_SHARE), us(limit));
    Punctuality {
        valid: slip.p99_us <= p99_allowed_us.max(1) && slip.max_us <= max_allowed_us,
        slip_p99_us: slip.p99_us,
        slip_max_us: slip.max_us,
        p99_allowed_us,
        max_allowed_us,
    }
}

/// Whether the master's inbox grew in the part that is judged. Only an even load can tell: one
/// that comes at once fills it, whatever the master carries.
#[expect(clippy::cast_precision_loss, reason = "a rate is judged to a percent")]
pub(super) fn backlog(config: &PhaseConfig, phase: &Phase) -> Option<Backlog> {
    let Until::Over(_) = config.until else { return None };
    let length = config.work.length.saturating_sub(config.cool_down.unwrap_or_default());
    let (from, to) = (phase.start + config.warm_up, phase.start + length);
    let acked = phase.record.whole().latencies.count(Timed::Report) as f64;
    let offered = acked / phase.elapsed.as_secs_f64().max(1.0);
    Backlog::during(&phase.samples, from, to, offered)
}

/// What was seen of the master that its user should know, whether the goal was reached or not.
fn remarks(config: &PhaseConfig, phase: &Phase, checked: &Checked) -> Vec<String> {
    let stalls = Stalls::between(&phase.samples).map(|stalls| stalls.to_string());
    let backlog = backlog(config, phase).map(|backlog| match checked {
        Checked::Unanswered(LoadError::InboxStuck { left, .. }) => {
            format!("{backlog} and does not empty: {left} are left")
        }
        _ => backlog.to_string(),
    });
    let restarts = warnings::restarts(&phase.samples, phase.restarts);
    let warned = warnings::during(&phase.samples);
    let ends = phase.samples.first().zip(phase.samples.last());
    let stolen = ends.and_then(|(first, last)| last.stolen.share_since(&first.stolen));
    let stolen = stolen.map(Stolen::told);
    stalls.into_iter().chain(backlog).chain(restarts).chain(warned).chain(stolen).collect()
}

/// Which resource gave out in a phase, or would.
pub(crate) fn constraint(
    phase: &Phase,
    punctuality: &Punctuality,
    looks: &[Sample],
) -> Option<Constraint> {
    let rows = phase.record.rows();
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
    constraint::judge(looks, own, processors)
}

/// What is asked of one phase.
fn phase_checks(
    config: &PhaseConfig,
    phase: &Phase,
    report: &PhaseReport,
    earlier: &[PhaseReport],
    load: &Load<'_>,
) -> Vec<Check> {
    let (done, all) = (report.clients.done, load.clients());
    let failed = |what: &str, outcome, detail: String| Check {
        phase: Some(config.name.clone()),
        what: what.to_owned(),
        outcome,
        detail,
    };
    let held = |what: &str| failed(what, Outcome::Reached, String::new());
    let mut checks = Vec::new();
    let what = "every client reaches the goal";
    checks.push(if phase.interrupted {
        failed(what, Outcome::Interrupted, format!("interrupted: {done} of {all} clients are done"))
    } else if done >= all {
        held(what)
    } else if let Err(error) = Target::ask(load.target.addr) {
        // A master that has gone is another matter than one that is slow.
        let detail = format!("the master is gone: {done} of {all} clients are done; {error}");
        failed(what, Outcome::Unreachable, detail)
    } else {
        failed(what, Outcome::Missed, format!("missed: {done} of {all} clients are done"))
    });
    let what = "no bad peer gets what is meant for a client";
    let leaked: u64 = phase.peers.iter().map(|peers| peers.leaked).sum();
    match leaked {
        0 if phase.peers.is_empty() => {}
        0 => checks.push(held(what)),
        n => checks.push(failed(
            what,
            Outcome::Violated,
            format!("VIOLATED: bad peers were sent {n} messages that are meant for clients"),
        )),
    }
    if !config.judged {
        return checks;
    }
    let what = PUNCTUAL;
    checks.push(match report.punctuality.valid {
        true => held(what),
        false => failed(what, Outcome::Invalid, report.punctuality.to_string()),
    });
    if let Some(bound) = config.bound {
        let what = format!("latencies keep to {bound}");
        checks.push(match missed_bound(bound, phase) {
            None => held(&what),
            Some(missed) => failed(&what, Outcome::Missed, missed),
        });
    }
    let what = "the master stores what it takes";
    checks.push(match backlog(config, phase) {
        None => held(what),
        Some(_) => {
            let detail = "missed: the master stores less than it takes".to_owned();
            failed(what, Outcome::Missed, detail)
        }
    });
    if !config.bad_peers.is_empty() {
        let what = "no good client fails beside bad peers";
        let failures: u64 = report.failures.values().sum();
        checks.push(match failures {
            // Who leaves breaks off what is under way.
            _ if config.work.churn.is_some() || config.breaks_off() => held(what),
            0 => held(what),
            n => failed(
                what,
                Outcome::Missed,
                format!("missed: {n} failures of good clients beside bad peers"),
            ),
        });
    }
    if let Some(against) = &config.against {
        let what = format!("p99 within {} times that of {}", against.factor, against.phase);
        let worse = earlier
            .iter()
            .find(|report| report.name == against.phase)
            .and_then(|alone| worse_than(alone, report, against.factor));
        checks.push(match worse {
            None => held(&what),
            Some(missed) => failed(&what, Outcome::Missed, missed),
        });
    }
    // Why it was missed may stand there.
    for check in checks.iter_mut().filter(|check| check.outcome == Outcome::Missed) {
        for remark in &report.remarks {
            check.detail = format!("{}; {remark}", check.detail);
        }
    }
    checks
}

/// What is asked of what the master has stored and acked.
fn truth_checks(checked: &Checked, phases: &[Phase], kept: Option<&Path>) -> Vec<Check> {
    let check = |what: &str, outcome, detail: String| Check {
        phase: None,
        what: what.to_owned(),
        outcome,
        detail,
    };
    let stored = "every acked report is stored once and in order";
    let acked = "nothing is acked that was never sent";
    let false_acks: u64 = phases.iter().map(|phase| phase.record.whole().false_acks).sum();
    let leaked: u64 = phases.iter().map(|phase| phase.record.whole().leaked).sum();
    let own = "no client takes what is meant for another";
    let leaked = match leaked {
        0 => check(own, Outcome::Reached, String::new()),
        n => check(
            own,
            Outcome::Violated,
            format!("VIOLATED: clients took {n} messages that are meant for others"),
        ),
    };
    let false_acks = match false_acks {
        0 => check(acked, Outcome::Reached, String::new()),
        n => check(
            acked,
            Outcome::Violated,
            format!("VIOLATED: the master acked {n} times what was never sent to it"),
        ),
    };
    let mut checks = vec![false_acks, leaked];
    match checked {
        Checked::NotAsked => {}
        Checked::Truth(truth) if truth.holds() => {
            checks.push(check(stored, Outcome::Reached, String::new()));
        }
        Checked::Truth(truth) => checks.push(check(
            stored,
            Outcome::Violated,
            format!(
                "VIOLATED: of the acked reports {} are missing in the master's result store, {} are there twice, {} out of order, {} altered",
                truth.lost, truth.doubled, truth.disordered, truth.altered
            ),
        )),
        Checked::Interrupted => checks.push(check(
            stored,
            Outcome::Interrupted,
            "interrupted: acked and stored were not compared".to_owned(),
        )),
        Checked::Unanswered(error) => {
            let outcome = match error.exit() {
                Exit::Unreachable => Outcome::Unreachable,
                _ => Outcome::Missed,
            };
            checks.push(check(stored, outcome, format!("acked and stored were not compared: {error}")));
        }
    }
    // Whoever wants to know why finds the evidence there.
    for check in checks.iter_mut().filter(|check| check.outcome != Outcome::Reached) {
        if let Some(dir) = kept {
            check.detail =
                format!("{}; the master's files are kept in {}", check.detail, dir.display());
        }
    }
    checks
}

/// The first kind of message that did not keep to the bound.
fn missed_bound(bound: Bound, phase: &Phase) -> Option<String> {
    let latencies = &phase.record.measured().latencies;
    let found =
        |what| Duration::from_micros(latencies.histogram(what).value_at_quantile(bound.quantile));
    let judged = Timed::ALL.into_iter().filter(|what| *what != Timed::Slip);
    let missed = judged.map(|what| (what, found(what))).find(|(_, found)| *found > bound.limit);
    missed.map(|(what, found)| {
        format!("missed: {bound} was asked, {what} took {:.3} s", found.as_secs_f64())
    })
}

/// The first kind of message whose p99 is too many times that of another phase.
fn worse_than(alone: &PhaseReport, beside: &PhaseReport, factor: f64) -> Option<String> {
    let judged = Timed::ALL.into_iter().filter(|what| *what != Timed::Slip);
    judged.into_iter().find_map(|what| {
        let (a, b) = (alone.latencies.get(&what)?.p99_us, beside.latencies.get(&what)?.p99_us);
        #[expect(clippy::cast_precision_loss, reason = "latencies have three digits")]
        let times = b as f64 / a.max(1) as f64;
        (times > factor).then(|| {
            format!(
                "missed: the p99 of {what} was {} beside {} and {} in {}: {times:.1} times, {factor} were allowed",
                duration_us(b),
                beside.name,
                duration_us(a),
                alone.name
            )
        })
    })
}

fn achievement(scenario: &Scenario, phases: &[Phase], clients: u64) -> String {
    let what = match scenario.name.as_str() {
        "storm" => "bound, polled, got their manifest and reported",
        "push" => "were pushed the new revision and have reported it",
        "release" => "fetched the new version, started again and are bound",
        "cold-start" => "are bound again",
        _ => {
            let mut judged = scenario.phases.iter().filter(|phase| phase.judged);
            let all_bound = phases.last().is_some_and(|last| last.standings.bound == clients);
            return match judged.find_map(|phase| phase.work.goal.revision()) {
                Some(revision) => {
                    format!("all {clients} clients hold revision {revision} and have reported it")
                }
                None if all_bound => {
                    format!("all {clients} clients are bound, and all that they sent was acked")
                }
                None => format!("all that {clients} clients sent was acked"),
            };
        }
    };
    format!("all {clients} clients {what}")
}
