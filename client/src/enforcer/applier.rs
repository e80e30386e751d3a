//! One run of an assignment: what `apply --once` does, and the daemon again and again.

use crate::config::Config;
use crate::executor::graph::Graph;
use crate::executor::run::{Progress, Run, RunDone, explain, graph_of};
use crate::executor::stop::StopSwitch;
use crate::policy::{AssignedManifest, BlobError, Cache, LoadedCatalog};
use crate::provider::accounts::Accounts;
use crate::provider::rooted::{PathError, Rooted, is_within};
use crate::provider::signature::Signatures;
use crate::resource::{Context, ManagedPaths, Spec};
use engine::ids::{BlobHash, Revision};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// What the enforcer needs to know.
#[derive(Debug, Clone)]
pub struct EnforcerConfig {
    /// Directory that all managed paths are inside of.
    pub root: PathBuf,
    /// Directory of the blob cache.
    pub cache_dir: PathBuf,
    /// Directory of the assignment that is kept.
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
}

/// An assignment that can be run.
pub struct Ready {
    revision: Revision,
    pub(super) root: Rooted,
    loaded: LoadedCatalog,
    pub(super) graph: Graph,
    managed: ManagedPaths,
    /// Resources that may take as long as they like.
    pub(super) commands: BTreeSet<u32>,
}

impl Ready {
    /// These resources, and those above them that must be there first and are gone: of what is
    /// removed with all that is in it, the system tells the contents first.
    pub(super) fn with_lost_parents(&self, resources: &BTreeSet<u32>) -> BTreeSet<u32> {
        let all = &self.loaded.archived().resources;
        let path_of = |r: u32| {
            let spec = all.get(r as usize).and_then(|r| Spec::read(r).ok());
            spec.and_then(|spec| spec.path().map(<[u8]>::to_vec))
        };
        let mut found = resources.clone();
        let mut present = BTreeSet::new();
        let mut open: Vec<u32> = resources.iter().copied().collect();
        while let Some(resource) = open.pop() {
            let Some(path) = path_of(resource) else { continue };
            let required = all.get(resource as usize).into_iter().flat_map(|r| r.requires.iter());
            for required in required.map(|r| r.to_native()) {
                if found.contains(&required) || present.contains(&required) {
                    continue;
                }
                let above =
                    path_of(required).filter(|above| path != *above && is_within(&path, above));
                let Some(above) = above else { continue };
                if matches!(self.root.directory(&above), Ok(Some(_))) {
                    present.insert(required);
                } else {
                    found.insert(required);
                    open.push(required);
                }
            }
        }
        found
    }
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

    /// Reads what an assignment's runs need.
    ///
    /// # Errors
    /// [`ApplyError`]: nothing of it can be applied.
    pub fn prepare(&self, assigned: &AssignedManifest) -> Result<Ready, ApplyError> {
        let root = Rooted::open(&self.config.root)?;
        let (loaded, graph) = self.load(assigned.catalog)?;
        let catalog = loaded.archived();
        let managed = ManagedPaths::of(catalog);
        let resources = (0..).zip(catalog.resources.iter());
        let commands =
            resources.filter(|(_, r)| r.kind == "exec").map(|(number, _)| number).collect();
        Ok(Ready { revision: assigned.revision, root, loaded, graph, managed, commands })
    }

    /// Runs a catalog, once. Whoever calls it has taken the [`Ownership`] of the state directory,
    /// unless it is a dry run.
    ///
    /// [`Ownership`]: crate::owner::Ownership
    #[must_use]
    pub fn run(
        &self,
        ready: &Ready,
        scope: &Scope<'_>,
        stop: &StopSwitch,
        progress: Progress<'_>,
    ) -> RunDone {
        let catalog = ready.loaded.archived();
        let context = Context {
            root: &ready.root,
            cache: &self.cache,
            accounts: &Accounts::of_system(),
            signatures: &self.signatures,
            stop,
            managed: &ready.managed,
            dry_run: scope.dry_run,
            allow_exec: self.config.allow_exec,
            fsync: self.config.fsync,
        };
        let run = Run {
            catalog,
            graph: &ready.graph,
            selected: scope.selected,
            blocked: scope.blocked,
            parallel: scope.parallel,
            revision: ready.revision,
            trigger: scope.trigger,
            is_superseded: scope.is_superseded,
        };
        run.run(&context, progress)
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
    /// Resources at once.
    pub parallel: usize,
    /// Whether nothing may be written.
    pub dry_run: bool,
    /// One of `engine::wire::message::trigger`.
    pub trigger: u8,
    /// Whether there is something newer to be applied: then what has not begun is left.
    pub is_superseded: &'a (dyn Fn() -> bool + Sync),
}
