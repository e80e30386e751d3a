//! The state of the simulated network, and what happens in it over time.

mod faults;

use super::SimConfig;
use super::socket::{Name, Socket, State};
use super::tap::Tap;
use crate::ids::IdMap;
use crate::node::io::PeerAddr;
use crate::reactor::poller::{Readiness, Token};
use crate::time::{Instant, Now, WallMs};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// What was lost or found nobody is sent again after this.
const RETRANSMIT: Duration = Duration::from_millis(200);
/// A connect is given up after as many tries: two minutes.
const SYN_TRIES: u32 = 600;

/// A process.
#[derive(Debug)]
struct Owner {
    ip: IpAddr,
    descriptors: usize,
    descriptors_max: usize,
    stopped: bool,
    /// Sources that changed since the last poll, in order, each once.
    changed: VecDeque<u32>,
}

#[derive(Debug, PartialEq, Eq)]
enum Event {
    Syn {
        from: u32,
        to: SocketAddr,
        tries: u32,
    },
    Established {
        socket: u32,
    },
    Refused {
        socket: u32,
        code: i32,
    },
    Bytes {
        to: u32,
        from: u32,
        bytes: Vec<u8>,
    },
    End {
        to: u32,
    },
    Reset {
        to: u32,
    },
    /// The peer has read this much.
    Space {
        to: u32,
        bytes: usize,
    },
}

/// The network.
#[derive(Debug)]
pub(super) struct Net {
    pub(super) now: Now,
    pub(super) tap: Tap,
    config: SimConfig,
    rng: fastrand::Rng,
    owners: BTreeMap<u32, Owner>,
    /// Those that have changed sources and are not stopped.
    ready: BTreeSet<u32>,
    sockets: IdMap<u32, Socket>,
    names: Vec<(Name, u32)>,
    events: BTreeMap<(Instant, u64), Event>,
    next_id: u32,
    next_event: u64,
    next_port: u16,
    cuts: BTreeSet<(IpAddr, IpAddr)>,
    black_holes: BTreeSet<IpAddr>,
    unreachable: BTreeSet<IpAddr>,
}

fn os(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

impl Net {
    pub(super) fn new(seed: u64, config: SimConfig, now: Now) -> Self {
        Self {
            now,
            tap: Tap::default(),
            config,
            rng: fastrand::Rng::with_seed(seed),
            owners: BTreeMap::new(),
            ready: BTreeSet::new(),
            sockets: IdMap::default(),
            names: Vec::new(),
            events: BTreeMap::new(),
            next_id: 0,
            next_event: 0,
            next_port: 32_768,
            cuts: BTreeSet::new(),
            black_holes: BTreeSet::new(),
            unreachable: BTreeSet::new(),
        }
    }

    fn new_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn add_owner(&mut self, ip: IpAddr) -> u32 {
        let id = self.new_id();
        let owner = Owner {
            ip,
            descriptors: 0,
            descriptors_max: usize::MAX,
            stopped: false,
            changed: VecDeque::new(),
        };
        self.owners.insert(id, owner);
        id
    }

    pub(super) fn remove_owner(&mut self, owner: u32) {
        for (id, listens) in self.sockets_of(owner) {
            if listens {
                self.close_listener(owner, id);
            } else {
                self.close(owner, id, false);
            }
        }
        self.owners.remove(&owner);
        self.ready.remove(&owner);
    }

    /// All sockets of a process, in the same order in the same run, and which of them listen.
    fn sockets_of(&self, owner: u32) -> Vec<(u32, bool)> {
        let its = self.sockets.iter().filter(|(_, s)| s.owner == Some(owner));
        let mut its: Vec<(u32, bool)> =
            its.map(|(id, s)| (*id, matches!(s.state, State::Listening { .. }))).collect();
        its.sort_unstable();
        its
    }

    pub(super) fn descriptors(&self, owner: u32) -> usize {
        self.owners.get(&owner).map_or(0, |owner| owner.descriptors)
    }

    pub(super) fn streams(&self) -> usize {
        let listens = |s: &&Socket| matches!(s.state, State::Listening { .. });
        self.sockets.len() - self.sockets.values().filter(listens).count()
    }

    fn owner(&mut self, id: u32) -> &mut Owner {
        self.owners.get_mut(&id).expect("a poller owns its entry as long as it lives")
    }

    fn take_descriptor(&mut self, owner: u32) -> io::Result<()> {
        let owner = self.owner(owner);
        if owner.descriptors >= owner.descriptors_max {
            return Err(os(libc::EMFILE));
        }
        owner.descriptors += 1;
        Ok(())
    }

    pub(super) fn advance_to(&mut self, at: Instant) {
        let at = self.now.at.max(at);
        // Whole milliseconds of the two times, so that small steps add up.
        let ms = at.0 / 1_000_000 - self.now.at.0 / 1_000_000;
        self.now.wall = WallMs(self.now.wall.0.saturating_add(ms));
        self.now.at = at;
    }

    pub(super) fn next_event(&self) -> Option<Instant> {
        if !self.ready.is_empty() {
            return Some(self.now.at);
        }
        self.events.keys().next().map(|(at, _)| (*at).max(self.now.at))
    }

    fn passes(&self, a: IpAddr, b: IpAddr) -> bool {
        let cut = self.cuts.contains(&(a.min(b), a.max(b)));
        !cut && !self.black_holes.contains(&a) && !self.black_holes.contains(&b)
    }

    fn latency(&mut self) -> Duration {
        let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        let (min, max) = (nanos(self.config.latency_min), nanos(self.config.latency_max));
        Duration::from_nanos(self.rng.u64(min..=max.max(min)))
    }

    fn schedule(&mut self, at: Instant, event: Event) {
        self.next_event += 1;
        self.events.insert((at, self.next_event), event);
    }

    /// Schedules what a stream sends: after all that it has sent before.
    fn transmit(&mut self, from: u32, event: Event) {
        let arrival = self.now.at + self.latency();
        let Some(socket) = self.sockets.get_mut(&from) else { return };
        socket.last_arrival = socket.last_arrival.max(arrival);
        let at = socket.last_arrival;
        self.schedule(at, event);
    }

    /// An edge: the source is looked at by its owner's next poll.
    fn changed(&mut self, id: u32) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        if let (Some(owner), Some(_), false) = (socket.owner, socket.token, socket.queued) {
            socket.queued = true;
            let its = self.owner(owner);
            its.changed.push_back(id);
            if !its.stopped {
                self.ready.insert(owner);
            }
        }
    }

    /// Lets happen what is due by now.
    pub(super) fn run(&mut self) {
        while let Some(first) = self.events.first_entry() {
            let due = first.key().0;
            if due > self.now.at {
                break;
            }
            let event = first.remove();
            self.happen(due, event);
        }
    }

    /// Whether a process has events that it has not polled.
    pub(super) fn is_ready(&self, owner: u32) -> bool {
        self.ready.contains(&owner)
    }

    pub(super) fn ready(&self) -> impl Iterator<Item = u32> {
        self.ready.iter().copied()
    }

    pub(super) fn poll(&mut self, owner: u32, room: usize, events: &mut Vec<Readiness>) {
        self.run();
        let begin = events.len();
        while events.len() < begin + room {
            let Some(id) = self.owner(owner).changed.pop_front() else { break };
            let window = self.config.window;
            let Some(socket) = self.sockets.get_mut(&id) else { continue };
            socket.queued = false;
            let Some(token) = socket.token else { continue };
            let readable = socket.readable();
            let writable = socket.watch_writable && socket.writable(window);
            // As epoll does: what is not ready any more when it is looked at is not told.
            if readable || writable {
                events.push(Readiness { token, readable, writable, ended: socket.has_ended() });
            }
        }
        if self.owner(owner).changed.is_empty() {
            self.ready.remove(&owner);
        }
        self.rng.shuffle(&mut events[begin..]);
    }

    fn happen(&mut self, due: Instant, event: Event) {
        // What cannot pass now is sent again later.
        let ends = match &event {
            Event::Syn { from, to, .. } => self.sockets.get(from).map(|s| (s.local.ip(), to.ip())),
            Event::Established { socket: to }
            | Event::Refused { socket: to, .. }
            | Event::Bytes { to, .. }
            | Event::End { to }
            | Event::Reset { to }
            | Event::Space { to, .. } => {
                self.sockets.get(to).and_then(|s| Some((s.local.ip(), s.peer_ip()?)))
            }
        };
        let passes = ends.is_none_or(|(a, b)| self.passes(a, b));
        match event {
            Event::Syn { from, to, tries } if !passes => return self.retry_syn(from, to, tries),
            Event::Established { socket: to }
            | Event::Refused { socket: to, .. }
            | Event::Bytes { to, .. }
            | Event::End { to }
            | Event::Reset { to }
            | Event::Space { to, .. } => {
                let again = self.now.at + RETRANSMIT;
                if let Some(socket) = self.sockets.get_mut(&to) {
                    // In order: behind what is already being sent again.
                    if !passes && socket.resent <= due {
                        socket.resent = again;
                    }
                    if socket.resent > due {
                        let at = socket.resent;
                        return self.schedule(at, event);
                    }
                }
            }
            Event::Syn { .. } => {}
        }
        match event {
            Event::Syn { from, to, tries } => self.on_syn(from, to, tries),
            Event::Established { socket } => {
                if let Some(s) = self.sockets.get_mut(&socket)
                    && s.state == State::Connecting
                {
                    s.state = State::Open;
                    self.changed(socket);
                }
            }
            Event::Refused { socket, code } => {
                if let Some(s) = self.sockets.get_mut(&socket) {
                    s.state = State::Failed(code);
                    self.changed(socket);
                }
            }
            Event::Bytes { to, from, bytes } => match self.sockets.get_mut(&to) {
                Some(s) if !s.reset => {
                    s.inbox.extend(bytes);
                    self.changed(to);
                }
                Some(_) => {}
                // The receiver has closed: what still comes is answered by a reset.
                None => self.transmit(from, Event::Reset { to: from }),
            },
            Event::End { to } => {
                if let Some(s) = self.sockets.get_mut(&to) {
                    s.end_read = true;
                    self.changed(to);
                }
            }
            Event::Reset { to } => {
                if let Some(s) = self.sockets.get_mut(&to) {
                    s.reset = true;
                    self.changed(to);
                }
            }
            Event::Space { to, bytes } => {
                if let Some(s) = self.sockets.get_mut(&to) {
                    s.unread -= bytes;
                    if std::mem::take(&mut s.refused) {
                        self.changed(to);
                    }
                }
            }
        }
    }

    fn retry_syn(&mut self, from: u32, to: SocketAddr, tries: u32) {
        let at = self.now.at + RETRANSMIT;
        if tries < SYN_TRIES {
            self.schedule(at, Event::Syn { from, to, tries: tries + 1 });
        } else {
            self.schedule(at, Event::Refused { socket: from, code: libc::ETIMEDOUT });
        }
    }

    fn listener_of(&self, to: SocketAddr) -> Option<u32> {
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), to.port());
        [to, any].iter().find_map(|addr| self.named(&Name::Tcp(*addr)))
    }

    fn named(&self, name: &Name) -> Option<u32> {
        self.names.iter().find(|(n, _)| n == name).map(|(_, id)| *id)
    }

    fn on_syn(&mut self, from: u32, to: SocketAddr, tries: u32) {
        let Some(client) = self.sockets.get(&from) else { return };
        let client_addr = client.local;
        let Some(listener) = self.listener_of(to) else {
            let at = self.now.at + self.latency();
            self.schedule(at, Event::Refused { socket: from, code: libc::ECONNREFUSED });
            return;
        };
        if !self.enqueue(listener, from, to, PeerAddr::Tcp(client_addr)) {
            self.retry_syn(from, to, tries);
            return;
        }
        self.transmit(from, Event::Established { socket: from });
    }

    /// Puts a new stream on a listener's queue; false if that is full.
    fn enqueue(&mut self, listener: u32, client: u32, local: SocketAddr, peer: PeerAddr) -> bool {
        let id = self.next_id + 1;
        let Some(Socket { state: State::Listening { backlog, queue, .. }, .. }) =
            self.sockets.get_mut(&listener)
        else {
            return false;
        };
        if queue.len() >= *backlog {
            return false;
        }
        queue.push_back(id);
        self.next_id = id;
        let mut socket = Socket::new(None, State::Open, local, peer);
        socket.peer = client;
        self.sockets.insert(id, socket);
        if let Some(client) = self.sockets.get_mut(&client) {
            client.peer = id;
        }
        self.changed(listener);
        true
    }

    fn add_listener(
        &mut self,
        owner: u32,
        name: Name,
        local: SocketAddr,
        backlog: usize,
        token: Token,
    ) -> io::Result<u32> {
        if self.named(&name).is_some() {
            return Err(os(libc::EADDRINUSE));
        }
        self.take_descriptor(owner)?;
        let id = self.new_id();
        self.names.push((name.clone(), id));
        let state = State::Listening { name, backlog: backlog.max(1), queue: VecDeque::new() };
        let mut socket = Socket::new(Some(owner), state, local, PeerAddr::Tcp(local));
        socket.token = Some(token);
        self.sockets.insert(id, socket);
        Ok(id)
    }

    pub(super) fn listen(
        &mut self,
        owner: u32,
        mut addr: SocketAddr,
        backlog: u32,
        token: Token,
    ) -> io::Result<u32> {
        if addr.port() == 0 {
            addr.set_port(self.new_port());
        }
        self.add_listener(owner, Name::Tcp(addr), addr, backlog as usize, token)
    }

    pub(super) fn listen_unix(&mut self, owner: u32, path: &Path, token: Token) -> io::Result<u32> {
        let nowhere = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        self.add_listener(owner, Name::Unix(path.into()), nowhere, 128, token)
    }

    fn new_port(&mut self) -> u16 {
        self.next_port = self.next_port.checked_add(1).unwrap_or(32_768);
        self.next_port
    }

    pub(super) fn listen_addr(&self, listener: u32) -> Option<SocketAddr> {
        match &self.sockets.get(&listener)?.state {
            State::Listening { name: Name::Tcp(addr), .. } => Some(*addr),
            _ => None,
        }
    }

    pub(super) fn accept(&mut self, owner: u32, listener: u32) -> io::Result<(u32, PeerAddr)> {
        let Some(Socket { state: State::Listening { queue, .. }, .. }) =
            self.sockets.get_mut(&listener)
        else {
            return Err(os(libc::EBADF));
        };
        let Some(id) = queue.front().copied() else { return Err(io::ErrorKind::WouldBlock.into()) };
        self.take_descriptor(owner)?;
        if let Some(Socket { state: State::Listening { queue, .. }, .. }) =
            self.sockets.get_mut(&listener)
        {
            queue.pop_front();
        }
        let socket = self.sockets.get_mut(&id).expect("a queued stream exists until it is taken");
        socket.owner = Some(owner);
        Ok((id, socket.peer_addr.clone()))
    }

    pub(super) fn connect(
        &mut self,
        owner: u32,
        to: SocketAddr,
        from: Option<IpAddr>,
        token: Token,
    ) -> io::Result<u32> {
        if self.unreachable.contains(&to.ip()) {
            return Err(os(libc::EHOSTUNREACH));
        }
        self.take_descriptor(owner)?;
        let ip = from.unwrap_or(self.owner(owner).ip);
        let local = SocketAddr::new(ip, self.new_port());
        let id = self.new_id();
        let mut socket = Socket::new(Some(owner), State::Connecting, local, PeerAddr::Tcp(to));
        socket.token = Some(token);
        socket.watch_writable = true;
        self.sockets.insert(id, socket);
        self.transmit(id, Event::Syn { from: id, to, tries: 0 });
        Ok(id)
    }

    pub(super) fn connect_unix(
        &mut self,
        owner: u32,
        path: &Path,
        token: Token,
    ) -> io::Result<u32> {
        let listener = self.named(&Name::Unix(path.into())).ok_or(os(libc::ENOENT))?;
        self.take_descriptor(owner)?;
        let id = self.new_id();
        let nowhere = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let peer = PeerAddr::Unix { uid: 0 };
        let mut socket = Socket::new(Some(owner), State::Open, nowhere, peer.clone());
        socket.token = Some(token);
        socket.watch_writable = true;
        self.sockets.insert(id, socket);
        if !self.enqueue(listener, id, nowhere, peer) {
            self.close(owner, id, false);
            return Err(os(libc::EAGAIN));
        }
        self.changed(id);
        Ok(id)
    }

    pub(super) fn connected(&mut self, id: u32) -> io::Result<bool> {
        match self.stream(id)?.state {
            State::Connecting => Ok(false),
            State::Failed(code) => Err(os(code)),
            State::Open | State::Listening { .. } => Ok(true),
        }
    }

    fn stream(&mut self, id: u32) -> io::Result<&mut Socket> {
        self.sockets.get_mut(&id).ok_or(os(libc::EBADF))
    }

    /// Registers a stream, or changes what it is watched for; what is ready is told anew.
    pub(super) fn watch(&mut self, id: u32, token: Token, writable: bool) {
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.token = Some(token);
            socket.watch_writable = writable;
            self.changed(id);
        }
    }

    pub(super) fn read(&mut self, id: u32, buf: &mut [u8]) -> io::Result<usize> {
        let socket = self.stream(id)?;
        if socket.inbox.is_empty() {
            return match socket.state {
                State::Failed(code) => Err(os(code)),
                _ if socket.reset => Err(os(libc::ECONNRESET)),
                _ if socket.end_read => Ok(0),
                _ => Err(io::ErrorKind::WouldBlock.into()),
            };
        }
        let mut n = 0;
        while n < buf.len() && !socket.inbox.is_empty() {
            n += io::Read::read(&mut socket.inbox, &mut buf[n..])?;
        }
        let peer = socket.peer;
        self.transmit(id, Event::Space { to: peer, bytes: n });
        Ok(n)
    }

    /// Bytes that a write would take now.
    pub(super) fn room(&mut self, id: u32) -> io::Result<usize> {
        let window = self.config.window;
        let socket = self.stream(id)?;
        match socket.state {
            _ if socket.reset || socket.end_sent => Err(os(libc::EPIPE)),
            State::Failed(code) => Err(os(code)),
            State::Connecting | State::Listening { .. } => Err(io::ErrorKind::WouldBlock.into()),
            State::Open if socket.unread >= window => {
                socket.refused = true;
                Err(io::ErrorKind::WouldBlock.into())
            }
            State::Open => Ok(window - socket.unread),
        }
    }

    pub(super) fn write(&mut self, id: u32, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let room = self.room(id)?;
        let most = self.rng.usize(1..=self.config.piece_max.max(1)).min(room);
        let mut bytes = Vec::with_capacity(most.min(bufs.iter().map(|buf| buf.len()).sum()));
        for buf in bufs {
            bytes.extend_from_slice(&buf[..buf.len().min(most - bytes.len())]);
        }
        let n = bytes.len();
        if n > 0 {
            let socket = self.sockets.get_mut(&id).ok_or(os(libc::EBADF))?;
            socket.unread += n;
            self.tap.note(id, socket, &bytes);
            let to = socket.peer;
            self.transmit(id, Event::Bytes { to, from: id, bytes });
        }
        Ok(n)
    }

    pub(super) fn shutdown_write(&mut self, id: u32) -> io::Result<()> {
        let socket = self.stream(id)?;
        if socket.reset || socket.state != State::Open {
            return Err(os(libc::ENOTCONN));
        }
        if !std::mem::replace(&mut socket.end_sent, true) {
            let to = socket.peer;
            self.transmit(id, Event::End { to });
        }
        Ok(())
    }

    /// Closes a stream; bytes that were not read make the end a reset, as TCP does.
    pub(super) fn close(&mut self, owner: u32, id: u32, reset: bool) {
        let Some(socket) = self.sockets.get(&id) else { return };
        let to = socket.peer;
        if reset || (!socket.inbox.is_empty() && !socket.reset) {
            self.transmit(id, Event::Reset { to });
        } else if socket.reset {
            // A connection that was reset has nobody to tell its end to.
        } else if !socket.end_sent {
            self.transmit(id, Event::End { to });
        }
        self.sockets.remove(&id);
        self.owner(owner).descriptors -= 1;
    }

    pub(super) fn close_listener(&mut self, owner: u32, id: u32) {
        if let Some(Socket { state: State::Listening { queue, .. }, .. }) = self.sockets.remove(&id)
        {
            for waiting in queue {
                if let Some(socket) = self.sockets.remove(&waiting) {
                    let at = self.now.at + self.latency();
                    self.schedule(at, Event::Reset { to: socket.peer });
                }
            }
            self.owner(owner).descriptors -= 1;
        }
        self.names.retain(|(_, named)| *named != id);
    }

    pub(super) fn local_addr(&self, id: u32) -> Option<SocketAddr> {
        let socket = self.sockets.get(&id)?;
        matches!(socket.peer_addr, PeerAddr::Tcp(_)).then_some(socket.local)
    }
}
