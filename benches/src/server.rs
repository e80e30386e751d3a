//! The engine's server with nothing behind it: it takes whatever comes from whomever.

use engine::clock::{Clock, SystemClock};
use engine::ids::{ConnId, HostName};
use engine::limits::Limits;
use engine::node::io::{Listener, Mail, PeerAddr, Request, Services};
use engine::node::{Context, Node, Parts};
use engine::node::{Handled, Message, NodeEvent, Role};
use engine::queue::inbox::{Inbox, InboxConfig};
use engine::queue::lmdb::LmdbConfig;
use engine::queue::thread::StoreHandle;
use engine::reactor::{Mailbox, MioPoller, Reactor};
use engine::time::Instant;
use engine::wire::{Class, Frame};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

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

/// The threads beside the loop: the store's, if there is one.
#[derive(Debug)]
pub struct Threads(Option<StoreHandle>);

/// The engine's loop with [`Taker`] in it.
pub type Server = Reactor<MioPoller, Node<Taker>, Threads, SystemClock>;

impl Services<()> for Threads {
    fn dispatch(&mut self, request: Request<()>) {
        if let (Request::Store(command), Some(store)) = (request, &self.0) {
            store.submit(command);
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
    let (mut server, at) = start(listen, limits, durable, || {})?;
    told(at);
    server.run()
}

/// The loop before its first turn, and where it listens. `stored` is called in the store's thread
/// after each of its answers.
///
/// # Errors
/// It cannot listen, the queue cannot be opened, or there is no epoll.
pub fn start(
    listen: SocketAddr,
    limits: Limits,
    durable: &Durable,
    stored: impl Fn() + Send + 'static,
) -> io::Result<(Server, SocketAddr)> {
    let poller = MioPoller::new()?;
    let mailbox: Mailbox<()> = Mailbox::new(&poller);
    let clock = SystemClock::start();
    let name = "server.test".parse().map_err(io::Error::other)?;
    let mut parts = Parts::new(name, fastrand::Rng::with_seed(1));
    parts.reserve(&limits);
    let mut threads = Threads(None);
    if let Durable::Kept(dir) | Durable::Drained(dir) = durable {
        let post = mailbox.clone();
        let config = LmdbConfig { map_bytes: MAP_BYTES, ..LmdbConfig::new(dir) };
        let opened = StoreHandle::open(config, move |event| {
            post.post(Mail::Store(event));
            stored();
        });
        let (store, state) = opened.map_err(io::Error::other)?;
        let config = InboxConfig { bytes_high: 3 << 30, ..InboxConfig::default() };
        let mut inbox = Inbox::restore(&state, config, 1);
        if matches!(durable, Durable::Drained(_)) {
            inbox.start_consuming(None, clock.now());
        }
        parts.inbox = Some(Box::new(inbox));
        threads.0 = Some(store);
    }
    let node = Node::new(parts, Taker);
    let mut reactor = Reactor::new(poller, mailbox, node, threads, clock, limits);
    let at = reactor.listen(Listener::Peers, listen)?;
    Ok((reactor, at))
}
