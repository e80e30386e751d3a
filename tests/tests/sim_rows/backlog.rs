//! A result store that is slow for half an hour: what waits for it is bounded at the master, the
//! rest waits at the clients, and all of it comes down again by itself.

use crate::{LONG, command, settle};
use engine::queue::inbox::{Depth, InboxConfig};
use std::time::Duration;
use tests::sim::line::Delay;
use tests::sim::master::MasterSettings;
use tests::sim::trace::What;
use tests::sim::{World, ip};

const CLIENTS: u8 = 6;
/// Each client has a report so often.
const EVERY: Duration = Duration::from_secs(2);
const SLOW: Duration = Duration::from_secs(30 * 60);
/// Between two senders that are called back.
const SPACING: Duration = Duration::from_secs(1);
/// So much may be gathered, and be written, beyond the high watermark.
const GATHERING: usize = 8 * 1024;

fn cluster(seed: u64) -> World {
    let mut world = World::new(seed);
    let inbox = InboxConfig {
        gathering_bytes_max: GATHERING,
        bytes_high: 64 * 1024,
        bytes_low: 48 * 1024,
        read_records_max: 20,
        // As far apart as the turns of one sender are where there are thousands.
        return_spacing: SPACING,
        ..InboxConfig::default()
    };
    world.add_master(ip(0, 1), MasterSettings { inbox, ..MasterSettings::default() });
    world.publish(0, &["*"], 1000);
    world.start_master(0);
    for n in 0..CLIENTS {
        let at = world.add_client(&format!("c{n}"), ip(1, n + 1));
        world.start_client(at);
    }
    settle(&mut world);
    world
}

fn inbox(world: &World) -> Depth {
    let parts = world.see_master(0).reactor.host().host.parts();
    parts.inbox.as_ref().expect("a master has an inbox").depth()
}

/// Times that a sender was told to come back later.
fn busy(world: &World) -> u64 {
    world.see_master(0).reactor.host().host.parts().counters.busy.value()
}

/// Reports that are not in the result store yet.
fn waiting(world: &World) -> usize {
    world.written().len() - world.results.borrow().reports.len()
}

/// A while in which every client has reports.
fn report_for(world: &mut World, length: Duration, mut each: impl FnMut(&World)) {
    let until = world.now() + length;
    while world.now() < until {
        (0..usize::from(CLIENTS)).for_each(|at| world.act(at, Duration::ZERO));
        world.run(EVERY);
        each(world);
    }
}

/// From a report to its ack.
fn latency(world: &mut World) -> Duration {
    let since = world.now();
    world.act(0, Duration::ZERO);
    world.until("it is written", LONG, |w| w.unacked(0) > 0);
    world.until("it is acked", LONG, |w| w.unacked(0) == 0);
    world.now().since(since)
}

#[test]
fn s1_77_a_result_store_that_is_slow_for_half_an_hour_leaves_nothing_behind() {
    let mut world = cluster(77);
    let before = latency(&mut world);
    report_for(&mut world, Duration::from_secs(60), |_| {});
    assert_eq!(busy(&world), 0, "the load is carried at first");
    let base = waiting(&world);

    world.behave(|m| m.sink = Delay::fixed(Duration::from_secs(60)));
    let dials = |w: &World| w.count(ip(1, 1), |what| matches!(what, What::Dialed(_)));
    let (dialled, mut fullest) = (dials(&world), 0);
    report_for(&mut world, SLOW, |w| fullest = fullest.max(inbox(w).bytes));
    // Bounded here: the watermark, and what was under way when it was reached.
    let bound = 64 * 1024 + 2 * GATHERING as u64 + 1024;
    assert!((64 * 1024..=bound).contains(&fullest), "{fullest} bytes");
    let spooled: u64 = (0..usize::from(CLIENTS)).map(|at| world.unacked(at)).sum();
    assert!(spooled > 4000, "{spooled} reports wait at the clients");
    // Who is told to come back later does so, and not sooner, however many reports it has.
    assert!(busy(&world) > 0, "nobody was told to wait");
    let dialled = dials(&world) - dialled;
    let turns = usize::try_from(SLOW.as_secs()).expect("few") / usize::from(CLIENTS);
    println!("{fullest} bytes, {spooled} spooled, {} busy, {dialled} dials", busy(&world));
    assert!(dialled < turns + turns / 2, "{dialled} dials in {turns} turns");
    let status = command(&mut world, "status", "{}");
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("the inbox is full up to inbox_bytes_high"), "{warnings}");

    // The result store takes 20 a second again, and the load goes on as before.
    world.behave(|m| m.sink = Delay::fixed(Duration::from_secs(1)));
    let mut last = waiting(&world);
    let mut rounds = 0;
    while last > base + usize::from(CLIENTS) {
        report_for(&mut world, Duration::from_secs(20), |_| {});
        let now = waiting(&world);
        assert!(now < last, "{now} wait, and {last} did before");
        (last, rounds) = (now, rounds + 1);
    }
    println!("drained in {rounds} rounds");
    assert!((10..30).contains(&rounds), "{rounds} rounds for {spooled} reports at 17 a second");
    world.behave(|m| m.sink = Delay::micros(500, 20_000));
    world.until("drained", LONG, |w| w.is_drained());
    world.assert_exactly_once();
    assert!(world.results.borrow().in_order());
    let told = busy(&world);
    report_for(&mut world, Duration::from_secs(60), |_| {});
    assert_eq!(busy(&world), told, "nobody is told to wait any more");
    world.until("drained", LONG, |w| w.is_drained());
    world.run(Duration::from_secs(5));
    assert_eq!((inbox(&world).records, inbox(&world).bytes), (0, 0), "the log is empty");
    let after = latency(&mut world);
    assert!(after < 10 * before, "{after:?} to an ack, and {before:?} at first");
}
