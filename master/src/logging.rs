//! The daemon's log: lines on standard error, with the priorities that journald reads where it
//! is the one to read them.

use crate::table::words::{printable, utc};
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::io::Write;

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
        let line = line(record, self.journal, engine::clock::wall().0);
        // There is nobody to tell that the log cannot be written.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }

    fn flush(&self) {}
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

/// Sends the log to standard error from this level on; later calls change nothing but the
/// level.
pub fn to_stderr(level: LevelFilter) {
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
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
        assert_eq!(line(&record, true, 0), "<4>two\\nlines\n");
        assert_eq!(line(&record, false, 0), "1970-01-01 00:00:00Z WARN  two\\nlines\n");
    }
}
