//! Who may apply: one process at a time for each state directory. Whoever has the lock of the
//! queue of reports is the one, the daemon for as long as it runs.

use crate::config::Config;
use engine::queue::lmdb::StoreLock;
use engine::queue::store::StoreError;
use std::path::PathBuf;

/// Why this process may not apply.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// Another one does.
    #[error(
        "the state directory {path:?} is in use by {holder}, and one process at a time may apply: wait for its end, or stop it; `apply --once --dry-run` writes nothing and may run beside it"
    )]
    InUse {
        /// The state directory.
        path: PathBuf,
        /// Who, in words.
        holder: String,
    },
    /// The lock cannot be taken.
    #[error("{0}; is state_dir right, and may this user write to it?")]
    Lock(StoreError),
}

/// The right to apply, until it is dropped.
#[derive(Debug)]
pub struct Ownership {
    _lock: StoreLock,
}

impl Ownership {
    /// Takes it.
    ///
    /// # Errors
    /// [`OwnerError`].
    pub fn take(config: &Config) -> Result<Self, OwnerError> {
        match StoreLock::take(&config.outbox_dir()) {
            Ok(lock) => Ok(Self { _lock: lock }),
            Err(error) => Err(OwnerError::of(error, config)),
        }
    }
}

impl OwnerError {
    /// What a queue that cannot be opened means to who would apply.
    #[must_use]
    pub fn of(error: StoreError, config: &Config) -> Self {
        match error {
            StoreError::InUse { holder, .. } => {
                Self::InUse { path: config.state_dir.clone(), holder }
            }
            error => Self::Lock(error),
        }
    }
}
