//! Writing a release.

use super::error::StoreError;
use super::index::Release;
use super::intake::{Blob, Intake, IntakeError, PIECE_SIZE, measure, read_piece};
use super::store::{
    PublishLock, ReleaseStore, encode_index, make_dir, new_file, replace, sync, write,
};
use engine::blob::Hold;
use engine::ids::{BlobHash, Revision};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

/// More files than this are synced together.
const SYNC_EACH_MAX: usize = 64;

/// Takes in the blobs of one release and, when all are there, puts it in force. Dropped before
/// that, it leaves nothing behind.
#[derive(Debug)]
pub struct Writer<'a> {
    store: &'a ReleaseStore,
    _lock: &'a PublishLock,
    /// What is found there already, and not written again, must stay.
    _hold: Hold,
    staged: BTreeMap<BlobHash, u64>,
    /// Blobs that were found whole.
    found: BTreeSet<BlobHash>,
    piece: Vec<u8>,
    check: Vec<u8>,
}

impl<'a> Writer<'a> {
    /// Begins a release; what an interrupted one had staged is removed.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn begin(store: &'a ReleaseStore, lock: &'a PublishLock) -> Result<Self, StoreError> {
        let hold = store.cache()?.hold()?;
        remove_dir(&store.staging_dir())?;
        make_dir(&store.staging_dir())?;
        Ok(Self {
            store,
            _lock: lock,
            _hold: hold,
            staged: BTreeMap::new(),
            found: BTreeSet::new(),
            piece: vec![0; PIECE_SIZE],
            check: vec![0; PIECE_SIZE],
        })
    }

    /// Blobs that the store did not have whole, and their bytes.
    #[must_use]
    pub fn staged(&self) -> (u64, u64) {
        (self.staged.len() as u64, self.staged.values().sum())
    }

    /// Puts the release in force.
    ///
    /// # Errors
    /// [`StoreError`]: the release in force is then the one before, or, if only the last sync
    /// failed, this one; never a part of one.
    pub fn publish(self, release: &Release) -> Result<(), StoreError> {
        self.place()?;
        self.write_index(release)?;
        replace(&self.store.current_path(), format!("{}\n", release.revision).as_bytes())
    }

    /// Puts what was missing or damaged in its place, for the release that is in force.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn repair(self) -> Result<(), StoreError> {
        self.place()
    }

    fn place(&self) -> Result<(), StoreError> {
        self.sync_each(self.staged.keys().map(|hash| self.staged_path(*hash)))?;
        let mut dirs = BTreeSet::from([self.store.blobs_dir()]);
        for hash in self.staged.keys() {
            let path = self.store.blob_path(*hash);
            if let Some(dir) = path.parent()
                && !dirs.contains(dir)
            {
                make_dir(dir)?;
                dirs.insert(dir.to_owned());
            }
            let staged = self.staged_path(*hash);
            fs::rename(&staged, &path).map_err(StoreError::io("rename into place", &path))?;
        }
        self.sync_each(dirs.into_iter())
    }

    fn write_index(&self, release: &Release) -> Result<(), StoreError> {
        let beside = self.store.releases_dir().join("new");
        remove_dir(&beside)?;
        make_dir(&beside)?;
        let index = beside.join("index");
        write(&index, &encode_index(release))?;
        sync(&index)?;
        sync(&beside)?;
        let path = self.store.release_dir(Revision(release.revision));
        fs::rename(&beside, &path).map_err(StoreError::io("rename into place", &path))?;
        sync(&self.store.releases_dir())
    }

    /// Makes files or directories durable: one by one, or, where thousands of single syncs
    /// would take minutes, with the whole file system at once.
    fn sync_each(&self, paths: impl ExactSizeIterator<Item = PathBuf>) -> Result<(), StoreError> {
        if paths.len() <= SYNC_EACH_MAX {
            return paths.into_iter().try_for_each(|path| sync(&path));
        }
        let dir = self.store.blobs_dir();
        File::open(&dir)
            .and_then(|file| Ok(nix::unistd::syncfs(&file)?))
            .map_err(StoreError::io("sync the file system of", &dir))
    }

    fn staged_path(&self, hash: BlobHash) -> PathBuf {
        self.store.staging_dir().join(hash.to_hex())
    }

    /// What is used again is read again: a blob that is damaged is replaced.
    fn has(&mut self, blob: Blob) -> bool {
        if self.staged.contains_key(&blob.hash) || self.found.contains(&blob.hash) {
            return true;
        }
        let stored = File::open(self.store.blob_path(blob.hash)).ok();
        let stored = stored.and_then(|file| measure(file, &mut self.check, |_| Ok(())).ok());
        let whole = stored == Some(blob);
        if whole {
            self.found.insert(blob.hash);
        }
        whole
    }

    fn stage(&mut self, blob: Blob, bytes: &[u8]) -> Result<Blob, StoreError> {
        if !self.has(blob) {
            write(&self.staged_path(blob.hash), bytes)?;
            self.staged.insert(blob.hash, blob.size);
        }
        Ok(blob)
    }

    /// Copies a large file and hashes what it copies: if the file changes meanwhile, hash and
    /// bytes still belong together.
    fn copy(&mut self, file: &mut File) -> Result<Blob, IntakeError> {
        let path = self.store.staging_dir().join("copy");
        let mut copy = new_file(&path)?;
        let blob = measure(&mut *file, &mut self.piece, |piece| {
            copy.write_all(piece).map_err(StoreError::io("write", &path))
        })?;
        let staged = self.staged_path(blob.hash);
        fs::rename(&path, &staged).map_err(StoreError::io("rename", &staged))?;
        self.staged.insert(blob.hash, blob.size);
        Ok(blob)
    }
}

impl Intake for Writer<'_> {
    fn file(&mut self, path: &Path) -> Result<Blob, IntakeError> {
        let mut file = File::open(path).map_err(IntakeError::Source)?;
        let mut piece = std::mem::take(&mut self.piece);
        let read = read_piece(&mut file, &mut piece);
        let small = match read {
            Ok(n) if n < piece.len() => {
                Some(self.stage(Blob::of(&piece[..n]), &piece[..n]).map_err(IntakeError::from))
            }
            Ok(_) => None,
            Err(e) => Some(Err(e)),
        };
        self.piece = piece;
        if let Some(done) = small {
            return done;
        }
        // Large: read once to see whether the store has it, and copied only if it does not.
        file.rewind().map_err(IntakeError::Source)?;
        let blob = measure(&mut file, &mut self.piece, |_| Ok(()))?;
        if self.has(blob) {
            return Ok(blob);
        }
        file.rewind().map_err(IntakeError::Source)?;
        self.copy(&mut file)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<Blob, IntakeError> {
        Ok(self.stage(Blob::of(bytes), bytes)?)
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next writer.
        if let Err(e) = remove_dir(&self.store.staging_dir()) {
            log::warn!("{e}");
        }
    }
}

/// Removes a directory with all in it, if it is there.
pub(super) fn remove_dir(dir: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io("remove", dir)(e)),
        _ => Ok(()),
    }
}
