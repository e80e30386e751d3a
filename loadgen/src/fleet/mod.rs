//! A fleet: the swarms of a run, each on a thread with a reactor and a table of file
//! descriptors of its own, since one table holds fewer sockets than a big run has clients; or
//! each in a process of its own, on this machine or another.
//!
//! Orders go down and events come up, through channels or connections, and nothing else is
//! shared: a wake-up through a descriptor would meet another file in another table.

mod files;
pub mod remote;
mod worker;

pub(crate) use files::unshare as unshare_descriptors;

use crate::clients::address::Identities;
use crate::clients::swarm::{Acked, SwarmConfig};
use crate::clients::work::Work;
use crate::error::LoadError;
use crate::measure::{Standings, Tally};
use engine::clock::SystemClock;
use engine::time::Instant;
use master::descriptors;
use remote::{Address, RemoteWorker};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use worker::Worker;

/// What a fleet is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetConfig {
    /// How many clients.
    pub clients: u32,
    /// How many workers share them.
    pub workers: u32,
    /// Their names.
    pub identities: Identities,
    /// The master.
    pub master: SocketAddr,
    /// Whether each client has an address of its own, and can be dialled back.
    pub own_addresses: bool,
    /// The first worker listens here, each further one a port higher; 0 takes any.
    pub port: u16,
    /// Deliveries that a worker has under way at once; `None` takes half of its descriptors.
    pub deliveries_max: Option<usize>,
    /// Decides the order of the slots.
    pub seed: u64,
    /// Makes the incarnations of the clients' outboxes.
    pub incarnation: u64,
}

impl FleetConfig {
    /// The clients of a worker: equal shares, the first ones one larger.
    #[must_use]
    pub fn share(&self, worker: u32) -> Range<u32> {
        share(self.clients, self.workers, worker)
    }

    fn swarm(&self, worker: u32, descriptors: usize) -> SwarmConfig {
        SwarmConfig {
            clients: self.share(worker),
            clients_all: self.clients,
            identities: self.identities.clone(),
            master: self.master,
            own_addresses: self.own_addresses,
            deliveries_max: self.deliveries_max.unwrap_or(descriptors / 2),
            seed: self.seed,
            incarnation: self.incarnation,
        }
    }
}

/// Equal shares of `clients`, the first ones one larger: that of `worker`.
#[must_use]
pub fn share(clients: u32, workers: u32, worker: u32) -> Range<u32> {
    let (each, more) = (clients / workers, clients % workers);
    let start = worker * each + worker.min(more);
    start..start + each + u32::from(worker < more)
}

/// How many workers so many clients need where a table holds so many descriptors: each client
/// may deliver and be dialled back at the same time.
#[must_use]
pub fn workers_for(clients: u32, descriptors: usize) -> u32 {
    let each = u32::try_from(descriptors / 2).unwrap_or(u32::MAX).max(1);
    clients.div_ceil(each).max(1)
}

/// Descriptors for the connections of so many clients, of this process or of each thread with a
/// table of its own. Makes the table large at once: later each doubling would stall the loops.
#[must_use]
pub fn descriptors_for(clients: usize) -> usize {
    let granted = descriptors::reserve(4 * clients + descriptors::BESIDE_CONNECTIONS);
    granted.saturating_sub(descriptors::BESIDE_CONNECTIONS).max(2)
}

/// What a worker is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// All clients begin this work at a time.
    Begin(Work, Instant),
    /// The phase is over: tell what was counted in it to its end.
    Close,
    /// Say the last word and end.
    End,
}

/// What a worker tells.
#[derive(Debug)]
pub struct Event {
    /// Its number.
    pub worker: u32,
    /// What it tells.
    pub what: Happening,
}

/// What happened in a worker.
#[derive(Debug, Serialize, Deserialize)]
pub enum Happening {
    /// It waits for orders.
    Ready {
        /// It listens here.
        port: u16,
        /// So many connections it may have at once.
        descriptors: usize,
    },
    /// Several times a second: how it stands, and what was acked since the last time.
    Beat(Beat),
    /// Once a second, and at the end of a phase.
    Second(Box<Second>),
    /// It cannot go on.
    #[serde(skip)]
    Failed(LoadError),
    /// It has ended after its last word.
    Ended(Box<Ended>),
}

/// How a worker stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// When this was so.
    pub at: Instant,
    /// Its clients.
    pub standings: Standings,
    /// Since when all of them have reached their goal.
    pub done_at: Option<Instant>,
    /// Deliveries under way.
    pub deliveries: u64,
    /// Deliveries that wait for a descriptor.
    pub waiting: u64,
    /// Reports that were acked.
    pub acked: Vec<Acked>,
}

/// What was counted within a second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// The second's end, on the run's clock.
    pub end: Instant,
    /// Whether it is the phase's last.
    pub last: bool,
    /// What was counted.
    pub tally: Tally,
    /// CPU time of the worker's thread, microseconds.
    pub cpu_us: u64,
    /// The most open connections at once in it.
    pub connections: u64,
}

/// What a worker says last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The first clients that have not reached the goal.
    pub unfinished_first: Vec<String>,
    /// 99th percentile of a turn of its loop, microseconds.
    pub loop_lag_p99_us: u64,
    /// The longest turn.
    pub loop_lag_max_us: u64,
}

/// The way to a worker.
#[derive(Debug)]
enum Link {
    Thread { orders: Sender<Order>, thread: JoinHandle<()> },
    Remote(RemoteWorker),
}

impl Link {
    /// One that has died has told so, or its channel will.
    fn send(&self, order: Order) {
        match self {
            Self::Thread { orders, .. } => drop(orders.send(order)),
            Self::Remote(worker) => worker.send(&order),
        }
    }
}

/// Workers that run.
#[derive(Debug)]
pub struct Fleet {
    links: Vec<Link>,
    events: Receiver<Event>,
    /// Where each listens.
    ports: Vec<u16>,
    /// The fewest that any of them has.
    descriptors: usize,
}

impl Fleet {
    /// Starts the workers as threads, and waits until all of them listen.
    ///
    /// # Errors
    /// No thread, or a port that is taken.
    pub fn start(
        config: &FleetConfig,
        clock: SystemClock,
        descriptors: usize,
    ) -> Result<Self, LoadError> {
        let (sender, events) = channel();
        let mut fleet = Self::new(events);
        for number in 0..config.workers {
            let (order, orders) = channel();
            let (config, sender) = (config.clone(), sender.clone());
            let body = move || {
                let own_table = config.workers > 1;
                let mut worker = Worker::new(number, orders, sender, clock);
                worker.run(&config, descriptors, own_table);
            };
            let name = format!("swarm-{number}");
            let thread = std::thread::Builder::new().name(name).spawn(body)?;
            fleet.links.push(Link::Thread { orders: order, thread });
        }
        // With it gone, the channel ends with the last worker.
        drop(sender);
        fleet.until_ready()?;
        Ok(fleet)
    }

    /// Gives each of these processes its share, and waits until all of them listen.
    ///
    /// # Errors
    /// One is not there, is of another version or works for somebody else; or a port is taken.
    pub fn connect(
        config: &FleetConfig,
        clock: SystemClock,
        workers: &[Address],
    ) -> Result<Self, LoadError> {
        let (sender, events) = channel();
        let mut fleet = Self::new(events);
        for (number, address) in (0..config.workers).zip(workers) {
            let worker = RemoteWorker::connect(address, number, config, clock, sender.clone())?;
            fleet.links.push(Link::Remote(worker));
        }
        drop(sender);
        fleet.until_ready()?;
        Ok(fleet)
    }

    fn new(events: Receiver<Event>) -> Self {
        Self { links: Vec::new(), events, ports: Vec::new(), descriptors: usize::MAX }
    }

    fn until_ready(&mut self) -> Result<(), LoadError> {
        let ready = ready(&self.events, self.links.len())?;
        (self.ports, self.descriptors) = ready;
        Ok(())
    }

    /// How many workers.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.links.len()
    }

    /// Connections that each worker may have at once.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        self.descriptors
    }

    /// Where each worker listens.
    #[must_use]
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// Has all clients begin a work.
    pub fn begin(&self, work: &Work, start: Instant) {
        self.tell(&Order::Begin(work.clone(), start));
    }

    /// Ends the phase: each worker tells of its last second.
    pub fn close(&self) {
        self.tell(&Order::Close);
    }

    /// Asks all workers for their last word.
    pub fn end(&self) {
        self.tell(&Order::End);
    }

    fn tell(&self, order: &Order) {
        self.links.iter().for_each(|link| link.send(order.clone()));
    }

    /// The next event, if one comes within this time.
    ///
    /// # Errors
    /// All workers are gone.
    pub fn next(&mut self, within: Duration) -> Result<Option<Event>, LoadError> {
        match self.events.recv_timeout(within) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(LoadError::WorkerDied),
        }
    }
}

/// Waits until so many workers listen, and says where, and how many descriptors each of them has
/// at least.
fn ready(events: &Receiver<Event>, workers: usize) -> Result<(Vec<u16>, usize), LoadError> {
    let (mut ports, mut least) = (vec![0; workers], usize::MAX);
    let mut waiting = workers;
    while waiting > 0 {
        match events.recv() {
            Ok(Event { worker, what: Happening::Ready { port, descriptors } }) => {
                ports[worker as usize] = port;
                least = least.min(descriptors);
                waiting -= 1;
            }
            Ok(Event { what: Happening::Failed(error), .. }) => return Err(error),
            // Those that were ready first tell how they stand meanwhile.
            Ok(_) => {}
            Err(_) => return Err(LoadError::WorkerDied),
        }
    }
    Ok((ports, least))
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // All are told before any of them is waited for.
        let threads = self.links.drain(..).filter_map(|link| match link {
            Link::Thread { thread, .. } => Some(thread),
            Link::Remote(_) => None,
        });
        for thread in threads.collect::<Vec<_>>() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_is_slow_to_listen_is_waited_for() {
        let (sender, events) = channel();
        let tell = |worker, what| sender.send(Event { worker, what }).unwrap();
        let listens = |port| Happening::Ready { port, descriptors: usize::from(port) };
        tell(0, listens(7402));
        tell(0, Happening::Beat(Beat::default()));
        tell(2, listens(7404));
        tell(0, Happening::Beat(Beat::default()));
        tell(1, listens(7403));
        assert_eq!(ready(&events, 3).unwrap(), (vec![7402, 7403, 7404], 7402));
        tell(0, Happening::Failed(LoadError::NothingPublished));
        assert!(matches!(ready(&events, 1), Err(LoadError::NothingPublished)));
        drop(sender);
        assert!(matches!(ready(&events, 1), Err(LoadError::WorkerDied)));
    }

    #[test]
    fn shares_are_equal_and_whole() {
        for (clients, workers) in [(10, 1), (10, 3), (50_000, 6), (3, 3)] {
            let shares: Vec<_> = (0..workers).map(|i| share(clients, workers, i)).collect();
            assert_eq!(shares[0].start, 0);
            assert_eq!(shares[workers as usize - 1].end, clients);
            assert!(shares.windows(2).all(|pair| pair[0].end == pair[1].start));
            let sizes: Vec<_> = shares.iter().map(ExactSizeIterator::len).collect();
            assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{sizes:?}");
        }
    }

    #[test]
    fn a_table_of_descriptors_bounds_the_clients_of_a_worker() {
        assert_eq!(workers_for(1, 20_000), 1);
        assert_eq!(workers_for(10_000, 20_000), 1);
        assert_eq!(workers_for(10_001, 20_000), 2);
        assert_eq!(workers_for(50_000, 19_872), 6);
        assert_eq!(workers_for(5, 0), 5);
    }
}
