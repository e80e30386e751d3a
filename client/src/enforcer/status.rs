//! How the enforcer is, for `status`.

use engine::wire::message::{Report, outcome, trigger};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the enforcer does at present.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// It waits for something to happen.
    #[default]
    Idle,
    /// It checks and applies.
    Running {
        /// One of `engine::wire::message::trigger`.
        trigger: u8,
        /// Resources that are done.
        done: usize,
        /// Resources of this run; 0 while that is not known.
        total: usize,
        /// Since when, milliseconds since 1970.
        since_ms: u64,
    },
    /// It lets what runs finish.
    Stopping {
        /// So long at most, milliseconds; then it ends what runs.
        left_ms: u64,
    },
    /// It has ended.
    Stopped,
}

/// A resource that is looked at, or applied, at this moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// `KIND NAME`.
    pub id: String,
    /// Since when, milliseconds since 1970.
    pub since_ms: u64,
}

/// Whether drift is noticed when it happens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WatchState {
    /// Nothing is enforced yet.
    #[default]
    Off,
    /// At once.
    Watching {
        /// Directories that are watched.
        directories: usize,
    },
    /// Every `check_interval`.
    Polling {
        /// Why not at once.
        reason: String,
    },
}

/// The last run that was told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastRun {
    /// The revision that was applied.
    pub revision: u64,
    /// One of `engine::wire::message::trigger`.
    pub trigger: u8,
    /// When it began, milliseconds since 1970.
    pub started_ms: u64,
    /// How long it took, microseconds.
    pub duration_us: u64,
    /// Resources that it looked at.
    pub checked: u32,
    /// Of them, changed.
    pub changed: usize,
    /// Of them, failed.
    pub failed: usize,
    /// Of them, skipped.
    pub skipped: usize,
    /// Of them, interrupted.
    pub interrupted: usize,
    /// Whether all resources of the revision were as wanted then, not only those of this run.
    pub converged: bool,
}

impl LastRun {
    /// What a report tells of its run.
    #[must_use]
    pub fn of(report: &Report, converged: bool) -> Self {
        let count = |o: u8| report.results.iter().filter(|r| r.outcome == o).count();
        Self {
            revision: report.revision,
            trigger: report.trigger,
            started_ms: report.started_ms,
            duration_us: report.duration_us,
            checked: report.checked,
            changed: count(outcome::CHANGED),
            failed: count(outcome::FAILED),
            skipped: count(outcome::SKIPPED),
            interrupted: count(outcome::INTERRUPTED),
            converged,
        }
    }
}

/// How the enforcer is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnforcerStatus {
    /// The revision that is enforced; 0 for none.
    pub assigned_revision: u64,
    /// What it does.
    pub activity: Activity,
    /// What it has in hand, by resource.
    pub actions: BTreeMap<u32, Action>,
    /// How it notices drift.
    pub watch: WatchState,
    /// Resources that are not as wanted.
    pub unsettled: usize,
    /// Runs that changed something because of drift.
    pub heals: u64,
    /// The last run.
    pub last_run: Option<LastRun>,
}

impl EnforcerStatus {
    pub(super) fn on_run(&mut self, report: &Report, converged: bool) {
        let last = LastRun::of(report, converged);
        if report.trigger == trigger::DRIFT && last.changed > 0 {
            self.heals += 1;
        }
        self.last_run = Some(last);
    }
}
