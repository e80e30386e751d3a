//! One run from its beginning to its report: what is asked before, the load, what is checked
//! afterwards, and the judgement.

pub mod config;
mod outcome;

pub use config::{Bound, RunConfig, Workload};

use crate::clients::address::Identities;
use crate::clients::role::VERSION;
use crate::clients::swarm::Acked;
use crate::error::LoadError;
use crate::fleet::{Beat, Ended, Fleet, FleetConfig, Happening, workers_for};
use crate::measure::{Parts, Record, Standings, process};
use crate::progress::Progress;
use crate::report::Report;
use crate::subject::Target;
use crate::truth::journal::AckedReport;
use crate::truth::{self, InboxWait, Journal, Ledger, Truth};
use engine::clock::{Clock, SystemClock};
use engine::ids::Epoch;
use engine::reactor::Signals;
use engine::time::{Instant, Now};
use master::descriptors;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Between the making of the clients and the first slot.
const LEAD: Duration = Duration::from_millis(200);
/// The run looks at its own ends at least this often.
const TURN_MAX: Duration = Duration::from_millis(20);
/// Between two questions whether the master's inbox is empty.
const INBOX_INTERVAL: Duration = Duration::from_millis(100);

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
    let checked = run.check()?;
    run.end()?;
    run.progress.close();
    Ok(run.report(checked))
}

struct Run<'a> {
    config: &'a RunConfig,
    stop: &'a AtomicBool,
    progress: &'a mut Progress,
    target: Target,
    identities: Identities,
    fleet: Fleet,
    clock: SystemClock,
    began: Now,
    start: Instant,
    /// Slots end here.
    until: Instant,
    /// How each worker stood when it last told.
    beats: Vec<Beat>,
    ended: Vec<Ended>,
    interrupted: bool,
    /// From the start until the goal was reached or given up.
    elapsed: Duration,
    record: Record,
    journal: Option<Journal>,
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

/// How many workers so many clients get on this machine, and the descriptors that each may use
/// for connections. Makes the table of descriptors large at once: later each doubling would
/// stall the loops.
#[must_use]
pub fn workers_here(clients: u32, asked: Option<u32>) -> (u32, usize) {
    let granted = descriptors::reserve(2 * clients as usize + descriptors::BESIDE_CONNECTIONS);
    let usable = granted.saturating_sub(descriptors::BESIDE_CONNECTIONS).max(2);
    (asked.unwrap_or_else(|| workers_for(clients, usable)).clamp(1, clients.max(1)), usable)
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
        let (workers, descriptors) = workers_here(config.clients, config.workers);
        let target = Target::examine(config)?;
        let clients = config.clients;
        progress.say(&format!("{clients} clients of {workers} worker(s) for {target}"));

        let resident_before = process::resident_bytes();
        let clock = SystemClock::start();
        let fleet_config = FleetConfig {
            clients,
            workers,
            identities: identities.clone(),
            master: config.master,
            own_addresses: target.is_here(),
            port: config.port,
            deliveries_max: config.deliveries_max,
            seed: config.seed,
            // The standard library's hashers are keyed by the operating system's random bits.
            incarnation: RandomState::new().build_hasher().finish(),
        };
        let fleet = Fleet::start(&fleet_config, clock, descriptors, signals)?;
        if let Some(path) = &config.hosts_table {
            let ports =
                (0..workers).map(|w| fleet_config.share(w)).zip(fleet.ports().iter().copied());
            let written = identities.write_hosts_table(path, ports);
            written.map_err(|error| LoadError::HostsTable { path: path.clone(), error })?;
        }
        let journal = config.journal.as_deref().map(Journal::open).transpose()?;
        let began = clock.now();
        // Every client is given its slots before the first of them.
        let start = began.at + LEAD + Duration::from_micros(20) * clients;
        let duration = config.workload.duration();
        let until = start + duration.unwrap_or(config.timeout);
        let parts = Parts {
            warm_up: config.warm_up.as_secs(),
            cool_down_at: duration
                .filter(|_| !config.cool_down.is_zero())
                .map(|all| all.saturating_sub(config.cool_down).as_secs()),
        };
        fleet.begin(&config.workload.work(config.timeout), start);
        Ok(Self {
            config,
            stop,
            progress,
            target,
            identities,
            beats: vec![Beat::default(); fleet.workers()],
            ended: Vec::new(),
            interrupted: false,
            elapsed: Duration::ZERO,
            record: Record::new(parts, fleet.workers()),
            fleet,
            clock,
            began,
            start,
            until,
            journal,
            ledger: Ledger::default(),
            descriptors,
            resident_before,
        })
    }

    fn is_interrupted(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.interrupted
    }

    fn standings(&self) -> Standings {
        self.beats.iter().map(|beat| beat.standings).sum()
    }

    /// When the last client reached its goal, if all have.
    fn done_at(&self) -> Option<Instant> {
        self.beats.iter().map(|beat| beat.done_at).collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// Takes what the workers tell, until they have nothing to tell or it is time for something
    /// else.
    fn turn(&mut self) -> Result<Now, LoadError> {
        let mut wait = TURN_MAX;
        while self.ended.len() < self.fleet.workers()
            && let Some(event) = self.fleet.next(wait)?
        {
            wait = Duration::ZERO;
            match event.what {
                Happening::Beat(mut beat) => {
                    self.note(std::mem::take(&mut beat.acked))?;
                    self.beats[event.worker as usize] = beat;
                }
                Happening::Second(second) => {
                    let end = second.end.since(self.start);
                    self.record.add(end, &second.tally, second.connections, second.cpu_us);
                    let standings = self.standings();
                    self.record.close(standings, false, |_, _| {});
                }
                Happening::Interrupted => self.interrupted = true,
                Happening::Failed(error) => return Err(error),
                Happening::Ended(ended) => self.ended.push(*ended),
                Happening::Ready(_) => {}
            }
        }
        let now = self.clock.now();
        let elapsed = now.at.since(self.start);
        self.progress.update(now.at, elapsed, self.config.clients, &self.beats, &self.record);
        Ok(now)
    }

    /// What was acked, into the journal and the ledger.
    fn note(&mut self, acked: Vec<Acked>) -> Result<(), LoadError> {
        for Acked { client, epoch, seqs } in acked {
            if let Some(journal) = &mut self.journal {
                let name = self.identities.name(client);
                for seq in seqs.clone() {
                    let report = AckedReport { name: name.clone(), epoch: Epoch(epoch), seq };
                    journal.append(&report)?;
                }
            }
            self.ledger.acked(epoch, seqs, || self.identities.name(client));
        }
        self.journal.as_mut().map_or(Ok(()), Journal::flush)?;
        Ok(())
    }

    /// The load: until the goal is reached, the time is over, or somebody interrupts.
    fn load(&mut self) -> Result<(), LoadError> {
        let ends_with_goal = self.config.workload.duration().is_none();
        let latest = if ends_with_goal { self.until } else { self.until + self.config.timeout };
        loop {
            let now = self.turn()?.at;
            let may_end = ends_with_goal || now >= self.until;
            let done_at = self.done_at().filter(|_| may_end);
            if self.is_interrupted() || now >= latest || done_at.is_some() {
                let end = if ends_with_goal { done_at.unwrap_or(now) } else { now };
                self.elapsed = end.since(self.start);
                return Ok(());
            }
        }
    }

    /// Waits until the master's inbox is empty, and compares what it stored with what it acked.
    fn check(&mut self) -> Result<Checked, LoadError> {
        let Some(control) = &self.config.control else { return Ok(Checked::NotAsked) };
        // What is acked from here on is not part of the question.
        let mut ledger = std::mem::take(&mut self.ledger);
        let mut inbox = InboxWait::new(self.clock.now().at);
        let mut next = Instant(0);
        self.progress.say("waiting until the master's inbox is empty");
        loop {
            let now = self.turn()?.at;
            if self.is_interrupted() {
                return Ok(Checked::Interrupted);
            }
            if now < next {
                continue;
            }
            next = now + INBOX_INTERVAL;
            match inbox.ask(control, now) {
                Ok(true) => {
                    return Ok(match ledger.read_stored(control) {
                        Ok(()) => Checked::Truth(ledger.compare()),
                        Err(error) => Checked::Unanswered(error.into()),
                    });
                }
                Ok(false) => {}
                Err(error) => return Ok(Checked::Unanswered(error)),
            }
        }
    }

    /// Hears the workers' last words.
    fn end(&mut self) -> Result<(), LoadError> {
        self.fleet.end();
        while self.ended.len() < self.fleet.workers() {
            self.turn()?;
        }
        let standings = self.standings();
        self.record.close(standings, true, |_, _| {});
        Ok(())
    }
}

/// Checks a journal against what a master has stored: for a run that could not do so itself.
///
/// # Errors
/// The journal cannot be read, or the daemon does not answer.
pub fn check_journal(journal: &Path, control: &Path) -> Result<Truth, LoadError> {
    let mut ledger = Ledger::default();
    truth::journal::read(journal, |report| {
        ledger.acked(report.epoch.0, report.seq..=report.seq, || report.name.clone());
    })?;
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
