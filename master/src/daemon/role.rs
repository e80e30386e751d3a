//! The master's role: polls and binding requests in, assignments out, reports to the sink,
//! answers to the operator.

mod commands;

use super::failures::Failures;
use super::hosts::{self, Heard, Hosts, Polled};
use super::places::Places;
use super::probe::{self, Probe};
use super::published::Published;
use super::push::Push;
use super::status;
use super::strangers::Strangers;
use crate::admin;
use crate::control::{ControlError, Published as PublishedAnswer};
use crate::sink::{Answer, HostUpdates, Query, Record, SinkError, SinkEvent};
use commands::reply_json;
use engine::ids::{ConnId, HostName, Origin, Revision};
use engine::node::io::PeerAddr;
use engine::node::{Context, Handled, Message, NodeEvent, Outgoing, Role};
use engine::queue::thread::StoreMetrics;
use engine::reactor::Metrics;
use engine::time::{Instant, WallMs};
use engine::wire::message::{BindReq, BindResp, Heartbeat, Poll, StatusReq};
use engine::wire::{Body, Class, Frame, FrameBuf, Kind, NackReason, access};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// This program's version, as peers and operators see it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The result store is told of hosts at most this often.
const UPDATE_INTERVAL: Duration = Duration::from_secs(1);
/// A release that could not be loaded is tried again after this time.
const LOAD_RETRY: Duration = Duration::from_secs(30);
/// Why a batch that the sink refused is offered again only later.
const SINK_RETRY: Duration = Duration::from_secs(1);

/// What the master asks of its own threads.
#[derive(Debug)]
pub enum Effect {
    /// For the sink: store these records.
    Append(Vec<Record>),
    /// For the sink: this was learned of hosts.
    UpdateHosts(HostUpdates),
    /// For the sink: an operator's question.
    Query {
        /// Echoed in the answer.
        id: u64,
        /// The question.
        query: Query,
    },
    /// Load the release that was published last; the hosts table is read again too.
    Load,
}

/// What its own threads tell the master.
#[derive(Debug)]
pub enum RoleMail {
    /// From the sink.
    Sink(SinkEvent),
    /// The release and the names of the hosts table, or why they cannot be read.
    Loaded(Result<(Published, Vec<HostName>), String>),
}

/// What the role is configured with.
#[derive(Debug, Clone)]
pub struct MasterOptions {
    /// A host not heard for this long is silent.
    pub silent_after: Duration,
    /// Port of clients whose address comes without one.
    pub client_port: u16,
    /// Most hosts that are known at once.
    pub hosts_max: usize,
    /// How long a stop may take.
    pub stop_timeout: Duration,
    /// Whether a load generator on another machine may load it.
    pub load_tests: bool,
    /// How many connections it takes.
    pub places: Places,
}

/// What was published last could not be loaded: what was in force before still is.
#[derive(Debug)]
struct Unloaded {
    error: String,
    retry_at: Instant,
}

/// What the result store knows at the start.
#[derive(Debug, Default)]
pub struct Remembered {
    /// When each host was last heard, and what it held.
    pub hosts: Vec<(HostName, WallMs, Revision)>,
    /// The largest number of the inbox's log that is stored; 0 for none.
    pub stored: u64,
}

/// The master.
#[derive(Debug)]
pub struct MasterRole {
    options: MasterOptions,
    metrics: Arc<Metrics>,
    store_metrics: Arc<StoreMetrics>,
    /// What the result store knew of hosts at the start, until a release says which there are.
    remembered: Vec<(HostName, WallMs, Revision)>,
    hosts: Hosts,
    pub(super) strangers: Strangers,
    pushes: Vec<Push>,
    probes: Vec<Probe>,
    failures: Failures,
    queries: HashMap<u64, ConnId>,
    next_query: u64,
    /// Who waits to hear that a release was loaded.
    loading: Vec<ConnId>,
    /// The revision that was published last, as far as it was told.
    told: Revision,
    unloaded: Option<Unloaded>,
    update_at: Option<Instant>,
    /// A batch that the sink did not take, and when to offer it again.
    refused: Option<(Vec<Record>, Instant)>,
    pub(super) sink_cursor: u64,
    pub(super) sink_error: String,
    /// What was last said to anybody who asks, and in which turn: a crowd costs one look.
    said: Option<(Instant, FrameBuf)>,
    started: Option<Instant>,
    stopping: bool,
}

type Cx<'a> = Context<'a, Effect>;

impl MasterRole {
    /// A master that has no release yet; send it [`RoleMail::Loaded`].
    #[must_use]
    pub fn new(options: MasterOptions) -> Self {
        let hosts = Hosts::new(options.hosts_max);
        Self {
            options,
            metrics: Arc::default(),
            store_metrics: Arc::default(),
            remembered: Vec::new(),
            hosts,
            strangers: Strangers::default(),
            pushes: Vec::new(),
            probes: Vec::new(),
            failures: Failures::default(),
            queries: HashMap::new(),
            next_query: 1,
            loading: Vec::new(),
            told: Revision(0),
            unloaded: None,
            update_at: None,
            refused: None,
            sink_cursor: 0,
            sink_error: String::new(),
            said: None,
            started: None,
            stopping: false,
        }
    }

    /// The loop is about to turn; these are its counters, and what the result store knows.
    pub fn start(
        &mut self,
        metrics: Arc<Metrics>,
        store_metrics: Arc<StoreMetrics>,
        remembered: Remembered,
        cx: &Cx<'_>,
    ) {
        self.metrics = metrics;
        self.store_metrics = store_metrics;
        self.remembered = remembered.hosts;
        self.sink_cursor = remembered.stored;
        self.started = Some(cx.now.at);
    }

    /// What it knows of hosts.
    #[must_use]
    pub fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    pub(super) fn store_metrics(&self) -> &StoreMetrics {
        &self.store_metrics
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether a load generator on another machine may load it.
    pub(super) fn allows_load_tests(&self) -> bool {
        self.options.load_tests
    }

    pub(super) fn places(&self) -> &Places {
        &self.options.places
    }

    pub(super) fn silent_since(&self, now: WallMs) -> WallMs {
        let after = u64::try_from(self.options.silent_after.as_millis()).unwrap_or(u64::MAX);
        WallMs(now.0.saturating_sub(after))
    }

    pub(super) fn uptime(&self, now: Instant) -> Duration {
        self.started.map_or(Duration::ZERO, |started| now.since(started))
    }

    fn on_heard(&mut self, name: &HostName, peer: &PeerAddr, cx: &mut Cx<'_>) -> Heard {
        let source = source_of(peer);
        let heard = self.hosts.heard(name, source, cx.now);
        if heard == Heard::Stranger {
            self.strangers.refused(name, source, cx.now.at);
        }
        self.hosts.take_unresolved().into_iter().for_each(|name| cx.resolve(name));
        heard
    }

    fn on_poll(&mut self, message: &Message<'_>, heard: Heard, cx: &mut Cx<'_>) -> Handled {
        let Ok(poll) = access::<Poll>(&message.frame) else {
            return Handled::Refused(NackReason::Damaged);
        };
        let name = &message.origin.name;
        let polled = Polled {
            held: Revision(poll.held.to_native()),
            applied: Revision(poll.applied.to_native()),
            wall: WallMs(poll.wall_ms.to_native()),
            version: &poll.version,
            last_error: &poll.last_error,
        };
        if heard == Heard::Host {
            self.hosts.polled(name, polled, cx.now);
        }
        let behind = self.hosts.is_behind(name);
        if self.hosts.lacks(name) {
            cx.want(name);
        }
        if behind { Handled::TakenBehind } else { Handled::Taken }
    }

    fn on_bind_req(&mut self, message: &Message<'_>, cx: &mut Cx<'_>) -> Handled {
        let Ok(request) = access::<BindReq>(&message.frame) else {
            return Handled::Refused(NackReason::Damaged);
        };
        let name = &message.origin.name;
        self.hosts.asked_to_bind(name, source_of(message.peer), request.nonce.to_native());
        cx.want(name);
        Handled::Taken
    }

    fn note_updates(&mut self, cx: &Cx<'_>) {
        if self.update_at.is_none() && self.hosts.has_updates() {
            self.update_at = Some(cx.now.at + UPDATE_INTERVAL);
        }
    }

    /// Whether it was asked to end.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping
    }

    fn tell_hosts(&mut self, cx: &mut Cx<'_>) {
        self.update_at = None;
        if self.hosts.has_updates() {
            cx.effect(Effect::UpdateHosts(self.hosts.take_updates()));
        }
    }

    fn on_sink(&mut self, event: SinkEvent, cx: &mut Cx<'_>) {
        match event {
            SinkEvent::Appended(appended) => {
                self.sink_cursor = appended.upto;
                self.sink_error.clear();
                cx.consumed(appended.upto);
            }
            SinkEvent::AppendFailed { records, error, retry_after } => {
                self.sink_error = error.to_string();
                self.refused = Some((records, cx.now.at + retry_after.max(SINK_RETRY)));
            }
            SinkEvent::HostsFailed(error) => self.sink_error = error.to_string(),
            SinkEvent::Recovered => self.sink_error.clear(),
            SinkEvent::Answered { id, mut answer } => {
                self.mark_ahead(&mut answer);
                if let Some(conn) = self.queries.remove(&id) {
                    cx.reply(conn, &admin::response(&answer));
                }
            }
            SinkEvent::Ended => {
                if !self.stopping {
                    log::error!(
                        "the result store's thread has ended; reports wait in the inbox until a restart"
                    );
                    self.sink_error =
                        "the result store's thread has ended: restart the master".to_owned();
                }
            }
        }
    }

    /// A host that refuses what is published has no more urgent error.
    fn mark_ahead(&self, answer: &mut Result<Answer, SinkError>) {
        let Ok(Answer::Hosts(page)) = answer else { return };
        let published = self.hosts.published().revision;
        for host in &mut page.hosts {
            if let Some(held) = host.held.map(Revision)
                && held > published
            {
                host.last_error = hosts::ahead(held, published);
            }
        }
    }

    /// Why what was published last is not in force, in words.
    pub(super) fn unloaded(&self) -> Option<String> {
        let Unloaded { error, .. } = self.unloaded.as_ref()?;
        let revision = self.hosts.published().revision;
        let every = LOAD_RETRY.as_secs();
        Some(if self.told > revision {
            format!(
                "revision {} is published, and {revision} is in force: {error} (tried again every {every} s)",
                self.told
            )
        } else {
            format!("what is published cannot be loaded: {error} (tried again every {every} s)")
        })
    }

    /// A release has been read, or cannot be.
    pub fn handle_loaded(
        &mut self,
        loaded: Result<(Published, Vec<HostName>), String>,
        cx: &mut Cx<'_>,
    ) {
        let waiting = std::mem::take(&mut self.loading);
        let (mut published, tabled) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                log::error!("the release cannot be loaded: {error}");
                let hint = "the release that was in force before stays in force; `drover publish` tries again, and so does the master";
                let retry_at = cx.now.at + LOAD_RETRY;
                self.unloaded = Some(Unloaded { error: error.clone(), retry_at });
                let error = ControlError::new(error, hint);
                waiting.into_iter().for_each(|conn| cx.reply(conn, &admin::refusal(&error)));
                return;
            }
        };
        self.unloaded = None;
        let revision = published.revision;
        if let Some(server) = &mut cx.node.server {
            server.listing_replaced(published.take_listing());
        }
        self.hosts.publish(Arc::new(published), tabled);
        for (name, seen, held) in std::mem::take(&mut self.remembered) {
            self.hosts.remember(&name, seen, held);
        }
        self.strangers.admit(|name| self.hosts.knows(name));
        if revision == Revision(0) {
            log::info!("nothing has been published yet");
        } else {
            let lacking = self.hosts.names().filter(|name| self.hosts.lacks(name)).count();
            log::info!("revision {revision} is in force; hosts that lack it: {lacking}");
        }
        let targets = if waiting.is_empty() { 0 } else { self.push_lacking(cx, |_| true) };
        let answer = PublishedAnswer { revision: revision.0, targets };
        waiting.into_iter().for_each(|conn| reply_json(cx, conn, &answer));
        self.note_updates(cx);
    }

    /// Dials the hosts that lack the revision in force, of those that are meant; how many.
    fn push_lacking(&self, cx: &mut Cx<'_>, is_meant: impl Fn(&HostName) -> bool) -> u64 {
        let lacking = self.hosts.names().filter(|name| self.hosts.lacks(name) && is_meant(name));
        // In the order of their names: whatever is done twice is done in the same order.
        let targets: BTreeSet<&HostName> = lacking.collect();
        targets.iter().for_each(|name| cx.want(name));
        targets.len() as u64
    }

    /// Dials the hosts that lack the revision in force and were heard before: for the start,
    /// when those that were never heard are most likely not there.
    pub fn push_heard(&self, cx: &mut Cx<'_>) {
        self.push_lacking(cx, |name| self.hosts.was_heard(name));
    }
}

fn source_of(peer: &PeerAddr) -> Option<IpAddr> {
    match peer {
        PeerAddr::Tcp(addr) => Some(addr.ip()),
        PeerAddr::Unix { .. } => None,
    }
}

impl Role for MasterRole {
    type Mail = RoleMail;
    type Effect = Effect;

    fn accepts(&self, class: Class) -> bool {
        class == Class::Uplink
    }

    fn knows(&self, host: &HostName) -> bool {
        self.hosts.knows(host)
    }

    fn handle_message(&mut self, message: Message<'_>, cx: &mut Cx<'_>) -> Handled {
        let heard = self.on_heard(&message.origin.name, message.peer, cx);
        if heard == Heard::Stranger {
            cx.node.counters.unknown_host.bump();
            return Handled::Refused(NackReason::Unknown);
        }
        let handled = match message.frame.header.kind {
            Kind::POLL => self.on_poll(&message, heard, cx),
            Kind::BIND_REQ => self.on_bind_req(&message, cx),
            Kind::HEARTBEAT if access::<Heartbeat>(&message.frame).is_err() => {
                Handled::Refused(NackReason::Damaged)
            }
            _ => Handled::Taken,
        };
        self.note_updates(cx);
        handled
    }

    fn handle_request(
        &mut self,
        conn: ConnId,
        _: &PeerAddr,
        frame: Frame<'_>,
        cx: &mut Cx<'_>,
    ) -> Option<()> {
        match frame.header.kind {
            Kind::CONTROL_REQ => self.on_control(conn, &frame, cx),
            Kind::STATUS_REQ => {
                access::<StatusReq>(&frame).ok()?;
                let said = self.said.take().filter(|(at, _)| *at == cx.now.at);
                let (at, answer) = said.unwrap_or_else(|| {
                    let status = status::public(self, cx);
                    (cx.now.at, FrameBuf::message(None, &status, |_| {}))
                });
                cx.reply_with(conn, answer.clone());
                self.said = Some((at, answer));
                Some(())
            }
            _ => None,
        }
    }

    fn handle_gathered(&mut self, origin: &Origin, peer: &PeerAddr, _: Kind, cx: &mut Cx<'_>) {
        // A report is kept whoever brought it: that of a host with one address too many must
        // not be lost, and the conflict is told.
        self.on_heard(&origin.name, peer, cx);
        self.note_updates(cx);
    }

    fn handle_mail(&mut self, mail: RoleMail, cx: &mut Cx<'_>) {
        match mail {
            RoleMail::Sink(event) => self.on_sink(event, cx),
            RoleMail::Loaded(loaded) => self.handle_loaded(loaded, cx),
        }
    }

    fn handle_event(&mut self, event: NodeEvent, cx: &mut Cx<'_>) {
        match event {
            NodeEvent::Delivered { host, result } => {
                if let Err(why) = &result {
                    let now = cx.now.at;
                    self.failures.add(&host, why, || cx.trail(), now);
                }
                self.hosts.delivered(&host, &result);
                self.pushes.iter_mut().for_each(|push| push.delivered(&host, &result));
                self.tell_pushes(cx);
            }
            NodeEvent::Records(records) => {
                cx.effect(Effect::Append(records));
            }
            NodeEvent::Resolved { name, answer } => {
                self.hosts.resolved(&name, answer.as_deref().unwrap_or_default(), cx.now);
                self.note_updates(cx);
                let asked = |p: &Probe| p.host == name && p.exchange.is_none();
                while let Some(at) = self.probes.iter().position(asked) {
                    let probe = &mut self.probes[at];
                    match probe.resolved(&answer, self.options.client_port) {
                        Some(addr) => {
                            let request = StatusReq { detail: 0 };
                            let frame = engine::wire::FrameBuf::message(None, &request, |_| {});
                            probe.exchange = Some(cx.exchange(addr, frame, probe::TIMEOUT));
                        }
                        None => self.finish_probe(at, cx),
                    }
                }
            }
            NodeEvent::Exchanged { id, response } => {
                if let Some(at) = self.probes.iter().position(|p| p.exchange == Some(id)) {
                    let published = self.hosts.published().revision;
                    self.probes[at]
                        .answered(response.as_deref().map_err(|failure| *failure), published);
                    self.finish_probe(at, cx);
                }
            }
            NodeEvent::Closed { conn } => self.on_closed(conn, cx),
            NodeEvent::Reload => cx.effect(Effect::Load),
            NodeEvent::Stop => {
                self.stopping = true;
                log::info!(
                    "stopping: what is under way may take {} s; a second signal ends it at once",
                    self.options.stop_timeout.as_secs()
                );
                self.tell_hosts(cx);
            }
            _ => {}
        }
    }

    fn handle_timeout(&mut self, cx: &mut Cx<'_>) {
        if self.update_at.is_some_and(|at| at <= cx.now.at) {
            self.tell_hosts(cx);
        }
        if let Some((records, _)) = self.refused.take_if(|(_, at)| *at <= cx.now.at) {
            cx.effect(Effect::Append(records));
        }
        if let Some(unloaded) = &mut self.unloaded
            && unloaded.retry_at <= cx.now.at
        {
            unloaded.retry_at = cx.now.at + LOAD_RETRY;
            cx.effect(Effect::Load);
        }
        self.failures.handle_timeout(cx.now.at);
        self.tell_pushes(cx);
    }

    fn next_timeout(&self) -> Option<Instant> {
        let pushes = self.pushes.iter().map(Push::next_timeout).min();
        let refused = self.refused.as_ref().map(|(_, at)| *at);
        let load = self.unloaded.as_ref().map(|unloaded| unloaded.retry_at);
        let failures = self.failures.next_timeout();
        [self.update_at, refused, load, pushes, failures].into_iter().flatten().min()
    }

    fn compose(&mut self, host: &HostName, _: &mut Cx<'_>) -> Vec<Outgoing> {
        let bind = self.hosts.take_bind_nonces(host).into_iter();
        let bind = bind.map(|nonce| Outgoing::of(&BindResp { nonce, version: VERSION.to_owned() }));
        bind.chain(self.hosts.offer(host)).collect()
    }

    fn stop_timeout(&self) -> Option<Duration> {
        Some(self.options.stop_timeout)
    }

    fn is_finished(&self) -> bool {
        // What the sink has not taken waits in the inbox: nothing of it is lost by leaving.
        true
    }
}

const _: () = assert!(Poll::SCHEMA == 1, "on_poll reads schema 1");
