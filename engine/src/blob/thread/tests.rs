use super::*;
use std::fs;
use std::sync::mpsc::Receiver;

fn start() -> (tempfile::TempDir, Cache, BlobThread, Receiver<BlobEvent>) {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), false).unwrap();
    let (events, inbox) = mpsc::channel();
    let thread =
        BlobThread::start(cache.clone(), move |event| events.send(event).unwrap()).unwrap();
    (dir, cache, thread, inbox)
}

#[test]
fn a_blob_arrives_in_pieces_and_is_served() {
    let (_dir, cache, thread, events) = start();
    let data = [7; 700_000];
    let (hash, size) = (BlobHash::of(&data), 700_000);
    thread.submit(BlobCommand::Probe { blobs: vec![(hash, size)] });
    assert!(
        matches!(events.recv().unwrap(), BlobEvent::Wanted { blobs } if blobs == [(hash, size, 0)])
    );
    for offset in (0..700_000).step_by(100_000) {
        let data = data[offset..offset + 100_000].to_vec();
        thread.submit(BlobCommand::Write { hash, size, offset: offset as u64, data });
    }
    for n in 1..=6 {
        let event = events.recv().unwrap();
        assert!(
            matches!(event, BlobEvent::Written { upto, .. } if upto == n * 100_000),
            "{event:?}"
        );
    }
    assert!(matches!(events.recv().unwrap(), BlobEvent::Stored { hash: h } if h == hash));
    thread.submit(BlobCommand::Open { hash });
    let BlobEvent::Opened { file, size: 700_000, .. } = events.recv().unwrap() else { panic!() };
    thread.submit(BlobCommand::ReadAhead { hash, file, offset: 262_144, len: 262_144 });
    assert!(matches!(events.recv().unwrap(), BlobEvent::Ready { offset: 262_144, .. }));
    thread.submit(BlobCommand::Collect { keep: Vec::new() });
    assert!(matches!(events.recv().unwrap(), BlobEvent::Collected { removed: 1, bytes: 700_000 }));
    thread.submit(BlobCommand::Open { hash });
    assert!(matches!(events.recv().unwrap(), BlobEvent::Missing { .. }));
    assert!(!cache.path(hash).exists());
}

#[test]
fn every_write_after_a_broken_one_is_broken_until_one_begins_anew() {
    let (dir, cache, thread, events) = start();
    let hash = BlobHash::of(b"abcdef");
    let write = |offset: u64, data: &[u8]| {
        thread.submit(BlobCommand::Write { hash, size: 6, offset, data: data.to_vec() });
        events.recv().unwrap()
    };
    assert!(matches!(write(0, b"ab"), BlobEvent::Written { upto: 2, .. }));
    assert!(matches!(write(3, b"d"), BlobEvent::Broken { .. }));
    assert!(matches!(write(4, b"ef"), BlobEvent::Broken { .. }));
    assert_eq!(fs::read_dir(dir.path().join("partial")).unwrap().count(), 0);
    assert!(matches!(write(0, b"abcdeX"), BlobEvent::Broken { .. }));
    assert!(matches!(write(0, b"abc"), BlobEvent::Written { .. }));
    assert!(matches!(write(3, b"def"), BlobEvent::Stored { .. }));
    cache.verify(hash).unwrap();
}

#[test]
fn more_blobs_may_arrive_at_once_than_are_kept_open() {
    let (_dir, cache, thread, events) = start();
    let blobs: Vec<[u8; 64]> = (0..3 * PARTIALS_OPEN_MAX as u8).map(|i| [i; 64]).collect();
    for offset in [0, 32] {
        for data in &blobs {
            let hash = BlobHash::of(data);
            let data = data[offset..offset + 32].to_vec();
            thread.submit(BlobCommand::Write { hash, size: 64, offset: offset as u64, data });
        }
    }
    let stored = (0..2 * blobs.len())
        .filter(|_| matches!(events.recv().unwrap(), BlobEvent::Stored { .. }))
        .count();
    assert_eq!(stored, blobs.len());
    assert!(blobs.iter().all(|data| cache.verify(BlobHash::of(data)).is_ok()));
}

#[test]
fn e18_dropping_the_thread_carries_out_what_waits() {
    let (_dir, cache, thread, _events) = start();
    for i in 0..100_u32 {
        let data = i.to_le_bytes().to_vec();
        let hash = BlobHash::of(&data);
        thread.submit(BlobCommand::Write { hash, size: 4, offset: 0, data });
    }
    drop(thread);
    for i in 0..100_u32 {
        cache.verify(BlobHash::of(&i.to_le_bytes())).unwrap();
    }
}
