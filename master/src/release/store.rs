//! Where things lie below the state directory, and reading them.

use super::error::StoreError;
use super::index::{RELEASE_SCHEMA, Release};
use engine::blob::Cache;
use engine::ids::{BlobHash, Revision};
use engine::release::decode;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Begins every index; a hash of all that follows it comes next.
const INDEX_MAGIC: &[u8; 8] = b"DRVREL1\n";
/// An index larger than this is damaged: it would list some ten million files.
const INDEX_SIZE_MAX: u64 = 1 << 30;

/// The release store below a state directory.
#[derive(Debug, Clone)]
pub struct ReleaseStore {
    state_dir: PathBuf,
}

/// Held by the one process that writes to the store; the kernel gives it up when that ends,
/// however it ends.
#[derive(Debug)]
pub struct PublishLock {
    _file: File,
}

impl ReleaseStore {
    /// The store below this state directory; nothing is read or made yet.
    #[must_use]
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self { state_dir: state_dir.into() }
    }

    /// The state directory.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// The directory of the blobs: `blobs/ab/cdef…`.
    #[must_use]
    pub fn blobs_dir(&self) -> PathBuf {
        self.state_dir.join("blobs")
    }

    /// Where a blob lies.
    #[must_use]
    pub fn blob_path(&self, hash: BlobHash) -> PathBuf {
        let hex = hash.to_hex();
        self.blobs_dir().join(&hex[..2]).join(&hex[2..])
    }

    /// The same blobs as the engine's cache has them, which the daemon serves from.
    pub(super) fn cache(&self) -> Result<Cache, StoreError> {
        Ok(Cache::open(&self.state_dir, true)?)
    }

    pub(super) fn releases_dir(&self) -> PathBuf {
        self.state_dir.join("releases")
    }

    pub(super) fn staging_dir(&self) -> PathBuf {
        self.state_dir.join("staging")
    }

    pub(super) fn current_path(&self) -> PathBuf {
        self.releases_dir().join("current")
    }

    pub(super) fn release_dir(&self, revision: Revision) -> PathBuf {
        self.releases_dir().join(revision.to_string())
    }

    /// Makes the directories and takes the lock that a writer needs.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another process writes, else [`StoreError::Io`].
    pub fn lock(&self) -> Result<PublishLock, StoreError> {
        for dir in [self.state_dir.clone(), self.blobs_dir(), self.releases_dir()] {
            make_dir(&dir)?;
        }
        let path = self.state_dir.join("publish.lock");
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(StoreError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(PublishLock { _file: file }),
            Err(TryLockError::WouldBlock) => {
                Err(StoreError::Locked { path: self.state_dir.clone() })
            }
            Err(TryLockError::Error(e)) => Err(StoreError::io("lock", &path)(e)),
        }
    }

    /// The number of the release in force; `None` before the first.
    ///
    /// # Errors
    /// [`StoreError`]; never for a release that is being written.
    pub fn current(&self) -> Result<Option<Revision>, StoreError> {
        let path = self.current_path();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(StoreError::io("read", &path)(e)),
        };
        let number =
            std::str::from_utf8(&text).ok().and_then(|t| t.strip_suffix('\n')?.parse().ok());
        match number {
            Some(revision) => Ok(Some(Revision(revision))),
            None => Err(StoreError::Damaged { path, what: "it holds no revision" }),
        }
    }

    /// Reads the release in force; `None` before the first.
    ///
    /// # Errors
    /// [`StoreError`] names the damaged file.
    pub fn open_current(&self) -> Result<Option<Release>, StoreError> {
        let Some(mut revision) = self.current()? else { return Ok(None) };
        loop {
            match self.open(revision) {
                Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                    // Publishing went on between the two reads, and this one is kept no more.
                    let now = self.current()?;
                    if now == Some(revision) || now.is_none() {
                        let path = self.current_path();
                        return Err(StoreError::Damaged {
                            path,
                            what: "the release it names is gone",
                        });
                    }
                    revision = now.unwrap_or(revision);
                }
                other => return other.map(Some),
            }
        }
    }

    /// Reads a release by its number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(&self, revision: Revision) -> Result<Release, StoreError> {
        let path = self.release_dir(revision).join("index");
        let bytes = read_bounded(&path, INDEX_SIZE_MAX)?;
        let damaged = |what| StoreError::Damaged { path: path.clone(), what };
        let rest = bytes.strip_prefix(INDEX_MAGIC).ok_or_else(|| damaged("it is no index"))?;
        let (hash, body) =
            rest.split_first_chunk::<32>().ok_or_else(|| damaged("it is cut short"))?;
        if BlobHash::of(body) != BlobHash(*hash) {
            return Err(damaged("its checksum is wrong"));
        }
        let (schema, body) =
            body.split_first_chunk::<2>().ok_or_else(|| damaged("it is cut short"))?;
        let found = u16::from_le_bytes(*schema);
        if found != RELEASE_SCHEMA {
            return Err(StoreError::Later { path, found });
        }
        let release: Release = decode(body).ok_or_else(|| damaged("its body is no release"))?;
        if release.revision != revision.0 {
            return Err(damaged("it is another release's"));
        }
        Ok(release)
    }

    /// The numbers of all releases on disk, ascending.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn revisions(&self) -> Result<Vec<Revision>, StoreError> {
        let mut revisions: Vec<_> = list(&self.releases_dir())?
            .iter()
            .filter_map(|name| name.to_str()?.parse().ok().map(Revision))
            .collect();
        revisions.sort_unstable();
        Ok(revisions)
    }

    /// Reads a whole blob that is not larger than `size_max`, and checks its hash.
    ///
    /// # Errors
    /// [`StoreError`]; a blob that is not what its name says is [`StoreError::Damaged`].
    pub fn read_blob(&self, hash: BlobHash, size_max: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.blob_path(hash);
        let bytes = read_bounded(&path, size_max)?;
        if BlobHash::of(&bytes) != hash {
            return Err(StoreError::Damaged { path, what: "its hash is not its name" });
        }
        Ok(bytes)
    }
}

/// The bytes of an index file.
pub(super) fn encode_index(release: &Release) -> Vec<u8> {
    let schema = RELEASE_SCHEMA.to_le_bytes();
    let body = [&schema[..], &engine::wire::encode(release)].concat();
    [INDEX_MAGIC, &BlobHash::of(&body).0[..], &body].concat()
}

/// The names in a directory; none if it is not there.
pub(super) fn list(dir: &Path) -> Result<Vec<std::ffi::OsString>, StoreError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(StoreError::io("list", dir)(e)),
    };
    entries.map(|e| Ok(e.map_err(StoreError::io("list", dir))?.file_name())).collect()
}

fn read_bounded(path: &Path, size_max: u64) -> Result<Vec<u8>, StoreError> {
    let file = File::open(path).map_err(StoreError::io("open", path))?;
    let mut bytes = Vec::new();
    file.take(size_max + 1).read_to_end(&mut bytes).map_err(StoreError::io("read", path))?;
    if bytes.len() as u64 > size_max {
        return Err(StoreError::Damaged { path: path.to_owned(), what: "it is far too large" });
    }
    Ok(bytes)
}

pub(super) fn make_dir(dir: &Path) -> Result<(), StoreError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(StoreError::io("make the directory", dir))
}

/// Makes a file's bytes, or the names in a directory, durable.
pub(super) fn sync(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(StoreError::io("sync", path))
}

/// Opens a new file that only its owner may read; one left over is emptied.
pub(super) fn new_file(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path).map_err(StoreError::io("create", path))
}

/// Writes a new file; it is not durable yet.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    new_file(path)?.write_all(bytes).map_err(StoreError::io("write", path))
}

/// Replaces a small file: beside its place, synced, renamed, and the rename synced.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let beside = path.with_extension("new");
    write(&beside, bytes)?;
    sync(&beside)?;
    fs::rename(&beside, path).map_err(StoreError::io("rename into place", path))?;
    path.parent().map_or(Ok(()), sync)
}
