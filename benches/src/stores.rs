//! Stores that the engine's store thread can have in the place of LMDB, for comparison. Each
//! carries out `Write` alone, and answers when the batch is on the disk.

use engine::queue::memory::MemoryStore;
use engine::queue::store::{Batch, StoreCommand, StoreEvent};
use engine::queue::thread::Store;
use redb::{Database, TableDefinition};
use rusqlite::Connection;
use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::Path;

type Anything = Box<dyn Error + Send + Sync>;

/// The answer to a command, from how its batch went.
///
/// # Panics
/// The batch could not be written: then there is nothing to compare.
fn committed(
    command: &StoreCommand,
    write: impl FnOnce(&Batch) -> Result<(), Anything>,
) -> Vec<StoreEvent> {
    let StoreCommand::Write(batch) = command else { return Vec::new() };
    write(batch).expect("the store of a measurement works");
    vec![StoreEvent::Committed { upto: batch.first + batch.len() as u64 - 1, run: batch.run }]
}

/// Nothing is kept at all: what the hand-over alone costs.
#[derive(Debug)]
pub struct Nothing;

impl Store for Nothing {
    fn apply(&mut self, command: &StoreCommand) -> Vec<StoreEvent> {
        committed(command, |_| Ok(()))
    }
}

/// Memory, gone with the process.
#[derive(Debug)]
pub struct Memory(pub MemoryStore);

impl Store for Memory {
    fn apply(&mut self, command: &StoreCommand) -> Vec<StoreEvent> {
        self.0.apply(command.clone()).into_iter().collect()
    }
}

/// A file to which length, checksum and bytes of each record are appended: the least that a log
/// can be, without a way to find or remove anything.
#[derive(Debug)]
pub struct AppendOnly {
    file: File,
    buffer: Vec<u8>,
}

impl AppendOnly {
    /// A new file in this directory.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(dir: &Path) -> std::io::Result<Self> {
        Ok(Self { file: File::create(dir.join("log"))?, buffer: Vec::new() })
    }
}

impl Store for AppendOnly {
    fn apply(&mut self, command: &StoreCommand) -> Vec<StoreEvent> {
        committed(command, |batch| {
            self.buffer.clear();
            for (_, frame) in batch.records() {
                self.buffer.extend_from_slice(&(frame.len() as u64).to_le_bytes());
                self.buffer.extend_from_slice(&crc32fast::hash(frame).to_le_bytes());
                self.buffer.extend_from_slice(frame);
            }
            self.file.write_all(&self.buffer)?;
            Ok(self.file.sync_data()?)
        })
    }
}

/// SQLite with a write-ahead log, synced at every commit.
#[derive(Debug)]
pub struct Sqlite(Connection);

impl Sqlite {
    /// A new database in this directory.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(dir: &Path) -> rusqlite::Result<Self> {
        let sqlite = Connection::open(dir.join("log.sqlite"))?;
        sqlite.pragma_update(None, "journal_mode", "WAL")?;
        sqlite.pragma_update(None, "synchronous", "FULL")?;
        sqlite.execute("CREATE TABLE log (seq INTEGER PRIMARY KEY, frame BLOB)", [])?;
        Ok(Self(sqlite))
    }
}

impl Store for Sqlite {
    fn apply(&mut self, command: &StoreCommand) -> Vec<StoreEvent> {
        committed(command, |batch| {
            let transaction = self.0.transaction()?;
            let mut insert = transaction.prepare_cached("INSERT INTO log VALUES (?, ?)")?;
            for (seq, frame) in batch.records() {
                insert.execute((seq.cast_signed(), frame))?;
            }
            drop(insert);
            Ok(transaction.commit()?)
        })
    }
}

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");

/// redb, a B-tree in Rust that never overwrites, synced at every commit as it is by default.
#[derive(Debug)]
pub struct Redb(Database);

impl Redb {
    /// A new database in this directory.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(dir: &Path) -> Result<Self, redb::DatabaseError> {
        Ok(Self(Database::create(dir.join("log.redb"))?))
    }
}

impl Store for Redb {
    fn apply(&mut self, command: &StoreCommand) -> Vec<StoreEvent> {
        committed(command, |batch| {
            let transaction = self.0.begin_write()?;
            let mut log = transaction.open_table(LOG)?;
            for (seq, frame) in batch.records() {
                log.insert(seq, frame)?;
            }
            drop(log);
            Ok(transaction.commit()?)
        })
    }
}
