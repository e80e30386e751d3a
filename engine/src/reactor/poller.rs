//! The seam to the network: what the loop needs of an operating system, or of a simulation.

use crate::node::io::PeerAddr;
use crate::time::Instant;
use std::fs::File;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;

/// Names a source of readiness to the loop; carries a slab index and its generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// What one event says; edge-triggered, so it is said once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// Whose.
    pub token: Token,
    /// Reading may succeed; so it is too at the end of the stream and on an error.
    pub readable: bool,
    /// Writing may succeed; so it is too when a connect has ended either way.
    pub writable: bool,
    /// The peer's end has come, or the connection has failed: no other event tells it again, so
    /// reading goes on until it has been seen. A connect that ended without this has succeeded.
    pub ended: bool,
}

/// Ends a wait of the loop from another thread.
pub trait Wake: Send + Sync {
    /// The next, or the present, [`Poller::poll`] returns at once.
    fn wake(&self);
}

/// A network. Streams and listeners are non-blocking and edge-triggered: after an event the
/// loop goes on until `WouldBlock`, or keeps the source on its own ready list.
pub trait Poller {
    /// A connection.
    type Stream;
    /// A listening socket.
    type Listener;

    /// Waits for readiness until `deadline` (`None`: for ever), and appends what is ready to
    /// `events`, at most as many as its spare capacity at the call. Being woken ends it early.
    ///
    /// # Errors
    /// Only what no retry mends; an interrupted call is repeated.
    fn poll(
        &mut self,
        events: &mut Vec<Readiness>,
        now: Instant,
        deadline: Option<Instant>,
    ) -> io::Result<()>;

    /// What wakes this poller; it outlives the poller, to no effect.
    fn waker(&self) -> Arc<dyn Wake>;

    /// Listens on an address; port 0 takes any.
    ///
    /// # Errors
    /// Address in use, no permission, …
    fn listen(
        &mut self,
        addr: SocketAddr,
        backlog: u32,
        token: Token,
    ) -> io::Result<Self::Listener>;

    /// Listens on a Unix socket of mode 0600; an old socket that nobody listens on is replaced.
    ///
    /// # Errors
    /// As [`Poller::listen`].
    fn listen_unix(&mut self, path: &Path, token: Token) -> io::Result<Self::Listener>;

    /// The address that a listener got; `None` for a Unix socket.
    fn listen_addr(&self, listener: &Self::Listener) -> Option<SocketAddr>;

    /// Accepts one connection, not yet registered.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; anything else concerns this one or this process.
    fn accept(&mut self, listener: &Self::Listener) -> io::Result<(Self::Stream, PeerAddr)>;

    /// Begins to connect, and registers the stream. Either the connect is over when this returns
    /// (`true`, and the stream is registered for reading alone), as it may be on one's own machine,
    /// or [`Readiness::writable`] tells that it ended.
    /// What is written to it second may wait for the ack of what was written first, until
    /// [`Poller::send_at_once`]; streams that were accepted never wait.
    ///
    /// # Errors
    /// What can be said at once: unreachable, no descriptor, …
    fn connect(
        &mut self,
        addr: SocketAddr,
        from: Option<IpAddr>,
        token: Token,
    ) -> io::Result<(Self::Stream, bool)>;

    /// Whether a connect that began has succeeded: `Ok(false)` is not yet.
    ///
    /// # Errors
    /// Why it failed.
    fn connected(&mut self, stream: &Self::Stream) -> io::Result<bool>;

    /// Registers an accepted stream for reading.
    ///
    /// # Errors
    /// No memory, no watch left.
    fn register(&mut self, stream: &mut Self::Stream, token: Token) -> io::Result<()>;

    /// Turns events for writing on or off; reading stays on.
    ///
    /// # Errors
    /// As [`Poller::register`].
    fn watch_writable(
        &mut self,
        stream: &mut Self::Stream,
        token: Token,
        on: bool,
    ) -> io::Result<()>;

    /// Reads what is there; 0 is the end of the stream. Fewer bytes than there was room for mean
    /// that no more is there: what comes later, the end too, makes another event.
    ///
    /// # Errors
    /// `WouldBlock`, or the connection's end.
    fn read(&mut self, stream: &mut Self::Stream, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes what fits.
    ///
    /// # Errors
    /// As [`Poller::read`].
    fn write_vectored(
        &mut self,
        stream: &mut Self::Stream,
        bufs: &[IoSlice<'_>],
    ) -> io::Result<usize>;

    /// From now on what is written leaves at once. A stream that has failed says so when it is
    /// written to.
    fn send_at_once(&mut self, stream: &mut Self::Stream);

    /// Sends from a file what fits.
    ///
    /// # Errors
    /// As [`Poller::read`]; `UnexpectedEof` if the file is shorter.
    fn send_file(
        &mut self,
        stream: &mut Self::Stream,
        file: &File,
        offset: u64,
        len: usize,
    ) -> io::Result<usize>;

    /// Ends this side's half: the peer reads the end of the stream.
    ///
    /// # Errors
    /// The connection is gone already.
    fn shutdown_write(&mut self, stream: &mut Self::Stream) -> io::Result<()>;

    /// Takes a stream off the poller and closes it.
    fn close(&mut self, stream: Self::Stream);

    /// Closes a listener.
    fn close_listener(&mut self, listener: Self::Listener);

    /// The address that the peer dialled; `None` for a Unix socket.
    fn local_addr(&self, stream: &Self::Stream) -> Option<SocketAddr>;

    /// Registers a descriptor of somebody else's (inotify, a signal pipe) for reading.
    ///
    /// # Errors
    /// The descriptor cannot be polled.
    fn register_fd(&mut self, fd: RawFd, token: Token) -> io::Result<()>;
}
