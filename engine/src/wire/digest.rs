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
        let mut hasher = Hasher::new();
        hasher.update(&revision.to_le_bytes());
        hasher.update(&[*trigger]);
        hasher.update(&started_ms.to_le_bytes());
        hasher.update(&duration_us.to_le_bytes());
        hasher.update(&busy_us.to_le_bytes());
        hasher.update(&checked.to_le_bytes());
        hasher.update(&(results.len() as u64).to_le_bytes());
        results.iter().for_each(|result| add_result(&mut hasher, result));
        add_bytes(&mut hasher, note.as_bytes());
        NonZeroU32::new(hasher.finalize()).unwrap_or(NonZeroU32::MIN)
    }
}

fn add_result(hasher: &mut Hasher, result: &ResourceResult) {
    let ResourceResult { id, outcome, before, after, error, duration_us, output } = result;
    add_bytes(hasher, id);
    hasher.update(&[*outcome]);
    add_bytes(hasher, before.as_bytes());
    add_bytes(hasher, after.as_bytes());
    add_bytes(hasher, error.as_bytes());
    hasher.update(&duration_us.to_le_bytes());
    add_bytes(hasher, output);
}

/// The length goes first, or what one text loses at its end could be what the next one gains.
fn add_bytes(hasher: &mut Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
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

    /// Journals and masters of other versions bear it.
    #[test]
    fn its_form_is_fixed() {
        assert_eq!(report().digest().get(), 4_236_873_577);
    }
}
