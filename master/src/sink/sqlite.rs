//! The embedded result store: SQLite in WAL mode, one transaction per batch.

use super::query::{self, Answer, Query};
use super::record::Incoming;
use super::schema::{open, sink_error};
use super::{Appended, HostUpdates, Record, Sink, SinkError};
use engine::ids::{BlobHash, Epoch};
use engine::time::WallMs;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most bytes of an error that are kept for a host's row.
const ERROR_BYTES_MAX: usize = 1000;

/// How a result store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SinkOptions {
    /// How long to wait for another process that holds the store, before giving up for now.
    pub busy_timeout: Duration,
}

impl Default for SinkOptions {
    fn default() -> Self {
        Self { busy_timeout: Duration::from_secs(5) }
    }
}

/// The embedded result store.
#[derive(Debug)]
pub struct SqliteSink {
    pub(super) db: Connection,
    path: PathBuf,
    inbox: Epoch,
    cursor: Option<u64>,
}

impl SqliteSink {
    /// Opens the store, or makes it. The cursor belongs to one incarnation of the inbox: one
    /// that began anew counts from its beginning again.
    ///
    /// # Errors
    /// [`SinkError`]; a file that is damaged, foreign or newer is left as it was.
    pub fn open(path: &Path, inbox: Epoch, options: SinkOptions) -> Result<Self, SinkError> {
        let db = open(path, options.busy_timeout)?;
        let cursor = db
            .query_row("SELECT upto FROM cursors WHERE inbox = ?1", [bits(inbox.0)], |row| {
                row.get::<_, i64>(0)
            })
            .optional()
            .map_err(|e| sink_error(path, &e))?
            .map(i64::cast_unsigned);
        Ok(Self { db, path: path.to_owned(), inbox, cursor })
    }

    fn begin(&mut self) -> rusqlite::Result<Transaction<'_>> {
        self.db.transaction_with_behavior(TransactionBehavior::Immediate)
    }

    fn try_append(&mut self, batch: &[Record]) -> rusqlite::Result<Appended> {
        let upto = batch.iter().map(|r| r.seq).max().max(self.cursor).unwrap_or(0);
        let mut appended = Appended { upto, ..Appended::default() };
        let inbox = self.inbox;
        let tx = self.begin()?;
        for record in batch {
            match Incoming::read(record) {
                Ok(incoming) if insert(&tx, record, &incoming)? => appended.stored += 1,
                Ok(_) => appended.duplicates += 1,
                Err(reason) => {
                    set_aside(&tx, inbox, record, &reason.to_string())?;
                    appended.quarantined += 1;
                }
            }
        }
        tx.prepare_cached("INSERT OR REPLACE INTO cursors (inbox, upto) VALUES (?1, ?2)")?
            .execute([bits(inbox.0), bits(upto)])?;
        tx.commit()?;
        Ok(appended)
    }

    fn try_update_hosts(&mut self, updates: &HostUpdates) -> rusqlite::Result<()> {
        let tx = self.begin()?;
        for (name, update) in &updates.hosts {
            tx.prepare_cached(
                "INSERT INTO hosts (name, first_seen_ms, last_seen_ms, held, applied, version,
                     poll_error, clock_skew_ms, address, gone)
                 VALUES (?1, ?2, ?2, ?3, ?4, ?5, coalesce(?6, ''), ?7, ?8, coalesce(?9, 0))
                 ON CONFLICT (name) DO UPDATE SET
                     first_seen_ms = coalesce(first_seen_ms, ?2),
                     last_seen_ms = coalesce(?2, last_seen_ms),
                     held = coalesce(?3, held),
                     applied = coalesce(?4, applied),
                     version = coalesce(?5, version),
                     poll_error = coalesce(?6, poll_error),
                     clock_skew_ms = coalesce(?7, clock_skew_ms),
                     address = coalesce(?8, address),
                     gone = coalesce(?9, gone)",
            )?
            .execute(params![
                name.as_str(),
                update.seen.map(|at| clamp(at.0)),
                update.held.map(|r| clamp(r.0)),
                update.applied.map(|r| clamp(r.0)),
                update.version,
                update.last_error.as_deref().map(shortened),
                update.clock_skew_ms,
                update.address.map(|a| a.to_string()),
                update.gone,
            ])?;
        }
        for ((name, key), (count, last)) in &updates.conflicts {
            tx.prepare_cached(
                "INSERT INTO conflicts (name, expected, found, count, last_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET count = count + ?4, last_ms = ?5",
            )?
            .execute(params![
                name.as_str(),
                key.expected.to_string(),
                key.found.to_string(),
                clamp(*count),
                clamp(last.0),
            ])?;
        }
        tx.commit()
    }

    fn try_prune(&mut self, before: WallMs, reports_max: usize) -> rusqlite::Result<usize> {
        let before = clamp(before.0);
        let tx = self.begin()?;
        // Numbers ascend with arrival, so the oldest come first and no index is needed.
        let old: Vec<i64> = tx
            .prepare_cached("SELECT id, arrived_ms FROM reports ORDER BY id LIMIT ?1")?
            .query_map([i64::try_from(reports_max).unwrap_or(i64::MAX)], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
            })?
            .take_while(|row| row.as_ref().map_or(true, |(_, arrived)| *arrived < before))
            .map(|row| row.map(|(id, _)| id))
            .collect::<rusqlite::Result<_>>()?;
        for id in &old {
            tx.prepare_cached("DELETE FROM results WHERE report = ?1")?.execute([id])?;
            tx.prepare_cached("DELETE FROM reports WHERE id = ?1")?.execute([id])?;
        }
        tx.execute("DELETE FROM quarantine WHERE arrived_ms < ?1", [before])?;
        tx.execute("DELETE FROM conflicts WHERE last_ms < ?1", [before])?;
        tx.commit()?;
        Ok(old.len())
    }
}

impl Sink for SqliteSink {
    fn append(&mut self, batch: &[Record]) -> Result<Appended, SinkError> {
        let appended = self.try_append(batch).map_err(|e| sink_error(&self.path, &e))?;
        self.cursor = Some(appended.upto);
        Ok(appended)
    }

    fn cursor(&self) -> Option<u64> {
        self.cursor
    }

    fn update_hosts(&mut self, updates: &HostUpdates) -> Result<(), SinkError> {
        self.try_update_hosts(updates).map_err(|e| sink_error(&self.path, &e))
    }

    fn query(&mut self, query: &Query) -> Result<Answer, SinkError> {
        query::answer(&self.db, query).map_err(|e| sink_error(&self.path, &e))
    }

    fn prune(&mut self, before: WallMs, reports_max: usize) -> Result<usize, SinkError> {
        self.try_prune(before, reports_max).map_err(|e| sink_error(&self.path, &e))
    }
}

/// Stores one report; false if it was there before.
fn insert(
    tx: &Transaction<'_>,
    record: &Record,
    incoming: &Incoming<'_>,
) -> rusqlite::Result<bool> {
    let Incoming { origin, report, tally } = incoming;
    let arrived = clamp(record.arrived.0);
    tx.prepare_cached("INSERT OR IGNORE INTO hosts (name) VALUES (?1)")?
        .execute([origin.name.as_str()])?;
    let host: i64 = tx
        .prepare_cached("SELECT id FROM hosts WHERE name = ?1")?
        .query_row([origin.name.as_str()], |row| row.get(0))?;
    tx.prepare_cached("INSERT OR IGNORE INTO streams (host, epoch) VALUES (?1, ?2)")?
        .execute([host, bits(origin.epoch.0)])?;
    let stream: i64 = tx
        .prepare_cached("SELECT id FROM streams WHERE host = ?1 AND epoch = ?2")?
        .query_row([host, bits(origin.epoch.0)], |row| row.get(0))?;
    let new = tx
        .prepare_cached(
            "INSERT OR IGNORE INTO reports (stream, seq, arrived_ms, started_ms, revision, trigger,
                 duration_us, busy_us, checked, changed, failed, skipped, interrupted, note)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            stream,
            bits(origin.seq),
            arrived,
            clamp(report.started_ms.to_native()),
            clamp(report.revision.to_native()),
            report.trigger,
            clamp(report.duration_us.to_native()),
            clamp(report.busy_us.to_native()),
            report.checked.to_native(),
            tally.changed,
            tally.failed,
            tally.skipped,
            tally.interrupted,
            report.note.as_str(),
        ])?;
    if new == 0 {
        return Ok(false);
    }
    let id = tx.last_insert_rowid();
    for (place, result) in (0i64..).zip(report.results.iter()) {
        tx.prepare_cached(
            "INSERT INTO results (report, place, resource, outcome, before, after, error,
                 duration_us, output) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            id,
            place,
            &result.id[..],
            result.outcome,
            result.before.as_str(),
            result.after.as_str(),
            result.error.as_str(),
            clamp(result.duration_us.to_native()),
            &result.output[..],
        ])?;
    }
    // A report speaks for its host if it is the newest of its incarnation: they may arrive out
    // of order after a change of parent. Between incarnations the one that reported last
    // counts: an earlier state directory may have come back. Whether the revision was applied to
    // its end the host says in its polls: a report may be of a run that was cut short.
    tx.prepare_cached(
        "UPDATE hosts SET first_seen_ms = coalesce(first_seen_ms, ?2),
             last_seen_ms = max(coalesce(last_seen_ms, 0), ?2), gone = 0 WHERE id = ?1",
    )?
    .execute([host, arrived])?;
    tx.prepare_cached(
        "UPDATE hosts SET last_result = ?4, run_error = ?5
         WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM reports WHERE stream = ?2 AND seq > ?3)",
    )?
    .execute(params![
        host,
        stream,
        bits(origin.seq),
        incoming.summary(),
        shortened(&incoming.first_error()),
    ])?;
    Ok(true)
}

/// Puts a record aside that cannot be read, so that those behind it go on.
fn set_aside(
    tx: &Transaction<'_>,
    inbox: Epoch,
    record: &Record,
    reason: &str,
) -> rusqlite::Result<()> {
    log::error!(
        "record {} of the inbox cannot be read and is set aside in the result store's table `quarantine`: {reason}",
        record.seq
    );
    tx.prepare_cached(
        "INSERT OR IGNORE INTO quarantine (digest, inbox, log_number, arrived_ms, reason, frame)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        BlobHash::of(&record.frame).0,
        bits(inbox.0),
        bits(record.seq),
        clamp(record.arrived.0),
        reason,
        record.frame,
    ])?;
    Ok(())
}

/// SQLite has signed integers: for numbers that must come back unchanged.
pub(super) fn bits(n: u64) -> i64 {
    n.cast_signed()
}

/// SQLite has signed integers: for quantities, which nobody has that large.
pub(super) fn clamp(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The beginning of a text that a peer chose the length of.
fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(ERROR_BYTES_MAX)]
}
