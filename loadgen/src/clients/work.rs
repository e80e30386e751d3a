//! What all clients of a run do for a while.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What each client is to reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Goal {
    /// It is bound, and nothing that it has sent is left without its ack.
    #[default]
    Settled,
    /// It holds this revision or a later one, and its report about that is durable.
    Revision(u64),
}

/// Slots, and what is due at each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// So many clients take part, evenly over all workers; `None`: all.
    pub active: Option<u32>,
    /// First slots are spread over this.
    pub window: Duration,
    /// Slots recur so often; `None`: there is one each.
    pub interval: Option<Duration>,
    /// No slot lies so long after the start, or later.
    pub length: Duration,
    /// Whether a poll is due at each slot.
    pub polls: bool,
    /// Reports that are due at each slot, beside the one for each new manifest.
    pub reports: u32,
    /// Bytes that a resource's output adds to each report.
    pub report_bytes: u32,
    /// Of 1,000 reports so many tell of a failed resource.
    pub failed_permille: u16,
    /// Whether every client has been started again: it knows no parent any more.
    pub restarted: bool,
    /// What each client is to reach.
    pub goal: Goal,
}

impl Work {
    /// All start at once, poll, get their manifest and report, once.
    #[must_use]
    pub fn storm(window: Duration, length: Duration) -> Self {
        Self {
            active: None,
            window,
            interval: None,
            length,
            polls: true,
            reports: 0,
            report_bytes: 0,
            failed_permille: 0,
            restarted: true,
            goal: Goal::Revision(1),
        }
    }

    /// Each polls once an interval.
    #[must_use]
    pub fn steady(interval: Duration, length: Duration) -> Self {
        Self {
            window: interval,
            interval: Some(interval),
            restarted: false,
            goal: Goal::Settled,
            ..Self::storm(interval, length)
        }
    }
}
