//! The release that is in force: which line of the inventory decides for a host, and the
//! message that each line's hosts are sent.

use crate::release::{LineTable, Release};
use engine::blob::Listing;
use engine::ids::{BlobHash, HostName, Revision};
use engine::node::Outgoing;
use engine::time::WallMs;
use engine::wire::message::Manifest;

/// A release, ready to be served.
#[derive(Debug, Default)]
pub struct Published {
    /// Its number; 0 before the first.
    pub revision: Revision,
    /// When it was published.
    pub issued: WallMs,
    /// Until when its assignments may be accepted.
    pub expires: WallMs,
    lines: LineTable,
    /// One a line, in the order of the inventory; a fan-out shares the bytes.
    messages: Vec<Outgoing>,
    listing: Listing,
}

impl Published {
    /// The current release of these; what the older ones list is served too, to clients that
    /// are still fetching it.
    #[must_use]
    pub fn new(current: &Release, older: &[Release]) -> Self {
        let message =
            |assignment: &Vec<u8>| Outgoing::of(&Manifest { assignment: assignment.clone() });
        let mut listing = Listing::default();
        for blob in older.iter().chain([current]).flat_map(|release| &release.blobs) {
            listing.insert(&blob.name, BlobHash(blob.hash), blob.size);
        }
        Self {
            revision: Revision(current.revision),
            issued: WallMs(current.issued_ms),
            expires: WallMs(current.expires_ms),
            lines: LineTable::new(&current.lines),
            messages: current.lines.iter().map(|line| message(&line.assignment)).collect(),
            listing,
        }
    }

    /// What clients may fetch, for the server.
    pub fn take_listing(&mut self) -> Listing {
        std::mem::take(&mut self.listing)
    }

    /// The line that decides for a host: the first that matches.
    #[must_use]
    pub fn line_of(&self, host: &HostName) -> Option<usize> {
        self.lines.find(host)
    }

    /// What the hosts of a line are sent.
    #[must_use]
    pub fn message(&self, line: usize) -> Option<Outgoing> {
        self.messages.get(line).cloned()
    }

    /// Hosts that the inventory names one by one.
    pub fn named_hosts(&self) -> impl Iterator<Item = &HostName> {
        self.lines.names()
    }
}
