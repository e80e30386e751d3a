//! What must hold of a cluster: at every moment, once all is delivered, and at rest.

use super::World;
use super::agenda::Who;
use super::disk::SharedDisk;
use super::machine::Running;
use engine::ids::Origin;
use engine::node::io::{Host, Services};
use engine::node::{Node, Role};
use engine::time::Instant;
use engine::wire::FrameBuf;
use engine::wire::message::ControlReq;
use std::collections::BTreeMap;
use std::time::Duration;

/// Beyond a bound in bytes there may be so many: one frame that was begun below it.
const FRAME: u64 = 1024;
/// Commands that are accepted beyond `connections_max`.
const CONTROL_RESERVE: usize = 16;
/// Longer than any wait before the next attempt, jitter included.
const WAITS: Duration = Duration::from_secs(700);
/// How soon a report is stored while nothing is wrong.
const SOON: Duration = Duration::from_secs(5);
/// Turns of a loop during [`WAITS`], for each machine that it may have to do with: more is
/// spinning.
const TURNS: u64 = 5_000;

/// What a machine has counted, to be compared with later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counted {
    turns: u64,
    missed: u64,
    dialed: u64,
}

fn counted<H: Host, S: Services<H::Effect>>(running: &Running<H, S>) -> Counted {
    let metrics = running.reactor.metrics();
    Counted {
        turns: metrics.turns.value(),
        missed: metrics.deadlines_missed.value(),
        dialed: metrics.dialed.value(),
    }
}

/// What is wrong with a loop at any moment: every connection has one timer, and no other does.
fn excess_of_loop<R: Role, S: Services<R::Effect>>(
    running: &Running<Node<R>, S>,
) -> Option<String> {
    let (timers, connections) = (running.reactor.timers(), running.reactor.connections());
    (timers != connections).then(|| format!("{timers} timers for {connections} connections"))
}

impl World {
    /// Every bound of a machine holds, at any moment.
    ///
    /// # Panics
    /// One does not.
    pub(super) fn assert_limits(&self, who: Who) {
        let excess = match who {
            Who::Master(at) => self.excess_of_master(at),
            Who::Client(at) => self.excess_of_client(at),
        };
        if let Some(excess) = excess {
            panic!("seed {:#x}: {who:?} at {:?}: {excess}", self.seed, self.now());
        }
    }

    fn excess_of_master(&self, at: usize) -> Option<String> {
        let seat = &self.masters[at];
        let running = &seat.process.as_ref()?.running;
        let (settings, parts) = (&seat.settings, running.reactor.host().host.parts());
        let down = parts.downstream.as_ref()?;
        let inbox = parts.inbox.as_ref()?;
        let connections = running.reactor.connections();
        let connections_max =
            settings.limits.connections_max + CONTROL_RESERVE + settings.downstream.in_flight_max;
        if connections > connections_max {
            return Some(format!("{connections} connections of at most {connections_max}"));
        }
        let in_flight = down.in_flight();
        if in_flight > settings.downstream.in_flight_max {
            return Some(format!("{in_flight} deliveries at once"));
        }
        let bounds = &settings.inbox;
        let uncommitted = inbox.uncommitted();
        if uncommitted > 2 * bounds.gathering_records_max {
            return Some(format!("{uncommitted} records wait for their commit"));
        }
        // What the log held when it was opened was taken before.
        let bytes = inbox.depth().bytes;
        if bytes > bounds.bytes_high + FRAME {
            return Some(format!("the inbox has {bytes} bytes of {}", bounds.bytes_high));
        }
        let senders = inbox.senders();
        if senders > self.clients.len() + self.masters.len() {
            return Some(format!("marks of {senders} senders"));
        }
        excess_of_loop(running)
    }

    fn excess_of_client(&self, at: usize) -> Option<String> {
        let seat = &self.clients[at];
        let running = &seat.process.as_ref()?.running;
        let uplink = running.reactor.host().host.parts().uplink.as_ref()?;
        let ((_, bytes), bytes_max) =
            (uplink.outbox.depth(), seat.settings.outbox.durable_bytes_max);
        if bytes > bytes_max {
            return Some(format!("the outbox has {bytes} bytes of {bytes_max}"));
        }
        let in_flight = uplink.outbox.in_flight();
        // The urgent lane, of a few messages, knows no window.
        if in_flight > seat.settings.outbox.window_frames + 8 {
            return Some(format!("{in_flight} frames in flight"));
        }
        excess_of_loop(running)
    }

    /// The heart of it: every report that a client had on its disk is stored, as it was, and
    /// nothing else is. One that was damaged on a disk, and was not under way already, lies in
    /// that disk's quarantine instead.
    ///
    /// # Panics
    /// It is not so.
    pub fn assert_exactly_once(&self) {
        let results = self.results.borrow();
        let mut written = BTreeMap::new();
        for seat in &self.clients {
            written.extend(seat.disk.borrow().written.clone());
        }
        let quarantined: usize =
            self.disks().map(|disk| disk.borrow().store.quarantine().len()).sum();
        let damaged = self.damaged();
        let missing = written.keys().filter(|o| !results.reports.contains_key(o));
        let (set_aside, lost): (Vec<_>, Vec<_>) = missing.partition(|o| damaged.contains(o));
        assert!(
            set_aside.len() <= quarantined,
            "seed {:#x}: {quarantined} in quarantine of {set_aside:?}",
            self.seed
        );
        let made_up: Vec<_> = results.reports.keys().filter(|o| !written.contains_key(o)).collect();
        assert!(
            lost.is_empty() && made_up.is_empty(),
            "seed {:#x}: lost {lost:?}, made up {made_up:?}",
            self.seed
        );
        let is_altered = |(origin, digest): &(&Origin, &u64)| {
            results.reports.get(origin).is_some_and(|stored| stored.digest != **digest)
        };
        let altered: Vec<_> = written.iter().filter(is_altered).collect();
        assert!(altered.is_empty(), "seed {:#x}: altered {altered:?}", self.seed);
    }

    /// A cluster in which nothing is wrong any more, and all is delivered, comes to rest: no
    /// deadline is missed and nobody spins; everybody goes on polling; nothing is left of any
    /// connection, log or delivery; and what is reported then is stored at once.
    ///
    /// # Panics
    /// It is not so.
    pub fn assert_rest(&mut self) {
        // Programs have no deadlines of their own: what a daemon has ended is ended for them.
        self.run(WAITS);
        self.tools.clear();
        self.run(Duration::from_secs(1));
        let began: Vec<Counted> = self.counted();
        self.run(WAITS);
        let rested = self.counted();
        for (at, (before, after)) in began.iter().zip(&rested).enumerate() {
            let turns = after.turns - before.turns;
            // Masters come first, and have to do with every client.
            let is_master = at < self.masters.len();
            let peers = if is_master { 1 + self.clients.len() as u64 } else { 1 };
            assert!(turns < TURNS * peers, "seed {:#x}: machine {at}: {turns} turns", self.seed);
            let polls = is_master || after.dialed > before.dialed;
            assert!(polls, "seed {:#x}: machine {at} polls no more", self.seed);
        }
        for at in 0..self.clients.len() {
            self.act(at, Duration::from_millis(1));
            let written = self.written_count();
            self.until("a report is written at rest", SOON, |w| w.written_count() > written);
            self.until("a report is stored at rest", SOON, |w| w.is_drained());
        }
        self.assert_status();
        let until = self.now() + WAITS;
        while let Some(left) = self.unrest() {
            assert!(self.now() < until, "seed {:#x}: never at rest: {left}", self.seed);
            self.step(until);
        }
        for (before, after) in began.iter().zip(self.counted()) {
            let missed = after.missed - before.missed;
            assert_eq!(missed, 0, "seed {:#x}: deadlines were missed at rest", self.seed);
        }
        self.assert_exactly_once();
    }

    /// The operator is answered within a second.
    fn assert_status(&mut self) {
        let tool = self.control(0);
        let request = ControlReq { verb: "status".to_owned(), arguments: b"{}".to_vec() };
        self.tools[tool].send(&FrameBuf::message(None, &request, |_| {}));
        let second = Duration::from_secs(1);
        self.until("status is told", second, |w| w.tools[tool].frames().count() > 0);
        self.tools.clear();
    }

    fn counted(&self) -> Vec<Counted> {
        let masters = self.masters.iter().filter_map(|seat| seat.process.as_ref());
        let clients = self.clients.iter().filter_map(|seat| seat.process.as_ref());
        let masters = masters.map(|process| counted(&process.running));
        masters.chain(clients.map(|process| counted(&process.running))).collect()
    }

    /// What is left anywhere of connections, deliveries or records, if anything is.
    fn unrest(&self) -> Option<String> {
        let streams = self.site.net.streams();
        let masters = self.masters.iter().filter_map(|seat| {
            let process = seat.process.as_ref()?;
            // Two listeners, one of them for commands.
            let left = self.left(&process.running, &seat.disk, 2)?;
            Some(format!("{}: {left}", seat.name))
        });
        let clients = self.clients.iter().filter_map(|seat| {
            let process = seat.process.as_ref()?;
            let left = self.left(&process.running, &seat.disk, 1)?;
            Some(format!("{}: {left}", seat.name))
        });
        let network = (streams > 0).then(|| format!("{streams} ends of connections"));
        masters.chain(clients).chain(network).next()
    }

    /// What is left at one machine.
    fn left<R: Role, S: Services<R::Effect>>(
        &self,
        running: &Running<Node<R>, S>,
        disk: &SharedDisk,
        listeners: usize,
    ) -> Option<String> {
        let parts = running.reactor.host().host.parts();
        let waiting = parts.inbox.as_ref().map_or(0, |inbox| inbox.depth().records);
        let links: u64 = parts.connections_by_use().iter().map(|(_, count)| count).sum();
        let deliveries = parts.downstream.as_ref().is_some_and(|down| !down.is_idle());
        let counts = [
            ("connections", running.reactor.connections()),
            ("links", usize::try_from(links).unwrap_or(usize::MAX)),
            ("of the inbox", parts.inbox.as_ref().map_or(0, |inbox| inbox.connections())),
            ("served", parts.server.as_ref().map_or(0, |server| server.connections())),
            ("deliveries", usize::from(deliveries)),
            ("waiting", usize::try_from(waiting).unwrap_or(usize::MAX)),
            ("records", disk.borrow().store.records().count()),
            ("descriptors", self.site.net.descriptors(running.process) - listeners),
        ];
        let left: Vec<_> = counts.into_iter().filter(|(_, count)| *count > 0).collect();
        (!left.is_empty()).then(|| format!("{left:?}"))
    }

    /// How it stands, for the message of a test that failed: who is behind, or some others.
    #[must_use]
    pub fn tell(&mut self) -> String {
        const CLIENTS: usize = 12;
        let newest = self.newest().0;
        let mut at: Vec<usize> = (0..self.clients.len()).collect();
        at.sort_by_key(|at| self.revision(*at) == newest && self.unacked(*at) == 0);
        let clients = at.into_iter().take(CLIENTS).map(|at| {
            let revision = self.revision(at);
            let unacked = self.unacked(at);
            let seat = &self.clients[at];
            let state = seat.process.as_ref().map(|p| {
                let reactor = &p.running.reactor;
                let uplink = &reactor.host().host.parts().uplink;
                let next = reactor.next_deadline(Instant(0));
                let connections = reactor.connections();
                let binding = uplink.as_ref().map(|u| u.binding());
                format!("{binding:?}, {connections} connections, next {next:?}")
            });
            format!("{}: revision {revision}, unacked {unacked}, {state:?}", seat.name)
        });
        let clients: Vec<String> = clients.collect();
        let trace = self.site.trace.borrow();
        let last: Vec<_> = trace.events().iter().rev().take(12).rev().collect();
        let (stored, written) = (self.results.borrow().reports.len(), self.written_count());
        let net = &self.site.net;
        let (now, streams) = (net.now(), net.streams());
        let clients = clients.join("\n");
        format!(
            "at {now:?}, {stored} stored of {written}, revision {newest}, {streams} ends of connections\n{clients}\nlast: {last:#?}"
        )
    }
}
