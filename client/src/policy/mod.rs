//! What this client is to apply: the catalog of its assignment, read in place from the cache.

use engine::ids::{BlobHash, Revision};
use engine::limits::{CATALOG_SIZE_MAX, MANIFEST_SIZE_MAX};
use engine::release::{
    ArchivedCatalog, ArchivedManifestBlob, ArchivedTree, Assignment, CATALOG_SCHEMA, Catalog,
    ManifestBlob, Tree, access,
};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What the client enforces: the numbers of an accepted assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AssignedManifest {
    /// Its revision.
    pub revision: Revision,
    /// Hash of its manifest.
    pub manifest: BlobHash,
    /// Hash of the catalog that the manifest names.
    pub catalog: BlobHash,
}

/// Why a blob cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// It is not in the cache.
    #[error("blob {hash} is not in the cache; it will be fetched")]
    Missing {
        /// Which.
        hash: BlobHash,
    },
    /// Its bytes do not have its hash.
    #[error("blob {hash} is damaged in the cache; it will be fetched again")]
    Broken {
        /// Which.
        hash: BlobHash,
    },
    /// Its bytes are right, but are not what they are used as.
    #[error(
        "blob {hash} is no {what} that this version of Drover reads; update drover-client, or publish again"
    )]
    Format {
        /// Which.
        hash: BlobHash,
        /// `catalog`, `manifest` or `tree`.
        what: &'static str,
    },
    /// It cannot be read.
    #[error("cannot read blob {hash}: {source}")]
    Read {
        /// Which.
        hash: BlobHash,
        /// What the system says.
        source: io::Error,
    },
}

impl BlobError {
    /// The blob that must be fetched again, if that would help.
    #[must_use]
    pub fn to_fetch(&self) -> Option<BlobHash> {
        match self {
            Self::Missing { hash } | Self::Broken { hash } => Some(*hash),
            Self::Format { .. } | Self::Read { .. } => None,
        }
    }
}

/// The content-addressed files that the network daemon keeps complete.
#[derive(Debug, Clone)]
pub struct Cache {
    blobs: PathBuf,
}

impl Cache {
    /// The cache in this directory; its blobs lie in `blobs/` there.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { blobs: dir.join("blobs") }
    }

    /// Where a blob lies: two hexadecimal digits, a slash, and the other 62.
    #[must_use]
    pub fn path(&self, hash: BlobHash) -> PathBuf {
        let hex = hash.to_hex();
        self.blobs.join(&hex[..2]).join(&hex[2..])
    }

    /// Opens a blob; its bytes are not yet verified.
    ///
    /// # Errors
    /// [`BlobError::Missing`] or [`BlobError::Read`].
    pub fn open(&self, hash: BlobHash) -> Result<File, BlobError> {
        File::open(self.path(hash)).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => BlobError::Missing { hash },
            _ => BlobError::Read { hash, source },
        })
    }

    /// Reads a whole blob of at most `size_max` bytes, verified.
    ///
    /// # Errors
    /// [`BlobError`]; a longer one is [`BlobError::Broken`].
    pub fn read(&self, hash: BlobHash, size_max: u64) -> Result<Vec<u8>, BlobError> {
        let file = self.open(hash)?;
        let mut bytes = Vec::new();
        let read = file.take(size_max.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|source| BlobError::Read { hash, source })?;
        if bytes.len() as u64 > size_max || BlobHash::of(&bytes) != hash {
            return Err(BlobError::Broken { hash });
        }
        Ok(bytes)
    }
}

/// A catalog's bytes, verified and checked to be one.
pub struct LoadedCatalog(Vec<u8>);

impl LoadedCatalog {
    /// Reads a catalog from the cache.
    ///
    /// # Errors
    /// [`BlobError`].
    pub fn load(cache: &Cache, hash: BlobHash) -> Result<Self, BlobError> {
        let bytes = cache.read(hash, CATALOG_SIZE_MAX)?;
        match access::<Catalog>(&bytes) {
            Some(catalog) if catalog.schema == CATALOG_SCHEMA => Ok(Self(bytes)),
            _ => Err(BlobError::Format { hash, what: "catalog" }),
        }
    }

    /// The catalog, in place.
    ///
    /// # Panics
    /// Never: it was checked when it was read.
    #[must_use]
    pub fn archived(&self) -> &ArchivedCatalog {
        access::<Catalog>(&self.0).expect("checked when it was read, and never changed")
    }
}

/// A tree's bytes, verified and checked to be one.
pub struct LoadedTree(Vec<u8>);

impl LoadedTree {
    /// Reads a tree from the cache.
    ///
    /// # Errors
    /// [`BlobError`].
    pub fn load(cache: &Cache, hash: BlobHash) -> Result<Self, BlobError> {
        let bytes = cache.read(hash, CATALOG_SIZE_MAX)?;
        match access::<Tree>(&bytes) {
            Some(tree) if tree.schema == CATALOG_SCHEMA => Ok(Self(bytes)),
            _ => Err(BlobError::Format { hash, what: "tree" }),
        }
    }

    /// The tree, in place.
    ///
    /// # Panics
    /// Never: it was checked when it was read.
    #[must_use]
    pub fn archived(&self) -> &ArchivedTree {
        access::<Tree>(&self.0).expect("checked when it was read, and never changed")
    }
}

/// A manifest's bytes, verified and checked to be one.
pub struct LoadedManifest(Vec<u8>);

impl LoadedManifest {
    /// Reads a manifest from the cache.
    ///
    /// # Errors
    /// [`BlobError`].
    pub fn load(cache: &Cache, hash: BlobHash) -> Result<Self, BlobError> {
        let bytes = cache.read(hash, MANIFEST_SIZE_MAX)?;
        match access::<ManifestBlob>(&bytes) {
            Some(manifest) if manifest.schema == CATALOG_SCHEMA => Ok(Self(bytes)),
            _ => Err(BlobError::Format { hash, what: "manifest" }),
        }
    }

    /// The manifest, in place.
    ///
    /// # Panics
    /// Never: it was checked when it was read.
    #[must_use]
    pub fn archived(&self) -> &ArchivedManifestBlob {
        access::<ManifestBlob>(&self.0).expect("checked when it was read, and never changed")
    }
}

impl AssignedManifest {
    /// Finds the catalog of an assignment, through its manifest in the cache.
    ///
    /// # Errors
    /// [`BlobError`]: the manifest must be fetched before.
    pub fn find(cache: &Cache, assignment: &Assignment) -> Result<Self, BlobError> {
        let manifest = assignment.manifest_hash();
        let loaded = LoadedManifest::load(cache, manifest)?;
        let catalog = BlobHash(loaded.archived().catalog);
        Ok(Self { revision: Revision(assignment.revision), manifest, catalog })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestSite;

    #[test]
    fn s1_5_a_flipped_byte_in_a_cached_archive_is_found() {
        let site = TestSite::new();
        let tree = Tree { schema: CATALOG_SCHEMA, entries: vec![] };
        let bytes = engine::wire::encode(&tree);
        let hash = site.add_blob(&bytes);
        assert!(LoadedTree::load(&site.cache(), hash).is_ok());
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            std::fs::write(site.cache().path(hash), &flipped).unwrap();
            let error = LoadedTree::load(&site.cache(), hash).map(|_| ()).unwrap_err();
            assert_eq!(error.to_fetch(), Some(hash), "byte {at}");
        }
        std::fs::remove_file(site.cache().path(hash)).unwrap();
        let error = LoadedTree::load(&site.cache(), hash).map(|_| ()).unwrap_err();
        assert!(matches!(error, BlobError::Missing { .. }));
    }

    #[test]
    fn bytes_with_the_right_hash_and_another_meaning_are_refused() {
        let site = TestSite::new();
        let later = engine::wire::encode(&Tree { schema: 99, entries: vec![] });
        for bytes in [&b""[..], b"no archive", &later] {
            let hash = site.add_blob(bytes);
            let error = LoadedTree::load(&site.cache(), hash).map(|_| ()).unwrap_err();
            assert!(matches!(error, BlobError::Format { .. }), "{error}");
            assert_eq!(error.to_fetch(), None);
            assert!(LoadedCatalog::load(&site.cache(), hash).is_err());
        }
    }
}
