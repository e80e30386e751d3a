//! What a new release changes: files, resources, and the hosts that are assigned something else.

use super::error::StoreError;
use super::index::{Line, LineTable, Listed, Release};
use super::store::ReleaseStore;
use engine::ids::{BlobHash, HostName};
use engine::release::{Catalog, ManifestBlob, NAME_CATALOG, NAME_MANIFEST, Resource, decode};
use engine::wire::encode;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A manifest or a catalog larger than this is damaged.
const ARCHIVE_SIZE_MAX: u64 = 1 << 31;

/// Names of what is new, different and gone, each list sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// Not in the release before.
    pub added: Vec<String>,
    /// In both, but different.
    pub changed: Vec<String>,
    /// Only in the release before.
    pub removed: Vec<String>,
}

/// What becomes of a line of the inventory, or of a known host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostChange {
    /// The line's pattern or the host's name.
    pub name: String,
    /// `added`, `changed` or `removed`.
    pub change: &'static str,
}

/// The difference between two releases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Files by their names in the site.
    pub files: Counted,
    /// Resources as `KIND NAME`.
    pub resources: Counted,
    /// Lines of the inventory.
    pub lines: Vec<HostChange>,
    /// Known hosts that are assigned something else.
    pub hosts: Vec<HostChange>,
}

impl Counted {
    fn of<T: PartialEq>(old: &BTreeMap<Vec<u8>, T>, new: &BTreeMap<Vec<u8>, T>) -> Self {
        let shown = |name: &Vec<u8>| String::from_utf8_lossy(name).into_owned();
        let mut counted = Self::default();
        for (name, value) in new {
            match old.get(name) {
                None => counted.added.push(shown(name)),
                Some(before) if before != value => counted.changed.push(shown(name)),
                Some(_) => {}
            }
        }
        let removed = old.keys().filter(|name| !new.contains_key(*name));
        counted.removed = removed.map(shown).collect();
        counted
    }

    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

impl Changes {
    /// Whether clients would notice nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.resources.is_empty() && self.lines.is_empty()
    }
}

/// What a resource says, whatever its place in the catalog: for telling whether it changed.
pub type Digests = BTreeMap<Vec<u8>, BTreeSet<BlobHash>>;

/// Adds the resources of a catalog.
pub fn digest(catalog: &Catalog, digests: &mut Digests) {
    for resource in &catalog.resources {
        let mut requires: Vec<_> = resource
            .requires
            .iter()
            .filter_map(|at| catalog.resources.get(*at as usize).map(Resource::id))
            .collect();
        requires.sort();
        let mut hasher = blake3::Hasher::new();
        hasher.update(&encode(&resource.attributes));
        hasher.update(&requires.join(&b'\n'));
        let digest = BlobHash(*hasher.finalize().as_bytes());
        digests.entry(resource.id()).or_default().insert(digest);
    }
}

/// The resources of a stored release.
fn stored_digests(store: &ReleaseStore, release: &Release) -> Result<Digests, StoreError> {
    let mut digests = Digests::new();
    let manifests: BTreeSet<_> = release.lines.iter().map(|l| BlobHash(l.manifest)).collect();
    let mut catalogs = BTreeSet::new();
    for hash in manifests {
        let manifest: ManifestBlob = read_archive(store, hash)?;
        catalogs.insert(BlobHash(manifest.catalog));
    }
    for hash in catalogs {
        digest(&read_archive(store, hash)?, &mut digests);
    }
    Ok(digests)
}

fn read_archive<T>(store: &ReleaseStore, hash: BlobHash) -> Result<T, StoreError>
where
    T: rkyv::Archive,
    T::Archived: for<'a> rkyv::bytecheck::CheckBytes<
            rkyv::api::high::HighValidator<'a, rkyv::rancor::Failure>,
        > + rkyv::Deserialize<T, rkyv::rancor::Strategy<rkyv::de::Pool, rkyv::rancor::Failure>>,
{
    let bytes = store.read_blob(hash, ARCHIVE_SIZE_MAX)?;
    let path = store.blob_path(hash);
    decode(&bytes).ok_or(StoreError::Damaged { path, what: "it is no manifest or catalog" })
}

fn files(blobs: &[Listed]) -> BTreeMap<Vec<u8>, BTreeSet<[u8; 32]>> {
    let mut files: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for blob in blobs.iter().filter(|b| b.name != NAME_MANIFEST && b.name != NAME_CATALOG) {
        files.entry(blob.name.clone()).or_default().insert(blob.hash);
    }
    files
}

fn change<T: PartialEq>(old: Option<&T>, new: Option<&T>) -> Option<&'static str> {
    match (old, new) {
        (None, Some(_)) => Some("added"),
        (Some(_), None) => Some("removed"),
        (old, new) if old != new => Some("changed"),
        _ => None,
    }
}

fn changed_lines(old: &[Line], new: &[Line]) -> Vec<HostChange> {
    let by_pattern = |lines: &[Line]| -> BTreeMap<String, [u8; 32]> {
        lines.iter().map(|l| (l.pattern.clone(), l.manifest)).collect()
    };
    let (before, after) = (by_pattern(old), by_pattern(new));
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    names
        .into_iter()
        .filter_map(|name| {
            let change = change(before.get(name), after.get(name))?;
            Some(HostChange { name: name.clone(), change })
        })
        .collect()
}

fn changed_hosts(old: &[Line], new: &[Line], known: &[HostName]) -> Vec<HostChange> {
    let (before, after) = (LineTable::new(old), LineTable::new(new));
    let named = before.names().chain(after.names()).chain(known);
    let hosts: BTreeSet<_> = named.collect();
    hosts
        .into_iter()
        .filter_map(|host| {
            let before = before.find(host).map(|at| &old[at].manifest);
            let after = after.find(host).map(|at| &new[at].manifest);
            Some(HostChange { name: host.to_string(), change: change(before, after)? })
        })
        .collect()
}

/// Compares the release in force with what is about to be published: `lines`, `blobs` and the
/// digests of its resources. Hosts are those named in either inventory, and `known` ones.
///
/// # Errors
/// [`StoreError`] if the old release's catalogs cannot be read.
pub fn compare(
    store: &ReleaseStore,
    old: Option<&Release>,
    lines: &[Line],
    blobs: &[Listed],
    digests: &Digests,
    known: &[HostName],
) -> Result<Changes, StoreError> {
    let (old_lines, old_blobs) = old.map_or((&[][..], &[][..]), |r| (&r.lines, &r.blobs));
    let old_digests = old.map_or_else(|| Ok(Digests::new()), |r| stored_digests(store, r))?;
    Ok(Changes {
        files: Counted::of(&files(old_blobs), &files(blobs)),
        resources: Counted::of(&old_digests, digests),
        lines: changed_lines(old_lines, lines),
        hosts: changed_hosts(old_lines, lines, known),
    })
}
