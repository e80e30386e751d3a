//! The two lanes that live in memory, urgent and volatile: bounded, in order, and gone after a
//! restart by design.

use crate::ids::{Epoch, HostName, Origin};
use crate::time::Instant;
use crate::wire::{Body, FrameBuf, Header, Kind, Lane, RouteBuf, encode};
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;

/// A body of so many bytes is copied into its frame: that costs less than to share it.
const COPIED_MAX: usize = 1024;

/// A message for an outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What the body is; it says the lane too.
    pub kind: Kind,
    /// Version of the body.
    pub schema: u16,
    /// The encoded body.
    pub body: Bytes,
    /// For whom, if not for the master.
    pub target: Option<HostName>,
    /// After this it is worth nothing; whole seconds count, at least one.
    pub ttl: Option<Duration>,
}

impl Message {
    /// A message with this body, to the master, worth something for ever.
    #[must_use]
    pub fn of<B: Body>(body: &B) -> Self {
        Self {
            kind: B::KIND,
            schema: B::SCHEMA,
            body: encode(body).into(),
            target: None,
            ttl: None,
        }
    }

    /// The lane that it travels on; kinds that this build does not know are volatile.
    #[must_use]
    pub fn lane(&self) -> Lane {
        self.kind.lane().unwrap_or(Lane::Volatile)
    }

    /// The frame that carries it from its origin.
    #[must_use]
    pub fn seal(&self, origin: &Origin, ttl_s: u32) -> FrameBuf {
        if self.body.len() <= COPIED_MAX {
            return FrameBuf::whole(self.seal_whole(origin, ttl_s));
        }
        let (header, route) = self.sealing(origin, ttl_s);
        FrameBuf::seal(header, Some(&route), self.body.clone())
    }

    /// The bytes of that frame.
    #[must_use]
    pub fn seal_whole(&self, origin: &Origin, ttl_s: u32) -> Vec<u8> {
        let (header, route) = self.sealing(origin, ttl_s);
        FrameBuf::seal_whole(header, Some(&route), &self.body)
    }

    fn sealing(&self, origin: &Origin, ttl_s: u32) -> (Header, RouteBuf) {
        let mut header = Header::new(self.kind);
        header.schema = self.schema;
        header.epoch = origin.epoch;
        header.seq = origin.seq;
        header.ttl_s = ttl_s;
        let mut route = RouteBuf::from(origin.clone());
        route.target.clone_from(&self.target);
        (header, route)
    }
}

/// Seconds of a time to live as a header has them: 0 means for ever, so none rounds down to it.
pub(super) fn ttl_seconds(ttl: Option<Duration>) -> u32 {
    ttl.map_or(0, |ttl| u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX).max(1))
}

/// What became of messages that were not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LaneCounts {
    /// Given up for lack of room, or because there is no way to the peer.
    pub dropped: u32,
    /// A later message of a newest-wins kind took their place.
    pub replaced: u32,
    /// They were too old.
    pub expired: u32,
    /// The peer did not want them.
    pub refused: u32,
}

#[derive(Debug)]
struct Entry {
    message: Message,
    seq: u64,
    expires: Option<Instant>,
}

/// One lane in memory.
#[derive(Debug, Default)]
pub struct MemoryLane {
    entries: VecDeque<Entry>,
    bytes: u32,
    /// How many of the first are in flight.
    sent: u32,
    last_seq: u64,
    counts: LaneCounts,
}

impl MemoryLane {
    /// Messages that have not been acked.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Messages sent and not acked.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.sent as usize
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    /// What became of those that were not delivered.
    #[must_use]
    pub fn counts(&self) -> LaneCounts {
        self.counts
    }

    /// Takes a message and gives it a number. The oldest that are not in flight make room for
    /// it, then those in flight.
    pub(super) fn push(
        &mut self,
        message: Message,
        count_max: usize,
        bytes_max: usize,
        now: Instant,
    ) -> u64 {
        if message.kind.newest_wins() {
            let same =
                |e: &Entry| e.message.kind == message.kind && e.message.target == message.target;
            let earlier =
                (self.sent as usize..self.entries.len()).find(|i| same(&self.entries[*i]));
            if let Some(earlier) = earlier {
                self.remove(earlier);
                self.counts.replaced += 1;
            }
        }
        let size = message.body.len();
        while !self.entries.is_empty()
            && (self.entries.len() >= count_max || self.bytes as usize + size > bytes_max)
        {
            let unsent = self.sent as usize;
            self.remove(if unsent < self.entries.len() { unsent } else { 0 });
            self.counts.dropped += 1;
        }
        self.last_seq += 1;
        self.bytes += u32::try_from(size).expect("bodies are bounded by their kind");
        let expires = message.ttl.map(|ttl| now + ttl);
        if self.entries.is_empty() {
            // Most lanes hold one message at a time.
            self.entries.reserve_exact(1);
        }
        self.entries.push_back(Entry { message, seq: self.last_seq, expires });
        self.last_seq
    }

    /// The next message to send, sealed; it is in flight from now on.
    pub(super) fn poll(&mut self, name: &HostName, epoch: Epoch, now: Instant) -> Option<FrameBuf> {
        loop {
            let entry = self.entries.get(self.sent as usize)?;
            let left = entry.expires.map(|expires| expires.since(now));
            if left.is_some_and(|left| left.is_zero()) {
                self.remove(self.sent as usize);
                self.counts.expired += 1;
                continue;
            }
            let origin = Origin { name: name.clone(), epoch, seq: entry.seq };
            let frame = entry.message.seal(&origin, ttl_seconds(left));
            self.sent += 1;
            return Some(frame);
        }
    }

    /// Everything up to a number that was sent has arrived.
    pub(super) fn handle_ack(&mut self, seq: u64) {
        while self.sent > 0 && self.entries.front().is_some_and(|entry| entry.seq <= seq) {
            self.remove(0);
        }
    }

    /// The peer will never take this one.
    pub(super) fn settle(&mut self, seq: u64) {
        let sent = self.entries.iter().take(self.sent as usize);
        if let Some(at) = sent.into_iter().position(|entry| entry.seq == seq) {
            self.remove(at);
            self.counts.refused += 1;
        }
    }

    /// The delivery is over: what was in flight is offered again.
    pub(super) fn end(&mut self) {
        self.sent = 0;
    }

    /// Gives up all that is not in flight.
    pub(super) fn drop_unsent(&mut self) {
        while self.entries.len() > self.sent as usize {
            self.remove(self.entries.len() - 1);
            self.counts.dropped += 1;
        }
    }

    fn remove(&mut self, at: usize) {
        let Some(entry) = self.entries.remove(at) else { return };
        self.bytes -= u32::try_from(entry.message.body.len()).expect("it was counted as it came");
        if at < self.sent as usize {
            self.sent -= 1;
        }
        if self.entries.is_empty() {
            // A load generator holds tens of thousands of lanes: an empty one has no heap.
            self.entries = VecDeque::new();
        }
    }
}
