mod bench;
mod churn;

use super::*;
use crate::clients::address::DEFAULT_SUFFIX;
use crate::clients::work::{Goal, Pace, Reports};
use crate::measure::Timed;
use bench::{Bench, config};
use std::time::Duration;

const S: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// So many reports of each client, at once.
fn burst(burst: u32) -> Reports {
    Reports { burst, ..Reports::at(Pace::once(Duration::ZERO)) }
}

#[test]
fn every_client_binds_polls_gets_its_manifest_and_reports() {
    let mut bench = Bench::new(&config(500, Duration::ZERO, None, Goal::Revision(1)));
    bench.publish(1);
    bench.run_for(S);
    let tally = bench.swarm.tally();
    assert_eq!(
        (
            bench.swarm.standings().bound,
            bench.swarm.standings().holding,
            bench.swarm.standings().done
        ),
        (500, 500, 500)
    );
    assert_eq!((tally.polls, tally.reports, tally.repeated_manifests), (500, 500, 0));
    for what in [Timed::Bind, Timed::Poll, Timed::Assignment, Timed::Report, Timed::Slip] {
        assert_eq!(tally.latencies.count(what), 500, "{what}");
    }
    assert_eq!(tally.failures_all(), 0, "{:?}", tally.failures);
    assert_eq!((bench.swarm.standings().awaited, bench.swarm.deliveries()), (0, (0, 0)));
    assert_eq!(bench.open_conns(), 0, "nobody keeps a connection");
}

#[test]
fn acked_reports_are_told_once_with_their_own_names() {
    let mut bench = Bench::new(&config(50, Duration::ZERO, None, Goal::Revision(1)));
    bench.publish(1);
    bench.run_for(S);
    let identities = Identities::new(DEFAULT_SUFFIX).unwrap();
    let acked = bench.swarm.take_acked().into_iter();
    let mut acked: Vec<_> = acked
        .flat_map(|a| {
            let name = identities.name(a.client);
            (a.first..).zip(a.digests).map(move |(seq, said)| (name.clone(), a.epoch, seq, said))
        })
        .collect();
    acked.sort();
    assert_eq!(acked.len(), 50);
    let mut epochs: Vec<_> = acked.iter().map(|(_, epoch, ..)| *epoch).collect();
    epochs.sort_unstable();
    epochs.dedup();
    assert_eq!(epochs.len(), 50, "an incarnation each");
    let mut received = bench.reports.clone();
    received.sort();
    assert_eq!(acked, received);
    assert_eq!(bench.swarm.take_acked().len(), 0);
}

#[test]
fn another_run_has_other_incarnations() {
    let reports = |incarnation| {
        let mut config = config(1, Duration::ZERO, None, Goal::Revision(1));
        config.swarm.incarnation = incarnation;
        let mut bench = Bench::new(&config);
        bench.publish(1);
        bench.run_for(S);
        bench.reports
    };
    assert_eq!(reports(1), reports(1));
    assert_ne!(reports(1), reports(2));
}

#[test]
fn a_dial_back_reaches_the_client_that_has_the_address() {
    let mut bench = Bench::new(&config(3, Duration::ZERO, None, Goal::Settled));
    bench.run_for(S);
    bench.dial_back(1, 1, 7);
    bench.run_for(S);
    let held: Vec<_> = bench.swarm.clients.iter().map(|c| c.standing.holds).collect();
    assert_eq!(held, [false, true, false]);
    // The right name at another's address is refused: the target must be the node itself.
    bench.dial_back(0, 2, 7);
    bench.run_for(S);
    let held: Vec<_> = bench.swarm.clients.iter().map(|c| c.standing.holds).collect();
    assert_eq!(held, [false, true, false]);
    assert_eq!(bench.nacks, 1);
    assert_eq!((bench.swarm.tally().misdirected, bench.swarm.tally().leaked), (1, 0));
}

#[test]
fn clients_that_cannot_be_dialled_are_done_with_their_acks() {
    for (goal, done) in [(Goal::Settled, 0), (Goal::Acked, 20)] {
        let mut config = config(20, S, None, goal);
        config.work.reports = Some(burst(3));
        let mut bench = Bench::new(&config);
        bench.is_far = true;
        bench.run_for(10 * S);
        let standings = bench.swarm.standings();
        assert_eq!((standings.bound, standings.done), (0, done), "{goal:?}");
    }
}

#[test]
fn what_comes_to_a_strange_address_is_closed() {
    let mut bench = Bench::new(&config(3, Duration::ZERO, None, Goal::Settled));
    bench.run_for(S);
    for local in ["192.0.2.1:7402", "127.0.0.1:7402", "127.1.1.4:7402"] {
        bench.accept(local.parse().unwrap());
    }
    bench.run_for(S);
    assert_eq!(bench.swarm.tally().failures[&("dial-back".into(), "no such client".into())], 3);
    assert_eq!(bench.open_conns(), 0);
}

#[test]
fn clients_dial_from_their_own_addresses() {
    let mut bench = Bench::new(&config(300, Duration::ZERO, None, Goal::Settled));
    bench.run_for(S);
    let mut sources = bench.sources.clone();
    sources.sort();
    sources.dedup();
    assert_eq!(sources.len(), 300);
    assert!(sources.iter().all(|from| index_of(*from).is_some_and(|index| index < 300)));
}

#[test]
fn deliveries_at_once_are_bounded() {
    let mut config = config(200, Duration::ZERO, None, Goal::Revision(1));
    config.swarm.deliveries_max = 7;
    let mut bench = Bench::new(&config);
    bench.publish(1);
    bench.run_for(2 * S);
    assert_eq!(bench.uplinks_most, 7);
    assert_eq!(bench.swarm.standings().done, 200);
}

#[test]
fn a_dial_without_a_descriptor_is_counted_and_made_again() {
    let mut bench = Bench::new(&config(20, Duration::ZERO, None, Goal::Revision(1)));
    bench.publish(1);
    bench.failing_dials = 30;
    bench.run_for(60 * S);
    let tally = bench.swarm.tally();
    assert_eq!(tally.failures[&("dial".into(), "exhausted".into())], 30);
    assert_eq!(bench.swarm.standings().done, 20);
    // The wait is counted from the slot, not from the dial that succeeded: one client in
    // twenty failed more than once, and waited for 250 ms at least after the first time.
    assert!(tally.latencies.quantiles(Timed::Poll).max_us >= 250_000);
    assert!(tally.latencies.quantiles(Timed::Bind).max_us >= 250_000);
}

/// A master that stalls for 5 s in a run of 100 s: polls that fall into the stall wait evenly
/// between 0 and 5 s, so 1 % of all wait longer than 5 s − 1 % of 100 s = 4 s.
#[test]
fn a_stall_has_the_p99_that_arithmetic_gives() {
    let (interval, length, stall) = (10 * S, 100 * S, 5 * S);
    let mut config = config(1000, interval, Some(interval), Goal::Settled);
    // What a generator would send only after the stall counts from its slot all the same.
    config.swarm.deliveries_max = 10;
    config.work.length = length;
    let mut bench = Bench::new(&config);
    bench.stall = Some((config.start + 42 * S, config.start + 42 * S + stall));
    bench.run_for(length + 20 * S);

    let tally = bench.swarm.tally();
    let polls = tally.latencies.quantiles(Timed::Poll);
    assert_eq!(polls.count, 10_000, "the schedule waited for nobody");
    let expected_us = 4_000_000u64;
    assert!(polls.p99_us.abs_diff(expected_us) < 150_000, "p99 {} us", polls.p99_us);
    assert!(polls.max_us.abs_diff(5_000_000) < 150_000, "max {} us", polls.max_us);
    assert!(polls.p50_us < 5_000, "p50 {} us", polls.p50_us);

    // From the sending alone nearly nobody seems to have waited: what this is not to say.
    bench.service.sort();
    let uncorrected = bench.service[bench.service.len() * 99 / 100];
    assert!(uncorrected < 10 * MS, "{uncorrected:?}");
    assert_eq!((bench.swarm.standings().bound, bench.swarm.standings().done), (1000, 1000));
}

/// `kill -STOP` for 3 s: the slots that fell into it are made up for, and count as late.
#[test]
fn a_generator_that_slept_counts_its_own_lateness() {
    let mut config = config(100, 10 * S, Some(10 * S), Goal::Settled);
    config.work.length = 20 * S;
    let mut bench = Bench::new(&config);
    bench.run_for(5 * S);
    bench.sleep(3 * S);
    bench.run_for(30 * S);
    let latencies = &bench.swarm.tally().latencies;
    for what in [Timed::Slip, Timed::Poll] {
        let found = latencies.quantiles(what);
        assert_eq!(found.count, 200, "{what}: no slot was left out");
        assert!(found.max_us.abs_diff(3_000_000) < 150_000, "{what}: {} us", found.max_us);
        // 30 of 200 slots fell into the 3 s: so many were late by up to that.
        assert!(found.p90_us.abs_diff(1_000_000) < 150_000, "{what}: {} us", found.p90_us);
        assert!(found.p50_us < 5_000, "{what}: {} us", found.p50_us);
    }
}

#[test]
fn polls_lost_with_the_master_are_made_up_for() {
    let interval = 10 * S;
    let mut config = config(10, interval, Some(interval), Goal::Settled);
    config.work.length = 60 * S;
    let mut bench = Bench::new(&config);
    bench.run_for(20 * S);
    bench.refusing = true;
    bench.run_for(20 * S);
    bench.refusing = false;
    bench.run_for(120 * S);
    let tally = bench.swarm.tally();
    assert_eq!((tally.polls, tally.latencies.count(Timed::Poll)), (60, 60));
    assert!(tally.latencies.quantiles(Timed::Poll).max_us >= 5_000_000);
    assert!(tally.failures[&("dial".into(), "refused".into())] > 0);
    assert_eq!(bench.swarm.standings().done, 10);
}

#[test]
fn a_push_is_told_from_an_answer() {
    let mut bench = Bench::new(&config(5, Duration::ZERO, None, Goal::Revision(2)));
    bench.publish(1);
    bench.run_for(S);
    let count = |bench: &Bench, what| bench.swarm.tally().latencies.count(what);
    assert_eq!((count(&bench, Timed::Assignment), count(&bench, Timed::Push)), (5, 0));
    assert_eq!(bench.swarm.standings().done, 0);
    bench.publish(2);
    for client in 0..5 {
        bench.dial_back(client, client, 2);
        bench.dial_back(client, client, 2);
    }
    bench.run_for(S);
    assert_eq!((count(&bench, Timed::Assignment), count(&bench, Timed::Push)), (5, 5));
    assert_eq!(count(&bench, Timed::Report), 10);
    assert_eq!(bench.swarm.tally().repeated_manifests, 5);
    assert_eq!(bench.swarm.standings().done, 5);
}

#[test]
fn what_is_published_after_a_poll_is_no_answer_to_it() {
    let mut bench = Bench::new(&config(4, Duration::ZERO, None, Goal::Revision(1)));
    bench.run_for(5 * S);
    bench.publish(1);
    for client in 0..4 {
        bench.dial_back(client, client, 1);
    }
    bench.run_for(S);
    let latencies = &bench.swarm.tally().latencies;
    assert_eq!((latencies.count(Timed::Assignment), latencies.count(Timed::Push)), (0, 4));
    assert!(latencies.quantiles(Timed::Push).max_us < 100_000);
}

#[test]
fn what_nobody_asked_for_is_neither_an_answer_nor_a_push() {
    let mut bench = Bench::new(&config(4, 100 * S, None, Goal::Revision(1)));
    bench.publish(1);
    for client in 0..4 {
        bench.dial_back(client, client, 1);
    }
    bench.run_for(200 * S);
    let tally = bench.swarm.tally();
    assert_eq!((tally.unasked_manifests, bench.swarm.standings().done), (4, 4));
    assert_eq!(tally.latencies.count(Timed::Push) + tally.latencies.count(Timed::Assignment), 0);
}

#[test]
fn a_client_is_small() {
    // Its node, role and memory store; the outbox and its name lie beside.
    assert!(Swarm::client_size() <= 1024, "{} bytes", Swarm::client_size());
}

/// Clients that are started again have lost their polls, but no report, and bind anew.
#[test]
fn a_restart_keeps_what_a_disk_would_keep() {
    let mut bench = Bench::new(&config(20, Duration::ZERO, None, Goal::Settled));
    bench.run_for(S);
    let first = bench.swarm.take_tally();
    assert_eq!((first.latencies.count(Timed::Bind), first.reports), (20, 0));
    // The master goes away while reports are under way.
    let reports =
        Work { reports: Some(burst(3)), ..config(20, Duration::ZERO, None, Goal::Settled).work };
    bench.refusing = true;
    bench.begin(&reports);
    bench.run_for(S);
    assert_eq!(bench.swarm.standings().done, 0);
    bench.refusing = false;
    bench.begin(&Work { restart: Some(Duration::ZERO), reports: None, ..reports });
    bench.run_for(S);
    let second = bench.swarm.take_tally();
    assert_eq!((second.latencies.count(Timed::Bind), second.reports), (20, 60));
    assert_eq!((second.latencies.count(Timed::Report), second.false_acks), (60, 0));
    assert_eq!((bench.swarm.standings().done, bench.reports.len()), (20, 60));
    assert_eq!(bench.open_conns(), 0);
}

#[test]
fn an_ack_of_what_was_never_sent_is_found() {
    let mut bench = Bench::new(&config(2, Duration::ZERO, None, Goal::Settled));
    bench.acks_too_much = true;
    let work = config(2, Duration::ZERO, None, Goal::Settled).work;
    bench.begin(&Work { reports: Some(burst(1)), ..work });
    bench.run_for(S);
    assert!(bench.swarm.tally().false_acks > 0);
}

/// A master that has just been published to dials before the clients have begun anything: what
/// it waits for on those connections must not be forgotten in silence.
#[test]
fn a_dial_back_before_the_beginning_ends_with_it() {
    let config = config(10, Duration::ZERO, None, Goal::Settled);
    let mut bench = Bench::idle(&config);
    for client in 0..10 {
        bench.accept(SocketAddr::new(address(client).into(), 7402));
    }
    bench.run_for(S / 10);
    assert_eq!(bench.open_conns(), 10, "the master waits on them");
    bench.begin(&config.work);
    bench.run_for(S / 10);
    assert_eq!((bench.open_conns(), bench.swarm.standings().bound), (0, 10));
}

#[test]
fn without_backoff_a_client_insists() {
    let dials = |backoff| {
        let mut config = config(10, Duration::ZERO, None, Goal::Settled);
        config.work.backoff = backoff;
        config.work.restart = Some(Duration::ZERO);
        let mut bench = Bench::idle(&config);
        bench.refusing = true;
        bench.begin(&config.work);
        bench.run_for(10 * S);
        bench.swarm.tally().failures[&("dial".into(), "refused".into())]
    };
    let (patient, insistent) = (dials(true), dials(false));
    assert!(patient <= 10 * 6, "{patient}");
    assert!((10 * 80..=10 * 101).contains(&insistent), "{insistent}");
}

/// An interval may be longer than the load: who has no slot in it has nothing to reach.
#[test]
fn clients_without_a_slot_hold_nobody_up() {
    let interval = 60 * S;
    let mut config = config(20, interval, Some(interval), Goal::Settled);
    config.work.length = 9 * S;
    let mut bench = Bench::new(&config);
    bench.run_for(20 * S);
    let standings = bench.swarm.standings();
    assert_eq!((standings.bound, standings.done), (3, 20), "slots at 0, 3 and 6 s");
    assert_eq!(bench.swarm.tally().polls, 3);
}
