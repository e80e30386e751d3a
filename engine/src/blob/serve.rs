//! The server's side of fetching: answers each request with one chunk or a refusal, connection
//! by connection in turn. Pure: files are opened and read ahead by the blob thread.

use super::{BlobCommand, BlobEvent, piece_len};
use crate::ids::{BlobHash, ConnId, IdMap};
use crate::limits::CHUNK_SIZE_MAX;
use crate::time::{Instant, Now};
use crate::wire::message::{ArchivedFetchReq, FetchRefused};
use crate::wire::{FLAG_NO_CRC, FrameBuf, Header, Kind, Verdict};
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

/// Requests of one connection that wait; beyond it the connection is parked.
const REQUESTS_MAX: usize = 64;
/// Bytes of files sent on one connection before it has to be drained.
const OUTSTANDING_MAX: usize = 2 * CHUNK_SIZE_MAX;
/// Files kept open.
const FILES_MAX: usize = 512;
/// Of a connection's waiting requests, how many have their files opened in advance.
const OPEN_AHEAD: usize = 8;
/// Blobs that are remembered as unreadable, for the operator.
const UNREADABLE_MAX: usize = 16;
/// How long what was read ahead is taken to be in the page cache still.
const WARM_FOR: Duration = Duration::from_secs(10);

/// Which blobs are served under which names.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// Hashes and sizes under each name, sorted.
    names: HashMap<Box<[u8]>, Vec<(BlobHash, u64)>>,
}

impl Listing {
    /// Adds a blob; a pair that is there already keeps its size.
    pub fn insert(&mut self, name: &[u8], hash: BlobHash, size: u64) {
        if !self.names.contains_key(name) {
            self.names.insert(name.into(), Vec::new());
        }
        if let Some(blobs) = self.names.get_mut(name)
            && let Err(at) = blobs.binary_search_by_key(&hash, |(hash, _)| *hash)
        {
            blobs.insert(at, (hash, size));
        }
    }

    /// The size of a blob; `None` if it is not served under this name.
    #[must_use]
    pub fn size(&self, name: &[u8], hash: BlobHash) -> Option<u64> {
        let blobs = self.names.get(name)?;
        let at = blobs.binary_search_by_key(&hash, |(hash, _)| *hash).ok()?;
        Some(blobs[at].1)
    }

    /// Every blob that is served, each once.
    #[must_use]
    pub fn hashes(&self) -> HashSet<BlobHash> {
        self.names.values().flatten().map(|(hash, _)| *hash).collect()
    }
}

/// What a server counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServeCounters {
    /// Requests taken.
    pub requests: u64,
    /// Refusals, whatever the reason.
    pub refused: u64,
    /// Those of listed blobs, whose file was missing, unreadable or of another size.
    pub unreadable: u64,
    /// Chunks sent.
    pub chunks: u64,
    /// Bytes of blobs in them.
    pub bytes: u64,
}

impl ServeCounters {
    /// All of them with their names.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64); 5] {
        [
            ("blob_requests", self.requests),
            ("blob_refused", self.refused),
            ("blob_unreadable", self.unreadable),
            ("blob_chunks", self.chunks),
            ("blob_bytes", self.bytes),
        ]
    }
}

/// What a server asks of its node.
#[derive(Debug)]
pub enum ServeOutput {
    /// Send a frame.
    Send {
        /// On which connection.
        conn: ConnId,
        /// The frame.
        frame: FrameBuf,
    },
    /// Send a frame that ends with bytes of a file; the connection has to be reported as
    /// drained after it.
    SendFile {
        /// On which connection.
        conn: ConnId,
        /// Header and the body's first bytes.
        frame: FrameBuf,
        /// The file.
        file: Arc<File>,
        /// Where to begin in it.
        offset: u64,
        /// How many bytes; never 0.
        len: usize,
    },
    /// Offer the parked request again.
    Resume {
        /// On which connection.
        conn: ConnId,
    },
}

#[derive(Debug)]
struct Job {
    seq: u64,
    hash: BlobHash,
    offset: u64,
    /// The blob's size; `None`: refuse.
    size: Option<u64>,
    /// Its piece has been read ahead for it.
    warmed: bool,
}

#[derive(Debug, Default)]
struct Peer {
    jobs: VecDeque<Job>,
    /// Bytes of files sent since it was last drained. Refusals are not counted: they are no
    /// longer than their requests, and the send buffer has a bound of its own.
    outstanding: usize,
    /// It stands in the queue of those that can go on.
    ready: bool,
    parked: bool,
}

#[derive(Debug)]
struct OpenFile {
    file: Arc<File>,
    size: u64,
    /// When each piece was read ahead.
    warm: HashMap<u64, Instant>,
    used: u64,
}

/// Serves blobs to any number of connections.
#[derive(Debug, Default)]
pub struct Server {
    listing: Listing,
    peers: IdMap<ConnId, Peer>,
    ready: VecDeque<ConnId>,
    files: HashMap<BlobHash, OpenFile>,
    /// Connections whose first job waits for a file to be opened.
    opening: HashMap<BlobHash, Vec<ConnId>>,
    /// Connections whose first job waits for a piece to be read.
    reading: HashMap<(BlobHash, u64), Vec<ConnId>>,
    uses: u64,
    now: Instant,
    resumes: VecDeque<ConnId>,
    commands: VecDeque<BlobCommand>,
    unreadable: BTreeSet<BlobHash>,
    counters: ServeCounters,
}

impl Server {
    /// A server that refuses everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves these blobs from now on, and no others.
    pub fn listing_replaced(&mut self, listing: Listing) {
        // A file that is kept open would keep its blocks after its blob was collected, and be
        // served after what was damaged has been written again.
        self.files.clear();
        self.unreadable.clear();
        self.listing = listing;
    }

    /// Blobs that were asked for since the listing was replaced and could not be read: some.
    pub fn unreadable(&self) -> impl ExactSizeIterator<Item = BlobHash> {
        self.unreadable.iter().copied()
    }

    fn on_unreadable(&mut self, hash: BlobHash) {
        self.counters.unreadable += 1;
        if self.unreadable.len() < UNREADABLE_MAX {
            self.unreadable.insert(hash);
        }
    }

    /// What has been counted since the start.
    #[must_use]
    pub fn counters(&self) -> ServeCounters {
        self.counters
    }

    /// Connections that have asked for something and have not ended.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.peers.len()
    }

    /// A request has come; `seq` is its header's, and its answer bears it again.
    pub fn handle_request(
        &mut self,
        conn: ConnId,
        request: &ArchivedFetchReq,
        seq: u64,
        now: Now,
    ) -> Verdict {
        self.now = now.at;
        let peer = self.peers.entry(conn).or_default();
        if peer.jobs.len() >= REQUESTS_MAX {
            peer.parked = true;
            return Verdict::Park;
        }
        self.counters.requests += 1;
        let (hash, offset) = (BlobHash(request.hash), request.offset.to_native());
        let size = self.listing.size(&request.name, hash);
        // Only an empty blob has something at its end: nothing, once.
        let size = size.filter(|size| offset < *size || (*size == 0 && offset == 0));
        peer.jobs.push_back(Job { seq, hash, offset, size, warmed: false });
        if peer.jobs.len() <= OPEN_AHEAD && size.is_some_and(|size| size > 0) {
            self.open_ahead(hash);
        }
        self.on_ready(conn);
        Verdict::Taken
    }

    /// All that was sent on a connection has gone to the operating system.
    pub fn drained(&mut self, conn: ConnId) {
        if let Some(peer) = self.peers.get_mut(&conn) {
            peer.outstanding = 0;
            self.on_ready(conn);
        }
    }

    /// A connection has ended.
    pub fn closed(&mut self, conn: ConnId) {
        self.peers.remove(&conn);
    }

    /// The blob thread has answered.
    pub fn handle_blob(&mut self, event: &BlobEvent, now: Now) {
        self.now = now.at;
        match event {
            BlobEvent::Opened { hash, file, size } => {
                self.evict();
                let warm = HashMap::from([(0, self.now)]);
                let file = OpenFile { file: file.clone(), size: *size, warm, used: self.uses };
                self.files.insert(*hash, file);
                for conn in self.opening.remove(hash).unwrap_or_default() {
                    self.on_ready(conn);
                }
            }
            BlobEvent::Missing { hash } => {
                self.files.remove(hash);
                let mut waiting = self.opening.remove(hash).unwrap_or_default();
                let read = self.reading.extract_if(|(of, _), _| of == hash);
                waiting.extend(read.flat_map(|(_, waiting)| waiting));
                for conn in waiting {
                    if let Some(job) = self.first_job(conn, *hash) {
                        job.size = None;
                        self.on_unreadable(*hash);
                    }
                    self.on_ready(conn);
                }
            }
            BlobEvent::Ready { hash, offset } => {
                let piece = piece(*offset);
                if let Some(file) = self.files.get_mut(hash) {
                    file.warm.insert(piece, self.now);
                }
                for conn in self.reading.remove(&(*hash, piece)).unwrap_or_default() {
                    if let Some(job) = self.first_job(conn, *hash) {
                        job.warmed = true;
                    }
                    self.on_ready(conn);
                }
            }
            BlobEvent::Wanted { .. }
            | BlobEvent::Written { .. }
            | BlobEvent::Stored { .. }
            | BlobEvent::Broken { .. }
            | BlobEvent::Loaded { .. }
            | BlobEvent::Verified { .. }
            | BlobEvent::Collected { .. } => {}
        }
    }

    /// The next command for the blob thread.
    pub fn poll_command(&mut self) -> Option<BlobCommand> {
        self.commands.pop_front()
    }

    /// The next thing for the node to do. Connections take turns, one answer each.
    pub fn poll_output(&mut self) -> Option<ServeOutput> {
        loop {
            if let Some(conn) = self.resumes.pop_front() {
                return Some(ServeOutput::Resume { conn });
            }
            let conn = self.ready.pop_front()?;
            let Some(mut peer) = self.peers.remove(&conn) else { continue };
            peer.ready = false;
            let output = self.serve(conn, &mut peer);
            let answered = output.is_some();
            self.peers.insert(conn, peer);
            if answered {
                self.on_answered(conn);
                return output;
            }
        }
    }

    /// The answer to a connection's first job; `None` if it has to wait for something.
    fn serve(&mut self, conn: ConnId, peer: &mut Peer) -> Option<ServeOutput> {
        let job = peer.jobs.front_mut()?;
        let len = job.size.map_or(0, |size| piece_len(job.offset, size));
        if peer.outstanding > 0 && peer.outstanding + len > OUTSTANDING_MAX {
            return None;
        }
        let mut output = None;
        if let Some(size) = job.size.filter(|size| *size > 0) {
            self.uses += 1;
            let Some(open) = self.files.get_mut(&job.hash) else {
                let hash = job.hash;
                self.open(hash).push(conn);
                return None;
            };
            open.used = self.uses;
            if open.size == size {
                let at = piece(job.offset);
                let fresh = |read: &Instant| self.now.since(*read) < WARM_FOR;
                if !job.warmed && !open.warm.get(&at).is_some_and(fresh) {
                    read_ahead(&mut self.commands, &mut self.reading, job.hash, open, at)
                        .push(conn);
                    return None;
                }
                let ahead = at + 1;
                if ahead * (CHUNK_SIZE_MAX as u64) < size
                    && !open.warm.get(&ahead).is_some_and(fresh)
                {
                    read_ahead(&mut self.commands, &mut self.reading, job.hash, open, ahead);
                }
                output = Some(ServeOutput::SendFile {
                    conn,
                    frame: chunk_head(job.seq, job.offset, len),
                    file: open.file.clone(),
                    offset: job.offset,
                    len,
                });
            } else {
                // Of another size than listed: what is asked for later must not hang the peer.
                let hash = job.hash;
                job.size = None;
                self.files.remove(&hash);
                self.on_unreadable(hash);
            }
        }
        let job = peer.jobs.pop_front()?;
        peer.outstanding += len;
        if job.size.is_some() {
            self.counters.chunks += 1;
            self.counters.bytes += len as u64;
        } else {
            self.counters.refused += 1;
        }
        Some(output.unwrap_or_else(|| {
            let frame = match job.size {
                Some(_) => chunk_head(job.seq, job.offset, 0),
                None => FrameBuf::message(None, &FetchRefused { hash: job.hash.0 }, |header| {
                    header.seq = job.seq;
                }),
            };
            ServeOutput::Send { conn, frame }
        }))
    }

    /// A job of a connection is done: let it come again, and those behind move up.
    fn on_answered(&mut self, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(&conn) else { return };
        let moved_up = peer.jobs.get(OPEN_AHEAD - 1);
        let hash = moved_up.filter(|job| job.size.is_some_and(|size| size > 0)).map(|j| j.hash);
        if peer.parked && peer.jobs.len() <= REQUESTS_MAX / 2 {
            peer.parked = false;
            self.resumes.push_back(conn);
        }
        if let Some(hash) = hash {
            self.open_ahead(hash);
        }
        self.on_ready(conn);
    }

    fn on_ready(&mut self, conn: ConnId) {
        if let Some(peer) = self.peers.get_mut(&conn)
            && !peer.ready
            && !peer.jobs.is_empty()
        {
            peer.ready = true;
            self.ready.push_back(conn);
        }
    }

    fn first_job(&mut self, conn: ConnId, hash: BlobHash) -> Option<&mut Job> {
        self.peers.get_mut(&conn)?.jobs.front_mut().filter(|job| job.hash == hash)
    }

    /// Has a file opened, unless it is about to be; the list of those who wait for it.
    fn open(&mut self, hash: BlobHash) -> &mut Vec<ConnId> {
        self.opening.entry(hash).or_insert_with(|| {
            self.commands.push_back(BlobCommand::Open { hash });
            Vec::new()
        })
    }

    fn open_ahead(&mut self, hash: BlobHash) {
        if !self.files.contains_key(&hash) {
            self.open(hash);
        }
    }

    /// Closes the file that was used longest ago, if there is no room for one more.
    fn evict(&mut self) {
        if self.files.len() >= FILES_MAX
            && let Some(oldest) = self.files.iter().min_by_key(|(_, f)| f.used).map(|(h, _)| *h)
        {
            self.files.remove(&oldest);
        }
    }
}

/// Has a piece read ahead, unless it is about to be; the list of those who wait for it.
fn read_ahead<'a>(
    commands: &mut VecDeque<BlobCommand>,
    reading: &'a mut HashMap<(BlobHash, u64), Vec<ConnId>>,
    hash: BlobHash,
    open: &OpenFile,
    piece: u64,
) -> &'a mut Vec<ConnId> {
    reading.entry((hash, piece)).or_insert_with(|| {
        commands.push_back(BlobCommand::ReadAhead {
            hash,
            file: open.file.clone(),
            offset: piece * CHUNK_SIZE_MAX as u64,
            len: CHUNK_SIZE_MAX,
        });
        Vec::new()
    })
}

/// The number of the piece in which an offset lies.
fn piece(offset: u64) -> u64 {
    offset / CHUNK_SIZE_MAX as u64
}

/// Header and offset of a chunk whose `len` bytes follow.
fn chunk_head(seq: u64, offset: u64, len: usize) -> FrameBuf {
    let mut header = Header::new(Kind::CHUNK);
    header.flags |= FLAG_NO_CRC;
    header.seq = seq;
    let head = header.seal_length(&[], 8 + len, 0);
    FrameBuf {
        head: Bytes::copy_from_slice(&head),
        body: Bytes::copy_from_slice(&offset.to_le_bytes()),
    }
}

#[cfg(test)]
mod tests;
