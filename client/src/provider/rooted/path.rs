//! Paths as bytes: which can be managed, what they are made of, and what can go wrong with one.

use nix::errno::Errno;
use std::io;

/// What went wrong with a path.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// The path is not absolute, or has an empty part, `.`, `..` or a zero byte.
    #[error(
        "{path:?} is no path that can be managed: write an absolute one without '.', '..' or '//'"
    )]
    Form {
        /// The path.
        path: String,
    },
    /// Its parent does not exist.
    #[error(
        "the directory of {path} does not exist; create it, or add `directory: {}` to the policy if it lacks that",
        parent_of(path)
    )]
    NoParent {
        /// The path.
        path: String,
    },
    /// A part of the path is there but is no directory.
    #[error("a part of {path} is not a directory; remove it, or manage another path")]
    NotDirectory {
        /// The path.
        path: String,
    },
    /// Something of another type is in its place.
    #[error("{path} is {found}, not {wanted}; {hint}")]
    WrongType {
        /// The path.
        path: String,
        /// What it is.
        found: &'static str,
        /// What it should be.
        wanted: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// Something is mounted there, which is not the client's to empty.
    #[error("a file system is mounted at {path}: nothing in it is removed; unmount it first")]
    Mounted {
        /// The path.
        path: String,
    },
    /// The root cannot be opened.
    #[error("cannot open the root directory {path}: {source}; make it, or correct `root`")]
    NoRoot {
        /// The path.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// The kernel cannot confine paths to a directory.
    #[error(
        "this kernel cannot keep paths inside a root directory (openat2 needs Linux 5.6): leave `root` at \"/\""
    )]
    CannotConfine,
    /// The system refused an operation.
    #[error("cannot {operation} {path}: {source}")]
    System {
        /// Which operation.
        operation: &'static str,
        /// The path.
        path: String,
        /// What the system says.
        source: io::Error,
    },
}

impl PathError {
    /// Whether what was looked for does not exist, or its directory does not: it may have been
    /// removed a moment ago.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        match self {
            Self::NoParent { .. } => true,
            Self::System { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }
}

fn parent_of(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((parent, _)) => parent,
    }
}

/// A path as text for people.
#[must_use]
pub fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn has_plain_parts(path: &[u8]) -> bool {
    let plain = |part: &[u8]| !part.is_empty() && part != b"." && part != b"..";
    !path.contains(&0) && path.split(|b| *b == b'/').all(plain)
}

/// Whether these bytes are a path below something: no leading slash, no `.`, `..` or empty part.
#[must_use]
pub fn is_relative_path(path: &[u8]) -> bool {
    has_plain_parts(path)
}

/// Whether these bytes are an absolute path without `.`, `..` or empty parts; `/` is one.
#[must_use]
pub fn is_absolute_path(path: &[u8]) -> bool {
    path == b"/" || path.strip_prefix(b"/").is_some_and(has_plain_parts)
}

/// The directory that contains a path, and the last part.
#[must_use]
pub fn split_path(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(0) => (b"/", &path[1..]),
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// Whether `path` lies below `directory`, or is it.
#[must_use]
pub fn is_within(path: &[u8], directory: &[u8]) -> bool {
    match path.strip_prefix(directory) {
        Some(rest) => rest.is_empty() || rest.starts_with(b"/") || directory == b"/",
        None => false,
    }
}

/// A path and something below it.
#[must_use]
pub fn join_path(directory: &[u8], below: &[u8]) -> Vec<u8> {
    if below.is_empty() {
        return directory.to_vec();
    }
    let separator: &[u8] = if directory.ends_with(b"/") { b"" } else { b"/" };
    [directory, separator, below].concat()
}

/// What the system says of an operation on a path.
pub(super) fn system(operation: &'static str, path: &[u8], errno: Errno) -> PathError {
    PathError::System { operation, path: shown(path), source: errno.into() }
}
