//! Where reports end up: the seam ([`Sink`]), the embedded SQLite store behind it, and the
//! thread on which it runs.
//!
//! **Invariant:** [`Sink::append`] returns only when its records are on the disk, so that the
//! inbox may be trimmed; a record is stored once for its origin's (name, epoch, seq), however
//! often it is appended; a record that cannot be read is put aside and holds up nobody.
//!
//! Nothing in the seam names a file or a process: a store on another machine fits behind it.

mod query;
mod record;
mod schema;
mod slow;
mod sqlite;
mod thread;

pub use query::{Answer, HostCounts, Query};
pub use slow::SlowSink;
pub use sqlite::{SinkOptions, SqliteSink};
pub use thread::{SinkBusy, SinkEvent, SinkHandle, SinkThread};

pub use engine::queue::store::Record;

use crate::control::{HostRow, HostsPage};
use engine::ids::{HostName, Revision};
use engine::time::WallMs;
use std::net::IpAddr;

/// A store of reports and of what is known of hosts.
pub trait Sink {
    /// Stores the reports of a batch of the inbox, durably and all or none.
    ///
    /// # Errors
    /// [`SinkError`]; the batch may be appended again, as a whole or from any record on.
    fn append(&mut self, batch: &[Record]) -> Result<Appended, SinkError>;

    /// The largest log number of this inbox that is stored; `None` before the first.
    fn cursor(&self) -> Option<u64>;

    /// Takes what was learned of hosts.
    ///
    /// # Errors
    /// [`SinkError`]; nothing of it is stored then.
    fn update_hosts(&mut self, updates: &HostUpdates) -> Result<(), SinkError>;

    /// Answers a question.
    ///
    /// # Errors
    /// [`SinkError`].
    fn query(&mut self, query: &Query) -> Result<Answer, SinkError>;

    /// Removes reports that arrived before this, at most so many, and returns how many.
    ///
    /// # Errors
    /// [`SinkError`].
    fn prune(&mut self, before: WallMs, reports_max: usize) -> Result<usize, SinkError>;
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Appended {
    /// The largest log number that is stored now: the inbox may be trimmed up to it.
    pub upto: u64,
    /// Reports that were new.
    pub stored: u64,
    /// Reports that were there before.
    pub duplicates: u64,
    /// Records that could not be read and were put aside.
    pub quarantined: u64,
}

/// What was learned of one host; `None` leaves what is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostUpdate {
    /// When it was heard, by the master's clock.
    pub seen: Option<WallMs>,
    /// The revision that it holds.
    pub held: Option<Revision>,
    /// The revision that it last applied to the end.
    pub applied: Option<Revision>,
    /// Its program version.
    pub version: Option<String>,
    /// What its poll gave as its last error; an empty text clears it.
    pub last_error: Option<String>,
    /// How far its clock is ahead of the master's, milliseconds.
    pub clock_skew_ms: Option<i64>,
    /// The address that its message came from.
    pub address: Option<IpAddr>,
    /// Whether it has left the inventory: it is not silent then, only gone.
    pub gone: Option<bool>,
}

impl HostUpdate {
    /// Takes over what a later update says.
    pub fn merge(&mut self, later: HostUpdate) {
        fn newer<T>(mine: &mut Option<T>, later: Option<T>) {
            if later.is_some() {
                *mine = later;
            }
        }
        newer(&mut self.seen, later.seen);
        newer(&mut self.held, later.held);
        newer(&mut self.applied, later.applied);
        newer(&mut self.version, later.version);
        newer(&mut self.last_error, later.last_error);
        newer(&mut self.clock_skew_ms, later.clock_skew_ms);
        newer(&mut self.address, later.address);
        newer(&mut self.gone, later.gone);
    }

    /// Puts what it says into what is stored of the host.
    fn show(&self, host: &mut HostRow, silent_before: WallMs) {
        if let Some(seen) = self.seen {
            host.first_seen_ms = host.first_seen_ms.or(Some(seen.0));
            host.last_seen_ms = Some(seen.0);
            host.silent = seen < silent_before;
        }
        host.held = self.held.map(|held| held.0).or(host.held);
        host.applied = self.applied.map(|applied| applied.0).or(host.applied);
        host.version = self.version.clone().or(host.version.take());
        if let Some(error) = self.last_error.as_ref().filter(|error| !error.is_empty()) {
            host.last_error.clone_from(error);
        }
        host.clock_skew_ms = self.clock_skew_ms.or(host.clock_skew_ms);
        host.address = self.address.map(|address| address.to_string()).or(host.address.take());
    }
}

/// A message that claimed a name from an address that is not its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConflictKey {
    /// The address that the name has.
    pub expected: IpAddr,
    /// The address that the message came from.
    pub found: IpAddr,
}

/// What was learned of hosts since the last time, one entry per host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostUpdates {
    /// By name. A name that is only mentioned becomes known.
    pub hosts: std::collections::BTreeMap<HostName, HostUpdate>,
    /// How often a name was claimed from a wrong address, and when last.
    pub conflicts: std::collections::BTreeMap<(HostName, ConflictKey), (u64, WallMs)>,
}

impl HostUpdates {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.conflicts.is_empty()
    }

    /// A host was heard, or is known.
    pub fn host(&mut self, name: HostName, update: HostUpdate) {
        self.hosts.entry(name).or_default().merge(update);
    }

    /// A name was claimed from an address that is not its own.
    pub fn conflict(&mut self, name: HostName, key: ConflictKey, at: WallMs) {
        let (count, last) = self.conflicts.entry((name, key)).or_default();
        *count += 1;
        *last = at;
    }

    /// Puts what is not stored yet into what the store says of hosts.
    fn show(&self, page: &mut HostsPage, silent_before: WallMs, silent_only: bool) {
        if self.hosts.is_empty() {
            return;
        }
        for host in &mut page.hosts {
            if let Some(update) =
                host.name.parse().ok().and_then(|name| self.hosts.get::<HostName>(&name))
            {
                update.show(host, silent_before);
            }
        }
        page.hosts.retain(|host| host.silent || !silent_only);
    }

    /// Takes over later updates.
    pub fn merge(&mut self, later: HostUpdates) {
        for (name, update) in later.hosts {
            self.host(name, update);
        }
        for (key, (more, at)) in later.conflicts {
            let (count, last) = self.conflicts.entry(key).or_default();
            *count += more;
            *last = at;
        }
    }
}

/// What can be wrong with a result store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// The file system is full.
    #[error(
        "the disk under {path} is full; free some space; reports that come wait in the inbox until then"
    )]
    DiskFull {
        /// The store.
        path: String,
    },
    /// Another process holds it.
    #[error(
        "the result store {path} is locked by another process; reports that come wait in the inbox until it is free"
    )]
    Locked {
        /// The store.
        path: String,
    },
    /// Its bytes are broken.
    #[error(
        "the result store {path} is damaged: {detail}; nothing was changed in it. Move it away to begin with an empty one, or restore it from a copy"
    )]
    Damaged {
        /// The store.
        path: String,
        /// What exactly.
        detail: String,
    },
    /// The file is a database of another program.
    #[error(
        "{path} is a database, but not a result store of Drover; nothing was changed in it. Move it away, or choose another state_dir"
    )]
    Foreign {
        /// The file.
        path: String,
    },
    /// A later version of Drover made it.
    #[error(
        "the result store {path} has schema {found}, and this version of Drover knows {known}; nothing was changed in it. Use a newer drover"
    )]
    Newer {
        /// The store.
        path: String,
        /// Its schema.
        found: i64,
        /// The newest that is known here.
        known: i64,
    },
    /// Anything else the disk said.
    #[error("the result store {path}: {detail}")]
    Io {
        /// The store.
        path: String,
        /// What exactly.
        detail: String,
    },
}

#[cfg(test)]
mod tests;
