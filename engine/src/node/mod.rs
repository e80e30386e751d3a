//! A node: what happens between frames in and frames out, without sockets, clocks or threads.
//!
//! [`Node`] owns its parts (the way up, the way down, inbox, fetching, serving) and its role.
//! Each part is told what happened by `handle_*` and goes on in `advance`; what it asks of the
//! world it appends to one list of [`io::Output`]s. `dispatch.rs` sorts incoming frames.

mod backoff;
mod bind;
mod dispatch;
mod downstream;
mod fetching;
pub mod io;
mod outputs;
mod parts;
mod role;
mod trail;
mod uplink;

pub use backoff::Backoff;
pub use bind::Binding;
pub use downstream::{Downstream, DownstreamLimits};
pub use fetching::Fetching;
pub use outputs::Outputs;
pub use parts::{Context, NodeCounters, Parts, Queues};
pub use role::{DeliveryFailure, ExchangeFailure, Handled, Message, NodeEvent, Outgoing, Role};
pub use trail::Led;
pub use uplink::{MasterAddr, Trouble, Uplink, UplinkEvent};

use crate::ids::{ConnId, DialId};
use crate::time::{Instant, Now};
use crate::wire::Frame;
use io::{CloseReason, Host, Input, Mail, Output, Request, Verdict};
use parts::Link;
use std::time::Duration;

/// How long a node that stops waits for what is under way, before it exits all the same.
/// Nothing durable depends on it: what is not acked is offered again.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Running,
    Stopping { until: Option<Instant> },
    Exited,
}

/// A node with its role.
pub struct Node<R: Role> {
    parts: Parts<R::Effect>,
    role: R,
    life: Life,
    now: Now,
    /// Nothing has happened since every part had gone as far as it could.
    is_at_rest: bool,
}

impl<R: Role> Node<R> {
    /// A node of these parts.
    #[must_use]
    pub fn new(parts: Parts<R::Effect>, role: R) -> Self {
        Self { parts, role, life: Life::Running, now: Now::default(), is_at_rest: false }
    }

    /// Its role.
    #[must_use]
    pub fn role(&self) -> &R {
        &self.role
    }

    /// Its parts.
    #[must_use]
    pub fn parts(&self) -> &Parts<R::Effect> {
        &self.parts
    }

    /// Lets its role do something, from outside of any event.
    pub fn with_role<T>(
        &mut self,
        now: Now,
        act: impl FnOnce(&mut R, &mut Context<'_, R::Effect>) -> T,
    ) -> T {
        self.happens(now);
        act(&mut self.role, &mut Context { now, node: &mut self.parts })
    }

    /// Gives back the memory that its list of connections took for those that are over: for a
    /// process that has thousands of nodes, most of which have none most of the time.
    pub fn shrink(&mut self) {
        self.parts.links.shrink_to_fit();
    }

    /// Works with these queues until they are given back: of a process that has thousands of
    /// nodes, one works at a time.
    pub fn lend(&mut self, queues: &mut Option<Box<Queues<R::Effect>>>) {
        self.parts.lend(queues);
    }

    /// Gives back what was lent, once all its outputs were taken.
    pub fn give_back(&mut self, queues: &mut Option<Box<Queues<R::Effect>>>) {
        self.parts.give_back(queues);
    }

    /// Something happens at this time.
    fn happens(&mut self, now: Now) {
        self.now = now;
        self.is_at_rest = false;
    }

    fn tell(&mut self, event: NodeEvent) {
        self.role.handle_event(event, &mut Context { now: self.now, node: &mut self.parts });
    }

    fn on_dialed(&mut self, dial: DialId, conn: ConnId) {
        let parts = &mut self.parts;
        if let Some(uplink) = &mut parts.uplink
            && uplink.handle_dialed(dial, conn, self.now, &mut parts.queues.get().out)
        {
            parts.links.insert(conn, Link::Uplink);
        } else if let Some(fetching) = &mut parts.fetching
            && fetching.handle_dialed(dial, conn)
        {
            parts.links.insert(conn, Link::Fetching);
        } else if let Some(host) = parts.downstream.as_mut().and_then(|d| d.handle_dialed(dial)) {
            parts.links.insert(conn, Link::Downstream);
            let mut cx = Context { now: self.now, node: &mut self.parts };
            let messages = self.role.compose(&host, &mut cx);
            let parts = &mut self.parts;
            if let Some(downstream) = &mut parts.downstream
                && downstream.send(&host, conn, messages, &mut parts.queues.get().out)
            {
                parts.queues.get().happened(NodeEvent::Delivered { host, result: Ok(()) });
            }
        } else if let Some((frame, within)) = parts.exchanges.get().dialed(dial, conn) {
            parts.links.insert(conn, Link::Exchange);
            parts.queues.get().out.push(Output::Send { conn, frame });
            let (within, reason) = (Some(within), CloseReason::AnswerTimeout);
            parts.queues.get().out.push(Output::Expect { conn, within, reason });
        } else {
            // Whoever asked for it is gone.
            parts.queues.get().out.push(Output::Close { conn, reason: CloseReason::Done });
        }
    }

    fn on_dial_failed(&mut self, dial: DialId, reason: CloseReason) {
        let (parts, now) = (&mut self.parts, self.now);
        if let Some(uplink) = &mut parts.uplink
            && let Some(event) = uplink.handle_dial_failed(dial, reason, &mut parts.rng, now)
        {
            parts.queues.get().happened(event.into());
        } else if let Some(fetching) = &mut parts.fetching
            && fetching.handle_dial_failed(dial, now)
        {
        } else if let Some(host) =
            parts.downstream.as_mut().and_then(|d| d.handle_dial_failed(dial))
        {
            let result = Err(DeliveryFailure::Connection(reason));
            parts.queues.get().happened(NodeEvent::Delivered { host, result });
        } else if let Some(id) = parts.exchanges.get().dial_failed(dial) {
            let response = Err(ExchangeFailure::Dial(reason));
            parts.queues.get().happened(NodeEvent::Exchanged { id, response });
        }
    }

    fn on_closed(&mut self, conn: ConnId, reason: CloseReason) {
        let (parts, now) = (&mut self.parts, self.now);
        match parts.links.remove(&conn) {
            Some(Link::Inbound(_)) => {
                if let Some(inbox) = &mut parts.inbox {
                    inbox.conn_closed(conn);
                }
                if let Some(server) = &mut parts.server {
                    server.closed(conn);
                }
                parts.queues.get().happened(NodeEvent::Closed { conn });
            }
            Some(Link::Uplink) => {
                if let Some(uplink) = &mut parts.uplink
                    && let Some(event) = uplink.handle_closed(conn, reason, &mut parts.rng, now)
                {
                    parts.queues.get().happened(event.into());
                }
            }
            Some(Link::Fetching) => {
                if let Some(fetching) = &mut parts.fetching {
                    fetching.handle_closed(conn, now);
                }
            }
            Some(Link::Downstream) => {
                if let Some(host) = parts.downstream.as_mut().and_then(|d| d.handle_closed(conn)) {
                    let result = Err(DeliveryFailure::Connection(reason));
                    parts.queues.get().happened(NodeEvent::Delivered { host, result });
                }
            }
            Some(Link::Exchange) => {
                if let Some(id) = parts.exchanges.get().finished(conn) {
                    let response = Err(ExchangeFailure::Response(reason));
                    parts.queues.get().happened(NodeEvent::Exchanged { id, response });
                }
            }
            None => {}
        }
    }

    fn on_mail(&mut self, mail: Mail<R::Mail>) {
        let (parts, now) = (&mut self.parts, self.now);
        match mail {
            Mail::Resolved { name, answer } => {
                if let Some(uplink) = &mut parts.uplink {
                    let found = answer.as_deref();
                    let told = uplink.handle_resolved(&name, found, &mut parts.rng, now);
                    parts.queues.get().happened_all(told.map(NodeEvent::from));
                }
                if let Some(downstream) = &mut parts.downstream {
                    match downstream.handle_resolved(
                        &name,
                        &answer,
                        &mut parts.next_dial,
                        &mut parts.rng,
                    ) {
                        Some(Ok((dial, addr))) => {
                            parts.queues.get().out.push(Output::Dial {
                                dial,
                                addr,
                                from: None,
                                timeout: None,
                            });
                        }
                        Some(Err(failure)) => {
                            let result = Err(failure);
                            parts
                                .queues
                                .get()
                                .happened(NodeEvent::Delivered { host: name.clone(), result });
                        }
                        None => {}
                    }
                }
                self.tell(NodeEvent::Resolved { name, answer });
            }
            Mail::Store(event) => {
                // One log a node: a client's is its outbox, a master's its inbox.
                if let Some(uplink) = &mut parts.uplink {
                    uplink.outbox.handle_store(event, now);
                } else if let Some(inbox) = &mut parts.inbox {
                    inbox.handle_store(event, now);
                }
            }
            Mail::Blob(event) => {
                if let Some(fetching) = &mut parts.fetching {
                    fetching.fetcher.handle_blob(&event);
                }
                if let Some(server) = &mut parts.server {
                    server.handle_blob(&event, now);
                }
                self.tell(NodeEvent::Blob(event));
            }
            Mail::Stop if self.life == Life::Running => {
                let until = self.role.stop_timeout().map(|wait| now.at + wait);
                self.life = Life::Stopping { until };
                parts.queues.get().out.push(Output::StopListening);
                self.tell(NodeEvent::Stop);
            }
            Mail::Stop => self.tell(NodeEvent::StopNow),
            Mail::Reload => self.tell(NodeEvent::Reload),
            Mail::Role(mail) => {
                self.role.handle_mail(mail, &mut Context { now, node: &mut self.parts });
            }
        }
    }

    /// Lets every part go on, until none has anything to say.
    fn advance(&mut self) {
        loop {
            self.parts.queues.get().out.trail.go_on_with(0);
            self.advance_parts();
            let Some((step, event)) = self.parts.queues.get().events.pop_front() else { break };
            self.parts.queues.get().out.trail.go_on_with(step);
            if let NodeEvent::Delivered { result, .. } = &event {
                let counters = &self.parts.counters;
                match result {
                    Ok(()) => counters.delivered.bump(),
                    Err(_) => counters.deliveries_failed.bump(),
                }
            }
            self.tell(event);
        }
        if let Life::Stopping { until } = self.life
            && (self.is_settled() || until.is_some_and(|at| at <= self.now.at))
        {
            self.life = Life::Exited;
            self.parts.queues.get().out.push(Output::Exit);
        }
    }

    fn advance_parts(&mut self) {
        let (parts, now) = (&mut self.parts, self.now);
        let Queues { acks_due, out, .. } = parts.queues.get();
        for acks in acks_due.drain(..) {
            let conn = acks.conn();
            if parts.links.contains_key(&conn) {
                for frame in acks.frames() {
                    out.push(Output::Send { conn, frame });
                }
            }
        }
        if let Some(uplink) = &mut parts.uplink {
            uplink.advance(&mut parts.next_dial, &mut parts.rng, now, &mut parts.queues.get().out);
        }
        if let Some(fetching) = &mut parts.fetching {
            let parent = parts.uplink.as_ref().and_then(|uplink| uplink.binding().parent());
            let told =
                fetching.advance(parent, &mut parts.next_dial, now, &mut parts.queues.get().out);
            parts.queues.get().happened_all(told.into_iter().map(NodeEvent::Fetched));
        }
        if let Some(downstream) = &mut parts.downstream {
            let (resolve, failed) = downstream.advance(now);
            let queues = parts.queues.get();
            for name in resolve {
                queues.out.push(Output::Request(Request::Resolve { name }));
            }
            for (host, why) in failed {
                queues.happened(NodeEvent::Delivered { host, result: Err(why) });
            }
        }
        dispatch::advance_inbox(parts, now);
        dispatch::advance_server(parts);
    }

    fn is_settled(&self) -> bool {
        let parts = &self.parts;
        self.role.is_finished()
            && parts.inbox.as_ref().is_none_or(|inbox| inbox.is_idle())
            && parts.uplink.as_ref().is_none_or(|uplink| uplink.outbox.is_committed())
            && parts.downstream.as_ref().is_none_or(|downstream| downstream.in_flight() == 0)
    }
}

/// Whoever stands around a node can be asked for it, and so can the node itself.
impl<R: Role> AsMut<Node<R>> for Node<R> {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

impl<R: Role> Host for Node<R> {
    type Mail = R::Mail;
    type Effect = R::Effect;

    fn handle_input(&mut self, input: Input<R::Mail>, now: Now) {
        self.happens(now);
        self.parts.queues.get().out.trail.input(&input, now.at);
        match input {
            Input::Accepted { conn, listener, peer, .. } => {
                self.parts
                    .links
                    .insert(conn, Link::Inbound(crate::delivery::Inbound::new(peer, listener)));
            }
            Input::Dialed { dial, conn } => self.on_dialed(dial, conn),
            Input::DialFailed { dial, reason } => self.on_dial_failed(dial, reason),
            Input::Drained { conn } => {
                if let Some(server) = &mut self.parts.server {
                    server.drained(conn);
                }
            }
            Input::Closed { conn, reason } => self.on_closed(conn, reason),
            Input::Mail(mail) => self.on_mail(mail),
        }
    }

    fn handle_frame(&mut self, conn: ConnId, frame: Frame<'_>, now: Now) -> Verdict {
        self.happens(now);
        self.parts.queues.get().out.trail.frame(conn, &frame.header, now.at);
        self.sort(conn, frame)
    }

    fn handle_timeout(&mut self, now: Now) {
        self.happens(now);
        self.parts.queues.get().out.trail.timeout(now.at);
        if self.role.next_timeout().is_some_and(|at| at <= now.at) {
            self.role.handle_timeout(&mut Context { now, node: &mut self.parts });
        }
    }

    fn end_turn(&mut self, now: Now) {
        self.happens(now);
        dispatch::hand_over_inbox(&mut self.parts, now);
    }

    fn next_timeout(&self) -> Option<Instant> {
        let parts = &self.parts;
        let life = match self.life {
            Life::Stopping { until } => until,
            _ => None,
        };
        [
            life,
            self.role.next_timeout(),
            parts.uplink.as_ref().and_then(|uplink| uplink.next_timeout()),
            parts.fetching.as_ref().and_then(|fetching| fetching.next_timeout()),
            parts.inbox.as_ref().and_then(|inbox| inbox.next_timeout()),
        ]
        .iter()
        .flatten()
        .min()
        .copied()
    }

    fn trail(&mut self) -> String {
        self.parts.queues.get().out.trail.led().to_string()
    }

    fn poll_output(&mut self) -> Option<Output<R::Effect>> {
        if self.parts.queues.get().out.is_empty() {
            if !self.is_at_rest {
                self.advance();
                self.is_at_rest = true;
            } else if cfg!(debug_assertions) {
                self.advance();
                debug_assert!(self.parts.queues.get().out.is_empty(), "it was said to be at rest");
            }
        }
        self.parts.queues.get().out.pop()
    }
}

impl From<UplinkEvent> for NodeEvent {
    fn from(event: UplinkEvent) -> Self {
        match event {
            UplinkEvent::Behind => Self::Behind,
            UplinkEvent::Acked { lane, epoch, seq } => Self::Acked { lane, epoch, seq },
            UplinkEvent::Quarantined { seq, reason } => Self::Quarantined { seq, reason },
            UplinkEvent::Unbound(trouble) => Self::Unbound(trouble),
            UplinkEvent::Unknown { parent } => Self::Unknown { parent },
            UplinkEvent::Known => Self::Known,
            UplinkEvent::Bound { parent } => Self::Bound { parent },
        }
    }
}
