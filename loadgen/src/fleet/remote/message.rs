//! What a controller and a worker say to each other: JSON behind its length.

use super::PATIENCE;
use crate::clients::address::CLIENTS_MAX;
use crate::fleet::{FleetConfig, Happening, Order};
use engine::clock::{Clock, SystemClock};
use engine::time::Instant;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// Changes with every message that is not understood as it was before.
const PROTOCOL: u32 = 1;
pub(super) const PROGRAM: &str = "loadgen worker";
/// Longest message: what a hundred thousand clients were acked within a second is a tenth of it.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Read at once, and allocated before so much has come.
const READ_SIZE: usize = 64 * 1024;

/// What a worker says to whoever connects. This message never changes, so that versions can be
/// told from each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Greeting {
    pub(super) program: String,
    pub(super) protocol: u32,
    pub(super) version: String,
    /// Whether it has a controller already, and takes no task.
    pub(super) busy: bool,
}

impl Greeting {
    pub(super) fn new(busy: bool) -> Self {
        let (program, version) = (PROGRAM.to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        Self { program, protocol: PROTOCOL, version, busy }
    }

    pub(super) fn is_of_a_worker(&self) -> bool {
        self.program == PROGRAM
    }

    /// Whether both ends mean the same by what they say: what is measured changes with versions,
    /// and is merged.
    pub(super) fn is_understood(&self) -> bool {
        let Self { protocol, version, .. } = Self::new(false);
        (self.protocol, &self.version) == (protocol, &version)
    }

    pub(super) fn versions(&self) -> String {
        format!("{} (protocol {})", self.version, self.protocol)
    }
}

/// What a controller wants of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Task {
    /// The worker's number, which says what its share is.
    pub(super) number: u32,
    pub(super) fleet: FleetConfig,
    /// What the controller's clock reads.
    pub(super) now: Instant,
}

impl Task {
    /// Whether a worker can have it: no command line of this process has looked at it.
    pub(super) fn is_sound(&self) -> bool {
        let FleetConfig { clients, workers, .. } = self.fleet;
        (1..=CLIENTS_MAX).contains(&clients) && workers <= clients && self.number < workers
    }
}

/// An event of a worker, or why it cannot go on.
pub(super) type Told = Result<Happening, String>;

pub(super) fn told(what: Happening) -> Told {
    match what {
        Happening::Failed(error) => Err(error.to_string()),
        what => Ok(what),
    }
}

/// Whether a worker can do what it is ordered.
pub(super) fn is_sound(order: &Order) -> bool {
    match order {
        Order::Begin(work, _) => work.is_sound(),
        Order::Close | Order::End => true,
    }
}

/// A connection between a controller and a worker.
#[derive(Debug)]
pub(super) struct Wire {
    socket: TcpStream,
    clock: SystemClock,
}

impl Wire {
    /// Both ends talk at once and wait for each other's words; one whose machine has gone is
    /// given up although no word of that comes.
    pub(super) fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket2::SockRef::from(&socket).set_tcp_user_timeout(Some(PATIENCE))?;
        Ok(Self { socket, clock: SystemClock::start() })
    }

    /// The same connection, for another thread.
    pub(super) fn split(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, clock: self.clock })
    }

    /// Ends it for both ends, and for all threads.
    pub(super) fn close(&self) {
        // One that has ended already is no worse.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    pub(super) fn send(&self, message: &impl Serialize) -> io::Result<()> {
        (&self.socket).write_all(&encode(message)?)
    }

    /// The next message; `None` when the other end has ended between two of them. Without a
    /// limit for its coming, it must still come whole once it has begun.
    pub(super) fn receive<T: DeserializeOwned>(
        &mut self,
        within: Option<Duration>,
    ) -> io::Result<Option<T>> {
        let mut until = within.map(|within| self.clock.now().at + within);
        let mut head = Vec::new();
        self.read(&mut head, size_of::<u32>(), until)?;
        let Ok(head) = <[u8; 4]>::try_from(&head[..]) else {
            return if head.is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
        };
        let length = u32::from_le_bytes(head) as usize;
        if length > MESSAGE_BYTES_MAX {
            return Err(io::Error::new(ErrorKind::InvalidData, "a message that is too long"));
        }
        let mut body = Vec::new();
        until = until.or(Some(self.clock.now().at + PATIENCE));
        self.read(&mut body, length, until)?;
        if body.len() < length {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let message = serde_json::from_slice(&body);
        message.map(Some).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
    }

    /// Reads so many bytes, or all that come before the end of the stream. Memory is taken as
    /// they come, whatever they were said to be.
    fn read(
        &mut self,
        into: &mut Vec<u8>,
        length: usize,
        until: Option<Instant>,
    ) -> io::Result<()> {
        while into.len() < length {
            let left = until.map(|until| until.since(self.clock.now().at));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(ErrorKind::TimedOut.into());
            }
            self.socket.set_read_timeout(left)?;
            let had = into.len();
            into.resize(length.min(had + READ_SIZE), 0);
            let read = self.socket.read(&mut into[had..]);
            into.truncate(had + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                // The limit is looked at above.
                Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

pub(super) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; size_of::<u32>()];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - size_of::<u32>();
    let head = u32::try_from(length).ok().filter(|_| length <= MESSAGE_BYTES_MAX);
    let head = head.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "too long a message"))?;
    bytes[..size_of::<u32>()].copy_from_slice(&head.to_le_bytes());
    Ok(bytes)
}
