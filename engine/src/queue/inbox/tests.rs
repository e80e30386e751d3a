use super::*;
use crate::queue::testing::{InboxRig, at, conn, frame};

fn rig() -> InboxRig {
    InboxRig::new(InboxConfig::default())
}

/// One that has so many records of one sender on its disk.
fn rig_with(records: u64) -> InboxRig {
    let mut rig = rig();
    for seq in 1..=records {
        rig.offer(1, &frame("a", 1, seq, b"x"), at(0));
    }
    rig.turn(at(0));
    rig
}

/// Five seconds in which its disk does not answer: nothing is due meanwhile. Then all is trimmed.
fn sleeps_until_answered(mut rig: InboxRig) {
    rig.turn(at(5000));
    assert_eq!(rig.inbox.next_timeout(), None, "there is nothing to do before the answer");
    rig.store.faults().delay = 0;
    rig.tick(at(5000));
    rig.turn(at(5001));
    rig.turn(at(6001));
    assert_eq!(rig.store.records().count(), 0, "then it is trimmed");
}

fn seqs(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| Frame::parse(&record.frame).unwrap().header.seq).collect()
}

#[test]
fn s1_53_duplicates_are_removed() {
    let mut rig = rig();
    rig.store.faults().delay = 1;
    let one = frame("web1", 5, 1, b"one");
    assert_eq!(rig.offer(1, &one, at(0)), Offer::Gathered);
    // The first copy is not on the disk: neither is the duplicate's ack.
    assert_eq!(rig.offer(2, &one, at(0)), Offer::Waiting);
    rig.turn(at(1));
    assert_eq!(rig.offer(3, &one, at(1)), Offer::Waiting);
    assert_eq!(rig.acks(), []);
    rig.tick(at(2));
    assert_eq!(rig.acks(), [(conn(1), 1), (conn(2), 1), (conn(3), 1)]);
    assert_eq!(rig.offer(2, &one, at(3)), Offer::AckNow { epoch: Epoch(5), seq: 1 });
    rig.turn(at(3));
    assert_eq!(rig.store.records().count(), 1);
    // Another epoch of the same host is another stream.
    assert_eq!(rig.offer(2, &frame("web1", 6, 1, b"new"), at(3)), Offer::Gathered);
}

#[test]
fn s1_53_a_failed_commit_discards_what_was_gathered_after_it() {
    let mut rig = rig();
    *rig.store.faults() =
        crate::queue::memory::Faults { delay: 1, failing_commits: 1, ..Default::default() };
    let (a, b) = (frame("a", 1, 1, b"a"), frame("b", 1, 1, b"b"));
    assert_eq!(rig.offer(1, &a, at(0)), Offer::Gathered);
    rig.turn(at(0));
    // The next is gathered, partly with the store already, while the first is written.
    assert_eq!(rig.offer(2, &b, at(0)), Offer::Gathered);
    rig.turn(at(0));
    assert_eq!(rig.offer(3, &frame("c", 1, 1, b"c"), at(0)), Offer::Gathered);
    assert_eq!(rig.offer(4, &a, at(0)), Offer::Waiting);
    rig.tick(at(1));
    let refused: Vec<_> = std::iter::from_fn(|| rig.inbox.poll_refused()).collect();
    // Each is told what it lost, so that its sender knows that it is meant.
    let told = [(2, Epoch(1), 1), (1, Epoch(1), 1)];
    assert_eq!(refused.len(), 4);
    assert!(told.iter().all(|(n, epoch, seq)| refused.contains(&(conn(*n), *epoch, *seq))));
    assert_eq!(rig.acks(), []);
    assert!(rig.inbox.store_error().is_some());
    assert_eq!(rig.inbox.depth().records, 0);
    // Those connections are done for this lane.
    assert_eq!(rig.offer(2, &frame("b", 1, 2, b"b2"), at(1)), Offer::Refused);
    // The store is left in peace for a while, then everything is offered again.
    assert!(matches!(rig.offer(11, &a, at(2)), Offer::Busy { .. }));
    rig.turn(at(1500));
    rig.tick(at(1500));
    for (on, bytes) in [(12, &a), (13, &b)] {
        assert_eq!(rig.offer(on, bytes, at(1500)), Offer::Gathered);
    }
    rig.turn(at(1500));
    rig.tick(at(1501));
    assert_eq!(rig.acks(), [(conn(12), 1), (conn(13), 1)]);
    assert_eq!(rig.store.records().map(|r| r.seq).collect::<Vec<_>>(), [1, 2]);
    assert!(rig.inbox.store_error().is_none());
}

#[test]
fn one_ack_per_connection_and_commit() {
    let mut rig = rig();
    rig.store.faults().delay = 1;
    for seq in 1..=5 {
        assert_eq!(rig.offer(1, &frame("a", 1, seq, b"x"), at(0)), Offer::Gathered);
        assert_eq!(rig.offer(2, &frame("b", 1, seq, b"x"), at(0)), Offer::Gathered);
    }
    rig.turn(at(0));
    rig.tick(at(1));
    assert_eq!(rig.acks(), [(conn(1), 5), (conn(2), 5)]);
    assert!(rig.inbox.is_idle());
}

#[test]
fn a_connection_that_closed_gets_no_ack_and_its_record_stays() {
    let mut rig = rig();
    rig.store.faults().delay = 1;
    rig.offer(1, &frame("a", 1, 1, b"x"), at(0));
    rig.inbox.conn_closed(conn(1));
    rig.turn(at(0));
    rig.tick(at(1));
    assert_eq!(rig.acks(), []);
    let again = rig.offer(2, &frame("a", 1, 1, b"x"), at(1));
    assert_eq!(again, Offer::AckNow { epoch: Epoch(1), seq: 1 });
}

#[test]
fn a_full_gathering_parks_and_its_commit_resumes() {
    let mut rig = InboxRig::new(InboxConfig { gathering_records_max: 4, ..Default::default() });
    rig.store.faults().delay = 1;
    for n in 0..4 {
        assert_eq!(rig.offer(n, &frame("a", u64::from(n), 1, b"x"), at(0)), Offer::Gathered);
    }
    assert_eq!(rig.offer(4, &frame("a", 4, 1, b"x"), at(0)), Offer::Full);
    rig.turn(at(0));
    // One gathering is with the store: one more may fill up beside it.
    for n in 5..9 {
        assert_eq!(rig.offer(n, &frame("a", u64::from(n), 1, b"x"), at(0)), Offer::Gathered);
    }
    for n in 9..19 {
        assert_eq!(rig.offer(n, &frame("a", u64::from(n), 1, b"x"), at(0)), Offer::Full);
    }
    rig.turn(at(0));
    assert_eq!(rig.inbox.poll_resume(), None);
    rig.inbox.conn_closed(conn(9));
    rig.tick(at(1));
    // As many as there is room for, the longest waiting first, not the one that has gone.
    let resumed: Vec<_> = std::iter::from_fn(|| rig.inbox.poll_resume()).collect();
    assert_eq!(resumed.len(), 8);
    assert_eq!(resumed[..2], [conn(4), conn(10)]);
    // One that goes away instead of offering its frame makes room for the next.
    rig.inbox.conn_closed(conn(10));
    assert_eq!(rig.inbox.poll_resume(), Some(conn(17)));
    assert_eq!(rig.inbox.poll_resume(), None);
}

#[test]
fn s1_53_a_full_store_is_back_pressure() {
    let config = InboxConfig { bytes_high: 1000, bytes_low: 300, ..Default::default() };
    let mut rig = InboxRig::new(config);
    rig.inbox.start_consuming(None);
    let body = [7; 100];
    let mut taken = 0;
    while rig.offer(1, &frame("a", 1, taken + 1, &body), at(0)) == Offer::Gathered {
        taken += 1;
        rig.turn(at(0));
        assert!(taken < 100, "nothing is ever too much");
    }
    assert!(taken >= 5 && rig.inbox.is_busy());
    // The connection that was refused may bring nothing more; duplicates are still acked.
    assert_eq!(rig.offer(1, &frame("a", 1, 1, &body), at(0)), Offer::Refused);
    assert!(matches!(rig.offer(2, &frame("a", 1, 1, &body), at(0)), Offer::AckNow { .. }));
    // The crowd gets appointments one after the other, in bounds.
    let mut last = Duration::ZERO;
    for n in 10..2010 {
        let Offer::Busy { retry_after } = rig.offer(n, &frame("b", u64::from(n), 1, b""), at(0))
        else {
            panic!("taken above the high watermark");
        };
        assert!(retry_after > last && retry_after >= Duration::from_millis(100));
        last = retry_after;
    }
    assert!(last >= Duration::from_secs(2) && last <= Duration::from_secs(600));
    // The consumer drains it, and it is trimmed at once, since it is full.
    let records = rig.inbox.poll_records().unwrap();
    let upto = records.last().unwrap().seq;
    rig.inbox.consumed(upto, at(10));
    rig.turn(at(10));
    while let Some(records) = rig.inbox.poll_records() {
        rig.inbox.consumed(records.last().unwrap().seq, at(10));
        rig.turn(at(10));
    }
    assert!(!rig.inbox.is_busy());
    assert_eq!(rig.offer(3000, &frame("a", 1, taken + 1, &body), at(10)), Offer::Gathered);
}

#[test]
fn s1_53_marks_survive_a_restart_by_the_log_and_by_the_checkpoint() {
    let mut rig = rig();
    for seq in 1..=10 {
        rig.offer(1, &frame("a", 1, seq, b"x"), at(0));
    }
    rig.turn(at(0));
    // Replayed from the log alone.
    rig.restart(at(1));
    assert!(matches!(rig.offer(2, &frame("a", 1, 10, b"x"), at(1)), Offer::AckNow { .. }));
    rig.inbox.start_consuming(None);
    rig.turn(at(1));
    let records = rig.inbox.poll_records().unwrap();
    assert_eq!(seqs(&records), (1..=10).collect::<Vec<_>>());
    rig.inbox.consumed(10, at(1));
    rig.turn(at(1));
    assert_eq!(rig.store.records().count(), 10, "trimmed too early");
    assert_eq!((rig.inbox.depth().records, rig.inbox.depth().waiting), (10, 0));
    assert_eq!(rig.inbox.next_timeout(), Some(at(1001).at));
    rig.turn(at(1001));
    assert_eq!(rig.store.records().count(), 0);
    assert_eq!(rig.inbox.depth(), Depth::default());
    // Drained to nothing: the marks are in the checkpoint, the numbers go on.
    rig.restart(at(2000));
    assert!(matches!(rig.offer(3, &frame("a", 1, 10, b"x"), at(2000)), Offer::AckNow { .. }));
    assert_eq!(rig.offer(3, &frame("a", 1, 11, b"x"), at(2000)), Offer::Gathered);
    rig.turn(at(2000));
    assert_eq!(rig.store.records().map(|r| r.seq).collect::<Vec<_>>(), [11]);
}

#[test]
fn frames_wait_until_the_log_is_replayed() {
    let mut rig = rig();
    rig.offer(1, &frame("a", 1, 1, b"x"), at(0));
    rig.turn(at(0));
    rig.inbox = Inbox::restore(&rig.store.state(), rig.config, 1);
    assert!(rig.inbox.is_recovering());
    assert_eq!(rig.offer(2, &frame("a", 1, 1, b"x"), at(0)), Offer::Full);
    assert_eq!(rig.inbox.poll_resume(), None);
    rig.store.faults().failing_reads = 1;
    rig.turn(at(0));
    assert!(rig.inbox.is_recovering(), "a read that failed has replayed nothing");
    rig.turn(rig.inbox.next_timeout().map(|t| Now { at: t, ..at(0) }).unwrap());
    assert_eq!(rig.inbox.poll_resume(), Some(conn(2)));
    assert!(matches!(rig.offer(2, &frame("a", 1, 1, b"x"), at(0)), Offer::AckNow { .. }));
}

#[test]
fn a_failed_trim_keeps_its_checkpoint_for_the_next() {
    let mut rig = rig();
    rig.offer(1, &frame("a", 1, 1, b"x"), at(0));
    rig.turn(at(0));
    rig.inbox.start_consuming(None);
    rig.turn(at(0));
    assert_eq!(rig.inbox.poll_records().unwrap().len(), 1);
    rig.inbox.consumed(1, at(0));
    rig.store.faults().failing_trims = 1;
    rig.inbox.flush();
    rig.turn(at(0));
    assert_eq!(rig.store.records().count(), 1);
    rig.turn(at(5000));
    assert_eq!(rig.store.records().count(), 0);
    rig.restart(at(6000));
    assert!(matches!(rig.offer(3, &frame("a", 1, 1, b"x"), at(6000)), Offer::AckNow { .. }));
}

#[test]
fn s1_53_a_corrupt_record_is_quarantined_and_blocks_nothing() {
    let mut rig = rig();
    for seq in 1..=5 {
        rig.offer(1, &frame("a", 1, seq, b"body"), at(0));
    }
    rig.turn(at(0));
    // One header, one body, one cut short.
    rig.store.record_mut(1).unwrap().frame[20] ^= 1;
    rig.store.record_mut(3).unwrap().frame.last_mut().map(|b| *b ^= 1).unwrap();
    rig.store.record_mut(5).unwrap().frame.truncate(10);
    rig.inbox.start_consuming(None);
    rig.turn(at(0));
    assert_eq!(seqs(&rig.inbox.poll_records().unwrap()), [2, 4]);
    // The consumer itself cannot read one of them.
    rig.inbox.quarantine(4, "not a report".into());
    rig.inbox.consumed(4, at(0));
    rig.inbox.flush();
    rig.turn(at(0));
    let kept: Vec<_> = rig.store.quarantine().iter().map(|(record, _)| record.seq).collect();
    assert_eq!(kept, [1, 3, 5, 4]);
    assert_eq!((rig.inbox.quarantined(), rig.store.records().count()), (4, 0));
    assert_eq!(rig.inbox.depth(), Depth::default());
    rig.offer(2, &frame("a", 1, 6, b"body"), at(0));
    rig.turn(at(0));
    assert_eq!(seqs(&rig.inbox.poll_records().unwrap()), [6]);
    // And by a restart, before anybody consumes.
    rig.store.record_mut(6).unwrap().frame[20] ^= 1;
    rig.store.apply(StoreCommand::Trim { upto: 0, pages: vec![(u32::MAX, vec![0; 8])] });
    rig.restart(at(1));
    assert_eq!((rig.inbox.quarantined(), rig.inbox.is_recovering()), (1, false));
}

/// The consumer knows nothing of a record behind the last one that it was given.
#[test]
fn s1_53_a_corrupt_record_at_the_end_of_a_lot_blocks_nothing() {
    let mut rig = InboxRig::new(InboxConfig { read_records_max: 2, ..Default::default() });
    for seq in 1..=4 {
        rig.offer(1, &frame("a", 1, seq, b"body"), at(0));
    }
    rig.turn(at(0));
    rig.store.record_mut(2).unwrap().frame[20] ^= 1;
    rig.inbox.start_consuming(None);
    rig.turn(at(0));
    assert_eq!(seqs(&rig.inbox.poll_records().unwrap()), [1]);
    rig.inbox.consumed(1, at(0));
    rig.turn(at(0));
    assert_eq!(seqs(&rig.inbox.poll_records().unwrap()), [3, 4]);
    rig.inbox.consumed(4, at(0));
    rig.inbox.flush();
    rig.turn(at(0));
    assert_eq!((rig.inbox.quarantined(), rig.store.records().count()), (1, 0));
    assert_eq!(rig.inbox.depth(), Depth::default());
}

/// The consumer had passed it, the disk had not taken it into the quarantine, and the checkpoint
/// lies behind it: nothing but the log itself tells of it then.
#[test]
fn s1_53_a_corrupt_record_that_was_passed_before_a_restart_is_set_aside_all_the_same() {
    let mut rig = InboxRig::new(InboxConfig { read_records_max: 1, ..Default::default() });
    for seq in 1..=3 {
        rig.offer(1, &frame("a", 1, seq, b"x"), at(0));
    }
    rig.turn(at(0));
    rig.store.record_mut(2).unwrap().frame.truncate(10);
    let epoch = rig.inbox.epoch();
    rig.inbox.start_consuming(None);
    rig.turn(at(0));
    assert_eq!(seqs(&rig.inbox.poll_records().unwrap()), [1]);
    rig.inbox.consumed(1, at(0));
    rig.inbox.flush();
    let trim = rig.inbox.poll_command(at(0)).unwrap();
    let trimmed = rig.store.apply(trim).unwrap();
    rig.inbox.handle_store(trimmed, at(0));
    assert_eq!(rig.store.state().first, 2, "what was consumed is trimmed");
    rig.store.faults().failing_trims = 1;
    rig.turn(at(0));
    assert_eq!(seqs(&rig.inbox.poll_records().unwrap()), [3]);
    rig.inbox.consumed(3, at(0));
    assert!(rig.store.quarantine().is_empty());
    rig.restart(at(1));
    rig.inbox.start_consuming(Some((epoch, 3)));
    assert_eq!(rig.inbox.depth().waiting, 0);
    for ms in [1, 2, 2000, 4000] {
        rig.turn(at(ms));
        assert_eq!(rig.inbox.poll_records(), None, "consumed twice");
    }
    let aside: Vec<u64> = rig.store.quarantine().iter().map(|(record, _)| record.seq).collect();
    assert_eq!((aside, rig.store.records().count()), (vec![2], 0));
}

#[test]
fn a_consumer_reads_bounded_lots_from_its_cursor() {
    let mut rig = InboxRig::new(InboxConfig { read_records_max: 3, ..Default::default() });
    for seq in 1..=8 {
        rig.offer(1, &frame("a", 1, seq, b"x"), at(0));
    }
    rig.turn(at(0));
    let epoch = rig.inbox.epoch();
    rig.inbox.start_consuming(Some((epoch, 2)));
    rig.turn(at(0));
    assert_eq!(seqs(&rig.inbox.poll_records().unwrap()), [3], "of a lot of three two are known");
    rig.turn(at(0));
    assert!(rig.inbox.poll_records().is_none(), "a second lot before the first was consumed");
    rig.inbox.consumed(3, at(0));
    rig.turn(at(0));
    assert_eq!(seqs(&rig.inbox.poll_records().unwrap()), [4, 5, 6]);
    // A cursor into another log says nothing about this one.
    rig.restart(at(0));
    rig.inbox.start_consuming(Some((Epoch(1), 7)));
    rig.turn(at(0));
    assert_eq!(seqs(&rig.inbox.poll_records().unwrap()), [1, 2, 3]);
}

#[test]
fn a_replay_that_takes_longer_than_the_trim_interval_leaves_the_loop_asleep() {
    let mut rig = rig_with(3);
    rig.store.crash();
    rig.inbox = Inbox::restore(&rig.store.state(), rig.config, 2);
    // All of it was consumed before; the disk needs five seconds to say what it has.
    rig.inbox.start_consuming(Some((Epoch(77), 3)));
    rig.store.faults().delay = 1;
    rig.turn(at(0));
    sleeps_until_answered(rig);
}

#[test]
fn a_trim_that_waits_for_a_quarantine_leaves_the_loop_asleep() {
    let mut rig = rig_with(3);
    rig.store.record_mut(2).unwrap().frame.truncate(10);
    rig.inbox.start_consuming(None);
    let read = rig.inbox.poll_command(at(0)).unwrap();
    let found = rig.store.apply(read).unwrap();
    rig.inbox.handle_store(found, at(0));
    // The disk needs five seconds to set the second aside.
    rig.store.faults().delay = 1;
    rig.turn(at(0));
    assert_eq!(rig.inbox.poll_records().map(|records| records.len()), Some(2));
    rig.inbox.consumed(3, at(0));
    rig.turn(at(0));
    sleeps_until_answered(rig);
}

#[test]
fn a_read_that_fails_is_tried_again_once_its_pause_is_over() {
    let mut rig = rig();
    rig.inbox.start_consuming(None);
    rig.store.faults().failing_reads = 1;
    rig.offer(1, &frame("a", 1, 1, b"x"), at(0));
    rig.turn(at(0));
    assert_eq!(rig.inbox.next_timeout(), Some(at(1000).at));
    rig.turn(at(1000));
    assert_eq!(rig.inbox.poll_records().map(|records| records.len()), Some(1));
    assert_eq!(rig.inbox.next_timeout(), None, "there is nothing to do");
}
