//! What happened in a cluster, in order: between every node and its loop.

use super::mutation::{MutatedHost, Mutation};
use engine::ids::{ConnId, Epoch};
use engine::node::io::{CloseReason, Host, Input, Mail, Output, PeerAddr, Request, Verdict};
use engine::time::{Instant, Now};
use engine::wire::{Frame, Header, Kind, Lane};
use std::cell::RefCell;
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

/// Events kept for a test to look at, unless it says otherwise; the hash goes on beyond.
const EVENTS_MAX: usize = 2_000_000;

/// One thing that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Event {
    /// When.
    pub at: Instant,
    /// At whose address.
    pub ip: IpAddr,
    /// What.
    pub what: What,
}

/// The header of a frame, as far as tests look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seen {
    /// Its kind.
    pub kind: Kind,
    /// Its lane.
    pub lane: Lane,
    /// The hop sender's incarnation.
    pub epoch: Epoch,
    /// Its number.
    pub seq: u64,
}

/// What a node was told, or asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// A peer has connected.
    Accepted(ConnId, IpAddr),
    /// It asked for a connection.
    Dial(SocketAddr),
    /// It has one.
    Dialed(ConnId),
    /// It has none.
    DialFailed(CloseReason),
    /// A frame came and was taken.
    In(ConnId, Seen),
    /// A frame came and was parked.
    Parked(ConnId),
    /// A frame goes out.
    Out(ConnId, Seen),
    /// It closes a connection.
    Close(ConnId),
    /// A connection has ended.
    Closed(ConnId, CloseReason),
    /// Mail came, of this sort.
    Mail(&'static str),
    /// It asked a thread of this name.
    Request(&'static str),
    /// A crash, a start, a fault: what the test did to it.
    Fate(&'static str),
}

/// All that happened.
#[derive(Debug)]
pub struct Trace {
    hasher: DefaultHasher,
    events: Vec<Event>,
    events_max: usize,
    count: u64,
    /// The time of what happens now.
    pub now: Instant,
}

/// A trace that all nodes write to.
pub type SharedTrace = Rc<RefCell<Trace>>;

impl Default for Trace {
    fn default() -> Self {
        Self {
            hasher: DefaultHasher::new(),
            events: Vec::new(),
            events_max: EVENTS_MAX,
            count: 0,
            now: Instant::default(),
        }
    }
}

/// One line without its end: `1.234567890 127.0.0.1 Out(…)`.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.at.0 / 1_000_000_000, self.at.0 % 1_000_000_000);
        write!(f, "{seconds}.{nanos:09} {} {:?}", self.ip, self.what)
    }
}

impl Trace {
    /// Keeps so many events and no more: none where only the hash is of interest.
    pub fn keep(&mut self, events_max: usize) {
        self.events_max = events_max;
    }

    /// Notes an event.
    pub fn note(&mut self, ip: IpAddr, what: What) {
        let event = Event { at: self.now, ip, what };
        event.hash(&mut self.hasher);
        self.count += 1;
        if self.events.len() < self.events_max {
            self.events.push(event);
        }
    }

    /// A number that any other course of events has not.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// How many events there were.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether nothing has happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The events kept.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }
}

/// A host that is watched, and may have a deliberate fault.
pub struct Traced<H: Host> {
    /// The host.
    pub host: H,
    ip: IpAddr,
    trace: SharedTrace,
    mutated: MutatedHost<H::Effect>,
}

impl<H: Host> Traced<H> {
    /// Watches this host.
    #[must_use]
    pub fn new(host: H, ip: IpAddr, trace: SharedTrace, mutation: Option<Mutation>) -> Self {
        Self { host, ip, trace, mutated: MutatedHost::new(mutation) }
    }

    fn note(&self, what: What) {
        self.trace.borrow_mut().note(self.ip, what);
    }
}

fn seen(header: &Header) -> Seen {
    Seen { kind: header.kind, lane: header.lane, epoch: header.epoch, seq: header.seq }
}

fn of_input<M>(input: &Input<M>) -> Option<What> {
    Some(match input {
        Input::Accepted { conn, peer: PeerAddr::Tcp(addr), .. } => What::Accepted(*conn, addr.ip()),
        Input::Accepted { .. } => return None,
        Input::Dialed { conn, .. } => What::Dialed(*conn),
        Input::DialFailed { reason, .. } => What::DialFailed(*reason),
        Input::Drained { .. } => return None,
        Input::Closed { conn, reason } => What::Closed(*conn, *reason),
        Input::Mail(mail) => What::Mail(match mail {
            Mail::Resolved { .. } => "resolved",
            Mail::Store(_) => "store",
            Mail::Blob(_) => "blob",
            Mail::Stop => "stop",
            Mail::Reload => "reload",
            Mail::Role(_) => "role",
        }),
    })
}

fn of_output<E>(output: &Output<E>) -> Option<What> {
    let sent = |conn: ConnId, head: &[u8]| {
        let header = head.first_chunk().and_then(|head| Header::parse(head).ok())?;
        Some(What::Out(conn, seen(&header)))
    };
    match output {
        Output::Dial { addr, .. } => Some(What::Dial(*addr)),
        Output::Send { conn, frame } | Output::SendFile { conn, frame, .. } => {
            sent(*conn, &frame.head)
        }
        Output::Close { conn, .. } | Output::Hangup { conn } => Some(What::Close(*conn)),
        Output::Request(request) => Some(What::Request(match request {
            Request::Resolve { .. } => "resolver",
            Request::Store(_) => "store",
            Request::Blob(_) => "blob",
            Request::Role(_) => "role",
        })),
        _ => None,
    }
}

impl<H: Host> Host for Traced<H> {
    type Mail = H::Mail;
    type Effect = H::Effect;
    const ASKS_LOCAL: bool = H::ASKS_LOCAL;

    fn handle_input(&mut self, input: Input<H::Mail>, now: Now) {
        if let Some(what) = of_input(&input) {
            self.note(what);
        }
        if self.mutated.tells(&input) {
            self.host.handle_input(input, now);
        }
    }

    fn handle_frame(&mut self, conn: ConnId, frame: Frame<'_>, now: Now) -> Verdict {
        let header = frame.header;
        let verdict = self.host.handle_frame(conn, frame, now);
        self.note(match verdict {
            Verdict::Taken => What::In(conn, seen(&header)),
            Verdict::Park => What::Parked(conn),
        });
        verdict
    }

    fn handle_timeout(&mut self, now: Now) {
        self.host.handle_timeout(now);
    }

    fn end_turn(&mut self, now: Now) {
        self.host.end_turn(now);
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.mutated.deadline(self.host.next_timeout())
    }

    fn trail(&mut self) -> String {
        self.host.trail()
    }

    fn poll_output(&mut self) -> Option<Output<H::Effect>> {
        let output = self.mutated.poll(|| self.host.poll_output())?;
        if let Some(what) = of_output(&output) {
            self.note(what);
        }
        Some(output)
    }
}
