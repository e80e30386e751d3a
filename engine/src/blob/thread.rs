//! The one thread that waits for the disk so that the loop need not.

use super::cache::{Cache, CacheError, Partial};
use super::{BlobCommand, BlobEvent};
use crate::ids::BlobHash;
use crate::limits::CHUNK_SIZE_MAX;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{Builder, JoinHandle};

/// Partials kept open at once; one more closes the one that was written longest ago.
const PARTIALS_OPEN_MAX: usize = 16;
/// Commands that may wait: far more than fetcher and server have under way.
const QUEUE_MAX: usize = 64 * 1024;
/// Blobs whose files are remembered as verified.
const VERIFIED_MAX: usize = 64 * 1024;
const STACK_SIZE: usize = 256 * 1024;
const READ_SIZE: usize = 64 * 1024;

/// Carries out commands, one at a time, on the caller's thread.
#[derive(Debug)]
pub struct BlobWorker {
    cache: Cache,
    /// Arriving blobs, the one written last at the end.
    partials: Vec<Partial>,
    scratch: Vec<u8>,
    /// Blobs that were hashed here before they were served, and what their files looked like:
    /// one that has changed since is hashed again.
    verified: HashMap<BlobHash, Looks>,
}

/// Inode, size, and the times of the last change of contents and of the inode, to the
/// nanosecond.
type Looks = (u64, u64, (i64, i64), (i64, i64));

impl BlobWorker {
    /// A worker on this cache.
    #[must_use]
    pub fn new(cache: Cache) -> Self {
        Self { cache, partials: Vec::new(), scratch: Vec::new(), verified: HashMap::new() }
    }

    /// Carries out one command; may wait for the disk.
    pub fn carry_out(&mut self, command: BlobCommand) -> BlobEvent {
        match command {
            BlobCommand::Open { hash } => match self.open(hash) {
                Ok((file, size)) => {
                    self.read_through(&file, 0, CHUNK_SIZE_MAX);
                    BlobEvent::Opened { hash, file: Arc::new(file), size }
                }
                Err(error) => {
                    log::error!("a blob cannot be served: {error}");
                    BlobEvent::Missing { hash }
                }
            },
            BlobCommand::ReadAhead { hash, file, offset, len } => match self.check(hash, &file) {
                Ok(()) => {
                    self.read_through(&file, offset, len);
                    BlobEvent::Ready { hash, offset }
                }
                Err(error) => {
                    log::error!("a blob is served no more: {error}");
                    BlobEvent::Missing { hash }
                }
            },
            BlobCommand::Probe { blobs } => {
                // Their hashes would be those of another attempt.
                self.partials.retain(|p| !blobs.iter().any(|(hash, _)| *hash == p.hash()));
                BlobEvent::Wanted { blobs: self.cache.probe(&blobs) }
            }
            BlobCommand::Write { hash, size, offset, data } => {
                match self.write(hash, size, offset, &data) {
                    Ok(Some(upto)) => BlobEvent::Written { hash, upto },
                    Ok(None) => BlobEvent::Stored { hash },
                    Err(error) => BlobEvent::Broken { hash, error: error.to_string() },
                }
            }
            BlobCommand::Load { hash, size_max } => match self.load(hash, size_max) {
                Ok(bytes) => BlobEvent::Loaded { hash, bytes },
                Err(error) => {
                    log::warn!("cannot read a blob: {error}");
                    BlobEvent::Missing { hash }
                }
            },
            BlobCommand::Verify { hash } => {
                BlobEvent::Verified { hash, whole: self.cache.verify(hash).is_ok() }
            }
            BlobCommand::Collect { keep } => {
                self.partials.clear();
                let collected = self.cache.collect(&keep).unwrap_or_else(|error| {
                    log::warn!("the blob cache could not be cleaned: {error}");
                    super::Collected::default()
                });
                if collected.held {
                    log::info!("the blob cache is in use by another process: not cleaned now");
                }
                BlobEvent::Collected { removed: collected.removed, bytes: collected.bytes }
            }
        }
    }

    fn open(&mut self, hash: BlobHash) -> Result<(File, u64), String> {
        let (file, size) = self.cache.open_blob(hash).map_err(|error| error.to_string())?;
        self.check(hash, &file)?;
        Ok((file, size))
    }

    /// Hashes a file before it is served, unless it is as it was when that was done last.
    fn check(&mut self, hash: BlobHash, file: &File) -> Result<(), String> {
        let failed = |error: io::Error| format!("blob {hash}: {error}");
        let meta = file.metadata().map_err(failed)?;
        let times = ((meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()));
        let looks: Looks = (meta.ino(), meta.len(), times.0, times.1);
        if self.verified.get(&hash) == Some(&looks) {
            return Ok(());
        }
        self.verified.remove(&hash);
        self.scratch.resize(READ_SIZE, 0);
        let (mut hasher, mut at) = (blake3::Hasher::new(), 0);
        loop {
            match file.read_at(&mut self.scratch, at) {
                Ok(0) => break,
                Ok(n) => {
                    hasher.update(&self.scratch[..n]);
                    at += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let found = BlobHash(*hasher.finalize().as_bytes());
        if found != hash {
            return Err(format!("blob {hash} is damaged: its content has the hash {found}"));
        }
        if self.verified.len() == VERIFIED_MAX {
            self.verified.clear();
        }
        self.verified.insert(hash, looks);
        Ok(())
    }

    fn load(&self, hash: BlobHash, size_max: u64) -> Result<Vec<u8>, String> {
        let (file, size) = self.cache.open_blob(hash).map_err(|error| error.to_string())?;
        if size > size_max {
            return Err(format!("{hash} has {size} bytes, at most {size_max} are expected"));
        }
        let mut bytes = Vec::new();
        file.take(size_max).read_to_end(&mut bytes).map_err(|error| format!("{hash}: {error}"))?;
        if BlobHash::of(&bytes) == hash {
            return Ok(bytes);
        }
        // It is removed, so that it is fetched and not found there again.
        Err(self
            .cache
            .verify(hash)
            .map_or_else(|e| e.to_string(), |_| format!("{hash} was replaced")))
    }

    /// Reads a range and drops it: what a later sendfile takes is then in the page cache. A
    /// range that cannot be read is found by the send itself.
    fn read_through(&mut self, file: &File, mut offset: u64, len: usize) {
        self.scratch.resize(READ_SIZE, 0);
        let mut left = len;
        while left > 0 {
            let piece = left.min(READ_SIZE);
            match file.read_at(&mut self.scratch[..piece], offset) {
                Ok(0) => break,
                Ok(n) => {
                    offset += n as u64;
                    left -= n;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    log::warn!("reading ahead: {error}");
                    break;
                }
            }
        }
    }

    /// Appends to a partial: how far it has come, or `None` when its blob is in its place.
    fn write(
        &mut self,
        hash: BlobHash,
        size: u64,
        offset: u64,
        data: &[u8],
    ) -> Result<Option<u64>, CacheError> {
        let mut partial = match self.partials.iter().position(|p| p.hash() == hash) {
            Some(at) => self.partials.remove(at),
            None => self.cache.resume(hash, size)?,
        };
        if let Err(error) = partial.write(offset, data) {
            partial.discard()?;
            return Err(error);
        }
        if partial.is_whole() {
            return self.cache.finish(partial).map(|()| None);
        }
        let upto = partial.len();
        if self.partials.len() == PARTIALS_OPEN_MAX {
            self.partials.remove(0);
        }
        self.partials.push(partial);
        Ok(Some(upto))
    }
}

/// The answer to a command that is not carried out: the blob is not there, or nothing of it.
fn refusal(command: BlobCommand) -> BlobEvent {
    match command {
        BlobCommand::Open { hash } => BlobEvent::Missing { hash },
        BlobCommand::ReadAhead { hash, offset, .. } => BlobEvent::Ready { hash, offset },
        BlobCommand::Probe { blobs } => {
            let blobs = blobs.into_iter().map(|(hash, size)| (hash, size, 0)).collect();
            BlobEvent::Wanted { blobs }
        }
        BlobCommand::Load { hash, .. } => BlobEvent::Missing { hash },
        BlobCommand::Verify { hash } => BlobEvent::Verified { hash, whole: false },
        BlobCommand::Write { hash, .. } => {
            BlobEvent::Broken { hash, error: "the disk is too far behind".to_owned() }
        }
        BlobCommand::Collect { .. } => BlobEvent::Collected { removed: 0, bytes: 0 },
    }
}

type Answer = dyn Fn(BlobEvent) + Send + Sync;

/// The blob thread. Dropping it carries out what waits, and ends it.
pub struct BlobThread {
    commands: Option<Sender<BlobCommand>>,
    waiting: Arc<AtomicUsize>,
    answer: Arc<Answer>,
    thread: Option<JoinHandle<()>>,
}

impl BlobThread {
    /// Starts the thread; `answer` is called on it with each event.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn start(
        cache: Cache,
        answer: impl Fn(BlobEvent) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let (commands, inbox) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let answer: Arc<Answer> = Arc::new(answer);
        let thread = Builder::new().name("blobs".to_owned()).stack_size(STACK_SIZE).spawn({
            let (waiting, answer) = (waiting.clone(), answer.clone());
            move || {
                let mut worker = BlobWorker::new(cache);
                for command in inbox {
                    waiting.fetch_sub(1, Ordering::Relaxed);
                    answer(worker.carry_out(command));
                }
            }
        })?;
        Ok(Self { commands: Some(commands), waiting, answer, thread: Some(thread) })
    }

    /// Hands over a command; never blocks. One that finds the queue full is answered at once
    /// as if the blob were not there: senders are bounded, so that is not met in practice.
    pub fn submit(&self, command: BlobCommand) {
        let refused = if self.waiting.fetch_add(1, Ordering::Relaxed) >= QUEUE_MAX {
            Some(command)
        } else {
            let sent = self.commands.as_ref().map(|commands| commands.send(command));
            sent.and_then(Result::err).map(|unsent| unsent.0)
        };
        if let Some(command) = refused {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            (self.answer)(refusal(command));
        }
    }
}

impl Drop for BlobThread {
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the blob thread has panicked");
        }
    }
}

impl std::fmt::Debug for BlobThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobThread").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
