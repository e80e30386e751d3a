//! A run under way, how far it is, and what is put right beside it meanwhile.

use super::applier::{Applier, Ready, Scope};
use super::handle::{Shared, lock};
use super::status::{Action, Activity};
use crate::executor::graph::Graph;
use crate::executor::run::{RunDone, Stage, shown_id};
use engine::clock;
use engine::wire::message::{outcome, trigger};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where a resource stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The run has no say in it: it is not part of it, or was put right beside it since.
    Outside,
    /// The run has still to look at it.
    Open,
    /// The run could not make it as wanted, or did not try.
    Failed,
    /// The run has made it as wanted.
    Settled,
}

/// Where each resource stands.
#[derive(Debug)]
struct Places {
    all: Vec<Place>,
    /// Those that drifted while something was open, and what bars them: when the run has settled
    /// one, it is told.
    awaited: BTreeSet<u32>,
}

impl Places {
    fn new(len: usize, selected: Option<&BTreeSet<u32>>) -> Self {
        let is_part = |r: &u32| selected.is_none_or(|selected| selected.contains(r));
        let place = |r| if is_part(&r) { Place::Open } else { Place::Outside };
        Self { all: (0..).take(len).map(place).collect(), awaited: BTreeSet::new() }
    }

    /// Whether it may be put right from now on, and that was awaited.
    fn handle_done(&mut self, resource: u32, settled: bool) -> bool {
        self.put(resource, if settled { Place::Settled } else { Place::Failed });
        settled && self.awaited.remove(&resource)
    }

    fn put(&mut self, resource: u32, place: Place) {
        if let Some(at) = self.all.get_mut(resource as usize) {
            *at = place;
        }
    }

    fn is_settled(&self, resource: u32) -> bool {
        self.all.get(resource as usize) == Some(&Place::Settled)
    }

    /// Those of some drifted resources that may be put right beside the run: neither they nor
    /// anything that they require is open or failed. The others are awaited.
    fn poll_free(&mut self, drifted: BTreeSet<u32>, graph: &Graph) -> BTreeSet<u32> {
        let open: Vec<bool> =
            self.all.iter().map(|p| matches!(p, Place::Open | Place::Failed)).collect();
        let barred = graph.with_dependents(open.clone());
        let is_free = |r: &u32| barred.get(*r as usize) == Some(&false);
        let (free, left): (BTreeSet<u32>, BTreeSet<u32>) = drifted.into_iter().partition(is_free);
        let left = (0..).take(self.all.len()).map(|r| left.contains(&r)).collect();
        let needed = graph.with_requirements(left).into_iter().zip(open);
        let awaited = (0..).zip(needed).filter(|(_, (needed, open))| *needed && *open);
        self.awaited = awaited.map(|(r, _)| r).collect();
        free
    }
}

/// A run under way.
pub(super) struct Course<'a> {
    applier: &'a Applier,
    shared: &'a Shared,
    pub(super) ready: &'a Ready,
    selected: Option<BTreeSet<u32>>,
    places: Mutex<Places>,
    ended: AtomicBool,
}

/// Tells the enforcer that its run has ended, however it did.
struct TellEnd<'a>(&'a Course<'a>);

impl Drop for TellEnd<'_> {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Release);
        self.0.shared.wake();
    }
}

impl<'a> Course<'a> {
    /// One of these resources; `None`: of all.
    pub(super) fn new(
        applier: &'a Applier,
        shared: &'a Shared,
        ready: &'a Ready,
        selected: Option<&BTreeSet<u32>>,
    ) -> Self {
        let selected = selected.map(|selected| ready.with_lost_parents(selected));
        let places = Mutex::new(Places::new(ready.graph.len(), selected.as_ref()));
        Self { applier, shared, ready, selected, places, ended: AtomicBool::new(false) }
    }

    /// The run itself, from its begin to its end. `blocked` are resources that failed before.
    pub(super) fn run(&self, blocked: &BTreeSet<u32>, trigger: u8) -> RunDone {
        let _told = TellEnd(self);
        let parallel = self.applier.config.parallel;
        self.apply(self.selected.as_ref(), blocked, parallel, trigger, &|stage| {
            self.show(stage);
            self.follow(stage);
        })
    }

    /// Has what the run did say nothing of resources that were put right beside it: that was the
    /// later look.
    pub(super) fn outdate(&self, done: &mut RunDone) {
        let places = lock(&self.places);
        done.settled.retain(|r| places.is_settled(*r));
    }

    /// Puts right what has drifted beside the run: on this thread alone, and only what the run
    /// does not work on. `failed` are resources that failed before the run.
    pub(super) fn heal(&self, drifted: &BTreeSet<u32>, failed: &BTreeSet<u32>) -> RunDone {
        let drifted = &self.ready.with_lost_parents(drifted);
        let blocked = {
            let mut places = lock(&self.places);
            let blocked = failed.iter().copied().filter(|r| !places.is_settled(*r)).collect();
            drifted.iter().for_each(|r| places.put(*r, Place::Outside));
            blocked
        };
        self.apply(Some(drifted), &blocked, 1, trigger::DRIFT, &|stage| self.show(stage))
    }

    /// Those of a run after drift that failed since what is above them was removed meanwhile, and
    /// what waits for them: it says nothing of them, and they are to be looked at once more.
    pub(super) fn take_overtaken(&self, done: &mut RunDone) -> BTreeSet<u32> {
        let results = done.resources.iter().zip(&done.report.results);
        let failed = results.filter(|(_, r)| r.outcome == outcome::FAILED).map(|(r, _)| *r);
        let is_overtaken = |resource: &u32| {
            let lost = self.ready.with_lost_parents(&[*resource].into());
            lost.len() > 1 && lost.iter().all(|r| r == resource || !done.unsettled.contains(r))
        };
        let mut overtaken: BTreeSet<u32> = failed.filter(is_overtaken).collect();
        loop {
            let waits = |(r, by): &(&u32, &u32)| overtaken.contains(by) && !overtaken.contains(r);
            let waiting: Vec<u32> = done.blocked.iter().filter(waits).map(|(r, _)| *r).collect();
            if waiting.is_empty() {
                break;
            }
            overtaken.extend(waiting);
        }
        done.forget(&overtaken);
        overtaken
    }

    fn apply(
        &self,
        selected: Option<&BTreeSet<u32>>,
        blocked: &BTreeSet<u32>,
        parallel: usize,
        trigger: u8,
        progress: &(dyn Fn(Stage<'_>) + Sync),
    ) -> RunDone {
        let is_superseded = || self.is_superseded();
        let scope = Scope {
            selected,
            blocked,
            parallel,
            dry_run: false,
            trigger,
            is_superseded: &is_superseded,
        };
        self.applier.run(self.ready, &scope, &self.shared.stop, progress)
    }

    fn is_superseded(&self) -> bool {
        lock(&self.shared.wishes).assigned.is_some()
    }

    /// Has `status` show what is in hand.
    fn show(&self, stage: Stage<'_>) {
        match stage {
            Stage::Begun { number, resource } => {
                let action = Action { id: shown_id(resource), since_ms: clock::wall().0 };
                lock(&self.shared.status).actions.insert(number, action);
            }
            Stage::Done { number, .. } => {
                number.map(|number| lock(&self.shared.status).actions.remove(&number));
            }
        }
    }

    /// Notes how far the run is.
    fn follow(&self, stage: Stage<'_>) {
        let Stage::Done { number, settled, done: now_done, total: of } = stage else { return };
        if let Activity::Running { done, total, .. } = &mut lock(&self.shared.status).activity {
            (*done, *total) = (now_done, of);
        }
        if number.is_some_and(|number| lock(&self.places).handle_done(number, settled)) {
            self.shared.wake();
        }
    }

    /// Whether the run has ended.
    pub(super) fn is_over(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Whether nothing is known to be not as wanted: the run has met no failure, it has put right
    /// what failed before, and what is left of it was not told to have drifted, and is no command,
    /// which may take long.
    pub(super) fn is_well(&self, failed: &BTreeSet<u32>) -> bool {
        let places = lock(&self.places);
        let is_well = |(resource, place): (u32, &Place)| match place {
            Place::Outside | Place::Settled => true,
            Place::Open => self.selected.is_none() && !self.ready.commands.contains(&resource),
            Place::Failed => false,
        };
        failed.iter().all(|r| places.is_settled(*r)) && (0..).zip(&places.all).all(is_well)
    }

    /// Those of some drifted resources that may be put right at present. A command waits for the
    /// end of the run: it would hold up all else.
    pub(super) fn poll_free(&self, drifted: &BTreeSet<u32>) -> BTreeSet<u32> {
        if self.shared.stop.is_pulled() || self.is_superseded() {
            return BTreeSet::new();
        }
        let brief = drifted - &self.ready.commands;
        match brief.is_empty() {
            true => brief,
            false => lock(&self.places).poll_free(brief, &self.ready.graph),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_run_does_not_work_on_is_free() {
        // 0 ← 1 ← 2, and 3 for itself; the run is one of 1 and 3.
        let graph = Graph::new(vec![vec![], vec![0], vec![1], vec![]]).unwrap();
        let mut places = Places::new(4, Some(&[1, 3].into()));
        let all = || BTreeSet::from([0, 1, 2, 3, 9]);
        assert_eq!(places.poll_free(all(), &graph), [0].into(), "2 comes after 1");
        assert!(places.handle_done(3, true), "it is awaited");
        assert!(!places.handle_done(3, true), "and told once");
        assert_eq!(places.poll_free(all(), &graph), [0, 3].into());
        assert!(!places.handle_done(1, false));
        assert_eq!(places.poll_free(all(), &graph), [0, 3].into(), "1 has failed");
        assert!(places.handle_done(1, true));
        assert_eq!(places.poll_free(all(), &graph), [0, 1, 2, 3].into());
        places.put(3, Place::Outside);
        assert!(places.is_settled(1) && !places.is_settled(3) && !places.is_settled(0));
        // What bars one that drifted is awaited, drifted or not.
        let mut places = Places::new(4, Some(&[0, 3].into()));
        assert!(places.poll_free([2].into(), &graph).is_empty());
        assert!(!places.handle_done(3, true) && places.handle_done(0, true));
        assert_eq!(places.poll_free([2].into(), &graph), [2].into());
        // All are part of a run of all.
        assert!(Places::new(4, None).poll_free(all(), &graph).is_empty());
    }
}
