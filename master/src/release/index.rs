//! The index of a release: which line of the inventory is assigned what, and which blobs there are.

use engine::ids::{BlobHash, HostName};
use engine::release::Pattern;
use rkyv::{Archive, Deserialize, Serialize};
use std::collections::HashMap;

/// Schema of [`Release`].
pub const RELEASE_SCHEMA: u16 = 1;

/// One published state of a site.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Release {
    /// [`RELEASE_SCHEMA`].
    pub schema: u16,
    /// The site's id.
    pub site: String,
    /// The site's counter.
    pub revision: u64,
    /// When it was published, milliseconds since 1970.
    pub issued_ms: u64,
    /// Until when its assignments may be accepted, milliseconds since 1970.
    pub expires_ms: u64,
    /// First eight bytes of the key that signed its assignments.
    pub key_id: [u8; 8],
    /// The lines of the inventory, in its order: the first that matches a host decides.
    pub lines: Vec<Line>,
    /// Every blob that may be fetched, sorted by name and hash, each pair once.
    pub blobs: Vec<Listed>,
}

/// One line of the inventory.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Line {
    /// A host name or a glob.
    pub pattern: String,
    /// The encoded [`engine::release::SignedAssignment`].
    pub assignment: Vec<u8>,
    /// Hash of the manifest that it assigns.
    pub manifest: [u8; 32],
    /// The manifest's bytes.
    pub manifest_size: u64,
}

/// One blob that may be fetched under this name by this hash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Archive, Serialize, Deserialize)]
pub struct Listed {
    /// Its path in the site, or `@manifest`, `@catalog`; bytes.
    pub name: Vec<u8>,
    /// BLAKE3 of its bytes.
    pub hash: [u8; 32],
    /// Its bytes.
    pub size: u64,
}

impl Release {
    /// The size of the blob of this name and this hash; `None` if the pair is not listed,
    /// whichever half of it is wrong.
    #[must_use]
    pub fn size_of(&self, name: &[u8], hash: BlobHash) -> Option<u64> {
        let at =
            self.blobs.binary_search_by(|b| (&b.name[..], b.hash).cmp(&(name, hash.0))).ok()?;
        Some(self.blobs[at].size)
    }

    /// The blobs that this release needs, sorted, each once.
    #[must_use]
    pub fn keep(&self) -> Vec<BlobHash> {
        let mut keep: Vec<_> = self.blobs.iter().map(|b| BlobHash(b.hash)).collect();
        keep.sort_unstable();
        keep.dedup();
        keep
    }
}

/// Finds a host's line: exact names by one look-up, globs in their order.
#[derive(Debug, Default)]
pub struct LineTable {
    names: HashMap<HostName, usize>,
    globs: Vec<(usize, Pattern)>,
}

impl LineTable {
    /// Prepares the lines of a release.
    #[must_use]
    pub fn new(lines: &[Line]) -> Self {
        let mut table = Self::default();
        for (at, line) in lines.iter().enumerate() {
            let Ok(pattern) = Pattern::parse(&line.pattern) else { continue };
            match pattern.as_host() {
                Some(name) => {
                    table.names.entry(name).or_insert(at);
                }
                None => table.globs.push((at, pattern)),
            }
        }
        table
    }

    /// The place of the first line that matches this host.
    #[must_use]
    pub fn find(&self, host: &HostName) -> Option<usize> {
        let exact = self.names.get(host).copied();
        let glob = self.globs.iter().find(|(_, p)| p.matches(host)).map(|(at, _)| *at);
        exact.into_iter().chain(glob).min()
    }

    /// The hosts that are named without a glob.
    pub fn names(&self) -> impl Iterator<Item = &HostName> {
        self.names.keys()
    }
}
