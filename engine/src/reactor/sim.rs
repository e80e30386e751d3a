//! A simulated network under a virtual clock, for tests of whole clusters in one thread.
//!
//! It is as strict as epoll, edge-triggered: an event comes with a change alone (bytes or an
//! end that arrive, space after a refusal, registering), so that a loop that forgets to read
//! on hangs here too. Bytes arrive in random pieces, after a latency, in order.
//!
//! Nothing sleeps: [`Poller::poll`] returns what is ready at the virtual time. Whoever drives
//! the simulation turns every reactor until none has anything left to do, and then advances
//! the clock to the nearest of [`SimNet::next_event`] and the reactors' own deadlines.

mod net;
mod socket;
mod tap;

pub use tap::Flow;

use super::poller::{Poller, Readiness, Token, Wake};
use crate::clock::Clock;
use crate::node::io::PeerAddr;
use crate::time::{Instant, Now, WallMs};
use net::Net;
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How the simulated network behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimConfig {
    /// Shortest way of a byte.
    pub latency_min: Duration,
    /// Longest way of a byte.
    pub latency_max: Duration,
    /// Most bytes that one write moves; each moves a random part of it, which arrives as a piece.
    pub piece_max: usize,
    /// Bytes that may be under way or unread in one direction of a connection.
    pub window: usize,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            latency_min: Duration::from_micros(50),
            latency_max: Duration::from_millis(2),
            piece_max: 16 * 1024,
            window: 256 * 1024,
        }
    }
}

/// The network that all simulated machines share, and its clock.
#[derive(Debug, Clone)]
pub struct SimNet(Rc<RefCell<Net>>);

/// The network's clock.
#[derive(Debug, Clone)]
pub struct SimClock(SimNet);

/// One process on one machine of the network.
#[derive(Debug)]
pub struct SimPoller {
    net: SimNet,
    owner: u32,
}

/// Names a process of the network to whoever drives the simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SimProcess(u32);

/// A connection of [`SimPoller`].
#[derive(Debug, PartialEq, Eq)]
pub struct SimStream(u32);

/// A listening socket of [`SimPoller`].
#[derive(Debug, PartialEq, Eq)]
pub struct SimListener(u32);

/// Nothing sleeps here, so there is nobody to wake.
struct Awake;

impl Wake for Awake {
    fn wake(&self) {}
}

impl SimNet {
    /// A network whose chances all come from `seed`; its clock begins at one second, on
    /// 2026-01-01.
    #[must_use]
    pub fn new(seed: u64, config: SimConfig) -> Self {
        let now = Now { at: Instant(1_000_000_000), wall: WallMs(1_767_225_600_000) };
        Self(Rc::new(RefCell::new(Net::new(seed, config, now))))
    }

    /// The network's clock.
    #[must_use]
    pub fn clock(&self) -> SimClock {
        SimClock(self.clone())
    }

    /// A process on the machine with this address.
    #[must_use]
    pub fn poller(&self, ip: IpAddr) -> SimPoller {
        let owner = self.0.borrow_mut().add_owner(ip);
        SimPoller { net: self.clone(), owner }
    }

    /// The virtual time.
    #[must_use]
    pub fn now(&self) -> Now {
        self.0.borrow().now
    }

    /// When the next thing happens in the network; now, if it has happened and nobody has
    /// polled for it yet.
    #[must_use]
    pub fn next_event(&self) -> Option<Instant> {
        self.0.borrow().next_event()
    }

    /// Lets happen what is due by now, so that [`SimNet::is_ready`] knows of it.
    pub fn run(&self) {
        self.0.borrow_mut().run();
    }

    /// Whether a poll of this process has something to tell.
    #[must_use]
    pub fn is_ready(&self, process: SimProcess) -> bool {
        self.0.borrow().is_ready(process.0)
    }

    /// The processes of which [`SimNet::is_ready`] is true, in a fixed order.
    pub fn ready(&self, into: &mut Vec<SimProcess>) {
        into.extend(self.0.borrow().ready().map(SimProcess));
    }

    /// Moves both clocks on; never back.
    pub fn advance_to(&self, at: Instant) {
        self.0.borrow_mut().advance_to(at);
    }

    /// Moves both clocks on.
    pub fn advance(&self, by: Duration) {
        let at = self.now().at + by;
        self.advance_to(at);
    }

    /// Keeps all that is written from now on, for [`SimNet::flows`].
    pub fn record(&self) {
        self.0.borrow_mut().tap.open();
    }

    /// What each end of each TCP connection has written since [`SimNet::record`].
    #[must_use]
    pub fn flows(&self) -> Vec<Flow> {
        self.0.borrow().tap.flows()
    }

    /// Sets the wall clock alone, back too, as an administrator may.
    pub fn set_wall(&self, wall: WallMs) {
        self.0.borrow_mut().now.wall = wall;
    }

    /// From now on nothing passes between the two addresses, until [`SimNet::heal`]; it is
    /// delivered late then, as by TCP's retransmissions.
    pub fn cut(&self, a: IpAddr, b: IpAddr) {
        self.0.borrow_mut().cut(a, b);
    }

    /// Undoes [`SimNet::cut`].
    pub fn heal(&self, a: IpAddr, b: IpAddr) {
        self.0.borrow_mut().heal(a, b);
    }

    /// From now on this address answers nothing and says nothing: a firewall, or a machine
    /// that lost its power; connections to it stay half open.
    pub fn set_black_hole(&self, ip: IpAddr, on: bool) {
        self.0.borrow_mut().set_black_hole(ip, on);
    }

    /// From now on there is no route to this address.
    pub fn set_unreachable(&self, ip: IpAddr, on: bool) {
        self.0.borrow_mut().set_unreachable(ip, on);
    }

    /// Every address reaches every other again.
    pub fn heal_all(&self) {
        self.0.borrow_mut().heal_all();
    }

    /// How long bytes that are sent from now on are under way.
    pub fn set_latency(&self, min: Duration, max: Duration) {
        self.0.borrow_mut().set_latency(min, max);
    }

    /// Something on the way has forgotten the connections between the two addresses: their ends
    /// at `at` read a reset, behind what has arrived; what is under way to them is lost. The ends
    /// at `with` learn of it when they send.
    pub fn reset(&self, at: IpAddr, with: IpAddr) {
        self.0.borrow_mut().reset(at, with);
    }

    /// The machine of this process has lost its power: its connections and listeners are gone,
    /// and nobody is told. Who sends to one of them reads a reset, once the address answers.
    pub fn lose(&self, process: SimProcess) {
        self.0.borrow_mut().lose(process.0);
    }

    /// A process that is stopped (SIGSTOP) is never ready; its connections take what comes until
    /// their windows are full.
    pub fn set_stopped(&self, process: SimProcess, on: bool) {
        self.0.borrow_mut().set_stopped(process.0, on);
    }

    /// Descriptors that a process may have open from now on; listeners count too.
    pub fn set_descriptors_max(&self, process: SimProcess, max: usize) {
        self.0.borrow_mut().set_descriptors_max(process.0, max);
    }

    /// Descriptors that a process has open.
    #[must_use]
    pub fn descriptors(&self, process: SimProcess) -> usize {
        self.0.borrow().descriptors(process.0)
    }

    /// Ends of connections that exist anywhere, those that nobody has accepted yet included.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.0.borrow().streams()
    }
}

impl Clock for SimClock {
    fn now(&self) -> Now {
        self.0.now()
    }
}

impl SimPoller {
    /// Names this process.
    #[must_use]
    pub fn process(&self) -> SimProcess {
        SimProcess(self.owner)
    }

    /// Descriptors that this process may have open; listeners count too.
    pub fn set_descriptors_max(&mut self, max: usize) {
        self.net.0.borrow_mut().set_descriptors_max(self.owner, max);
    }

    /// Connects to a Unix socket of the simulation; it stands at once.
    ///
    /// # Errors
    /// Nobody listens there, or there is no descriptor.
    pub fn connect_unix(&mut self, path: &Path, token: Token) -> io::Result<SimStream> {
        self.net.0.borrow_mut().connect_unix(self.owner, path, token).map(SimStream)
    }

    /// Ends a connection as a crash of the network stack would: the peer reads a reset.
    pub fn reset(&mut self, stream: SimStream) {
        self.net.0.borrow_mut().close(self.owner, stream.0, true);
    }
}

impl Drop for SimPoller {
    fn drop(&mut self) {
        // A process that ends closes all it has; its tests may still look at the network.
        if let Ok(mut net) = self.net.0.try_borrow_mut() {
            net.remove_owner(self.owner);
        }
    }
}

impl Poller for SimPoller {
    type Stream = SimStream;
    type Listener = SimListener;

    fn poll(
        &mut self,
        events: &mut Vec<Readiness>,
        _now: Instant,
        _deadline: Option<Instant>,
    ) -> io::Result<()> {
        let room = events.capacity() - events.len();
        self.net.0.borrow_mut().poll(self.owner, room, events);
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::new(Awake)
    }

    fn listen(&mut self, addr: SocketAddr, backlog: u32, token: Token) -> io::Result<SimListener> {
        self.net.0.borrow_mut().listen(self.owner, addr, backlog, token).map(SimListener)
    }

    fn listen_unix(&mut self, path: &Path, token: Token) -> io::Result<SimListener> {
        self.net.0.borrow_mut().listen_unix(self.owner, path, token).map(SimListener)
    }

    fn listen_addr(&self, listener: &SimListener) -> Option<SocketAddr> {
        self.net.0.borrow().listen_addr(listener.0)
    }

    fn accept(&mut self, listener: &SimListener) -> io::Result<(SimStream, PeerAddr)> {
        let (stream, peer) = self.net.0.borrow_mut().accept(self.owner, listener.0)?;
        Ok((SimStream(stream), peer))
    }

    fn connect(
        &mut self,
        addr: SocketAddr,
        from: Option<IpAddr>,
        token: Token,
    ) -> io::Result<(SimStream, bool)> {
        let stream = self.net.0.borrow_mut().connect(self.owner, addr, from, token)?;
        Ok((SimStream(stream), false))
    }

    fn connected(&mut self, stream: &SimStream) -> io::Result<bool> {
        self.net.0.borrow_mut().connected(stream.0)
    }

    fn register(&mut self, stream: &mut SimStream, token: Token) -> io::Result<()> {
        self.net.0.borrow_mut().watch(stream.0, token, false);
        Ok(())
    }

    fn watch_writable(&mut self, stream: &mut SimStream, token: Token, on: bool) -> io::Result<()> {
        self.net.0.borrow_mut().watch(stream.0, token, on);
        Ok(())
    }

    fn read(&mut self, stream: &mut SimStream, buf: &mut [u8]) -> io::Result<usize> {
        self.net.0.borrow_mut().read(stream.0, buf)
    }

    fn write_vectored(
        &mut self,
        stream: &mut SimStream,
        bufs: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        self.net.0.borrow_mut().write(stream.0, bufs)
    }

    fn send_file(
        &mut self,
        stream: &mut SimStream,
        file: &File,
        offset: u64,
        len: usize,
    ) -> io::Result<usize> {
        let mut net = self.net.0.borrow_mut();
        let room = net.room(stream.0)?;
        let mut bytes = vec![0; len.min(room)];
        match file.read_at(&mut bytes, offset)? {
            0 if len > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => net.write(stream.0, &[IoSlice::new(&bytes[..n])]),
        }
    }

    fn send_at_once(&mut self, _: &mut SimStream) {}

    fn shutdown_write(&mut self, stream: &mut SimStream) -> io::Result<()> {
        self.net.0.borrow_mut().shutdown_write(stream.0)
    }

    fn close(&mut self, stream: SimStream) {
        self.net.0.borrow_mut().close(self.owner, stream.0, false);
    }

    fn close_listener(&mut self, listener: SimListener) {
        self.net.0.borrow_mut().close_listener(self.owner, listener.0);
    }

    fn local_addr(&self, stream: &SimStream) -> Option<SocketAddr> {
        self.net.0.borrow().local_addr(stream.0)
    }

    fn register_fd(&mut self, _fd: RawFd, _token: Token) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "the simulation has no descriptors"))
    }
}

#[cfg(test)]
mod tests;
