//! One run over a catalog: independent resources side by side, each checked before it is
//! applied, a failed one skipping what requires it.

use super::graph::{Graph, GraphError, Schedule, Step};
use crate::provider::command::micros_since;
use crate::resource::{Change, Context, ResourceError, Settled, Spec};
use engine::clock::{self, Clock, SystemClock};
use engine::ids::{BlobHash, Revision};
use engine::release::{ArchivedCatalog, ArchivedResource};
use engine::wire::message::{Report, ResourceResult, cut, outcome};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Stack of a worker; nothing in a provider recurses.
const STACK_SIZE: usize = 256 * 1024;

/// The requirements of a catalog, checked.
///
/// # Errors
/// [`GraphError`]: nothing of such a catalog may be applied.
pub fn graph_of(catalog: &ArchivedCatalog) -> Result<Graph, GraphError> {
    let resources = catalog.resources.iter();
    Graph::new(resources.map(|r| r.requires.iter().map(|q| q.to_native()).collect()).collect())
}

/// `KIND NAME` of a resource, for people.
#[must_use]
pub fn shown_id(resource: &ArchivedResource) -> String {
    String::from_utf8_lossy(&id_of(resource)).into_owned()
}

fn id_of(resource: &ArchivedResource) -> Vec<u8> {
    [resource.kind.as_str().as_bytes(), b" ", resource.name.as_slice()].concat()
}

/// A graph's error with the names of its resources.
#[must_use]
pub fn explain(error: &GraphError, catalog: &ArchivedCatalog) -> String {
    let resources = &catalog.resources;
    let name = |r: &u32| resources.get(*r as usize).map_or_else(|| r.to_string(), shown_id);
    match error {
        GraphError::Cycle(cycle) => {
            let names: Vec<String> = cycle.iter().map(name).collect();
            format!(
                "nothing is applied: resources require each other in a circle: {}; break it in the policy and publish again",
                names.join(" -> ")
            )
        }
        GraphError::NoSuchResource { resource, .. } => {
            format!(
                "nothing is applied: {} requires what does not exist; publish again",
                name(resource)
            )
        }
    }
}

/// What is to be run.
pub struct Run<'a> {
    /// The resources.
    pub catalog: &'a ArchivedCatalog,
    /// Their requirements.
    pub graph: &'a Graph,
    /// Which of them; `None`: all.
    pub selected: Option<&'a BTreeSet<u32>>,
    /// Resources that are known to block what requires them, and are not looked at again now.
    pub blocked: &'a BTreeSet<u32>,
    /// Resources at once; at least one.
    pub parallel: usize,
    /// The revision, for the report.
    pub revision: Revision,
    /// One of `engine::wire::message::trigger`, for the report.
    pub trigger: u8,
    /// Whether what has not begun is not wanted any more.
    pub is_superseded: &'a (dyn Fn() -> bool + Sync),
}

/// What a run did.
#[derive(Debug)]
pub struct RunDone {
    /// For the master.
    pub report: Report,
    /// The resource of each of its results.
    pub resources: Vec<u32>,
    /// In a dry run: the differences, in the catalog's order.
    pub diffs: Vec<String>,
    /// Blobs that must be fetched again.
    pub to_fetch: BTreeSet<BlobHash>,
    /// Resources that failed or were not done, for whatever reason: those that a later run
    /// must look at again.
    pub unsettled: BTreeSet<u32>,
    /// Of these, those that were skipped, each with the one that it requires and that failed.
    pub blocked: BTreeMap<u32, u32>,
    /// Resources that were run to their end.
    pub settled: BTreeSet<u32>,
    /// Every resource that was asked for was looked at, and none was interrupted: neither a stop
    /// nor a newer assignment cut the run short.
    pub to_end: bool,
}

impl RunDone {
    /// How many resources had this outcome; for `UNCHANGED` those only counted.
    #[must_use]
    pub fn count(&self, outcome: u8) -> usize {
        match outcome {
            outcome::UNCHANGED => {
                (self.report.checked as usize).saturating_sub(self.report.results.len())
            }
            _ => self.report.results.iter().filter(|r| r.outcome == outcome).count(),
        }
    }

    /// Says nothing of these any more: they were not looked at to an end.
    pub fn forget(&mut self, resources: &BTreeSet<u32>) {
        let mut kept = self.resources.iter().map(|r| !resources.contains(r));
        self.report.results.retain(|_| kept.next().unwrap_or(true));
        self.resources.retain(|r| !resources.contains(r));
        self.unsettled.retain(|r| !resources.contains(r));
    }

    /// Whether every resource is as wanted, or was left alone on purpose.
    #[must_use]
    pub fn is_converged(&self) -> bool {
        self.unsettled.is_empty()
    }
}

/// How a run gets on.
#[derive(Clone, Copy)]
pub enum Stage<'a> {
    /// A resource is looked at, from now on.
    Begun {
        /// Which.
        number: u32,
        /// What it is.
        resource: &'a ArchivedResource,
    },
    /// It is done, or the run begins.
    Done {
        /// Which; `None` at the beginning.
        number: Option<u32>,
        /// Whether it is as wanted now, or was left alone on purpose.
        settled: bool,
        /// Resources that are done.
        done: usize,
        /// Of how many.
        total: usize,
    },
}

/// Told of each stage, by the thread that has reached it.
pub type Progress<'a> = &'a (dyn Fn(Stage<'_>) + Sync);

struct Shared<'g> {
    schedule: Schedule<'g>,
    results: BTreeMap<u32, (ResourceResult, String)>,
    unsettled: BTreeSet<u32>,
    blocked: BTreeMap<u32, u32>,
    settled: BTreeSet<u32>,
    to_fetch: BTreeSet<BlobHash>,
    checked: u32,
    busy_us: u64,
    idle_workers: usize,
    stopped: bool,
}

struct Workers<'a, 'c> {
    run: &'a Run<'a>,
    context: &'a Context<'c>,
    clock: SystemClock,
    shared: Mutex<Shared<'a>>,
    /// Something became ready, or all is done.
    changed: Condvar,
    total: usize,
    progress: Progress<'a>,
}

impl Run<'_> {
    /// Runs to the end, or until the stop switch is pulled, or something newer is there, and
    /// what runs is done.
    #[must_use]
    pub fn run(&self, context: &Context<'_>, progress: Progress<'_>) -> RunDone {
        let clock = SystemClock::start();
        let (started, started_ms) = (clock.now().at, clock::wall().0);
        let selected: Option<Vec<bool>> = self
            .selected
            .map(|s| (0_u32..).take(self.graph.len()).map(|r| s.contains(&r)).collect());
        let total = self.selected.map_or(self.graph.len(), BTreeSet::len);
        let workers = Workers {
            run: self,
            context,
            clock,
            shared: Mutex::new(Shared {
                schedule: self.graph.schedule(selected.as_deref()),
                results: BTreeMap::new(),
                unsettled: BTreeSet::new(),
                blocked: BTreeMap::new(),
                settled: BTreeSet::new(),
                to_fetch: BTreeSet::new(),
                checked: 0,
                busy_us: 0,
                idle_workers: 0,
                stopped: false,
            }),
            changed: Condvar::new(),
            total,
            progress,
        };
        progress(Stage::Done { number: None, settled: false, done: 0, total });
        workers.work(self.parallel.max(1).min(total.max(1)));
        let shared = workers.shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        let left = total.saturating_sub(shared.checked as usize);
        let is_cut = shared.stopped && left > 0;
        let note = match is_cut {
            true if context.stop.is_pulled() => {
                format!("{}{left} resources were not looked at", cut::STOPPED)
            }
            true => format!("{}{left} resources were not looked at", cut::SUPERSEDED),
            false => String::new(),
        };
        let mut unsettled = shared.unsettled;
        if shared.stopped {
            let all = (0_u32..).take(self.graph.len());
            let chosen = all.filter(|r| self.selected.is_none_or(|s| s.contains(r)));
            unsettled.extend(chosen.filter(|r| !shared.settled.contains(r)));
        }
        let resources = shared.results.keys().copied().collect();
        let (results, diffs): (Vec<_>, Vec<_>) = shared.results.into_values().unzip();
        let is_interrupted = |r: &ResourceResult| r.outcome == outcome::INTERRUPTED;
        let to_end = !is_cut && !results.iter().any(is_interrupted);
        RunDone {
            report: Report {
                revision: self.revision.0,
                trigger: self.trigger,
                started_ms,
                duration_us: micros_since(&clock, started),
                busy_us: shared.busy_us,
                checked: shared.checked,
                results,
                note,
            },
            resources,
            diffs: diffs.into_iter().filter(|d| !d.is_empty()).collect(),
            to_fetch: shared.to_fetch,
            unsettled,
            blocked: shared.blocked,
            settled: shared.settled,
            to_end,
        }
    }
}

impl<'a> Workers<'a, '_> {
    fn lock(&self) -> MutexGuard<'_, Shared<'a>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The calling thread is the first worker: a run of one resource starts no thread.
    fn work(&self, parallel: usize) {
        std::thread::scope(|scope| {
            for number in 1..parallel {
                let builder = std::thread::Builder::new()
                    .name(format!("resource-{number}"))
                    .stack_size(STACK_SIZE);
                // With fewer threads than allowed the run only takes longer.
                if let Err(e) = builder.spawn_scoped(scope, || self.worker()) {
                    log::warn!("cannot start another thread: {e}");
                    break;
                }
            }
            self.worker();
        });
    }

    fn worker(&self) {
        let mut shared = self.lock();
        loop {
            if self.context.stop.is_pulled() || (self.run.is_superseded)() {
                shared.stopped = true;
            }
            if shared.stopped || shared.schedule.is_finished() {
                self.changed.notify_all();
                return;
            }
            let Some(step) = shared.schedule.poll_step() else {
                shared.idle_workers += 1;
                shared = self.changed.wait(shared).unwrap_or_else(PoisonError::into_inner);
                shared.idle_workers -= 1;
                continue;
            };
            drop(shared);
            let done = self.take_step(step);
            shared = self.lock();
            let ready_before = shared.schedule.ready_len();
            self.on_done(&mut shared, step, done);
            let more = shared.schedule.ready_len() > ready_before;
            if (more && shared.idle_workers > 0) || shared.schedule.is_finished() {
                self.changed.notify_all();
            }
            (self.progress)(Stage::Done {
                number: Some(step.resource),
                settled: shared.settled.contains(&step.resource),
                done: shared.checked as usize,
                total: self.total,
            });
        }
    }

    fn take_step(&self, step: Step) -> StepDone {
        let Some(resource) = self.run.catalog.resources.get(step.resource as usize) else {
            return StepDone::internal("the resource is not in the catalog");
        };
        let known = resource.requires.iter().map(|q| q.to_native());
        let known = known
            .filter(|q| self.run.blocked.contains(q))
            .find(|q| self.run.selected.is_some_and(|selected| !selected.contains(q)));
        if let Some(by) = step.blocked_by.or(known) {
            let resources = &self.run.catalog.resources;
            let cause = resources.get(by as usize).map_or_else(String::new, shown_id);
            return StepDone::Blocked {
                by,
                why: format!("skipped: requires {cause}, which failed"),
            };
        }
        (self.progress)(Stage::Begun { number: step.resource, resource });
        let start = self.clock.now().at;
        let settle = || Ok(Spec::read(resource)?.settle(self.context));
        let settled = catch_unwind(AssertUnwindSafe(settle)).unwrap_or_else(|_| {
            log::error!("a panic in {}: please report it", shown_id(resource));
            Ok(Err(ResourceError::CommandEnd {
                what: "drover-client itself",
                end: "failed on this resource; its log says more, please report it".to_owned(),
                output: Vec::new(),
            }))
        });
        let settled = settled.unwrap_or_else(Err);
        StepDone::Settled(settled, micros_since(&self.clock, start))
    }

    fn on_done(&self, shared: &mut Shared<'a>, step: Step, done: StepDone) {
        let resource = step.resource;
        shared.checked += 1;
        let id = match self.run.catalog.resources.get(resource as usize) {
            Some(archived) => id_of(archived),
            None => Vec::new(),
        };
        let mut result = ResourceResult {
            id,
            outcome: outcome::SKIPPED,
            before: String::new(),
            after: String::new(),
            error: String::new(),
            duration_us: 0,
            output: Vec::new(),
        };
        let mut diff = String::new();
        let mut blocks = false;
        match done {
            StepDone::Blocked { by, why } => {
                shared.blocked.insert(resource, by);
                result.error = why;
                blocks = true;
            }
            StepDone::Settled(settled, duration_us) => {
                result.duration_us = duration_us;
                shared.busy_us += duration_us;
                match settled {
                    Ok(Settled::Unchanged) => {
                        shared.settled.insert(resource);
                        shared.schedule.handle_done(resource, false);
                        return;
                    }
                    Ok(Settled::Changed(change)) => {
                        let Change { before, after, output, diff: shown } = change;
                        result.outcome = outcome::CHANGED;
                        (result.before, result.after, result.output) = (before, after, output);
                        diff = shown;
                    }
                    Ok(Settled::Skipped(why)) => result.error = why,
                    Err(error) => {
                        blocks = true;
                        shared.to_fetch.extend(error.to_fetch());
                        result.outcome = match error {
                            ResourceError::Interrupted { .. } => outcome::INTERRUPTED,
                            _ => outcome::FAILED,
                        };
                        result.error = error.to_string();
                        if let ResourceError::Interrupted { output }
                        | ResourceError::CommandEnd { output, .. } = error
                        {
                            result.output = output;
                        }
                    }
                }
            }
        }
        match blocks {
            true => shared.unsettled.insert(resource),
            false => shared.settled.insert(resource),
        };
        shared.results.insert(resource, (result, diff));
        shared.schedule.handle_done(resource, blocks);
    }
}

enum StepDone {
    Blocked { by: u32, why: String },
    Settled(Result<Settled, ResourceError>, u64),
}

impl StepDone {
    fn internal(what: &'static str) -> Self {
        let end = "failed".to_owned();
        Self::Settled(Err(ResourceError::CommandEnd { what, end, output: Vec::new() }), 0)
    }
}

#[cfg(test)]
mod tests;
