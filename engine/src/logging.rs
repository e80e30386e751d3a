//! A daemon's log: lines on standard error, with the priorities that journald reads where it
//! is the one to read them.

use crate::time::Instant;
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

#[derive(Debug)]
struct Stderr {
    /// journald stamps the time itself, and takes the priority from the line's beginning.
    journal: bool,
}

impl Log for Stderr {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = line(record, self.journal, crate::clock::wall().0);
        // There is nobody to tell that the log cannot be written.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

/// Whether another line about the same trouble may be written, and then it counts as written.
pub fn is_due(logged: &mut Option<Instant>, interval: Duration, now: Instant) -> bool {
    let due = logged.is_none_or(|last| now.since(last) >= interval);
    if due {
        *logged = Some(now);
    }
    due
}

/// A text without control characters: they are escaped, so that nothing that a host sent can
/// move the cursor or change a colour.
#[must_use]
pub fn printable(text: &str) -> String {
    escaped(text, &[])
}

/// The same for a text of several lines: line ends and tabs stay.
#[must_use]
pub fn printable_lines(text: &str) -> String {
    escaped(text, &['\n', '\t'])
}

fn escaped(text: &str, kept: &[char]) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && !kept.contains(&c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// A point in time in UTC: `2026-11-21 23:05:09Z`.
#[must_use]
pub fn utc(ms: u64) -> String {
    let s = ms / 1000;
    // Civil date from days since 1970, with years that begin in March so that the leap day is
    // the last (Howard Hinnant, "chrono-compatible low-level date algorithms").
    let z = s / 86_400 + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (h, m, s) = (s / 3600 % 24, s / 60 % 60, s % 60);
    format!("{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02}Z")
}

fn line(record: &Record<'_>, journal: bool, wall_ms: u64) -> String {
    let text = printable(&record.args().to_string());
    if journal {
        // sd-daemon(3): syslog's priorities.
        let priority = match record.level() {
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info => 6,
            Level::Debug | Level::Trace => 7,
        };
        format!("<{priority}>{text}\n")
    } else {
        format!("{} {:<5} {text}\n", utc(wall_ms), record.level())
    }
}

/// Whether standard error is the stream that systemd has told of: who started us may have sent
/// it elsewhere since.
fn is_journal(told: &str, (device, inode): (u64, u64)) -> bool {
    told == format!("{device}:{inode}")
}

/// Sends the log to standard error from this level on; later calls change nothing but the
/// level.
pub fn to_stderr(level: LevelFilter) {
    let stderr = std::io::stderr().as_fd().try_clone_to_owned().map(File::from);
    let identity = stderr.and_then(|file| file.metadata()).map(|m| (m.dev(), m.ino()));
    let told = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let journal = identity.is_ok_and(|identity| is_journal(&told, identity));
    // It fails only if there is a logger already, as in a test that starts several daemons.
    let _ = log::set_boxed_logger(Box::new(Stderr { journal }));
    log::set_max_level(level);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_record_is_one_line_with_its_priority() {
        let args = format_args!("two\nlines");
        let record = Record::builder().level(Level::Warn).args(args).build();
        assert!(
            is_journal("8:9", (8, 9)) && !is_journal("8:9", (8, 10)) && !is_journal("", (0, 0))
        );
        assert_eq!(line(&record, true, 0), "<4>two\\nlines\n");
        assert_eq!(line(&record, false, 0), "1970-01-01 00:00:00Z WARN  two\\nlines\n");
    }
}
