//! What the whole catalog says of paths, for those that look at one of them.

use super::{DirectorySpec, Spec};
use crate::provider::rooted::{is_temp_name, split_path, temp_name};
use engine::release::ArchivedCatalog;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::os::unix::ffi::OsStrExt;

/// The paths that some resource manages: a purge leaves them alone. And the directories that
/// may come about in a run: a dry run counts on them.
#[derive(Debug, Default)]
pub struct ManagedPaths {
    pub(super) paths: BTreeSet<Vec<u8>>,
    /// Directories that some resource makes, or may make.
    pub(super) made: BTreeSet<Vec<u8>>,
    /// Directories that are made with what is in them.
    pub(super) trees: BTreeSet<Vec<u8>>,
}

impl ManagedPaths {
    /// Those of a catalog.
    #[must_use]
    pub fn of(catalog: &ArchivedCatalog) -> Self {
        let mut managed = Self::default();
        for resource in catalog.resources.iter() {
            let Ok(spec) = Spec::read(resource) else { continue };
            let Some(path) = spec.path() else { continue };
            managed.paths.insert(path.to_vec());
            match spec {
                Spec::Directory(DirectorySpec { tree: Some(_), .. }) => {
                    managed.trees.insert(path.to_vec());
                }
                Spec::Directory(_) | Spec::Symlink { .. } => {
                    managed.made.insert(path.to_vec());
                }
                _ => {}
            }
            // What a command makes nobody can tell.
            let kind = |r: u32| catalog.resources.get(r as usize).map(|r| r.kind.as_str());
            if resource.requires.iter().any(|r| kind(r.to_native()) == Some("exec")) {
                managed.made.insert(split_path(path).0.to_vec());
            }
        }
        managed
    }

    /// Whether this path is managed, or something below it is.
    #[must_use]
    pub fn concern(&self, path: &[u8]) -> bool {
        if self.paths.contains(path) {
            return true;
        }
        let below = [path, b"/"].concat();
        let from = (Bound::Included(&below[..]), Bound::Unbounded);
        let first = self.paths.range::<[u8], _>(from).next();
        first.is_some_and(|p| p.starts_with(&below))
    }

    /// Whether something managed is written at this path before it takes its place.
    #[must_use]
    pub fn write_at(&self, path: &[u8]) -> bool {
        let name = split_path(path).1;
        if !is_temp_name(name) {
            return false;
        }
        let directory = &path[..path.len() - name.len()];
        let from = (Bound::Included(directory), Bound::Unbounded);
        let mut below = self.paths.range::<[u8], _>(from).map_while(|p| p.strip_prefix(directory));
        below.any(|p| !p.contains(&b'/') && temp_name(p).as_bytes() == name)
    }

    /// Whether a directory that is missing may come about before something in it is looked at.
    #[must_use]
    pub fn may_make(&self, directory: &[u8]) -> bool {
        let ancestors = std::iter::successors(Some(directory), |d| {
            let parent = split_path(d).0;
            (parent.len() < d.len()).then_some(parent)
        });
        self.made.contains(directory) || ancestors.into_iter().any(|d| self.trees.contains(d))
    }
}
