//! Removing what is needed no more: old releases first, then blobs that no release names.

use super::error::StoreError;
use super::store::{PublishLock, ReleaseStore, list, sync};
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
        self.remove_blobs(&keep, &mut collected)?;
        Ok(collected)
    }

    fn remove_blobs(
        &self,
        keep: &HashSet<BlobHash>,
        collected: &mut Collected,
    ) -> Result<(), StoreError> {
        for prefix in list(&self.blobs_dir())? {
            let dir = self.blobs_dir().join(&prefix);
            if prefix.len() != 2 || !dir.is_dir() {
                continue;
            }
            for rest in list(&dir)? {
                let hex = [prefix.to_string_lossy(), rest.to_string_lossy()].concat();
                // What is no blob is not ours to remove.
                let Some(hash) = BlobHash::from_hex(&hex) else { continue };
                if keep.contains(&hash) {
                    continue;
                }
                let path = dir.join(&rest);
                let size = fs::metadata(&path).map_or(0, |m| m.len());
                fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
                collected.blobs += 1;
                collected.bytes += size;
            }
        }
        Ok(())
    }
}
