//! The engine's server, put together like a daemon's of its real parts; with nothing behind it,
//! where a bench has no role of its own: it takes whatever comes from whomever.

use engine::blob::{BlobThread, Cache, Listing, Server};
use engine::clock::SystemClock;
use engine::ids::{ConnId, HostName};
use engine::limits::Limits;
use engine::node::io::{Listener, Mail, PeerAddr, Request, Services};
use engine::node::{Context, Node, Parts};
use engine::node::{Handled, Message, NodeEvent, Role};
use engine::queue::inbox::{Inbox, InboxConfig};
use engine::queue::lmdb::{LmdbConfig, LmdbStore};
use engine::queue::thread::StoreHandle;
use engine::reactor::{Mailbox, MioPoller, Reactor};
use engine::resolver::Resolver;
use engine::time::Instant;
use engine::wire::{Class, Frame};
use master::daemon::{SlowDisk, Wiring};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Address space of the queue: valgrind refuses the usual 64 GiB, and the quota is as usual.
const MAP_BYTES: usize = 8 << 30;

/// Takes everything, and makes nothing of it.
#[derive(Debug)]
pub struct Taker;

impl Role for Taker {
    type Mail = ();
    type Effect = ();

    fn accepts(&self, _: Class) -> bool {
        true
    }

    fn knows(&self, _: &HostName) -> bool {
        true
    }

    fn handle_message(&mut self, _: Message<'_>, _: &mut Context<'_, ()>) -> Handled {
        Handled::Taken
    }

    fn handle_request(
        &mut self,
        _: ConnId,
        _: &PeerAddr,
        _: Frame<'_>,
        _: &mut Context<'_, ()>,
    ) -> Option<()> {
        None
    }

    fn handle_mail(&mut self, (): (), _: &mut Context<'_, ()>) {}

    fn handle_event(&mut self, event: NodeEvent, cx: &mut Context<'_, ()>) {
        if let NodeEvent::Records(records) = event
            && let Some(last) = records.last()
        {
            cx.consumed(last.seq);
        }
    }

    fn handle_timeout(&mut self, _: &mut Context<'_, ()>) {}

    fn next_timeout(&self) -> Option<Instant> {
        None
    }

    fn is_finished(&self) -> bool {
        true
    }
}

/// The threads beside a loop: those that a bench needs.
pub struct Threads<E> {
    /// The inbox's disk.
    pub store: Option<StoreHandle>,
    /// Files.
    pub blobs: Option<BlobThread>,
    /// Names to addresses.
    pub resolver: Option<Resolver>,
    /// Takes what the role asks of threads of its own.
    pub role: Box<dyn FnMut(E)>,
}

impl<E> Services<E> for Threads<E> {
    fn dispatch(&mut self, request: Request<E>) {
        match request {
            Request::Store(command) => {
                if let Some(store) = &self.store {
                    store.submit(command);
                }
            }
            Request::Blob(command) => {
                if let Some(blobs) = &self.blobs {
                    blobs.submit(command);
                }
            }
            Request::Resolve { name } => {
                if let Some(resolver) = &mut self.resolver {
                    resolver.gather(name);
                }
            }
            Request::Role(effect) => (self.role)(effect),
        }
    }

    fn hand_over(&mut self) {
        if let Some(resolver) = &mut self.resolver {
            resolver.hand_over();
        }
    }
}

/// What becomes of durable messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Durable {
    /// There is no queue for them.
    Refused,
    /// They are kept in this directory.
    Kept(PathBuf),
    /// They are kept in it until somebody has read them, which somebody does at once.
    Drained(PathBuf),
    /// The same on a disk whose every commit takes this much longer.
    DrainedSlowly(PathBuf, Duration),
}

impl Durable {
    fn dir(&self) -> Option<&Path> {
        match self {
            Self::Refused => None,
            Self::Kept(dir) | Self::Drained(dir) | Self::DrainedSlowly(dir, _) => Some(dir),
        }
    }

    /// Starts the store thread, and makes the inbox of what is on the disk.
    fn open(
        &self,
        post: impl Fn(engine::queue::store::StoreEvent) + Send + 'static,
    ) -> io::Result<Option<(StoreHandle, Inbox)>> {
        let Some(dir) = self.dir() else { return Ok(None) };
        let (store, state) =
            LmdbStore::open(LmdbConfig { map_bytes: MAP_BYTES, ..LmdbConfig::new(dir) })
                .map_err(io::Error::other)?;
        let store = match self {
            Self::DrainedSlowly(_, delay) => {
                StoreHandle::start(SlowDisk(*delay).store(store), post)?
            }
            _ => StoreHandle::start(store, post)?,
        };
        let config = InboxConfig { bytes_high: 3 << 30, ..InboxConfig::default() };
        let mut inbox = Inbox::restore(&state, config, 1);
        if !matches!(self, Self::Kept(_)) {
            inbox.start_consuming(None);
        }
        Ok(Some((store, inbox)))
    }
}

/// A loop with its node and its threads.
pub type Loop<R> = Reactor<MioPoller, Node<R>, Threads<<R as Role>::Effect>, SystemClock>;

/// A server that is being put together.
pub struct Builder<M, E> {
    /// Where threads leave mail for the loop.
    pub mailbox: Mailbox<M>,
    /// What the node is made of.
    pub parts: Parts<E>,
    /// What is beside the loop.
    pub threads: Threads<E>,
    poller: MioPoller,
    clock: SystemClock,
    limits: Limits,
}

impl<M: Send + 'static, E> Builder<M, E> {
    /// A server that has no queue, no files and no way to others yet.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new(limits: Limits) -> io::Result<Self> {
        let poller = MioPoller::new()?;
        let name = "server.test".parse().map_err(io::Error::other)?;
        let mut parts = Parts::new(name, fastrand::Rng::with_seed(1));
        parts.reserve(&limits);
        let threads = Threads { store: None, blobs: None, resolver: None, role: Box::new(|_| {}) };
        let mailbox = Mailbox::new(&poller);
        Ok(Self { mailbox, parts, threads, poller, clock: SystemClock::start(), limits })
    }

    /// With an inbox.
    ///
    /// # Errors
    /// It cannot be opened, or there is no thread for it.
    pub fn durable(self, durable: &Durable) -> io::Result<Self> {
        self.durable_told(durable, || {})
    }

    /// The same; `stored` is called in the store's thread after each of its answers.
    ///
    /// # Errors
    /// As [`Builder::durable`].
    pub fn durable_told(
        mut self,
        durable: &Durable,
        stored: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let post = self.mailbox.clone();
        let opened = durable.open(move |event| {
            post.post(Mail::Store(event));
            stored();
        })?;
        if let Some((store, inbox)) = opened {
            self.parts.inbox = Some(Box::new(inbox));
            self.threads.store = Some(store);
        }
        Ok(self)
    }

    /// With files of this cache that it serves.
    ///
    /// # Errors
    /// There is no thread for them.
    pub fn blobs(mut self, cache: Cache, listing: Listing) -> io::Result<Self> {
        let post = self.mailbox.clone();
        let thread = BlobThread::start(cache, move |event| post.post(Mail::Blob(event)))?;
        let mut server = Server::new();
        server.listing_replaced(listing);
        self.parts.server = Some(Box::new(server));
        self.threads.blobs = Some(thread);
        Ok(self)
    }

    /// Puts it together.
    #[must_use]
    pub fn build<R: Role<Mail = M, Effect = E>>(self, role: R) -> Loop<R> {
        let node = Node::new(self.parts, role);
        Reactor::new(self.poller, self.mailbox, node, self.threads, self.clock, self.limits)
    }
}

/// Serves until it is ended. `told` is where it listens.
///
/// # Errors
/// It cannot listen, the queue cannot be opened, or epoll fails.
pub fn serve(
    listen: SocketAddr,
    limits: Limits,
    durable: &Durable,
    told: impl FnOnce(SocketAddr),
) -> io::Result<()> {
    let mut reactor = Builder::new(limits)?.durable(durable)?.build(Taker);
    told(reactor.listen(Listener::Peers, listen)?);
    reactor.run()
}
