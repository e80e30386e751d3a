//! The signed assignment: which manifest a host is to apply.

use super::catalog::decode;
use super::glob::Pattern;
use crate::ids::{BlobHash, HostName, Revision};
use crate::logging::utc;
use crate::sign::{PublicKey, SigningKey};
use crate::time::WallMs;
use crate::wire::encode;
use rkyv::{Archive, Deserialize, Serialize};

/// What one line of the inventory is assigned. The first line that matches a host decides, so
/// an assignment carries the patterns before its own.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Assignment {
    /// [`super::CATALOG_SCHEMA`].
    pub schema: u16,
    /// The hosts it is for: a name or a glob.
    pub pattern: String,
    /// Earlier patterns: a host that matches one of them is not meant.
    pub excludes: Vec<String>,
    /// The site's counter.
    pub revision: u64,
    /// Hash of the [`super::ManifestBlob`].
    pub manifest: [u8; 32],
    /// Its bytes.
    pub manifest_size: u64,
    /// When it was published, milliseconds since 1970.
    pub issued_ms: u64,
    /// Until when it may be accepted, milliseconds since 1970; it may be enforced for ever.
    pub expires_ms: u64,
}

/// An assignment, encoded, and the signature over those bytes.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct SignedAssignment {
    /// An encoded [`Assignment`].
    pub assignment: Vec<u8>,
    /// The key's first eight bytes, to find it among those trusted.
    pub key_id: [u8; 8],
    /// Ed25519 over `drover assignment 1\0` and the bytes of `assignment`.
    pub signature: Vec<u8>,
}

/// Whose assignments a client takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustedKeys {
    /// What one of these keys has signed: two, while one is being replaced by another.
    Only(Vec<PublicKey>),
    /// Anybody's, signed or not: whoever reaches the client's port decides what it does.
    Unchecked,
}

/// Why an assignment is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssignmentError {
    /// The bytes are no signed assignment.
    #[error("the assignment is damaged or of a later format")]
    Format,
    /// No trusted key has signed it.
    #[error(
        "the assignment is not signed by a key that is trusted here (key id {key_id}); compare `trusted_keys` with the master's signing.pub"
    )]
    Signature {
        /// The key that it claims, hexadecimal.
        key_id: String,
    },
    /// It is for other hosts.
    #[error("the assignment is for {pattern:?}, not for {host}")]
    OtherHost {
        /// Its pattern.
        pattern: String,
        /// This host.
        host: HostName,
    },
    /// Its time is over.
    #[error(
        "the assignment has expired: {} by this machine's clock; publish again, and check the clock",
        utc(*at_ms)
    )]
    Expired {
        /// When, milliseconds since 1970.
        at_ms: u64,
    },
    /// An older one, or the same again.
    #[error("the assignment has revision {found}, and revision {held} is held")]
    NotNewer {
        /// Its revision.
        found: Revision,
        /// The one held.
        held: Revision,
    },
}

const CONTEXT: &[u8] = b"drover assignment 1\0";

fn signed_bytes(assignment: &[u8]) -> Vec<u8> {
    [CONTEXT, assignment].concat()
}

impl Assignment {
    /// Signs it.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> SignedAssignment {
        let assignment = encode(self);
        let signature = key.sign(&signed_bytes(&assignment)).to_vec();
        SignedAssignment { assignment, key_id: key.public().id(), signature }
    }

    /// Whether it is meant for this host.
    #[must_use]
    pub fn is_for(&self, host: &HostName) -> bool {
        let matches = |p: &String| Pattern::parse(p).is_ok_and(|p| p.matches(host));
        matches(&self.pattern) && !self.excludes.iter().any(matches)
    }

    /// Hash of its manifest.
    #[must_use]
    pub fn manifest_hash(&self) -> BlobHash {
        BlobHash(self.manifest)
    }
}

impl TrustedKeys {
    /// Reads an encoded [`SignedAssignment`] and checks all that a client must: signature,
    /// host, expiry, and that it is newer than the one held.
    ///
    /// # Errors
    /// [`AssignmentError`] says which check failed; nothing of a refused one may be used.
    pub fn accept(
        &self,
        bytes: &[u8],
        host: &HostName,
        held: Revision,
        wall: WallMs,
    ) -> Result<Assignment, AssignmentError> {
        let assignment = self.verify(bytes)?;
        if !assignment.is_for(host) {
            return Err(AssignmentError::OtherHost {
                pattern: assignment.pattern,
                host: host.clone(),
            });
        }
        if assignment.expires_ms <= wall.0 {
            return Err(AssignmentError::Expired { at_ms: assignment.expires_ms });
        }
        let found = Revision(assignment.revision);
        if found <= held {
            return Err(AssignmentError::NotNewer { found, held });
        }
        Ok(assignment)
    }

    /// Checks the signature alone: for an assignment that was accepted before and is on disk.
    ///
    /// # Errors
    /// [`AssignmentError::Format`] or [`AssignmentError::Signature`].
    pub fn verify(&self, bytes: &[u8]) -> Result<Assignment, AssignmentError> {
        let signed: SignedAssignment = decode(bytes).ok_or(AssignmentError::Format)?;
        if !self.have_signed(&signed) {
            let key_id = signed.key_id.iter().map(|b| format!("{b:02x}")).collect();
            return Err(AssignmentError::Signature { key_id });
        }
        decode(&signed.assignment).ok_or(AssignmentError::Format)
    }

    fn have_signed(&self, signed: &SignedAssignment) -> bool {
        let Self::Only(keys) = self else { return true };
        let message = signed_bytes(&signed.assignment);
        keys.iter().any(|key| key.verify(&message, &signed.signature))
    }
}

#[cfg(test)]
mod tests;
