//! Releases without a site: one policy file for all hosts.

use engine::blob::Cache;
use engine::release::{
    Assignment, CATALOG_SCHEMA, Catalog, FileEntry, ManifestBlob, NAME_CATALOG, NAME_MANIFEST,
    TrustedKeys,
};
use engine::sign::SigningKey;
use engine::wire::encode;
use master::release::{Line, Listed, RELEASE_SCHEMA, Release};

/// The site's key: always the same, so that a seed replays.
///
/// # Panics
/// Never: the text is a key.
#[must_use]
pub fn key() -> SigningKey {
    SigningKey::parse(&format!("drover-signing-key-1 {}", "5a".repeat(32))).expect("a key")
}

/// What clients trust.
#[must_use]
pub fn trusted() -> TrustedKeys {
    TrustedKeys::Only(vec![key().public()])
}

/// Writes a release of one file of this size into a master's cache; each line of the inventory
/// is a pattern.
///
/// # Panics
/// The directory cannot be written.
#[must_use]
pub fn publish(
    cache: &Cache,
    revision: u64,
    patterns: &[&str],
    size: usize,
    issued_ms: u64,
) -> Release {
    let put = |name: &[u8], bytes: &[u8]| {
        let hash = cache.insert(bytes).expect("the cache takes a blob").0;
        Listed { name: name.to_vec(), hash, size: bytes.len() as u64 }
    };
    let mut rng = fastrand::Rng::with_seed(revision);
    let content: Vec<u8> = (0..size).map(|_| rng.u8(..)).collect();
    let file = put(b"policies/base/files/motd", &content);
    let catalog =
        put(NAME_CATALOG, &encode(&Catalog { schema: CATALOG_SCHEMA, resources: Vec::new() }));
    let manifest = ManifestBlob {
        schema: CATALOG_SCHEMA,
        catalog: catalog.hash,
        catalog_size: catalog.size,
        files: vec![FileEntry {
            name: file.name.clone(),
            hash: file.hash,
            size: file.size,
            mode: 0o644,
        }],
    };
    let manifest = put(NAME_MANIFEST, &encode(&manifest));
    let expires_ms = issued_ms + 30 * 86_400_000;
    let lines = patterns.iter().enumerate().map(|(at, pattern)| {
        let assignment = Assignment {
            schema: CATALOG_SCHEMA,
            pattern: (*pattern).to_owned(),
            excludes: patterns[..at].iter().map(|p| (*p).to_owned()).collect(),
            revision,
            manifest: manifest.hash,
            manifest_size: manifest.size,
            issued_ms,
            expires_ms,
        };
        Line {
            pattern: (*pattern).to_owned(),
            assignment: encode(&assignment.sign(&key())),
            manifest: manifest.hash,
            manifest_size: manifest.size,
        }
    });
    let lines = lines.collect();
    let mut blobs = vec![file, catalog, manifest];
    blobs.sort();
    let key_id = key().public().id();
    Release {
        schema: RELEASE_SCHEMA,
        site: "sim".to_owned(),
        revision,
        issued_ms,
        expires_ms,
        key_id,
        lines,
        blobs,
    }
}
