//! Crowds: who gets in, who gives way, and who is served whoever else waits.

use super::harness::{Backend, SEC, Seen, Stream, World, frame};
use super::on_both;
use crate::ids::ConnId;
use crate::limits::Limits;
use crate::node::io::{CloseReason, Listener, Verdict};
use crate::reactor::poller::{Poller, Token};
use crate::wire::{Decoder, Flow, Nack};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

on_both! {
    all_that_waits_is_accepted_before_what_it_brings_is_looked_at,
    one_that_says_nothing_gives_way_to_one_that_comes,
    what_has_come_and_was_not_looked_at_is_no_silence,
    frames_that_do_not_become_whole_have_a_bound_together,
    a_source_that_has_its_share_is_told_when_to_come_back,
    commands_are_served_whoever_else_waits,
}

const DIAL: Token = Token(1 << 40);

/// A connect from this address of the machine.
fn connect_from<B: Backend>(w: &mut World<B>, last: u8) -> Stream<B> {
    let from = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
    w.peers.connect(w.addr, Some(from), DIAL).unwrap().0
}

/// Lets all that is under way arrive while the loop does nothing.
fn arrive<B: Backend>(w: &mut World<B>) {
    w.advance(SEC / 10);
}

fn all_that_waits_is_accepted_before_what_it_brings_is_looked_at<B: Backend>() {
    let limits = Limits { events_max: 4, ..Limits::default() };
    let mut w = World::<B>::with(limits);
    let addr = w.addr;
    let _peers: Vec<_> = (0..200).map(|_| w.peers.connect(addr, None, DIAL).unwrap().0).collect();
    arrive(&mut w);
    let turns = w.reactor.metrics().turns.value();
    w.until("all accepted", |w| w.accepted().len() == 200);
    // One that hears of the listener, and one more where the rest of the edge is looked for.
    let turns = w.reactor.metrics().turns.value() - turns;
    assert!(turns <= 3, "{}: {turns} turns", B::NAME);
}

fn one_that_says_nothing_gives_way_to_one_that_comes<B: Backend>() {
    let limits = Limits { connections_max: 4, ..Limits::default() };
    let mut w = World::<B>::with(limits);
    let (mut heard, heard_id) = w.connect();
    w.send(&mut heard, &frame(1, 10).to_vec());
    w.until("heard", |w| w.frames() == [(heard_id, 1)]);
    let (_oldest, oldest_id) = w.connect();
    w.advance(SEC / 10);
    let (mut drip, drip_id) = w.connect();
    w.send(&mut drip, &frame(1, 10).to_vec()[..20]);
    w.settle();
    let (_youngest, youngest_id) = w.connect();
    // Nobody has been silent long enough: who comes now waits.
    let addr = w.addr;
    let mut waiting = vec![w.peers.connect(addr, None, DIAL).unwrap().0];
    w.until("paused", |w| w.reactor.metrics().accept_pauses.value() > 0);
    w.settle();
    assert_eq!(w.accepted().len(), 4);
    // Then all three might go: it is the oldest, and then the next, that does.
    w.advance(SEC * 2);
    let mut gone = Vec::new();
    for (come, next) in [oldest_id, drip_id, youngest_id].into_iter().enumerate() {
        w.until("one comes in", |w| w.accepted().len() == 5 + come);
        w.settle();
        gone.push(next);
        let silent = [oldest_id, drip_id, youngest_id];
        for id in silent {
            let reason = gone.contains(&id).then_some(CloseReason::Crowded);
            assert_eq!(w.closed(id), reason, "{}: {id:?} when {come} had come", B::NAME);
        }
        waiting.push(w.peers.connect(addr, None, DIAL).unwrap().0);
    }
    // One from which something whole has come stays, and those that came were not silent yet.
    w.settle();
    assert_eq!((w.accepted().len(), w.closed(heard_id)), (7, None));
}

fn what_has_come_and_was_not_looked_at_is_no_silence<B: Backend>() {
    let limits = Limits { connections_max: 2, ..Limits::default() };
    let mut w = World::<B>::with(limits);
    let (mut slow, slow_id) = w.connect();
    let (_silent, silent_id) = w.connect();
    w.advance(SEC * 2);
    // It speaks in the very turn in which somebody else comes.
    let bytes = frame(1, 10).to_vec();
    assert_eq!(
        w.peers.write_vectored(&mut slow, &[std::io::IoSlice::new(&bytes)]).unwrap(),
        bytes.len()
    );
    let addr = w.addr;
    let _next = w.peers.connect(addr, None, DIAL).unwrap().0;
    arrive(&mut w);
    w.until("accepted", |w| w.accepted().len() == 3);
    w.until("heard", |w| w.frames() == [(slow_id, 1)]);
    assert_eq!((w.closed(slow_id), w.closed(silent_id)), (None, Some(CloseReason::Crowded)));
}

fn frames_that_do_not_become_whole_have_a_bound_together<B: Backend>() {
    let limits = Limits { unfinished_bytes_max: 10_000, ..Limits::default() };
    let mut w = World::<B>::with(limits);
    let begun = frame(1, 3500).to_vec();
    let mut peers = Vec::new();
    for n in 0..3 {
        let (mut peer, id) = w.connect();
        w.send(&mut peer, &begun[..3000]);
        w.settle();
        w.advance(SEC / 10);
        peers.push((peer, id, n));
    }
    assert!(peers.iter().all(|(_, id, _)| w.closed(*id).is_none()), "{:?}", w.seen());
    // Who sends whole frames is not asked, however large they are.
    let (mut good, good_id) = w.connect();
    w.send(&mut good, &frame(7, 900).to_vec());
    w.until("the whole one", |w| w.frames().contains(&(good_id, 7)));
    let (mut last, last_id) = w.connect();
    w.send(&mut last, &begun[..3000]);
    let closed = |w: &World<B>, id: ConnId| w.closed(id) == Some(CloseReason::Crowded);
    w.until("room", |w| closed(w, peers[0].1));
    w.settle();
    // The first ones first, and no more than it takes.
    assert_eq!((w.closed(peers[2].1), w.closed(last_id)), (None, None), "{:?}", w.seen());
    // What was given back counts no more: two frames may become whole again.
    let (mut third, third_id, _) = peers.pop().unwrap();
    w.send(&mut third, &begun[3000..]);
    w.send(&mut last, &begun[3000..]);
    w.until("whole", |w| [third_id, last_id].iter().all(|id| w.frames().contains(&(*id, 1))));
}

fn a_source_that_has_its_share_is_told_when_to_come_back<B: Backend>() {
    let limits = Limits { connections_per_source: 3, ..Limits::default() };
    let mut w = World::<B>::with(limits);
    let mut many: Vec<_> = (0..3).map(|_| connect_from(&mut w, 5)).collect();
    w.until("its share", |w| w.accepted().len() == 3);
    let mut waits = Vec::new();
    let beyond: Vec<_> = (0..4).map(|_| connect_from(&mut w, 5)).collect();
    arrive(&mut w);
    for mut peer in beyond {
        let mut answer = Vec::new();
        w.until("told", |w| {
            let ended = w.receive(&mut peer, &mut answer).is_none();
            assert!(!ended || !answer.is_empty(), "closed without a word");
            ended
        });
        let mut told = None;
        Decoder::new()
            .feed(&answer, |frame| {
                let nack = Nack::decode(&frame).unwrap();
                told = Some((nack.turns_away(&frame.header), nack.retry_after));
                Flow::Next
            })
            .unwrap();
        let (turned_away, wait) = told.unwrap();
        assert!(turned_away && wait >= Duration::from_millis(100), "{wait:?}");
        waits.push(wait);
        w.peers.close(peer);
    }
    waits.sort_unstable();
    let spaced = waits.windows(2).all(|two| two[1] - two[0] == Duration::from_millis(1));
    assert!(spaced, "all at once: {waits:?}");
    // The host never hears of them, and others are none of that.
    let other = connect_from(&mut w, 6);
    w.until("another source", |w| w.accepted().len() == 4);
    w.settle();
    let metrics = w.reactor.metrics();
    assert_eq!((metrics.turned_away.value(), metrics.accepted.value()), (4, 4));
    assert!(!w.seen().iter().any(|s| matches!(s, Seen::Closed(..))), "{:?}", w.seen());
    // One goes, so one may come.
    w.peers.close(many.remove(0));
    w.until("gone", |w| w.seen().iter().any(|s| matches!(s, Seen::Closed(..))));
    let again = connect_from(&mut w, 5);
    w.until("its share again", |w| w.accepted().len() == 5);
    drop((many, other, again));
}

fn commands_are_served_whoever_else_waits<B: Backend>() {
    let limits = Limits { events_max: 4, ..Limits::default() };
    let mut w = World::<B>::with(limits);
    let any = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
    let control = w.reactor.listen(Listener::Control, any).unwrap();
    let mut crowd: Vec<_> = (0..100).map(|_| w.connect()).collect();
    let peers = std::mem::replace(&mut w.addr, control);
    let (mut operator, operator_id) = w.connect();
    w.addr = peers;
    w.react(|_, _, _| Verdict::Taken);
    let bytes = frame(1, 10).to_vec();
    let say = |w: &mut World<B>, peer: &mut Stream<B>| {
        let said = w.peers.write_vectored(peer, &[std::io::IoSlice::new(&bytes)]).unwrap();
        assert_eq!(said, bytes.len());
    };
    for (peer, _) in &mut crowd {
        say(&mut w, peer);
    }
    say(&mut w, &mut operator);
    arrive(&mut w);
    w.until("the command is heard", |w| w.frames().contains(&(operator_id, 1)));
    // Of the crowd no more than a few turns' worth came before it.
    let before = w.frames().len();
    assert!(before <= 40, "{}: {before} came first", B::NAME);
    w.until("all are heard", |w| w.frames().len() == 101);
}
