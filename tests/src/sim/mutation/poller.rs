//! A poller that loses events.

use engine::node::io::PeerAddr;
use engine::reactor::poller::{Poller, Readiness, Token, Wake};
use engine::reactor::sim::{SimListener, SimPoller, SimStream};
use engine::time::Instant;
use std::fs::File;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;

use super::Mutation;

/// Of so many events one is lost.
const EVENTS: u32 = 8;

/// A simulated poller, with a fault or without.
#[derive(Debug)]
pub struct MutatedPoller {
    poller: SimPoller,
    loses: bool,
    events: u32,
}

impl MutatedPoller {
    /// This poller with this fault, if it is one of a poller.
    #[must_use]
    pub fn new(poller: SimPoller, mutation: Option<Mutation>) -> Self {
        Self { poller, loses: mutation == Some(Mutation::LoseEdge), events: 0 }
    }

    /// The poller.
    #[must_use]
    pub fn inner(&self) -> &SimPoller {
        &self.poller
    }
}

impl Poller for MutatedPoller {
    type Stream = SimStream;
    type Listener = SimListener;

    fn poll(
        &mut self,
        events: &mut Vec<Readiness>,
        now: Instant,
        deadline: Option<Instant>,
    ) -> io::Result<()> {
        self.poller.poll(events, now, deadline)?;
        if self.loses {
            events.retain(|_| {
                self.events += 1;
                !self.events.is_multiple_of(EVENTS)
            });
        }
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.poller.waker()
    }

    fn listen(&mut self, addr: SocketAddr, backlog: u32, token: Token) -> io::Result<SimListener> {
        self.poller.listen(addr, backlog, token)
    }

    fn listen_unix(&mut self, path: &Path, token: Token) -> io::Result<SimListener> {
        self.poller.listen_unix(path, token)
    }

    fn listen_addr(&self, listener: &SimListener) -> Option<SocketAddr> {
        self.poller.listen_addr(listener)
    }

    fn accept(&mut self, listener: &SimListener) -> io::Result<(SimStream, PeerAddr)> {
        self.poller.accept(listener)
    }

    fn connect(
        &mut self,
        addr: SocketAddr,
        from: Option<std::net::IpAddr>,
        token: Token,
    ) -> io::Result<(SimStream, bool)> {
        self.poller.connect(addr, from, token)
    }

    fn connected(&mut self, stream: &SimStream) -> io::Result<bool> {
        self.poller.connected(stream)
    }

    fn register(&mut self, stream: &mut SimStream, token: Token) -> io::Result<()> {
        self.poller.register(stream, token)
    }

    fn watch_writable(&mut self, stream: &mut SimStream, token: Token, on: bool) -> io::Result<()> {
        self.poller.watch_writable(stream, token, on)
    }

    fn read(&mut self, stream: &mut SimStream, buf: &mut [u8]) -> io::Result<usize> {
        self.poller.read(stream, buf)
    }

    fn write_vectored(
        &mut self,
        stream: &mut SimStream,
        bufs: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        self.poller.write_vectored(stream, bufs)
    }

    fn send_file(
        &mut self,
        stream: &mut SimStream,
        file: &File,
        offset: u64,
        len: usize,
    ) -> io::Result<usize> {
        self.poller.send_file(stream, file, offset, len)
    }

    fn send_at_once(&mut self, stream: &mut SimStream) {
        self.poller.send_at_once(stream);
    }

    fn shutdown_write(&mut self, stream: &mut SimStream) -> io::Result<()> {
        self.poller.shutdown_write(stream)
    }

    fn close(&mut self, stream: SimStream) {
        self.poller.close(stream);
    }

    fn close_listener(&mut self, listener: SimListener) {
        self.poller.close_listener(listener);
    }

    fn local_addr(&self, stream: &SimStream) -> Option<SocketAddr> {
        self.poller.local_addr(stream)
    }

    fn register_fd(&mut self, fd: RawFd, token: Token) -> io::Result<()> {
        self.poller.register_fd(fd, token)
    }
}
