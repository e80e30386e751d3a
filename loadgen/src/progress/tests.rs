use super::*;
use crate::fleet::Beat;
use crate::kernel::Process;
use crate::measure::{Parts, Record, Standings, Tally, Timed, Took};
use crate::subject::Sample;
use crate::subject::observer::Said;
use master::table::Paint;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

const S: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// What a terminal of endless length makes of what it is sent: only what progress uses of it.
#[derive(Debug, Default)]
struct Glass {
    lines: Vec<String>,
    row: usize,
    /// The longest line that was ever there.
    widest: usize,
    colours: usize,
    part: String,
}

impl Glass {
    fn put(&mut self, c: char) {
        if !self.part.is_empty() {
            self.part.push(c);
            if c.is_ascii_alphabetic() {
                self.control();
            }
            return;
        }
        while self.lines.len() <= self.row {
            self.lines.push(String::new());
        }
        match c {
            '\x1b' => self.part.push(c),
            '\n' => self.row += 1,
            '\r' => {}
            c => {
                self.lines[self.row].push(c);
                self.widest = self.widest.max(self.lines[self.row].chars().count());
            }
        }
    }

    fn control(&mut self) {
        let part = std::mem::take(&mut self.part);
        let number = part[2..part.len() - 1].parse().unwrap_or(0);
        match part.chars().last() {
            Some('A') => self.row = self.row.checked_sub(number).expect("not above the first line"),
            Some('J') => self.lines.truncate(self.row),
            Some('m') => self.colours += 1,
            other => panic!("{other:?} is not known here"),
        }
    }

    /// What is to be read, and in which line the cursor stands.
    fn seen(&self) -> (Vec<&str>, usize) {
        let lines = self.lines.iter().map(String::as_str);
        (lines.filter(|line| !line.is_empty()).collect(), self.row)
    }
}

/// A handle on it, for whoever writes.
#[derive(Clone, Default)]
struct Shared(Rc<RefCell<Glass>>, Rc<RefCell<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.borrow_mut().extend(bytes);
        Ok(bytes.len())
    }

    /// Whole writes only: none ends within a character.
    fn flush(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut *self.1.borrow_mut());
        let text = String::from_utf8(bytes).expect("text");
        text.chars().for_each(|c| self.0.borrow_mut().put(c));
        Ok(())
    }
}

/// A phase with two seconds of load behind it.
struct World {
    stage: Stage,
    beats: Vec<Beat>,
    record: Record,
    samples: Vec<Sample>,
}

impl World {
    fn new() -> Self {
        let stage = Stage { name: "load".into(), number: 2, of: 3, length: 60 * S };
        let standings = Standings { bound: 10_000, holding: 9_990, done: 9_000, awaited: 0 };
        let beat = Beat { standings, deliveries: 12, waiting: 3, ..Beat::default() };
        let mut record = Record::new("load", 0, Parts::default(), 1);
        for second in 1..=2 {
            let mut tally = Tally::default();
            for (what, count, took) in [
                (Timed::Poll, 400, 2 * MS),
                (Timed::Report, 1200, 9 * MS),
                (Timed::Bind, 3, 40 * MS),
                (Timed::Fetch, 1, 90 * MS),
                (Timed::Slip, 1600, MS),
            ] {
                (0..count * second)
                    .for_each(|_| tally.latencies.record(what, Took::from_due(took)));
            }
            tally.failed("dial", "refused");
            record.add(S * second, &tally, 7, 100);
        }
        record.close(standings, true, |_, _| {});
        let samples = (1..=2).map(|second| Sample {
            at_ns: second * 1_000_000_000,
            process: Some(Process {
                cpu_us: BTreeMap::from([("reactor".to_owned(), second * 870_000)]),
                ..Process::default()
            }),
            said: Some(Said { inbox_records: 120, connections: 340, ..Said::default() }),
            ..Sample::default()
        });
        Self { stage, beats: vec![beat], record, samples: samples.collect() }
    }

    fn view(&self, elapsed: Duration) -> View<'_> {
        View {
            stage: &self.stage,
            elapsed,
            clients: 10_000,
            beats: &self.beats,
            record: &self.record,
            samples: &self.samples,
        }
    }
}

fn screen(colour: bool, size: fn() -> Size) -> Option<Screen> {
    Some(Screen { paint: Paint { colour }, size })
}

fn wide() -> Size {
    Size { columns: 100, rows: 40 }
}

fn progress(screen: Option<Screen>) -> (Progress, Shared) {
    let glass = Shared::default();
    (Progress::new(Box::new(glass.clone()), screen), glass)
}

#[test]
fn a_block_says_where_a_run_stands() {
    let world = World::new();
    let (mut progress, glass) = progress(screen(false, wide));
    progress.update(Instant(1), &world.view(15 * S));
    let glass = glass.0.borrow();
    let (seen, row) = glass.seen();
    assert_eq!(
        seen,
        [
            "load, 2 of 3  █████░░░░░░░░░░░░░░░  15.0 of 60.0 s",
            "clients   10000 of 10000 bound, 9990 hold the release, 9000 done",
            "last s    report → durable      2400/s, p50 9.0ms, p99 9.0ms",
            "          poll → ack             800/s, p50 2.0ms, p99 2.0ms",
            "          bind → answer            6/s, p50 40.0ms, p99 40.0ms",
            "master    CPU 87 %, inbox 120 reports, 340 connections",
            "own       lateness p99 1.0ms, 12 deliveries, 3 waiting",
            "failures  2 so far",
        ]
    );
    assert_eq!((row, glass.colours), (8, 0), "the cursor stands below it");
}

#[test]
fn a_block_is_drawn_in_its_place_and_what_is_said_stays_above() {
    let world = World::new();
    let (mut progress, glass) = progress(screen(true, wide));
    progress.say("phase load");
    for second in 1..=5u32 {
        progress.update(Instant(1) + S * second, &world.view(S * second));
    }
    // Too early to be drawn again.
    progress.update(Instant(1) + S * 5 + MS, &world.view(50 * S));
    progress.say("the master was killed");
    progress.update(Instant(1) + S * 6, &world.view(6 * S));
    progress.close();
    progress.say("waiting");
    let glass = glass.0.borrow();
    let (seen, row) = glass.seen();
    assert_eq!(seen[..2], ["phase load", "the master was killed"]);
    let heads: Vec<_> = seen.iter().filter(|line| line.starts_with("load, 2 of 3")).collect();
    assert!(heads.len() == 1 && heads[0].ends_with(" 6.0 of 60.0 s"), "{seen:#?}");
    assert_eq!((seen.len(), seen[10], row), (11, "waiting", 11), "{seen:#?}");
    assert!(glass.colours > 0);
}

#[test]
fn nothing_is_wider_than_the_terminal_nor_higher() {
    let mut world = World::new();
    world.stage.name = "a-phase-with-a-name-as-long-as-names-may-be-in-a-file".into();
    world.beats[0].standings.bound = u64::MAX;
    fn narrow() -> Size {
        Size { columns: 30, rows: 5 }
    }
    fn tiny() -> Size {
        Size { columns: 1, rows: 1 }
    }
    for (size, columns, rows) in [(narrow as fn() -> Size, 30, 5), (tiny, 1, 1), (wide, 100, 40)] {
        let (mut progress, glass) = progress(screen(true, size));
        for second in 1..=3u32 {
            progress.update(Instant(1) + S * second, &world.view(1000 * S * second));
        }
        let glass = glass.0.borrow();
        assert!(glass.widest < columns, "{} of {columns}", glass.widest);
        assert!(glass.seen().0.len() < rows, "{:?}", glass.seen());
    }
}

#[test]
fn elsewhere_it_is_a_plain_line_every_two_seconds() {
    let world = World::new();
    let (mut progress, glass) = progress(None);
    for tenth in 0..50u32 {
        progress.update(Instant(1) + 100 * MS * tenth, &world.view(100 * MS * tenth));
    }
    let glass = glass.0.borrow();
    let (seen, _) = glass.seen();
    assert_eq!(seen.len(), 3, "{seen:#?}");
    assert_eq!(
        seen[1],
        "   2.0 s  10000 of 10000 bound, 9990 hold the release, 9000 done; 3600 reports durable; 12 deliveries, 3 waiting; 2 failures"
    );
    assert_eq!(glass.colours, 0);
}

#[test]
fn before_anything_was_measured_nothing_is_made_up() {
    let mut world = World::new();
    world.record = Record::new("load", 0, Parts::default(), 1);
    world.samples.clear();
    world.stage = Stage { number: 7, of: 1, length: Duration::ZERO, ..world.stage };
    let (mut progress, glass) = progress(screen(false, wide));
    progress.update(Instant(1), &world.view(Duration::ZERO));
    let glass = glass.0.borrow();
    let (seen, _) = glass.seen();
    assert!(seen[0].starts_with("load  ░"), "{seen:#?}");
    assert_eq!(seen[2..4], ["last s    nothing was answered", "master    not seen yet"]);
    assert_eq!(seen.len(), 6);
}
