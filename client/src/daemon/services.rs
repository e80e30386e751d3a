//! The threads beside the client's reactor.

use super::role::{Effect, RoleMail};
use crate::enforcer::EnforcerHandle;
use engine::blob::BlobThread;
use engine::node::io::{Request, Services};
use engine::queue::thread::StoreHandle;
use engine::reactor::Mailbox;
use engine::resolver::Resolver;
use engine::wire::message::trigger;
use std::time::Duration;

/// Hands requests to their threads; the answers come by mail.
pub struct ClientServices {
    /// The outbox's disk.
    pub store: StoreHandle,
    /// The cache.
    pub blobs: BlobThread,
    /// The master's name to addresses.
    pub resolver: Resolver,
    /// What applies and heals.
    pub enforcer: EnforcerHandle,
    /// How long running resources may take after a stop.
    pub stop_timeout: Duration,
    /// Where answers go.
    pub mailbox: Mailbox<RoleMail>,
}

impl Services<Effect> for ClientServices {
    fn dispatch(&mut self, request: Request<Effect>) {
        match request {
            Request::Store(command) => self.store.submit(command),
            Request::Blob(command) => self.blobs.submit(command),
            Request::Resolve { name } => self.resolver.gather(name),
            Request::Role(Effect::Enforce { signed, manifest }) => {
                self.enforcer.enforce(manifest, Some(signed), trigger::ASSIGNMENT);
            }
            Request::Role(Effect::Check) => self.enforcer.check_now(),
            Request::Role(Effect::Status { conn, local }) => {
                let status = Box::new(self.enforcer.status());
                self.mailbox.post_role(RoleMail::Status { conn, local, status });
            }
            Request::Role(Effect::Stop) => self.enforcer.stop(self.stop_timeout),
            Request::Role(Effect::StopNow) => self.enforcer.stop(Duration::ZERO),
        }
    }

    fn hand_over(&mut self) {
        self.resolver.hand_over();
    }
}
