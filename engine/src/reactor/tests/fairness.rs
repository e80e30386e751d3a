//! Bounds: nobody makes the others wait, and running out of something passes.

use super::harness::{Backend, MS, NoThreads, SEC, Seen, World, frame};
use super::on_both;
use crate::ids::HostName;
use crate::limits::{CHUNK_SIZE_MAX, HEADER_SIZE, Limits};
use crate::node::io::{Mail, Output, Request, Verdict};
use crate::reactor::poller::{Poller, Token};
use crate::wire::FrameBuf;
use crate::wire::message::StatusReq;
use bytes::Bytes;
use std::sync::Arc;

on_both! {
    e12_a_big_sender_does_not_starve_small_ones,
    e13_posts_from_the_loops_own_thread_neither_block_nor_are_lost,
    e1_accepting_pauses_at_the_limit_and_resumes_after_a_close,
    s1_29_mail_wakes_a_sleeping_loop,
    parked_frames_are_offered_again_in_order,
    e12_what_is_said_to_a_crowd_is_written_in_several_turns,
    e12_a_flood_of_requests_does_not_starve_the_others,
    e12_a_crowd_that_asks_is_answered_a_few_a_turn,
    a_flood_of_requests_is_answered_in_order_and_whole,
    s1_3_a_download_stands_before_no_answer,
    what_a_turn_asks_of_threads_is_handed_over_before_the_loop_sleeps,
}

fn what_a_turn_asks_of_threads_is_handed_over_before_the_loop_sleeps<B: Backend>() {
    let mut w = World::<B>::new();
    let name: HostName = "host.test".parse().unwrap();
    for _ in 0..3 {
        w.output(Output::Request(Request::Resolve { name: name.clone() }));
    }
    w.turn();
    assert_eq!(*w.reactor.services_mut(), NoThreads { asked: 3, gathered: 0 });
}

fn e12_a_big_sender_does_not_starve_small_ones<B: Backend>() {
    let limits = Limits { read_budget: 4096, ..Limits::default() };
    let mut w = World::<B>::with(limits);
    let (mut big, big_id) = w.connect();
    let (mut small, small_id) = w.connect();
    let bytes = frame(1, 1_000_000).to_vec();
    let mut rest = &bytes[..];
    while let Ok(n) = w.peers.write_vectored(&mut big, &[std::io::IoSlice::new(rest)]) {
        rest = &rest[n..];
        if rest.is_empty() {
            break;
        }
    }
    for _ in 0..100 {
        w.backend.deliver();
    }
    let little = frame(2, 10).to_vec();
    w.peers.write_vectored(&mut small, &[std::io::IoSlice::new(&little)]).unwrap();
    for _ in 0..100 {
        w.backend.deliver();
    }
    let (turns, read) = (w.reactor.metrics().turns.value(), w.reactor.metrics().bytes_in.value());
    w.until("the small one is served", |w| w.frames().first() == Some(&(small_id, 2)));
    let turns = w.reactor.metrics().turns.value() - turns;
    let read = w.reactor.metrics().bytes_in.value() - read;
    assert!(read <= (turns + 1) * 2 * 4096, "{read} bytes in {turns} turns");
    // The edge of what was left over is not lost.
    let left = rest.to_vec();
    w.send(&mut big, &left);
    w.until("the big one is whole", |w| w.frames().last() == Some(&(big_id, 1)));
}

fn e12_what_is_said_to_a_crowd_is_written_in_several_turns<B: Backend>() {
    let limits = Limits { writes_max: 4, ..Limits::default() };
    let mut w = World::<B>::with(limits);
    let crowd: Vec<_> = (0..10).map(|_| w.connect()).collect();
    w.settle();
    for (_, conn) in &crowd {
        w.output(Output::Send { conn: *conn, frame: frame(1, 100) });
    }
    let size = frame(1, 100).len() as u64;
    let (before, mut written) = (w.reactor.metrics().bytes_out.value(), Vec::new());
    for _ in 0..4 {
        w.turn();
        written.push((w.reactor.metrics().bytes_out.value() - before) / size);
    }
    assert_eq!(written, [4, 8, 10, 10], "frames after each turn");
    // What is left over is no reason to wait, and nothing is left over at the exit.
    for (_, conn) in &crowd {
        w.output(Output::Send { conn: *conn, frame: frame(2, 100) });
    }
    w.turn();
    let now = crate::clock::Clock::now(&w.backend.clock()).at;
    assert_eq!(w.reactor.next_deadline(now), Some(now));
    w.output(Output::Exit);
    w.turn();
    assert_eq!((w.reactor.metrics().bytes_out.value() - before) / size, 20);
}

fn e13_posts_from_the_loops_own_thread_neither_block_nor_are_lost<B: Backend>() {
    let mut w = World::<B>::new();
    let mailbox = w.reactor.mailbox();
    // As many wakes as filled the first system's pipe many times over, from the loop's thread.
    for n in 0..100_000 {
        mailbox.post_role(n);
    }
    w.until("all mail", |w| w.reactor.metrics().mails.value() == 100_000);
    let turns = w.reactor.metrics().turns.value();
    assert!(turns >= 100_000 / 256, "a turn takes a bounded number: {turns} turns");
}

fn s1_29_mail_wakes_a_sleeping_loop<B: Backend>() {
    let mut w = World::<B>::new();
    let mailbox = w.reactor.mailbox();
    w.settle();
    let mut poster = Some(std::thread::spawn(move || mailbox.post(Mail::Stop)));
    // Virtual time does not wait for a thread of the real world.
    if B::NAME == "sim" {
        poster.take().into_iter().for_each(|thread| thread.join().unwrap());
    }
    w.until("told", |w| w.seen() == [Seen::Stop]);
    poster.into_iter().for_each(|thread| thread.join().unwrap());
}

fn e1_accepting_pauses_at_the_limit_and_resumes_after_a_close<B: Backend>() {
    let limits = Limits { connections_max: 3, ..Limits::default() };
    let mut w = World::<B>::with(limits);
    let (addr, token) = (w.addr, Token(1 << 40));
    assert_eq!(w.reactor.metrics().accept_paused_last(), None);
    let mut served: Vec<_> = (0..3).map(|_| w.connect().0).collect();
    let _waiting: Vec<_> = (0..2).map(|_| w.peers.connect(addr, None, token).unwrap().0).collect();
    w.until("paused", |w| w.reactor.metrics().accept_pauses.value() == 1);
    w.settle();
    assert_eq!(w.accepted().len(), 3);
    assert!(w.reactor.metrics().accept_pauses.value() <= 2, "once, and again after 100 ms");
    let now = crate::clock::Clock::now(&w.backend.clock()).at;
    let (at, full) = w.reactor.metrics().accept_paused_last().unwrap();
    assert!(full && now.since(at) <= SEC, "{at:?}, now {now:?}");
    assert!(w.reactor.next_deadline(now).is_some_and(|at| at > now), "it would spin");
    w.peers.close(served.remove(0));
    w.until("the fourth", |w| w.accepted().len() == 4);
    w.advance(SEC);
    w.peers.close(served.remove(0));
    w.until("the fifth", |w| w.accepted().len() == 5);
}

fn parked_frames_are_offered_again_in_order<B: Backend>() {
    let mut w = World::<B>::new();
    let (mut peer, id) = w.connect();
    let open = std::rc::Rc::new(std::cell::Cell::new(0));
    let gate = open.clone();
    w.react(move |_, f, _| if f.header.seq <= gate.get() { Verdict::Taken } else { Verdict::Park });
    for seq in 1..=50 {
        w.send(&mut peer, &frame(seq, 3000).to_vec());
    }
    for upto in [0, 1, 17, 50] {
        open.set(upto);
        w.output(Output::Resume { conn: id });
        w.until("taken", |w| w.frames().len() as u64 == upto);
        w.settle();
        assert_eq!(w.frames().len() as u64, upto);
        w.advance(MS);
    }
    assert!(w.frames().iter().map(|(_, seq)| *seq).eq(1..=50));
}

/// The smallest frame that asks for an answer.
fn request(seq: u64) -> Vec<u8> {
    FrameBuf::message(None, &StatusReq { detail: 0 }, |header| header.seq = seq).to_vec()
}

fn flood(count: u64) -> Vec<u8> {
    (1..=count).flat_map(request).collect()
}

fn e12_a_flood_of_requests_does_not_starve_the_others<B: Backend>() {
    let mut w = World::<B>::new();
    let (mut big, big_id) = w.connect();
    let (mut small, small_id) = w.connect();
    for (peer, bytes) in [(&mut big, flood(150)), (&mut small, request(1))] {
        let sent = w.peers.write_vectored(peer, &[std::io::IoSlice::new(&bytes)]).unwrap();
        assert_eq!(sent, bytes.len());
        for _ in 0..100 {
            w.backend.deliver();
        }
    }
    let turns = w.reactor.metrics().turns.value();
    w.until("the small one is answered", |w| w.frames().contains(&(small_id, 1)));
    let turns = w.reactor.metrics().turns.value() - turns;
    let first = w.frames().iter().filter(|(id, _)| *id == big_id).count();
    assert!(first as u64 <= turns + 1, "{first} came first, in {turns} turns");
    w.until("the big one is answered", |w| w.frames().contains(&(big_id, 150)));
}

/// However many ask: no turn is longer than its budget allows, and each of them gets its answers.
fn e12_a_crowd_that_asks_is_answered_a_few_a_turn<B: Backend>() {
    let limits = Limits { requests_budget: 3, ..Limits::default() };
    let mut w = World::<B>::with(limits);
    let mut peers: Vec<_> = (0..20).map(|_| w.connect()).collect();
    for (peer, _) in &mut peers {
        let bytes = flood(10);
        let sent = w.peers.write_vectored(peer, &[std::io::IoSlice::new(&bytes)]).unwrap();
        assert_eq!(sent, bytes.len());
        for _ in 0..10 {
            w.backend.deliver();
        }
    }
    let turns = w.reactor.metrics().turns.value();
    w.until("all are answered", |w| w.frames().len() == 200);
    let turns = w.reactor.metrics().turns.value() - turns;
    assert!(turns >= 200 / 3, "200 answers in {turns} turns");
    for (_, id) in &peers {
        let answered = w.frames().into_iter().filter(|(conn, _)| conn == id);
        assert!(answered.map(|(_, seq)| seq).eq(1..=10));
    }
}

/// What is kept for the next turn is neither lost nor late, whatever its end is: more requests, a
/// part of one, or a peer that has closed its side.
fn a_flood_of_requests_is_answered_in_order_and_whole<B: Backend>() {
    let limits = Limits { send_bytes_high: 2000, ..Limits::default() };
    let mut w = World::<B>::with(limits);
    let (mut peer, id) = w.connect();
    w.react(|conn, f, outputs| {
        outputs.push_back(Output::Send { conn, frame: frame(f.header.seq, 100) });
        Verdict::Taken
    });
    let bytes = flood(101);
    let cut = bytes.len() - 7;
    w.send(&mut peer, &bytes[..cut]);
    w.until("all whole ones", |w| w.frames().len() == 100);
    w.send(&mut peer, &bytes[cut..]);
    w.until("the last one", |w| w.frames().len() == 101);
    assert!(w.frames().iter().map(|(_, seq)| *seq).eq(1..=101));
    assert!(w.frames().iter().all(|(conn, _)| *conn == id));
}

fn s1_3_a_download_stands_before_no_answer<B: Backend>() {
    const PIECES: u64 = 40;
    let mut w = World::<B>::new();
    let (mut big, big_id) = w.connect();
    let (mut small, small_id) = w.connect();
    w.react(|conn, f, outputs| {
        outputs.push_back(Output::Send { conn, frame: frame(f.header.seq, 10) });
        Verdict::Taken
    });
    // A download: pieces of files that are always there to be sent.
    let file = tempfile::tempfile().unwrap();
    file.set_len(CHUNK_SIZE_MAX as u64).unwrap();
    let file = Arc::new(file);
    for seq in 1..=PIECES {
        let head = FrameBuf { body: Bytes::new(), ..frame(seq, CHUNK_SIZE_MAX) };
        w.output(Output::SendFile {
            conn: big_id,
            frame: head,
            file: Arc::clone(&file),
            offset: 0,
            len: CHUNK_SIZE_MAX,
        });
    }
    // What one turn may send on one connection beside what it sends on the others.
    let share = (CHUNK_SIZE_MAX + 2 * HEADER_SIZE) as u64;
    let answer = frame(1, 10).to_vec().len() as u64;
    let (mut taken, mut answers, mut beside) = (Vec::new(), Vec::new(), 0);
    let mut asked = 0;
    while taken.len() < 8 << 20 {
        asked += 1;
        let request = frame(asked, 10).to_vec();
        w.send(&mut small, &request);
        // Longer than any byte is under way on the simulated network.
        w.advance(5 * MS);
        w.until("asked", |w| {
            let before = w.reactor.metrics().bytes_out.value();
            w.reactor.turn().unwrap();
            let sent = w.reactor.metrics().bytes_out.value() - before;
            let heard = w.frames().contains(&(small_id, asked));
            assert!(sent <= share + answer * u64::from(heard), "{}: {sent} in a turn", B::NAME);
            if heard {
                beside += sent.saturating_sub(answer);
                // The turn that heard it has written its answer too: a part at least, since the
                // simulated network takes pieces.
                let unsent = w.reactor.conns.of(small_id).map(|conn| conn.unsent() as u64);
                assert!(unsent.is_some_and(|left| left < answer), "{}: {unsent:?}", B::NAME);
            }
            heard
        });
        w.receive(&mut big, &mut taken);
        w.receive(&mut small, &mut answers);
    }
    assert!(asked > 20 && beside > 1 << 20, "{asked} beside {beside} bytes: it proves nothing");
}
