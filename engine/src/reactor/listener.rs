//! Listening, and accepting within bounds.

use super::conn::{Conn, Flags, Phase, token};
use super::poller::{Poller, Token};
use super::{Reactor, reason};
use crate::clock::Clock;
use crate::ids::PeerAddr;
use crate::logging;
use crate::node::io::{CloseReason, Host, Input, Listener, Services};
use crate::time::{Instant, Now};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// After this, accepting is tried again even if no connection has ended.
const PAUSE: Duration = Duration::from_millis(100);
/// Commands of this machine that are accepted beyond `connections_max`.
const CONTROL_RESERVE: usize = 16;
/// Between two log lines about connections that were lost.
const LOST_LOG_INTERVAL: Duration = Duration::from_secs(1);
/// Between two that say that accepting pauses, which does not end by itself.
const PAUSE_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listening<L> {
    pub(super) socket: L,
    token: Token,
    pub(super) role: Listener,
    /// Accepting may succeed.
    pub(super) ready: bool,
}

/// Why accepting pauses.
enum Lack {
    /// All places that there are for connections are taken.
    Places,
    /// The system gives no descriptor.
    Descriptors(io::Error),
}

/// Whether accepting goes on.
#[derive(Debug, Default)]
pub(super) struct Accepting {
    /// It pauses until then, or until a connection ends.
    pub(super) paused_until: Option<Instant>,
    lost_logged: Option<Instant>,
    places_logged: Option<Instant>,
    descriptors_logged: Option<Instant>,
    /// Commands are not accepted either while it pauses.
    for_all: bool,
}

impl Accepting {
    /// A crowd of peers must not keep the operator out, who would look what is going on.
    fn admits(&self, role: Listener) -> bool {
        self.paused_until.is_none() || (role == Listener::Control && !self.for_all)
    }
}

impl<P: Poller, H: Host, S: Services<H::Effect>, C: Clock> Reactor<P, H, S, C> {
    /// Listens on an address, and returns the one it got: port 0 takes any.
    ///
    /// # Errors
    /// The address is in use, is not of this machine, needs rights, …
    pub fn listen(&mut self, role: Listener, addr: SocketAddr) -> io::Result<SocketAddr> {
        let token = self.listener_token();
        let socket = self.poller.listen(addr, self.limits.listen_backlog, token)?;
        let bound = self.poller.listen_addr(&socket).unwrap_or(addr);
        self.listeners.push(Listening { socket, token, role, ready: false });
        Ok(bound)
    }

    /// Listens on a Unix socket for commands of this machine ([`Listener::Control`]); only its
    /// owner may connect.
    ///
    /// # Errors
    /// Somebody listens there already, the path is too long or not writable.
    pub fn listen_unix(&mut self, path: &Path) -> io::Result<()> {
        let token = self.listener_token();
        let socket = self.poller.listen_unix(path, token)?;
        self.listeners.push(Listening { socket, token, role: Listener::Control, ready: false });
        Ok(())
    }

    /// One that no listener has had: what is still told of one that was closed reaches no other.
    fn listener_token(&mut self) -> Token {
        let token = Token(self.listener_token_next);
        self.listener_token_next += 1;
        token
    }

    /// There may be something to accept on the listener of this token.
    pub(super) fn note_listener(&mut self, token: Token) {
        if let Some(listening) = self.listeners.iter_mut().find(|l| l.token == token) {
            listening.ready = true;
        }
    }

    /// Closes those for peers; the operator may ask until the end.
    pub(super) fn close_to_peers(&mut self) {
        for listening in self.listeners.extract_if(.., |l| l.role != Listener::Control) {
            self.poller.close_listener(listening.socket);
        }
    }

    pub(super) fn close_listeners(&mut self) {
        for listening in self.listeners.drain(..) {
            self.poller.close_listener(listening.socket);
        }
    }

    /// Whether there is something to accept now.
    pub(super) fn may_accept(&self) -> bool {
        self.listeners.iter().any(|l| l.ready && self.accepting.admits(l.role))
    }

    /// Accepts what has come, at most `accepts_max` connections.
    pub(super) fn accept(&mut self, now: Now) {
        if self.accepting.paused_until.is_some_and(|until| until <= now.at) {
            self.accepting.paused_until = None;
        }
        for _ in 0..self.limits.accepts_max {
            if !self.may_accept() {
                return;
            }
            // The one after the last served comes first, so that none starves another.
            let count = self.listeners.len();
            let first = self.listener_next;
            let Some(index) = (0..count).map(|i| (first + i) % count).find(|i| {
                let listening = &self.listeners[*i];
                listening.ready && self.accepting.admits(listening.role)
            }) else {
                return;
            };
            let role = self.listeners[index].role;
            let beside = if role == Listener::Control { CONTROL_RESERVE } else { 0 };
            let full = self.conns.len() >= self.limits.connections_max + beside;
            let silent = if full { self.silent(now) } else { Vec::new() };
            if full && (role == Listener::Control || silent.is_empty()) {
                self.pause_accepting(role, now, &Lack::Places);
                continue;
            }
            self.listener_next = index + 1;
            let before = self.conns.len();
            self.accept_one(index, now);
            // Only now is it known that there was somebody to give way to.
            if self.conns.len() > before {
                silent.into_iter().for_each(|(_, id)| self.finish(id, CloseReason::Crowded, now));
            }
        }
    }

    fn accept_one(&mut self, index: usize, now: Now) {
        let listening = &mut self.listeners[index];
        let role = listening.role;
        let (mut stream, peer) = match self.poller.accept(&listening.socket) {
            Ok(accepted) => accepted,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                listening.ready = false;
                return;
            }
            Err(e) if reason::exhausted(&e) => {
                let silent = self.silent(now);
                if silent.is_empty() {
                    return self.pause_accepting(role, now, &Lack::Descriptors(e));
                }
                // What they took goes to who comes, the operator too, as where all places are taken.
                silent.into_iter().for_each(|(_, id)| self.finish(id, CloseReason::Crowded, now));
                return;
            }
            // It concerns that one connection alone: aborted before it was taken, and the like.
            Err(e) => {
                self.metrics.accept_errors.bump();
                if logging::is_due(&mut self.accepting.lost_logged, LOST_LOG_INTERVAL, now.at) {
                    log::warn!("a connection was lost while it was accepted: {e}");
                }
                return;
            }
        };
        let id = self.conns.next_id();
        if let Err(e) = self.poller.register(&mut stream, token(id)) {
            self.metrics.accept_errors.bump();
            self.poller.close(stream);
            return self.pause_accepting(role, now, &Lack::Descriptors(e));
        }
        let local = if H::ASKS_LOCAL { self.poller.local_addr(&stream) } else { None };
        let counted = match (&mut self.admission.sources, &peer) {
            (Some(sources), PeerAddr::Tcp(addr)) => match sources.enter(addr.ip()) {
                None => return self.turn_away(stream, addr.ip(), now),
                counted => counted,
            },
            _ => None,
        };
        let deadline = now.at + self.limits.idle_timeout;
        let mut conn = Conn::new(stream, Phase::Open, deadline, CloseReason::IdleTimeout);
        if let Some(cell) = counted {
            conn.flags.set(Flags::COUNTED);
            conn.source = cell;
        }
        if role == Listener::Control {
            conn.flags.set(Flags::CONTROL);
            conn.flags.set(Flags::ADMITTED);
        }
        self.conns.insert(conn);
        self.arm(id);
        self.metrics.accepted.bump();
        self.metrics.connections.set(self.conns.len() as u64);
        self.host.handle_input(Input::Accepted { conn: id, listener: role, local, peer }, now);
        self.drain_outputs(now);
    }

    fn pause_accepting(&mut self, role: Listener, now: Now, lack: &Lack) {
        self.accepting.for_all = role == Listener::Control;
        self.accepting.paused_until = Some(now.at + PAUSE);
        self.metrics.accepting_paused(now.at, matches!(lack, Lack::Places));
        // One cause must not hide the other.
        let logged = match lack {
            Lack::Places => &mut self.accepting.places_logged,
            Lack::Descriptors(_) => &mut self.accepting.descriptors_logged,
        };
        if !logging::is_due(logged, PAUSE_LOG_INTERVAL, now.at) {
            return;
        }
        let connections = self.conns.len();
        match lack {
            Lack::Places => log::warn!(
                "accepting pauses: as many are open as connections_max allows; `ss -tnx` shows by whom ({connections} connections)"
            ),
            Lack::Descriptors(error) => log::warn!(
                "accepting pauses: {error}; raise LimitNOFILE, or lower connections_max ({connections} connections)"
            ),
        }
    }
}
