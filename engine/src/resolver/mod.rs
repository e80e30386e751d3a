//! Names to addresses, off the loop: a static table first, then a name service, with a cache
//! that honours TTLs. A thread does it; what it asks behind its cache is a [`Lookup`].

mod conf;
mod dns;
mod names;
pub mod nameserver;
mod stub;
mod table;
mod thread;

pub use names::{NameSettings, Names};
pub use stub::{Stub, StubConfig};
pub use table::{Table, TableError, TableFile};
pub use thread::{Done, Resolver, ResolverHandle};

use crate::ids::HostName;
use crate::node::io::ResolveError;
use std::net::IpAddr;
use std::time::Duration;

/// What a name service says of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its addresses, at least one.
    pub addrs: Vec<IpAddr>,
    /// How long that holds.
    pub ttl: Duration,
}

/// A name service.
pub trait Lookup: Send + 'static {
    /// Looks a name up; the result goes to `done`, before this returns or later, from any
    /// thread. Each name is asked for once at a time.
    fn begin(&mut self, name: HostName, done: Done);

    /// Reads its own configuration again.
    fn reload(&mut self) {}
}

/// No name service: only the table has names.
#[derive(Debug, Clone, Copy)]
pub struct TableOnly;

impl Lookup for TableOnly {
    fn begin(&mut self, _name: HostName, done: Done) {
        done.answer(Err(ResolveError::NoSuchName));
    }
}
