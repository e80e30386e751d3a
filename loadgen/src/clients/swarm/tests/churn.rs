//! Clients that leave and come back.

use super::bench::{Bench, config};
use super::{MS, S};
use crate::clients::work::{Churn, Goal, Pace, Reports, Work};
use crate::measure::Timed;
use std::time::Duration;

/// The master answers in 1 ms: whoever waits for longer waits for a client.
#[track_caller]
fn nobody_waited(bench: &Bench) {
    let latencies = &bench.swarm.tally().latencies;
    for what in [Timed::Bind, Timed::Poll, Timed::Report, Timed::Push, Timed::Assignment] {
        let max_us = latencies.quantiles(what).max_us;
        assert!(max_us < 100_000, "{what}: {max_us} us");
    }
    let late_us = latencies.quantiles(Timed::Slip).max_us;
    assert!(late_us < 1000, "who comes back does so on a tick of the timer: {late_us} us");
}

/// Ten clients hold revision 1; one of them has just left for 5 s. Returns its number.
fn one_away(bench: &mut Bench, work: &Work) -> u32 {
    bench.publish(1);
    bench.run_for(S);
    bench.begin(work);
    bench.run_for(2 * S + 100 * MS);
    let away: Vec<u32> = (0..10).filter(|client| bench.swarm.is_away(*client)).collect();
    assert_eq!((bench.swarm.tally().leaves, away.len()), (1, 1));
    assert_eq!(bench.swarm.standings().bound, 9);
    away[0]
}

/// One leaves after 2 s, and no other.
fn one_leaves(goal: Goal) -> Work {
    Work { churn: Some(Churn { permille: 3000, away: 5 * S }), goal, ..Work::steady(2 * S, 3 * S) }
}

/// A bench whose clients are to be bound, and nothing more.
fn bench() -> Bench {
    Bench::new(&config(10, Duration::ZERO, None, Goal::Settled))
}

/// As a host that is switched off: neither does it take what is brought to it, nor does the time
/// until it is back count as the master's.
#[test]
fn who_is_away_takes_no_dial_back() {
    let mut bench = bench();
    let away = one_away(&mut bench, &one_leaves(Goal::Revision(2)));
    bench.publish(2);
    for client in 0..10 {
        bench.dial_back(client, client, 2);
    }
    bench.run_for(2 * S);
    let standings = bench.swarm.standings();
    assert_eq!((standings.holding, standings.done, bench.open_conns()), (9, 9, 0));
    assert_eq!(bench.nacks, 0, "it does not even refuse");
    bench.run_for(10 * S);
    let standings = bench.swarm.standings();
    assert_eq!((standings.bound, standings.holding, standings.done), (10, 10, 10));
    let tally = bench.swarm.tally();
    assert_eq!((tally.leaves, tally.returns, tally.failures_all()), (1, 1, 0));
    // What it missed is the answer to its first poll.
    let count = |what| tally.latencies.count(what);
    assert_eq!((count(Timed::Push), count(Timed::Assignment)), (9, 1 + 10), "{away}");
    nobody_waited(&bench);
}

/// What came before it left, and what it has on its disk, is not sent meanwhile either.
#[test]
fn who_is_away_sends_nothing_and_polls_when_it_is_back() {
    let mut bench = bench();
    let work = Work { reports: Some(Reports::at(Pace::every(S))), ..one_leaves(Goal::Settled) };
    one_away(&mut bench, &Work { length: 4 * S - MS, ..work });
    bench.run_for(2 * S - 200 * MS);
    let (polls, dials) = (bench.swarm.tally().polls, bench.sources.len());
    bench.run_for(S);
    assert_eq!((bench.swarm.tally().returns, bench.sources.len()), (0, dials));
    bench.run_for(10 * S);
    let tally = bench.swarm.tally();
    assert_eq!((tally.leaves, tally.returns), (1, 1));
    assert_eq!(tally.polls, polls + 1, "when it is back, though all slots are over");
    assert_eq!(tally.latencies.count(Timed::Poll), tally.polls);
    assert_eq!(tally.latencies.count(Timed::Report), tally.reports);
    let standings = bench.swarm.standings();
    assert_eq!((standings.done, standings.awaited), (10, 0));
    nobody_waited(&bench);
}

/// Another phase does not bring anybody back earlier, nor later.
#[test]
fn who_is_away_stays_so_in_the_next_phase() {
    for restart in [None, Some(S)] {
        let mut bench = bench();
        let away = one_away(&mut bench, &one_leaves(Goal::Settled));
        bench.swarm.take_tally();
        let reports = Some(Reports::at(Pace::every(S)));
        bench.begin(&Work { reports, restart, ..Work::steady(S, 8 * S) });
        bench.run_for(4 * S);
        assert!(bench.swarm.is_away(away));
        assert_eq!((bench.swarm.standings().bound, bench.swarm.tally().returns), (9, 0));
        bench.dial_back(away, away, 2);
        bench.run_for(6 * S);
        let standings = bench.swarm.standings();
        assert_eq!((standings.bound, standings.done, standings.awaited), (10, 10, 0));
        let tally = bench.swarm.tally();
        assert_eq!((tally.leaves, tally.returns, tally.failures_all()), (0, 1, 0));
        // All slots of nine, and the last three of one, which also polls as it comes back.
        assert_eq!((tally.reports, tally.polls), (9 * 8 + 3, 9 * 8 + 3 + 1), "{restart:?}");
        nobody_waited(&bench);
    }
}

#[test]
fn clients_leave_and_come_back_and_lose_nothing() {
    let interval = 10 * S;
    let mut config = config(100, interval, Some(interval), Goal::Settled);
    config.work.length = 60 * S;
    // Each of them once a minute, on average.
    config.work.churn = Some(Churn { permille: 1000, away: 3 * S });
    config.work.reports = Some(Reports::at(Pace::every(interval)));
    let mut bench = Bench::new(&config);
    bench.run_for(120 * S);
    let tally = bench.swarm.tally();
    assert!((80..=100).contains(&tally.leaves), "{}", tally.leaves);
    assert_eq!(tally.returns, tally.leaves);
    // The slots of those who are away are nobody's; each polls when it comes back.
    let at_slots = tally.polls - tally.returns;
    assert!(at_slots < 600 && at_slots > 500, "{at_slots}");
    assert_eq!(tally.latencies.count(Timed::Bind), 100 + tally.leaves);
    assert_eq!(tally.latencies.count(Timed::Report), tally.reports);
    nobody_waited(&bench);
    assert_eq!((bench.swarm.standings().done, bench.swarm.standings().awaited), (100, 0));
    assert_eq!(bench.reports.len() as u64, tally.reports);
}
