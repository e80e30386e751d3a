use super::*;
use crate::time::WallMs;
use std::sync::mpsc::{Receiver, Sender, channel};

fn batch(first: u64, run: u64, records: &[&[u8]]) -> StoreCommand {
    let mut batch = Batch { first, run, arrived: WallMs(1), ..Batch::default() };
    records.iter().for_each(|record| batch.push(record));
    StoreCommand::Write(batch)
}

/// A store that shows what it is asked and waits for leave to go on.
struct Gated {
    asked: Sender<StoreCommand>,
    leave: Receiver<Vec<StoreEvent>>,
}

impl Store for Gated {
    fn apply(&mut self, command: &StoreCommand) -> Vec<StoreEvent> {
        self.asked.send(command.clone()).unwrap();
        self.leave.recv().unwrap()
    }
}

struct Rig {
    handle: StoreHandle,
    asked: Receiver<StoreCommand>,
    leave: Sender<Vec<StoreEvent>>,
    events: Receiver<StoreEvent>,
}

fn gated() -> Rig {
    let (asked_tx, asked) = channel();
    let (leave, leave_rx) = channel();
    let (post, events) = channel();
    let store = Gated { asked: asked_tx, leave: leave_rx };
    let handle = StoreHandle::start(store, move |event| post.send(event).unwrap()).unwrap();
    Rig { handle, asked, leave, events }
}

#[test]
fn what_comes_during_a_commit_is_one_commit_after_it() {
    let rig = gated();
    rig.handle.submit(batch(1, 0, &[b"a"]));
    assert_eq!(rig.asked.recv().unwrap(), batch(1, 0, &[b"a"]));
    rig.handle.submit(batch(2, 0, &[b"b", b"bb"]));
    rig.handle.submit(StoreCommand::Trim { upto: 1, pages: Vec::new() });
    rig.handle.submit(batch(4, 0, &[b"", b"c"]));
    rig.leave.send(vec![StoreEvent::Committed { upto: 1, run: 0 }]).unwrap();
    assert_eq!(rig.events.recv().unwrap(), StoreEvent::Committed { upto: 1, run: 0 });
    assert_eq!(rig.asked.recv().unwrap(), batch(2, 0, &[b"b", b"bb", b"", b"c"]));
    rig.leave.send(Vec::new()).unwrap();
    assert!(matches!(rig.asked.recv().unwrap(), StoreCommand::Trim { upto: 1, .. }));
    rig.leave.send(Vec::new()).unwrap();
    rig.handle.stop();
    assert!(rig.events.recv().is_err());
}

#[test]
fn a_new_run_takes_the_place_of_what_waits_of_the_last() {
    let rig = gated();
    rig.handle.submit(batch(1, 0, &[b"a"]));
    rig.asked.recv().unwrap();
    rig.handle.submit(batch(2, 0, &[b"doomed"]));
    rig.handle.submit(batch(1, 1, &[b"again"]));
    rig.leave.send(Vec::new()).unwrap();
    assert_eq!(rig.asked.recv().unwrap(), batch(1, 1, &[b"again"]));
    rig.leave.send(Vec::new()).unwrap();
}

#[test]
fn a_commit_has_a_bounded_size() {
    let rig = gated();
    rig.handle.submit(batch(1, 0, &[b"a"]));
    rig.asked.recv().unwrap();
    let large = vec![0; MERGED_BYTES_MAX - 10];
    rig.handle.submit(batch(2, 0, &[&large]));
    rig.handle.submit(batch(3, 0, &[b"more than ten bytes"]));
    rig.leave.send(Vec::new()).unwrap();
    assert_eq!(rig.asked.recv().unwrap(), batch(2, 0, &[&large]));
    rig.leave.send(Vec::new()).unwrap();
    assert_eq!(rig.asked.recv().unwrap(), batch(3, 0, &[b"more than ten bytes"]));
    rig.leave.send(Vec::new()).unwrap();
}

#[test]
fn e18_a_stop_writes_what_was_given_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let (post, events) = channel();
    let (handle, state) =
        StoreHandle::open(LmdbConfig::new(dir.path()), move |event| post.send(event).unwrap())
            .unwrap();
    assert_eq!(state.next, 1);
    for seq in 1..=200 {
        handle.submit(batch(seq, 0, &[b"record"]));
    }
    drop(handle);
    let last = events.iter().last().unwrap();
    assert_eq!(last, StoreEvent::Committed { upto: 200, run: 0 });
    let (_handle, state) = StoreHandle::open(LmdbConfig::new(dir.path()), |_| {}).unwrap();
    assert_eq!((state.next, state.records), (201, 200));
}
