//! What a run does, phase by phase: the named workloads, each of which is a few phases that are
//! put together from the same ingredients.

use super::config::Bound;
use crate::clients::work::{Churn, Goal, Pace, Reports, Work};
use crate::measure::Parts;
use crate::peers::BadPeers;
use std::time::Duration;

/// A run's phases.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Its name in reports.
    pub name: String,
    /// What it does, in this order.
    pub phases: Vec<PhaseConfig>,
}

/// What happens for a while, and what it must keep to.
#[derive(Debug, Clone, PartialEq)]
pub struct PhaseConfig {
    /// Its name in reports: letters, digits, `-` and `_`.
    pub name: String,
    /// What the clients do. [`Goal::Revision`] is the least that they must hold.
    pub work: Work,
    /// Whether they must hold a later revision than the master had when the phase began.
    pub newer: bool,
    /// When it ends.
    pub until: Until,
    /// What is done to a master of our own, and when.
    pub acts: Vec<(Duration, Act)>,
    /// A master of our own is killed so often, and started again at once.
    pub kill_every: Option<Duration>,
    /// Who else is there.
    pub bad_peers: Vec<BadPeers>,
    /// What latencies must keep to; a phase also counts only if the generator itself was much
    /// more punctual than that.
    pub bound: Option<Bound>,
    /// What else the latencies must keep to.
    pub against: Option<Against>,
    /// What is measured this long after the start is not judged.
    pub warm_up: Duration,
    /// What is measured this long before the end of the slots, or later, is not judged; `None`:
    /// it is, to the end of the phase.
    pub cool_down: Option<Duration>,
    /// Whether its figures are what the run is about; if not, only its goal is to be reached.
    pub judged: bool,
}

/// The p99 of each kind of message may be so many times that of an earlier phase.
#[derive(Debug, Clone, PartialEq)]
pub struct Against {
    /// The earlier phase.
    pub phase: String,
    /// How many times.
    pub factor: f64,
}

/// What is done to a master of our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// A new revision is published: with a file of so many bytes that no client has, or, with 0,
    /// without one.
    Publish {
        /// The file's bytes.
        bytes: u64,
    },
    /// It is killed and started again.
    Restart,
}

/// When a phase ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// When all clients have reached their goal, or after so long.
    Done(Duration),
    /// When all slots are over and all clients have reached their goal, or so long after that.
    Over(Duration),
}

impl Until {
    /// How long clients may take to reach their goal.
    #[must_use]
    pub fn patience(self) -> Duration {
        match self {
            Self::Done(patience) | Self::Over(patience) => patience,
        }
    }
}

impl PhaseConfig {
    /// A phase in which the clients do this until the end of its slots.
    #[must_use]
    pub fn over(name: &str, work: Work, patience: Duration) -> Self {
        Self { until: Until::Over(patience), ..Self::done(name, work, patience) }
    }

    /// A phase that ends as soon as all clients have reached their goal.
    #[must_use]
    pub fn done(name: &str, work: Work, patience: Duration) -> Self {
        Self {
            name: name.to_owned(),
            work,
            newer: false,
            until: Until::Done(patience),
            acts: Vec::new(),
            kill_every: None,
            bad_peers: Vec::new(),
            bound: None,
            against: None,
            warm_up: Duration::ZERO,
            cool_down: None,
            judged: true,
        }
    }

    /// Its parts.
    #[must_use]
    pub fn parts(&self) -> Parts {
        let cool_down = self.cool_down.filter(|_| matches!(self.until, Until::Over(_)));
        let judged = cool_down.map(|cool_down| self.work.length.saturating_sub(cool_down));
        Parts {
            warm_up: self.warm_up.as_secs(),
            cool_down_at: judged.map(|judged| judged.as_secs()),
        }
    }

    /// Whether clients wait for what the master dials back to them.
    #[must_use]
    pub fn needs_dial_back(&self) -> bool {
        self.newer || self.work.goal.revision().is_some()
    }

    /// Whether the master is ended in it, which breaks off what is under way.
    #[must_use]
    pub fn breaks_off(&self) -> bool {
        self.kill_every.is_some() || self.acts.iter().any(|(_, act)| *act == Act::Restart)
    }

    /// Whether nothing of it would be judged.
    #[must_use]
    pub fn is_unmeasured(&self) -> bool {
        let beside = self.warm_up + self.cool_down.unwrap_or_default();
        self.judged && matches!(self.until, Until::Over(_)) && beside >= self.work.length
    }

    /// Whether it can only be done to a master of our own, and what that is.
    #[must_use]
    pub fn needs_own_master(&self) -> Option<&'static str> {
        let act = self.acts.first().map(|(_, act)| match act {
            Act::Publish { .. } => "publishing",
            Act::Restart => "restarting the master",
        });
        act.or(self.kill_every.map(|_| "killing the master"))
    }
}

/// How clients come back, and how long they may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Return {
    /// They come within this.
    pub within: Duration,
    /// Whether they wait longer each time that they fail, and not all as long.
    pub backoff: bool,
    /// How long they may take, from when the last has come back.
    pub timeout: Duration,
}

/// Clients are bound for a run at this rate a second, where how fast is not the question.
const GENTLY: u32 = 4000;

/// Before a load begins all clients are bound, and reach this.
#[must_use]
pub fn bind(clients: u32, goal: Goal, timeout: Duration) -> PhaseConfig {
    let within = Duration::from_secs(1) * clients.div_ceil(GENTLY);
    let storm = Work { goal, ..Work::storm(within, timeout) };
    PhaseConfig { judged: false, ..PhaseConfig::done("bind", storm, timeout) }
}

/// They also hold what the master has.
fn bound(clients: u32, timeout: Duration) -> PhaseConfig {
    bind(clients, Goal::Revision(1), timeout)
}

/// How often each client sends so many messages at once, if all together send so many a second.
#[must_use]
pub fn pace_of(clients: u32, rate: u32, burst: u32) -> Pace {
    Pace::every(Duration::from_secs(u64::from(clients)) * burst / rate.max(1))
}

impl Scenario {
    fn new(name: &str, phases: Vec<PhaseConfig>) -> Self {
        Self { name: name.to_owned(), phases }
    }

    /// Whatever is not the preparation of it.
    pub fn judged_mut(&mut self) -> impl Iterator<Item = &mut PhaseConfig> {
        self.phases.iter_mut().filter(|phase| phase.judged)
    }

    /// Each client polls once an interval, and sends so many reports with each poll; all are to
    /// hold a revision at the end. Without a length it ends as soon as they do.
    #[must_use]
    pub fn steady(
        pace: Pace,
        length: Option<Duration>,
        revision: Option<u64>,
        reports_per_poll: u32,
        timeout: Duration,
    ) -> Self {
        let reports = Reports { burst: reports_per_poll, ..Reports::at(pace) };
        let work = Work {
            polls: Some(pace),
            reports: (reports_per_poll > 0).then_some(reports),
            goal: revision.map_or(Goal::Settled, Goal::Revision),
            ..Work::idle(length.unwrap_or(timeout))
        };
        let phase = match length {
            Some(_) => PhaseConfig::over("steady", work, timeout),
            None => PhaseConfig::done("steady", work, timeout),
        };
        Self::new("steady", vec![phase])
    }

    /// All connect, bind, poll, get their manifest and report, once.
    #[must_use]
    pub fn storm(back: Return) -> Self {
        let Return { within, backoff, timeout } = back;
        let work = Work { backoff, ..Work::storm(within, timeout) };
        Self::new("storm", vec![PhaseConfig::done("storm", work, timeout)])
    }

    /// A new revision is published and pushed to all, by us or, on a master that is not ours, by
    /// whoever runs it.
    #[must_use]
    pub fn push(clients: u32, is_own: bool, timeout: Duration) -> Self {
        let acts = if is_own { vec![(Duration::ZERO, Act::Publish { bytes: 0 })] } else { vec![] };
        let push = PhaseConfig {
            acts,
            newer: true,
            ..PhaseConfig::done("push", Work::idle(timeout), timeout)
        };
        Self::new("push", vec![bound(clients, timeout), push])
    }

    /// A flood of reports: so many a second of all clients together.
    #[must_use]
    pub fn reports(
        clients: u32,
        rate: u32,
        reports: Reports,
        length: Duration,
        timeout: Duration,
    ) -> Self {
        let random = reports.pace.random;
        let pace = Pace { random, ..pace_of(clients, rate, reports.burst) };
        let work = Work { reports: Some(Reports { pace, ..reports }), ..Work::idle(length) };
        let flood = PhaseConfig::over("reports", work, timeout);
        Self::new("reports", vec![bound(clients, timeout), flood])
    }

    /// A new version of so many bytes for everybody: each fetches it as soon as it is pushed, and
    /// then all start again.
    #[must_use]
    pub fn release(clients: u32, bytes: u64, back: Return) -> Self {
        let Return { within, backoff, timeout } = back;
        let fetch = Work { fetch: true, ..Work::idle(timeout) };
        let distribute = PhaseConfig {
            acts: vec![(Duration::ZERO, Act::Publish { bytes })],
            newer: true,
            ..PhaseConfig::done("distribute", fetch, timeout)
        };
        let restart = Work { backoff, goal: Goal::Settled, ..Work::storm(within, timeout) };
        let reconnect = PhaseConfig::done("reconnect", restart, timeout);
        Self::new("release", vec![bound(clients, timeout), distribute, reconnect])
    }

    /// The master starts again, and all clients with it.
    #[must_use]
    pub fn cold_start(clients: u32, back: Return) -> Self {
        let Return { within, backoff, timeout } = back;
        let restart = Work { backoff, goal: Goal::Settled, ..Work::storm(within, timeout) };
        let start = PhaseConfig {
            acts: vec![(Duration::ZERO, Act::Restart)],
            ..PhaseConfig::done("cold-start", restart, timeout)
        };
        Self::new("cold-start", vec![bound(clients, timeout), start])
    }

    /// Clients leave and come back while the others poll; some who have left are half-open to the
    /// master.
    #[must_use]
    pub fn churn(
        clients: u32,
        churn: Churn,
        interval: Duration,
        half_open: u32,
        length: Duration,
        timeout: Duration,
    ) -> Self {
        let work = Work { churn: Some(churn), ..Work::steady(interval, length) };
        let phase = PhaseConfig {
            bad_peers: (half_open > 0)
                .then(|| BadPeers::new(crate::peers::Badness::HalfOpen, half_open))
                .into_iter()
                .collect(),
            ..PhaseConfig::over("churn", work, timeout)
        };
        Self::new("churn", vec![bound(clients, timeout), phase])
    }

    /// A bit of all: polls and reports, clients that leave, a push in the middle, bad peers.
    #[must_use]
    pub fn mixed(
        clients: u32,
        interval: Duration,
        rate: u32,
        is_own: bool,
        length: Duration,
        timeout: Duration,
    ) -> Self {
        let pace = Pace { random: true, ..pace_of(clients, rate, 1) };
        let work = Work {
            reports: Some(Reports { bytes: 512, failed_permille: 50, ..Reports::at(pace) }),
            churn: Some(Churn { permille: 50, away: Duration::from_secs(5) }),
            ..Work::steady(interval, length)
        };
        let publish = (length / 2, Act::Publish { bytes: 0 });
        let mixed = PhaseConfig {
            acts: is_own.then_some(publish).into_iter().collect(),
            newer: is_own,
            bad_peers: BadPeers::a_few(),
            ..PhaseConfig::over("mixed", work, timeout)
        };
        Self::new("mixed", vec![bound(clients, timeout), mixed])
    }

    /// The same load alone, and then beside each kind of bad peers.
    #[must_use]
    pub fn beside(
        clients: u32,
        peers: &[BadPeers],
        interval: Duration,
        factor: f64,
        length: Duration,
        timeout: Duration,
    ) -> Self {
        let pace = Pace::every(interval);
        let work = Work { reports: Some(Reports::at(pace)), ..Work::steady(interval, length) };
        let alone = PhaseConfig::over("alone", work.clone(), timeout);
        let beside = peers.iter().enumerate().map(|(at, peers_of)| {
            let kind = peers_of.badness.name();
            // The same kind in another number is another phase.
            let name = match peers[..at].iter().filter(|p| p.badness == peers_of.badness).count() {
                0 => kind.to_owned(),
                before => format!("{kind}-{}", before + 1),
            };
            PhaseConfig {
                bad_peers: vec![*peers_of],
                against: Some(Against { phase: "alone".to_owned(), factor }),
                ..PhaseConfig::over(&name, work.clone(), timeout)
            }
        });
        let phases = [bound(clients, timeout), alone].into_iter().chain(beside).collect();
        Self::new("beside", phases)
    }
}
