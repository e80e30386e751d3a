//! The disk of the node: the engine's own store in memory, and what was ever committed to it.

use engine::ids::Epoch;
use engine::queue::memory::MemoryStore;
use engine::queue::store::{StoreCommand, StoreEvent};
use engine::wire::Frame;
use std::collections::{BTreeSet, VecDeque};

/// A log in memory whose answers wait until they are delivered.
#[derive(Debug)]
pub struct Disk {
    /// The log.
    pub store: MemoryStore,
    /// Answers that the node has not been given.
    pub answers: VecDeque<StoreEvent>,
    /// Hop sender, epoch and seq of every frame that was ever committed.
    committed: BTreeSet<(Vec<u8>, Epoch, u64)>,
    /// The largest number in the log that was ever committed.
    pub committed_upto: u64,
    /// Numbers in the log that hold a record, those set aside left out.
    live: BTreeSet<u64>,
    /// Numbers that were trimmed since somebody last looked.
    pub trimmed: Vec<u64>,
}

impl Disk {
    /// An empty log of this incarnation.
    #[must_use]
    pub fn new(epoch: u64) -> Self {
        Self {
            store: MemoryStore::new(epoch),
            answers: VecDeque::new(),
            committed: BTreeSet::new(),
            committed_upto: 0,
            live: BTreeSet::new(),
            trimmed: Vec::new(),
        }
    }

    /// Takes a command from the node.
    ///
    /// # Panics
    /// The node writes what is no frame, or numbers that are not ascending.
    pub fn take(&mut self, command: StoreCommand) {
        if let StoreCommand::Write(batch) = &command {
            assert!(!batch.is_empty(), "an empty batch is a commit for nothing");
            for (_, record) in batch.records() {
                let frame = Frame::parse(record).expect("what is written is a frame");
                frame.route().expect("what is written has a route");
                assert_eq!(frame.header.check_body(frame.body()), Ok(()), "damage is not stored");
            }
        }
        let event = self.store.apply(command);
        self.note(event);
    }

    /// Time passes for a slow disk.
    pub fn tick(&mut self) {
        for event in self.store.tick() {
            self.note(Some(event));
        }
    }

    fn note(&mut self, event: Option<StoreEvent>) {
        if let Some(StoreEvent::Committed { .. }) = &event {
            let records = self.store.records().filter(|record| record.seq > self.committed_upto);
            let (mut upto, mut keys) = (self.committed_upto, Vec::new());
            for record in records {
                upto = record.seq;
                self.live.insert(upto);
                keys.extend(key_of(&record.frame));
            }
            self.committed_upto = upto;
            self.committed.extend(keys);
        }
        match &event {
            Some(StoreEvent::Quarantined { seq, .. }) => {
                self.live.remove(seq);
            }
            Some(StoreEvent::Trimmed { upto, .. }) => {
                let kept = self.live.split_off(&upto.saturating_add(1));
                self.trimmed.extend(std::mem::replace(&mut self.live, kept));
            }
            _ => {}
        }
        self.answers.extend(event);
    }

    /// Whether a frame was ever committed.
    #[must_use]
    pub fn has(&self, sender: &[u8], epoch: Epoch, seq: u64) -> bool {
        self.committed.contains(&(sender.to_ascii_lowercase(), epoch, seq))
    }

    /// The process was killed: what was not carried out, and what it was not told, is lost.
    pub fn crash(&mut self) {
        self.store.crash();
        self.answers.clear();
    }
}

/// Whose frame a record is, whatever the case of the name.
fn key_of(record: &[u8]) -> Option<(Vec<u8>, Epoch, u64)> {
    let frame = Frame::parse(record).ok()?;
    let sender = frame.route().ok()?.hop_sender().to_ascii_lowercase();
    Some((sender, frame.header.epoch, frame.header.seq))
}
