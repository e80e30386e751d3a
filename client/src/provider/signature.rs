//! Which content a file had when it was last read, so that an unchanged one is not read again.

use super::rooted::Stat;
use engine::ids::BlobHash;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// A file that changed less than this before it was read might change again without a new
/// time stamp: file systems stamp with the granularity of the scheduler's tick, some with more.
const RACY_NS: i128 = 2_100_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Signature {
    size: u64,
    mtime_ns: i128,
    ctime_ns: i128,
    hash: BlobHash,
}

/// Content by inode, in memory alone. A content is remembered only if the file's time stamps
/// were old when it was read, so that any later write gives it new ones; `ctime` cannot be set
/// back by a program.
#[derive(Default)]
pub struct Signatures(Mutex<HashMap<(u64, u64), Signature>>);

impl Signatures {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(u64, u64), Signature>> {
        // Each entry stands for itself, so one who panicked has left nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The content of a file in this state, if it was read in the same state.
    #[must_use]
    pub fn find(&self, stat: &Stat) -> Option<BlobHash> {
        let found = *self.lock().get(&stat.id)?;
        let same = found.size == stat.size
            && found.mtime_ns == stat.mtime_ns
            && found.ctime_ns == stat.ctime_ns;
        same.then_some(found.hash)
    }

    /// Remembers a content. `stat` was taken before the file was read, at `wall_ns`.
    pub fn remember(&self, stat: &Stat, hash: BlobHash, wall_ns: i128) {
        if stat.ctime_ns.max(stat.mtime_ns) + RACY_NS > wall_ns {
            self.lock().remove(&stat.id);
            return;
        }
        let (size, mtime_ns, ctime_ns) = (stat.size, stat.mtime_ns, stat.ctime_ns);
        self.lock().insert(stat.id, Signature { size, mtime_ns, ctime_ns, hash });
    }

    /// Forgets everything: what a new assignment manages are other files.
    pub fn clear(&self) {
        *self.lock() = HashMap::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::rooted::FileType;

    #[test]
    fn only_settled_files_are_remembered() {
        let seconds = |s: i128| s * 1_000_000_000;
        let stat = Stat {
            file_type: FileType::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 3,
            id: (1, 2),
            mtime_ns: seconds(100),
            ctime_ns: seconds(100),
        };
        let hash = BlobHash::of(b"abc");
        let signatures = Signatures::default();
        signatures.remember(&stat, hash, seconds(101));
        assert_eq!(signatures.find(&stat), None, "it could change within the same tick");
        signatures.remember(&stat, hash, seconds(103));
        assert_eq!(signatures.find(&stat), Some(hash));
        for changed in [
            Stat { size: 4, ..stat },
            Stat { mtime_ns: seconds(99), ..stat },
            Stat { ctime_ns: seconds(104), ..stat },
            Stat { id: (1, 3), ..stat },
        ] {
            assert_eq!(signatures.find(&changed), None, "{changed:?}");
        }
        signatures.remember(&stat, hash, seconds(101));
        assert_eq!(signatures.find(&stat), None, "a clock set back makes it unsure again");
    }
}
