use super::*;
use crate::queue::store::StoreCommand as Command;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command as Process, Stdio};

fn config(dir: &Path) -> LmdbConfig {
    LmdbConfig { reserve_bytes: 0, ..LmdbConfig::new(dir) }
}

fn open(dir: &Path) -> (LmdbStore, StoreState) {
    LmdbStore::open(config(dir)).unwrap()
}

fn batch(first: u64, run: u64, records: &[&[u8]]) -> Command {
    let mut batch = Batch { first, run, arrived: WallMs(7), ..Batch::default() };
    records.iter().for_each(|record| batch.push(record));
    Command::Write(batch)
}

fn read(store: &mut LmdbStore, from: u64) -> Vec<(u64, Vec<u8>)> {
    let command = Command::Read { from, records_max: 10_000, bytes_max: usize::MAX };
    match store.apply(&command).remove(0) {
        StoreEvent::Records { records, .. } => {
            records.into_iter().map(|record| (record.seq, record.frame)).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn trim(store: &mut LmdbStore, upto: u64) -> StoreEvent {
    store.apply(&Command::Trim { upto, pages: vec![(3, b"page".to_vec())] }).remove(0)
}

/// Runs one test of this file again in a process of its own, with this value to tell it so.
fn child(test: &str, value: &str) -> Process {
    let mut process = Process::new(std::env::current_exe().unwrap());
    process
        .args([&format!("queue::lmdb::tests::{test}"), "--exact", "--nocapture"])
        .env("DROVER_QUEUE_TEST_CHILD", value)
        .stdout(Stdio::piped());
    process
}

fn child_value() -> Option<String> {
    std::env::var("DROVER_QUEUE_TEST_CHILD").ok()
}

#[test]
fn records_pages_and_numbers_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, state) = open(dir.path());
    assert_eq!((state.first, state.next, state.bytes, state.records), (1, 1, 0, 0));
    let committed = StoreEvent::Committed { upto: 3, run: 0 };
    assert_eq!(store.apply(&batch(1, 0, &[b"one", b"", b"three"])), [committed]);
    assert_eq!(read(&mut store, 2), [(2, b"".to_vec()), (3, b"three".to_vec())]);
    let trimmed = StoreEvent::Trimmed { upto: 1, records: 1, bytes: 3 };
    assert_eq!(trim(&mut store, 1), trimmed);
    drop(store);
    let (mut store, again) = open(dir.path());
    assert_eq!((again.first, again.next, again.bytes, again.records), (2, 4, 5, 2));
    assert_eq!((again.pages, again.epoch), (vec![(3, b"page".to_vec())], state.epoch));
    // Reads are bounded, but never empty while there is something.
    let command = Command::Read { from: 0, records_max: 10, bytes_max: 0 };
    let StoreEvent::Records { records, .. } = store.apply(&command).remove(0) else { panic!() };
    assert_eq!((records.len(), records[0].arrived), (1, WallMs(7)));
}

/// A program that a client starts must not be able to write its queue.
#[test]
fn no_child_inherits_a_descriptor_of_the_queue() {
    let dir = tempfile::tempdir().unwrap();
    let queue = dir.path().join("queue");
    let (_store, _) = open(&queue);
    let mode = queue.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "it is its owner's alone");
    let listed = Process::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("/dev/null") || listed.contains("pipe:"), "{listed}");
    assert!(!listed.contains(dir.path().to_str().unwrap()), "{listed}");
}

#[test]
fn another_process_can_look_at_a_queue_that_is_in_use() {
    if let Some(dir) = child_value() {
        let stat = stat(Path::new(&dir)).unwrap();
        assert_eq!((stat.records, stat.first, stat.next), (1, 2, 3));
        assert_eq!((stat.oldest, stat.bytes, stat.quarantined), (Some(WallMs(7)), 5, 0));
        let mut shown = Vec::new();
        dump(Path::new(&dir), false, 0, |record, _| {
            shown.push(record.frame);
            true
        })
        .unwrap();
        assert_eq!(shown, [b"three"]);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    store.apply(&batch(1, 0, &[b"one", b"three"]));
    trim(&mut store, 1);
    let path = dir.path().to_str().unwrap();
    let mut looking = child("another_process_can_look_at_a_queue_that_is_in_use", path);
    assert!(looking.status().unwrap().success());
    // Nor is its owner disturbed by it.
    assert_eq!(store.apply(&batch(3, 0, &[b"x"])).len(), 1);
}

#[test]
fn s1_26_a_log_drained_to_nothing_keeps_its_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    store.apply(&batch(1, 0, &[b"a", b"b"]));
    trim(&mut store, 2);
    drop(store);
    let (mut store, state) = open(dir.path());
    assert_eq!((state.first, state.next, state.records), (3, 3, 0));
    // Also if the last record leaves by the quarantine.
    store.apply(&batch(3, 0, &[b"c"]));
    store.apply(&Command::Quarantine { seq: 3, reason: "odd".into() });
    drop(store);
    assert_eq!(open(dir.path()).1.next, 4);
}

#[test]
fn a_commit_that_was_called_failed_is_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    store.apply(&batch(1, 0, &[b"kept", b"failed, they said", b"this too"]));
    // The node goes on from the number that it was told had failed.
    assert_eq!(store.apply(&batch(2, 1, &[b"again"])), [StoreEvent::Committed { upto: 2, run: 1 }]);
    assert_eq!(read(&mut store, 0), [(1, b"kept".to_vec()), (2, b"again".to_vec())]);
    assert_eq!(store.bytes, 9);
}

#[test]
fn s1_53_the_quota_refuses_and_trimming_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let quota = LmdbConfig { quota_bytes: 100, ..config(dir.path()) };
    let (mut store, _) = LmdbStore::open(quota).unwrap();
    let record = [0; 40];
    store.apply(&batch(1, 0, &[&record, &record]));
    let failed = store.apply(&batch(3, 0, &[&record]));
    assert!(
        matches!(
            &failed[..],
            [StoreEvent::CommitFailed {
                from: 3,
                run: 0,
                error: StoreError::QuotaFull { quota_bytes: 100, .. }
            }]
        ),
        "{failed:?}"
    );
    // What follows of that run is dropped, even if it would fit.
    assert_eq!(store.apply(&batch(4, 0, &[b"x"])), []);
    trim(&mut store, 1);
    assert_eq!(store.apply(&batch(3, 1, &[&record])), [StoreEvent::Committed { upto: 3, run: 1 }]);
}

#[test]
fn s1_53_a_record_that_is_cut_short_goes_to_the_quarantine() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    store.apply(&batch(1, 0, &[b"one", b"two", b"three"]));
    let databases = store.open.as_ref().unwrap();
    let mut txn = databases.env.write_txn().unwrap();
    databases.log.put(&mut txn, &2, b"short").unwrap();
    txn.commit().unwrap();
    let command = Command::Read { from: 0, records_max: 10, bytes_max: 1000 };
    let events = store.apply(&command);
    assert!(matches!(&events[0], StoreEvent::Records { records, .. } if records.len() == 2));
    assert_eq!(events[1], StoreEvent::Quarantined { seq: 2, bytes: 0 });
    store.apply(&Command::Quarantine { seq: 3, reason: "the body is no Report".into() });
    assert_eq!(read(&mut store, 0).len(), 1);
    drop(store);
    let mut shown = Vec::new();
    dump(dir.path(), true, 0, |record, reason| {
        shown.push((record.seq, record.frame, reason.unwrap()));
        true
    })
    .unwrap();
    assert_eq!(shown[0].2, "the record is cut short");
    assert_eq!(shown[1], (3, b"three".to_vec(), "the body is no Report".into()));
    let (_, state) = open(dir.path());
    assert_eq!((state.records, state.next), (1, 4));
}

#[test]
fn a_second_process_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let second = LmdbStore::open(config(dir.path())).unwrap_err();
    assert!(matches!(second, StoreError::InUse { .. }), "{second}");
    let held = StoreLock::take(dir.path()).unwrap_err();
    assert!(held.to_string().contains(&format!("process {}", std::process::id())), "{held}");
    drop(store);
    let held = StoreLock::take(dir.path()).unwrap();
    assert!(matches!(LmdbStore::open(config(dir.path())), Err(StoreError::InUse { .. })));
    drop(held);
    LmdbStore::open(config(dir.path())).unwrap();
}

#[test]
fn s1_26_a_cloned_machine_sets_the_others_records_aside() {
    let dir = tempfile::tempdir().unwrap();
    let of = |id: u8| LmdbConfig { identity: Some([id; 32]), ..config(dir.path()) };
    let (mut store, original) = LmdbStore::open(of(1)).unwrap();
    store.apply(&batch(1, 0, &[b"a", b"b"]));
    drop(store);
    let (store, state) = LmdbStore::open(of(1)).unwrap();
    assert_eq!((state.epoch, state.records, state.set_aside), (original.epoch, 2, 0));
    drop(store);
    // A machine that has no identity now is no other machine.
    let unknown = LmdbConfig { identity: None, ..of(1) };
    assert_eq!(LmdbStore::open(unknown).unwrap().1.records, 2);
    let (store, clone) = LmdbStore::open(of(2)).unwrap();
    assert_ne!(clone.epoch, original.epoch);
    assert_eq!((clone.records, clone.next, clone.set_aside), (0, 1, 2));
    drop(store);
    let (_, again) = LmdbStore::open(of(2)).unwrap();
    assert_eq!((again.epoch, again.set_aside), (clone.epoch, 0));
    // They are not gone.
    let aside = dir.path().join(format!("aside-{:016x}", original.epoch));
    assert_eq!(stat(&aside).unwrap().records, 2);
}

/// Whoever looks at a queue that nobody has open must not keep its owner from starting.
#[test]
fn a_look_at_a_queue_that_nobody_has_open_takes_no_lock() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(stat_unowned(&dir.path().join("none")).unwrap(), None);
    drop(StoreLock::take(dir.path()).unwrap());
    assert_eq!(stat_unowned(dir.path()).unwrap(), None);
    let (mut store, _) = open(dir.path());
    store.apply(&batch(1, 0, &[b"one", b"two"]));
    drop(store);
    // Taking it would make the file anew.
    let lock = dir.path().join("owner.lock");
    std::fs::remove_file(&lock).unwrap();
    let found = stat_unowned(dir.path()).unwrap().unwrap();
    assert_eq!((found.records, found.bytes), (2, 6));
    assert!(!lock.exists());
    let file = dir.path().join("data.mdb");
    std::fs::write(&file, &std::fs::read(&file).unwrap()[..100]).unwrap();
    assert!(matches!(stat_unowned(dir.path()), Err(StoreError::Corrupt { .. })));
}

/// A queue with trees of some depth, large records and freed pages.
fn grown(dir: &Path) -> Vec<(u64, Vec<u8>)> {
    let (mut store, _) = open(dir);
    for lot in 0..40u64 {
        let records: Vec<Vec<u8>> =
            (0..20).map(|n| vec![n; if n == 7 { 9000 } else { 300 }]).collect();
        let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        store.apply(&batch(lot * 20 + 1, 0, &records));
        trim(&mut store, lot * 10);
    }
    read(&mut store, 0)
}

#[test]
fn broken_first_pages_are_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    grown(dir.path());
    let file = dir.path().join("data.mdb");
    let good = std::fs::read(&file).unwrap();
    let refused = |bytes: &[u8], what: &str| {
        std::fs::write(&file, bytes).unwrap();
        match LmdbStore::open(config(dir.path())) {
            Err(error @ StoreError::Corrupt { .. }) => {
                assert!(error.to_string().contains("move the directory away"), "{error}");
                assert!(stat(dir.path()).is_err(), "{what}");
            }
            other => panic!("{what}: {other:?}"),
        }
    };
    for cut in [0, 1, 100, 152, 4096, 8191, 8192, 3 * 4096] {
        refused(&good[..cut], &format!("cut to {cut} bytes"));
    }
    for (from, to) in [(0, 4096), (4096, 8192), (0, 8192), (16, 20), (4112, 4116)] {
        let mut bytes = good.clone();
        bytes[from..to].fill(0);
        refused(&bytes, &format!("zeros in {from}..{to}"));
        bytes[from..to].fill(0xA5);
        refused(&bytes, &format!("rubbish in {from}..{to}"));
    }
    let transactions = |bytes: &[u8]| {
        [144, 4240].map(|at| u64::from_le_bytes(*bytes[at..].first_chunk().unwrap()))
    };
    let mut followed = 0;
    for (at, bit) in [144, 145, 4240, 4241].into_iter().flat_map(|at| (0..8).map(move |b| (at, b)))
    {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << bit;
        let [first, second] = transactions(&bytes);
        // Of two that follow one another nobody can say which is wrong.
        if first.abs_diff(second) == 1 {
            followed += 1;
        } else {
            refused(&bytes, &format!("meta pages of {first} and {second}"));
        }
    }
    assert!(followed <= 2, "{followed} of 32");
    let mut other_version = good.clone();
    other_version[20] = 2;
    other_version[4116] = 2;
    refused(&other_version, "another data format");
    refused(&vec![b'x'; 100_000], "a text");
    std::fs::write(&file, &good).unwrap();
    LmdbStore::open(config(dir.path())).unwrap();
}

/// A flipped bit in the number of a record's pages: LMDB would read another record there, and this
/// one would be gone without a word.
#[test]
fn a_page_that_is_referred_to_twice_is_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    grown(dir.path());
    let file = dir.path().join("data.mdb");
    let good = std::fs::read(&file).unwrap();
    let number_at = |at: usize| u64::from_le_bytes(*good[at..].first_chunk().unwrap());
    let large: Vec<u64> = (2..good.len() as u64 / 4096)
        .filter(|page| {
            let at = *page as usize * 4096;
            number_at(at) == *page && good[at + 10] == 4
        })
        .collect();
    let (mut twice, mut stale) = (0, 0);
    for at in (2 * 4096..good.len() - 8).step_by(2) {
        // Where a page number stands within a page, and not at its own beginning.
        let Some(place) = large.iter().position(|page| *page == number_at(at)) else { continue };
        if at % 4096 < 16 {
            continue;
        }
        let mut bytes = good.clone();
        let other = large[(place + 1) % large.len()];
        bytes[at..at + 8].copy_from_slice(&other.to_le_bytes());
        std::fs::write(&file, &bytes).unwrap();
        match stat(dir.path()) {
            Err(error) if error.to_string().contains(" twice") => twice += 1,
            _ => stale += 1,
        }
    }
    assert!(twice >= 10, "{twice} told, {stale} not in use any more");
}

/// Nothing can be written there, not even a lock, and its pages are looked over all the same.
fn look_at_what_is_read_only(dir: &Path) {
    let queue = dir.join("queue");
    std::fs::create_dir(&queue).unwrap();
    let is_mounted = small_disk(&queue);
    grown(&queue);
    let damaged = |is: bool| {
        let path = queue.join("data.mdb");
        let mut bytes = std::fs::read(&path).unwrap();
        let root = bytes.len() / 2 / 4096 * 4096;
        let end = bytes.len();
        bytes[root..end].iter_mut().for_each(|byte| *byte ^= u8::from(is) * 0xA5);
        std::fs::write(&path, bytes).unwrap();
    };
    let read_only = |on: bool| {
        use std::os::unix::fs::PermissionsExt;
        if is_mounted {
            let target = std::ffi::CString::new(queue.to_str().unwrap()).unwrap();
            let flags = libc::MS_REMOUNT | if on { libc::MS_RDONLY } else { 0 };
            let none = std::ptr::null();
            // SAFETY: a plain system call with a C string, on a mount of this process's own.
            #[allow(unsafe_code)]
            let done = unsafe { libc::mount(none, target.as_ptr(), none, flags, none.cast()) };
            assert_eq!(done, 0);
        } else {
            for (path, mode) in [(queue.join("owner.lock"), 0o400), (queue.clone(), 0o500)] {
                let mode = if on { mode } else { 0o700 };
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
            }
        }
    };
    read_only(true);
    assert!(verify(&queue, |_| {}).unwrap().pages_checked);
    read_only(false);
    damaged(true);
    read_only(true);
    assert!(matches!(stat(&queue), Err(StoreError::Corrupt { .. })));
    assert!(matches!(verify(&queue, |_| {}), Err(StoreError::Corrupt { .. })));
    read_only(false);
}

#[test]
fn a_queue_on_a_read_only_disk_is_looked_over_before_it_is_read() {
    if let Some(dir) = child_value() {
        return look_at_what_is_read_only(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let test = "a_queue_on_a_read_only_disk_is_looked_over_before_it_is_read";
    let output = child(test, dir.path().to_str().unwrap()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// The note that it was made is gone, as where a copy was put back, and a part of the file too.
#[test]
fn a_queue_that_was_written_to_is_never_taken_for_one_that_was_not_made() {
    let dir = tempfile::tempdir().unwrap();
    grown(dir.path());
    let file = dir.path().join("data.mdb");
    let good = std::fs::read(&file).unwrap();
    for cut in [8192, 12_288] {
        std::fs::remove_file(dir.path().join("owner.lock")).unwrap();
        std::fs::write(&file, &good[..cut]).unwrap();
        let opened = LmdbStore::open(config(dir.path())).map(|_| ());
        assert!(matches!(opened, Err(StoreError::Corrupt { .. })), "{opened:?}");
    }
}

#[test]
fn damage_anywhere_never_ends_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let records = grown(dir.path());
    let file = dir.path().join("data.mdb");
    let good = std::fs::read(&file).unwrap();
    let pages = good.len() / 4096;
    let mut rng = fastrand::Rng::with_seed(11);
    let (mut refused, mut opened) = (0, 0);
    for round in 0..150 {
        let mut bytes = good.clone();
        let page = rng.usize(2..pages) * 4096;
        match round % 3 {
            0 => bytes[page..page + 4096].fill(0),
            // The head of a page: number, flags, bounds, node offsets.
            1 => bytes[page + rng.usize(0..64)] ^= 1 << rng.u8(0..8),
            _ => bytes.truncate(page + rng.usize(0..4096)),
        }
        std::fs::write(&file, &bytes).unwrap();
        match LmdbStore::open(config(dir.path())) {
            Err(StoreError::Corrupt { .. }) => refused += 1,
            Err(other) => panic!("round {round}: {other}"),
            Ok((mut store, _)) => {
                opened += 1;
                // What it then says of the records is theirs to check, with their checksums.
                assert!(read(&mut store, 0).len() <= records.len());
                trim(&mut store, 500);
            }
        }
    }
    assert!(refused > 20 && opened > 5, "{refused} refused, {opened} opened");
}

#[test]
fn the_map_is_halved_until_it_is_granted() {
    if let Some(dir) = child_value() {
        let limit = libc::rlimit { rlim_cur: 1 << 30, rlim_max: 1 << 30 };
        // SAFETY: lowers a limit of this process, which runs nothing but this test.
        #[allow(unsafe_code)]
        let lowered = unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) };
        assert_eq!(lowered, 0);
        let (mut store, _) = open(Path::new(&dir));
        store.apply(&batch(1, 0, &[b"x"]));
        let map_size = store.open.as_ref().unwrap().env.info().map_size;
        assert!((MAP_BYTES_MIN..1 << 30).contains(&map_size));
        assert!(store.quota_bytes <= map_size as u64 / 2);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let status = child("the_map_is_halved_until_it_is_granted", path).status().unwrap();
    assert!(status.success());
}

fn killed_record(seq: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seq);
    let len = if rng.u8(..) < 5 { 6000 } else { rng.usize(8..400) };
    let mut record = seq.to_le_bytes().to_vec();
    record.resize(len, rng.u8(..));
    record
}

/// Appends and trims as fast as it can, and says what is committed; it is killed at it.
fn write_until_killed(dir: &Path) {
    let (mut store, mut state) = open(dir);
    let mut rng = fastrand::Rng::with_seed(state.next);
    loop {
        let records: Vec<_> = (0..rng.u64(1..60)).map(|n| killed_record(state.next + n)).collect();
        let records: Vec<_> = records.iter().map(Vec::as_slice).collect();
        match store.apply(&batch(state.next, 0, &records))[..] {
            [StoreEvent::Committed { upto, .. }] => {
                println!("\ncommitted {upto}");
                state.next = upto + 1;
            }
            ref other => panic!("{other:?}"),
        }
        if rng.u8(..) < 120 {
            trim(&mut store, state.next.saturating_sub(rng.u64(1..400)));
        }
    }
}

#[test]
fn s1_53_sigkill_loses_nothing_that_was_committed() {
    if let Some(dir) = child_value() {
        write_until_killed(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let kills: u64 =
        std::env::var("DROVER_KILLS").map_or(50, |n| n.parse().expect("DROVER_KILLS is a number"));
    let mut rng = fastrand::Rng::with_seed(53 + kills);
    let mut acked = 0;
    for kill in 0..kills {
        let mut process =
            child("s1_53_sigkill_loses_nothing_that_was_committed", dir.path().to_str().unwrap())
                .spawn()
                .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        // After so many commits, and somewhere within the next.
        let mut left = rng.u32(1..20);
        while left > 0 {
            let line = lines.next().expect("the child writes until it is killed").unwrap();
            if let Some(upto) = line.strip_prefix("committed ") {
                acked = upto.parse().unwrap();
                left -= 1;
            }
        }
        for _ in 0..rng.u32(0..200_000) {
            std::hint::spin_loop();
        }
        process.kill().unwrap();
        process.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            if let Some(upto) = line.strip_prefix("committed ").and_then(|n| n.parse().ok()) {
                acked = upto;
            }
        }
        let (mut store, state) = open(dir.path());
        assert!(state.next > acked, "kill {kill}: {acked} was committed, {} is next", state.next);
        let records = read(&mut store, 0);
        assert_eq!(records.len() as u64, state.next - state.first, "kill {kill}");
        for (wanted, (seq, record)) in (state.first..).zip(&records) {
            assert_eq!((*seq, record), (wanted, &killed_record(wanted)), "kill {kill}");
        }
    }
}

/// Fills a small file system, and goes on when there is room again.
fn fill_the_disk(dir: &Path) {
    let small = LmdbConfig { reserve_bytes: 1 << 20, ..LmdbConfig::new(dir.join("queue")) };
    let (mut store, _) = LmdbStore::open(small).unwrap();
    assert!(dir.join("queue/reserve").exists());
    // Somebody else's file takes what is left in the end.
    let record = vec![5; 1000];
    let (mut next, mut run) = (1, 0);
    let lot: Vec<&[u8]> = (0..50).map(|_| record.as_slice()).collect();
    let error = loop {
        match store.apply(&batch(next, run, &lot)).remove(0) {
            StoreEvent::Committed { upto, .. } => next = upto + 1,
            StoreEvent::CommitFailed { from, error, .. } => {
                assert_eq!(from, next);
                break error;
            }
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
    assert!(next > 500, "only {next} records");
    assert_eq!(read(&mut store, 0).len() as u64, next - 1, "nothing committed is lost");
    // Trimming goes on, at the cost of the reserve if need be, and then so does writing.
    let half = next / 2;
    let trimmed = trim(&mut store, half);
    assert!(matches!(trimmed, StoreEvent::Trimmed { records, .. } if records == half));
    for _ in 0..5 {
        run += 1;
        match store.apply(&batch(next, run, &lot)).remove(0) {
            StoreEvent::Committed { upto, .. } => next = upto + 1,
            other => panic!("{other:?}"),
        }
        trim(&mut store, next - 300);
    }
    drop(store);
    let (mut store, state) = LmdbStore::open(config(&dir.join("queue"))).unwrap();
    assert_eq!((state.next, state.first), (next, next - 299));
    assert_eq!(read(&mut store, 0).len(), 299);
}

/// A file system of 8 MiB that only this thread sees; without the right to mount, files of
/// this process are limited to that size. Whether it is one.
fn small_disk(dir: &Path) -> bool {
    let target = std::ffi::CString::new(dir.to_str().unwrap()).unwrap();
    // SAFETY: plain system calls with C strings; they concern this thread of a process that
    // runs nothing but this test.
    #[allow(unsafe_code)]
    unsafe {
        let root = c"/".as_ptr();
        let none = c"none".as_ptr();
        let private = libc::MS_REC | libc::MS_PRIVATE;
        if libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(none, root, std::ptr::null(), private, std::ptr::null()) == 0
            && libc::mount(none, target.as_ptr(), c"tmpfs".as_ptr(), 0, c"size=8m".as_ptr().cast())
                == 0
        {
            return true;
        }
        let limit = libc::rlimit { rlim_cur: 6 << 20, rlim_max: 6 << 20 };
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit), 0);
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
    false
}

#[test]
fn s1_53_a_full_disk_is_an_error_and_trimming_goes_on() {
    if let Some(dir) = child_value() {
        small_disk(Path::new(&dir));
        return fill_the_disk(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let output =
        child("s1_53_a_full_disk_is_an_error_and_trimming_goes_on", path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
