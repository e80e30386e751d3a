//! An interval log as HdrHistogram's own tools read it: a compressed histogram for each kind of
//! message and second, latencies in microseconds, tagged with the phase and the kind:
//! `reports.poll`.

use crate::measure::{Row, Tally, Timed};
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Latencies stand in the log in microseconds, their maxima in milliseconds, as is usual.
const US_PER_MS: f64 = 1000.0;

/// A log being written.
pub struct IntervalLog {
    out: BufWriter<File>,
    serializer: V2DeflateSerializer,
    failed: Option<io::Error>,
}

impl fmt::Debug for IntervalLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntervalLog").field("failed", &self.failed).finish_non_exhaustive()
    }
}

impl IntervalLog {
    /// Begins a log of a run that began at this time.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(path: &Path, began_ms: u64) -> io::Result<Self> {
        let mut out = BufWriter::new(File::create(path)?);
        let mut serializer = V2DeflateSerializer::new();
        let began = SystemTime::UNIX_EPOCH + Duration::from_millis(began_ms);
        IntervalLogWriterBuilder::new()
            .add_comment("loadgen: latencies from the intended start, in microseconds")
            .with_start_time(began)
            .with_base_time(began)
            .begin_log_with(&mut out, &mut serializer)?;
        Ok(Self { out, serializer, failed: None })
    }

    /// Adds a second. A failure is told at the end: the run is worth more than its log.
    pub fn add(&mut self, row: &Row, tally: &Tally) {
        if self.failed.is_none() {
            self.failed = self.write(row, tally).err();
        }
    }

    fn write(&mut self, row: &Row, tally: &Tally) -> io::Result<()> {
        for what in Timed::ALL {
            let histogram = tally.latencies.histogram(what);
            if histogram.is_empty() {
                continue;
            }
            // The builder writes a header of its own; the line of the histogram is the last.
            let mut text = Vec::new();
            let mut builder = IntervalLogWriterBuilder::new();
            builder.with_max_value_divisor(US_PER_MS);
            builder
                .begin_log_with(&mut text, &mut self.serializer)?
                .write_histogram(
                    histogram,
                    Duration::from_secs(row.second),
                    Duration::from_secs(1),
                    Tag::new(&format!("{}.{}", row.phase, what.name())),
                )
                .map_err(|error| io::Error::other(format!("{error:?}")))?;
            let line = text.trim_ascii_end().rsplit(|byte| *byte == b'\n').next();
            self.out.write_all(line.unwrap_or_default())?;
            self.out.write_all(b"\n")?;
        }
        Ok(())
    }

    /// Ends the log.
    ///
    /// # Errors
    /// Not all of it could be written.
    pub fn finish(mut self) -> io::Result<()> {
        self.failed.take().map_or(Ok(()), Err)?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{Part, Took};
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn what_was_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("latency.hlog");
        let mut log = IntervalLog::create(&path, 1_700_000_000_000).unwrap();
        for second in 0..3u64 {
            let mut tally = Tally::default();
            let took = Took::from_due(Duration::from_millis(10 * (second + 1)));
            (0..100).for_each(|_| tally.latencies.record(Timed::Report, took));
            let row = Row {
                second,
                phase: "load".into(),
                part: Part::Measured,
                polls: 0,
                reports: 100,
                failures: 0,
                latencies: Default::default(),
                standings: Default::default(),
                connections: 0,
                cpu_us: 0,
                cpu_busiest_us: 0,
            };
            log.add(&row, &tally);
        }
        log.finish().unwrap();
        let text = std::fs::read(&path).unwrap();
        let mut found = Vec::new();
        for entry in IntervalLogIterator::new(&text) {
            if let LogEntry::Interval(interval) = entry.unwrap() {
                assert_eq!(interval.tag(), Tag::new("load.report"));
                found.push((interval.start_timestamp().as_secs(), interval.max()));
            }
        }
        assert_eq!(found.len(), 3);
        assert_eq!(found[2].0, 2);
        assert!((found[2].1 - 30.0).abs() < 0.1, "{found:?}");
    }
}
