//! The way down: dials hosts back, so many at a time, and tells each what it lacks.
//!
//! A pending dial carries no message. What to send is chosen when the connection stands, so a
//! newer assignment needs no bookkeeping, and a host that waits twice is dialled once.

use super::io::{CloseReason, Output, ResolveError};
use super::outputs::Outputs;
use super::role::{DeliveryFailure, Outgoing};
use crate::ids::{ConnId, DialId, Epoch, HostName, IdMap, Origin};
use crate::time::{Instant, Now};
use crate::wire::{Frame, Kind, Nack};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// Bounds of the way down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DownstreamLimits {
    /// Hosts being resolved, dialled or sent to at once.
    pub in_flight_max: usize,
    /// Dials to one host in a row; more wait for the bucket to fill again.
    pub dial_burst: u8,
    /// How long the bucket takes to gain one dial.
    pub dial_interval: Duration,
    /// How long a host may take to ack.
    pub answer_timeout: Duration,
    /// Port for addresses that come without one.
    pub client_port: u16,
}

impl Default for DownstreamLimits {
    fn default() -> Self {
        Self {
            in_flight_max: 256,
            dial_burst: 8,
            dial_interval: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(30),
            client_port: 7401,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Queued,
    Resolving,
    Dialing,
    /// Awaiting acks: the highest number of each of the two lanes.
    Sending(ConnId, [Option<u64>; 2]),
}

#[derive(Debug)]
struct Target {
    stage: Stage,
    /// It was wanted again after its message had been chosen.
    again: bool,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    dials: u8,
    filled: Instant,
}

/// All deliveries to hosts.
#[derive(Debug)]
pub struct Downstream {
    limits: DownstreamLimits,
    name: HostName,
    epoch: Epoch,
    seq: u64,
    queue: VecDeque<HostName>,
    targets: HashMap<HostName, Target>,
    dials: IdMap<DialId, HostName>,
    conns: IdMap<ConnId, HostName>,
    buckets: HashMap<HostName, Bucket>,
    in_flight: usize,
}

impl Downstream {
    /// A way down for the node of this name.
    #[must_use]
    pub fn new(name: HostName, epoch: Epoch, limits: DownstreamLimits) -> Self {
        Self {
            limits,
            name,
            epoch,
            seq: 0,
            queue: VecDeque::new(),
            targets: HashMap::new(),
            dials: IdMap::default(),
            conns: IdMap::default(),
            buckets: HashMap::new(),
            in_flight: 0,
        }
    }

    /// Hosts being resolved, dialled or sent to.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Hosts that wait for their turn.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing is kept of any delivery: none waits, and none is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
            && self.targets.is_empty()
            && self.dials.is_empty()
            && self.conns.is_empty()
            && self.in_flight == 0
    }

    /// There is something for this host; whether it waits for its turn because of this.
    pub fn want(&mut self, host: &HostName) -> bool {
        if let Some(target) = self.targets.get_mut(host) {
            target.again |= matches!(target.stage, Stage::Sending(..));
            return false;
        }
        self.targets.insert(host.clone(), Target { stage: Stage::Queued, again: false });
        self.queue.push_back(host.clone());
        true
    }

    /// Forgets those of these hosts that still wait for their turn; those under way go on.
    pub fn cancel(&mut self, is_meant: impl Fn(&HostName) -> bool) {
        let targets = &mut self.targets;
        self.queue.retain(|host| {
            let stays = !is_meant(host);
            if !stays {
                targets.remove(host);
            }
            stays
        });
    }

    /// Begins with hosts from the queue while there is room. Each name returned must be
    /// resolved; each failure told.
    pub fn advance(&mut self, now: Now) -> (Vec<HostName>, Vec<(HostName, DeliveryFailure)>) {
        let (mut resolve, mut failed) = (Vec::new(), Vec::new());
        while self.in_flight < self.limits.in_flight_max {
            let Some(host) = self.queue.pop_front() else { break };
            if !self.take_dial(&host, now.at) {
                self.targets.remove(&host);
                failed.push((host, DeliveryFailure::RateLimited));
                continue;
            }
            if let Some(target) = self.targets.get_mut(&host) {
                target.stage = Stage::Resolving;
                self.in_flight += 1;
                resolve.push(host);
            }
        }
        (resolve, failed)
    }

    fn take_dial(&mut self, host: &HostName, now: Instant) -> bool {
        let limits = self.limits;
        // Full buckets say nothing: they go when there are many, so idle hosts cost nothing.
        if self.buckets.len() > 2 * (self.targets.len() + 1024) {
            let full = limits.dial_interval * u32::from(limits.dial_burst);
            self.buckets.retain(|_, bucket| now.since(bucket.filled) < full);
        }
        let bucket = self
            .buckets
            .entry(host.clone())
            .or_insert(Bucket { dials: limits.dial_burst, filled: now });
        let gained = now.since(bucket.filled).as_nanos() / limits.dial_interval.as_nanos().max(1);
        if gained > 0 {
            let gained = u8::try_from(gained).unwrap_or(u8::MAX);
            bucket.dials = bucket.dials.saturating_add(gained).min(limits.dial_burst);
            bucket.filled = now;
        }
        let may = bucket.dials > 0;
        bucket.dials = bucket.dials.saturating_sub(1);
        may
    }

    /// The resolver has answered. Returns the dial to begin, or the failure to tell.
    pub fn handle_resolved(
        &mut self,
        host: &HostName,
        answer: &Result<Vec<SocketAddr>, ResolveError>,
        next_dial: &mut u64,
        rng: &mut fastrand::Rng,
    ) -> Option<Result<(DialId, SocketAddr), DeliveryFailure>> {
        let target = self.targets.get_mut(host).filter(|t| t.stage == Stage::Resolving)?;
        let addr = match answer {
            Ok(addresses) => rng.choice(addresses).copied(),
            Err(error) => {
                self.remove(host);
                return Some(Err(DeliveryFailure::Unresolved(error.clone())));
            }
        };
        let Some(mut addr) = addr else {
            self.remove(host);
            return Some(Err(DeliveryFailure::Unresolved(ResolveError::NoSuchName)));
        };
        if addr.port() == 0 {
            addr.set_port(self.limits.client_port);
        }
        let dial = DialId(*next_dial);
        *next_dial += 1;
        target.stage = Stage::Dialing;
        self.dials.insert(dial, host.clone());
        Some(Ok((dial, addr)))
    }

    /// A dial of ours has succeeded: to which host.
    pub fn handle_dialed(&mut self, dial: DialId) -> Option<HostName> {
        self.dials.remove(&dial)
    }

    /// A dial of ours has failed: to which host.
    pub fn handle_dial_failed(&mut self, dial: DialId) -> Option<HostName> {
        let host = self.dials.remove(&dial)?;
        self.remove(&host);
        Some(host)
    }

    /// Sends these messages to a host whose connection stands; without any the delivery has
    /// succeeded already, and `true` is returned.
    pub fn send<E>(
        &mut self,
        host: &HostName,
        conn: ConnId,
        messages: Vec<Outgoing>,
        out: &mut Outputs<E>,
    ) -> bool {
        if messages.is_empty() {
            out.push(Output::Close { conn, reason: CloseReason::Done });
            self.remove(host);
            return true;
        }
        let mut awaited = [None; 2];
        for message in messages {
            self.seq += 1;
            if let Some(lane) = awaited.get_mut(message.lane() as usize) {
                *lane = Some(self.seq);
            }
            let origin = Origin { name: self.name.clone(), epoch: self.epoch, seq: self.seq };
            let frame = Outgoing { target: Some(host.clone()), ..message }.seal(&origin, 0);
            out.push(Output::Send { conn, frame });
        }
        out.push(Output::Expect {
            conn,
            within: Some(self.limits.answer_timeout),
            reason: CloseReason::AnswerTimeout,
        });
        if let Some(target) = self.targets.get_mut(host) {
            target.stage = Stage::Sending(conn, awaited);
        }
        self.conns.insert(conn, host.clone());
        false
    }

    /// Whether this connection is one of ours.
    #[must_use]
    pub fn owns(&self, conn: ConnId) -> bool {
        self.conns.contains_key(&conn)
    }

    /// An ack or nack from a host; the result, once all is answered.
    pub fn handle_answer<E>(
        &mut self,
        conn: ConnId,
        frame: &Frame<'_>,
        out: &mut Outputs<E>,
    ) -> Option<(HostName, Result<(), DeliveryFailure>)> {
        let host = self.conns.get(&conn)?.clone();
        let header = &frame.header;
        if header.epoch != self.epoch {
            return None;
        }
        let result = match header.kind {
            Kind::ACK => {
                let Stage::Sending(_, awaited) = &mut self.targets.get_mut(&host)?.stage else {
                    return None;
                };
                if let Some(lane) = awaited.get_mut(header.lane as usize)
                    && lane.is_some_and(|seq| seq <= header.seq)
                {
                    *lane = None;
                }
                if awaited.iter().any(Option::is_some) {
                    return None;
                }
                Ok(())
            }
            Kind::NACK => Err(DeliveryFailure::Refused(Nack::decode(frame).ok()?.reason)),
            _ => return None,
        };
        self.conns.remove(&conn);
        out.push(match result {
            Ok(()) => Output::Hangup { conn },
            Err(_) => Output::Close { conn, reason: CloseReason::Done },
        });
        self.finish(&host);
        Some((host, result))
    }

    /// A connection of ours has ended before all was answered.
    pub fn handle_closed(&mut self, conn: ConnId) -> Option<HostName> {
        let host = self.conns.remove(&conn)?;
        self.finish(&host);
        Some(host)
    }

    fn finish(&mut self, host: &HostName) {
        let again = self.targets.get(host).is_some_and(|t| t.again);
        self.remove(host);
        if again {
            self.want(host);
        }
    }

    fn remove(&mut self, host: &HostName) {
        if let Some(target) = self.targets.remove(host)
            && target.stage != Stage::Queued
        {
            self.in_flight -= 1;
        }
    }
}
