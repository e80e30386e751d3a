//! One node in virtual time, and all that is around it: connections, disk, names, blobs. It keeps
//! to the contract of `engine::node::io` as the reactor does, and watches that the node does.

use crate::disk::Disk;
use crate::input::Input;
use engine::blob::{BlobCommand, BlobEvent};
use engine::ids::{ConnId, DialId, Epoch, HostName, Listener, PeerAddr};
use engine::node::io::{
    CloseReason, Host, Input as NodeInput, Mail, Output, Request, ResolveError, Verdict,
};
use engine::node::{Node, Role};
use engine::time::{Instant, Now, WallMs};
use engine::wire::{Class, Decoder, Flow, Frame, FrameBuf, Header, Kind, Lane};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Outputs of one turn: no input is worth more.
const OUTPUTS_MAX: usize = 20_000;
/// Turns at one moment after which a node that still has something to do at once does so for
/// ever: the loop would spin.
const TURNS_MAX: usize = 32;
/// Connections at once.
pub const CONNS_MAX: usize = 12;

/// A connection of the node.
#[derive(Debug, Default)]
pub struct Conn {
    /// Through which listener it came; `None` if the node has dialled it.
    pub listener: Option<Listener>,
    /// The node has asked for its end, and is given no more frames.
    pub closing: bool,
    /// The node has not taken a frame, and is given no more until it says so.
    pub parked: bool,
    decoder: Decoder,
    /// Headers of what the node has sent, the last few.
    pub sent: VecDeque<Header>,
    /// Bytes have to go to the peer before the node is told of it.
    pub drains: bool,
}

/// What a peer hears from the node, in order.
#[derive(Debug)]
pub enum Heard {
    /// A frame on a connection.
    Frame(ConnId, Header, Vec<u8>),
    /// The end of one.
    Ended(ConnId),
}

/// A node in its world.
pub struct World<R: Role> {
    /// The node.
    pub node: Node<R>,
    /// The time.
    pub now: Now,
    /// Its disk.
    pub disk: Disk,
    /// Its connections.
    pub conns: BTreeMap<ConnId, Conn>,
    /// Dials that it has asked for.
    pub dials: VecDeque<DialId>,
    /// Names that it wants to know the addresses of.
    pub names: VecDeque<HostName>,
    /// What it asks of the blob thread.
    pub blobs: VecDeque<BlobCommand>,
    /// What it asks of its role's own threads.
    pub effects: VecDeque<R::Effect>,
    /// What peers have heard.
    pub heard: Vec<Heard>,
    /// It has asked for the end.
    pub exited: bool,
    /// Connections that have ended in this turn.
    ended: Vec<ConnId>,
    stopped_listening: bool,
    next_conn: u32,
    last_dial: u64,
}

impl<R: Role> World<R> {
    /// A node that has just been made, over this disk.
    #[must_use]
    pub fn new(node: Node<R>, disk: Disk, now: Now) -> Self {
        Self {
            node,
            now,
            disk,
            conns: BTreeMap::new(),
            dials: VecDeque::new(),
            names: VecDeque::new(),
            blobs: VecDeque::new(),
            effects: VecDeque::new(),
            heard: Vec::new(),
            exited: false,
            ended: Vec::new(),
            stopped_listening: false,
            next_conn: 1,
            last_dial: 0,
        }
    }

    /// The moment at which every history begins.
    #[must_use]
    pub fn begin() -> Now {
        Now { at: Instant(1_000_000_000), wall: WallMs(1_800_000_000_000) }
    }

    /// The node after a kill: everything is gone but its disk.
    pub fn restart(&mut self, node: Node<R>) {
        let ended = std::mem::take(&mut self.conns);
        self.heard.extend(ended.into_keys().map(Heard::Ended));
        self.disk.crash();
        let mut disk = Disk::new(0);
        std::mem::swap(&mut disk, &mut self.disk);
        let next_conn = self.next_conn;
        let heard = std::mem::take(&mut self.heard);
        *self = Self { heard, next_conn, ..Self::new(node, disk, self.now) };
    }

    fn new_conn(&mut self, listener: Option<Listener>) -> ConnId {
        let conn = ConnId::new(self.next_conn, self.next_conn);
        self.next_conn += 1;
        self.conns.insert(conn, Conn { listener, ..Conn::default() });
        conn
    }

    /// A peer connects, if the node takes any; which connection that is.
    pub fn accept(&mut self, listener: Listener, host: u8) -> Option<ConnId> {
        if self.conns.len() >= CONNS_MAX || self.stopped_listening {
            return None;
        }
        let conn = self.new_conn(Some(listener));
        let peer = match listener {
            Listener::Control => PeerAddr::Unix { uid: 0 },
            Listener::Peers => PeerAddr::Tcp((Ipv4Addr::new(127, 0, 0, host), 40_000).into()),
        };
        self.tell(NodeInput::Accepted { conn, listener, local: None, peer });
        self.turn();
        Some(conn)
    }

    /// The oldest dial comes to its end.
    pub fn finish_dial(&mut self, reason: Option<CloseReason>) {
        let Some(dial) = self.dials.pop_front() else { return };
        match reason {
            None => {
                let conn = self.new_conn(None);
                self.tell(NodeInput::Dialed { dial, conn });
            }
            Some(reason) => self.tell(NodeInput::DialFailed { dial, reason }),
        }
        self.turn();
    }

    /// A connection ends.
    pub fn end(&mut self, conn: ConnId, reason: CloseReason) {
        if self.conns.remove(&conn).is_some() {
            self.heard.push(Heard::Ended(conn));
            self.tell(NodeInput::Closed { conn, reason });
            self.turn();
        }
    }

    /// What was sent on a connection has gone out.
    pub fn drain(&mut self, conn: ConnId) {
        if let Some(state) = self.conns.get_mut(&conn)
            && std::mem::take(&mut state.drains)
        {
            self.tell(NodeInput::Drained { conn });
            self.turn();
        }
    }

    /// Bytes come on a connection, if any may: cut into frames as the reactor does it.
    pub fn bytes(&mut self, conn: ConnId, bytes: &[u8]) {
        if self.read(conn, bytes) {
            self.turn();
        }
    }

    /// The same within a turn; whether anything was read.
    pub fn read(&mut self, conn: ConnId, bytes: &[u8]) -> bool {
        let Some(state) = self.conns.get_mut(&conn) else { return false };
        if state.closing || state.parked {
            return false;
        }
        let mut decoder = std::mem::take(&mut state.decoder);
        let (node, now) = (&mut self.node, self.now);
        let flow = decoder.feed(bytes, |frame| match node.handle_frame(conn, frame, now) {
            Verdict::Taken => Flow::Next,
            Verdict::Park => Flow::Park,
        });
        let Some(state) = self.conns.get_mut(&conn) else { return true };
        state.decoder = decoder;
        match flow {
            Ok(flow) => state.parked = flow == Flow::Park,
            Err(error) => {
                // What the node has said to the frames before is not sent any more, and is no
                // mistake: it is told of the end in the turn in which it said so.
                state.closing = true;
                self.ended.push(conn);
                self.heard.push(Heard::Ended(conn));
                self.tell(NodeInput::Closed { conn, reason: CloseReason::Protocol(error) });
            }
        }
        true
    }

    /// A letter from a thread beside the loop.
    pub fn mail(&mut self, mail: Mail<R::Mail>) {
        self.tell(NodeInput::Mail(mail));
        self.turn();
    }

    fn tell(&mut self, input: NodeInput<R::Mail>) {
        self.node.handle_input(input, self.now);
    }

    /// The store's oldest answer, if there is one.
    pub fn answer_store(&mut self) -> bool {
        let answer = self.disk.answers.pop_front();
        let answered = answer.is_some();
        if let Some(event) = answer {
            self.mail(Mail::Store(event));
        }
        answered
    }

    /// The name service answers the oldest question.
    pub fn answer_name(&mut self, answer: Result<Vec<SocketAddr>, ResolveError>) {
        if let Some(name) = self.names.pop_front() {
            self.mail(Mail::Resolved { name, answer });
        }
    }

    /// The blob thread answers the oldest command: as it should, or that it could not.
    pub fn answer_blob(&mut self, input: &mut Input<'_>) {
        static FILE: OnceLock<Arc<File>> = OnceLock::new();
        let Some(command) = self.blobs.pop_front() else { return };
        let fails = input.one_in(4);
        let event = match command {
            BlobCommand::Open { hash } | BlobCommand::ReadAhead { hash, .. } if fails => {
                BlobEvent::Missing { hash }
            }
            BlobCommand::Open { hash } => {
                // Nobody reads it here: what is sent from it counts.
                let open = || Arc::new(File::open("/dev/null").expect("every Linux has it"));
                let size = u64::from(hash.0[0]) * 100_000 + u64::from(input.one_in(8));
                BlobEvent::Opened { hash, file: Arc::clone(FILE.get_or_init(open)), size }
            }
            BlobCommand::ReadAhead { hash, offset, .. } => BlobEvent::Ready { hash, offset },
            BlobCommand::Probe { blobs } => {
                let missing = |(hash, size): (_, u64)| {
                    let here = if input.one_in(4) { input.number(1).min(size) } else { 0 };
                    (!fails).then_some((hash, size, here))
                };
                BlobEvent::Wanted { blobs: blobs.into_iter().filter_map(missing).collect() }
            }
            BlobCommand::Write { hash, .. } if fails => {
                BlobEvent::Broken { hash, error: "made to fail".to_owned() }
            }
            BlobCommand::Write { hash, size, offset, data } => match offset + data.len() as u64 {
                upto if upto < size => BlobEvent::Written { hash, upto },
                _ => BlobEvent::Stored { hash },
            },
            BlobCommand::Load { hash, .. } if fails => BlobEvent::Missing { hash },
            BlobCommand::Load { hash, .. } => {
                BlobEvent::Loaded { hash, bytes: crate::client::manifest(input) }
            }
            BlobCommand::Verify { hash } => BlobEvent::Verified { hash, whole: !fails },
            BlobCommand::Collect { .. } => BlobEvent::Collected { removed: 1, bytes: 1 },
        };
        self.mail(Mail::Blob(event));
    }

    /// Time passes; what is due is done.
    pub fn advance(&mut self, by: Duration) {
        self.now.at = self.now.at + by;
        self.now.wall.0 += u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.disk.tick();
        for _ in 0..TURNS_MAX {
            if self.node.next_timeout().is_none_or(|at| at > self.now.at) {
                return;
            }
            self.node.handle_timeout(self.now);
            self.turn();
        }
        panic!("the loop would spin: the node's next timeout is {:?}", self.node.next_timeout());
    }

    /// Carries out all that the node asks for.
    ///
    /// # Panics
    /// The node breaks its contract.
    pub fn turn(&mut self) {
        let mut ended = false;
        for _ in 0..OUTPUTS_MAX {
            match self.node.poll_output() {
                Some(output) => self.carry_out(output),
                None if !ended => {
                    ended = true;
                    self.node.end_turn(self.now);
                }
                None => {
                    for conn in self.ended.drain(..) {
                        self.conns.remove(&conn);
                    }
                    return self.check_links();
                }
            }
        }
        panic!("more than {OUTPUTS_MAX} outputs in one turn");
    }

    fn carry_out(&mut self, output: Output<R::Effect>) {
        match output {
            Output::Dial { dial, timeout, .. } => {
                assert!(dial.0 > self.last_dial, "{dial:?} is used again");
                assert_ne!(timeout, Some(Duration::ZERO), "a dial without any time");
                self.last_dial = dial.0;
                self.dials.push_back(dial);
            }
            Output::Send { conn, frame } => self.on_sent(conn, &frame, 0),
            Output::SendFile { conn, frame, len, .. } => {
                assert!(len > 0, "a file of which nothing is sent");
                self.on_sent(conn, &frame, len);
            }
            Output::Expect { conn, .. } => drop(self.live(conn, "expected on")),
            Output::Close { conn, .. } => self.live(conn, "closed").closing = true,
            Output::Hangup { conn } => self.live(conn, "hung up").closing = true,
            Output::Resume { conn } => {
                let state = self.live(conn, "resumed");
                if std::mem::take(&mut state.parked) {
                    self.read(conn, &[]);
                }
            }
            Output::StopListening => self.stopped_listening = true,
            Output::Request(Request::Resolve { name }) => self.names.push_back(name),
            Output::Request(Request::Store(command)) => self.disk.take(command),
            Output::Request(Request::Blob(command)) => self.blobs.push_back(command),
            Output::Request(Request::Role(effect)) => self.effects.push_back(effect),
            Output::Exit => {
                assert!(!self.exited, "it exits twice");
                self.exited = true;
            }
        }
    }

    #[track_caller]
    fn live(&mut self, conn: ConnId, what: &str) -> &mut Conn {
        match self.conns.get_mut(&conn) {
            Some(state) => state,
            None => panic!("{conn:?} is {what}, and the node knows that it has ended"),
        }
    }

    fn on_sent(&mut self, conn: ConnId, frame: &FrameBuf, of_file: usize) {
        let state = self.live(conn, "sent on");
        state.drains = true;
        // What comes after its own `Close` goes nowhere, in the reactor as here.
        if state.closing {
            return;
        }
        let mut bytes = frame.to_vec();
        bytes.resize(bytes.len() + of_file, 0);
        let sent = Frame::parse(&bytes).expect("what is sent is a frame");
        assert_eq!(sent.header.check_body(sent.body()), Ok(()), "what is sent is sound");
        sent.route().expect("what is sent has a route, or none");
        let class = sent.header.kind.class();
        let fits = match state.listener {
            Some(_) => matches!(class, Class::Hop | Class::Direct),
            None => class != Class::Hop,
        };
        assert!(fits, "a {} on a connection of {:?}", sent.header.kind, state.listener);
        state.sent.push_back(sent.header);
        if state.sent.len() > 32 {
            state.sent.pop_front();
        }
        let bytes = if of_file > 0 { Vec::new() } else { sent.bytes().to_vec() };
        self.heard.push(Heard::Frame(conn, sent.header, bytes));
    }

    /// The node knows of no connection but those that there are.
    fn check_links(&self) {
        let known: u64 = self.node.parts().connections_by_use().iter().map(|(_, n)| n).sum();
        let there = self.conns.len() as u64;
        assert!(known <= there, "the node knows {known} connections, and there are {there}");
    }

    /// An answer to something that the node has sent on a connection, or to nothing: an ack, a
    /// nack, or whatever frame this is.
    pub fn answer(&mut self, conn: ConnId, input: &mut Input<'_>) {
        let Some(state) = self.conns.get(&conn) else { return };
        let Some(of) = state.sent.get(input.below(32)).or(state.sent.back()).copied() else {
            return;
        };
        let (lane, epoch) = (of.lane, of.epoch);
        let seq = match input.below(8) {
            0 => of.seq.wrapping_add(1),
            1 => of.seq.wrapping_sub(1),
            2 => u64::MAX,
            _ => of.seq,
        };
        let tune = |header: &mut Header| {
            (header.lane, header.epoch, header.seq) = (lane, epoch, seq);
        };
        let frame = match input.below(8) {
            0 => {
                let mut header = Header::new(Kind::NACK);
                tune(&mut header);
                let body = crate::frames::nack(input).encode().to_vec();
                FrameBuf::seal(header, None, body.into())
            }
            1 => {
                let mut header = Header::new(Kind::CHUNK);
                tune(&mut header);
                let offset = if input.one_in(4) { input.number(8) } else { 0 };
                let body = [&offset.to_le_bytes()[..], input.bytes(255)].concat();
                FrameBuf::seal(header, None, body.into())
            }
            2 => {
                let mut header = Header::new(Kind::FETCH_REFUSED);
                tune(&mut header);
                let body = crate::frames::body(Kind::FETCH_REFUSED, input);
                FrameBuf::seal(header, None, body.into())
            }
            n => FrameBuf::bare(Kind::ACK, |header| {
                tune(header);
                header.flags = if n == 3 { engine::wire::FLAG_BEHIND } else { 0 };
            }),
        };
        self.bytes(conn, &frame.to_vec());
    }

    /// A connection that there is, as the input says.
    pub fn any_conn(&self, input: &mut Input<'_>) -> Option<ConnId> {
        let at = input.below(self.conns.len().max(1));
        self.conns.keys().nth(at).copied()
    }

    /// Epochs that mean something to the node.
    #[must_use]
    pub fn epochs(&self) -> Vec<Epoch> {
        let sent = self.conns.values().filter_map(|conn| conn.sent.back());
        let sent = sent.filter(|header| header.lane != Lane::Urgent).map(|header| header.epoch);
        // Nobody speaks in the name of those who keep to the protocol.
        let sent = sent.filter(|epoch| !crate::senders::is_own(*epoch));
        sent.take(4).chain([Epoch(self.disk.store.state().epoch)]).collect()
    }
}
