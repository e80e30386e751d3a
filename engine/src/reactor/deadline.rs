//! Deadlines: every connection has one in every state, each a timer in the wheel that is
//! moved only when it fires or a nearer deadline comes.

use super::Reactor;
use super::conn::{Flags, Phase};
use super::poller::Poller;
use crate::clock::Clock;
use crate::ids::ConnId;
use crate::node::io::{CloseReason, Host, Services};
use crate::time::Now;
use crate::wheel::TICK;

/// Timers that may fire in one turn.
const TIMERS_MAX: usize = 256;

impl<P: Poller, H: Host, S: Services<H::Effect>, C: Clock> Reactor<P, H, S, C> {
    /// Sees to it that a connection's timer fires no later than its nearest deadline. One that
    /// fires earlier finds the new deadline then, which costs less than moving it with every
    /// frame.
    pub(super) fn arm(&mut self, id: ConnId) {
        let Some(conn) = self.conns.of(id) else { return };
        let nearest = conn.nearest_deadline();
        if let Some(timer) = conn.timer {
            if self.wheel.deadline(timer).since(nearest) < TICK {
                return;
            }
            self.wheel.cancel(timer);
        }
        conn.timer = Some(self.wheel.insert(nearest, id));
    }

    /// Lets the timers fire whose time has come.
    pub(super) fn expire(&mut self, now: Now) {
        for _ in 0..TIMERS_MAX {
            let Some(id) = self.wheel.pop_expired(now.at) else { return };
            self.metrics.timers_expired.bump();
            let Some(conn) = self.conns.of(id) else { continue };
            conn.timer = None;
            if conn.nearest_deadline() <= now.at {
                self.on_deadline(id, now);
                self.drain_outputs(now);
            }
            self.arm(id);
        }
    }

    /// A deadline has come. What lies unread or unsent at this side is not the peer's fault
    /// (the process may have been stopped for a while), so it is looked at once more.
    fn on_deadline(&mut self, id: ConnId, now: Now) {
        let Some(conn) = self.conns.of(id) else { return };
        if conn.phase == Phase::Dialing {
            if !self.finish_dial(id, now) {
                self.miss(id, CloseReason::ConnectTimeout, now);
            }
            return;
        }
        if conn.flags.take(Flags::BLOCKED) {
            self.write(id, now);
        }
        // What may not be read is left: the peer is parked, or does not read its answers.
        if let Some(conn) = self.conns.of(id)
            && conn.deadline <= now.at
        {
            conn.flags.set(Flags::READABLE);
            self.read(id, now);
            self.drain_outputs(now);
        }
        let Some(conn) = self.conns.of(id) else { return };
        if conn.nearest_deadline() > now.at {
            return;
        }
        let send_missed = conn.send.as_ref().and_then(|q| q.deadline).is_some_and(|d| d <= now.at);
        match conn.phase {
            _ if send_missed => self.miss(id, CloseReason::SendTimeout, now),
            Phase::Closing | Phase::Lingering => {
                let reason = conn.reason;
                self.finish(id, reason, now);
            }
            Phase::Open | Phase::Dialing => {
                let unread = conn.flags.has(Flags::READABLE) && !conn.flags.has(Flags::PARKED);
                let answers = conn.send.as_ref().and_then(|queue| queue.deadline);
                if unread && conn.unsent() <= self.limits.send_bytes_high {
                    // More has come than one turn reads: the rest is read first.
                    conn.deadline = now.at + TICK;
                } else if let (true, Some(deadline)) = (unread, answers) {
                    // It is not read, since it does not read: what it owes is to read its answers.
                    conn.deadline = deadline;
                } else {
                    let reason = conn.reason;
                    self.miss(id, reason, now);
                }
            }
        }
    }

    fn miss(&mut self, id: ConnId, reason: CloseReason, now: Now) {
        self.metrics.deadlines_missed.bump();
        self.finish(id, reason, now);
    }
}
