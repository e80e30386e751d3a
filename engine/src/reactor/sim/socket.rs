//! One end of a simulated connection, or a listener.

use crate::node::io::PeerAddr;
use crate::reactor::poller::Token;
use crate::time::Instant;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Where a socket stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    Connecting,
    Open,
    Failed(i32),
    Listening { name: Name, backlog: usize, queue: VecDeque<u32> },
}

/// A stream or a listener.
#[derive(Debug)]
pub(super) struct Socket {
    /// `None` for a stream that nobody has accepted yet.
    pub(super) owner: Option<u32>,
    pub(super) token: Option<Token>,
    pub(super) watch_writable: bool,
    pub(super) state: State,
    pub(super) local: SocketAddr,
    pub(super) peer_addr: PeerAddr,
    pub(super) peer: u32,
    pub(super) inbox: VecDeque<u8>,
    pub(super) end_read: bool,
    pub(super) end_sent: bool,
    pub(super) reset: bool,
    /// Bytes sent and not yet read by the peer.
    pub(super) unread: usize,
    /// A write was refused since the last space.
    pub(super) refused: bool,
    /// It is on its owner's list of changed sources.
    pub(super) queued: bool,
    /// When what was sent last arrives: nothing overtakes it.
    pub(super) last_arrival: Instant,
    /// Something to it is being sent again, to arrive then: what follows waits for it.
    pub(super) resent: Instant,
}

impl Socket {
    pub(super) fn new(
        owner: Option<u32>,
        state: State,
        local: SocketAddr,
        peer_addr: PeerAddr,
    ) -> Self {
        Self {
            owner,
            token: None,
            watch_writable: false,
            state,
            local,
            peer_addr,
            peer: 0,
            inbox: VecDeque::new(),
            end_read: false,
            end_sent: false,
            reset: false,
            unread: 0,
            refused: false,
            queued: false,
            last_arrival: Instant(0),
            resent: Instant(0),
        }
    }

    pub(super) fn peer_ip(&self) -> Option<IpAddr> {
        match self.peer_addr {
            PeerAddr::Tcp(addr) => Some(addr.ip()),
            PeerAddr::Unix { .. } => None,
        }
    }

    pub(super) fn readable(&self) -> bool {
        match &self.state {
            State::Listening { queue, .. } => !queue.is_empty(),
            State::Connecting => false,
            State::Open => !self.inbox.is_empty() || self.end_read || self.reset,
            State::Failed(_) => true,
        }
    }

    /// Whether the peer's end has come, or the stream has failed.
    pub(super) fn has_ended(&self) -> bool {
        match self.state {
            State::Failed(_) => true,
            _ => self.end_read || self.reset,
        }
    }

    pub(super) fn writable(&self, window: usize) -> bool {
        match self.state {
            State::Open => self.unread < window || self.reset,
            State::Failed(_) => true,
            State::Connecting | State::Listening { .. } => false,
        }
    }
}
