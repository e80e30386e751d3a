//! The queue on a disk that loses its power, or fails: whatever was said to be committed is there.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod disk;

use disk::{Call, Fault, Op, Platter, Watch};
use engine::queue::lmdb::{LmdbConfig, LmdbStore};
use engine::queue::store::{Batch, StoreCommand, StoreError, StoreEvent, StoreState};
use engine::time::WallMs;
use std::fs;
use std::path::Path;

/// What a record of this number holds: of many sizes, and now and then larger than a page.
fn record(seq: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seq);
    let len = if rng.u8(..) < 5 { 6000 } else { rng.usize(8..400) };
    let mut record = seq.to_le_bytes().to_vec();
    record.resize(len, rng.u8(..));
    record
}

fn open(dir: &Path) -> Result<(LmdbStore, StoreState), StoreError> {
    LmdbStore::open(LmdbConfig { reserve_bytes: 0, ..LmdbConfig::new(dir) })
}

/// Somebody who writes and trims, and remembers what was promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Promise {
    /// The first record that must be there.
    first: u64,
    /// The number behind the last one that must.
    next: u64,
}

/// Appends some records, and perhaps removes some; what is promised after each step is told.
fn step(
    store: &mut LmdbStore,
    promise: &mut Promise,
    run: u64,
    rng: &mut fastrand::Rng,
    mut told: impl FnMut(Promise),
) -> Result<(), StoreError> {
    let mut batch = Batch { first: promise.next, run, arrived: WallMs(7), ..Batch::default() };
    for seq in promise.next..promise.next + rng.u64(1..60) {
        batch.push(&record(seq));
    }
    match store.apply(&StoreCommand::Write(batch)).remove(0) {
        StoreEvent::Committed { upto, .. } => promise.next = upto + 1,
        StoreEvent::CommitFailed { error, .. } => return Err(error),
        other => panic!("{other:?}"),
    }
    told(*promise);
    if rng.u8(..) < 120 {
        let upto = promise.next.saturating_sub(rng.u64(1..400)).max(promise.first) - 1;
        let pages = vec![(3, promise.next.to_le_bytes().to_vec())];
        match store.apply(&StoreCommand::Trim { upto, pages }).remove(0) {
            StoreEvent::Trimmed { upto, .. } => promise.first = upto + 1,
            StoreEvent::TrimFailed { error, .. } => return Err(error),
            other => panic!("{other:?}"),
        }
        told(*promise);
    }
    Ok(())
}

/// Every record that the store says it has is there, and is what was written.
fn check_records(store: &mut LmdbStore, state: &StoreState, what: &str) {
    let command = StoreCommand::Read { from: 0, records_max: usize::MAX, bytes_max: usize::MAX };
    let StoreEvent::Records { records, .. } = store.apply(&command).remove(0) else {
        panic!("{what}: it cannot be read");
    };
    let found: Vec<u64> = records.iter().map(|record| record.seq).collect();
    let wanted: Vec<u64> = (state.first..state.next).collect();
    assert_eq!(found, wanted, "{what}");
    for found in &records {
        assert_eq!(found.frame, record(found.seq), "{what}: record {}", found.seq);
    }
}

/// The power is cut within every write and sync of a queue's life, three times: nothing of what was
/// not synced survives, all of it, or some sectors. What was promised is there each time, and at
/// most one step more.
#[test]
fn s1_53_a_power_cut_at_any_point_loses_nothing_that_was_committed() {
    let dir = tempfile::tempdir().unwrap();
    let queue = dir.path().join("queue");
    let watch = Watch::new(&queue.join("data.mdb"));
    let mut rng = fastrand::Rng::with_seed(1953);
    let (mut store, _) = open(&queue).unwrap();
    let made_at = watch.position();
    let noted_at = watch.noted_at().expect("a queue notes that it was made");
    assert!(noted_at < made_at);
    let mut promise = Promise { first: 1, next: 1 };
    let mut promises = vec![(made_at, promise)];
    for run in 0..40 {
        let told = |promise| promises.push((watch.position(), promise));
        step(&mut store, &mut promise, run, &mut rng, told).unwrap();
    }
    let ops = watch.ops();
    drop((store, watch));
    let syncs = ops.iter().filter(|op| matches!(op, Op::Sync)).count();
    assert!(ops.len() > 150 && syncs > 40, "{} calls, {syncs} syncs were seen", ops.len());
    assert!(promises.iter().any(|(_, promise)| promise.first > 1), "nothing was trimmed");

    let mut platter = Platter::default();
    let (mut cuts, mut ahead) = (0, 0);
    for (position, op) in ops.iter().enumerate() {
        let upto = promises.iter().rposition(|(at, _)| *at <= position);
        let promised = upto.map(|n| promises[n].1);
        // What was asked for next may be there, although nobody was told so.
        let possible = promises.get(upto.map_or(0, |n| n + 1)).map(|(_, promise)| *promise);
        let allowed = [promised, possible];
        for survival in ["nothing", "everything", "some"] {
            let left = platter.cut(Some(op), || match survival {
                "nothing" => false,
                "everything" => true,
                _ => rng.bool(),
            });
            let what = format!("cut within call {position} of {}, {survival} survives", ops.len());
            let cut = tempfile::tempdir().unwrap();
            fs::write(cut.path().join("data.mdb"), &left).unwrap();
            let noted = u64::from(position >= noted_at);
            fs::File::create(cut.path().join("owner.lock")).unwrap().set_len(noted).unwrap();
            let (mut store, state) = open(cut.path()).unwrap_or_else(|e| panic!("{what}: {e}"));
            let found = Promise { first: state.first, next: state.next };
            let fresh = Promise { first: 1, next: 1 };
            assert!(
                allowed.contains(&Some(found)) || promised.is_none() && found == fresh,
                "{what}: {found:?} of {allowed:?}"
            );
            ahead += usize::from(Some(found) == possible && possible != promised);
            check_records(&mut store, &state, &what);
            // And it goes on from there.
            let mut promise = found;
            step(&mut store, &mut promise, 1, &mut rng, |_| {}).unwrap();
            cuts += 1;
        }
        platter.take(op);
    }
    assert!(cuts > 450, "{cuts}");
    assert!(ahead > 0, "no cut fell between a commit and its answer");
}

/// Each write and each sync of a queue fails once, as a broken disk and as a full one: the error is
/// told, what was promised stays, and once the disk is well again the queue goes on.
#[test]
fn s1_53_a_disk_that_fails_a_call_loses_nothing_that_was_committed() {
    let (mut failed, mut errors) = (0, 0);
    for errno in [libc::EIO, libc::ENOSPC] {
        for call in [Call::Write, Call::Sync] {
            for nth in 1..30 {
                let what = format!("{call:?} {nth} fails with {errno}");
                let dir = tempfile::tempdir().unwrap();
                let watch = Watch::new(&dir.path().join("data.mdb"));
                let mut rng = fastrand::Rng::with_seed(nth as u64);
                let (mut store, _) = open(dir.path()).unwrap();
                let mut promise = Promise { first: 1, next: 1 };
                watch.fail(Fault { call, nth, errno });
                let before = errors;
                for run in 0..24 {
                    if let Err(error) = step(&mut store, &mut promise, run, &mut rng, |_| {}) {
                        // A page that tells what is in force breaks the queue until it is opened
                        // anew, also where the disk is only full: the second error says so.
                        let is_full = matches!(error, StoreError::DiskFull { .. });
                        let is_first = errors == before;
                        assert!(is_full == (errno == libc::ENOSPC) || !is_first, "{what}: {error}");
                        errors += 1;
                    }
                }
                failed += usize::from(watch.has_failed());
                let read = StoreCommand::Read { from: 0, records_max: 1, bytes_max: usize::MAX };
                assert!(matches!(store.apply(&read)[0], StoreEvent::Records { .. }), "{what}");
                drop(store);
                let (mut store, state) = open(dir.path()).unwrap();
                // A trim that failed may have been done all the same.
                assert!(state.first >= promise.first, "{what}: {state:?} of {promise:?}");
                assert_eq!(state.next, promise.next, "{what}");
                check_records(&mut store, &state, &what);
            }
        }
    }
    assert!(failed >= 110, "only {failed} calls failed");
    assert!(errors >= 100, "only {errors} of {failed} were told");
}
