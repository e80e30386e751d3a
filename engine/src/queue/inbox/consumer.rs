//! The consuming end: one bounded read in flight, trims with a checkpoint of the marks, and
//! the quarantine.

use super::InboxConfig;
use crate::queue::store::{Record, StoreCommand};
use crate::time::Instant;
use std::collections::VecDeque;

/// The metadata page that holds the number from which a restart must replay the log.
const COVERED_PAGE: u32 = u32::MAX;

/// That page: all marks below `next` are in the pages written with it.
pub(super) fn covered_page(next: u64) -> (u32, Vec<u8>) {
    (COVERED_PAGE, next.to_le_bytes().to_vec())
}

/// Parts the store's pages into that number and the marks' own.
pub(super) fn split_pages(pages: &[(u32, Vec<u8>)]) -> (u64, impl Iterator<Item = (u32, &[u8])>) {
    let covered = pages
        .iter()
        .find(|(number, _)| *number == COVERED_PAGE)
        .and_then(|(_, page)| page.as_slice().try_into().ok())
        .map_or(0, u64::from_le_bytes);
    let marks = pages
        .iter()
        .filter(|(number, _)| *number != COVERED_PAGE)
        .map(|(number, page)| (*number, page.as_slice()));
    (covered, marks)
}

#[derive(Debug)]
enum State {
    /// Nobody consumes yet.
    Absent,
    Ready,
    Reading {
        from: u64,
        /// What was committed when the read was asked for.
        next: u64,
    },
    /// A lot that the consumer has not fetched.
    Read(Vec<Record>),
    /// The consumer works on records up to this number.
    Consuming {
        last: u64,
    },
}

#[derive(Debug)]
pub(super) struct Consumer {
    state: State,
    /// The next number to read.
    cursor: u64,
    /// Up to here all was consumed before the start.
    known: u64,
    consumed: u64,
    trimmed: u64,
    trimming: Option<u64>,
    /// When what was consumed is trimmed at the latest.
    trim_at: Option<Instant>,
    flushing: bool,
    /// No trim and no quarantine before this, after one failed.
    trim_pause: Option<Instant>,
    read_pause: Option<Instant>,
    quarantining: VecDeque<(u64, String)>,
    /// Whether the front of `quarantining` is with the store.
    asked: bool,
    quarantined: u64,
}

fn is_over(pause: &mut Option<Instant>, at: Instant) -> bool {
    *pause = pause.filter(|until| at < *until);
    pause.is_none()
}

impl Consumer {
    pub(super) fn new(first: u64) -> Self {
        Self {
            state: State::Absent,
            cursor: first,
            known: 0,
            consumed: first.saturating_sub(1),
            trimmed: first.saturating_sub(1),
            trimming: None,
            trim_at: None,
            flushing: false,
            trim_pause: None,
            read_pause: None,
            quarantining: VecDeque::new(),
            asked: false,
            quarantined: 0,
        }
    }

    /// Begins behind this number. What lies before it and was not trimmed is read once more all
    /// the same: one of them may be broken and not in the quarantine yet.
    pub(super) fn start(&mut self, after: u64) {
        self.state = State::Ready;
        self.known = after;
    }

    /// The highest number that is consumed.
    pub(super) fn consumed_upto(&self) -> u64 {
        self.consumed.max(self.known)
    }

    pub(super) fn poll_records(&mut self) -> Option<Vec<Record>> {
        let State::Read(records) = &mut self.state else { return None };
        let records = std::mem::take(records);
        self.state = State::Consuming { last: records.last().map_or(0, |record| record.seq) };
        Some(records)
    }

    pub(super) fn consumed(&mut self, upto: u64, at: Instant) {
        // Nobody has consumed what was never read.
        let upto = match self.state {
            State::Consuming { last } => upto.min(last),
            _ => upto.min(self.cursor - 1),
        };
        let is_done = matches!(self.state, State::Consuming { last } if upto >= last);
        // What stands behind the last one and was read with it is broken: nobody consumes that.
        let upto = if is_done { self.cursor - 1 } else { upto };
        if upto > self.consumed {
            self.consumed = upto;
            self.trim_at.get_or_insert(at);
        }
        if is_done {
            self.state = State::Ready;
        }
    }

    pub(super) fn quarantine(&mut self, seq: u64, reason: String) {
        if !self.quarantining.iter().any(|(known, _)| *known == seq) {
            log::warn!("record {seq} goes to the quarantine: {reason}");
            self.quarantining.push_back((seq, reason));
        }
    }

    pub(super) fn flush(&mut self) {
        self.flushing = self.consumed > self.trimmed;
    }

    pub(super) fn pause_reads(&mut self, until: Instant) {
        self.read_pause = Some(until);
    }

    pub(super) fn may_read(&mut self, at: Instant) -> bool {
        is_over(&mut self.read_pause, at)
    }

    pub(super) fn is_storing(&self) -> bool {
        self.trimming.is_some() || self.flushing || !self.quarantining.is_empty()
    }

    pub(super) fn quarantined(&self) -> u64 {
        self.quarantined
    }

    pub(super) fn poll_quarantine(&mut self, at: Instant) -> Option<StoreCommand> {
        if self.asked || !is_over(&mut self.trim_pause, at) {
            return None;
        }
        let (seq, reason) = self.quarantining.front()?.clone();
        self.asked = true;
        Some(StoreCommand::Quarantine { seq, reason })
    }

    /// Whether something is to be trimmed, and nothing has to be done before.
    fn has_to_trim(&self) -> bool {
        // What is to be quarantined must not be trimmed away before.
        let blocked = self.quarantining.iter().any(|(seq, _)| *seq <= self.consumed);
        self.consumed > self.trimmed && !blocked && self.trimming.is_none()
    }

    pub(super) fn poll_trim(
        &mut self,
        config: &InboxConfig,
        wanted: bool,
        at: Instant,
    ) -> Option<u64> {
        if !self.has_to_trim() {
            return None;
        }
        let waiting = self.consumed - self.trimmed;
        let due = self.trim_at.is_some_and(|since| at >= since + config.trim_interval);
        let asked = wanted || self.flushing || waiting >= config.trim_records;
        if !(due || asked) || !is_over(&mut self.trim_pause, at) {
            return None;
        }
        self.trimming = Some(self.consumed);
        self.trim_at = None;
        Some(self.consumed)
    }

    pub(super) fn poll_read(&mut self, committed_next: u64, at: Instant) -> Option<u64> {
        if !self.has_to_read(committed_next) || !self.may_read(at) {
            return None;
        }
        self.state = State::Reading { from: self.cursor, next: committed_next };
        Some(self.cursor)
    }

    /// Whether the consumer wants records, and there are some.
    pub(super) fn has_to_read(&self, committed_next: u64) -> bool {
        matches!(self.state, State::Ready) && self.cursor < committed_next
    }

    /// When something is to be done that is not possible yet; `trims` and `reads` say whether
    /// either would be done then. A time at which nothing is done would come again at once.
    pub(super) fn next_timeout(
        &self,
        config: &InboxConfig,
        trims: bool,
        reads: bool,
    ) -> Option<Instant> {
        let trim = self.trim_at.filter(|_| trims && self.has_to_trim());
        let trim = trim.map(|since| since + config.trim_interval);
        let pauses = [
            trim.map(|t| self.trim_pause.map_or(t, |p| t.max(p))),
            self.read_pause.filter(|_| reads),
        ];
        let quarantine = self.trim_pause.filter(|_| !self.asked && !self.quarantining.is_empty());
        pauses.into_iter().chain([quarantine]).flatten().min()
    }

    pub(super) fn on_records(&mut self, from: u64, mut records: Vec<Record>, at: Instant) {
        let State::Reading { from: asked, next } = self.state else { return };
        if asked != from {
            return;
        }
        self.cursor = records.last().map_or(next, |record| record.seq + 1);
        records.retain(|record| match record.check() {
            Ok(_) => record.seq > self.known,
            Err(reason) => {
                self.quarantine(record.seq, reason);
                false
            }
        });
        self.state = if records.is_empty() {
            // Nothing but gaps, broken records and consumed ones: there is none before the cursor.
            if self.cursor - 1 > self.consumed {
                self.consumed = self.cursor - 1;
                self.trim_at.get_or_insert(at);
            }
            State::Ready
        } else {
            State::Read(records)
        };
    }

    pub(super) fn on_read_failed(&mut self) {
        if matches!(self.state, State::Reading { .. }) {
            self.state = State::Ready;
        }
    }

    pub(super) fn on_trimmed(&mut self, upto: u64) {
        self.trimmed = self.trimmed.max(upto);
        self.trimming = None;
        self.flushing &= self.consumed > self.trimmed;
    }

    /// Whether it was the trim that failed, and not a quarantine.
    pub(super) fn on_trim_failed(&mut self, upto: u64, until: Instant) -> bool {
        self.trim_pause = Some(until);
        if self.asked && self.quarantining.front().is_some_and(|(seq, _)| *seq == upto) {
            self.asked = false;
            return false;
        }
        self.trimming = None;
        self.trim_at.get_or_insert(until);
        true
    }

    pub(super) fn on_quarantined(&mut self, seq: u64) {
        self.quarantined += 1;
        if self.quarantining.front().is_some_and(|(known, _)| *known == seq) {
            self.quarantining.pop_front();
            self.asked = false;
        }
    }
}
