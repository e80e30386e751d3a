//! The durable lane of an outbox: records are written before they are sent, sent as they lie
//! in the log, and trimmed once they are acked.

use super::{OutboxConfig, OutboxFull};
use crate::ids::{Epoch, HostName, Origin};
use crate::limits::HEADER_SIZE;
use crate::queue::lanes::{LaneCounts, Message, ttl_seconds};
use crate::queue::store::{Batch, Record, StoreCommand, StoreError, StoreEvent, StoreState};
use crate::time::{Instant, Now};
use crate::wire::{Frame, FrameBuf, Lane, Nack, NackReason};
use std::collections::VecDeque;
use std::time::Duration;

const HOLD_MIN: Duration = Duration::from_millis(100);
const HOLD_MAX: Duration = Duration::from_secs(600);
const READ_RECORDS_MAX: usize = 1000;

/// What is known of the log. Everything that is not needed at rest is in `work`.
#[derive(Debug)]
pub(super) struct DurableLane {
    epoch: Epoch,
    /// The smallest number that is not acked.
    acked_next: u64,
    /// The smallest number that is not on the disk.
    committed_next: u64,
    /// The smallest number that was never used.
    next: u64,
    bytes: u64,
    run: u64,
    hold: Option<Hold>,
    work: Option<Box<Work>>,
}

/// The peer has said when to come again.
#[derive(Debug, Clone, Copy)]
struct Hold {
    until: Instant,
    /// It did not know this host: the first sign that it does ends the wait.
    as_unknown: bool,
}

#[derive(Debug, Default)]
struct Work {
    /// Records from `committed_next` on, kept until they are committed, whatever the store says.
    pending: VecDeque<Vec<u8>>,
    pending_bytes: usize,
    /// How many of them the store has been given.
    submitted: usize,
    error: Option<StoreError>,
    /// The store is not asked again before this.
    pause: Option<Instant>,
    /// Below this the log is trimmed.
    trimmed_next: u64,
    trimming: bool,
    settling: Option<Settling>,
    /// A read in flight: from where, and what was committed then.
    reading: Option<(u64, u64)>,
    delivery: Option<Delivery>,
    counts: LaneCounts,
    /// Up to here expired records have been counted.
    expired_upto: u64,
}

/// A record that the peer will never take, or that is none: it goes to the quarantine.
#[derive(Debug)]
struct Settling {
    seq: u64,
    reason: String,
    asked: bool,
}

#[derive(Debug)]
struct Delivery {
    /// The next number to read.
    cursor: u64,
    fetched: VecDeque<Record>,
    /// Number and bytes of each frame that was sent and not acked.
    in_flight: VecDeque<(u64, usize)>,
    in_flight_bytes: usize,
    last_sent: u64,
    /// The peer has refused a frame: it takes no more of this lane.
    closed: bool,
}

impl Delivery {
    fn from(cursor: u64) -> Self {
        Self {
            cursor,
            fetched: VecDeque::new(),
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            last_sent: 0,
            closed: false,
        }
    }

    fn close(&mut self) {
        self.closed = true;
        self.fetched = VecDeque::new();
        self.in_flight = VecDeque::new();
        self.in_flight_bytes = 0;
    }

    /// Below this all is acked or gone, if nothing is in flight.
    fn done_next(&self) -> Option<u64> {
        (!self.closed && self.in_flight.is_empty())
            .then(|| self.fetched.front().map_or(self.cursor, |record| record.seq))
    }
}

impl DurableLane {
    pub(super) fn restore(state: &StoreState) -> Self {
        Self {
            epoch: Epoch(state.epoch),
            acked_next: state.first,
            committed_next: state.next,
            next: state.next,
            bytes: state.bytes,
            run: 0,
            hold: None,
            work: None,
        }
    }

    pub(super) fn push(
        &mut self,
        name: &HostName,
        message: &Message,
        config: &OutboxConfig,
    ) -> Result<Origin, OutboxFull> {
        // No peer would take it: whoever sends it has to say less.
        let (bytes, limit) = (message.body.len() as u64, message.kind.body_size_max().into());
        if bytes > limit {
            return Err(OutboxFull { bytes, limit });
        }
        let origin = Origin { name: name.clone(), epoch: self.epoch, seq: self.next };
        let frame = message.seal_whole(&origin, ttl_seconds(message.ttl));
        let pending = self.work.as_ref().map_or(0, |work| work.pending_bytes);
        if self.bytes + frame.len() as u64 > config.durable_bytes_max {
            return Err(OutboxFull { bytes: self.bytes, limit: config.durable_bytes_max });
        }
        if pending > 0 && pending + frame.len() > config.pending_bytes_max {
            let limit = config.pending_bytes_max as u64;
            return Err(OutboxFull { bytes: pending as u64, limit });
        }
        self.bytes += frame.len() as u64;
        self.next += 1;
        let work = self.work();
        work.pending_bytes += frame.len();
        work.pending.push_back(frame);
        Ok(origin)
    }

    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        self.work.is_none()
    }

    pub(super) fn end(&mut self) {
        if let Some(work) = &mut self.work {
            work.delivery = None;
        }
        self.rest();
    }

    pub(super) fn release(&mut self) {
        self.hold = None;
    }

    pub(super) fn handle_known(&mut self) {
        self.hold.take_if(|hold| hold.as_unknown);
    }

    pub(super) fn poll_frame(&mut self, window_bytes: usize, now: Now) -> Option<FrameBuf> {
        if self.hold.is_some_and(|hold| now.at < hold.until) {
            return None;
        }
        loop {
            let work = self.work.as_mut()?;
            if work.settling.is_some() {
                return None;
            }
            let delivery = work.delivery.as_mut().filter(|delivery| !delivery.closed)?;
            if delivery.in_flight_bytes >= window_bytes {
                return None;
            }
            let record = delivery.fetched.pop_front()?;
            let seq = record.seq;
            match prepare(record, now) {
                Prepared::Frame(frame) => {
                    delivery.in_flight.push_back((seq, frame.len()));
                    delivery.in_flight_bytes += frame.len();
                    delivery.last_sent = seq;
                    return Some(frame);
                }
                Prepared::Expired => {
                    if seq > work.expired_upto {
                        work.expired_upto = seq;
                        work.counts.expired += 1;
                    }
                    self.advance();
                }
                Prepared::Broken(reason) => {
                    work.settling = Some(Settling { seq, reason, asked: false });
                }
            }
        }
    }

    pub(super) fn handle_ack(&mut self, epoch: Epoch, seq: u64) {
        if epoch != self.epoch {
            return;
        }
        let Some(delivery) = self.work.as_mut().and_then(|work| work.delivery.as_mut()) else {
            return;
        };
        // An ack for what was never sent is no ack.
        if seq > delivery.last_sent {
            return;
        }
        while let Some((sent, bytes)) = delivery.in_flight.front().copied()
            && sent <= seq
        {
            delivery.in_flight_bytes -= bytes;
            delivery.in_flight.pop_front();
        }
        self.acked_up_to(seq + 1);
        self.advance();
    }

    pub(super) fn handle_nack(&mut self, epoch: Epoch, seq: u64, nack: &Nack, at: Instant) {
        if epoch != self.epoch {
            return;
        }
        let Some(work) = &mut self.work else { return };
        let Some(delivery) = &mut work.delivery else { return };
        if delivery.closed {
            return;
        }
        let in_flight = delivery.in_flight.iter().any(|(sent, _)| *sent == seq);
        delivery.close();
        if nack.settles() && in_flight {
            let reason = format!("refused by the peer: {:?}", nack.reason);
            work.settling = Some(Settling { seq, reason, asked: false });
            work.counts.refused += 1;
        } else {
            let until = at + nack.retry_after.clamp(HOLD_MIN, HOLD_MAX);
            self.hold = Some(Hold { until, as_unknown: nack.reason == NackReason::Unknown });
        }
    }

    pub(super) fn handle_store(&mut self, event: StoreEvent, pause: Instant) {
        match event {
            StoreEvent::Committed { upto, run } if run == self.run => self.on_committed(upto),
            StoreEvent::CommitFailed { run, error, .. } if run == self.run => {
                self.run += 1;
                let work = self.work();
                // A disk that is full for hours is told of once.
                if work.error.as_ref() != Some(&error) {
                    log::warn!("reports are kept in memory, nothing was written: {error}");
                }
                work.submitted = 0;
                work.error = Some(error);
                work.pause = Some(pause);
            }
            StoreEvent::Committed { .. } | StoreEvent::CommitFailed { .. } => {}
            StoreEvent::Records { from, records } => self.on_records(from, records),
            StoreEvent::Trimmed { upto, bytes, .. } => {
                self.bytes = self.bytes.saturating_sub(bytes);
                let work = self.work();
                work.trimming = false;
                work.trimmed_next = work.trimmed_next.max(upto.saturating_add(1));
            }
            StoreEvent::Quarantined { seq, bytes } => {
                self.bytes = self.bytes.saturating_sub(bytes);
                let work = self.work();
                if work.settling.as_ref().is_some_and(|settling| settling.seq == seq) {
                    work.settling = None;
                }
                if seq == self.acked_next {
                    self.acked_up_to(seq + 1);
                }
                self.advance();
            }
            StoreEvent::TrimFailed { upto, error } => {
                log::warn!("the outbox could not be trimmed: {error}");
                let work = self.work();
                work.pause = Some(pause);
                match &mut work.settling {
                    Some(settling) if settling.asked && settling.seq == upto => {
                        settling.asked = false;
                    }
                    _ => work.trimming = false,
                }
            }
            StoreEvent::ReadFailed { error, .. } => {
                log::warn!("the outbox could not be read: {error}");
                let work = self.work();
                work.reading = None;
                work.pause = Some(pause);
            }
        }
        self.rest();
    }

    pub(super) fn poll_command(
        &mut self,
        delivering: bool,
        config: &OutboxConfig,
        now: Now,
    ) -> Option<StoreCommand> {
        // An old hold would be a deadline that has always just passed.
        self.hold.take_if(|hold| now.at >= hold.until);
        let held = self.hold.is_some();
        let (acked_next, committed_next, run) = (self.acked_next, self.committed_next, self.run);
        if delivering && !held && acked_next < committed_next {
            self.work().delivery.get_or_insert_with(|| Delivery::from(acked_next));
        }
        let work = self.work.as_mut()?;
        if work.pause.is_some_and(|until| now.at < until) {
            return None;
        }
        work.pause = None;
        if work.pending.len() > work.submitted {
            let first = committed_next + work.submitted as u64;
            let mut batch = Batch { first, run, arrived: now.wall, ..Batch::default() };
            work.pending.iter().skip(work.submitted).for_each(|record| batch.push(record));
            work.submitted = work.pending.len();
            return Some(StoreCommand::Write(batch));
        }
        if let Some(settling) = work.settling.as_mut().filter(|settling| !settling.asked) {
            settling.asked = true;
            let (seq, reason) = (settling.seq, settling.reason.clone());
            return Some(StoreCommand::Quarantine { seq, reason });
        }
        if acked_next > work.trimmed_next && !work.trimming {
            work.trimming = true;
            return Some(StoreCommand::Trim { upto: acked_next - 1, pages: Vec::new() });
        }
        let delivery = work.delivery.as_ref()?;
        let wanted = !delivery.closed && delivery.fetched.is_empty() && !held;
        if !wanted || work.reading.is_some() || delivery.cursor >= committed_next {
            return None;
        }
        work.reading = Some((delivery.cursor, committed_next));
        Some(StoreCommand::Read {
            from: delivery.cursor,
            records_max: READ_RECORDS_MAX,
            bytes_max: config.read_bytes_max,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.acked_next >= self.next
    }

    pub(super) fn is_due(&self, at: Instant) -> bool {
        let settling = self.work.as_ref().is_some_and(|work| work.settling.is_some());
        let held = self.hold.is_some_and(|hold| at < hold.until);
        self.acked_next < self.committed_next && !held && !settling
    }

    pub(super) fn in_flight(&self) -> usize {
        let delivery = self.work.as_ref().and_then(|work| work.delivery.as_ref());
        delivery.map_or(0, |delivery| delivery.in_flight.len())
    }

    pub(super) fn hold_until(&self) -> Option<Instant> {
        self.hold.map(|hold| hold.until)
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let pause = self.work.as_ref().and_then(|work| work.pause);
        let hold = self.hold_until().filter(|_| self.acked_next < self.committed_next);
        pause.into_iter().chain(hold).min()
    }

    pub(super) fn committed(&self) -> u64 {
        self.committed_next - 1
    }

    pub(super) fn is_committed(&self) -> bool {
        self.committed_next == self.next
    }

    pub(super) fn depth(&self) -> (u64, u64) {
        (self.next - self.acked_next, self.bytes)
    }

    pub(super) fn counts(&self) -> LaneCounts {
        self.work.as_ref().map_or_else(LaneCounts::default, |work| work.counts)
    }

    pub(super) fn store_error(&self) -> Option<&StoreError> {
        self.work.as_ref().and_then(|work| work.error.as_ref())
    }

    fn on_committed(&mut self, upto: u64) {
        let done = usize::try_from((upto + 1).saturating_sub(self.committed_next)).unwrap_or(0);
        let work = self.work();
        let done = done.min(work.submitted);
        work.submitted -= done;
        if work.error.take().is_some() {
            log::info!("reports are written to the disk again");
        }
        work.pending_bytes -= work.pending.drain(..done).map(|record| record.len()).sum::<usize>();
        self.committed_next += done as u64;
    }

    fn on_records(&mut self, from: u64, records: Vec<Record>) {
        let work = self.work();
        let Some((_, next)) = work.reading.take_if(|(asked, _)| *asked == from) else { return };
        // Read for a delivery that has ended since: the next one begins further back.
        let delivery = work.delivery.as_mut().filter(|d| !d.closed && d.cursor == from);
        let Some(delivery) = delivery else { return };
        delivery.cursor = records.last().map_or(next, |record| record.seq + 1);
        delivery.fetched = records.into();
        self.advance();
    }

    /// Steps over what is acked, expired or in the quarantine, if nothing is in flight.
    fn advance(&mut self) {
        let Some(work) = &self.work else { return };
        if work.settling.is_some() {
            return;
        }
        if let Some(next) = work.delivery.as_ref().and_then(Delivery::done_next) {
            self.acked_up_to(next);
        }
    }

    fn acked_up_to(&mut self, next: u64) {
        self.acked_next = self.acked_next.max(next.min(self.committed_next));
    }

    fn work(&mut self) -> &mut Work {
        let trimmed_next = self.acked_next;
        self.work.get_or_insert_with(|| Box::new(Work { trimmed_next, ..Work::default() }))
    }

    /// Gives back the memory of a lane at rest.
    fn rest(&mut self) {
        let acked_next = self.acked_next;
        self.work.take_if(|work| {
            work.pending.is_empty()
                && work.pause.is_none()
                && !work.trimming
                && work.trimmed_next >= acked_next
                && work.settling.is_none()
                && work.reading.is_none()
                && work.delivery.is_none()
                && work.counts == LaneCounts::default()
        });
    }
}

enum Prepared {
    Frame(FrameBuf),
    Expired,
    Broken(String),
}

/// A record as the frame that it is, with what remains of its time to live.
fn prepare(record: Record, now: Now) -> Prepared {
    let frame = match Frame::parse(&record.frame) {
        Ok(frame) if frame.header.lane == Lane::Durable => frame,
        Ok(_) => return Prepared::Broken("the frame is not of the durable lane".into()),
        Err(error) => return Prepared::Broken(error.to_string()),
    };
    if let Err(error) = frame.header.check_body(frame.body()) {
        return Prepared::Broken(error.to_string());
    }
    let mut header = frame.header;
    if header.ttl_s == 0 {
        return Prepared::Frame(FrameBuf::whole(record.frame));
    }
    let age_s = now.wall.0.saturating_sub(record.arrived.0) / 1000;
    let left = u64::from(header.ttl_s).saturating_sub(age_s);
    if left == 0 {
        return Prepared::Expired;
    }
    header.ttl_s = u32::try_from(left).expect("it only became less");
    let sealed = header.seal_length(frame.route_bytes(), frame.body().len(), header.body_crc);
    let mut resealed = record.frame;
    resealed[..HEADER_SIZE].copy_from_slice(&sealed);
    Prepared::Frame(FrameBuf::whole(resealed))
}
