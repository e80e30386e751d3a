//! `drover status`.

use super::{Context, Exit, Failure, print_json};
use crate::control::{NoArgs, Status, verb};
use crate::table::words::{duration_us, printable, size, span, utc};
use crate::table::{Paint, Table, Tone};
use std::io::Write;

/// Prints how the daemon is; its counters too if they are asked for, and always as JSON.
///
/// # Errors
/// No answer from the daemon.
pub fn run(context: &Context, counters: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let status: Status = context.ask(verb::STATUS, &NoArgs {})?;
    if context.json {
        print_json(out, &status)?;
    } else {
        out.write_all(render(&status, counters, context.paint).as_bytes())?;
    }
    Ok(Exit::Done)
}

/// Of what is counted by its reason, people see what there was.
fn is_shown((name, count): &(&String, &u64)) -> bool {
    **count > 0 || !["closed_", "nacks_"].iter().any(|by_reason| name.starts_with(by_reason))
}

/// A status for people: first what to look at.
#[must_use]
pub fn render(status: &Status, counters: bool, paint: Paint) -> String {
    let mut table = Table::new(&["MASTER", ""]);
    let mut line = |key: &str, value: String| table.row([key.into(), value.into()]);
    line("name", status.name.clone());
    line("version", status.version.clone());
    line("up", span(status.uptime_ms));
    line(
        "revision",
        if status.revision == 0 {
            "none published yet: `drover publish`".to_owned()
        } else {
            format!(
                "{}, published {}, may be accepted until {}",
                status.revision,
                utc(status.issued_ms),
                utc(status.expires_ms)
            )
        },
    );
    line(
        "hosts",
        format!(
            "{} known, {} current, {} silent",
            status.hosts_known, status.hosts_current, status.hosts_silent
        ),
    );
    line(
        "inbox",
        format!(
            "{} reports, {}; stored up to {}",
            status.inbox_records,
            size(status.inbox_bytes),
            status.sink_cursor
        ),
    );
    line("connections", status.connections.to_string());
    line("loop lag p99", duration_us(status.loop_lag_p99_us));
    for (name, count) in status.counters.iter().filter(|counter| counters && is_shown(counter)) {
        line(name, count.to_string());
    }
    let mut text = String::new();
    for warning in &status.warnings {
        text += &paint.paint(Tone::Warn, &format!("warning: {}", printable(warning)));
        text.push('\n');
    }
    text + &table.render(paint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_of_what_is_counted_by_reason_what_there_was() {
        let counted = [("busy", 0), ("closed_done", 0), ("closed_reset", 3), ("nacks_busy", 0)];
        let counters = counted.map(|(name, count)| (name.to_owned(), count)).into();
        let status = Status { counters, ..Status::default() };
        let text = render(&status, true, Paint { colour: false });
        assert!(text.contains("closed_reset") && text.contains("\nbusy"), "{text}");
        assert!(!text.contains("closed_done") && !text.contains("nacks_"), "{text}");
        assert!(!render(&status, false, Paint { colour: false }).contains("closed_reset"));
    }
}
