//! A digest of what a report says: by it the sender and the result store find out whether they
//! have the same report, without sending it back.

use super::message::{Report, ResourceResult};
use crc32fast::Hasher;
use std::num::NonZeroU32;

impl Report {
    /// A digest of everything that the report says: the CRC-32 (IEEE) of its fields in their
    /// order, numbers little-endian, texts and lists behind their length in 64 bits. An error
    /// within four bytes is always found, others are missed once in four billion.
    ///
    /// It is never 0, so that a digest which is not known takes no room beside one that is.
    #[must_use]
    pub fn digest(&self) -> NonZeroU32 {
        // Taken apart by name: a field that is added must get its place here.
        let Self { revision, trigger, started_ms, duration_us, busy_us, checked, results, note } =
            self;
        let mut digest = Digest::new();
        digest.add(&revision.to_le_bytes());
        digest.add(&[*trigger]);
        digest.add(&started_ms.to_le_bytes());
        digest.add(&duration_us.to_le_bytes());
        digest.add(&busy_us.to_le_bytes());
        digest.add(&checked.to_le_bytes());
        digest.add(&(results.len() as u64).to_le_bytes());
        results.iter().for_each(|result| digest.add_result(result));
        digest.add_bytes(note.as_bytes());
        NonZeroU32::new(digest.finish()).unwrap_or(NonZeroU32::MIN)
    }
}

/// A checksum over many small pieces. They are gathered first: the hasher takes longer to be called
/// than to go over the few bytes that most of them have.
struct Digest {
    hasher: Hasher,
    gathered: [u8; 256],
    len: usize,
}

impl Digest {
    fn new() -> Self {
        Self { hasher: Hasher::new(), gathered: [0; 256], len: 0 }
    }

    fn add(&mut self, bytes: &[u8]) {
        if bytes.len() > self.gathered.len() - self.len {
            self.hash_gathered();
        }
        match self.gathered[self.len..].get_mut(..bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            None => self.hasher.update(bytes),
        }
    }

    /// The length goes first, or what one text loses at its end could be what the next one gains.
    fn add_bytes(&mut self, bytes: &[u8]) {
        self.add(&(bytes.len() as u64).to_le_bytes());
        self.add(bytes);
    }

    fn add_result(&mut self, result: &ResourceResult) {
        let ResourceResult { id, outcome, before, after, error, duration_us, output } = result;
        self.add_bytes(id);
        self.add(&[*outcome]);
        self.add_bytes(before.as_bytes());
        self.add_bytes(after.as_bytes());
        self.add_bytes(error.as_bytes());
        self.add(&duration_us.to_le_bytes());
        self.add_bytes(output);
    }

    fn hash_gathered(&mut self) {
        self.hasher.update(&self.gathered[..self.len]);
        self.len = 0;
    }

    fn finish(mut self) -> u32 {
        self.hash_gathered();
        self.hasher.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn report() -> Report {
        let result = ResourceResult {
            id: b"file /etc/motd".to_vec(),
            outcome: 1,
            before: "absent".to_owned(),
            after: "0644".to_owned(),
            error: String::new(),
            duration_us: 420,
            output: vec![b'.'; 10],
        };
        Report {
            revision: 7,
            trigger: 3,
            started_ms: 1_700_000_000_000,
            duration_us: 2_600,
            busy_us: 2_400,
            checked: 100,
            results: vec![result.clone(), result],
            note: "a note".to_owned(),
        }
    }

    #[test]
    fn every_field_counts() {
        let changes: [fn(&mut Report); 17] = [
            |_| {},
            |r| r.revision = 8,
            |r| r.trigger = 4,
            |r| r.started_ms += 1,
            |r| r.duration_us += 1,
            |r| r.busy_us += 1,
            |r| r.checked += 1,
            |r| r.note.push(' '),
            |r| drop(r.results.pop()),
            |r| r.results[0].id[0] = b'F',
            |r| r.results[1].outcome = 2,
            |r| r.results[0].before.clear(),
            |r| r.results[0].after = "0645".to_owned(),
            |r| r.results[1].error.push('x'),
            |r| r.results[0].duration_us = 421,
            |r| r.results[1].output[9] = b',',
            // What one text loses the next one gains.
            |r| {
                (r.results[0].before, r.results[0].after) = ("absent0".into(), "644".into());
            },
        ];
        let digests = changes.map(|change| {
            let mut report = report();
            change(&mut report);
            report.digest()
        });
        assert_eq!(BTreeSet::from(digests).len(), changes.len(), "{digests:?}");
        assert_eq!(report().digest(), report().digest());
    }

    /// Whatever is gathered, and whatever is too long for it.
    #[test]
    fn pieces_of_all_lengths_give_the_checksum_of_the_whole() {
        let bytes: Vec<u8> = (0..=255).cycle().take(5_000).collect();
        let (mut digest, mut rest) = (Digest::new(), &bytes[..]);
        for len in [1, 8, 247, 1, 256, 0, 255, 2, 257, 1000, 3].into_iter().cycle() {
            let (piece, more) = rest.split_at(len.min(rest.len()));
            digest.add(piece);
            rest = more;
            if rest.is_empty() {
                break;
            }
        }
        assert_eq!(digest.finish(), crc32fast::hash(&bytes));
    }

    /// Journals and masters of other versions bear it.
    #[test]
    fn its_form_is_fixed() {
        assert_eq!(report().digest().get(), 4_236_873_577);
    }
}
