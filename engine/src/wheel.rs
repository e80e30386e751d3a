//! A hierarchical timer wheel: insert, cancel and finding the next expiry are O(1), and time
//! that passes costs only what expires in it.
//!
//! Seven levels of 64 slots cover every [`Instant`]; a timer lies on the level of the highest
//! six bits in which its tick differs from the current one, and moves down when its slot
//! begins. Deadlines are rounded up to ticks of 16 ms, so a timer fires in
//! `[deadline, deadline + TICK]` and never early.

use crate::time::Instant;
use std::num::NonZeroU32;
use std::time::Duration;

/// Resolution of every deadline.
pub const TICK: Duration = Duration::from_millis(16);
const TICK_NS: u64 = 16_000_000;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 7;
/// The list of timers whose tick has come but that nobody has taken yet.
const EXPIRED: u32 = (LEVELS * SLOTS) as u32;
const NONE: u32 = u32::MAX;
/// Marks a `prev` that is a list's number and not an entry's.
const HEAD: u32 = 1 << 31;

/// A timer that has neither fired nor been cancelled. It is its owner's to keep in step: the
/// wheel reuses it after either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerId(NonZeroU32);

impl TimerId {
    fn new(index: u32) -> Self {
        Self(NonZeroU32::new(index + 1).expect("one more than an index is not zero"))
    }

    fn index(self) -> u32 {
        self.0.get() - 1
    }
}

#[derive(Debug)]
struct Entry<K> {
    tick: u64,
    prev: u32,
    next: u32,
    key: K,
}

/// Timers that each carry a small key; 24 bytes a timer where a key has 8.
#[derive(Debug)]
pub struct Wheel<K> {
    entries: Vec<Entry<K>>,
    free: u32,
    len: usize,
    /// Ticks up to here have been seen; no slot that began by then is occupied.
    elapsed: u64,
    occupied: [u64; LEVELS],
    heads: [u32; EXPIRED as usize + 1],
}

fn tick_up(at: Instant) -> u64 {
    at.0.div_ceil(TICK_NS)
}

fn instant(tick: u64) -> Instant {
    Instant(tick.saturating_mul(TICK_NS))
}

impl<K: Copy> Wheel<K> {
    /// An empty wheel.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self::with_capacity(now, 0)
    }

    /// An empty wheel with room for so many timers, beyond which it has to be moved.
    #[must_use]
    pub fn with_capacity(now: Instant, timers: usize) -> Self {
        Self {
            entries: Vec::with_capacity(timers),
            free: NONE,
            len: 0,
            elapsed: now.0 / TICK_NS,
            occupied: [0; LEVELS],
            heads: [NONE; EXPIRED as usize + 1],
        }
    }

    /// Timers that have neither fired nor been cancelled.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a timer; one whose deadline has passed fires with the next [`Wheel::pop_expired`].
    ///
    /// # Panics
    /// Beyond two thousand million timers, whose memory no machine has.
    pub fn insert(&mut self, deadline: Instant, key: K) -> TimerId {
        let entry = Entry { tick: tick_up(deadline), prev: NONE, next: NONE, key };
        let index = if self.free == NONE {
            let index = u32::try_from(self.entries.len()).expect("far fewer timers than 2^31");
            assert!(index < HEAD, "far fewer timers than 2^31");
            self.entries.push(entry);
            index
        } else {
            let index = self.free;
            self.free = self.entries[index as usize].next;
            self.entries[index as usize] = entry;
            index
        };
        self.len += 1;
        self.link(index);
        TimerId::new(index)
    }

    /// Removes a timer.
    pub fn cancel(&mut self, timer: TimerId) {
        let index = timer.index();
        self.unlink(index);
        self.release(index);
    }

    /// When a timer will fire: its deadline, rounded up to a tick.
    #[must_use]
    pub fn deadline(&self, timer: TimerId) -> Instant {
        instant(self.entries[timer.index() as usize].tick)
    }

    /// When [`Wheel::pop_expired`] has something to do next: exact within the first second,
    /// and never later than the first deadline.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Instant> {
        if self.heads[EXPIRED as usize] != NONE {
            return Some(instant(self.elapsed));
        }
        self.next_slot().map(|(_, _, tick)| instant(tick))
    }

    /// Takes one timer whose time has come; call it until `None`, or until enough for now.
    pub fn pop_expired(&mut self, now: Instant) -> Option<K> {
        let now_tick = now.0 / TICK_NS;
        loop {
            let head = self.heads[EXPIRED as usize];
            if head != NONE {
                self.unlink(head);
                self.release(head);
                return Some(self.entries[head as usize].key);
            }
            match self.next_slot() {
                Some((level, slot, tick)) if tick <= now_tick => {
                    self.elapsed = tick;
                    self.open(level, slot);
                }
                _ => {
                    self.elapsed = self.elapsed.max(now_tick);
                    return None;
                }
            }
        }
    }

    /// The occupied slot that begins first: level, slot and tick. The lowest occupied level
    /// has it, since all that differs from now in higher bits only comes later.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|bits| *bits != 0)?;
        let slot = self.occupied[level].trailing_zeros();
        let shift = SLOT_BITS * level_number(level);
        let above = self.elapsed >> (shift + SLOT_BITS) << SLOT_BITS;
        Some((level, slot as usize, (above | u64::from(slot)) << shift))
    }

    /// Moves a slot's timers to where they belong now that it has begun.
    fn open(&mut self, level: usize, slot: usize) {
        let list = level * SLOTS + slot;
        let mut index = std::mem::replace(&mut self.heads[list], NONE);
        self.occupied[level] &= !(1 << slot);
        while index != NONE {
            let next = self.entries[index as usize].next;
            self.link(index);
            index = next;
        }
    }

    fn link(&mut self, index: u32) {
        let tick = self.entries[index as usize].tick;
        let list = if tick <= self.elapsed {
            EXPIRED
        } else {
            let level = (tick ^ self.elapsed).ilog2() / SLOT_BITS;
            let slot = (tick >> (level * SLOT_BITS)) & (SLOTS as u64 - 1);
            self.occupied[level as usize] |= 1 << slot;
            level * SLOTS as u32 + u32::try_from(slot).expect("six bits")
        };
        let first = std::mem::replace(&mut self.heads[list as usize], index);
        if first != NONE {
            self.entries[first as usize].prev = index;
        }
        let entry = &mut self.entries[index as usize];
        entry.prev = HEAD | list;
        entry.next = first;
    }

    fn unlink(&mut self, index: u32) {
        let Entry { prev, next, .. } = self.entries[index as usize];
        if next != NONE {
            self.entries[next as usize].prev = prev;
        }
        if prev & HEAD == 0 {
            self.entries[prev as usize].next = next;
            return;
        }
        let list = (prev & !HEAD) as usize;
        self.heads[list] = next;
        if next == NONE && list < EXPIRED as usize {
            self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
        }
    }

    fn release(&mut self, index: u32) {
        self.entries[index as usize].next = self.free;
        self.free = index;
        self.len -= 1;
    }
}

fn level_number(level: usize) -> u32 {
    u32::try_from(level).expect("seven levels")
}

#[cfg(test)]
mod tests;
