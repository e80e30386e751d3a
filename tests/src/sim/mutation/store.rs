//! What is wrong with disks and what is written to them.

use super::Mutation;
use engine::queue::memory::MemoryStore;
use engine::queue::store::{Batch, Record, StoreCommand, StoreEvent};

/// The first record of a batch alone.
#[must_use]
pub fn shorten(mut batch: Batch) -> Batch {
    if let Some(end) = batch.ends.first().copied() {
        batch.ends.truncate(1);
        batch.arena.truncate(end as usize);
    }
    batch
}

/// The answer that a store gives before it has done anything, or instead.
#[must_use]
pub fn answered(batch: &Batch) -> StoreEvent {
    StoreEvent::Committed { upto: (batch.first + batch.len() as u64) - 1, run: batch.run }
}

/// The answer to a trim that is not carried out.
#[must_use]
pub fn say_trimmed(store: &MemoryStore, upto: u64) -> StoreEvent {
    let gone = store.records().filter(|record| record.seq <= upto);
    let (records, bytes) =
        gone.fold((0, 0), |(n, bytes), record| (n + 1, bytes + record.frame.len() as u64));
    StoreEvent::Trimmed { upto, records, bytes }
}

/// The store as it was before its last commit, which began with this number.
#[must_use]
pub fn lost_by_power_cut(store: &MemoryStore, first: u64) -> MemoryStore {
    let state = store.state();
    let mut old = MemoryStore::new(state.epoch);
    let mut write = |first: u64, record: &[u8]| {
        let mut batch = Batch { first, ..Batch::default() };
        batch.push(record);
        old.apply(StoreCommand::Write(batch));
    };
    // Its numbers go on from there, whatever is left of what they were given to.
    if first > 1 {
        write(first - 1, &[]);
    }
    old.apply(StoreCommand::Trim { upto: first, pages: state.pages });
    let kept: Vec<&Record> = store.records().filter(|record| record.seq < first).collect();
    for record in kept {
        let mut batch = Batch { first: record.seq, arrived: record.arrived, ..Batch::default() };
        batch.push(&record.frame);
        old.apply(StoreCommand::Write(batch));
    }
    old
}

/// What the result store makes of a batch.
pub fn alter(records: &mut [Record], mutation: Option<Mutation>) {
    if mutation == Some(Mutation::AlterRecord)
        && let Some(byte) = records.last_mut().and_then(|record| record.frame.last_mut())
    {
        *byte ^= 1;
    }
}
