//! The manifest (which blobs), the catalog (which resources) and the tree (one directory).

use rkyv::api::high::HighValidator;
use rkyv::bytecheck::CheckBytes;
use rkyv::de::Pool;
use rkyv::rancor::{self, Strategy};
use rkyv::{Archive, Deserialize, Serialize};

/// Schema of [`Catalog`], [`ManifestBlob`] and [`Tree`].
pub const CATALOG_SCHEMA: u16 = 1;
/// The name under which every manifest is fetched, beside its hash.
pub const NAME_MANIFEST: &[u8] = b"@manifest";
/// The name under which every catalog is fetched, beside its hash.
pub const NAME_CATALOG: &[u8] = b"@catalog";

/// The blobs that one set of policies needs. Itself a blob.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ManifestBlob {
    /// [`CATALOG_SCHEMA`].
    pub schema: u16,
    /// Hash of the [`Catalog`].
    pub catalog: [u8; 32],
    /// Its bytes.
    pub catalog_size: u64,
    /// Every file and tree that the catalog names, sorted by name, each (name, hash) once.
    pub files: Vec<FileEntry>,
}

/// One blob of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its path in the site (`policies/web/files/motd`), bytes.
    pub name: Vec<u8>,
    /// BLAKE3 of its bytes.
    pub hash: [u8; 32],
    /// Its bytes.
    pub size: u64,
    /// Its permission bits in the site.
    pub mode: u32,
}

/// The resources of one set of policies and variables. Itself a blob.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Catalog {
    /// [`CATALOG_SCHEMA`].
    pub schema: u16,
    /// In an order in which each stands behind all that it requires.
    pub resources: Vec<Resource>,
}

/// One resource. Kinds are open-ended: a new one changes nothing here.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Resource {
    /// `file`, `directory`, `symlink`, `exec`, …
    pub kind: String,
    /// Its name: a path for most kinds; bytes.
    pub name: Vec<u8>,
    /// What the policy says of it, sorted by key.
    pub attributes: Vec<Attribute>,
    /// Places in [`Catalog::resources`] of what it requires, automatic edges included.
    pub requires: Vec<u32>,
    /// `policies/web/policy.yaml:12`, for people.
    pub source: String,
}

/// One attribute: a list of byte strings; a scalar is a list of one.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Attribute {
    /// Its key in the policy.
    pub key: String,
    /// Its values.
    pub values: Vec<Vec<u8>>,
}

/// One directory of the site with all below it. Itself a blob; its files are blobs too.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Tree {
    /// [`CATALOG_SCHEMA`].
    pub schema: u16,
    /// Sorted by path, so that a directory stands before what is in it; the first has an
    /// empty path and is the directory itself.
    pub entries: Vec<TreeEntry>,
}

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct TreeEntry {
    /// Path below the directory, without a leading slash; bytes.
    pub path: Vec<u8>,
    /// One of [`TreeKind`]'s numbers.
    pub kind: u8,
    /// Permission bits; unused for symlinks.
    pub mode: u32,
    /// A file's hash; zeros otherwise.
    pub hash: [u8; 32],
    /// A file's bytes; 0 otherwise.
    pub size: u64,
    /// A symlink's target; empty otherwise.
    pub target: Vec<u8>,
}

/// What an entry of a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum TreeKind {
    /// A directory.
    Directory = 1,
    /// A file.
    File = 2,
    /// A symlink.
    Symlink = 3,
}

impl TreeKind {
    /// The kind of this number.
    #[must_use]
    pub fn from_number(n: u8) -> Option<Self> {
        [Self::Directory, Self::File, Self::Symlink].into_iter().find(|k| *k as u8 == n)
    }
}

impl Resource {
    /// The values of an attribute; `None` if the policy does not have it.
    #[must_use]
    pub fn values(&self, key: &str) -> Option<&[Vec<u8>]> {
        self.attributes.iter().find(|a| a.key == key).map(|a| &a.values[..])
    }

    /// The first value of an attribute.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&[u8]> {
        self.values(key)?.first().map(|v| &v[..])
    }

    /// `KIND NAME`, as a policy refers to it.
    #[must_use]
    pub fn id(&self) -> Vec<u8> {
        [self.kind.as_bytes(), b" ", &self.name].concat()
    }
}

/// Reads an archive from a file of this module's types, validated; `None` if it is none.
#[must_use]
pub fn decode<T>(bytes: &[u8]) -> Option<T>
where
    T: Archive,
    T::Archived: for<'a> CheckBytes<HighValidator<'a, rancor::Failure>>
        + Deserialize<T, Strategy<Pool, rancor::Failure>>,
{
    rkyv::from_bytes::<T, rancor::Failure>(bytes).ok()
}

/// Reads an archive of this module's types in place, validated; `None` if it is none.
#[must_use]
pub fn access<T>(bytes: &[u8]) -> Option<&T::Archived>
where
    T: Archive,
    T::Archived: for<'a> CheckBytes<HighValidator<'a, rancor::Failure>>,
{
    rkyv::access::<T::Archived, rancor::Failure>(bytes).ok()
}
