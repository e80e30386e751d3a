//! One connection, and the table of them.

use super::poller::Token;
use super::send::SendQueue;
use crate::ids::ConnId;
use crate::node::io::CloseReason;
use crate::time::Instant;
use crate::wheel::TimerId;
use crate::wire::Decoder;
use slab::Slab;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its connect is under way; the reactor knows whose dial it is.
    Dialing,
    /// Frames go both ways.
    Open,
    /// The host has closed it: what was sent goes out, what comes is thrown away.
    Closing,
    /// All has gone out and the peer was told the end: its own end is awaited, so that the
    /// last bytes are not destroyed by a reset.
    Lingering,
}

/// What has been noted about a connection, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flags(u16);

impl Flags {
    pub(super) const NONE: Flags = Flags(0);
    /// Reading may succeed.
    pub(super) const READABLE: Flags = Flags(1);
    /// Writing may succeed again, or the connect has ended.
    pub(super) const WRITABLE: Flags = Flags(1 << 1);
    /// It is on the ready list.
    pub(super) const QUEUED: Flags = Flags(1 << 2);
    /// It is on the list of those to write to.
    pub(super) const DIRTY: Flags = Flags(1 << 3);
    /// The operating system takes no more bytes for now.
    pub(super) const BLOCKED: Flags = Flags(1 << 4);
    /// Events for writing are on; they stay so, being edge-triggered.
    pub(super) const WATCHED: Flags = Flags(1 << 5);
    /// The host has parked a frame.
    pub(super) const PARKED: Flags = Flags(1 << 6);
    /// The length of the incomplete frame has been added to its deadline.
    pub(super) const SIZED: Flags = Flags(1 << 7);
    /// The peer's end has come, or the connection has failed: it lies behind what is unread.
    pub(super) const ENDED: Flags = Flags(1 << 8);
    /// Something was written.
    pub(super) const WRITTEN: Flags = Flags(1 << 9);
    /// It was dialled, and what is written may wait for the ack of what was written before.
    pub(super) const GATHERS: Flags = Flags(1 << 10);
    /// It keeps its place: something whole has come on it, it was dialled, or it brings commands.
    pub(super) const ADMITTED: Flags = Flags(1 << 11);
    /// It brings the operator's commands.
    pub(super) const CONTROL: Flags = Flags(1 << 12);
    /// It counts for its source.
    pub(super) const COUNTED: Flags = Flags(1 << 13);
    /// The host knows nothing of it: it is only told when to come back.
    pub(super) const UNTOLD: Flags = Flags(1 << 14);

    pub(super) fn has(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn set(&mut self, other: Flags) {
        self.0 |= other.0;
    }

    pub(super) fn clear(&mut self, other: Flags) {
        self.0 &= !other.0;
    }

    /// Clears the bits, and says whether one of them was set.
    pub(super) fn take(&mut self, other: Flags) -> bool {
        let had = self.has(other);
        self.clear(other);
        had
    }
}

/// A connection between frames owns this and nothing else.
#[derive(Debug)]
pub(super) struct Conn<S> {
    pub(super) stream: S,
    pub(super) decoder: Decoder,
    /// Bytes that wait; `None` most of the time.
    pub(super) send: Option<Box<SendQueue>>,
    pub(super) phase: Phase,
    /// When what is awaited from the peer must be there.
    pub(super) deadline: Instant,
    /// What it is closed with then; once it is closing, what its host closed it with.
    pub(super) reason: CloseReason,
    /// Fires no later than the nearest of its deadlines.
    pub(super) timer: Option<TimerId>,
    pub(super) generation: u32,
    pub(super) flags: Flags,
    /// Where its source is counted, if it counts.
    pub(super) source: u16,
}

impl<S> Conn<S> {
    pub(super) fn new(stream: S, phase: Phase, deadline: Instant, reason: CloseReason) -> Self {
        Self {
            stream,
            decoder: Decoder::new(),
            send: None,
            phase,
            deadline,
            reason,
            timer: None,
            generation: 0,
            flags: Flags::NONE,
            source: 0,
        }
    }

    /// The nearest of its deadlines.
    pub(super) fn nearest_deadline(&self) -> Instant {
        let send = self.send.as_ref().and_then(|queue| queue.deadline);
        match (self.phase, send) {
            // What comes is thrown away: only what goes out counts.
            (Phase::Closing, Some(send)) => send,
            (_, Some(send)) => self.deadline.min(send),
            (_, None) => self.deadline,
        }
    }

    /// So many bytes were read where there was room for more: nothing is left but an end that was
    /// told already.
    pub(super) fn note_read(&mut self, read: usize, room: usize) {
        if read < room && !self.flags.has(Flags::ENDED) {
            self.flags.clear(Flags::READABLE);
        }
    }

    /// Bytes that wait to be sent.
    pub(super) fn unsent(&self) -> usize {
        self.send.as_ref().map_or(0, |queue| queue.bytes())
    }
}

/// All connections, by slab index, each with a generation: an id of a connection that has
/// ended finds nothing, whoever has its slot now.
#[derive(Debug)]
pub(super) struct Table<S> {
    slab: Slab<Conn<S>>,
    generation: u32,
}

impl<S> Table<S> {
    /// An empty table with room for so many. Room that was never used is no memory.
    pub(super) fn with_capacity(connections: usize) -> Self {
        Self { slab: Slab::with_capacity(connections), generation: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// The id that the next [`Table::insert`] gives.
    pub(super) fn next_id(&mut self) -> ConnId {
        // 0 is the generation of what is no connection: listeners and foreign descriptors.
        let generation = self.generation.wrapping_add(1).max(1);
        ConnId::new(
            u32::try_from(self.slab.vacant_key()).expect("descriptors are 31 bits"),
            generation,
        )
    }

    pub(super) fn insert(&mut self, mut conn: Conn<S>) -> ConnId {
        let id = self.next_id();
        self.generation = id.generation();
        conn.generation = self.generation;
        self.slab.insert(conn);
        id
    }

    pub(super) fn of(&mut self, id: ConnId) -> Option<&mut Conn<S>> {
        self.slab.get_mut(id.index()).filter(|conn| conn.generation == id.generation())
    }

    pub(super) fn remove(&mut self, id: ConnId) -> Option<Conn<S>> {
        self.of(id)?;
        Some(self.slab.remove(id.index()))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnId, &Conn<S>)> {
        self.slab.iter().map(|(index, conn)| {
            let index = u32::try_from(index).expect("as inserted");
            (ConnId::new(index, conn.generation), conn)
        })
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = ConnId> {
        self.iter().map(|(id, _)| id)
    }
}

pub(super) fn token(id: ConnId) -> Token {
    Token(id.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_takes_at_most_96_bytes() {
        // A stream is a tag and a descriptor; in debug builds mio adds a number of its own.
        let own = size_of::<Conn<[u32; 2]>>();
        assert!(own <= 96, "{own}");
        #[cfg(not(debug_assertions))]
        assert_eq!(size_of::<crate::reactor::MioStream>(), 8);
    }

    #[test]
    fn e2_stale_close_leaves_the_next_tenant_of_the_slot_alone() {
        let conn = |n: u32| Conn::new(n, Phase::Open, Instant(0), CloseReason::IdleTimeout);
        let mut table = Table::with_capacity(0);
        let first = table.insert(conn(1));
        assert!(table.remove(first).is_some());
        let second = table.insert(conn(2));
        assert_eq!(first.index(), second.index(), "the slot was to be reused");
        assert!(table.remove(first).is_none());
        assert!(table.of(first).is_none());
        assert_eq!(table.of(second).map(|c| c.stream), Some(2));
    }
}
