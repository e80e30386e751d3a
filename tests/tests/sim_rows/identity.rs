//! Who is who: answers go where the name service says, on connections that the master opens.

use crate::{command, frames, settle, settled};
use client::daemon::UNCHECKED;
use engine::ids::{Epoch, Origin};
use engine::node::io::{CloseReason, Mail};
use engine::node::{Binding, MasterAddr};
use engine::reactor::sim::Flow;
use engine::release::TrustedKeys;
use engine::sign::SigningKey;
use engine::wire::message::{BindAck, BindReq, Poll, StatusReq, StatusResp};
use engine::wire::{Body, Class, FrameBuf, Kind, RouteBuf, access};
use master::control::verb;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;
use tests::sim::line::Delay;
use tests::sim::master::MasterSettings;
use tests::sim::trace::What;
use tests::sim::{PORT, World, host, ip};

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

/// A counter of a client's status.
fn counter(world: &mut World, at: usize, name: &str) -> Option<u64> {
    let tool = world.dial(ip(0, 200), world.clients[at].addr);
    world.tools[tool].send(&FrameBuf::message(None, &StatusReq { detail: 0 }, |_| {}));
    world.until("its status", Duration::from_secs(5), |w| w.tools[tool].frames().count() == 1);
    let frame = world.tools[tool].frames().next().expect("it was awaited");
    let status = access::<StatusResp>(&frame).expect("a status");
    let told = status.counters.iter().find(|c| c.0.as_str() == name);
    told.map(|c| c.1.to_native())
}

/// Taken out of the inventory, a client learns it; put back, its reports go with the next poll,
/// and not when the ten minutes are over that the master named.
#[test]
fn a_host_that_is_put_back_into_the_inventory_reports_with_its_next_poll() {
    let mut world = World::new(24);
    world.add_master(ip(0, 1), MasterSettings::default());
    world.publish(0, &["*"], 1000);
    world.start_master(0);
    let at = world.add_client("c0", ip(1, 1));
    world.clients[at].settings.poll_interval = Duration::from_secs(60);
    world.start_client(at);
    settle(&mut world);
    assert_eq!(counter(&mut world, at, "not_in_inventory"), Some(0));
    world.publish(0, &["other"], 1000);
    world.act(at, Duration::from_millis(5));
    let minutes = Duration::from_secs(120);
    world.until("refused", minutes, |w| w.see_client(at).outbox.hold_until().is_some());
    assert_eq!(counter(&mut world, at, "not_in_inventory"), Some(1));
    world.publish(0, &["*"], 1000);
    world.until("reported", minutes, |w| w.is_drained());
    assert_eq!(counter(&mut world, at, "not_in_inventory"), Some(0));
    world.assert_exactly_once();
}

/// A client whose name the master never had learns it with its first message.
#[test]
fn a_stranger_is_told_that_the_master_does_not_have_it() {
    let mut world = World::new(25);
    world.add_master(ip(0, 1), MasterSettings::default());
    world.publish(0, &["c1"], 1000);
    world.start_master(0);
    let stranger = world.add_client("stranger", ip(1, 1));
    world.start_client(stranger);
    let minute = Duration::from_secs(60);
    world.until("it knows", minute, |w| counter(w, stranger, "not_in_inventory") == Some(1));
    // With the first sign that it has it now, it asks for what was refused.
    world.publish(0, &["stranger"], 1000);
    world.client(stranger).reactor.mailbox().post(Mail::Reload);
    let second = Duration::from_secs(2);
    world.until("bound", second, |w| matches!(w.see_client(0).binding(), Binding::Bound { .. }));
}

/// The name of one leads to the other's machine: what it sends is taken, and answered there.
#[test]
fn a_client_that_nobody_dials_back_says_so() {
    let mut world = World::new(26);
    world.add_master(ip(0, 1), MasterSettings::default());
    world.publish(0, &["*"], 1000);
    world.start_master(0);
    for (at, ip) in [(0, ip(1, 1)), (1, ip(1, 2))] {
        assert_eq!(world.add_client(&format!("c{at}"), ip), at);
    }
    let (other, itself) = (world.clients[1].addr, world.clients[0].addr);
    let lead = |world: &World, to| world.site.names.borrow_mut().insert(host("c0"), vec![to]);
    let _ = lead(&world, other);
    (0..2).for_each(|at| world.start_client(at));
    world.run(Duration::from_secs(120));
    assert!(counter(&mut world, 0, "unheard_ms") >= Some(60_000), "since the first ack");
    assert_eq!(counter(&mut world, 1, "unheard_ms"), Some(0));
    let _ = lead(&world, itself);
    let minutes = Duration::from_secs(600);
    world.until("bound", minutes, |w| matches!(w.see_client(0).binding(), Binding::Bound { .. }));
    assert_eq!(counter(&mut world, 0, "unheard_ms"), Some(0));
}

#[test]
fn s1_16_a_client_takes_what_nobody_signed_only_if_it_was_told_to_and_says_so() {
    let mut world = World::new(23);
    world.add_master(ip(0, 1), MasterSettings::default());
    world.publish(0, &["*"], 1000);
    world.start_master(0);
    world.site.net.record();
    // Neither trusts the key that signs here; one of them asks for no signature at all.
    let strangers = SigningKey::parse(&format!("drover-signing-key-1 {}", "77".repeat(32)));
    let strangers = strangers.expect("a key").public();
    for (n, keys) in
        [TrustedKeys::Only(vec![strangers]), TrustedKeys::Unchecked].into_iter().enumerate()
    {
        let at = world.add_client(&format!("c{n}"), ip(1, 1 + u8::try_from(n).expect("two")));
        world.clients[at].settings.trusted_keys = keys;
        world.start_client(at);
    }
    world.until("the second has it", Duration::from_secs(60), |w| w.revision(1) == 1);
    world.run(Duration::from_secs(600));
    assert_eq!(world.revision(0), 0, "the first refuses it for ever");
    for (at, unchecked) in [(0, 0), (1, 1)] {
        // Its status says so, and so does each poll, which `drover hosts` shows.
        assert_eq!(counter(&mut world, at, "signatures_unchecked"), Some(unchecked));
        let client = world.clients[at].addr.ip();
        let flows = world.site.net.flows();
        let up: Vec<u8> = flows
            .iter()
            .filter(|flow| flow.from.ip() == client && flow.to.port() == PORT)
            .flat_map(|flow| flow.bytes.clone())
            .collect();
        let says_so = up.windows(UNCHECKED.len()).any(|words| words == UNCHECKED.as_bytes());
        assert_eq!(says_so, unchecked == 1, "c{at}");
    }
}

/// Polls once in this name, from an address of its own choice, and awaits the answer.
fn poll_as(world: &mut World, from: std::net::IpAddr, name: &str) {
    let poll = Poll {
        held: 0,
        applied: 0,
        wall_ms: world.site.net.now().wall.0,
        version: "0.0.0".to_owned(),
        last_error: String::new(),
    };
    let tool = world.dial(from, world.masters[0].addr);
    world.tools[tool].send(&claimed(name, 1, &poll));
    let answered = |w: &mut World| w.tools[tool].frames().count() == 1;
    world.until("an answer", Duration::from_secs(5), answered);
    // And until the name has been resolved.
    world.run(Duration::from_secs(5));
}

#[test]
fn s1_12_who_claims_anothers_name_is_told_of_and_does_not_stand_for_it() {
    let mut world = settled(24, 2);
    world.run(Duration::from_secs(120));
    let conflicts = |w: &mut World| w.master(0).reactor.host().host.role().hosts().claims().count;
    assert_eq!(conflicts(&mut world), 0, "each is heard from its own address");
    world.kill_client(0);
    poll_as(&mut world, ip(3, 3), "c0");
    assert_eq!(conflicts(&mut world), 1);
    let status = command(&mut world, verb::STATUS, "{}");
    assert_eq!(status["hosts_current"], 2, "c0 holds what it held");
    assert_eq!(status["counters"]["identity_conflict"], 1);
    let told = status["warnings"].to_string();
    assert!(told.contains("1 time, last c0, which is 127.0.1.1, from 127.0.3.3"), "{told}");
    // Its name leads there too from now on: it has another address.
    let second = SocketAddr::new(ip(3, 3), PORT + 1);
    world.site.names.borrow_mut().values_mut().filter(|a| a[0].ip() == ip(1, 1)).for_each(|a| {
        a.push(second);
    });
    poll_as(&mut world, ip(3, 3), "c0");
    poll_as(&mut world, ip(3, 3), "c0");
    assert_eq!(conflicts(&mut world), 1);
    let held = command(&mut world, verb::STATUS, "{}");
    assert_eq!(held["hosts_current"], 1, "now it speaks for itself: {held}");
}

/// However often somebody else asks to be bound in its name before it is answered, and from
/// wherever: it gets the answer to its own request.
#[test]
fn s1_12_who_asks_to_bind_in_anothers_name_takes_no_answer_away() {
    let mut world = World::new(26);
    world.add_master(ip(0, 1), MasterSettings::default());
    world.publish(0, &["*"], 1000);
    world.start_master(0);
    // The master does not know yet where the name leads when both have asked.
    world.behave(|m| m.resolver = Delay::fixed(Duration::from_secs(2)));
    let at = world.add_client("c0", ip(1, 1));
    world.clients[at].settings.masters = vec![MasterAddr::Fixed(world.masters[0].addr)];
    world.start_client(at);
    let asked = |w: &World| {
        w.count(ip(0, 1), |w| matches!(w, What::In(_, seen) if seen.kind == Kind::BIND_REQ))
    };
    world.until("it has asked", Duration::from_secs(5), |w| asked(w) == 1);
    let tool = world.dial(ip(3, 3), world.masters[0].addr);
    for seq in 1..=20 {
        let request = BindReq { nonce: seq, version: "0".to_owned() };
        world.tools[tool].send(&claimed("c0", seq, &request));
    }
    world.until("so have others", Duration::from_secs(1), |w| asked(w) == 21);
    let bound = |w: &mut World| matches!(w.see_client(at).binding(), Binding::Bound { .. });
    world.until("bound", Duration::from_secs(4), bound);
    let asks = |w: &What| matches!(w, What::Out(_, seen) if seen.kind == Kind::BIND_REQ);
    assert_eq!(world.count(ip(1, 1), asks), 1, "the first request was answered");
}

#[test]
fn s1_11_who_is_not_in_the_inventory_is_told_of() {
    let mut world = World::new(25);
    world.add_master(ip(0, 1), MasterSettings::default());
    world.publish(0, &["c*"], 1000);
    world.start_master(0);
    poll_as(&mut world, ip(3, 3), "lost");
    let told = command(&mut world, verb::STATUS, "{}")["warnings"].to_string();
    assert!(told.contains("not in the inventory: lost (127.0.3.3); add them to hosts.yaml"));
    world.publish(0, &["*"], 1000);
    let told = command(&mut world, verb::STATUS, "{}")["warnings"].to_string();
    assert!(!told.contains("lost"), "{told}");
}
