//! A worker: one swarm on one reactor, on one thread.

use super::files;
use super::{Beat, Ended, Event, FleetConfig, Happening, Order, Second};
use crate::clients::role::Observation;
use crate::clients::swarm::Swarm;
use crate::error::LoadError;
use engine::clock::{self, Clock, SystemClock};
use engine::limits::Limits;
use engine::node::io::{Listener, Request, Services};
use engine::reactor::{Mailbox, MioPoller, Reactor};
use engine::time::Instant;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::Duration;

/// The loop looks at its orders at least this often.
const TURN_MAX: Duration = Duration::from_millis(20);
/// Between two beats.
const BEAT: Duration = Duration::from_millis(100);
/// Clients that are named at the end.
const EXAMPLES_MAX: usize = 5;

/// No thread works for a swarm: its clients' stores are answered within it.
#[derive(Debug)]
struct NoServices;

impl Services<Observation> for NoServices {
    fn dispatch(&mut self, _: Request<Observation>) {}
}

type Loop = Reactor<MioPoller, Swarm, NoServices, SystemClock>;

pub(super) struct Worker {
    number: u32,
    orders: Receiver<Order>,
    events: Sender<Event>,
    clock: SystemClock,
    next_beat: Instant,
    next_second: Option<Instant>,
    done_at: Option<Instant>,
    cpu_us: u64,
    /// The most connections at once in this second.
    connections: u64,
}

impl Worker {
    pub(super) fn new(
        number: u32,
        orders: Receiver<Order>,
        events: Sender<Event>,
        clock: SystemClock,
    ) -> Self {
        Self {
            number,
            orders,
            events,
            clock,
            next_beat: Instant(0),
            next_second: None,
            done_at: None,
            cpu_us: 0,
            connections: 0,
        }
    }

    fn tell(&self, what: Happening) {
        // Whoever has gone does not want to know.
        let _ = self.events.send(Event { worker: self.number, what });
    }

    /// Works until it is told to end, or nobody is left to tell it; with a table of descriptors
    /// of its own if it shares its process with other workers.
    pub(super) fn run(&mut self, config: &FleetConfig, descriptors: usize, own_table: bool) {
        let ended = self.prepare(config, descriptors, own_table).and_then(|mut reactor| {
            while self.turn(&mut reactor)? {}
            self.beat(&mut reactor, self.clock.now().at);
            let lag = &reactor.metrics().lag;
            let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            let unfinished = reactor.host().unfinished().take(EXAMPLES_MAX);
            Ok(Ended {
                unfinished_first: unfinished.map(ToString::to_string).collect(),
                loop_lag_p99_us: us(lag.quantile(0.99)),
                loop_lag_max_us: us(lag.max()),
            })
        });
        self.tell(match ended {
            Ok(ended) => Happening::Ended(Box::new(ended)),
            Err(error) => Happening::Failed(error),
        });
    }

    fn prepare(
        &self,
        config: &FleetConfig,
        descriptors: usize,
        own_table: bool,
    ) -> Result<Loop, LoadError> {
        if own_table {
            files::unshare()?;
        }
        let now = self.clock.now();
        let swarm = Swarm::new(config.swarm(self.number, descriptors), now);
        let poller = MioPoller::new()?;
        let mailbox = Mailbox::new(&poller);
        let limits = Limits { connections_max: descriptors, ..Limits::default() };
        let mut reactor = Reactor::new(poller, mailbox, swarm, NoServices, self.clock, limits);
        let mut port = match config.port {
            0 => 0,
            first => u16::try_from(u32::from(first) + self.number)
                .map_err(|_| LoadError::Ports { first, workers: config.workers })?,
        };
        if config.own_addresses {
            // All of 127.0.0.0/8 can be had only with every other address of the machine; what
            // comes to one of those reaches no client and is closed at once.
            let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            let bound = reactor.listen(Listener::Peers, any);
            port = bound.map_err(|error| LoadError::Listen { port, error })?.port();
        }
        self.tell(Happening::Ready { port, descriptors });
        Ok(reactor)
    }

    /// One turn of the loop; `false` at the end.
    fn turn(&mut self, reactor: &mut Loop) -> Result<bool, LoadError> {
        match self.orders.try_recv() {
            Ok(Order::Begin(work, start)) => {
                let now = self.clock.now();
                reactor.host_mut().begin(&work, start, now);
                self.done_at = None;
                self.next_second = Some(start + Duration::from_secs(1));
                self.cpu_us = clock::thread_cpu_us();
            }
            Ok(Order::Close) => {
                let now = self.clock.now().at;
                self.beat(reactor, now);
                self.second(reactor, now, true);
                self.next_second = None;
            }
            Ok(Order::End) | Err(TryRecvError::Disconnected) => return Ok(false),
            Err(TryRecvError::Empty) => {}
        }
        reactor.turn_within(Some(TURN_MAX))?;
        self.connections = self.connections.max(reactor.connections() as u64);
        let now = self.clock.now().at;
        let swarm = reactor.host();
        let done = swarm.standings().done == swarm.len() as u64;
        let came_true = done && self.done_at.is_none();
        self.done_at = if done { self.done_at.or(Some(now)) } else { None };
        if now >= self.next_beat || came_true {
            self.beat(reactor, now);
        }
        if self.next_second.is_some_and(|end| now >= end) {
            self.second(reactor, now, false);
        }
        Ok(true)
    }

    fn beat(&mut self, reactor: &mut Loop, now: Instant) {
        self.next_beat = now + BEAT;
        let swarm = reactor.host_mut();
        let (deliveries, waiting) = swarm.deliveries();
        let beat = Beat {
            at: now,
            standings: swarm.standings(),
            done_at: self.done_at,
            deliveries: deliveries as u64,
            waiting: waiting as u64,
            acked: swarm.take_acked(),
        };
        self.tell(Happening::Beat(beat));
    }

    fn second(&mut self, reactor: &mut Loop, now: Instant, last: bool) {
        // A worker that slept over several seconds tells of all of them at once.
        self.next_second = self.next_second.map(|end| {
            let behind = now.since(end).as_secs();
            end + Duration::from_secs(behind + 1)
        });
        let cpu_us = clock::thread_cpu_us();
        let second = Second {
            end: now,
            last,
            tally: reactor.host_mut().take_tally(),
            cpu_us: cpu_us - std::mem::replace(&mut self.cpu_us, cpu_us),
            connections: std::mem::take(&mut self.connections),
        };
        self.tell(Happening::Second(Box::new(second)));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Other workers keep the channel open: nobody would miss this one.
        if std::thread::panicking() {
            self.tell(Happening::Failed(LoadError::WorkerDied));
        }
    }
}
