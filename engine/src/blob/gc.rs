//! Removes what no kept manifest needs.

use super::cache::{Cache, CacheError, INSERT_PREFIX, remove};
use crate::ids::BlobHash;
use std::fs::{self, DirEntry};
use std::path::Path;

/// What a collection has removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Blobs and partials.
    pub removed: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Somebody holds the cache ([`Cache::hold`]): nothing was looked at, collect again later.
    pub held: bool,
}

impl Cache {
    /// Removes every blob and partial that is not in `keep` (in any order). A kill at any
    /// point leaves a valid cache, since each removal is complete in itself. Files that are
    /// not named as this cache names them are left alone.
    ///
    /// # Errors
    /// A directory cannot be read, or a file not be removed.
    pub fn collect(&self, keep: &[BlobHash]) -> Result<Collected, CacheError> {
        let Some(_exclusive) = self.try_exclusive()? else {
            return Ok(Collected { held: true, ..Collected::default() });
        };
        let mut sorted;
        let keep = if keep.is_sorted() {
            keep
        } else {
            sorted = keep.to_vec();
            sorted.sort_unstable();
            &sorted
        };
        let goes = |hash: Option<BlobHash>| hash.is_some_and(|h| keep.binary_search(&h).is_err());
        let mut collected = Collected::default();
        for dir in entries(&self.blobs)? {
            let first = dir.file_name();
            if first.len() != 2 || !dir.path().is_dir() {
                continue;
            }
            for file in entries(&dir.path())? {
                let hex = format!("{}{}", first.to_string_lossy(), name(&file));
                if goes(BlobHash::from_hex(&hex)) {
                    collected.remove(&file)?;
                }
            }
        }
        for file in entries(&self.partial)? {
            // An insertion holds the cache, so what one has left behind is of a dead process.
            if name(&file).starts_with(INSERT_PREFIX) || goes(BlobHash::from_hex(&name(&file))) {
                collected.remove(&file)?;
            }
        }
        Ok(collected)
    }
}

impl Collected {
    fn remove(&mut self, file: &DirEntry) -> Result<(), CacheError> {
        let bytes = file.metadata().map_or(0, |meta| meta.len());
        remove(&file.path())?;
        self.removed += 1;
        self.bytes += bytes;
        Ok(())
    }
}

fn name(file: &DirEntry) -> String {
    file.file_name().to_string_lossy().into_owned()
}

fn entries(dir: &Path) -> Result<impl Iterator<Item = DirEntry>, CacheError> {
    // An entry that cannot be read is looked at again by the next collection.
    Ok(fs::read_dir(dir).map_err(CacheError::io(dir))?.filter_map(Result::ok))
}

#[cfg(test)]
mod tests;
