//! Releases on the master's disk: written at once or not at all, read whole or not at all.
//!
//! ```text
//! STATE/publish.lock          held by the one command that writes here
//! STATE/staging/              blobs of a release that is being written
//! STATE/blobs/ab/cdef…        blobs by the hexadecimal digits of their BLAKE3 hash
//! STATE/releases/7/index      one release: see [`Release`]
//! STATE/releases/current      the number of the release that is in force
//! ```
//!
//! A writer stages blobs and syncs them, renames them into place, writes the index beside its
//! place, renames its directory, and only then replaces `current`, each step synced before the
//! next begins. So whatever `current` names is complete, whenever the writer ends. The writer
//! alone removes old releases and the blobs that no kept one needs.

mod changes;
mod collect;
mod error;
mod index;
mod intake;
mod store;
mod writer;

pub use changes::{Changes, Counted, Digests, HostChange, compare, digest};
pub use collect::Collected;
pub use error::StoreError;
pub use index::{Line, LineTable, Listed, RELEASE_SCHEMA, Release};
pub use intake::{Blob, Intake, IntakeError, Measure};
pub use store::{PublishLock, ReleaseStore};
pub use writer::Writer;

#[cfg(test)]
mod tests;
