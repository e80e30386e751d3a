//! A simulated machine that runs the real client's role; its enforcer is a clock.

use super::disk::{Manners, SharedDisk, StoreLine};
use super::line::{Delay, Line};
use super::machine::{Running, Site, Threads};
use super::mutation::{MutatedPoller, Mutation};
use super::trace::Traced;
use ::client::daemon::{ClientOptions, ClientRole, Effect, PollSchedule, RoleMail, VERSION};
use ::client::enforcer::{EnforcerEvent, EnforcerStatus};
use engine::blob::{BlobWorker, Cache, FetchSettings, Fetcher};
use engine::ids::{Epoch, HostName, Revision};
use engine::limits::Limits;
use engine::node::io::{Mail, Request, ResolveError, Services};
use engine::node::{Fetching, MasterAddr, Node, Parts, Uplink};
use engine::queue::outbox::{Outbox, OutboxConfig};
use engine::reactor::Mailbox;
use engine::release::TrustedKeys;
use engine::time::Instant;
use engine::wire::message::{Report, ResourceResult, outcome, trigger};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What a client is configured with.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// Where its masters are.
    pub masters: Vec<MasterAddr>,
    /// Time between polls.
    pub poll_interval: Duration,
    /// The first poll comes within this.
    pub splay: Duration,
    /// Whose assignments it takes.
    pub trusted_keys: TrustedKeys,
    /// Bounds of its outbox.
    pub outbox: OutboxConfig,
    /// Bounds of its loop.
    pub limits: Limits,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            masters: Vec::new(),
            poll_interval: Duration::from_secs(60),
            splay: Duration::from_secs(2),
            trusted_keys: super::release::trusted(),
            outbox: OutboxConfig::default(),
            limits: Limits { connections_max: 64, listen_backlog: 128, ..Limits::default() },
        }
    }
}

enum Work {
    Enforce { signed: Vec<u8>, revision: u64 },
    Check,
    Action { report: Report },
    Stop,
}

/// The threads beside a client's reactor.
pub struct ClientThreads {
    site: Site,
    disk: SharedDisk,
    store: StoreLine,
    blobs: BlobWorker,
    blob_line: Line<engine::blob::BlobCommand>,
    names: Line<(HostName, Result<Vec<SocketAddr>, ResolveError>)>,
    work: Line<Work>,
    revision: u64,
    mailbox: Mailbox<RoleMail>,
    rng: fastrand::Rng,
}

/// A client that runs.
pub type RunningClient = Running<Node<ClientRole>, ClientThreads>;

/// A report of one resource that changed; `n` tells it from others.
#[must_use]
pub fn report(revision: u64, n: u64) -> Report {
    let result = ResourceResult {
        id: format!("file /etc/{n}").into_bytes(),
        outcome: outcome::CHANGED,
        before: "absent".to_owned(),
        after: "present".to_owned(),
        error: String::new(),
        duration_us: 1000,
        output: Vec::new(),
    };
    Report {
        revision,
        trigger: trigger::DRIFT,
        started_ms: n,
        duration_us: 1000,
        busy_us: 1000,
        checked: 1,
        results: vec![result],
        note: String::new(),
    }
}

impl ClientThreads {
    /// The enforcer works for this long, and then has something to report.
    pub fn act(&mut self, n: u64, takes: Duration) {
        let now = self.site.net.now().at;
        let work = Work::Action { report: report(self.revision, n) };
        self.work.push(work, now, Delay::fixed(takes), &mut self.rng);
    }

    /// The revision that is enforced.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }
}

impl Services<Effect> for ClientThreads {
    fn dispatch(&mut self, request: Request<Effect>) {
        let (now, manners) = (self.site.net.now().at, *self.site.manners.borrow());
        let rng = &mut self.rng;
        match request {
            Request::Store(command) => self.store.push(command, now, &manners, rng),
            Request::Blob(command) => self.blob_line.push(command, now, manners.blobs, rng),
            Request::Resolve { name } => {
                // What it finds is what is so now, however late it says it.
                let answer = self.site.resolve(&name, rng);
                self.names.push((name, answer), now, manners.resolver, rng);
            }
            Request::Role(Effect::Enforce { signed, manifest }) => {
                let work = Work::Enforce { signed, revision: manifest.revision.0 };
                self.work.push(work, now, manners.enforcer, rng);
            }
            Request::Role(Effect::Check) => {
                self.work.push(Work::Check, now, manners.enforcer, rng);
            }
            Request::Role(Effect::Status { conn, local }) => {
                let status = EnforcerStatus {
                    assigned_revision: self.revision,
                    ..EnforcerStatus::default()
                };
                let status = Box::new(status);
                self.mailbox.post_role(RoleMail::Status { conn, local, status });
            }
            Request::Role(Effect::Stop | Effect::StopNow) => {
                self.work.push(Work::Stop, now, Delay::micros(1, 10), rng);
            }
        }
    }
}

impl Threads for ClientThreads {
    fn pump(&mut self, now: Instant) {
        let manners: Manners = *self.site.manners.borrow();
        for event in self.store.pump(now, &manners, &mut self.rng) {
            self.mailbox.post(Mail::Store(event));
        }
        while let Some(command) = self.blob_line.pop(now) {
            self.mailbox.post(Mail::Blob(self.blobs.carry_out(command)));
        }
        while let Some((name, answer)) = self.names.pop(now) {
            self.mailbox.post(Mail::Resolved { name, answer });
        }
        while let Some(work) = self.work.pop(now) {
            let event = match work {
                Work::Enforce { signed, revision } => {
                    self.disk.borrow_mut().held = Some(signed);
                    self.revision = revision;
                    run_finished(report(revision, 0))
                }
                Work::Check => {
                    let mut report = report(self.revision, 0);
                    report.results.clear();
                    run_finished(report)
                }
                Work::Action { report } => run_finished(report),
                Work::Stop => EnforcerEvent::Stopped,
            };
            self.mailbox.post_role(RoleMail::Enforcer(event));
        }
    }

    fn next(&self) -> Option<Instant> {
        let lines = [self.store.next(), self.blob_line.next()];
        lines.into_iter().chain([self.names.next(), self.work.next()]).flatten().min()
    }
}

fn run_finished(report: Report) -> EnforcerEvent {
    EnforcerEvent::RunFinished {
        report,
        converged: true,
        to_end: true,
        beside: false,
        failing: None,
    }
}

/// Starts a client over what its disk has.
///
/// # Panics
/// Its port is taken.
#[must_use]
pub fn start(
    site: &Site,
    name: &HostName,
    addr: SocketAddr,
    disk: &SharedDisk,
    cache: Cache,
    settings: &ClientSettings,
    seed: u64,
) -> RunningClient {
    let mut rng = fastrand::Rng::with_seed(seed);
    let now = site.net.now();
    let state = disk.borrow().state();
    let held = disk.borrow().held.clone();
    let held = held.and_then(|signed| settings.trusted_keys.verify(&signed).ok());
    let outbox =
        Outbox::restore(name.clone(), &state, Arc::new(settings.outbox), Epoch(rng.u64(..)));
    let schedule = PollSchedule::new(settings.poll_interval, settings.splay, &mut rng, now);
    let mut uplink = Uplink::new(settings.masters.clone(), Some(addr.ip()), VERSION, outbox);
    uplink.hold_off(schedule.next().since(now.at), now);
    let mut parts = Parts::new(name.clone(), rng.fork());
    parts.uplink = Some(Box::new(uplink));
    let fetcher = Fetcher::new(FetchSettings::default(), rng.fork());
    parts.fetching = Some(Box::new(Fetching::new(fetcher, Some(addr.ip()))));
    let revision = held.as_ref().map_or(0, |assignment| assignment.revision);
    let trusted_keys = settings.trusted_keys.clone();
    let options = ClientOptions { trusted_keys, held, unfetched: None, applied: Revision(0) };
    let node = Node::new(parts, ClientRole::new(name.clone(), options, schedule));
    let poller = site.net.poller(addr.ip());
    let poller = MutatedPoller::new(poller, site.mutation);
    let mailbox = Mailbox::new(&poller);
    let mut threads = ClientThreads {
        site: site.clone(),
        disk: Rc::clone(disk),
        store: StoreLine::new(Rc::clone(disk)),
        blobs: BlobWorker::new(cache),
        blob_line: Line::default(),
        names: Line::default(),
        work: Line::default(),
        revision,
        mailbox: mailbox.clone(),
        rng,
    };
    if revision > 0 {
        threads.work.push(Work::Check, now.at, Delay::fixed(Duration::ZERO), &mut threads.rng);
    }
    let host = Traced::new(
        node,
        addr.ip(),
        Rc::clone(&site.trace),
        site.mutation_among(&[Mutation::ForgetDeadline, Mutation::SwapFrames, Mutation::Spin]),
    );
    let mut running = Running::new(site, poller, mailbox, host, threads, settings.limits);
    running.listen(addr);
    let metrics = running.reactor.metrics();
    running.reactor.host_mut().host.with_role(now, |role, cx| role.start(metrics, cx));
    running
}
