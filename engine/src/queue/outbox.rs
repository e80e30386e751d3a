//! What a node has to say to its parent: three lanes, sent in their order, one delivery at a
//! time, until all is acked.
//!
//! An outbox with nothing to send is small and owns no heap, since a load generator holds tens
//! of thousands.

mod durable;

use crate::ids::{Epoch, HostName, Origin};
use crate::queue::lanes::{LaneCounts, MemoryLane, Message};
use crate::queue::store::{StoreCommand, StoreError, StoreEvent, StoreState};
use crate::time::{Instant, Now};
use crate::wire::{FrameBuf, Lane, Nack};
use durable::DurableLane;
use std::sync::Arc;
use std::time::Duration;

/// Bounds of an outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxConfig {
    /// Messages in each of the lanes in memory.
    pub memory_count_max: usize,
    /// Bytes of bodies in each of the lanes in memory.
    pub memory_bytes_max: usize,
    /// Bytes of the durable lane, on the disk and on their way to it.
    pub durable_bytes_max: u64,
    /// Bytes of the durable lane that may wait for a commit.
    pub pending_bytes_max: usize,
    /// Frames in flight.
    pub window_frames: usize,
    /// Bytes of the durable lane in flight.
    pub window_bytes: usize,
    /// Bytes read from the disk at once.
    pub read_bytes_max: usize,
    /// How long to wait before the store is asked again after it has failed.
    pub failure_pause: Duration,
}

impl Default for OutboxConfig {
    fn default() -> Self {
        Self {
            memory_count_max: 256,
            memory_bytes_max: 1024 * 1024,
            durable_bytes_max: 64 * 1024 * 1024,
            pending_bytes_max: 4 * 1024 * 1024,
            window_frames: 1000,
            window_bytes: 256 * 1024,
            read_bytes_max: 128 * 1024,
            failure_pause: Duration::from_secs(1),
        }
    }
}

/// A durable message was not taken: there is no room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the outbox holds {bytes} of at most {limit} bytes: the parent has not taken its reports for long, or the disk does not keep up; reports are folded together until there is room"
)]
pub struct OutboxFull {
    /// Bytes that wait already.
    pub bytes: u64,
    /// The bound that was reached.
    pub limit: u64,
}

/// The sending end of one node.
#[derive(Debug)]
pub struct Outbox {
    name: HostName,
    config: Arc<OutboxConfig>,
    /// Incarnation of the lanes in memory, whose numbers begin anew with each start.
    memory_epoch: Epoch,
    urgent: MemoryLane,
    volatile: MemoryLane,
    durable: DurableLane,
    delivering: bool,
}

impl Outbox {
    /// An outbox over what the store has: same epoch, same numbers, whatever the restart.
    /// `memory_epoch` is random.
    #[must_use]
    pub fn restore(
        name: HostName,
        state: &StoreState,
        config: Arc<OutboxConfig>,
        memory_epoch: Epoch,
    ) -> Self {
        Self {
            name,
            config,
            memory_epoch,
            urgent: MemoryLane::default(),
            volatile: MemoryLane::default(),
            durable: DurableLane::restore(state),
            delivering: false,
        }
    }

    /// Takes a message on its kind's lane. A durable one is safe once [`Outbox::committed`] has
    /// reached its number.
    ///
    /// # Errors
    /// [`OutboxFull`], on the durable lane alone: the others make room by giving up what is old.
    pub fn push(&mut self, message: Message, now: Now) -> Result<Origin, OutboxFull> {
        let (lane, epoch) = match message.lane() {
            Lane::Urgent => (&mut self.urgent, self.memory_epoch),
            Lane::Volatile => (&mut self.volatile, self.memory_epoch),
            Lane::Durable => return self.durable.push(&self.name, &message, &self.config),
        };
        let (count, bytes) = (self.config.memory_count_max, self.config.memory_bytes_max);
        let seq = lane.push(message, count, bytes, now.at);
        Ok(Origin { name: self.name.clone(), epoch, seq })
    }

    /// A connection to the parent stands: everything that is not acked is offered, the oldest
    /// first.
    pub fn begin(&mut self) {
        self.end();
        self.delivering = true;
    }

    /// The delivery is over, however it ended: what is not acked is offered by the next.
    pub fn end(&mut self) {
        self.delivering = false;
        self.urgent.end();
        self.volatile.end();
        self.durable.end();
    }

    /// The parent cannot be reached: what is volatile does not wait for it.
    pub fn handle_unreachable(&mut self) {
        self.volatile.drop_unsent();
    }

    /// The next frame of the delivery, if there is one and the window has room.
    pub fn poll_frame(&mut self, now: Now) -> Option<FrameBuf> {
        if !self.delivering {
            return None;
        }
        if let Some(frame) = self.urgent.poll(&self.name, self.memory_epoch, now.at) {
            return Some(frame);
        }
        if self.in_flight() >= self.config.window_frames {
            return None;
        }
        if let Some(frame) = self.volatile.poll(&self.name, self.memory_epoch, now.at) {
            return Some(frame);
        }
        self.durable.poll_frame(self.config.window_bytes, now)
    }

    /// The parent has everything of this lane up to this number.
    pub fn handle_ack(&mut self, lane: Lane, epoch: Epoch, seq: u64) {
        match lane {
            Lane::Durable => self.durable.handle_ack(epoch, seq),
            _ if epoch != self.memory_epoch => {}
            Lane::Urgent => self.urgent.handle_ack(seq),
            Lane::Volatile => self.volatile.handle_ack(seq),
        }
    }

    /// The parent has refused a frame. A durable one that it can never take is settled; the rest
    /// of its lane is offered again, not before the time that the parent said. What lives in memory
    /// is given up: whoever wanted it asks again when its own time comes, and a delivery never
    /// awaits an ack that cannot come.
    pub fn handle_nack(&mut self, lane: Lane, epoch: Epoch, seq: u64, nack: &Nack, now: Now) {
        match lane {
            Lane::Durable => self.durable.handle_nack(epoch, seq, nack, now.at),
            _ if epoch != self.memory_epoch => {}
            Lane::Urgent => self.urgent.settle(seq),
            Lane::Volatile => self.volatile.settle(seq),
        }
    }

    /// The node has another parent: what the last one said about waiting means nothing.
    pub fn rebound(&mut self) {
        self.durable.release();
    }

    /// The parent has shown that it knows this host: what waits because it did not, goes.
    pub fn handle_known(&mut self) {
        self.durable.handle_known();
    }

    /// The store has answered.
    pub fn handle_store(&mut self, event: StoreEvent, now: Now) {
        self.durable.handle_store(event, now.at + self.config.failure_pause);
    }

    /// The next command for the store; call it once a turn, at its end.
    pub fn poll_command(&mut self, now: Now) -> Option<StoreCommand> {
        self.durable.poll_command(self.delivering, &self.config, now)
    }

    /// Whether everything has been acked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.volatile.is_empty() && self.durable.is_empty()
    }

    /// Whether a delivery begun now would have something to send.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        !self.urgent.is_empty() || !self.volatile.is_empty() || self.durable.is_due(now)
    }

    /// Frames sent and not acked.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.urgent.in_flight() + self.volatile.in_flight() + self.durable.in_flight()
    }

    /// Until when the durable lane is held back.
    #[must_use]
    pub fn hold_until(&self) -> Option<Instant> {
        self.durable.hold_until()
    }

    /// When there is something to do although nothing has happened: a hold ends, or the store
    /// is to be asked again.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.durable.next_timeout()
    }

    /// The largest durable number that is on the disk; 0 if there never was one.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.durable.committed()
    }

    /// Whether every durable message that was taken is on the disk.
    #[must_use]
    pub fn is_committed(&self) -> bool {
        self.durable.is_committed()
    }

    /// Durable messages that are not acked, and bytes of those not yet trimmed.
    #[must_use]
    pub fn depth(&self) -> (u64, u64) {
        self.durable.depth()
    }

    /// What became of urgent or volatile messages that were not delivered, and of durable ones
    /// (`expired` and `refused` alone).
    #[must_use]
    pub fn counts(&self, lane: Lane) -> LaneCounts {
        match lane {
            Lane::Urgent => self.urgent.counts(),
            Lane::Volatile => self.volatile.counts(),
            Lane::Durable => self.durable.counts(),
        }
    }

    /// Why nothing is written to the disk, if the store has failed since the last commit.
    #[must_use]
    pub fn store_error(&self) -> Option<&StoreError> {
        self.durable.store_error()
    }
}

#[cfg(test)]
mod tests;
