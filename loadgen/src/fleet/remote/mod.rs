//! Workers in other processes, on this machine or on others: the same worker at the other end
//! of a connection.
//!
//! A worker waits for a **controller**, a run that names it, and works for one at a time. It
//! says its version first and then takes its task: the whole fleet's configuration, and which
//! share of it is its own. From then on orders go down and events come up as between threads.
//! When the connection ends, for whatever reason, the worker's clients end at once: nobody would
//! stop them any more.
//!
//! All times are those of the controller's clock. The task bears a reading of it, and the worker
//! starts a clock of its own with that: it is late by the way of one message, some tens of
//! microseconds on one machine and less than a millisecond in one network, and after an hour
//! also by what quartz differs, some tens of milliseconds. All of its slots are late by that,
//! and what it tells of seems as much earlier; a latency lies on one clock and is not changed.

mod controller;
mod message;
mod serve;

pub(super) use controller::RemoteWorker;
pub use serve::Post;

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

/// How long the other end may take for one step of a conversation that it has to go on with.
const PATIENCE: Duration = Duration::from_secs(10);
/// A worker beats several times a second, but for the time in which it makes its clients.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Why a run cannot go on with a worker of another process.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Its host has no address.
    #[error("cannot find the worker {worker}: {error}; name it as HOST:PORT")]
    Unknown {
        /// As it was named.
        worker: String,
        /// What the operating system said.
        error: io::Error,
    },
    /// No connection.
    #[error(
        "cannot reach the worker at {worker}: {error}; start it there with `loadgen worker --listen …`"
    )]
    Unreachable {
        /// Where it should be.
        worker: Address,
        /// What the operating system said.
        error: io::Error,
    },
    /// Something else listens there.
    #[error("what listens at {worker} is no worker of loadgen, or speaks nonsense: {detail}")]
    Stranger {
        /// Where.
        worker: Address,
        /// What it said.
        detail: String,
    },
    /// It could not be understood for sure.
    #[error(
        "the worker at {worker} is of version {theirs}, and this is {ours}: use the same loadgen on both"
    )]
    Version {
        /// Where.
        worker: Address,
        /// Its version and protocol.
        theirs: String,
        /// Ours.
        ours: String,
    },
    /// It has another controller.
    #[error(
        "the worker at {worker} works for another run; wait for that one's end, or name another worker"
    )]
    Busy {
        /// Where.
        worker: Address,
    },
    /// It does not answer, or does not beat.
    #[error("the worker at {worker} has said nothing for {} s; does its machine run?", .silence.as_secs())]
    Silent {
        /// Where.
        worker: Address,
        /// How long it was waited for.
        silence: Duration,
    },
    /// It died.
    #[error(
        "the worker at {worker} has gone in the middle of the run, and its clients with it; was it stopped?"
    )]
    Gone {
        /// Where.
        worker: Address,
    },
    /// It says why it cannot go on.
    #[error("the worker at {worker} cannot go on: {detail}")]
    Failed {
        /// Where.
        worker: Address,
        /// Its words.
        detail: String,
    },
}

/// Where a worker listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `HOST:PORT`, as it was named.
    name: String,
    addr: SocketAddr,
}

impl Address {
    /// Looks its host up.
    ///
    /// # Errors
    /// It has no address.
    pub fn resolve(name: &str) -> Result<Self, RemoteError> {
        let unknown = |error| RemoteError::Unknown { worker: name.to_owned(), error };
        let found = name.to_socket_addrs().map_err(unknown)?.next();
        let none = || unknown(io::Error::from(io::ErrorKind::NotFound));
        Ok(Self { name: name.to_owned(), addr: found.ok_or_else(none)? })
    }

    /// Whether it is on this machine for sure, and its clients can have 127.a.b.c.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.addr.ip().is_loopback()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests;
