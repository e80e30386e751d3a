//! Random faults on simulated clusters: a few seeds of those that `soak` plays by the thousand.

use tests::sim::soak::{Plan, Size};

fn play(size: Size, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        if let Err(failure) = Plan::new(size, seed).play() {
            panic!("{size:?}, seed {seed}: {}", failure.what);
        }
    }
}

/// The same plan played twice, and what is to be compared of both.
fn assert_replays(size: Size, seed: u64, events_min: u64) -> String {
    let plan = Plan { traced: true, ..Plan::new(size, seed) };
    let [first, second] = [plan.play(), plan.play()].map(|played| played.expect("all holds"));
    assert!(first.events > events_min, "hardly anything happened: {} events", first.events);
    assert_eq!(first.trace.lines().count() as u64, first.events, "an event is not in the trace");
    // Not by assert_eq!, which would print both.
    if let Some((at, (a, b))) =
        first.trace.lines().zip(second.trace.lines()).enumerate().find(|(_, (a, b))| a != b)
    {
        panic!("{size:?}, seed {seed}: line {at} was {a:?}, and then {b:?}");
    }
    assert!(first.trace == second.trace, "one is longer");
    assert_eq!(first.hash, second.hash);
    first.trace
}

#[test]
fn small_clusters_hold_under_faults() {
    play(Size::Small, 1_000_000..1_000_100);
}

#[test]
fn a_large_cluster_holds_under_faults() {
    play(Size::Large, 1_000_000..1_000_002);
}

#[test]
fn a_small_cluster_replays_byte_for_byte() {
    let traces: Vec<String> = (0..8).map(|seed| assert_replays(Size::Small, seed, 500)).collect();
    assert_ne!(traces[0], traces[1], "all seeds are the same");
}

#[test]
fn a_large_cluster_replays_byte_for_byte() {
    assert_replays(Size::Large, 1, 20_000);
}
