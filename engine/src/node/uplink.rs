//! The way up: one outbox, one parent, one delivery at a time.

use super::backoff::Backoff;
use super::bind::{ASK_AGAIN, Binding};
use super::io::{CloseReason, Output, Request, ResolveError};
use super::outputs::Outputs;
use crate::delivery::{ANSWER_TIMEOUT, Outbound, Stage};
use crate::ids::{ConnId, DialId, HostName};
use crate::queue::lanes::Message as Outgoing;
use crate::queue::outbox::Outbox;
use crate::time::{Instant, Now};
use crate::wire::message::{BindAck, BindReq};
use crate::wire::{Body, FLAG_BEHIND, Frame, Kind, Lane, Nack, NackReason};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Where a master is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MasterAddr {
    /// By name, with the port for addresses that come without one.
    Name(HostName, u16),
    /// At this address.
    Fixed(SocketAddr),
}

/// Why no parent takes what this node has to say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Its name has no address.
    #[error("the name {name} does not resolve: {error}")]
    Unresolved {
        /// The name.
        name: HostName,
        /// What the resolver says.
        error: ResolveError,
    },
    /// No connection comes about, or none lasts.
    #[error("{parent}: {}", reason.describe())]
    Unreachable {
        /// Its address.
        parent: SocketAddr,
        /// What the last attempt ended with.
        reason: CloseReason,
    },
}

/// What happened on the way up, for the role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UplinkEvent {
    /// An ack said that there is something for this host that could not be brought to it.
    Behind,
    /// The parent has all of a lane up to this number.
    Acked {
        /// The lane.
        lane: Lane,
        /// The outbox's incarnation.
        epoch: crate::ids::Epoch,
        /// The highest number.
        seq: u64,
    },
    /// A message will never be taken, and was set aside.
    Quarantined {
        /// Its number.
        seq: u64,
        /// Why.
        reason: NackReason,
    },
    /// No parent can be reached.
    Unbound(Trouble),
    /// The parent does not know this host: it is not in the inventory.
    Unknown {
        /// Where it is.
        parent: SocketAddr,
    },
    /// It does now.
    Known,
    /// The parent has answered.
    Bound {
        /// Where it is.
        parent: SocketAddr,
    },
}

/// A client's way to its parent.
#[derive(Debug)]
pub struct Uplink {
    masters: Arc<[MasterAddr]>,
    from: Option<IpAddr>,
    version: Arc<str>,
    /// What waits to be delivered.
    pub outbox: Outbox,
    binding: Binding,
    /// The name being resolved, and the port for addresses that come without one.
    resolving: Option<Box<(HostName, u16)>>,
    failed: Option<Box<SocketAddr>>,
    delivery: Option<Outbound>,
    backoff: Backoff,
    /// How long an answer to `BindReq` is waited for.
    asking: Backoff,
    /// Dial and ask no earlier than this.
    not_before: Option<Instant>,
    /// The parent has said that it does not know this host.
    is_unknown: bool,
}

/// First and longest wait after a failed delivery.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(300));

/// The address to dial from, where it leads there: to addresses of its own kind, and a loopback
/// address to others alone.
pub(super) fn source_for(addr: SocketAddr, from: Option<IpAddr>) -> Option<IpAddr> {
    from.filter(|from| {
        (from.is_ipv4(), from.is_loopback()) == (addr.is_ipv4(), addr.ip().is_loopback())
    })
}

impl Uplink {
    /// A way to one of these masters; `from` is the address to dial from, if it matters. One of
    /// this machine's own reaches this machine alone.
    #[must_use]
    pub fn new(
        masters: impl Into<Arc<[MasterAddr]>>,
        from: Option<IpAddr>,
        version: impl Into<Arc<str>>,
        outbox: Outbox,
    ) -> Self {
        Self {
            masters: masters.into(),
            from,
            version: version.into(),
            outbox,
            binding: Binding::Unbound,
            resolving: None,
            failed: None,
            delivery: None,
            backoff: BACKOFF,
            asking: ASK_AGAIN,
            not_before: None,
            is_unknown: false,
        }
    }

    /// Waits like this after a failed delivery, and not as clients do.
    pub fn set_backoff(&mut self, backoff: Backoff) {
        self.backoff = backoff;
    }

    /// Which parent it delivers to, and whether that one has answered.
    #[must_use]
    pub fn binding(&self) -> Binding {
        self.binding
    }

    /// Waits at least this long before it dials: a splay, so that a crowd that was started
    /// together does not dial together.
    pub fn hold_off(&mut self, wait: Duration, now: Now) {
        self.not_before = Some(now.at + wait);
    }

    /// Whether this connection is its delivery.
    #[must_use]
    pub fn owns(&self, conn: ConnId) -> bool {
        self.delivery.is_some_and(|d| d.conn() == Some(conn))
    }

    /// The resolver has answered for this name.
    pub fn handle_resolved(
        &mut self,
        name: &HostName,
        answer: Result<&[SocketAddr], &ResolveError>,
        rng: &mut fastrand::Rng,
        now: Now,
    ) -> Option<UplinkEvent> {
        let (_, port) = *self.resolving.take_if(|asked| asked.0 == *name)?;
        let error = match answer {
            Ok(found) if !found.is_empty() => {
                let with_port = |a: &SocketAddr| {
                    SocketAddr::new(a.ip(), if a.port() == 0 { port } else { a.port() })
                };
                let found: Vec<_> = found.iter().map(with_port).collect();
                self.ask(&found, rng, now);
                return None;
            }
            Ok(_) => ResolveError::NoSuchName,
            Err(error) => error.clone(),
        };
        self.not_before = Some(now.at + self.backoff.failed(rng));
        Some(UplinkEvent::Unbound(Trouble::Unresolved { name: name.clone(), error }))
    }

    /// Something came that only a parent sends that knows this host.
    pub fn handle_known(&mut self, now: Now) -> Option<UplinkEvent> {
        self.outbox.handle_known();
        if !std::mem::take(&mut self.is_unknown) {
            return None;
        }
        // What it was asked before it knew, it has refused.
        self.doubt_answer(now);
        Some(UplinkEvent::Known)
    }

    /// What was asked is probably lost: it is asked again with the next delivery.
    fn doubt_answer(&mut self, now: Now) {
        if let Binding::Asked { until, .. } = &mut self.binding {
            *until = now.at;
        }
    }

    fn on_unknown(&mut self) -> Option<UplinkEvent> {
        let parent = self.binding.parent()?;
        let is_news = !std::mem::replace(&mut self.is_unknown, true);
        is_news.then_some(UplinkEvent::Unknown { parent })
    }

    fn ask(&mut self, addresses: &[SocketAddr], rng: &mut fastrand::Rng, now: Now) {
        let Some(parent) = Binding::pick(addresses, self.failed.as_deref().copied(), rng) else {
            return;
        };
        self.binding = Binding::Asked { parent, nonce: rng.u64(1..), until: now.at };
        self.asking = ASK_AGAIN;
        self.outbox.rebound();
        self.ask_again(rng, now);
    }

    /// Asks the same parent with the same nonce: an answer that was only late still counts.
    fn ask_again(&mut self, rng: &mut fastrand::Rng, now: Now) {
        let Binding::Asked { nonce, until, .. } = &mut self.binding else { return };
        *until = now.at + self.asking.failed(rng);
        let nonce = *nonce;
        let request = BindReq { nonce, version: self.version.to_string() };
        self.push_urgent(&request, now);
    }

    fn push_urgent<B: Body>(&mut self, body: &B, now: Now) {
        let pushed = self.outbox.push(Outgoing::of(body), now);
        debug_assert!(pushed.is_ok(), "only the durable lane can be full");
    }

    /// A `BindResp` has come.
    pub fn handle_bind_resp(&mut self, nonce: u64, now: Now) -> Option<UplinkEvent> {
        if !self.binding.answered(nonce) {
            return None;
        }
        self.failed = None;
        let parent = self.binding.parent()?;
        self.push_urgent(&BindAck { nonce, parent: String::new() }, now);
        Some(UplinkEvent::Bound { parent })
    }

    /// The dial has succeeded, if it is this one's.
    pub fn handle_dialed<E>(
        &mut self,
        dial: DialId,
        conn: ConnId,
        now: Now,
        out: &mut Outputs<E>,
    ) -> bool {
        match &mut self.delivery {
            Some(delivery) if delivery.stage() == Stage::Dialing(dial) => {
                delivery.dialed(conn, now.at);
                self.outbox.begin();
                out.push(Output::Expect {
                    conn,
                    within: Some(ANSWER_TIMEOUT),
                    reason: CloseReason::AnswerTimeout,
                });
                true
            }
            _ => false,
        }
    }

    /// The dial has failed, if it is this one's: the parent is unreachable.
    pub fn handle_dial_failed(
        &mut self,
        dial: DialId,
        reason: CloseReason,
        rng: &mut fastrand::Rng,
        now: Now,
    ) -> Option<UplinkEvent> {
        if self.delivery?.stage() != Stage::Dialing(dial) {
            return None;
        }
        self.delivery = None;
        self.on_unreachable(reason, rng, now)
    }

    /// The delivery's connection has ended.
    pub fn handle_closed(
        &mut self,
        conn: ConnId,
        reason: CloseReason,
        rng: &mut fastrand::Rng,
        now: Now,
    ) -> Option<UplinkEvent> {
        if !self.owns(conn) {
            return None;
        }
        self.delivery = None;
        let unfinished = self.outbox.in_flight() > 0;
        self.outbox.end();
        if reason == CloseReason::Done && !unfinished {
            return None;
        }
        self.doubt_answer(now);
        // A parent that takes connections but acks nothing is as good as gone after a while.
        if self.backoff.failures() >= 2 {
            return self.on_unreachable(reason, rng, now);
        }
        self.not_before = Some(now.at + self.backoff.failed(rng));
        None
    }

    fn on_unreachable(
        &mut self,
        reason: CloseReason,
        rng: &mut fastrand::Rng,
        now: Now,
    ) -> Option<UplinkEvent> {
        let failed = self.binding.parent();
        self.failed = failed.map(Box::new);
        self.binding = Binding::Unbound;
        self.outbox.handle_unreachable();
        self.not_before = Some(now.at + self.backoff.failed(rng));
        failed.map(|parent| UplinkEvent::Unbound(Trouble::Unreachable { parent, reason }))
    }

    /// An ack or nack on the delivery's connection.
    pub fn handle_answer(&mut self, frame: &Frame<'_>, now: Now) -> [Option<UplinkEvent>; 3] {
        let header = &frame.header;
        match header.kind {
            Kind::ACK => {
                self.backoff.succeeded();
                self.outbox.handle_ack(header.lane, header.epoch, header.seq);
                let behind = header.flags & FLAG_BEHIND != 0;
                let acked =
                    UplinkEvent::Acked { lane: header.lane, epoch: header.epoch, seq: header.seq };
                // A durable one may have been taken before the inventory lost this host.
                let known = match header.lane {
                    Lane::Volatile => self.handle_known(now),
                    Lane::Urgent | Lane::Durable => None,
                };
                [known, Some(acked), behind.then_some(UplinkEvent::Behind)]
            }
            Kind::NACK => {
                let Ok(nack) = Nack::decode(frame) else { return [const { None }; 3] };
                if nack.turns_away(header) {
                    self.on_turned_away(nack.retry_after, now);
                    return [const { None }; 3];
                }
                self.outbox.handle_nack(header.lane, header.epoch, header.seq, &nack, now);
                if let Some(delivery) = &mut self.delivery {
                    // What is under way before the refused frame may still be acked.
                    delivery.drain();
                }
                let unknown = nack.reason == NackReason::Unknown;
                [
                    nack.settles().then_some(UplinkEvent::Quarantined {
                        seq: header.seq,
                        reason: nack.reason,
                    }),
                    if unknown { self.on_unknown() } else { None },
                    None,
                ]
            }
            _ => [const { None }; 3],
        }
    }

    /// The parent has no room for this connection, and has said when it will: nothing that was
    /// sent on it was looked at, and nothing is wrong with the parent.
    fn on_turned_away(&mut self, wait: Duration, now: Now) {
        self.outbox.end();
        if let Some(delivery) = &mut self.delivery {
            delivery.drain();
        }
        self.not_before = self.not_before.max(Some(now.at + wait));
    }

    /// Goes on with whatever can go on: called after everything that happened.
    pub fn advance<E>(
        &mut self,
        next_dial: &mut u64,
        rng: &mut fastrand::Rng,
        now: Now,
        out: &mut Outputs<E>,
    ) {
        if self.not_before.is_some_and(|at| at <= now.at) {
            self.not_before = None;
        }
        let waiting = self.not_before.is_some();
        match self.binding {
            Binding::Unbound if !waiting && self.resolving.is_none() => {
                let failed = self.failed.as_deref().copied().map(MasterAddr::Fixed);
                let fresh: Vec<_> =
                    self.masters.iter().filter(|m| Some(*m) != failed.as_ref()).collect();
                match rng.choice(fresh).or_else(|| rng.choice(&*self.masters)).cloned() {
                    Some(MasterAddr::Name(name, port)) => {
                        self.resolving = Some(Box::new((name.clone(), port)));
                        out.push(Output::Request(Request::Resolve { name }));
                    }
                    Some(MasterAddr::Fixed(addr)) => self.ask(&[addr], rng, now),
                    None => {}
                }
            }
            Binding::Asked { until, .. } if until <= now.at => self.ask_again(rng, now),
            _ => {}
        }
        self.deliver(now, out);
        if self.delivery.is_none()
            && !waiting
            && let Some(addr) = self.binding.parent()
            && self.outbox.is_due(now.at)
        {
            let dial = DialId(*next_dial);
            *next_dial += 1;
            self.delivery = Some(Outbound::dialing(dial, now.at));
            let from = source_for(addr, self.from);
            out.push_up(Output::Dial { dial, addr, from, timeout: None });
        }
        while let Some(command) = self.outbox.poll_command(now) {
            out.push(Output::Request(Request::Store(command)));
        }
    }

    /// Sends what the window has room for, and ends the delivery once all is acked.
    fn deliver<E>(&mut self, now: Now, out: &mut Outputs<E>) {
        let Some(delivery) = &mut self.delivery else { return };
        let Some(conn) = delivery.conn() else { return };
        while delivery.may_send(now.at) {
            let Some(frame) = self.outbox.poll_frame(now) else { break };
            delivery.sent();
            out.push(Output::Send { conn, frame });
        }
        let draining = matches!(delivery.stage(), Stage::Draining(_));
        if self.outbox.in_flight() == 0 && (draining || !self.outbox.is_due(now.at)) {
            out.push(match draining {
                // The peer may have refused a frame, and have more to say.
                true => Output::Close { conn, reason: CloseReason::Done },
                false => Output::Hangup { conn },
            });
            self.outbox.end();
            self.delivery = None;
        }
    }

    /// When to call [`Uplink::advance`] although nothing happened.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let asked = match self.binding {
            Binding::Asked { until, .. } => Some(until),
            _ => None,
        };
        [self.not_before, asked, self.outbox.next_timeout()].iter().flatten().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_dials_does_so_from_an_address_that_leads_there() {
        let own = |from: &str| Some(from.parse::<IpAddr>().unwrap());
        for (to, from, leads) in [
            ("192.0.2.1:1", "192.0.2.9", true),
            ("127.0.0.1:1", "127.0.0.9", true),
            ("127.0.0.1:1", "192.0.2.9", false),
            ("192.0.2.1:1", "127.0.0.9", false),
            ("[2001:db8::1]:1", "192.0.2.9", false),
            ("[::1]:1", "127.0.0.9", false),
            ("[2001:db8::1]:1", "2001:db8::9", true),
        ] {
            let expected = own(from).filter(|_| leads);
            assert_eq!(source_for(to.parse().unwrap(), own(from)), expected, "{to} from {from}");
        }
    }
}
