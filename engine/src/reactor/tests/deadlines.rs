//! Every state has a deadline, and none fires for what is this side's own fault.

use super::harness::{Backend, MS, SEC, Seen, World, frame};
use super::on_both;
use crate::ids::DialId;
use crate::node::io::{CloseReason, Output, Verdict};
use crate::reactor::poller::Poller;
use crate::wheel::TICK;

on_both! {
    e7_a_connect_to_a_black_hole_times_out,
    e10_a_slow_drip_is_cut_at_the_frames_deadline,
    e11_every_state_ends,
    s1_39_idle_and_expect,
    s1_39_a_peer_that_never_reads_is_cut,
    s1_39_a_peer_that_is_not_read_is_not_cut_for_its_frame,
    after_a_long_stop_reads_come_before_deadlines,
    e21_measured_lag_is_the_handlers_time,
    s1_37_many_connects_to_a_black_hole_do_not_hold_up_the_loop,
}

fn e7_a_connect_to_a_black_hole_times_out<B: Backend>() {
    let mut w = World::<B>::new();
    let addr = w.backend.black_hole();
    let (dial, timeout) = (DialId(1), Some(3 * SEC));
    w.output(Output::Dial { dial, addr, from: None, timeout });
    w.turn();
    w.advance(3 * SEC - MS);
    w.turn();
    assert_eq!(w.seen(), [], "too early");
    w.advance(MS + TICK);
    w.turn();
    assert_eq!(w.seen(), [Seen::DialFailed(dial, CloseReason::ConnectTimeout)]);
    assert_eq!(w.reactor.connections(), 0);
}

fn e10_a_slow_drip_is_cut_at_the_frames_deadline<B: Backend>() {
    let mut w = World::<B>::new();
    let (mut peer, id) = w.connect();
    let bytes = frame(1, 100).to_vec();
    // 30 s for the frame, and 1 byte each second of it.
    for byte in &bytes[..30] {
        w.send(&mut peer, std::slice::from_ref(byte));
        w.settle();
        assert_eq!(w.closed(id), None);
        w.advance(SEC);
    }
    w.advance(TICK);
    w.settle();
    assert_eq!(w.closed(id), Some(CloseReason::FrameTimeout));
}

fn e11_every_state_ends<B: Backend>() {
    let mut w = World::<B>::new();
    let mut kept = Vec::new();
    w.react(|conn, f, outputs| match f.header.seq {
        1 => Verdict::Park,
        2 => {
            outputs.push_back(Output::Close { conn, reason: CloseReason::Done });
            Verdict::Taken
        }
        3 => {
            outputs.push_back(Output::Send { conn, frame: frame(9, 8 * 1024 * 1024 - 64) });
            outputs.push_back(Output::Close { conn, reason: CloseReason::Done });
            Verdict::Taken
        }
        _ => Verdict::Taken,
    });
    // Idle, within a frame, parked, lingering, closing and blocked, dialing.
    for (seq, part) in [(0, 0), (0, 50), (1, 54), (2, 54), (3, 54)] {
        let (mut peer, _) = w.connect();
        w.send(&mut peer, &frame(seq, 10).to_vec()[..part]);
        kept.push(peer);
    }
    let addr = w.backend.black_hole();
    w.output(Output::Dial { dial: DialId(1), addr, from: None, timeout: None });
    w.settle();
    assert_eq!(w.reactor.connections(), 6);
    // No peer does anything any more; 2048 s are what 8 MiB may take at the slowest.
    for _ in 0..80 {
        w.advance(30 * SEC);
        w.settle();
    }
    assert_eq!(w.reactor.connections(), 0, "{:?}", w.seen());
}

fn s1_39_idle_and_expect<B: Backend>() {
    let mut w = World::<B>::new();
    let (mut a, first) = w.connect();
    let (_b, second) = w.connect();
    let reason = CloseReason::AnswerTimeout;
    for conn in [first, second] {
        w.output(Output::Expect { conn, within: Some(5 * SEC), reason });
    }
    w.turn();
    w.advance(4 * SEC);
    // A whole frame replaces the deadline.
    w.send(&mut a, &frame(1, 10).to_vec());
    w.until("frame", |w| w.frames() == [(first, 1)]);
    assert_eq!(w.closed(second), None);
    w.advance(SEC + TICK);
    w.settle();
    assert_eq!((w.closed(first), w.closed(second)), (None, Some(reason)));
    w.advance(54 * SEC);
    w.settle();
    assert_eq!(w.closed(first), None);
    w.advance(6 * SEC);
    w.settle();
    assert_eq!(w.closed(first), Some(CloseReason::IdleTimeout));
}

fn s1_39_a_peer_that_never_reads_is_cut<B: Backend>() {
    let mut w = World::<B>::new();
    let (_peer, id) = w.connect();
    let len = 8 * 1024 * 1024 - 64;
    w.output(Output::Send { conn: id, frame: frame(1, len) });
    w.settle();
    w.advance(30 * SEC);
    w.settle();
    assert_eq!(w.closed(id), None, "the slowest tolerated peer needs longer");
    w.advance(2100 * SEC);
    w.settle();
    assert_eq!(w.closed(id), Some(CloseReason::SendTimeout));
}

fn s1_39_a_peer_that_is_not_read_is_not_cut_for_its_frame<B: Backend>() {
    let mut w = World::<B>::new();
    let (mut peer, id) = w.connect();
    let bytes = frame(2, 100).to_vec();
    let (begun, rest) = bytes.split_at(20);
    w.send(&mut peer, begun);
    w.settle();
    let len = 8 * 1024 * 1024 - 64;
    w.output(Output::Send { conn: id, frame: frame(1, len) });
    w.settle();
    w.send(&mut peer, rest);
    w.advance(31 * SEC);
    w.settle();
    assert_eq!(w.closed(id), None, "the rest of its frame is there, and not read by us");
    w.advance(2100 * SEC);
    w.settle();
    assert_eq!(w.closed(id), Some(CloseReason::SendTimeout));
}

fn after_a_long_stop_reads_come_before_deadlines<B: Backend>() {
    let mut w = World::<B>::new();
    let mut peers: Vec<_> = (0..150).map(|_| w.connect()).collect();
    for (peer, _) in &mut peers {
        let bytes = frame(1, 10).to_vec();
        let mut bytes = &bytes[..];
        while !bytes.is_empty() {
            let n = w.peers.write_vectored(peer, &[std::io::IoSlice::new(bytes)]).unwrap();
            bytes = &bytes[n..];
        }
    }
    // The process is stopped for an hour, the peers have spoken: more than one batch of events.
    w.advance(3600 * SEC);
    w.until("all heard", |w| w.frames().len() == 150);
    assert_eq!(w.reactor.metrics().deadlines_missed.value(), 0);
}

fn e21_measured_lag_is_the_handlers_time<B: Backend>() {
    let mut w = World::<B>::new();
    let (mut peer, _) = w.connect();
    let lag_before = w.reactor.metrics().lag.max();
    assert!(lag_before < MS, "{lag_before:?}");
    let clock = std::rc::Rc::new(std::cell::RefCell::new(w.backend.advancer()));
    w.react(move |_, _, _| {
        (clock.borrow_mut())(50 * MS);
        Verdict::Taken
    });
    w.send(&mut peer, &frame(1, 10).to_vec());
    w.until("frame", |w| !w.frames().is_empty());
    assert_eq!(w.reactor.metrics().lag.max(), 50 * MS);
    let all = w.reactor.metrics().snapshot();
    assert!(all.contains(&("lag_max_us".into(), 50_000)), "{all:?}");
    assert!(all.contains(&("frames_in_ControlResp".into(), 1)), "{all:?}");
    for label in CloseReason::LABELS {
        assert!(all.contains(&(format!("closed_{label}"), 0)), "no {label}: {all:?}");
    }
}

fn s1_37_many_connects_to_a_black_hole_do_not_hold_up_the_loop<B: Backend>() {
    let mut w = World::<B>::new();
    let addr = w.backend.black_hole();
    // The real descriptors of a test process are fewer than the simulated ones.
    let dials = if B::NAME == "sim" { 5000 } else { 500 };
    for n in 0..dials {
        w.output(Output::Dial { dial: DialId(n), addr, from: None, timeout: None });
    }
    let (mut peer, id) = w.connect();
    w.send(&mut peer, &frame(1, 10).to_vec());
    w.until("served beside them", |w| w.frames() == [(id, 1)]);
    w.advance(11 * SEC);
    w.until("all told", |w| w.reactor.metrics().dials_failed.value() == dials);
    let timeouts = w.reactor.metrics().closed(CloseReason::ConnectTimeout);
    assert_eq!(timeouts, dials);
}
