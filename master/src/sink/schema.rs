//! The result store's tables, and opening its file without harm to what is no such file.

use super::SinkError;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// SQLite's `application_id`: `DRVR`.
const APPLICATION_ID: i64 = 0x4452_5652;
/// SQLite's `user_version`.
const SCHEMA: i64 = 1;

/// A host's reports come in streams, one per incarnation of its outbox, in the order in which
/// they were first heard; within a stream the origin's seq is the order, and (stream, seq) the
/// key that makes a report unique.
const TABLES: &str = "
CREATE TABLE cursors (
    inbox INTEGER PRIMARY KEY,      -- incarnation of the inbox, 64 random bits
    upto INTEGER NOT NULL           -- largest log number stored
);
CREATE TABLE hosts (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    first_seen_ms INTEGER,
    last_seen_ms INTEGER,
    held INTEGER,
    applied INTEGER,
    version TEXT,
    poll_error TEXT NOT NULL DEFAULT '',
    run_error TEXT NOT NULL DEFAULT '',
    last_result TEXT,
    clock_skew_ms INTEGER,
    address TEXT,
    gone INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE streams (
    id INTEGER PRIMARY KEY,
    host INTEGER NOT NULL REFERENCES hosts,
    epoch INTEGER NOT NULL,         -- 64 random bits
    UNIQUE (host, epoch)
);
CREATE TABLE reports (
    id INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL REFERENCES streams,
    seq INTEGER NOT NULL,
    arrived_ms INTEGER NOT NULL,
    started_ms INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    trigger INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    busy_us INTEGER NOT NULL,
    checked INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    skipped INTEGER NOT NULL,
    interrupted INTEGER NOT NULL,
    note TEXT NOT NULL,
    UNIQUE (stream, seq)
);
CREATE INDEX reports_bad ON reports (id) WHERE failed + interrupted > 0;
CREATE TABLE results (
    report INTEGER NOT NULL REFERENCES reports,
    place INTEGER NOT NULL,
    resource BLOB NOT NULL,
    outcome INTEGER NOT NULL,
    before TEXT NOT NULL,
    after TEXT NOT NULL,
    error TEXT NOT NULL,
    duration_us INTEGER NOT NULL,
    output BLOB NOT NULL,
    PRIMARY KEY (report, place)
) WITHOUT ROWID;
CREATE TABLE conflicts (
    name TEXT NOT NULL,
    expected TEXT NOT NULL,
    found TEXT NOT NULL,
    count INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    PRIMARY KEY (name, expected, found)
) WITHOUT ROWID;
CREATE TABLE quarantine (
    digest BLOB PRIMARY KEY,        -- BLAKE3 of the frame: one that comes again is there already
    inbox INTEGER NOT NULL,
    log_number INTEGER NOT NULL,
    arrived_ms INTEGER NOT NULL,
    reason TEXT NOT NULL,
    frame BLOB NOT NULL
) WITHOUT ROWID;
";

/// Without SQLITE_OPEN_CREATE: the file is there, and has the mode that we gave it.
const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// Opens a result store, or makes one where there is no file.
pub(super) fn open(path: &Path, busy_timeout: Duration) -> Result<Connection, SinkError> {
    let shown = || path.display().to_string();
    let wrap = |error: &rusqlite::Error| sink_error(path, error);
    if !path.try_exists().map_err(|e| io_error(path, &e))? {
        make(path)?;
    }
    check_length(path)?;
    let db = Connection::open_with_flags(path, FLAGS).map_err(|e| wrap(&e))?;
    db.busy_timeout(busy_timeout).map_err(|e| wrap(&e))?;
    let number = |db: &Connection, sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0));
    // The questions before the first change: they find out whose file this is.
    let application = number(&db, "PRAGMA application_id").map_err(|e| wrap(&e))?;
    let found = number(&db, "PRAGMA user_version").map_err(|e| wrap(&e))?;
    let objects = number(&db, "SELECT count(*) FROM sqlite_schema").map_err(|e| wrap(&e))?;
    match (application, found, objects) {
        (APPLICATION_ID, SCHEMA, _) => {}
        (APPLICATION_ID, found, _) if found > SCHEMA => {
            return Err(SinkError::Newer { path: shown(), found, known: SCHEMA });
        }
        _ => return Err(SinkError::Foreign { path: shown() }),
    }
    // Full: once a batch is appended the inbox is trimmed, so the commit must be on the disk.
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 67108864;",
    )
    .map_err(|e| wrap(&e))?;
    db.set_prepared_statement_cache_capacity(64);
    // Every table must be readable now, rather than in the middle of the night.
    for table in ["cursors", "hosts", "streams", "reports", "results", "conflicts", "quarantine"] {
        db.query_row(&format!("SELECT count(*) FROM (SELECT * FROM {table} LIMIT 1)"), [], |_| {
            Ok(())
        })
        .map_err(|e| wrap(&e))?;
    }
    Ok(db)
}

fn io_error(path: &Path, error: &std::io::Error) -> SinkError {
    SinkError::Io { path: path.display().to_string(), detail: error.to_string() }
}

/// Makes an empty result store. It gets its name when it is whole: one that is empty was cut short.
fn make(path: &Path) -> Result<(), SinkError> {
    let io = |e: std::io::Error| io_error(path, &e);
    let wrap = |e: rusqlite::Error| sink_error(path, &e);
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let unfinished = Path::new(&name);
    let dir = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(dir).map_err(io)?;
    set_journal_aside(path).map_err(io)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(unfinished).map_err(io)?;
    let mut db = Connection::open_with_flags(unfinished, FLAGS).map_err(wrap)?;
    let tx = db.transaction().map_err(wrap)?;
    tx.execute_batch(TABLES).map_err(wrap)?;
    tx.pragma_update(None, "application_id", APPLICATION_ID).map_err(wrap)?;
    tx.pragma_update(None, "user_version", SCHEMA).map_err(wrap)?;
    tx.commit().map_err(wrap)?;
    db.close().map_err(|(_, e)| wrap(e))?;
    file.sync_all().map_err(io)?;
    std::fs::rename(unfinished, path).map_err(io)?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)
}

/// The file that SQLite keeps beside a database while it is open.
fn journal(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// A journal whose database is gone would be played into the new one. What it holds belongs to the
/// old one, wherever that is: it is kept under another name.
fn set_journal_aside(path: &Path) -> std::io::Result<()> {
    let journal = journal(path);
    let mut aside = journal.clone().into_os_string();
    aside.push(".left");
    match std::fs::rename(&journal, &aside) {
        Ok(()) => {
            log::warn!(
                "{} was left by a result store that is gone: it is {} now",
                journal.display(),
                Path::new(&aside).display()
            );
            Ok(())
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// A database that was cut short: SQLite finds out only when it comes to the missing pages.
fn check_length(path: &Path) -> Result<(), SinkError> {
    use std::os::unix::fs::FileExt;
    let io = |e: std::io::Error| io_error(path, &e);
    let file = File::open(path).map_err(io)?;
    let len = file.metadata().map_err(io)?.len();
    let mut head = [0; 32];
    let cut = |detail: String| SinkError::Damaged { path: path.display().to_string(), detail };
    // Whatever a journal holds: SQLite would throw it away.
    if len == 0 {
        return Err(cut("it is empty".to_owned()));
    }
    // While there is a journal, the file may rightly be shorter than it will be.
    if std::fs::metadata(journal(path)).is_ok_and(|journal| journal.len() > 0) {
        return Ok(());
    }
    if len < 100 {
        return Err(cut(format!("it ends after {len} bytes, within its header")));
    }
    file.read_exact_at(&mut head, 0).map_err(io)?;
    if &head[..16] != b"SQLite format 3\0" {
        return Err(cut("it does not begin as an SQLite database does".to_owned()));
    }
    // 1 stands for 65536 (https://sqlite.org/fileformat2.html#page_size).
    let page_size = match u16::from_be_bytes([head[16], head[17]]) {
        1 => 65_536,
        size => u64::from(size),
    };
    let pages = u64::from(u32::from_be_bytes([head[28], head[29], head[30], head[31]]));
    if len < pages * page_size {
        return Err(cut(format!("it was cut short: {len} bytes of {}", pages * page_size)));
    }
    Ok(())
}

/// What an error of SQLite means for us.
pub(super) fn sink_error(path: &Path, error: &rusqlite::Error) -> SinkError {
    let path = path.display().to_string();
    let detail = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => SinkError::DiskFull { path },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => SinkError::Locked { path },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            SinkError::Damaged { path, detail }
        }
        _ => SinkError::Io { path, detail },
    }
}
