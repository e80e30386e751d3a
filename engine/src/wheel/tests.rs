use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn ms(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

fn drain(wheel: &mut Wheel<u64>, now: Instant) -> Vec<u64> {
    let mut keys: Vec<u64> = std::iter::from_fn(|| wheel.pop_expired(now)).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn a_timer_takes_24_bytes() {
    assert_eq!(size_of::<Entry<u64>>(), 24);
    assert_eq!(size_of::<Option<TimerId>>(), 4);
}

#[test]
fn s1_39_a_timer_fires_within_one_tick_after_its_deadline() {
    for deadline in [1, 15, 16, 17, 1000, 1023, 1024, 65_536, 86_400_000] {
        let mut wheel = Wheel::new(Instant(0));
        wheel.insert(ms(deadline), 7);
        assert_eq!(wheel.pop_expired(Instant(ms(deadline).0 - 1)), None, "{deadline} early");
        assert_eq!(wheel.pop_expired(ms(deadline) + TICK), Some(7), "{deadline} late");
        assert!(wheel.is_empty());
    }
}

#[test]
fn deadlines_at_the_end_of_time_are_kept() {
    let mut wheel = Wheel::new(Instant(0));
    let timer = wheel.insert(Instant(u64::MAX), 1);
    assert_eq!(wheel.pop_expired(Instant(u64::MAX - TICK_NS)), None);
    assert!(wheel.next_expiry().is_some());
    wheel.cancel(timer);
    assert_eq!(wheel.next_expiry(), None);
}

#[test]
fn e9_a_tick_costs_what_expires_in_it() {
    // 50,000 timers far ahead: passing a second touches none of them.
    let mut wheel = Wheel::new(Instant(0));
    for key in 0..50_000 {
        wheel.insert(ms(60_000 + key % 1000), key);
    }
    let before: Vec<u32> = wheel.entries.iter().map(|e| e.prev).collect();
    for tick in 0..60 {
        assert_eq!(wheel.pop_expired(ms(tick * 16)), None);
        let same = wheel.entries.iter().map(|e| e.prev).eq(before.iter().copied());
        assert!(same, "a timer moved though none was due");
    }
    assert_eq!(drain(&mut wheel, ms(62_000)).len(), 50_000);
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u64),
    Cancel(usize),
    Advance(u64),
    PopOne,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let span = prop_oneof![0..200u64, 0..5_000u64, 0..100_000_000u64, Just(1u64 << 38)];
    prop::collection::vec(
        prop_oneof![
            5 => span.clone().prop_map(Step::Insert),
            2 => any::<usize>().prop_map(Step::Cancel),
            2 => span.prop_map(Step::Advance),
            1 => Just(Step::PopOne),
        ],
        1..200,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// The wheel does what an ordered map does, at every step.
    #[test]
    fn s1_39_the_wheel_agrees_with_an_ordered_map(steps in steps(), start in 0..1u64 << 40) {
        let mut now = ms(start);
        let mut wheel = Wheel::new(now);
        let mut model: BTreeMap<(u64, u64), TimerId> = BTreeMap::new();
        for (key, step) in (0u64..).zip(steps) {
            match step {
                Step::Insert(after) => {
                    let deadline = Instant(now.0 + after * 1_000_000);
                    model.insert((tick_up(deadline), key), wheel.insert(deadline, key));
                }
                Step::Cancel(nth) if !model.is_empty() => {
                    let at = *model.keys().nth(nth % model.len()).unwrap();
                    wheel.cancel(model.remove(&at).unwrap());
                }
                Step::Advance(by) => {
                    now = Instant(now.0 + by * 1_000_000);
                    let later = model.split_off(&(now.0 / TICK_NS + 1, 0));
                    let mut due: Vec<u64> = model.keys().map(|(_, key)| *key).collect();
                    due.sort_unstable();
                    model = later;
                    prop_assert_eq!(drain(&mut wheel, now), due);
                }
                Step::PopOne => {
                    let due = model.first_key_value().is_some_and(|((t, _), _)| *t <= now.0 / TICK_NS);
                    let popped = wheel.pop_expired(now);
                    prop_assert_eq!(popped.is_some(), due);
                    model.retain(|(_, key), _| Some(*key) != popped);
                }
                Step::Cancel(_) => {}
            }
            prop_assert_eq!(wheel.len(), model.len());
            let first = model.first_key_value().map(|((tick, _), _)| *tick);
            match (wheel.next_expiry(), first) {
                (None, None) => {}
                // Never later than the first deadline, and exact where that is near.
                (Some(next), Some(first)) => {
                    prop_assert!(next <= instant(first).max(instant(wheel.elapsed)));
                    if first >> SLOT_BITS == wheel.elapsed >> SLOT_BITS && first > wheel.elapsed {
                        prop_assert_eq!(next, instant(first));
                    }
                }
                other => prop_assert!(false, "one of them is empty: {other:?}"),
            }
        }
    }
}
