//! What led to what: the last steps of a node, so that the log of something that has failed says
//! where it began.
//!
//! A step is noted for all that a node is told, and for what it asks of the world, this with the
//! place in the code that asked. Nothing is kept for each connection: what a step came of is
//! looked for among the steps before it, and only once somebody wants to read it.

use super::io::{CloseReason, Input, Mail, Output, Request};
use crate::ids::{ConnId, DialId, HostName, PeerAddr};
use crate::time::Instant;
use crate::wire::{Header, Kind, Lane};
use std::fmt;
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::panic::Location;

/// Steps that a node remembers unless it is told to remember more: 20 KiB.
const ROOM: usize = 256;
/// Steps of one chain that are shown: the first, and the last ones.
const SHOWN_MAX: usize = 16;

/// A name, by its hash: two that are taken for one make a line of the log wrong, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name(u64);

impl Name {
    fn of(name: &HostName) -> Self {
        Self(rustc_hash::FxBuildHasher.hash_one(name))
    }
}

/// A message, by its kind and its sender's number for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Id {
    kind: Kind,
    lane: Lane,
    seq: u64,
}

impl Id {
    fn of(header: &Header) -> Self {
        Self { kind: header.kind, lane: header.lane, seq: header.seq }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        match (self.seq, self.lane) {
            (0, _) => Ok(()),
            (seq, Lane::Urgent) => write!(f, " {seq} (urgent)"),
            (seq, Lane::Volatile) => write!(f, " {seq}"),
            (seq, Lane::Durable) => write!(f, " {seq} (durable)"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    // What a node is told.
    Accepted {
        conn: ConnId,
        peer: PeerAddr,
    },
    Frame {
        conn: ConnId,
        id: Id,
    },
    Dialed {
        dial: DialId,
        conn: ConnId,
    },
    DialFailed {
        dial: DialId,
        reason: CloseReason,
    },
    Drained {
        conn: ConnId,
    },
    Closed {
        conn: ConnId,
        reason: CloseReason,
    },
    Resolved {
        name: Name,
        found: bool,
    },
    From(&'static str),
    // What it asks for.
    Wanted {
        name: Name,
    },
    Queued {
        id: Id,
    },
    Resolve {
        name: Name,
    },
    /// `up`: what is queued is brought to the parent.
    Dial {
        dial: DialId,
        addr: SocketAddr,
        up: bool,
    },
    Sent {
        conn: ConnId,
        id: Id,
    },
    Close {
        conn: ConnId,
    },
}

impl What {
    fn conn(&self) -> Option<ConnId> {
        match self {
            Self::Accepted { conn, .. }
            | Self::Frame { conn, .. }
            | Self::Dialed { conn, .. }
            | Self::Drained { conn }
            | Self::Closed { conn, .. }
            | Self::Sent { conn, .. }
            | Self::Close { conn } => Some(*conn),
            _ => None,
        }
    }
}

#[derive(Debug, Clone)]
struct Step {
    at: Instant,
    what: What,
    /// Who asked for it, if it was asked for.
    place: Option<&'static Location<'static>>,
    /// The step in whose handling it was asked for; 0 for none.
    within: u64,
}

impl Step {
    /// Whether it came of nothing else.
    fn begins(&self) -> bool {
        let is_asked = self.place.is_some();
        matches!(self.what, What::Accepted { .. } | What::From(_)) || is_asked && self.within == 0
    }
}

/// The last steps of a node.
#[derive(Debug)]
pub(super) struct Trail {
    /// A ring: step `n` lies at `n % room`.
    steps: Vec<Step>,
    room: usize,
    /// Where the next one comes to lie.
    next: usize,
    /// How many there were; the first has number 1.
    count: u64,
    /// What is being handled.
    current: u64,
    now: Instant,
}

impl Default for Trail {
    fn default() -> Self {
        Self {
            steps: Vec::new(),
            room: ROOM,
            next: 0,
            count: 0,
            current: 0,
            now: Instant::default(),
        }
    }
}

impl Trail {
    /// Remembers so many steps, 80 bytes each, or none. What it remembers already is forgotten.
    pub(super) fn remember(&mut self, steps: usize) {
        *self = Self { room: steps, ..Self::default() };
    }

    fn note(&mut self, what: What, place: Option<&'static Location<'static>>, within: u64) {
        if self.room == 0 {
            return;
        }
        let step = Step { at: self.now, what, place, within };
        match self.steps.get_mut(self.next) {
            Some(oldest) => *oldest = step,
            None => self.steps.push(step),
        }
        self.next = if self.next + 1 == self.room { 0 } else { self.next + 1 };
        self.count += 1;
    }

    /// Something came: what is asked for from now on is asked for because of it.
    fn came(&mut self, what: What, now: Instant) {
        self.now = now;
        self.note(what, None, 0);
        self.current = self.count;
    }

    /// The step that is being handled; 0 for none.
    pub(super) fn current(&self) -> u64 {
        self.current
    }

    /// What is asked for from now on is asked for because of this step.
    pub(super) fn go_on_with(&mut self, step: u64) {
        self.current = step;
    }

    pub(super) fn frame(&mut self, conn: ConnId, header: &Header, now: Instant) {
        self.came(What::Frame { conn, id: Id::of(header) }, now);
    }

    pub(super) fn timeout(&mut self, now: Instant) {
        self.came(What::From("a timer"), now);
    }

    pub(super) fn input<M>(&mut self, input: &Input<M>, now: Instant) {
        let what = match input {
            Input::Accepted { conn, peer, .. } => {
                What::Accepted { conn: *conn, peer: peer.clone() }
            }
            Input::Dialed { dial, conn } => What::Dialed { dial: *dial, conn: *conn },
            Input::DialFailed { dial, reason } => What::DialFailed { dial: *dial, reason: *reason },
            Input::Drained { conn } => What::Drained { conn: *conn },
            Input::Closed { conn, reason } => What::Closed { conn: *conn, reason: *reason },
            Input::Mail(Mail::Resolved { name, answer }) => {
                What::Resolved { name: Name::of(name), found: answer.is_ok() }
            }
            Input::Mail(Mail::Store(_)) => What::From("the store's thread"),
            Input::Mail(Mail::Blob(_)) => What::From("the blobs' thread"),
            Input::Mail(Mail::Stop | Mail::Reload) => What::From("a signal"),
            Input::Mail(Mail::Role(_)) => What::From("another thread"),
        };
        self.came(what, now);
    }

    /// The node asks for this at that place. What it tells its own threads is no step.
    pub(super) fn output<E>(&mut self, output: &Output<E>, place: &'static Location<'static>) {
        if self.room == 0 {
            return;
        }
        let what = match output {
            Output::Dial { dial, addr, .. } => What::Dial { dial: *dial, addr: *addr, up: false },
            Output::Send { conn, frame } | Output::SendFile { conn, frame, .. } => {
                let Some(header) = frame.header() else { return };
                What::Sent { conn: *conn, id: Id::of(&header) }
            }
            Output::Close { conn, .. } | Output::Hangup { conn } => What::Close { conn: *conn },
            Output::Request(Request::Resolve { name }) => What::Resolve { name: Name::of(name) },
            Output::Expect { .. }
            | Output::Resume { .. }
            | Output::StopListening
            | Output::Request(_)
            | Output::Exit => return,
        };
        self.note(what, Some(place), self.current);
    }

    /// The newest step is the dial that takes what is queued to the parent.
    pub(super) fn is_up(&mut self) {
        let newest = self.next.checked_sub(1).unwrap_or(self.room.saturating_sub(1));
        if let Some(Step { what: What::Dial { up, .. }, .. }) = self.steps.get_mut(newest) {
            *up = true;
        }
    }

    /// A host is to be dialled when its turn comes.
    pub(super) fn wanted(&mut self, host: &HostName, place: &'static Location<'static>) {
        self.note(What::Wanted { name: Name::of(host) }, Some(place), self.current);
    }

    /// A message waits for its way up.
    pub(super) fn queued(
        &mut self,
        kind: Kind,
        lane: Lane,
        seq: u64,
        place: &'static Location<'static>,
    ) {
        self.note(What::Queued { id: Id { kind, lane, seq } }, Some(place), self.current);
    }

    /// What led to what the node was told last, itself included.
    pub(super) fn led(&self) -> Led {
        let (mut steps, mut left_out) = (Vec::new(), 0);
        let mut number = self.current;
        while let Some(step) = self.step(number) {
            if steps.len() == SHOWN_MAX {
                // Who it began with is said, whatever is left out behind it.
                steps.pop();
                left_out += 1;
            }
            steps.push(step.clone());
            number = self.before(number, step);
        }
        steps.reverse();
        Led { steps, left_out, now: self.now }
    }

    fn step(&self, number: u64) -> Option<&Step> {
        let is_kept =
            number > 0 && number <= self.count && self.count - number < self.steps.len() as u64;
        is_kept.then(|| &self.steps[((number - 1) % self.room as u64) as usize])
    }

    /// The newest step before this one that is such a one; 0 if none is remembered.
    fn newest(&self, before: u64, is: impl Fn(&What) -> bool) -> u64 {
        let oldest = self.count - self.steps.len() as u64 + 1;
        let mut numbers = (oldest..before).rev();
        numbers.find(|number| self.step(*number).is_some_and(|step| is(&step.what))).unwrap_or(0)
    }

    /// The step that a step came of.
    fn before(&self, number: u64, step: &Step) -> u64 {
        let newest = |is: &dyn Fn(&What) -> bool| self.newest(number, is);
        let found_or = |found: u64, other: u64| if found == 0 { other } else { found };
        let within = step.within;
        // A thread's answer or a timer says nothing of what it is about.
        let says_why = self.step(within).is_some_and(|step| !matches!(step.what, What::From(_)));
        match &step.what {
            What::Accepted { .. } | What::From(_) => 0,
            What::Frame { conn, .. } | What::Drained { conn } | What::Closed { conn, .. } => {
                newest(&|what| what.conn() == Some(*conn))
            }
            What::Dialed { dial, .. } | What::DialFailed { dial, .. } => {
                newest(&|what| matches!(what, What::Dial { dial: of, .. } if of == dial))
            }
            What::Resolved { name, .. } => newest(&|what| *what == What::Resolve { name: *name }),
            // Whoever asks at once, for a probe for instance, does not do so for what was wanted before.
            What::Resolve { name } if !says_why => {
                found_or(newest(&|what| *what == What::Wanted { name: *name }), within)
            }
            What::Dial { up: true, .. } => {
                found_or(newest(&|what| matches!(what, What::Queued { .. })), within)
            }
            What::Sent { conn, .. } | What::Close { conn } if !says_why => {
                found_or(newest(&|what| what.conn() == Some(*conn)), within)
            }
            _ => within,
        }
    }
}

/// A chain of steps, the oldest first, in words for a line of the log: what happened, and for what
/// was asked for the file and the line.
#[derive(Debug, Clone, Default)]
pub struct Led {
    steps: Vec<Step>,
    /// So many steps behind the first.
    left_out: usize,
    now: Instant,
}

impl fmt::Display for Led {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.steps.first() else { return f.write_str("nothing led there") };
        write!(f, "what led there, in {:.3} s: ", self.now.since(first.at).as_secs_f64())?;
        if !first.begins() {
            f.write_str("… > ")?;
        }
        for (n, step) in self.steps.iter().enumerate() {
            match n {
                0 => {}
                1 if self.left_out > 0 => write!(f, " > … ({} more) > ", self.left_out)?,
                _ => f.write_str(" > ")?,
            }
            match &step.what {
                What::Accepted { peer: PeerAddr::Tcp(peer), .. } => write!(f, "{peer} connected"),
                What::Accepted { peer: PeerAddr::Unix { uid }, .. } => {
                    write!(f, "a command of user {uid}")
                }
                What::Frame { id, .. } => write!(f, "{id} came"),
                What::Dialed { .. } => f.write_str("connected"),
                What::DialFailed { reason, .. } => {
                    write!(f, "no connection: {}", reason.describe())
                }
                What::Drained { .. } => f.write_str("it was taken"),
                What::Closed { reason, .. } => write!(f, "the end: {}", reason.describe()),
                What::Resolved { found: true, .. } => f.write_str("name found"),
                What::Resolved { found: false, .. } => f.write_str("name not found"),
                What::From(source) => f.write_str(source),
                What::Wanted { .. } => f.write_str("wanted"),
                What::Queued { id } => write!(f, "{id} queued"),
                What::Resolve { .. } => f.write_str("name looked up"),
                What::Dial { addr, .. } => write!(f, "dial to {addr}"),
                What::Sent { id, .. } => write!(f, "{id} sent"),
                What::Close { .. } => f.write_str("closed"),
            }?;
            if let Some(place) = step.place {
                write!(f, " ({}:{})", place.file(), place.line())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
