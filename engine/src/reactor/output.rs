//! What the host asks for, and how connections end.

use super::Reactor;
use super::conn::{Conn, Flags, Phase, token};
use super::poller::Poller;
use super::send::SendQueue;
use crate::clock::Clock;
use crate::ids::ConnId;
use crate::node::io::{CloseReason, Host, Input, Output, Services};
use crate::time::Now;
use crate::wire::{Decoder, FrameBuf};
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

/// After our end was sent, the peer's own is awaited this long at most.
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// Empty send queues that are kept.
const SPARE_MAX: usize = 64;

impl<P: Poller, H: Host, S: Services<H::Effect>, C: Clock> Reactor<P, H, S, C> {
    /// Carries out the host's outputs until there is none, or enough for one turn.
    pub(super) fn drain_outputs(&mut self, now: Now) {
        while self.outputs_left > 0 {
            let Some(output) = self.host.poll_output() else { return };
            self.outputs_left -= 1;
            self.carry_out(output, now);
        }
    }

    fn carry_out(&mut self, output: Output<H::Effect>, now: Now) {
        match output {
            Output::Dial { dial, addr, from, timeout } => self.dial(dial, addr, from, timeout, now),
            Output::Send { conn, frame } => self.send(conn, frame, None),
            Output::SendFile { conn, frame, file, offset, len } => {
                self.send(conn, frame, Some((file, offset, len)));
            }
            Output::Expect { conn, within, reason } => self.expect(conn, within, reason, now),
            Output::Close { conn, reason } => self.close(conn, reason, now),
            Output::Hangup { conn } => self.hang_up(conn, now),
            Output::Resume { conn } => self.resume(conn, now),
            Output::StopListening => self.close_to_peers(),
            Output::Request(request) => self.services.dispatch(request),
            Output::Exit => {
                self.close_listeners();
                self.exits = true;
            }
        }
    }

    pub(super) fn send(
        &mut self,
        id: ConnId,
        frame: FrameBuf,
        file: Option<(Arc<File>, u64, usize)>,
    ) {
        let Some(conn) = self.conns.of(id).filter(|conn| conn.phase == Phase::Open) else {
            self.metrics.outputs_late.bump();
            return;
        };
        if let Some(kind) = frame.head.get(5) {
            self.metrics.frames_out[usize::from(*kind)].bump();
        }
        let queue = conn.send.get_or_insert_with(|| self.spare.pop().unwrap_or_default());
        let before = queue.bytes();
        queue.push(frame);
        if let Some((file, offset, len)) = file {
            queue.push_file(file, offset, len);
        }
        let added = queue.bytes() - before;
        if let Some(deadline) = &mut queue.deadline {
            *deadline = *deadline + self.limits.time_for(added);
        }
        if !conn.flags.has(Flags::BLOCKED) {
            self.mark_dirty(id);
        }
    }

    fn expect(&mut self, id: ConnId, within: Option<Duration>, reason: CloseReason, now: Now) {
        let Some(conn) = self.conns.of(id).filter(|conn| conn.phase == Phase::Open) else {
            self.metrics.outputs_late.bump();
            return;
        };
        // Something is being heard: the frame's own deadline holds until it is whole.
        if conn.reason != CloseReason::FrameTimeout {
            conn.reason = reason;
            conn.deadline = now.at + within.unwrap_or(self.limits.idle_timeout);
            self.arm(id);
        }
    }

    fn resume(&mut self, id: ConnId, now: Now) {
        let Some(conn) = self.conns.of(id).filter(|conn| conn.phase == Phase::Open) else {
            self.metrics.outputs_late.bump();
            return;
        };
        if conn.flags.take(Flags::PARKED) {
            conn.deadline = now.at + self.limits.idle_timeout;
            self.queue(id);
        }
    }

    /// The host is done with a connection: what was sent goes out, then it ends.
    pub(super) fn close(&mut self, id: ConnId, reason: CloseReason, now: Now) {
        let Some(conn) = self.conns.of(id).filter(|conn| conn.phase == Phase::Open) else {
            self.metrics.outputs_late.bump();
            return;
        };
        let unfinished = conn.unfinished_bytes();
        conn.phase = Phase::Closing;
        conn.reason = reason;
        conn.deadline = now.at + self.limits.send_timeout;
        conn.decoder = Decoder::new();
        self.admission.note_unfinished(unfinished, 0);
        conn.flags.clear(Flags::PARKED);
        // What was not read while it was parked would turn the end into a reset.
        if conn.flags.has(Flags::READABLE) {
            self.queue(id);
        }
        self.arm(id);
        self.mark_dirty(id);
    }

    /// The host is done with a connection, and knows that its peer is. What the peer has sent
    /// beyond its answers is still read first, since unread bytes would make the end a reset.
    fn hang_up(&mut self, id: ConnId, now: Now) {
        let is_quiet = |conn: &Conn<P::Stream>| {
            conn.phase == Phase::Open && conn.send.is_none() && !conn.flags.has(Flags::READABLE)
        };
        if self.conns.of(id).is_some_and(|conn| is_quiet(conn)) {
            self.finish(id, CloseReason::Done, now);
        } else {
            self.close(id, CloseReason::Done, now);
        }
    }

    /// Puts a connection on the list of those to write to.
    pub(super) fn mark_dirty(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.of(id)
            && !conn.flags.has(Flags::DIRTY)
        {
            conn.flags.set(Flags::DIRTY);
            self.dirty.push_back(id);
        }
    }

    /// Writes once to each connection that has something to send, up to what one turn may take:
    /// the rest is first in the next.
    pub(super) fn flush(&mut self, now: Now) {
        // There is no next one after the exit.
        let most = if self.exits { usize::MAX } else { self.limits.writes_max };
        for _ in 0..self.dirty.len().min(most) {
            let Some(id) = self.dirty.pop_front() else { return };
            if let Some(conn) = self.conns.of(id) {
                conn.flags.clear(Flags::DIRTY);
                if !conn.flags.has(Flags::BLOCKED) {
                    self.write(id, now);
                }
            }
        }
    }

    /// Writes once; what is left waits for the next turn, or for an event.
    pub(super) fn write(&mut self, id: ConnId, now: Now) {
        let Some(conn) = self.conns.of(id) else { return };
        if let Some(queue) = &mut conn.send {
            // The first write waits for nothing, and most connections that were dialled have no other.
            if conn.flags.has(Flags::WRITTEN) && conn.flags.take(Flags::GATHERS) {
                self.poller.send_at_once(&mut conn.stream);
            }
            conn.flags.set(Flags::WRITTEN);
            let written = match queue.write(&mut self.poller, &mut conn.stream) {
                Ok(written) => written,
                Err(e) => return self.on_write_error(id, CloseReason::of_open(&e), now),
            };
            self.metrics.bytes_out.add(written.bytes as u64);
            if queue.is_empty() {
                self.on_written(id, now);
            } else if written.blocked {
                return self.on_blocked(id, now);
            } else {
                return self.mark_dirty(id);
            }
        }
        self.end_if_closing(id, now);
    }

    fn on_blocked(&mut self, id: ConnId, now: Now) {
        let Some(conn) = self.conns.of(id) else { return };
        let Some(queue) = &mut conn.send else { return };
        conn.flags.set(Flags::BLOCKED);
        queue.tells = true;
        if queue.deadline.is_none() {
            let time = self.limits.send_timeout + self.limits.time_for(queue.bytes());
            queue.deadline = Some(now.at + time);
        }
        if !conn.flags.has(Flags::WATCHED) {
            conn.flags.set(Flags::WATCHED);
            if let Err(e) = self.poller.watch_writable(&mut conn.stream, token(id), true) {
                return self.finish(id, CloseReason::of_open(&e), now);
            }
        }
        self.arm(id);
    }

    fn on_written(&mut self, id: ConnId, now: Now) {
        let Some(conn) = self.conns.of(id) else { return };
        let Some(queue) = conn.send.take() else { return };
        let tells = queue.tells && conn.phase == Phase::Open;
        // A connection that sends is not idle.
        if conn.reason == CloseReason::IdleTimeout && conn.phase == Phase::Open {
            conn.deadline = now.at + self.limits.idle_timeout;
        }
        // Reading may have stopped for what stood here.
        if conn.flags.has(Flags::READABLE) {
            self.queue(id);
        }
        self.recycle(queue);
        if tells {
            self.host.handle_input(Input::Drained { conn: id }, now);
        }
    }

    /// Writing has failed. What the peer said before it left, a refusal for instance, is still
    /// heard.
    fn on_write_error(&mut self, id: ConnId, reason: CloseReason, now: Now) {
        let Some(conn) = self.conns.of(id) else { return };
        if let Some(queue) = conn.send.take() {
            self.recycle(queue);
        }
        if let Some(conn) = self.conns.of(id) {
            conn.flags.set(Flags::READABLE);
            conn.flags.set(Flags::ENDED);
        }
        self.read(id, now);
        self.finish(id, reason, now);
    }

    /// Tells the peer the end once all has gone out.
    fn end_if_closing(&mut self, id: ConnId, now: Now) {
        let Some(conn) = self.conns.of(id) else { return };
        if conn.phase != Phase::Closing || conn.send.is_some() {
            return;
        }
        let reason = conn.reason;
        if self.poller.shutdown_write(&mut conn.stream).is_err() {
            return self.finish(id, reason, now);
        }
        conn.phase = Phase::Lingering;
        conn.deadline = now.at + LINGER.min(self.limits.send_timeout);
        // The peer's end may have come already, and comes as no event again.
        if conn.flags.has(Flags::READABLE) {
            self.queue(id);
        }
        self.arm(id);
    }

    /// Ends a connection now: off the poller and the table first, then the host is told.
    pub(super) fn finish(&mut self, id: ConnId, reason: CloseReason, now: Now) {
        let Some(mut conn) = self.conns.remove(id) else { return };
        self.admission.left(&conn);
        if let Some(timer) = conn.timer.take() {
            self.wheel.cancel(timer);
        }
        if let Some(queue) = conn.send.take() {
            self.recycle(queue);
        }
        self.poller.close(conn.stream);
        self.metrics.connections.set(self.conns.len() as u64);
        // What it held may be what accepting lacked.
        self.accepting.paused_until = None;
        if let Some(dial) = self.dials.remove(&id) {
            return self.tell_dial_failed(dial, reason, now);
        }
        self.metrics.closed[reason.index()].bump();
        if conn.flags.has(Flags::UNTOLD) {
            return;
        }
        self.host.handle_input(Input::Closed { conn: id, reason }, now);
    }

    fn recycle(&mut self, mut queue: Box<SendQueue>) {
        if self.spare.len() < SPARE_MAX {
            queue.reset();
            self.spare.push(queue);
        }
    }
}
