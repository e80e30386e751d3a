//! One run of an assignment: what `apply --once` does, and the daemon again and again.

use crate::config::Config;
use crate::executor::graph::Graph;
use crate::executor::run::{Run, RunDone, explain, graph_of};
use crate::executor::stop::StopSwitch;
use crate::policy::{AssignedManifest, BlobError, Cache, LoadedCatalog};
use crate::provider::accounts::Accounts;
use crate::provider::command::poll_timeout;
use crate::provider::rooted::{PathError, Rooted};
use crate::provider::signature::Signatures;
use crate::resource::{Context, ManagedPaths};
use engine::ids::BlobHash;
use nix::poll::{PollFd, PollFlags};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a run that another process holds up looks whether it may begin.
const LOCK_LOOK: Duration = Duration::from_millis(50);

/// What the enforcer needs to know.
#[derive(Debug, Clone)]
pub struct EnforcerConfig {
    /// Directory that all managed paths are inside of.
    pub root: PathBuf,
    /// Directory of the blob cache.
    pub cache_dir: PathBuf,
    /// Directory of the lock that keeps runs apart.
    pub state_dir: PathBuf,
    /// Whether commands may run although the root is not `/`.
    pub allow_exec: bool,
    /// Whether every file is synced before it takes its place.
    pub fsync: bool,
    /// Resources at once.
    pub parallel: usize,
    /// Time between checks of what cannot be watched, and the longest between attempts at what
    /// has failed.
    pub check_interval: Duration,
}

impl From<&Config> for EnforcerConfig {
    fn from(config: &Config) -> Self {
        Self {
            root: config.root.clone(),
            cache_dir: config.cache_dir(),
            state_dir: config.state_dir.clone(),
            allow_exec: config.allow_exec,
            fsync: config.fsync,
            parallel: config.parallel,
            check_interval: config.check_interval,
        }
    }
}

/// Why a run cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Catalog or manifest.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The root directory.
    #[error(transparent)]
    Root(#[from] PathError),
    /// Cycles and the like.
    #[error("{0}")]
    Graph(String),
    /// The lock file.
    #[error("cannot lock {path:?}: {source}; is state_dir there, and may this user write to it?")]
    Lock {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The client was stopped while it waited for another run.
    #[error("the client stopped while another run was going on")]
    Stopped,
}

/// What runs need, apart from an assignment.
pub struct Applier {
    pub(super) config: EnforcerConfig,
    cache: Cache,
    pub(super) signatures: Signatures,
}

impl Applier {
    /// For these settings.
    #[must_use]
    pub fn new(config: EnforcerConfig) -> Self {
        let cache = Cache::new(&config.cache_dir);
        Self { config, cache, signatures: Signatures::default() }
    }

    /// The blob cache.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Runs a catalog, once; alone among the processes that use this state directory, unless
    /// it is a dry run.
    ///
    /// # Errors
    /// [`ApplyError`]: nothing was applied.
    pub fn apply(
        &self,
        assigned: &AssignedManifest,
        scope: &Scope<'_>,
        stop: &StopSwitch,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<RunDone, ApplyError> {
        let root = Rooted::open(&self.config.root)?;
        let (loaded, graph) = self.load(assigned.catalog)?;
        let catalog = loaded.archived();
        let _lock = match scope.dry_run {
            true => None,
            false => Some(lock_runs(&self.config.state_dir, stop)?),
        };
        let context = Context {
            root: &root,
            cache: &self.cache,
            accounts: &Accounts::of_system(),
            signatures: &self.signatures,
            stop,
            managed: &ManagedPaths::of(catalog),
            dry_run: scope.dry_run,
            allow_exec: self.config.allow_exec,
            fsync: self.config.fsync,
        };
        let run = Run {
            catalog,
            graph: &graph,
            selected: scope.selected,
            blocked: scope.blocked,
            parallel: self.config.parallel,
            revision: assigned.revision,
            trigger: scope.trigger,
            is_superseded: scope.is_superseded,
        };
        Ok(run.run(&context, progress))
    }

    pub(super) fn load(&self, catalog: BlobHash) -> Result<(LoadedCatalog, Graph), ApplyError> {
        let loaded = LoadedCatalog::load(&self.cache, catalog)?;
        let graph = graph_of(loaded.archived())
            .map_err(|e| ApplyError::Graph(explain(&e, loaded.archived())))?;
        Ok((loaded, graph))
    }
}

/// What one run looks at, and how.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// Which resources; `None`: all.
    pub selected: Option<&'a BTreeSet<u32>>,
    /// Resources that failed before and are not looked at now.
    pub blocked: &'a BTreeSet<u32>,
    /// Whether nothing may be written.
    pub dry_run: bool,
    /// One of `engine::wire::message::trigger`.
    pub trigger: u8,
    /// Whether there is something newer to be applied: then what has not begun is left.
    pub is_superseded: &'a (dyn Fn() -> bool + Sync),
}

/// The lock that keeps the daemon's runs and those of `apply --once` apart.
pub(super) fn lock_runs(state_dir: &Path, stop: &StopSwitch) -> Result<File, ApplyError> {
    let path = state_dir.join("run.lock");
    let failed = |source| ApplyError::Lock { path: path.clone(), source };
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) if stop.is_pulled() => {
                return Err(ApplyError::Stopped);
            }
            Err(std::fs::TryLockError::WouldBlock) => {
                let mut fds = [PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
                match nix::poll::poll(&mut fds, poll_timeout(LOCK_LOOK)) {
                    Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                    Err(e) => return Err(failed(e.into())),
                }
            }
            Err(std::fs::TryLockError::Error(e)) => return Err(failed(e)),
        }
    }
}
