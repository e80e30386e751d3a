//! The store on disk: one LMDB environment, written by one thread.
//!
//! Records lie under one ascending number and are only ever appended at the end and removed
//! from the front. No transaction outlives a command. The map is far larger than the quota,
//! since deleting needs pages too; the quota is counted here.

mod check;
mod files;
mod inspect;

use crate::queue::store::{Batch, Record, StoreCommand, StoreError, StoreEvent, StoreState};
use crate::time::WallMs;
use check::Unsound;
use files::{Reserve, io_error};
use heed::byteorder::BigEndian;
use heed::types::{Bytes, U64};
use heed::{
    CommitOrAbort, Database, Env, EnvOpenOptions, MdbError, PutFlags, RoTxn, RwTxn, WithoutTls,
};
pub use inspect::{DAMAGED_SHOWN, QueueStat, Verified, dump, stat, stat_unowned, verify};
use ring::rand::SecureRandom;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Where and how large a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LmdbConfig {
    /// Its directory; made if it is missing.
    pub dir: PathBuf,
    /// Most bytes of records.
    pub quota_bytes: u64,
    /// Bytes that are kept aside for trimming when the disk is full.
    pub reserve_bytes: u64,
    /// Address space to begin with; halved until the system grants it.
    pub map_bytes: usize,
    /// A hash of what tells this machine from a copy of it; see [`machine_identity`]. `None` if
    /// nothing does.
    pub identity: Option<[u8; 32]>,
}

impl LmdbConfig {
    /// The usual bounds: 4 GiB of records, 16 MiB in reserve.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            quota_bytes: 4 << 30,
            reserve_bytes: 16 << 20,
            map_bytes: 64 << 30,
            identity: None,
        }
    }
}

/// What tells this machine from a copy of its disk: the hash of `/etc/machine-id` or of another
/// file that is made anew on every machine. `None` if it is missing or empty.
#[must_use]
pub fn machine_identity(path: &Path) -> Option<[u8; 32]> {
    let id = std::fs::read(path).ok()?;
    let id = id.trim_ascii();
    (!id.is_empty()).then(|| *blake3::hash(id).as_bytes())
}

type Numbered = Database<'static, U64<BigEndian>, Bytes>;
type Named = Database<'static, Bytes, Bytes>;

const KEY_NEXT: &[u8] = b"next";
const KEY_EPOCH: &[u8] = b"epoch";
const KEY_IDENTITY: &[u8] = b"identity";
const KEY_PAGE: u8 = b'p';
/// Bytes before the frame in a record's value: its arrival.
const VALUE_HEAD: usize = 8;
/// Records kept in the quarantine; the oldest give way.
const QUARANTINE_MAX: u64 = 10_000;
const MAP_BYTES_MIN: usize = 16 << 20;

#[derive(Debug)]
struct Databases {
    env: Env<WithoutTls>,
    log: Numbered,
    meta: Named,
    quarantine: Numbered,
}

/// The store on disk. All calls may take as long as the disk does.
#[derive(Debug)]
pub struct LmdbStore {
    config: LmdbConfig,
    path: String,
    /// `None` after an error that left the environment unusable, until it opens again.
    open: Option<Databases>,
    next: u64,
    bytes: u64,
    quota_bytes: u64,
    /// Batches of runs below this are dropped: one of their commits has failed.
    dead_runs: u64,
    reserve: Reserve,
    /// Pages were freed since the last commit of records.
    trimmed: bool,
    value: Vec<u8>,
    lock: File,
}

/// Keeps others out of a store for as long as it lives, without opening it.
#[derive(Debug)]
pub struct StoreLock {
    _file: File,
}

impl StoreLock {
    /// Takes the lock of a store's directory, which is made if it is missing.
    ///
    /// # Errors
    /// Another process has it, or the disk says no.
    pub fn take(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.display().to_string();
        files::make_dir(dir).map_err(|error| io_error(&path, &error))?;
        Ok(Self { _file: files::lock(dir)? })
    }
}

impl LmdbStore {
    /// Opens a store, or makes it.
    ///
    /// # Errors
    /// Another process has it open, its files are broken, or the disk says no.
    pub fn open(config: LmdbConfig) -> Result<(Self, StoreState), StoreError> {
        let path = config.dir.display().to_string();
        files::make_dir(&config.dir).map_err(|error| io_error(&path, &error))?;
        let lock = files::lock(&config.dir)?;
        let mut reserve = Reserve::find(&config.dir, config.reserve_bytes);
        let data = config.dir.join("data.mdb");
        if !files::was_made(&config.dir)
            && matches!(check::check(&data, false), Err(Unsound::Broken(_)))
            && check::newest_transaction(&data)
                .is_none_or(|newest| newest <= files::UNFINISHED_TRANSACTIONS_MAX)
            && let Some(moved) =
                files::move_unfinished(&config.dir).map_err(|error| io_error(&path, &error))?
        {
            log::warn!(
                "the queue in {path} was never made to its end: it is made anew, and what was there is {}",
                moved.display()
            );
        }
        let open = Databases::open(&config).or_else(|error| match error {
            // Even to open takes a page or two.
            StoreError::DiskFull { .. } if reserve.release() => Databases::open(&config),
            error => Err(error),
        })?;
        files::note_made(&lock, &config.dir).map_err(|error| io_error(&path, &error))?;
        let mut store = Self {
            path,
            open: Some(open),
            next: 1,
            bytes: 0,
            quota_bytes: 0,
            dead_runs: 0,
            reserve,
            trimmed: false,
            value: Vec::new(),
            lock,
            config,
        };
        let set_aside = store.set_aside_if_cloned()?;
        let mut state = store.begin()?;
        state.set_aside = set_aside;
        store.reserve.refill();
        Ok((store, state))
    }

    /// Carries out one command. Batches of a run of which a commit has failed are dropped
    /// without an answer.
    pub fn apply(&mut self, command: &StoreCommand) -> Vec<StoreEvent> {
        match command {
            StoreCommand::Write(batch) => self.write(batch).into_iter().collect(),
            StoreCommand::Read { from, records_max, bytes_max } => {
                self.read(*from, *records_max, *bytes_max)
            }
            StoreCommand::Trim { upto, pages } => match self.trim(*upto, pages) {
                Ok((records, bytes)) => {
                    vec![StoreEvent::Trimmed { upto: *upto, records, bytes }]
                }
                Err(error) => vec![StoreEvent::TrimFailed { upto: *upto, error }],
            },
            StoreCommand::Quarantine { seq, reason } => {
                let moved = self.with_room(|open, _| open.quarantine(*seq, reason));
                vec![self.quarantined(*seq, moved)]
            }
        }
    }

    fn write(&mut self, batch: &Batch) -> Option<StoreEvent> {
        if batch.run < self.dead_runs || batch.is_empty() {
            return None;
        }
        let added = batch.arena.len() as u64;
        let written = if self.bytes + added > self.quota_bytes {
            let quota_bytes = self.quota_bytes;
            Err(StoreError::QuotaFull { path: self.path.clone(), quota_bytes })
        } else {
            let mut value = std::mem::take(&mut self.value);
            let next = self.next;
            let mut written = self.attempt(|open| open.append(batch, next, &mut value));
            // LMDB uses what a trim has freed from the next transaction but one on: that one
            // must not fail for want of a page.
            if self.trimmed
                && matches!(written, Err(StoreError::DiskFull { .. }))
                && self.reserve.release()
            {
                written = self.attempt(|open| open.append(batch, next, &mut value));
            }
            self.trimmed &= written.is_err();
            self.value = value;
            written
        };
        Some(match written {
            Ok(undone) => {
                self.bytes = (self.bytes + added).saturating_sub(undone);
                self.next = batch.first + batch.len() as u64;
                StoreEvent::Committed { upto: self.next - 1, run: batch.run }
            }
            Err(error) => {
                self.dead_runs = batch.run + 1;
                StoreEvent::CommitFailed { from: batch.first, run: batch.run, error }
            }
        })
    }

    fn read(&mut self, from: u64, records_max: usize, bytes_max: usize) -> Vec<StoreEvent> {
        let (records, bad) = match self.attempt(|open| open.read(from, records_max, bytes_max)) {
            Ok(found) => found,
            Err(error) => return vec![StoreEvent::ReadFailed { from, error }],
        };
        let mut events = vec![StoreEvent::Records { from, records }];
        for seq in bad {
            let moved = self.with_room(|open, _| open.quarantine(seq, "the record is cut short"));
            // Not asked for: if it fails it is tried again with the next read.
            if let event @ StoreEvent::Quarantined { .. } = self.quarantined(seq, moved) {
                events.push(event);
            }
        }
        events
    }

    fn trim(&mut self, upto: u64, pages: &[(u32, Vec<u8>)]) -> Result<(u64, u64), StoreError> {
        let (records, bytes) = self.with_room(|open, next| open.trim(upto, next, pages))?;
        self.bytes = self.bytes.saturating_sub(bytes);
        self.trimmed = true;
        self.reserve.refill();
        Ok((records, bytes))
    }

    fn quarantined(&mut self, seq: u64, moved: Result<u64, StoreError>) -> StoreEvent {
        match moved {
            Ok(bytes) => {
                self.bytes = self.bytes.saturating_sub(bytes);
                StoreEvent::Quarantined { seq, bytes }
            }
            Err(error) => StoreEvent::TrimFailed { upto: seq, error },
        }
    }

    /// Does what makes room in the end; on a full disk it gives up the reserve for it.
    fn with_room<T>(
        &mut self,
        work: impl Fn(&Databases, u64) -> Result<T, heed::Error>,
    ) -> Result<T, StoreError> {
        let next = self.next;
        match self.attempt(|open| work(open, next)) {
            Err(StoreError::DiskFull { .. }) if self.reserve.release() => {
                log::warn!("the disk under {} is full: the reserve is given up", self.path);
                self.attempt(|open| work(open, next))
            }
            done => done,
        }
    }

    /// One transaction, in an environment that is opened anew if the last error broke it.
    fn attempt<T>(
        &mut self,
        work: impl FnOnce(&Databases) -> Result<T, heed::Error>,
    ) -> Result<T, StoreError> {
        if self.open.is_none() {
            self.open = Some(Databases::open(&self.config)?);
            self.begin()?;
            log::info!("the queue in {} was opened anew", self.path);
        }
        let open = self.open.as_ref().expect("it was just opened");
        work(open).map_err(|error| {
            let fatal = is_fatal(&error);
            let error = store_error(&self.path, self.quota_bytes, error);
            // A full disk breaks nothing, however it shows, and opening reads the whole log.
            if fatal && !matches!(error, StoreError::DiskFull { .. }) {
                self.open = None;
            }
            error
        })
    }

    /// Reads what the store holds.
    fn begin(&mut self) -> Result<StoreState, StoreError> {
        let open = self.open.as_ref().expect("called with an open environment");
        let map_bytes = open.env.info().map_size as u64;
        self.quota_bytes = self.config.quota_bytes.min(map_bytes / 2);
        let identity = self.config.identity;
        let state = open
            .begin(identity, fresh_epoch)
            .map_err(|error| store_error(&self.path, self.quota_bytes, error))?;
        self.next = state.next;
        self.bytes = state.bytes;
        Ok(state)
    }

    /// A copy of a machine has its original's records, which are the original's to send: they
    /// are moved out of the way. Returns how many.
    fn set_aside_if_cloned(&mut self) -> Result<u64, StoreError> {
        let Some(open) = &self.open else { return Ok(0) };
        let wrap = |error| store_error(&self.path, self.quota_bytes, error);
        let Some((epoch, records)) = open.foreign(self.config.identity).map_err(wrap)? else {
            return Ok(0);
        };
        self.open = None;
        let dir = &self.config.dir;
        // From here on a cut leaves one that may be made anew.
        files::note_unmade(&self.lock).map_err(|error| io_error(&self.path, &error))?;
        let aside = dir.join(format!("aside-{epoch:016x}"));
        let moved = std::fs::create_dir_all(&aside)
            .and_then(|()| std::fs::rename(dir.join("data.mdb"), aside.join("data.mdb")))
            .and_then(|()| File::open(dir)?.sync_all());
        moved.map_err(|error| io_error(&self.path, &error))?;
        log::warn!(
            "this machine is a copy of another: {records} records that were not its own are now in {}",
            aside.display()
        );
        self.open = Some(Databases::open(&self.config)?);
        files::note_made(&self.lock, dir).map_err(|error| io_error(&self.path, &error))?;
        Ok(records)
    }
}

fn fresh_epoch() -> u64 {
    let mut bytes = [0; 8];
    match ring::rand::SystemRandom::new().fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        // Seeded by the standard library from the same source; never seen to be needed.
        Err(_) => fastrand::u64(..),
    }
}

/// Whether the environment is of no more use after this error.
fn is_fatal(error: &heed::Error) -> bool {
    match error {
        heed::Error::Mdb(error) => !matches!(
            error,
            MdbError::MapFull | MdbError::KeyExist | MdbError::NotFound | MdbError::BadValSize
        ),
        heed::Error::Io(error) => {
            // After a failed sync nobody knows what is on the disk but the disk.
            !matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG))
        }
        _ => false,
    }
}

fn store_error(path: &str, quota_bytes: u64, error: heed::Error) -> StoreError {
    let path_owned = path.to_owned();
    match error {
        heed::Error::Io(error) => io_error(path, &error),
        heed::Error::Mdb(MdbError::MapFull) => {
            StoreError::QuotaFull { path: path_owned, quota_bytes }
        }
        heed::Error::Mdb(
            error @ (MdbError::Corrupted
            | MdbError::PageNotFound
            | MdbError::Invalid
            | MdbError::VersionMismatch
            | MdbError::Incompatible),
        ) => StoreError::Corrupt { path: path_owned, detail: error.to_string() },
        error => StoreError::Io { path: path_owned, detail: error.to_string() },
    }
}

/// Looks over the database file, which nobody has open.
fn check_file(dir: &Path) -> Result<(), StoreError> {
    let path = dir.display().to_string();
    check::check(&dir.join("data.mdb"), files::was_made(dir)).map_err(|unsound| match unsound {
        Unsound::Broken(detail) | Unsound::Foreign(detail) => StoreError::Corrupt { path, detail },
        Unsound::Io(error) => io_error(&path, &error),
    })
}

fn word(bytes: Option<&[u8]>) -> Option<u64> {
    bytes?.try_into().ok().map(u64::from_le_bytes)
}

impl Databases {
    fn open(config: &LmdbConfig) -> Result<Self, StoreError> {
        let path = config.dir.display().to_string();
        check_file(&config.dir)?;
        files::allocate_readers(&config.dir).map_err(|error| io_error(&path, &error))?;
        let mut map_bytes = config.map_bytes.max(MAP_BYTES_MIN).next_multiple_of(1 << 16);
        loop {
            match Self::open_mapped(&config.dir, map_bytes) {
                Err(heed::Error::Io(error))
                    if error.raw_os_error() == Some(libc::ENOMEM)
                        && map_bytes / 2 >= MAP_BYTES_MIN =>
                {
                    map_bytes = (map_bytes / 2).next_multiple_of(1 << 16);
                }
                done => return done.map_err(|error| store_error(&path, 0, error)),
            }
        }
    }

    fn open_mapped(dir: &Path, map_bytes: usize) -> Result<Self, heed::Error> {
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(map_bytes).max_dbs(4).max_readers(16);
        // SAFETY: the files are ours alone: `owner.lock` keeps other writers out, `check` has
        // looked over the pages, and nothing here writes to the map.
        #[allow(unsafe_code)]
        let env = unsafe { options.open(dir)? };
        // LMDB opens the data file so that every program we start would inherit it, writable.
        files::close_on_exec(&env.try_clone_inner_file()?)?;
        let txn = env.write_txn()?;
        let made = env.create_databases_and_commit(txn, |opener, txn| {
            let log = opener.create_database::<U64<BigEndian>, Bytes>(txn, Some("log"))?;
            let meta = opener.create_database::<Bytes, Bytes>(txn, Some("meta"))?;
            let quarantine =
                opener.create_database::<U64<BigEndian>, Bytes>(txn, Some("quarantine"))?;
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit((log, meta, quarantine)))
        })?;
        let (log, meta, quarantine) = made.unwrap_commit();
        Ok(Self { env, log, meta, quarantine })
    }

    /// The epoch and the number of records, if they belong to another machine.
    fn foreign(&self, identity: Option<[u8; 32]>) -> Result<Option<(u64, u64)>, heed::Error> {
        let txn = self.env.read_txn()?;
        let stored = self.meta.get(&txn, KEY_IDENTITY)?;
        let foreign = match (identity, stored) {
            (Some(own), Some(stored)) => own != *stored,
            _ => false,
        };
        let epoch = word(self.meta.get(&txn, KEY_EPOCH)?).unwrap_or(0);
        Ok(if foreign { Some((epoch, self.log.len(&txn)?)) } else { None })
    }

    fn begin(
        &self,
        identity: Option<[u8; 32]>,
        fresh_epoch: impl FnOnce() -> u64,
    ) -> Result<StoreState, heed::Error> {
        let mut txn = self.env.write_txn()?;
        let epoch = match word(self.meta.get(&txn, KEY_EPOCH)?) {
            Some(epoch) => epoch,
            None => {
                let epoch = fresh_epoch();
                self.meta.put(&mut txn, KEY_EPOCH, &epoch.to_le_bytes())?;
                epoch
            }
        };
        if let Some(own) = identity
            && self.meta.get(&txn, KEY_IDENTITY)? != Some(&own)
        {
            self.meta.put(&mut txn, KEY_IDENTITY, &own)?;
        }
        let mut state = self.state(&txn)?;
        state.epoch = epoch;
        txn.commit()?;
        Ok(state)
    }

    fn state(&self, txn: &RoTxn<'_, WithoutTls>) -> Result<StoreState, heed::Error> {
        let mut state = StoreState { next: 1, ..StoreState::default() };
        state.epoch = word(self.meta.get(txn, KEY_EPOCH)?).unwrap_or(0);
        for record in self.log.iter(txn)? {
            let (_, value) = record?;
            state.records += 1;
            state.bytes += value.len().saturating_sub(VALUE_HEAD) as u64;
        }
        state.next = word(self.meta.get(txn, KEY_NEXT)?).unwrap_or(1).max(1);
        if let Some((last, _)) = self.log.last(txn)? {
            state.next = state.next.max(last.saturating_add(1));
        }
        state.first = self.log.first(txn)?.map_or(state.next, |(first, _)| first);
        for page in self.meta.prefix_iter(txn, &[KEY_PAGE])? {
            let (key, page) = page?;
            if let Some(number) = key.get(1..).and_then(|key| key.try_into().ok()) {
                state.pages.push((u32::from_be_bytes(number), page.to_vec()));
            }
        }
        Ok(state)
    }

    /// Appends a batch; returns the bytes of records that it takes the place of.
    fn append(&self, batch: &Batch, next: u64, value: &mut Vec<u8>) -> Result<u64, heed::Error> {
        let mut txn = self.env.write_txn()?;
        let mut undone = 0;
        if batch.first < next {
            // A commit that was reported as failed had reached the disk after all.
            for record in self.log.range(&txn, &(batch.first..))? {
                undone += record?.1.len().saturating_sub(VALUE_HEAD) as u64;
            }
            self.log.delete_range(&mut txn, &(batch.first..))?;
        }
        for (seq, frame) in batch.records() {
            encode_value(value, batch.arrived, frame);
            self.log.put_with_flags(&mut txn, PutFlags::APPEND, &seq, value)?;
        }
        txn.commit()?;
        Ok(undone)
    }

    /// Copies records out; also the numbers of those that cannot be records.
    fn read(
        &self,
        from: u64,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<(Vec<Record>, Vec<u64>), heed::Error> {
        let txn = self.env.read_txn()?;
        let (mut records, mut bad, mut bytes) = (Vec::new(), Vec::new(), 0);
        for record in self.log.range(&txn, &(from..))? {
            let (seq, value) = record?;
            let Some((arrived, frame)) = value.split_first_chunk::<VALUE_HEAD>() else {
                bad.push(seq);
                continue;
            };
            bytes += frame.len();
            if records.len() >= records_max || (!records.is_empty() && bytes > bytes_max) {
                break;
            }
            let arrived = WallMs(u64::from_le_bytes(*arrived));
            records.push(Record { seq, arrived, frame: frame.to_vec() });
        }
        Ok((records, bad))
    }

    fn trim(
        &self,
        upto: u64,
        next: u64,
        pages: &[(u32, Vec<u8>)],
    ) -> Result<(u64, u64), heed::Error> {
        let mut txn = self.env.write_txn()?;
        let (mut records, mut bytes) = (0, 0);
        for record in self.log.range(&txn, &(..=upto))? {
            records += 1;
            bytes += record?.1.len().saturating_sub(VALUE_HEAD) as u64;
        }
        self.log.delete_range(&mut txn, &(..=upto))?;
        // Of a log that is drained to nothing this is all that remembers its numbers.
        self.put_next(&mut txn, next)?;
        for (number, page) in pages {
            let mut key = [KEY_PAGE; 5];
            key[1..].copy_from_slice(&number.to_be_bytes());
            self.meta.put(&mut txn, &key, page)?;
        }
        txn.commit()?;
        Ok((records, bytes))
    }

    /// Moves a record to the quarantine; returns its bytes, 0 if there is none.
    fn quarantine(&self, seq: u64, reason: &str) -> Result<u64, heed::Error> {
        let mut txn = self.env.write_txn()?;
        let Some(value) = self.log.get(&txn, &seq)?.map(<[u8]>::to_vec) else { return Ok(0) };
        self.quarantine.put(&mut txn, &seq, &inspect::encode_quarantined(reason, &value))?;
        while self.quarantine.len(&txn)? > QUARANTINE_MAX {
            let Some((oldest, _)) = self.quarantine.first(&txn)? else { break };
            self.quarantine.delete(&mut txn, &oldest)?;
        }
        self.log.delete(&mut txn, &seq)?;
        if self.log.is_empty(&txn)? || self.log.last(&txn)?.is_some_and(|(last, _)| last < seq) {
            // The last record takes the log's next number with it.
            let next = word(self.meta.get(&txn, KEY_NEXT)?).unwrap_or(1).max(seq + 1);
            self.put_next(&mut txn, next)?;
        }
        txn.commit()?;
        Ok(value.len().saturating_sub(VALUE_HEAD) as u64)
    }

    fn put_next(&self, txn: &mut RwTxn<'_>, next: u64) -> Result<(), heed::Error> {
        self.meta.put(txn, KEY_NEXT, &next.to_le_bytes())
    }
}

fn encode_value(value: &mut Vec<u8>, arrived: WallMs, frame: &[u8]) {
    value.clear();
    value.extend_from_slice(&arrived.0.to_le_bytes());
    value.extend_from_slice(frame);
}

#[cfg(test)]
mod tests;
