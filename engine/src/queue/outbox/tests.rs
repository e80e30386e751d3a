use super::*;
use crate::queue::memory::Faults;
use crate::queue::testing::{OutboxRig, at, host, message, nack, report};
use crate::wire::{Frame, Kind, NackReason};

fn rig() -> OutboxRig {
    OutboxRig::new(OutboxConfig::default())
}

fn seqs(frames: &[Vec<u8>]) -> Vec<u64> {
    frames.iter().map(|bytes| Frame::parse(bytes).unwrap().header.seq).collect()
}

fn bodies(frames: &[Vec<u8>]) -> Vec<String> {
    let body =
        |bytes: &Vec<u8>| String::from_utf8_lossy(Frame::parse(bytes).unwrap().body()).into_owned();
    frames.iter().map(body).collect()
}

fn push(rig: &mut OutboxRig, from: u64, to: u64) {
    for n in from..=to {
        let origin = rig.outbox.push(report(format!("r{n}").as_bytes()), at(0)).unwrap();
        assert_eq!(origin, Origin { name: host("web1"), epoch: Epoch(55), seq: n });
    }
}

#[test]
fn s1_51_binding_goes_before_ten_thousand_reports() {
    let mut rig = rig();
    push(&mut rig, 1, 10_000);
    rig.turn(at(0));
    rig.outbox.begin();
    rig.turn(at(0));
    let first = rig.outbox.poll_frame(at(0)).unwrap().to_vec();
    assert_eq!(Frame::parse(&first).unwrap().header.kind, Kind::REPORT);
    rig.outbox.push(message(Kind::POLL, b"poll"), at(0)).unwrap();
    rig.outbox.push(message(Kind::BIND_REQ, b"bind"), at(0)).unwrap();
    let kinds: Vec<_> = (0..3)
        .map(|_| Frame::parse(&rig.outbox.poll_frame(at(0)).unwrap().to_vec()).unwrap().header.kind)
        .collect();
    assert_eq!(kinds, [Kind::BIND_REQ, Kind::POLL, Kind::REPORT]);
}

#[test]
fn s1_52_the_lane_in_memory_is_bounded_and_counts_what_it_drops() {
    let config =
        OutboxConfig { memory_count_max: 10, memory_bytes_max: 1000, ..Default::default() };
    let mut rig = OutboxRig::new(config);
    for n in 0..25u8 {
        rig.outbox.push(message(Kind::MANIFEST, &[n]), at(0)).unwrap();
    }
    assert_eq!(rig.outbox.counts(Lane::Volatile).dropped, 15);
    rig.outbox.begin();
    let sent = rig.sent(at(0));
    assert_eq!(seqs(&sent), (16..=25).collect::<Vec<_>>());
    // By bytes too, and what is in flight gives way last.
    rig.outbox.push(message(Kind::MANIFEST, &[0; 995]), at(0)).unwrap();
    assert_eq!((rig.outbox.in_flight(), rig.outbox.counts(Lane::Volatile).dropped), (5, 20));
    rig.restart(at(0));
    assert!(rig.outbox.is_empty());
}

#[test]
fn s1_23_without_a_master_reports_wait_and_the_rest_is_dropped() {
    let mut rig = rig();
    push(&mut rig, 1, 100);
    for n in 0..100u8 {
        rig.outbox.push(message(Kind::MANIFEST, &[n]), at(0)).unwrap();
    }
    rig.turn(at(0));
    rig.outbox.handle_unreachable();
    assert_eq!(rig.outbox.counts(Lane::Volatile).dropped, 100);
    rig.outbox.begin();
    let sent = rig.sent(at(1));
    assert_eq!(seqs(&sent), (1..=100).collect::<Vec<_>>());
    rig.outbox.handle_ack(Lane::Durable, Epoch(55), 100);
    rig.turn(at(1));
    assert!(rig.outbox.is_empty() && rig.store.records().next().is_none());
}

#[test]
fn newest_wins_replaces_what_is_not_in_flight() {
    let mut rig = rig();
    rig.outbox.push(message(Kind::HEARTBEAT, b"1"), at(0)).unwrap();
    rig.outbox.push(message(Kind::POLL, b"poll"), at(0)).unwrap();
    rig.outbox.push(message(Kind::HEARTBEAT, b"2"), at(0)).unwrap();
    rig.outbox.begin();
    assert_eq!(bodies(&rig.sent(at(0))), ["poll", "2"]);
    rig.outbox.push(message(Kind::HEARTBEAT, b"3"), at(0)).unwrap();
    assert_eq!(bodies(&rig.sent(at(0))), ["3"]);
    assert_eq!(rig.outbox.counts(Lane::Volatile).replaced, 1);
    // Acked by seq; the rest is offered again by the next delivery.
    rig.outbox.handle_ack(Lane::Volatile, Epoch(9), 3);
    assert_eq!(rig.outbox.in_flight(), 1);
    rig.outbox.begin();
    assert_eq!(bodies(&rig.sent(at(0))), ["3"]);
    // Of another epoch, or another lane: no ack.
    rig.outbox.handle_ack(Lane::Volatile, Epoch(8), 4);
    rig.outbox.handle_ack(Lane::Urgent, Epoch(9), 4);
    assert!(!rig.outbox.is_empty());
    rig.outbox.handle_ack(Lane::Volatile, Epoch(9), 4);
    assert!(rig.outbox.is_empty());
}

#[test]
fn s1_53_a_record_is_sent_only_after_its_commit_and_kept_until_its_ack() {
    let mut rig = rig();
    rig.store.faults().delay = 1;
    rig.outbox.begin();
    push(&mut rig, 1, 3);
    assert_eq!(rig.sent(at(0)).len(), 0);
    assert_eq!((rig.outbox.committed(), rig.outbox.is_committed()), (0, false));
    let event = rig.store.tick().pop().unwrap();
    rig.outbox.handle_store(event, at(0));
    assert_eq!((rig.outbox.committed(), rig.outbox.is_committed()), (3, true));
    rig.store.faults().delay = 0;
    assert_eq!(seqs(&rig.sent(at(0))), [1, 2, 3]);
    rig.outbox.handle_ack(Lane::Durable, Epoch(55), 2);
    rig.turn(at(0));
    // The connection breaks: the next delivery begins at the oldest that is not acked.
    rig.outbox.end();
    assert!(rig.outbox.poll_frame(at(0)).is_none());
    rig.outbox.begin();
    assert_eq!(seqs(&rig.sent(at(0))), [3]);
    // An ack for what was never sent is none.
    push(&mut rig, 4, 4);
    rig.turn(at(0));
    rig.outbox.handle_ack(Lane::Durable, Epoch(55), 4);
    assert_eq!(seqs(&rig.sent(at(0))), [4]);
    rig.outbox.handle_ack(Lane::Durable, Epoch(54), 4);
    assert!(!rig.outbox.is_empty());
    rig.outbox.handle_ack(Lane::Durable, Epoch(55), 4);
    rig.turn(at(0));
    assert_eq!(rig.outbox.depth(), (0, 0));
}

#[test]
fn s1_53_a_failed_commit_loses_no_report_of_its_origin() {
    let mut rig = rig();
    *rig.store.faults() = Faults { delay: 1, failing_commits: 1, ..Faults::default() };
    push(&mut rig, 1, 2);
    rig.turn(at(0));
    push(&mut rig, 3, 3);
    rig.turn(at(0));
    for event in rig.store.tick() {
        rig.outbox.handle_store(event, at(0));
    }
    assert!(rig.outbox.store_error().is_some());
    // Not at once, and then all that is not on the disk, under the same numbers.
    assert!(rig.outbox.poll_command(at(0)).is_none());
    assert_eq!(rig.outbox.next_timeout(), Some(at(1000).at));
    rig.store.faults().delay = 0;
    rig.turn(at(1000));
    assert!(rig.outbox.is_committed() && rig.outbox.store_error().is_none());
    rig.outbox.begin();
    assert_eq!(bodies(&rig.sent(at(1000))), ["r1", "r2", "r3"]);
}

#[test]
fn at_the_cap_a_report_is_refused_and_nothing_is_lost() {
    let config = OutboxConfig { durable_bytes_max: 500, ..Default::default() };
    let mut rig = OutboxRig::new(config);
    let mut taken = 0;
    let full = loop {
        match rig.outbox.push(report(b"twenty bytes of body"), at(0)) {
            Ok(_) => taken += 1,
            Err(full) => break full,
        }
    };
    assert!(full.limit == 500 && full.bytes <= 500 && taken > 3);
    rig.turn(at(0));
    rig.outbox.begin();
    assert_eq!(rig.sent(at(0)).len(), taken);
    rig.outbox.handle_ack(Lane::Durable, Epoch(55), taken as u64);
    rig.turn(at(0));
    rig.outbox.push(report(b"twenty bytes of body"), at(0)).unwrap();
    // What no peer would take is not taken either, however much room there is.
    let limit = Kind::REPORT.body_size_max() as usize;
    let full = rig.outbox.push(report(&vec![b'x'; limit + 1]), at(0)).unwrap_err();
    assert_eq!((full.bytes, full.limit), (limit as u64 + 1, limit as u64));
    // While the disk does not answer, memory is bounded too.
    let config = OutboxConfig { pending_bytes_max: 200, ..Default::default() };
    let mut rig = OutboxRig::new(config);
    rig.store.faults().failing_commits = 1;
    while rig.outbox.push(report(b"twenty bytes of body"), at(0)).is_ok() {
        rig.turn(at(0));
    }
    assert!(rig.outbox.depth().1 <= 200);
}

#[test]
fn s1_26_drained_to_nothing_and_restarted_the_numbers_go_on() {
    let mut rig = rig();
    push(&mut rig, 1, 5);
    rig.turn(at(0));
    rig.outbox.begin();
    rig.sent(at(0));
    rig.outbox.handle_ack(Lane::Durable, Epoch(55), 5);
    rig.outbox.end();
    rig.turn(at(0));
    assert!(rig.outbox.is_empty() && rig.store.records().next().is_none());
    rig.restart(at(1));
    push(&mut rig, 6, 6);
    rig.turn(at(1));
    rig.restart(at(2));
    rig.outbox.begin();
    assert_eq!(seqs(&rig.sent(at(2))), [6]);
}

#[test]
fn busy_holds_back_the_durable_lane_until_its_time_or_another_parent() {
    let mut rig = rig();
    push(&mut rig, 1, 3);
    rig.turn(at(0));
    rig.outbox.begin();
    assert_eq!(rig.sent(at(0)).len(), 3);
    rig.outbox.handle_nack(Lane::Durable, Epoch(55), 2, &nack(NackReason::Busy, 5000), at(0));
    // What came before the refused one is still acked.
    rig.outbox.handle_ack(Lane::Durable, Epoch(55), 1);
    assert_eq!(rig.outbox.depth().0, 2);
    rig.outbox.handle_nack(Lane::Durable, Epoch(55), 3, &nack(NackReason::Busy, 9000), at(0));
    rig.outbox.end();
    rig.outbox.push(message(Kind::HEARTBEAT, b"h"), at(10)).unwrap();
    rig.outbox.begin();
    assert_eq!(bodies(&rig.sent(at(10))), ["h"]);
    rig.outbox.handle_ack(Lane::Volatile, Epoch(9), 1);
    assert!(!rig.outbox.is_due(at(10).at));
    rig.outbox.rebound();
    assert!(rig.outbox.is_due(at(10).at) && rig.outbox.next_timeout().is_none());
    rig.outbox.begin();
    assert_eq!(seqs(&rig.sent(at(10))), [2, 3]);
    // The time is bounded whatever the peer says.
    for (said, held) in [(0, 100), (u64::from(u32::MAX), 600_000)] {
        rig.outbox.begin();
        assert_eq!(rig.sent(at(700_000)).len(), 2);
        let nack = nack(NackReason::Store, said);
        rig.outbox.handle_nack(Lane::Durable, Epoch(55), 2, &nack, at(700_000));
        assert_eq!(rig.outbox.hold_until(), Some(at(700_000 + held).at));
        rig.outbox.end();
        assert!(rig.outbox.is_due(at(700_000 + held).at));
        rig.outbox.rebound();
    }
}

#[test]
fn s1_53_what_the_peer_cannot_take_is_settled_and_blocks_nothing() {
    for reason in [NackReason::Unsupported, NackReason::Damaged, NackReason::Refused] {
        let mut rig = rig();
        push(&mut rig, 1, 3);
        rig.turn(at(0));
        rig.outbox.begin();
        rig.sent(at(0));
        rig.store.faults().failing_trims = 1;
        rig.outbox.handle_nack(Lane::Durable, Epoch(55), 1, &nack(reason, 0), at(0));
        rig.outbox.end();
        rig.turn(at(0));
        // The quarantine failed: the record is neither lost nor offered again.
        assert_eq!(rig.store.quarantine().len(), 0);
        assert!(!rig.outbox.is_due(at(0).at));
        rig.turn(at(2000));
        assert_eq!(rig.store.quarantine().len(), 1);
        rig.outbox.begin();
        assert_eq!(seqs(&rig.sent(at(2000))), [2, 3]);
        rig.outbox.handle_nack(Lane::Durable, Epoch(55), 3, &nack(reason, 0), at(2000));
        rig.outbox.handle_ack(Lane::Durable, Epoch(55), 2);
        rig.turn(at(2000));
        assert!(rig.outbox.is_empty());
        assert_eq!(rig.outbox.counts(Lane::Durable).refused, 2);
    }
    // Refused for a while: that is about us, not about the record.
    let mut rig = rig();
    push(&mut rig, 1, 1);
    rig.turn(at(0));
    rig.outbox.begin();
    rig.sent(at(0));
    rig.outbox.handle_nack(Lane::Durable, Epoch(55), 1, &nack(NackReason::Refused, 60_000), at(0));
    rig.turn(at(0));
    assert_eq!((rig.store.quarantine().len(), rig.outbox.depth().0), (0, 1));
}

#[test]
fn what_is_refused_on_the_lanes_in_memory_is_gone_and_is_not_awaited() {
    for (n, reason) in
        [NackReason::Unsupported, NackReason::Unknown, NackReason::Stopping].into_iter().enumerate()
    {
        let mut rig = rig();
        for (kind, lane) in [(Kind::POLL, Lane::Volatile), (Kind::BIND_REQ, Lane::Urgent)] {
            rig.outbox.push(message(kind, b"p"), at(0)).unwrap();
            rig.outbox.begin();
            assert_eq!(rig.sent(at(0)).len(), 1);
            rig.outbox.handle_nack(lane, Epoch(9), 1, &nack(reason, 600_000), at(0));
            assert_eq!((rig.outbox.in_flight(), rig.outbox.counts(lane).refused), (0, 1), "{n}");
            assert!(!rig.outbox.is_due(at(0).at), "it would be dialled for again at once");
        }
    }
}

#[test]
fn s1_53_a_corrupt_record_of_the_outbox_is_stepped_over() {
    let mut rig = rig();
    push(&mut rig, 1, 4);
    rig.turn(at(0));
    for seq in [1, 2, 4] {
        rig.store.record_mut(seq).unwrap().frame[30] ^= 1;
    }
    rig.outbox.begin();
    assert_eq!(seqs(&rig.sent(at(0))), [3]);
    rig.outbox.handle_ack(Lane::Durable, Epoch(55), 3);
    rig.turn(at(0));
    assert!(rig.outbox.is_empty());
    assert_eq!((rig.store.quarantine().len(), rig.store.records().count()), (3, 0));
}

#[test]
fn what_has_outlived_its_time_is_not_sent_and_is_counted() {
    let mut rig = rig();
    let mortal = |kind, ttl| Message { ttl: Some(Duration::from_secs(ttl)), ..message(kind, b"x") };
    rig.outbox.push(mortal(Kind::REPORT, 10), at(0)).unwrap();
    rig.outbox.push(mortal(Kind::REPORT, 100), at(0)).unwrap();
    rig.outbox.push(mortal(Kind::MANIFEST, 10), at(0)).unwrap();
    rig.outbox.push(mortal(Kind::MANIFEST, 100), at(0)).unwrap();
    rig.turn(at(0));
    rig.outbox.begin();
    let sent = rig.sent(at(40_000));
    let ttls: Vec<_> = sent.iter().map(|f| Frame::parse(f).unwrap().header.ttl_s).collect();
    assert_eq!(ttls, [60, 60]);
    assert_eq!(rig.outbox.counts(Lane::Volatile).expired, 1);
    assert_eq!(rig.outbox.counts(Lane::Durable).expired, 1);
    rig.outbox.begin();
    assert_eq!(rig.sent(at(200_000)).len(), 0);
    rig.turn(at(200_000));
    assert!(rig.outbox.is_empty());
    assert_eq!(rig.outbox.counts(Lane::Durable).expired, 2);
}

#[test]
fn the_window_bounds_what_is_in_flight() {
    let config = OutboxConfig { window_frames: 10, ..Default::default() };
    let mut rig = OutboxRig::new(config);
    push(&mut rig, 1, 30);
    rig.turn(at(0));
    rig.outbox.begin();
    assert_eq!(seqs(&rig.sent(at(0))), (1..=10).collect::<Vec<_>>());
    rig.outbox.handle_ack(Lane::Durable, Epoch(55), 4);
    assert_eq!(seqs(&rig.sent(at(0))), (11..=14).collect::<Vec<_>>());
    let config = OutboxConfig { window_bytes: 300, read_bytes_max: 100, ..Default::default() };
    let mut rig = OutboxRig::new(config);
    push(&mut rig, 1, 30);
    rig.outbox.begin();
    let sent = rig.sent(at(0));
    assert!(sent.len() > 3 && sent[..sent.len() - 1].concat().len() < 300);
}

#[test]
fn an_outbox_at_rest_is_small_and_owns_no_heap() {
    let size = size_of::<Outbox>();
    assert!(size < 300, "{size} bytes");
    let mut rig = rig();
    push(&mut rig, 1, 50);
    rig.outbox.push(message(Kind::POLL, b"p"), at(0)).unwrap();
    rig.outbox.begin();
    rig.sent(at(0));
    rig.outbox.handle_ack(Lane::Durable, Epoch(55), 50);
    rig.outbox.handle_ack(Lane::Volatile, Epoch(9), 1);
    rig.turn(at(0));
    rig.outbox.end();
    assert!(rig.outbox.durable.is_at_rest());
    assert_eq!(rig.outbox.volatile.capacity(), 0);
}
