//! The check at the end of a run: every report that the master acked is in its result store
//! exactly once, and each client's in the order in which it sent them.

use super::ranges::Ranges;
use engine::ids::HostName;
use master::control::{CallError, IdsArgs, IdsPage, StoredId, ask, verb};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;

/// Ids that are named in a report, of each kind.
const EXAMPLES_MAX: usize = 5;

/// The reports of one incarnation of a client's outbox.
#[derive(Debug)]
struct Stream {
    name: HostName,
    acked: Ranges,
    stored: Ranges,
    doubled: Vec<u64>,
    disordered: Vec<u64>,
}

/// The reports of a run: those that were acked, and how often the master has each. What it takes
/// grows with the clients, not with the reports.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By incarnation: they are random, so no two clients share one.
    streams: HashMap<u64, Stream>,
}

impl Ledger {
    /// The master has acked these reports; the name is asked for once.
    pub fn acked(
        &mut self,
        epoch: u64,
        seqs: RangeInclusive<u64>,
        name: impl FnOnce() -> HostName,
    ) {
        let stream = self.streams.entry(epoch).or_insert_with(|| Stream {
            name: name(),
            acked: Ranges::default(),
            stored: Ranges::default(),
            doubled: Vec::new(),
            disordered: Vec::new(),
        });
        stream.acked.insert(seqs);
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
            lost_first: first(&lost),
            doubled_first: first(&doubled),
            disordered_first: first(&disordered),
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
    /// The first of the lost ones: name, incarnation, number.
    pub lost_first: Vec<String>,
    /// The first of the doubled ones.
    pub doubled_first: Vec<String>,
    /// The first of the disordered ones.
    pub disordered_first: Vec<String>,
}

impl Truth {
    /// Whether all is as it must be.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.disordered == 0
    }
}

impl fmt::Display for Truth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acked, stored, lost, doubled, disordered, .. } = self;
        write!(f, "{acked} reports acked, {stored} stored, {lost} lost, {doubled} doubled")?;
        if *disordered > 0 {
            write!(f, ", {disordered} out of order")?;
        }
        let kinds = [
            ("lost", &self.lost_first),
            ("doubled", &self.doubled_first),
            ("out of order", &self.disordered_first),
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
        ledger.acked(epoch, seq..=seq, || HostName::parse(name.as_bytes()).unwrap());
    }

    fn stored(name: &str, epoch: u64, seq: u64) -> StoredId {
        StoredId { name: name.to_owned(), epoch, seq }
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
        assert_eq!((truth.acked, truth.stored), (6, 7));
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
