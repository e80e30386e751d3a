//! What survives a crash: logs, results, assignments; and how slow and unreliable disks are.

use super::line::{Delay, Line};
use super::mutation::{self, Mutation};
use engine::ids::{Epoch, Origin};
use engine::queue::memory::MemoryStore;
use engine::queue::store::{Record, StoreCommand, StoreEvent, StoreState};
use engine::time::Instant;
use engine::wire::Frame;
use std::cell::RefCell;
use std::collections::btree_map::Entry;
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

/// How the threads beside a reactor behave, from now on.
#[derive(Debug, Clone, Copy)]
pub struct Manners {
    /// A command of the store.
    pub store: Delay,
    /// A command of the blob thread.
    pub blobs: Delay,
    /// A batch of the sink.
    pub sink: Delay,
    /// A question to the resolver.
    pub resolver: Delay,
    /// A run of the enforcer.
    pub enforcer: Delay,
    /// Share of commits that fail.
    pub commits_failing: f64,
    /// Share of trims that fail.
    pub trims_failing: f64,
    /// Share of reads that fail.
    pub reads_failing: f64,
    /// Share of the sink's batches that fail.
    pub batches_failing: f64,
    /// Share of questions to which the resolver has no answer in time.
    pub lookups_failing: f64,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            store: Delay::micros(100, 5_000),
            blobs: Delay::micros(20, 500),
            sink: Delay::micros(500, 20_000),
            resolver: Delay::micros(50, 2_000),
            enforcer: Delay::fixed(Duration::from_millis(100)),
            commits_failing: 0.0,
            trims_failing: 0.0,
            reads_failing: 0.0,
            batches_failing: 0.0,
            lookups_failing: 0.0,
        }
    }
}

/// Who sent a record first.
///
/// # Panics
/// The record is no frame: what is written is sound, and what is damaged goes no further.
#[must_use]
pub fn origin_of(record: &[u8]) -> Origin {
    let frame = Frame::parse(record).expect("a record is a frame");
    frame.route().and_then(|route| route.origin()).expect("a record has an origin")
}

/// A number that another body of a record has not.
fn digest(record: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    let body = Frame::parse(record).map_or(record, |frame| frame.body());
    body.hash(&mut hasher);
    hasher.finish()
}

/// A machine's disk.
#[derive(Debug)]
pub struct Disk {
    /// The log: a client's outbox, a master's inbox.
    pub store: MemoryStore,
    /// The assignment that a client keeps.
    pub held: Option<Vec<u8>>,
    /// Origins of all records that were ever committed to the log, with a digest of each.
    pub written: BTreeMap<Origin, u64>,
    /// Those of the log that were damaged where they lay.
    pub damaged: BTreeSet<Origin>,
    /// Commits that succeeded.
    pub commits: u64,
    /// Commits that failed.
    pub commits_failed: u64,
    /// What is wrong with it.
    pub mutation: Option<Mutation>,
    /// Where the last commit began.
    last_commit: Option<u64>,
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
            written: BTreeMap::new(),
            damaged: BTreeSet::new(),
            commits: 0,
            commits_failed: 0,
            mutation: None,
            last_commit: None,
        }))
    }

    /// What a node that starts finds.
    #[must_use]
    pub fn state(&self) -> StoreState {
        let mut state = self.store.state();
        if self.mutation == Some(Mutation::ForgetMarks) {
            state.pages.clear();
        }
        state
    }

    /// The process that used it is gone.
    pub fn crash(&mut self) {
        if self.mutation == Some(Mutation::LoseLastCommit)
            && let Some(first) = self.last_commit.take()
        {
            self.store = mutation::lost_by_power_cut(&self.store, first);
        }
        self.store.crash();
    }

    /// A byte of a record of the log becomes another, if there is a record.
    pub fn damage(&mut self, rng: &mut fastrand::Rng) {
        let seqs: Vec<u64> = self.store.records().map(|record| record.seq).collect();
        let Some(record) = rng.choice(seqs).and_then(|seq| self.store.record_mut(seq)) else {
            return;
        };
        // One that is damaged already may be so as to look sound again.
        if Frame::parse(&record.frame)
            .is_ok_and(|frame| frame.header.check_body(frame.body()).is_ok())
        {
            self.damaged.insert(origin_of(&record.frame));
            let at = rng.usize(..record.frame.len());
            record.frame[at] ^= rng.u8(1..);
        }
    }

    fn carry_out(&mut self, command: StoreCommand, fails: bool) -> Option<StoreEvent> {
        let fails = u32::from(fails);
        let (mut written, mut first) = (Vec::new(), None);
        let command = match command {
            StoreCommand::Write(batch) => {
                if self.mutation == Some(Mutation::AckFailedCommit) && fails > 0 {
                    return Some(mutation::answered(&batch));
                }
                self.store.faults().failing_commits = fails;
                first = Some(batch.first);
                written = batch
                    .records()
                    .map(|(_, record)| (origin_of(record), digest(record)))
                    .collect();
                StoreCommand::Write(match self.mutation {
                    Some(Mutation::LoseRestOfBatch) => mutation::shorten(batch),
                    _ => batch,
                })
            }
            StoreCommand::Read { .. } => {
                self.store.faults().failing_reads = fails;
                command
            }
            StoreCommand::Trim { upto, .. } if self.mutation == Some(Mutation::ForgetTrim) => {
                return Some(mutation::say_trimmed(&self.store, upto));
            }
            StoreCommand::Trim { .. } | StoreCommand::Quarantine { .. } => {
                self.store.faults().failing_trims = fails;
                command
            }
        };
        let event = self.store.apply(command);
        // A batch of a dead run is dropped without a word, and its fault is not for the next.
        self.store.faults().failing_commits = 0;
        match &event {
            Some(StoreEvent::Committed { .. }) => {
                self.commits += 1;
                self.last_commit = first;
                self.written.extend(written);
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
    mutation: Option<Mutation>,
    commands: Line<StoreCommand>,
    answers: Line<StoreEvent>,
    /// Answers given so far.
    answered: u32,
}

/// Of so many answers of a store one is lost.
const ANSWERS: u32 = 30;

impl StoreLine {
    /// A thread for this disk.
    #[must_use]
    pub fn new(disk: SharedDisk) -> Self {
        let mutation = disk.borrow().mutation;
        let (commands, answers) = (Line::default(), Line::default());
        Self { disk, mutation, commands, answers, answered: 0 }
    }

    /// Takes a command.
    pub fn push(
        &mut self,
        command: StoreCommand,
        now: Instant,
        manners: &Manners,
        rng: &mut fastrand::Rng,
    ) {
        if let (StoreCommand::Write(batch), Some(Mutation::AckBeforeCommit)) =
            (&command, self.mutation)
        {
            let event = mutation::answered(batch);
            self.answers.push(event, now, Delay::micros(5, 50), rng);
        }
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
            let (failing, is_write) = match command {
                StoreCommand::Write(_) => (manners.commits_failing, true),
                StoreCommand::Read { .. } => (manners.reads_failing, false),
                StoreCommand::Trim { .. } | StoreCommand::Quarantine { .. } => {
                    (manners.trims_failing, false)
                }
            };
            let fails = rng.f64() < failing;
            let event = self.disk.borrow_mut().carry_out(command, fails);
            // It was told before.
            let told = is_write && self.mutation == Some(Mutation::AckBeforeCommit);
            if let Some(event) = event.filter(|_| !told) {
                self.answers.push(event, now, Delay::micros(5, 50), rng);
            }
        }
        let mut answers = Vec::new();
        while let Some(answer) = self.answers.pop(now) {
            self.answered += 1;
            let lost = self.mutation == Some(Mutation::LoseAnswer);
            if !lost || !self.answered.is_multiple_of(ANSWERS) {
                answers.push(answer);
            }
        }
        answers
    }

    /// When there is something to do.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.commands.next().into_iter().chain(self.answers.next()).min()
    }
}

/// A report that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// How many came before it.
    pub order: u64,
    /// Of its body.
    pub digest: u64,
}

/// The result store: one for all masters, as several share a database.
#[derive(Debug, Default)]
pub struct ResultStore {
    /// Reports by their origin.
    pub reports: BTreeMap<Origin, Stored>,
    /// Reports that came once more when they were there.
    pub again: Vec<Origin>,
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
                Entry::Occupied(there) => self.again.push(there.key().clone()),
                Entry::Vacant(free) => {
                    free.insert(Stored { order, digest: digest(&record.frame) });
                }
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
        self.reports.iter().all(|(origin, stored)| {
            let before = last.insert((origin.name.as_str(), origin.epoch), stored.order);
            before.is_none_or(|before| before < stored.order)
        })
    }
}
