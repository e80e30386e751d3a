//! What a node is made of, and what its role may ask of it.

use super::downstream::Downstream;
use super::fetching::Fetching;
use super::io::{CloseReason, Output, Request};
use super::outputs::Outputs;
use super::role::{NodeEvent, Outgoing};
use super::trail::Led;
use super::uplink::Uplink;
use crate::blob::{Blob, BlobCommand, Server};
use crate::delivery::{AcksDue, ExchangeId, Exchanges, Inbound, nack};
use crate::ids::{ConnId, DialId, HostName, IdMap, Origin};
use crate::limits::Limits;
use crate::metrics::Counter;
use crate::queue::inbox::Inbox;
use crate::queue::outbox::OutboxFull;
use crate::time::Now;
use crate::wire::{Body, FrameBuf, Header, NackReason};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

/// What a connection is for.
#[derive(Debug)]
pub(super) enum Link {
    /// A peer opened it.
    Inbound(Inbound),
    /// Our delivery to the parent.
    Uplink,
    /// Our delivery to a host.
    Downstream,
    /// Blobs come through it.
    Fetching,
    /// A request of our own.
    Exchange,
}

/// Counters of a node, or of all nodes of a process: what happened, by name.
#[derive(Debug, Default)]
pub struct NodeCounters {
    /// Messages of a class that does not come this way.
    pub wrong_direction: Counter,
    /// Messages that name no origin, or one that is no host name.
    pub malformed_origin: Counter,
    /// Messages for another host than this.
    pub misdelivered: Counter,
    /// Durable messages from hosts outside the inventory.
    pub unknown_host: Counter,
    /// Kinds and schemas that are not known here.
    pub unsupported: Counter,
    /// Bodies that are not what their kind says.
    pub damaged: Counter,
    /// Durable messages refused because the inbox was full.
    pub busy: Counter,
    /// Messages taken, of lanes that are not durable.
    pub received: Counter,
    /// Messages taken into the inbox.
    pub gathered: Counter,
    /// Durable messages that had come before.
    pub duplicates: Counter,
    /// Commits that failed.
    pub commits_failed: Counter,
    /// Downstream deliveries that succeeded.
    pub delivered: Counter,
    /// Downstream deliveries that failed.
    pub deliveries_failed: Counter,
    /// Refusals that were sent, by [`NackReason::index`].
    pub nacks: [Counter; NackReason::ALL.len()],
}

impl NodeCounters {
    /// All of them with their names.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let nacks = NackReason::ALL.map(|reason| {
            let name = match reason {
                NackReason::Busy => "nacks_busy",
                NackReason::Store => "nacks_store",
                NackReason::Unsupported => "nacks_unsupported",
                NackReason::Damaged => "nacks_damaged",
                NackReason::Refused => "nacks_refused",
                NackReason::Stopping => "nacks_stopping",
                NackReason::Unknown => "nacks_unknown",
                NackReason::Untrusted => "nacks_untrusted",
                NackReason::Expired => "nacks_expired",
                NackReason::Older => "nacks_older",
            };
            (name, self.nacks[reason.index()].value())
        });
        let others = [
            ("wrong_direction", self.wrong_direction.value()),
            ("malformed_origin", self.malformed_origin.value()),
            ("misdelivered", self.misdelivered.value()),
            ("unknown_host", self.unknown_host.value()),
            ("unsupported", self.unsupported.value()),
            ("damaged", self.damaged.value()),
            ("busy", self.busy.value()),
            ("received", self.received.value()),
            ("gathered", self.gathered.value()),
            ("duplicates", self.duplicates.value()),
            ("commits_failed", self.commits_failed.value()),
            ("delivered", self.delivered.value()),
            ("deliveries_failed", self.deliveries_failed.value()),
        ];
        others.into_iter().chain(nacks)
    }
}

/// What a node has to do before it has done with an input; empty between two inputs.
pub struct Queues<E> {
    /// What connections are owed for what was taken on them.
    pub(super) acks_due: Vec<AcksDue>,
    pub(super) out: Outputs<E>,
    /// What the role is to be told, each with the step of the trail at which it happened.
    pub(super) events: VecDeque<(u64, NodeEvent)>,
}

impl<E> Default for Queues<E> {
    fn default() -> Self {
        Self { acks_due: Vec::new(), out: Outputs::default(), events: VecDeque::new() }
    }
}

impl<E> Queues<E> {
    /// Queues that remember nothing of what happened: for whoever never tells of it.
    #[must_use]
    pub fn without_trail() -> Self {
        let mut queues = Self::default();
        queues.out.trail.remember(0);
        queues
    }

    /// The role is to be told this, once the node has done with its input.
    pub(super) fn happened(&mut self, event: NodeEvent) {
        self.events.push_back((self.out.trail.current(), event));
    }

    /// The same for several.
    pub(super) fn happened_all(&mut self, events: impl IntoIterator<Item = NodeEvent>) {
        events.into_iter().for_each(|event| self.happened(event));
    }

    /// Refuses the frame with this header, and counts that.
    pub(super) fn refuse(
        &mut self,
        conn: ConnId,
        refused: &Header,
        (reason, retry_after): (NackReason, Duration),
        counters: &NodeCounters,
    ) {
        counters.nacks[reason.index()].bump();
        self.out.push(Output::Send { conn, frame: nack(refused, reason, retry_after) });
    }

    fn is_empty(&self) -> bool {
        self.acks_due.is_empty() && self.out.is_empty() && self.events.is_empty()
    }
}

/// Something that is made when it is first needed, or lent by somebody who has one.
pub(super) struct Lent<T>(Option<Box<T>>);

impl<T> Default for Lent<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Default> Lent<T> {
    pub(super) fn get(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

/// A node without its role.
pub struct Parts<E> {
    /// This host's name.
    pub name: HostName,
    /// The way up, if there is one.
    pub uplink: Option<Box<Uplink>>,
    /// The way down, if there is one.
    pub downstream: Option<Box<Downstream>>,
    /// What was taken from others, if anything is.
    pub inbox: Option<Box<Inbox>>,
    /// The client's side of fetching, if it fetches.
    pub fetching: Option<Box<Fetching>>,
    /// The server's side of fetching, if it serves.
    pub server: Option<Box<Server>>,
    /// What happened; a load generator's thousands of nodes share them.
    pub counters: Arc<NodeCounters>,
    pub(super) exchanges: Lent<Exchanges>,
    pub(super) links: IdMap<ConnId, Link>,
    pub(super) queues: Lent<Queues<E>>,
    pub(super) rng: fastrand::Rng,
    pub(super) next_dial: u64,
}

impl<E> Parts<E> {
    /// How many connections there are for each use. It looks at all of them: for people, not for
    /// the loop.
    #[must_use]
    pub fn connections_by_use(&self) -> [(&'static str, u64); 5] {
        let count = |is: fn(&Link) -> bool| self.links.values().filter(|link| is(link)).count();
        [
            ("connections_inbound", count(|link| matches!(link, Link::Inbound(_))) as u64),
            ("connections_uplink", count(|link| matches!(link, Link::Uplink)) as u64),
            ("connections_downstream", count(|link| matches!(link, Link::Downstream)) as u64),
            ("connections_fetching", count(|link| matches!(link, Link::Fetching)) as u64),
            ("connections_exchange", count(|link| matches!(link, Link::Exchange)) as u64),
        ]
    }

    /// A node of this name that has no part yet; set those that its role needs.
    #[must_use]
    pub fn new(name: HostName, rng: fastrand::Rng) -> Self {
        Self {
            name,
            uplink: None,
            downstream: None,
            inbox: None,
            fetching: None,
            server: None,
            counters: Arc::default(),
            exchanges: Lent::default(),
            links: IdMap::default(),
            queues: Lent::default(),
            rng,
            next_dial: 1,
        }
    }

    /// Makes room for as many connections as these bounds say.
    pub fn reserve(&mut self, limits: &Limits) {
        self.links.reserve(limits.room());
    }

    /// Remembers so many steps of what happened, 80 bytes each, for the log of what fails
    /// ([`Context::trail`]); 0 for none.
    pub fn remember(&mut self, steps: usize) {
        self.queues.get().out.trail.remember(steps);
    }

    /// Works with these queues, if it has none.
    pub(super) fn lend(&mut self, queues: &mut Option<Box<Queues<E>>>) {
        if self.queues.0.is_none() {
            self.queues.0 = queues.take();
        }
    }

    /// Gives its queues away, if nothing is in them.
    pub(super) fn give_back(&mut self, queues: &mut Option<Box<Queues<E>>>) {
        if let Some(empty) = self.queues.0.take_if(|queues| queues.is_empty()) {
            queues.get_or_insert(empty);
        }
    }

    pub(super) fn new_dial(&mut self) -> DialId {
        let dial = DialId(self.next_dial);
        self.next_dial += 1;
        dial
    }
}

/// What a role may do while it handles something.
pub struct Context<'a, E> {
    /// The time of what is being handled.
    pub now: Now,
    /// The node.
    pub node: &'a mut Parts<E>,
}

impl<E> Context<'_, E> {
    /// Queues a message for the parent, on its kind's lane.
    ///
    /// # Errors
    /// [`OutboxFull`] if its lane is at its bound, or this node has no way up.
    #[track_caller]
    pub fn push_up<B: Body>(&mut self, body: &B) -> Result<Origin, OutboxFull> {
        let now = self.now;
        let Some(uplink) = &mut self.node.uplink else {
            return Err(OutboxFull { bytes: 0, limit: 0 });
        };
        let message = Outgoing::of(body);
        let (kind, lane) = (B::KIND, message.lane());
        let origin = uplink.outbox.push(message, now)?;
        self.node.queues.get().out.trail.queued(kind, lane, origin.seq, Location::caller());
        Ok(origin)
    }

    /// There is something for this host: dial it when its turn comes, and ask the role then.
    #[track_caller]
    pub fn want(&mut self, host: &HostName) {
        if let Some(downstream) = &mut self.node.downstream
            && downstream.want(host)
        {
            self.node.queues.get().out.trail.wanted(host, Location::caller());
        }
    }

    /// Answers a request, if whoever asked is still there.
    #[track_caller]
    pub fn reply<B: Body>(&mut self, conn: ConnId, body: &B) {
        self.reply_with(conn, FrameBuf::message(None, body, |_| {}));
    }

    /// Answers a request with a frame that others may be answered with too.
    #[track_caller]
    pub fn reply_with(&mut self, conn: ConnId, frame: FrameBuf) {
        // What a thread was asked may take longer than who asked waits.
        if self.node.links.contains_key(&conn) {
            self.node.queues.get().out.push(Output::Send { conn, frame });
        }
    }

    /// Closes a connection after what was sent on it.
    #[track_caller]
    pub fn close(&mut self, conn: ConnId) {
        self.node.queues.get().out.push(Output::Close { conn, reason: CloseReason::Done });
    }

    /// Keeps a connection open although nothing comes: an answer takes this long at most.
    #[track_caller]
    pub fn expect(&mut self, conn: ConnId, within: Duration) {
        let expect =
            Output::Expect { conn, within: Some(within), reason: CloseReason::IdleTimeout };
        self.node.queues.get().out.push(expect);
    }

    /// A command for one of the role's own threads.
    pub fn effect(&mut self, effect: E) {
        self.node.queues.get().out.push(Output::Request(Request::Role(effect)));
    }

    /// A command for the blob thread.
    pub fn blob(&mut self, command: BlobCommand) {
        self.node.queues.get().out.push(Output::Request(Request::Blob(command)));
    }

    /// Fetches these blobs from the parent; each is told as [`NodeEvent::Fetched`].
    pub fn fetch(&mut self, wanted: impl IntoIterator<Item = Blob>) {
        if let Some(fetching) = &mut self.node.fetching {
            fetching.fetcher.want(wanted);
        }
    }

    /// Asks the resolver; told as [`NodeEvent::Resolved`].
    #[track_caller]
    pub fn resolve(&mut self, name: HostName) {
        self.node.queues.get().out.push(Output::Request(Request::Resolve { name }));
    }

    /// Makes a request of class `Direct`; told as [`NodeEvent::Exchanged`]. The dial, and then the
    /// response, may take `timeout` each.
    #[track_caller]
    pub fn exchange(
        &mut self,
        addr: SocketAddr,
        request: FrameBuf,
        timeout: Duration,
    ) -> ExchangeId {
        let dial = self.node.new_dial();
        let id = ExchangeId(dial.0);
        self.node.exchanges.get().dialing(id, dial, request, timeout);
        self.node.queues.get().out.push(Output::Dial {
            dial,
            addr,
            from: None,
            timeout: Some(timeout),
        });
        id
    }

    /// What led to what is being handled, for a line of the log about a failure.
    pub fn trail(&mut self) -> Led {
        self.node.queues.get().out.trail.led()
    }

    /// The consumer has all records up to this number: they may go from the inbox.
    pub fn consumed(&mut self, upto: u64) {
        let now = self.now;
        if let Some(inbox) = &mut self.node.inbox {
            inbox.consumed(upto, now);
        }
    }

    /// A random number source.
    pub fn rng(&mut self) -> &mut fastrand::Rng {
        &mut self.node.rng
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Listener, PeerAddr};
    use crate::wire::message::StatusReq;

    #[test]
    fn an_answer_to_who_is_gone_is_none() {
        let name = "master".parse().unwrap();
        let mut parts: Parts<()> = Parts::new(name, fastrand::Rng::with_seed(1));
        let conn = ConnId::new(0, 1);
        let link = Link::Inbound(Inbound::new(PeerAddr::Unix { uid: 0 }, Listener::Control));
        let answers = |parts: &mut Parts<()>| {
            let mut cx = Context { now: Now::default(), node: parts };
            cx.reply(conn, &StatusReq { detail: 0 });
            std::iter::from_fn(|| parts.queues.get().out.pop()).count()
        };
        assert_eq!(answers(&mut parts), 0);
        parts.links.insert(conn, link);
        assert_eq!(answers(&mut parts), 1);
        parts.links.remove(&conn);
        assert_eq!(answers(&mut parts), 0);
    }
}
