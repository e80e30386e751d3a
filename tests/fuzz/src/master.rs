//! A master in its world: hosts that ask and report, an operator, a result store.

use crate::disk::Disk;
use crate::frames;
use crate::input::Input;
use crate::senders::Sender;
use crate::world::World;
use engine::blob::Server;
use engine::ids::{ConnId, Epoch, HostName, Listener, Revision};
use engine::limits::Limits;
use engine::node::io::{CloseReason, Mail, ResolveError};
use engine::node::{Downstream, DownstreamLimits, Node, Parts};
use engine::queue::inbox::{Inbox, InboxConfig};
use engine::queue::store::Record;
use engine::time::{Now, WallMs};
use master::control::HostsPage;
use master::daemon::{Effect, MasterOptions, MasterRole, Places, Published, Remembered, RoleMail};
use master::release::{Line, Listed, Release};
use master::sink::{Answer, Appended, SinkError, SinkEvent};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Small bounds, so that they are reached.
const INBOX: InboxConfig = InboxConfig {
    gathering_records_max: 3,
    gathering_bytes_max: 2_000,
    bytes_high: 6_000,
    bytes_low: 3_000,
    return_spacing: Duration::from_millis(1),
    failure_pause: Duration::from_secs(1),
    read_records_max: 4,
    read_bytes_max: 1_500,
    trim_records: 8,
    trim_interval: Duration::from_secs(1),
};
const IN_FLIGHT_MAX: usize = 3;
const HOSTS_MAX: usize = 6;
/// Reasons for which a connection or a dial ends.
const REASONS: [CloseReason; 6] = [
    CloseReason::PeerClosed,
    CloseReason::Truncated,
    CloseReason::Reset,
    CloseReason::Refused,
    CloseReason::AnswerTimeout,
    CloseReason::Exhausted,
];

/// A master and its surroundings.
pub struct Master {
    /// The node.
    pub world: World<MasterRole>,
    senders: [Sender; 3],
    /// What the result store has: its cursor is the last number.
    stored: u64,
    inbox_epoch: Epoch,
    /// No frame was longer than this.
    frame_max: u64,
    pieces: u64,
    restarts: u64,
}

fn released(revision: u64) -> Published {
    let line = |pattern: &str| Line {
        pattern: pattern.to_owned(),
        assignment: vec![1; 40],
        manifest: [1; 32],
        manifest_size: 10,
    };
    let listed = |n: u8| Listed {
        name: vec![n; usize::from(n)],
        hash: [n; 32],
        size: u64::from(n) * 100_000,
    };
    let release = Release {
        schema: 1,
        site: "fuzz".to_owned(),
        revision,
        issued_ms: 0,
        expires_ms: u64::MAX,
        key_id: [0; 8],
        lines: vec![line("a"), line("b"), line("web-*")],
        blobs: (0..8).map(listed).collect(),
    };
    Published::new(&release, &[])
}

fn node(disk: &Disk, seed: u64, cursor: Option<(Epoch, u64)>, now: Now) -> Node<MasterRole> {
    let name: HostName = "master".parse().expect("a host name");
    let state = disk.store.state();
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut inbox = Inbox::restore(&state, INBOX, seed);
    inbox.start_consuming(cursor);
    let mut parts = Parts::new(name.clone(), rng.fork());
    parts.reserve(&Limits { connections_max: 16, ..Limits::default() });
    parts.inbox = Some(Box::new(inbox));
    let limits = DownstreamLimits {
        in_flight_max: IN_FLIGHT_MAX,
        dial_burst: 2,
        ..DownstreamLimits::default()
    };
    parts.downstream = Some(Box::new(Downstream::new(name, Epoch(rng.u64(..)), limits)));
    parts.server = Some(Box::new(Server::new()));
    let options = MasterOptions {
        silent_after: Duration::from_secs(3600),
        client_port: 7401,
        hosts_max: HOSTS_MAX,
        stop_timeout: Duration::from_secs(20),
        load_tests: false,
        places: Places::all(16),
    };
    let mut node = Node::new(parts, MasterRole::new(options));
    let stored = cursor.map_or(0, |(_, seq)| seq);
    let heard = |name: &str| (name.parse().expect("a host name"), WallMs(1), Revision(1));
    let remembered = Remembered { hosts: vec![heard("a"), heard("gone")], stored };
    node.with_role(now, |role, cx| {
        role.start(Arc::default(), Arc::default(), remembered, cx);
        role.handle_loaded(Ok((released(2), vec!["tabled".parse().expect("a host name")])), cx);
    });
    node
}

impl Master {
    /// A master that has a release, over an empty disk.
    #[must_use]
    pub fn new(seed: u8) -> Self {
        let now = World::<MasterRole>::begin();
        let disk = Disk::new(77);
        let node = node(&disk, seed.into(), None, now);
        let mut world = World::new(node, disk, now);
        world.turn();
        let senders = [("a", 0), ("b", 1), ("web-1", 2)].map(|(name, n)| Sender::new(name, n));
        Self {
            world,
            senders,
            stored: 0,
            inbox_epoch: Epoch(77),
            frame_max: 0,
            pieces: 0,
            restarts: 0,
        }
    }

    /// Does what the input says until it is used up, and then all that is left to be done.
    pub fn run(&mut self, input: &mut Input<'_>) {
        while !input.is_empty() && !self.world.exited {
            self.step(input);
            self.check();
        }
        if !self.world.exited {
            self.settle();
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let world = &mut self.world;
        match input.below(24) {
            0 => drop(world.accept(Listener::Peers, input.byte())),
            1 => drop(world.accept(Listener::Control, 1)),
            2..=5 => {
                if let Some(conn) = self.other_conn(input) {
                    let world = &self.world;
                    let frame = frames::frame(input, &world.epochs());
                    self.deliver(conn, &frame);
                }
            }
            6 => {
                if let Some(conn) = self.other_conn(input) {
                    let bytes = input.bytes(64);
                    // A frame of several such pieces is no longer than they are together.
                    self.pieces += bytes.len() as u64;
                    self.deliver(conn, bytes);
                }
            }
            7 | 8 => {
                if let Some(conn) = self.other_conn(input) {
                    self.world.answer(conn, input);
                }
            }
            9..=12 => {
                let of = input.below(self.senders.len());
                self.send(of, input.byte());
            }
            13 => {
                if let Some(conn) = world.any_conn(input) {
                    let closing = world.conns.get(&conn).is_some_and(|state| state.closing);
                    let reason = *input.choose(&REASONS);
                    world.end(conn, if closing { CloseReason::Done } else { reason });
                }
            }
            14 => {
                let fails = input.one_in(4);
                world.finish_dial(fails.then(|| *input.choose(&REASONS)));
            }
            15 | 16 => drop(world.answer_store()),
            17 => {
                let answer = match input.below(4) {
                    0 => Err(ResolveError::Timeout),
                    1 => Ok(Vec::new()),
                    n => Ok(vec![address(input.byte()); n - 1]),
                };
                world.answer_name(answer);
            }
            18 => world.answer_blob(input),
            19 => self.answer_effect(input),
            20 => {
                let by = match input.below(4) {
                    0 => Duration::from_millis(input.number(1)),
                    1 => Duration::from_secs(input.number(1)),
                    2 => Duration::from_millis(1100),
                    _ => Duration::ZERO,
                };
                world.advance(by);
            }
            21 => self.misfortune(input),
            22 => {
                if let Some(conn) = world.any_conn(input) {
                    world.drain(conn);
                }
            }
            _ => self.command(input),
        }
        self.hear();
    }

    /// A connection on which anything may come: those of the senders carry whole frames alone.
    fn other_conn(&self, input: &mut Input<'_>) -> Option<ConnId> {
        let conn = self.world.any_conn(input);
        conn.filter(|_| !self.senders.iter().any(|sender| sender.conn == conn))
    }

    /// Bytes come on a connection.
    fn deliver(&mut self, conn: ConnId, bytes: &[u8]) {
        self.frame_max = self.frame_max.max(bytes.len() as u64 + self.pieces);
        self.world.bytes(conn, bytes);
    }

    /// Something goes wrong with the disk, the process, or the operator's patience.
    fn misfortune(&mut self, input: &mut Input<'_>) {
        let world = &mut self.world;
        let n = u32::from(input.byte() % 3);
        match input.below(12) {
            0 => world.disk.store.faults().failing_commits = n,
            1 => world.disk.store.faults().failing_trims = n,
            2 => world.disk.store.faults().failing_reads = n,
            3 => world.disk.store.faults().delay = n,
            4 => world.disk.store.faults().quota_bytes = (n > 0).then_some(4_000),
            5 => self.restart(),
            6 if input.one_in(4) => world.mail(Mail::Stop),
            7 => world.mail(Mail::Reload),
            8 => world.mail(Mail::Role(RoleMail::Sink(SinkEvent::HostsFailed(slow())))),
            9 => world.mail(Mail::Role(RoleMail::Sink(SinkEvent::Recovered))),
            10 => {
                // A record that nobody has read yet is damaged where it lies.
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
        // What was under way to the disk is lost with the process.
        world.disk.crash();
        let cursor = (self.stored > 0).then_some((self.inbox_epoch, self.stored));
        let node = node(&world.disk, self.restarts, cursor, world.now);
        world.restart(node);
        world.turn();
    }

    /// A host that keeps to the protocol goes on.
    fn send(&mut self, of: usize, more: u8) {
        let sender = &mut self.senders[of];
        for n in 0..more % 4 {
            sender.push(u64::from(more >> 4 == n));
        }
        let Some(conn) = sender.conn else {
            let host = u8::try_from(of).unwrap_or(0) + 10;
            if let Some(conn) = self.world.accept(Listener::Peers, host) {
                self.senders[of].begin(conn);
            }
            return;
        };
        let closing = self.world.conns.get(&conn).is_some_and(|state| state.closing);
        if sender.refused || closing {
            self.world.end(conn, CloseReason::PeerClosed);
            return;
        }
        // Several frames may come in one piece.
        let mut bytes = Vec::new();
        for _ in 0..=(more >> 2) % 4 {
            // Nothing that could not be delivered counts as sent.
            if self.world.conns.get(&conn).is_some_and(|state| !state.closing && !state.parked) {
                bytes.extend(sender.poll_frame().unwrap_or_default());
            }
        }
        self.deliver(conn, &bytes);
    }

    /// An operator's command, on a connection of its own or on one that is there.
    fn command(&mut self, input: &mut Input<'_>) {
        let of_operator = |(conn, state): (&ConnId, &crate::world::Conn)| {
            (state.listener == Some(Listener::Control)).then_some(*conn)
        };
        let conn = self.world.conns.iter().find_map(of_operator);
        let Some(conn) = conn.or_else(|| self.world.accept(Listener::Control, 1)) else { return };
        let command = frames::command(input);
        let frame = engine::wire::FrameBuf::message(None, &command, |_| {});
        self.deliver(conn, &frame.to_vec());
    }

    /// One of the role's threads has done what it was asked first.
    fn answer_effect(&mut self, input: &mut Input<'_>) {
        let Some(effect) = self.world.effects.pop_front() else { return };
        let mail = match effect {
            Effect::Append(records) => {
                self.check_batch(&records);
                if input.one_in(4) {
                    let retry_after = Duration::from_millis(input.number(2));
                    SinkEvent::AppendFailed { records, error: slow(), retry_after }
                } else {
                    self.stored = records.last().map_or(self.stored, |record| record.seq);
                    SinkEvent::Appended(Appended { upto: self.stored, ..Appended::default() })
                }
            }
            Effect::UpdateHosts(_) => return,
            Effect::Query { id, .. } => {
                let answer = match input.below(3) {
                    0 => Ok(Answer::Hosts(HostsPage::default())),
                    1 => Ok(Answer::Report(None)),
                    _ => Err(slow()),
                };
                SinkEvent::Answered { id, answer }
            }
            Effect::Load => {
                let loaded = match input.below(3) {
                    0 => Err("made to fail".to_owned()),
                    n => Ok((released(2 + n as u64), Vec::new())),
                };
                self.world.mail(Mail::Role(RoleMail::Loaded(loaded)));
                return;
            }
        };
        self.world.mail(Mail::Role(RoleMail::Sink(mail)));
    }

    /// What the result store is given lies on the disk, is whole, and comes in its order.
    fn check_batch(&self, records: &[Record]) {
        let mut last = self.stored;
        for record in records {
            assert!(record.seq > last, "record {} again, or out of order", record.seq);
            assert!(record.seq <= self.world.disk.committed_upto, "a record that is not stored");
            record.check().expect("damage is set aside before it is read");
            last = record.seq;
        }
    }

    fn hear(&mut self) {
        for heard in std::mem::take(&mut self.world.heard) {
            self.senders.iter_mut().for_each(|sender| sender.handle(&heard, &self.world.disk));
        }
    }

    /// What holds at all times.
    fn check(&mut self) {
        let trimmed = self.world.disk.trimmed.drain(..).max().unwrap_or(0);
        assert!(trimmed <= self.stored, "record {trimmed} is trimmed before it was stored");
        let parts = self.world.node.parts();
        let inbox = parts.inbox.as_ref().expect("a master has an inbox");
        let down = parts.downstream.as_ref().expect("a master has a way down");
        assert!(inbox.uncommitted() <= 2 * INBOX.gathering_records_max);
        let parked = self.world.conns.values().filter(|conn| conn.parked).count();
        assert!(inbox.parked() <= parked, "{} wait, {parked} are parked", inbox.parked());
        let bytes_max = INBOX.bytes_high + self.frame_max;
        assert!(inbox.depth().bytes <= bytes_max, "{} bytes", inbox.depth().bytes);
        assert!(down.in_flight() <= IN_FLIGHT_MAX);
        let hosts = self.world.node.role().hosts().count();
        assert!(hosts <= HOSTS_MAX, "{hosts} hosts");
        assert!(down.queued() <= 2 * HOSTS_MAX, "{} hosts wait", down.queued());
    }

    /// Faults are over: all that senders have is acked, nobody is left parked, and once all
    /// connections have ended the node knows of none.
    fn settle(&mut self) {
        *self.world.disk.store.faults() = engine::queue::memory::Faults::default();
        for conn in self.world.conns.keys().copied().collect::<Vec<_>>() {
            if !self.senders.iter().any(|sender| sender.conn == Some(conn)) {
                self.world.end(conn, CloseReason::PeerClosed);
            }
        }
        let mut good = Input::new(&[]);
        for round in 0..200 {
            for of in 0..self.senders.len() {
                if !self.senders[of].is_done() {
                    self.send(of, 0b1100);
                }
                self.hear();
            }
            self.world.advance(Duration::from_millis(500) * (1 + round / 20));
            while self.world.answer_store() {}
            while !self.world.effects.is_empty() {
                self.answer_effect(&mut good);
                self.hear();
            }
            while !self.world.blobs.is_empty() {
                self.world.answer_blob(&mut good);
            }
            while !self.world.names.is_empty() {
                self.world.answer_name(Ok(vec![address(1)]));
            }
            while !self.world.dials.is_empty() {
                self.world.finish_dial(Some(CloseReason::Refused));
            }
            self.hear();
            self.check();
            if self.world.exited || self.senders.iter().all(Sender::is_done) && round > 2 {
                break;
            }
        }
        if self.world.exited {
            return;
        }
        for sender in &self.senders {
            assert!(sender.is_done(), "what {} has is never acked: {sender:?}", sender.name);
        }
        let parked = self.world.conns.iter().find(|(_, state)| state.parked);
        assert!(parked.is_none(), "{parked:?} is never resumed");
        for conn in self.world.conns.keys().copied().collect::<Vec<_>>() {
            self.world.end(conn, CloseReason::PeerClosed);
        }
        let left = self.world.node.parts().connections_by_use();
        assert!(left.iter().all(|(_, n)| *n == 0), "connections leak: {left:?}");
    }
}

fn address(host: u8) -> SocketAddr {
    (Ipv4Addr::new(127, 0, 0, host), 0).into()
}

fn slow() -> SinkError {
    SinkError::Io { path: "results".to_owned(), detail: "made to fail".to_owned() }
}
