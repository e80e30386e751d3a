//! What may stand between the daemon's loop and its disks: nothing, a slow disk to rehearse one,
//! or the fault that a test wants to see found.

use super::role::{Effect, MasterRole, RoleMail};
use crate::sink::{Sink, SlowSink, SqliteSink};
use engine::node::Node;
use engine::node::io::Host;
use engine::queue::lmdb::LmdbStore;
use engine::queue::store::{StoreCommand, StoreEvent};
use engine::queue::thread::Store;
use std::time::Duration;

/// What stands behind the master's reactor: its node, or something around it.
pub trait MasterHost: Host<Mail = RoleMail, Effect = Effect> + AsMut<Node<MasterRole>> {}

impl<H: Host<Mail = RoleMail, Effect = Effect> + AsMut<Node<MasterRole>>> MasterHost for H {}

/// Wraps parts of the daemon before they are put together; what it leaves out stays as it is.
pub trait Wiring {
    /// The store of the inbox, before its thread gets it.
    fn store(&self, store: LmdbStore) -> impl Store {
        store
    }

    /// The result store, before its thread gets it.
    fn sink(&self, sink: SqliteSink) -> impl Sink + Send + 'static {
        sink
    }

    /// The node, before the reactor gets it.
    fn host(&self, node: Node<MasterRole>) -> impl MasterHost {
        node
    }
}

/// Nothing stands between.
#[derive(Debug, Clone, Copy, Default)]
pub struct Direct;

impl Wiring for Direct {}

/// Every commit of the inbox and of the result store takes this much longer: a disk whose syncs
/// are slow, to rehearse one.
#[derive(Debug, Clone, Copy)]
pub struct SlowDisk(pub Duration);

impl Wiring for SlowDisk {
    fn store(&self, store: LmdbStore) -> impl Store {
        log::warn!("a slow disk is rehearsed: every commit takes {} ms longer", self.0.as_millis());
        SlowStore { inner: store, delay: self.0 }
    }

    fn sink(&self, sink: SqliteSink) -> impl Sink + Send + 'static {
        SlowSink::new(sink, self.0)
    }
}

/// A store whose every transaction takes this much longer; reading needs no sync.
#[derive(Debug)]
struct SlowStore<S> {
    inner: S,
    delay: Duration,
}

impl<S: Store> Store for SlowStore<S> {
    fn apply(&mut self, command: &StoreCommand) -> Vec<StoreEvent> {
        if !matches!(command, StoreCommand::Read { .. }) {
            std::thread::sleep(self.delay);
        }
        self.inner.apply(command)
    }
}
