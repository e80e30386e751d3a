//! The seam to the disk: commands and answers, not calls.
//!
//! A store keeps one log of records under ascending numbers, that the node chooses without
//! gaps, and one small block of metadata that changes only together with a trim. Behind it is
//! LMDB on the store thread, or memory that can be slow, fail and crash.

use crate::time::WallMs;
use crate::wire::{Frame, Lane};

/// Records on their way to the disk: the frames as they came, one after another.
///
/// The layout is one arena, so that a gathering is handed over and merged by moving or
/// copying bytes, never by a message per frame.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Log number of the first record.
    pub first: u64,
    /// Which run of the node's log this belongs to: after a failed commit the node raises it,
    /// and the store drops batches of earlier runs.
    pub run: u64,
    /// Wall clock of arrival, of the whole batch.
    pub arrived: WallMs,
    /// All records' bytes.
    pub arena: Vec<u8>,
    /// End of each record in `arena`.
    pub ends: Vec<u32>,
}

impl Batch {
    /// Records in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Adds a record.
    ///
    /// # Panics
    /// If the arena passes 4 GiB, which the gathering's cap forbids.
    pub fn push(&mut self, record: &[u8]) {
        self.arena.extend_from_slice(record);
        self.ends
            .push(u32::try_from(self.arena.len()).expect("a gathering is capped far below 4 GiB"));
    }

    /// The records with their log numbers.
    pub fn records(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        (self.first..)
            .zip(starts.zip(&self.ends))
            .map(|(seq, (from, to))| (seq, &self.arena[from as usize..*to as usize]))
    }
}

/// A record read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its log number.
    pub seq: u64,
    /// When it arrived.
    pub arrived: WallMs,
    /// The frame as it came.
    pub frame: Vec<u8>,
}

impl Record {
    /// Whether it is a whole frame of the durable lane, with a sound header, route and body.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn check(&self) -> Result<Frame<'_>, String> {
        let frame = Frame::parse(&self.frame).map_err(|error| error.to_string())?;
        frame.route().map_err(|error| error.to_string())?;
        frame.header.check_body(frame.body()).map_err(|error| error.to_string())?;
        if frame.header.lane == Lane::Durable {
            Ok(frame)
        } else {
            Err("the frame is not of the durable lane".into())
        }
    }
}

/// What the node asks of its store. Commands are carried out in order, except that batches
/// not yet begun merge into one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreCommand {
    /// Append; answered by `Committed` or `CommitFailed`.
    Write(Batch),
    /// Read from a number on; answered by `Records`.
    Read {
        /// Smallest number wanted.
        from: u64,
        /// Most records.
        records_max: usize,
        /// Most bytes; at least one record is returned if there is any.
        bytes_max: usize,
    },
    /// Remove all up to and including a number, and write pages of the node's metadata in the
    /// same transaction; answered by `Trimmed` or `TrimFailed`.
    Trim {
        /// Largest number to remove.
        upto: u64,
        /// Changed pages: number and content. See [`crate::queue::marks`].
        pages: Vec<(u32, Vec<u8>)>,
    },
    /// Move one record out of the way, with the reason, so that what is behind it goes on;
    /// answered by `Quarantined`.
    Quarantine {
        /// Which.
        seq: u64,
        /// Why, for people.
        reason: String,
    },
}

/// What the store tells the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreEvent {
    /// All records up to and including this number are on the disk.
    Committed {
        /// The highest.
        upto: u64,
        /// The run they belong to.
        run: u64,
    },
    /// Records of this run from this number on are lost, and the store drops the rest of it.
    CommitFailed {
        /// The lowest that is lost.
        from: u64,
        /// The run.
        run: u64,
        /// What is wrong.
        error: StoreError,
    },
    /// The answer to `Read`; an empty list means that there is nothing at or after `from`.
    Records {
        /// From the command.
        from: u64,
        /// Ascending.
        records: Vec<Record>,
    },
    /// A record could not be read or is no frame; it has been moved to the quarantine.
    Quarantined {
        /// Which.
        seq: u64,
        /// Bytes that the log has lost by it; 0 if there was no such record.
        bytes: u64,
    },
    /// The answer to `Trim`.
    Trimmed {
        /// From the command.
        upto: u64,
        /// Records removed.
        records: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// `Trim` or `Quarantine` was not carried out; ask again later.
    TrimFailed {
        /// From the command.
        upto: u64,
        /// What is wrong.
        error: StoreError,
    },
    /// `Read` was not carried out; ask again later.
    ReadFailed {
        /// From the command.
        from: u64,
        /// What is wrong.
        error: StoreError,
    },
}

/// What can be wrong with a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The file system is full.
    #[error(
        "the disk under {path} is full; free some space, senders keep what they have until then"
    )]
    DiskFull {
        /// The store's directory.
        path: String,
    },
    /// The store's own quota is used up.
    #[error("the queue in {path} has reached its {quota_bytes} bytes")]
    QuotaFull {
        /// The store's directory.
        path: String,
        /// `quota_bytes` of its configuration.
        quota_bytes: u64,
    },
    /// The files are broken, or not a store of this program.
    #[error(
        "the queue in {path} cannot be opened: {detail}; move the directory away to begin with an empty queue, or restore it from a copy"
    )]
    Corrupt {
        /// The store's directory.
        path: String,
        /// What exactly.
        detail: String,
    },
    /// Another process has it open.
    #[error("the queue in {path} is in use by {holder}; is the daemon already running?")]
    InUse {
        /// The store's directory.
        path: String,
        /// Who has it, in words.
        holder: String,
    },
    /// Anything else the disk said.
    #[error("the queue in {path}: {detail}")]
    Io {
        /// The store's directory.
        path: String,
        /// What exactly.
        detail: String,
    },
}

/// What a store holds when it is opened, for the node to begin with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreState {
    /// Smallest number in the log, at least 1; equals `next` if it is empty.
    pub first: u64,
    /// The number after the largest ever used.
    pub next: u64,
    /// Records in the log: fewer than `next - first` where some were quarantined.
    pub records: u64,
    /// Bytes of all records.
    pub bytes: u64,
    /// All metadata pages, by number.
    pub pages: Vec<(u32, Vec<u8>)>,
    /// This store's own incarnation, 64 random bits chosen when it was made, or renewed when the
    /// machine's identity was found changed.
    pub epoch: u64,
    /// Records that were set aside when the machine's identity was found changed.
    pub set_aside: u64,
}
