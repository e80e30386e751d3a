//! Deliveries: one connection until nothing is left, then none; and no download delays them.

use crate::{LONG, settled};
use engine::delivery::{DURATION_MAX, FRAMES_MAX};
use engine::ids::ConnId;
use engine::node::io::CloseReason;
use engine::time::Instant;
use engine::wire::{Kind, Lane};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use tests::sim::line::Delay;
use tests::sim::trace::What;
use tests::sim::{World, ip};

/// One connection on which a client sent reports.
#[derive(Debug, Default)]
struct Delivery {
    frames: usize,
    reports: usize,
    began: Instant,
    closed: Option<Instant>,
    last_ack: Option<Instant>,
}

/// A client's deliveries since then, in the order of their beginnings.
fn deliveries(world: &World, client: IpAddr, since: Instant) -> Vec<Delivery> {
    let mut all = BTreeMap::<ConnId, Delivery>::new();
    let mut order = Vec::new();
    for event in world.events(client).iter().filter(|event| event.at >= since) {
        match event.what {
            What::Dialed(conn) => {
                all.insert(conn, Delivery { began: event.at, ..Delivery::default() });
                order.push(conn);
            }
            What::Out(conn, seen) => {
                if let Some(delivery) = all.get_mut(&conn) {
                    assert!(delivery.closed.is_none(), "it sent after its end");
                    delivery.frames += 1;
                    delivery.reports += usize::from(seen.kind == Kind::REPORT);
                }
            }
            What::In(conn, seen) if seen.kind == Kind::ACK && seen.lane == Lane::Durable => {
                all.entry(conn).and_modify(|d| d.last_ack = Some(event.at));
            }
            What::Close(conn) => {
                all.entry(conn).and_modify(|d| d.closed = Some(event.at));
            }
            _ => {}
        }
    }
    let all = order.into_iter().filter_map(|conn| all.remove(&conn));
    all.filter(|delivery| delivery.reports > 0).collect()
}

#[test]
fn s1_54_a_hundred_queued_messages_take_one_connection_which_then_ends() {
    let mut world = settled(41, 1);
    world.site.net.cut(ip(0, 1), ip(1, 1));
    for _ in 0..100 {
        world.act(0, Duration::from_millis(1));
    }
    world.run(Duration::from_secs(3));
    assert_eq!(world.unacked(0), 100);
    let healed = world.now();
    world.site.net.heal(ip(0, 1), ip(1, 1));
    world.until("drained", LONG, |w| w.is_drained());
    world.run(Duration::from_secs(5));
    let deliveries = deliveries(&world, ip(1, 1), healed);
    let [delivery] = &deliveries[..] else { panic!("{deliveries:#?}") };
    assert_eq!(delivery.reports, 100);
    // It ends when the last ack has come, not before it and not later.
    assert!(delivery.last_ack.is_some() && delivery.closed == delivery.last_ack, "{delivery:?}");
    let ended =
        |w: &What| matches!(w, What::Closed(_, reason) if *reason != CloseReason::PeerClosed);
    let master = world.events(ip(0, 1));
    let others: Vec<_> =
        master.iter().filter(|e| e.at > healed && ended(&e.what)).map(|e| e.what).collect();
    assert!(others.is_empty(), "each connection ended with its FIN: {others:?}");
    assert_eq!(world.results.borrow().reports.len(), 101);
}

#[test]
fn s1_54_a_queue_that_never_empties_is_cut_after_so_many_frames() {
    let mut world = settled(42, 1);
    world.kill_master(0);
    world.run(Duration::from_secs(1));
    for _ in 0..FRAMES_MAX + 500 {
        world.act(0, Duration::ZERO);
    }
    world.run(Duration::from_secs(10));
    let since = world.now();
    world.start_master(0);
    world.until("drained", LONG, |w| w.is_drained());
    let deliveries = deliveries(&world, ip(1, 1), since);
    assert_eq!(deliveries.len(), 2, "{deliveries:#?}");
    assert_eq!(deliveries[0].frames, FRAMES_MAX as usize);
    world.assert_exactly_once();
}

#[test]
fn s1_54_a_queue_that_never_empties_is_cut_after_so_much_time() {
    let mut world = settled(43, 1);
    // There is always a report whose commit is not done.
    world.behave(|m| m.store = Delay::fixed(Duration::from_millis(20)));
    let since = world.now();
    for _ in 0..9_000 {
        world.act(0, Duration::from_millis(20));
    }
    world.run(Duration::from_secs(185));
    world.until("drained", LONG, |w| w.is_drained());
    let deliveries = deliveries(&world, ip(1, 1), since);
    let lasted = |d: &Delivery| d.closed.expect("it has ended").since(d.began);
    let longest = deliveries.iter().map(lasted).max().expect("there were some");
    assert!(longest >= DURATION_MAX, "the queue was empty after {longest:?}: it proves nothing");
    assert!(longest < DURATION_MAX + Duration::from_secs(1), "{longest:?}");
    world.assert_exactly_once();
}

#[test]
fn s1_55_no_connection_of_an_idle_client_stays_at_the_master() {
    const CLIENTS: u8 = 60;
    let mut world = settled(44, CLIENTS);
    // Somebody who connects and says nothing.
    let silent = world.dial(ip(3, 3), world.masters[0].addr);
    world.run(Duration::from_secs(5));
    assert!(!world.tools[silent].has_ended());
    let (mut samples, mut sum, mut none) = (0, 0, 0);
    world.run(Duration::from_secs(70));
    assert!(world.tools[silent].has_ended(), "what is idle is cut");
    // Ten minutes in which each polls ten times, looked at ten times a second.
    for _ in 0..6000 {
        world.run(Duration::from_millis(100));
        let connections = world.see_master(0).reactor.connections();
        (samples, sum, none) = (samples + 1, sum + connections, none + u32::from(connections == 0));
    }
    let average = f64::from(u32::try_from(sum).expect("few")) / f64::from(samples);
    assert!(average < 0.01 * f64::from(CLIENTS), "{average} connections of {CLIENTS} clients");
    assert!(none > samples * 8 / 10, "{none} of {samples} times there was none");
}

/// The longest time from a report's first way out to its ack.
fn slowest_ack(world: &World, client: IpAddr, since: Instant) -> Duration {
    let mut sent = BTreeMap::<u64, Instant>::new();
    let mut slowest = Duration::ZERO;
    for event in world.events(client).iter().filter(|event| event.at >= since) {
        match event.what {
            What::Out(_, seen) if seen.kind == Kind::REPORT => {
                sent.entry(seen.seq).or_insert(event.at);
            }
            What::In(_, seen) if seen.kind == Kind::ACK && seen.lane == Lane::Durable => {
                let later = sent.split_off(&(seen.seq + 1));
                let acked = std::mem::replace(&mut sent, later);
                slowest = acked.values().map(|at| event.at.since(*at)).fold(slowest, Duration::max);
            }
            _ => {}
        }
    }
    assert!(sent.is_empty(), "never acked: {sent:?}");
    slowest
}

#[test]
fn s1_3_reports_are_acked_as_soon_during_a_download_as_without_one() {
    let mut world = settled(45, 4);
    world.behave(|m| m.store = Delay::fixed(Duration::from_millis(2)));
    let report = |world: &mut World| {
        let since = world.now();
        for _ in 0..40 {
            (0..4).for_each(|at| world.act(at, Duration::ZERO));
            world.run(Duration::from_millis(10));
        }
        world.until("drained", LONG, |w| w.is_drained());
        (1..=4).map(|n| slowest_ack(world, ip(1, n), since)).max().unwrap_or_default()
    };
    let alone = report(&mut world);
    // All four fetch 16 MiB from the same loop that takes their reports.
    world.publish(0, &["*"], 16 << 20);
    let chunks =
        |w: &World| w.count(ip(0, 1), |w| matches!(w, What::Out(_, s) if s.kind == Kind::CHUNK));
    world.until("the download goes on", LONG, |w| chunks(w) > 20);
    let before = chunks(&world);
    let beside = report(&mut world);
    let served = chunks(&world) - before;
    assert!(served > 40 && !world.is_current(), "{served} chunks meanwhile: it proves nothing");
    // A commit, its ack, and ways of at most 2 ms: no chunk stands before them.
    assert!(alone < Duration::from_millis(15), "{alone:?} alone");
    assert!(
        beside < alone + Duration::from_millis(5),
        "{beside:?} beside a download, {alone:?} alone"
    );
    world.until("current", LONG, World::is_current);
}
