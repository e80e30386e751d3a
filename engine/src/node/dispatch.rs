//! Sorts frames: answers to what this node sent, messages from peers, requests. And the two
//! parts that answer peers later: the inbox after its commit, the server chunk by chunk.

use super::io::{CloseReason, Listener, Output, Request, Verdict};
use super::parts::{Context, Link, Parts};
use super::role::{Handled, Message, NodeEvent, Role};
use super::{Life, Node};
use crate::blob::ServeOutput;
use crate::delivery::{AcksDue, ack};
use crate::ids::ConnId;
use crate::queue::inbox::Offer;
use crate::time::Now;
use crate::wire::message::{BindResp, FetchReq};
use crate::wire::{Class, Frame, Header, Kind, Lane, NackReason, WireError, access};
use std::time::Duration;

/// When a host that is not in the inventory may offer its durable messages again: nothing of
/// it is lost should the operator add it.
const UNKNOWN_RETRY: Duration = Duration::from_secs(600);

impl<R: Role> Node<R> {
    pub(super) fn sort(&mut self, conn: ConnId, frame: Frame<'_>) -> Verdict {
        let (parts, now) = (&mut self.parts, self.now);
        match parts.links.get(&conn) {
            Some(Link::Inbound(_)) => self.on_inbound(conn, frame),
            Some(Link::Uplink) => {
                if let Some(uplink) = &mut parts.uplink {
                    let events = uplink.handle_answer(&frame, now);
                    parts
                        .queues
                        .get()
                        .happened_all(events.into_iter().flatten().map(NodeEvent::from));
                }
                Verdict::Taken
            }
            Some(Link::Fetching) => {
                match parts
                    .fetching
                    .as_mut()
                    .map_or(Ok(()), |fetching| fetching.handle_frame(&frame, now))
                {
                    Ok(()) => Verdict::Taken,
                    Err(error) => self.broken(conn, error),
                }
            }
            Some(Link::Downstream) => {
                if let Some((host, result)) = parts
                    .downstream
                    .as_mut()
                    .and_then(|d| d.handle_answer(conn, &frame, &mut parts.queues.get().out))
                {
                    parts.queues.get().happened(NodeEvent::Delivered { host, result });
                }
                Verdict::Taken
            }
            Some(Link::Exchange) => {
                if let Some(id) = parts.exchanges.get().finished(conn) {
                    let response = Ok(frame.bytes().to_vec());
                    parts.queues.get().happened(NodeEvent::Exchanged { id, response });
                    parts.queues.get().out.push(Output::Hangup { conn });
                }
                Verdict::Taken
            }
            None => Verdict::Taken,
        }
    }

    fn on_inbound(&mut self, conn: ConnId, frame: Frame<'_>) -> Verdict {
        let class = frame.header.kind.class();
        match class {
            // An answer on a connection that we did not open answers nothing.
            Class::Hop if frame.header.kind != Kind::HOLD => Verdict::Taken,
            Class::Hop => self.refuse(conn, &frame, NackReason::Unsupported, Duration::ZERO),
            Class::Direct => self.on_request(conn, frame),
            Class::Uplink | Class::Downstream if !self.role.accepts(class) => {
                self.parts.counters.wrong_direction.bump();
                self.refuse(conn, &frame, NackReason::Refused, Duration::ZERO)
            }
            Class::Uplink | Class::Downstream => self.on_message(conn, frame),
        }
    }

    fn refuse(
        &mut self,
        conn: ConnId,
        frame: &Frame<'_>,
        reason: NackReason,
        retry_after: Duration,
    ) -> Verdict {
        // A cumulative ack must not cover what was refused: no later durable frame is taken.
        if frame.header.lane == Lane::Durable
            && let Some(inbox) = &mut self.parts.inbox
        {
            inbox.refuse(conn);
        }
        let parts = &mut self.parts;
        let why = (reason, retry_after);
        parts.queues.get().refuse(conn, &frame.header, why, &parts.counters);
        Verdict::Taken
    }

    fn broken(&mut self, conn: ConnId, error: WireError) -> Verdict {
        self.parts.counters.damaged.bump();
        self.parts
            .queues
            .get()
            .out
            .push(Output::Close { conn, reason: CloseReason::Protocol(error) });
        Verdict::Taken
    }

    fn on_message(&mut self, conn: ConnId, frame: Frame<'_>) -> Verdict {
        let header = frame.header;
        if header.lane == Lane::Durable
            && self.parts.inbox.as_ref().is_some_and(|inbox| inbox.has_refused(conn))
        {
            return Verdict::Taken;
        }
        let origin = match frame.route().and_then(|route| route.origin()) {
            Ok(origin) => origin,
            Err(_) => {
                self.parts.counters.malformed_origin.bump();
                return self.refuse(conn, &frame, NackReason::Refused, Duration::ZERO);
            }
        };
        if header.kind.schema().is_none_or(|highest| header.schema > highest) {
            self.parts.counters.unsupported.bump();
            return self.refuse(conn, &frame, NackReason::Unsupported, Duration::ZERO);
        }
        // Damage on the way is not the message's fault: the connection ends, and it comes again.
        if let Err(error) = header.check_body(frame.body()) {
            return self.broken(conn, error);
        }
        if header.kind.class() == Class::Downstream {
            let target = frame.route().and_then(|route| route.target());
            if !matches!(target, Ok(Some(name)) if name == self.parts.name) {
                self.parts.counters.misdelivered.bump();
                return self.refuse(conn, &frame, NackReason::Refused, Duration::ZERO);
            }
        }
        if header.lane == Lane::Durable {
            return self.on_durable(conn, frame, &origin);
        }
        self.parts.counters.received.bump();
        if header.kind == Kind::BIND_RESP {
            return self.on_bind_resp(conn, frame);
        }
        let Some(Link::Inbound(inbound)) = self.parts.links.get(&conn) else {
            return Verdict::Taken;
        };
        let peer = inbound.peer();
        let message = Message { frame, origin: &origin, conn, peer: &peer };
        let mut cx = Context { now: self.now, node: &mut self.parts };
        match self.role.handle_message(message, &mut cx) {
            Handled::Taken => {
                if header.kind.class() == Class::Downstream
                    && let Some(uplink) = &mut self.parts.uplink
                {
                    self.parts
                        .queues
                        .get()
                        .happened_all(uplink.handle_known(self.now).map(NodeEvent::from));
                }
                self.owe_ack(conn, &frame, false)
            }
            Handled::TakenBehind => self.owe_ack(conn, &frame, true),
            Handled::Refused(reason) => {
                self.parts.counters.damaged.add(u64::from(reason == NackReason::Damaged));
                self.refuse(conn, &frame, reason, Duration::ZERO)
            }
        }
    }

    fn owe_ack(&mut self, conn: ConnId, frame: &Frame<'_>, behind: bool) -> Verdict {
        let due = &mut self.parts.queues.get().acks_due;
        // Frames of a connection come one after another.
        if due.last().is_none_or(|last| last.conn() != conn) {
            due.push(AcksDue::new(conn));
        }
        if let Some(last) = due.last_mut() {
            last.note(&frame.header, behind);
        }
        Verdict::Taken
    }

    fn on_bind_resp(&mut self, conn: ConnId, frame: Frame<'_>) -> Verdict {
        let Ok(answer) = access::<BindResp>(&frame) else {
            return self.refuse(conn, &frame, NackReason::Damaged, Duration::ZERO);
        };
        let (parts, now) = (&mut self.parts, self.now);
        if let Some(uplink) = &mut parts.uplink {
            let bound = uplink.handle_bind_resp(answer.nonce.to_native(), now);
            let known = bound.as_ref().and_then(|_| uplink.handle_known(now));
            parts.queues.get().happened_all(known.into_iter().chain(bound).map(NodeEvent::from));
        }
        self.owe_ack(conn, &frame, false)
    }

    fn on_durable(
        &mut self,
        conn: ConnId,
        frame: Frame<'_>,
        origin: &crate::ids::Origin,
    ) -> Verdict {
        if self.life != Life::Running {
            return self.refuse(conn, &frame, NackReason::Stopping, Duration::ZERO);
        }
        if !self.role.knows(&origin.name) {
            self.parts.counters.unknown_host.bump();
            return self.refuse(conn, &frame, NackReason::Unknown, UNKNOWN_RETRY);
        }
        let Some(inbox) = &mut self.parts.inbox else {
            return self.refuse(conn, &frame, NackReason::Unsupported, Duration::ZERO);
        };
        let Ok(route) = frame.route() else { return Verdict::Taken };
        match inbox.offer(conn, &frame, route.hop_sender(), self.now) {
            Offer::Gathered => {
                self.parts.counters.gathered.bump();
                if let Some(Link::Inbound(inbound)) = self.parts.links.get(&conn) {
                    let peer = inbound.peer();
                    let mut cx = Context { now: self.now, node: &mut self.parts };
                    self.role.handle_gathered(origin, &peer, frame.header.kind, &mut cx);
                }
                Verdict::Taken
            }
            Offer::Waiting => {
                self.parts.counters.duplicates.bump();
                Verdict::Taken
            }
            Offer::AckNow { epoch, seq } => {
                self.parts.counters.duplicates.bump();
                let frame = ack(Lane::Durable, epoch, seq, false);
                self.parts.queues.get().out.push(Output::Send { conn, frame });
                Verdict::Taken
            }
            Offer::Full => Verdict::Park,
            Offer::Busy { retry_after } => {
                self.parts.counters.busy.bump();
                self.refuse(conn, &frame, NackReason::Busy, retry_after)
            }
            Offer::Refused => Verdict::Taken,
        }
    }

    fn on_request(&mut self, conn: ConnId, frame: Frame<'_>) -> Verdict {
        let (peer, listener) = match self.parts.links.get(&conn) {
            Some(Link::Inbound(inbound)) => (inbound.peer(), inbound.listener()),
            _ => return Verdict::Taken,
        };
        if frame.header.kind == Kind::FETCH_REQ
            && let Some(server) = &mut self.parts.server
        {
            return match access::<FetchReq>(&frame) {
                Ok(request) => server.handle_request(conn, request, frame.header.seq, self.now),
                Err(error) => self.broken(conn, error),
            };
        }
        // Commands come through the Unix socket alone, whatever a peer sends.
        let control = frame.header.kind == Kind::CONTROL_REQ;
        let mut cx = Context { now: self.now, node: &mut self.parts };
        let answered = (!control || listener == Listener::Control)
            .then(|| self.role.handle_request(conn, &peer, frame, &mut cx))
            .flatten();
        if answered.is_none() {
            self.parts.counters.unsupported.bump();
            self.refuse(conn, &frame, NackReason::Unsupported, Duration::ZERO);
        }
        Verdict::Taken
    }
}

/// Carries what the inbox has to say to peers, store and consumer.
pub(super) fn advance_inbox<E>(parts: &mut Parts<E>, now: Now) {
    // What comes on many connections in one turn is one batch for the store, unless it is large:
    // then there is room again for what was parked.
    if parts.inbox.as_ref().is_some_and(|inbox| inbox.is_gathering_full()) {
        hand_over_inbox(parts, now);
    }
    let Some(inbox) = &mut parts.inbox else { return };
    let queues = parts.queues.get();
    while let Some((conn, epoch, seq)) = inbox.poll_ack() {
        queues.out.push(Output::Send { conn, frame: ack(Lane::Durable, epoch, seq, false) });
    }
    while let Some((conn, epoch, seq)) = inbox.poll_refused() {
        parts.counters.commits_failed.bump();
        let mut lost = Header::new(Kind::REPORT);
        (lost.lane, lost.epoch, lost.seq) = (Lane::Durable, epoch, seq);
        let why = (NackReason::Store, Duration::from_secs(1));
        queues.refuse(conn, &lost, why, &parts.counters);
    }
    while let Some(conn) = inbox.poll_resume() {
        queues.out.push(Output::Resume { conn });
    }
    while let Some(records) = inbox.poll_records() {
        queues.happened(NodeEvent::Records(records));
    }
}

/// Gives the store what the inbox has for it.
pub(super) fn hand_over_inbox<E>(parts: &mut Parts<E>, now: Now) {
    let Some(inbox) = &mut parts.inbox else { return };
    while let Some(command) = inbox.poll_command(now) {
        parts.queues.get().out.push(Output::Request(Request::Store(command)));
    }
}

/// Carries what the server has to send, and asks of the blob thread.
pub(super) fn advance_server<E>(parts: &mut Parts<E>) {
    let Some(server) = &mut parts.server else { return };
    while let Some(output) = server.poll_output() {
        parts.queues.get().out.push(match output {
            ServeOutput::Send { conn, frame } => Output::Send { conn, frame },
            ServeOutput::SendFile { conn, frame, file, offset, len } => {
                Output::SendFile { conn, frame, file, offset, len }
            }
            ServeOutput::Resume { conn } => Output::Resume { conn },
        });
    }
    while let Some(command) = server.poll_command() {
        parts.queues.get().out.push(Output::Request(Request::Blob(command)));
    }
}

#[cfg(test)]
mod tests;
