//! What happened in a cluster, in order: between every node and its loop.

use engine::ids::{ConnId, Epoch};
use engine::node::io::{CloseReason, Host, Input, Mail, Output, PeerAddr, Request, Verdict};
use engine::time::{Instant, Now};
use engine::wire::{Frame, Header, Kind, Lane};
use std::cell::RefCell;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

/// Events kept for a test to look at; the hash goes on beyond.
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
#[derive(Debug, Default)]
pub struct Trace {
    hasher: DefaultHasher,
    events: Vec<Event>,
    count: u64,
    /// The time of what happens now.
    pub now: Instant,
}

/// A trace that all nodes write to.
pub type SharedTrace = Rc<RefCell<Trace>>;

impl Trace {
    /// Notes an event.
    pub fn note(&mut self, ip: IpAddr, what: What) {
        let event = Event { at: self.now, ip, what };
        event.hash(&mut self.hasher);
        self.count += 1;
        if self.events.len() < EVENTS_MAX {
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

/// A host that is watched.
pub struct Traced<H> {
    /// The host.
    pub host: H,
    ip: IpAddr,
    trace: SharedTrace,
}

impl<H> Traced<H> {
    /// Watches this host.
    #[must_use]
    pub fn new(host: H, ip: IpAddr, trace: SharedTrace) -> Self {
        Self { host, ip, trace }
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

    fn handle_input(&mut self, input: Input<H::Mail>, now: Now) {
        if let Some(what) = of_input(&input) {
            self.note(what);
        }
        self.host.handle_input(input, now);
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

    fn next_timeout(&self) -> Option<Instant> {
        self.host.next_timeout()
    }

    fn poll_output(&mut self) -> Option<Output<H::Effect>> {
        let output = self.host.poll_output()?;
        if let Some(what) = of_output(&output) {
            self.note(what);
        }
        Some(output)
    }
}
