//! A swarm: thousands of clients behind one reactor, each a node of its own.
//!
//! Only the client that something happened to is looked at; its timer lies in one wheel with
//! all others, its connections are found by their index, its dials bear its number. Its store
//! is memory, and is answered here.

mod churn;
mod conns;

use super::address::{Identities, address, index_of};
use super::cache::Cache;
use super::role::{LoadRole, Observation, Plan, Share, Standing, VERSION};
use super::schedule::{Slots, Spread, Tick};
use super::work::Work;
use crate::measure::{Standings, Tally};
use churn::leave_interval;
use conns::{Conns, Opened};
use engine::blob::{FetchSettings, Fetcher};
use engine::ids::{ConnId, DialId, Epoch, HostName};
use engine::node::io::{CloseReason, Host, Input, Mail, Output, Request, Verdict};
use engine::node::{Backoff, Fetching, MasterAddr, Node, NodeCounters, Parts, Queues, Uplink};
use engine::queue::memory::MemoryStore;
use engine::queue::outbox::{Outbox, OutboxConfig};
use engine::time::{Instant, Now, WallMs};
use engine::wheel::{TimerId, Wheel};
use engine::wire::{Class, Frame, Kind, Nack, NackReason};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Reports that wait in a client's memory while the master takes none, in bytes.
const OUTBOX_BYTES_MAX: u64 = 256 * 1024;

/// A client that takes no part dials after this: in ten years.
const NEVER: Duration = Duration::from_secs(315_360_000);
/// How soon a client without back-off tries again.
const INSISTENCE: Duration = Duration::from_millis(100);

/// What a swarm is made from.
#[derive(Debug, Clone)]
pub struct SwarmConfig {
    /// Its clients, by index: a part of all clients of the run.
    pub clients: Range<u32>,
    /// How many clients the run has.
    pub clients_all: u32,
    /// Their names.
    pub identities: Identities,
    /// The master.
    pub master: SocketAddr,
    /// Whether each client has an address of its own: the master is on this machine.
    pub own_addresses: bool,
    /// Deliveries under way at once; further ones wait their turn, and that wait counts.
    pub deliveries_max: usize,
    /// Decides the order of the slots.
    pub seed: u64,
    /// Makes the incarnations of the clients' outboxes: 64 random bits, another number in every
    /// run, or the master would take this run's reports for those of the last one.
    pub incarnation: u64,
}

/// Reports of one client that the master has acked: successive numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acked {
    /// The client's index.
    pub client: u32,
    /// Incarnation of its outbox.
    pub epoch: u64,
    /// The first one's number there.
    pub first: u64,
    /// What each said, the first one first.
    pub digests: Vec<NonZeroU32>,
}

impl Acked {
    /// The number behind the last one's.
    fn next(&self) -> u64 {
        self.first + self.digests.len() as u64
    }
}

struct Client {
    node: Node<LoadRole>,
    store: MemoryStore,
    timer: Option<TimerId>,
    standing: Standing,
    /// How often it was started.
    life: u16,
    /// It has left, and comes back then.
    away_until: Option<Tick>,
}

/// Thousands of clients.
pub struct Swarm {
    config: SwarmConfig,
    outbox: Arc<OutboxConfig>,
    rng: fastrand::Rng,
    clients: Vec<Client>,
    conns: Conns,
    wheel: Wheel<u32>,
    expired: Vec<u32>,
    /// What all clients do now.
    plan: Arc<Plan>,
    cache: Cache,
    /// What all clients share: nobody changes it, or one of them works at a time.
    masters: Arc<[MasterAddr]>,
    version: Arc<str>,
    counters: Arc<NodeCounters>,
    queues: Option<Box<Queues<Observation>>>,
    /// When the next client leaves, and how far apart they do.
    next_leave: Option<(Instant, Duration)>,
    /// Dials that wait until a delivery ends.
    waiting: VecDeque<Output<Observation>>,
    deliveries: usize,
    deliveries_max: usize,
    out: VecDeque<Output<Observation>>,
    acked: Vec<Acked>,
    tally: Tally,
    standings: Standings,
}

impl Swarm {
    /// A swarm whose clients do nothing yet.
    #[must_use]
    pub fn new(config: SwarmConfig, now: Now) -> Self {
        let outbox = Arc::new(OutboxConfig {
            durable_bytes_max: OUTBOX_BYTES_MAX,
            ..OutboxConfig::default()
        });
        let idle =
            Arc::new(Plan { work: Work::idle(Duration::ZERO), began: now.wall, until: now.at });
        let mut swarm = Self {
            plan: Arc::clone(&idle),
            cache: Cache::default(),
            masters: [MasterAddr::Fixed(config.master)].into(),
            version: VERSION.into(),
            counters: Arc::default(),
            // What led to a failure of one of thousands is in nobody's log.
            queues: Some(Box::new(Queues::without_trail())),
            next_leave: None,
            clients: Vec::with_capacity(config.clients.len()),
            conns: Conns::default(),
            wheel: Wheel::new(now.at),
            expired: Vec::new(),
            waiting: VecDeque::new(),
            deliveries: 0,
            deliveries_max: config.deliveries_max.max(1),
            out: VecDeque::new(),
            acked: Vec::new(),
            tally: Tally::default(),
            standings: Standings::default(),
            rng: fastrand::Rng::with_seed(config.incarnation ^ u64::from(config.clients.start)),
            outbox,
            config,
        };
        for index in swarm.config.clients.clone() {
            let store = MemoryStore::new(swarm.rng.u64(..));
            let role = LoadRole::new(Arc::clone(&idle));
            let node = swarm.node(index, &store, role, Some(now.at + NEVER), now);
            let standing = Standing::default();
            swarm.clients.push(Client {
                node,
                store,
                timer: None,
                standing,
                life: 0,
                away_until: None,
            });
        }
        swarm
    }

    /// From now on all clients do this; the first slots lie behind `start`.
    pub fn begin(&mut self, work: &Work, start: Instant, now: Now) {
        let Range { start: first, .. } = self.config.clients;
        let spread = Spread::new(self.config.clients_all, work.active, self.config.seed);
        let lead = u64::try_from(start.since(now.at).as_millis()).unwrap_or(u64::MAX);
        let began = WallMs(now.wall.0.saturating_add(lead));
        let until = start + work.length;
        self.plan = Arc::new(Plan { work: work.clone(), began, until });
        self.next_leave = work.churn.and_then(|churn| {
            let interval = leave_interval(churn, self.clients.len())?;
            Some((start + interval, interval))
        });
        let mut ended = vec![false; self.clients.len()];
        for (place, ended) in ended.iter_mut().enumerate() {
            let index = first + u32::try_from(place).unwrap_or(u32::MAX);
            let takes_part = spread.takes_part(index);
            let turn = |window| spread.turn(index, start, window);
            let slots =
                |window: Option<Duration>| window.map(turn).map(Slots::from).unwrap_or_default();
            let share = match takes_part {
                true => Share {
                    takes_part,
                    restart: work.restart.map(turn),
                    polls: slots(work.polls.map(|pace| pace.window)),
                    reports: slots(work.reports.map(|reports| reports.pace.window)),
                },
                false => Share::default(),
            };
            let client = &mut self.clients[place];
            let unbound = takes_part && !client.standing.bound;
            let away = client.away_until.map(Tick::at);
            let restart = match away {
                // It starts anew when it comes back.
                Some(back) => share.restart.map(|at| Tick::from(at.max(back)).at()),
                None => share.restart.or(share.first(until).filter(|_| unbound)),
            };
            // One that starts anew gets its own then.
            let fetching = (work.fetch && restart.is_none())
                .then(|| fetching(&self.config, index, &mut self.rng));
            client.node.with_role(now, |role, cx| {
                role.begin(Arc::clone(&self.plan), &share);
                away.iter().for_each(|back| role.leave_out(*back));
                cx.node.fetching = fetching;
            });
            if let Some(at) = restart {
                *ended = true;
                self.restart(place, at, now);
                self.clients[place].away_until = away.and(restart).map(Tick::from);
            }
        }
        self.end_connections(|place| ended[place]);
        for place in 0..self.clients.len() {
            self.advance(first + u32::try_from(place).unwrap_or(u32::MAX), now);
        }
    }

    /// A client's process ends, and starts again at a time. What it had sent and was not acked
    /// lies in its store, as on a real one's disk.
    fn restart(&mut self, place: usize, at: Instant, now: Now) {
        let mut role = self.clients[place].node.role().clone();
        role.restart(at);
        let index = self.config.clients.start + u32::try_from(place).unwrap_or(u32::MAX);
        let mut store = std::mem::replace(&mut self.clients[place].store, MemoryStore::new(0));
        store.crash();
        let node = self.node(index, &store, role, Some(at), now);
        let client = &mut self.clients[place];
        client.life = (client.life + 1) % LIVES;
        (client.store, client.node) = (store, node);
    }

    /// Ends all that is under way of some clients, as the end of their processes does.
    fn end_connections(&mut self, has_ended: impl Fn(usize) -> bool) {
        let first = self.config.clients.start;
        let has_ended = |client: u32| has_ended((client - first) as usize);
        self.waiting.retain(
            |dial| !matches!(dial, Output::Dial { dial, .. } if has_ended(node_dial(*dial).0)),
        );
        for (conn, client) in self.conns.open() {
            if has_ended(client) {
                self.out.push_back(Output::Close { conn, reason: CloseReason::Done });
            }
        }
    }

    fn node(
        &mut self,
        index: u32,
        store: &MemoryStore,
        role: LoadRole,
        first: Option<Instant>,
        now: Now,
    ) -> Node<LoadRole> {
        let name = self.config.identities.name(index);
        let memory_epoch = Epoch(self.rng.u64(..));
        let outbox =
            Outbox::restore(name.clone(), &store.state(), Arc::clone(&self.outbox), memory_epoch);
        let (masters, version) = (Arc::clone(&self.masters), Arc::clone(&self.version));
        let mut uplink = Uplink::new(masters, source(&self.config, index), version, outbox);
        if let Some(first) = first {
            uplink.hold_off(first.since(now.at), now);
        }
        if !self.plan.work.backoff {
            uplink.set_backoff(Backoff::none(INSISTENCE));
        }
        let mut parts = Parts::new(name, self.rng.fork());
        parts.counters = Arc::clone(&self.counters);
        if self.plan.work.fetch {
            parts.fetching = Some(fetching(&self.config, index, &mut self.rng));
        }
        parts.uplink = Some(Box::new(uplink));
        Node::new(parts, role)
    }

    /// Bytes that each client takes before it has done anything, its own allocations aside.
    #[must_use]
    pub const fn client_size() -> usize {
        size_of::<Client>()
    }

    /// How many clients.
    #[must_use]
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// What was counted since it was last taken.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Takes what was counted, and begins to count anew.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// How many clients have come how far.
    #[must_use]
    pub fn standings(&self) -> Standings {
        self.standings
    }

    /// Deliveries under way, and those that wait for one of them to end.
    #[must_use]
    pub fn deliveries(&self) -> (usize, usize) {
        (self.deliveries, self.waiting.len())
    }

    /// Names of the first clients that have not reached the goal.
    pub fn unfinished(&self) -> impl Iterator<Item = &HostName> {
        self.clients.iter().filter(|c| !c.standing.done).map(|c| &c.node.parts().name)
    }

    /// The reports that were acked since the last call.
    pub fn take_acked(&mut self) -> Vec<Acked> {
        std::mem::take(&mut self.acked)
    }

    /// A client's place in the list.
    fn place(&self, index: u32) -> usize {
        (index - self.config.clients.start) as usize
    }

    fn tell(&mut self, index: u32, input: Input<()>, now: Now) {
        let place = self.place(index);
        let node = &mut self.clients[place].node;
        node.lend(&mut self.queues);
        node.handle_input(input, now);
        self.advance(index, now);
    }

    /// Carries what a client asks for, until it asks for nothing more.
    fn advance(&mut self, index: u32, now: Now) {
        let place = self.place(index);
        let client = &mut self.clients[place];
        client.node.lend(&mut self.queues);
        while let Some(output) = client.node.poll_output() {
            match output {
                Output::Dial { dial, addr, from, timeout } => {
                    let dial = swarm_dial(index, client.life, dial);
                    self.waiting.push_back(Output::Dial { dial, addr, from, timeout });
                }
                Output::Request(Request::Store(command)) => {
                    if let Some(event) = client.store.apply(command) {
                        client.node.handle_input(Input::Mail(Mail::Store(event)), now);
                    }
                }
                Output::Request(Request::Role(observation)) => {
                    observe(&mut self.tally, &mut self.acked, index, observation);
                }
                Output::Request(Request::Blob(command)) => {
                    let received = self.cache.received;
                    let answer = self.cache.answer(command);
                    self.tally.fetched_bytes += self.cache.received - received;
                    client.node.handle_input(Input::Mail(Mail::Blob(answer)), now);
                }
                // A client that has its master's address asks for no names, and is never told
                // to stop.
                Output::Request(_) | Output::StopListening | Output::Exit => {}
                other => self.out.push_back(other),
            }
        }
        client.node.give_back(&mut self.queues);
        let standing = client.node.role().standing();
        self.standings.change(client.standing, standing);
        client.standing = standing;
        self.arm(index, now);
        self.dial_next();
    }

    /// Sees to it that the client's timer fires in time. One that fires early costs less than
    /// moving it every time that its deadline is put off.
    fn arm(&mut self, index: u32, now: Now) {
        let place = self.place(index);
        let client = &mut self.clients[place];
        let back = client.away_until.map(Tick::at);
        let Some(wanted) = back.or_else(|| client.node.next_timeout()) else { return };
        let wanted = wanted.max(now.at);
        match client.timer {
            Some(timer) if self.wheel.deadline(timer) <= wanted => {}
            timer => {
                if let Some(timer) = timer {
                    self.wheel.cancel(timer);
                }
                client.timer = Some(self.wheel.insert(wanted, index));
            }
        }
    }

    fn dial_next(&mut self) {
        while self.deliveries < self.deliveries_max
            && let Some(dial) = self.waiting.pop_front()
        {
            self.deliveries += 1;
            self.out.push_back(dial);
        }
    }

    fn on_accepted(&mut self, conn: ConnId, input: Input<()>, local: Option<SocketAddr>, now: Now) {
        let index = local.and_then(|local| index_of(local.ip()));
        match index.filter(|index| self.config.clients.contains(index)) {
            Some(index) if self.is_away(index) => {
                self.out.push_back(Output::Close { conn, reason: CloseReason::Done });
            }
            Some(index) => {
                self.conns.opened(conn, index, Opened::ByMaster);
                self.tell(index, input, now);
            }
            None => {
                // The listener takes connections to any address of this machine.
                self.tally.failed("dial-back", "no such client");
                self.out.push_back(Output::Close { conn, reason: CloseReason::Done });
            }
        }
    }

    fn on_closed(&mut self, conn: ConnId, reason: CloseReason, now: Now) {
        let Some((index, opened)) = self.conns.closed(conn) else { return };
        match opened {
            Opened::ByClient => {
                self.deliveries -= 1;
                if reason != CloseReason::Done {
                    self.tally.failed("delivery", reason.label());
                }
            }
            Opened::ByMaster if matches!(reason, CloseReason::Done | CloseReason::PeerClosed) => {}
            Opened::ByMaster => self.tally.failed("dial-back", reason.label()),
        }
        self.tell(index, Input::Closed { conn, reason }, now);
        let place = self.place(index);
        self.clients[place].node.shrink();
    }
}

/// Lives of a client that are told apart: a dial of an earlier one may still come to its end.
const LIVES: u16 = 1 << 12;

/// Every node numbers its dials from 1: the swarm puts the client's index, which has 20 bits,
/// and the client's life above that number, which no client brings to 2^32.
fn swarm_dial(index: u32, life: u16, dial: DialId) -> DialId {
    DialId(u64::from(index) << 44 | u64::from(life) << 32 | (dial.0 & u64::from(u32::MAX)))
}

/// The client of a dial, the life in which it was begun, and the client's own number for it.
fn node_dial(dial: DialId) -> (u32, u16, DialId) {
    let life = (dial.0 >> 32) as u16 & (LIVES - 1);
    ((dial.0 >> 44) as u32, life, DialId(dial.0 & u64::from(u32::MAX)))
}

fn observe(tally: &mut Tally, acked: &mut Vec<Acked>, client: u32, observation: Observation) {
    match observation {
        Observation::Took(what, took) => tally.latencies.record(what, took),
        Observation::Polled => tally.polls += 1,
        Observation::Reported => tally.reports += 1,
        Observation::Acked { epoch: Epoch(epoch), seq, digest } => match acked.last_mut() {
            Some(last) if (last.client, last.epoch, last.next()) == (client, epoch, seq) => {
                last.digests.push(digest);
            }
            _ => acked.push(Acked { client, epoch, first: seq, digests: vec![digest] }),
        },
        Observation::FalseAck => tally.false_acks += 1,
        Observation::Unasked => tally.unasked_manifests += 1,
        Observation::Repeated => tally.repeated_manifests += 1,
        Observation::OutboxFull => tally.failed("report", "outbox full"),
        Observation::FetchFailed(why) => tally.failed("fetch", why),
    }
}

/// Whether a message from the master names somebody else than the client that it has reached.
fn is_meant_for_another(frame: &Frame<'_>, name: &HostName) -> bool {
    let target = || frame.route().and_then(|route| route.target());
    frame.header.kind.class() == Class::Downstream
        && matches!(target(), Ok(Some(target)) if target != *name)
}

/// What a client fetches with.
fn fetching(config: &SwarmConfig, index: u32, rng: &mut fastrand::Rng) -> Box<Fetching> {
    let fetcher = Fetcher::new(FetchSettings::default(), rng.fork());
    Box::new(Fetching::new(fetcher, source(config, index)))
}

/// The address from which a client dials.
fn source(config: &SwarmConfig, index: u32) -> Option<IpAddr> {
    config.own_addresses.then(|| IpAddr::V4(address(index)))
}

fn nack_word(reason: NackReason) -> &'static str {
    match reason {
        NackReason::Busy => "busy",
        NackReason::Store => "store failed",
        NackReason::Unsupported => "unsupported",
        NackReason::Damaged => "damaged",
        NackReason::Refused => "refused",
        NackReason::Stopping => "stopping",
        NackReason::Unknown => "not in the inventory",
        NackReason::Untrusted | NackReason::Expired | NackReason::Older => "assignment refused",
    }
}

impl Host for Swarm {
    /// It is what tells one client from another.
    const ASKS_LOCAL: bool = true;
    type Mail = ();
    type Effect = Observation;

    fn handle_input(&mut self, input: Input<()>, now: Now) {
        match input {
            Input::Accepted { conn, local, .. } => self.on_accepted(conn, input, local, now),
            Input::Dialed { dial, conn } => {
                let (index, life, dial) = node_dial(dial);
                self.conns.opened(conn, index, Opened::ByClient);
                if life == self.clients[self.place(index)].life {
                    self.tell(index, Input::Dialed { dial, conn }, now);
                } else {
                    self.out.push_back(Output::Close { conn, reason: CloseReason::Done });
                }
            }
            Input::DialFailed { dial, reason } => {
                let (index, life, dial) = node_dial(dial);
                self.deliveries -= 1;
                self.tally.failed("dial", reason.label());
                if life == self.clients[self.place(index)].life {
                    self.tell(index, Input::DialFailed { dial, reason }, now);
                }
            }
            Input::Drained { conn } => {
                if let Some(index) = self.conns.client(conn) {
                    self.tell(index, input, now);
                }
            }
            Input::Closed { conn, reason } => self.on_closed(conn, reason, now),
            // No thread works for a swarm.
            Input::Mail(_) => {}
        }
    }

    fn handle_frame(&mut self, conn: ConnId, frame: Frame<'_>, now: Now) -> Verdict {
        let Some(index) = self.conns.client(conn) else { return Verdict::Taken };
        if self.is_away(index) {
            // It came while what the client had open was being closed.
            return Verdict::Taken;
        }
        if frame.header.kind == Kind::NACK {
            let why = Nack::decode(&frame).map_or("unreadable", |nack| nack_word(nack.reason));
            self.tally.failed("nack", why);
        }
        let place = self.place(index);
        let node = &mut self.clients[place].node;
        let is_anothers = is_meant_for_another(&frame, &node.parts().name);
        let refused = self.counters.misdelivered.value();
        node.lend(&mut self.queues);
        let verdict = node.handle_frame(conn, frame, now);
        if is_anothers {
            match self.counters.misdelivered.value() > refused {
                true => self.tally.misdirected += 1,
                false => self.tally.leaked += 1,
            }
        }
        self.advance(index, now);
        verdict
    }

    fn handle_timeout(&mut self, now: Now) {
        self.churn(now);
        // Taken first and looked at afterwards: a timer that is due again at once waits for
        // the next turn.
        let mut expired = std::mem::take(&mut self.expired);
        while let Some(index) = self.wheel.pop_expired(now.at) {
            let place = self.place(index);
            self.clients[place].timer = None;
            expired.push(index);
        }
        for index in expired.drain(..) {
            self.wake(index, now);
        }
        self.expired = expired;
    }

    /// Its nodes have no inbox, which alone gathers for a whole turn.
    fn end_turn(&mut self, _: Now) {}

    fn next_timeout(&self) -> Option<Instant> {
        self.wheel.next_expiry().into_iter().chain(self.next_leave.map(|(at, _)| at)).min()
    }

    fn poll_output(&mut self) -> Option<Output<Observation>> {
        self.out.pop_front()
    }
}

#[cfg(test)]
mod tests;
