//! Tests of the release store: whole or not at all, whatever happens in between.

use super::store::encode_index;
use super::*;
use engine::ids::{BlobHash, HostName, Revision};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

fn store(dir: &TempDir) -> ReleaseStore {
    ReleaseStore::new(dir.path().join("state"))
}

fn listed(name: &str, bytes: &[u8]) -> Listed {
    let blob = Blob::of(bytes);
    Listed { name: name.into(), hash: blob.hash.0, size: blob.size }
}

fn release(revision: u64, mut blobs: Vec<Listed>) -> Release {
    blobs.sort();
    Release {
        schema: RELEASE_SCHEMA,
        site: "test".into(),
        revision,
        issued_ms: 1,
        expires_ms: 2,
        key_id: [0; 8],
        lines: Vec::new(),
        blobs,
    }
}

/// The blobs of a revision: one of its own, and one that all share.
fn contents(revision: u64) -> Vec<(String, Vec<u8>)> {
    vec![
        ("shared".into(), b"the same in all".to_vec()),
        ("own".into(), format!("of revision {revision}").into_bytes()),
    ]
}

fn publish(store: &ReleaseStore, revision: u64) -> Collected {
    let lock = store.lock().unwrap();
    let mut writer = Writer::begin(store, &lock).unwrap();
    let mut blobs = Vec::new();
    for (name, bytes) in contents(revision) {
        writer.bytes(&bytes).unwrap();
        blobs.push(listed(&name, &bytes));
    }
    writer.publish(&release(revision, blobs)).unwrap();
    store.collect(&lock, 3).unwrap()
}

/// Reads the release in force and all its blobs; the hash of each is checked.
fn read_whole(store: &ReleaseStore) -> Result<Option<u64>, StoreError> {
    let Some(release) = store.open_current()? else { return Ok(None) };
    for blob in &release.blobs {
        store.read_blob(BlobHash(blob.hash), blob.size)?;
    }
    Ok(Some(release.revision))
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}

#[test]
fn before_the_first_release_there_is_none() {
    let dir = TempDir::new().unwrap();
    assert!(store(&dir).open_current().unwrap().is_none());
}

#[test]
fn the_last_three_releases_and_their_blobs_are_kept() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    for revision in 1..=5 {
        publish(&store, revision);
        assert_eq!(read_whole(&store).unwrap(), Some(revision));
    }
    assert_eq!(store.revisions().unwrap(), [3, 4, 5].map(Revision));
    // The shared blob and one for each kept release.
    assert_eq!(files_below(&store.blobs_dir()).len(), 4);
    assert!(!store.staging_dir().exists());
}

#[test]
fn s1_17_only_a_listed_pair_of_name_and_hash_is_found() {
    let bytes: &[u8] = b"x";
    let r = release(1, vec![listed("a", bytes), listed("b", b"y"), listed("a", b"other")]);
    let hash = |bytes: &[u8]| BlobHash::of(bytes);
    assert_eq!(r.size_of(b"a", hash(b"x")), Some(1));
    assert_eq!(r.size_of(b"a", hash(b"other")), Some(5));
    for (name, bytes) in [
        (&b"a"[..], &b"y"[..]),
        (b"b", b"x"),
        (b"c", b"x"),
        (b"../a", b"x"),
        (b"/a", b"x"),
        (b"a/", b"x"),
        (b"", b"x"),
        (b"a", b"unknown"),
    ] {
        assert_eq!(r.size_of(name, hash(bytes)), None, "{name:?}");
    }
}

#[test]
fn a_line_is_found_by_name_and_by_the_first_glob() {
    let line = |pattern: &str| Line {
        pattern: pattern.into(),
        assignment: Vec::new(),
        manifest: [0; 32],
        manifest_size: 0,
    };
    let table = LineTable::new(&[line("db-1"), line("web-*"), line("*-1"), line("web-2")]);
    let find = |name: &str| table.find(&name.parse::<HostName>().unwrap());
    assert_eq!(
        ["db-1", "web-1", "x-1", "web-2", "y"].map(find),
        [Some(0), Some(1), Some(2), Some(1), None]
    );
}

#[test]
fn s1_82_readers_never_see_half_a_release_while_publishing_goes_on() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    publish(&store, 1);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let (mut reads, mut last) = (0_u64, 0);
                    while !done.load(Ordering::Relaxed) {
                        match read_whole(&store) {
                            Ok(revision) => {
                                let revision = revision.expect("there is always one in force");
                                assert!(revision >= last, "{revision} after {last}");
                                last = revision;
                                reads += 1;
                            }
                            // A reader that slept through three publishes finds its blobs
                            // gone, never others in their place.
                            Err(StoreError::Io { source, .. })
                                if source.kind() == std::io::ErrorKind::NotFound => {}
                            Err(e) => panic!("{e}"),
                        }
                    }
                    reads
                })
            })
            .collect();
        for revision in 2..=60 {
            publish(&store, revision);
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
    assert_eq!(read_whole(&store).unwrap(), Some(60));
}

/// Publishes for ever; the child of the next test.
fn publish_until_killed(state_dir: &Path) -> ! {
    let store = ReleaseStore::new(state_dir);
    let mut revision = store.revisions().unwrap().last().map_or(0, |r| r.0);
    loop {
        revision += 1;
        publish(&store, revision);
    }
}

const KILLED_STATE: &str = "DROVER_TEST_KILLED_STATE";

#[test]
fn s1_82_a_killed_publish_leaves_the_release_before_whole() {
    if let Some(state_dir) = std::env::var_os(KILLED_STATE) {
        publish_until_killed(Path::new(&state_dir));
    }
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    publish(&store, 1);
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut last = 1;
    for _ in 0..12 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "release::tests::s1_82_a_killed_publish_leaves_the_release_before_whole",
            ])
            .env(KILLED_STATE, dir.path().join("state"))
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // The child is in the middle of its work once it has published something.
        while store.current().unwrap().unwrap().0 <= last {
            assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
            std::thread::yield_now();
        }
        let until =
            std::time::Instant::now() + std::time::Duration::from_micros(random.u64(0..8000));
        while std::time::Instant::now() < until {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let revision = read_whole(&store).unwrap().unwrap();
        assert!(revision > last);
        // Every kept release is whole, not just the one in force.
        for kept in store.revisions().unwrap() {
            let release = store.open(kept).unwrap();
            for blob in &release.blobs {
                store.read_blob(BlobHash(blob.hash), blob.size).unwrap();
            }
        }
        last = store.revisions().unwrap().last().unwrap().0 + 1;
        // The lock went with its holder, and what was left half done is cleared away.
        publish(&store, last);
        assert_eq!(read_whole(&store).unwrap(), Some(last));
        assert!(!store.staging_dir().exists());
    }
    assert_eq!(files_below(&store.blobs_dir()).len(), 4);
}

#[test]
fn two_publishes_exclude_each_other() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    let lock = store.lock().unwrap();
    let error = store.lock().unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("wait until it is done"));
    drop(lock);
    store.lock().unwrap();
}

/// A blob that is there already is not written again: it must stay until the release names it.
#[test]
fn nothing_is_collected_while_a_release_is_written() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    publish(&store, 1);
    let before = files_below(&store.blobs_dir());
    let lock = store.lock().unwrap();
    let writer = Writer::begin(&store, &lock).unwrap();
    let cache = store.cache().unwrap();
    assert!(cache.collect(&[]).unwrap().held);
    assert_eq!(files_below(&store.blobs_dir()), before);
    drop(writer);
    assert_eq!(cache.collect(&[]).unwrap().removed, before.len() as u64);
}

#[test]
fn damage_is_named_and_repaired_by_the_next_release() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    publish(&store, 1);
    let index = store.release_dir(Revision(1)).join("index");
    let good = fs::read(&index).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&index, &bad).unwrap();
        let error = store.open_current().unwrap_err();
        assert!(
            matches!(&error, StoreError::Damaged { path, .. } if *path == index),
            "{at}: {error}"
        );
    }
    for len in 0..good.len() {
        fs::write(&index, &good[..len]).unwrap();
        assert!(matches!(store.open_current(), Err(StoreError::Damaged { .. })), "{len}");
    }
    let text = store.open_current().unwrap_err().to_string();
    assert!(text.contains("`drover publish` writes a new release, which repairs it"), "{text}");
    fs::write(&index, encode_index(&release(7, Vec::new()))).unwrap();
    let text = store.open_current().unwrap_err().to_string();
    assert!(text.contains("it is another release's"), "{text}");
    fs::write(store.current_path(), "seven").unwrap();
    let text = store.open_current().unwrap_err().to_string();
    assert!(text.contains("it holds no revision"), "{text}");
    fs::write(store.current_path(), "9\n").unwrap();
    let text = store.open_current().unwrap_err().to_string();
    assert!(text.contains("the release it names is gone"), "{text}");
    publish(&ReleaseStore::new(dir.path().join("other")), 1);
    let lock = store.lock().unwrap();
    let mut writer = Writer::begin(&store, &lock).unwrap();
    writer.bytes(b"x").unwrap();
    writer.publish(&release(2, vec![listed("x", b"x")])).unwrap();
    assert_eq!(read_whole(&store).unwrap(), Some(2));
}

#[test]
fn an_index_of_a_later_version_is_left_alone() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    publish(&store, 1);
    let index = store.release_dir(Revision(1)).join("index");
    let mut bytes = fs::read(&index).unwrap();
    let body = [&2_u16.to_le_bytes()[..], &bytes[42..]].concat();
    bytes.truncate(8);
    bytes.extend(BlobHash::of(&body).0);
    bytes.extend(body);
    fs::write(&index, bytes).unwrap();
    let error = store.open_current().unwrap_err();
    assert!(matches!(error, StoreError::Later { found: 2, .. }), "{error}");
}

#[test]
fn what_is_given_up_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    publish(&store, 1);
    let before = files_below(dir.path());
    let lock = store.lock().unwrap();
    let mut writer = Writer::begin(&store, &lock).unwrap();
    writer.bytes(b"never published").unwrap();
    drop(writer);
    assert_eq!(files_below(dir.path()), before);
}

#[test]
fn large_files_are_streamed_and_copied_once() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    let sizes = [
        0,
        1,
        intake::PIECE_SIZE - 1,
        intake::PIECE_SIZE,
        intake::PIECE_SIZE + 1,
        3 * intake::PIECE_SIZE + 7,
    ];
    let paths: Vec<_> = sizes
        .iter()
        .map(|size| {
            let path = dir.path().join(size.to_string());
            let bytes: Vec<u8> = (0..*size).map(|n| (n % 251) as u8).collect();
            fs::write(&path, bytes).unwrap();
            path
        })
        .collect();
    let lock = store.lock().unwrap();
    let mut writer = Writer::begin(&store, &lock).unwrap();
    let mut blobs = Vec::new();
    for path in &paths {
        let blob = writer.file(path).unwrap();
        assert_eq!(blob, Blob::of(&fs::read(path).unwrap()));
        assert_eq!(blob, Measure::default().file(path).unwrap());
        assert_eq!(writer.file(path).unwrap(), blob);
        blobs.push(Listed { name: b"f".to_vec(), hash: blob.hash.0, size: blob.size });
    }
    assert_eq!(writer.staged(), (6, sizes.iter().sum::<usize>() as u64));
    writer.publish(&release(1, blobs)).unwrap();
    assert_eq!(read_whole(&store).unwrap(), Some(1));
    // The second time the store has them all; one that was cut short is written again.
    let cut = store.blob_path(Blob::of(b"\0").hash);
    fs::write(&cut, b"").unwrap();
    let mut writer = Writer::begin(&store, &lock).unwrap();
    for path in &paths {
        writer.file(path).unwrap();
    }
    assert_eq!(writer.staged(), (1, 1));
}
