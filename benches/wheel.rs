//! What does a timer cost?
//!
//! `cargo bench -p benches --bench wheel`
//!
//! One thread, nothing else: a timer is added and cancelled while others wait, and time passes in
//! which none is due. As a baseline the same with an ordered map of the standard library.

use benches::figures::Figures;
use benches::side::{Goal, judge};
use engine::time::Instant;
use engine::wheel::{TICK, Wheel};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant as Watch};

/// Timers that wait.
const ARMED: u64 = 1_000_000;
/// They are due within this after the hour that is looked at.
const SPREAD: Duration = Duration::from_secs(3600);
/// Pairs of one round.
const PAIRS: u64 = 1_000_000;
/// Ticks of one round.
const TICKS: u64 = 10_000;
/// Rounds of each, in turn.
const ROUNDS: usize = 9;

fn due(rng: &mut fastrand::Rng, after: Instant) -> Instant {
    after + SPREAD + Duration::from_nanos(rng.u64(..SPREAD.as_nanos() as u64))
}

fn ns_each(times: u64, act: impl FnOnce()) -> f64 {
    let begun = Watch::now();
    act();
    begun.elapsed().as_nanos() as f64 / times as f64
}

fn main() {
    let mut rng = fastrand::Rng::with_seed(1);
    let start = Instant(1_000_000_000);
    let mut wheel = Wheel::new(start);
    let mut map = BTreeMap::new();
    for key in 0..ARMED {
        let at = due(&mut rng, start);
        wheel.insert(at, key);
        map.insert((at, key), ());
    }
    let deadlines: Vec<Instant> = (0..PAIRS).map(|_| due(&mut rng, start)).collect();
    let [mut pairs, mut map_pairs, mut ticks] = [const { Vec::new() }; 3];
    let mut now = start;
    for _ in 0..ROUNDS {
        pairs.push(ns_each(PAIRS, || {
            for (key, at) in (ARMED..).zip(&deadlines) {
                let timer = black_box(wheel.insert(*at, key));
                wheel.cancel(timer);
            }
        }));
        map_pairs.push(ns_each(PAIRS, || {
            for (key, at) in (ARMED..).zip(&deadlines) {
                map.insert(black_box((*at, key)), ());
                map.remove(&(*at, key));
            }
        }));
        ticks.push(ns_each(TICKS, || {
            for _ in 0..TICKS {
                now = now + TICK;
                black_box(wheel.next_expiry());
                assert!(wheel.pop_expired(now).is_none(), "none is due within the first hour");
            }
        }));
    }
    assert_eq!(wheel.len() as u64, ARMED);
    println!("{ARMED} timers wait; {ROUNDS} rounds, nanoseconds");
    let figures = |all: Vec<f64>| all.into_iter().collect::<Figures>();
    println!("  ordered map, insert and remove: {:.0}", figures(map_pairs));
    let pair = judge("insert and cancel", &figures(pairs), Goal::AtMost(40.0));
    let tick = judge("a tick in which none is due", &figures(ticks), Goal::AtMost(1000.0));
    println!("{}", if pair && tick { "all goals are met" } else { "a goal is missed" });
}
