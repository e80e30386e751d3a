//! Whole clusters in one thread under a virtual clock: masters with the real `MasterRole` and
//! clients with the real `ClientRole`, each on a real reactor over one simulated network. The
//! threads beside them (store, blobs, resolver, sink, enforcer) are simulated, so that they can
//! be slow, fail, and die between any two steps. All chance comes from one seed.
//!
//! A machine that crashes keeps its disk: what its store had committed, the assignment that it
//! had kept, its blobs.

pub mod agenda;
mod checks;
pub mod client;
pub mod disk;
pub mod fault;
pub mod line;
pub mod machine;
pub mod master;
pub mod mutation;
pub mod release;
pub mod soak;
pub mod tool;
pub mod trace;

use ::master::release::Release;
use agenda::{Agenda, Who};
use client::{ClientSettings, RunningClient};
use disk::{Disk, Manners, ResultStore, SharedDisk, SharedResults};
use engine::blob::Cache;
use engine::ids::{HostName, Revision};
use engine::node::io::Mail;
use engine::node::{MasterAddr, Uplink};
use engine::reactor::sim::{SimConfig, SimNet};
use engine::time::Instant;
use machine::{Machine, Process, Site};
use master::{MasterSettings, RunningMaster};
use mutation::Mutation;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use tool::Tool;
use trace::{Event, What};

/// Port of masters; clients have the next.
pub const PORT: u16 = 7400;
/// Rounds in which machines may keep one another busy without time passing.
const ROUNDS_MAX: u32 = 20_000;

/// A machine of the master's kind.
pub struct MasterSeat {
    /// Its name.
    pub name: HostName,
    /// Its address.
    pub addr: SocketAddr,
    /// Its disk.
    pub disk: SharedDisk,
    /// What it is configured with.
    pub settings: MasterSettings,
    /// What it has published.
    pub releases: Vec<Release>,
    cache: Cache,
    process: Option<Process<RunningMaster>>,
}

/// A machine of the client's kind.
pub struct ClientSeat {
    /// Its name.
    pub name: HostName,
    /// Its address.
    pub addr: SocketAddr,
    /// Its disk.
    pub disk: SharedDisk,
    /// What it is configured with.
    pub settings: ClientSettings,
    cache: Cache,
    process: Option<Process<RunningClient>>,
    actions: u64,
}

/// A cluster.
pub struct World {
    /// What all machines share.
    pub site: Site,
    /// The seed.
    pub seed: u64,
    /// For the test's own chances.
    pub rng: fastrand::Rng,
    /// The masters.
    pub masters: Vec<MasterSeat>,
    /// The clients.
    pub clients: Vec<ClientSeat>,
    /// What the masters stored.
    pub results: SharedResults,
    /// Programs that talk to them.
    pub tools: Vec<Tool>,
    /// How the network behaves while nothing is wrong with it.
    pub network: SimConfig,
    /// Largest file of a release that a fault publishes, in bytes.
    pub file_size_max: usize,
    agenda: Agenda,
    dir: tempfile::TempDir,
}

/// A directory for blobs, in memory where there is one for that: a soak makes thousands.
fn directory() -> tempfile::TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir()).expect("a directory for blobs")
}

/// A host name.
///
/// # Panics
/// It is none.
#[must_use]
pub fn host(name: &str) -> HostName {
    name.parse().expect("a host name")
}

/// The address 127.0.`a`.`b`.
#[must_use]
pub fn ip(a: u8, b: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, a, b).into()
}

impl World {
    /// An empty cluster.
    ///
    /// # Panics
    /// There is no directory for temporary files.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with(seed, SimConfig::default(), None)
    }

    /// An empty cluster on a network that behaves like this, with a deliberate fault or none.
    ///
    /// # Panics
    /// As [`World::new`].
    #[must_use]
    pub fn with(seed: u64, network: SimConfig, mutation: Option<Mutation>) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let site = Site {
            net: SimNet::new(rng.u64(..), network),
            trace: Rc::default(),
            manners: Rc::new(RefCell::new(Manners::default())),
            names: Rc::default(),
            first_names: Rc::default(),
            skew_ms: Rc::default(),
            mutation,
        };
        site.trace.borrow_mut().now = site.net.now().at;
        Self {
            site,
            seed,
            rng,
            masters: Vec::new(),
            clients: Vec::new(),
            results: Rc::new(RefCell::new(ResultStore::default())),
            tools: Vec::new(),
            network,
            file_size_max: 200_000,
            agenda: Agenda::default(),
            dir: directory(),
        }
    }

    /// One master at 127.0.0.1 and so many clients (c0, c1, … at 127.0.1.1, …) that run.
    #[must_use]
    pub fn cluster(seed: u64, clients: u8) -> Self {
        let mut world = Self::new(seed);
        world.add_master(ip(0, 1), MasterSettings::default());
        world.publish(0, &["*"], 1000);
        world.start_master(0);
        for n in 0..clients {
            let at = world.add_client(&format!("c{n}"), ip(1, n + 1));
            world.start_client(at);
        }
        world
    }

    fn cache(&self, of: IpAddr) -> Cache {
        Cache::open(&self.dir.path().join(of.to_string()), false).expect("a cache directory")
    }

    /// A master that does not run yet. The name `masters` leads to all of them.
    pub fn add_master(&mut self, ip: IpAddr, settings: MasterSettings) -> usize {
        let at = self.masters.len();
        let (name, addr) = (host(&format!("m{at}")), SocketAddr::new(ip, PORT));
        for names in [&self.site.names, &self.site.first_names] {
            names.borrow_mut().entry(host("masters")).or_default().push(addr);
        }
        let disk = Disk::new(self.rng.u64(..));
        disk.borrow_mut().mutation = self.site.mutation;
        self.masters.push(MasterSeat {
            name,
            addr,
            disk,
            settings,
            releases: Vec::new(),
            cache: self.cache(ip),
            process: None,
        });
        at
    }

    /// A client that does not run yet; its name leads to its address, if it led nowhere before.
    pub fn add_client(&mut self, name: &str, ip: IpAddr) -> usize {
        let (name, addr) = (host(name), SocketAddr::new(ip, PORT + 1));
        for names in [&self.site.names, &self.site.first_names] {
            names.borrow_mut().entry(name.clone()).or_insert_with(|| vec![addr]);
        }
        let disk = Disk::new(self.rng.u64(..));
        disk.borrow_mut().mutation = self.site.mutation_among(&[Mutation::LoseAnswer]);
        self.clients.push(ClientSeat {
            name,
            addr,
            disk,
            settings: ClientSettings {
                masters: vec![MasterAddr::Name(host("masters"), PORT)],
                ..ClientSettings::default()
            },
            cache: self.cache(ip),
            process: None,
            actions: 0,
        });
        self.clients.len() - 1
    }

    /// Publishes the next revision at a master for these patterns, with a file of this size.
    pub fn publish(&mut self, at: usize, patterns: &[&str], size: usize) {
        let now = self.site.net.now();
        let seat = &mut self.masters[at];
        let revision = seat.releases.last().map_or(0, |release| release.revision) + 1;
        seat.releases.push(release::publish(&seat.cache, revision, patterns, size, now.wall.0));
        let (settings, releases) = (seat.settings, &seat.releases);
        if let Some(process) = &mut seat.process {
            master::load(process.poke(), &self.site, releases, settings.push);
            self.agenda.poke(Who::Master(at));
        }
    }

    fn fate(&self, ip: IpAddr, what: &'static str) {
        self.site.trace.borrow_mut().note(ip, What::Fate(what));
    }

    /// Starts a master.
    pub fn start_master(&mut self, at: usize) {
        let (seed, seat) = (self.rng.u64(..), &mut self.masters[at]);
        // A new process: the old one's commands are gone, however it ended.
        seat.disk.borrow_mut().crash();
        let mut running = master::start(
            &self.site,
            &seat.name,
            seat.addr,
            &seat.disk,
            seat.cache.clone(),
            &self.results,
            &seat.settings,
            seed,
        );
        master::load(&mut running, &self.site, &seat.releases, seat.settings.push);
        self.agenda.begin(Who::Master(at), running.process);
        seat.process = Some(Process::new(running));
        let ip = seat.addr.ip();
        self.fate(ip, "start");
    }

    /// Starts a client.
    pub fn start_client(&mut self, at: usize) {
        let (seed, seat) = (self.rng.u64(..), &mut self.clients[at]);
        seat.disk.borrow_mut().crash();
        let (site, cache) = (&self.site, seat.cache.clone());
        let running =
            client::start(site, &seat.name, seat.addr, &seat.disk, cache, &seat.settings, seed);
        self.agenda.begin(Who::Client(at), running.process);
        seat.process = Some(Process::new(running));
        let ip = seat.addr.ip();
        self.fate(ip, "start");
    }

    /// SIGKILL to a master.
    pub fn kill_master(&mut self, at: usize) {
        self.agenda.end(Who::Master(at));
        let seat = &mut self.masters[at];
        seat.process = None;
        seat.disk.borrow_mut().crash();
        let ip = seat.addr.ip();
        self.fate(ip, "kill");
    }

    /// SIGKILL to a client.
    pub fn kill_client(&mut self, at: usize) {
        self.agenda.end(Who::Client(at));
        let seat = &mut self.clients[at];
        seat.process = None;
        seat.disk.borrow_mut().crash();
        let ip = seat.addr.ip();
        self.fate(ip, "kill");
    }

    /// A master that runs.
    ///
    /// # Panics
    /// It does not.
    pub fn master(&mut self, at: usize) -> &mut RunningMaster {
        self.agenda.poke(Who::Master(at));
        self.masters[at].process.as_mut().expect("the master runs").poke()
    }

    /// A client that runs.
    ///
    /// # Panics
    /// It does not.
    pub fn client(&mut self, at: usize) -> &mut RunningClient {
        self.agenda.poke(Who::Client(at));
        self.clients[at].process.as_mut().expect("the client runs").poke()
    }

    /// A master that runs, to be looked at without disturbing it.
    ///
    /// # Panics
    /// It does not run.
    #[must_use]
    pub fn see_master(&self, at: usize) -> &RunningMaster {
        &self.masters[at].process.as_ref().expect("the master runs").running
    }

    /// A running client's way up, to be looked at without disturbing it.
    ///
    /// # Panics
    /// It does not run.
    #[must_use]
    pub fn see_client(&self, at: usize) -> &Uplink {
        let running = &self.clients[at].process.as_ref().expect("the client runs").running;
        running.reactor.host().host.parts().uplink.as_ref().expect("a client has a way up")
    }

    /// A program at `from` dials an address.
    ///
    /// # Panics
    /// There is no route to it.
    pub fn dial(&mut self, from: IpAddr, to: SocketAddr) -> usize {
        let tool = Tool::dial(&self.site.net, from, to).expect("there is a route");
        self.tools.push(tool);
        self.tools.len() - 1
    }

    /// An operator's command at a master's own machine.
    pub fn control(&mut self, at: usize) -> usize {
        let ip = self.masters[at].addr.ip();
        self.tools.push(Tool::dial_control(&self.site.net, ip, &master::control_socket(ip)));
        self.tools.len() - 1
    }

    /// Whether a master runs.
    #[must_use]
    pub fn master_runs(&self, at: usize) -> bool {
        self.masters[at].process.is_some()
    }

    /// Whether a client runs.
    #[must_use]
    pub fn client_runs(&self, at: usize) -> bool {
        self.clients[at].process.is_some()
    }

    /// SIGTERM to a master.
    pub fn stop_master(&mut self, at: usize) {
        self.master(at).reactor.mailbox().post(Mail::Stop);
    }

    /// SIGTERM to a client.
    pub fn stop_client(&mut self, at: usize) {
        self.client(at).reactor.mailbox().post(Mail::Stop);
    }

    /// A client's enforcer acts for this long and has a report then.
    pub fn act(&mut self, at: usize, takes: Duration) {
        self.clients[at].actions += 1;
        let n = self.clients[at].actions;
        self.client(at).reactor.services_mut().act(n, takes);
    }

    /// A machine's process, if it runs.
    fn machine(&mut self, who: Who) -> Option<&mut dyn Machine> {
        match who {
            Who::Master(at) => self.masters[at].process.as_mut().map(|p| p as &mut dyn Machine),
            Who::Client(at) => self.clients[at].process.as_mut().map(|p| p as &mut dyn Machine),
        }
    }

    /// One turn of a machine that has something to do.
    fn work(&mut self, who: Who, net: &SimNet, now: Instant) {
        let Some(machine) = self.machine(who) else { return };
        machine.work(net, now);
        let (next, exited) = (machine.next(now), machine.exited());
        if exited {
            self.agenda.end(who);
            match who {
                Who::Master(at) => self.masters[at].process = None,
                Who::Client(at) => self.clients[at].process = None,
            }
        } else {
            self.agenda.set(who, next);
            self.assert_limits(who);
        }
    }

    /// Does all that can be done at this moment.
    fn settle(&mut self) {
        let net = self.site.net.clone();
        let now = net.now().at;
        self.site.trace.borrow_mut().now = now;
        let mut due = Vec::new();
        for _ in 0..ROUNDS_MAX {
            net.run();
            self.agenda.due(&net, now, &mut due);
            let mut busy = !due.is_empty();
            for who in due.drain(..) {
                self.work(who, &net, now);
            }
            for tool in &mut self.tools {
                busy |= tool.work();
            }
            if !busy {
                return;
            }
        }
        panic!("seed {:#x}: the machines spin at {now:?}", self.seed);
    }

    /// Goes on to the next moment at which something happens, but not beyond `until`.
    fn step(&mut self, until: Instant) {
        self.settle();
        let now = self.site.net.now().at;
        let next = self.agenda.next().into_iter().chain(self.site.net.next_event()).min();
        self.site.net.advance_to(next.unwrap_or(until).clamp(now, until));
        self.site.trace.borrow_mut().now = self.site.net.now().at;
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let until = self.now() + time;
        while self.now() < until {
            self.step(until);
        }
        self.settle();
    }

    /// Lets time pass until something is so.
    ///
    /// # Panics
    /// It is not so within `most`.
    pub fn until(&mut self, what: &str, most: Duration, mut so: impl FnMut(&mut Self) -> bool) {
        let until = self.now() + most;
        while !so(self) {
            if self.now() >= until {
                let told = self.tell();
                panic!("seed {:#x}: never {what}: {told}", self.seed);
            }
            self.step(until);
        }
    }

    /// The virtual time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.site.net.now().at
    }

    /// Sets how threads behave from now on.
    pub fn behave(&mut self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.site.manners.borrow_mut());
    }

    /// What has happened at an address.
    #[must_use]
    pub fn events(&self, ip: IpAddr) -> Vec<Event> {
        let trace = self.site.trace.borrow();
        trace.events().iter().filter(|event| event.ip == ip).copied().collect()
    }

    /// How often something of this sort has happened at an address.
    #[must_use]
    pub fn count(&self, ip: IpAddr, is: impl Fn(&What) -> bool) -> usize {
        let trace = self.site.trace.borrow();
        trace.events().iter().filter(|event| event.ip == ip && is(&event.what)).count()
    }

    /// The newest revision that a master has published.
    #[must_use]
    pub fn newest(&self) -> Revision {
        let newest = self.masters.iter().filter_map(|seat| seat.releases.last());
        Revision(newest.map(|release| release.revision).max().unwrap_or(0))
    }

    /// The revision that a client enforces; 0 if it does not run.
    pub fn revision(&mut self, at: usize) -> u64 {
        if !self.client_runs(at) {
            return 0;
        }
        let process = self.clients[at].process.as_mut();
        process.map_or(0, |p| p.running.reactor.services_mut().revision())
    }

    /// Whether all clients enforce the newest revision.
    pub fn is_current(&mut self) -> bool {
        let newest = self.newest().0;
        (0..self.clients.len()).all(|at| self.revision(at) == newest)
    }

    /// Durable messages that a client has not had acked.
    #[must_use]
    pub fn unacked(&self, at: usize) -> u64 {
        let process = self.clients[at].process.as_ref();
        let uplink = process.and_then(|p| {
            p.running.reactor.host().host.parts().uplink.as_ref().map(|u| u.outbox.depth().0)
        });
        uplink.unwrap_or(u64::MAX)
    }

    /// Whether all that was reported has been acked and stored.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        (0..self.clients.len()).all(|at| self.unacked(at) == 0)
            && self.results.borrow().reports.len() + self.set_aside_count() == self.written_count()
    }

    /// All disks, the masters' first.
    pub(super) fn disks(&self) -> impl Iterator<Item = &SharedDisk> {
        let masters = self.masters.iter().map(|seat| &seat.disk);
        masters.chain(self.clients.iter().map(|seat| &seat.disk))
    }

    /// Reports that were damaged on a disk, on a client's or on a master's.
    #[must_use]
    pub fn damaged(&self) -> BTreeSet<engine::ids::Origin> {
        self.disks().flat_map(|disk| disk.borrow().damaged.clone()).collect()
    }

    /// How many of them are not stored: one that was under way already is.
    fn set_aside_count(&self) -> usize {
        let results = self.results.borrow();
        self.damaged().iter().filter(|origin| !results.reports.contains_key(origin)).count()
    }

    /// How many reports clients ever had on their disks.
    #[must_use]
    pub fn written_count(&self) -> usize {
        self.clients.iter().map(|seat| seat.disk.borrow().written.len()).sum()
    }

    /// Origins of all reports that clients ever had on their disks.
    #[must_use]
    pub fn written(&self) -> BTreeSet<engine::ids::Origin> {
        let of = |seat: &ClientSeat| seat.disk.borrow().written.keys().cloned().collect::<Vec<_>>();
        self.clients.iter().flat_map(of).collect()
    }
}
