//! Fetcher and server joined by a link that can be cut, with real caches on both sides and
//! answers of both blob threads that come in any order.

use super::*;
use crate::ids::ConnId;
use crate::node::io::Verdict;
use crate::time::{Instant, Now, WallMs};
use crate::wire::message::FetchReq;
use crate::wire::{Frame, Kind, access};
use fastrand::Rng;
use std::collections::{HashMap, VecDeque};
use std::os::unix::fs::FileExt;
use tempfile::TempDir;

const CHUNK: usize = CHUNK_SIZE_MAX;

struct World {
    rng: Rng,
    now: Now,
    fetcher: Fetcher,
    server: Server,
    _dir: TempDir,
    client_cache: Cache,
    server_cache: Cache,
    client_worker: BlobWorker,
    server_worker: BlobWorker,
    client_answers: Vec<BlobEvent>,
    server_answers: Vec<BlobEvent>,
    conn: Option<ConnId>,
    conns: u32,
    to_server: VecDeque<Vec<u8>>,
    to_client: VecDeque<Vec<u8>>,
    undrained: bool,
    parked: bool,
    events: Vec<FetchEvent>,
    /// Cuts and damaged chunks that are left to happen.
    cuts: u32,
    damages: u32,
    /// Dials left to fail.
    refusals: u32,
    /// Of each blob, how often a chunk was damaged.
    damaged: HashMap<BlobHash, u32>,
    asked: HashMap<u64, BlobHash>,
}

impl World {
    fn new(seed: u64, settings: FetchSettings) -> Self {
        println!("seed {seed}");
        let dir = tempfile::tempdir().unwrap();
        let client_cache = Cache::open(&dir.path().join("client"), false).unwrap();
        let server_cache = Cache::open(&dir.path().join("server"), false).unwrap();
        Self {
            rng: Rng::with_seed(seed),
            now: Now { at: Instant(0), wall: WallMs(0) },
            fetcher: Fetcher::new(settings, Rng::with_seed(seed + 1)),
            server: Server::new(),
            client_worker: BlobWorker::new(client_cache.clone()),
            server_worker: BlobWorker::new(server_cache.clone()),
            client_cache,
            server_cache,
            _dir: dir,
            client_answers: Vec::new(),
            server_answers: Vec::new(),
            conn: None,
            conns: 0,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            undrained: false,
            parked: false,
            events: Vec::new(),
            cuts: 0,
            damages: 0,
            refusals: 0,
            damaged: HashMap::new(),
            asked: HashMap::new(),
        }
    }

    /// Publishes blobs of these sizes: the wishes for them.
    fn publish(&mut self, sizes: &[usize]) -> Vec<Blob> {
        let mut listing = Listing::default();
        let mut blobs = Vec::new();
        for (i, size) in sizes.iter().enumerate() {
            let mut data = vec![0; *size];
            self.rng.fill(&mut data);
            let hash = self.server_cache.insert(&data).unwrap();
            let name = format!("files/{i}").into_bytes();
            listing.insert(&name, hash, *size as u64);
            blobs.push(Blob { name, hash, size: *size as u64 });
        }
        self.server.listing_replaced(listing);
        blobs
    }

    /// Has the server told of the same release again.
    fn relist(&mut self, blobs: &[Blob]) {
        let mut listing = Listing::default();
        blobs.iter().for_each(|blob| listing.insert(&blob.name, blob.hash, blob.size));
        self.server.listing_replaced(listing);
    }

    fn cut(&mut self) {
        if let Some(conn) = self.conn.take() {
            self.server.closed(conn);
        }
        self.to_client.clear();
        self.to_server.clear();
        (self.undrained, self.parked) = (false, false);
        self.fetcher.disconnected(self.now);
    }

    /// One random thing that can happen; `false` if nothing can.
    fn step(&mut self) -> bool {
        self.now.at = self.now.at + std::time::Duration::from_micros(self.rng.u64(0..50));
        while let Some(event) = self.fetcher.poll_event() {
            match event {
                FetchEvent::Connect if self.refusals > 0 => {
                    self.refusals -= 1;
                    self.fetcher.disconnected(self.now);
                }
                FetchEvent::Connect => {
                    assert!(self.conn.is_none());
                    self.conns += 1;
                    self.conn = Some(ConnId::new(0, self.conns));
                    self.fetcher.connected();
                }
                FetchEvent::Hangup => self.cut(),
                event => self.events.push(event),
            }
        }
        let timeout = self.fetcher.next_timeout().filter(|at| *at <= self.now.at);
        if timeout.is_some() {
            self.fetcher.handle_timeout(self.now);
            return true;
        }
        let first = self.rng.usize(0..8);
        (first..first + 8).any(|action| match action % 8 {
            0 => self.fetcher.poll_command().is_some_and(|command| {
                self.client_answers.push(self.client_worker.carry_out(command));
                true
            }),
            1 => self.server.poll_command().is_some_and(|command| {
                self.server_answers.push(self.server_worker.carry_out(command));
                true
            }),
            2 if !self.client_answers.is_empty() => {
                let at = self.rng.usize(..self.client_answers.len());
                let answer = self.client_answers.swap_remove(at);
                self.fetcher.handle_blob(&answer);
                true
            }
            3 if !self.server_answers.is_empty() => {
                let at = self.rng.usize(..self.server_answers.len());
                let answer = self.server_answers.swap_remove(at);
                self.server.handle_blob(&answer, self.now);
                true
            }
            4 => self.fetcher.poll_frame().is_some_and(|frame| {
                self.to_server.push_back(frame.to_vec());
                true
            }),
            5 => self.serve(),
            6 if !self.to_client.is_empty() => self.deliver(),
            7 => match self.conn {
                Some(_) if self.cuts > 0 && self.rng.u8(0..15) == 0 => {
                    self.cuts -= 1;
                    self.cut();
                    true
                }
                Some(conn) if self.undrained && self.rng.bool() => {
                    self.undrained = false;
                    self.server.drained(conn);
                    true
                }
                _ => self.undrained,
            },
            _ => false,
        })
    }

    /// The server takes a request, or sends.
    fn serve(&mut self) -> bool {
        let Some(conn) = self.conn else { return false };
        if !self.parked
            && self.rng.bool()
            && let Some(bytes) = self.to_server.pop_front()
        {
            let frame = Frame::parse(&bytes).unwrap();
            let request = access::<FetchReq>(&frame).unwrap();
            self.asked.insert(frame.header.seq, BlobHash(request.hash));
            let verdict = self.server.handle_request(conn, request, frame.header.seq, self.now);
            if verdict == Verdict::Park {
                self.parked = true;
                self.to_server.push_front(bytes);
            }
            return true;
        }
        let Some(output) = self.server.poll_output() else {
            return !self.parked && !self.to_server.is_empty();
        };
        match output {
            ServeOutput::Send { frame, .. } => self.to_client.push_back(frame.to_vec()),
            ServeOutput::SendFile { frame, file, offset, len, .. } => {
                let mut bytes = frame.to_vec();
                let head = bytes.len();
                bytes.resize(head + len, 0);
                file.read_exact_at(&mut bytes[head..], offset).unwrap();
                self.to_client.push_back(bytes);
                self.undrained = true;
            }
            ServeOutput::Resume { .. } => self.parked = false,
        }
        true
    }

    fn deliver(&mut self) -> bool {
        let mut bytes = self.to_client.pop_front().unwrap();
        let frame = Frame::parse(&bytes).unwrap();
        let (kind, seq) = (frame.header.kind, frame.header.seq);
        let times = self.damaged.entry(self.asked[&seq]).or_default();
        if kind == Kind::CHUNK && self.damages > 0 && *times < 2 && self.rng.u8(0..10) == 0 {
            self.damages -= 1;
            *times += 1;
            // Either a wrong byte, which the hash finds, or a wrong offset.
            let at = if self.rng.bool() { bytes.len() - 1 } else { 44 };
            bytes[at] ^= 1;
        }
        if self.fetcher.handle_frame(&Frame::parse(&bytes).unwrap()).is_err() {
            self.cut();
        }
        true
    }

    fn run(&mut self) {
        for _ in 0..2_000_000 {
            // Asking for output may have made a command after those were looked at.
            if !self.step() && !self.step() {
                match self.fetcher.next_timeout() {
                    Some(at) => self.now.at = self.now.at.max(at),
                    None if self.fetcher.is_done() && self.conn.is_none() => return,
                    None => panic!("stuck: {:?} {:?}", self.fetcher, self.server),
                }
            }
        }
        panic!("no end: {:?}", self.fetcher);
    }

    fn assert_all_stored(&self, blobs: &[Blob]) {
        let mut wanted: Vec<_> = blobs.iter().map(|blob| blob.hash).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut stored: Vec<_> = self
            .events
            .iter()
            .map(|event| match event {
                FetchEvent::Stored { hash } => *hash,
                other => panic!("{other:?}"),
            })
            .collect();
        stored.sort_unstable();
        assert_eq!(stored, wanted, "each hash once");
        for blob in blobs {
            assert_eq!(self.client_cache.verify(blob.hash).unwrap(), blob.size);
        }
    }
}

fn random_sizes(rng: &mut Rng) -> Vec<usize> {
    let some = [0, 1, 4_000, 16_384, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5, 40, 41, 42];
    (0..20).map(|_| some[rng.usize(..some.len())]).collect()
}

#[test]
fn everything_arrives_each_hash_once_whatever_breaks() {
    let (mut planned, mut unused) = (0, 0);
    for seed in 0..24 {
        let mut world = World::new(seed, FetchSettings::default());
        let sizes = random_sizes(&mut world.rng);
        let blobs = world.publish(&sizes);
        world.cuts = world.rng.u32(0..8);
        world.damages = world.rng.u32(0..6);
        world.refusals = world.rng.u32(0..4);
        planned += world.cuts + world.damages + world.refusals;
        world.fetcher.want(blobs.clone());
        world.run();
        world.assert_all_stored(&blobs);
        unused += world.cuts + world.damages + world.refusals;
    }
    assert!(unused < planned / 3, "most of what was to break did: {unused} of {planned} did not");
}

#[test]
fn a_wide_window_and_a_narrow_one_arrive_as_well() {
    for seed in 100..108 {
        let mut settings = FetchSettings::default();
        if seed % 2 == 0 {
            (settings.window_bytes, settings.requests_max) = (8 * CHUNK, 200);
        } else {
            (settings.window_bytes, settings.unwritten_bytes_max) = (1, 1);
        }
        let mut world = World::new(seed, settings);
        let mut sizes = random_sizes(&mut world.rng);
        sizes.extend([10; 150]);
        let blobs = world.publish(&sizes);
        world.cuts = 3;
        world.fetcher.want(blobs.clone());
        world.run();
        world.assert_all_stored(&blobs);
    }
}

#[test]
fn s1_7_the_same_again_serves_no_byte_and_two_names_are_one_download() {
    let mut world = World::new(7, FetchSettings::default());
    let mut blobs = world.publish(&[5_000, 2 * CHUNK + 1, 0, 77]);
    let twin = Blob { name: b"files/1".to_vec(), ..blobs[0].clone() };
    let mut listing = Listing::default();
    for blob in blobs.iter().chain([&twin]) {
        listing.insert(&blob.name, blob.hash, blob.size);
    }
    world.server.listing_replaced(listing);
    blobs.push(twin);
    world.fetcher.want(blobs.clone());
    world.run();
    world.assert_all_stored(&blobs);
    let bytes: u64 = 5_000 + 2 * CHUNK as u64 + 1 + 77;
    assert_eq!(world.server.counters().bytes, bytes);
    assert_eq!(world.fetcher.progress().bytes_received, bytes);
    world.events.clear();
    world.fetcher.want(blobs.clone());
    world.run();
    world.assert_all_stored(&blobs);
    assert_eq!(world.server.counters().bytes, bytes, "0 blob bytes the second time");
}

#[test]
fn s1_7_after_a_cut_no_more_than_one_chunk_is_sent_twice() {
    for seed in 200..216 {
        let mut world = World::new(seed, FetchSettings::default());
        let size = 6 * CHUNK + 123;
        let mut sizes = vec![size];
        // Small ones before it, so that the cut meets those as well.
        sizes.splice(0..0, [3_000; 30]);
        let blobs = world.publish(&sizes);
        world.fetcher.want(blobs.clone());
        let total = (size + 30 * 3_000) as u64;
        let cut_at = world.rng.u64(1..total);
        while world.server.counters().bytes < cut_at {
            world.step();
        }
        world.cut();
        world.run();
        world.assert_all_stored(&blobs);
        let served = world.server.counters().bytes;
        assert!(served >= total && served <= total + CHUNK as u64, "{served} for {total}");
    }
}

#[test]
fn s1_5_a_flipped_byte_in_the_clients_cache_is_fetched_again() {
    let mut world = World::new(5, FetchSettings::default());
    let blobs = world.publish(&[100_000, 50]);
    world.fetcher.want(blobs.clone());
    world.run();
    let path = world.client_cache.path(blobs[0].hash);
    let mut data = std::fs::read(&path).unwrap();
    data[99_999] ^= 1;
    std::fs::write(&path, data).unwrap();
    assert!(world.client_cache.verify(blobs[0].hash).is_err());
    world.events.clear();
    world.fetcher.want([blobs[0].clone()]);
    world.run();
    world.assert_all_stored(&blobs[..1]);
    assert_eq!(world.server.counters().bytes, 100_050 + 100_000);
}

#[test]
fn s1_5_a_blob_that_is_damaged_at_its_source_is_refused_until_it_is_whole_again() {
    let mut world = World::new(9, FetchSettings::default());
    let blobs = world.publish(&[2 * CHUNK, 10]);
    let path = world.server_cache.path(blobs[0].hash);
    let whole = std::fs::read(&path).unwrap();
    let mut data = whole.clone();
    data[7] ^= 1;
    std::fs::write(&path, data).unwrap();
    world.fetcher.want(blobs.clone());
    world.run();
    assert_eq!(world.events.len(), 2);
    assert!(world.events.contains(&FetchEvent::Refused { hash: blobs[0].hash }));
    assert_eq!(world.server.counters().bytes, 10, "nothing of it was sent");
    assert_eq!(world.server.unreadable().collect::<Vec<_>>(), [blobs[0].hash]);
    assert!(!world.client_cache.path(blobs[0].hash).exists());

    // Written again in its place, beside the listing as it was.
    std::fs::write(&path, whole).unwrap();
    world.relist(&blobs);
    assert_eq!(world.server.unreadable().len(), 0);
    world.events.clear();
    world.fetcher.want([blobs[0].clone()]);
    world.run();
    world.assert_all_stored(&blobs[..1]);
}

/// The file is open and was good then.
#[test]
fn a_blob_that_is_damaged_while_it_is_open_is_served_no_more() {
    let mut world = World::new(10, FetchSettings::default());
    let blobs = world.publish(&[100]);
    world.fetcher.want(blobs.clone());
    world.run();
    world.assert_all_stored(&blobs);
    std::fs::write(world.server_cache.path(blobs[0].hash), [0; 100]).unwrap();
    std::fs::remove_file(world.client_cache.path(blobs[0].hash)).unwrap();
    world.now.at = world.now.at + std::time::Duration::from_secs(60);
    world.events.clear();
    world.fetcher.want(blobs.clone());
    world.run();
    assert_eq!(world.events, [FetchEvent::Refused { hash: blobs[0].hash }]);
    assert_eq!(world.server.counters().bytes, 100);
}

#[test]
fn s1_17_unlisted_wrong_and_missing_are_refused_and_the_rest_arrives() {
    let mut world = World::new(17, FetchSettings::default());
    let mut blobs = world.publish(&[500, 600, 700, 800]);
    let good = blobs.split_off(2);
    blobs[0].name = b"../../etc/shadow".to_vec();
    blobs[1].name = b"files/0".to_vec();
    // Cut short behind the server's back, and gone.
    let cut = std::fs::File::options().write(true).open(world.server_cache.path(good[0].hash));
    cut.unwrap().set_len(699).unwrap();
    std::fs::remove_file(world.server_cache.path(good[1].hash)).unwrap();
    let twice = Blob { name: b"files/no".to_vec(), ..good[1].clone() };
    let whole = Blob { name: b"whole".to_vec(), hash: BlobHash::of(b"whole"), size: 5 };
    world.server_cache.insert(b"whole").unwrap();
    let mut listing = Listing::default();
    for (name, blob) in [(&b"files/2"[..], &good[0]), (b"files/3", &good[1]), (b"whole", &whole)] {
        listing.insert(name, blob.hash, blob.size);
    }
    world.server.listing_replaced(listing);
    let other_name = Blob { name: b"alias".to_vec(), ..whole.clone() };
    world.fetcher.want(blobs.iter().cloned().chain([twice, good[0].clone(), good[1].clone()]));
    world.fetcher.want([other_name, whole.clone()]);
    world.run();
    let refused = world.events.iter().filter(|e| matches!(e, FetchEvent::Refused { .. })).count();
    assert_eq!(refused, 4, "{:?}", world.events);
    assert!(
        world.events.contains(&FetchEvent::Stored { hash: whole.hash }),
        "its second name is listed"
    );
    assert_eq!(world.server.counters().unreadable, 2);
    assert_eq!(world.server.counters().bytes, 5);
}
