//! What the tests of several modules need: a site in a temporary directory.

use crate::executor::run::{Run, RunDone, graph_of};
use crate::executor::stop::StopSwitch;
use crate::policy::{AssignedManifest, Cache, LoadedCatalog};
use crate::provider::accounts::Accounts;
use crate::provider::rooted::Rooted;
use crate::provider::signature::Signatures;
use crate::resource::{Context, ManagedPaths};
use engine::ids::{BlobHash, Revision};
use engine::release::{
    Attribute, CATALOG_SCHEMA, Catalog, FileEntry, ManifestBlob, Resource, Tree, TreeEntry,
    TreeKind,
};
use engine::wire::encode;
use engine::wire::message::trigger;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A cache and a root directory that go away with it.
pub(crate) struct TestSite {
    dir: tempfile::TempDir,
}

/// How a test runs a catalog.
pub(crate) struct TestRun<'a> {
    pub(crate) dry_run: bool,
    pub(crate) parallel: usize,
    pub(crate) allow_exec: bool,
    pub(crate) stop: Option<&'a StopSwitch>,
}

impl Default for TestRun<'_> {
    fn default() -> Self {
        Self { dry_run: false, parallel: 2, allow_exec: true, stop: None }
    }
}

impl TestSite {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        std::fs::create_dir_all(dir.path().join("state/cache/blobs")).unwrap();
        Self { dir }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// A path below the root.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.at(path)).unwrap_or_else(|e| format!("[{e}]"))
    }

    pub(crate) fn cache(&self) -> Cache {
        Cache::new(&self.state().join("cache"))
    }

    pub(crate) fn add_blob(&self, bytes: &[u8]) -> BlobHash {
        let hash = BlobHash::of(bytes);
        let path = self.cache().path(hash);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        hash
    }

    pub(crate) fn file(&self, path: &str, content: &[u8]) -> Resource {
        let hash = self.add_blob(content);
        resource("file", path)
            .with("hash", &[&hash.0])
            .with("size", &[content.len().to_string().as_bytes()])
    }

    /// A directory with a tree; entries are (path, what).
    pub(crate) fn tree(&self, path: &str, entries: &[(&str, TestEntry<'_>)]) -> Resource {
        let mut entries: Vec<TreeEntry> =
            entries.iter().map(|(path, entry)| self.tree_entry(path, entry)).collect();
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let hash = self.add_blob(&encode(&Tree { schema: CATALOG_SCHEMA, entries }));
        resource("directory", path).with("tree", &[&hash.0]).with("recurse", &[b"true"])
    }

    fn tree_entry(&self, path: &str, entry: &TestEntry<'_>) -> TreeEntry {
        let (kind, mode, content, target) = match entry {
            TestEntry::Dir(mode) => (TreeKind::Directory, *mode, None, ""),
            TestEntry::File(mode, content) => (TreeKind::File, *mode, Some(*content), ""),
            TestEntry::Link(target) => (TreeKind::Symlink, 0o777, None, *target),
        };
        TreeEntry {
            path: path.as_bytes().to_vec(),
            kind: kind as u8,
            mode,
            hash: content.map_or([0; 32], |c| self.add_blob(c.as_bytes()).0),
            size: content.map_or(0, |c| c.len() as u64),
            target: target.as_bytes().to_vec(),
        }
    }

    /// Puts a catalog and its manifest in the cache.
    pub(crate) fn publish(&self, revision: u64, resources: Vec<Resource>) -> AssignedManifest {
        let bytes = encode(&Catalog { schema: CATALOG_SCHEMA, resources });
        let catalog = self.add_blob(&bytes);
        let files: Vec<FileEntry> = Vec::new();
        let manifest = ManifestBlob {
            schema: CATALOG_SCHEMA,
            catalog: catalog.0,
            catalog_size: bytes.len() as u64,
            files,
        };
        let manifest = self.add_blob(&encode(&manifest));
        AssignedManifest { revision: Revision(revision), manifest, catalog }
    }

    pub(crate) fn run(&self, resources: &[Resource]) -> RunDone {
        self.run_as(resources, &TestRun::default())
    }

    pub(crate) fn run_as(&self, resources: &[Resource], how: &TestRun<'_>) -> RunDone {
        let assigned = self.publish(1, resources.to_vec());
        let cache = self.cache();
        let catalog = LoadedCatalog::load(&cache, assigned.catalog).unwrap();
        let catalog = catalog.archived();
        let graph = graph_of(catalog).unwrap();
        let never = StopSwitch::new().unwrap();
        let context = Context {
            root: &Rooted::open(&self.root()).unwrap(),
            cache: &cache,
            accounts: &Accounts::of_system(),
            signatures: &Signatures::default(),
            stop: how.stop.unwrap_or(&never),
            managed: &ManagedPaths::of(catalog),
            dry_run: how.dry_run,
            allow_exec: how.allow_exec,
            fsync: false,
        };
        Run {
            catalog,
            graph: &graph,
            selected: None,
            blocked: &BTreeSet::new(),
            parallel: how.parallel,
            revision: Revision(1),
            trigger: trigger::COMMAND,
            is_superseded: &|| false,
        }
        .run(&context, &|_| {})
    }
}

/// An entry of a test's tree.
pub(crate) enum TestEntry<'a> {
    Dir(u32),
    File(u32, &'a str),
    Link(&'a str),
}

pub(crate) fn resource(kind: &str, name: &str) -> Resource {
    Resource {
        kind: kind.to_owned(),
        name: name.as_bytes().to_vec(),
        attributes: Vec::new(),
        requires: Vec::new(),
        source: "policies/test/policy.yaml:1".to_owned(),
    }
}

pub(crate) fn exec(name: &str, script: &str) -> Resource {
    resource("exec", name).with("command", &[b"/bin/sh", b"-c", script.as_bytes()])
}

pub(crate) trait With {
    fn with(self, key: &str, values: &[&[u8]]) -> Self;
    fn needs(self, requires: &[u32]) -> Self;
}

impl With for Resource {
    fn with(mut self, key: &str, values: &[&[u8]]) -> Self {
        let values = values.iter().map(|v| v.to_vec()).collect();
        self.attributes.push(Attribute { key: key.to_owned(), values });
        self.attributes.sort_by(|a, b| a.key.cmp(&b.key));
        self
    }

    fn needs(mut self, requires: &[u32]) -> Self {
        self.requires = requires.to_vec();
        self
    }
}

/// Everything below a directory that a write would change: path, inode, size, mode, times.
pub(crate) fn snapshot(dir: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let mut lines = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(path) = pending.pop() {
        let m = path.symlink_metadata().unwrap();
        let times = (m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec());
        lines.push(format!("{path:?} {} {} {:o} {times:?}", m.ino(), m.len(), m.mode()));
        if m.is_dir() {
            pending.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        }
    }
    lines.sort();
    lines
}
