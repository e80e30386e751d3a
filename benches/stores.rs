//! Which store is to keep what a master has acked, and what does it cost to keep it at all?
//!
//! `cargo bench -p benches --bench stores`, or with `-- NAME` for those of that name alone
//!
//! Each store stands behind the engine's own store thread and gets records of 256 B, at a rate
//! that waits for nobody and then with 1,000 always under way. An ack is the store's `Committed`.
//! No socket takes part, so no accept queue does either. With one commit for each message,
//! batches are kept from merging. Latency counts from when a record was due. What has no ack
//! 1 s after the end of a round is counted as late, and stops the round.

use benches::figures::Figures;
use benches::stores::{AppendOnly, Memory, Nothing, Redb, Sqlite};
use engine::clock::{self, Clock, SystemClock};
use engine::queue::lmdb::{LmdbConfig, LmdbStore};
use engine::queue::memory::MemoryStore;
use engine::queue::store::{Batch, StoreCommand, StoreEvent};
use engine::queue::thread::{Store, StoreHandle};
use engine::time::Instant;
use nix::time::{ClockId, clock_gettime};
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Bytes of a record.
const RECORD: [u8; 256] = [b'.'; 256];
/// Rounds of each store at each load, in turn; before them one that does not count.
const ROUNDS: usize = 5;
/// How long a round offers its load.
const ROUND: Duration = Duration::from_secs(1);
/// How long it waits for the last acks after that.
const PATIENCE: Duration = Duration::from_secs(1);
/// Records of one gathering, as the inbox has it.
const GATHERING_MAX: u64 = 1000;
/// The loop that hands over looks at its clock so often.
const TURN: Duration = Duration::from_micros(100);

/// How records come.
#[derive(Debug, Clone, Copy)]
enum Offered {
    /// So many a second.
    Rate(u64),
    /// So many are always under way.
    Window(u64),
}

#[derive(Debug, Clone, Copy)]
struct Kind {
    name: &'static str,
    /// Whether each record is a commit of its own.
    each: bool,
    /// Syncs in a commit, by its documentation; one of LMDB's is a write to a descriptor that
    /// is opened with O_DSYNC.
    syncs: f64,
}

const KINDS: [Kind; 7] = [
    Kind { name: "no queue", each: false, syncs: 0.0 },
    Kind { name: "memory", each: false, syncs: 0.0 },
    Kind { name: "LMDB, a commit each", each: true, syncs: 2.0 },
    Kind { name: "LMDB", each: false, syncs: 2.0 },
    Kind { name: "append-only file", each: false, syncs: 1.0 },
    Kind { name: "SQLite, WAL", each: false, syncs: 1.0 },
    Kind { name: "redb", each: false, syncs: 1.0 },
];

/// What one round found.
#[derive(Debug, Default)]
struct Round {
    rate: f64,
    p50_us: f64,
    p99_us: f64,
    late: f64,
    commits_each: f64,
    cpu_us: f64,
}

/// How far the commits have come, and when.
#[derive(Debug, Default)]
struct Acks {
    told: Mutex<Vec<(u64, Instant)>>,
    changed: Condvar,
}

impl Acks {
    fn told(&self) -> std::sync::MutexGuard<'_, Vec<(u64, Instant)>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn start(
    kind: Kind,
    dir: &Path,
    post: impl Fn(StoreEvent) + Send + 'static,
) -> io::Result<StoreHandle> {
    fn run(
        store: impl Store,
        post: impl Fn(StoreEvent) + Send + 'static,
    ) -> io::Result<StoreHandle> {
        StoreHandle::start(store, post)
    }
    let wrong = |error: &dyn std::fmt::Display| io::Error::other(error.to_string());
    match kind.name {
        "no queue" => run(Nothing, post),
        "memory" => run(Memory(MemoryStore::new(1)), post),
        "append-only file" => run(AppendOnly::create(dir)?, post),
        "SQLite, WAL" => run(Sqlite::create(dir).map_err(|e| wrong(&e))?, post),
        "redb" => run(Redb::create(dir).map_err(|e| wrong(&e))?, post),
        _ => run(LmdbStore::open(LmdbConfig::new(dir)).map_err(|e| wrong(&e))?.0, post),
    }
}

fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Into::into)
}

fn round(kind: Kind, offered: Offered, clock: SystemClock) -> io::Result<Round> {
    let parent = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let dir = tempfile::tempdir_in(parent)?;
    let acks = Arc::new(Acks::default());
    let theirs = Arc::clone(&acks);
    let store = start(kind, dir.path(), move |event| {
        if let StoreEvent::Committed { upto, .. } = event {
            theirs.told().push((upto, clock.now().at));
            theirs.changed.notify_one();
        }
    })?;
    // Numbers with gaps: such batches do not merge.
    let number = |message: u64| if kind.each { 2 * message + 1 } else { message + 1 };
    let message = |upto: u64| if kind.each { upto.div_ceil(2) } else { upto };
    let (cpu_before, begun) = (cpu(), clock.now().at);
    let mut due: Vec<Instant> = Vec::new();
    let acked = |told: &[(u64, Instant)]| told.last().map_or(0, |(upto, _)| message(*upto));
    loop {
        let now = clock.now().at;
        if now >= begun + ROUND {
            break;
        }
        let next = due.len() as u64;
        let wanted = match offered {
            Offered::Rate(rate) => now.since(begun).as_micros() as u64 * rate / 1_000_000 + 1,
            Offered::Window(window) => acked(&acks.told()) + window,
        };
        let more = wanted.saturating_sub(next).min(GATHERING_MAX);
        due.extend((next..next + more).map(|i| match offered {
            Offered::Rate(rate) => begun + Duration::from_nanos(i * 1_000_000_000 / rate),
            Offered::Window(_) => now,
        }));
        let batches = if kind.each { more } else { u64::from(more > 0) };
        for i in 0..batches {
            let mut batch =
                Batch { first: number(next + i), arrived: clock::wall(), ..Batch::default() };
            (0..more / batches).for_each(|_| batch.push(&RECORD));
            store.submit(StoreCommand::Write(batch));
        }
        match offered {
            Offered::Rate(_) => std::thread::sleep(TURN),
            Offered::Window(window) => {
                let full =
                    |told: &mut Vec<(u64, Instant)>| acked(told) + window <= due.len() as u64;
                let waited = acks.changed.wait_timeout_while(acks.told(), ROUND, full);
                drop(waited.unwrap_or_else(PoisonError::into_inner));
            }
        }
    }
    let all = due.len() as u64;
    let missing = |told: &mut Vec<(u64, Instant)>| acked(told) < all;
    let waited = acks.changed.wait_timeout_while(acks.told(), PATIENCE, missing);
    let told = waited.unwrap_or_else(PoisonError::into_inner).0.clone();
    let used = cpu() - cpu_before;
    let commits = store.metrics().commits.value();
    let (mut latencies, mut at) = (Vec::with_capacity(due.len()), 0);
    for (upto, when) in &told {
        let upto = usize::try_from(message(*upto)).unwrap_or(usize::MAX);
        latencies.extend(due[at..upto].iter().map(|due| when.since(*due).as_micros()));
        at = upto;
    }
    latencies.sort_unstable();
    let quantile = |share: usize| latencies.get(latencies.len() * share / 100).copied();
    let last = told.last().map_or(begun + ROUND, |(_, when)| *when);
    let count = (at as f64).max(1.0);
    Ok(Round {
        rate: count / last.since(begun).as_secs_f64().max(f64::EPSILON),
        p50_us: quantile(50).unwrap_or_default() as f64,
        p99_us: quantile(99).unwrap_or_default() as f64,
        late: (all as f64) - at as f64,
        commits_each: commits as f64 / count,
        cpu_us: used.as_secs_f64() * 1e6 / count,
    })
}

fn main() -> io::Result<()> {
    let clock = SystemClock::start();
    let only: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let kinds: Vec<Kind> = KINDS
        .into_iter()
        .filter(|kind| only.is_empty() || only.iter().any(|name| kind.name.contains(name)))
        .collect();
    for (words, offered) in [
        ("2,000 a second", Offered::Rate(2_000)),
        ("20,000 a second", Offered::Rate(20_000)),
        ("1,000 always under way", Offered::Window(1_000)),
    ] {
        println!("{words}: median of {ROUNDS} rounds (least to most)");
        let mut found: Vec<Vec<Round>> = kinds.iter().map(|_| Vec::new()).collect();
        for number in 0..=ROUNDS {
            for (kind, found) in kinds.iter().zip(&mut found) {
                let round = round(*kind, offered, clock)?;
                if number > 0 {
                    found.push(round);
                }
            }
        }
        for (kind, found) in kinds.iter().zip(&found) {
            let of = |what: &dyn Fn(&Round) -> f64| found.iter().map(what).collect::<Figures>();
            println!(
                "  {:<20} {:.0} messages/s; ack p50 {:.0} us, p99 {:.0} us; {:.0} late; {:.4} syncs and {:.2} us of CPU a message",
                kind.name,
                of(&|r| r.rate),
                of(&|r| r.p50_us),
                of(&|r| r.p99_us),
                of(&|r| r.late),
                of(&|r| r.commits_each * kind.syncs),
                of(&|r| r.cpu_us),
            );
        }
    }
    Ok(())
}
