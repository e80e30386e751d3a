//! What a receiver remembers of each hop sender: per epoch, how far it has committed, and, only
//! while something is uncommitted, how far it has gathered.
//!
//! A sender costs 48 bytes in a page and 4 to 9 in the index. Pages are written with a trim of
//! the log, and only those that changed: the log is the journal of what came since.

use crate::ids::{Epoch, IdMap};

/// A hop sender, by 128 bits of its name's hash: names cost memory, and whoever could find two
/// names with one hash would only have his own duplicates mixed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SenderKey([u8; 16]);

impl SenderKey {
    /// The key of a host name, whatever its case.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        let mut folded = [0; 64];
        for piece in name.chunks(folded.len()) {
            let folded = &mut folded[..piece.len()];
            folded.copy_from_slice(piece);
            folded.make_ascii_lowercase();
            hasher.update(folded);
        }
        let mut key = [0; 16];
        key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(key)
    }

    #[expect(clippy::cast_possible_truncation, reason = "any bits of a hash will do")]
    fn home(self, mask: usize) -> usize {
        u64::from_le_bytes(*self.0.first_chunk().expect("16 bytes hold 8")) as usize & mask
    }
}

/// Whose frame came last: frames of a connection come one after another, and a key is not cheap
/// to compute.
#[derive(Debug, Default)]
pub struct LastSender(Option<(Vec<u8>, SenderKey)>);

impl LastSender {
    /// The key of a host name, as [`SenderKey::of`] has it.
    pub fn key_of(&mut self, name: &[u8]) -> SenderKey {
        match &self.0 {
            Some((last, key)) if last == name => *key,
            _ => {
                let key = SenderKey::of(name);
                self.0 = Some((name.to_vec(), key));
                key
            }
        }
    }
}

/// What a receiver knows of a frame of the durable lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Not seen before.
    New,
    /// A duplicate whose first copy waits for its commit: so must its ack.
    Gathered,
    /// A duplicate of what is on the disk: it is acked at once.
    Committed,
}

/// Bytes of a mark in a page.
const MARK_SIZE: usize = 48;
/// Marks in a page: as many as LMDB puts into one overflow page of 4 KiB.
const PAGE_MARKS: usize = 85;
const FREE: SenderKey = SenderKey([0; 16]);

/// Epoch, and the smallest seq that is not committed; 0 means that nothing is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Reached {
    epoch: u64,
    next: u64,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    key: SenderKey,
    /// The two epochs that were last seen for the first time, the later one first.
    epochs: [Reached; 2],
}

const NO_MARK: Mark = Mark { key: FREE, epochs: [Reached { epoch: 0, next: 0 }; 2] };

impl Mark {
    fn committed(&self, epoch: Epoch) -> u64 {
        self.epochs.iter().find(|e| e.next > 0 && e.epoch == epoch.0).map_or(0, |e| e.next)
    }

    fn raise(&mut self, epoch: Epoch, next: u64) {
        match self.epochs.iter_mut().find(|e| e.next > 0 && e.epoch == epoch.0) {
            Some(known) => known.next = known.next.max(next),
            None => self.epochs = [Reached { epoch: epoch.0, next }, self.epochs[0]],
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.key.0);
        for reached in self.epochs {
            out.extend_from_slice(&reached.epoch.to_le_bytes());
            out.extend_from_slice(&reached.next.to_le_bytes());
        }
    }

    fn decode(bytes: &[u8; MARK_SIZE]) -> Self {
        let word = |at: usize| {
            u64::from_le_bytes(*bytes[at..].first_chunk().expect("four words follow the key"))
        };
        Self {
            key: SenderKey(*bytes.first_chunk().expect("a mark begins with its key")),
            epochs: [
                Reached { epoch: word(16), next: word(24) },
                Reached { epoch: word(32), next: word(40) },
            ],
        }
    }
}

#[derive(Debug)]
struct Page {
    marks: Box<[Mark; PAGE_MARKS]>,
    changed: bool,
}

/// The marks of all hop senders of one receiver.
#[derive(Debug, Default)]
pub struct Marks {
    pages: Vec<Page>,
    /// Open addressing with linear probing: slot + 1, 0 where there is none.
    index: Vec<u32>,
    senders: usize,
    free: Vec<u32>,
    /// Smallest seq that is not gathered, where that is above what is committed. Two gatherings
    /// bound it, so that a sender's choice of epochs cannot make it slow.
    gathered: IdMap<(SenderKey, Epoch), u64>,
    checkpoint: Vec<u32>,
}

impl Marks {
    /// Marks as a checkpoint left them; the log's records are then gathered and committed on
    /// top. A page that is not whole loses what is cut off: such senders' duplicates are left
    /// to the final consumer, which knows their origins.
    #[must_use]
    pub fn restore<'a>(pages: impl IntoIterator<Item = (u32, &'a [u8])>) -> Self {
        let mut marks = Self::default();
        let mut sorted: Vec<_> = pages.into_iter().collect();
        sorted.sort_unstable_by_key(|(number, _)| *number);
        for (number, bytes) in sorted {
            let in_place = number as usize == marks.pages.len();
            if in_place {
                marks.add_page();
            }
            for (i, bytes) in bytes.chunks_exact(MARK_SIZE).take(PAGE_MARKS).enumerate() {
                let mark = Mark::decode(bytes.first_chunk().expect("chunks are exact"));
                if mark.key == FREE || marks.slot(mark.key).is_some() {
                    continue;
                }
                let slot =
                    if in_place { Some(slot_number(number as usize, i)) } else { marks.free.pop() };
                marks.insert(mark, slot);
            }
            if in_place {
                marks.pages[number as usize].changed = false;
            }
        }
        marks.free = (0..marks.pages.len() * PAGE_MARKS)
            .map(|slot| slot_number(0, slot))
            .filter(|slot| marks.mark(*slot).key == FREE)
            .rev()
            .collect();
        marks
    }

    /// Senders that have a mark.
    #[must_use]
    pub fn senders(&self) -> usize {
        self.senders
    }

    /// Whether a frame is new. A seq of `u64::MAX` always is: no sender gets that far.
    #[must_use]
    pub fn classify(&self, sender: SenderKey, epoch: Epoch, seq: u64) -> Arrival {
        let committed = self.slot(sender).map_or(0, |(_, slot)| self.mark(slot).committed(epoch));
        if seq < committed {
            Arrival::Committed
        } else if self.gathered.get(&(sender, epoch)).is_some_and(|next| seq < *next) {
            Arrival::Gathered
        } else {
            Arrival::New
        }
    }

    /// All up to `seq` has been gathered.
    pub fn gather(&mut self, sender: SenderKey, epoch: Epoch, seq: u64) {
        let next = self.gathered.entry((sender, epoch)).or_default();
        *next = (*next).max(seq.saturating_add(1));
    }

    /// All up to `seq` is on the disk.
    pub fn commit(&mut self, sender: SenderKey, epoch: Epoch, seq: u64) {
        let next = seq.saturating_add(1);
        if self.gathered.get(&(sender, epoch)).is_some_and(|gathered| *gathered <= next) {
            self.gathered.remove(&(sender, epoch));
        }
        match self.slot(sender) {
            Some((_, slot)) => {
                let page = &mut self.pages[slot as usize / PAGE_MARKS];
                page.marks[slot as usize % PAGE_MARKS].raise(epoch, next);
                page.changed = true;
            }
            None => {
                let epochs = [Reached { epoch: epoch.0, next }, Reached::default()];
                let slot = self.free.pop();
                self.insert(Mark { key: sender, epochs }, slot);
            }
        }
    }

    /// Forgets all that was gathered and is not committed.
    pub fn roll_back(&mut self) {
        self.gathered = IdMap::default();
    }

    /// Forgets a sender: its host has left.
    pub fn forget(&mut self, sender: SenderKey) {
        let Some((at, slot)) = self.slot(sender) else { return };
        let page = &mut self.pages[slot as usize / PAGE_MARKS];
        page.marks[slot as usize % PAGE_MARKS] = NO_MARK;
        page.changed = true;
        self.free.push(slot);
        self.senders -= 1;
        self.close_gap(at);
    }

    /// Whether there is anything to checkpoint.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.pages.iter().any(|page| page.changed)
    }

    /// The pages that changed since the last checkpoint: number and content. They count as
    /// written until [`Marks::checkpoint_failed`] says otherwise.
    #[must_use]
    pub fn changed_pages(&mut self) -> Vec<(u32, Vec<u8>)> {
        let mut changed = Vec::new();
        self.checkpoint.clear();
        for (number, page) in (0u32..).zip(&mut self.pages).filter(|(_, page)| page.changed) {
            page.changed = false;
            self.checkpoint.push(number);
            let used = page.marks.iter().rposition(|m| m.key != FREE).map_or(0, |last| last + 1);
            let mut bytes = Vec::with_capacity(used * MARK_SIZE);
            page.marks[..used].iter().for_each(|mark| mark.encode(&mut bytes));
            changed.push((number, bytes));
        }
        changed
    }

    /// The pages that were last handed out did not reach the disk.
    pub fn checkpoint_failed(&mut self) {
        for number in self.checkpoint.drain(..) {
            self.pages[number as usize].changed = true;
        }
    }

    /// Bytes of memory for all senders, without what is merely gathered.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.pages.capacity() * size_of::<Page>()
            + self.pages.len() * size_of::<[Mark; PAGE_MARKS]>()
            + self.index.capacity() * size_of::<u32>()
            + self.free.capacity() * size_of::<u32>()
    }

    fn mark(&self, slot: u32) -> &Mark {
        &self.pages[slot as usize / PAGE_MARKS].marks[slot as usize % PAGE_MARKS]
    }

    fn add_page(&mut self) {
        // The list of pages grows by an eighth, not by doubling: it is part of what a mark costs.
        if self.pages.len() == self.pages.capacity() {
            self.pages.reserve_exact(self.pages.len() / 8 + 1);
        }
        self.pages.push(Page { marks: Box::new([NO_MARK; PAGE_MARKS]), changed: true });
    }

    /// Puts a new mark into this slot, or into one of a new page.
    fn insert(&mut self, mark: Mark, slot: Option<u32>) {
        let slot = slot.unwrap_or_else(|| {
            let first = slot_number(self.pages.len(), 0);
            self.add_page();
            self.free.extend((first + 1..slot_number(self.pages.len(), 0)).rev());
            first
        });
        let page = &mut self.pages[slot as usize / PAGE_MARKS];
        page.marks[slot as usize % PAGE_MARKS] = mark;
        page.changed = true;
        self.senders += 1;
        if self.senders * 8 > self.index.len() * 7 {
            self.grow_index();
        } else {
            self.link(mark.key, slot);
        }
    }

    fn grow_index(&mut self) {
        let size = (self.index.len() * 2).max(16);
        self.index = vec![0; size];
        for slot in 0..slot_number(self.pages.len(), 0) {
            let key = self.mark(slot).key;
            if key != FREE {
                self.link(key, slot);
            }
        }
    }

    fn link(&mut self, key: SenderKey, slot: u32) {
        let mask = self.index.len() - 1;
        let mut at = key.home(mask);
        while self.index[at] != 0 {
            at = (at + 1) & mask;
        }
        self.index[at] = slot + 1;
    }

    /// Where a sender is in the index, and its slot.
    fn slot(&self, key: SenderKey) -> Option<(usize, u32)> {
        let mask = self.index.len().checked_sub(1)?;
        let mut at = key.home(mask);
        loop {
            let slot = self.index[at].checked_sub(1)?;
            if self.mark(slot).key == key {
                return Some((at, slot));
            }
            at = (at + 1) & mask;
        }
    }

    /// Moves entries back over a removed one, so that no search ends too early.
    fn close_gap(&mut self, mut gap: usize) {
        let mask = self.index.len() - 1;
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            let Some(slot) = self.index[at].checked_sub(1) else { break };
            let home = self.mark(slot).key.home(mask);
            // It may move if the gap lies on its way from home to where it is.
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(gap) & mask) {
                self.index[gap] = self.index[at];
                gap = at;
            }
        }
        self.index[gap] = 0;
    }
}

fn slot_number(page: usize, within: usize) -> u32 {
    u32::try_from(page * PAGE_MARKS + within).expect("fewer than four billion senders")
}

#[cfg(test)]
mod tests;
