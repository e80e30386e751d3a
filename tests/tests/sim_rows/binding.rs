//! Which parent a client delivers to, and for how long.

use crate::{LONG, settled};
use engine::ids::Epoch;
use engine::node::io::{Output, Request};
use engine::node::{Binding, MasterAddr, Outputs, Uplink};
use engine::queue::inbox::InboxConfig;
use engine::queue::outbox::{Outbox, OutboxConfig};
use engine::queue::store::StoreState;
use engine::time::{Instant, Now, WallMs};
use engine::wire::message::{StatusReq, StatusResp};
use engine::wire::{FrameBuf, Kind, access};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tests::sim::line::Delay;
use tests::sim::master::MasterSettings;
use tests::sim::trace::{Event, What};
use tests::sim::{PORT, World, host, ip};

/// Chi-square of these counts against an even spread.
fn chi_square(counts: &[usize]) -> f64 {
    let even = counts.iter().sum::<usize>() as f64 / counts.len() as f64;
    counts.iter().map(|n| (*n as f64 - even).powi(2) / even).sum()
}

/// Three degrees of freedom: an even spread is beyond this once in a thousand times.
const CHI_SQUARE_MAX: f64 = 16.27;

#[test]
fn s1_47_four_thousand_clients_spread_evenly_over_four_addresses() {
    let now = Now { at: Instant(1), wall: WallMs(1) };
    let config = Arc::new(OutboxConfig::default());
    let addresses: Vec<SocketAddr> = (1..=4).map(|n| SocketAddr::new(ip(0, n), 0)).collect();
    let mut counts = BTreeMap::<SocketAddr, usize>::new();
    for n in 0..4000 {
        // Each is a machine of its own, with its own chances.
        let mut rng = fastrand::Rng::with_seed(n);
        let state = StoreState::default();
        let outbox = Outbox::restore(host("c"), &state, Arc::clone(&config), Epoch(n));
        let masters = vec![MasterAddr::Name(host("masters"), PORT)];
        let mut uplink = Uplink::new(masters, None, "1", outbox);
        let (mut out, mut dial) = (Outputs::<()>::default(), 1);
        uplink.advance(&mut dial, &mut rng, now, &mut out);
        assert!(matches!(out.pop(), Some(Output::Request(Request::Resolve { .. }))));
        uplink.handle_resolved(&host("masters"), Ok(&addresses), &mut rng, now);
        let parent = uplink.binding().parent().expect("it asks one of them");
        assert_eq!(parent.port(), PORT, "the name service knows no ports");
        *counts.entry(parent).or_default() += 1;
    }
    let counts: Vec<usize> = counts.into_values().collect();
    assert_eq!(counts.len(), 4);
    assert!(chi_square(&counts) < CHI_SQUARE_MAX, "{counts:?}");
}

/// The parent that each client is bound to.
fn parents(world: &mut World) -> Vec<Option<IpAddr>> {
    let clients = 0..world.clients.len();
    let parent = |at| match world.see_client(at).binding() {
        Binding::Bound { parent } => Some(parent.ip()),
        _ => None,
    };
    clients.map(parent).collect()
}

fn bound_among(world: &mut World, allowed: &[IpAddr]) -> bool {
    parents(world).iter().all(|parent| parent.is_some_and(|ip| allowed.contains(&ip)))
}

#[test]
fn s1_47_a_dead_address_is_skipped_and_the_name_is_resolved_again() {
    const CLIENTS: u8 = 80;
    let mut world = World::new(31);
    let add = |world: &mut World, n| {
        let at = world.add_master(ip(0, n), MasterSettings::default());
        world.publish(at, &["*"], 100);
        world.start_master(at);
    };
    (1..=4).for_each(|n| add(&mut world, n));
    // A fifth address of the name leads to a machine on which nobody listens.
    let dead = SocketAddr::new(ip(0, 9), PORT);
    world.site.names.borrow_mut().entry(host("masters")).or_default().push(dead);
    for n in 0..CLIENTS {
        let at = world.add_client(&format!("c{n}"), ip(1, n + 1));
        world.start_client(at);
    }
    let alive: Vec<IpAddr> = (1..=4).map(|n| ip(0, n)).collect();
    world.until("all are bound", Duration::from_secs(60), |w| bound_among(w, &alive));
    let dials = |world: &World, client| -> Vec<SocketAddr> {
        let events = world.events(client);
        let addr = |e: &Event| if let What::Dial(addr) = e.what { Some(addr) } else { None };
        events.iter().filter_map(addr).collect()
    };
    let tried: Vec<_> = (0..CLIENTS).map(|n| dials(&world, ip(1, n + 1))).collect();
    let dead_ones = tried.iter().flatten().filter(|addr| **addr == dead).count();
    assert!(dead_ones > 0, "nobody picked the dead one: it proves nothing");
    let twice = |dials: &Vec<SocketAddr>| dials.windows(2).any(|w| w == [dead, dead]);
    assert!(!tried.iter().any(twice), "it is not tried again while there are others");
    let counts: Vec<usize> = {
        let parents = parents(&mut world);
        alive.iter().map(|ip| parents.iter().filter(|p| **p == Some(*ip)).count()).collect()
    };
    assert!(chi_square(&counts) < CHI_SQUARE_MAX, "{counts:?}");
    // Those of a master that dies go to the others.
    world.kill_master(0);
    world.until("rebound", LONG, |w| bound_among(w, &alive[1..]));
    // The name leads elsewhere from now on, and the old machines go: nobody is restarted.
    add(&mut world, 5);
    world.site.names.borrow_mut().insert(host("masters"), vec![SocketAddr::new(ip(0, 5), 0)]);
    (1..4).for_each(|at| world.kill_master(at));
    world.until("resolved again", LONG, |w| bound_among(w, &[ip(0, 5)]));
    world.until("delivered", LONG, |w| (0..CLIENTS.into()).all(|at| w.unacked(at) == 0));
}

/// What a client answers to `StatusReq`: its `bound`.
fn bound_of(world: &mut World, at: usize) -> String {
    let tool = world.dial(ip(0, 200), world.clients[at].addr);
    world.tools[tool].send(&FrameBuf::message(None, &StatusReq { detail: 0 }, |_| {}));
    world.until("its status", Duration::from_secs(5), |w| w.tools[tool].frames().count() == 1);
    let frame = world.tools[tool].frames().next().expect("it was awaited");
    access::<StatusResp>(&frame).expect("a status").bound.as_str().to_owned()
}

#[test]
fn s1_49_the_status_of_a_client_says_whom_it_is_bound_to() {
    let mut world = settled(32, 2);
    assert_eq!(bound_of(&mut world, 0), world.masters[0].addr.to_string());
    world.kill_master(0);
    world.run(Duration::from_secs(120));
    assert_eq!(bound_of(&mut world, 0), "", "the parent is gone");
    world.start_master(0);
    world.run(Duration::from_secs(600));
    assert_eq!(bound_of(&mut world, 0), world.masters[0].addr.to_string());
}

fn times(world: &World, at: IpAddr, is: impl Fn(&What) -> bool) -> Vec<Instant> {
    let events = world.events(at);
    let is = |event: &&Event| is(&event.what);
    events.iter().filter(is).map(|event| event.at).collect()
}

fn asks(what: &What) -> bool {
    matches!(what, What::Out(_, seen) if seen.kind == Kind::BIND_REQ)
}

#[test]
fn s1_50_a_binding_holds_until_the_parent_is_gone_and_then_each_asks_once() {
    let mut world = settled(33, 10);
    for round in 1..=4 {
        world.run(Duration::from_secs(1800));
        (0..10).for_each(|at| world.act(at, Duration::from_millis(round)));
    }
    world.until("drained", LONG, |w| w.is_drained());
    for n in 1..=10 {
        assert_eq!(times(&world, ip(1, n), asks).len(), 1, "two hours, and the parent lived");
    }
    // Six hours without a parent.
    world.kill_master(0);
    let (died, hours) = (world.now(), Duration::from_secs(6 * 3600));
    (0..10).for_each(|at| world.act(at, Duration::from_millis(1)));
    world.run(hours);
    for n in 1..=10 {
        let dials = times(&world, ip(1, n), |w| matches!(w, What::Dial(_)));
        let dials: Vec<_> = dials.into_iter().filter(|at| *at > died).collect();
        // The pause doubles up to 300 s, of which at least the half is waited.
        let late: Vec<_> = dials.iter().filter(|at| at.since(died) > hours / 2).collect();
        assert!(!late.is_empty(), "it has given up");
        assert!(late.windows(2).all(|w| w[1].since(*w[0]) >= Duration::from_secs(150)), "{late:?}");
        assert!(dials.len() < 180, "{} dials in six hours", dials.len());
    }
    let restarted = world.now();
    world.start_master(0);
    world.until("drained", LONG, |w| w.is_drained());
    world.run(Duration::from_secs(600));
    for n in 1..=10 {
        let asked = times(&world, ip(1, n), asks);
        let asked = asked.iter().filter(|at| **at > restarted).count();
        assert_eq!(asked, 1, "it asks once, and is bound");
    }
    world.assert_exactly_once();
}

#[test]
fn s1_50_a_bind_request_wakes_an_uplink_that_sleeps() {
    let mut world = World::new(34);
    // An inbox that is full as soon as it has anything, and a result store that takes nothing:
    // the durable lane is told to wait.
    let inbox = InboxConfig { bytes_high: 1, bytes_low: 0, ..InboxConfig::default() };
    world.add_master(ip(0, 1), MasterSettings { inbox, ..MasterSettings::default() });
    world.publish(0, &["*"], 100);
    world.start_master(0);
    world.behave(|m| m.sink = Delay::fixed(Duration::from_secs(100_000)));
    for n in 0..3 {
        let at = world.add_client(&format!("c{n}"), ip(1, n + 1));
        world.clients[at].settings.poll_interval = Duration::from_secs(24 * 3600);
        // The master cannot find it, so no answer ever comes, and it asks again.
        world.site.names.borrow_mut().remove(&world.clients[at].name.clone());
        world.start_client(at);
    }
    world.run(Duration::from_secs(5));
    (0..3).for_each(|at| world.act(at, Duration::from_millis(1)));
    world.run(Duration::from_secs(3600));
    let busy = |w: &What| matches!(w, What::Out(_, seen) if seen.kind == Kind::NACK);
    assert!(world.count(ip(0, 1), busy) > 0, "nobody was told to wait");
    assert!((0..3).any(|at| world.unacked(at) > 0), "the durable lane sleeps");
    for n in 1..=3 {
        let asked = times(&world, ip(1, n), asks);
        assert!(asked.len() >= 10, "{} times in an hour", asked.len());
        for (pair, doubled) in asked.windows(2).zip(0..) {
            let pause = pair[1].since(pair[0]);
            let whole = Duration::from_secs(10 << doubled).min(Duration::from_secs(600));
            // It waits for the answer, and then nothing keeps it from asking again.
            let (least, most) = (whole / 2, whole + Duration::from_secs(1));
            assert!(pause >= least && pause <= most, "{pause:?} of {whole:?}");
        }
    }
}

/// The master dies after it has acked the request, and before it has answered.
#[test]
fn s1_50_an_answer_that_died_with_the_master_is_asked_for_again_within_seconds() {
    let mut world = World::new(35);
    world.add_master(ip(0, 1), MasterSettings::default());
    world.publish(0, &["*"], 100);
    world.start_master(0);
    for n in 0..10 {
        let at = world.add_client(&format!("c{n}"), ip(1, n + 1));
        world.clients[at].settings.poll_interval = Duration::from_secs(24 * 3600);
        world.clients[at].settings.masters = vec![MasterAddr::Fixed(world.masters[0].addr)];
        world.start_client(at);
    }
    // So long it takes to find out where to answer.
    world.behave(|m| m.resolver = Delay::fixed(Duration::from_secs(30)));
    let idle = |w: &World, at: IpAddr| {
        w.count(at, asks) > 0
            && w.count(at, |w| matches!(w, What::Dialed(_)))
                == w.count(at, |w| matches!(w, What::Closed(..)))
    };
    let all_idle = |w: &mut World| (1..=10).all(|n| idle(w, ip(1, n)));
    world.until("all were acked", Duration::from_secs(4), all_idle);
    world.kill_master(0);
    world.behave(|m| m.resolver = Delay::fixed(Duration::from_millis(1)));
    world.start_master(0);
    let up = [world.masters[0].addr.ip()];
    world.until("bound", Duration::from_secs(12), |w| bound_among(w, &up));
    for n in 1..=10 {
        assert_eq!(times(&world, ip(1, n), asks).len(), 2, "once more, and not in a hurry");
    }
}

#[test]
fn s1_50_an_answer_that_was_only_late_counts() {
    let config = Arc::new(OutboxConfig::default());
    let outbox = Outbox::restore(host("c"), &StoreState::default(), config, Epoch(1));
    let masters = vec![MasterAddr::Fixed(SocketAddr::new(ip(0, 1), PORT))];
    let mut uplink = Uplink::new(masters, None, "1", outbox);
    let (mut rng, mut out) = (fastrand::Rng::with_seed(1), Outputs::<()>::default());
    let mut asked = |uplink: &mut Uplink, at: u64| {
        let now = Now { at: Instant(at), wall: WallMs(1) };
        uplink.advance(&mut 1, &mut rng, now, &mut out);
        match uplink.binding() {
            Binding::Asked { nonce, until, .. } => (nonce, until),
            other => panic!("{other:?}"),
        }
    };
    let (nonce, until) = asked(&mut uplink, 1);
    let (again, later) = asked(&mut uplink, until.0);
    assert!(later > until && again == nonce);
    let now = Now { at: until, wall: WallMs(1) };
    assert!(uplink.handle_bind_resp(nonce, now).is_some());
}
