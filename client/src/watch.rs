//! Notices that something managed was changed behind the client's back, by inotify.

use crate::provider::rooted::{
    Directory, PathError, Rooted, is_temp_name, is_within, join_path, split_path,
};
use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

/// What is watched in a directory that leads to something managed: whether it leads there still.
const ON_THE_WAY: WatchMask = WatchMask::CREATE
    .union(WatchMask::DELETE)
    .union(WatchMask::MOVED_FROM)
    .union(WatchMask::MOVED_TO)
    .union(WatchMask::DELETE_SELF)
    .union(WatchMask::MOVE_SELF);
/// What is watched in a directory that contains something managed.
const CONTAINING: WatchMask =
    ON_THE_WAY.union(WatchMask::MODIFY).union(WatchMask::CLOSE_WRITE).union(WatchMask::ATTRIB);
/// Room for the events of one read.
const BUFFER_SIZE: usize = 4096;

/// Something to watch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Where.
    pub path: Box<[u8]>,
    /// Its place in the catalog.
    pub resource: u32,
    /// Whether all that is below it belongs to it.
    pub below: bool,
}

/// What happened since it was last asked.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Noticed {
    /// Resources that something happened to.
    pub resources: BTreeSet<u32>,
    /// Events were lost: something may have happened to any of them, so all are among these.
    pub lost: bool,
}

impl Noticed {
    /// Whether nothing happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.lost && self.resources.is_empty()
    }
}

/// Why not everything can be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The system has no watch left.
    #[error(
        "the system has no inotify watch left (raise fs.inotify.max_user_watches or max_user_instances)"
    )]
    Full,
    /// A directory cannot be watched.
    #[error("cannot watch {path}: {source}")]
    System {
        /// Which.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// A directory cannot be opened.
    #[error("cannot watch: {0}")]
    Path(#[from] PathError),
}

impl WatchError {
    fn of(path: &[u8], source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENOSPC | libc::EMFILE | libc::ENFILE) => Self::Full,
            _ => Self::System { path: String::from_utf8_lossy(path).into_owned(), source },
        }
    }
}

/// The watched directories of one catalog.
pub struct Watch {
    inotify: Inotify,
    /// The paths by which a watched directory is reached: one, unless symlinks lead to it.
    directories: HashMap<WatchDescriptor, Vec<Box<[u8]>>>,
    /// Sorted by path.
    targets: Vec<Target>,
}

impl Watch {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// [`WatchError::Full`] if the system has no inotify instance left.
    pub fn new(mut targets: Vec<Target>) -> Result<Self, WatchError> {
        let inotify = Inotify::init().map_err(|e| WatchError::of(b"anything", e))?;
        targets.sort();
        Ok(Self { inotify, directories: HashMap::new(), targets })
    }

    /// How many directories are watched.
    #[must_use]
    pub fn directories_len(&self) -> usize {
        self.directories.len()
    }

    /// Watches what these resources need as it is now: the directories that contain them, all
    /// that lead there, and those below them that belong to them. `None`: all resources.
    /// Goes on after an error, so that as much as possible is watched.
    ///
    /// # Errors
    /// The first [`WatchError`]: something may go unnoticed.
    pub fn cover(
        &mut self,
        root: &Rooted,
        resources: Option<&BTreeSet<u32>>,
    ) -> Result<(), WatchError> {
        let chosen = |t: &&Target| resources.is_none_or(|r| r.contains(&t.resource));
        let mut directories: BTreeMap<Vec<u8>, WatchMask> = BTreeMap::new();
        let mut trees: Vec<Vec<u8>> = Vec::new();
        for target in self.targets.iter().filter(chosen) {
            let mut path = &target.path[..];
            let mut mask = CONTAINING;
            while path != b"/" && !path.is_empty() {
                path = split_path(path).0;
                let known = directories.entry(path.to_vec()).or_insert(ON_THE_WAY);
                *known |= mask;
                mask = ON_THE_WAY;
            }
            if target.below {
                trees.push(target.path.to_vec());
            }
        }
        let mut first_error = None;
        let mut keep = |result: Result<(), WatchError>| {
            if let Err(e) = result {
                first_error.get_or_insert(e);
            }
        };
        for (path, mask) in directories {
            match root.directory(&path) {
                Ok(Some(directory)) => keep(self.add(&directory, &path, mask)),
                // What leads there is watched, and tells when it appears.
                Ok(None) | Err(PathError::NotDirectory { .. }) => {}
                Err(e) => keep(Err(e.into())),
            }
        }
        for tree in trees {
            keep(self.add_tree(root, &tree));
        }
        first_error.map_or(Ok(()), Err)
    }

    fn add_tree(&mut self, root: &Rooted, top: &[u8]) -> Result<(), WatchError> {
        let mut pending = vec![top.to_vec()];
        let mut result = Ok(());
        while let Some(path) = pending.pop() {
            let directory = match root.directory(&path) {
                Ok(Some(directory)) => directory,
                Ok(None) | Err(PathError::NotDirectory { .. }) => continue,
                Err(e) => return Err(e.into()),
            };
            // Watched first, so that a directory made meanwhile is either listed or told.
            let added = self.add(&directory, &path, CONTAINING);
            if result.is_ok() {
                result = added;
            }
            let names = directory.directories()?;
            pending.extend(names.iter().map(|name| join_path(&path, name)));
        }
        result
    }

    fn add(
        &mut self,
        directory: &Directory,
        path: &[u8],
        mask: WatchMask,
    ) -> Result<(), WatchError> {
        // By descriptor, so that what is watched is what was opened inside the root.
        let link = format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd());
        let mask = mask | WatchMask::MASK_ADD | WatchMask::ONLYDIR;
        let added = self.inotify.watches().add(link, mask);
        let descriptor = added.map_err(|e| WatchError::of(path, e))?;
        let paths = self.directories.entry(descriptor).or_default();
        if !paths.iter().any(|p| **p == *path) {
            paths.push(path.into());
        }
        Ok(())
    }

    /// Watches no more what was at a path or below it: it is at another one now. Whatever
    /// takes its place is covered when the resources that were noticed are looked at.
    fn forget_below(&mut self, path: &[u8]) {
        let watches = &mut self.inotify.watches();
        self.directories.retain(|descriptor, paths| {
            paths.retain(|p| !is_within(p, path));
            if paths.is_empty() {
                // An error means that it is gone altogether.
                let _ = watches.remove(descriptor.clone());
            }
            !paths.is_empty()
        });
    }

    /// Reads what happened, without waiting.
    ///
    /// # Errors
    /// The system's.
    pub fn poll_noticed(&mut self) -> io::Result<Noticed> {
        let mut noticed = Noticed::default();
        let mut buffer = [0; BUFFER_SIZE];
        // Bounded: the rest is read in the next turn.
        for _ in 0..64 {
            let events = match self.inotify.read_events(&mut buffer) {
                Ok(events) => events,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            for event in events {
                if event.mask.contains(EventMask::Q_OVERFLOW) {
                    noticed.lost = true;
                    noticed.resources.extend(self.targets.iter().map(|t| t.resource));
                    continue;
                }
                let name = event.name.map(OsStrExt::as_bytes).unwrap_or_default();
                // What this client is writing appears under its own name soon.
                if is_temp_name(name) {
                    continue;
                }
                let Some(paths) = self.directories.get(&event.wd) else { continue };
                for directory in paths {
                    affected(&self.targets, &join_path(directory, name), &mut noticed.resources);
                }
                if event.mask.contains(EventMask::IGNORED) {
                    self.directories.remove(&event.wd);
                } else if event.mask.contains(EventMask::MOVE_SELF) {
                    let moved = paths.clone();
                    moved.iter().for_each(|path| self.forget_below(path));
                }
            }
        }
        Ok(noticed)
    }
}

/// The resources that are at a path, below it, or that everything below belongs to.
fn affected(targets: &[Target], path: &[u8], resources: &mut BTreeSet<u32>) {
    let first = targets.partition_point(|t| &*t.path < path);
    // Between a path and what is below it may stand others, such as `/a-b` between `/a` and
    // `/a/b`: they begin with the same bytes.
    let alike = targets[first..].iter().take_while(|t| t.path.starts_with(path));
    resources.extend(alike.filter(|t| is_within(&t.path, path)).map(|t| t.resource));
    let owners = targets[..first].iter().filter(|t| t.below && is_within(path, &t.path));
    resources.extend(owners.map(|t| t.resource));
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests;
