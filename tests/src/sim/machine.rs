//! One process: a real reactor on the simulated network, with simulated threads beside it.

use super::disk::Manners;
use super::mutation::{MutatedPoller, Mutation};
use super::trace::{SharedTrace, Traced};
use engine::clock::Clock;
use engine::ids::HostName;
use engine::limits::Limits;
use engine::node::io::{Host, Listener, ResolveError, Services};
use engine::reactor::sim::{SimClock, SimNet, SimProcess};
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
    /// What it knew of each name first.
    pub first_names: Rc<RefCell<BTreeMap<HostName, Vec<SocketAddr>>>>,
    /// How far the wall clocks of the machines started from now on are off.
    pub skew_ms: Rc<Cell<i64>>,
    /// The deliberate fault of the code under test, if it has one.
    pub mutation: Option<Mutation>,
}

impl Site {
    /// Looks a name up.
    ///
    /// # Errors
    /// There is no such name, or the name service does not answer.
    pub fn resolve(
        &self,
        name: &HostName,
        rng: &mut fastrand::Rng,
    ) -> Result<Vec<SocketAddr>, ResolveError> {
        if rng.f64() < self.manners.borrow().lookups_failing {
            return Err(ResolveError::Timeout);
        }
        let is_old = self.mutation == Some(Mutation::OldAddress);
        let names = if is_old { &self.first_names } else { &self.names };
        names.borrow().get(name).cloned().ok_or(ResolveError::NoSuchName)
    }

    /// The fault of this machine's host, or poller, if it is one of these.
    #[must_use]
    pub fn mutation_among(&self, of_its_kind: &[Mutation]) -> Option<Mutation> {
        self.mutation.filter(|mutation| of_its_kind.contains(mutation))
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
    pub reactor: Reactor<MutatedPoller, Traced<H>, S, SkewedClock>,
    /// How far its wall clock is off; may be changed at any time.
    pub skew_ms: Rc<Cell<i64>>,
    /// Its name on the network.
    pub process: SimProcess,
}

/// A process, whatever it runs.
pub trait Machine {
    /// Does what can be done now; whether that was anything.
    fn work(&mut self, net: &SimNet, now: Instant) -> bool;

    /// When it has something to do.
    fn next(&mut self, now: Instant) -> Option<Instant>;

    /// Whether it has asked for its end.
    fn exited(&self) -> bool;

    /// Its name on the network.
    fn process(&self) -> SimProcess;

    /// How far its wall clock is off.
    fn skew_ms(&self) -> &Cell<i64>;

    /// SIGSTOP, or SIGCONT: it does nothing meanwhile, its threads neither.
    fn set_stalled(&mut self, on: bool);

    /// Whether it is stopped.
    fn is_stalled(&self) -> bool;
}

impl<H: Host, S: Services<H::Effect> + Threads> Running<H, S> {
    /// A process on this network.
    #[must_use]
    pub fn new(
        site: &Site,
        poller: MutatedPoller,
        mailbox: Mailbox<H::Mail>,
        host: Traced<H>,
        threads: S,
        limits: Limits,
    ) -> Self {
        let process = poller.inner().process();
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
    stalled: bool,
    /// It has just begun, or the test has changed something in it.
    poked: bool,
}

impl<T> Process<T> {
    /// A process that has just begun.
    pub fn new(running: T) -> Self {
        Self { running, exited: false, stalled: false, poked: true }
    }

    /// The process, to be changed by a test.
    pub fn poke(&mut self) -> &mut T {
        self.poked = true;
        &mut self.running
    }
}

impl<H: Host, S: Services<H::Effect> + Threads> Machine for Process<Running<H, S>> {
    fn work(&mut self, net: &SimNet, now: Instant) -> bool {
        if self.stalled {
            return false;
        }
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
        if self.stalled {
            return None;
        }
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

    fn process(&self) -> SimProcess {
        self.running.process
    }

    fn skew_ms(&self) -> &Cell<i64> {
        &self.running.skew_ms
    }

    fn set_stalled(&mut self, on: bool) {
        self.stalled = on;
        self.poked = true;
    }

    fn is_stalled(&self) -> bool {
        self.stalled
    }
}
