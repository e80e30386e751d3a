//! The receiver's durable lane: frames are gathered, committed by the store, and only then
//! acked; behind it one consumer reads the log in bounded pieces and lets it be trimmed.
//!
//! It opens by replaying the log that the last checkpoint of the marks does not cover; until
//! that is done every durable frame is parked.

mod consumer;
mod gathering;

use crate::appointments::Appointments;
use crate::ids::{ConnId, Epoch, IdMap};
use crate::queue::marks::{Arrival, LastSender, Marks, SenderKey};
use crate::queue::store::{Record, StoreCommand, StoreError, StoreEvent, StoreState};
use crate::time::{Instant, Now, WallMs};
use crate::wire::Frame;
use consumer::Consumer;
use gathering::{Gathering, Touch};
use std::collections::VecDeque;
use std::time::Duration;

/// Bounds of an inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxConfig {
    /// Records gathered for one commit; as many again may be under way.
    pub gathering_records_max: usize,
    /// Bytes gathered for one commit; passed by at most one frame.
    pub gathering_bytes_max: usize,
    /// Bytes in the log at which new frames are refused as `Busy`.
    pub bytes_high: u64,
    /// Bytes in the log at which they are accepted again.
    pub bytes_low: u64,
    /// One sender that was refused as `Busy` is called back per this.
    pub return_spacing: Duration,
    /// How long nothing is accepted after the store has failed.
    pub failure_pause: Duration,
    /// Records that the consumer gets at once.
    pub read_records_max: usize,
    /// Bytes that the consumer gets at once.
    pub read_bytes_max: usize,
    /// Consumed records after which the log is trimmed at once.
    pub trim_records: u64,
    /// Longest that consumed records stay in the log, while there is traffic or not.
    pub trim_interval: Duration,
}

impl Default for InboxConfig {
    fn default() -> Self {
        Self {
            gathering_records_max: 1000,
            gathering_bytes_max: 300_000,
            bytes_high: 1 << 30,
            bytes_low: 3 << 28,
            return_spacing: Duration::from_millis(1),
            failure_pause: Duration::from_secs(1),
            read_records_max: 1000,
            read_bytes_max: 256 * 1024,
            trim_records: 65_536,
            trim_interval: Duration::from_secs(1),
        }
    }
}

/// What becomes of a durable frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It was taken; [`Inbox::poll_ack`] tells when it is on the disk.
    Gathered,
    /// A duplicate of one that is not on the disk yet: its ack comes with that commit.
    Waiting,
    /// A duplicate of what is on the disk: send this ack.
    AckNow {
        /// From the frame.
        epoch: Epoch,
        /// From the frame.
        seq: u64,
    },
    /// There is no room before the next commit: park the connection, [`Inbox::poll_resume`]
    /// tells when to go on.
    Full,
    /// Send `Nack(Busy)` with this time, and end the delivery of the lane.
    Busy {
        /// When the sender may come back.
        retry_after: Duration,
    },
    /// An earlier durable frame of this connection was refused, so this one is dropped without
    /// an answer: accepting it would let a cumulative ack cover the one that was refused.
    Refused,
}

/// How full an inbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Records in the log and on their way to it.
    pub records: u64,
    /// Of these, records that the consumer has not taken; the others are only not trimmed yet.
    pub waiting: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Arrival of the oldest, as far as it is known.
    pub oldest: Option<WallMs>,
}

#[derive(Debug, Default)]
struct ConnState {
    refused: bool,
    parked: bool,
    /// Told to go on, and not heard of since.
    resumed: bool,
    /// Where its touch is, if that is in the gathering of this number.
    touch: Option<(u64, usize)>,
    /// Number of its ack that may not have been polled yet.
    ack: Option<u64>,
}

#[derive(Debug)]
struct Ack {
    conn: ConnId,
    epoch: Epoch,
    seq: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The log is read from here on, to bring the marks up to date.
    Recovering {
        from: u64,
        reading: bool,
    },
    Open,
}

impl Phase {
    fn recovering(from: u64, next: u64) -> Self {
        if from < next { Phase::Recovering { from, reading: false } } else { Phase::Open }
    }
}

/// The receiving end of the durable lane of one node.
#[derive(Debug)]
pub struct Inbox {
    config: InboxConfig,
    epoch: Epoch,
    phase: Phase,
    marks: Marks,
    last_sender: LastSender,
    conns: IdMap<ConnId, ConnState>,
    run: u64,
    /// The number after the last that is on the disk.
    committed_next: u64,
    /// Handed to the store, oldest first.
    writing: VecDeque<Gathering>,
    filling: Gathering,
    uncommitted_records: usize,
    uncommitted_bytes: usize,
    log_records: u64,
    log_bytes: u64,
    oldest: Option<WallMs>,
    acks: VecDeque<Ack>,
    acks_polled: u64,
    refused: VecDeque<(ConnId, Epoch, u64)>,
    parked: VecDeque<ConnId>,
    resumed: usize,
    /// The log is full: above its high mark, and not yet below its low one.
    busy: bool,
    appointments: Appointments,
    failing: Option<(Instant, StoreError)>,
    consumer: Consumer,
}

impl Inbox {
    /// An inbox over what the store has; `seed` spreads the senders that are called back.
    #[must_use]
    pub fn restore(state: &StoreState, config: InboxConfig, seed: u64) -> Self {
        let (covered, pages) = consumer::split_pages(&state.pages);
        let from = covered.clamp(state.first, state.next);
        Self {
            config,
            epoch: Epoch(state.epoch),
            phase: Phase::recovering(from, state.next),
            marks: Marks::restore(pages),
            last_sender: LastSender::default(),
            conns: IdMap::default(),
            run: 0,
            committed_next: state.next,
            writing: VecDeque::new(),
            filling: Gathering::new(0, state.next),
            uncommitted_records: 0,
            uncommitted_bytes: 0,
            log_records: state.records,
            log_bytes: state.bytes,
            oldest: None,
            acks: VecDeque::new(),
            acks_polled: 0,
            refused: VecDeque::new(),
            parked: VecDeque::new(),
            resumed: 0,
            busy: false,
            appointments: Appointments::new(seed),
            failing: None,
            consumer: Consumer::new(state.first),
        }
    }

    /// Takes a durable frame of a hop sender. The caller has checked that the sender may
    /// send it, and that its kind is known.
    pub fn offer(&mut self, conn: ConnId, frame: &Frame<'_>, hop_sender: &[u8], now: Now) -> Offer {
        let state = self.conns.entry(conn).or_default();
        if std::mem::take(&mut state.resumed) {
            self.resumed -= 1;
        }
        if state.refused {
            return Offer::Refused;
        }
        if self.phase != Phase::Open {
            return self.park(conn);
        }
        let (epoch, seq) = (frame.header.epoch, frame.header.seq);
        let sender = self.last_sender.key_of(hop_sender);
        match self.marks.classify(sender, epoch, seq) {
            Arrival::Committed => Offer::AckNow { epoch, seq },
            Arrival::Gathered => {
                // What is gathered lies in the newest gathering or in one that commits earlier.
                let newest = if self.filling.is_empty() {
                    self.writing.back_mut().unwrap_or(&mut self.filling)
                } else {
                    &mut self.filling
                };
                newest.touch(Touch { conn, sender, epoch, seq }, &mut state.touch);
                Offer::Waiting
            }
            Arrival::New => {
                if let Some(retry_after) = self.refusal(now) {
                    self.refuse(conn);
                    return Offer::Busy { retry_after };
                }
                if !self.has_room() {
                    return self.park(conn);
                }
                self.gather(Touch { conn, sender, epoch, seq }, frame, now);
                Offer::Gathered
            }
        }
    }

    /// The caller refused a durable frame of this connection itself (its kind is not known,
    /// its sender not allowed): no later one of it is accepted.
    pub fn refuse(&mut self, conn: ConnId) {
        self.conns.entry(conn).or_default().refused = true;
    }

    /// Records gathered or being written, whose acks wait for their commit.
    #[must_use]
    pub fn uncommitted(&self) -> usize {
        self.uncommitted_records
    }

    /// Connections that wait for room in the gathering.
    #[must_use]
    pub fn parked(&self) -> usize {
        self.parked.len()
    }

    /// Connections that have brought durable frames and have not ended.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.conns.len()
    }

    /// Whether a durable frame of this connection was refused before.
    #[must_use]
    pub fn has_refused(&self, conn: ConnId) -> bool {
        self.conns.get(&conn).is_some_and(|state| state.refused)
    }

    /// A connection has ended; what it brought stays.
    pub fn conn_closed(&mut self, conn: ConnId) {
        let Some(state) = self.conns.remove(&conn) else { return };
        if state.resumed {
            self.resumed -= 1;
        }
        if state.parked {
            self.parked.retain(|parked| *parked != conn);
        }
    }

    /// A sender's host has left: its mark goes with the next trim.
    pub fn forget(&mut self, hop_sender: &[u8]) {
        self.marks.forget(SenderKey::of(hop_sender));
    }

    /// The store has answered.
    pub fn handle_store(&mut self, event: StoreEvent, now: Now) {
        match event {
            StoreEvent::Committed { upto, run } if run == self.run => self.on_committed(upto),
            StoreEvent::CommitFailed { run, error, .. } if run == self.run => {
                self.on_commit_failed(error, now);
            }
            // Of a run that was given up: its frames are offered again.
            StoreEvent::Committed { .. } | StoreEvent::CommitFailed { .. } => {}
            StoreEvent::Records { from, records } => self.on_records(from, records, now),
            StoreEvent::Quarantined { seq, bytes } => {
                self.log_records = self.log_records.saturating_sub(u64::from(bytes > 0));
                self.log_bytes = self.log_bytes.saturating_sub(bytes);
                self.consumer.on_quarantined(seq);
            }
            StoreEvent::Trimmed { upto, records, bytes } => {
                self.log_records = self.log_records.saturating_sub(records);
                self.log_bytes = self.log_bytes.saturating_sub(bytes);
                if self.log_records == 0 {
                    self.log_bytes = 0;
                    self.oldest = None;
                }
                self.consumer.on_trimmed(upto);
            }
            StoreEvent::TrimFailed { upto, error } => {
                if self.consumer.on_trim_failed(upto, now.at + self.config.failure_pause) {
                    self.marks.checkpoint_failed();
                }
                log::warn!("the inbox could not be trimmed: {error}");
            }
            StoreEvent::ReadFailed { from, error } => {
                match &mut self.phase {
                    Phase::Recovering { from: at, reading } if *at == from => *reading = false,
                    _ => self.consumer.on_read_failed(),
                }
                self.consumer.pause_reads(now.at + self.config.failure_pause);
                log::warn!("the inbox could not be read: {error}");
            }
        }
        self.update_busy();
    }

    /// The next ack to send: everything of this connection's sender and epoch up to this seq
    /// is on the disk. One per connection and commit.
    pub fn poll_ack(&mut self) -> Option<(ConnId, Epoch, u64)> {
        let ack = self.acks.pop_front()?;
        self.acks_polled += 1;
        Some((ack.conn, ack.epoch, ack.seq))
    }

    /// The next connection whose delivery ends with `Nack(Store)`: frames of its sender's epoch,
    /// up to this seq, were lost.
    pub fn poll_refused(&mut self) -> Option<(ConnId, Epoch, u64)> {
        self.refused.pop_front()
    }

    /// The next parked connection to go on with: never more than there is room for.
    pub fn poll_resume(&mut self) -> Option<ConnId> {
        if self.phase != Phase::Open || !self.has_room() {
            return None;
        }
        let room = (2 * self.config.gathering_records_max).saturating_sub(self.uncommitted_records);
        if self.resumed >= room {
            return None;
        }
        let conn = self.parked.pop_front()?;
        let state = self.conns.entry(conn).or_default();
        state.parked = false;
        state.resumed = true;
        self.resumed += 1;
        Some(conn)
    }

    /// The next command for the store. What was gathered since the last call is one batch:
    /// call it once a turn, at its end.
    pub fn poll_command(&mut self, now: Now) -> Option<StoreCommand> {
        if !self.filling.is_empty() {
            let next = Gathering::new(self.run, self.filling.batch_next());
            let mut full = std::mem::replace(&mut self.filling, next);
            let batch = full.hand_over();
            self.writing.push_back(full);
            return Some(StoreCommand::Write(batch));
        }
        if let Phase::Recovering { from, reading: false } = self.phase
            && self.consumer.may_read(now.at)
        {
            self.phase = Phase::Recovering { from, reading: true };
            return Some(self.read(from));
        }
        if let Some(command) = self.consumer.poll_quarantine(now.at) {
            return Some(command);
        }
        if self.phase != Phase::Open {
            return None;
        }
        let upto = self.consumer.poll_trim(&self.config, self.busy, now.at);
        if let Some(upto) = upto {
            let mut pages = self.marks.changed_pages();
            pages.push(consumer::covered_page(self.committed_next));
            return Some(StoreCommand::Trim { upto, pages });
        }
        let from = self.consumer.poll_read(self.committed_next, now.at)?;
        Some(self.read(from))
    }

    /// When [`Inbox::poll_command`] has something to do although nothing has happened.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let reads = match self.phase {
            Phase::Recovering { reading, .. } => !reading,
            Phase::Open => self.consumer.has_to_read(self.committed_next),
        };
        self.consumer.next_timeout(&self.config, self.phase == Phase::Open, reads)
    }

    /// The consumer begins behind the record that its cursor names. A cursor of another epoch
    /// is of another log, so all of this one is read.
    pub fn start_consuming(&mut self, cursor: Option<(Epoch, u64)>) {
        let after = cursor.filter(|(epoch, _)| *epoch == self.epoch).map_or(0, |(_, seq)| seq);
        self.consumer.start(after.min(self.committed_next - 1));
    }

    /// The next lot for the consumer; there is none until it has said `consumed` for the last.
    pub fn poll_records(&mut self) -> Option<Vec<Record>> {
        self.consumer.poll_records()
    }

    /// The consumer has what it needs of all records up to this number, durably.
    pub fn consumed(&mut self, upto: u64, now: Now) {
        self.consumer.consumed(upto, now.at);
    }

    /// The consumer cannot make sense of a record: it is moved out of the way.
    pub fn quarantine(&mut self, seq: u64, reason: String) {
        self.consumer.quarantine(seq, reason);
    }

    /// Trim now what was consumed, for a stop.
    pub fn flush(&mut self) {
        self.consumer.flush();
    }

    /// The incarnation of the log, which the consumer's cursor bears.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether the log is still being replayed.
    #[must_use]
    pub fn is_recovering(&self) -> bool {
        self.phase != Phase::Open
    }

    /// Whether nothing is on its way to the disk or back.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.uncommitted_records == 0 && self.acks.is_empty() && !self.consumer.is_storing()
    }

    /// Whether new frames are refused because the log is full.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Why nothing is accepted, if the store has failed since the last commit.
    #[must_use]
    pub fn store_error(&self) -> Option<&StoreError> {
        self.failing.as_ref().map(|(_, error)| error)
    }

    /// How full it is.
    #[must_use]
    pub fn depth(&self) -> Depth {
        let records = self.log_records + self.uncommitted_records as u64;
        let committed = (self.committed_next - 1).saturating_sub(self.consumer.consumed_upto());
        Depth {
            records,
            // Among the numbers there may be some without a record.
            waiting: records.min(committed + self.uncommitted_records as u64),
            bytes: self.log_bytes + self.uncommitted_bytes as u64,
            oldest: self.oldest,
        }
    }

    /// Records that were moved out of the way.
    #[must_use]
    pub fn quarantined(&self) -> u64 {
        self.consumer.quarantined()
    }

    /// Senders that have a mark.
    #[must_use]
    pub fn senders(&self) -> usize {
        self.marks.senders()
    }

    fn read(&self, from: u64) -> StoreCommand {
        StoreCommand::Read {
            from,
            records_max: self.config.read_records_max,
            bytes_max: self.config.read_bytes_max,
        }
    }

    fn park(&mut self, conn: ConnId) -> Offer {
        let state = self.conns.entry(conn).or_default();
        if !std::mem::replace(&mut state.parked, true) {
            self.parked.push_back(conn);
        }
        Offer::Full
    }

    /// Whether no more is gathered before [`Inbox::poll_command`] is called.
    #[must_use]
    pub fn is_gathering_full(&self) -> bool {
        self.filling.len() >= self.config.gathering_records_max
            || self.filling.bytes() >= self.config.gathering_bytes_max
    }

    fn has_room(&self) -> bool {
        self.uncommitted_records < 2 * self.config.gathering_records_max
            && self.uncommitted_bytes < 2 * self.config.gathering_bytes_max
            && !self.is_gathering_full()
    }

    fn refusal(&mut self, now: Now) -> Option<Duration> {
        let failing = self.failing.as_ref().filter(|(until, _)| now.at < *until);
        let earliest = match failing {
            Some((until, _)) => *until,
            None if self.busy => now.at,
            None => return None,
        };
        Some(self.appointments.next(earliest, self.config.return_spacing, now.at))
    }

    fn gather(&mut self, touch: Touch, frame: &Frame<'_>, now: Now) {
        self.marks.gather(touch.sender, touch.epoch, touch.seq);
        self.filling.push(frame.bytes(), now.wall);
        let state = self.conns.entry(touch.conn).or_default();
        self.filling.touch(touch, &mut state.touch);
        self.uncommitted_records += 1;
        self.uncommitted_bytes += frame.bytes().len();
        self.update_busy();
    }

    fn on_committed(&mut self, upto: u64) {
        if self.failing.take().is_some() {
            log::info!("what is accepted is committed again");
        }
        // All gatherings of one commit share one ack per connection.
        let first_ack = self.acks_polled + self.acks.len() as u64;
        while self.writing.front().is_some_and(|gathering| gathering.last() <= upto) {
            let done = self.writing.pop_front().expect("the front was just looked at");
            self.committed_next = done.last() + 1;
            self.uncommitted_records -= done.len();
            self.uncommitted_bytes -= done.bytes();
            if self.log_records == 0 {
                self.oldest = Some(done.arrived());
            }
            self.log_records += done.len() as u64;
            self.log_bytes += done.bytes() as u64;
            for touch in done.touches() {
                self.marks.commit(touch.sender, touch.epoch, touch.seq);
                self.ack(touch, first_ack);
            }
        }
    }

    fn ack(&mut self, touch: &Touch, first_ack: u64) {
        let Some(state) = self.conns.get_mut(&touch.conn) else { return };
        if let Some(number) = state.ack.filter(|number| *number >= first_ack) {
            let at = usize::try_from(number - self.acks_polled).expect("acks fit in memory");
            let ack = &mut self.acks[at];
            if ack.epoch == touch.epoch {
                ack.seq = ack.seq.max(touch.seq);
                return;
            }
        }
        state.ack = Some(self.acks_polled + self.acks.len() as u64);
        self.acks.push_back(Ack { conn: touch.conn, epoch: touch.epoch, seq: touch.seq });
    }

    fn on_commit_failed(&mut self, error: StoreError, now: Now) {
        // A disk that is full for hours is told of once.
        if self.store_error() != Some(&error) {
            log::warn!("nothing was committed: {error}");
        }
        self.run += 1;
        let filling = Gathering::new(self.run, self.committed_next);
        let filling = std::mem::replace(&mut self.filling, filling);
        for lost in self.writing.drain(..).chain([filling]) {
            for touch in lost.touches() {
                let Some(state) = self.conns.get_mut(&touch.conn) else { continue };
                if !std::mem::replace(&mut state.refused, true) {
                    self.refused.push_back((touch.conn, touch.epoch, touch.seq));
                }
            }
        }
        self.marks.roll_back();
        self.uncommitted_records = 0;
        self.uncommitted_bytes = 0;
        self.failing = Some((now.at + self.config.failure_pause, error));
    }

    fn on_records(&mut self, from: u64, records: Vec<Record>, now: Now) {
        match self.phase {
            Phase::Recovering { from: at, reading: true } if at == from => {
                self.oldest = self.oldest.or(records.first().map(|record| record.arrived));
                let next = records.last().map_or(self.committed_next, |record| record.seq + 1);
                records.iter().for_each(|record| self.replay(record));
                self.phase = Phase::recovering(next, self.committed_next);
            }
            _ => {
                if let Some(first) = records.first() {
                    self.oldest = Some(first.arrived);
                }
                self.consumer.on_records(from, records, now.at);
            }
        }
    }

    fn replay(&mut self, record: &Record) {
        match record.check() {
            Ok(frame) => {
                let header = frame.header;
                if let Ok(route) = frame.route() {
                    let sender = SenderKey::of(route.hop_sender());
                    self.marks.commit(sender, header.epoch, header.seq);
                }
            }
            Err(reason) => self.consumer.quarantine(record.seq, reason),
        }
    }

    fn update_busy(&mut self) {
        let bytes = self.log_bytes + self.uncommitted_bytes as u64;
        self.busy = bytes >= self.config.bytes_high || (self.busy && bytes > self.config.bytes_low);
    }
}

#[cfg(test)]
mod tests;
