//! The least that a server can do: accept, read one request, answer it, close.
//!
//! A request of no protocol is answered, and its connection closed. Drover's frames get the
//! ack that their header asks for, its bytes taken from where they lie and from nothing else;
//! the connection then ends when the client has ended it, as the protocol wants. A request to
//! be bound is granted as well, slowly and by the engine's own means: that is no part of what
//! is measured, but without it no client of `loadgen` goes on.

use super::{RAW_ANSWER, RAW_REQUEST};
use engine::ids::{Epoch, HostName, Origin};
use engine::limits::HEADER_SIZE;
use engine::wire::message::{BindReq, BindResp};
use engine::wire::{Frame, FrameBuf, Kind, MAGIC, RouteBuf, access};
use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use socket2::{Domain, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

const LISTENER: Token = Token(usize::MAX);
const STDIN: Token = Token(usize::MAX - 2);
/// A frame with a body of 4 KiB fits.
const REQUEST_SIZE_MAX: usize = 8192;

struct Conn {
    stream: TcpStream,
    /// What has come of a request that did not come in one piece.
    kept: Vec<u8>,
}

/// Serves until its standard input ends. `told` is where it listens; hosts are dialled back at
/// the port `back` of the address that they came from.
///
/// # Errors
/// It cannot listen, or epoll fails.
pub fn serve(listen: SocketAddr, back: u16, told: impl FnOnce(SocketAddr)) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking().cloexec(), None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&listen.into())?;
    socket.listen(i32::from(u16::MAX))?;
    let mut listener = TcpListener::from_std(socket.into());
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    poll.registry().register(&mut SourceFd(&0), STDIN, Interest::READABLE)?;
    told(listener.local_addr()?);
    let mut events = Events::with_capacity(256);
    let mut conns = Slab::new();
    let mut buffer = [0; REQUEST_SIZE_MAX];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            match event.token() {
                LISTENER => accept(&listener, &poll, &mut conns)?,
                STDIN => return Ok(()),
                Token(at) => {
                    if let Some(conn) = conns.get_mut(at)
                        && (event.is_read_closed() || has_ended(conn, &mut buffer, back)?)
                    {
                        conns.remove(at);
                    }
                }
            }
        }
    }
}

fn accept(listener: &TcpListener, poll: &Poll, conns: &mut Slab<Conn>) -> io::Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let at = conns.insert(Conn { stream, kept: Vec::new() });
        poll.registry().register(&mut conns[at].stream, Token(at), Interest::READABLE)?;
    }
}

/// Reads once, and answers what is whole; whether the connection is to be closed. What comes
/// later makes another event.
fn has_ended(conn: &mut Conn, buffer: &mut [u8], back: u16) -> io::Result<bool> {
    let read = match conn.stream.read(buffer) {
        Ok(0) => return Ok(true),
        Ok(read) => read,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
        Err(_) => return Ok(true),
    };
    let mut rest = &buffer[..read];
    let mut kept = std::mem::take(&mut conn.kept);
    if !kept.is_empty() {
        kept.extend_from_slice(rest);
        rest = &kept;
    }
    while let Some((request, behind)) = request_size(rest).and_then(|n| rest.split_at_checked(n)) {
        if !request.starts_with(&MAGIC) {
            return conn.stream.write_all(&[0; RAW_ANSWER]).map(|()| true);
        }
        if conn.stream.write_all(&ack(request)).is_err() {
            return Ok(true);
        }
        if request[5] == Kind::BIND_REQ.0 {
            grant(request, SocketAddr::new(conn.stream.peer_addr()?.ip(), back))?;
        }
        rest = behind;
    }
    conn.kept = rest.to_vec();
    Ok(rest.len() > REQUEST_SIZE_MAX)
}

/// Bytes of the request that begins here, as far as they can be told.
fn request_size(bytes: &[u8]) -> Option<usize> {
    if !bytes.starts_with(&MAGIC) {
        return Some(RAW_REQUEST);
    }
    let header = bytes.first_chunk::<HEADER_SIZE>()?;
    let body = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    let route = u16::from_le_bytes([header[12], header[13]]);
    Some(HEADER_SIZE + usize::from(route) + body as usize)
}

/// The ack of a frame, from the bytes of its header: its lane, epoch and seq.
fn ack(request: &[u8]) -> [u8; HEADER_SIZE] {
    let mut ack = [0; HEADER_SIZE];
    ack[..5].copy_from_slice(&request[..5]);
    ack[5] = Kind::ACK.0;
    ack[6] = request[6] & 0b11;
    ack[14] = 1;
    ack[16..32].copy_from_slice(&request[16..32]);
    let crc = crc32fast::hash(&ack[..40]);
    ack[40..].copy_from_slice(&crc.to_le_bytes());
    ack
}

/// Dials a client back and tells it that it is bound.
fn grant(request: &[u8], client: SocketAddr) -> io::Result<()> {
    let wrong = |error: &dyn std::fmt::Display| io::Error::other(error.to_string());
    let frame = Frame::parse(request).map_err(|error| wrong(&error))?;
    let origin = frame.route().and_then(|route| route.origin()).map_err(|error| wrong(&error))?;
    let nonce = access::<BindReq>(&frame).map_err(|error| wrong(&error))?.nonce.to_native();
    let answer = BindResp { nonce, version: "0".into() };
    let name = HostName::parse(b"minimal").map_err(|error| wrong(&error))?;
    let route = RouteBuf::from(Origin { name, epoch: Epoch(1), seq: nonce }).to(origin.name);
    let frame = FrameBuf::message(Some(&route), &answer, |header| {
        header.epoch = Epoch(1);
        header.seq = nonce;
    });
    let mut stream = std::net::TcpStream::connect(client)?;
    stream.write_all(&frame.to_vec())?;
    stream.read_exact(&mut [0; HEADER_SIZE])
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::delivery;
    use engine::wire::Lane;

    #[test]
    fn an_ack_is_what_the_engine_sends() {
        let frame = FrameBuf::bare(Kind::REPORT, |header| {
            header.lane = Lane::Durable;
            header.epoch = Epoch(77);
            header.seq = 12;
        });
        let expected = delivery::ack(Lane::Durable, Epoch(77), 12, false).to_vec();
        assert_eq!(ack(&frame.to_vec()).to_vec(), expected);
        let bytes = frame.to_vec();
        assert_eq!((request_size(&bytes), request_size(&bytes[..43])), (Some(44), None));
        assert_eq!(request_size(&[0; 3]), Some(RAW_REQUEST));
    }
}
