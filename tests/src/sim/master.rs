//! A simulated machine that runs the real master's role.

use super::disk::{SharedDisk, SharedResults, StoreLine};
use super::line::{Delay, Line};
use super::machine::{Running, Site, Threads};
use super::mutation::{self, MutatedPoller, Mutation};
use super::trace::Traced;
use ::master::daemon::{
    Effect, MasterOptions, MasterRole, Places, Published, Remembered, RoleMail,
};
use ::master::release::Release;
use ::master::sink::{Appended, SinkError, SinkEvent};
use engine::blob::{BlobWorker, Cache, Server};
use engine::ids::{Epoch, HostName};
use engine::limits::Limits;
use engine::node::io::{Mail, Request, ResolveError, Services};
use engine::node::{Downstream, DownstreamLimits, Node, Parts};
use engine::queue::inbox::{Inbox, InboxConfig};
use engine::queue::store::Record;
use engine::reactor::Mailbox;
use engine::time::Instant;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What a master is configured with.
#[derive(Debug, Clone, Copy)]
pub struct MasterSettings {
    /// Bounds of the way down.
    pub downstream: DownstreamLimits,
    /// Bounds of the inbox.
    pub inbox: InboxConfig,
    /// Bounds of the loop.
    pub limits: Limits,
    /// Whether the hosts that were heard are told of a release at once, or wait for their polls.
    pub push: bool,
    /// How long a stop may take.
    pub stop_timeout: Duration,
}

impl Default for MasterSettings {
    fn default() -> Self {
        Self {
            downstream: DownstreamLimits::default(),
            inbox: InboxConfig::default(),
            limits: Limits::default(),
            push: true,
            stop_timeout: Duration::from_secs(20),
        }
    }
}

/// The threads beside a master's reactor.
pub struct MasterThreads {
    site: Site,
    store: StoreLine,
    blobs: BlobWorker,
    blob_line: Line<engine::blob::BlobCommand>,
    names: Line<(HostName, Result<Vec<SocketAddr>, ResolveError>)>,
    batches: Line<Vec<Record>>,
    told: Line<SinkEvent>,
    results: SharedResults,
    inbox_epoch: Epoch,
    mailbox: Mailbox<RoleMail>,
    rng: fastrand::Rng,
}

/// A master that runs.
pub type RunningMaster = Running<Node<MasterRole>, MasterThreads>;

impl Services<Effect> for MasterThreads {
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
            Request::Role(Effect::Append(records)) => {
                self.batches.push(records, now, manners.sink, rng);
            }
            // Questions of operators, and releases, are the test's own affair here.
            Request::Role(Effect::UpdateHosts(_) | Effect::Query { .. } | Effect::Load) => {}
        }
    }
}

impl Threads for MasterThreads {
    fn pump(&mut self, now: Instant) {
        let manners = *self.site.manners.borrow();
        for event in self.store.pump(now, &manners, &mut self.rng) {
            self.mailbox.post(Mail::Store(event));
        }
        while let Some(command) = self.blob_line.pop(now) {
            self.mailbox.post(Mail::Blob(self.blobs.carry_out(command)));
        }
        while let Some((name, answer)) = self.names.pop(now) {
            self.mailbox.post(Mail::Resolved { name, answer });
        }
        while let Some(records) = self.batches.pop(now) {
            let event = if self.rng.f64() < manners.batches_failing {
                let detail = "made to fail".to_owned();
                let error = SinkError::Io { path: "results".to_owned(), detail };
                SinkEvent::AppendFailed { records, error, retry_after: Duration::from_secs(1) }
            } else {
                let mut records = records;
                mutation::alter(&mut records, self.site.mutation);
                let times = if self.site.mutation == Some(Mutation::StoreTwice) { 2 } else { 1 };
                for _ in 0..times {
                    self.results.borrow_mut().append(self.inbox_epoch, &records);
                }
                let upto = records.last().map_or(0, |record| record.seq);
                SinkEvent::Appended(Appended { upto, ..Appended::default() })
            };
            // A crash between the two: it is stored, and the master does not know.
            self.told.push(event, now, Delay::micros(5, 500), &mut self.rng);
        }
        while let Some(event) = self.told.pop(now) {
            self.mailbox.post_role(RoleMail::Sink(event));
        }
    }

    fn next(&self) -> Option<Instant> {
        let lines = [self.store.next(), self.blob_line.next(), self.names.next()];
        lines.into_iter().chain([self.batches.next(), self.told.next()]).flatten().min()
    }
}

/// Where the operator's commands reach the master of this address.
#[must_use]
pub fn control_socket(ip: IpAddr) -> PathBuf {
    format!("/run/{ip}/control.sock").into()
}

/// Starts a master over what its disk has.
///
/// # Panics
/// Its port is taken.
#[must_use]
#[expect(clippy::too_many_arguments, reason = "each is another part of the world")]
pub fn start(
    site: &Site,
    name: &HostName,
    addr: SocketAddr,
    disk: &SharedDisk,
    cache: Cache,
    results: &SharedResults,
    settings: &MasterSettings,
    seed: u64,
) -> RunningMaster {
    let mut rng = fastrand::Rng::with_seed(seed);
    let now = site.net.now();
    let state = disk.borrow().state();
    let inbox_epoch = Epoch(state.epoch);
    let (mut limits, mut inbox_config) = (settings.limits, settings.inbox);
    match site.mutation {
        Some(Mutation::IgnoreWatermark) => inbox_config.bytes_high = u64::MAX,
        Some(Mutation::NeverIdle) => limits.idle_timeout = Duration::from_secs(10 * 365 * 86_400),
        _ => {}
    }
    let mut inbox = Inbox::restore(&state, inbox_config, rng.u64(..));
    let cursor = results.borrow().cursor(inbox_epoch);
    inbox.start_consuming(cursor.map(|seq| (inbox_epoch, seq)));
    let mut parts = Parts::new(name.clone(), rng.fork());
    parts.inbox = Some(Box::new(inbox));
    let down = Downstream::new(name.clone(), Epoch(rng.u64(..)), settings.downstream);
    parts.downstream = Some(Box::new(down));
    parts.server = Some(Box::new(Server::new()));
    let options = MasterOptions {
        load_tests: false,
        places: Places::all(limits.connections_max),
        silent_after: Duration::from_secs(3600),
        client_port: addr.port() + 1,
        hosts_max: 100_000,
        stop_timeout: settings.stop_timeout,
    };
    let node = Node::new(parts, MasterRole::new(options));
    let poller = site.net.poller(addr.ip());
    let poller = MutatedPoller::new(poller, site.mutation);
    let mailbox = Mailbox::new(&poller);
    let threads = MasterThreads {
        site: site.clone(),
        store: StoreLine::new(Rc::clone(disk)),
        blobs: BlobWorker::new(cache),
        blob_line: Line::default(),
        names: Line::default(),
        batches: Line::default(),
        told: Line::default(),
        results: Rc::clone(results),
        inbox_epoch,
        mailbox: mailbox.clone(),
        rng,
    };
    let host = Traced::new(
        node,
        addr.ip(),
        Rc::clone(&site.trace),
        site.mutation_among(&[Mutation::LoseClosed]),
    );
    let mut running = Running::new(site, poller, mailbox, host, threads, limits);
    running.listen(addr);
    running.reactor.listen_unix(&control_socket(addr.ip())).expect("the socket is free");
    let metrics = running.reactor.metrics();
    running
        .reactor
        .host_mut()
        .host
        .with_role(now, |role, cx| role.start(metrics, Arc::default(), Remembered::default(), cx));
    running
}

/// Tells a master of a release.
pub fn load(master: &mut RunningMaster, site: &Site, releases: &[Release], push: bool) {
    let Some((current, older)) = releases.split_last() else { return };
    let now = site.net.now();
    let loaded = Ok((Published::new(current, older), Vec::new()));
    master.reactor.host_mut().host.with_role(now, |role, cx| {
        role.handle_loaded(loaded, cx);
        if push {
            role.push_heard(cx);
        }
    });
}
