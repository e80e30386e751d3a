//! What the commands `queue stat`, `queue dump` and `queue verify` show: a look at a store, also
//! while its owner runs. Debian's own LMDB tools cannot open a running one.

use super::{Databases, LmdbConfig, check_file, files, io_error, store_error};
use crate::queue::store::{Record, StoreError};
use crate::time::WallMs;
use heed::byteorder::BigEndian;
use heed::types::{Bytes, U64};
use heed::{CommitOrAbort, EnvFlags, EnvOpenOptions};
use std::path::Path;

/// What a store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStat {
    /// Smallest number in the log; equals `next` if it is empty.
    pub first: u64,
    /// The number that the next record gets.
    pub next: u64,
    /// Records in the log.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Arrival of the oldest.
    pub oldest: Option<WallMs>,
    /// Records in the quarantine.
    pub quarantined: u64,
    /// Its incarnation.
    pub epoch: u64,
    /// Bytes of its file.
    pub file_bytes: u64,
}

/// A record's value in the quarantine: length of the reason, the reason, the value as it was.
pub(super) fn encode_quarantined(reason: &str, value: &[u8]) -> Vec<u8> {
    let reason = &reason.as_bytes()[..reason.len().min(1024)];
    let len = u16::try_from(reason.len()).expect("it was just cut");
    [&len.to_le_bytes()[..], reason, value].concat()
}

fn decode_quarantined(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    let (reason, value) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
    Some((String::from_utf8_lossy(reason).into_owned(), value))
}

/// What a look at all of a store has found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// Whether the pages of its file were looked over, and are sound: not while its owner runs,
    /// which changes them, and has looked at its start.
    pub pages_checked: bool,
    /// Records in the log.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of these, records that are no whole messages.
    pub damaged: u64,
    /// The first of them, at most [`DAMAGED_SHOWN`]: number, and what is wrong.
    pub damaged_first: Vec<(u64, String)>,
    /// Records in the quarantine.
    pub quarantined: u64,
}

/// Damaged records that are named.
pub const DAMAGED_SHOWN: usize = 100;

/// Looks at a store.
///
/// # Errors
/// There is none, or it cannot be read.
pub fn stat(dir: &Path) -> Result<QueueStat, StoreError> {
    look(dir, |open, _| stat_of(open))
}

/// Looks at a store whose owner does not run, and locks out none that starts meanwhile. `None` if
/// there is no store yet.
///
/// # Errors
/// It cannot be read.
pub fn stat_unowned(dir: &Path) -> Result<Option<QueueStat>, StoreError> {
    let is_missing = |error: std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    if std::fs::metadata(dir.join("data.mdb")).is_err_and(is_missing) {
        return Ok(None);
    }
    match check_file(dir) {
        Ok(()) => read(dir, stat_of).map(Some),
        // Somebody may have begun to write: with the lock it is certain.
        Err(_) => stat(dir).map(Some),
    }
}

fn stat_of(open: &Databases) -> Result<QueueStat, heed::Error> {
    let txn = open.env.read_txn()?;
    let state = open.state(&txn)?;
    let oldest = open
        .log
        .first(&txn)?
        .and_then(|(_, value)| Some(WallMs(u64::from_le_bytes(*value.first_chunk()?))));
    Ok(QueueStat {
        first: state.first,
        next: state.next,
        records: state.records,
        bytes: state.bytes,
        oldest,
        quarantined: open.quarantine.len(&txn)?,
        epoch: state.epoch,
        file_bytes: open.env.real_disk_size()?,
    })
}

/// Shows records from a number on, in lots that are copied out, until `show` says false; with
/// `quarantined` those in the quarantine, with the reason.
///
/// # Errors
/// There is no store, or it cannot be read.
pub fn dump(
    dir: &Path,
    quarantined: bool,
    from: u64,
    show: impl FnMut(Record, Option<String>) -> bool,
) -> Result<(), StoreError> {
    look(dir, |open, _| each(open, quarantined, from, show))
}

/// Reads all of a store: the pages of its file, unless its owner runs, and every record.
/// `progress` is told how many records were read.
///
/// # Errors
/// There is no store, or its pages are damaged.
pub fn verify(dir: &Path, mut progress: impl FnMut(u64)) -> Result<Verified, StoreError> {
    look(dir, |open, pages_checked| {
        let mut found = Verified { pages_checked, ..Verified::default() };
        each(open, false, 0, |record, _| {
            found.records += 1;
            found.bytes += record.frame.len() as u64;
            if let Err(wrong) = record.check() {
                found.damaged += 1;
                if found.damaged_first.len() < DAMAGED_SHOWN {
                    found.damaged_first.push((record.seq, wrong));
                }
            }
            progress(found.records);
            true
        })?;
        let txn = open.env.read_txn()?;
        found.quarantined = open.quarantine.len(&txn)?;
        Ok(found)
    })
}

/// Reads records in lots, from a number on, until `show` says false.
fn each(
    open: &Databases,
    quarantined: bool,
    mut from: u64,
    mut show: impl FnMut(Record, Option<String>) -> bool,
) -> Result<(), heed::Error> {
    loop {
        let mut lot = Vec::new();
        let txn = open.env.read_txn()?;
        let database = if quarantined { open.quarantine } else { open.log };
        for record in database.range(&txn, &(from..))?.take(100) {
            let (seq, value) = record?;
            let (reason, value) = match quarantined.then(|| decode_quarantined(value)).flatten() {
                Some((reason, value)) => (Some(reason), value),
                None => (None, value),
            };
            let (arrived, frame) = value.split_at(value.len().min(super::VALUE_HEAD));
            let arrived = WallMs(arrived.try_into().map_or(0, u64::from_le_bytes));
            lot.push((Record { seq, arrived, frame: frame.to_vec() }, reason));
        }
        // The owner's trims must not wait for a terminal.
        drop(txn);
        let Some((last, _)) = lot.last() else { return Ok(()) };
        from = last.seq.saturating_add(1);
        for (record, reason) in lot {
            if !show(record, reason) {
                return Ok(());
            }
        }
    }
}

fn look<T>(
    dir: &Path,
    work: impl FnOnce(&Databases, bool) -> Result<T, heed::Error>,
) -> Result<T, StoreError> {
    let path = dir.display().to_string();
    let file = std::fs::metadata(dir.join("data.mdb")).map_err(|error| io_error(&path, &error))?;
    if file.len() == 0 {
        return Err(StoreError::Corrupt { path, detail: "data.mdb is empty".into() });
    }
    // Pages change under a check while the owner runs; and whoever runs has checked them.
    let checked = match files::look(dir) {
        Ok(_lock) => check_file(dir).map(|()| true)?,
        Err(StoreError::InUse { .. }) => false,
        Err(error) => return Err(error),
    };
    read(dir, |open| work(open, checked))
}

fn read<T>(
    dir: &Path,
    work: impl FnOnce(&Databases) -> Result<T, heed::Error>,
) -> Result<T, StoreError> {
    let path = dir.display().to_string();
    let wrap = |error| store_error(&path, 0, error);
    let open = open_readonly(dir).map_err(wrap)?;
    let Some(open) = open else {
        let detail = "it has none of a queue's tables".into();
        return Err(StoreError::Corrupt { path, detail });
    };
    work(&open).map_err(wrap)
}

fn open_readonly(dir: &Path) -> Result<Option<Databases>, heed::Error> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(LmdbConfig::new(dir).map_bytes).max_dbs(4).max_readers(16);
    // SAFETY: opened for reading, with LMDB's own lock file, which the owner uses too.
    #[allow(unsafe_code)]
    let env = unsafe { options.flags(EnvFlags::READ_ONLY).open(dir)? };
    let txn = env.read_txn()?;
    let opened = env.open_databases_and_commit(txn, |opener, txn| {
        let log = opener.open_database::<U64<BigEndian>, Bytes>(txn, Some("log"))?;
        let meta = opener.open_database::<Bytes, Bytes>(txn, Some("meta"))?;
        let quarantine = opener.open_database::<U64<BigEndian>, Bytes>(txn, Some("quarantine"))?;
        Ok::<_, heed::Error>(match (log, meta, quarantine) {
            (Some(log), Some(meta), Some(quarantine)) => {
                CommitOrAbort::Commit((log, meta, quarantine))
            }
            _ => CommitOrAbort::Abort(()),
        })
    })?;
    Ok(match opened {
        CommitOrAbort::Commit((log, meta, quarantine)) => {
            Some(Databases { env, log, meta, quarantine })
        }
        CommitOrAbort::Abort(()) => None,
    })
}
