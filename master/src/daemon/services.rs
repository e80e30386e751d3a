//! The threads beside the master's reactor.

use super::Loader;
use super::role::{Effect, RoleMail};
use crate::sink::{SinkError, SinkEvent, SinkThread};
use engine::blob::BlobThread;
use engine::node::io::{Request, Services};
use engine::queue::thread::StoreHandle;
use engine::reactor::Mailbox;
use engine::resolver::Resolver;

/// Hands requests to their threads; the answers come by mail.
#[derive(Debug)]
pub struct MasterServices {
    /// The inbox's disk.
    pub store: StoreHandle,
    /// The release's files.
    pub blobs: BlobThread,
    /// Names to addresses.
    pub resolver: Resolver,
    /// The result store.
    pub sink: SinkThread,
    /// Reads releases, on the sink's thread.
    pub loader: Loader,
    /// Where answers go.
    pub mailbox: Mailbox<RoleMail>,
}

impl Services<Effect> for MasterServices {
    fn dispatch(&mut self, request: Request<Effect>) {
        match request {
            Request::Store(command) => self.store.submit(command),
            Request::Blob(command) => self.blobs.submit(command),
            Request::Resolve { name } => self.resolver.gather(name),
            Request::Role(Effect::Append(records)) => self.sink.handle().append(records),
            Request::Role(Effect::UpdateHosts(updates)) => self.sink.handle().update_hosts(updates),
            Request::Role(Effect::Query { id, query }) => {
                if let Err(busy) = self.sink.handle().query(id, query) {
                    let answer = Err(SinkError::Io {
                        path: "result store".to_owned(),
                        detail: busy.to_string(),
                    });
                    self.mailbox.post_role(RoleMail::Sink(SinkEvent::Answered { id, answer }));
                }
            }
            Request::Role(Effect::Load) => {
                self.resolver.handle().reload();
                let (loader, mailbox) = (self.loader.clone(), self.mailbox.clone());
                self.sink.handle().run(move || mailbox.post_role(RoleMail::Loaded(loader.load())));
            }
        }
    }

    fn hand_over(&mut self) {
        self.resolver.hand_over();
    }
}
