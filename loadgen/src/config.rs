//! What a run is asked to do.

use crate::role::Goal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunConfig {
    /// What the clients do.
    pub workload: Workload,
    /// How many clients.
    pub clients: u32,
    /// The master.
    pub master: SocketAddr,
    /// Whether the master may be on another machine.
    pub foreign_allowed: bool,
    /// The port on which the clients are dialled back; 0 takes any.
    pub port: u16,
    /// Suffix of the clients' names.
    pub suffix: String,
    /// Where to write the hosts table before anything starts.
    pub hosts_table: Option<PathBuf>,
    /// Where to note the acked reports as they come.
    pub journal: Option<PathBuf>,
    /// The master's control socket, for the check at the end.
    pub control: Option<PathBuf>,
    /// How long clients may take to reach the goal, after the last slot or, where the run ends
    /// with the goal, from the start.
    pub timeout: Duration,
    /// Deliveries under way at once; `None` takes half of the descriptors.
    pub deliveries_max: Option<usize>,
    /// Decides the order of the slots.
    pub seed: u64,
}

/// What the clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Each polls once an interval.
    Steady {
        /// The interval.
        interval: Duration,
        /// How long slots go on; `None`: until every client has reached the goal.
        duration: Option<Duration>,
        /// The revision that every client is to get and report.
        revision: Option<u64>,
        /// Reports at each poll.
        reports_per_poll: u32,
    },
    /// All connect, bind, poll, get their manifest and report, once.
    Storm {
        /// The connects are spread over this.
        within: Duration,
    },
}

impl Workload {
    /// Its name in reports.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Steady { .. } => "steady",
            Self::Storm { .. } => "storm",
        }
    }

    /// What each client is to reach.
    #[must_use]
    pub fn goal(&self) -> Goal {
        match *self {
            Self::Steady { revision: Some(revision), .. } => Goal::Revision(revision),
            Self::Steady { revision: None, .. } => Goal::Settled,
            Self::Storm { .. } => Goal::Revision(1),
        }
    }

    /// First slots are spread over this.
    #[must_use]
    pub fn window(&self) -> Duration {
        match *self {
            Self::Steady { interval, .. } => interval,
            Self::Storm { within } => within,
        }
    }

    /// Slots recur so often.
    #[must_use]
    pub fn interval(&self) -> Option<Duration> {
        match *self {
            Self::Steady { interval, .. } => Some(interval),
            Self::Storm { .. } => None,
        }
    }

    /// Reports at each poll.
    #[must_use]
    pub fn reports_per_poll(&self) -> u32 {
        match *self {
            Self::Steady { reports_per_poll, .. } => reports_per_poll,
            Self::Storm { .. } => 0,
        }
    }

    /// How long slots go on; `None`: until every client has reached the goal.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        match *self {
            Self::Steady { duration, .. } => duration,
            Self::Storm { .. } => None,
        }
    }
}
