//! The check at the end of a run: every report that the master acked is in its result store
//! exactly once, each client's in the order in which it sent them, and says what was sent.

use super::ranges::Ranges;
use engine::ids::HostName;
use master::control::{CallError, IdsArgs, IdsPage, StoredId, ask, verb};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::Path;

/// Ids that are named in a report, of each kind.
const EXAMPLES_MAX: usize = 5;
/// Digests that are kept: 128 MiB. Reports beyond are still compared by their ids.
const DIGESTS_MAX: usize = 32 << 20;

/// The reports of one incarnation of a client's outbox.
#[derive(Debug)]
struct Stream {
    name: HostName,
    acked: Ranges,
    stored: Ranges,
    doubled: Vec<u64>,
    disordered: Vec<u64>,
    /// Number of the first report whose digest is kept.
    digests_from: u64,
    /// What was sent under that number, and under those behind it.
    digests: Vec<Option<NonZeroU32>>,
    /// Acked reports whose digest is known of both sides.
    compared: u64,
    altered: Vec<u64>,
}

impl Stream {
    fn new(name: HostName) -> Self {
        Self {
            name,
            acked: Ranges::default(),
            stored: Ranges::default(),
            doubled: Vec::new(),
            disordered: Vec::new(),
            digests_from: 0,
            digests: Vec::new(),
            compared: 0,
            altered: Vec::new(),
        }
    }

    /// Where the digest of a report is kept, or would be.
    fn place(&self, seq: u64) -> Option<usize> {
        usize::try_from(seq.checked_sub(self.digests_from)?).ok()
    }

    /// Keeps the digest of an acked report, if there is room for so many places more; what it
    /// took of that.
    fn keep(&mut self, seq: u64, digest: Option<NonZeroU32>, room: usize) -> usize {
        if self.digests.is_empty() {
            self.digests_from = seq;
        }
        let Some(place) = self.place(seq) else { return 0 };
        let len = self.digests.len();
        if place >= len && place - len < room {
            self.digests.resize(place + 1, None);
        }
        if let Some(kept) = self.digests.get_mut(place) {
            *kept = digest;
        }
        self.digests.len() - len
    }

    /// Compares what is stored of an acked report with what was sent.
    fn compare(&mut self, seq: u64, stored: Option<NonZeroU32>) {
        let sent = self.place(seq).and_then(|place| self.digests.get(place).copied().flatten());
        if let (Some(sent), Some(stored)) = (sent, stored)
            && self.acked.contains(seq)
        {
            self.compared += 1;
            if sent != stored {
                self.altered.push(seq);
            }
        }
    }
}

/// The reports of a run: those that were acked, and how often the master has each. What it takes
/// grows with the clients, and by four bytes for each report, up to 128 MiB.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By incarnation: they are random, so no two clients share one.
    streams: HashMap<u64, Stream>,
    /// Places for digests, over all streams.
    digests: usize,
}

impl Ledger {
    /// The master has acked these reports, which bear successive numbers; the name is asked for
    /// once.
    pub fn acked(
        &mut self,
        epoch: u64,
        first: u64,
        digests: impl IntoIterator<Item = Option<NonZeroU32>>,
        name: impl FnOnce() -> HostName,
    ) {
        let stream = self.streams.entry(epoch).or_insert_with(|| Stream::new(name()));
        for (seq, digest) in (first..=u64::MAX).zip(digests) {
            stream.acked.insert(seq..=seq);
            self.digests += stream.keep(seq, digest, DIGESTS_MAX - self.digests);
        }
    }

    /// Reports acked so far.
    #[must_use]
    pub fn acked_count(&self) -> u64 {
        self.streams.values().map(|stream| stream.acked.count()).sum()
    }

    /// The master has stored this report, after all that it told before. Those of other runs are
    /// passed over.
    pub fn stored(&mut self, id: &StoredId) {
        let Some(stream) = self.streams.get_mut(&id.epoch) else { return };
        if stream.name.as_str() != id.name {
            return;
        }
        stream.compare(id.seq, id.digest);
        if stream.stored.contains(id.seq) {
            stream.doubled.push(id.seq);
        } else if stream.stored.last().is_some_and(|last| last > id.seq) {
            stream.disordered.push(id.seq);
        }
        stream.stored.insert(id.seq..=id.seq);
    }

    /// Reads the ids of all stored reports from the daemon.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub fn read_stored(&mut self, control: &Path) -> Result<(), CallError> {
        let mut after = None;
        loop {
            let page: IdsPage = ask(control, verb::IDS, &IdsArgs { after })?;
            page.ids.iter().for_each(|id| self.stored(id));
            if page.next.is_none() {
                return Ok(());
            }
            after = page.next;
        }
    }

    /// Compares what was acked with what is stored.
    #[must_use]
    pub fn compare(&self) -> Truth {
        let lost = self.ids(|stream| stream.acked.without(&stream.stored));
        let doubled = self.ids(|stream| stream.doubled.clone());
        let disordered = self.ids(|stream| stream.disordered.clone());
        let altered = self.ids(|stream| stream.altered.clone());
        let first = |ids: &[(&HostName, u64, u64)]| -> Vec<String> {
            let first = ids.iter().take(EXAMPLES_MAX);
            first.map(|(name, epoch, seq)| format!("{name} {epoch:016x} {seq}")).collect()
        };
        Truth {
            acked: self.acked_count(),
            stored: self.streams.values().map(|stream| stream.stored.count()).sum(),
            lost: lost.len() as u64,
            doubled: doubled.len() as u64,
            disordered: disordered.len() as u64,
            altered: altered.len() as u64,
            compared: self.streams.values().map(|stream| stream.compared).sum(),
            lost_first: first(&lost),
            doubled_first: first(&doubled),
            disordered_first: first(&disordered),
            altered_first: first(&altered),
        }
    }

    fn ids(&self, of: impl Fn(&Stream) -> Vec<u64>) -> Vec<(&HostName, u64, u64)> {
        let each = self.streams.iter().flat_map(|(epoch, stream)| {
            of(stream).into_iter().map(|seq| (&stream.name, *epoch, seq))
        });
        let mut ids: Vec<_> = each.collect();
        ids.sort();
        ids
    }
}

/// The result of the comparison.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Truth {
    /// Reports that the master acked.
    pub acked: u64,
    /// Reports of the same clients in its result store; those whose ack was lost count too.
    pub stored: u64,
    /// Acked, and not stored.
    pub lost: u64,
    /// Stored more than once.
    pub doubled: u64,
    /// Stored after a later report of the same client.
    pub disordered: u64,
    /// Stored with another content than was sent.
    pub altered: u64,
    /// Acked ones whose content could be compared: what was sent and what is stored is known.
    pub compared: u64,
    /// The first of the lost ones: name, incarnation, number.
    pub lost_first: Vec<String>,
    /// The first of the doubled ones.
    pub doubled_first: Vec<String>,
    /// The first of the disordered ones.
    pub disordered_first: Vec<String>,
    /// The first of the altered ones.
    pub altered_first: Vec<String>,
}

impl Truth {
    /// Adds that of other clients.
    pub fn add(&mut self, other: Self) {
        self.acked += other.acked;
        self.stored += other.stored;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.disordered += other.disordered;
        self.altered += other.altered;
        self.compared += other.compared;
        for (all, more) in [
            (&mut self.lost_first, other.lost_first),
            (&mut self.doubled_first, other.doubled_first),
            (&mut self.disordered_first, other.disordered_first),
            (&mut self.altered_first, other.altered_first),
        ] {
            all.extend(more);
            all.truncate(EXAMPLES_MAX);
        }
    }

    /// Whether all is as it must be.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.disordered == 0 && self.altered == 0
    }
}

impl fmt::Display for Truth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acked, stored, lost, doubled, disordered, altered, compared, .. } = self;
        write!(f, "{acked} reports acked, {stored} stored, {lost} lost, {doubled} doubled")?;
        write!(f, ", {altered} altered")?;
        if *disordered > 0 {
            write!(f, ", {disordered} out of order")?;
        }
        let unknown = acked.saturating_sub(lost + compared);
        if unknown > 0 {
            write!(f, "; of {unknown} the content is not known and was not compared")?;
        }
        let kinds = [
            ("lost", &self.lost_first),
            ("doubled", &self.doubled_first),
            ("out of order", &self.disordered_first),
            ("altered", &self.altered_first),
        ];
        for (what, ids) in kinds {
            for id in ids {
                write!(f, "\n  {what}: {id}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(ledger: &mut Ledger, name: &str, epoch: u64, seq: u64) {
        ledger.acked(epoch, seq, [digest(seq)], || HostName::parse(name.as_bytes()).unwrap());
    }

    /// What is said under this number.
    fn digest(seq: u64) -> Option<NonZeroU32> {
        NonZeroU32::new(u32::try_from(seq).unwrap())
    }

    fn stored(name: &str, epoch: u64, seq: u64) -> StoredId {
        StoredId { name: name.to_owned(), epoch, seq, digest: digest(seq) }
    }

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        for seq in 1..=3 {
            ack(&mut ledger, "lg-1", 0xa, seq);
            ack(&mut ledger, "lg-2", 0xb, seq);
        }
        ledger
    }

    #[test]
    fn each_acked_report_once_is_the_truth() {
        let mut ledger = ledger();
        for seq in 1..=3 {
            ledger.stored(&stored("lg-1", 0xa, seq));
            ledger.stored(&stored("lg-2", 0xb, seq));
        }
        // Its ack was lost, or it belongs to another run: neither is wrong.
        ledger.stored(&stored("lg-2", 0xb, 4));
        ledger.stored(&stored("lg-1", 0xc, 1));
        let truth = ledger.compare();
        assert!(truth.holds(), "{truth}");
        assert_eq!((truth.acked, truth.stored, truth.compared), (6, 7, 6));
    }

    #[test]
    fn an_altered_report_is_named_only_if_it_was_acked() {
        let mut ledger = ledger();
        for seq in 1..=4 {
            let said = if seq % 2 == 0 { digest(9) } else { digest(seq) };
            ledger.stored(&StoredId { digest: said, ..stored("lg-1", 0xa, seq) });
        }
        // A master of an earlier version tells no digest.
        (1..=3).for_each(|s| ledger.stored(&StoredId { digest: None, ..stored("lg-2", 0xb, s) }));
        let truth = ledger.compare();
        assert!(!truth.holds());
        assert_eq!(truth.altered_first, ["lg-1 000000000000000a 2"], "the ack of 4 was lost");
        assert_eq!((truth.altered, truth.lost, truth.compared), (1, 0, 3));
        let text = truth.to_string();
        assert!(text.contains("1 altered; of 3 the content is not known"), "{text}");
        assert!(text.ends_with("\n  altered: lg-1 000000000000000a 2"), "{text}");
    }

    #[test]
    fn digests_are_kept_only_within_their_bound_wherever_a_journal_jumps_to() {
        let mut ledger = Ledger::default();
        for seq in [7, 9, u64::MAX, 3] {
            ledger.acked(0xa, seq, [digest(1)], || HostName::parse(b"lg-1").unwrap());
        }
        assert_eq!((ledger.acked_count(), ledger.digests), (4, 3));
        // What is not kept is not judged, but still counted.
        for seq in [3, 7, 8, 9, u64::MAX] {
            let name = "lg-1".to_owned();
            ledger.stored(&StoredId { name, epoch: 0xa, seq, digest: digest(2) });
        }
        let truth = ledger.compare();
        assert_eq!((truth.lost, truth.compared, truth.altered), (0, 2, 2), "{truth}");
    }

    #[test]
    fn a_lost_report_is_named() {
        let mut ledger = ledger();
        for seq in [1, 3] {
            ledger.stored(&stored("lg-1", 0xa, seq));
            ledger.stored(&stored("lg-2", 0xb, seq));
        }
        ledger.stored(&stored("lg-2", 0xb, 2));
        let truth = ledger.compare();
        assert!(!truth.holds());
        assert_eq!(truth.lost_first, ["lg-1 000000000000000a 2"]);
        assert_eq!((truth.lost, truth.doubled), (1, 0));
    }

    #[test]
    fn a_doubled_report_is_named_whether_acked_or_not() {
        let mut ledger = ledger();
        for seq in 1..=3 {
            ledger.stored(&stored("lg-1", 0xa, seq));
            ledger.stored(&stored("lg-2", 0xb, seq));
        }
        for seq in [3, 9, 9] {
            ledger.stored(&stored("lg-1", 0xa, seq));
        }
        let truth = ledger.compare();
        assert!(!truth.holds());
        assert_eq!(truth.doubled_first, ["lg-1 000000000000000a 3", "lg-1 000000000000000a 9"]);
    }

    #[test]
    fn a_report_stored_under_another_name_is_lost() {
        let mut ledger = Ledger::default();
        ack(&mut ledger, "lg-1", 0xa, 1);
        ledger.stored(&stored("lg-2", 0xa, 1));
        assert_eq!(ledger.compare().lost, 1);
    }

    #[test]
    fn a_report_stored_behind_a_later_one_is_named() {
        let mut ledger = ledger();
        for seq in [1, 3, 2] {
            ledger.stored(&stored("lg-1", 0xa, seq));
            ledger.stored(&stored("lg-2", 0xb, 4 - seq));
        }
        let truth = ledger.compare();
        assert!(!truth.holds());
        assert_eq!((truth.lost, truth.doubled, truth.disordered), (0, 0, 3));
        assert_eq!(
            truth.disordered_first[..2],
            ["lg-1 000000000000000a 2", "lg-2 000000000000000b 1"]
        );
    }
}
