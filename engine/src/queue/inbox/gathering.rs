//! What is written in one commit, and whom it is to be acked to.

use crate::ids::{ConnId, Epoch};
use crate::queue::marks::SenderKey;
use crate::queue::store::Batch;
use crate::time::WallMs;

/// One sender on one connection: the highest seq that waits for the commit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Touch {
    pub conn: ConnId,
    pub sender: SenderKey,
    pub epoch: Epoch,
    pub seq: u64,
}

/// Records under consecutive numbers, first in memory, then with the store.
#[derive(Debug)]
pub(super) struct Gathering {
    batch: Batch,
    touches: Vec<Touch>,
    records: usize,
    bytes: usize,
}

impl Gathering {
    pub(super) fn new(run: u64, first: u64) -> Self {
        let batch = Batch { first, run, ..Batch::default() };
        Self { batch, touches: Vec::new(), records: 0, bytes: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records == 0
    }

    pub(super) fn len(&self) -> usize {
        self.records
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn arrived(&self) -> WallMs {
        self.batch.arrived
    }

    /// The number after its last record.
    pub(super) fn batch_next(&self) -> u64 {
        self.batch.first + self.records as u64
    }

    /// Its last record's number; of an empty one, the number before its first.
    pub(super) fn last(&self) -> u64 {
        self.batch_next() - 1
    }

    pub(super) fn touches(&self) -> &[Touch] {
        &self.touches
    }

    pub(super) fn push(&mut self, record: &[u8], arrived: WallMs) {
        if self.is_empty() {
            self.batch.arrived = arrived;
        }
        self.batch.push(record);
        self.records += 1;
        self.bytes += record.len();
    }

    /// Notes whom to ack to; `at` is where the connection remembers its touch.
    pub(super) fn touch(&mut self, touch: Touch, at: &mut Option<(u64, usize)>) {
        if let Some((_, index)) = at.filter(|(first, _)| *first == self.batch.first)
            && let Some(known) = self.touches.get_mut(index)
            && (known.conn, known.sender, known.epoch) == (touch.conn, touch.sender, touch.epoch)
        {
            known.seq = known.seq.max(touch.seq);
            return;
        }
        *at = Some((self.batch.first, self.touches.len()));
        self.touches.push(touch);
    }

    /// The records, for the store; numbers, touches and size stay.
    pub(super) fn hand_over(&mut self) -> Batch {
        let left = Batch {
            first: self.batch.first,
            run: self.batch.run,
            arrived: self.batch.arrived,
            ..Batch::default()
        };
        std::mem::replace(&mut self.batch, left)
    }
}
