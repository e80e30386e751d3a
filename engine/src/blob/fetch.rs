//! The client's side of fetching: what to ask for, where each answer belongs, what to do when
//! the connection breaks. Pure: the node dials, sends and hands in what comes.
//!
//! One request is answered by one chunk, and no more than [`FetchSettings::window_bytes`] are
//! asked for at a time, in all: so a cut connection costs at most that much twice.

use super::{BlobCommand, BlobEvent, piece_len};
use crate::ids::BlobHash;
use crate::limits::CHUNK_SIZE_MAX;
use crate::release::{Assignment, ManifestBlob, NAME_CATALOG, NAME_MANIFEST};
use crate::time::{Instant, Now};
use crate::wire::message::{FetchRefused, FetchReq};
use crate::wire::{Frame, FrameBuf, Kind, WireError, access};
use std::collections::{HashMap, VecDeque};
use std::mem;
use std::time::Duration;

/// Bounds of a [`Fetcher`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchSettings {
    /// Bytes asked for and not yet received. More than one chunk helps where the way is long,
    /// and is what a cut connection may cost.
    pub window_bytes: usize,
    /// Requests not yet answered.
    pub requests_max: usize,
    /// Bytes asked for, or handed to the blob thread and not yet written.
    pub unwritten_bytes_max: usize,
    /// How often a blob is fetched that arrives damaged.
    pub tries_max: u32,
    /// First wait after a connection was lost or not made; doubled each time up to `retry_max`,
    /// and back to this when a chunk has arrived.
    pub retry_min: Duration,
    /// Longest wait.
    pub retry_max: Duration,
}

impl Default for FetchSettings {
    fn default() -> Self {
        Self {
            window_bytes: CHUNK_SIZE_MAX,
            requests_max: 64,
            unwritten_bytes_max: 4 * 1024 * 1024,
            tries_max: 3,
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(600),
        }
    }
}

/// A blob that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Its name in the release.
    pub name: Vec<u8>,
    /// Its hash.
    pub hash: BlobHash,
    /// Its size; where two names give one hash two sizes, the first is taken.
    pub size: u64,
}

impl Blob {
    /// The manifest of an assignment.
    #[must_use]
    pub fn manifest_of(assignment: &Assignment) -> Self {
        Self {
            name: NAME_MANIFEST.to_vec(),
            hash: assignment.manifest_hash(),
            size: assignment.manifest_size,
        }
    }

    /// The catalog and the files of a manifest.
    pub fn all_of(manifest: &ManifestBlob) -> impl Iterator<Item = Self> + '_ {
        let catalog = Self {
            name: NAME_CATALOG.to_vec(),
            hash: BlobHash(manifest.catalog),
            size: manifest.catalog_size,
        };
        let files = manifest.files.iter();
        let files =
            files.map(|f| Self { name: f.name.clone(), hash: BlobHash(f.hash), size: f.size });
        std::iter::once(catalog).chain(files)
    }
}

/// What a fetcher tells its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchEvent {
    /// Dial the server, then call [`Fetcher::connected`] or [`Fetcher::disconnected`].
    Connect,
    /// Nothing is left to be asked for: close the connection.
    Hangup,
    /// A blob is in the cache, verified when it was stored.
    Stored {
        /// Which.
        hash: BlobHash,
    },
    /// The server serves it under none of its names.
    Refused {
        /// Which.
        hash: BlobHash,
    },
    /// It arrived damaged, or could not be written, as often as is tried.
    Broken {
        /// Which.
        hash: BlobHash,
        /// What was wrong the last time.
        error: String,
    },
}

/// How far a fetcher has come, since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FetchProgress {
    /// Different blobs that were wanted.
    pub blobs: u64,
    /// Those stored, whether fetched or there already.
    pub blobs_stored: u64,
    /// Those refused or broken for good.
    pub blobs_failed: u64,
    /// Bytes that had to be fetched.
    pub bytes_missing: u64,
    /// Bytes that have arrived.
    pub bytes_received: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// It is not yet known how much of it is here.
    Probing,
    /// It is fetched from `asked` on.
    Fetching,
    /// An attempt failed; the answers to its writes are awaited before the next.
    Failed { error: String },
}

#[derive(Debug)]
struct Wanted {
    names: VecDeque<Vec<u8>>,
    size: u64,
    /// What was asked for ends here.
    asked: u64,
    /// What has arrived ends here.
    received: u64,
    tries: u32,
    queued: bool,
    stage: Stage,
}

#[derive(Debug)]
struct Request {
    seq: u64,
    hash: BlobHash,
    offset: u64,
    len: usize,
    /// The attempt that it belonged to is over: its answer is dropped.
    stale: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Link {
    /// None, and none is needed yet.
    Idle,
    /// None until then.
    Waiting(Instant),
    Dialing,
    Up,
    /// The node was told to close it.
    Closing,
}

/// Fetches blobs over one connection at a time.
#[derive(Debug)]
pub struct Fetcher {
    settings: FetchSettings,
    rng: fastrand::Rng,
    blobs: HashMap<BlobHash, Wanted>,
    queue: VecDeque<BlobHash>,
    requests: VecDeque<Request>,
    asked_bytes: usize,
    next_seq: u64,
    /// Lengths of the writes of each blob that the blob thread has not yet answered.
    unwritten: HashMap<BlobHash, VecDeque<usize>>,
    unwritten_bytes: usize,
    unprobed: Vec<(BlobHash, u64)>,
    probing: Option<Vec<BlobHash>>,
    link: Link,
    /// The server has asked not to be dialled before.
    not_before: Instant,
    failures: u32,
    commands: VecDeque<BlobCommand>,
    events: VecDeque<FetchEvent>,
    progress: FetchProgress,
}

impl Fetcher {
    /// A fetcher that wants nothing yet; `rng` spreads its waits.
    #[must_use]
    pub fn new(settings: FetchSettings, rng: fastrand::Rng) -> Self {
        Self {
            settings,
            rng,
            blobs: HashMap::new(),
            queue: VecDeque::new(),
            requests: VecDeque::new(),
            asked_bytes: 0,
            next_seq: 1,
            unwritten: HashMap::new(),
            unwritten_bytes: 0,
            unprobed: Vec::new(),
            probing: None,
            link: Link::Idle,
            not_before: Instant::default(),
            failures: 0,
            commands: VecDeque::new(),
            events: VecDeque::new(),
            progress: FetchProgress::default(),
        }
    }

    /// Adds blobs: those that the cache lacks are fetched, in this order; one hash under
    /// several names is fetched once.
    pub fn want(&mut self, blobs: impl IntoIterator<Item = Blob>) {
        for Blob { name, hash, size } in blobs {
            if let Some(wanted) = self.blobs.get_mut(&hash) {
                if !wanted.names.contains(&name) {
                    wanted.names.push_back(name);
                }
                continue;
            }
            let wanted = Wanted {
                names: VecDeque::from([name]),
                size,
                asked: 0,
                received: 0,
                tries: 0,
                queued: false,
                stage: Stage::Probing,
            };
            self.blobs.insert(hash, wanted);
            self.unprobed.push((hash, size));
            self.progress.blobs += 1;
        }
        self.probe();
    }

    /// Whether everything wanted was stored, refused or given up.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.blobs.is_empty()
    }

    /// Whether an answer of the server is due.
    #[must_use]
    pub fn is_awaiting(&self) -> bool {
        !self.requests.is_empty()
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> FetchProgress {
        self.progress
    }

    /// The connection stands.
    pub fn connected(&mut self) {
        self.link = Link::Up;
    }

    /// The connection has ended or could not be made: what had begun goes on from where it is.
    pub fn disconnected(&mut self, now: Now) {
        for request in mem::take(&mut self.requests).into_iter().rev() {
            if !request.stale {
                self.ask_again(request.hash);
            }
        }
        self.asked_bytes = 0;
        if self.queue.is_empty() {
            self.link = Link::Idle;
            return;
        }
        let wait = self.settings.retry_min.saturating_mul(1 << self.failures.min(20));
        let wait = wait.min(self.settings.retry_max).mul_f64(0.5 + self.rng.f64() / 2.0);
        self.failures += 1;
        self.link = Link::Waiting((now.at + wait).max(self.not_before));
    }

    /// The server has no room for this connection, and has said when it will: the next one is
    /// asked for no earlier.
    pub fn turned_away(&mut self, wait: Duration, now: Now) {
        self.not_before = now.at + wait;
    }

    /// When to call [`Fetcher::handle_timeout`].
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        match self.link {
            Link::Waiting(until) => Some(until),
            _ => None,
        }
    }

    /// The time of [`Fetcher::next_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Now) {
        if matches!(self.link, Link::Waiting(until) if until <= now.at) {
            self.link = Link::Idle;
        }
    }

    /// A `Chunk` or `FetchRefused` has come on the connection.
    ///
    /// # Errors
    /// It answers nothing that was asked for: close the connection.
    pub fn handle_frame(&mut self, frame: &Frame<'_>) -> Result<(), WireError> {
        if frame.header.kind == Kind::CHUNK {
            self.handle_chunk(frame)
        } else {
            self.handle_refused(frame)
        }
    }

    /// A piece of a blob has come.
    ///
    /// # Errors
    /// As [`Fetcher::handle_frame`].
    pub fn handle_chunk(&mut self, frame: &Frame<'_>) -> Result<(), WireError> {
        let bad = WireError::Body { kind: Kind::CHUNK, schema: frame.header.schema };
        frame.header.check_body(frame.body())?;
        let (offset, data) = frame.body().split_first_chunk::<8>().ok_or(bad)?;
        let request = self.answered(frame.header.seq).ok_or(bad)?;
        if request.stale {
            return Ok(());
        }
        let offset = u64::from_le_bytes(*offset);
        let Some(blob) = self.blobs.get_mut(&request.hash) else { return Ok(()) };
        if offset != request.offset || offset != blob.received || data.len() != request.len {
            let found = format!("{} bytes at {offset} instead of {request:?}", data.len());
            self.on_failed(request.hash, format!("the server sent {found}"));
            return Err(bad);
        }
        blob.received += data.len() as u64;
        let size = blob.size;
        self.failures = 0;
        self.progress.bytes_received += data.len() as u64;
        self.unwritten_bytes += data.len();
        self.unwritten.entry(request.hash).or_default().push_back(data.len());
        let (hash, data) = (request.hash, data.to_vec());
        self.commands.push_back(BlobCommand::Write { hash, size, offset, data });
        Ok(())
    }

    /// The server does not serve what was asked for.
    ///
    /// # Errors
    /// As [`Fetcher::handle_frame`].
    pub fn handle_refused(&mut self, frame: &Frame<'_>) -> Result<(), WireError> {
        let bad = WireError::Body { kind: Kind::FETCH_REFUSED, schema: frame.header.schema };
        let refused = access::<FetchRefused>(frame)?;
        let request = self.answered(frame.header.seq).ok_or(bad)?;
        if refused.hash != request.hash.0 {
            self.on_failed(request.hash, "the server refused another blob".to_owned());
            return Err(bad);
        }
        if request.stale {
            return Ok(());
        }
        self.forget_requests(request.hash);
        let Some(blob) = self.blobs.get_mut(&request.hash) else { return Ok(()) };
        blob.names.pop_front();
        if blob.names.is_empty() {
            self.on_over(FetchEvent::Refused { hash: request.hash }, request.hash);
        } else {
            self.ask_again(request.hash);
        }
        Ok(())
    }

    /// The blob thread has answered.
    pub fn handle_blob(&mut self, event: &BlobEvent) {
        match event {
            BlobEvent::Wanted { blobs } => self.on_probed(blobs),
            BlobEvent::Written { hash, .. } => self.on_written(*hash),
            BlobEvent::Stored { hash } => {
                self.on_over(FetchEvent::Stored { hash: *hash }, *hash);
                self.on_written(*hash);
            }
            BlobEvent::Broken { hash, error } => {
                self.on_failed(*hash, error.clone());
                self.on_written(*hash);
            }
            BlobEvent::Opened { .. }
            | BlobEvent::Missing { .. }
            | BlobEvent::Ready { .. }
            | BlobEvent::Loaded { .. }
            | BlobEvent::Verified { .. }
            | BlobEvent::Collected { .. } => {}
        }
    }

    /// The next frame to send on the connection.
    pub fn poll_frame(&mut self) -> Option<FrameBuf> {
        if self.link != Link::Up || self.requests.len() >= self.settings.requests_max {
            return None;
        }
        let hash = *self.queue.front()?;
        let blob = self.blobs.get_mut(&hash)?;
        let len = piece_len(blob.asked, blob.size);
        let over = |bytes: usize, bytes_max: usize| bytes > 0 && bytes + len > bytes_max;
        if over(self.asked_bytes, self.settings.window_bytes)
            || over(self.asked_bytes + self.unwritten_bytes, self.settings.unwritten_bytes_max)
        {
            return None;
        }
        let (seq, offset) = (self.next_seq, blob.asked);
        self.next_seq += 1;
        blob.asked += len as u64;
        if blob.asked >= blob.size {
            blob.queued = false;
            self.queue.pop_front();
        }
        self.asked_bytes += len;
        self.requests.push_back(Request { seq, hash, offset, len, stale: false });
        let name = blob.names.front().cloned().unwrap_or_default();
        let request = FetchReq { name, hash: hash.0, offset };
        Some(FrameBuf::message(None, &request, |header| header.seq = seq))
    }

    /// The next command for the blob thread.
    pub fn poll_command(&mut self) -> Option<BlobCommand> {
        self.commands.pop_front()
    }

    /// The next thing that the node is to know or do.
    pub fn poll_event(&mut self) -> Option<FetchEvent> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        match self.link {
            Link::Idle if !self.queue.is_empty() => {
                self.link = Link::Dialing;
                Some(FetchEvent::Connect)
            }
            // It stays while the last blobs are written: they may turn out broken.
            Link::Up if self.blobs.is_empty() => {
                self.link = Link::Closing;
                Some(FetchEvent::Hangup)
            }
            _ => None,
        }
    }

    fn probe(&mut self) {
        if self.probing.is_none() && !self.unprobed.is_empty() {
            let blobs = mem::take(&mut self.unprobed);
            self.probing = Some(blobs.iter().map(|(hash, _)| *hash).collect());
            self.commands.push_back(BlobCommand::Probe { blobs });
        }
    }

    fn on_probed(&mut self, missing: &[(BlobHash, u64, u64)]) {
        for &(hash, _, offset) in missing {
            if let Some(blob) = self.blobs.get_mut(&hash)
                && blob.stage == Stage::Probing
            {
                blob.stage = Stage::Fetching;
                blob.received = offset.min(blob.size);
                blob.asked = blob.received;
                blob.queued = true;
                // Sizes are what a manifest says: any number.
                let missing = blob.size - blob.received;
                self.progress.bytes_missing = self.progress.bytes_missing.saturating_add(missing);
                self.queue.push_back(hash);
            }
        }
        for hash in self.probing.take().unwrap_or_default() {
            if self.blobs.get(&hash).is_some_and(|blob| blob.stage == Stage::Probing) {
                self.on_over(FetchEvent::Stored { hash }, hash);
            }
        }
        self.probe();
    }

    /// Takes the request with this number out of those under way.
    fn answered(&mut self, seq: u64) -> Option<Request> {
        let at = self.requests.iter().position(|request| request.seq == seq)?;
        let request = self.requests.remove(at)?;
        self.asked_bytes -= request.len;
        Some(request)
    }

    fn forget_requests(&mut self, hash: BlobHash) {
        self.requests.iter_mut().filter(|r| r.hash == hash).for_each(|r| r.stale = true);
    }

    /// Puts a blob in front of the queue, to be asked for from what has been received on.
    fn ask_again(&mut self, hash: BlobHash) {
        if let Some(blob) = self.blobs.get_mut(&hash) {
            blob.asked = blob.received;
            if !mem::replace(&mut blob.queued, true) {
                self.queue.push_front(hash);
            }
        }
    }

    fn leave_queue(&mut self, hash: BlobHash) {
        if let Some(blob) = self.blobs.get_mut(&hash)
            && mem::take(&mut blob.queued)
        {
            self.queue.retain(|queued| *queued != hash);
        }
    }

    /// An attempt at a blob has failed.
    fn on_failed(&mut self, hash: BlobHash, error: String) {
        self.forget_requests(hash);
        self.leave_queue(hash);
        if let Some(blob) = self.blobs.get_mut(&hash)
            && blob.stage == Stage::Fetching
        {
            blob.stage = Stage::Failed { error };
        }
        self.on_settled(hash);
    }

    /// A write of a blob has been answered.
    fn on_written(&mut self, hash: BlobHash) {
        if let Some(lens) = self.unwritten.get_mut(&hash) {
            self.unwritten_bytes -= lens.pop_front().unwrap_or(0);
            if lens.is_empty() {
                self.unwritten.remove(&hash);
            }
        }
        self.on_settled(hash);
    }

    /// Begins the next attempt at a failed blob once nothing of the last one is left: answers
    /// to its writes would otherwise be taken for answers to those of the new one.
    fn on_settled(&mut self, hash: BlobHash) {
        if self.unwritten.contains_key(&hash) {
            return;
        }
        let Some(blob) = self.blobs.get_mut(&hash) else { return };
        let Stage::Failed { error } = &mut blob.stage else { return };
        let error = mem::take(error);
        blob.tries += 1;
        if blob.tries >= self.settings.tries_max {
            self.on_over(FetchEvent::Broken { hash, error }, hash);
            return;
        }
        log::info!("blob {hash} is fetched again: {error}");
        self.progress.bytes_missing = self.progress.bytes_missing.saturating_add(blob.received);
        blob.stage = Stage::Fetching;
        blob.received = 0;
        self.ask_again(hash);
    }

    /// A blob has come to its end, this way or that.
    fn on_over(&mut self, event: FetchEvent, hash: BlobHash) {
        self.leave_queue(hash);
        if self.blobs.remove(&hash).is_none() {
            return;
        }
        match event {
            FetchEvent::Stored { .. } => self.progress.blobs_stored += 1,
            _ => self.progress.blobs_failed += 1,
        }
        self.events.push_back(event);
    }
}

#[cfg(test)]
mod tests;
