//! Names and numbers that identify things: hosts, blobs, connections, epochs, revisions.

use std::borrow::Borrow;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Longest host name in bytes (RFC 1035, section 2.3.4, without the trailing dot).
pub const HOST_NAME_MAX: usize = 253;

/// What is found by an id that this process gave itself: nobody else chooses those, so their hash
/// need not resist anybody.
pub type IdMap<K, V> = rustc_hash::FxHashMap<K, V>;

/// A host's name: 1 to 253 bytes of lower-case ASCII letters, digits, `-`, `_` and `.`;
/// no empty label. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(Arc<str>);

/// Why a text is not a host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostNameError {
    /// It is empty or longer than [`HOST_NAME_MAX`].
    #[error("a host name has 1 to {HOST_NAME_MAX} bytes, this one has {0}")]
    Length(usize),
    /// It has a byte that host names do not have.
    #[error("a host name has letters, digits, '-', '_' and '.', but {0:?} has another character")]
    Character(String),
    /// It begins or ends with a dot, or has two in a row.
    #[error("the host name {0:?} has an empty label")]
    EmptyLabel(String),
}

impl HostName {
    /// Checks a name and folds it to lower case.
    ///
    /// # Errors
    /// [`HostNameError`] says what is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, HostNameError> {
        if text.is_empty() || text.len() > HOST_NAME_MAX {
            return Err(HostNameError::Length(text.len()));
        }
        let shown = || String::from_utf8_lossy(text).into_owned();
        if !text.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
            return Err(HostNameError::Character(shown()));
        }
        if text.split(|b| *b == b'.').any(<[u8]>::is_empty) {
            return Err(HostNameError::EmptyLabel(shown()));
        }
        // Every message has one: names that are in lower case already, as most are, are copied once.
        let text = str::from_utf8(text).map_err(|_| HostNameError::Character(shown()))?;
        Ok(Self(match text.bytes().any(|b| b.is_ascii_uppercase()) {
            true => text.to_ascii_lowercase().into(),
            false => text.into(),
        }))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for HostName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for HostName {
    type Err = HostNameError;
    fn from_str(s: &str) -> Result<Self, HostNameError> {
        Self::parse(s.as_bytes())
    }
}

/// The BLAKE3 hash of a blob's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobHash(pub [u8; 32]);

impl BlobHash {
    /// Hashes bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The hash as 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn to_hex(self) -> String {
        use fmt::Write;
        self.0.iter().fold(String::with_capacity(64), |mut s, b| {
            let _ = write!(s, "{b:02x}");
            s
        })
    }

    /// Reads 64 hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        // A number may have a sign, and no digit of a hash is one.
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        for (i, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
        }
        Some(Self(hash))
    }
}

impl fmt::Display for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex()[..12])
    }
}

/// A connection of one reactor: slab index in the low half, generation in the high half, so
/// that an event for a closed connection never reaches the one that took its slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

impl ConnId {
    /// Joins a slab index and its generation.
    #[must_use]
    pub fn new(index: u32, generation: u32) -> Self {
        Self(u64::from(generation) << 32 | u64::from(index))
    }

    /// The slab index.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the low half is the index")]
    pub fn index(self) -> usize {
        self.0 as u32 as usize
    }

    /// The slot's generation.
    #[must_use]
    pub fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "conn {}.{}", self.index(), self.generation())
    }
}

/// Which of a node's listeners a connection came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Listener {
    /// The TCP port for peers.
    Peers,
    /// The Unix socket for commands of this machine.
    Control,
}

/// The other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerAddr {
    /// An address.
    Tcp(SocketAddr),
    /// A process of this machine, by its user.
    Unix {
        /// Its effective user id.
        uid: u32,
    },
}

/// One attempt to dial, named by the node that asked for it; never reused by that node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialId(pub u64);

/// Incarnation of a sender's queue: 64 random bits, never ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// Number of a release of a site, ascending by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Who first sent a message and its place in that sender's stream: unchanged on the whole
/// way, and what the final consumer is idempotent on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The sender's host name.
    pub name: HostName,
    /// Incarnation of its outbox.
    pub epoch: Epoch,
    /// Its number there.
    pub seq: u64,
}

#[cfg(test)]
mod tests;
