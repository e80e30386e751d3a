//! `drover queue stat` and `drover queue dump`.

use super::{Context, Exit, Failure, print_json};
use crate::control::{NoArgs, QueueDumpArgs, QueuePage, QueueRecord, QueueStat, verb};
use crate::table::words::{ago, size, utc};
use crate::table::{Cell, Paint, Table};
use engine::time::WallMs;
use std::io::Write;

/// Prints how full the inbox is.
///
/// # Errors
/// No answer from the daemon.
pub fn stat(context: &Context, now: WallMs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let stat: QueueStat = context.ask(verb::QUEUE_STAT, &NoArgs {})?;
    if context.json {
        print_json(out, &stat)?;
    } else {
        out.write_all(render_stat(&stat, now, context.paint).as_bytes())?;
    }
    Ok(Exit::Done)
}

/// Prints what is in the inbox, at most `records_max` from a log number on.
///
/// # Errors
/// No answer from the daemon.
pub fn dump(
    context: &Context,
    mut args: QueueDumpArgs,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let mut all = QueuePage::default();
    loop {
        let page: QueuePage = context.ask(verb::QUEUE_DUMP, &args)?;
        args.records_max = args.records_max.saturating_sub(page.records.len());
        all.records.extend(page.records);
        match page.next {
            Some(next) if args.records_max > 0 => args.from = next,
            next => {
                all.next = next;
                break;
            }
        }
    }
    if context.json {
        print_json(out, &all)?;
    } else {
        out.write_all(render_dump(&all.records, context.paint).as_bytes())?;
    }
    Ok(Exit::Done)
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
    format!("{}{} records\n", table.render(paint), records.len())
}
