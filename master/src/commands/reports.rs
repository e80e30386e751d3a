//! `drover reports`, `drover report ID` and `drover ids`.

use super::{Context, Exit, Failure, print_json};
use crate::control::{
    IdsArgs, IdsPage, ReportArgs, ReportDetail, ReportRow, ReportsArgs, ReportsPage, verb,
};
use crate::table::words::{duration_us, plural, printable, utc};
use crate::table::{Cell, Paint, Table, Tone};
use std::fmt::Write as _;
use std::io::{self, Write};

/// Prints runs, newest first.
///
/// # Errors
/// No answer from the daemon.
pub fn list(context: &Context, args: &ReportsArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let page: ReportsPage = context.ask(verb::REPORTS, args)?;
    if context.json {
        print_json(out, &page)?;
    } else {
        out.write_all(render_list(&page.reports, context.paint).as_bytes())?;
    }
    Ok(Exit::Done)
}

/// Prints one run with what became of each resource.
///
/// # Errors
/// No answer from the daemon, or no such run.
pub fn one(context: &Context, id: i64, out: &mut dyn Write) -> Result<Exit, Failure> {
    let detail: ReportDetail = context.ask(verb::REPORT, &ReportArgs { id })?;
    if context.json {
        print_json(out, &detail)?;
    } else {
        out.write_all(render_one(&detail, context.paint).as_bytes())?;
    }
    Ok(Exit::Done)
}

/// Prints the ids of all stored reports, in the order in which they were stored: one a line, or
/// as one object, page by page, since there may be millions.
///
/// # Errors
/// No answer from the daemon.
pub fn ids(context: &Context, out: &mut dyn Write) -> Result<Exit, Failure> {
    let mut args = IdsArgs::default();
    let mut before = "{\"ids\":[";
    loop {
        let page: IdsPage = context.ask(verb::IDS, &args)?;
        for id in &page.ids {
            if context.json {
                out.write_all(std::mem::replace(&mut before, ",").as_bytes())?;
                serde_json::to_writer(&mut *out, id).map_err(io::Error::from)?;
            } else {
                writeln!(out, "{} {:016x} {}", id.name, id.epoch, id.seq)?;
            }
        }
        args.after = page.next;
        if args.after.is_none() {
            break;
        }
    }
    if context.json {
        let rest = if before == "," { "" } else { before };
        writeln!(out, "{rest}]}}")?;
    }
    Ok(Exit::Done)
}

fn tone_of(result: &str) -> Tone {
    match result {
        "done" => Tone::Good,
        "cut short" => Tone::Warn,
        _ => Tone::Bad,
    }
}

/// Runs for people.
#[must_use]
pub fn render_list(reports: &[ReportRow], paint: Paint) -> String {
    let mut table = Table::new(&[
        ">ID",
        "ARRIVED",
        "HOST",
        ">REVISION",
        "TRIGGER",
        "RESULT",
        ">TOOK",
        ">CHECKED",
        ">CHANGED",
        ">FAILED",
        ">SKIPPED",
        ">INTERRUPTED",
        "NOTE",
    ]);
    for run in reports {
        let count =
            |n: u32, tone: Tone| Cell::new(n.to_string(), if n > 0 { tone } else { Tone::Dim });
        table.row([
            run.id.into(),
            utc(run.arrived_ms).into(),
            Cell::from(&run.host),
            run.revision.into(),
            Cell::from(&run.trigger),
            Cell::new(run.result.clone(), tone_of(&run.result)),
            duration_us(run.duration_us).into(),
            run.checked.into(),
            count(run.changed, Tone::Good),
            count(run.failed, Tone::Bad),
            count(run.skipped, Tone::Warn),
            count(run.interrupted, Tone::Bad),
            Cell::from(&run.note),
        ]);
    }
    let count = plural(reports.len() as u64, "report", "reports");
    format!("{}{count}\n", table.render(paint))
}

/// One run for people.
#[must_use]
pub fn render_one(detail: &ReportDetail, paint: Paint) -> String {
    let mut text = render_list(std::slice::from_ref(&detail.report), paint);
    text.truncate(text.trim_end().rfind('\n').map_or(0, |end| end + 1));
    for result in &detail.results {
        let tone = match result.outcome.as_str() {
            "changed" => Tone::Good,
            "skipped" => Tone::Warn,
            _ => Tone::Bad,
        };
        let _ = writeln!(
            text,
            "\n{} {} ({})",
            paint.paint(tone, &result.outcome),
            printable(&result.resource),
            duration_us(result.duration_us)
        );
        for (key, value) in
            [("before", &result.before), ("after", &result.after), ("error", &result.error)]
        {
            if !value.is_empty() {
                let _ = writeln!(text, "  {key:<6} {}", printable(value));
            }
        }
        for line in result.output.lines() {
            let _ = writeln!(text, "  | {}", printable(line));
        }
    }
    text
}
