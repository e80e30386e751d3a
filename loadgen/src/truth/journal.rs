//! The acked reports on disk, one a line: `name incarnation number digest`, the digest left out by
//! earlier versions. It survives the death of
//! the master and of the generator, and can be checked again later.

use engine::ids::{Epoch, HostName};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

/// A report that the master has acked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AckedReport {
    /// Who sent it.
    pub name: HostName,
    /// Incarnation of its outbox.
    pub epoch: Epoch,
    /// Its number there.
    pub seq: u64,
    /// What it said; a journal of an earlier version does not tell.
    pub digest: Option<NonZeroU32>,
}

/// Bytes read at once from the end, to find a line that was cut short.
const TAIL: u64 = 4096;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system said no.
    #[error("the journal {}: {error}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What exactly.
        error: io::Error,
    },
    /// A line is none of ours.
    #[error("{}:{line}: expected `name incarnation number digest`; is this a journal of loadgen?", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
    },
}

/// A journal being written.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    out: BufWriter<File>,
}

impl Journal {
    /// Opens a journal, to go on behind what it has. A last line that was cut short, when the
    /// generator was killed while it wrote, is removed: it names no report.
    ///
    /// # Errors
    /// The file cannot be opened or changed.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let open = || -> io::Result<File> {
            let mut options = OpenOptions::new();
            let mut file =
                options.read(true).write(true).create(true).truncate(false).open(path)?;
            let whole = end_of_last_line(&mut file)?;
            file.set_len(whole)?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        let file = open().map_err(|error| JournalError::Io { path: path.to_owned(), error })?;
        Ok(Self { path: path.to_owned(), out: BufWriter::new(file) })
    }

    /// Adds a report.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append(&mut self, report: &AckedReport) -> Result<(), JournalError> {
        let AckedReport { name, epoch, seq, digest } = report;
        let written = match digest {
            Some(digest) => writeln!(self.out, "{name} {:016x} {seq} {digest:08x}", epoch.0),
            None => writeln!(self.out, "{name} {:016x} {seq}", epoch.0),
        };
        written.map_err(|error| self.failed(error))
    }

    /// Hands what was added to the operating system: from then on it survives this process.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn flush(&mut self) -> Result<(), JournalError> {
        self.out.flush().map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> JournalError {
        JournalError::Io { path: self.path.clone(), error }
    }
}

fn end_of_last_line(file: &mut File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    while end > 0 {
        let start = end.saturating_sub(TAIL);
        file.seek(SeekFrom::Start(start))?;
        let mut tail = Vec::new();
        Read::by_ref(file).take(end - start).read_to_end(&mut tail)?;
        if let Some(at) = tail.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Reads a journal and hands on each report. A last line without its end is passed over.
///
/// # Errors
/// The file cannot be read, or is none of ours.
pub fn read(path: &Path, mut each: impl FnMut(&AckedReport)) -> Result<(), JournalError> {
    let io_error = |error| JournalError::Io { path: path.to_owned(), error };
    let mut lines = BufReader::new(File::open(path).map_err(io_error)?);
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        lines.read_until(b'\n', &mut text).map_err(io_error)?;
        let Some(whole) = text.strip_suffix(b"\n") else { break };
        let report = parse(whole);
        let report = report.ok_or_else(|| JournalError::Line { path: path.to_owned(), line })?;
        each(&report);
    }
    Ok(())
}

fn parse(line: &[u8]) -> Option<AckedReport> {
    let mut fields = std::str::from_utf8(line).ok()?.split(' ');
    let name = HostName::parse(fields.next()?.as_bytes()).ok()?;
    let epoch = Epoch(u64::from_str_radix(fields.next()?, 16).ok()?);
    let seq = fields.next()?.parse().ok()?;
    let digest = match fields.next() {
        Some(field) => Some(NonZeroU32::new(u32::from_str_radix(field, 16).ok()?)?),
        None => None,
    };
    fields.next().is_none().then_some(AckedReport { name, epoch, seq, digest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn report(seq: u64) -> AckedReport {
        let digest = u32::try_from(seq % 3).ok().and_then(NonZeroU32::new);
        AckedReport { name: HostName::parse(b"lg-1.x").unwrap(), epoch: Epoch(0xfeed), seq, digest }
    }

    fn read_all(path: &Path) -> Result<Vec<u64>, JournalError> {
        let mut found = Vec::new();
        read(path, |report| found.push(report.seq)).map(|()| found)
    }

    #[test]
    fn what_was_flushed_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::open(&path).unwrap();
        (1..=1000).for_each(|seq| journal.append(&report(seq)).unwrap());
        journal.flush().unwrap();
        // The generator dies here: nothing is closed in order.
        std::mem::forget(journal);
        let mut found = Vec::new();
        read(&path, |report| found.push(report.clone())).unwrap();
        // Every third one has no digest, as in a journal of an earlier version.
        assert_eq!(found, (1..=1000).map(report).collect::<Vec<_>>());
    }

    #[test]
    fn a_line_cut_short_is_left_out_and_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        fs::write(&path, "lg-1.x 000000000000feed 1\nlg-1.x 000000000000feed 2").unwrap();
        assert_eq!(read_all(&path).unwrap(), [1], "2 may have been the beginning of 21");
        let mut journal = Journal::open(&path).unwrap();
        journal.append(&report(3)).unwrap();
        journal.flush().unwrap();
        assert_eq!(read_all(&path).unwrap(), [1, 3]);
    }

    #[test]
    fn a_long_piece_without_an_end_is_removed_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let tail = usize::try_from(TAIL).unwrap();
        let text = format!("lg-1.x 1 1\n{}", "x".repeat(3 * tail));
        fs::write(&path, text).unwrap();
        drop(Journal::open(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "lg-1.x 1 1\n");
    }

    #[test]
    fn another_file_is_refused_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        for line in ["no journal", "lg-1.x 1 2 digest", "lg-1.x 1 2 00000000", "lg-1.x 1 2 1 x"] {
            fs::write(&path, format!("lg-1.x 1 1\n{line}\n")).unwrap();
            assert!(matches!(read_all(&path), Err(JournalError::Line { line: 2, .. })), "{line}");
        }
        assert!(matches!(read_all(&dir.path().join("none")), Err(JournalError::Io { .. })));
    }
}
