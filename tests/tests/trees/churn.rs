//! Publishing goes on while clients fetch, and nobody ever sees a half-written release.

use super::watch::Watcher;
use super::{name, site, start};
use engine::blocking::Connection;
use engine::ids::BlobHash;
use engine::release::{
    Assignment, ManifestBlob, NAME_CATALOG, NAME_MANIFEST, SignedAssignment, decode,
};
use engine::wire::message::{FetchRefused, FetchReq};
use engine::wire::{FrameBuf, Kind, access};
use inotify::WatchMask;
use master::release::ReleaseStore;
use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const FILES: usize = 20;
const STEP: Duration = Duration::from_secs(30);

/// Every file says of which round it is, at each of its ends and in the middle.
fn content(round: u64, file: usize) -> Vec<u8> {
    format!("round {round} file {file}\n").repeat(300).into_bytes()
}

fn write_round(dir: &Path, round: u64) {
    fs::create_dir_all(dir).unwrap();
    for file in 0..FILES {
        fs::write(dir.join(format!("f{file}")), content(round, file)).unwrap();
    }
}

/// Fetches a blob as any client would; `None` if it is refused.
fn fetch(connection: &mut Connection, name: &[u8], hash: [u8; 32], size: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let request = FetchReq { name: name.to_vec(), hash, offset: bytes.len() as u64 };
        connection.send(&FrameBuf::message(None, &request, |header| header.seq = 1)).unwrap();
        let answer = connection.expect().unwrap();
        let frame = answer.frame();
        if frame.header.kind != Kind::CHUNK {
            access::<FetchRefused>(&frame).unwrap();
            return None;
        }
        bytes.extend_from_slice(&frame.body()[8..]);
        if bytes.len() as u64 >= size {
            return Some(bytes);
        }
    }
}

/// What one client saw of one release: how many blobs, or that the release was gone already.
fn fetch_release(master: SocketAddr, assignment: &Assignment) -> Option<usize> {
    let mut connection = Connection::connect(master, STEP).unwrap();
    let mut get = |name: &[u8], hash: [u8; 32], size: u64| {
        let bytes = fetch(&mut connection, name, hash, size)?;
        assert_eq!(BlobHash::of(&bytes), BlobHash(hash), "a mismatch was served");
        Some(bytes)
    };
    let manifest = get(NAME_MANIFEST, assignment.manifest, assignment.manifest_size)?;
    let manifest = decode::<ManifestBlob>(&manifest).expect("a whole manifest");
    get(NAME_CATALOG, manifest.catalog, manifest.catalog_size)?;
    for file in &manifest.files {
        get(&file.name, file.hash, file.size)?;
    }
    Some(manifest.files.len() + 2)
}

#[test]
fn s1_82_a_thousand_fetches_of_what_is_being_published_see_no_mismatch() {
    const FETCHES: u64 = 1000;
    const RELEASES: u64 = 5;
    const THREADS: usize = 4;
    let cluster = site("\n  - directory: /t\n    source: t\n    purge: true\n");
    write_round(&cluster.files().join("t"), 0);
    cluster.publish();
    let _master = cluster.master();
    let store = ReleaseStore::new(cluster.path("m/state"));
    let (whole, gone, rounds) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let (master, failed) = (cluster.master_addr, AtomicBool::new(false));
    std::thread::scope(|scope| {
        let fetcher = || {
            let _tell = Tell(&failed);
            while whole.load(Ordering::SeqCst) < FETCHES || rounds.load(Ordering::SeqCst) < RELEASES
            {
                let release = store.open_current().unwrap().unwrap();
                let signed = &release.lines[0].assignment;
                let signed = decode::<SignedAssignment>(signed).unwrap();
                let assignment = decode::<Assignment>(&signed.assignment).unwrap();
                match fetch_release(master, &assignment) {
                    Some(blobs) => {
                        assert_eq!(blobs, FILES + 3);
                        whole.fetch_add(1, Ordering::SeqCst);
                    }
                    // Published, and the master has not read it yet, or not any more.
                    None => {
                        gone.fetch_add(1, Ordering::SeqCst);
                    }
                }
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(fetcher)).collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            let round = rounds.load(Ordering::SeqCst) + 1;
            write_round(&cluster.files().join("t"), round);
            cluster.publish();
            rounds.store(round, Ordering::SeqCst);
        }
    });
    assert!(!failed.load(Ordering::SeqCst));
    let [whole, gone] = [whole, gone].map(AtomicU64::into_inner);
    assert!(gone < whole, "{gone} came too late, {whole} did not");
    assert_eq!(cluster.counter("blob_unreadable"), 0);
}

/// Says that its thread has panicked.
struct Tell<'a>(&'a AtomicBool);

impl Drop for Tell<'_> {
    fn drop(&mut self) {
        self.0.fetch_or(std::thread::panicking(), Ordering::SeqCst);
    }
}

#[test]
fn s1_82_clients_place_only_whole_files_while_publishing_goes_on() {
    const ROUNDS: u64 = 15;
    let cluster = site("\n  - directory: /t\n    source: t\n    purge: true\n");
    write_round(&cluster.files().join("t"), 0);
    let first = cluster.publish();
    let _master = cluster.master();
    let mut clients: Vec<_> = (0..3).map(|n| start(&cluster, n)).collect();
    for client in &mut clients {
        client.wait_converged(first);
    }
    let tops: Vec<_> = (0..3).map(|n| cluster.root(&name(n)).join("t")).collect();
    let mut placed: Vec<_> =
        tops.iter().map(|top| Watcher::below(top, WatchMask::MOVED_TO)).collect();
    let known: BTreeSet<Vec<u8>> =
        (0..=ROUNDS).flat_map(|round| (0..FILES).map(move |file| content(round, file))).collect();
    let mut last = first;
    let mut files = 0;
    let mut look = |placed: &mut Vec<Watcher>| {
        for event in placed.iter_mut().flat_map(Watcher::drain) {
            // It may have been replaced since: then it is looked at as what it is now.
            let found = fs::read(&event.path).unwrap();
            assert!(known.contains(&found), "{} is of no release", event.path.display());
            files += 1;
        }
    };
    for round in 1..=ROUNDS {
        write_round(&cluster.files().join("t"), round);
        last = cluster.publish();
        look(&mut placed);
    }
    for client in &mut clients {
        client.wait_converged(last);
    }
    look(&mut placed);
    assert!(files >= 3 * FILES, "{files} files were placed");
    for (client, top) in clients.iter_mut().zip(&tops) {
        super::tree::assert_same(&cluster.files().join("t"), top);
        let log = client.log();
        assert!(!log.contains("broken") && !log.contains("fetched again"), "{log}");
    }
    assert_eq!(cluster.counter("blob_unreadable"), 0);
}

#[test]
fn s1_17_wrong_pairs_unlisted_names_and_dots_get_one_and_the_same_answer() {
    let cluster = site("\n  - directory: /t\n    source: t\n");
    write_round(&cluster.files().join("t"), 0);
    cluster.publish();
    let _master = cluster.master();
    let mut connection = Connection::connect(cluster.master_addr, STEP).unwrap();
    let name = |file: usize| format!("policies/base/files/t/f{file}").into_bytes();
    let hash = |file: usize| BlobHash::of(&content(0, file)).0;
    let size = content(0, 1).len() as u64;
    assert_eq!(fetch(&mut connection, &name(1), hash(1), size), Some(content(0, 1)));
    let mut refused = |name: Vec<u8>, hash: [u8; 32]| {
        let request = FetchReq { name, hash, offset: 0 };
        connection.send(&FrameBuf::message(None, &request, |header| header.seq = 7)).unwrap();
        let answer = connection.expect().unwrap();
        let frame = answer.frame();
        assert_eq!(frame.header.kind, Kind::FETCH_REFUSED);
        assert_eq!(access::<FetchRefused>(&frame).unwrap().hash, hash);
        // Apart from the hash that was asked for and its checksums, nothing tells them apart.
        (frame.header.seq, frame.header.body_len, frame.header.flags, frame.header.schema)
    };
    let answers = [
        refused(name(1), hash(2)),
        refused(name(99), hash(1)),
        refused(b"../../keys/signing.key".to_vec(), hash(1)),
        refused(b"policies/base/files/t/../t/f1".to_vec(), hash(1)),
        refused(b"/etc/passwd".to_vec(), BlobHash::of(b"").0),
        refused(Vec::new(), [0; 32]),
    ];
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}
