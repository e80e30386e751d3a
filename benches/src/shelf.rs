//! Blobs to be served, all of one size: a cache of the engine's, whose files any other server can
//! serve as well.

use engine::blob::{Cache, Listing};
use engine::ids::BlobHash;
use std::io;
use std::path::{Path, PathBuf};

/// Blobs in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shelf {
    dir: PathBuf,
    /// Bytes of each.
    pub size: u64,
    /// The hash of each.
    pub hashes: Vec<BlobHash>,
}

impl Shelf {
    /// Puts so many blobs of random bytes there.
    ///
    /// # Errors
    /// The directory or its files cannot be written.
    pub fn fill(dir: &Path, size: usize, count: usize) -> io::Result<Self> {
        let mut shelf = Self { dir: dir.to_owned(), size: size as u64, hashes: Vec::new() };
        let (cache, mut rng) = (shelf.cache()?, fastrand::Rng::with_seed(size as u64));
        let (mut bytes, mut index) = (vec![0; size], format!("{size}\n"));
        for _ in 0..count {
            rng.fill(&mut bytes);
            let hash = cache.insert(&bytes).map_err(io::Error::other)?;
            index.push_str(&format!("{}\n", hash.to_hex()));
            shelf.hashes.push(hash);
        }
        std::fs::write(shelf.index(), index)?;
        Ok(shelf)
    }

    /// What was put there.
    ///
    /// # Errors
    /// Nothing was.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let mut shelf = Self { dir: dir.to_owned(), size: 0, hashes: Vec::new() };
        let index = std::fs::read_to_string(shelf.index())?;
        let mut lines = index.lines();
        let wrong = || io::Error::other("the index of the blobs is none");
        shelf.size = lines.next().and_then(|line| line.parse().ok()).ok_or_else(wrong)?;
        let hashes = lines.map(BlobHash::from_hex).collect::<Option<_>>();
        shelf.hashes = hashes.ok_or_else(wrong)?;
        Ok(shelf)
    }

    fn index(&self) -> PathBuf {
        self.dir.join("index")
    }

    /// The directory as a cache.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn cache(&self) -> io::Result<Cache> {
        Cache::open(&self.dir, false).map_err(io::Error::other)
    }

    /// All of them, for a server.
    #[must_use]
    pub fn listing(&self) -> Listing {
        let mut listing = Listing::default();
        for (number, hash) in self.hashes.iter().enumerate() {
            listing.insert(&Self::name(number), *hash, self.size);
        }
        listing
    }

    /// The name under which a blob is served.
    #[must_use]
    pub fn name(number: usize) -> Vec<u8> {
        format!("files/{number:04}").into_bytes()
    }

    /// Where a blob lies below the directory, with slashes.
    #[must_use]
    pub fn path(&self, number: usize) -> String {
        let hex = self.hashes[number].to_hex();
        format!("/blobs/{}/{}", &hex[..2], &hex[2..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_there_is_found_by_its_hash_and_by_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let filled = Shelf::fill(dir.path(), 1000, 3).unwrap();
        let shelf = Shelf::open(dir.path()).unwrap();
        assert_eq!(shelf, filled);
        assert_eq!(shelf.listing().size(b"files/0002", shelf.hashes[2]), Some(1000));
        assert_ne!(shelf.hashes[1], shelf.hashes[2]);
        let path = dir.path().join(&shelf.path(2)[1..]);
        assert_eq!(path, shelf.cache().unwrap().path(shelf.hashes[2]));
        assert_eq!(BlobHash::of(&std::fs::read(path).unwrap()), shelf.hashes[2]);
    }
}
