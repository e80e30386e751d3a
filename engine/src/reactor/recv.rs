//! Reading: from bytes that have come to frames in the host's hands.

use super::Reactor;
use super::conn::{Flags, Phase};
use super::metrics::Metrics;
use super::poller::Poller;
use crate::clock::Clock;
use crate::ids::ConnId;
use crate::node::io::{CloseReason, Host, Services, Verdict};
use crate::time::Now;
use crate::wire::{Decoder, Flow, WireError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a piece of input came to.
struct Fed {
    flow: Result<Flow, WireError>,
    frames: usize,
    failed: bool,
    /// More requests lie there than are answered in this turn.
    paused: bool,
}

/// Cuts input into frames and hands them to the host. A host that panics loses that one
/// connection, not the loop.
fn feed<H: Host>(
    host: &mut H,
    decoder: &mut Decoder,
    metrics: &Metrics,
    id: ConnId,
    input: &[u8],
    requests: &mut usize,
    now: Now,
) -> Fed {
    let (mut frames, mut failed, mut paused) = (0, false, false);
    let flow = decoder.feed(input, |frame| {
        let kind = frame.header.kind;
        if kind.is_request() {
            let Some(left) = requests.checked_sub(1) else {
                paused = true;
                return Flow::Park;
            };
            *requests = left;
        }
        match catch_unwind(AssertUnwindSafe(|| host.handle_frame(id, frame, now))) {
            Ok(Verdict::Taken) => {
                frames += 1;
                metrics.frames_in[usize::from(kind.0)].bump();
                Flow::Next
            }
            Ok(Verdict::Park) => Flow::Park,
            Err(_) => {
                let led = host.trail();
                log::error!(
                    "{id:?}: the handler failed on a {kind} and the connection is closed{}{led}",
                    if led.is_empty() { "" } else { "; " }
                );
                metrics.handler_failures.bump();
                failed = true;
                Flow::Stop
            }
        }
    });
    Fed { flow, frames, failed, paused }
}

impl<P: Poller, H: Host, S: Services<H::Effect>, C: Clock> Reactor<P, H, S, C> {
    /// Serves the connections on the ready list, each once and within its budget; those that
    /// have more go to its end.
    pub(super) fn serve_ready(&mut self, now: Now) {
        self.requests_left = self.limits.requests_budget;
        let control = self.ready_control.len().min(self.limits.events_max);
        let ready = self.ready.len().min(self.limits.events_max);
        for n in 0..control + ready {
            let next =
                if n < control { self.ready_control.pop_front() } else { self.ready.pop_front() };
            let Some(id) = next else { return };
            let Some(conn) = self.conns.of(id) else { continue };
            conn.flags.clear(Flags::QUEUED);
            if conn.phase == Phase::Dialing {
                self.finish_dial(id, now);
            } else {
                if conn.flags.take(Flags::WRITABLE) && conn.flags.take(Flags::BLOCKED) {
                    self.mark_dirty(id);
                }
                self.read(id, now);
            }
            self.drain_outputs(now);
        }
    }

    /// Puts a connection on the ready list.
    pub(super) fn queue(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.of(id)
            && !conn.flags.has(Flags::QUEUED)
        {
            conn.flags.set(Flags::QUEUED);
            if conn.flags.has(Flags::CONTROL) {
                self.ready_control.push_back(id);
            } else {
                self.ready.push_back(id);
            }
        }
    }

    /// Offers what was parked, then reads until there is nothing more, the host parks, or the
    /// budget of this turn is spent.
    pub(super) fn read(&mut self, id: ConnId, now: Now) {
        let Some(conn) = self.conns.of(id) else { return };
        match conn.phase {
            Phase::Dialing => return,
            Phase::Closing | Phase::Lingering => return self.discard(id, now),
            Phase::Open => {}
        }
        let high = self.limits.send_bytes_high;
        let mut budget = self.limits.read_budget;
        let mut requests = self.requests_left.min(1);
        // What was parked, or stood behind it, is offered before anything new is read.
        let mut offer_kept = conn.decoder.buffered() > 0;
        let (mut heard, mut parked, mut paused) = (false, false, false);
        let unfinished = conn.unfinished_bytes();
        let ended = loop {
            // A peer that does not read its answers is not read either.
            if conn.flags.has(Flags::PARKED) || conn.unsent() > high {
                break None;
            }
            let read = if std::mem::take(&mut offer_kept) {
                0
            } else if !conn.flags.has(Flags::READABLE) || budget == 0 {
                break None;
            } else {
                let room = self.scratch.len().min(budget);
                match self.poller.read(&mut conn.stream, &mut self.scratch[..room]) {
                    Ok(0) if conn.decoder.buffered() == 0 => break Some(CloseReason::PeerClosed),
                    Ok(0) => break Some(CloseReason::Truncated),
                    Ok(n) => {
                        conn.note_read(n, room);
                        n
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                        conn.flags.clear(Flags::READABLE);
                        break None;
                    }
                    Err(e) => break Some(CloseReason::of_open(&e)),
                }
            };
            budget -= read;
            self.metrics.bytes_in.add(read as u64);
            let input = &self.scratch[..read];
            let (host, decoder, before) = (&mut self.host, &mut conn.decoder, requests);
            let fed = feed(host, decoder, &self.metrics, id, input, &mut requests, now);
            self.requests_left = self.requests_left.saturating_sub(before - requests);
            heard |= fed.frames > 0;
            match fed.flow {
                Err(error) => break Some(CloseReason::Protocol(error)),
                Ok(_) if fed.failed => break Some(CloseReason::Handler),
                Ok(_) if fed.paused => {
                    // What is kept is to be offered in the next turn, as if it came then.
                    conn.flags.set(Flags::READABLE);
                    paused = true;
                    break None;
                }
                Ok(Flow::Park) => {
                    conn.flags.set(Flags::PARKED);
                    parked = true;
                }
                Ok(Flow::Next | Flow::Stop) => {}
            }
        };
        match ended {
            Some(reason) => {
                let left = conn.unfinished_bytes();
                self.admission.note_unfinished(unfinished, left);
                self.finish(id, reason, now);
            }
            None => {
                self.on_input(id, heard, parked || paused, now);
                let left = self.conns.of(id).map_or(0, |conn| conn.unfinished_bytes());
                self.admission.note_unfinished(unfinished, left);
                self.bound_unfinished(now);
                let more = self.conns.of(id).is_some_and(|conn| {
                    conn.flags.has(Flags::READABLE)
                        && !conn.flags.has(Flags::PARKED)
                        && conn.unsent() <= high
                });
                if more {
                    self.queue(id);
                }
            }
        }
    }

    /// Moves the deadline of what is awaited after input has come. What is `kept` is whole
    /// frames, which wait for this side.
    fn on_input(&mut self, id: ConnId, heard: bool, kept: bool, now: Now) {
        let Some(conn) = self.conns.of(id) else { return };
        let is_kept = kept || conn.flags.has(Flags::PARKED);
        let within_frame = conn.decoder.buffered() > 0 && !is_kept;
        if heard || kept {
            // A parked peer is kept as long as an idle one: its host may never come back to it.
            conn.flags.clear(Flags::SIZED);
            conn.flags.set(Flags::ADMITTED);
            conn.reason = CloseReason::IdleTimeout;
            conn.deadline = now.at + self.limits.idle_timeout;
        }
        if within_frame {
            // Its clock starts with its first byte, and progress does not put it back.
            if conn.reason != CloseReason::FrameTimeout {
                conn.reason = CloseReason::FrameTimeout;
                conn.deadline = now.at + self.limits.frame_timeout;
                conn.flags.clear(Flags::SIZED);
            }
            if let Some(size) = conn.decoder.awaited()
                && !conn.flags.has(Flags::SIZED)
            {
                conn.flags.set(Flags::SIZED);
                conn.deadline = conn.deadline + self.limits.time_for(size);
            }
        }
        self.arm(id);
    }

    /// Throws away what comes on a connection that its host has closed, up to its end.
    fn discard(&mut self, id: ConnId, now: Now) {
        let Some(conn) = self.conns.of(id) else { return };
        let mut budget = self.limits.read_budget;
        while conn.flags.has(Flags::READABLE) && budget > 0 {
            let room = self.scratch.len().min(budget);
            match self.poller.read(&mut conn.stream, &mut self.scratch[..room]) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    conn.flags.clear(Flags::READABLE);
                    return;
                }
                // Its own end while ours is not sent yet: what waits may still be read there. It
                // stays readable, and is looked at again once ours has been sent.
                Ok(0) if conn.phase == Phase::Closing => return,
                Ok(0) | Err(_) => {
                    let reason = conn.reason;
                    return self.finish(id, reason, now);
                }
                Ok(n) => {
                    conn.note_read(n, room);
                    budget -= n;
                    self.metrics.bytes_in.add(n as u64);
                }
            }
        }
        if conn.flags.has(Flags::READABLE) {
            self.queue(id);
        }
    }
}
