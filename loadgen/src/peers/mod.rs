//! Bad peers beside the good clients: whoever reads or writes too slowly, says nothing, breaks
//! off, talks nonsense, or claims to be somebody else. What is judged is whether the good ones'
//! figures hold; what becomes of the bad ones is told apart.
//!
//! They have bare sockets on a thread of their own: the reactor would not let them be as bad.

mod peer;

use crate::clients::address::{CLIENTS_MAX, Identities};
use crate::fleet::unshare_descriptors;
use engine::clock::{Clock, SystemClock};
use peer::{Peer, World};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two rounds over all peers.
const ROUND: Duration = Duration::from_millis(10);
/// Most bad peers of one kind: they share one table of descriptors.
pub const PEERS_MAX: u32 = 10_000;

/// What a peer does wrong.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Badness {
    /// Asks and asks, and reads so many bytes a second; with 0 it never reads.
    SlowReader,
    /// Sends a frame so many bytes a second.
    SlowWriter,
    /// Connects and says nothing.
    HalfOpen,
    /// Resets the connection in the middle of a frame.
    Reset,
    /// Sends random bytes.
    Garbage,
    /// Sends frames that are longer than they say, or than anything may be.
    WrongLength,
    /// Sends the same report again and again, on one connection and on the next.
    Replay,
    /// Two machines with one name, as after the copy of a disk.
    DuplicateName,
    /// Claims to be one of the good clients, from another address.
    SpoofedName,
}

impl Badness {
    /// All of them.
    pub const ALL: [Badness; 9] = [
        Self::SlowReader,
        Self::SlowWriter,
        Self::HalfOpen,
        Self::Reset,
        Self::Garbage,
        Self::WrongLength,
        Self::Replay,
        Self::DuplicateName,
        Self::SpoofedName,
    ];

    /// Its name in reports and scenarios.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SlowReader => "slow-reader",
            Self::SlowWriter => "slow-writer",
            Self::HalfOpen => "half-open",
            Self::Reset => "reset",
            Self::Garbage => "garbage",
            Self::WrongLength => "wrong-length",
            Self::Replay => "replay",
            Self::DuplicateName => "duplicate-name",
            Self::SpoofedName => "spoofed-name",
        }
    }
}

impl fmt::Display for Badness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Peers that do the same wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BadPeers {
    /// What they do wrong.
    pub badness: Badness,
    /// How many.
    pub count: u32,
    /// Bytes a second, of those that are slow.
    #[serde(default = "BadPeers::slow")]
    pub rate: u32,
}

impl BadPeers {
    /// So many, as slow as can be.
    #[must_use]
    pub fn new(badness: Badness, count: u32) -> Self {
        Self { badness, count, rate: Self::slow() }
    }

    fn slow() -> u32 {
        1
    }

    /// A few of each kind.
    #[must_use]
    pub fn a_few() -> Vec<Self> {
        Badness::ALL.into_iter().map(|badness| Self::new(badness, 10)).collect()
    }

    /// Reads `half-open=5000`, `slow-reader=20@0`: kind, number, bytes a second.
    ///
    /// # Errors
    /// It is none of these.
    pub fn parse(text: &str) -> Result<Self, String> {
        let names = Badness::ALL.map(Badness::name).join(", ");
        let wrong = || {
            format!(
                "`{text}` names no bad peers; write KIND=NUMBER or KIND=NUMBER@BYTES_A_SECOND, with one of {names}"
            )
        };
        let (kind, rest) = text.split_once('=').ok_or_else(wrong)?;
        let badness = Badness::ALL.into_iter().find(|badness| badness.name() == kind);
        let badness = badness.ok_or_else(wrong)?;
        let (count, rate) = match rest.split_once('@') {
            Some((count, rate)) => (count, rate.parse().map_err(|_| wrong())?),
            None => (rest, Self::slow()),
        };
        let count = count.parse().map_err(|_| wrong())?;
        if !(1..=PEERS_MAX).contains(&count) {
            return Err(format!("`{text}`: there can be 1 to {PEERS_MAX} of a kind"));
        }
        Ok(Self { badness, count, rate })
    }
}

/// What became of peers of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerCounts {
    /// What they did wrong.
    pub badness: Badness,
    /// How many there were.
    pub peers: u32,
    /// Connections that came about.
    pub connected: u64,
    /// Those that did not.
    pub refused: u64,
    /// Connections that the master has ended.
    pub ended_by_master: u64,
    /// Bytes that they have sent.
    pub sent_bytes: u64,
    /// Bytes that they have read.
    pub read_bytes: u64,
    /// Acks that they got.
    pub acks: u64,
    /// Refusals that they got.
    pub nacks: u64,
    /// Messages meant for clients that they got: there must be none.
    pub leaked: u64,
}

impl PeerCounts {
    fn none(peers: &BadPeers) -> Self {
        Self {
            badness: peers.badness,
            peers: peers.count,
            connected: 0,
            refused: 0,
            ended_by_master: 0,
            sent_bytes: 0,
            read_bytes: 0,
            acks: 0,
            nacks: 0,
            leaked: 0,
        }
    }
}

/// Bad peers at work.
#[derive(Debug)]
pub struct Crowd {
    /// Dropped to end it.
    running: Option<Sender<()>>,
    thread: Option<JoinHandle<io::Result<Vec<PeerCounts>>>>,
}

impl Crowd {
    /// Lets them loose on a master; `clients` are the good ones.
    ///
    /// # Errors
    /// No thread.
    pub fn start(
        peers: &[BadPeers],
        master: SocketAddr,
        identities: &Identities,
        clients: u32,
    ) -> io::Result<Self> {
        if peers.is_empty() {
            return Ok(Self { running: None, thread: None });
        }
        let (running, ended) = channel::<()>();
        let kinds = peers.to_vec();
        let world = World { master, identities: identities.clone(), clients: clients.max(1) };
        let thread = std::thread::Builder::new().name("bad-peers".into()).spawn(move || {
            unshare_descriptors()?;
            let clock = SystemClock::start();
            let mut counts: Vec<_> = kinds.iter().map(PeerCounts::none).collect();
            let mut number = 0;
            let mut all = Vec::new();
            for (kind, bad) in kinds.iter().enumerate() {
                for _ in 0..bad.count {
                    // Their names, where they have any of their own, are the last there are.
                    let name = world.identities.name(CLIENTS_MAX - 1 - number / 2);
                    all.push((kind, Peer::new(*bad, number, name, clock.now())));
                    number += 1;
                }
            }
            while ended.recv_timeout(ROUND) == Err(RecvTimeoutError::Timeout) {
                for (kind, peer) in &mut all {
                    peer.turn(&world, clock.now(), &mut counts[*kind]);
                }
            }
            Ok(counts)
        })?;
        Ok(Self { running: Some(running), thread: Some(thread) })
    }

    /// Ends them, and says what became of them.
    #[must_use]
    pub fn end(mut self) -> Vec<PeerCounts> {
        self.running = None;
        let thread = self.thread.take();
        thread.and_then(|thread| thread.join().ok()?.ok()).unwrap_or_default()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.running = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
