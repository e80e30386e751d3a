//! What the control verbs ask of the result store, and its answers.

use super::sqlite::clamp;
use crate::control::{
    Conflict, HostRow, HostsPage, IdsPage, ReportDetail, ReportRow, ReportsArgs, ReportsPage,
    ResultRow, StoredId,
};
use engine::time::WallMs;
use engine::wire::message::{Report, ResourceResult, cut, outcome, trigger};
use rusqlite::{Connection, OptionalExtension, Row, named_params};

/// Rows of one page: far below the 8 MiB that a control frame may have.
const HOSTS_PAGE: usize = 2_000;
const IDS_PAGE: usize = 10_000;
const REPORTS_MAX: u32 = 1_000;
const CONFLICTS_MAX: i64 = 20;
/// A clock further off than this is worth a warning, milliseconds.
const SKEW_MAX_MS: i64 = 60_000;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// Hosts by name.
    Hosts {
        /// Hosts last heard before this are silent.
        silent_before: WallMs,
        /// Only silent ones.
        silent_only: bool,
        /// Only those behind this name.
        after: Option<String>,
    },
    /// Runs, newest first.
    Reports(ReportsArgs),
    /// One run with its results.
    Report {
        /// Its number.
        id: i64,
    },
    /// Ids and digests of all stored reports, in the order in which they were stored.
    Ids {
        /// Only those behind this.
        after: Option<i64>,
    },
    /// Numbers for the status.
    Counts {
        /// Hosts last heard before this are silent.
        silent_before: WallMs,
        /// Hosts that applied this or a later revision are current.
        revision: u64,
    },
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To [`Query::Hosts`].
    Hosts(HostsPage),
    /// To [`Query::Reports`].
    Reports(ReportsPage),
    /// To [`Query::Reports`] of a host that nothing is known of.
    NoSuchHost(String),
    /// To [`Query::Report`]; `None` if there is no such run.
    Report(Option<Box<ReportDetail>>),
    /// To [`Query::Ids`].
    Ids(IdsPage),
    /// To [`Query::Counts`].
    Counts(HostCounts),
}

/// Numbers for the status.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostCounts {
    /// Hosts heard of or in the inventory by name, without those that have left it.
    pub known: u64,
    /// Of these, hosts that applied the revision asked for.
    pub current: u64,
    /// Of these, silent ones.
    pub silent: u64,
    /// Of these, hosts whose clock is off by more than a minute: name and milliseconds, the
    /// worst first, at most 20.
    pub skewed: Vec<(String, i64)>,
    /// Names claimed from wrong addresses, the latest first, at most 20.
    pub conflicts: Vec<Conflict>,
    /// Records that could not be read.
    pub quarantined: u64,
}

impl HostCounts {
    /// What an operator should look at.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.silent > 0 {
            let hosts = if self.silent == 1 { "host is" } else { "hosts are" };
            warnings.push(format!(
                "{} {hosts} silent: `drover hosts --silent` lists them",
                self.silent
            ));
        }
        warnings.extend(self.skewed.iter().map(|(name, ms)| {
            let way = if *ms > 0 { "ahead of" } else { "behind" };
            format!(
                "the clock of {name} is {} s {way} the master's: check its time service",
                ms.unsigned_abs() / 1000
            )
        }));
        warnings.extend(self.conflicts.iter().map(|c| {
            format!(
                "{} has the address {}, and {} messages in its name came from {}: two machines with one name?",
                c.name, c.expected, c.count, c.found
            )
        }));
        if self.quarantined > 0 {
            warnings.push(format!(
                "{} records could not be read; they lie in the result store's table `quarantine`",
                self.quarantined
            ));
        }
        warnings
    }
}

pub(super) fn answer(db: &Connection, query: &Query) -> rusqlite::Result<Answer> {
    Ok(match query {
        Query::Hosts { silent_before, silent_only, after } => {
            Answer::Hosts(hosts(db, clamp(silent_before.0), *silent_only, after.as_deref())?)
        }
        Query::Reports(ReportsArgs { host: Some(host), .. }) if !is_known(db, host)? => {
            Answer::NoSuchHost(host.clone())
        }
        Query::Reports(args) => Answer::Reports(ReportsPage { reports: reports(db, args)? }),
        Query::Report { id } => Answer::Report(report(db, *id)?.map(Box::new)),
        Query::Ids { after } => Answer::Ids(ids(db, *after)?),
        Query::Counts { silent_before, revision } => {
            Answer::Counts(counts(db, clamp(silent_before.0), clamp(*revision))?)
        }
    })
}

/// A host is silent if it was never heard, or not since; one that has left is not.
const SILENT: &str = "(gone = 0 AND coalesce(last_seen_ms, -1) < :before)";

fn hosts(
    db: &Connection,
    before: i64,
    silent_only: bool,
    after: Option<&str>,
) -> rusqlite::Result<HostsPage> {
    let sql = format!(
        "SELECT name, first_seen_ms, last_seen_ms, {SILENT} AS silent, held, applied, version,
             last_result, CASE poll_error WHEN '' THEN run_error ELSE poll_error END AS last_error,
             clock_skew_ms, address
         FROM hosts WHERE gone = 0 AND name > :after AND (silent OR NOT :silent_only)
         ORDER BY name LIMIT :limit"
    );
    let hosts: Vec<HostRow> = db
        .prepare_cached(&sql)?
        .query_map(
            named_params! {
                ":before": before,
                ":after": after.unwrap_or(""),
                ":silent_only": silent_only,
                ":limit": HOSTS_PAGE as i64,
            },
            |row| {
                Ok(HostRow {
                    name: row.get("name")?,
                    first_seen_ms: optional(row, "first_seen_ms")?,
                    last_seen_ms: optional(row, "last_seen_ms")?,
                    silent: row.get("silent")?,
                    held: optional(row, "held")?,
                    applied: optional(row, "applied")?,
                    version: row.get("version")?,
                    last_result: row.get("last_result")?,
                    last_error: row.get("last_error")?,
                    clock_skew_ms: row.get("clock_skew_ms")?,
                    address: row.get("address")?,
                })
            },
        )?
        .collect::<rusqlite::Result<_>>()?;
    let next = hosts.last().filter(|_| hosts.len() == HOSTS_PAGE).map(|h| h.name.clone());
    Ok(HostsPage { hosts, next })
}

/// A list shows the beginning of a note, and one run all of it.
fn report_columns(note: &str) -> String {
    let (stopped, superseded) = (cut::STOPPED, cut::SUPERSEDED);
    format!(
        "SELECT reports.id, hosts.name AS host, epoch, seq, arrived_ms, started_ms, revision,
             trigger, duration_us, busy_us, checked, changed, failed, skipped, interrupted,
             CASE WHEN failed > 0 THEN 'failed'
                 WHEN interrupted > 0 OR instr(note, '{stopped}') OR instr(note, '{superseded}')
                     THEN 'cut short'
                 WHEN checked = 0 AND note <> '' THEN 'not applied'
                 ELSE 'done' END AS result,
             {note} AS note
         FROM reports JOIN streams ON streams.id = reports.stream
         JOIN hosts ON hosts.id = streams.host"
    )
}

fn report_row(row: &Row<'_>) -> rusqlite::Result<ReportRow> {
    Ok(ReportRow {
        id: row.get("id")?,
        host: row.get("host")?,
        epoch: number(row, "epoch")?,
        seq: number(row, "seq")?,
        arrived_ms: number(row, "arrived_ms")?,
        started_ms: number(row, "started_ms")?,
        revision: number(row, "revision")?,
        trigger: trigger_name(row.get("trigger")?).to_owned(),
        duration_us: number(row, "duration_us")?,
        busy_us: number(row, "busy_us")?,
        checked: row.get("checked")?,
        changed: row.get("changed")?,
        failed: row.get("failed")?,
        skipped: row.get("skipped")?,
        interrupted: row.get("interrupted")?,
        result: row.get("result")?,
        note: row.get("note")?,
    })
}

fn is_known(db: &Connection, host: &str) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM hosts WHERE name = ?1")?.exists([host])
}

fn reports(db: &Connection, args: &ReportsArgs) -> rusqlite::Result<Vec<ReportRow>> {
    let mut sql = report_columns("substr(note, 1, 200)");
    sql += " WHERE arrived_ms >= :since";
    if args.failed {
        sql += " AND result <> 'done'";
    }
    // One host's runs stand in the order in which they ended, by its own clock and numbers, all
    // others in that of arrival.
    sql += match args.host {
        Some(_) => {
            " AND hosts.name = :host
              ORDER BY started_ms + duration_us / 1000 DESC, reports.stream DESC, seq DESC"
        }
        None => " AND :host IS NULL ORDER BY reports.id DESC",
    };
    sql += " LIMIT :limit";
    db.prepare_cached(&sql)?
        .query_map(
            named_params! {
                ":since": clamp(args.since_ms.unwrap_or(0)),
                ":host": args.host,
                ":limit": args.limit.min(REPORTS_MAX),
            },
            report_row,
        )?
        .collect()
}

fn report(db: &Connection, id: i64) -> rusqlite::Result<Option<ReportDetail>> {
    let sql = report_columns("note") + " WHERE reports.id = ?1";
    let Some(report) = db.prepare_cached(&sql)?.query_row([id], report_row).optional()? else {
        return Ok(None);
    };
    let shown = |result: ResourceResult| ResultRow {
        resource: lossy(&result.id),
        outcome: outcome::name(result.outcome).to_owned(),
        before: result.before,
        after: result.after,
        error: result.error,
        duration_us: result.duration_us,
        output: lossy(&result.output),
    };
    let results = results(db, id)?.into_iter().map(shown).collect();
    Ok(Some(ReportDetail { report, results }))
}

/// What became of the resources of a report, in its own order.
const RESULTS: &str = "SELECT resource, outcome, before, after, error, duration_us, output
     FROM results WHERE report = ?1 ORDER BY place";

fn ids(db: &Connection, after: Option<i64>) -> rusqlite::Result<IdsPage> {
    let rows: Vec<(i64, StoredId)> = db
        .prepare_cached(
            "SELECT reports.id, hosts.name, epoch, seq, started_ms, revision, trigger,
                 duration_us, busy_us, checked, note
             FROM reports JOIN streams ON streams.id = reports.stream
             JOIN hosts ON hosts.id = streams.host
             WHERE reports.id > ?1 ORDER BY reports.id LIMIT ?2",
        )?
        .query_map([after.unwrap_or(0), IDS_PAGE as i64], |row| {
            let id = row.get("id")?;
            let stored = StoredId {
                name: row.get("name")?,
                epoch: number(row, "epoch")?,
                seq: number(row, "seq")?,
                digest: Some(as_sent(row, results(db, id)?)?.digest()),
            };
            Ok((id, stored))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let next = rows.last().filter(|_| rows.len() == IDS_PAGE).map(|(id, _)| *id);
    Ok(IdsPage { ids: rows.into_iter().map(|(_, id)| id).collect(), next })
}

/// The report as its host sent it, put together again from the columns.
fn as_sent(row: &Row<'_>, results: Vec<ResourceResult>) -> rusqlite::Result<Report> {
    Ok(Report {
        revision: number(row, "revision")?,
        trigger: row.get("trigger")?,
        started_ms: number(row, "started_ms")?,
        duration_us: number(row, "duration_us")?,
        busy_us: number(row, "busy_us")?,
        checked: row.get("checked")?,
        results,
        note: text(row, "note")?,
    })
}

fn results(db: &Connection, report: i64) -> rusqlite::Result<Vec<ResourceResult>> {
    db.prepare_cached(RESULTS)?
        .query_map([report], |row| {
            Ok(ResourceResult {
                id: bytes(row, "resource")?,
                outcome: row.get("outcome")?,
                before: text(row, "before")?,
                after: text(row, "after")?,
                error: text(row, "error")?,
                duration_us: number(row, "duration_us")?,
                output: bytes(row, "output")?,
            })
        })?
        .collect()
}

fn counts(db: &Connection, before: i64, revision: i64) -> rusqlite::Result<HostCounts> {
    let sql = format!(
        "SELECT count(*) AS known, coalesce(sum(applied >= :revision), 0) AS current,
             coalesce(sum({SILENT}), 0) AS silent, (SELECT count(*) FROM quarantine) AS quarantined
         FROM hosts WHERE gone = 0"
    );
    let mut counts = db.prepare_cached(&sql)?.query_row(
        named_params! {":before": before, ":revision": revision},
        |row| {
            Ok(HostCounts {
                known: number(row, "known")?,
                current: number(row, "current")?,
                silent: number(row, "silent")?,
                quarantined: number(row, "quarantined")?,
                ..HostCounts::default()
            })
        },
    )?;
    counts.skewed = db
        .prepare_cached(
            "SELECT name, clock_skew_ms FROM hosts
             WHERE gone = 0 AND (clock_skew_ms > ?1 OR clock_skew_ms < -?1)
             ORDER BY max(clock_skew_ms, -clock_skew_ms) DESC LIMIT 20",
        )?
        .query_map([SKEW_MAX_MS], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    counts.conflicts = db
        .prepare_cached(
            "SELECT name, expected, found, count, last_ms FROM conflicts
             ORDER BY last_ms DESC, name LIMIT ?1",
        )?
        .query_map([CONFLICTS_MAX], |row| {
            Ok(Conflict {
                name: row.get("name")?,
                expected: row.get("expected")?,
                found: row.get("found")?,
                count: number(row, "count")?,
                last_ms: number(row, "last_ms")?,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    Ok(counts)
}

fn number(row: &Row<'_>, column: &str) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

fn optional(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(i64::cast_unsigned))
}

fn bytes(row: &Row<'_>, column: &str) -> rusqlite::Result<Vec<u8>> {
    Ok(row.get_ref(column)?.as_bytes()?.to_vec())
}

/// A text; one that was damaged is still read, so that it can be shown, and told by its digest.
fn text(row: &Row<'_>, column: &str) -> rusqlite::Result<String> {
    Ok(lossy(&bytes(row, column)?))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn trigger_name(number: u8) -> &'static str {
    match number {
        trigger::ASSIGNMENT => "assignment",
        trigger::DRIFT => "drift",
        trigger::INTERVAL => "interval",
        trigger::COMMAND => "command",
        trigger::START => "start",
        _ => "unknown",
    }
}
