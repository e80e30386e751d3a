//! Connections that this side begins.

use super::Reactor;
use super::conn::{Conn, Flags, Phase, token};
use super::poller::Poller;
use crate::clock::Clock;
use crate::ids::{ConnId, DialId};
use crate::node::io::{CloseReason, Host, Input, Services};
use crate::time::Now;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

impl<P: Poller, H: Host, S: Services<H::Effect>, C: Clock> Reactor<P, H, S, C> {
    pub(super) fn dial(
        &mut self,
        dial: DialId,
        addr: SocketAddr,
        from: Option<IpAddr>,
        timeout: Option<Duration>,
        now: Now,
    ) {
        let id = self.conns.next_id();
        match self.poller.connect(addr, from, token(id)) {
            Ok((stream, over)) => {
                let deadline = now.at + timeout.unwrap_or(self.limits.connect_timeout);
                let reason = CloseReason::ConnectTimeout;
                let mut conn = Conn::new(stream, Phase::Dialing, deadline, reason);
                conn.flags.set(Flags::GATHERS);
                conn.flags.set(Flags::ADMITTED);
                if !over {
                    conn.flags.set(Flags::WATCHED);
                }
                self.conns.insert(conn);
                self.metrics.connections.set(self.conns.len() as u64);
                if over {
                    self.open_dialed(id, dial, now);
                } else {
                    self.dials.insert(id, dial);
                    self.arm(id);
                }
            }
            Err(e) => self.tell_dial_failed(dial, CloseReason::of_dial(&e), now),
        }
    }

    /// Looks whether a connect has ended; false while it has not.
    pub(super) fn finish_dial(&mut self, id: ConnId, now: Now) -> bool {
        let Some(conn) = self.conns.of(id) else { return true };
        let told = conn.flags.has(Flags::WRITABLE) && !conn.flags.has(Flags::ENDED);
        match if told { Ok(true) } else { self.poller.connected(&conn.stream) } {
            Ok(false) => return false,
            Ok(true) => {
                if let Some(dial) = self.dials.remove(&id) {
                    self.open_dialed(id, dial, now);
                }
            }
            Err(e) => self.finish(id, CloseReason::of_dial(&e), now),
        }
        true
    }

    /// A dial has succeeded.
    fn open_dialed(&mut self, id: ConnId, dial: DialId, now: Now) {
        let Some(conn) = self.conns.of(id) else { return };
        conn.phase = Phase::Open;
        conn.flags.clear(Flags::WRITABLE);
        conn.reason = CloseReason::IdleTimeout;
        conn.deadline = now.at + self.limits.idle_timeout;
        if conn.flags.has(Flags::READABLE) {
            self.queue(id);
        }
        self.arm(id);
        self.metrics.dialed.bump();
        self.host.handle_input(Input::Dialed { dial, conn: id }, now);
    }

    pub(super) fn tell_dial_failed(&mut self, dial: DialId, reason: CloseReason, now: Now) {
        self.metrics.dials_failed.bump();
        self.metrics.closed[reason.index()].bump();
        self.host.handle_input(Input::DialFailed { dial, reason }, now);
    }
}
