//! The kinds of resources: what a policy may say of each, and how each is checked and applied.

mod directory;
mod entry;
mod exec;
mod managed;
mod spec;
mod tree;

pub use managed::ManagedPaths;
pub use spec::{DirectorySpec, ExecSpec, FileSpec, OwnerSpec, Spec, SpecError};

use crate::executor::stop::StopSwitch;
use crate::policy::{BlobError, Cache};
use crate::provider::accounts::{AccountError, AccountKind, Accounts};
use crate::provider::rooted::{Directory, PathError, Rooted, split_path};
use crate::provider::signature::Signatures;
use std::time::Duration;

/// All that a resource needs of its surroundings.
pub struct Context<'a> {
    /// Where its paths are.
    pub root: &'a Rooted,
    /// Where its content is.
    pub cache: &'a Cache,
    /// Who its owners are.
    pub accounts: &'a Accounts,
    /// What files held when they were last read.
    pub signatures: &'a Signatures,
    /// When to give up.
    pub stop: &'a StopSwitch,
    /// The paths of the whole catalog.
    pub managed: &'a ManagedPaths,
    /// Whether nothing may be written.
    pub dry_run: bool,
    /// Whether commands may run although the root is not the machine's own.
    pub allow_exec: bool,
    /// Whether every file is synced before it takes its place.
    pub fsync: bool,
}

/// How a resource was found, and left.
#[derive(Debug, PartialEq, Eq)]
pub enum Settled {
    /// It was as wanted.
    Unchanged,
    /// It was not, and is now (in a dry run: would be).
    Changed(Change),
    /// It was left alone, for this reason; nothing is wrong with what requires it.
    Skipped(String),
}

/// What was done, in words.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The state before.
    pub before: String,
    /// The state after.
    pub after: String,
    /// What a command printed.
    pub output: Vec<u8>,
    /// In a dry run: the difference, for people.
    pub diff: String,
}

/// Why a resource could not be made as wanted.
#[derive(Debug, thiserror::Error)]
pub enum ResourceError {
    /// The policy says something of it that this client does not understand.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// An owner.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// Its content.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// Some entries of a tree.
    #[error("{failed} of {entries} entries failed: {first}")]
    Entries {
        /// How many.
        failed: usize,
        /// Of how many.
        entries: usize,
        /// The first few, in words.
        first: String,
        /// A blob that must be fetched again.
        to_fetch: Vec<engine::ids::BlobHash>,
    },
    /// A command could not be run.
    #[error("cannot run {program:?}: {source}")]
    CommandStart {
        /// Which.
        program: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A command did not succeed.
    #[error("{what} {end}")]
    CommandEnd {
        /// `the command`, `unless` or `only_if`.
        what: &'static str,
        /// How it ended.
        end: String,
        /// What it printed.
        output: Vec<u8>,
    },
    /// The client stopped.
    #[error("the client stopped before this was done")]
    Interrupted {
        /// What a command had printed by then.
        output: Vec<u8>,
    },
}

impl ResourceError {
    /// Blobs that must be fetched again before another attempt.
    #[must_use]
    pub fn to_fetch(&self) -> Vec<engine::ids::BlobHash> {
        match self {
            Self::Blob(blob) => blob.to_fetch().into_iter().collect(),
            Self::Entries { to_fetch, .. } => to_fetch.clone(),
            _ => Vec::new(),
        }
    }
}

/// Owner and group as numbers; `None` is left as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
}

impl Context<'_> {
    fn owner(&self, spec: &OwnerSpec) -> Result<Owner, ResourceError> {
        let find = |kind, name: &Option<Vec<u8>>| {
            name.as_deref().map(|n| self.accounts.find(kind, n, self.stop)).transpose()
        };
        let uid = find(AccountKind::User, &spec.owner)?;
        Ok(Owner { uid, gid: find(AccountKind::Group, &spec.group)? })
    }

    /// The directory that contains a path. In a dry run a missing one is no error if something
    /// else in the catalog would have made it by now.
    fn parent<'p>(&self, path: &'p [u8]) -> Result<Option<(Directory, &'p [u8])>, PathError> {
        match self.root.parent(path) {
            Err(PathError::NoParent { .. })
                if self.dry_run && self.managed.may_make(split_path(path).0) =>
            {
                Ok(None)
            }
            other => other.map(Some),
        }
    }
}

impl Spec {
    /// Looks at the resource, and makes it as wanted unless this is a dry run.
    ///
    /// # Errors
    /// [`ResourceError`]: then it may be as it was, but never half of what it should be.
    pub fn settle(&self, context: &Context<'_>) -> Result<Settled, ResourceError> {
        match self {
            Self::File(spec) => entry::settle_file_resource(context, spec),
            Self::Absent { path } => entry::settle_absent(context, path),
            Self::Symlink { path, target } => entry::settle_symlink_resource(context, path, target),
            Self::Directory(spec) => directory::settle(context, spec),
            Self::Exec(spec) => exec::settle(context, spec),
        }
    }

    /// The path that it manages, if it manages one.
    #[must_use]
    pub fn path(&self) -> Option<&[u8]> {
        match self {
            Self::File(FileSpec { path, .. })
            | Self::Absent { path }
            | Self::Symlink { path, .. }
            | Self::Directory(DirectorySpec { path, .. }) => Some(path),
            Self::Exec(_) => None,
        }
    }

    /// How its drift can be noticed.
    #[must_use]
    pub fn attention(&self) -> Attention<'_> {
        match self {
            Self::Directory(spec) if spec.reaches_below() => Attention::Below(&spec.path),
            Self::Exec(ExecSpec { creates: Some(path), unless, only_if, .. })
                if unless.is_empty() && only_if.is_empty() =>
            {
                Attention::At(path)
            }
            Self::Exec(_) => Attention::Interval,
            _ => self.path().map_or(Attention::Interval, Attention::At),
        }
    }
}

/// How a resource's drift can be noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attention<'a> {
    /// By watching one path.
    At(&'a [u8]),
    /// By watching a directory and all below it.
    Below(&'a [u8]),
    /// Only by looking again from time to time.
    Interval,
}

/// How long a command may take whose policy does not say.
pub const EXEC_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5 * 60);

#[cfg(test)]
mod tests;
