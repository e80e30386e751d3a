//! What survives a crash: logs, results, assignments; and how slow and unreliable disks are.

use super::line::{Delay, Line};
use engine::ids::{Epoch, Origin};
use engine::queue::memory::MemoryStore;
use engine::queue::store::{Record, StoreCommand, StoreEvent};
use engine::time::Instant;
use engine::wire::Frame;
use std::cell::RefCell;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

/// How the threads beside a reactor behave, from now on.
#[derive(Debug, Clone, Copy)]
pub struct Manners {
    /// A command of the store.
    pub store: Delay,
    /// A batch of the sink.
    pub sink: Delay,
    /// A question to the resolver.
    pub resolver: Delay,
    /// A run of the enforcer.
    pub enforcer: Delay,
    /// Share of commits that fail.
    pub commits_failing: f64,
    /// Share of the sink's batches that fail.
    pub batches_failing: f64,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            store: Delay::micros(100, 5_000),
            sink: Delay::micros(500, 20_000),
            resolver: Delay::micros(50, 2_000),
            enforcer: Delay::fixed(Duration::from_millis(100)),
            commits_failing: 0.0,
            batches_failing: 0.0,
        }
    }
}

/// Who sent a record first.
///
/// # Panics
/// The record is no frame: nothing here damages any.
#[must_use]
pub fn origin_of(record: &[u8]) -> Origin {
    let frame = Frame::parse(record).expect("a record is a frame");
    frame.route().and_then(|route| route.origin()).expect("a record has an origin")
}

/// A machine's disk.
#[derive(Debug)]
pub struct Disk {
    /// The log: a client's outbox, a master's inbox.
    pub store: MemoryStore,
    /// The assignment that a client keeps.
    pub held: Option<Vec<u8>>,
    /// Origins of all records that were ever committed to the log.
    pub written: BTreeSet<Origin>,
    /// Commits that succeeded.
    pub commits: u64,
    /// Commits that failed.
    pub commits_failed: u64,
}

/// A disk that its machine and the test share.
pub type SharedDisk = Rc<RefCell<Disk>>;

impl Disk {
    /// An empty disk whose log has this epoch.
    #[must_use]
    pub fn new(epoch: u64) -> SharedDisk {
        Rc::new(RefCell::new(Self {
            store: MemoryStore::new(epoch),
            held: None,
            written: BTreeSet::new(),
            commits: 0,
            commits_failed: 0,
        }))
    }

    fn carry_out(&mut self, command: StoreCommand, failing: bool) -> Option<StoreEvent> {
        let origins = match &command {
            StoreCommand::Write(batch) => {
                self.store.faults().failing_commits += u32::from(failing);
                batch.records().map(|(_, record)| origin_of(record)).collect()
            }
            _ => Vec::new(),
        };
        let event = self.store.apply(command);
        // A batch of a dead run is dropped without a word, and its fault is not for the next.
        self.store.faults().failing_commits = 0;
        match &event {
            Some(StoreEvent::Committed { .. }) => {
                self.commits += 1;
                self.written.extend(origins);
            }
            Some(StoreEvent::CommitFailed { .. }) => self.commits_failed += 1,
            _ => {}
        }
        event
    }
}

/// The store thread of a machine: commands in order, then the answers in order. A crash
/// between the two leaves what was written, and nobody knows of it.
#[derive(Debug)]
pub struct StoreLine {
    disk: SharedDisk,
    commands: Line<StoreCommand>,
    answers: Line<StoreEvent>,
}

impl StoreLine {
    /// A thread for this disk.
    #[must_use]
    pub fn new(disk: SharedDisk) -> Self {
        Self { disk, commands: Line::default(), answers: Line::default() }
    }

    /// Takes a command.
    pub fn push(
        &mut self,
        command: StoreCommand,
        now: Instant,
        manners: &Manners,
        rng: &mut fastrand::Rng,
    ) {
        self.commands.push(command, now, manners.store, rng);
    }

    /// Works until now; the answers that are due.
    pub fn pump(
        &mut self,
        now: Instant,
        manners: &Manners,
        rng: &mut fastrand::Rng,
    ) -> Vec<StoreEvent> {
        while let Some(command) = self.commands.pop(now) {
            let failing = rng.f64() < manners.commits_failing;
            if let Some(event) = self.disk.borrow_mut().carry_out(command, failing) {
                self.answers.push(event, now, Delay::micros(5, 50), rng);
            }
        }
        std::iter::from_fn(|| self.answers.pop(now)).collect()
    }

    /// When there is something to do.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.commands.next().into_iter().chain(self.answers.next()).min()
    }
}

/// The result store: one for all masters, as several share a database.
#[derive(Debug, Default)]
pub struct ResultStore {
    /// Reports by their origin, with the order of their arrival.
    pub reports: BTreeMap<Origin, u64>,
    /// Times that a report came that was there.
    pub duplicates: u64,
    cursors: BTreeMap<Epoch, u64>,
}

/// A result store that masters and the test share.
pub type SharedResults = Rc<RefCell<ResultStore>>;

impl ResultStore {
    /// Stores a batch of an inbox, with the cursor, at once.
    pub fn append(&mut self, inbox: Epoch, records: &[Record]) {
        for record in records {
            let order = self.reports.len() as u64;
            let origin = origin_of(&record.frame);
            match self.reports.entry(origin) {
                Entry::Occupied(_) => self.duplicates += 1,
                Entry::Vacant(free) => drop(free.insert(order)),
            }
        }
        if let Some(last) = records.last() {
            self.cursors.insert(inbox, last.seq);
        }
    }

    /// How far an inbox has been read.
    #[must_use]
    pub fn cursor(&self, inbox: Epoch) -> Option<u64> {
        self.cursors.get(&inbox).copied()
    }

    /// Whether each host's reports arrived in the order in which it wrote them.
    #[must_use]
    pub fn in_order(&self) -> bool {
        let mut last: BTreeMap<(&str, Epoch), u64> = BTreeMap::new();
        // By origin, so by sequence number within a host's log.
        self.reports.iter().all(|(origin, order)| {
            let before = last.insert((origin.name.as_str(), origin.epoch), *order);
            before.is_none_or(|before| before < *order)
        })
    }
}
