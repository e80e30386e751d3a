//! Removing what is needed no more: old releases first, then blobs that no release names.

use super::error::StoreError;
use super::store::{PublishLock, ReleaseStore, sync};
use super::writer::remove_dir;
use engine::ids::BlobHash;
use std::collections::HashSet;
use std::fs;

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Collected {
    /// Releases removed.
    pub releases: u64,
    /// Blobs removed.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl ReleaseStore {
    /// Keeps the release in force and the newest `keep_releases` of all, and the blobs they
    /// name. A release goes before its blobs do, so that one that can be read is whole,
    /// wherever this ends. If a kept one cannot be read, no blob is removed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn collect(
        &self,
        _lock: &PublishLock,
        keep_releases: usize,
    ) -> Result<Collected, StoreError> {
        let mut collected = Collected::default();
        let current = self.current()?;
        let revisions = self.revisions()?;
        let old = revisions.len().saturating_sub(keep_releases.max(1));
        let mut keep = HashSet::new();
        for (at, revision) in revisions.iter().enumerate() {
            if at >= old || Some(*revision) == current {
                keep.extend(self.open(*revision)?.keep());
                continue;
            }
            // Renamed first: a directory half removed must not look like a release.
            let doomed = self.releases_dir().join("old");
            remove_dir(&doomed)?;
            let path = self.release_dir(*revision);
            fs::rename(&path, &doomed).map_err(StoreError::io("rename", &path))?;
            sync(&self.releases_dir())?;
            remove_dir(&doomed)?;
            collected.releases += 1;
        }
        let keep: Vec<BlobHash> = keep.into_iter().collect();
        let gone = self.cache()?.collect(&keep)?;
        (collected.blobs, collected.bytes) = (gone.removed, gone.bytes);
        Ok(collected)
    }
}
