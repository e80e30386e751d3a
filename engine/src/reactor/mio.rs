//! The poller on the operating system's sockets, through mio: epoll, edge-triggered.

use super::poller::{Poller, Readiness, Token, Wake};
use crate::node::io::PeerAddr;
use crate::time::Instant;
use mio::unix::SourceFd;
use mio::{Interest, net};
use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use std::fs::{self, File, Permissions};
use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The waker's token, which no connection, listener or foreign descriptor has.
const WAKER: mio::Token = mio::Token(usize::MAX);
/// A peer that vanished without a word is found out after two minutes: 60 s + 4 × 15 s.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_RETRIES: u32 = 4;

/// Up to so many bytes in pieces are copied into one: that takes less than what the kernel needs to
/// look through a list of pieces.
const GATHERED_MAX: usize = 8 * 1024;

/// Sockets of this machine.
#[derive(Debug)]
pub struct MioPoller {
    poll: mio::Poll,
    events: mio::Events,
    waker: Arc<MioWaker>,
    /// Small pieces are joined here.
    gathered: Box<[u8]>,
}

#[derive(Debug)]
struct MioWaker(mio::Waker);

impl Wake for MioWaker {
    fn wake(&self) {
        if let Err(e) = self.0.wake() {
            // An eventfd refuses only a counter that is full, which is a wake under way.
            log::error!("cannot wake the loop: {e}");
        }
    }
}

/// A connection of [`MioPoller`].
#[derive(Debug)]
pub enum MioStream {
    /// To another machine, or this one.
    Tcp(net::TcpStream),
    /// To a process of this machine.
    Unix(net::UnixStream),
}

/// A listening socket of [`MioPoller`].
#[derive(Debug)]
pub enum MioListener {
    /// For peers.
    Tcp(net::TcpListener),
    /// For commands; its file is removed when it is closed, if it is still the same.
    Unix {
        /// The socket.
        listener: net::UnixListener,
        /// Where it lies.
        path: PathBuf,
        /// Its device and inode.
        file: (u64, u64),
    },
}

impl MioPoller {
    /// A poller that watches nothing yet.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let waker = Arc::new(MioWaker(mio::Waker::new(poll.registry(), WAKER)?));
        let events = mio::Events::with_capacity(64);
        Ok(Self { poll, events, waker, gathered: vec![0; GATHERED_MAX].into() })
    }
}

fn mio_token(token: Token) -> mio::Token {
    mio::Token(usize::try_from(token.0).expect("Drover is for 64-bit machines"))
}

/// Linux's way to bind an address without taking a port before the destination is known;
/// neither socket2 nor mio has it.
fn bind_address_no_port(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open, and the option's value is an int that outlives the call.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The user at the other end of a Unix socket; std's own function for it is unstable.
fn peer_uid(stream: &net::UnixStream) -> io::Result<u32> {
    let mut cred = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and `cred` is writable for `len` bytes.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut cred).cast(),
            &raw mut len,
        )
    };
    if result == 0 { Ok(cred.uid) } else { Err(io::Error::last_os_error()) }
}

fn tune(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_RETRIES),
    )
}

fn new_socket(addr: SocketAddr) -> io::Result<Socket> {
    Socket::new(Domain::for_address(addr), Type::STREAM.nonblocking().cloexec(), None)
}

fn repeat<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Removes what lies at `path` if it is a socket that nobody listens on.
fn remove_stale_socket(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    let in_use = |why: &'static str| {
        // The caller says which path it is.
        Err(io::Error::new(io::ErrorKind::AddrInUse, why))
    };
    if !found.file_type().is_socket() {
        return in_use("exists and is no socket; remove it, or configure another path");
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => in_use("has a listener already; is the daemon running?"),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(e) => Err(e),
    }
}

impl Poller for MioPoller {
    type Stream = MioStream;
    type Listener = MioListener;

    fn poll(
        &mut self,
        events: &mut Vec<Readiness>,
        now: Instant,
        deadline: Option<Instant>,
    ) -> io::Result<()> {
        let room = (events.capacity() - events.len()).max(1);
        if self.events.capacity() != room {
            self.events = mio::Events::with_capacity(room);
        }
        let timeout = deadline.map(|at| at.since(now));
        match self.poll.poll(&mut self.events, timeout) {
            // A signal: its handler has made a descriptor ready, the next turn sees it.
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        events.extend(self.events.iter().filter(|e| e.token() != WAKER).map(|event| {
            let failed = event.is_error();
            Readiness {
                token: Token(event.token().0 as u64),
                readable: event.is_readable() || event.is_read_closed() || failed,
                writable: event.is_writable() || event.is_write_closed() || failed,
                ended: event.is_read_closed() || event.is_write_closed() || failed,
            }
        }));
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.waker.clone()
    }

    fn listen(&mut self, addr: SocketAddr, backlog: u32, token: Token) -> io::Result<MioListener> {
        let socket = new_socket(addr)?;
        socket.set_reuse_address(true)?;
        // Accepted sockets inherit these, which saves their calls per connection.
        tune(&socket)?;
        socket.bind(&addr.into())?;
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        let mut listener = net::TcpListener::from_std(socket.into());
        self.poll.registry().register(&mut listener, mio_token(token), Interest::READABLE)?;
        Ok(MioListener::Tcp(listener))
    }

    fn listen_unix(&mut self, path: &Path, token: Token) -> io::Result<MioListener> {
        remove_stale_socket(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
        // The mode of the unbound socket becomes its file's: at no moment may others connect.
        let socket = File::from(OwnedFd::from(socket));
        socket.set_permissions(Permissions::from_mode(0o600))?;
        let socket = Socket::from(OwnedFd::from(socket));
        socket.bind(&SockAddr::unix(path)?)?;
        socket.listen(128)?;
        let file = fs::symlink_metadata(path)?;
        let mut listener = net::UnixListener::from_std(socket.into());
        self.poll.registry().register(&mut listener, mio_token(token), Interest::READABLE)?;
        Ok(MioListener::Unix { listener, path: path.into(), file: (file.dev(), file.ino()) })
    }

    fn listen_addr(&self, listener: &MioListener) -> Option<SocketAddr> {
        match listener {
            MioListener::Tcp(listener) => listener.local_addr().ok(),
            MioListener::Unix { .. } => None,
        }
    }

    fn accept(&mut self, listener: &MioListener) -> io::Result<(MioStream, PeerAddr)> {
        match listener {
            MioListener::Tcp(listener) => {
                let (stream, peer) = repeat(|| listener.accept())?;
                Ok((MioStream::Tcp(stream), PeerAddr::Tcp(peer)))
            }
            MioListener::Unix { listener, .. } => {
                let (stream, _) = repeat(|| listener.accept())?;
                let uid = peer_uid(&stream)?;
                Ok((MioStream::Unix(stream), PeerAddr::Unix { uid }))
            }
        }
    }

    fn connect(
        &mut self,
        addr: SocketAddr,
        from: Option<IpAddr>,
        token: Token,
    ) -> io::Result<(MioStream, bool)> {
        let socket = new_socket(addr)?;
        // No keepalive: who dials awaits something, and has a deadline for it.
        if let Some(from) = from {
            bind_address_no_port(&socket)?;
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        match socket.connect(&addr.into()) {
            Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => {}
            other => other?,
        }
        let mut stream = net::TcpStream::from_std(socket.into());
        // On this machine the handshake is over when the call returns: whoever asks now saves an
        // event and a second look at all that belongs to this dial.
        let over = addr.ip().is_loopback() && stream.peer_addr().is_ok();
        let interest =
            if over { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
        self.poll.registry().register(&mut stream, mio_token(token), interest)?;
        Ok((MioStream::Tcp(stream), over))
    }

    fn connected(&mut self, stream: &MioStream) -> io::Result<bool> {
        let MioStream::Tcp(stream) = stream else { return Ok(true) };
        // Asked first, since it is enough when all went well.
        match stream.peer_addr() {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotConnected => {
                stream.take_error()?.map_or(Ok(false), Err)
            }
            Err(e) => Err(e),
        }
    }

    fn register(&mut self, stream: &mut MioStream, token: Token) -> io::Result<()> {
        let registry = self.poll.registry();
        match stream {
            MioStream::Tcp(s) => registry.register(s, mio_token(token), Interest::READABLE),
            MioStream::Unix(s) => registry.register(s, mio_token(token), Interest::READABLE),
        }
    }

    fn watch_writable(&mut self, stream: &mut MioStream, token: Token, on: bool) -> io::Result<()> {
        let wanted = if on { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        let registry = self.poll.registry();
        match stream {
            MioStream::Tcp(s) => registry.reregister(s, mio_token(token), wanted),
            MioStream::Unix(s) => registry.reregister(s, mio_token(token), wanted),
        }
    }

    fn read(&mut self, stream: &mut MioStream, buf: &mut [u8]) -> io::Result<usize> {
        repeat(|| match stream {
            MioStream::Tcp(s) => s.read(buf),
            MioStream::Unix(s) => s.read(buf),
        })
    }

    fn write_vectored(
        &mut self,
        stream: &mut MioStream,
        bufs: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        let size: usize = bufs.iter().map(|buf| buf.len()).sum();
        let whole: &[u8] = match bufs {
            [only] => only,
            _ if size <= self.gathered.len() => {
                let mut room = &mut self.gathered[..];
                for buf in bufs {
                    let (into, rest) = room.split_at_mut(buf.len());
                    into.copy_from_slice(buf);
                    room = rest;
                }
                &self.gathered[..size]
            }
            _ => {
                return repeat(|| match stream {
                    MioStream::Tcp(s) => s.write_vectored(bufs),
                    MioStream::Unix(s) => s.write_vectored(bufs),
                });
            }
        };
        repeat(|| match stream {
            MioStream::Tcp(s) => s.write(whole),
            MioStream::Unix(s) => s.write(whole),
        })
    }

    fn send_at_once(&mut self, stream: &mut MioStream) {
        if let MioStream::Tcp(stream) = stream {
            let _ = stream.set_nodelay(true);
        }
    }

    fn send_file(
        &mut self,
        stream: &mut MioStream,
        file: &File,
        offset: u64,
        len: usize,
    ) -> io::Result<usize> {
        let Some(length) = NonZeroUsize::new(len) else { return Ok(0) };
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let socket = match stream {
            MioStream::Tcp(s) => SockRef::from(&*s),
            MioStream::Unix(s) => SockRef::from(&*s),
        };
        match repeat(|| socket.sendfile(file, offset, Some(length)))? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            sent => Ok(sent),
        }
    }

    fn shutdown_write(&mut self, stream: &mut MioStream) -> io::Result<()> {
        match stream {
            MioStream::Tcp(s) => s.shutdown(std::net::Shutdown::Write),
            MioStream::Unix(s) => s.shutdown(std::net::Shutdown::Write),
        }
    }

    fn close(&mut self, stream: MioStream) {
        // The last descriptor of a socket takes it off epoll as it closes, and ours are never
        // duplicated.
        drop(stream);
    }

    fn close_listener(&mut self, listener: MioListener) {
        if let MioListener::Unix { path, file, .. } = &listener {
            let same = |found: fs::Metadata| (found.dev(), found.ino()) == *file;
            if fs::symlink_metadata(path).is_ok_and(same) {
                let _ = fs::remove_file(path);
            }
        }
    }

    fn local_addr(&self, stream: &MioStream) -> Option<SocketAddr> {
        match stream {
            MioStream::Tcp(stream) => stream.local_addr().ok(),
            MioStream::Unix(_) => None,
        }
    }

    fn register_fd(&mut self, fd: RawFd, token: Token) -> io::Result<()> {
        self.poll.registry().register(&mut SourceFd(&fd), mio_token(token), Interest::READABLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn option(stream: &MioStream, level: libc::c_int, option: libc::c_int) -> libc::c_int {
        let MioStream::Tcp(stream) = stream else { panic!("{stream:?}") };
        let mut value: libc::c_int = -1;
        let mut len = size_of_val(&value) as libc::socklen_t;
        // SAFETY: the descriptor is open, and `value` is writable for `len` bytes.
        #[allow(unsafe_code)]
        let result = unsafe {
            libc::getsockopt(
                stream.as_raw_fd(),
                level,
                option,
                (&raw mut value).cast(),
                &raw mut len,
            )
        };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
        value
    }

    /// What was read from a socket until it had this many bytes.
    fn read_exactly(stream: MioStream, size: usize) -> Vec<u8> {
        let MioStream::Tcp(stream) = stream else { panic!("{stream:?}") };
        let mut stream = std::net::TcpStream::from(stream);
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut bytes = vec![0; size];
        stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn pieces_arrive_in_order_whether_they_are_gathered_or_not() {
        let mut poller = MioPoller::new().unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = poller.listen(any, 8, Token(1)).unwrap();
        let addr = poller.listen_addr(&listener).unwrap();
        for size in [1, 100, GATHERED_MAX - 1, GATHERED_MAX, GATHERED_MAX + 1, 3 * GATHERED_MAX] {
            let (mut dialled, over) = poller.connect(addr, None, Token(2)).unwrap();
            assert!(over, "the handshake on this machine is over when the call returns");
            let (accepted, _) = poller.accept(&listener).unwrap();
            let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            let (head, rest) = bytes.split_at(size / 3);
            let slices = [IoSlice::new(head), IoSlice::new(&[]), IoSlice::new(rest)];
            assert_eq!(poller.write_vectored(&mut dialled, &slices).unwrap(), size);
            assert_eq!(read_exactly(accepted, size), bytes);
        }
    }

    /// One call less for each of the many connections that are written to once.
    #[test]
    fn who_dials_waits_with_a_second_write_until_told_not_to() {
        let mut poller = MioPoller::new().unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = poller.listen(any, 8, Token(1)).unwrap();
        let addr = poller.listen_addr(&listener).unwrap();
        let (mut dialled, _) = poller.connect(addr, None, Token(2)).unwrap();
        let (accepted, _) = poller.accept(&listener).unwrap();
        let at_once = |stream: &MioStream| option(stream, libc::IPPROTO_TCP, libc::TCP_NODELAY);
        assert_eq!((at_once(&dialled), at_once(&accepted)), (0, 1));
        poller.send_at_once(&mut dialled);
        assert_eq!(at_once(&dialled), 1);
    }

    /// With it an address has its ports once for each destination; without it, once at all.
    #[test]
    fn who_dials_from_an_address_takes_its_port_only_with_the_destination() {
        let mut poller = MioPoller::new().unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = poller.listen(any, 8, Token(1)).unwrap();
        let addr = poller.listen_addr(&listener).unwrap();
        let from = IpAddr::from([127, 0, 0, 9]);
        let (dialled, _) = poller.connect(addr, Some(from), Token(2)).unwrap();
        assert_eq!(option(&dialled, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT), 1);
        assert_eq!(poller.local_addr(&dialled).map(|local| local.ip()), Some(from));
    }
}
