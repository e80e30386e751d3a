//! The reactor's suite, run on both pollers: each test is generic over a [`Backend`], and a
//! macro makes it a test of either. Time is virtual on both; bytes are real on one.

mod admission;
mod closing;
mod deadlines;
mod fairness;
mod harness;
mod process;

use super::poller::{Poller, Token};
use crate::ids::DialId;
use crate::node::io::{CloseReason, Output, Verdict};
use harness::{Backend, MioBackend, Seen, SimBackend, World};
use std::any::TypeId;

/// Makes each generic test one of the mio backend and one of the simulated backend.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        pub(super) mod mio {
            use crate::reactor::tests::MioBackend as Suites;
            $(#[test] fn $test() { super::$test::<Suites>(); })*
            pub(in crate::reactor::tests) fn backend() -> std::any::TypeId { std::any::TypeId::of::<Suites>() }
        }
        pub(super) mod sim {
            use crate::reactor::tests::SimBackend as Suites;
            $(#[test] fn $test() { super::$test::<Suites>(); })*
            pub(in crate::reactor::tests) fn backend() -> std::any::TypeId { std::any::TypeId::of::<Suites>() }
        }
    };
}
use on_both;

#[test]
fn e22_each_part_of_the_suite_runs_on_both_backends_and_they_are_two() {
    let parts = [
        (admission::mio::backend(), admission::sim::backend()),
        (closing::mio::backend(), closing::sim::backend()),
        (deadlines::mio::backend(), deadlines::sim::backend()),
        (fairness::mio::backend(), fairness::sim::backend()),
    ];
    let both = (TypeId::of::<MioBackend>(), TypeId::of::<SimBackend>());
    assert_eq!(parts, [both; 4]);
    assert_ne!(
        TypeId::of::<<MioBackend as Backend>::P>(),
        TypeId::of::<<SimBackend as Backend>::P>()
    );
    // One of them is the operating system's: a peer that knows of no backend reaches it.
    let mut world = World::<MioBackend>::new();
    let _peer = std::net::TcpStream::connect(world.addr).unwrap();
    world.until("accepted", |w| w.accepted().len() == 1);
}

/// A course of events through the trait alone: what the host was told, connections numbered in
/// the order in which they came about.
fn scenario<B: Backend>() -> Vec<String> {
    let mut w = World::<B>::new();
    w.react(|conn, f, outputs| {
        let answer = harness::frame(f.header.seq + 100, 10);
        outputs.push_back(Output::Send { conn, frame: answer });
        Verdict::Taken
    });
    // Somebody dials, says two things in three pieces, and is answered.
    let (mut peer, _) = w.connect();
    let said = [harness::frame(1, 3000).to_vec(), harness::frame(2, 5).to_vec()].concat();
    for piece in said.chunks(1500) {
        w.send(&mut peer, piece);
        w.settle();
    }
    let mut answers = Vec::new();
    w.until("answers", |w| {
        w.receive(&mut peer, &mut answers);
        answers.len() == 2 * harness::frame(1, 10).to_vec().len()
    });
    // It goes, and is missed.
    w.peers.close(peer);
    w.until("missed", |w| matches!(w.seen().last(), Some(Seen::Closed(..))));
    // We dial: one who listens, and one who does not.
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = w.peers.listen(any, 8, Token(1 << 41)).unwrap();
    let addr = w.peers.listen_addr(&listener).unwrap();
    let dial = |n| Output::Dial { dial: DialId(n), addr, from: None, timeout: None };
    w.output(dial(1));
    w.until("dialed", |w| matches!(w.seen().last(), Some(Seen::Dialed(..))));
    let Some(Seen::Dialed(_, conn)) = w.seen().last().cloned() else { unreachable!() };
    w.output(Output::Close { conn, reason: CloseReason::Done });
    let mut accepted = None;
    w.until("accepted there", |w| {
        accepted = accepted.take().or_else(|| w.peers.accept(&listener).ok());
        accepted.is_some()
    });
    w.peers.close(accepted.unwrap().0);
    w.until("ended", |w| w.closed(conn).is_some());
    w.peers.close_listener(listener);
    w.output(dial(2));
    w.until("refused", |w| matches!(w.seen().last(), Some(Seen::DialFailed(..))));
    let mut ids = Vec::new();
    let mut number = |id| {
        ids.iter().position(|known| *known == id).unwrap_or_else(|| {
            ids.push(id);
            ids.len() - 1
        })
    };
    let seen = w.seen().to_vec();
    let told = |seen: Seen| match seen {
        Seen::Accepted(conn) => format!("accepted {}", number(conn)),
        Seen::Dialed(dial, conn) => format!("{dial:?} is {}", number(conn)),
        Seen::Frame(conn, seq) => format!("frame {seq} on {}", number(conn)),
        Seen::Closed(conn, reason) => format!("closed {}: {reason:?}", number(conn)),
        other => format!("{other:?}"),
    };
    seen.into_iter().map(told).collect()
}

#[test]
fn s1_41_one_scenario_through_the_trait_is_told_alike_by_both_pollers() {
    let told = scenario::<MioBackend>();
    assert_eq!(told, scenario::<SimBackend>());
    assert_eq!(told.len(), 7, "{told:#?}");
    assert_eq!(told[1..4], ["frame 1 on 0", "frame 2 on 0", "closed 0: PeerClosed"]);
}
