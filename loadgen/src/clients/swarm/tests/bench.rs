//! A swarm, a master that does what it is told, and no socket between them: in virtual time.

use crate::clients::address::{DEFAULT_SUFFIX, Identities, address, index_of};
use crate::clients::swarm::{Swarm, SwarmConfig};
use crate::clients::work::{Goal, Pace, Work};
use engine::delivery::ack;
use engine::ids::{ConnId, DialId, Epoch, HostName, Origin};
use engine::node::io::{CloseReason, Host, Input, Listener, Output, PeerAddr};
use engine::release::{Assignment, decode};
use engine::sign::SigningKey;
use engine::time::{Instant, Now, WallMs};
use engine::wire::message::{BindReq, BindResp, Manifest, Poll, Report};
use engine::wire::{Body, Frame, FrameBuf, Kind, RouteBuf, access, encode};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

/// The master answers after this.
const SERVICE: Duration = Duration::from_millis(1);

/// A swarm, what it does, and when that begins.
#[derive(Debug, Clone)]
pub struct Config {
    pub swarm: SwarmConfig,
    pub work: Work,
    pub start: Instant,
}

pub fn config(clients: u32, window: Duration, interval: Option<Duration>, goal: Goal) -> Config {
    let swarm = SwarmConfig {
        clients: 0..clients,
        clients_all: clients,
        identities: Identities::new(DEFAULT_SUFFIX).unwrap(),
        master: "127.0.0.1:7400".parse().unwrap(),
        own_addresses: true,
        deliveries_max: 10_000,
        seed: 3,
        incarnation: 4,
    };
    let length = Duration::from_secs(1_000_000);
    let polls = Some(Pace { window, interval, random: false });
    let work = Work { polls, goal, ..Work::idle(length) };
    Config { swarm, work, start: Instant(1_600_000_000) }
}

#[derive(Debug)]
enum Event {
    Dialed { dial: DialId, conn: ConnId },
    DialFailed { dial: DialId, reason: CloseReason },
    Frame { conn: ConnId, frame: FrameBuf },
    DialBack { local: SocketAddr, frames: Vec<FrameBuf> },
    Closed { conn: ConnId, reason: CloseReason },
}

/// One world.
pub struct Bench {
    pub swarm: Swarm,
    now: Instant,
    events: BTreeMap<(Instant, u64), Event>,
    next: u64,
    key: SigningKey,
    conns: HashSet<ConnId>,
    /// Indices below their number that none of them has.
    free: Vec<u32>,
    /// Deliveries of clients, and when they were dialled.
    uplinks: HashMap<ConnId, Instant>,
    revision: u64,
    issued_ms: u64,
    /// The master does nothing in between.
    pub stall: Option<(Instant, Instant)>,
    /// Nobody listens.
    pub refusing: bool,
    /// The master cannot dial its clients.
    pub is_far: bool,
    /// Acks of reports are of the one behind them too.
    pub acks_too_much: bool,
    /// So many dials fail for lack of a descriptor.
    pub failing_dials: u32,
    /// Addresses that were dialled from.
    pub sources: Vec<IpAddr>,
    /// Reports received: name, epoch, seq, and what each says.
    pub reports: Vec<(HostName, u64, u64, NonZeroU32)>,
    /// Refusals received for what was dialled back.
    pub nacks: u32,
    /// From a client's dial to the answer to its poll.
    pub service: Vec<Duration>,
    /// The most deliveries at once.
    pub uplinks_most: usize,
}

impl Bench {
    pub fn new(config: &Config) -> Self {
        let mut bench = Self::idle(config);
        let now = bench.now();
        bench.swarm.begin(&config.work, config.start, now);
        bench
    }

    /// Clients that do nothing yet.
    pub fn idle(config: &Config) -> Self {
        let now = Instant(config.start.0 - 100_000_000);
        let at = Now { at: now, wall: wall(now) };
        Self {
            swarm: Swarm::new(config.swarm.clone(), at),
            now,
            events: BTreeMap::new(),
            next: 1,
            key: SigningKey::generate().unwrap(),
            conns: HashSet::new(),
            free: Vec::new(),
            uplinks: HashMap::new(),
            revision: 0,
            issued_ms: 0,
            stall: None,
            refusing: false,
            is_far: false,
            acks_too_much: false,
            failing_dials: 0,
            sources: Vec::new(),
            reports: Vec::new(),
            nacks: 0,
            service: Vec::new(),
            uplinks_most: 0,
        }
    }

    fn now(&self) -> Now {
        Now { at: self.now, wall: wall(self.now) }
    }

    /// The clients begin something else, now.
    pub fn begin(&mut self, work: &Work) {
        let now = self.now();
        self.swarm.begin(work, now.at, now);
    }

    /// From now on the master has this revision.
    pub fn publish(&mut self, revision: u64) {
        self.revision = revision;
        self.issued_ms = wall(self.now).0;
    }

    pub fn open_conns(&self) -> usize {
        self.conns.len()
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn conn(&mut self) -> ConnId {
        // Few indices, so that they are used again and again.
        let index = self.free.pop().unwrap_or(u32::try_from(self.conns.len()).unwrap());
        let conn = ConnId::new(index, u32::try_from(self.number()).unwrap());
        self.conns.insert(conn);
        conn
    }

    /// Has something happen later, and says when.
    fn after(&mut self, wait: Duration, event: Event) -> Instant {
        let at = self.now + wait;
        let at = match self.stall {
            Some((from, to)) if at >= from && at < to => to,
            _ => at,
        };
        let number = self.number();
        self.events.insert((at, number), event);
        at
    }

    /// The master brings `revision` to the address of one client, in the name of another.
    pub fn dial_back(&mut self, at: u32, target: u32, revision: u64) {
        let target = Identities::new(DEFAULT_SUFFIX).unwrap().name(target);
        let frame = self.manifest(target, revision);
        let local = SocketAddr::new(address(at).into(), 7402);
        self.after(SERVICE, Event::DialBack { local, frames: vec![frame] });
    }

    /// Somebody connects, and says nothing.
    pub fn accept(&mut self, local: SocketAddr) {
        self.after(SERVICE, Event::DialBack { local, frames: Vec::new() });
    }

    fn downstream<B: Body>(&mut self, target: HostName, body: &B) -> FrameBuf {
        let seq = self.number();
        let name = HostName::parse(b"master").unwrap();
        let route = RouteBuf::from(Origin { name, epoch: Epoch(9), seq }).to(target);
        FrameBuf::message(Some(&route), body, |header| {
            header.epoch = Epoch(9);
            header.seq = seq;
        })
    }

    fn manifest(&mut self, target: HostName, revision: u64) -> FrameBuf {
        let assignment = Assignment {
            schema: 1,
            pattern: "*".into(),
            excludes: Vec::new(),
            revision,
            manifest: [0; 32],
            manifest_size: 0,
            issued_ms: self.issued_ms,
            expires_ms: u64::MAX,
        };
        let signed = assignment.sign(&self.key);
        self.downstream(target, &Manifest { assignment: encode(&signed) })
    }

    /// The generator does nothing for so long.
    pub fn sleep(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            while let Some(output) = self.swarm.poll_output() {
                self.on_output(output);
            }
            let event = self.events.keys().next().map(|(at, _)| *at);
            let timer = self.swarm.next_timeout();
            let at = [event, timer].into_iter().flatten().min();
            let Some(at) = at.filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            if event.is_some_and(|at| at <= self.now)
                && let Some((_, event)) = self.events.pop_first()
            {
                self.on_event(event);
            } else {
                self.swarm.handle_timeout(self.now());
            }
        }
        self.now = end;
    }

    fn on_output<E: std::fmt::Debug>(&mut self, output: Output<E>) {
        match output {
            Output::Dial { dial, from, .. } => {
                self.sources.extend(from);
                if self.failing_dials > 0 {
                    self.failing_dials -= 1;
                    let reason = CloseReason::Exhausted;
                    self.after(Duration::ZERO, Event::DialFailed { dial, reason });
                } else if self.refusing {
                    let reason = CloseReason::Refused;
                    self.after(Duration::ZERO, Event::DialFailed { dial, reason });
                } else {
                    let conn = self.conn();
                    self.uplinks.insert(conn, self.now);
                    self.uplinks_most = self.uplinks_most.max(self.uplinks.len());
                    // The kernel accepts while the master stalls.
                    let number = self.number();
                    self.events.insert((self.now, number), Event::Dialed { dial, conn });
                }
            }
            Output::Send { conn, frame } => {
                let bytes = frame.to_vec();
                let frame = Frame::parse(&bytes).unwrap();
                if self.uplinks.contains_key(&conn) {
                    self.on_uplink(conn, &frame);
                } else {
                    self.nacks += u32::from(frame.header.kind == Kind::NACK);
                    let reason = CloseReason::PeerClosed;
                    self.after(Duration::ZERO, Event::Closed { conn, reason });
                }
            }
            Output::Hangup { conn } => {
                let number = self.number();
                let reason = CloseReason::Done;
                self.events.insert((self.now, number), Event::Closed { conn, reason });
            }
            Output::Close { conn, reason } => {
                let number = self.number();
                self.events.insert((self.now, number), Event::Closed { conn, reason });
            }
            Output::Expect { .. } => {}
            other => panic!("a swarm asks for {other:?}"),
        }
    }

    fn on_uplink(&mut self, conn: ConnId, frame: &Frame<'_>) {
        let origin = frame.route().unwrap().origin().unwrap();
        let header = frame.header;
        let mut frames = Vec::new();
        match header.kind {
            Kind::BIND_REQ => {
                let nonce = access::<BindReq>(frame).unwrap().nonce.to_native();
                let answer = BindResp { nonce, version: "1".into() };
                frames.push(self.downstream(origin.name.clone(), &answer));
            }
            Kind::POLL => {
                let held = access::<Poll>(frame).unwrap().held.to_native();
                if held < self.revision {
                    frames.push(self.manifest(origin.name.clone(), self.revision));
                }
            }
            Kind::REPORT => {
                let report: Report = decode(frame.body()).unwrap();
                let (name, digest) = (origin.name.clone(), report.digest());
                self.reports.push((name, origin.epoch.0, origin.seq, digest));
            }
            Kind::BIND_ACK => {}
            other => panic!("a client sends {other}"),
        }
        let more = u64::from(self.acks_too_much && header.kind == Kind::REPORT);
        let answer = ack(header.lane, header.epoch, header.seq + more, false);
        let answered = self.after(SERVICE, Event::Frame { conn, frame: answer });
        if header.kind == Kind::POLL {
            self.service.push(answered.since(self.uplinks[&conn]));
        }
        if !frames.is_empty() && !self.is_far {
            let index = self.uplink_client(&origin.name);
            let local = SocketAddr::new(address(index).into(), 7402);
            self.after(SERVICE, Event::DialBack { local, frames });
        }
    }

    /// What the hosts table says.
    fn uplink_client(&self, name: &HostName) -> u32 {
        let digits = name.as_str().trim_start_matches("lg-").split('.').next().unwrap();
        digits.parse::<u32>().unwrap() - 1
    }

    fn on_event(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Dialed { dial, conn } => {
                self.swarm.handle_input(Input::Dialed { dial, conn }, now);
            }
            Event::DialFailed { dial, reason } => {
                self.swarm.handle_input(Input::DialFailed { dial, reason }, now);
            }
            Event::Frame { conn, frame } if self.conns.contains(&conn) => {
                let bytes = frame.to_vec();
                self.swarm.handle_frame(conn, Frame::parse(&bytes).unwrap(), now);
            }
            Event::DialBack { local, frames } => {
                let conn = self.conn();
                assert!(frames.is_empty() || index_of(local.ip()).is_some());
                let input = Input::Accepted {
                    conn,
                    listener: Listener::Peers,
                    local: Some(local),
                    peer: PeerAddr::Tcp("127.0.0.1:7400".parse().unwrap()),
                };
                self.swarm.handle_input(input, now);
                for frame in frames {
                    let bytes = frame.to_vec();
                    self.swarm.handle_frame(conn, Frame::parse(&bytes).unwrap(), now);
                }
            }
            Event::Closed { conn, reason } if self.conns.remove(&conn) => {
                self.uplinks.remove(&conn);
                self.free.push(u32::try_from(conn.index()).unwrap());
                self.swarm.handle_input(Input::Closed { conn, reason }, now);
            }
            // The connection has gone meanwhile.
            Event::Frame { .. } | Event::Closed { .. } => {}
        }
    }
}

/// Both clocks of this world run together.
fn wall(at: Instant) -> WallMs {
    WallMs(1_700_000_000_000 + at.0 / 1_000_000)
}
