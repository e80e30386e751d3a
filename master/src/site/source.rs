//! The site's files: never outside the site, each read once, trees with all that is in them.

use super::compile::too_long;
use super::mistake::{Mistakes, Place, did_you_mean};
use crate::release::{Blob, Intake, IntakeError, StoreError};
use engine::release::{CATALOG_SCHEMA, FileEntry, Tree, TreeEntry, TreeKind};
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

/// A YAML or TOML file larger than this is none that a person wrote.
const TEXT_SIZE_MAX: u64 = 64 << 20;
/// Entries of one tree.
const TREE_ENTRIES_MAX: usize = 1_000_000;

/// A site's directory.
#[derive(Debug, Clone)]
pub struct Site {
    root: PathBuf,
}

/// A file of the site, taken in.
#[derive(Debug)]
pub struct SourceFile {
    /// Its path in the site.
    pub name: Vec<u8>,
    /// Its bytes.
    pub blob: Blob,
    /// Its permission bits.
    pub mode: u32,
}

/// A directory of the site, taken in.
#[derive(Debug)]
pub struct SourceTree {
    /// Its path in the site.
    pub name: Vec<u8>,
    /// Its encoded [`Tree`].
    pub blob: Blob,
    /// The tree and its files, as a manifest lists them.
    pub files: Vec<FileEntry>,
    /// The paths in it, each with a leading slash; the directory itself is empty.
    pub paths: BTreeSet<Vec<u8>>,
}

/// Why a source cannot be used.
#[derive(Debug, Clone)]
pub enum Unusable {
    /// Mistakes in the site.
    Mistakes(Vec<String>),
    /// The store cannot be written: kept apart in [`Sources::failed`].
    Store,
}

impl From<String> for Unusable {
    fn from(message: String) -> Self {
        Self::Mistakes(vec![message])
    }
}

impl Site {
    /// Opens a site: a directory that has a `site.toml`.
    ///
    /// # Errors
    /// A sentence that says what is missing.
    pub fn open(dir: &Path) -> Result<Self, String> {
        let shown = dir.display();
        let root = dir.canonicalize().map_err(|e| {
            format!("cannot open the site {shown}: {e}; name its directory, or set site_dir")
        })?;
        match fs::metadata(root.join("site.toml")) {
            Ok(found) if found.is_file() => Ok(Self { root }),
            Ok(_) => Err(format!("{shown}/site.toml is no file: write one in its place")),
            Err(_) => Err(format!(
                "{shown} is no site: it has no site.toml; `drover init DIR` makes an empty one in DIR/site"
            )),
        }
    }

    /// Reads a text file of the site; `None` if it does not exist, or after a mistake.
    pub(super) fn read_text(&self, name: &Arc<str>, mistakes: &mut Mistakes) -> Option<String> {
        let mut wrong = |line, message| mistakes.add(&Place::new(name, line), message);
        let path = match self.inside(&self.root.join(&**name)) {
            Ok(path) => path,
            Err(e) if e.kind() == ErrorKind::NotFound => return None,
            Err(e) => {
                wrong(1, e.to_string());
                return None;
            }
        };
        let mut bytes = Vec::new();
        // A pipe would be waited for.
        if fs::metadata(&path).is_ok_and(|found| !found.is_file()) {
            wrong(1, "is no file".into());
            return None;
        }
        let read = fs::File::open(&path)
            .and_then(|file| file.take(TEXT_SIZE_MAX + 1).read_to_end(&mut bytes));
        if let Err(e) = read {
            wrong(1, format!("cannot be read: {e}"));
            return None;
        }
        if bytes.len() as u64 > TEXT_SIZE_MAX {
            wrong(1, format!("has more than {} MiB", TEXT_SIZE_MAX >> 20));
            return None;
        }
        match String::from_utf8(bytes) {
            Ok(text) => Some(text),
            Err(e) => {
                let good = e.utf8_error().valid_up_to();
                let line = e.as_bytes()[..good].iter().filter(|b| **b == b'\n').count() + 1;
                wrong(line, "is no UTF-8 text".into());
                None
            }
        }
    }

    /// The names in a directory of the site, sorted; hidden ones are left out.
    pub(super) fn list(&self, dir: &str, mistakes: &mut Mistakes) -> Vec<String> {
        let entries = match fs::read_dir(self.root.join(dir)) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Vec::new(),
            Err(e) => {
                mistakes.add(&Place::new(&dir.into(), 1), format!("cannot be listed: {e}"));
                return Vec::new();
            }
        };
        let mut names: Vec<_> =
            entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| !name.starts_with('.'));
        names.sort();
        names
    }

    pub(super) fn exists(&self, name: &str) -> bool {
        self.root.join(name).exists()
    }

    pub(super) fn is_dir(&self, name: &str) -> bool {
        self.root.join(name).is_dir()
    }

    /// Where a path leads, if that is in the site.
    fn inside(&self, path: &Path) -> io::Result<PathBuf> {
        let real = path.canonicalize()?;
        if real.starts_with(&self.root) {
            return Ok(real);
        }
        let message = format!("a symlink leads out of the site, to {}", real.display());
        Err(io::Error::other(message))
    }
}

/// The files of a site that were taken in so far.
pub struct Sources<'a> {
    site: &'a Site,
    intake: &'a mut dyn Intake,
    progress: &'a mut dyn FnMut(&Blob, &Path),
    tree_size_max: u64,
    files: HashMap<PathBuf, Result<Rc<SourceFile>, Unusable>>,
    trees: HashMap<PathBuf, Result<Rc<SourceTree>, Unusable>>,
    /// The first failure of the store: nothing after it counts.
    pub failed: Option<StoreError>,
}

impl<'a> Sources<'a> {
    /// Reads from this site into that intake; `progress` is told each file. No tree is longer
    /// than `tree_size_max`, encoded.
    pub fn new(
        site: &'a Site,
        tree_size_max: u64,
        intake: &'a mut dyn Intake,
        progress: &'a mut dyn FnMut(&Blob, &Path),
    ) -> Self {
        let (files, trees) = (HashMap::new(), HashMap::new());
        Self { site, intake, progress, tree_size_max, files, trees, failed: None }
    }

    /// Takes bytes from memory.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<Blob, Unusable> {
        let taken = self.intake.bytes(bytes);
        self.settle(taken, "")
    }

    /// A file below a policy's `files/`.
    pub fn file(&mut self, policy: &str, source: &str) -> Result<Rc<SourceFile>, Unusable> {
        let name = source_name(policy, source)?;
        if let Some(known) = self.files.get(&name) {
            return known.clone();
        }
        let file = self.read_file(&name).map(Rc::new);
        self.files.insert(name, file.clone());
        file
    }

    /// A directory below a policy's `files/`.
    pub fn tree(&mut self, policy: &str, source: &str) -> Result<Rc<SourceTree>, Unusable> {
        let name = source_name(policy, source)?;
        if let Some(known) = self.trees.get(&name) {
            return known.clone();
        }
        let tree = self.read_tree(&name).map(Rc::new);
        self.trees.insert(name, tree.clone());
        tree
    }

    fn locate(&self, name: &Path) -> Result<(PathBuf, Metadata), String> {
        let shown = name.display();
        let path = self.site.inside(&self.site.root.join(name)).map_err(|e| match e.kind() {
            ErrorKind::NotFound => format!("{shown} does not exist{}", self.near(name)),
            _ => format!("{shown}: {e}"),
        })?;
        let metadata = fs::metadata(&path).map_err(|e| format!("{shown}: {e}"))?;
        Ok((path, metadata))
    }

    fn near(&self, name: &Path) -> String {
        let (Some(dir), Some(last)) = (name.parent(), name.file_name()) else {
            return String::new();
        };
        let siblings: Vec<_> = fs::read_dir(self.site.root.join(dir))
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        did_you_mean(&last.to_string_lossy(), siblings.iter().map(String::as_str))
    }

    fn read_file(&mut self, name: &Path) -> Result<SourceFile, Unusable> {
        let (path, metadata) = self.locate(name)?;
        if metadata.is_dir() {
            let message = format!("{} is a directory: write `directory:` for it", name.display());
            return Err(message.into());
        }
        if !metadata.is_file() {
            return Err(not_a_file(name, &metadata).into());
        }
        let blob = self.take(&path, name)?;
        Ok(SourceFile { name: bytes_of(name), blob, mode: metadata.mode() & 0o7777 })
    }

    fn take(&mut self, path: &Path, name: &Path) -> Result<Blob, Unusable> {
        let taken = self.intake.file(path);
        let blob = self.settle(taken, &name.to_string_lossy())?;
        (self.progress)(&blob, name);
        Ok(blob)
    }

    fn settle(&mut self, taken: Result<Blob, IntakeError>, name: &str) -> Result<Blob, Unusable> {
        taken.map_err(|e| match e {
            IntakeError::Source(e) => format!("{name} cannot be read: {e}").into(),
            IntakeError::Store(e) => {
                self.failed.get_or_insert(e);
                Unusable::Store
            }
        })
    }

    fn read_tree(&mut self, name: &Path) -> Result<SourceTree, Unusable> {
        let (path, metadata) = self.locate(name)?;
        if !metadata.is_dir() {
            let message = format!("{} is no directory: write `file:` for it", name.display());
            return Err(message.into());
        }
        let mut entries = vec![entry(Vec::new(), TreeKind::Directory, &metadata)];
        let mut files = Vec::new();
        let mut wrong = Vec::new();
        let mut open = vec![PathBuf::new()];
        while let Some(dir) = open.pop() {
            let read = match fs::read_dir(path.join(&dir)) {
                Ok(read) => read,
                Err(e) => {
                    wrong.push(format!("{} cannot be listed: {e}", name.join(&dir).display()));
                    continue;
                }
            };
            for child in read {
                let child = child.map(|c| dir.join(c.file_name()));
                let child = child.map_err(|e| format!("{}: {e}", name.join(&dir).display()))?;
                match self.read_entry(&path, name, &child, &mut files) {
                    Ok(entry) => {
                        if entry.kind == TreeKind::Directory as u8 {
                            open.push(child);
                        }
                        entries.push(entry);
                    }
                    Err(Unusable::Mistakes(messages)) => wrong.extend(messages),
                    Err(Unusable::Store) => return Err(Unusable::Store),
                }
                if entries.len() > TREE_ENTRIES_MAX {
                    let shown = name.display();
                    return Err(format!("{shown} has more than {TREE_ENTRIES_MAX} entries").into());
                }
            }
        }
        if !wrong.is_empty() {
            return Err(Unusable::Mistakes(wrong));
        }
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let paths = entries.iter().map(|e| slashed(&e.path)).collect();
        let tree = Tree { schema: CATALOG_SCHEMA, entries };
        // What is far too long cannot even be encoded.
        self.check_size(name, tree.entries.iter().map(|e| e.path.len() + e.target.len()).sum())?;
        let bytes = engine::wire::encode(&tree);
        self.check_size(name, bytes.len())?;
        let blob = self.bytes(&bytes)?;
        files.push(file_entry(name, &blob, metadata.mode() & 0o7777));
        Ok(SourceTree { name: bytes_of(name), blob, files, paths })
    }

    fn check_size(&self, name: &Path, size: usize) -> Result<(), Unusable> {
        let shown = name.display();
        too_long(size, self.tree_size_max).map_or(Ok(()), |too_long| {
            Err(format!("the list of {shown} {too_long}: divide it into several directories")
                .into())
        })
    }

    fn read_entry(
        &mut self,
        root: &Path,
        name: &Path,
        child: &Path,
        files: &mut Vec<FileEntry>,
    ) -> Result<TreeEntry, Unusable> {
        let (path, shown) = (root.join(child), name.join(child));
        let unreadable = |e: io::Error| format!("{} cannot be read: {e}", shown.display());
        let metadata = fs::symlink_metadata(&path).map_err(unreadable)?;
        let below = bytes_of(child);
        if metadata.is_dir() {
            return Ok(entry(below, TreeKind::Directory, &metadata));
        }
        if metadata.is_symlink() {
            let target = fs::read_link(&path).map_err(unreadable)?.into_os_string().into_vec();
            return Ok(TreeEntry { target, mode: 0, ..entry(below, TreeKind::Symlink, &metadata) });
        }
        if !metadata.is_file() {
            return Err(not_a_file(&shown, &metadata).into());
        }
        let blob = self.take(&path, &shown)?;
        files.push(file_entry(&shown, &blob, metadata.mode() & 0o7777));
        let entry = entry(below, TreeKind::File, &metadata);
        Ok(TreeEntry { hash: blob.hash.0, size: blob.size, ..entry })
    }
}

/// The path in the site of what a `source` names.
fn source_name(policy: &str, source: &str) -> Result<PathBuf, Unusable> {
    let path = Path::new(source);
    let is_plain = |c: Component| matches!(c, Component::Normal(_) | Component::CurDir);
    if source.is_empty() || source.contains('\0') || !path.components().all(is_plain) {
        let message = format!(
            "`source: {source}` must be a path below policies/{policy}/files/, without a leading `/` and without `..`"
        );
        return Err(message.into());
    }
    let plain: PathBuf = path.components().filter(|c| matches!(c, Component::Normal(_))).collect();
    Ok(["policies", policy, "files"]
        .iter()
        .map(Path::new)
        .chain(plain.iter().map(Path::new))
        .collect())
}

fn not_a_file(name: &Path, metadata: &Metadata) -> String {
    let kind = metadata.file_type();
    let noun = if kind.is_socket() {
        "a socket"
    } else if kind.is_fifo() {
        "a named pipe"
    } else {
        "a device"
    };
    let shown = name.display();
    format!("{shown} is {noun}: a site has files, directories and symlinks only; remove it")
}

fn entry(path: Vec<u8>, kind: TreeKind, metadata: &Metadata) -> TreeEntry {
    let mode = metadata.mode() & 0o7777;
    TreeEntry { path, kind: kind as u8, mode, hash: [0; 32], size: 0, target: Vec::new() }
}

pub(super) fn file_entry(name: &Path, blob: &Blob, mode: u32) -> FileEntry {
    FileEntry { name: bytes_of(name), hash: blob.hash.0, size: blob.size, mode }
}

fn bytes_of(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

fn slashed(path: &[u8]) -> Vec<u8> {
    if path.is_empty() { Vec::new() } else { [b"/", path].concat() }
}
