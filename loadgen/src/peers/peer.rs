//! One bad peer: a socket, and what it does wrong with it.

use super::{BadPeers, Badness, PeerCounts};
use crate::clients::address::Identities;
use crate::clients::role::VERSION;
use engine::ids::{Epoch, HostName, Origin};
use engine::limits::HEADER_SIZE;
use engine::time::{Instant, Now};
use engine::wire::message::{BindReq, Poll, Report, StatusReq, trigger};
use engine::wire::{Body, Class, FrameBuf, Header, Kind, RouteBuf};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::time::Duration;

/// How long a connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between the end of a connection and the next.
const PAUSE: Duration = Duration::from_millis(250);
/// A silent peer looks this often whether it is still connected.
const LOOK: Duration = Duration::from_secs(1);
/// Bytes that it writes, or reads, at once.
const PIECE: usize = 16 * 1024;
/// So often a report is sent again on one connection.
const REPLAYS: usize = 10;
/// A slow reader's kernel keeps no more than about this for it.
const RECEIVE_BUFFER: usize = 4096;

/// What all peers know.
pub(super) struct World {
    pub(super) master: SocketAddr,
    pub(super) identities: Identities,
    /// The good clients.
    pub(super) clients: u32,
}

enum Stage {
    Away,
    Connecting(Socket, Instant),
    Open(Open),
}

/// A connection.
struct Open {
    socket: Socket,
    since: Instant,
    /// What is to be sent, and how much of it has been.
    bytes: Vec<u8>,
    sent: usize,
    read: usize,
    /// What was read of a frame that is not whole.
    unread: Vec<u8>,
}

/// A bad peer.
pub(super) struct Peer {
    bad: BadPeers,
    number: u32,
    name: HostName,
    epoch: Epoch,
    seq: u64,
    rng: fastrand::Rng,
    stage: Stage,
    next: Instant,
}

/// What is left to do with a connection.
enum Then {
    /// Look again at this time.
    Wait(Instant),
    /// It is over, by this side.
    Leave,
    /// It is over, by the master.
    Ended,
}

impl Peer {
    pub(super) fn new(bad: BadPeers, number: u32, name: HostName, now: Now) -> Self {
        let mut rng = fastrand::Rng::with_seed(now.wall.0 ^ u64::from(number) << 32);
        let epoch = Epoch(rng.u64(1..));
        // A crowd that came in one moment would be a storm, which is another workload.
        let spread = PAUSE.mul_f64(rng.f64());
        Self { bad, number, name, epoch, seq: 0, rng, stage: Stage::Away, next: now.at + spread }
    }

    /// Does what it is time for.
    pub(super) fn turn(&mut self, world: &World, now: Now, counts: &mut PeerCounts) {
        if now.at < self.next {
            return;
        }
        self.stage = match std::mem::replace(&mut self.stage, Stage::Away) {
            Stage::Away => match connect(self.bad.badness, self.number, world.master) {
                Ok(socket) => Stage::Connecting(socket, now.at),
                Err(_) => self.refused(now, counts),
            },
            Stage::Connecting(socket, since) => match is_connected(&socket) {
                Ok(true) => {
                    counts.connected += 1;
                    let bytes = self.bytes(world, now);
                    let unread = Vec::new();
                    Stage::Open(Open { socket, since: now.at, bytes, sent: 0, read: 0, unread })
                }
                Ok(false) if now.at.since(since) < CONNECT_TIMEOUT => {
                    Stage::Connecting(socket, since)
                }
                Ok(false) | Err(_) => self.refused(now, counts),
            },
            Stage::Open(mut open) => match self.act(&mut open, now, counts) {
                Then::Wait(next) => {
                    self.next = next;
                    Stage::Open(open)
                }
                over => {
                    counts.ended_by_master += u64::from(matches!(over, Then::Ended));
                    self.next = now.at + PAUSE;
                    Stage::Away
                }
            },
        };
    }

    fn refused(&mut self, now: Now, counts: &mut PeerCounts) -> Stage {
        counts.refused += 1;
        self.next = now.at + PAUSE;
        Stage::Away
    }

    /// What it will send on its next connection.
    fn bytes(&mut self, world: &World, now: Now) -> Vec<u8> {
        match self.bad.badness {
            Badness::SlowReader => {
                let request = FrameBuf::message(None, &StatusReq { detail: 0 }, |_| {}).to_vec();
                request.repeat(PIECE / request.len())
            }
            Badness::HalfOpen => Vec::new(),
            Badness::SlowWriter => self.poll(self.name.clone(), now),
            Badness::Reset => {
                let whole = self.report(now);
                whole[..whole.len() / 2].to_vec()
            }
            Badness::Garbage => {
                let mut bytes = vec![0; self.rng.usize(1..4096)];
                self.rng.fill(&mut bytes);
                bytes
            }
            Badness::WrongLength => self.wrong_length(now),
            Badness::Replay => {
                // The very same bytes also on the next connection.
                self.seq = 0;
                self.report(now).repeat(REPLAYS)
            }
            Badness::DuplicateName => {
                let poll = self.poll(self.name.clone(), now);
                [poll, self.report(now)].concat()
            }
            Badness::SpoofedName => {
                let victim = world.identities.name(self.number % world.clients);
                let bind = BindReq { nonce: self.rng.u64(..), version: VERSION.to_owned() };
                let bind = self.frame(victim.clone(), &bind);
                [bind, self.poll(victim, now)].concat()
            }
        }
    }

    fn frame<B: Body>(&mut self, name: HostName, body: &B) -> Vec<u8> {
        self.seq += 1;
        let (epoch, seq) = (self.epoch, self.seq);
        let route = RouteBuf::from(Origin { name, epoch, seq });
        FrameBuf::message(Some(&route), body, |header| (header.epoch, header.seq) = (epoch, seq))
            .to_vec()
    }

    fn poll(&mut self, name: HostName, now: Now) -> Vec<u8> {
        let poll = Poll {
            held: 0,
            applied: 0,
            wall_ms: now.wall.0,
            version: VERSION.to_owned(),
            last_error: String::new(),
        };
        self.frame(name, &poll)
    }

    fn report(&mut self, now: Now) -> Vec<u8> {
        let report = Report {
            revision: 1,
            trigger: trigger::INTERVAL,
            // The same in every copy.
            started_ms: now.wall.0 / 1_000_000_000,
            duration_us: 1,
            busy_us: 1,
            checked: 1,
            results: Vec::new(),
            note: String::new(),
        };
        self.frame(self.name.clone(), &report)
    }

    /// By turns a frame that is longer than any may be, one that ends before its end, and one
    /// with more behind it than it says.
    fn wrong_length(&mut self, now: Now) -> Vec<u8> {
        let good = self.report(now);
        match self.seq % 3 {
            0 => {
                let mut header = Header::new(Kind::REPORT);
                header.seal_length(&[], u32::MAX as usize, 0).to_vec()
            }
            1 => good[..good.len() - 1].to_vec(),
            _ => [good, vec![0xff; 64]].concat(),
        }
    }

    fn act(&mut self, open: &mut Open, now: Now, counts: &mut PeerCounts) -> Then {
        let is_reader = self.bad.badness == Badness::SlowReader;
        let read_max =
            if is_reader { self.due(open, now).saturating_sub(open.read) } else { PIECE };
        match open.read(read_max, counts) {
            Ok(true) => {}
            Ok(false) | Err(_) => return Then::Ended,
        }
        let upto = match self.bad.badness {
            Badness::SlowWriter => self.due(open, now).min(open.bytes.len()),
            _ => open.bytes.len(),
        };
        if open.write(upto, counts).is_err() {
            return Then::Ended;
        }
        let is_sent = open.sent == open.bytes.len();
        let soon = now.at + PAUSE;
        match self.bad.badness {
            Badness::HalfOpen => Then::Wait(now.at + LOOK),
            Badness::SlowReader => {
                // It never stops asking.
                open.sent %= open.bytes.len();
                Then::Wait(soon)
            }
            Badness::SlowWriter if !is_sent => Then::Wait(soon),
            Badness::Reset if is_sent => {
                // Closing it now is a reset.
                let _ = open.socket.set_linger(Some(Duration::ZERO));
                Then::Leave
            }
            Badness::WrongLength if is_sent => {
                let _ = open.socket.shutdown(Shutdown::Write);
                self.leave_after(open, now, soon)
            }
            _ => self.leave_after(open, now, soon),
        }
    }

    /// The answers to what was sent are waited for, but not for long.
    fn leave_after(&self, open: &Open, now: Now, soon: Instant) -> Then {
        if now.at.since(open.since) > LOOK { Then::Leave } else { Then::Wait(soon) }
    }

    /// Bytes that it may have read, or written, by now.
    fn due(&self, open: &Open, now: Now) -> usize {
        let bytes = now.at.since(open.since).as_secs_f64() * f64::from(self.bad.rate);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole bytes")]
        let bytes = bytes as usize;
        bytes
    }
}

impl Open {
    /// Reads what is there, up to so much; `false` at the end.
    fn read(&mut self, max: usize, counts: &mut PeerCounts) -> io::Result<bool> {
        if max == 0 {
            return Ok(true);
        }
        let mut buffer = [0; PIECE];
        match self.socket.read(&mut buffer[..max.min(PIECE)]) {
            Ok(0) => Ok(false),
            Ok(n) => {
                self.read += n;
                counts.read_bytes += n as u64;
                self.unread.extend_from_slice(&buffer[..n]);
                self.count_frames(counts);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn count_frames(&mut self, counts: &mut PeerCounts) {
        while let Some(head) = self.unread.first_chunk::<HEADER_SIZE>() {
            let Ok(header) = Header::parse(head) else { return };
            if self.unread.len() < header.frame_size() {
                return;
            }
            counts.acks += u64::from(header.kind == Kind::ACK);
            counts.nacks += u64::from(header.kind == Kind::NACK);
            counts.leaked += u64::from(header.kind.class() == Class::Downstream);
            self.unread.drain(..header.frame_size());
        }
    }

    fn write(&mut self, upto: usize, counts: &mut PeerCounts) -> io::Result<()> {
        while self.sent < upto {
            match self.socket.write(&self.bytes[self.sent..upto]) {
                Ok(n) => {
                    self.sent += n;
                    counts.sent_bytes += n as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Begins to connect from an address that no good client has.
fn connect(badness: Badness, number: u32, master: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(master), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if badness == Badness::SlowReader {
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    }
    if master.ip().is_loopback() && master.is_ipv4() {
        let byte = |value: u32| u8::try_from(1 + value % 250).unwrap_or(1);
        let from = Ipv4Addr::new(127, 254, byte(number / 250), byte(number));
        socket.bind(&SockAddr::from(SocketAddr::from((from, 0))))?;
    }
    match socket.connect(&SockAddr::from(master)) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

fn is_connected(socket: &Socket) -> io::Result<bool> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    Ok(socket.peer_addr().is_ok())
}
