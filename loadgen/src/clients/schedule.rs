//! When each client starts what: an open-loop schedule, fixed by a seed before the run begins.
//! It never waits for an answer, so a master that stalls cannot make the load wait with it.

use super::work::Pace;
use engine::time::Instant;
use engine::wheel::TICK;
use std::num::NonZeroU32;
use std::time::Duration;

/// The place of every client in a window: in an order that the seed shuffles, so neighbours in
/// the inventory do not start next to one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spread {
    places: Vec<u32>,
    /// Clients with a lower place take part.
    active: u32,
}

impl Spread {
    /// Shuffles the clients; `active` of them take part.
    ///
    /// # Panics
    /// Never: there are fewer clients than numbers.
    #[must_use]
    pub fn new(clients: u32, active: Option<u32>, seed: u64) -> Self {
        let mut places: Vec<u32> = (0..clients).collect();
        fastrand::Rng::with_seed(seed).shuffle(&mut places);
        Self { places, active: active.unwrap_or(clients).min(clients) }
    }

    /// Whether a client takes part.
    #[must_use]
    pub fn takes_part(&self, client: u32) -> bool {
        self.places[client as usize] < self.active
    }

    /// When a client's turn comes in the window that begins at `start`; all turns are equally
    /// far apart.
    #[must_use]
    pub fn turn(&self, client: u32, start: Instant, window: Duration) -> Instant {
        let clients = u128::from(self.active.max(1));
        let offset = window.as_nanos() * u128::from(self.places[client as usize]) / clients;
        start + Duration::from_nanos(u64::try_from(offset).unwrap_or(u64::MAX))
    }
}

/// The slots of one client: none, one, or one every interval. Its pace and its end are those of
/// all clients, and are kept once for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slots {
    /// [`NEVER`] if there is none: a client has two of these, and a run tens of thousands of clients.
    next: Instant,
}

/// Behind the end of every run.
const NEVER: Instant = Instant(u64::MAX);

impl Default for Slots {
    fn default() -> Self {
        Self { next: NEVER }
    }
}

impl Slots {
    /// The first slot is this one.
    #[must_use]
    pub fn from(first: Instant) -> Self {
        Self { next: first }
    }

    /// The next slot, if it lies before the end.
    #[must_use]
    pub fn peek(&self, until: Instant) -> Option<Instant> {
        (self.next < until).then(|| on_tick(self.next))
    }

    /// Takes the next slot if its time has come, however long ago that was.
    pub fn take_due(&mut self, now: Instant, pace: &Pace, until: Instant) -> Option<Instant> {
        let slot = self.peek(until).filter(|slot| *slot <= now)?;
        self.advance(pace);
        Some(slot)
    }

    /// Leaves out all slots before this time.
    pub fn skip(&mut self, before: Instant, pace: &Pace) {
        while on_tick(self.next) < before {
            self.advance(pace);
        }
    }

    fn advance(&mut self, pace: &Pace) {
        let slot = self.next;
        // A slot is its own seed: no generator of random numbers is kept for it. No two clients of
        // a window share one.
        let drawn = || -(1.0 - fastrand::Rng::with_seed(slot.0).f64()).ln();
        self.next = pace.interval.map_or(NEVER, |interval| {
            slot + if pace.random { interval.mul_f64(drawn()) } else { interval }
        });
    }
}

const TICK_NS: u64 = TICK.as_nanos() as u64;

/// Slots lie on the ticks of the timer wheel: a timer fires at its tick, and what it would
/// otherwise be late by its own rounding would be counted as the master's latency.
fn on_tick(at: Instant) -> Instant {
    Instant(at.0.div_ceil(TICK_NS).saturating_mul(TICK_NS))
}

/// A tick of the timer wheel, but its first, in four bytes, which hold two years.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tick(NonZeroU32);

impl Tick {
    /// The first at or after this time.
    pub(super) fn from(at: Instant) -> Self {
        let number = u32::try_from(at.0.div_ceil(TICK_NS)).unwrap_or(u32::MAX);
        Self(NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN))
    }

    /// Its time.
    pub(super) fn at(self) -> Instant {
        Instant(u64::from(self.0.get()) * TICK_NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const INTERVAL: Duration = Duration::from_secs(60);
    const START: Instant = Instant(0);
    const END: Instant = Instant(600_000_000_000);

    fn firsts(seed: u64) -> Vec<Instant> {
        let spread = Spread::new(1000, None, seed);
        let first = |i| Slots::from(spread.turn(i, START, INTERVAL)).peek(END).unwrap();
        (0..1000).map(first).collect()
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
        assert!(firsts[999] < START + INTERVAL);
    }

    #[test]
    fn a_late_generator_makes_up_for_every_slot() {
        let pace = Pace::every(INTERVAL);
        let mut slots = Slots::from(START);
        let now = START + INTERVAL * 3;
        let mut taken = Vec::new();
        while let Some(slot) = slots.take_due(now, &pace, END) {
            taken.push(slot.since(START).as_secs());
        }
        assert_eq!(taken, [0, 60, 120, 180]);
        assert_eq!(slots.peek(END), Some(START + INTERVAL * 4));
        let left = std::iter::from_fn(|| slots.take_due(END, &pace, END)).count();
        assert_eq!(left, 6, "the end itself is no slot");
    }

    #[test]
    fn a_part_of_the_clients_has_all_of_the_window() {
        let spread = Spread::new(1000, Some(10), 7);
        let active = (0..1000).filter(|i| spread.takes_part(*i));
        let mut firsts: Vec<_> = active.map(|i| spread.turn(i, START, INTERVAL)).collect();
        firsts.sort();
        assert_eq!(firsts.len(), 10);
        assert!(firsts.windows(2).all(|pair| pair[1].since(pair[0]) >= INTERVAL / 10 - TICK));
    }

    #[test]
    fn what_is_due_once_has_one_slot() {
        let start = Instant(16_000_000);
        let mut slots = Slots::from(start);
        assert_eq!(slots.take_due(start, &Pace::once(Duration::ZERO), END), Some(start));
        assert_eq!(slots.peek(END), None);
    }

    #[test]
    fn slots_that_are_left_out_do_not_move_the_others() {
        let pace = Pace::every(INTERVAL);
        let mut slots = Slots::from(START);
        slots.skip(START + Duration::from_secs(90), &pace);
        assert_eq!(slots.peek(END), Some(START + INTERVAL * 2));
    }

    /// Of a Poisson process the intervals' standard deviation is their mean.
    #[test]
    fn random_slots_are_a_poisson_process() {
        let pace = Pace { random: true, ..Pace::every(Duration::from_secs(10)) };
        let until = Instant(u64::MAX);
        let mut slots = Slots::from(Instant(12_345));
        let times: Vec<f64> = (0..20_001)
            .map(|_| slots.take_due(until, &pace, until).unwrap().since(START).as_secs_f64())
            .collect();
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / 20_000.0;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!((mean - 10.0).abs() < 0.3, "{mean}");
        assert!((variance.sqrt() - 10.0).abs() < 0.5, "{}", variance.sqrt());
    }
}
