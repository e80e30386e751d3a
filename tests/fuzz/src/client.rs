//! A client in its world: masters that take its reports or do not, assignments that come and
//! blobs that are fetched, an enforcer that runs.

use crate::disk::Disk;
use crate::frames;
use crate::input::Input;
use crate::world::{Heard, World};
use client::daemon::{ClientOptions, ClientRole, Effect, PollSchedule, RoleMail};
use client::enforcer::{EnforcerEvent, EnforcerStatus};
use engine::blob::{FetchSettings, Fetcher};
use engine::ids::{BlobHash, ConnId, Epoch, HostName, Listener, Origin, Revision};
use engine::node::io::{CloseReason, Mail, ResolveError};
use engine::node::{Binding, Fetching, MasterAddr, Node, Parts, Uplink};
use engine::queue::outbox::{Outbox, OutboxConfig};
use engine::release::{FileEntry, ManifestBlob, TrustedKeys};
use engine::time::Now;
use engine::wire::message::Manifest;
use engine::wire::{Class, FrameBuf, Header, Kind, Lane, RouteBuf, encode};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Small bounds, so that they are reached.
const OUTBOX: OutboxConfig = OutboxConfig {
    memory_count_max: 4,
    memory_bytes_max: 2_000,
    durable_bytes_max: 6_000,
    pending_bytes_max: 2_000,
    window_frames: 4,
    window_bytes: 1_000,
    read_bytes_max: 800,
    failure_pause: Duration::from_secs(1),
};
const FETCH: FetchSettings = FetchSettings {
    window_bytes: 512,
    requests_max: 4,
    unwritten_bytes_max: 1024,
    tries_max: 2,
    retry_min: Duration::from_millis(100),
    retry_max: Duration::from_secs(600),
};
const EPOCH: u64 = 99;
const REASONS: [CloseReason; 6] = [
    CloseReason::PeerClosed,
    CloseReason::Reset,
    CloseReason::Unreachable,
    CloseReason::ConnectTimeout,
    CloseReason::AnswerTimeout,
    CloseReason::IdleTimeout,
];

/// A manifest as a cache may have it: a few files, or what is none.
pub fn manifest(input: &mut Input<'_>) -> Vec<u8> {
    let file = |input: &mut Input<'_>| FileEntry {
        name: input.bytes(4).to_vec(),
        hash: [input.byte() % 8; 32],
        size: if input.one_in(8) { input.number(8) } else { input.number(1) },
        mode: 0o644,
    };
    let files = (0..input.below(4)).map(|_| file(input)).collect();
    let (catalog, catalog_size) = ([input.byte() % 8; 32], input.number(1));
    let mut bytes = encode(&ManifestBlob { schema: 1, catalog, catalog_size, files });
    if input.one_in(8) {
        frames::damage(&mut bytes, input);
    }
    bytes
}

/// A client and its surroundings.
pub struct Client {
    /// The node.
    pub world: World<ClientRole>,
    keys: TrustedKeys,
    /// Numbers of the outbox's log that were sent, and how far the parent has acked.
    sent: BTreeSet<u64>,
    acked_upto: u64,
    restarts: u64,
}

fn node(disk: &Disk, keys: &TrustedKeys, seed: u64, now: Now) -> Node<ClientRole> {
    let name: HostName = "a".parse().expect("a host name");
    let mut rng = fastrand::Rng::with_seed(seed);
    let outbox = Outbox::restore(
        name.clone(),
        &disk.store.state(),
        Arc::new(OUTBOX),
        Epoch(rng.u64(1_000..)),
    );
    let schedule =
        PollSchedule::new(Duration::from_secs(300), Duration::from_secs(2), &mut rng, now);
    let masters = [
        MasterAddr::Name("master".parse().expect("a host name"), 7400),
        MasterAddr::Fixed(address(9)),
    ];
    let uplink = Uplink::new(masters, None, client::daemon::VERSION, outbox);
    let mut parts = Parts::new(name.clone(), rng.fork());
    parts.uplink = Some(Box::new(uplink));
    parts.fetching = Some(Box::new(Fetching::new(Fetcher::new(FETCH, rng.fork()), None)));
    let options = ClientOptions {
        trusted_keys: keys.clone(),
        held: None,
        unfetched: None,
        applied: Revision(0),
    };
    let mut node = Node::new(parts, ClientRole::new(name, options, schedule));
    node.with_role(now, |role, cx| role.start(Arc::default(), cx));
    node
}

impl Client {
    /// A client that was never assigned anything. It checks signatures, or takes what anybody
    /// sends.
    #[must_use]
    pub fn new(seed: u8) -> Self {
        let keys = match seed % 4 {
            0 => TrustedKeys::Only(vec![frames::signing_key().public()]),
            _ => TrustedKeys::Unchecked,
        };
        let now = World::<ClientRole>::begin();
        let disk = Disk::new(EPOCH);
        let node = node(&disk, &keys, seed.into(), now);
        let mut world = World::new(node, disk, now);
        world.turn();
        Self { world, keys, sent: BTreeSet::new(), acked_upto: 0, restarts: 0 }
    }

    /// Does what the input says until it is used up, and then all that is left to be done.
    pub fn run(&mut self, input: &mut Input<'_>) {
        while !input.is_empty() && !self.world.exited {
            self.step(input);
            self.hear();
            self.check();
        }
        if !self.world.exited {
            self.settle();
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let world = &mut self.world;
        match input.below(20) {
            0 => drop(world.accept(Listener::Peers, input.byte())),
            1 => drop(world.accept(Listener::Control, 1)),
            2 | 3 => {
                if let Some(conn) = world.any_conn(input) {
                    let frame = frames::frame(input, &world.epochs());
                    self.deliver(conn, &frame);
                }
            }
            4 => {
                if let Some(conn) = world.any_conn(input) {
                    self.deliver(conn, input.bytes(64));
                }
            }
            5..=7 => {
                if let Some(conn) = world.any_conn(input) {
                    self.note_ack(conn, |world| world.answer(conn, input));
                }
            }
            8 => self.assign(input),
            9 => {
                if let Some(conn) = world.any_conn(input) {
                    let closing = world.conns.get(&conn).is_some_and(|state| state.closing);
                    let reason = *input.choose(&REASONS);
                    world.end(conn, if closing { CloseReason::Done } else { reason });
                }
            }
            10 => {
                let fails = input.one_in(4);
                world.finish_dial(fails.then(|| *input.choose(&REASONS)));
            }
            11 | 12 => drop(world.answer_store()),
            13 => {
                let answer = match input.below(4) {
                    0 => Err(ResolveError::NoSuchName),
                    1 => Ok(Vec::new()),
                    n => Ok(vec![address(input.byte()); n - 1]),
                };
                world.answer_name(answer);
            }
            14 => world.answer_blob(input),
            15 => self.answer_effect(input),
            16 => {
                let by = match input.below(4) {
                    0 => Duration::from_millis(input.number(1)),
                    1 => Duration::from_secs(input.number(1)),
                    2 => Duration::from_secs(300),
                    _ => Duration::ZERO,
                };
                world.advance(by);
            }
            17 => self.misfortune(input),
            18 => {
                if let Some(conn) = world.any_conn(input) {
                    world.drain(conn);
                }
            }
            _ => self.tell_run(input),
        }
    }

    fn deliver(&mut self, conn: ConnId, bytes: &[u8]) {
        self.note_ack(conn, |world| world.bytes(conn, bytes));
    }

    /// Whatever comes on a connection to the parent may ack anything that was sent on it.
    fn note_ack(&mut self, conn: ConnId, act: impl FnOnce(&mut World<ClientRole>)) {
        let state = self.world.conns.get(&conn);
        let durable = |header: &&Header| header.lane == Lane::Durable;
        let sent = state.and_then(|state| state.sent.iter().rfind(durable));
        let upto = sent.filter(|_| state.is_some_and(|state| !state.closing));
        self.acked_upto = self.acked_upto.max(upto.map_or(0, |header| header.seq));
        act(&mut self.world);
    }

    /// The master dials back: what it sends is for this host and may be signed.
    fn assign(&mut self, input: &mut Input<'_>) {
        let Some(conn) = self.world.accept(Listener::Peers, 9) else { return };
        let manifests: Vec<[u8; 32]> = (0..8).map(|n| [n; 32]).collect();
        let assignment = frames::assignment(input, &manifests);
        let epoch = Epoch(input.number(1));
        let origin =
            Origin { name: "master".parse().expect("a host name"), epoch, seq: input.number(1) };
        let target = if input.one_in(8) { frames::name(input) } else { "a".parse().expect("one") };
        let route = RouteBuf::from(origin.clone()).to(target);
        let frame = FrameBuf::message(Some(&route), &Manifest { assignment }, |header| {
            (header.epoch, header.seq) = (epoch, origin.seq);
        });
        self.deliver(conn, &frame.to_vec());
        if input.one_in(2) && self.world.conns.len() < crate::world::CONNS_MAX {
            // The answer to `BindReq`, which only a master that was asked can know.
            let nonce = match self.world.node.parts().uplink.as_ref().map(|up| up.binding()) {
                Some(Binding::Asked { nonce, .. }) => nonce,
                _ => 1,
            };
            let body = engine::wire::message::BindResp { nonce, version: String::new() };
            let frame = FrameBuf::message(Some(&route), &body, |header| header.epoch = epoch);
            self.deliver(conn, &frame.to_vec());
        }
    }

    fn misfortune(&mut self, input: &mut Input<'_>) {
        let world = &mut self.world;
        let n = u32::from(input.byte() % 3);
        match input.below(11) {
            0 => world.disk.store.faults().failing_commits = n,
            1 => world.disk.store.faults().failing_trims = n,
            2 => world.disk.store.faults().failing_reads = n,
            3 => world.disk.store.faults().delay = n,
            4 => world.disk.store.faults().quota_bytes = (n > 0).then_some(3_000),
            5 => self.restart(),
            6 if input.one_in(4) => world.mail(Mail::Stop),
            7 => world.mail(Mail::Reload),
            8 => {
                let hash = BlobHash([input.byte() % 8; 32]);
                world.mail(Mail::Role(RoleMail::Enforcer(EnforcerEvent::BlobBroken(hash))));
            }
            9 => {
                let seq = world.disk.store.state().first + u64::from(n);
                let at = usize::from(input.byte());
                let record = world.disk.store.record_mut(seq);
                if let Some(byte) = record.and_then(|record| record.frame.get_mut(at)) {
                    *byte ^= 1 + input.byte() % 255;
                }
            }
            _ => world.disk.tick(),
        }
    }

    fn restart(&mut self) {
        self.restarts += 1;
        let world = &mut self.world;
        world.disk.crash();
        let node = node(&world.disk, &self.keys, self.restarts, world.now);
        world.restart(node);
        world.turn();
    }

    fn run_finished(&mut self, input: &mut Input<'_>) -> EnforcerEvent {
        let report = frames::report(input);
        match input.below(8) {
            0 => EnforcerEvent::NotApplied { report },
            1 => EnforcerEvent::Watching { directories: input.byte().into() },
            2 => EnforcerEvent::WatchFallback {
                reason: input.text(8),
                check_interval: Duration::from_secs(input.number(1)),
            },
            n => EnforcerEvent::RunFinished {
                report,
                converged: n % 2 == 0,
                to_end: n > 4,
                beside: n == 3,
                failing: (n == 5).then(|| input.text(8)),
            },
        }
    }

    fn tell_run(&mut self, input: &mut Input<'_>) {
        let event = self.run_finished(input);
        self.world.mail(Mail::Role(RoleMail::Enforcer(event)));
    }

    fn answer_effect(&mut self, input: &mut Input<'_>) {
        let Some(effect) = self.world.effects.pop_front() else { return };
        let mail = match effect {
            Effect::Enforce { .. } | Effect::Check => RoleMail::Enforcer(self.run_finished(input)),
            Effect::Status { conn, local } => {
                RoleMail::Status { conn, local, status: Box::new(EnforcerStatus::default()) }
            }
            Effect::Stop | Effect::StopNow => RoleMail::Enforcer(EnforcerEvent::Stopped),
        };
        self.world.mail(Mail::Role(mail));
    }

    /// What goes up is written first; and only on a connection to the parent.
    fn hear(&mut self) {
        for heard in std::mem::take(&mut self.world.heard) {
            let Heard::Frame(conn, header, _) = heard else { continue };
            if header.kind.class() != Class::Uplink {
                continue;
            }
            let dialled = |state: &crate::world::Conn| state.listener.is_none();
            assert!(
                self.world.conns.get(&conn).is_none_or(dialled),
                "an answer, not a new message"
            );
            if header.lane == Lane::Durable {
                assert_eq!((header.kind, header.epoch), (Kind::REPORT, Epoch(EPOCH)));
                let committed = self.world.disk.has(b"a", Epoch(EPOCH), header.seq);
                assert!(committed, "report {} is sent before it is stored", header.seq);
                self.sent.insert(header.seq);
            }
        }
    }

    /// What holds at all times.
    fn check(&mut self) {
        for seq in std::mem::take(&mut self.world.disk.trimmed) {
            assert!(self.sent.contains(&seq), "report {seq} is trimmed and was never sent");
            assert!(seq <= self.acked_upto, "report {seq} is trimmed and was never acked");
        }
        let parts = self.world.node.parts();
        let outbox = &parts.uplink.as_ref().expect("a client has a way up").outbox;
        assert!(outbox.depth().1 <= OUTBOX.durable_bytes_max, "{:?}", outbox.depth());
        let in_flight_max = OUTBOX.window_frames + OUTBOX.memory_count_max;
        assert!(outbox.in_flight() <= in_flight_max, "{} in flight", outbox.in_flight());
        let parked = self.world.conns.iter().find(|(_, state)| state.parked);
        assert!(parked.is_none(), "{parked:?}: a client has nothing to wait for");
    }

    /// Faults are over and a good master takes all: the outbox becomes empty.
    fn settle(&mut self) {
        *self.world.disk.store.faults() = engine::queue::memory::Faults::default();
        for conn in self.world.conns.keys().copied().collect::<Vec<_>>() {
            self.world.end(conn, CloseReason::PeerClosed);
        }
        let mut good = Input::new(&[]);
        let is_empty = |world: &World<ClientRole>| {
            let uplink = world.node.parts().uplink.as_ref();
            uplink.is_some_and(|uplink| uplink.outbox.depth().0 == 0)
        };
        for round in 0..400 {
            self.world.advance(Duration::from_secs(2));
            while self.world.answer_store() {}
            while !self.world.names.is_empty() {
                self.world.answer_name(Ok(vec![address(8)]));
            }
            while !self.world.dials.is_empty() {
                self.world.finish_dial(None);
            }
            // What the enforcer and the cache are asked has no end here: every poll asks again.
            self.world.effects.clear();
            while !self.world.blobs.is_empty() {
                self.world.answer_blob(&mut Input::new(&[3]));
            }
            self.take_all(&mut good);
            self.hear();
            self.check();
            if self.world.exited || (round > 2 && is_empty(&self.world)) {
                break;
            }
        }
        let left = self.world.node.parts().uplink.as_ref().map(|uplink| uplink.outbox.depth());
        assert!(self.world.exited || is_empty(&self.world), "never delivered: {left:?}");
        for conn in self.world.conns.keys().copied().collect::<Vec<_>>() {
            self.world.end(conn, CloseReason::PeerClosed);
        }
        let left = self.world.node.parts().connections_by_use();
        assert!(left.iter().all(|(_, n)| *n == 0), "connections leak: {left:?}");
    }

    /// A good master acks all that came on its connections, and ends those that are done.
    fn take_all(&mut self, good: &mut Input<'_>) {
        for conn in self.world.conns.keys().copied().collect::<Vec<_>>() {
            for lane in Lane::ALL {
                let Some(state) = self.world.conns.get(&conn) else { break };
                let of_lane =
                    |header: &&Header| header.lane == lane && header.kind.class() == Class::Uplink;
                let Some(last) = state.sent.iter().rfind(of_lane).copied() else {
                    continue;
                };
                let ack = engine::delivery::ack(lane, last.epoch, last.seq, false);
                self.deliver(conn, &ack.to_vec());
                self.hear();
            }
            let state = self.world.conns.get(&conn);
            let fetches = state.is_some_and(|state| {
                state.sent.back().is_some_and(|header| header.kind == Kind::FETCH_REQ)
            });
            if state.is_some_and(|state| state.closing) || fetches {
                self.world.end(conn, CloseReason::Done);
            }
            let _ = good.byte();
        }
    }
}

fn address(host: u8) -> SocketAddr {
    (Ipv4Addr::new(127, 0, 0, host), 7400).into()
}
