//! A store in memory: for simulations, where it can be slow, full, fail and crash, and for the
//! load generator, which has one per client.

use crate::queue::store::{Batch, Record, StoreCommand, StoreError, StoreEvent, StoreState};
use std::collections::{BTreeMap, VecDeque};

/// What can be made to go wrong with a [`MemoryStore`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// Ticks that pass before a command is carried out.
    pub delay: u32,
    /// So many of the next commits fail.
    pub failing_commits: u32,
    /// So many of the next trims and quarantines fail.
    pub failing_trims: u32,
    /// So many of the next reads fail.
    pub failing_reads: u32,
    /// Most bytes of records, if there is a bound.
    pub quota_bytes: Option<u64>,
}

#[derive(Debug, Default)]
struct Extra {
    faults: Faults,
    waiting: VecDeque<(u32, StoreCommand)>,
    pages: BTreeMap<u32, Vec<u8>>,
    quarantine: Vec<(Record, String)>,
}

/// A log in memory.
#[derive(Debug)]
pub struct MemoryStore {
    epoch: u64,
    next: u64,
    bytes: u64,
    records: VecDeque<Record>,
    /// The highest run of which a commit has failed, plus one.
    dead_runs: u64,
    /// What only simulations, receivers and accidents need.
    extra: Option<Box<Extra>>,
}

impl MemoryStore {
    /// An empty store of this incarnation.
    #[must_use]
    pub fn new(epoch: u64) -> Self {
        Self { epoch, next: 1, bytes: 0, records: VecDeque::new(), dead_runs: 0, extra: None }
    }

    /// What a node begins with.
    #[must_use]
    pub fn state(&self) -> StoreState {
        let pages = self.extra.iter().flat_map(|extra| &extra.pages);
        StoreState {
            first: self.records.front().map_or(self.next, |record| record.seq),
            next: self.next,
            records: self.records.len() as u64,
            bytes: self.bytes,
            pages: pages.map(|(number, page)| (*number, page.clone())).collect(),
            epoch: self.epoch,
            set_aside: 0,
        }
    }

    /// What goes wrong from now on.
    pub fn faults(&mut self) -> &mut Faults {
        &mut self.extra().faults
    }

    /// The process that used it was killed: what was not carried out is lost.
    pub fn crash(&mut self) {
        self.dead_runs = 0;
        if let Some(extra) = &mut self.extra {
            extra.waiting.clear();
        }
    }

    /// The records in the log.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.iter()
    }

    /// A record, to be damaged by a test.
    pub fn record_mut(&mut self, seq: u64) -> Option<&mut Record> {
        self.records.iter_mut().find(|record| record.seq == seq)
    }

    /// The records that were moved out of the way, and why.
    #[must_use]
    pub fn quarantine(&self) -> &[(Record, String)] {
        self.extra.as_ref().map_or(&[], |extra| &extra.quarantine)
    }

    /// Takes a command, and answers it unless that takes time.
    pub fn apply(&mut self, command: StoreCommand) -> Option<StoreEvent> {
        match &mut self.extra {
            Some(extra) if extra.faults.delay > 0 || !extra.waiting.is_empty() => {
                extra.waiting.push_back((extra.faults.delay, command));
                None
            }
            _ => self.carry_out(command),
        }
    }

    /// Time passes for a slow store.
    pub fn tick(&mut self) -> Vec<StoreEvent> {
        let Some(extra) = &mut self.extra else { return Vec::new() };
        for (left, _) in &mut extra.waiting {
            *left = left.saturating_sub(1);
        }
        let mut events = Vec::new();
        while let Some(extra) = &mut self.extra
            && extra.waiting.front().is_some_and(|(left, _)| *left == 0)
        {
            let Some((_, command)) = extra.waiting.pop_front() else { break };
            events.extend(self.carry_out(command));
        }
        events
    }

    /// Whether commands wait for [`MemoryStore::tick`].
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| !extra.waiting.is_empty())
    }

    fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    fn carry_out(&mut self, command: StoreCommand) -> Option<StoreEvent> {
        match command {
            StoreCommand::Write(batch) => self.write(batch),
            StoreCommand::Read { from, records_max, bytes_max } => {
                if self.fails(|faults| &mut faults.failing_reads) {
                    return Some(StoreEvent::ReadFailed { from, error: injected() });
                }
                Some(StoreEvent::Records { from, records: self.read(from, records_max, bytes_max) })
            }
            StoreCommand::Trim { upto, pages } => {
                if self.fails(|faults| &mut faults.failing_trims) {
                    return Some(StoreEvent::TrimFailed { upto, error: injected() });
                }
                if !pages.is_empty() {
                    self.extra().pages.extend(pages);
                }
                let (mut records, mut bytes) = (0, 0);
                while let Some(record) = self.records.pop_front_if(|record| record.seq <= upto) {
                    records += 1;
                    bytes += record.frame.len() as u64;
                }
                self.bytes -= bytes;
                self.shrink();
                Some(StoreEvent::Trimmed { upto, records, bytes })
            }
            StoreCommand::Quarantine { seq, reason } => {
                if self.fails(|faults| &mut faults.failing_trims) {
                    return Some(StoreEvent::TrimFailed { upto: seq, error: injected() });
                }
                let at = self.records.binary_search_by_key(&seq, |record| record.seq).ok();
                let record = at.and_then(|at| self.records.remove(at));
                let bytes = record.as_ref().map_or(0, |record| record.frame.len() as u64);
                self.bytes -= bytes;
                if let Some(record) = record {
                    self.extra().quarantine.push((record, reason));
                }
                self.shrink();
                Some(StoreEvent::Quarantined { seq, bytes })
            }
        }
    }

    fn write(&mut self, batch: Batch) -> Option<StoreEvent> {
        if batch.run < self.dead_runs {
            return None;
        }
        let quota = self.extra.as_ref().and_then(|extra| extra.faults.quota_bytes);
        let over = quota.filter(|quota| self.bytes + batch.arena.len() as u64 > *quota);
        let error = if self.fails(|faults| &mut faults.failing_commits) {
            injected()
        } else if let Some(quota_bytes) = over {
            StoreError::QuotaFull { path: "memory".into(), quota_bytes }
        } else {
            let (arrived, run) = (batch.arrived, batch.run);
            self.bytes += batch.arena.len() as u64;
            self.next = self.next.max(batch.first + batch.len() as u64);
            if batch.len() == 1 {
                // The usual batch of a simulated client: its memory becomes the record's.
                self.records.push_back(Record { seq: batch.first, arrived, frame: batch.arena });
            } else {
                let records = batch.records();
                self.records.extend(records.map(|(seq, frame)| Record {
                    seq,
                    arrived,
                    frame: frame.to_vec(),
                }));
            }
            return Some(StoreEvent::Committed { upto: self.next - 1, run });
        };
        self.dead_runs = batch.run + 1;
        Some(StoreEvent::CommitFailed { from: batch.first, run: batch.run, error })
    }

    fn read(&self, from: u64, records_max: usize, bytes_max: usize) -> Vec<Record> {
        let start = self.records.partition_point(|record| record.seq < from);
        let mut bytes = 0;
        let fits = |record: &&Record| {
            bytes += record.frame.len();
            bytes == record.frame.len() || bytes <= bytes_max
        };
        self.records.range(start..).take(records_max).take_while(fits).cloned().collect()
    }

    fn fails(&mut self, which: impl FnOnce(&mut Faults) -> &mut u32) -> bool {
        let Some(extra) = &mut self.extra else { return false };
        let left = which(&mut extra.faults);
        let fails = *left > 0;
        *left = left.saturating_sub(1);
        fails
    }

    fn shrink(&mut self) {
        if self.records.is_empty() {
            self.records = VecDeque::new();
        }
    }
}

fn injected() -> StoreError {
    StoreError::Io { path: "memory".into(), detail: "made to fail".into() }
}

#[cfg(test)]
mod tests;
