//! The cache: a directory of files named by the hash of their content.
//!
//! `blobs/ab/cdef…` are whole blobs, `partial/abcdef…` those that are arriving. A blob takes
//! its place by a rename after its bytes have been hashed, so that a kill at any point leaves
//! whole blobs and partials, and nothing in between.

use crate::ids::BlobHash;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What can be wrong with a cache.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// There is no such blob.
    #[error("blob {0} is not in the cache")]
    Missing(BlobHash),
    /// The bytes were not those that the hash names; they have been removed.
    #[error("blob {hash} is damaged ({detail}); it was removed and has to be fetched again")]
    Damaged {
        /// Which.
        hash: BlobHash,
        /// What exactly.
        detail: String,
    },
    /// The file system is full.
    #[error("the disk under {} is full; free some space and try again", .path.display())]
    DiskFull {
        /// The file that could not be written.
        path: PathBuf,
    },
    /// Anything else the disk said.
    #[error("{}: {error}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What exactly.
        error: io::Error,
    },
}

impl CacheError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { path: path.to_owned() }
            }
            _ => Self::Io { path: path.to_owned(), error },
        }
    }

    fn damaged(hash: BlobHash, detail: impl Into<String>) -> Self {
        Self::Damaged { hash, detail: detail.into() }
    }
}

/// A content-addressed directory. Cheap to clone; every clone is the same cache.
#[derive(Debug, Clone)]
pub struct Cache {
    pub(super) blobs: PathBuf,
    pub(super) partial: PathBuf,
    lock: PathBuf,
    durable: bool,
}

/// While this lives nothing is collected, whichever process asks: what is written and not yet
/// in any manifest stays.
#[derive(Debug)]
pub struct Hold(#[expect(dead_code, reason = "the lock lives as long as the file")] File);

/// A blob that is arriving. Its bytes are hashed as they come.
#[derive(Debug)]
pub struct Partial {
    hash: BlobHash,
    size: u64,
    len: u64,
    path: PathBuf,
    file: File,
    hasher: blake3::Hasher,
}

/// Names in `partial/` of what [`Cache::insert_file`] is writing begin with this.
pub(super) const INSERT_PREFIX: &str = "insert-";

impl Cache {
    /// Opens a cache, and makes its directories where they are missing. With `durable` every
    /// blob is synced before it takes its place; without, a power failure may leave damaged
    /// blobs, which are found when they are verified.
    ///
    /// # Errors
    /// The directories cannot be made.
    pub fn open(dir: &Path, durable: bool) -> Result<Self, CacheError> {
        let cache = Self {
            blobs: dir.join("blobs"),
            partial: dir.join("partial"),
            lock: dir.join("lock"),
            durable,
        };
        cache.make_directories()?;
        Ok(cache)
    }

    fn make_directories(&self) -> Result<(), CacheError> {
        // The content may be secret: only its owner reads it, unless somebody widens that.
        for path in [&self.blobs, &self.partial] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(CacheError::io(path))?;
        }
        Ok(())
    }

    /// Opens a file that is made if it is missing; and so is the cache, if somebody removed it.
    fn open_new(&self, path: &Path, options: &OpenOptions) -> Result<File, CacheError> {
        let file = match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_directories()?;
                options.open(path)
            }
            opened => opened,
        };
        file.map_err(CacheError::io(path))
    }

    /// Where a blob lies if it is in the cache.
    #[must_use]
    pub fn path(&self, hash: BlobHash) -> PathBuf {
        let hex = hash.to_hex();
        self.blobs.join(&hex[..2]).join(&hex[2..])
    }

    /// Keeps anything from being collected until the guard is dropped; waits for a collection
    /// that is under way.
    ///
    /// # Errors
    /// The lock file cannot be opened.
    pub fn hold(&self) -> Result<Hold, CacheError> {
        let file = self.lock_file()?;
        file.lock_shared().map_err(CacheError::io(&self.lock))?;
        Ok(Hold(file))
    }

    /// The right to collect; `None` while somebody holds the cache.
    pub(super) fn try_exclusive(&self) -> Result<Option<Hold>, CacheError> {
        let file = self.lock_file()?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Hold(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(CacheError::io(&self.lock)(error)),
        }
    }

    fn lock_file(&self) -> Result<File, CacheError> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        self.open_new(&self.lock, &options)
    }

    /// Opens a blob and tells its size; the content is not verified.
    ///
    /// # Errors
    /// It is missing, or cannot be read.
    pub fn open_blob(&self, hash: BlobHash) -> Result<(File, u64), CacheError> {
        let path = self.path(hash);
        let file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => CacheError::Missing(hash),
            _ => CacheError::io(&path)(error),
        })?;
        let meta = file.metadata().map_err(CacheError::io(&path))?;
        if !meta.is_file() {
            return Err(CacheError::Missing(hash));
        }
        Ok((file, meta.len()))
    }

    /// Copies a blob out and verifies it on the way: what was copied is to be used only after
    /// this has returned. A damaged blob is removed.
    ///
    /// # Errors
    /// It is missing, damaged, or one of the two files failed.
    pub fn copy_to(&self, hash: BlobHash, to: &mut impl Write) -> Result<u64, CacheError> {
        let (mut file, _) = self.open_blob(hash)?;
        let path = self.path(hash);
        let mut hasher = blake3::Hasher::new();
        let mut buf = vec![0; 64 * 1024];
        let mut copied = 0;
        loop {
            let n = match file.read(&mut buf) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(CacheError::io(&path)(error)),
            };
            hasher.update(&buf[..n]);
            to.write_all(&buf[..n]).map_err(|error| CacheError::io(&path)(error))?;
            copied += n as u64;
        }
        self.check(hash, &hasher)?;
        Ok(copied)
    }

    /// Hashes a blob; a damaged one is removed, and missing from then on.
    ///
    /// # Errors
    /// It is missing, damaged, or cannot be read.
    pub fn verify(&self, hash: BlobHash) -> Result<u64, CacheError> {
        self.copy_to(hash, &mut io::sink())
    }

    fn check(&self, hash: BlobHash, hasher: &blake3::Hasher) -> Result<(), CacheError> {
        let found = BlobHash(*hasher.finalize().as_bytes());
        if found == hash {
            return Ok(());
        }
        remove(&self.path(hash))?;
        Err(CacheError::damaged(hash, format!("its content has the hash {found}")))
    }

    /// Puts bytes into the cache.
    ///
    /// # Errors
    /// The disk is full, or fails.
    pub fn insert(&self, bytes: &[u8]) -> Result<BlobHash, CacheError> {
        let hash = BlobHash::of(bytes);
        if self.verify(hash).is_err() {
            self.insert_reader(&mut &bytes[..], &self.partial)?;
        }
        Ok(hash)
    }

    /// Puts a file's content into the cache, and tells its hash and size. What is there
    /// already is verified, and written again only where it is missing or damaged.
    ///
    /// # Errors
    /// The file cannot be read; the disk is full, or fails.
    pub fn insert_file(&self, path: &Path) -> Result<(BlobHash, u64), CacheError> {
        let open = || File::open(path).map_err(CacheError::io(path));
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(open()?).map_err(CacheError::io(path))?;
        let hash = BlobHash(*hasher.finalize().as_bytes());
        if let Ok(size) = self.verify(hash) {
            return Ok((hash, size));
        }
        // Hashed once more while it is copied: the file may change between the two.
        self.insert_reader(&mut open()?, path)
    }

    fn insert_reader(
        &self,
        from: &mut impl Read,
        from_path: &Path,
    ) -> Result<(BlobHash, u64), CacheError> {
        let _hold = self.hold()?;
        let name = format!("{INSERT_PREFIX}{}-{:016x}", std::process::id(), fastrand::u64(..));
        let path = self.partial.join(name);
        let copy = || -> Result<(BlobHash, u64), CacheError> {
            let mut options = OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o644)
                .open(&path)
                .map_err(CacheError::io(&path))?;
            let mut hasher = blake3::Hasher::new();
            let mut buf = vec![0; 64 * 1024];
            let mut size = 0;
            loop {
                let n = match from.read(&mut buf) {
                    Ok(0) => break,
                    Ok(n) => n,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(CacheError::io(from_path)(error)),
                };
                hasher.update(&buf[..n]);
                file.write_all(&buf[..n]).map_err(CacheError::io(&path))?;
                size += n as u64;
            }
            let hash = BlobHash(*hasher.finalize().as_bytes());
            self.place(&file, &path, hash)?;
            Ok((hash, size))
        };
        let mut copy = copy;
        copy().inspect_err(|_| drop(remove(&path)))
    }

    /// Moves a whole file to its place.
    fn place(&self, file: &File, from: &Path, hash: BlobHash) -> Result<(), CacheError> {
        let to = self.path(hash);
        let dir = to.parent().unwrap_or(&self.blobs);
        if self.durable {
            file.sync_all().map_err(CacheError::io(from))?;
        }
        let mut renamed = fs::rename(from, &to);
        if renamed.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
            DirBuilder::new().recursive(true).create(dir).map_err(CacheError::io(dir))?;
            if self.durable {
                sync_dir(&self.blobs)?;
            }
            renamed = fs::rename(from, &to);
        }
        renamed.map_err(CacheError::io(&to))?;
        if self.durable { sync_dir(dir) } else { Ok(()) }
    }

    /// Which of these blobs are not here in the size announced, each with the bytes that have
    /// arrived of it before. A blob or partial of another size is removed; a partial that is
    /// already whole is hashed and takes its place.
    #[must_use]
    pub fn probe(&self, blobs: &[(BlobHash, u64)]) -> Vec<(BlobHash, u64, u64)> {
        blobs
            .iter()
            .filter_map(|&(hash, size)| Some((hash, size, self.missing(hash, size)?)))
            .collect()
    }

    /// Where to go on with a blob; `None` if it is here.
    fn missing(&self, hash: BlobHash, size: u64) -> Option<u64> {
        match fs::metadata(self.path(hash)) {
            Ok(meta) if meta.is_file() && meta.len() == size => return None,
            // What cannot be removed cannot be written either, and is reported then.
            Ok(_) => drop(remove(&self.path(hash))),
            Err(_) => {}
        }
        // An empty blob needs no fetch: making its partial completes it.
        let begun = size == 0 || self.partial_path(hash).exists();
        if !begun {
            return Some(0);
        }
        match self.resume(hash, size) {
            Ok(partial) if partial.len < size => Some(partial.len),
            Ok(partial) => self.finish(partial).map_or(Some(0), |()| None),
            Err(_) => Some(0),
        }
    }

    fn partial_path(&self, hash: BlobHash) -> PathBuf {
        self.partial.join(hash.to_hex())
    }

    /// Begins a blob, or goes on with what has arrived of it: that is hashed first. A partial
    /// longer than `size` is not of this blob and begins anew.
    ///
    /// # Errors
    /// The file cannot be opened or read.
    pub fn resume(&self, hash: BlobHash, size: u64) -> Result<Partial, CacheError> {
        let path = self.partial_path(hash);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o644);
        let file = self.open_new(&path, &options)?;
        let mut partial = Partial { hash, size, len: 0, path, file, hasher: blake3::Hasher::new() };
        let len = partial.file.metadata().map_err(CacheError::io(&partial.path))?.len();
        if len > size {
            partial.restart()?;
        } else if len > 0 {
            partial.hasher.update_reader(&partial.file).map_err(CacheError::io(&partial.path))?;
            partial.len = partial.hasher.count();
        }
        Ok(partial)
    }

    /// Verifies a whole partial and moves it to its place.
    ///
    /// # Errors
    /// It has the wrong length or hash, and is gone; or the disk fails.
    pub fn finish(&self, partial: Partial) -> Result<(), CacheError> {
        let found = BlobHash(*partial.hasher.finalize().as_bytes());
        if partial.len != partial.size || found != partial.hash {
            let detail = format!("{} bytes arrived, with the hash {found}", partial.len);
            let hash = partial.hash;
            partial.discard()?;
            return Err(CacheError::damaged(hash, detail));
        }
        self.place(&partial.file, &partial.path, partial.hash)
    }
}

impl Partial {
    /// Which blob it will be.
    #[must_use]
    pub fn hash(&self) -> BlobHash {
        self.hash
    }

    /// Bytes that have arrived.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing has arrived.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether all bytes have arrived.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.len == self.size
    }

    fn restart(&mut self) -> Result<(), CacheError> {
        self.file.set_len(0).map_err(CacheError::io(&self.path))?;
        self.hasher.reset();
        self.len = 0;
        Ok(())
    }

    /// Appends bytes; an offset of 0 begins anew.
    ///
    /// # Errors
    /// They do not belong at the end, or there are too many; the disk is full, or fails.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), CacheError> {
        if offset == 0 && self.len > 0 {
            self.restart()?;
        }
        if offset != self.len {
            let detail = format!("bytes for {offset} came when {} had arrived", self.len);
            return Err(CacheError::damaged(self.hash, detail));
        }
        if data.len() as u64 > self.size - self.len {
            let detail = format!("more than its {} bytes came", self.size);
            return Err(CacheError::damaged(self.hash, detail));
        }
        self.file.write_all_at(data, offset).map_err(CacheError::io(&self.path))?;
        self.hasher.update(data);
        self.len += data.len() as u64;
        Ok(())
    }

    /// Removes it.
    ///
    /// # Errors
    /// The disk fails.
    pub fn discard(self) -> Result<(), CacheError> {
        remove(&self.path)
    }
}

/// Removes a file; that it is gone already is well.
pub(super) fn remove(path: &Path) -> Result<(), CacheError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CacheError::io(path)(error)),
        _ => Ok(()),
    }
}

fn sync_dir(dir: &Path) -> Result<(), CacheError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(CacheError::io(dir))
}

#[cfg(test)]
mod tests;
