//! What all clients of a run do for a while: ingredients that can be put together.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Most bytes that a report's output has: it must fit a frame.
pub const REPORT_BYTES_MAX: u32 = 1_000_000;
/// Nothing is planned over more than a year.
const TIME_MAX: Duration = Duration::from_secs(365 * 86_400);

/// What each client is to reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Goal {
    /// It is bound, and nothing that it has sent is left without its ack.
    #[default]
    Settled,
    /// Nothing that it has sent is left without its ack, bound or not: all that a master can let it
    /// reach that cannot dial it.
    Acked,
    /// It holds this revision or a later one, and its report about that is durable.
    Revision(u64),
}

impl Goal {
    /// The revision that is to be held.
    #[must_use]
    pub fn revision(self) -> Option<u64> {
        match self {
            Self::Settled | Self::Acked => None,
            Self::Revision(revision) => Some(revision),
        }
    }
}

/// When something is due: first within a window, and again and again after that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// First times are spread evenly over this.
    pub window: Duration,
    /// It recurs so often; `None`: it is due once.
    pub interval: Option<Duration>,
    /// The interval is a mean only: each is drawn anew from the exponential distribution, so
    /// that all clients together make a Poisson process.
    pub random: bool,
}

impl Pace {
    /// Once each, spread over a window.
    #[must_use]
    pub fn once(window: Duration) -> Self {
        Self { window, interval: None, random: false }
    }

    /// Once an interval each, and evenly over all clients.
    #[must_use]
    pub fn every(interval: Duration) -> Self {
        Self { window: interval, interval: Some(interval), random: false }
    }
}

/// Reports that are due beside the one for each new manifest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reports {
    /// When.
    pub pace: Pace,
    /// So many at once.
    pub burst: u32,
    /// Bytes that a resource's output adds to each.
    pub bytes: u32,
    /// Of 1,000 so many tell of a failed resource.
    pub failed_permille: u16,
}

impl Reports {
    /// Small ones that tell of success, one at a time.
    #[must_use]
    pub fn at(pace: Pace) -> Self {
        Self { pace, burst: 1, bytes: 0, failed_permille: 0 }
    }
}

/// Clients that leave without a word and come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Churn {
    /// Of 1,000 clients so many leave in a minute.
    pub permille: u32,
    /// They come back, with what lay on their disks, after this.
    pub away: Duration,
}

/// What is due when, and what is to be reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// So many clients take part, evenly over all workers; `None`: all.
    pub active: Option<u32>,
    /// Nothing is due so long after the start, or later.
    pub length: Duration,
    /// Every client is started anew, spread over this: it knows no parent any more.
    pub restart: Option<Duration>,
    /// Whether a client that cannot reach its master waits longer each time, and not as long as
    /// all others, as a real one does; if not, it tries again ten times a second.
    pub backoff: bool,
    /// Polls.
    pub polls: Option<Pace>,
    /// Reports.
    pub reports: Option<Reports>,
    /// Whether a client fetches all files of a manifest before it holds it.
    pub fetch: bool,
    /// Clients that leave.
    pub churn: Option<Churn>,
    /// What each client is to reach.
    pub goal: Goal,
}

impl Work {
    /// Nothing at all, for so long.
    #[must_use]
    pub fn idle(length: Duration) -> Self {
        Self { length, backoff: true, ..Self::default() }
    }

    /// All start within a window, bind, poll, get their manifest and report, once; the last of them
    /// has so much patience.
    #[must_use]
    pub fn storm(window: Duration, patience: Duration) -> Self {
        Self {
            restart: Some(window),
            polls: Some(Pace::once(window)),
            goal: Goal::Revision(1),
            ..Self::idle(window.saturating_add(patience))
        }
    }

    /// Whether clients can do it at all: for one that came from another process, where no command
    /// line has looked at it.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let paces = self.polls.into_iter().chain(self.reports.map(|reports| reports.pace));
        let mut times = vec![self.length];
        times.extend(self.restart);
        times.extend(self.churn.map(|churn| churn.away));
        for Pace { window, interval, .. } in paces {
            times.push(window);
            times.extend(interval);
            if interval.is_some_and(|interval| interval.is_zero()) {
                return false;
            }
        }
        times.iter().all(|time| *time <= TIME_MAX)
            && self.reports.is_none_or(|reports| reports.bytes <= REPORT_BYTES_MAX)
    }

    /// Each polls once an interval.
    #[must_use]
    pub fn steady(interval: Duration, length: Duration) -> Self {
        Self { polls: Some(Pace::every(interval)), ..Self::idle(length) }
    }
}
