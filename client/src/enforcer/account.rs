//! What the enforcer makes of a run that is done, or cannot begin, and tells of it.

use super::applier::ApplyError;
use super::event::EnforcerEvent;
use super::handle::lock;
use super::stuck::Stuck;
use super::{Enforcer, Extent};
use crate::executor::run::RunDone;
use crate::policy::AssignedManifest;
use engine::clock::{self, Clock};
use engine::time::Instant;
use engine::wire::message::{Report, outcome, trigger};
use std::collections::BTreeSet;
use std::time::Duration;

/// What a run says that looks at everything since events were lost.
const EVENTS_LOST: &str = "more changed at once than the system tells of (fs.inotify.max_queued_events), so all that is watched is looked at again";
/// It is said once in this time, however often it happens.
const LOSS_TOLD_EVERY: Duration = Duration::from_secs(60);

impl<F: Fn(EnforcerEvent)> Enforcer<F> {
    pub(super) fn on_done(&mut self, mut done: RunDone, extent: Extent<'_>) {
        let now = self.clock.now().at;
        let interval = self.applier.config.check_interval;
        let is_drift = done.report.trigger == trigger::DRIFT;
        let mut is_noted = false;
        if is_drift {
            let took = Duration::from_micros(done.report.duration_us);
            self.fights.handle_look(&done.settled, took / done.report.checked.max(1), now);
            is_noted = self.note_fights(&mut done, now) | self.note_loss(&mut done, now);
        }
        let Some(held) = &mut self.held else { return };
        held.unsettled.handle_run(&done, interval, now);
        let whole = matches!(extent, Extent::Whole);
        let beside = matches!(extent, Extent::Beside(_));
        held.is_known |= whole;
        let is_well = match extent {
            Extent::Beside(course) => held.is_known && course.is_well(held.unsettled.all()),
            _ => held.unsettled.all().is_empty(),
        };
        let fought_over = self.fights.words();
        let converged = is_well && fought_over.is_none();
        self.stuck.take_if(|_| whole);
        let stuck = self.waiting.as_ref().map(|(_, stuck)| stuck).or(self.stuck.as_ref());
        let failing = stuck.map(|stuck| &stuck.why).or(held.unsettled.first_failure());
        let failing = failing.cloned().or(fought_over);
        let again = held.needs_interval || held.is_blind;
        if whole || self.next_check.is_none() || !again {
            self.next_check = again.then(|| now + interval);
        }
        let unsettled = self.unsettled(BTreeSet::new()).len();
        for hash in &done.to_fetch {
            (self.on_event)(EnforcerEvent::BlobBroken(*hash));
        }
        let is_news = |o: u8| o != outcome::UNCHANGED && o != outcome::SKIPPED;
        let has_news =
            !is_drift || is_noted || done.report.results.iter().any(|r| is_news(r.outcome));
        let worth_telling = {
            let mut status = lock(&self.shared.status);
            status.unsettled = unsettled;
            // Who was told that something is missing learns that nothing is any more.
            let was_missing = status.last_run.as_ref().is_some_and(|last| !last.converged);
            let worth_telling = has_news || (converged && was_missing && !beside);
            if worth_telling {
                status.on_run(&done.report, converged);
            }
            worth_telling
        };
        if worth_telling {
            // A part that was run to its end says nothing of what another run left out.
            let to_end = is_well || (whole && done.to_end);
            let report = done.report;
            let finished =
                EnforcerEvent::RunFinished { report, converged, to_end, beside, failing };
            (self.on_event)(finished);
        }
    }

    /// Counts what had to be put right again, and says so where it does not end; whether it did.
    fn note_fights(&mut self, done: &mut RunDone, now: Instant) -> bool {
        let mut is_news = false;
        for (resource, result) in done.resources.iter().zip(&done.report.results) {
            let is_right = result.outcome == outcome::CHANGED;
            if is_right || result.outcome == outcome::FAILED {
                is_news |= self.fights.handle_heal(*resource, &result.id, is_right, now);
            }
        }
        if let Some(words) = self.fights.words().filter(|_| is_news) {
            add_note(&mut done.report.note, &words);
        }
        is_news
    }

    /// Says that events were lost, if they were; whether it did.
    fn note_loss(&mut self, done: &mut RunDone, now: Instant) -> bool {
        let was_told = self.loss_told.is_some_and(|at| now < at + LOSS_TOLD_EVERY);
        let is_news = std::mem::take(&mut self.pending.lost) && !was_told;
        if is_news {
            self.loss_told = Some(now);
            add_note(&mut done.report.note, EVENTS_LOST);
        }
        is_news
    }

    /// What is not as wanted, or will not stay so; what is held back may be among it.
    pub(super) fn unsettled(&self, held_back: BTreeSet<u32>) -> BTreeSet<u32> {
        let held = self.held.iter().flat_map(|held| held.unsettled.all().iter().copied());
        held.chain(self.fights.resources()).chain(held_back).collect()
    }

    /// What stands in the way from now on; `before` is what did so until now.
    pub(super) fn on_not_applied(
        &self,
        assigned: &AssignedManifest,
        trigger: u8,
        error: &ApplyError,
        before: Option<Stuck>,
    ) -> Stuck {
        let (now, interval) = (self.clock.now().at, self.applier.config.check_interval);
        let note = error.to_string();
        let (stuck, is_news) = Stuck::after(before, assigned.revision, &note, interval, now);
        if let ApplyError::Blob(blob) = error
            && let Some(hash) = blob.to_fetch()
        {
            (self.on_event)(EnforcerEvent::BlobBroken(hash));
        }
        if !is_news {
            return stuck;
        }
        let report = Report {
            revision: assigned.revision.0,
            trigger,
            started_ms: clock::wall().0,
            duration_us: 0,
            busy_us: 0,
            checked: 0,
            results: Vec::new(),
            note,
        };
        (self.on_event)(EnforcerEvent::NotApplied { report });
        stuck
    }
}

fn add_note(notes: &mut String, note: &str) {
    if !notes.is_empty() {
        *notes += "; ";
    }
    *notes += note;
}
