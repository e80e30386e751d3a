//! Ends: seen at every phase, told once and in order, and harmless to others.

use super::harness::{Backend, MS, MioBackend, Seen, World, frame};
use super::on_both;
use crate::ids::DialId;
use crate::node::io::{CloseReason, Output, Verdict};
use crate::reactor::MioStream;
use crate::reactor::poller::{Poller, Token};
use crate::wire::{FrameBuf, Kind, WireError};
use socket2::SockRef;
use std::io::ErrorKind;

on_both! {
    e2_stale_close_spares_the_next_connection,
    e3_the_end_is_seen_at_every_phase,
    e3_a_reset_is_seen,
    e4_no_spin_at_the_end_of_the_stream,
    e5_a_failing_handler_loses_its_own_connection_alone,
    e6_a_connection_closed_by_another_gets_no_frame,
    e7_refused_is_told_as_such,
    e15_bad_magic_and_oversize_end_the_connection,
    e20_closed_comes_last_and_once,
    close_sends_what_was_queued_first,
    close_does_not_reset_a_peer_that_is_still_sending,
    a_hang_up_waits_for_nobody,
    a_hang_up_does_not_reset_a_peer_that_is_still_sending,
    a_refusal_is_heard_before_the_reset_that_follows,
    send_file_tells_drained,
    s1_38_dialed_connections_carry_frames_both_ways,
}

fn e2_stale_close_spares_the_next_connection<B: Backend>() {
    let mut w = World::<B>::new();
    let (a, first) = w.connect();
    w.peers.close(a);
    w.until("closed", |w| w.closed(first).is_some());
    let (mut b, second) = w.connect();
    assert_eq!(first.index(), second.index(), "the slot was to be reused");
    for _ in 0..2 {
        w.output(Output::Close { conn: first, reason: CloseReason::Done });
        w.output(Output::Send { conn: first, frame: frame(9, 0) });
    }
    w.settle();
    w.send(&mut b, &frame(1, 10).to_vec());
    w.until("frame", |w| w.frames() == [(second, 1)]);
    assert_eq!(w.closed(second), None);
}

fn e3_the_end_is_seen_at_every_phase<B: Backend>() {
    let bytes = frame(1, 100).to_vec();
    // Idle, within the header, within the body, right behind a frame.
    let phases = [
        (0, CloseReason::PeerClosed),
        (20, CloseReason::Truncated),
        (90, CloseReason::Truncated),
        (bytes.len(), CloseReason::PeerClosed),
    ];
    for (sent, expected) in phases {
        for apart in [true, false] {
            let mut w = World::<B>::new();
            let (mut peer, id) = w.connect();
            w.send(&mut peer, &bytes[..sent]);
            if apart {
                w.settle();
            }
            w.peers.close(peer);
            w.until("closed", |w| w.closed(id).is_some());
            assert_eq!(w.closed(id), Some(expected), "{sent} bytes, apart: {apart}");
            assert_eq!(w.frames().len(), usize::from(sent == bytes.len()));
        }
    }
    // During a write that is blocked.
    let mut w = World::<B>::new();
    let (peer, id) = w.connect();
    w.output(Output::Send { conn: id, frame: frame(1, 8 * 1024 * 1024 - 64) });
    w.settle();
    w.peers.close(peer);
    w.until("closed", |w| w.closed(id).is_some());
    assert!(matches!(w.closed(id), Some(CloseReason::PeerClosed | CloseReason::Reset)));
}

fn e3_a_reset_is_seen<B: Backend>() {
    let mut w = World::<B>::new();
    let (peer, id) = w.connect();
    B::reset(&mut w.peers, peer);
    w.until("closed", |w| w.closed(id).is_some());
    assert_eq!(w.closed(id), Some(CloseReason::Reset));
}

fn e4_no_spin_at_the_end_of_the_stream<B: Backend>() {
    let mut w = World::<B>::new();
    let (mut peer, id) = w.connect();
    w.react(|_, _, _| Verdict::Park);
    w.send(&mut peer, &frame(1, 10).to_vec());
    w.peers.shutdown_write(&mut peer).unwrap();
    w.settle();
    // The frame is parked and the end stands behind it: there is nothing to do until Resume.
    let now = w.reactor.metrics().turns.value();
    let at = crate::clock::Clock::now(&w.backend.clock()).at;
    assert!(w.reactor.next_deadline(at).is_some_and(|next| next > at), "the loop would spin");
    assert!(now > 0 && w.closed(id).is_none());
    w.react(|_, _, _| Verdict::Taken);
    w.output(Output::Resume { conn: id });
    w.until("closed", |w| w.closed(id) == Some(CloseReason::PeerClosed));
    assert_eq!(w.frames(), [(id, 1)]);
}

fn e5_a_failing_handler_loses_its_own_connection_alone<B: Backend>() {
    let mut w = World::<B>::new();
    let mut peers: Vec<_> = (0..10).map(|_| w.connect()).collect();
    w.react(|_, frame, _| {
        assert!(frame.header.seq != 5, "this handler fails on purpose");
        Verdict::Taken
    });
    for (seq, (peer, _)) in (0..).zip(&mut peers) {
        let bytes = frame(seq, 10).to_vec();
        w.send(peer, &bytes);
    }
    w.until("all handled", |w| w.frames().len() == 9);
    w.settle();
    for (seq, (_, id)) in (0u64..).zip(&peers) {
        let expected = (seq == 5).then_some(CloseReason::Handler);
        assert_eq!(w.closed(*id), expected, "{seq}");
    }
    assert_eq!(w.reactor.metrics().handler_failures.value(), 1);
}

fn e6_a_connection_closed_by_another_gets_no_frame<B: Backend>() {
    let mut w = World::<B>::new();
    let (mut a, first) = w.connect();
    let (mut b, second) = w.connect();
    // Whoever comes first closes the other, in the same batch of events.
    w.react(move |id, _, outputs| {
        let other = if id == first { second } else { first };
        outputs.push_back(Output::Close { conn: other, reason: CloseReason::Done });
        Verdict::Taken
    });
    for stream in [&mut a, &mut b] {
        let bytes = frame(1, 10).to_vec();
        let mut bytes = &bytes[..];
        while !bytes.is_empty() {
            let n = w.peers.write_vectored(stream, &[std::io::IoSlice::new(bytes)]).unwrap();
            bytes = &bytes[n..];
        }
    }
    // Both have arrived before the reactor looks.
    for _ in 0..40 {
        w.backend.deliver();
        w.backend.advance(MS);
    }
    w.until("one frame", |w| !w.frames().is_empty());
    w.settle();
    assert_eq!(w.frames().len(), 1, "{:?}", w.seen());
}

fn e7_refused_is_told_as_such<B: Backend>() {
    let mut w = World::<B>::new();
    let nobody = {
        let other = B::new();
        let mut poller = w.backend.poller();
        let listener = poller.listen("127.0.0.1:0".parse().unwrap(), 1, Token(1)).unwrap();
        let addr = poller.listen_addr(&listener).unwrap();
        poller.close_listener(listener);
        drop(other);
        addr
    };
    w.output(Output::Dial { dial: DialId(1), addr: nobody, from: None, timeout: None });
    w.until("failed", |w| !w.seen().is_empty());
    assert_eq!(w.seen(), [Seen::DialFailed(DialId(1), CloseReason::Refused)]);
    assert_eq!(w.reactor.connections(), 0);
}

fn e15_bad_magic_and_oversize_end_the_connection<B: Backend>() {
    let mut w = World::<B>::new();
    let (mut peer, id) = w.connect();
    w.send(&mut peer, &[b'G'; 44]);
    w.until("closed", |w| w.closed(id).is_some());
    let magic = WireError::Magic { found: *b"GGGG" };
    assert_eq!(w.closed(id), Some(CloseReason::Protocol(magic)));

    let (mut peer, id) = w.connect();
    let mut huge = FrameBuf::bare(Kind::ACK, |_| {}).to_vec();
    huge[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    w.send(&mut peer, &huge);
    w.until("closed", |w| w.closed(id).is_some());
    let length = WireError::BodyLength { kind: Kind::ACK, found: u32::MAX, limit: 0 };
    assert_eq!(w.closed(id), Some(CloseReason::Protocol(length)));
}

fn e20_closed_comes_last_and_once<B: Backend>() {
    let mut w = World::<B>::new();
    let (mut peer, id) = w.connect();
    w.send(&mut peer, &[frame(1, 10).to_vec(), frame(2, 10).to_vec()].concat());
    w.until("frames", |w| w.frames().len() == 2);
    w.output(Output::Close { conn: id, reason: CloseReason::Done });
    w.output(Output::Close { conn: id, reason: CloseReason::Stopping });
    w.settle();
    w.peers.close(peer);
    w.until("closed", |w| w.closed(id).is_some());
    w.settle();
    assert_eq!(
        w.seen(),
        [
            Seen::Accepted(id),
            Seen::Frame(id, 1),
            Seen::Frame(id, 2),
            Seen::Closed(id, CloseReason::Done)
        ]
    );
    assert_eq!(w.reactor.connections(), 0);
}

fn close_sends_what_was_queued_first<B: Backend>() {
    let mut w = World::<B>::new();
    let (mut peer, id) = w.connect();
    let big = frame(1, 4 * 1024 * 1024);
    let expected = big.to_vec();
    w.output(Output::Send { conn: id, frame: big });
    w.output(Output::Close { conn: id, reason: CloseReason::Done });
    let mut received = Vec::new();
    w.until("end", |w| w.receive(&mut peer, &mut received).is_none());
    assert!(received == expected, "{} of {} bytes", received.len(), expected.len());
    w.peers.close(peer);
    w.until("closed", |w| w.closed(id) == Some(CloseReason::Done));
}

fn close_does_not_reset_a_peer_that_is_still_sending<B: Backend>() {
    let mut w = World::<B>::new();
    let (mut peer, id) = w.connect();
    // Ten frames are on their way when the host answers the first and closes.
    w.react(|conn, f, outputs| {
        if f.header.seq == 0 {
            outputs.push_back(Output::Send { conn, frame: frame(77, 0) });
            outputs.push_back(Output::Close { conn, reason: CloseReason::Done });
        }
        Verdict::Taken
    });
    for seq in 0..10 {
        w.send(&mut peer, &frame(seq, 60_000).to_vec());
    }
    let mut received = Vec::new();
    w.until("end", |w| w.receive(&mut peer, &mut received).is_none());
    assert_eq!(received, frame(77, 0).to_vec());
    w.peers.close(peer);
    w.until("closed", |w| w.closed(id) == Some(CloseReason::Done));
}

fn a_hang_up_waits_for_nobody<B: Backend>() {
    let mut w = World::<B>::new();
    let (mut peer, id) = w.connect();
    w.react(|conn, _, outputs| {
        outputs.push_back(Output::Hangup { conn });
        Verdict::Taken
    });
    w.send(&mut peer, &frame(1, 10).to_vec());
    // The peer's own end never comes.
    w.until("closed", |w| w.closed(id) == Some(CloseReason::Done));
    assert_eq!(w.reactor.connections(), 0);
    let mut received = Vec::new();
    w.until("end", |w| w.receive(&mut peer, &mut received).is_none());
    assert!(received.is_empty());
}

fn a_hang_up_does_not_reset_a_peer_that_is_still_sending<B: Backend>() {
    let mut w = World::<B>::new();
    let (mut peer, id) = w.connect();
    w.react(|conn, f, outputs| {
        if f.header.seq == 0 {
            outputs.push_back(Output::Hangup { conn });
        }
        Verdict::Taken
    });
    let bytes: Vec<u8> = (0..10).flat_map(|seq| frame(seq, 20_000).to_vec()).collect();
    w.send(&mut peer, &bytes);
    w.until("end", |w| match w.peers.read(&mut peer, &mut [0; 16]) {
        Ok(read) => read == 0,
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::WouldBlock, "{e}");
            false
        }
    });
    w.peers.close(peer);
    w.until("closed", |w| w.closed(id) == Some(CloseReason::Done));
}

fn a_refusal_is_heard_before_the_reset_that_follows<B: Backend>() {
    let mut w = World::<B>::new();
    let (mut peer, id) = w.connect();
    w.send(&mut peer, &frame(3, 0).to_vec());
    // The peer has said its last and is gone before this side writes.
    w.peers.close(peer);
    w.output(Output::Send { conn: id, frame: frame(1, 100_000) });
    w.output(Output::Send { conn: id, frame: frame(2, 100_000) });
    w.until("closed", |w| w.closed(id).is_some());
    assert_eq!(w.frames(), [(id, 3)]);
}

fn send_file_tells_drained<B: Backend>() {
    use std::io::Write;
    let mut file = tempfile::tempfile().unwrap();
    let content: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
    file.write_all(&content).unwrap();
    let file = std::sync::Arc::new(file);
    let mut w = World::<B>::new();
    let (mut peer, id) = w.connect();
    let head = frame(1, 0);
    let first = head.to_vec();
    let len = 900_000;
    w.output(Output::SendFile { conn: id, frame: head, file, offset: 50_000, len });
    w.output(Output::Send { conn: id, frame: frame(2, 0) });
    let mut received = Vec::new();
    let whole = first.len() * 2 + len;
    w.until("all received", |w| {
        let _ = w.receive(&mut peer, &mut received);
        received.len() >= whole
    });
    assert!(received[..first.len()] == first, "the header comes first");
    assert!(received[first.len()..first.len() + len] == content[50_000..50_000 + len]);
    assert_eq!(received[first.len() + len..], frame(2, 0).to_vec());
    w.settle();
    assert_eq!(w.seen().iter().filter(|s| **s == Seen::Drained(id)).count(), 1, "{:?}", w.seen());
}

fn s1_38_dialed_connections_carry_frames_both_ways<B: Backend>() {
    let mut w = World::<B>::new();
    let listener = w.peers.listen("127.0.0.1:0".parse().unwrap(), 16, Token(3)).unwrap();
    let addr = w.peers.listen_addr(&listener).unwrap();
    let from = Some("127.0.0.77".parse().unwrap());
    w.output(Output::Dial { dial: DialId(5), addr, from, timeout: None });
    w.until("dialed", |w| matches!(w.seen(), [Seen::Dialed(DialId(5), _)]));
    let Seen::Dialed(_, id) = w.seen()[0] else { unreachable!() };
    let (mut peer, peer_addr) = w.peers.accept(&listener).unwrap();
    let crate::node::io::PeerAddr::Tcp(peer_addr) = peer_addr else { unreachable!() };
    assert_eq!(Some(peer_addr.ip()), from);
    w.peers.register(&mut peer, Token(4)).unwrap();
    w.output(Output::Send { conn: id, frame: frame(1, 1000) });
    let mut received = Vec::new();
    w.until("frame", |w| {
        let _ = w.receive(&mut peer, &mut received);
        received == frame(1, 1000).to_vec()
    });
    w.send(&mut peer, &frame(2, 1000).to_vec());
    w.until("answer", |w| w.frames() == [(id, 2)]);
}

/// Only from the second write on something could wait for the ack of what was written before.
#[test]
fn what_is_dialled_is_written_to_at_once_from_the_second_write_on() {
    let mut w = World::<MioBackend>::new();
    let listener = w.peers.listen("127.0.0.1:0".parse().unwrap(), 16, Token(3)).unwrap();
    let addr = w.peers.listen_addr(&listener).unwrap();
    w.output(Output::Dial { dial: DialId(5), addr, from: None, timeout: None });
    w.until("dialed", |w| matches!(w.seen(), [Seen::Dialed(DialId(5), _)]));
    let Seen::Dialed(_, id) = w.seen()[0] else { unreachable!() };
    let (mut peer, _) = w.peers.accept(&listener).unwrap();
    let mut received = Vec::new();
    for (number, at_once) in [(1, false), (2, true), (3, true)] {
        w.output(Output::Send { conn: id, frame: frame(number, 10) });
        w.until("frame", |w| {
            let _ = w.receive(&mut peer, &mut received);
            received.ends_with(&frame(number, 10).to_vec())
        });
        let MioStream::Tcp(stream) = &w.reactor.conns.of(id).unwrap().stream else {
            unreachable!("it was dialled by TCP")
        };
        assert_eq!(SockRef::from(stream).tcp_nodelay().unwrap(), at_once, "write {number}");
    }
}
