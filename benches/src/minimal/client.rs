//! The least that a load generator can do: connect from an address of its own, write one
//! request, read the answer, close, begin the next. And the least that can be done to reach many
//! hosts: the same, to an address of each one's own.

use super::Requests;
use engine::clock::{Clock, SystemClock};
use loadgen::clients::address::address;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

/// Who connects to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Each from an address of its own to one server.
    Server(SocketAddr),
    /// One to each at an address of its own, at this port.
    Hosts(u16),
}

/// What to do.
#[derive(Debug, Clone)]
pub struct Load {
    /// Who connects to whom.
    pub ends: Ends,
    /// What each of them sends.
    pub requests: Requests,
    /// Bytes of each answer.
    pub answer_size: usize,
    /// One each, from or to so many addresses.
    pub transactions: u32,
    /// Under way at once.
    pub window: usize,
}

struct Transaction {
    number: u32,
    stream: TcpStream,
    sent: bool,
    received: usize,
}

/// A socket of this type with the address that a client of this number has.
///
/// # Errors
/// No descriptor is left.
pub fn socket(number: u32, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, kind, None)?;
    setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
    socket.bind(&SocketAddr::from((address(number), 0)).into())?;
    Ok(socket)
}

impl Load {
    fn begin(&self, number: u32, slot: usize, poll: &Poll) -> io::Result<Transaction> {
        let kind = Type::STREAM.nonblocking().cloexec();
        let (socket, to) = match self.ends {
            Ends::Server(to) => (socket(number, kind)?, to),
            Ends::Hosts(port) => {
                (Socket::new(Domain::IPV4, kind, None)?, SocketAddr::from((address(number), port)))
            }
        };
        match socket.connect(&to.into()) {
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EINPROGRESS as i32) => {}
            other => other?,
        }
        let mut stream = TcpStream::from_std(socket.into());
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(slot), both)?;
        Ok(Transaction { number, stream, sent: false, received: 0 })
    }

    /// Goes on with a transaction; whether it is done.
    fn go_on(&self, transaction: &mut Transaction, buffer: &mut [u8]) -> io::Result<bool> {
        if !transaction.sent {
            transaction.stream.write_all(self.requests.number(transaction.number))?;
            transaction.sent = true;
            return Ok(false);
        }
        match transaction.stream.read(buffer) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                transaction.received += read;
                Ok(transaction.received >= self.answer_size)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// How long it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Took {
    /// Until the last of them was connected.
    pub connected: Duration,
    /// Until the last of them had its answer.
    pub all: Duration,
}

/// Carries out all transactions, and says how long that took.
///
/// # Errors
/// One of them failed: then there is no figure.
pub fn run(load: &Load, clock: SystemClock) -> io::Result<Took> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(256);
    let mut buffer = [0; 4096];
    let begun = clock.now().at;
    let (mut next, mut sent, mut done) = (0, 0, 0);
    let mut connected = Duration::ZERO;
    let mut slots = Vec::with_capacity(load.window);
    while slots.len() < load.window && next < load.transactions {
        slots.push(Some(load.begin(next, slots.len(), &poll)?));
        next += 1;
    }
    while done < load.transactions {
        poll.poll(&mut events, None)?;
        for event in &events {
            let Token(slot) = event.token();
            let Some(transaction) = &mut slots[slot] else { continue };
            let was_sent = transaction.sent;
            let is_done = load.go_on(transaction, &mut buffer)?;
            if transaction.sent && !was_sent {
                // A connection that stands is written to at once.
                sent += 1;
                if sent == load.transactions {
                    connected = clock.now().at.since(begun);
                }
            }
            if !is_done {
                continue;
            }
            done += 1;
            // What stood in its place ends, and with it its connection.
            slots[slot] = None;
            if next < load.transactions {
                slots[slot] = Some(load.begin(next, slot, &poll)?);
                next += 1;
            }
        }
    }
    Ok(Took { connected, all: clock.now().at.since(begun) })
}
