//! Who is who: answers go where the name service says, on connections that the master opens.

use crate::{frames, settle, settled};
use engine::ids::{Epoch, Origin};
use engine::node::io::CloseReason;
use engine::reactor::sim::Flow;
use engine::wire::message::{BindAck, BindReq, Poll};
use engine::wire::{Body, Class, FrameBuf, Kind, RouteBuf};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;
use tests::sim::trace::What;
use tests::sim::{PORT, World, ip};

/// What is written by the master on connections that others opened, and by them on the same.
fn exchanged(world: &World) -> Vec<(Flow, Flow)> {
    let flows = world.site.net.flows();
    let master = world.masters[0].addr;
    let asked = flows.iter().filter(|flow| flow.to == master);
    let answered = |asked: &Flow| {
        flows.iter().find(|flow| flow.from == master && flow.to == asked.from).cloned()
    };
    asked.filter_map(|flow| Some((flow.clone(), answered(flow)?))).collect()
}

#[test]
fn s1_8_a_reply_takes_a_connection_that_the_master_opened() {
    let mut world = World::cluster(21, 8);
    world.site.net.record();
    settle(&mut world);
    for revision in 2..4 {
        world.publish(0, &["*"], 10_000);
        world.until("current", Duration::from_secs(90), |w| {
            w.newest().0 == revision && w.is_current()
        });
        (0..8).for_each(|at| world.act(at, Duration::from_millis(5)));
        world.until("drained", Duration::from_secs(90), |w| w.is_drained());
    }
    // On the connections of those who ask: acks of 44 bytes, nacks of 60, nothing else.
    let mut uplinks = 0;
    for (asked, answered) in exchanged(&world) {
        let classes: BTreeSet<_> =
            frames(&asked).iter().map(|(header, _)| header.kind.class() as u8).collect();
        if classes == BTreeSet::from([Class::Direct as u8]) {
            continue;
        }
        assert_eq!(classes, BTreeSet::from([Class::Uplink as u8]), "{} mixes", asked.from);
        uplinks += 1;
        for (header, size) in frames(&answered) {
            let fixed = (header.kind == Kind::ACK && size == 44)
                || (header.kind == Kind::NACK && size == 60);
            assert!(fixed, "{} of {size} bytes to {}", header.kind, answered.to);
        }
    }
    assert!(uplinks >= 3 * 8, "only {uplinks} deliveries");
    // What they asked for came to where they listen, from a port that is not the master's own.
    let master = world.masters[0].addr.ip();
    for client in &world.clients {
        let flows = world.site.net.flows();
        let to_it = flows.iter().filter(|f| f.from.ip() == master && f.to == client.addr);
        let kinds: Vec<Kind> = to_it
            .inspect(|flow| assert_ne!(flow.from.port(), PORT))
            .flat_map(frames)
            .map(|(header, _)| header.kind)
            .collect();
        assert!(kinds.contains(&Kind::BIND_RESP), "{}: {kinds:?}", client.name);
        let manifests = kinds.iter().filter(|kind| **kind == Kind::MANIFEST).count();
        assert_eq!(manifests, 3, "{}: {kinds:?}", client.name);
    }
}

fn claimed<B: Body>(name: &str, seq: u64, body: &B) -> FrameBuf {
    let origin = Origin { name: name.parse().expect("a host name"), epoch: Epoch(666), seq };
    FrameBuf::message(Some(&RouteBuf::from(origin)), body, |header| {
        (header.epoch, header.seq) = (Epoch(666), seq);
    })
}

#[test]
fn s1_12_what_a_message_says_never_decides_which_address_is_dialled() {
    let mut world = settled(22, 4);
    world.site.net.record();
    // It is published, and its clients do not know it yet: something is due to each of them.
    world.masters[0].settings.push = false;
    world.publish(0, &["*"], 1000);
    let impostor = ip(3, 3);
    let here = SocketAddr::new(impostor, PORT + 1).to_string();
    let tool = world.dial(impostor, world.masters[0].addr);
    let poll = Poll {
        held: 0,
        applied: 0,
        wall_ms: world.site.net.now().wall.0,
        version: here.clone(),
        last_error: here.clone(),
    };
    // Another's name; and, since the inventory has `*`, names that are addresses.
    for name in ["c0", "127.0.3.3", "3.3.0.127.in-addr.arpa", "unheard-of"] {
        world.tools[tool].send(&claimed(name, 1, &BindReq { nonce: 1, version: here.clone() }));
        world.tools[tool].send(&claimed(name, 2, &poll));
        world.tools[tool].send(&claimed(name, 3, &BindAck { nonce: 1, parent: here.clone() }));
    }
    world.until("c0 has what was due to it", Duration::from_secs(20), |w| w.revision(0) == 2);
    world.run(Duration::from_secs(120));
    // The impostor got acks and nacks of fixed size, and no connection.
    let (mut answers, flows) = (0, world.site.net.flows());
    for flow in flows.iter().filter(|flow| flow.to.ip() == impostor) {
        for (header, size) in frames(flow) {
            assert!(header.kind.class() == Class::Hop && size <= 60, "{}: {size}", header.kind);
            answers += 1;
        }
    }
    assert!(answers >= 2, "an ack of either lane: {answers}");
    let known: BTreeSet<SocketAddr> =
        world.site.names.borrow().values().flatten().copied().collect();
    let dials: Vec<SocketAddr> = world
        .events(ip(0, 1))
        .iter()
        .filter_map(|event| if let What::Dial(addr) = event.what { Some(addr) } else { None })
        .collect();
    assert!(dials.contains(&world.clients[0].addr), "c0 was dialled where it is: {dials:?}");
    assert!(dials.iter().all(|addr| known.contains(addr)), "{dials:?}");
    let ended = |w: &What| matches!(w, What::Closed(_, CloseReason::Protocol(_)));
    assert_eq!(world.count(ip(0, 1), ended), 0, "each of its messages was well formed");
}
