//! What the enforcer tells whoever has started it.

use engine::ids::BlobHash;
use engine::wire::message::Report;
use std::time::Duration;

/// What the enforcer tells.
#[derive(Debug)]
pub enum EnforcerEvent {
    /// A run is done. Checks after drift that found all as wanted are not told.
    RunFinished {
        /// For the master.
        report: Report,
        /// Whether all resources of the revision are as wanted, not only those of this run.
        converged: bool,
        /// Whether the revision has been applied to the end: all of it was looked at, though
        /// some of it may have failed.
        to_end: bool,
        /// Whether another run is under way still, beside which this one was.
        beside: bool,
        /// The first resource of the revision that failed when it was last looked at, in this run
        /// or an earlier one, and why; or else what is fought over.
        failing: Option<String>,
    },
    /// Nothing could be applied; the report's note says why, and it has no results. It is told
    /// once, and tried again by itself.
    NotApplied {
        /// For the master.
        report: Report,
    },
    /// A blob is missing or damaged in the cache: it must be removed there and fetched again,
    /// and then [`check_now`](super::EnforcerHandle::check_now) called.
    BlobBroken(BlobHash),
    /// All drift that can be noticed is.
    Watching {
        /// Directories that are watched.
        directories: usize,
    },
    /// Not everything can be watched: all is looked at every `check_interval` instead.
    WatchFallback {
        /// Why.
        reason: String,
        /// Time between checks.
        check_interval: Duration,
    },
    /// The last event.
    Stopped,
}
