//! The thread on which the result store runs: commands in, events out, nobody waits for it.
//!
//! What may wait here is bounded: one batch (its sender awaits the event before the next), one
//! update per host (a later one is merged into it), and [`QUERIES_MAX`] questions.

use super::{Answer, Appended, HostUpdates, Query, Record, Sink, SinkError};
use engine::clock::{Clock, SystemClock};
use engine::time::{Instant, WallMs};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Questions that may wait.
pub const QUERIES_MAX: usize = 64;
/// What was learned of hosts is gathered this long, so that a poll is not a transaction.
const HOSTS_DELAY: Duration = Duration::from_secs(1);
/// How often old reports are looked for.
const PRUNE_INTERVAL: Duration = Duration::from_secs(3600);
/// Reports removed at once, so that a batch does not wait long behind it.
const PRUNE_REPORTS: usize = 1000;
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(30);

/// What the sink's thread tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkEvent {
    /// A batch is on the disk: the inbox may be trimmed up to [`Appended::upto`].
    Appended(Appended),
    /// A batch could not be stored: append it again after this time.
    AppendFailed {
        /// The batch.
        records: Vec<Record>,
        /// What is wrong.
        error: SinkError,
        /// How long to wait; longer each time.
        retry_after: Duration,
    },
    /// What was learned of hosts could not be stored: it is kept, and tried again.
    HostsFailed(SinkError),
    /// After that, or after a batch that failed: it could be stored.
    Recovered,
    /// The answer to a question.
    Answered {
        /// The asker's number.
        id: u64,
        /// The answer.
        answer: Result<Answer, SinkError>,
    },
    /// The thread has ended; nothing more will come.
    Ended,
}

/// Too many questions wait for the result store: ask again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many questions wait for the result store; ask again later")]
pub struct SinkBusy;

/// Work of the admin side that reads files, and so has no place on the reactor's thread.
type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Waiting {
    batch: Vec<Record>,
    hosts: HostUpdates,
    queries: VecDeque<(u64, Query)>,
    jobs: Vec<Job>,
    stopping: bool,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Every change under this lock is whole, so a panic elsewhere has broken nothing.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where commands for the sink's thread go in; none of them blocks.
#[derive(Clone)]
pub struct SinkHandle(Arc<Shared>);

impl std::fmt::Debug for SinkHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SinkHandle")
    }
}

impl SinkHandle {
    /// Stores a batch; answered by `Appended` or `AppendFailed`, before which the next is not
    /// to be sent.
    pub fn append(&self, batch: Vec<Record>) {
        self.0.lock().batch.extend(batch);
        self.0.wake.notify_one();
    }

    /// Takes what was learned of hosts: stored within a second or so, and before the next
    /// question is answered.
    pub fn update_hosts(&self, updates: HostUpdates) {
        self.0.lock().hosts.merge(updates);
        self.0.wake.notify_one();
    }

    /// Asks; answered by `Answered` with this number.
    ///
    /// # Errors
    /// [`SinkBusy`]: too many questions wait.
    pub fn query(&self, id: u64, query: Query) -> Result<(), SinkBusy> {
        let mut waiting = self.0.lock();
        if waiting.queries.len() >= QUERIES_MAX {
            return Err(SinkBusy);
        }
        waiting.queries.push_back((id, query));
        self.0.wake.notify_one();
        Ok(())
    }

    /// Runs a job of the admin side between two batches.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) {
        self.0.lock().jobs.push(Box::new(job));
        self.0.wake.notify_one();
    }

    /// Finish what was asked so far, then end; told by `Ended`.
    pub fn stop(&self) {
        self.0.lock().stopping = true;
        self.0.wake.notify_one();
    }
}

/// The running thread; dropped, it finishes what it was asked, and is waited for.
#[derive(Debug)]
pub struct SinkThread {
    handle: SinkHandle,
    join: Option<JoinHandle<()>>,
}

impl SinkThread {
    /// Starts it. Reports older than `keep` are removed; `None` keeps them for ever.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start<S: Sink + Send + 'static>(
        sink: S,
        keep: Option<Duration>,
        on_event: impl Fn(SinkEvent) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let handle = SinkHandle(Arc::clone(&shared));
        let join = std::thread::Builder::new().name("sink".to_owned()).spawn(move || {
            let events = Events(on_event);
            Worker::new(sink, keep, &events).run(&shared);
        })?;
        Ok(Self { handle, join: Some(join) })
    }

    /// Where commands go in.
    #[must_use]
    pub fn handle(&self) -> SinkHandle {
        self.handle.clone()
    }

    /// Stops it and waits until it has ended.
    pub fn stop(self) {}
}

impl Drop for SinkThread {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.join.take() {
            // A panic there was told by `Ended` already, and logged by its hook.
            let _ = thread.join();
        }
    }
}

/// Tells `Ended` however the thread ends.
struct Events<F: Fn(SinkEvent)>(F);

impl<F: Fn(SinkEvent)> Drop for Events<F> {
    fn drop(&mut self) {
        (self.0)(SinkEvent::Ended);
    }
}

struct Worker<'a, S, F: Fn(SinkEvent)> {
    sink: S,
    events: &'a Events<F>,
    clock: SystemClock,
    keep: Option<Duration>,
    prune_at: Option<Instant>,
    /// What was learned of hosts and is not stored yet, and when to do so.
    hosts: HostUpdates,
    hosts_at: Option<Instant>,
    /// How long to wait after the next failure.
    retry: Duration,
}

impl<'a, S: Sink, F: Fn(SinkEvent)> Worker<'a, S, F> {
    fn new(sink: S, keep: Option<Duration>, events: &'a Events<F>) -> Self {
        let clock = SystemClock::start();
        Self {
            sink,
            events,
            clock,
            keep,
            prune_at: keep.map(|_| clock.now().at),
            hosts: HostUpdates::default(),
            hosts_at: None,
            retry: RETRY_FIRST,
        }
    }

    fn run(mut self, shared: &Shared) {
        loop {
            let work = self.wait(shared);
            self.hosts.merge(work.hosts);
            if !work.queries.is_empty() {
                self.store_hosts();
            }
            for (id, query) in work.queries {
                let mut answer = self.sink.query(&query);
                // What could not be stored is known all the same.
                if let (Query::Hosts { silent_before, silent_only, .. }, Ok(Answer::Hosts(page))) =
                    (&query, &mut answer)
                {
                    self.hosts.show(page, *silent_before, *silent_only);
                }
                self.tell(SinkEvent::Answered { id, answer });
            }
            work.jobs.into_iter().for_each(|job| job());
            if !work.batch.is_empty() {
                self.append(work.batch);
            }
            if work.stopping {
                self.store_hosts();
                return;
            }
            let now = self.clock.now().at;
            if self.hosts_at.is_some_and(|at| at <= now) {
                self.store_hosts();
            } else if self.hosts_at.is_none() && !self.hosts.is_empty() {
                self.hosts_at = Some(now + HOSTS_DELAY);
            }
            if self.prune_at.is_some_and(|at| at <= now) {
                self.prune();
            }
        }
    }

    /// Sleeps until there is something to do, and takes all of it.
    fn wait(&self, shared: &Shared) -> Waiting {
        let mut waiting = shared.lock();
        loop {
            let news = !waiting.batch.is_empty()
                || !waiting.queries.is_empty()
                || !waiting.jobs.is_empty()
                || !waiting.hosts.is_empty()
                || waiting.stopping;
            let due = self.hosts_at.into_iter().chain(self.prune_at).min();
            let now = self.clock.now().at;
            if news || due.is_some_and(|at| at <= now) {
                let stopping = waiting.stopping;
                return Waiting { stopping, ..std::mem::take(&mut *waiting) };
            }
            waiting = match due {
                None => shared.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    shared
                        .wake
                        .wait_timeout(waiting, at.since(now))
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
    }

    fn append(&mut self, batch: Vec<Record>) {
        match self.sink.append(&batch) {
            Ok(appended) => {
                self.on_success();
                self.tell(SinkEvent::Appended(appended));
            }
            Err(error) => {
                let retry_after = self.on_failure(&error);
                self.tell(SinkEvent::AppendFailed { records: batch, error, retry_after });
            }
        }
    }

    fn store_hosts(&mut self) {
        self.hosts_at = None;
        if self.hosts.is_empty() {
            return;
        }
        match self.sink.update_hosts(&self.hosts) {
            Ok(()) => {
                let failed_before = self.retry > RETRY_FIRST;
                self.on_success();
                self.hosts = HostUpdates::default();
                if failed_before {
                    self.tell(SinkEvent::Recovered);
                }
            }
            Err(error) => {
                let retry_after = self.on_failure(&error);
                self.hosts_at = Some(self.clock.now().at + retry_after);
                self.tell(SinkEvent::HostsFailed(error));
            }
        }
    }

    fn prune(&mut self) {
        let now = self.clock.now();
        let keep_ms =
            self.keep.map_or(u64::MAX, |k| u64::try_from(k.as_millis()).unwrap_or(u64::MAX));
        let before = WallMs(now.wall.0.saturating_sub(keep_ms));
        let pause = match self.sink.prune(before, PRUNE_REPORTS) {
            // There may be more: go on after whatever waits.
            Ok(PRUNE_REPORTS) => Duration::ZERO,
            Ok(_) => PRUNE_INTERVAL,
            Err(error) => {
                log::warn!("old reports were not removed: {error}");
                PRUNE_INTERVAL
            }
        };
        self.prune_at = Some(now.at + pause);
    }

    fn on_success(&mut self) {
        if self.retry > RETRY_FIRST {
            log::info!("the result store can be written again");
            self.retry = RETRY_FIRST;
        }
    }

    /// Says how long to wait.
    fn on_failure(&mut self, error: &SinkError) -> Duration {
        let wait = self.retry;
        self.retry = (wait * 2).min(RETRY_LAST);
        log::error!("{error} (tried again within {} ms)", wait.as_millis());
        wait
    }

    fn tell(&self, event: SinkEvent) {
        (self.events.0)(event);
    }
}
