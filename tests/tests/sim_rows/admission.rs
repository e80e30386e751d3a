//! Many hosts behind one address: the master lets so many of them in at a time, the others come
//! back when they were told to, and all are served.

use crate::LONG;
use engine::appointments::WAIT_MIN;
use engine::limits::Limits;
use engine::node::io::CloseReason;
use engine::wire::Kind;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;
use tests::sim::line::Delay;
use tests::sim::master::MasterSettings;
use tests::sim::trace::{Event, What};
use tests::sim::{World, ip};

const CLIENTS: u16 = 12;

/// Addresses of one /64: one source.
fn neighbour(n: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, n + 1))
}

#[test]
fn those_behind_one_address_come_back_when_they_are_told_and_all_are_served() {
    let mut world = World::new(91);
    let limits = Limits { connections_per_source: 2, ..Limits::default() };
    let at = world.add_master(ip(0, 1), MasterSettings { limits, ..MasterSettings::default() });
    // Its files take several chunks, so that downloads hold their connections for a while.
    world.publish(at, &["*"], 900_000);
    world.start_master(at);
    for n in 0..CLIENTS {
        let client = world.add_client(&format!("c{n}"), neighbour(n));
        world.start_client(client);
    }
    let outside = world.add_client("outside", ip(1, 1));
    world.start_client(outside);
    world.until("current", LONG, World::is_current);
    // Deliveries last as long as commits do.
    world.behave(|m| m.store = Delay::fixed(Duration::from_millis(100)));
    for round in 0..5 {
        for client in 0..usize::from(CLIENTS) {
            world.act(client, Duration::from_millis(round));
        }
    }
    world.until("drained", LONG, |w| w.is_drained());
    world.assert_exactly_once();
    assert!(world.results.borrow().in_order());
    let turned_away = world.see_master(at).reactor.metrics().turned_away.value();
    assert!(turned_away > 20, "nobody was in another's way: {turned_away}");
    // Nobody knocks again before his time: only its other way, to deliver or to fetch, may.
    for n in 0..CLIENTS {
        let events = world.events(neighbour(n));
        let told = |e: &Event| matches!(e.what, What::In(_, s) if s.kind == Kind::NACK);
        for (i, event) in events.iter().enumerate().filter(|(_, e)| told(e)) {
            let soon = events[i..].iter().take_while(|e| e.at.since(event.at) < WAIT_MIN);
            let dials = soon.filter(|e| matches!(e.what, What::Dial(_))).count();
            assert!(dials <= 1, "c{n} dials {dials} times when it was asked to wait");
        }
    }
    // It is no failure of the master, and nobody is cut off.
    let gave_way = |w: &What| matches!(w, What::Closed(_, CloseReason::Crowded));
    assert_eq!(world.count(ip(0, 1), gave_way), 0, "{}", world.tell());
    assert!(world.now().0 < 300_000_000_000, "it took {:?}", world.now());
}
