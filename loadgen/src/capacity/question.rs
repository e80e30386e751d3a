//! What can be asked of a master, and the load that asks it.

use super::CapacityConfig;
use crate::clients::work::{Goal, Reports, Work};
use crate::measure::Timed;
use crate::run::scenario::{Act, pace_of};
use crate::run::{Bound, PhaseConfig};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What a step may take beyond its slots until everything is acked.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// Seconds of each step that are not judged.
pub(super) const WARM_UP: Duration = Duration::from_secs(1);

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Durable reports a second
    Reports,
    /// Polls a second, and so clients at a poll interval
    Polls,
    /// Clients that bind anew at the same time, all within a while
    Reconnects,
    /// Clients that all get a new manifest within a while
    Push,
    /// Clients that all get a new version of some size within a while
    Release,
}

impl Question {
    /// All of them, the quickest first.
    pub const ALL: [Question; 5] =
        [Self::Reports, Self::Polls, Self::Reconnects, Self::Push, Self::Release];

    /// What is counted.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Reports => "durable reports/s",
            Self::Polls => "polls/s",
            Self::Reconnects => "simultaneous reconnects",
            Self::Push => "clients that are pushed a manifest at once",
            Self::Release => "clients that fetch a new version at once",
        }
    }

    /// The kind of message that is judged.
    pub(super) fn timed(self) -> Timed {
        match self {
            Self::Reports => Timed::Report,
            Self::Polls => Timed::Poll,
            Self::Reconnects => Timed::Bind,
            Self::Push => Timed::Push,
            Self::Release => Timed::Fetch,
        }
    }

    /// Whether it is asked by a rate, and not by a number of clients.
    pub(super) fn is_rate(self) -> bool {
        matches!(self, Self::Reports | Self::Polls)
    }

    /// Whether each step needs clients, and a master, that know nothing of the last one: a master
    /// pushes to all that it has ever heard.
    pub(super) fn begins_anew(self) -> bool {
        matches!(self, Self::Push | Self::Release)
    }

    /// What latencies must keep to if nothing else is asked. What happens to all clients at once
    /// is to be over within it.
    #[must_use]
    pub fn bound(self) -> Bound {
        let (quantile, seconds) = match self {
            Self::Reports | Self::Polls => (0.99, 1),
            Self::Reconnects => (1.0, 30),
            Self::Push => (1.0, 10),
            Self::Release => (1.0, 60),
        };
        Bound { quantile, limit: Duration::from_secs(seconds) }
    }

    /// Clients that are there, if nothing else is asked: enough that none has a report under way
    /// when its next one is due, and for the others the most that are tried.
    #[must_use]
    pub fn clients(self) -> u32 {
        match self {
            Self::Reports | Self::Polls => 5000,
            Self::Reconnects | Self::Push | Self::Release => 20_000,
        }
    }

    /// What the first step offers.
    #[must_use]
    pub fn first(self) -> u32 {
        match self {
            Self::Release => 100,
            _ => 1000,
        }
    }
}

impl CapacityConfig {
    /// What a step does that offers so much.
    pub(super) fn phase(&self, offered: u32) -> PhaseConfig {
        let limit = self.bound.limit;
        let done = |name, work| PhaseConfig {
            bound: Some(self.bound),
            ..PhaseConfig::done(name, work, limit + GRACE)
        };
        let over = |name, work| PhaseConfig {
            bound: Some(self.bound),
            warm_up: WARM_UP,
            // What is acked after the last slot is no second of the load.
            cool_down: Some(Duration::ZERO),
            ..PhaseConfig::over(name, work, GRACE)
        };
        let length = WARM_UP + self.step;
        let pace = || pace_of(self.load.clients, offered, 1);
        match self.question {
            Question::Reports => {
                let reports = Some(Reports::at(pace()));
                over("reports", Work { reports, ..Work::idle(length) })
            }
            Question::Polls => over("polls", Work { polls: Some(pace()), ..Work::idle(length) }),
            Question::Reconnects => {
                let storm = Work::storm(Duration::ZERO, limit);
                let work = Work { active: Some(offered), goal: Goal::Settled, ..storm };
                done("reconnects", work)
            }
            Question::Push => PhaseConfig {
                acts: vec![(Duration::ZERO, Act::Publish { bytes: 0 })],
                newer: true,
                ..done("push", Work::idle(limit))
            },
            Question::Release => PhaseConfig {
                acts: vec![(Duration::ZERO, Act::Publish { bytes: self.release_bytes })],
                newer: true,
                ..done("release", Work { fetch: true, ..Work::idle(limit) })
            },
        }
    }
}
