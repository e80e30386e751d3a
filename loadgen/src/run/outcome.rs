//! The judgement of a run, and its report.

use super::{Checked, Run, Target};
use crate::config::Workload;
use crate::generator;
use crate::latency::Timed;
use crate::report::{Clients, Generator, Messages, Outcome, Report, SCHEMA};
use crate::role::VERSION;
use std::collections::BTreeMap;
use std::time::Duration;

/// Clients that are named in a report.
const EXAMPLES_MAX: usize = 5;

impl Run<'_> {
    pub(super) fn report(&self, elapsed: Duration, checked: Checked) -> Report {
        let (outcome, summary) = self.judge(&checked);
        let swarm = self.reactor.host();
        let tally = swarm.tally();
        let standings = tally.standings;
        let count = |what| tally.latencies.count(what);
        let unfinished_first =
            swarm.unfinished().take(EXAMPLES_MAX).map(ToString::to_string).collect();
        let timed = Timed::ALL.into_iter().filter(|what| count(*what) > 0);
        let resident_bytes = generator::resident_bytes();
        let lag = self.reactor.metrics().lag.quantile(0.99);
        let taken = resident_bytes.saturating_sub(self.resident_before);
        Report {
            schema: SCHEMA,
            version: VERSION,
            workload: self.config.workload.name(),
            outcome,
            summary,
            master: self.config.master.to_string(),
            master_version: self.target.version.clone(),
            started_ms: self.began.wall.0,
            elapsed_s: elapsed.as_secs_f64(),
            seed: self.config.seed,
            clients: Clients {
                all: swarm.len() as u64,
                bound: standings.bound,
                holding: standings.holding,
                done: standings.done,
                unfinished_first,
            },
            messages: Messages {
                polls: tally.polls,
                polls_acked: count(Timed::Poll),
                manifests: count(Timed::Assignment) + count(Timed::Push) + tally.unasked_manifests,
                manifests_repeated: tally.repeated_manifests,
                reports: tally.reports,
                reports_acked: count(Timed::Report),
            },
            latencies: timed.map(|what| (what, tally.latencies.quantiles(what))).collect(),
            failures: tally
                .failures
                .iter()
                .map(|((place, why), count)| (format!("{place}: {why}"), *count))
                .collect::<BTreeMap<_, _>>(),
            truth: match checked {
                Checked::Truth(truth) => Some(truth),
                _ => None,
            },
            generator: Generator {
                descriptors: self.descriptors as u64,
                cpu_s: generator::cpu_s(),
                resident_bytes,
                bytes_per_client: taken / swarm.len().max(1) as u64,
                loop_lag_p99_us: u64::try_from(lag.as_micros()).unwrap_or(u64::MAX),
            },
        }
    }

    fn judge(&self, checked: &Checked) -> (Outcome, String) {
        let swarm = self.reactor.host();
        let (done, all) = (swarm.tally().standings.done, swarm.len() as u64);
        if let Checked::Truth(truth) = checked
            && !truth.holds()
        {
            let summary = format!(
                "VIOLATED: {} acked reports are missing in the master's result store, {} are there twice",
                truth.lost, truth.doubled
            );
            return (Outcome::Violated, summary);
        }
        if self.is_interrupted() || matches!(checked, Checked::Interrupted) {
            return (
                Outcome::Interrupted,
                format!("interrupted: {done} of {all} clients are done"),
            );
        }
        if done < all {
            // A master that has gone is another matter than one that is slow.
            return match Target::ask(self.config.master) {
                Ok(_) => (Outcome::Missed, format!("missed: {done} of {all} clients are done")),
                Err(error) => (
                    Outcome::Unreachable,
                    format!("the master is gone: {done} of {all} clients are done; {error}"),
                ),
            };
        }
        match checked {
            Checked::Unanswered(error) => {
                let outcome = match error.exit() {
                    crate::error::Exit::Unreachable => Outcome::Unreachable,
                    _ => Outcome::Missed,
                };
                (outcome, format!("the clients are done, but not checked: {error}"))
            }
            _ => (Outcome::Reached, format!("all {all} clients {}", self.achievement())),
        }
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
