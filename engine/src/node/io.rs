//! The whole contract of a [`Host`] (a node, or a swarm of them) with the world: what it is
//! told, and what it asks for. Nothing else passes between them.

pub use crate::ids::{Listener, PeerAddr};
pub use crate::wire::Verdict;

use crate::blob::{BlobCommand, BlobEvent};
use crate::ids::{ConnId, DialId, HostName};
use crate::queue::store::{StoreCommand, StoreEvent};
use crate::time::{Instant, Now};
use crate::wire::{Frame, FrameBuf, WireError};
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Why a connection ended, or did not come about: a log word and a metric label at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// This side had nothing more to say.
    Done,
    /// The peer closed its end between two frames.
    PeerClosed,
    /// The peer closed its end within a frame.
    Truncated,
    /// The peer reset the connection, or the network did.
    Reset,
    /// Nobody listens there.
    Refused,
    /// No way to that address.
    Unreachable,
    /// The connect was not done in time.
    ConnectTimeout,
    /// A frame that had begun did not become whole in time.
    FrameTimeout,
    /// The peer did not read in time.
    SendTimeout,
    /// An answer did not come in time.
    AnswerTimeout,
    /// Nothing was expected, and nothing came.
    IdleTimeout,
    /// Bytes that are no frame.
    Protocol(WireError),
    /// No descriptor, port or memory for it here.
    Exhausted,
    /// A handler failed on one of its frames.
    Handler,
    /// This node is shutting down.
    Stopping,
    /// It gave way to others, or its source has its share of connections.
    Crowded,
    /// Anything else the operating system said.
    Os(i32),
}

impl CloseReason {
    /// What happened, in words for an operator.
    #[must_use]
    pub fn describe(self) -> String {
        let words = match self {
            Self::Done => "closed",
            Self::PeerClosed => "the peer closed the connection",
            Self::Truncated => "the peer closed the connection within a frame",
            Self::Reset => "the connection was reset",
            Self::Refused => "connection refused: nobody listens there",
            Self::Unreachable => "no way to that address",
            Self::ConnectTimeout => "the connect timed out",
            Self::FrameTimeout => "a frame did not arrive whole in time",
            Self::SendTimeout => "the peer did not read in time",
            Self::AnswerTimeout => "no answer came in time",
            Self::IdleTimeout => "nothing came for too long",
            Self::Protocol(error) => return error.to_string(),
            Self::Exhausted => "no descriptor, port or memory left for it here",
            Self::Handler => "a handler failed here; its log says why",
            Self::Stopping => "the daemon is stopping",
            Self::Crowded => "it gave way to others: there are too many connections",
            Self::Os(errno) => return std::io::Error::from_raw_os_error(errno).to_string(),
        };
        words.to_owned()
    }
}

/// What threads beside the reactor tell it.
#[derive(Debug)]
pub enum Mail<M> {
    /// The resolver's answer.
    Resolved {
        /// The name that was asked for.
        name: HostName,
        /// Its addresses in no particular order, not empty; port 0 where the table has none.
        answer: Result<Vec<SocketAddr>, ResolveError>,
    },
    /// From the store thread.
    Store(StoreEvent),
    /// From the blob thread.
    Blob(BlobEvent),
    /// SIGTERM or SIGINT: finish what is under way, then [`Output::Exit`]; again: end it.
    Stop,
    /// SIGHUP: read tables and configuration again.
    Reload,
    /// From a thread of the role's own.
    Role(M),
}

/// Why a name has no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// There is no such name.
    #[error("no such name")]
    NoSuchName,
    /// The name service did not answer in time.
    #[error("the name service did not answer in time")]
    Timeout,
    /// Anything else, in words.
    #[error("{0}")]
    Failed(String),
}

/// What a host is told, besides frames and timeouts.
#[derive(Debug)]
pub enum Input<M> {
    /// A peer has connected.
    Accepted {
        /// The connection.
        conn: ConnId,
        /// Through which listener.
        listener: Listener,
        /// The address that was dialled, if the host asks for it ([`Host::ASKS_LOCAL`]).
        local: Option<SocketAddr>,
        /// Who dialled.
        peer: PeerAddr,
    },
    /// A dial has succeeded.
    Dialed {
        /// Which.
        dial: DialId,
        /// Its connection.
        conn: ConnId,
    },
    /// A dial has failed; no connection came about.
    DialFailed {
        /// Which.
        dial: DialId,
        /// Why.
        reason: CloseReason,
    },
    /// All that was sent on a connection has gone to the operating system; told once after
    /// each time that something had to wait for the peer, and after each `SendFile`.
    Drained {
        /// The connection.
        conn: ConnId,
    },
    /// A connection has ended; its id means nothing any more. Told exactly once for every
    /// accepted or dialled connection, also for those that the host itself closed.
    Closed {
        /// The connection.
        conn: ConnId,
        /// Why.
        reason: CloseReason,
    },
    /// From another thread.
    Mail(Mail<M>),
}

/// What a host asks for. `E` are commands to threads of the role's own.
#[derive(Debug)]
pub enum Output<E> {
    /// Connect; answered by `Dialed` or `DialFailed`.
    Dial {
        /// Names the attempt.
        dial: DialId,
        /// Where to.
        addr: SocketAddr,
        /// From which address; the kernel chooses the port at connect time.
        from: Option<IpAddr>,
        /// How long it may take; `None` takes `Limits::connect_timeout`.
        timeout: Option<Duration>,
    },
    /// Send a frame. Frames of one connection leave in the order of their outputs.
    Send {
        /// On which connection.
        conn: ConnId,
        /// The frame.
        frame: FrameBuf,
    },
    /// Send a frame whose body's tail lies in a file (a blob chunk).
    SendFile {
        /// On which connection.
        conn: ConnId,
        /// Header, route and the body's first bytes.
        frame: FrameBuf,
        /// The file, read ahead by the blob thread.
        file: Arc<File>,
        /// Where to begin in it.
        offset: u64,
        /// How many bytes.
        len: usize,
    },
    /// Close with this reason if nothing has been heard by then: a whole frame received, or
    /// this output again, replaces the deadline. `None` takes `Limits::idle_timeout`.
    Expect {
        /// The connection.
        conn: ConnId,
        /// How long to wait from now on.
        within: Option<Duration>,
        /// The reason to close with.
        reason: CloseReason,
    },
    /// Close after all that was sent has gone out (within `Limits::send_timeout`), and
    /// accept no more frames.
    Close {
        /// The connection.
        conn: ConnId,
        /// Why.
        reason: CloseReason,
    },
    /// Close at once, as done: the peer has answered all that was sent, so its own end is of no
    /// interest, and nothing that it has not read can be lost with this side's.
    Hangup {
        /// The connection.
        conn: ConnId,
    },
    /// Offer the parked frame again, and read on.
    Resume {
        /// The connection.
        conn: ConnId,
    },
    /// Accept no more connections of peers: close the listeners, but for those of commands of
    /// this machine, which end with the loop.
    StopListening,
    /// For a thread beside the reactor.
    Request(Request<E>),
    /// All is done: leave the loop.
    Exit,
}

/// Work for the threads beside the reactor; each is answered by mail.
#[derive(Debug)]
pub enum Request<E> {
    /// Find a name's addresses.
    Resolve {
        /// The name.
        name: HostName,
    },
    /// For the store thread.
    Store(StoreCommand),
    /// For the blob thread.
    Blob(BlobCommand),
    /// For a thread of the role's own.
    Role(E),
}

/// A pure machine behind a reactor: a node, or a swarm of nodes.
///
/// The reactor calls `handle_*` in the order in which things happened and then drains
/// `poll_output` until it is empty. None of them may block, read a clock or touch a file.
pub trait Host {
    /// What its role's own threads tell it.
    type Mail;
    /// What it asks of its role's own threads.
    type Effect;
    /// Whether it is told at which address of this machine a connection came in: to ask the system
    /// costs a call for each.
    const ASKS_LOCAL: bool = false;

    /// Something has happened.
    fn handle_input(&mut self, input: Input<Self::Mail>, now: Now);

    /// A whole frame has arrived; header and route checksums hold, the body is unchecked.
    fn handle_frame(&mut self, conn: ConnId, frame: Frame<'_>, now: Now) -> Verdict;

    /// The time of [`Host::next_timeout`] has come.
    fn handle_timeout(&mut self, now: Now);

    /// A turn is over, all its outputs were drained, and they are drained once more: what was gathered
    /// in it goes now. A host around another one passes it on.
    fn end_turn(&mut self, now: Now);

    /// When to call [`Host::handle_timeout`]; `None` if there is nothing to wait for.
    fn next_timeout(&self) -> Option<Instant>;

    /// What led to what it was told last, for a line of the log about a failure.
    fn trail(&mut self) -> String {
        String::new()
    }

    /// The next thing to do.
    fn poll_output(&mut self) -> Option<Output<Self::Effect>>;
}

/// The threads beside the reactor, or their simulation: they answer through the mailbox.
pub trait Services<E> {
    /// Takes a request; never blocks.
    fn dispatch(&mut self, request: Request<E>);

    /// Nothing more is asked before the loop sleeps or looks for events: what was gathered so that
    /// its thread is woken once goes now. Never blocks.
    fn hand_over(&mut self) {}
}
