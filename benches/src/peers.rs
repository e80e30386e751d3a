//! Peers that fetch blobs, many at once, and drop what they get where it lies: the kernel is told
//! to throw it away (`MSG_TRUNC`), since to copy it would cost more than to send it.

use crate::shelf::Shelf;
use engine::blob::piece_len;
use engine::limits::{CHUNK_SIZE_MAX, HEADER_SIZE};
use engine::wire::message::FetchReq;
use engine::wire::{FrameBuf, Kind};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use nix::sys::socket::{MsgFlags, recv};
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// Bytes dropped at once.
const DROP_SIZE: usize = 4 << 20;

/// What is spoken with the server.
pub trait Dialect {
    /// Bytes read at most until the head of an answer is known. What they have of the content is
    /// copied.
    const HEAD_SIZE: usize;
    /// Requests for one blob under way at once.
    const UNDER_WAY: usize;

    /// The requests that fetch a blob, in order.
    fn requests(&self, blob: usize) -> &[Vec<u8>];

    /// The bytes of the head with which these begin, and those of the content that follows it, in
    /// the answer to a request of a blob's; `None` while that cannot be told.
    ///
    /// # Errors
    /// It is not that answer.
    fn head(&self, request: usize, input: &[u8]) -> io::Result<Option<(usize, usize)>>;
}

struct Peer {
    stream: TcpStream,
    /// What it fetches, if anything.
    blob: Option<usize>,
    asked: usize,
    answered: usize,
    head: Vec<u8>,
    /// Bytes of the content that are still to come, once the head is known.
    left: Option<usize>,
}

/// Connections that are kept from round to round.
pub struct Peers<D> {
    dialect: D,
    peers: Vec<Peer>,
    poll: Poll,
    dropped: Vec<u8>,
}

/// What a round came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetched {
    /// How long it took.
    pub elapsed: Duration,
    /// Bytes of blobs that came.
    pub bytes: u64,
}

impl<D: Dialect> Peers<D> {
    /// Connects so many times.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(to: SocketAddr, peers: usize, dialect: D) -> io::Result<Self> {
        let poll = Poll::new()?;
        let connect = |number| {
            let stream = std::net::TcpStream::connect(to)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
            let (head, left) = (Vec::new(), None);
            Ok(Peer { stream, blob: None, asked: 0, answered: 0, head, left })
        };
        let peers = (0..peers).map(connect).collect::<io::Result<_>>()?;
        Ok(Self { dialect, peers, poll, dropped: vec![0; DROP_SIZE] })
    }

    /// Fetches so many blobs, each peer one after another, of the first `of` in turn.
    ///
    /// # Errors
    /// A connection ended, or an answer was none.
    pub fn round(&mut self, blobs: usize, of: usize) -> io::Result<Fetched> {
        let begun = Instant::now();
        let (mut next, mut done, mut bytes) = (0, 0, 0);
        for number in 0..self.peers.len().min(blobs) {
            self.begin(number, next % of)?;
            next += 1;
        }
        let mut events = Events::with_capacity(256);
        while done < blobs {
            self.poll.poll(&mut events, None)?;
            for event in &events {
                let Token(number) = event.token();
                if !self.go_on(number, &mut bytes)? {
                    continue;
                }
                done += 1;
                if next < blobs {
                    // Its answer makes an event of its own: nothing of it can be there yet.
                    self.begin(number, next % of)?;
                    next += 1;
                }
            }
        }
        Ok(Fetched { elapsed: begun.elapsed(), bytes })
    }

    fn begin(&mut self, number: usize, blob: usize) -> io::Result<()> {
        let peer = &mut self.peers[number];
        (peer.blob, peer.asked, peer.answered) = (Some(blob), 0, 0);
        self.ask(number)
    }

    /// Asks for as much as may be under way.
    fn ask(&mut self, number: usize) -> io::Result<()> {
        let peer = &mut self.peers[number];
        let Some(blob) = peer.blob else { return Ok(()) };
        let requests = self.dialect.requests(blob);
        let upto = requests.len().min(peer.answered + D::UNDER_WAY);
        if peer.asked < upto {
            // They are short, and the server has read those before: there is room for them.
            peer.stream.write_all(&requests[peer.asked..upto].concat())?;
            peer.asked = upto;
        }
        Ok(())
    }

    /// Takes what has come; whether the blob is complete.
    fn go_on(&mut self, number: usize, bytes: &mut u64) -> io::Result<bool> {
        loop {
            let peer = &mut self.peers[number];
            let Some(blob) = peer.blob else { return Ok(false) };
            match &mut peer.left {
                None => {
                    let known = peer.head.len();
                    peer.head.resize(D::HEAD_SIZE, 0);
                    let read = receive(&peer.stream, &mut peer.head[known..], MsgFlags::empty());
                    peer.head.truncate(known + *read.as_ref().unwrap_or(&0));
                    if is_over(&read)? {
                        return Ok(false);
                    }
                    if let Some((head, content)) = self.dialect.head(peer.answered, &peer.head)? {
                        let came = peer.head.len() - head;
                        let left = content.checked_sub(came);
                        peer.left = Some(left.ok_or(ErrorKind::InvalidData)?);
                        peer.head.clear();
                        *bytes += came as u64;
                    }
                }
                Some(left) => {
                    let most = (*left).min(DROP_SIZE);
                    let read =
                        receive(&peer.stream, &mut self.dropped[..most], MsgFlags::MSG_TRUNC);
                    if is_over(&read)? {
                        return Ok(false);
                    }
                    let read = read?;
                    *left -= read;
                    *bytes += read as u64;
                }
            }
            if peer.left == Some(0) {
                peer.left = None;
                peer.answered += 1;
                if peer.answered == self.dialect.requests(blob).len() {
                    peer.blob = None;
                    return Ok(true);
                }
                self.ask(number)?;
            }
        }
    }
}

fn receive(stream: &TcpStream, buffer: &mut [u8], flags: MsgFlags) -> io::Result<usize> {
    match recv(stream.as_raw_fd(), buffer, flags) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        other => Ok(other?),
    }
}

/// Whether there is nothing more for now.
fn is_over(read: &io::Result<usize>) -> io::Result<bool> {
    match read {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
    }
}

/// Drover's: a request for each piece.
#[derive(Debug)]
pub struct Drover {
    size: u64,
    requests: Vec<Vec<Vec<u8>>>,
}

impl Drover {
    /// For the blobs of this shelf.
    #[must_use]
    pub fn new(shelf: &Shelf) -> Self {
        let pieces = shelf.size.div_ceil(CHUNK_SIZE_MAX as u64);
        let request = |number: usize, piece: u64| {
            let (name, hash) = (Shelf::name(number), shelf.hashes[number].0);
            let request = FetchReq { name, hash, offset: piece * CHUNK_SIZE_MAX as u64 };
            FrameBuf::message(None, &request, |header| header.seq = piece + 1).to_vec()
        };
        let of_blob = |number| (0..pieces).map(|piece| request(number, piece)).collect();
        Self { size: shelf.size, requests: (0..shelf.hashes.len()).map(of_blob).collect() }
    }
}

impl Dialect for Drover {
    /// The header, and the offset with which a chunk begins.
    const HEAD_SIZE: usize = HEADER_SIZE + 8;
    const UNDER_WAY: usize = 4;

    fn requests(&self, blob: usize) -> &[Vec<u8>] {
        &self.requests[blob]
    }

    fn head(&self, request: usize, input: &[u8]) -> io::Result<Option<(usize, usize)>> {
        if input.len() < Self::HEAD_SIZE {
            return Ok(None);
        }
        let offset = (request * CHUNK_SIZE_MAX) as u64;
        let content = piece_len(offset, self.size);
        let len = u32::try_from(content + 8).expect("a piece is short");
        let is_right = input[5] == Kind::CHUNK.0
            && input[8..12] == len.to_le_bytes()
            && input[HEADER_SIZE..Self::HEAD_SIZE] == offset.to_le_bytes();
        if !is_right {
            return Err(io::Error::other(format!("kind {} came, or another piece", input[5])));
        }
        Ok(Some((Self::HEAD_SIZE, content)))
    }
}

/// HTTP: a request for each blob.
#[derive(Debug)]
pub struct Http {
    size: u64,
    requests: Vec<[Vec<u8>; 1]>,
}

impl Http {
    /// For the blobs of this shelf, of a server that serves its directory.
    #[must_use]
    pub fn new(shelf: &Shelf) -> Self {
        let request = |number| {
            let path = shelf.path(number);
            [format!("GET {path} HTTP/1.1\r\nHost: bench.test\r\n\r\n").into_bytes()]
        };
        Self { size: shelf.size, requests: (0..shelf.hashes.len()).map(request).collect() }
    }
}

impl Dialect for Http {
    const HEAD_SIZE: usize = 512;
    const UNDER_WAY: usize = 1;

    fn requests(&self, blob: usize) -> &[Vec<u8>] {
        &self.requests[blob]
    }

    fn head(&self, _: usize, input: &[u8]) -> io::Result<Option<(usize, usize)>> {
        let Some(end) = input.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            return match input.len() {
                Self::HEAD_SIZE => Err(io::Error::other("a head of HTTP is longer than expected")),
                _ => Ok(None),
            };
        };
        let head = String::from_utf8_lossy(&input[..end]).to_ascii_lowercase();
        let mut fields = head.lines().filter_map(|line| line.strip_prefix("content-length:"));
        let content = fields.next().and_then(|len| len.trim().parse().ok());
        if !head.starts_with("http/1.1 200") || content != Some(self.size) {
            return Err(io::Error::other(head));
        }
        Ok(Some((end + 4, usize::try_from(self.size).expect("it fits in memory"))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::wire::Frame;
    use engine::wire::access;

    #[test]
    fn a_blob_of_several_pieces_takes_as_many_requests_and_each_has_its_own_answer() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::fill(dir.path(), CHUNK_SIZE_MAX + 10, 2).unwrap();
        let drover = Drover::new(&shelf);
        let request = &drover.requests(1)[1];
        let frame = Frame::parse(request).unwrap();
        let asked = access::<FetchReq>(&frame).unwrap();
        assert_eq!((asked.offset.to_native(), asked.hash), (1 << 18, shelf.hashes[1].0));
        assert_eq!(drover.requests(0).len(), 2);
        let mut answer = vec![0; 52];
        answer[5] = Kind::CHUNK.0;
        answer[8..12].copy_from_slice(&18_u32.to_le_bytes());
        answer[44..].copy_from_slice(&(1_u64 << 18).to_le_bytes());
        assert_eq!(drover.head(1, &answer).unwrap(), Some((52, 10)));
        assert_eq!(drover.head(1, &answer[..51]).unwrap(), None);
        assert!(drover.head(0, &answer).is_err(), "it is the other piece");
        answer[5] = Kind::FETCH_REFUSED.0;
        assert!(drover.head(1, &answer).is_err());
    }

    #[test]
    fn an_answer_of_http_is_read_up_to_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let http = Http::new(&Shelf::fill(dir.path(), 99, 1).unwrap());
        let answer = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 99\r\n\r\nabc";
        assert_eq!(http.head(0, answer).unwrap(), Some((answer.len() - 3, 99)));
        assert_eq!(http.head(0, &answer[..30]).unwrap(), None);
        assert!(http.head(0, b"HTTP/1.1 404 No\r\nContent-Length: 99\r\n\r\n").is_err());
        assert!(http.head(0, b"HTTP/1.1 200 OK\r\nContent-Length: 98\r\n\r\n").is_err());
    }
}
