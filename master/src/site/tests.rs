//! Tests of the compiler: what a site becomes, and every mistake with its place and its words.

use super::compile::{Bounds, compile_within};
use super::*;
use crate::release::{Blob, Intake, IntakeError, Measure, StoreError};
use engine::ids::BlobHash;
use engine::release::{Catalog, ManifestBlob, Resource, Tree, TreeKind, decode};
use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

mod catalog;
mod mistakes;

/// A site of these files, below a directory of its own.
struct TestSite {
    dir: TempDir,
}

impl TestSite {
    fn new(files: &[(&str, &str)]) -> Self {
        let site = Self { dir: TempDir::new().unwrap() };
        site.write("site/site.toml", "site = \"test\"\n");
        site.write("site/hosts.yaml", "hosts:\n  - host: \"*\"\n    policies: [p]\n");
        for (path, text) in files {
            site.write(&format!("site/{path}"), text);
        }
        site
    }

    /// One policy for every host.
    fn of_policy(text: &str) -> Self {
        Self::new(&[("policies/p/policy.yaml", text)])
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("site").join(path)
    }

    fn compile(&self) -> (Compiled, Kept) {
        let mut kept = Kept::default();
        let compiled = compile(&self.path(""), &mut kept, &mut |_| {});
        (compiled.unwrap_or_else(|e| panic!("{e}")), kept)
    }

    /// The mistakes, a line each.
    fn mistakes(&self) -> Vec<String> {
        match compile(&self.path(""), &mut Measure::default(), &mut |_| {}) {
            Err(CompileError::Mistakes(mistakes)) => {
                mistakes.iter().map(|m| format!("{}: {}", m.place, m.message)).collect()
            }
            Err(e) => panic!("{e}"),
            Ok(_) => Vec::new(),
        }
    }

    fn resources(&self) -> Vec<Resource> {
        let (compiled, kept) = self.compile();
        kept.catalog(compiled.sets[compiled.lines[0].set].manifest.hash).resources
    }
}

/// Keeps all blobs in memory.
#[derive(Default)]
struct Kept(HashMap<BlobHash, Vec<u8>>);

impl Intake for Kept {
    fn file(&mut self, path: &Path) -> Result<Blob, IntakeError> {
        let bytes = fs::read(path).map_err(IntakeError::Source)?;
        self.bytes(&bytes)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<Blob, IntakeError> {
        let blob = Blob::of(bytes);
        self.0.insert(blob.hash, bytes.to_vec());
        Ok(blob)
    }
}

impl Kept {
    fn manifest(&self, hash: BlobHash) -> ManifestBlob {
        decode(&self.0[&hash]).unwrap()
    }

    fn catalog(&self, manifest: BlobHash) -> Catalog {
        decode(&self.0[&BlobHash(self.manifest(manifest).catalog)]).unwrap()
    }
}
