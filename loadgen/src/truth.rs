//! The check at the end of a run: every report that the master acked is in its result store
//! exactly once.

use crate::error::LoadError;
use crate::swarm::AckedReport;
use engine::ids::HostName;
use engine::time::Instant;
use master::control::{CallError, IdsArgs, IdsPage, NoArgs, Status, StoredId, ask, verb};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// Ids that are named in a report, of each kind.
const EXAMPLES_MAX: usize = 5;

/// What became of one report.
#[derive(Debug, Clone, Copy, Default)]
struct Fate {
    acked: bool,
    stored: u32,
}

/// The reports of a run: those that were acked, and how often the master has each.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Who has which incarnation: they are random, so no two clients share one.
    names: HashMap<u64, HostName>,
    fates: HashMap<(u64, u64), Fate>,
}

impl Ledger {
    /// The master has acked this report.
    pub fn acked(&mut self, report: &AckedReport) {
        self.names.entry(report.epoch.0).or_insert_with(|| report.name.clone());
        self.fates.entry((report.epoch.0, report.seq)).or_default().acked = true;
    }

    /// Reports acked so far.
    #[must_use]
    pub fn acked_count(&self) -> u64 {
        self.fates.values().filter(|fate| fate.acked).count() as u64
    }

    /// The master has stored this report. Those of other runs are passed over.
    pub fn stored(&mut self, id: &StoredId) {
        if self.names.get(&id.epoch).is_some_and(|name| name.as_str() == id.name) {
            self.fates.entry((id.epoch, id.seq)).or_default().stored += 1;
        }
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
        let lost = self.ids(|fate| fate.acked && fate.stored == 0);
        let doubled = self.ids(|fate| fate.stored > 1);
        let first = |ids: &[(u64, u64)]| -> Vec<String> {
            ids.iter().take(EXAMPLES_MAX).map(|id| self.describe(*id)).collect()
        };
        Truth {
            acked: self.acked_count(),
            stored: self.fates.values().filter(|fate| fate.stored > 0).count() as u64,
            lost: lost.len() as u64,
            doubled: doubled.len() as u64,
            lost_first: first(&lost),
            doubled_first: first(&doubled),
        }
    }

    fn ids(&self, is: impl Fn(&Fate) -> bool) -> Vec<(u64, u64)> {
        let found = self.fates.iter().filter(|(_, fate)| is(fate));
        let mut ids: Vec<_> = found.map(|(id, _)| *id).collect();
        ids.sort_by_key(|(epoch, seq)| (self.names.get(epoch), *seq));
        ids
    }

    fn describe(&self, (epoch, seq): (u64, u64)) -> String {
        let name = self.names.get(&epoch).map_or("?", HostName::as_str);
        format!("{name} {epoch:016x} {seq}")
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
    /// The first of the lost ones: name, incarnation, number.
    pub lost_first: Vec<String>,
    /// The first of the doubled ones.
    pub doubled_first: Vec<String>,
}

impl Truth {
    /// Whether all is as it must be.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.lost == 0 && self.doubled == 0
    }
}

impl fmt::Display for Truth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acked, stored, lost, doubled, .. } = self;
        write!(f, "{acked} reports acked, {stored} stored, {lost} lost, {doubled} doubled")?;
        for (what, ids) in [("lost", &self.lost_first), ("doubled", &self.doubled_first)] {
            for id in ids {
                write!(f, "\n  {what}: {id}")?;
            }
        }
        Ok(())
    }
}

/// Asks the daemon how it is.
///
/// # Errors
/// It does not answer.
pub fn status(control: &Path) -> Result<Status, CallError> {
    ask(control, verb::STATUS, &NoArgs {})
}

/// How long the inbox may take to get emptier, or a master to start again.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until all that was acked has gone from the master's inbox to its result store: before
/// that nothing can be said of it.
#[derive(Debug)]
pub struct InboxWait {
    fewest: u64,
    patience: Instant,
}

impl InboxWait {
    /// Begins to wait.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { fewest: u64::MAX, patience: now + PATIENCE }
    }

    /// Asks the daemon once; `true` says that its inbox is empty.
    ///
    /// # Errors
    /// The inbox has not got emptier for long, or the daemon has not answered for long.
    pub fn ask(&mut self, control: &Path, now: Instant) -> Result<bool, LoadError> {
        self.judge(status(control).map(|status| status.inbox_records), now)
    }

    fn judge(&mut self, left: Result<u64, CallError>, now: Instant) -> Result<bool, LoadError> {
        match left {
            Ok(0) => Ok(true),
            Ok(left) if left < self.fewest => {
                self.fewest = left;
                self.patience = now + PATIENCE;
                Ok(false)
            }
            Ok(left) if now >= self.patience => Err(LoadError::InboxStuck { left }),
            Err(error) if now >= self.patience => Err(error.into()),
            // It may be starting again.
            Ok(_) | Err(_) => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::ids::Epoch;

    fn report(name: &str, epoch: u64, seq: u64) -> AckedReport {
        let name = HostName::parse(name.as_bytes()).unwrap();
        AckedReport { name, epoch: Epoch(epoch), seq }
    }

    fn stored(name: &str, epoch: u64, seq: u64) -> StoredId {
        StoredId { name: name.to_owned(), epoch, seq }
    }

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        for seq in 1..=3 {
            ledger.acked(&report("lg-1", 0xa, seq));
            ledger.acked(&report("lg-2", 0xb, seq));
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
        ledger.acked(&report("lg-1", 0xa, 1));
        ledger.stored(&stored("lg-2", 0xa, 1));
        assert_eq!(ledger.compare().lost, 1);
    }

    #[test]
    fn the_wait_for_the_inbox_ends_only_when_it_is_empty_or_stuck() {
        let gone = || CallError::NotRunning { socket: "control.sock".into() };
        let at = |s| Instant(0) + Duration::from_secs(s);
        let mut inbox = InboxWait::new(at(0));
        assert!(matches!(inbox.judge(Err(gone()), at(59)), Ok(false)), "it may be starting");
        assert!(matches!(inbox.judge(Ok(7), at(59)), Ok(false)));
        assert!(matches!(inbox.judge(Ok(6), at(118)), Ok(false)), "it gets emptier");
        assert!(matches!(inbox.judge(Ok(8), at(177)), Ok(false)));
        assert!(matches!(inbox.judge(Ok(8), at(178)), Err(LoadError::InboxStuck { left: 8 })));
        assert!(matches!(inbox.judge(Err(gone()), at(178)), Err(LoadError::Control(_))));
        assert!(matches!(inbox.judge(Ok(0), at(999)), Ok(true)));
    }
}
