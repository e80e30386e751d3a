//! Compiling a site: checked and expanded once, here, so that clients need no YAML.
//!
//! What a resource says in the catalog. All values are byte strings; a key that the policy does
//! not have is left out unless a default is named here.
//!
//! | kind | key | value |
//! |---|---|---|
//! | `file` | `blob` | the name under which its content is fetched |
//! | | `hash` | BLAKE3 of the content, 32 raw bytes |
//! | | `size` | its bytes, decimal |
//! | | `mode` | four octal digits; by default 0755 if its owner may execute the source, else 0644 |
//! | | `owner`, `group` | a name or a number |
//! | `absent` | | nothing: the path must not exist |
//! | `directory` | `mode`, `owner`, `group` | as above, without default: the tree's root entry, if any, has its mode |
//! | | `recurse` | `true`: always with a tree |
//! | | `purge` | `true`: what neither the tree nor another resource has below it is removed |
//! | | `tree` | BLAKE3 of the encoded [`Tree`](engine::release::Tree), 32 raw bytes |
//! | | `tree_blob`, `tree_size` | the name under which the tree is fetched; its bytes, decimal |
//! | `symlink` | `target` | as written |
//! | `exec` | `command` | a list: program and arguments, no shell |
//! | | `creates` | an absolute path: if it exists, nothing is run |
//! | | `unless`, `only_if` | lists like `command`: if it succeeds (fails), nothing is run |
//! | | `timeout_ms` | decimal; by default 300000 |
//! | | `cwd` | an absolute path |
//! | | `env` | a list of `NAME=VALUE` |
//!
//! A `file` with `ensure: absent` becomes an `absent`. The files of a tree are fetched under
//! `TREE_BLOB/PATH`. Every path is absolute and has no `.`, `..` or empty part.

use super::graph::{edges, order};
use super::inventory::{self, Group, HostLine};
use super::mistake::{Mistakes, Place};
use super::owners;
use super::plan::{Content, Planned, plan};
use super::policy::Policy;
use super::settings::Settings;
use super::source::{Site, SourceTree, Sources, Unusable, file_entry};
use super::yaml;
use crate::release::{Blob, Digests, Intake, Listed, StoreError, digest};
use crate::table::words;
use engine::ids::BlobHash;
use engine::limits::{CATALOG_SIZE_MAX, MANIFEST_SIZE_MAX};
use engine::release::{
    Attribute, CATALOG_SCHEMA, Catalog, FileEntry, ManifestBlob, NAME_CATALOG, NAME_MANIFEST,
    Resource,
};
use engine::wire::encode;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

/// Bytes of what a client reads into memory: it would refuse what is longer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Of a manifest.
    pub manifest_size_max: u64,
    /// Of a catalog, and of the list of a tree.
    pub catalog_size_max: u64,
}

/// Those of every client.
const BOUNDS: Bounds =
    Bounds { manifest_size_max: MANIFEST_SIZE_MAX, catalog_size_max: CATALOG_SIZE_MAX };

/// How far a compilation has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Progress {
    /// Files read.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Why a site was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// It is no site.
    #[error("{0}")]
    NoSite(String),
    /// It has mistakes.
    #[error("{0}")]
    Mistakes(Mistakes),
    /// The store cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One line of the inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledLine {
    /// The hosts: a name or a glob.
    pub pattern: String,
    /// Earlier patterns that may match the same hosts.
    pub excludes: Vec<String>,
    /// Place in [`Compiled::sets`] of what it is given.
    pub set: usize,
    /// `hosts.yaml:12`.
    pub source: String,
}

/// What a distinct set of policies and variables became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompiledSet {
    /// Its manifest.
    pub manifest: Blob,
    /// Resources of its catalog.
    pub resources: usize,
}

/// A compiled site; its blobs are with the [`Intake`].
#[derive(Debug)]
pub struct Compiled {
    /// The site's id.
    pub site: String,
    /// How long an assignment may be accepted.
    pub assignment_lifetime: Duration,
    /// The inventory, in its order.
    pub lines: Vec<CompiledLine>,
    /// What lines are given.
    pub sets: Vec<CompiledSet>,
    /// Every blob of every set, sorted, manifests and catalogs included.
    pub blobs: Vec<Listed>,
    /// All resources, for comparing.
    pub digests: Digests,
    /// What was read.
    pub progress: Progress,
}

/// Compiles a site. Every mistake that can be found is found in one run.
///
/// # Errors
/// [`CompileError`].
pub fn compile(
    dir: &Path,
    intake: &mut dyn Intake,
    progress: &mut dyn FnMut(Progress),
) -> Result<Compiled, CompileError> {
    compile_within(BOUNDS, dir, intake, progress)
}

/// The same with other bounds.
pub(super) fn compile_within(
    bounds: Bounds,
    dir: &Path,
    intake: &mut dyn Intake,
    progress: &mut dyn FnMut(Progress),
) -> Result<Compiled, CompileError> {
    let site = Site::open(dir).map_err(CompileError::NoSite)?;
    let mut mistakes = Mistakes::default();
    let read = read(&site, &mut mistakes);
    let mut done = Progress::default();
    let mut count = |blob: &Blob, _: &Path| {
        done.files += 1;
        done.bytes += blob.size;
        progress(done);
    };
    let mut compiler = Compiler {
        policies: &read.policies,
        bounds,
        sources: Sources::new(&site, bounds.catalog_size_max, intake, &mut count),
        mistakes,
        blobs: BTreeSet::new(),
        digests: Digests::new(),
    };
    let mut sets = Vec::new();
    let mut places = HashMap::new();
    let mut lines = Vec::with_capacity(read.lines.len());
    for line in &read.lines {
        let key = line.set_key();
        let set = match places.get(&key) {
            Some(set) => *set,
            None => {
                compiler.mistakes.enter(Some(format!(
                    "`{}`, {}",
                    line.pattern.as_str(),
                    line.place
                )));
                sets.push(compiler.set(line));
                places.insert(key, sets.len() - 1);
                sets.len() - 1
            }
        };
        lines.push(CompiledLine {
            pattern: line.pattern.as_str().to_owned(),
            excludes: line.excludes.clone(),
            set,
            source: line.place.to_string(),
        });
    }
    let Compiler { sources, mistakes, blobs, digests, .. } = compiler;
    if let Some(e) = sources.failed {
        return Err(e.into());
    }
    let sets: Option<Vec<_>> = sets.into_iter().collect();
    match sets {
        Some(sets) if mistakes.is_empty() => Ok(Compiled {
            site: read.settings.site,
            assignment_lifetime: read.settings.assignment_lifetime,
            lines,
            sets,
            blobs: blobs.into_iter().collect(),
            digests,
            progress: done,
        }),
        _ => Err(CompileError::Mistakes(mistakes)),
    }
}

/// The site's text files, read and checked for their form.
struct Read {
    settings: Settings,
    lines: Vec<HostLine>,
    policies: HashMap<String, Policy>,
}

fn read(site: &Site, mistakes: &mut Mistakes) -> Read {
    let file = "site.toml".into();
    let text = site.read_text(&file, mistakes).unwrap_or_default();
    let settings = Settings::read(&file, &text, mistakes);
    let mut groups = BTreeMap::new();
    for name in yaml_names(site, "groups", mistakes) {
        let root = read_yaml(site, &format!("groups/{name}.yaml"), mistakes);
        groups.insert(name, Group::read(root.as_ref(), mistakes));
    }
    let mut policies = HashMap::new();
    for name in site.list("policies", mistakes) {
        if !site.is_dir(&format!("policies/{name}")) {
            if name.ends_with(".yaml") || name.ends_with(".yml") {
                let (stem, _) = name.rsplit_once('.').unwrap_or((&name, ""));
                let message =
                    format!("a policy is a directory: move this to policies/{stem}/policy.yaml");
                mistakes.add(&Place::new(&format!("policies/{name}").into(), 1), message);
            }
            continue;
        }
        let file = format!("policies/{name}/policy.yaml");
        let text = site.read_text(&file.as_str().into(), mistakes);
        if text.is_none() && !site.exists(&file) {
            mistakes.add(
                &Place::new(&file.as_str().into(), 1),
                "does not exist: every directory in policies/ has a policy.yaml",
            );
        }
        let (is_there, before) = (text.is_some(), mistakes.len());
        let root = text.and_then(|text| yaml::parse(&file.as_str().into(), &text, mistakes));
        if is_there && root.is_none() && mistakes.len() == before {
            // Written over by mistake, it would let go of all that it had managed.
            let message = format!(
                "is empty: write what it manages (`resources:`), or remove policies/{name}/"
            );
            mistakes.add(&Place::new(&file.as_str().into(), 1), message);
        }
        let policy = Policy::read(&name, root.as_ref(), mistakes);
        policies.insert(name, policy);
    }
    let hosts = "hosts.yaml".into();
    let root = match site.read_text(&hosts, mistakes) {
        Some(text) => yaml::parse(&hosts, &text, mistakes),
        None => {
            if !site.exists(&hosts) {
                mistakes.add(
                    &Place::new(&hosts, 1),
                    "does not exist: it is the inventory, and may be empty (`hosts: []`)",
                );
            }
            None
        }
    };
    let lines = inventory::read(root.as_ref(), &groups, mistakes);
    let asked =
        groups.values().flat_map(Group::policies).chain(lines.iter().flat_map(|l| &l.policies));
    inventory::check_policies(asked, &policies, mistakes);
    Read { settings, lines, policies }
}

fn read_yaml(site: &Site, name: &str, mistakes: &mut Mistakes) -> Option<yaml::Node> {
    let file = name.into();
    let text = site.read_text(&file, mistakes)?;
    yaml::parse(&file, &text, mistakes)
}

/// The stems of the `.yaml` files in a directory.
fn yaml_names(site: &Site, dir: &str, mistakes: &mut Mistakes) -> Vec<String> {
    let mut stems = Vec::new();
    for name in site.list(dir, mistakes) {
        if let Some(stem) = name.strip_suffix(".yaml") {
            stems.push(stem.to_owned());
        } else if name.ends_with(".yml") {
            let place = Place::new(&format!("{dir}/{name}").into(), 1);
            mistakes.add(&place, "rename it: YAML files of a site end in .yaml");
        }
    }
    stems
}

struct Compiler<'a> {
    bounds: Bounds,
    policies: &'a HashMap<String, Policy>,
    sources: Sources<'a>,
    mistakes: Mistakes,
    blobs: BTreeSet<Listed>,
    digests: Digests,
}

impl Compiler<'_> {
    /// Compiles one set; `None` after a mistake.
    fn set(&mut self, line: &HostLine) -> Option<CompiledSet> {
        let before = self.mistakes.len();
        let mut planned = Vec::new();
        for policy in line.policies.iter().filter_map(|(_, name)| self.policies.get(name)) {
            plan(policy, &line.vars, &mut self.mistakes, &mut planned);
        }
        let mut files = BTreeMap::new();
        let mut trees = Vec::with_capacity(planned.len());
        for p in &mut planned {
            trees.push(self.content(p, &mut files));
        }
        self.check_doubles(&planned);
        self.check_trees(&planned, &trees);
        owners::check(&planned, &mut self.mistakes);
        let edges = edges(&planned, &mut self.mistakes);
        let order = order(&planned, &edges, &mut self.mistakes)?;
        if self.mistakes.len() > before {
            return None;
        }
        let mut places = vec![0_u32; order.len()];
        for (place, at) in order.iter().enumerate() {
            places[*at] = u32::try_from(place).ok()?;
        }
        let resources: Vec<_> = order
            .iter()
            .map(|at| resource(&planned[*at], edges[*at].iter().map(|r| places[*r])))
            .collect();
        let count = resources.len();
        let catalog = Catalog { schema: CATALOG_SCHEMA, resources };
        digest(&catalog, &mut self.digests);
        let (what, bound) = (RESOURCES_FIT, self.bounds.catalog_size_max);
        // What is far too long cannot even be encoded.
        self.check_size(line, what, catalog.resources.iter().map(text_bytes).sum(), bound)?;
        let bytes = encode(&catalog);
        self.check_size(line, what, bytes.len(), bound)?;
        let catalog = self.listed(NAME_CATALOG, &bytes)?;
        let files: Vec<_> = files.into_values().collect();
        self.blobs.extend(files.iter().map(|f| Listed {
            name: f.name.clone(),
            hash: f.hash,
            size: f.size,
        }));
        let manifest = ManifestBlob {
            schema: CATALOG_SCHEMA,
            catalog: catalog.hash.0,
            catalog_size: catalog.size,
            files,
        };
        let (what, bound) = (FILES_FIT, self.bounds.manifest_size_max);
        self.check_size(line, what, manifest.files.iter().map(|f| f.name.len()).sum(), bound)?;
        let bytes = encode(&manifest);
        self.check_size(line, what, bytes.len(), bound)?;
        let manifest = self.listed(NAME_MANIFEST, &bytes)?;
        Some(CompiledSet { manifest, resources: count })
    }

    /// What has at least so many bytes is read by clients; `None` after the mistake that it is not.
    fn check_size(
        &mut self,
        line: &HostLine,
        (what, remedy): (&str, &str),
        size: usize,
        size_max: u64,
    ) -> Option<()> {
        let too_long = too_long(size, size_max);
        if let Some(too_long) = &too_long {
            self.mistakes.add(&line.place, format!("{what} of these hosts {too_long}: {remedy}"));
        }
        too_long.is_none().then_some(())
    }

    fn listed(&mut self, name: &[u8], bytes: &[u8]) -> Option<Blob> {
        let blob = self.sources.bytes(bytes).ok()?;
        let (name, hash, size) = (name.to_vec(), blob.hash.0, blob.size);
        self.blobs.insert(Listed { name, hash, size });
        Some(blob)
    }

    /// Takes in what a resource consists of; a tree is given back for the checks of paths.
    fn content(
        &mut self,
        p: &mut Planned,
        files: &mut BTreeMap<(Vec<u8>, [u8; 32]), FileEntry>,
    ) -> Option<Rc<SourceTree>> {
        let mut add = |entry: FileEntry| {
            files.insert((entry.name.clone(), entry.hash), entry);
        };
        let content = std::mem::replace(&mut p.content, Content::None);
        let (place, unusable) = match content {
            Content::None => return None,
            Content::Inline(text) => {
                let name = format!("policies/{}/content{}", p.policy, p.name);
                match self.sources.bytes(text.as_bytes()) {
                    Ok(blob) => {
                        add(file_entry(Path::new(&name), &blob, 0o644));
                        set_file(p, name.into_bytes(), &blob, 0o644);
                        return None;
                    }
                    Err(unusable) => (p.place.clone(), unusable),
                }
            }
            Content::File(place, source) => match self.sources.file(&p.policy, &source) {
                Ok(file) => {
                    add(FileEntry {
                        name: file.name.clone(),
                        hash: file.blob.hash.0,
                        size: file.blob.size,
                        mode: file.mode,
                    });
                    set_file(p, file.name.clone(), &file.blob, file.mode);
                    return None;
                }
                Err(unusable) => (place, unusable),
            },
            Content::Tree(place, source) => match self.sources.tree(&p.policy, &source) {
                Ok(tree) => {
                    tree.files.iter().cloned().for_each(add);
                    p.attributes.insert("tree", vec![tree.blob.hash.0.to_vec()]);
                    p.attributes.insert("tree_blob", vec![tree.name.clone()]);
                    p.attributes.insert("tree_size", vec![tree.blob.size.to_string().into_bytes()]);
                    return Some(tree);
                }
                Err(unusable) => (place, unusable),
            },
        };
        if let Unusable::Mistakes(messages) = unusable {
            messages.into_iter().for_each(|message| self.mistakes.add(&place, message));
        }
        None
    }

    /// Each (kind, name) once, and each path once.
    fn check_doubles(&mut self, planned: &[Planned]) {
        let mut first: HashMap<(&str, &str), &Planned> = HashMap::new();
        for p in planned {
            let space = if p.is_path { "path" } else { p.written };
            if let Some(other) = first.get(&(space, &p.name)) {
                let message = if other.written == p.written {
                    format!("{} {} is managed twice; first at {}", p.written, p.name, other.place)
                } else {
                    format!(
                        "{} {} and {} {} ({}) manage one path",
                        p.written, p.name, other.written, other.name, other.place
                    )
                };
                self.mistakes.add(&p.place, message);
            } else {
                first.insert((space, &p.name), p);
            }
        }
    }

    /// Nothing else manages a path that comes with a tree.
    fn check_trees(&mut self, planned: &[Planned], trees: &[Option<Rc<SourceTree>>]) {
        for (owner, tree) in planned.iter().zip(trees) {
            let Some(tree) = tree else { continue };
            let root = owner.name.strip_suffix('/').unwrap_or(&owner.name);
            for p in planned.iter().filter(|p| p.is_path) {
                let Some(below) = p.name.strip_prefix(root).filter(|b| b.starts_with('/')) else {
                    continue;
                };
                if !tree.paths.contains(below.as_bytes()) {
                    continue;
                }
                let message = format!(
                    "{} {} is managed twice: it comes with directory {} ({})",
                    p.written, p.name, owner.name, owner.place
                );
                self.mistakes.add(&p.place, message);
            }
        }
    }
}

/// Of what a line is given, and what to do where clients would refuse it.
const RESOURCES_FIT: (&str, &str) = (
    "the list of all resources",
    "give them fewer policies, or one `directory` with a `source` in place of many resources",
);
const FILES_FIT: (&str, &str) = (
    "the list of all files",
    "give them fewer policies, or pack many files into one that an `exec` unpacks",
);

/// What is wrong with a list of at least so many bytes, if clients read no such long one.
pub(super) fn too_long(size: usize, size_max: u64) -> Option<String> {
    let size = size as u64;
    (size > size_max).then(|| {
        let (size, size_max) = (words::size(size), words::size(size_max));
        format!("would take {size} or more, and clients read at most {size_max}")
    })
}

/// The bytes of a resource's texts: its archive has more.
fn text_bytes(resource: &Resource) -> usize {
    let values = resource.attributes.iter().flat_map(|a| &a.values);
    resource.name.len() + values.map(Vec::len).sum::<usize>()
}

fn set_file(p: &mut Planned, name: Vec<u8>, blob: &Blob, source_mode: u32) {
    p.attributes.insert("blob", vec![name]);
    p.attributes.insert("hash", vec![blob.hash.0.to_vec()]);
    p.attributes.insert("size", vec![blob.size.to_string().into_bytes()]);
    // Like git, only whether it is a program: the other bits are the publisher's umask.
    let default = if source_mode & 0o100 == 0 { "0644" } else { "0755" };
    p.attributes.entry("mode").or_insert_with(|| vec![default.into()]);
}

fn resource(p: &Planned, requires: impl Iterator<Item = u32>) -> Resource {
    let mut requires: Vec<_> = requires.collect();
    requires.sort_unstable();
    Resource {
        kind: p.kind.to_owned(),
        name: p.name.clone().into_bytes(),
        attributes: p
            .attributes
            .iter()
            .map(|(key, values)| Attribute { key: (*key).to_owned(), values: values.clone() })
            .collect(),
        requires,
        source: p.place.to_string(),
    }
}

impl CompiledSet {
    /// Hash of its manifest.
    #[must_use]
    pub fn hash(&self) -> BlobHash {
        self.manifest.hash
    }
}
