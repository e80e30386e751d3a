//! A server and its clients in step: the clients act between two turns of the server's loop and
//! never within one, so that the same happens in every run, and can be counted.
//!
//! The store's thread is in step as well. After each answer it waits until the loop has ended a
//! turn in which something was gathered: that is how it is under load, where what comes while the
//! disk works is the next commit, but without any say of the disk in how much that is.

use crate::child::{Helper, answer};
use crate::flood::{Drover, Flood};
use crate::minimal::{self, Requests};
use crate::server::{Builder, Durable, Taker};
use engine::limits::{HEADER_SIZE, Limits};
use engine::node::io::Listener;
use engine::wire::{Body, Kind};
use socket2::Type;
use std::io::{self, ErrorKind, PipeWriter, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

/// Has the store's thread wait.
struct Gate {
    to_store: PipeWriter,
    /// How often it was opened.
    opened: u64,
}

impl Gate {
    /// With what the store's thread does after an answer.
    fn new() -> io::Result<(Self, impl Fn() + Send + 'static)> {
        let (from_loop, to_store) = io::pipe()?;
        let wait = move || {
            // At its end nobody is in step any more.
            let _ = (&from_loop).read(&mut [0]);
        };
        Ok((Self { to_store, opened: 0 }, wait))
    }

    /// Lets the store's thread go on from all answers that the loop has had.
    fn open(&mut self, answers: u64) -> io::Result<()> {
        while self.opened < answers {
            self.to_store.write_all(&[0])?;
            self.opened += 1;
        }
        Ok(())
    }
}

/// Serves: says where it listens, then makes a turn for every line of its input, until that ends.
/// Returns how many pairs of a `read` and a `write` it took to be in step.
///
/// # Errors
/// As [`crate::server::serve`].
pub fn serve(durable: &Durable) -> io::Result<u64> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (mut gate, wait) = Gate::new()?;
    let builder = Builder::new(Limits::default())?.durable_told(durable, wait)?;
    let mut server = builder.build(Taker);
    let at = server.listen(Listener::Peers, any)?;
    println!("{at}");
    let metrics = server.metrics();
    let mut turns = 0;
    answer(|| {
        server.turn_within(None)?;
        turns += 1;
        let inbox = server.host().parts().inbox.as_ref();
        if inbox.is_some_and(|inbox| inbox.uncommitted() > 0) {
            gate.open(metrics.mails.value())?;
        }
        Ok(String::new())
    })?;
    let pairs = turns + gate.opened;
    // Before the server, which waits for the store's thread.
    drop(gate);
    Ok(pairs)
}

/// Clients that do what they can without waiting.
pub trait Clients {
    /// One step; whether all is done.
    ///
    /// # Errors
    /// A connection ended too early, or something else came than an ack.
    fn step(&mut self) -> io::Result<bool>;

    /// Has the server turn between the steps, until all is done.
    ///
    /// # Errors
    /// As [`Clients::step`]; the server has ended.
    fn run(&mut self, server: &mut Helper) -> io::Result<()> {
        while !self.step()? {
            server.go()?;
        }
        Ok(())
    }
}

/// Connect, send one message, wait for its ack, close: some at once, then the next of them.
pub struct Visitors {
    to: SocketAddr,
    requests: Requests,
    visits: u32,
    at_once: u32,
    begun: u32,
    here: Vec<Visit>,
}

struct Visit {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Visitors {
    /// So many visits, each from an address of its own, with this message.
    #[must_use]
    pub fn new<B: Body>(to: SocketAddr, visits: u32, at_once: u32, message: &B) -> Self {
        let requests = Requests::of_hosts(visits, message);
        Self { to, requests, visits, at_once, begun: 0, here: Vec::new() }
    }
}

impl Visit {
    fn begin(number: u32, to: SocketAddr, request: &[u8]) -> io::Result<Self> {
        let socket = minimal::socket(number, Type::STREAM.cloexec())?;
        socket.connect(&to.into())?;
        let mut stream = TcpStream::from(socket);
        stream.write_all(request)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, answer: Vec::with_capacity(HEADER_SIZE) })
    }

    /// Whether its ack has come.
    fn is_over(&mut self) -> io::Result<bool> {
        let mut buffer = [0; HEADER_SIZE];
        while self.answer.len() < HEADER_SIZE {
            match self.stream.read(&mut buffer[self.answer.len()..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    let from = self.answer.len();
                    self.answer.extend_from_slice(&buffer[from..from + read]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        match self.answer[5] {
            kind if kind == Kind::ACK.0 => Ok(true),
            kind => Err(io::Error::other(format!("no ack came, but kind {kind}"))),
        }
    }
}

impl Clients for Visitors {
    fn step(&mut self) -> io::Result<bool> {
        for visit in &mut self.here {
            if !visit.is_over()? {
                return Ok(false);
            }
        }
        self.here.clear();
        let upto = self.visits.min(self.begun + self.at_once);
        let done = self.begun == self.visits;
        for number in self.begun..upto {
            self.here.push(Visit::begin(number, self.to, self.requests.number(number))?);
        }
        self.begun = upto;
        Ok(done)
    }
}

/// Connections that stay: some messages on each, and when all are acked the next.
pub struct Residents {
    flood: Flood<Drover>,
    /// Messages of each.
    messages: u64,
    at_once: u64,
    sent: u64,
}

impl Residents {
    /// So many connections, each with so many of this message.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect<B: Body>(
        to: SocketAddr,
        conns: usize,
        messages: u64,
        at_once: u64,
        message: &B,
    ) -> io::Result<Self> {
        let flood = Flood::connect(to, conns, at_once, Drover::new(conns, message))?;
        Ok(Self { flood, messages, at_once, sent: 0 })
    }
}

impl Clients for Residents {
    fn step(&mut self) -> io::Result<bool> {
        if !self.flood.step(self.sent)? {
            return Ok(false);
        }
        if self.sent == self.messages {
            return Ok(true);
        }
        self.sent = self.messages.min(self.sent + self.at_once);
        self.flood.step(self.sent)
    }
}
