//! Why the release store could not be read or written.

use engine::blob::CacheError;
use std::io;
use std::path::{Path, PathBuf};

/// Why the release store could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot {doing} {}: {source}{}", path.display(), hint(source))]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Another publish is under way.
    #[error("another `drover publish` is writing to {}: wait until it is done", path.display())]
    Locked {
        /// The state directory.
        path: PathBuf,
    },
    /// A file of the store is not what was written.
    #[error("{} is damaged ({what}): `drover publish` writes a new release, which repairs it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How it shows.
        what: &'static str,
    },
    /// A file of the store is of a later version.
    #[error("{} was written by a later version of Drover (schema {found}): use that version", path.display())]
    Later {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u16,
    },
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "; free some space and run it again, nothing is lost"
        }
        io::ErrorKind::PermissionDenied => "; run it as the user that owns the state directory",
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            "; a file is in the way: move it, or set state_dir"
        }
        io::ErrorKind::ReadOnlyFilesystem => "; set state_dir to a place that can be written",
        _ => "",
    }
}

impl From<CacheError> for StoreError {
    fn from(error: CacheError) -> Self {
        let doing = "use the blobs in";
        match error {
            CacheError::Io { path, error } => Self::Io { doing, path, source: error },
            CacheError::DiskFull { path } => {
                Self::Io { doing, path, source: io::ErrorKind::StorageFull.into() }
            }
            other => Self::Io { doing, path: PathBuf::new(), source: io::Error::other(other) },
        }
    }
}

impl StoreError {
    /// Makes an error of what the operating system said.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}
