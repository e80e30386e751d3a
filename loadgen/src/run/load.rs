//! A master and a fleet that loads it, for one phase or for several: what every run does before,
//! while and after its clients work.

use super::config::{LoadConfig, MasterChoice, Workers};
use super::scenario::{Act, PhaseConfig, Scenario, Until};
use crate::clients::address::Identities;
use crate::clients::swarm::Acked;
use crate::clients::work::Goal;
use crate::error::LoadError;
use crate::fleet::remote::Address;
use crate::fleet::{
    Beat, Ended, Fleet, FleetConfig, Happening, descriptors_for, share, workers_for,
};
use crate::kernel::Process;
use crate::measure::{Record, Standings};
use crate::names::{NameCounts, NameService, NamesConfig};
use crate::peers::{Crowd, PeerCounts};
use crate::progress::{Progress, Stage, View};
use crate::report::interval_log::IntervalLog;
use crate::report::{self, Report};
use crate::subject::observer::{self, Observer, Watched};
use crate::subject::{OwnMaster, Sample, Target};
use crate::truth::journal::AckedReport;
use crate::truth::{self, InboxWait, Journal, Ledger, Truth};
use engine::clock::{Clock, SystemClock};
use engine::ids::Epoch;
use engine::time::{Instant, Now};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Between an order and the first slot.
const LEAD: Duration = Duration::from_millis(200);
/// The same, for each client: before the first slot every one has been given its own.
const LEAD_EACH: Duration = Duration::from_micros(20);
/// It looks at its own ends at least this often.
const TURN_MAX: Duration = Duration::from_millis(20);
/// Between two questions whether the master's inbox is empty.
const INBOX_INTERVAL: Duration = Duration::from_millis(100);

/// What came of a phase.
#[derive(Debug)]
pub struct Phase {
    /// When it was ordered.
    pub began: Now,
    /// Slots begin here.
    pub start: Instant,
    /// From the start until the goal was reached or given up.
    pub elapsed: Duration,
    /// What was measured.
    pub record: Record,
    /// Looks at the master, the last one before it included.
    pub samples: Vec<Sample>,
    /// How often loadgen started the master anew.
    pub restarts: usize,
    /// How the clients stood at its end.
    pub standings: Standings,
    /// Whether somebody cut it short.
    pub interrupted: bool,
    /// What became of the bad peers.
    pub peers: Vec<PeerCounts>,
}

/// How the check of the truth ended.
#[derive(Debug)]
pub enum Checked {
    /// Nobody asked for it.
    NotAsked,
    /// What is stored is what was acked, or not.
    Truth(Truth),
    /// The daemon did not answer, or its inbox does not get empty.
    Unanswered(LoadError),
    /// Somebody did not want to wait for it.
    Interrupted,
}

/// A master under load.
pub struct Load<'a> {
    stop: &'a AtomicBool,
    /// Where it tells how far it is.
    pub progress: &'a mut Progress,
    /// The master.
    pub target: Target,
    control: Option<PathBuf>,
    own: Option<OwnMaster>,
    observer: Observer,
    names: Option<NameService>,
    identities: Identities,
    clients: u32,
    fleet: Fleet,
    clock: SystemClock,
    /// How each worker stood when it last told.
    beats: Vec<Beat>,
    /// The workers' last words.
    pub ended: Vec<Ended>,
    /// What is measured now, from when on.
    current: Option<(Instant, Record)>,
    /// The phase that it is in, for whoever looks on.
    stage: Stage,
    /// Workers that have not told of the phase's last second yet.
    open: usize,
    /// Looks at the master since the beginning.
    samples: Vec<Sample>,
    /// The first phase's start.
    began: Option<Instant>,
    journal: Option<Journal>,
    log: Option<IntervalLog>,
    out: Option<PathBuf>,
    ledger: Ledger,
    /// How often the master was killed.
    kills: u32,
    /// Descriptors for connections of each worker.
    pub descriptors: usize,
    /// Memory before there was any client, bytes.
    pub resident_before: u64,
}

/// How many workers so many clients get, and the descriptors that each thread of this process
/// may use for connections.
#[must_use]
pub fn workers_here(clients: u32, asked: &Workers) -> (u32, usize) {
    let usable = descriptors_for(clients as usize);
    let workers = match asked {
        Workers::AsNeeded => workers_for(clients, usable),
        Workers::Threads(threads) => *threads,
        Workers::At(named) => u32::try_from(named.len()).unwrap_or(u32::MAX),
    };
    (workers.clamp(1, clients.max(1)), usable)
}

/// Finds the workers of other processes: none may be on another machine if the master is on
/// this one alone.
fn remote_workers(workers: &Workers, master: &MasterChoice) -> Result<Vec<Address>, LoadError> {
    let Workers::At(named) = workers else { return Ok(Vec::new()) };
    let master = match master {
        MasterChoice::Running { addr, .. } => *addr,
        MasterChoice::Own(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    };
    let found = named.iter().map(|name| Address::resolve(name)).collect::<Result<Vec<_>, _>>()?;
    match found.iter().find(|worker| master.ip().is_loopback() && !worker.is_here()) {
        Some(worker) => Err(LoadError::WorkerElsewhere { worker: worker.clone(), master }),
        None => Ok(found),
    }
}

impl<'a> Load<'a> {
    /// Finds or starts the master, and makes the clients, which do nothing yet.
    ///
    /// # Errors
    /// The master may not be loaded or is not there, or the clients cannot be had.
    pub fn prepare(
        config: &LoadConfig,
        scenario: &Scenario,
        stop: &'a AtomicBool,
        progress: &'a mut Progress,
    ) -> Result<Self, LoadError> {
        let identities = Identities::new(&config.suffix)?;
        // Before anything else: the table of descriptors grows without a stall only now.
        let clients = config.clients;
        let (workers, descriptors) = workers_here(clients, &config.workers);
        let remote = remote_workers(&config.workers, &config.master)?;
        if let Some(names) = &config.names {
            check_names(config, names, workers)?;
        }
        let (addr, control, mut own) = match &config.master {
            MasterChoice::Running { addr, foreign_allowed, control, pid } => {
                // Without it the run would end with nothing said of what the master took.
                if let Some(pid) = pid.filter(|pid| Process::read(*pid).is_none()) {
                    return Err(LoadError::NoMasterPid { pid });
                }
                Target::examine(*addr, *foreign_allowed, scenario)?;
                (*addr, control.clone(), None)
            }
            MasterChoice::Own(own) => {
                progress.say("starting a master of its own");
                let own = OwnMaster::start(own)?;
                (own.addr(), Some(own.control()), Some(own))
            }
        };

        let resident_before = Process::own().resident_bytes;
        let clock = SystemClock::start();
        let fleet_config = FleetConfig {
            clients,
            workers,
            identities: identities.clone(),
            master: addr,
            own_addresses: Target::is_here(addr),
            port: config.port,
            deliveries_max: config.deliveries_max,
            seed: config.seed,
            // The standard library's hashers are keyed by the operating system's random bits.
            incarnation: RandomState::new().build_hasher().finish(),
        };
        let fleet = match &config.workers {
            Workers::At(_) => Fleet::connect(&fleet_config, clock, &remote)?,
            _ => Fleet::start(&fleet_config, clock, descriptors)?,
        };
        let ports = (0..workers).map(|w| fleet_config.share(w)).zip(fleet.ports().iter().copied());
        let names = config.names.map(|names| {
            let service = NameService::start(names, identities.clone(), clients, config.seed);
            service.map_err(|error| LoadError::Names { port: names.port, error })
        });
        let names = names.transpose()?;
        if let Some(names) = &names {
            if let Some(own) = &mut own {
                own.serve_by_name(names.addr(), fleet.ports()[0])?;
            }
        } else if let Some(path) = &config.hosts_table {
            let written = identities.write_hosts_table(path, ports);
            written.map_err(|error| LoadError::HostsTable { path: path.clone(), error })?;
        } else if let Some(own) = &mut own {
            own.serve(&identities, ports)?;
        }
        let target = Target::ask(addr)?;
        if let Some(path) = control.clone().filter(|path| !path.exists()) {
            return Err(LoadError::NoControl { path });
        }
        progress.say(&format!("{clients} clients of {workers} worker(s) for {target}"));
        let pid = match (&config.master, &own) {
            (_, Some(own)) => own.pid(),
            (MasterChoice::Running { pid, .. }, None) => *pid,
            (MasterChoice::Own(_), None) => None,
        };
        let observer = Observer::start(Watched { pid, control: control.clone() }, clock)?;
        let journal = config.journal.as_deref().map(Journal::open).transpose()?;
        let out = config.out.clone();
        let log = out.as_deref().map(|dir| open_log(dir, clock)).transpose()?;
        Ok(Self {
            stop,
            progress,
            target,
            control,
            own,
            observer,
            names,
            identities,
            clients,
            descriptors: fleet.descriptors(),
            beats: vec![Beat::default(); fleet.workers()],
            ended: Vec::new(),
            current: None,
            stage: Stage { of: scenario.phases.len(), ..Stage::default() },
            open: 0,
            samples: Vec::new(),
            began: None,
            fleet,
            clock,
            journal,
            log,
            out,
            ledger: Ledger::default(),
            kills: 0,
            resident_before,
        })
    }

    /// How many workers.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.fleet.workers()
    }

    /// How many clients.
    #[must_use]
    pub fn clients(&self) -> u64 {
        u64::from(self.clients)
    }

    /// Whether somebody wants it to end.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The time on the run's clock.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.clock.now().at
    }

    /// Looks at the master, now.
    #[must_use]
    pub fn look(&self) -> Sample {
        observer::look(&self.observer.watched(), self.clock)
    }

    /// Waits until the clients have all their acks and the master's inbox is empty, but not for
    /// long: what is left of one load would be counted as the next one's.
    ///
    /// # Errors
    /// A worker cannot go on.
    pub fn settle(&mut self, patience: Duration) -> Result<(), LoadError> {
        let Some(control) = self.control.clone() else { return Ok(()) };
        let until = self.now() + patience;
        let mut next = Instant(0);
        while self.now() < until && !self.is_interrupted() {
            let now = self.turn()?.at;
            if now < next || self.beats.iter().any(|beat| beat.standings.awaited > 0) {
                continue;
            }
            next = now + INBOX_INTERVAL;
            if truth::status(&control).is_ok_and(|status| status.inbox_records == 0) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// How the clients stand.
    #[must_use]
    pub fn standings(&self) -> Standings {
        self.beats.iter().map(|beat| beat.standings).sum()
    }

    /// When the last client reached its goal, if all have.
    fn done_at(&self) -> Option<Instant> {
        self.beats.iter().map(|beat| beat.done_at).collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// When the first phase's slots began.
    #[must_use]
    pub fn began(&self) -> Option<Instant> {
        self.began
    }

    /// All looks at the master so far.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Has the clients do what a phase asks for, until its end or somebody interrupts.
    ///
    /// # Errors
    /// A worker cannot go on, the journal cannot be written, or the master cannot be acted on.
    pub fn run(&mut self, config: &PhaseConfig) -> Result<Phase, LoadError> {
        let mut work = config.work.clone();
        if config.newer {
            // Whoever runs it may have published since the last look.
            self.target = Target::ask(self.target.addr)?;
            work.goal = Goal::Revision(self.target.revision + 1);
            if config.acts.is_empty() {
                self.progress.say(&format!(
                    "waiting for a revision later than {}: publish it now",
                    self.target.revision
                ));
            }
        }
        if work.goal == Goal::Settled && !Target::is_here(self.target.addr) {
            self.progress
                .say("a master on another machine dials none of these clients: none gets bound");
            work.goal = Goal::Acked;
        }
        let kills_before = self.kills;
        let peers =
            Crowd::start(&config.bad_peers, self.target.addr, &self.identities, self.clients)?;
        let began = self.clock.now();
        let start = began.at + LEAD + LEAD_EACH * self.clients;
        for beat in &mut self.beats {
            beat.done_at = None;
        }
        let first = self.began.get_or_insert(start);
        let second = start.since(*first).as_secs();
        let record = Record::new(&config.name, second, config.parts(), self.fleet.workers());
        self.current = Some((start, record));
        self.fleet.begin(&work, start);
        let slots_end = match config.until {
            Until::Done(_) => start,
            Until::Over(_) => start + work.length,
        };
        // Whoever comes last is waited for as long as the first.
        let come_back = work.restart.unwrap_or_default();
        let latest = slots_end.max(start + come_back) + config.until.patience();
        self.stage.name.clone_from(&config.name);
        self.stage.number += 1;
        self.stage.length = match config.until {
            Until::Done(patience) => come_back + patience,
            Until::Over(_) => work.length,
        };
        let mut acts = config.acts.iter().peekable();
        let mut next_kill = config.kill_every.map(|every| start + every);
        let end = loop {
            let now = self.turn()?.at;
            if let Some((_, act)) = acts.next_if(|(at, _)| now >= start + *at) {
                self.act(*act)?;
                continue;
            }
            if let (Some(at), Some(every)) = (next_kill, config.kill_every)
                && now >= at
                && (slots_end == start || now < slots_end)
            {
                next_kill = Some(at + every);
                self.act(Act::Restart)?;
                self.progress
                    .say(&format!("the master was killed and started again: {} times", self.kills));
                continue;
            }
            // A beat that was on its way when the order went out still tells of the last phase,
            // and one from before the last slot not of what came of that.
            let done_at = self.done_at().filter(|at| *at >= began.at);
            let settled = slots_end == start
                || self
                    .beats
                    .iter()
                    .all(|beat| beat.at >= slots_end && beat.standings.awaited == 0);
            if let Some(at) = done_at.filter(|_| settled && acts.peek().is_none())
                && now >= start
            {
                break if slots_end > start { now } else { at };
            }
            if self.is_interrupted() || now >= latest || self.own_ended().is_some() {
                break now;
            }
        };
        let peers = peers.end();
        self.fleet.close();
        self.open = self.fleet.workers();
        while self.open > 0 {
            self.turn()?;
        }
        let standings = self.standings();
        let (_, mut record) = self.current.take().ok_or(LoadError::WorkerDied)?;
        let log = &mut self.log;
        record.close(standings, true, |row, tally| {
            log.iter_mut().for_each(|log| log.add(row, tally));
        });
        let before = self.samples.iter().rposition(|sample| sample.at() <= start).unwrap_or(0);
        Ok(Phase {
            began,
            start,
            elapsed: end.since(start),
            record,
            samples: self.samples[before..].to_vec(),
            restarts: (self.kills - kills_before) as usize,
            standings,
            interrupted: self.is_interrupted(),
            peers,
        })
    }

    /// How a master of our own has ended, if it has: nobody waits for it then.
    fn own_ended(&mut self) -> Option<std::process::ExitStatus> {
        self.own.as_mut()?.ended()
    }

    /// Acts on a master of our own. The clients go on meanwhile: they run on threads of their
    /// own.
    fn act(&mut self, act: Act) -> Result<(), LoadError> {
        let Some(own) = &mut self.own else {
            return Err(LoadError::NeedsOwnMaster { what: "this" });
        };
        match act {
            Act::Publish { bytes } => own.publish(bytes)?,
            Act::Restart => {
                self.kills += 1;
                own.kill().map_err(LoadError::Loop)?;
                own.run()?;
                self.observer.look_at(own.pid());
            }
        }
        Ok(())
    }

    /// What its name service has answered, if it has one.
    #[must_use]
    pub fn name_counts(&self) -> Option<NameCounts> {
        self.names.as_ref().map(NameService::counts)
    }

    /// How often it has killed the master.
    #[must_use]
    pub fn kills(&self) -> u32 {
        self.kills
    }

    /// Leaves the report behind as files, if it is to.
    ///
    /// # Errors
    /// One cannot be written.
    pub fn leave(&mut self, report: &Report) -> Result<(), LoadError> {
        let Some(dir) = self.out.take() else { return Ok(()) };
        let finished = self.log.take().map_or(Ok(()), IntervalLog::finish);
        let written = finished.and_then(|()| report.write_files(&dir));
        written.map_err(|error| LoadError::Out { dir, error })
    }

    /// Hears the workers' last words.
    ///
    /// # Errors
    /// A worker cannot go on.
    pub fn end(&mut self) -> Result<(), LoadError> {
        self.fleet.end();
        while self.ended.len() < self.fleet.workers() {
            self.turn()?;
        }
        Ok(())
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
                    let standings = self.standings();
                    if let Some((start, record)) = &mut self.current {
                        let end = second.end.since(*start);
                        record.add(end, &second.tally, second.connections, second.cpu_us);
                        let log = &mut self.log;
                        record.close(standings, false, |row, tally| {
                            log.iter_mut().for_each(|log| log.add(row, tally));
                        });
                    }
                    self.open = self.open.saturating_sub(usize::from(second.last));
                }
                Happening::Failed(error) => return Err(error),
                Happening::Ended(ended) => self.ended.push(*ended),
                Happening::Ready { .. } => {}
            }
        }
        let now = self.clock.now();
        self.samples.extend(self.observer.take());
        if let Some((start, record)) = &self.current {
            let view = View {
                stage: &self.stage,
                elapsed: now.at.since(*start),
                clients: self.clients,
                beats: &self.beats,
                record,
                samples: &self.samples,
            };
            self.progress.update(now.at, &view);
        }
        Ok(now)
    }

    /// What was acked, into the journal and the ledger.
    fn note(&mut self, acked: Vec<Acked>) -> Result<(), LoadError> {
        for Acked { client, epoch, first, digests } in acked {
            let digests = || digests.iter().copied().map(Some);
            if let Some(journal) = &mut self.journal {
                let (name, epoch) = (self.identities.name(client), Epoch(epoch));
                for (seq, digest) in (first..).zip(digests()) {
                    journal.append(&AckedReport { name: name.clone(), epoch, seq, digest })?;
                }
            }
            self.ledger.acked(epoch, first, digests(), || self.identities.name(client));
        }
        self.journal.as_mut().map_or(Ok(()), Journal::flush)?;
        Ok(())
    }

    /// Waits until the master's inbox is empty, and compares what it stored with what it acked.
    /// An inbox that has grown under the load is not waited for for long.
    ///
    /// # Errors
    /// A worker cannot go on; a master that does not answer is a result.
    pub fn check(&mut self, has_grown: bool) -> Result<Checked, LoadError> {
        let checked = self.compare(has_grown)?;
        let holds = match &checked {
            Checked::Truth(truth) => truth.holds(),
            Checked::Unanswered(_) => false,
            Checked::NotAsked | Checked::Interrupted => true,
        };
        if !holds && let Some(own) = &mut self.own {
            own.keep();
        }
        Ok(checked)
    }

    /// Where the files of a master of its own are left, if acked was not found to be stored.
    #[must_use]
    pub fn kept(&self) -> Option<&Path> {
        self.own.as_ref()?.kept()
    }

    fn compare(&mut self, has_grown: bool) -> Result<Checked, LoadError> {
        let Some(control) = self.control.clone() else { return Ok(Checked::NotAsked) };
        // What is acked from here on is not part of the question.
        let mut ledger = std::mem::take(&mut self.ledger);
        let now = self.clock.now().at;
        let mut inbox = if has_grown { InboxWait::for_grown(now) } else { InboxWait::new(now) };
        let mut next = Instant(0);
        self.progress.say("waiting until the master's inbox is empty");
        loop {
            let now = self.turn()?.at;
            if self.is_interrupted() {
                return Ok(Checked::Interrupted);
            }
            if let Some(status) = self.own_ended() {
                return Ok(Checked::Unanswered(LoadError::OwnMasterEnded { status }));
            }
            if now < next {
                continue;
            }
            next = now + INBOX_INTERVAL;
            match inbox.ask(&control, now) {
                Ok(true) => {
                    return Ok(match ledger.read_stored(&control) {
                        Ok(()) => Checked::Truth(ledger.compare()),
                        Err(error) => Checked::Unanswered(error.into()),
                    });
                }
                Ok(false) => {}
                Err(error) => return Ok(Checked::Unanswered(error)),
            }
        }
    }
}

/// Whether the master can find the clients by name.
fn check_names(config: &LoadConfig, names: &NamesConfig, workers: u32) -> Result<(), LoadError> {
    let is_own = matches!(config.master, MasterChoice::Own(_));
    match (workers, names.port) {
        (2.., _) => Err(LoadError::NamesHaveNoPorts { workers }),
        (_, 0) if !is_own => Err(LoadError::NamesPort { client_port: config.port }),
        _ => Ok(()),
    }
}

/// Begins the interval log: a directory that cannot be written is told before the run, not after.
/// What an earlier run left goes, so that all that lies there is of one run, however this one ends.
fn open_log(dir: &Path, clock: SystemClock) -> Result<IntervalLog, LoadError> {
    let open = || {
        std::fs::create_dir_all(dir)?;
        report::left_in(dir).try_for_each(std::fs::remove_file)?;
        IntervalLog::create(&dir.join("latency.hlog"), clock.now().wall.0)
    };
    open().map_err(|error| LoadError::Out { dir: dir.to_owned(), error })
}

/// The clients of each worker, and the port on which they are dialled back.
///
/// # Errors
/// There are not so many ports from the first on.
pub fn worker_ports(
    clients: u32,
    workers: u32,
    first: u16,
) -> Result<Vec<(Range<u32>, u16)>, LoadError> {
    let port = |worker| {
        u16::try_from(u32::from(first) + worker).map_err(|_| LoadError::Ports { first, workers })
    };
    (0..workers).map(|worker| Ok((share(clients, workers, worker), port(worker)?))).collect()
}
