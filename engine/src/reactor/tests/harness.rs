//! One reactor with a scripted host, and raw peers that send it what they like.

use crate::clock::Clock;
use crate::ids::{ConnId, DialId};
use crate::limits::Limits;
use crate::node::io::{
    CloseReason, Host, Input, Listener, Mail, Output, Request, Services, Verdict,
};
use crate::reactor::poller::{Poller, Readiness, Token};
use crate::reactor::sim::{SimClock, SimConfig, SimNet, SimPoller, SimStream};
use crate::reactor::{Mailbox, MioPoller, MioStream, Reactor};
use crate::time::{Instant, Now, WallMs};
use crate::wire::{Frame, FrameBuf, Header, Kind};
use bytes::Bytes;
use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SEC: Duration = Duration::from_secs(1);

/// Seed of every simulation here; a failure prints it with the test's name.
pub(crate) const SEED: u64 = 0x5eed_0001;

/// A network to run the suite on.
pub(crate) trait Backend: Sized {
    type P: Poller;
    type C: Clock + Clone + 'static;
    const NAME: &'static str;
    fn new() -> Self;
    fn poller(&self) -> Self::P;
    fn clock(&self) -> Self::C;
    fn advance(&self, by: Duration);
    /// Advances the clock from within a handler.
    fn advancer(&self) -> Box<dyn FnMut(Duration)>;
    /// Longest that one turn may wait for the other side, in the backend's own time.
    fn wait(&self) -> Duration;
    /// Turns after which a test gives up.
    const TURNS_MAX: usize;
    /// Lets what is under way arrive.
    fn deliver(&self);
    /// Ends a peer's connection with a reset.
    fn reset(peers: &mut Self::P, stream: <Self::P as Poller>::Stream);
    /// An address that swallows connects.
    fn black_hole(&mut self) -> SocketAddr;
}

#[derive(Debug, Clone, Default)]
pub(crate) struct TestClock(Rc<Cell<Now>>);

impl Clock for TestClock {
    fn now(&self) -> Now {
        self.0.get()
    }
}

pub(crate) struct MioBackend {
    clock: TestClock,
    held: Vec<socket2::Socket>,
}

impl Backend for MioBackend {
    type P = MioPoller;
    type C = TestClock;
    const NAME: &'static str = "mio";
    const TURNS_MAX: usize = 250;
    fn new() -> Self {
        let clock = TestClock::default();
        clock.0.set(Now { at: Instant(1_000_000_000), wall: WallMs(1) });
        Self { clock, held: Vec::new() }
    }
    fn poller(&self) -> MioPoller {
        MioPoller::new().unwrap()
    }
    fn clock(&self) -> TestClock {
        self.clock.clone()
    }
    fn advance(&self, by: Duration) {
        let Now { at, wall } = self.clock.0.get();
        self.clock.0.set(Now { at: at + by, wall });
    }
    fn advancer(&self) -> Box<dyn FnMut(Duration)> {
        let clock = self.clock.clone();
        Box::new(move |by| {
            let Now { at, wall } = clock.0.get();
            clock.0.set(Now { at: at + by, wall });
        })
    }
    fn wait(&self) -> Duration {
        20 * MS
    }
    fn deliver(&self) {}
    fn reset(_: &mut MioPoller, stream: MioStream) {
        let MioStream::Tcp(stream) = stream else { unreachable!("peers dial by TCP") };
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    fn black_hole(&mut self) -> SocketAddr {
        // A listener whose queue is full and that nobody accepts from drops every further SYN.
        let new =
            || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let listener = new();
        listener.bind(&SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0).into()).unwrap();
        listener.listen(0).unwrap();
        let addr = listener.local_addr().unwrap();
        for _ in 0..2 {
            let filler = new();
            filler.set_nonblocking(true).unwrap();
            let _ = filler.connect(&addr);
            self.held.push(filler);
        }
        self.held.push(listener);
        addr.as_socket().unwrap()
    }
}

pub(crate) struct SimBackend(pub(crate) SimNet);

impl Backend for SimBackend {
    type P = SimPoller;
    type C = SimClock;
    const NAME: &'static str = "sim";
    const TURNS_MAX: usize = 20_000;
    fn new() -> Self {
        Self(SimNet::new(SEED, SimConfig::default()))
    }
    fn poller(&self) -> SimPoller {
        self.0.poller(Ipv4Addr::LOCALHOST.into())
    }
    fn clock(&self) -> SimClock {
        self.0.clock()
    }
    fn advance(&self, by: Duration) {
        self.0.advance(by);
    }
    fn advancer(&self) -> Box<dyn FnMut(Duration)> {
        let net = self.0.clone();
        Box::new(move |by| net.advance(by))
    }
    fn wait(&self) -> Duration {
        Duration::ZERO
    }
    fn deliver(&self) {
        if let Some(at) = self.0.next_event() {
            self.0.advance_to(at);
        }
    }
    fn reset(peers: &mut SimPoller, stream: SimStream) {
        peers.reset(stream);
    }
    fn black_hole(&mut self) -> SocketAddr {
        let ip = IpAddr::V4(Ipv4Addr::new(127, 9, 9, 9));
        self.0.set_black_hole(ip, true);
        SocketAddr::new(ip, 9)
    }
}

/// What the host was told, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Accepted(ConnId),
    Dialed(DialId, ConnId),
    DialFailed(DialId, CloseReason),
    Frame(ConnId, u64),
    Drained(ConnId),
    Closed(ConnId, CloseReason),
    Mail,
    Stop,
    Timeout,
}

type React = Box<dyn FnMut(ConnId, &Frame<'_>, &mut VecDeque<Output<()>>) -> Verdict>;

/// A host that notes what it is told and does what its test says.
pub(crate) struct Script {
    pub(crate) seen: Vec<Seen>,
    pub(crate) outputs: VecDeque<Output<()>>,
    pub(crate) react: React,
    pub(crate) timeout: Option<Instant>,
}

impl Host for Script {
    type Mail = u64;
    type Effect = ();
    fn handle_input(&mut self, input: Input<u64>, _: Now) {
        self.seen.push(match input {
            Input::Accepted { conn, .. } => Seen::Accepted(conn),
            Input::Dialed { dial, conn } => Seen::Dialed(dial, conn),
            Input::DialFailed { dial, reason } => Seen::DialFailed(dial, reason),
            Input::Drained { conn } => Seen::Drained(conn),
            Input::Closed { conn, reason } => Seen::Closed(conn, reason),
            Input::Mail(Mail::Stop) => Seen::Stop,
            Input::Mail(_) => Seen::Mail,
        });
    }
    fn handle_frame(&mut self, conn: ConnId, frame: Frame<'_>, _: Now) -> Verdict {
        let verdict = (self.react)(conn, &frame, &mut self.outputs);
        if verdict == Verdict::Taken {
            self.seen.push(Seen::Frame(conn, frame.header.seq));
        }
        verdict
    }
    fn handle_timeout(&mut self, _: Now) {
        self.timeout = None;
        self.seen.push(Seen::Timeout);
    }
    fn end_turn(&mut self, _: Now) {}
    fn next_timeout(&self) -> Option<Instant> {
        self.timeout
    }
    fn poll_output(&mut self) -> Option<Output<()>> {
        self.outputs.pop_front()
    }
}

/// Counts what it is asked, and what of it is still to be handed over.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct NoThreads {
    pub(crate) asked: usize,
    pub(crate) gathered: usize,
}

impl Services<()> for NoThreads {
    fn dispatch(&mut self, _: Request<()>) {
        self.asked += 1;
        self.gathered += 1;
    }
    fn hand_over(&mut self) {
        self.gathered = 0;
    }
}

/// A frame with this number and a body of this length.
pub(crate) fn frame(seq: u64, body_len: usize) -> FrameBuf {
    let mut header = Header::new(Kind::CONTROL_RESP);
    header.seq = seq;
    FrameBuf::seal(header, None, Bytes::from(vec![7; body_len]))
}

pub(crate) struct World<B: Backend> {
    pub(crate) backend: B,
    pub(crate) reactor: Reactor<B::P, Script, NoThreads, B::C>,
    pub(crate) peers: B::P,
    pub(crate) addr: SocketAddr,
    events: Vec<Readiness>,
}

pub(crate) type Stream<B> = <<B as Backend>::P as Poller>::Stream;

impl<B: Backend> World<B> {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        let backend = B::new();
        let poller = backend.poller();
        let mailbox = Mailbox::new(&poller);
        let script = Script {
            seen: Vec::new(),
            outputs: VecDeque::new(),
            react: Box::new(|_, _, _| Verdict::Taken),
            timeout: None,
        };
        let mut reactor =
            Reactor::new(poller, mailbox, script, NoThreads::default(), backend.clock(), limits);
        let any = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let addr = reactor.listen(Listener::Peers, any).unwrap();
        let peers = backend.poller();
        Self { backend, reactor, peers, addr, events: Vec::with_capacity(1024) }
    }

    pub(crate) fn react(
        &mut self,
        react: impl FnMut(ConnId, &Frame<'_>, &mut VecDeque<Output<()>>) -> Verdict + 'static,
    ) {
        self.reactor.host_mut().react = Box::new(react);
    }

    pub(crate) fn seen(&self) -> &[Seen] {
        &self.reactor.host().seen
    }

    pub(crate) fn output(&mut self, output: Output<()>) {
        self.reactor.host_mut().outputs.push_back(output);
    }

    /// One turn, after which what is under way has arrived.
    pub(crate) fn turn(&mut self) {
        self.reactor.turn().unwrap();
        self.pump();
    }

    fn pump(&mut self) {
        self.events.clear();
        let now = self.backend.clock().now().at;
        self.peers.poll(&mut self.events, now, Some(now)).unwrap();
    }

    /// Turns until something is so.
    pub(crate) fn until(&mut self, what: &str, mut so: impl FnMut(&mut Self) -> bool) {
        let mut idle = 0;
        while idle < B::TURNS_MAX {
            if so(self) {
                return;
            }
            // Only turns in which nothing moved count against the test.
            let before = self.progress();
            self.reactor.turn_within(Some(self.backend.wait())).unwrap();
            idle = if self.progress() == before { idle + 1 } else { 0 };
            self.pump();
            let now = self.backend.clock().now().at;
            if self.reactor.next_deadline(now).is_none_or(|at| at > now) {
                self.backend.deliver();
            }
        }
        panic!("{} (seed {SEED:#x}): never {what}; seen {:?}", B::NAME, self.seen());
    }

    fn progress(&self) -> (u64, u64, usize) {
        let metrics = self.reactor.metrics();
        (metrics.bytes_in.value(), metrics.bytes_out.value(), self.seen().len())
    }

    /// Turns until nothing is under way any more.
    pub(crate) fn settle(&mut self) {
        for _ in 0..40 {
            self.turn();
            self.backend.deliver();
        }
    }

    /// A connection of a raw peer, accepted by the reactor.
    pub(crate) fn connect(&mut self) -> (Stream<B>, ConnId) {
        let before = self.accepted().len();
        let addr = self.addr;
        let (stream, _) = self.peers.connect(addr, None, Token(1 << 40)).unwrap();
        self.until("accepted", |w| {
            w.accepted().len() > before && w.peers.connected(&stream).unwrap()
        });
        (stream, self.accepted()[before])
    }

    pub(crate) fn accepted(&self) -> Vec<ConnId> {
        let accepted = |s: &Seen| if let Seen::Accepted(id) = s { Some(*id) } else { None };
        self.seen().iter().filter_map(accepted).collect()
    }

    pub(crate) fn frames(&self) -> Vec<(ConnId, u64)> {
        let frames = |s: &Seen| if let Seen::Frame(id, seq) = s { Some((*id, *seq)) } else { None };
        self.seen().iter().filter_map(frames).collect()
    }

    pub(crate) fn closed(&self, id: ConnId) -> Option<CloseReason> {
        let mut all = self.seen().iter().filter_map(|s| match s {
            Seen::Closed(conn, reason) if *conn == id => Some(*reason),
            _ => None,
        });
        let first = all.next();
        assert!(all.next().is_none(), "{id:?} was closed twice: {:?}", self.seen());
        first
    }

    /// Writes all of it, turning the reactor while it is blocked.
    pub(crate) fn send(&mut self, stream: &mut Stream<B>, mut bytes: &[u8]) {
        self.until("sent", |w| {
            while !bytes.is_empty() {
                match w.peers.write_vectored(stream, &[IoSlice::new(bytes)]) {
                    Ok(n) => bytes = &bytes[n..],
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
                    Err(e) => panic!("{}: {e}", B::NAME),
                }
            }
            true
        });
    }

    /// Reads what is there; `None` for the end or a reset.
    pub(crate) fn receive(&mut self, stream: &mut Stream<B>, into: &mut Vec<u8>) -> Option<()> {
        let mut buf = [0; 4096];
        loop {
            match self.peers.read(stream, &mut buf) {
                Ok(0) => return None,
                Ok(n) => into.extend_from_slice(&buf[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Some(()),
                Err(_) => return None,
            }
        }
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        self.backend.advance(by);
    }
}
