//! One process: a real reactor on the simulated network, with simulated threads beside it.

use super::disk::Manners;
use super::trace::{SharedTrace, Traced};
use engine::clock::Clock;
use engine::ids::HostName;
use engine::limits::Limits;
use engine::node::io::{Host, Listener, ResolveError, Services};
use engine::reactor::sim::{SimClock, SimNet, SimPoller, SimProcess};
use engine::reactor::{Mailbox, Reactor, Turn};
use engine::time::{Instant, Now, WallMs};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

/// What all machines share.
#[derive(Debug, Clone)]
pub struct Site {
    /// The network.
    pub net: SimNet,
    /// What happens.
    pub trace: SharedTrace,
    /// How threads behave.
    pub manners: Rc<RefCell<Manners>>,
    /// What the name service knows.
    pub names: Rc<RefCell<BTreeMap<HostName, Vec<SocketAddr>>>>,
    /// How far the wall clocks of the machines started from now on are off.
    pub skew_ms: Rc<Cell<i64>>,
}

impl Site {
    /// Looks a name up.
    ///
    /// # Errors
    /// There is no such name.
    pub fn resolve(&self, name: &HostName) -> Result<Vec<SocketAddr>, ResolveError> {
        self.names.borrow().get(name).cloned().ok_or(ResolveError::NoSuchName)
    }
}

/// A machine's clock: the network's, with a wall clock that may be off.
#[derive(Debug, Clone)]
pub struct SkewedClock {
    clock: SimClock,
    skew_ms: Rc<Cell<i64>>,
}

impl Clock for SkewedClock {
    fn now(&self) -> Now {
        let now = self.clock.now();
        Now { wall: WallMs(now.wall.0.saturating_add_signed(self.skew_ms.get())), ..now }
    }
}

/// The threads beside a reactor.
pub trait Threads {
    /// Works until now, and posts what is done.
    fn pump(&mut self, now: Instant);

    /// When there is something to do.
    fn next(&self) -> Option<Instant>;
}

/// A process that runs.
pub struct Running<H: Host, S: Services<H::Effect>> {
    /// Its loop.
    pub reactor: Reactor<SimPoller, Traced<H>, S, SkewedClock>,
    /// How far its wall clock is off; may be changed at any time.
    pub skew_ms: Rc<Cell<i64>>,
    process: SimProcess,
}

/// A process, whatever it runs.
pub trait Machine {
    /// Does what can be done now; whether that was anything.
    fn work(&mut self, net: &SimNet, now: Instant) -> bool;

    /// When it has something to do.
    fn next(&mut self, now: Instant) -> Option<Instant>;

    /// Whether it has asked for its end.
    fn exited(&self) -> bool;
}

impl<H: Host, S: Services<H::Effect> + Threads> Running<H, S> {
    /// A process on this network.
    #[must_use]
    pub fn new(
        site: &Site,
        poller: SimPoller,
        mailbox: Mailbox<H::Mail>,
        host: Traced<H>,
        threads: S,
        limits: Limits,
    ) -> Self {
        let process = poller.process();
        let skew_ms = Rc::new(Cell::new(site.skew_ms.get()));
        let clock = SkewedClock { clock: site.net.clock(), skew_ms: Rc::clone(&skew_ms) };
        let reactor = Reactor::new(poller, mailbox, host, threads, clock, limits);
        Self { reactor, skew_ms, process }
    }

    /// Listens for peers.
    ///
    /// # Panics
    /// The port is taken.
    pub fn listen(&mut self, addr: SocketAddr) {
        self.reactor.listen(Listener::Peers, addr).expect("the port is free");
    }
}

/// A process and whether it has ended by itself.
pub struct Process<T> {
    /// The process.
    pub running: T,
    exited: bool,
    /// It has just begun, or the test has changed something in it.
    poked: bool,
}

impl<T> Process<T> {
    /// A process that has just begun.
    pub fn new(running: T) -> Self {
        Self { running, exited: false, poked: true }
    }

    /// The process, to be changed by a test.
    pub fn poke(&mut self) -> &mut T {
        self.poked = true;
        &mut self.running
    }
}

impl<H: Host, S: Services<H::Effect> + Threads> Machine for Process<Running<H, S>> {
    fn work(&mut self, net: &SimNet, now: Instant) -> bool {
        let Running { reactor, process, .. } = &mut self.running;
        reactor.services_mut().pump(now);
        let poked = std::mem::take(&mut self.poked);
        let due = poked
            || net.is_ready(*process)
            || reactor.next_deadline(now).is_some_and(|at| at <= now);
        if due {
            let turn = reactor.turn().expect("the simulated network does not fail");
            self.exited |= turn == Turn::Exits;
        }
        due
    }

    fn next(&mut self, now: Instant) -> Option<Instant> {
        let reactor = &mut self.running.reactor;
        let threads = reactor.services_mut().next();
        if self.poked {
            return Some(now);
        }
        threads.into_iter().chain(reactor.next_deadline(now)).min()
    }

    fn exited(&self) -> bool {
        self.exited
    }
}
