//! Content-addressed files: the cache, serving, fetching, and the thread that does their I/O.

mod cache;
mod fetch;
mod gc;
mod serve;
mod thread;

pub use cache::{Cache, CacheError, Hold, Partial};
pub use fetch::{Blob, FetchEvent, FetchProgress, FetchSettings, Fetcher};
pub use gc::Collected;
pub use serve::{Listing, ServeCounters, ServeOutput, Server};
pub use thread::{BlobThread, BlobWorker};

use crate::ids::BlobHash;
use crate::limits::CHUNK_SIZE_MAX;
use std::fs::File;
use std::sync::Arc;

/// Bytes that answer a request for a blob at `offset`: up to the next multiple of
/// [`CHUNK_SIZE_MAX`], or to its end. Both sides reckon with it, so a request needs no length,
/// and all readers of a blob ask for the same pieces of it, except where one resumes.
#[must_use]
pub fn piece_len(offset: u64, size: u64) -> usize {
    let to_boundary = CHUNK_SIZE_MAX as u64 - offset % CHUNK_SIZE_MAX as u64;
    // At most CHUNK_SIZE_MAX, which a usize holds.
    usize::try_from(size.saturating_sub(offset).min(to_boundary)).unwrap_or(CHUNK_SIZE_MAX)
}

/// What the node asks of the blob thread; each command has exactly one answer.
#[derive(Debug, Clone)]
pub enum BlobCommand {
    /// Open a blob for serving and read its first piece into the page cache; it is hashed,
    /// unless it was and has not changed since. Answered by `Opened` or `Missing`.
    Open {
        /// Which.
        hash: BlobHash,
    },
    /// Read a range into the page cache, so that sending it does not wait for the disk;
    /// answered by `Ready`, or by `Missing` if the file was damaged since it was opened.
    ReadAhead {
        /// Which blob.
        hash: BlobHash,
        /// The open file.
        file: Arc<File>,
        /// Where to begin.
        offset: u64,
        /// How many bytes.
        len: usize,
    },
    /// Which of these blobs are not in the cache, and how much of each has arrived before;
    /// answered by `Wanted`. Sizes are checked, contents are not.
    Probe {
        /// Hash and size of each.
        blobs: Vec<(BlobHash, u64)>,
    },
    /// Append bytes to a blob that is arriving. The last ones complete it: it is then hashed
    /// and takes its place in the cache; answered by `Written`, or at the end by `Stored`, or
    /// by `Broken`, as is every later `Write` of the same attempt.
    Write {
        /// Which.
        hash: BlobHash,
        /// Its whole size.
        size: u64,
        /// Where these bytes belong; always where the last ones ended.
        offset: u64,
        /// The bytes.
        data: Vec<u8>,
    },
    /// Read a small blob whole; answered by `Loaded` or `Missing`.
    Load {
        /// Which.
        hash: BlobHash,
        /// A longer one is not read.
        size_max: u64,
    },
    /// Hash a blob that was found broken, and remove it if it is; answered by `Verified`.
    Verify {
        /// Which.
        hash: BlobHash,
    },
    /// Remove all that is not in this list; answered by `Collected`.
    Collect {
        /// What to keep, sorted.
        keep: Vec<BlobHash>,
    },
}

/// What the blob thread tells the node.
#[derive(Debug, Clone)]
pub enum BlobEvent {
    /// A blob is open.
    Opened {
        /// Which.
        hash: BlobHash,
        /// The open file.
        file: Arc<File>,
        /// Its bytes.
        size: u64,
    },
    /// There is no such blob, it cannot be read, or it is damaged.
    Missing {
        /// Which.
        hash: BlobHash,
    },
    /// A range is in the page cache.
    Ready {
        /// Which blob.
        hash: BlobHash,
        /// Where it begins.
        offset: u64,
    },
    /// The answer to `Probe`: what is missing, with the bytes that have arrived of each.
    Wanted {
        /// Hash, size, offset to go on from.
        blobs: Vec<(BlobHash, u64, u64)>,
    },
    /// Bytes that do not complete their blob have been written.
    Written {
        /// Which blob.
        hash: BlobHash,
        /// Where they end.
        upto: u64,
    },
    /// A blob is whole, verified and in its place.
    Stored {
        /// Which.
        hash: BlobHash,
    },
    /// A blob did not have the hash it was fetched by, or could not be written; its bytes are
    /// gone.
    Broken {
        /// Which.
        hash: BlobHash,
        /// What is wrong.
        error: String,
    },
    /// A blob's bytes.
    Loaded {
        /// Which.
        hash: BlobHash,
        /// All of it.
        bytes: Vec<u8>,
    },
    /// A blob was hashed.
    Verified {
        /// Which.
        hash: BlobHash,
        /// Whether it is there and has its hash; if not, it is gone now.
        whole: bool,
    },
    /// The collection is done.
    Collected {
        /// Blobs removed.
        removed: u64,
        /// Their bytes.
        bytes: u64,
    },
}

#[cfg(test)]
mod tests;
