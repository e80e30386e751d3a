//! Where simulated clients put what they fetch: one copy of each blob for all of them, against
//! which the bytes that each receives are compared.

use engine::blob::{BlobCommand, BlobEvent};
use engine::ids::BlobHash;
use std::collections::HashMap;

/// Longer blobs are counted, and not kept.
const KEPT_MAX: u64 = 512 * 1024 * 1024;

/// What was fetched, once for all clients of a swarm.
#[derive(Debug, Default)]
pub(super) struct Cache {
    blobs: HashMap<BlobHash, Vec<u8>>,
    /// Bytes that have arrived, all clients together.
    pub(super) received: u64,
}

impl Cache {
    /// What a client's blob thread would answer. No client has anything at first.
    pub(super) fn answer(&mut self, command: BlobCommand) -> BlobEvent {
        match command {
            BlobCommand::Probe { blobs } => {
                let wanted = blobs.into_iter().map(|(hash, size)| (hash, size, 0));
                BlobEvent::Wanted { blobs: wanted.collect() }
            }
            BlobCommand::Write { hash, size, offset, data } => {
                self.received += data.len() as u64;
                let end = offset.saturating_add(data.len() as u64);
                if !self.is_right(hash, size, offset, &data) {
                    let error = "these bytes do not have the hash".to_owned();
                    return BlobEvent::Broken { hash, error };
                }
                match end {
                    end if end >= size => BlobEvent::Stored { hash },
                    upto => BlobEvent::Written { hash, upto },
                }
            }
            BlobCommand::Load { hash, .. } => match self.blobs.get(&hash) {
                Some(bytes) => BlobEvent::Loaded { hash, bytes: bytes.clone() },
                None => BlobEvent::Missing { hash },
            },
            BlobCommand::Open { hash } | BlobCommand::ReadAhead { hash, .. } => {
                BlobEvent::Missing { hash }
            }
            BlobCommand::Verify { hash } => BlobEvent::Verified { hash, whole: true },
            BlobCommand::Collect { .. } => BlobEvent::Collected { removed: 0, bytes: 0 },
        }
    }

    /// Whether these bytes are what everybody else has received there. Whoever is ahead of all
    /// others adds to the copy, and it is hashed when it is whole.
    fn is_right(&mut self, hash: BlobHash, size: u64, offset: u64, data: &[u8]) -> bool {
        if size > KEPT_MAX {
            return true;
        }
        let Ok(offset) = usize::try_from(offset) else { return false };
        let copy = self.blobs.entry(hash).or_default();
        let known = copy.len().saturating_sub(offset).min(data.len());
        if copy.get(offset..offset + known) != data.get(..known) {
            return false;
        }
        copy.extend_from_slice(&data[known..]);
        let has_become_whole = known < data.len() && copy.len() as u64 >= size;
        if has_become_whole && BlobHash::of(copy) != hash {
            self.blobs.remove(&hash);
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(cache: &mut Cache, hash: BlobHash, offset: u64, data: &[u8]) -> BlobEvent {
        cache.answer(BlobCommand::Write { hash, size: 6, offset, data: data.to_vec() })
    }

    #[test]
    fn two_clients_share_a_copy_and_a_wrong_byte_is_found() {
        let mut cache = Cache::default();
        let hash = BlobHash::of(b"drover");
        assert!(matches!(write(&mut cache, hash, 0, b"dro"), BlobEvent::Written { upto: 3, .. }));
        assert!(matches!(write(&mut cache, hash, 0, b"drove"), BlobEvent::Written { .. }));
        assert!(matches!(write(&mut cache, hash, 3, b"ver"), BlobEvent::Stored { .. }));
        assert!(matches!(write(&mut cache, hash, 5, b"r"), BlobEvent::Stored { .. }));
        assert!(matches!(write(&mut cache, hash, 0, b"dra"), BlobEvent::Broken { .. }));
        let loaded = cache.answer(BlobCommand::Load { hash, size_max: 6 });
        assert!(matches!(loaded, BlobEvent::Loaded { bytes, .. } if bytes == b"drover"));
        assert_eq!(cache.received, 15);
    }

    #[test]
    fn a_whole_blob_of_another_hash_is_broken_and_can_be_fetched_again() {
        let mut cache = Cache::default();
        let hash = BlobHash::of(b"drover");
        assert!(matches!(write(&mut cache, hash, 0, b"Drover"), BlobEvent::Broken { .. }));
        assert!(matches!(write(&mut cache, hash, 0, b"drover"), BlobEvent::Stored { .. }));
    }
}
