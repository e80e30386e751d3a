//! The store thread: it alone touches the disk, so that a sync never stands in the loop.
//!
//! Batches that it has not begun merge into one commit, without any timed window: what came
//! while the last commit ran is the next.

use crate::clock::{Clock, SystemClock};
use crate::metrics::{Counter, Histogram};
use crate::queue::lmdb::{LmdbConfig, LmdbStore};
use crate::queue::store::{Batch, StoreCommand, StoreError, StoreEvent, StoreState};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Records and bytes beyond which a commit only gets slower.
const MERGED_RECORDS_MAX: usize = 4096;
const MERGED_BYTES_MAX: usize = 2 << 20;

/// What the store thread works for: commands in, answers out.
pub trait Store: Send + 'static {
    /// Carries out one command, however long it takes.
    fn apply(&mut self, command: &StoreCommand) -> Vec<StoreEvent>;
}

impl Store for LmdbStore {
    fn apply(&mut self, command: &StoreCommand) -> Vec<StoreEvent> {
        LmdbStore::apply(self, command)
    }
}

#[derive(Debug, Default)]
struct Waiting {
    /// Batches, each of which becomes one commit.
    batches: VecDeque<Batch>,
    others: VecDeque<StoreCommand>,
    stopping: bool,
}

impl Waiting {
    fn submit(&mut self, command: StoreCommand) {
        match command {
            StoreCommand::Write(batch) => self.submit_batch(batch),
            other => self.others.push_back(other),
        }
    }

    fn submit_batch(&mut self, batch: Batch) {
        // A new run begins only after a commit of the one before has failed.
        self.batches.retain(|waiting| waiting.run >= batch.run);
        match self.batches.back_mut() {
            Some(last) if fits(last, &batch) => merge(last, batch),
            _ => self.batches.push_back(batch),
        }
    }
}

fn fits(last: &Batch, batch: &Batch) -> bool {
    last.run == batch.run
        && last.first + last.len() as u64 == batch.first
        && last.len() + batch.len() <= MERGED_RECORDS_MAX
        && last.arena.len() + batch.arena.len() <= MERGED_BYTES_MAX
}

fn merge(last: &mut Batch, batch: Batch) {
    let offset = u32::try_from(last.arena.len()).expect("merged batches are bounded");
    last.arena.extend_from_slice(&batch.arena);
    last.ends.extend(batch.ends.iter().map(|end| end + offset));
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing in it is left half changed by a panic.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the store thread counts. It alone writes; any thread may read.
#[derive(Debug, Default)]
pub struct StoreMetrics {
    /// Commits, failed ones included.
    pub commits: Counter,
    /// Records that they held.
    pub records: Counter,
    /// Time spent in them, microseconds.
    pub busy_us: Counter,
    /// How long each took, the sync included.
    pub commit: Histogram,
}

impl StoreMetrics {
    /// All values by name; durations are in microseconds.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64); 5] {
        [
            ("commits", self.commits.value()),
            ("commit_records", self.records.value()),
            ("commit_busy_us", self.busy_us.value()),
            ("commit_p50_us", us(self.commit.quantile(0.5))),
            ("commit_p99_us", us(self.commit.quantile(0.99))),
        ]
    }
}

fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The way to the store thread; when it is dropped the thread finishes what it was given, and
/// is waited for.
#[derive(Debug)]
pub struct StoreHandle {
    shared: Arc<Shared>,
    metrics: Arc<StoreMetrics>,
    thread: Option<JoinHandle<()>>,
}

impl StoreHandle {
    /// Opens the store on disk, on the calling thread, and starts the thread that owns it from
    /// then on. `post` is called there with every answer.
    ///
    /// # Errors
    /// The store cannot be opened, or no thread can be started.
    pub fn open(
        config: LmdbConfig,
        post: impl Fn(StoreEvent) + Send + 'static,
    ) -> Result<(Self, StoreState), StoreError> {
        let path = config.dir.display().to_string();
        let (store, state) = LmdbStore::open(config)?;
        let handle = Self::start(store, post)
            .map_err(|error| StoreError::Io { path, detail: error.to_string() })?;
        Ok((handle, state))
    }

    /// Starts the thread for any store.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(
        mut store: impl Store,
        post: impl Fn(StoreEvent) + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let metrics = Arc::new(StoreMetrics::default());
        let (theirs, counts) = (Arc::clone(&shared), Arc::clone(&metrics));
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || run(&theirs, &counts, &mut store, &post))?;
        Ok(Self { shared, metrics, thread: Some(thread) })
    }

    /// Gives the thread a command; never waits for the disk.
    pub fn submit(&self, command: StoreCommand) {
        self.shared.lock().submit(command);
        self.shared.changed.notify_one();
    }

    /// What the thread counts.
    #[must_use]
    pub fn metrics(&self) -> Arc<StoreMetrics> {
        Arc::clone(&self.metrics)
    }

    /// Has the thread finish what it was given, and waits for it.
    pub fn stop(self) {}
}

impl Drop for StoreHandle {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the store thread has panicked");
        }
    }
}

/// Batches and other commands in turn, so that neither keeps the other waiting for long.
fn run(
    shared: &Shared,
    metrics: &StoreMetrics,
    store: &mut impl Store,
    post: &impl Fn(StoreEvent),
) {
    let clock = SystemClock::start();
    loop {
        let (batch, other) = {
            let mut waiting = shared.lock();
            loop {
                let next = (waiting.batches.pop_front(), waiting.others.pop_front());
                match next {
                    (None, None) if waiting.stopping => return,
                    (None, None) => {
                        waiting =
                            shared.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                    }
                    some => break some,
                }
            }
        };
        if let Some(batch) = batch {
            let records = batch.len() as u64;
            let begun = clock.now().at;
            let events = store.apply(&StoreCommand::Write(batch));
            let took = clock.now().at.since(begun);
            metrics.commits.bump();
            metrics.records.add(records);
            metrics.busy_us.add(us(took));
            metrics.commit.record(took);
            events.into_iter().for_each(post);
        }
        if let Some(command) = other {
            store.apply(&command).into_iter().for_each(post);
        }
    }
}

#[cfg(test)]
mod tests;
