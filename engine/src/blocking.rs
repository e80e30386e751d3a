//! The blocking codec: what commands use to talk to a daemon, without a loop of their own.

use crate::clock::{Clock, SystemClock};
use crate::node::io::CloseReason;
use crate::wire::message::{ControlReq, ControlResp};
use crate::wire::{Body, Decoder, Flow, Frame, FrameBuf, WireError, access};
use rkyv::api::high::HighValidator;
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Bytes read at once.
const READ_SIZE: usize = 64 * 1024;

/// Why a conversation failed, in words for the person at the terminal.
#[derive(Debug, thiserror::Error)]
pub enum BlockingError {
    /// The connection did not come about.
    #[error("cannot reach {peer}: {}", hint(*reason))]
    Connect {
        /// The address or path.
        peer: String,
        /// Why.
        reason: CloseReason,
    },
    /// The peer ended the conversation before it was over.
    #[error("{peer} closed the connection before it had answered; its log says why")]
    Closed {
        /// The address or path.
        peer: String,
    },
    /// The peer ended the conversation within a frame.
    #[error("{peer} closed the connection within a frame; was it stopped?")]
    Truncated {
        /// The address or path.
        peer: String,
    },
    /// The peer did not answer, or did not read, in time.
    #[error("{peer} did not answer within {} s; is it overloaded or stopped? its log may say", timeout.as_secs_f32())]
    Timeout {
        /// The address or path.
        peer: String,
        /// How long it was waited for.
        timeout: Duration,
    },
    /// What came is not what this program understands.
    #[error("{peer} does not speak this version of Drover's protocol: {error}")]
    Wire {
        /// The address or path.
        peer: String,
        /// What exactly.
        error: WireError,
    },
    /// Anything else.
    #[error("the connection to {peer} failed: {error}")]
    Io {
        /// The address or path.
        peer: String,
        /// What the operating system said.
        error: io::Error,
    },
}

fn hint(reason: CloseReason) -> String {
    match reason {
        CloseReason::Refused => "nobody listens there; is the daemon running?".into(),
        CloseReason::Unreachable => "there is no route to it; is the network up?".into(),
        CloseReason::ConnectTimeout => {
            "it does not answer; is the machine up, and does a firewall let this through?".into()
        }
        CloseReason::Exhausted => "this machine has no descriptor or port left for it".into(),
        CloseReason::Os(libc::ENOENT) => {
            "there is no such socket; is the daemon running, and is the path the configured one?"
                .into()
        }
        CloseReason::Os(libc::EACCES | libc::EPERM) => {
            "permission denied; the socket is its owner's alone: run this as the daemon's user or as root"
                .into()
        }
        other => other.to_string(),
    }
}

/// A whole frame with its own memory. Header and route have been checked, the body not yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedFrame(Vec<u8>);

impl OwnedFrame {
    /// The frame, to be read.
    ///
    /// # Panics
    /// Never: only whole, checked frames are kept.
    #[must_use]
    pub fn frame(&self) -> Frame<'_> {
        Frame::parse(&self.0).expect("it was parsed when it was received")
    }
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The system lets a connect to a Unix socket whose queue is full wait for ever, unless the socket
/// has a timeout for sending.
fn connect_unix(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    socket.set_write_timeout(Some(timeout))?;
    socket.connect(&socket2::SockAddr::unix(path)?)?;
    Ok(OwnedFd::from(socket).into())
}

/// A conversation with a daemon.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    peer: String,
    timeout: Duration,
    decoder: Decoder,
    received: VecDeque<OwnedFrame>,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects to an address; `timeout` holds for the connect and for each step after it.
    ///
    /// # Errors
    /// [`BlockingError::Connect`].
    pub fn connect(addr: SocketAddr, timeout: Duration) -> Result<Self, BlockingError> {
        let peer = addr.to_string();
        let connected = TcpStream::connect_timeout(&addr, timeout.max(Duration::from_millis(1)));
        let connected = connected.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
        Self::begin(connected.map(Socket::Tcp), peer, timeout)
    }

    /// Connects to a daemon's control socket; `timeout` likewise.
    ///
    /// # Errors
    /// [`BlockingError::Connect`]; [`BlockingError::Timeout`] if the daemon takes no connection,
    /// and as many wait already as may.
    pub fn connect_unix(path: &Path, timeout: Duration) -> Result<Self, BlockingError> {
        let peer = path.display().to_string();
        match connect_unix(path, timeout.max(Duration::from_millis(1))) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                Err(BlockingError::Timeout { peer, timeout })
            }
            connected => Self::begin(connected.map(Socket::Unix), peer, timeout),
        }
    }

    fn begin(
        socket: io::Result<Socket>,
        peer: String,
        timeout: Duration,
    ) -> Result<Self, BlockingError> {
        // Zero would mean for ever to the operating system.
        let step = Some(timeout.max(Duration::from_millis(1)));
        let socket = socket.and_then(|socket| {
            match &socket {
                Socket::Tcp(s) => s.set_read_timeout(step).and(s.set_write_timeout(step)),
                Socket::Unix(s) => s.set_read_timeout(step).and(s.set_write_timeout(step)),
            }?;
            Ok(socket)
        });
        match socket {
            Ok(socket) => Ok(Self {
                socket,
                peer,
                timeout,
                decoder: Decoder::new(),
                received: VecDeque::new(),
                buffer: vec![0; READ_SIZE],
            }),
            Err(e) => {
                // The standard library's own timeout has no number of the operating system.
                let reason = match e.kind() {
                    io::ErrorKind::TimedOut => CloseReason::ConnectTimeout,
                    _ => CloseReason::of_dial(&e),
                };
                Err(BlockingError::Connect { peer, reason })
            }
        }
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// The peer does not read, or has gone.
    pub fn send(&mut self, frame: &FrameBuf) -> Result<(), BlockingError> {
        for bytes in [&frame.head, &frame.body] {
            let sent = match &mut self.socket {
                Socket::Tcp(s) => s.write_all(bytes),
                Socket::Unix(s) => s.write_all(bytes),
            };
            sent.map_err(|e| self.failed(e))?;
        }
        Ok(())
    }

    /// Waits for the next whole frame; `None` when the peer ends between two frames.
    ///
    /// # Errors
    /// No whole frame in time, or bytes that are none.
    pub fn receive(&mut self) -> Result<Option<OwnedFrame>, BlockingError> {
        // One deadline for the whole frame, which a trickle does not put off.
        let clock = SystemClock::start();
        let latest = clock.now().at + self.timeout;
        loop {
            if let Some(frame) = self.received.pop_front() {
                return Ok(Some(frame));
            }
            let left = latest.since(clock.now().at);
            if left.is_zero() {
                return Err(self.timed_out());
            }
            let read = match &mut self.socket {
                Socket::Tcp(s) => {
                    s.set_read_timeout(Some(left)).and_then(|()| s.read(&mut self.buffer))
                }
                Socket::Unix(s) => {
                    s.set_read_timeout(Some(left)).and_then(|()| s.read(&mut self.buffer))
                }
            };
            match read {
                Ok(0) if self.decoder.buffered() == 0 => return Ok(None),
                Ok(0) => return Err(BlockingError::Truncated { peer: self.peer.clone() }),
                Ok(n) => {
                    let received = &mut self.received;
                    let fed = self.decoder.feed(&self.buffer[..n], |frame| {
                        received.push_back(OwnedFrame(frame.bytes().to_vec()));
                        Flow::Next
                    });
                    fed.map_err(|error| self.not_ours(error))?;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed(e)),
            }
        }
    }

    /// Waits for the next frame, which must be there.
    ///
    /// # Errors
    /// As [`Connection::receive`]; [`BlockingError::Closed`] if there is none.
    pub fn expect(&mut self) -> Result<OwnedFrame, BlockingError> {
        self.receive()?.ok_or_else(|| BlockingError::Closed { peer: self.peer.clone() })
    }

    /// Sends a request and waits for its answer, which must be a `B`.
    ///
    /// # Errors
    /// As [`Connection::expect`]; [`BlockingError::Wire`] for another kind or a damaged body.
    pub fn request<B>(&mut self, request: &FrameBuf) -> Result<OwnedFrame, BlockingError>
    where
        B: Body,
        B::Archived: for<'b> CheckBytes<HighValidator<'b, rancor::Failure>>,
    {
        self.send(request)?;
        let answer = self.expect()?;
        access::<B>(&answer.frame()).map_err(|error| self.not_ours(error))?;
        Ok(answer)
    }

    /// Sends an operator's command and hands each piece of the answer to `piece` as it comes:
    /// whether all went well so far, and its body. Returns after the last one.
    ///
    /// # Errors
    /// As [`Connection::request`], or what `piece` returns.
    pub fn control<E: From<BlockingError>>(
        &mut self,
        verb: &str,
        arguments: Vec<u8>,
        mut piece: impl FnMut(bool, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let request = ControlReq { verb: verb.to_owned(), arguments };
        self.send(&FrameBuf::message(None, &request, |_| {}))?;
        loop {
            let frame = self.expect()?;
            let frame = frame.frame();
            let answer = access::<ControlResp>(&frame).map_err(|error| self.not_ours(error))?;
            piece(answer.ok, &answer.body)?;
            if answer.last {
                return Ok(());
            }
        }
    }

    /// Other steps wait this long from now on.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    fn not_ours(&self, error: WireError) -> BlockingError {
        BlockingError::Wire { peer: self.peer.clone(), error }
    }

    fn timed_out(&self) -> BlockingError {
        BlockingError::Timeout { peer: self.peer.clone(), timeout: self.timeout }
    }

    fn failed(&self, error: io::Error) -> BlockingError {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => self.timed_out(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                BlockingError::Closed { peer: self.peer.clone() }
            }
            _ => BlockingError::Io { peer: self.peer.clone(), error },
        }
    }
}
