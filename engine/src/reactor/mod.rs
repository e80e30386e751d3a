//! The event loop: readiness in, frames to a [`crate::node::io::Host`], bytes out.
//!
//! One thread, one [`Poller`], one host. A turn goes in one direction: sleep, note readiness,
//! accept, read and hand on frames, deadlines, mail, the host's own timer, outputs, write.
//! Everything in it is bounded, so that no peer makes the others wait.
//!
//! **A connection's story** is told to the host in this order: `Accepted` or `Dialed`; frames
//! and `Drained`; `Closed`, once. At that moment the connection has left the poller and the
//! table, and nothing bears its id any more. A failed dial has `DialFailed` alone.
//!
//! A peer that ends its half of a connection ends the connection: requests are answered on
//! connections that are kept open until the answer has come.

mod admission;
mod conn;
mod deadline;
mod dial;
mod listener;
mod mailbox;
mod metrics;
mod mio;
mod output;
pub mod poller;
mod reason;
mod recv;
mod send;
mod signal;
pub mod sim;
mod source;
#[cfg(test)]
mod tests;

pub use mailbox::Mailbox;
pub use metrics::{Metrics, STALL};
pub use mio::{MioListener, MioPoller, MioStream};
pub use signal::Signals;
pub use source::Source;

use crate::clock::Clock;
use crate::ids::{ConnId, DialId, IdMap};
use crate::limits::Limits;
use crate::node::io::{Host, Input, Mail, Services};
use crate::time::{Instant, Now};
use crate::wheel::Wheel;
use admission::Admission;
use conn::{Flags, Table};
use listener::{Accepting, Listening};
use poller::{Poller, Readiness, Token};
use send::SendQueue;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Mails taken in one turn.
const MAILS_MAX: usize = 256;
/// Connections whose readiness is noted in one turn: far more than are served in it, since to note
/// it costs little, and who is to be served first is not seen before.
const NOTED_MAX: usize = 1024;
/// Tokens below this are listeners, those above without a generation foreign descriptors.
const SOURCES: u64 = 1 << 16;
/// Bytes of the buffer that all reads share.
const SCRATCH_SIZE: usize = 64 * 1024;

/// Whether the loop goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// There will be more to do.
    Goes,
    /// The host has asked for the exit.
    Exits,
}

/// A host with sockets: it turns readiness into the host's inputs and its outputs into calls.
#[derive(Debug)]
pub struct Reactor<P: Poller, H: Host, S, C> {
    poller: P,
    host: H,
    services: S,
    clock: C,
    limits: Limits,
    metrics: Arc<Metrics>,
    conns: Table<P::Stream>,
    wheel: Wheel<ConnId>,
    /// Whose dials are under way; kept apart, since few connections are being made at a time.
    dials: IdMap<ConnId, DialId>,
    /// Connections on which reading or a connect may get on.
    ready: VecDeque<ConnId>,
    /// Those of them that bring commands: they have a share of each turn, whoever else waits.
    ready_control: VecDeque<ConnId>,
    /// Connections that have something to send and are not blocked.
    dirty: VecDeque<ConnId>,
    /// Empty send queues, kept for the next connection that has something to send.
    #[expect(
        clippy::vec_box,
        reason = "a connection holds its queue by one word, and takes it over boxed"
    )]
    spare: Vec<Box<SendQueue>>,
    listeners: Vec<Listening<P::Listener>>,
    listener_next: usize,
    listener_token_next: u64,
    /// Requests that may still be answered in this turn.
    requests_left: usize,
    accepting: Accepting,
    admission: Admission,
    mailbox: Mailbox<H::Mail>,
    sources: Vec<Box<dyn Source<H::Mail>>>,
    mails: Vec<Mail<H::Mail>>,
    events: Vec<Readiness>,
    scratch: Box<[u8]>,
    /// Outputs that this turn may still carry out.
    outputs_left: usize,
    exits: bool,
}

impl<M> std::fmt::Debug for dyn Source<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "descriptor {}", self.fd())
    }
}

impl<P: Poller, H: Host, S: Services<H::Effect>, C: Clock> Reactor<P, H, S, C> {
    /// A loop that has no listener yet. The mailbox is one made for this poller
    /// ([`Mailbox::new`]), so that the services could be given it before.
    #[must_use]
    pub fn new(
        poller: P,
        mailbox: Mailbox<H::Mail>,
        host: H,
        services: S,
        clock: C,
        limits: Limits,
    ) -> Self {
        let now = clock.now();
        let room = limits.room();
        Self {
            poller,
            host,
            services,
            clock,
            limits,
            metrics: Arc::default(),
            conns: Table::with_capacity(room),
            wheel: Wheel::with_capacity(now.at, room),
            dials: IdMap::default(),
            ready: VecDeque::new(),
            ready_control: VecDeque::new(),
            dirty: VecDeque::new(),
            spare: Vec::new(),
            listeners: Vec::new(),
            listener_next: 0,
            listener_token_next: 0,
            requests_left: limits.requests_budget,
            accepting: Accepting::default(),
            admission: Admission::new(&limits),
            mailbox,
            sources: Vec::new(),
            mails: Vec::new(),
            events: Vec::with_capacity(NOTED_MAX),
            scratch: vec![0; SCRATCH_SIZE].into(),
            outputs_left: 0,
            exits: false,
        }
    }

    /// Watches a descriptor of somebody else's, for instance [`Signals`].
    ///
    /// # Errors
    /// The descriptor cannot be polled (a regular file), or this poller has no descriptors.
    pub fn watch(&mut self, source: Box<dyn Source<H::Mail>>) -> io::Result<()> {
        self.poller.register_fd(source.fd(), Token(SOURCES + self.sources.len() as u64))?;
        self.sources.push(source);
        Ok(())
    }

    /// Where other threads leave mail for the host.
    #[must_use]
    pub fn mailbox(&self) -> Mailbox<H::Mail> {
        self.mailbox.clone()
    }

    /// What is counted here; readable from any thread.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &H {
        &self.host
    }

    /// The host, to be changed; its outputs are carried out in the next turn.
    pub fn host_mut(&mut self) -> &mut H {
        &mut self.host
    }

    /// The services.
    pub fn services_mut(&mut self) -> &mut S {
        &mut self.services
    }

    /// Connections now, dials under way included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.conns.len()
    }

    /// Timers that are armed: every connection has one, whatever it is doing.
    #[must_use]
    pub fn timers(&self) -> usize {
        self.wheel.len()
    }

    /// Ends the loop's life and gives back its host; all that is open is closed.
    pub fn into_host(mut self) -> H {
        self.close_listeners();
        for id in self.conns.ids().collect::<Vec<_>>() {
            if let Some(conn) = self.conns.remove(id) {
                self.poller.close(conn.stream);
            }
        }
        self.host
    }

    /// Turns until the host asks for the exit.
    ///
    /// # Errors
    /// The poller has failed for good.
    pub fn run(&mut self) -> io::Result<()> {
        while self.turn_within(None)? == Turn::Goes {}
        Ok(())
    }

    /// One turn that does not sleep.
    ///
    /// # Errors
    /// As [`Reactor::run`].
    pub fn turn(&mut self) -> io::Result<Turn> {
        self.turn_within(Some(Duration::ZERO))
    }

    /// One turn that sleeps at most this long (`None`: until there is something to do).
    ///
    /// # Errors
    /// As [`Reactor::run`].
    pub fn turn_within(&mut self, wait_max: Option<Duration>) -> io::Result<Turn> {
        self.outputs_left = self.limits.events_max.max(1) * 64;
        // What the host wants from the start, or left over last time, before the first sleep.
        let before = self.clock.now();
        self.end_turn(before);
        let latest = wait_max.map(|wait| before.at + wait);
        let deadline = match (self.next_deadline(before.at), latest) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.events.clear();
        self.poller.poll(&mut self.events, before.at, deadline)?;
        let now = self.clock.now();
        self.note_events();
        let pauses = self.metrics.accept_pauses.value();
        self.accept(now);
        if self.metrics.accept_pauses.value() != pauses {
            let full = self.conns.len() >= self.limits.connections_max;
            self.metrics.accepting_paused(now.at, full);
        }
        self.serve_ready(now);
        self.expire(now);
        self.take_mail(now);
        if self.host.next_timeout().is_some_and(|at| at <= now.at) {
            self.host.handle_timeout(now);
        }
        self.drain_outputs(now);
        self.flush(now);
        // Writing has told the host what drained and what ended.
        self.end_turn(now);
        let full = !self.ready.is_empty()
            || !self.dirty.is_empty()
            || self.outputs_left == 0
            || self.may_accept();
        self.metrics.turned(self.clock.now().at.since(now.at), full);
        Ok(if self.exits { Turn::Exits } else { Turn::Goes })
    }

    /// Carries out what is left, and what was gathered so that it goes at once.
    fn end_turn(&mut self, now: Now) {
        self.drain_outputs(now);
        self.host.end_turn(now);
        self.drain_outputs(now);
        self.services.hand_over();
    }

    /// When there is something to do even if nothing comes: now, while anything is left over.
    #[must_use]
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let left_over = !self.ready.is_empty()
            || !self.ready_control.is_empty()
            || !self.dirty.is_empty()
            || self.outputs_left == 0
            || self.exits
            || self.may_accept()
            || self.mailbox.is_waiting();
        if left_over {
            return Some(now);
        }
        [self.wheel.next_expiry(), self.host.next_timeout(), self.accepting.paused_until]
            .iter()
            .flatten()
            .min()
            .copied()
    }

    /// Notes who is ready, and does nothing yet: what one of a batch does may end another.
    fn note_events(&mut self) {
        for i in 0..self.events.len() {
            let Readiness { token, readable, writable, ended } = self.events[i];
            let id = ConnId(token.0);
            if id.generation() == 0 {
                self.note_fixed(token);
            } else if let Some(conn) = self.conns.of(id) {
                if readable {
                    conn.flags.set(Flags::READABLE);
                }
                if writable {
                    conn.flags.set(Flags::WRITABLE);
                }
                if ended {
                    conn.flags.set(Flags::ENDED);
                }
                self.queue(id);
            }
        }
    }

    fn note_fixed(&mut self, token: Token) {
        if token.0 >= SOURCES {
            let index = usize::try_from(token.0 - SOURCES).unwrap_or(usize::MAX);
            if let Some(source) = self.sources.get_mut(index) {
                source.drain(&mut self.mails);
            }
        } else {
            self.note_listener(token);
        }
    }

    fn take_mail(&mut self, now: Now) {
        if self.mailbox.is_waiting() {
            self.mailbox.take(MAILS_MAX, &mut self.mails);
        }
        let mut mails = std::mem::take(&mut self.mails);
        for mail in mails.drain(..) {
            self.metrics.mails.bump();
            self.host.handle_input(Input::Mail(mail), now);
        }
        self.mails = mails;
    }
}
