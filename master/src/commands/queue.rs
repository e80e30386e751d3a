//! `drover queue stat`, `drover queue dump` and `drover queue verify`.

use super::{Context, Exit, Failure, ProgressLine, print_json};
use crate::control::{DamagedRecord, QueuePage, QueueRecord, QueueStat, QueueVerified};
use crate::daemon;
use crate::table::words::{ago, printable, size, utc};
use crate::table::{Cell, Paint, Table};
use engine::queue::lmdb;
use engine::queue::store::{Record, StoreError};
use engine::time::WallMs;
use engine::wire::Frame;
use std::io::Write;
use std::path::Path;

/// Prints how full the inbox is; its owner may be running.
///
/// # Errors
/// There is no inbox, or it cannot be read.
pub fn stat(context: &Context, now: WallMs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let config = context.config()?;
    let dir = daemon::inbox_dir(&config.state_dir);
    let stat = lmdb::stat(&dir).map_err(|error| unreadable(&dir, &error))?;
    let stat = QueueStat {
        path: dir.display().to_string(),
        epoch: stat.epoch,
        records: stat.records,
        bytes: stat.bytes,
        first: stat.first,
        next: stat.next,
        oldest_ms: stat.oldest.map(|at| at.0),
        bytes_high: config.inbox_bytes_high,
        quota_bytes: config.queue_quota_bytes,
        quarantined: stat.quarantined,
    };
    if context.json {
        print_json(out, &stat)?;
    } else {
        out.write_all(render_stat(&stat, now, context.paint).as_bytes())?;
    }
    Ok(Exit::Done)
}

fn unreadable(dir: &Path, error: &StoreError) -> Failure {
    // What is there and damaged has its remedy in its own words.
    let hint = match dir.join("data.mdb").exists() {
        true => "",
        false => "the master makes its inbox when it first starts; is state_dir the right one?",
    };
    Failure { error: error.to_string(), hint: hint.to_owned(), exit: Exit::Failed }
}

fn row(record: &Record, reason: Option<String>) -> QueueRecord {
    let frame = Frame::parse(&record.frame).ok();
    let origin = frame.and_then(|frame| frame.route().ok()?.origin().ok());
    QueueRecord {
        seq: record.seq,
        arrived_ms: record.arrived.0,
        kind: frame.map_or_else(|| "damaged".to_owned(), |frame| frame.header.kind.to_string()),
        origin: origin.as_ref().map_or_else(String::new, |origin| origin.name.to_string()),
        origin_epoch: origin.as_ref().map_or(0, |origin| origin.epoch.0),
        origin_seq: origin.as_ref().map_or(0, |origin| origin.seq),
        bytes: record.frame.len() as u64,
        reason,
    }
}

/// Prints what is in the inbox, or was set aside from it as damaged: at most `records_max` from
/// a log number on.
///
/// # Errors
/// There is no inbox, or it cannot be read.
pub fn dump(
    context: &Context,
    quarantined: bool,
    from: u64,
    records_max: usize,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let dir = daemon::inbox_dir(&context.config()?.state_dir);
    let mut page = QueuePage::default();
    lmdb::dump(&dir, quarantined, from, |record, reason| {
        let room = page.records.len() < records_max;
        if room {
            page.records.push(row(&record, reason));
        } else {
            page.next = Some(record.seq);
        }
        room
    })
    .map_err(|error| unreadable(&dir, &error))?;
    if context.json {
        print_json(out, &page)?;
    } else {
        out.write_all(render_dump(&page.records, context.paint).as_bytes())?;
    }
    Ok(Exit::Done)
}

/// Reads all of the inbox, and says whether it is sound. Its owner may be running.
///
/// # Errors
/// There is no inbox, or the pages of its file are damaged.
pub fn verify(context: &Context, out: &mut dyn Write) -> Result<Exit, Failure> {
    let dir = daemon::inbox_dir(&context.config()?.state_dir);
    let mut line = ProgressLine::new(context);
    let found = lmdb::verify(&dir, |records| {
        if records.is_multiple_of(1 << 14) {
            line.show(&format!("{records} records read"));
        }
    });
    line.clear();
    let found = found.map_err(|error| unreadable(&dir, &error))?;
    let damaged = |(seq, reason)| DamagedRecord { seq, reason };
    let found = QueueVerified {
        path: dir.display().to_string(),
        pages_checked: found.pages_checked,
        records: found.records,
        bytes: found.bytes,
        damaged: found.damaged,
        damaged_first: found.damaged_first.into_iter().map(damaged).collect(),
        quarantined: found.quarantined,
    };
    if context.json {
        print_json(out, &found)?;
    } else {
        out.write_all(render_verified(&found, context.paint).as_bytes())?;
    }
    Ok(if found.damaged == 0 { Exit::Done } else { Exit::Failed })
}

fn render_verified(found: &QueueVerified, paint: Paint) -> String {
    let mut table = Table::new(&["INBOX", ""]);
    let mut line = |key: &str, value: String| table.row([key.into(), value.into()]);
    line("path", found.path.clone());
    line(
        "pages",
        match found.pages_checked {
            true => "sound",
            false => "not looked over, since the master runs: it did so at its start",
        }
        .to_owned(),
    );
    let whole = match found.damaged {
        0 => "all whole".to_owned(),
        n => format!("{n} damaged: the master sets each aside when it comes to it"),
    };
    line("records", format!("{} of {}, {whole}", found.records, size(found.bytes)));
    line("quarantined", found.quarantined.to_string());
    let damaged = found
        .damaged_first
        .iter()
        .map(|record| format!("{}: {}\n", record.seq, printable(&record.reason)));
    let damaged: String = damaged.collect();
    let more = found.damaged - found.damaged_first.len() as u64;
    let more = if more > 0 { format!("and {more} more\n") } else { String::new() };
    format!("{}{damaged}{more}", table.render(paint))
}

fn render_stat(stat: &QueueStat, now: WallMs, paint: Paint) -> String {
    let mut table = Table::new(&["INBOX", ""]);
    let mut line = |key: &str, value: String| table.row([key.into(), value.into()]);
    line("path", stat.path.clone());
    line("epoch", format!("{:016x}", stat.epoch));
    line("records", stat.records.to_string());
    line("log numbers", format!("{} up to {}, exclusive", stat.first, stat.next));
    if stat.oldest_ms.is_some() {
        line("oldest", ago(stat.oldest_ms, now));
    }
    line(
        "bytes",
        format!(
            "{}; senders wait at {}; quota {}",
            size(stat.bytes),
            size(stat.bytes_high),
            size(stat.quota_bytes)
        ),
    );
    line("quarantined", stat.quarantined.to_string());
    table.render(paint)
}

fn render_dump(records: &[QueueRecord], paint: Paint) -> String {
    let mut table =
        Table::new(&[">NUMBER", "ARRIVED", "KIND", "ORIGIN", "EPOCH", ">SEQ", ">BYTES"]);
    for record in records {
        table.row([
            record.seq.into(),
            utc(record.arrived_ms).into(),
            Cell::from(&record.kind),
            Cell::from(&record.origin),
            format!("{:016x}", record.origin_epoch).into(),
            record.origin_seq.into(),
            record.bytes.into(),
        ]);
    }
    let reasons = records.iter().filter_map(|record| {
        let reason = printable(record.reason.as_ref()?);
        Some(format!("{}: {reason}\n", record.seq))
    });
    let reasons: String = reasons.collect();
    format!("{}{reasons}{} records\n", table.render(paint), records.len())
}
