//! When each client starts what: an open-loop schedule, fixed by a seed before the run begins.
//! It never waits for an answer, so a master that stalls cannot make the load wait with it.

use engine::time::Instant;
use engine::wheel::TICK;
use std::time::Duration;

/// The first start of every client, spread evenly over a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spread {
    /// Place of each client in the window.
    places: Vec<u32>,
    /// Clients with a lower place take part.
    active: u32,
    window: Duration,
}

impl Spread {
    /// Spreads clients over a window in an order that the seed shuffles: neighbours in the
    /// inventory do not start next to one another.
    ///
    /// # Panics
    /// Never: there are fewer clients than numbers.
    #[must_use]
    pub fn new(clients: u32, active: Option<u32>, window: Duration, seed: u64) -> Self {
        let mut places: Vec<u32> = (0..clients).collect();
        fastrand::Rng::with_seed(seed).shuffle(&mut places);
        Self { places, active: active.unwrap_or(clients).min(clients), window }
    }

    /// A client's slots: the first in the window that begins at `start`, the others an
    /// interval apart, none at or after `until`.
    #[must_use]
    pub fn slots(
        &self,
        client: u32,
        start: Instant,
        interval: Option<Duration>,
        until: Instant,
    ) -> Slots {
        if self.places[client as usize] >= self.active {
            return Slots::default();
        }
        let clients = u128::from(self.active.max(1));
        let place = u128::from(self.places[client as usize]);
        let offset = self.window.as_nanos() * place / clients;
        let offset = Duration::from_nanos(u64::try_from(offset).unwrap_or(u64::MAX));
        Slots { first: start + offset, interval, until, next: 0 }
    }
}

/// The slots of one client: none, one, or one every interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slots {
    first: Instant,
    interval: Option<Duration>,
    until: Instant,
    next: u32,
}

impl Slots {
    /// The next slot; `None` after the last one.
    #[must_use]
    pub fn peek(&self) -> Option<Instant> {
        let later = match self.interval {
            _ if self.next == 0 => Duration::ZERO,
            Some(interval) => interval.saturating_mul(self.next),
            None => return None,
        };
        Some(self.first + later).filter(|slot| *slot < self.until).map(on_tick)
    }

    /// Takes the next slot if its time has come, however long ago that was.
    pub fn take_due(&mut self, now: Instant) -> Option<Instant> {
        let slot = self.peek().filter(|slot| *slot <= now)?;
        self.next += 1;
        Some(slot)
    }
}

/// Slots lie on the ticks of the timer wheel: a timer fires at its tick, and what it would
/// otherwise be late by its own rounding would be counted as the master's latency.
fn on_tick(at: Instant) -> Instant {
    let tick = u64::try_from(TICK.as_nanos()).unwrap_or(u64::MAX);
    Instant(at.0.div_ceil(tick).saturating_mul(tick))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const INTERVAL: Duration = Duration::from_secs(60);
    const END: Instant = Instant(600_000_000_000);

    fn firsts(seed: u64) -> Vec<Instant> {
        let spread = Spread::new(1000, None, INTERVAL, seed);
        (0..1000).map(|i| spread.slots(i, Instant(0), None, END).peek().unwrap()).collect()
    }

    #[test]
    fn slots_follow_from_the_seed() {
        assert_eq!(firsts(7), firsts(7));
        assert_ne!(firsts(7), firsts(8));
    }

    #[test]
    fn slots_are_spread_evenly() {
        let mut firsts = firsts(7);
        firsts.sort();
        assert_eq!(firsts.iter().collect::<HashSet<_>>().len(), 1000, "one client each");
        let gaps = firsts.windows(2).map(|pair| pair[1].since(pair[0]));
        let even = Duration::from_millis(60);
        assert!(gaps.into_iter().all(|gap| gap >= even - TICK && gap <= even + TICK));
        assert!(firsts[999] < Instant(0) + INTERVAL);
    }

    #[test]
    fn a_late_generator_makes_up_for_every_slot() {
        let spread = Spread::new(1, None, INTERVAL, 1);
        let mut slots = spread.slots(0, Instant(0), Some(INTERVAL), END);
        let now = Instant(0) + INTERVAL * 3;
        let mut taken = Vec::new();
        while let Some(slot) = slots.take_due(now) {
            taken.push(slot.since(Instant(0)).as_secs());
        }
        assert_eq!(taken, [0, 60, 120, 180]);
        assert_eq!(slots.peek(), Some(Instant(0) + INTERVAL * 4));
        while slots.take_due(END).is_some() {}
        assert_eq!(slots.next, 10, "the end itself is no slot");
    }

    #[test]
    fn a_part_of_the_clients_has_all_of_the_window() {
        let spread = Spread::new(1000, Some(10), INTERVAL, 7);
        let firsts = (0..1000).filter_map(|i| spread.slots(i, Instant(0), None, END).peek());
        let mut firsts: Vec<_> = firsts.collect();
        firsts.sort();
        assert_eq!(firsts.len(), 10);
        assert!(firsts.windows(2).all(|pair| pair[1].since(pair[0]) >= INTERVAL / 10 - TICK));
    }

    #[test]
    fn a_storm_has_one_slot_each() {
        let spread = Spread::new(2, None, Duration::ZERO, 1);
        let mut slots = spread.slots(1, Instant(16_000_000), None, END);
        assert_eq!(slots.take_due(Instant(16_000_000)), Some(Instant(16_000_000)));
        assert_eq!(slots.peek(), None);
    }
}
