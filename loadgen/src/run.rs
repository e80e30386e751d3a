//! One run from its beginning to its report: what is asked before, the loop, what is checked
//! afterwards.

mod outcome;
mod target;

pub use target::Target;

use crate::address::Identities;
use crate::config::RunConfig;
use crate::error::LoadError;
use crate::generator;
use crate::journal::Journal;
use crate::progress::Progress;
use crate::report::Report;
use crate::role::{Observation, Plan};
use crate::swarm::{Swarm, SwarmConfig};
use crate::truth::{self, InboxWait, Ledger, Truth};
use engine::clock::{Clock, SystemClock};
use engine::limits::Limits;
use engine::node::io::{Listener, Request, Services};
use engine::reactor::{Mailbox, MioPoller, Reactor, Signals};
use engine::time::{Instant, Now};
use master::descriptors;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Between the making of the clients and the first slot.
const LEAD: Duration = Duration::from_millis(100);
/// The loop looks at its own ends at least this often.
const TURN_MAX: Duration = Duration::from_millis(20);
/// The journal is handed to the operating system this often.
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);
/// Between two questions whether the master's inbox is empty.
const INBOX_INTERVAL: Duration = Duration::from_millis(100);

/// No thread works for a swarm: its clients' stores are answered within it.
#[derive(Debug)]
pub struct NoServices;

impl Services<Observation> for NoServices {
    fn dispatch(&mut self, _: Request<Observation>) {}
}

type Loop = Reactor<MioPoller, Swarm, NoServices, SystemClock>;

/// Runs a workload. `stop` ends it early, as SIGINT does where `signals` are given.
///
/// # Errors
/// [`LoadError`] says why there is no report. A run that missed its goal has one.
pub fn run(
    config: &RunConfig,
    stop: &AtomicBool,
    signals: Option<Signals>,
    progress: &mut Progress,
) -> Result<Report, LoadError> {
    let mut run = Run::prepare(config, stop, signals, progress)?;
    run.load()?;
    let elapsed = run.elapsed();
    let truth = run.check()?;
    run.progress.close();
    Ok(run.report(elapsed, truth))
}

struct Run<'a> {
    config: &'a RunConfig,
    stop: &'a AtomicBool,
    progress: &'a mut Progress,
    target: Target,
    reactor: Loop,
    clock: SystemClock,
    began: Now,
    start: Instant,
    /// Slots end here.
    until: Instant,
    journal: Option<Journal>,
    flushed: Instant,
    ledger: Ledger,
    descriptors: usize,
    resident_before: u64,
}

/// How the check of the truth ended.
enum Checked {
    /// Nobody asked for it.
    NotAsked,
    /// What is stored is what was acked, or not.
    Truth(Truth),
    /// The daemon did not answer, or its inbox does not get empty.
    Unanswered(LoadError),
    /// Somebody did not want to wait for it.
    Interrupted,
}

impl<'a> Run<'a> {
    fn prepare(
        config: &'a RunConfig,
        stop: &'a AtomicBool,
        signals: Option<Signals>,
        progress: &'a mut Progress,
    ) -> Result<Self, LoadError> {
        let identities = Identities::new(&config.suffix)?;
        // Before anything else: the table of descriptors grows without a stall only now.
        let descriptors =
            descriptors::reserve(2 * config.clients as usize + descriptors::BESIDE_CONNECTIONS);
        let connections_max = descriptors.saturating_sub(descriptors::BESIDE_CONNECTIONS).max(2);
        let target = Target::examine(config)?;
        progress
            .say(&format!("{} clients for {}; {descriptors} descriptors", config.clients, target));

        let clock = SystemClock::start();
        let began = clock.now();
        // The clients are made before their first slot.
        let start = began.at + LEAD + Duration::from_micros(20) * config.clients;
        let until = start + config.workload.duration().unwrap_or(config.timeout);
        let plan = Plan {
            reports_per_poll: config.workload.reports_per_poll(),
            goal: config.workload.goal(),
            began: began.wall,
        };
        let resident_before = generator::resident_bytes();
        let swarm_config = SwarmConfig {
            clients: config.clients,
            identities: identities.clone(),
            master: config.master,
            own_addresses: target.is_here(),
            deliveries_max: config.deliveries_max.unwrap_or(connections_max / 2),
            plan: Arc::new(plan),
            start,
            until,
            window: config.workload.window(),
            interval: config.workload.interval(),
            seed: config.seed,
            // The standard library's hashers are keyed by the operating system's random bits.
            incarnation: RandomState::new().build_hasher().finish(),
        };
        let poller = MioPoller::new()?;
        let mailbox = Mailbox::new(&poller);
        let limits = Limits { connections_max, ..Limits::default() };
        let swarm = Swarm::new(&swarm_config, began);
        let mut reactor = Reactor::new(poller, mailbox, swarm, NoServices, clock, limits);
        if let Some(signals) = signals {
            reactor.watch(Box::new(signals))?;
        }
        let mut port = config.port;
        if target.is_here() {
            // All of 127.0.0.0/8 can be had only with every other address of the machine; what
            // comes to one of those reaches no client and is closed at once.
            let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            let bound = reactor.listen(Listener::Peers, any);
            port = bound.map_err(|error| LoadError::Listen { port, error })?.port();
        }
        if let Some(path) = &config.hosts_table {
            let written = identities.write_hosts_table(path, config.clients, port);
            written.map_err(|error| LoadError::HostsTable { path: path.clone(), error })?;
        }
        let journal = config.journal.as_deref().map(Journal::open).transpose()?;
        Ok(Self {
            config,
            stop,
            progress,
            target,
            reactor,
            clock,
            began,
            start,
            until,
            journal,
            flushed: began.at,
            ledger: Ledger::default(),
            descriptors,
            resident_before,
        })
    }

    fn elapsed(&self) -> Duration {
        self.clock.now().at.since(self.start)
    }

    fn is_interrupted(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.reactor.host().is_interrupted()
    }

    fn all_done(&self) -> bool {
        let swarm = self.reactor.host();
        swarm.tally().standings.done == swarm.len() as u64
    }

    /// One turn of the loop, and what was acked in it into the journal.
    fn turn(&mut self, wait: Duration) -> Result<Now, LoadError> {
        self.reactor.turn_within(Some(wait))?;
        let now = self.clock.now();
        for report in self.reactor.host_mut().take_acked() {
            if let Some(journal) = &mut self.journal {
                journal.append(&report)?;
            }
            self.ledger.acked(&report);
        }
        if let Some(journal) = &mut self.journal
            && now.at.since(self.flushed) >= FLUSH_INTERVAL
        {
            journal.flush()?;
            self.flushed = now.at;
        }
        let elapsed = now.at.since(self.start);
        self.progress.update(now.at, elapsed, self.reactor.host());
        Ok(now)
    }

    /// The load: until the goal is reached, the time is over, or somebody interrupts.
    fn load(&mut self) -> Result<(), LoadError> {
        let ends_with_goal = self.config.workload.duration().is_none();
        let latest = if ends_with_goal { self.until } else { self.until + self.config.timeout };
        loop {
            let now = self.turn(TURN_MAX)?;
            let may_end = ends_with_goal || now.at >= self.until;
            if self.is_interrupted() || now.at >= latest || (may_end && self.all_done()) {
                break;
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), LoadError> {
        self.journal.as_mut().map_or(Ok(()), Journal::flush)?;
        Ok(())
    }

    /// Waits until the master's inbox is empty, and compares what it stored with what it acked.
    fn check(&mut self) -> Result<Checked, LoadError> {
        let Some(control) = &self.config.control else { return Ok(Checked::NotAsked) };
        // What is acked from here on is not part of the question.
        let mut ledger = std::mem::take(&mut self.ledger);
        let mut inbox = InboxWait::new(self.clock.now().at);
        self.progress.say("waiting until the master's inbox is empty");
        let checked = loop {
            let now = self.turn(INBOX_INTERVAL)?.at;
            if self.is_interrupted() {
                break Checked::Interrupted;
            }
            match inbox.ask(control, now) {
                Ok(true) => match ledger.read_stored(control) {
                    Ok(()) => break Checked::Truth(ledger.compare()),
                    Err(error) => break Checked::Unanswered(error.into()),
                },
                Ok(false) => {}
                Err(error) => break Checked::Unanswered(error),
            }
        };
        self.flush()?;
        Ok(checked)
    }
}

/// Checks a journal against what a master has stored: for a run that could not do so itself.
///
/// # Errors
/// The journal cannot be read, or the daemon does not answer.
pub fn check_journal(journal: &Path, control: &Path) -> Result<Truth, LoadError> {
    let mut ledger = Ledger::default();
    crate::journal::read(journal, |report| ledger.acked(report))?;
    // A master that is not there is not waited for, as it is after a load that killed it.
    truth::status(control)?;
    let clock = SystemClock::start();
    let mut inbox = InboxWait::new(clock.now().at);
    while !inbox.ask(control, clock.now().at)? {
        std::thread::sleep(INBOX_INTERVAL);
    }
    ledger.read_stored(control)?;
    Ok(ledger.compare())
}

#[cfg(test)]
mod tests;
