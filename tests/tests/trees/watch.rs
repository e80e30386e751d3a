//! Notices what happens below a directory, as the kernel tells it.

use super::tree::walk;
use inotify::{Inotify, WatchDescriptor, WatchMask};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tests::system::PATIENCE;

/// The watched directories below one.
pub struct Watcher {
    inotify: Inotify,
    paths: HashMap<WatchDescriptor, PathBuf>,
    buffer: Vec<u8>,
}

/// Something that happened.
#[derive(Debug)]
pub struct Event {
    pub path: PathBuf,
}

impl Watcher {
    /// Watches a directory and all that are below it now.
    pub fn below(top: &Path, mask: WatchMask) -> Self {
        let inotify = Inotify::init().unwrap();
        let mut paths = HashMap::new();
        walk(top, &mut |_, path, meta| {
            if meta.is_dir() {
                let watch = inotify.watches().add(path, mask).unwrap();
                paths.insert(watch, path.to_owned());
            }
        });
        Self { inotify, paths, buffer: vec![0; 64 * 1024] }
    }

    /// What has happened since the last call, without waiting.
    pub fn drain(&mut self) -> Vec<Event> {
        let mut found = Vec::new();
        while let Ok(events) = self.inotify.read_events(&mut self.buffer) {
            for event in events {
                let mut path = self.paths.get(&event.wd).cloned().unwrap_or_default();
                path.extend(event.name.map(Path::new));
                found.push(Event { path });
            }
        }
        found
    }

    /// Waits until something has happened that is told to be enough.
    pub fn await_event(&mut self, mut enough: impl FnMut(&Event) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !self.drain().iter().any(&mut enough) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "nothing of the kind happened");
            let mut fds = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::try_from(left).unwrap()).unwrap();
        }
    }
}
