//! How many durable messages a second does a master's inbox take?
//!
//! `cargo bench -p benches --bench ingest`, or with `-- redis` beside Redis as well
//!
//! 1,000 connections, each with 32 messages of 256 B under way; an ack means that the message is on
//! the disk. In turn: the engine's event loop, node and inbox while nobody reads it, the same while
//! a sink that does nothing reads and trims at the same pace, LMDB puts of the same bytes in a bare
//! loop at 1,024 a commit, and a Redis that appends to one list and syncs before it answers. Client
//! and server share both processors. Ratios are those of neighbours in time.

use benches::child::{Foreign, Helper, Worker, answer};
use benches::figures::Figures;
use benches::flood::{Drover, Flood, Protocol, Redis};
use benches::minimal::{padded, report};
use benches::server::{self, Durable};
use benches::side::{Goal, Side, judge, told};
use engine::clock;
use engine::limits::Limits;
use heed::byteorder::BigEndian;
use heed::types::{Bytes, U64};
use heed::{CommitOrAbort, Database, EnvOpenOptions, PutFlags};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Instant;

/// Connections, and messages under way on each.
const CONNS: usize = 1_000;
const DEPTH: u64 = 32;
/// Bytes of a frame.
const FRAME: usize = 256;
/// Messages of each connection in a round.
const EACH: u64 = 300;
const MESSAGES: u32 = CONNS as u32 * EACH as u32;
/// Puts in a commit of the bare loop.
const PUTS: u64 = 1_024;
/// Rounds of each, in turn; before them one that does not count.
const ROUNDS: usize = 9;
/// All processors.
const BOTH: &str = "0,1";

fn flood<P: Protocol>(to: SocketAddr, protocol: P) -> io::Result<()> {
    let mut flood = Flood::connect(to, CONNS, DEPTH, protocol)?;
    answer(|| {
        let before = clock::thread_cpu_us();
        let elapsed = flood.round(EACH)?;
        Ok(told(elapsed, clock::thread_cpu_us() - before))
    })
}

fn serve(durable: &Durable) -> io::Result<()> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    server::serve(any, Limits::default(), durable, |at| println!("{at}"))
}

/// LMDB and nothing else.
struct Bare {
    env: heed::Env,
    log: Database<'static, U64<BigEndian>, Bytes>,
    next: u64,
}

impl Bare {
    fn open(dir: &Path) -> Result<Self, heed::Error> {
        let mut options = EnvOpenOptions::new();
        options.map_size(16 << 30).max_dbs(1);
        // SAFETY: the directory is this bench's own, and nothing writes to the map.
        #[allow(unsafe_code)]
        let env = unsafe { options.open(dir)? };
        let txn = env.write_txn()?;
        let made = env.create_databases_and_commit(txn, |opener, txn| {
            let log = opener.create_database(txn, Some("log"))?;
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(log))
        })?;
        Ok(Self { env, log: made.unwrap_commit(), next: 0 })
    }

    /// Puts a second.
    fn round(&mut self) -> Result<f64, heed::Error> {
        let value = [b'.'; FRAME + 8];
        let begun = Instant::now();
        let upto = self.next + u64::from(MESSAGES);
        while self.next < upto {
            let mut txn = self.env.write_txn()?;
            for key in self.next..upto.min(self.next + PUTS) {
                self.log.put_with_flags(&mut txn, PutFlags::APPEND, &key, &value)?;
            }
            txn.commit()?;
            self.next = upto.min(self.next + PUTS);
        }
        Ok(f64::from(MESSAGES) / begun.elapsed().as_secs_f64())
    }
}

fn start_redis(dir: &Path) -> io::Result<Option<Foreign>> {
    Foreign::start(BOTH, "redis-server", "redis-server", |at| {
        let words = format!(
            "--bind 127.0.0.1 --port {} --appendonly yes --appendfsync always \
             --auto-aof-rewrite-percentage 0",
            at.port()
        );
        let mut args: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        args.extend(["--save".into(), String::new(), "--dir".into()]);
        args.push(dir.to_string_lossy().into_owned());
        Ok(args)
    })
}

/// One who is asked in turn.
struct Subject {
    name: &'static str,
    server: Box<dyn Worker>,
    client: Helper,
    side: Side,
}

fn subjects(dirs: &Path, redis: Option<Foreign>) -> io::Result<Vec<Subject>> {
    let start = |words: &[&str]| {
        Helper::start(BOTH, &words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    };
    let mut all = Vec::new();
    for (name, mode) in [("inbox, nobody reads", "kept"), ("inbox, drained", "drained")] {
        let dir = dirs.join(mode);
        let mut server = start(&["serve", mode, &dir.to_string_lossy()])?;
        let client = start(&["flood", "drover", &server.line()?])?;
        all.push(Subject { name, server: Box::new(server), client, side: Side::default() });
    }
    if let Some(redis) = redis {
        let client = start(&["flood", "redis", &redis.at.to_string()])?;
        let (server, side) = (Box::new(redis), Side::default());
        all.push(Subject { name: "Redis, synced", server, client, side });
    }
    Ok(all)
}

fn measure(with_redis: bool) -> io::Result<bool> {
    let dirs = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let path = |name: &str| {
        let path = dirs.path().join(name);
        std::fs::create_dir(&path).map(|()| path)
    };
    let mut bare = Bare::open(&path("bare")?).map_err(io::Error::other)?;
    let redis = if with_redis { start_redis(&path("redis")?)? } else { None };
    let has_redis = redis.is_some();
    let mut subjects = subjects(dirs.path(), redis)?;
    let (mut puts, mut ratios) = (Figures::default(), vec![[const { Vec::new() }; 2]; 2]);
    for round in 0..=ROUNDS {
        let mut rates = Vec::new();
        for subject in &mut subjects {
            let Subject { server, client, side, .. } = subject;
            rates.push(side.round(client, Some(&**server), MESSAGES, round > 0)?.rate);
        }
        let bare = bare.round().map_err(io::Error::other)?;
        if round > 0 {
            puts.push(bare);
            for (inbox, ratios) in ratios.iter_mut().enumerate() {
                ratios[0].push(rates[inbox] / bare);
                ratios[1].extend(rates.get(2).map(|redis| rates[inbox] / redis));
            }
        }
    }
    for subject in &subjects {
        subject.side.tell(subject.name);
    }
    println!("  LMDB, bare loop of {PUTS} a commit: {puts:.0} puts/s");
    let figures = |ratios: &[f64]| ratios.iter().copied().collect::<Figures>();
    let [kept, drained] = &ratios[..] else { unreachable!("two inboxes") };
    let mut all =
        judge("inbox that nobody reads to the bare loop", &figures(&kept[0]), Goal::AtLeast(0.5));
    println!("  inbox, drained, to the bare loop: {:.2}", figures(&drained[0]));
    if has_redis {
        let what = "inbox that nobody reads to Redis";
        all &= judge(what, &figures(&kept[1]), Goal::AtLeast(2.5));
        let what = "inbox, drained, to Redis";
        all &= judge(what, &figures(&drained[1]), Goal::AtLeast(1.5));
    }
    Ok(all)
}

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let addr = |text: &str| text.parse().map_err(io::Error::other);
    match words[..] {
        ["serve", "kept", dir] => serve(&Durable::Kept(dir.into())),
        ["serve", _, dir] => serve(&Durable::Drained(dir.into())),
        ["flood", "drover", to] => flood(addr(to)?, Drover::new(CONNS, &padded(FRAME, report))),
        ["flood", _, to] => flood(addr(to)?, Redis::new(FRAME)),
        _ => {
            println!(
                "{ROUNDS} rounds of {MESSAGES} messages of {FRAME} B, {CONNS} connections, {DEPTH} under way on each"
            );
            let all = measure(words.contains(&"redis"))?;
            println!("{}", if all { "all goals are met" } else { "a goal is missed" });
            Ok(())
        }
    }
}
