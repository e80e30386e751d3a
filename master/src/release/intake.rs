//! How the compiler hands over bytes: it gets back their hash, and does not know whether they
//! are stored (publish) or only measured (dry run).

use super::error::StoreError;
use engine::ids::BlobHash;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Bytes read at a time; files up to this size are read once, larger ones are streamed.
pub(super) const PIECE_SIZE: usize = 256 * 1024;

/// Bytes by their hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    /// BLAKE3 of them.
    pub hash: BlobHash,
    /// How many.
    pub size: u64,
}

impl Blob {
    /// The blob of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { hash: BlobHash::of(bytes), size: bytes.len() as u64 }
    }
}

/// Why bytes could not be taken in.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The site's file cannot be read: a mistake in the site.
    #[error("{0}")]
    Source(io::Error),
    /// The store cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes bytes in.
pub trait Intake {
    /// Takes a file's bytes, a piece at a time.
    ///
    /// # Errors
    /// [`IntakeError`] tells the site's file from the store.
    fn file(&mut self, path: &Path) -> Result<Blob, IntakeError>;

    /// Takes bytes from memory.
    ///
    /// # Errors
    /// [`IntakeError::Store`].
    fn bytes(&mut self, bytes: &[u8]) -> Result<Blob, IntakeError>;
}

/// Hashes what it is given and keeps nothing.
#[derive(Debug)]
pub struct Measure {
    piece: Vec<u8>,
}

impl Default for Measure {
    fn default() -> Self {
        Self { piece: vec![0; PIECE_SIZE] }
    }
}

impl Intake for Measure {
    fn file(&mut self, path: &Path) -> Result<Blob, IntakeError> {
        let file = File::open(path).map_err(IntakeError::Source)?;
        measure(file, &mut self.piece, |_| Ok(()))
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<Blob, IntakeError> {
        Ok(Blob::of(bytes))
    }
}

/// Fills `piece` as far as the file goes.
pub(super) fn read_piece(file: &mut impl Read, piece: &mut [u8]) -> Result<usize, IntakeError> {
    let mut filled = 0;
    while filled < piece.len() {
        match file.read(&mut piece[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(IntakeError::Source(e)),
        }
    }
    Ok(filled)
}

/// Hashes a file from where it stands to its end and shows each piece to `see`.
pub(super) fn measure(
    mut file: impl Read,
    piece: &mut [u8],
    mut see: impl FnMut(&[u8]) -> Result<(), StoreError>,
) -> Result<Blob, IntakeError> {
    let mut hasher = blake3::Hasher::new();
    let mut size = 0;
    loop {
        let n = read_piece(&mut file, piece)?;
        if n == 0 {
            return Ok(Blob { hash: BlobHash(*hasher.finalize().as_bytes()), size });
        }
        hasher.update(&piece[..n]);
        size += n as u64;
        see(&piece[..n])?;
    }
}
