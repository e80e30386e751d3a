use super::*;

fn write(first: u64, run: u64, record: &[u8]) -> StoreCommand {
    let mut batch = Batch { first, run, ..Batch::default() };
    batch.push(record);
    StoreCommand::Write(batch)
}

#[test]
fn it_is_slow_fails_and_crashes_as_it_is_told() {
    let mut store = MemoryStore::new(1);
    store.faults().delay = 2;
    assert_eq!(store.apply(write(1, 0, b"a")), None);
    assert_eq!(store.tick(), []);
    assert_eq!(store.tick(), [StoreEvent::Committed { upto: 1, run: 0 }]);
    store.apply(write(2, 0, b"b"));
    store.crash();
    assert!(!store.is_waiting());
    assert_eq!((store.state().next, store.state().records), (2, 1));
    *store.faults() = Faults { failing_commits: 1, quota_bytes: Some(3), ..Faults::default() };
    assert!(matches!(store.apply(write(2, 0, b"b")), Some(StoreEvent::CommitFailed { .. })));
    assert_eq!(store.apply(write(3, 0, b"c")), None, "of a run that has failed");
    assert!(matches!(store.apply(write(2, 1, b"b")), Some(StoreEvent::Committed { .. })));
    assert!(matches!(
        store.apply(write(3, 1, b"too long")),
        Some(StoreEvent::CommitFailed { from: 3, error: StoreError::QuotaFull { .. }, .. })
    ));
}

#[test]
fn it_is_small_when_it_is_empty() {
    let mut store = MemoryStore::new(1);
    let size = size_of::<MemoryStore>();
    assert!(size <= 80, "{size} bytes");
    store.apply(write(1, 0, b"a"));
    store.apply(StoreCommand::Trim { upto: 1, pages: Vec::new() });
    assert_eq!((store.records.capacity(), store.extra.is_none(), store.state().next), (0, true, 2));
}
