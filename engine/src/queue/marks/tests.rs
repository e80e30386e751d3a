use super::*;
use std::collections::HashMap;

fn key(n: u32) -> SenderKey {
    SenderKey::of(format!("host{n}.example").as_bytes())
}

const A: Epoch = Epoch(1);
const B: Epoch = Epoch(2);
const C: Epoch = Epoch(3);

#[test]
fn two_marks_tell_new_gathered_and_committed() {
    let mut marks = Marks::default();
    assert_eq!(marks.classify(key(1), A, 0), Arrival::New);
    marks.gather(key(1), A, 5);
    assert_eq!(marks.classify(key(1), A, 5), Arrival::Gathered);
    assert_eq!(marks.classify(key(1), A, 6), Arrival::New);
    marks.commit(key(1), A, 3);
    assert_eq!(marks.classify(key(1), A, 3), Arrival::Committed);
    assert_eq!(marks.classify(key(1), A, 4), Arrival::Gathered);
    marks.roll_back();
    assert_eq!(marks.classify(key(1), A, 4), Arrival::New);
    assert_eq!(marks.classify(key(1), A, 3), Arrival::Committed);
    assert_eq!(SenderKey::of(b"HOST1.example"), key(1));
}

#[test]
fn the_last_two_epochs_are_kept() {
    let mut marks = Marks::default();
    marks.commit(key(1), A, 9);
    marks.commit(key(1), B, 4);
    assert_eq!(marks.classify(key(1), A, 9), Arrival::Committed);
    // A late frame of the older epoch does not make it the newer one.
    marks.commit(key(1), A, 10);
    marks.commit(key(1), C, 1);
    assert_eq!(marks.classify(key(1), A, 9), Arrival::New);
    assert_eq!(marks.classify(key(1), B, 4), Arrival::Committed);
    assert_eq!(marks.classify(key(1), C, 1), Arrival::Committed);
}

#[test]
fn a_mark_costs_at_most_64_bytes() {
    for senders in [1000, 10_000, 50_000] {
        let mut marks = Marks::default();
        for n in 0..senders {
            marks.gather(key(n), A, 1);
            marks.commit(key(n), A, 1);
        }
        assert_eq!(marks.senders(), senders as usize);
        assert!(marks.gathered.is_empty());
        let each = marks.memory_bytes() as f64 / f64::from(senders);
        assert!(each <= 64.0, "{each} bytes for each of {senders}");
    }
}

#[test]
fn only_changed_pages_are_written_and_all_are_restored() {
    let mut disk = HashMap::new();
    let mut marks = Marks::default();
    for n in 0..1000 {
        marks.commit(key(n), A, u64::from(n));
    }
    let pages = marks.changed_pages();
    assert_eq!(pages.len(), 1000usize.div_ceil(PAGE_MARKS));
    assert!(pages.iter().all(|(_, page)| page.len() <= 4080));
    // It failed: they are due again.
    marks.checkpoint_failed();
    assert_eq!(marks.changed_pages(), pages);
    disk.extend(pages);
    assert!(!marks.is_changed());
    marks.commit(key(500), B, 7);
    marks.forget(key(20));
    let pages = marks.changed_pages();
    assert!((1..=2).contains(&pages.len()), "{} pages for two senders", pages.len());
    disk.extend(pages);
    let stored = |disk: &HashMap<u32, Vec<u8>>| -> Marks {
        Marks::restore(disk.iter().map(|(n, page)| (*n, page.as_slice())))
    };
    let mut again = stored(&disk);
    assert_eq!((again.senders(), again.is_changed()), (999, false));
    assert_eq!(again.classify(key(20), A, 20), Arrival::New);
    assert_eq!(again.classify(key(500), B, 7), Arrival::Committed);
    assert!((0..1000).filter(|n| *n != 20).all(|n| {
        again.classify(key(n), A, u64::from(n)) == Arrival::Committed
            && again.classify(key(n), A, u64::from(n) + 1) == Arrival::New
    }));
    // The free place is taken again.
    again.commit(key(5000), A, 1);
    let pages = again.changed_pages();
    assert_eq!(pages.len(), 1);
    disk.extend(pages);
    assert_eq!(stored(&disk).classify(key(5000), A, 1), Arrival::Committed);
    // Pages that are missing or cut short lose what was in them and nothing else.
    disk.remove(&0);
    disk.get_mut(&3).unwrap().truncate(100);
    let rest = stored(&disk);
    assert!(rest.senders() >= 1000 - 2 * PAGE_MARKS && rest.senders() < 1000);
    assert_eq!(rest.classify(key(999), A, 999), Arrival::Committed);
}

#[test]
fn forgetting_closes_the_gap_in_the_index() {
    let mut rng = fastrand::Rng::with_seed(4);
    let (mut marks, mut model) = (Marks::default(), HashMap::new());
    for step in 0..20_000u64 {
        let n = rng.u32(0..300);
        if rng.u8(..) < 100 {
            marks.forget(key(n));
            model.remove(&n);
        } else {
            marks.commit(key(n), A, step);
            model.insert(n, step);
        }
        let n = rng.u32(0..300);
        let wanted = model.get(&n).map_or(Arrival::New, |_| Arrival::Committed);
        assert_eq!(marks.classify(key(n), A, model.get(&n).copied().unwrap_or(0)), wanted);
        assert_eq!(marks.senders(), model.len());
    }
}
