//! `drover hosts [--silent] [--failed]`.

use super::{Context, Exit, Failure, print_json};
use crate::control::{HostRow, HostsArgs, HostsPage, verb};
use crate::daemon::CLOCK_SKEW_MAX_MS;
use crate::table::words::{ago, plural, span};
use crate::table::{Cell, Paint, Table, Tone};
use engine::time::WallMs;
use std::io::Write;

/// Prints the hosts: all, only the silent ones, or only those with an error.
///
/// # Errors
/// No answer from the daemon.
pub fn run(
    context: &Context,
    silent: bool,
    failed: bool,
    now: WallMs,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let mut all = HostsPage::default();
    let mut args = HostsArgs { silent, after: None };
    loop {
        let page: HostsPage = context.ask(verb::HOSTS, &args)?;
        all.hosts.extend(page.hosts.into_iter().filter(|h| !failed || !h.last_error.is_empty()));
        args.after = page.next;
        if args.after.is_none() {
            break;
        }
    }
    if context.json {
        print_json(out, &all)?;
    } else {
        out.write_all(render(&all.hosts, now, context.paint).as_bytes())?;
    }
    Ok(Exit::Done)
}

/// How far a clock is off; expiry is judged by it.
fn clock(ahead_ms: Option<i64>) -> Cell {
    let Some(ahead_ms) = ahead_ms else { return Cell::from("-") };
    let off = ahead_ms.unsigned_abs();
    match off > CLOCK_SKEW_MAX_MS {
        false => Cell::from("ok"),
        true if ahead_ms > 0 => Cell::new(format!("{} ahead", span(off)), Tone::Bad),
        true => Cell::new(format!("{} behind", span(off)), Tone::Bad),
    }
}

/// Hosts for people.
#[must_use]
pub fn render(hosts: &[HostRow], now: WallMs, paint: Paint) -> String {
    let mut table = Table::new(&[
        "HOST",
        "LAST SEEN",
        ">HELD",
        ">APPLIED",
        "VERSION",
        "CLOCK",
        "LAST RUN",
        "LAST ERROR",
    ]);
    for host in hosts {
        let revision = |r: Option<u64>| r.map_or("-".to_owned(), |r| r.to_string());
        let behind = host.applied < host.held;
        table.row([
            Cell::from(&host.name),
            Cell::new(
                ago(host.last_seen_ms, now),
                if host.silent { Tone::Bad } else { Tone::Plain },
            ),
            Cell::from(revision(host.held)),
            Cell::new(revision(host.applied), if behind { Tone::Warn } else { Tone::Plain }),
            Cell::from(host.version.as_deref().unwrap_or("-")),
            clock(host.clock_skew_ms),
            Cell::from(host.last_result.as_deref().unwrap_or("-")),
            Cell::new(&host.last_error, Tone::Bad),
        ]);
    }
    let silent = hosts.iter().filter(|h| h.silent).count();
    let count = plural(hosts.len() as u64, "host", "hosts");
    let failed = hosts.iter().filter(|h| !h.last_error.is_empty()).count();
    format!("{}{count}, {silent} silent, {failed} with an error\n", table.render(paint))
}
