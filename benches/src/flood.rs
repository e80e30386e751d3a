//! A client that floods a server: many connections, each with many requests under way.

use crate::minimal::frame;
use engine::limits::HEADER_SIZE;
use engine::wire::{Body, Kind};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Bytes read at once.
const READ_SIZE: usize = 16 * 1024;

/// What is spoken with the server.
pub trait Protocol {
    /// Appends a connection's request of this number; the first has 1.
    fn request(&mut self, conn: usize, number: u64, out: &mut Vec<u8>);

    /// How many requests of a connection these bytes answer after `before` that were answered, and
    /// how many of the bytes say so: the rest comes again with what follows it.
    ///
    /// # Errors
    /// A request was refused.
    fn answers(&mut self, before: u64, input: &[u8]) -> io::Result<(u64, usize)>;
}

struct Conn {
    stream: TcpStream,
    sent: u64,
    answered: u64,
    out: Vec<u8>,
    written: usize,
    input: Vec<u8>,
}

/// Connections that are kept from round to round.
pub struct Flood<P> {
    protocol: P,
    conns: Vec<Conn>,
    poll: Poll,
    depth: u64,
}

impl<P: Protocol> Flood<P> {
    /// Connects so many times; each connection has `depth` requests under way.
    ///
    /// # Errors
    /// Nobody listens there, or no descriptor is left.
    pub fn connect(to: SocketAddr, conns: usize, depth: u64, protocol: P) -> io::Result<Self> {
        let poll = Poll::new()?;
        let connect = |number| {
            let stream = std::net::TcpStream::connect(to)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            let both = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut stream, Token(number), both)?;
            let (out, input) = (Vec::new(), Vec::new());
            Ok(Conn { stream, sent: 0, answered: 0, out, written: 0, input })
        };
        let conns = (0..conns).map(connect).collect::<io::Result<_>>()?;
        Ok(Self { protocol, conns, poll, depth })
    }

    /// Has each connection send so many requests more, and waits until all are answered.
    ///
    /// # Errors
    /// A connection ended, or a request was refused.
    pub fn round(&mut self, each: u64) -> io::Result<Duration> {
        let begun = Instant::now();
        let upto = self.conns.first().map_or(0, |conn| conn.sent) + each;
        let mut unfinished = self.conns.len();
        for number in 0..self.conns.len() {
            self.advance(number, upto)?;
        }
        let mut events = Events::with_capacity(256);
        while unfinished > 0 {
            self.poll.poll(&mut events, None)?;
            for event in &events {
                let Token(number) = event.token();
                let before = self.conns[number].answered;
                self.hear(number)?;
                self.advance(number, upto)?;
                unfinished -= usize::from(before < upto && self.conns[number].answered == upto);
            }
        }
        Ok(begun.elapsed())
    }

    /// Reads the answers that have come and sends what may be sent, up to the request of this
    /// number on each connection, without waiting. Whether all of them are answered.
    ///
    /// # Errors
    /// As [`Flood::round`].
    pub fn step(&mut self, upto: u64) -> io::Result<bool> {
        let mut all = true;
        for number in 0..self.conns.len() {
            self.hear(number)?;
            self.advance(number, upto)?;
            all &= self.conns[number].answered >= upto;
        }
        Ok(all)
    }

    /// Reads what there is.
    fn hear(&mut self, number: usize) -> io::Result<()> {
        let conn = &mut self.conns[number];
        loop {
            let kept = conn.input.len();
            conn.input.resize(kept + READ_SIZE, 0);
            let read = match conn.stream.read(&mut conn.input[kept..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            conn.input.truncate(kept + read);
            let (answered, used) = self.protocol.answers(conn.answered, &conn.input)?;
            conn.answered += answered;
            conn.input.drain(..used);
            if read < READ_SIZE {
                return Ok(());
            }
        }
    }

    /// Sends as much as may be under way.
    fn advance(&mut self, number: usize, upto: u64) -> io::Result<()> {
        let conn = &mut self.conns[number];
        while conn.sent < upto.min(conn.answered + self.depth) {
            conn.sent += 1;
            self.protocol.request(number, conn.sent, &mut conn.out);
        }
        while conn.written < conn.out.len() {
            match conn.stream.write(&conn.out[conn.written..]) {
                Ok(written) => conn.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        conn.out.clear();
        conn.written = 0;
        Ok(())
    }
}

/// Drover's: each connection is a host with a durable queue.
#[derive(Debug)]
pub struct Drover(Vec<Vec<u8>>);

impl Drover {
    /// So many hosts, whose messages have this body.
    #[must_use]
    pub fn new<B: Body>(hosts: usize, body: &B) -> Self {
        let hosts = u32::try_from(hosts).expect("far fewer");
        Self((0..hosts).map(|host| frame(host, body)).collect())
    }
}

impl Protocol for Drover {
    fn request(&mut self, conn: usize, number: u64, out: &mut Vec<u8>) {
        let frame = &mut self.0[conn];
        crate::minimal::renumber(frame, number);
        out.extend_from_slice(frame);
    }

    fn answers(&mut self, before: u64, input: &[u8]) -> io::Result<(u64, usize)> {
        let mut upto = before;
        let mut frames = input.chunks_exact(HEADER_SIZE);
        for ack in &mut frames {
            if ack[5] != Kind::ACK.0 {
                return Err(io::Error::other(format!("no ack came, but kind {}", ack[5])));
            }
            let seq = ack[24..32].try_into().map_or(0, u64::from_le_bytes);
            upto = upto.max(seq);
        }
        Ok((upto - before, input.len() - frames.remainder().len()))
    }
}

/// Redis's: each request appends a value to one list.
#[derive(Debug)]
pub struct Redis(Vec<u8>);

impl Redis {
    /// Values of so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let head = format!("*3\r\n$5\r\nRPUSH\r\n$1\r\nq\r\n${bytes}\r\n");
        Self([head.as_bytes(), &vec![b'.'; bytes], b"\r\n"].concat())
    }
}

impl Protocol for Redis {
    fn request(&mut self, _: usize, _: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }

    fn answers(&mut self, _: u64, input: &[u8]) -> io::Result<(u64, usize)> {
        if input.contains(&b'-') {
            return Err(io::Error::other(String::from_utf8_lossy(input).into_owned()));
        }
        let used = input.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        Ok((input[..used].iter().filter(|b| **b == b'\n').count() as u64, used))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_whole() {
        let mut redis = Redis::new(3);
        assert_eq!(redis.answers(0, b":1\r\n:2\r\n:3").unwrap(), (2, 8));
        assert!(redis.answers(0, b"-ERR no\r\n").is_err());
        let mut drover = Drover::new(1, &crate::minimal::report(String::new()));
        let ack =
            engine::delivery::ack(engine::wire::Lane::Durable, engine::ids::Epoch(1), 7, false);
        let bytes = [ack.to_vec(), ack.to_vec()[..10].to_vec()].concat();
        assert_eq!(drover.answers(4, &bytes).unwrap(), (3, HEADER_SIZE));
        let mut out = Vec::new();
        drover.request(0, 9, &mut out);
        assert_eq!(engine::wire::Frame::parse(&out).unwrap().header.seq, 9);
    }
}
