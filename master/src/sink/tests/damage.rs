//! Bad records, bad files, bad disks.

use super::*;
use rusqlite::Connection;

fn quarantine(sink: &SqliteSink) -> Vec<(i64, String)> {
    let mut rows = sink.db.prepare("SELECT log_number, reason FROM quarantine ORDER BY 1").unwrap();
    rows.query_map([], |r| Ok((r.get(0)?, r.get(1)?))).unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_record_that_cannot_be_read_is_set_aside_and_blocks_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(&dir.path().join("results.sqlite"));
    let mut batch = records(0, 7);
    let last = batch[1].frame.len() - 1;
    batch[1].frame[last] ^= 1; // the body's checksum
    batch[2].frame.truncate(50);
    batch[3].frame.clear();
    // A kind that goes the same way but is no report, and one of a later version.
    let poll =
        Poll { held: 0, applied: 0, wall_ms: 0, version: String::new(), last_error: String::new() };
    let route = RouteBuf::from(origin("web1", 1, 1));
    batch[4].frame = FrameBuf::message(Some(&route), &poll, |_| ()).to_vec();
    batch[5].frame = FrameBuf::message(Some(&route), &report(vec![]), |h| {
        h.kind = Kind(0x7f);
    })
    .to_vec();
    let appended = sink.append(&batch).unwrap();
    assert_eq!(appended, Appended { upto: 6, stored: 2, duplicates: 0, quarantined: 5 });
    // The same again, as after a crash before the trim: no second copy.
    sink.append(&batch).unwrap();
    let aside = quarantine(&sink);
    assert_eq!(aside.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    for ((_, reason), part) in aside.iter().zip([
        "body checksum",
        "cut short after 50",
        "cut short after 0",
        "expected Report, found Poll",
        "kind 0x7f is not known here",
    ]) {
        assert!(reason.contains(part), "{reason:?} should contain {part:?}");
    }
    assert_eq!(all_ids(&mut sink).len(), 2);
    assert!(counts(&mut sink, 0, 0).warnings()[0].starts_with("5 records could not be read"));
}

#[test]
fn a_report_of_a_later_schema_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(&dir.path().join("results.sqlite"));
    let route = RouteBuf::from(origin("web1", 1, 1));
    let frame = FrameBuf::message(Some(&route), &report(vec![]), |h| h.schema = 2).to_vec();
    sink.append(&[Record { seq: 0, arrived: WallMs(1), frame }]).unwrap();
    assert!(quarantine(&sink)[0].1.contains("schema 2 is not known here (1 is the highest)"));
}

/// A store with some reports, closed, and its journal worked in.
fn closed_store(path: &Path) {
    let mut sink = open(path);
    sink.append(&records(0, 500)).unwrap();
    let SqliteSink { db, .. } = sink;
    db.close().unwrap();
    assert!(!path.with_extension("sqlite-wal").exists());
}

fn refused(path: &Path) -> SinkError {
    let before = std::fs::read(path).unwrap();
    let error = SqliteSink::open(path, INBOX, SinkOptions::default()).unwrap_err();
    assert_eq!(std::fs::read(path).unwrap(), before, "the file was changed");
    error
}

#[test]
fn a_damaged_store_is_refused_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("results.sqlite");
    closed_store(&path);
    let whole = std::fs::read(&path).unwrap();
    let len = whole.len();
    assert!(len > 3 * 4096);
    let mut broken_pages = whole.clone();
    broken_pages[100..8192].fill(0xa5);
    let mut broken_head = whole.clone();
    broken_head[..16].fill(0);
    for (what, bytes) in [
        ("first pages broken", &broken_pages[..]),
        ("magic broken", &broken_head[..]),
        ("last page missing", &whole[..len - 4096]),
        ("cut in a page", &whole[..len - 1]),
        ("one page left", &whole[..4096]),
        ("cut in the header", &whole[..60]),
        ("nothing left", b""),
        ("a text", b"reports: none\n"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = refused(&path);
        assert!(matches!(error, SinkError::Damaged { .. }), "{what}: {error}");
        assert!(error.to_string().contains("Move it away"), "{what}: {error}");
    }
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(all_ids(&mut open(&path)).len(), 500);
}

#[test]
fn a_foreign_or_newer_database_is_refused_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("results.sqlite");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    assert!(matches!(refused(&path), SinkError::Foreign { .. }));

    std::fs::remove_file(&path).unwrap();
    closed_store(&path);
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 2).unwrap();
    let error = refused(&path);
    assert!(matches!(error, SinkError::Newer { found: 2, known: 1, .. }), "{error}");
}

/// Whoever made it was killed: it has its name only when it is whole.
#[test]
fn what_was_begun_and_not_finished_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("results.sqlite");
    std::fs::write(dir.path().join("results.sqlite.new"), b"SQLite format 3\0 and then").unwrap();
    assert_eq!(open(&path).append(&records(0, 1)).unwrap().stored, 1);
    let named: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(named, ["results.sqlite"]);
}

/// As after a kill and the advice to move a damaged store away: its journal is not the new one's.
#[test]
fn a_journal_that_was_left_behind_gets_into_no_new_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("results.sqlite");
    let journal = dir.path().join("results.sqlite-wal");
    let mut sink = open(&path);
    sink.append(&records(0, 500)).unwrap();
    let left = std::fs::read(&journal).unwrap();
    assert!(!left.is_empty());
    drop(sink);
    std::fs::write(&journal, &left).unwrap();

    // Emptied, while the journal is there: refused, and neither is touched.
    std::fs::write(&path, b"").unwrap();
    assert!(matches!(refused(&path), SinkError::Damaged { .. }));
    assert_eq!(std::fs::read(&journal).unwrap(), left);

    std::fs::remove_file(&path).unwrap();
    let mut sink = open(&path);
    assert_eq!(all_ids(&mut sink).len(), 0);
    assert_eq!(sink.append(&records(0, 1)).unwrap().stored, 1);
    assert_eq!(std::fs::read(dir.path().join("results.sqlite-wal.left")).unwrap(), left);
}

#[test]
fn a_new_store_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/results.sqlite");
    drop(open(&path));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_locked_store_takes_the_batch_later() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("results.sqlite");
    let options = SinkOptions { busy_timeout: Duration::ZERO };
    let mut sink = SqliteSink::open(&path, INBOX, options).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = sink.append(&records(0, 5)).unwrap_err();
    assert!(matches!(error, SinkError::Locked { .. }), "{error}");
    assert_eq!(sink.cursor(), None);
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(sink.append(&records(0, 5)).unwrap().stored, 5);
}

#[test]
fn a_full_disk_takes_the_batch_later() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(&dir.path().join("results.sqlite"));
    sink.append(&records(0, 5)).unwrap();
    // SQLite answers a file that may not grow as it answers a full disk.
    let pages: i64 = sink.db.pragma_query_value(None, "page_count", |r| r.get(0)).unwrap();
    sink.db.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
    let error = sink.append(&records(0, 2000)).unwrap_err();
    assert!(matches!(error, SinkError::DiskFull { .. }), "{error}");
    assert_eq!((sink.cursor(), all_ids(&mut sink).len()), (Some(4), 5));
    sink.db.pragma_update_and_check(None, "max_page_count", 1 << 30, |_| Ok(())).unwrap();
    let appended = sink.append(&records(0, 2000)).unwrap();
    assert_eq!((appended.stored, appended.duplicates), (1995, 5));
}
