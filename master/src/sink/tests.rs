use super::*;
use crate::control::{ReportRow, ReportsArgs, StoredId};
use engine::ids::{Epoch, Origin};
use engine::wire::message::{Poll, Report, ResourceResult, cut, outcome, trigger};
use engine::wire::{FrameBuf, Kind, RouteBuf};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

mod damage;
mod killed;
mod threads;

const INBOX: Epoch = Epoch(0xfeed);

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

fn origin(name: &str, epoch: u64, seq: u64) -> Origin {
    Origin { name: host(name), epoch: Epoch(epoch), seq }
}

fn result(id: &str, outcome: u8, error: &str) -> ResourceResult {
    ResourceResult {
        id: id.into(),
        outcome,
        before: "mode 0600".to_owned(),
        after: "mode 0644".to_owned(),
        error: error.to_owned(),
        duration_us: 1234,
        output: b"printed \xff".to_vec(),
    }
}

fn report(results: Vec<ResourceResult>) -> Report {
    Report {
        revision: 7,
        trigger: trigger::DRIFT,
        started_ms: 1000,
        duration_us: 5000,
        busy_us: 4000,
        checked: 12,
        results,
        note: "a note".to_owned(),
    }
}

fn record(log_number: u64, origin: Origin, report: &Report) -> Record {
    let frame = FrameBuf::message(Some(&RouteBuf::from(origin)), report, |_| ());
    Record { seq: log_number, arrived: WallMs(10_000 + log_number), frame: frame.to_vec() }
}

/// Records `from..to` of the inbox: three hosts in turn, each with ascending numbers.
fn records(from: u64, to: u64) -> Vec<Record> {
    let changed = report(vec![result("file /etc/motd", outcome::CHANGED, "")]);
    (from..to)
        .map(|n| record(n, origin(&format!("web{}", n % 3), u64::MAX - n % 3, n / 3), &changed))
        .collect()
}

fn stored_id(record: &Record) -> StoredId {
    let frame = engine::wire::Frame::parse(&record.frame).unwrap();
    let origin = frame.route().unwrap().origin().unwrap();
    let report: Report = engine::release::decode(frame.body()).unwrap();
    StoredId {
        name: origin.name.to_string(),
        epoch: origin.epoch.0,
        seq: origin.seq,
        digest: Some(report.digest()),
    }
}

fn open(path: &Path) -> SqliteSink {
    SqliteSink::open(path, INBOX, SinkOptions::default()).unwrap()
}

fn all_ids(sink: &mut impl Sink) -> Vec<StoredId> {
    let mut ids = Vec::new();
    let mut after = None;
    loop {
        let Answer::Ids(page) = sink.query(&Query::Ids { after }).unwrap() else { panic!() };
        ids.extend(page.ids);
        after = page.next;
        if after.is_none() {
            return ids;
        }
    }
}

fn reports(sink: &mut impl Sink, args: ReportsArgs) -> Vec<ReportRow> {
    let Answer::Reports(page) = sink.query(&Query::Reports(args)).unwrap() else { panic!() };
    page.reports
}

fn hosts(sink: &mut impl Sink, silent_before: u64, silent_only: bool) -> HostsPage {
    let silent_before = WallMs(silent_before);
    let query = Query::Hosts { silent_before, silent_only, after: None };
    let Answer::Hosts(page) = sink.query(&query).unwrap() else { panic!() };
    page
}

use crate::control::HostsPage;

fn counts(sink: &mut impl Sink, silent_before: u64, revision: u64) -> HostCounts {
    let query = Query::Counts { silent_before: WallMs(silent_before), revision };
    let Answer::Counts(counts) = sink.query(&query).unwrap() else { panic!() };
    counts
}

#[test]
fn s1_26_duplicates_are_removed_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("results.sqlite");
    let batch = records(0, 30);
    let mut sink = open(&path);
    assert_eq!(sink.cursor(), None);
    let first = sink.append(&batch).unwrap();
    assert_eq!(first, Appended { upto: 29, stored: 30, ..Appended::default() });
    drop(sink);
    let mut sink = open(&path);
    assert_eq!(sink.cursor(), Some(29));
    let again = sink.append(&batch[10..]).unwrap();
    assert_eq!(again, Appended { upto: 29, duplicates: 20, ..Appended::default() });
    let wanted: Vec<StoredId> = batch.iter().map(stored_id).collect();
    assert_eq!(all_ids(&mut sink), wanted);
}

/// The digest is of what lies in the columns: whoever changes one of them is found out.
#[test]
fn each_column_of_a_stored_report_counts_in_its_digest() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(&dir.path().join("results.sqlite"));
    let record = records(0, 1).remove(0);
    sink.append(std::slice::from_ref(&record)).unwrap();
    let whole = stored_id(&record).digest;
    assert_eq!(all_ids(&mut sink)[0].digest, whole);
    for change in [
        "UPDATE reports SET started_ms = started_ms + 1",
        "UPDATE reports SET revision = revision + 1",
        "UPDATE reports SET trigger = trigger + 1",
        "UPDATE reports SET duration_us = duration_us + 1",
        "UPDATE reports SET busy_us = busy_us + 1",
        "UPDATE reports SET checked = checked + 1",
        "UPDATE reports SET note = 'A note'",
        "DELETE FROM results",
        "UPDATE results SET resource = x'00'",
        "UPDATE results SET outcome = outcome + 1",
        "UPDATE results SET before = before || ' '",
        "UPDATE results SET after = cast(x'ff' AS TEXT)",
        "UPDATE results SET error = 'x'",
        "UPDATE results SET duration_us = duration_us + 1",
        "UPDATE results SET output = x'00'",
    ] {
        sink.db.execute_batch(&format!("SAVEPOINT whole; {change}")).unwrap();
        assert_ne!(all_ids(&mut sink)[0].digest, whole, "{change}");
        sink.db.execute_batch("ROLLBACK TO whole; RELEASE whole").unwrap();
    }
    assert_eq!(all_ids(&mut sink)[0].digest, whole);
}

#[test]
fn s1_26_random_batches_restarts_and_repetitions_store_each_report_once() {
    for seed in 0..8 {
        println!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.sqlite");
        let mut sink = open(&path);
        let all = records(0, 200);
        // What the inbox would offer after a crash: from anywhere before the cursor on.
        let mut upto = 0;
        while upto < all.len() {
            let from = rng.usize(0..=upto);
            let to = rng.usize(from..=all.len());
            sink.append(&all[from..to]).unwrap();
            upto = upto.max(to);
            if rng.u8(0..4) == 0 {
                drop(sink);
                sink = open(&path);
            }
        }
        let stored = all_ids(&mut sink);
        let distinct: BTreeSet<_> = stored.iter().cloned().collect();
        assert_eq!(distinct.len(), stored.len(), "stored twice");
        assert_eq!(distinct, all.iter().map(stored_id).collect());
        assert_eq!(sink.cursor(), Some(199));
    }
}

#[test]
fn an_inbox_that_began_anew_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("results.sqlite");
    open(&path).append(&records(0, 300)).unwrap();
    // The queue was moved away: its numbers begin at 0 again, far below the old cursor.
    let mut sink = SqliteSink::open(&path, Epoch(1), SinkOptions::default()).unwrap();
    assert_eq!(sink.cursor(), None);
    let new = record(0, origin("db1", 5, 0), &report(vec![]));
    assert_eq!(sink.append(&[new]).unwrap().stored, 1);
    assert_eq!(sink.cursor(), Some(0));
    assert_eq!(open(&path).cursor(), Some(299));
}

#[test]
fn s1_59_every_result_keeps_all_that_was_reported() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(&dir.path().join("results.sqlite"));
    let results = vec![
        result("file /etc/motd", outcome::CHANGED, ""),
        result("exec check", outcome::FAILED, "exit status 3"),
        result("file /a", outcome::SKIPPED, "requires exec check"),
        result("file /b", outcome::INTERRUPTED, ""),
        result("file /c", 99, "of a later version"),
    ];
    sink.append(&[record(1, origin("web1", 3, 9), &report(results))]).unwrap();
    let rows = reports(&mut sink, ReportsArgs::default());
    let row = ReportRow {
        id: rows[0].id,
        host: "web1".to_owned(),
        epoch: 3,
        seq: 9,
        arrived_ms: 10_001,
        started_ms: 1000,
        revision: 7,
        trigger: "drift".to_owned(),
        duration_us: 5000,
        busy_us: 4000,
        checked: 12,
        changed: 1,
        failed: 2,
        skipped: 1,
        interrupted: 1,
        result: "failed".to_owned(),
        note: "a note".to_owned(),
    };
    assert_eq!(rows, std::slice::from_ref(&row));
    let Answer::Report(Some(detail)) = sink.query(&Query::Report { id: row.id }).unwrap() else {
        panic!()
    };
    assert_eq!(detail.report, row);
    let outcomes: Vec<&str> = detail.results.iter().map(|r| r.outcome.as_str()).collect();
    assert_eq!(outcomes, ["changed", "failed", "skipped", "interrupted", "unknown"]);
    let failed = &detail.results[1];
    assert_eq!(failed.resource, "exec check");
    assert_eq!(failed.error, "exit status 3");
    assert_eq!((failed.before.as_str(), failed.after.as_str()), ("mode 0600", "mode 0644"));
    assert_eq!((failed.duration_us, failed.output.as_str()), (1234, "printed \u{fffd}"));
    assert_eq!(sink.query(&Query::Report { id: 999 }).unwrap(), Answer::Report(None));
}

#[test]
fn reports_are_found_by_host_failure_and_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(&dir.path().join("results.sqlite"));
    let bad = report(vec![result("exec check", outcome::FAILED, "no")]);
    let good = report(vec![]);
    // The host's own order is 1, 2, 3, whatever the order of arrival.
    let batch = [
        record(0, origin("web1", 4, 2), &good),
        record(1, origin("web1", 4, 1), &bad),
        record(2, origin("web2", 4, 1), &good),
        record(3, origin("web1", 4, 3), &good),
    ];
    sink.append(&batch).unwrap();
    let seqs = |sink: &mut SqliteSink, args| -> Vec<(String, u64)> {
        reports(sink, args).into_iter().map(|r| (r.host, r.seq)).collect()
    };
    let row = |name: &str, seq| (name.to_owned(), seq);
    let web1 = Some("web1".to_owned());
    assert_eq!(
        seqs(&mut sink, ReportsArgs { host: web1.clone(), ..Default::default() }),
        [row("web1", 3), row("web1", 2), row("web1", 1)]
    );
    assert_eq!(
        seqs(&mut sink, ReportsArgs { failed: true, ..Default::default() }),
        [row("web1", 1)]
    );
    assert_eq!(
        seqs(&mut sink, ReportsArgs { since_ms: Some(10_002), ..Default::default() }),
        [row("web1", 3), row("web2", 1)]
    );
    assert_eq!(
        seqs(&mut sink, ReportsArgs { host: web1, limit: 1, ..Default::default() }),
        [row("web1", 3)]
    );
    // A run that others began and ended beside was told last.
    let long = Report { started_ms: 1, duration_us: 30_000_000, ..good };
    sink.append(&[record(4, origin("web1", 4, 4), &long)]).unwrap();
    assert_eq!(
        seqs(
            &mut sink,
            ReportsArgs { host: Some("web1".to_owned()), limit: 1, ..Default::default() }
        ),
        [row("web1", 4)]
    );
    // The host's row speaks of its newest run, not of the one that came last but one.
    let page = hosts(&mut sink, 0, false);
    assert_eq!(page.hosts[0].last_result.as_deref(), Some("12 checked"));
    assert_eq!(page.hosts[0].last_error, "");
}

#[test]
fn what_came_of_a_run_is_told_in_one_word() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(&dir.path().join("results.sqlite"));
    let noted = |checked, note: String, results| Report { checked, note, ..report(results) };
    let left = "3 resources were not looked at";
    let stopped = format!("{}{left}", cut::STOPPED);
    let fought = format!("something fights over file /f; {}{left}", cut::SUPERSEDED);
    let runs = [
        (noted(9, "a note".to_owned(), vec![]), "done", "9 checked"),
        (noted(0, stopped.clone(), vec![]), "cut short", "cut short"),
        (
            noted(4, fought, vec![result("file /f", outcome::CHANGED, "")]),
            "cut short",
            "1 changed, cut short",
        ),
        (
            noted(4, String::new(), vec![result("exec e", outcome::INTERRUPTED, "")]),
            "cut short",
            "1 interrupted",
        ),
        (
            noted(4, stopped, vec![result("exec e", outcome::FAILED, "no")]),
            "failed",
            "1 failed, cut short",
        ),
        (noted(0, "it expired".to_owned(), vec![]), "not applied", "nothing applied"),
    ];
    for (n, (run, _, last)) in (1..).zip(&runs) {
        sink.append(&[record(n, origin("web1", 4, n), run)]).unwrap();
        let page = hosts(&mut sink, 0, false);
        assert_eq!(page.hosts[0].last_result.as_deref(), Some(*last));
    }
    let told = |sink: &mut SqliteSink, failed| {
        let rows = reports(sink, ReportsArgs { failed, ..Default::default() });
        rows.into_iter().rev().map(|row| row.result).collect::<Vec<_>>()
    };
    let all: Vec<&str> = runs.iter().map(|run| run.1).collect();
    assert_eq!(told(&mut sink, false), all);
    assert_eq!(told(&mut sink, true), all[1..]);
}

#[test]
fn an_earlier_incarnation_that_comes_back_speaks_for_its_host() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(&dir.path().join("results.sqlite"));
    let (good, bad) = (report(vec![]), report(vec![result("exec check", outcome::FAILED, "no")]));
    let last = |sink: &mut SqliteSink| hosts(sink, 0, false).hosts[0].last_result.clone();
    sink.append(&[record(0, origin("web1", 4, 1), &good)]).unwrap();
    sink.append(&[record(1, origin("web1", 5, 1), &good)]).unwrap();
    sink.append(&[record(2, origin("web1", 4, 3), &bad)]).unwrap();
    assert_eq!(last(&mut sink).as_deref(), Some("1 failed"));
    // Out of order within its incarnation: it is not the newest.
    sink.append(&[record(3, origin("web1", 4, 2), &good)]).unwrap();
    assert_eq!(last(&mut sink).as_deref(), Some("1 failed"));
}

#[test]
fn s2_25_silent_hosts_are_listed_with_their_last_words() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(&dir.path().join("results.sqlite"));
    let mut updates = HostUpdates::default();
    let heard = |at| HostUpdate { seen: Some(WallMs(at)), ..HostUpdate::default() };
    updates.host(host("never"), HostUpdate::default());
    updates.host(host("fresh"), heard(900));
    updates.host(host("stale"), heard(100));
    updates.host(host("left"), HostUpdate { gone: Some(true), ..heard(100) });
    sink.update_hosts(&updates).unwrap();
    let bad = report(vec![result("exec check", outcome::FAILED, "exit status 3")]);
    let mut late = record(0, origin("failing", 1, 1), &bad);
    late.arrived = WallMs(200);
    sink.append(&[late]).unwrap();

    let page = hosts(&mut sink, 500, true);
    let names: Vec<&str> = page.hosts.iter().map(|h| h.name.as_str()).collect();
    assert_eq!(names, ["failing", "never", "stale"]);
    let failing = &page.hosts[0];
    assert_eq!(failing.last_seen_ms, Some(200));
    assert_eq!(failing.last_result.as_deref(), Some("1 failed"));
    assert_eq!(failing.last_error, "exec check: exit status 3");
    assert_eq!(page.hosts[1].last_seen_ms, None);
    assert_eq!(hosts(&mut sink, 500, false).hosts.len(), 4);
    let counted = counts(&mut sink, 500, 7);
    // A report may be of a run that was cut short: what was applied the polls tell.
    assert_eq!((counted.known, counted.silent, counted.current), (4, 3, 0));
    assert!(counted.warnings()[0].starts_with("3 hosts are silent"));

    // It speaks again, and is silent no more.
    let mut updates = HostUpdates::default();
    updates.host(host("stale"), HostUpdate { applied: Some(Revision(7)), ..heard(950) });
    sink.update_hosts(&updates).unwrap();
    assert_eq!(hosts(&mut sink, 500, true).hosts.len(), 2);
    assert_eq!(counts(&mut sink, 500, 7).current, 1);
}

#[test]
fn what_is_learned_of_a_host_leaves_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(&dir.path().join("results.sqlite"));
    let mut updates = HostUpdates::default();
    updates.host(
        host("web1"),
        HostUpdate {
            seen: Some(WallMs(100)),
            held: Some(Revision(3)),
            applied: Some(Revision(2)),
            version: Some("0.1.0".to_owned()),
            last_error: Some("x".repeat(5000)),
            clock_skew_ms: Some(-90_000),
            address: Some("127.0.0.9".parse().unwrap()),
            gone: None,
        },
    );
    sink.update_hosts(&updates).unwrap();
    let mut updates = HostUpdates::default();
    updates.host(host("web1"), HostUpdate { applied: Some(Revision(3)), ..Default::default() });
    let key = ConflictKey {
        expected: "127.0.0.9".parse().unwrap(),
        found: "127.0.0.10".parse().unwrap(),
    };
    updates.conflict(host("web1"), key, WallMs(50));
    updates.conflict(host("web1"), key, WallMs(60));
    sink.update_hosts(&updates).unwrap();

    let row = hosts(&mut sink, 0, false).hosts.remove(0);
    assert_eq!((row.held, row.applied, row.last_seen_ms), (Some(3), Some(3), Some(100)));
    assert_eq!(row.version.as_deref(), Some("0.1.0"));
    assert_eq!(row.address.as_deref(), Some("127.0.0.9"));
    assert_eq!(row.last_error.len(), 1000);
    let warnings = counts(&mut sink, 0, 3).warnings().join("\n");
    assert!(warnings.contains("the clock of web1 is 90 s behind"), "{warnings}");
    assert!(
        warnings.contains(
            "web1 has the address 127.0.0.9, and 2 messages in its name came from 127.0.0.10"
        ),
        "{warnings}"
    );
}

#[test]
fn old_reports_go_in_bounded_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(&dir.path().join("results.sqlite"));
    sink.append(&records(0, 50)).unwrap();
    // Arrivals are 10_000 to 10_049.
    assert_eq!(sink.prune(WallMs(10_030), 20).unwrap(), 20);
    assert_eq!(sink.prune(WallMs(10_030), 20).unwrap(), 10);
    assert_eq!(sink.prune(WallMs(10_030), 20).unwrap(), 0);
    assert_eq!(all_ids(&mut sink).len(), 20);
    let orphans: i64 = sink
        .db
        .query_row(
            "SELECT count(*) FROM results WHERE report NOT IN (SELECT id FROM reports)",
            [],
            |r| r.get(0),
        )
        .unwrap();
    assert_eq!(orphans, 0);
}

#[test]
fn a_hundred_thousand_ids_are_listed_in_pages() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = open(&dir.path().join("results.sqlite"));
    let bare = report(vec![]);
    for chunk in 0..20u64 {
        let batch: Vec<Record> = (chunk * 5000..(chunk + 1) * 5000)
            .map(|n| record(n, origin(&format!("h{}", n % 10_000), 1, n / 10_000), &bare))
            .collect();
        sink.append(&batch).unwrap();
    }
    let ids = all_ids(&mut sink);
    assert_eq!(ids.len(), 100_000);
    assert_eq!(ids.into_iter().collect::<BTreeSet<_>>().len(), 100_000);
    let mut names = Vec::new();
    let mut after = None;
    loop {
        let query = Query::Hosts { silent_before: WallMs(0), silent_only: false, after };
        let Answer::Hosts(page) = sink.query(&query).unwrap() else { panic!() };
        names.extend(page.hosts.into_iter().map(|h| h.name));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(names.len(), 10_000);
    assert!(names.is_sorted());
}
