//! How fast does a master get rid of what waits in its inbox?
//!
//! `cargo bench -p benches --bench drain`, or with `-- null` or `-- sqlite`
//!
//! 1,000,000 reports of 256 B are acked while nobody reads the inbox; then somebody does.
//!
//! **null**: a sink that does nothing but say that it has them; the log is trimmed behind it. In turn
//! with it the same server takes them in, over 1,000 connections with 32 under way on each: it is to
//! give out at least as fast.
//!
//! **sqlite**: the master's result store, on its own thread and with its own batches, 100,000 at a
//! time of a million that 10,000 hosts have brought, each one after the other; so the records of a
//! batch are of as many hosts. In turn with it rusqlite inserts as many such rows into the same table
//! in a bare loop, in as large transactions, synced as well.
//!
//! All have both processors. Ratios are those of neighbours in time.

use benches::child::{Helper, Worker, answer, obey};
use benches::figures::Figures;
use benches::flood::{Drover, Flood};
use benches::machine::Machine;
use benches::minimal::{padded, report};
use benches::server::{Builder, Durable};
use benches::side::{Goal, heard, judge, own_cpu_us, told};
use engine::clock;
use engine::ids::{ConnId, Epoch, HostName};
use engine::limits::Limits;
use engine::node::io::{Listener, PeerAddr};
use engine::node::{Context, Handled, Message, NodeEvent, Role};
use engine::queue::store::Record;
use engine::time::Instant;
use engine::wire::message::Report;
use engine::wire::{Class, Frame};
use master::sink::{SinkEvent, SinkOptions, SinkThread, SqliteSink};
use rusqlite::{Connection, TransactionBehavior, params};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

/// Records that wait.
const WAITING: u32 = 1_000_000;
/// Bytes of a frame.
const FRAME: usize = 256;
/// Who brings what the null sink gets, and how many each has under way.
const CONNS: usize = 1_000;
const DEPTH: u64 = 32;
/// Rounds of filling and draining; before them one that does not count.
const ROUNDS: usize = 5;
/// Who brings what the result store gets.
const HOSTS: usize = 10_000;
/// Records that the result store, and rows that the bare loop, takes in a round.
const SLICE: u32 = 100_000;
/// Rows in a transaction of the bare loop, as many as the inbox gives out at once.
const ROWS: usize = 1_000;
/// All processors.
const BOTH: &str = "0,1";
/// The result store and the bare loop's database, below the directory of a run.
const RESULTS: &str = "results.db";
const BARE: &str = "bare.db";

/// What a sink's thread or the bench tells the role.
enum Mail {
    /// Take so many records, or a few more.
    Take(u32),
    Sink(SinkEvent),
}

/// Hands records to its sink when it is told to, and says when they are there.
struct Drainer {
    /// Without one, records are done with as they come.
    stores: bool,
    /// Records that it is still to take.
    wanted: u32,
    taken: u32,
    /// A lot that nobody wanted yet.
    waiting: Vec<Record>,
    begun: Instant,
    cpu_us: u64,
}

type Cx<'a> = Context<'a, Vec<Record>>;

impl Drainer {
    fn take(&mut self, records: Vec<Record>, cx: &mut Cx<'_>) {
        if self.wanted == 0 {
            self.waiting = records;
        } else if self.stores {
            cx.effect(records);
        } else if let Some(last) = records.last() {
            self.on_taken(records.len(), last.seq, cx);
        }
    }

    fn on_taken(&mut self, count: usize, upto: u64, cx: &mut Cx<'_>) {
        let count = u32::try_from(count).expect("a lot is small");
        self.taken += count;
        self.wanted = self.wanted.saturating_sub(count);
        cx.consumed(upto);
        if self.wanted == 0 {
            let cpu_us = own_cpu_us().expect("the kernel has told it before") - self.cpu_us;
            println!("{} {}", told(cx.now.at.since(self.begun), cpu_us), self.taken);
        }
    }
}

impl Role for Drainer {
    type Mail = Mail;
    type Effect = Vec<Record>;

    fn accepts(&self, _: Class) -> bool {
        true
    }

    fn knows(&self, _: &HostName) -> bool {
        true
    }

    fn handle_message(&mut self, _: Message<'_>, _: &mut Cx<'_>) -> Handled {
        Handled::Taken
    }

    fn handle_request(
        &mut self,
        _: ConnId,
        _: &PeerAddr,
        _: Frame<'_>,
        _: &mut Cx<'_>,
    ) -> Option<()> {
        None
    }

    fn handle_mail(&mut self, mail: Mail, cx: &mut Cx<'_>) {
        match mail {
            Mail::Take(count) => {
                (self.wanted, self.taken, self.begun) = (count, 0, cx.now.at);
                self.cpu_us = own_cpu_us().expect("the kernel has told it before");
                let waiting = std::mem::take(&mut self.waiting);
                if !waiting.is_empty() {
                    self.take(waiting, cx);
                }
            }
            Mail::Sink(SinkEvent::Appended(appended)) => {
                assert_eq!((appended.duplicates, appended.quarantined), (0, 0));
                let stored = usize::try_from(appended.stored).expect("a lot is small");
                self.on_taken(stored, appended.upto, cx);
            }
            Mail::Sink(event) => panic!("the result store: {event:?}"),
        }
    }

    fn handle_event(&mut self, event: NodeEvent, cx: &mut Cx<'_>) {
        if let NodeEvent::Records(records) = event {
            self.take(records, cx);
        }
    }

    fn handle_timeout(&mut self, _: &mut Cx<'_>) {}

    fn next_timeout(&self) -> Option<Instant> {
        None
    }

    fn is_finished(&self) -> bool {
        true
    }
}

/// A server whose inbox is read when it is told to.
fn serve(stores: bool, dir: &Path) -> io::Result<()> {
    let mut builder =
        Builder::new(Limits::default())?.durable(&Durable::Drained(dir.join("inbox")))?;
    if stores {
        let inbox = builder.parts.inbox.as_ref().map_or(Epoch(0), |inbox| inbox.epoch());
        let sink = SqliteSink::open(&dir.join(RESULTS), inbox, SinkOptions::default());
        let mailbox = builder.mailbox.clone();
        let told = move |event| mailbox.post_role(Mail::Sink(event));
        let sink = SinkThread::start(sink.map_err(io::Error::other)?, None, told)?;
        builder.threads.role = Box::new(move |records| sink.handle().append(records));
    }
    let orders = builder.mailbox.clone();
    let (wanted, taken, waiting) = (0, 0, Vec::new());
    let begun = Instant::default();
    let drainer = Drainer { stores, wanted, taken, waiting, begun, cpu_us: 0 };
    let mut reactor = builder.build(drainer);
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    println!("{}", reactor.listen(Listener::Peers, any)?);
    std::thread::spawn(move || {
        obey(|order| {
            orders.post_role(Mail::Take(order.parse().map_err(io::Error::other)?));
            Ok(())
        })
    });
    reactor.run()
}

/// Fills the inbox, once for each line.
fn fill(to: SocketAddr, conns: usize, depth: u64) -> io::Result<()> {
    let mut flood = Flood::connect(to, conns, depth, Drover::new(conns, &a_report()))?;
    answer(|| {
        let before = clock::thread_cpu_us();
        let elapsed = flood.round(u64::from(WAITING) / conns as u64)?;
        Ok(told(elapsed, clock::thread_cpu_us() - before))
    })
}

fn a_report() -> Report {
    padded(FRAME, report)
}

fn start(words: &[&str]) -> io::Result<Helper> {
    Helper::start(BOTH, &words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
}

/// The server, and who fills its inbox.
fn sides(mode: &str, dir: &Path, conns: usize, depth: u64) -> io::Result<(Helper, Helper)> {
    let mut server = start(&["serve", mode, &dir.to_string_lossy()])?;
    let filler = start(&["fill", &server.line()?, &conns.to_string(), &depth.to_string()])?;
    Ok((server, filler))
}

fn null() -> io::Result<bool> {
    println!("null: {ROUNDS} rounds of {WAITING} records of {FRAME} B");
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let (mut server, mut filler) = sides("null", dir.path(), CONNS, DEPTH)?;
    let records = f64::from(WAITING);
    let [mut ins, mut in_us, mut outs, mut out_us, mut ratios] = <[Figures; 5]>::default();
    for round in 0..=ROUNDS {
        let before = server.cpu()?;
        let [elapsed, _] = heard(&filler.go()?)?;
        let filled = server.cpu()?.saturating_sub(before).as_secs_f64();
        let [took, taken_us, taken] = heard(&server.ask(&WAITING.to_string())?)?;
        assert!((taken - records).abs() < 0.5, "{taken} of {WAITING} records came out");
        if round > 0 {
            ins.push(records / elapsed);
            in_us.push(filled * 1e6 / records);
            outs.push(records / took);
            out_us.push(taken_us * 1e6 / records);
            ratios.push(elapsed / took);
        }
    }
    println!("  taken in       {ins:.0}/s, server's CPU {in_us:.2} us a record");
    println!("  drained        {outs:.0}/s, server's CPU {out_us:.2} us a record");
    Ok(judge("rate of draining to that of taking in", &ratios, Goal::AtLeast(1.0)))
}

/// SQLite and nothing else: the result store's table, and rows like its own.
struct Bare {
    db: Connection,
    rng: fastrand::Rng,
    /// The order of the hosts' reports, and where it is.
    hosts: Vec<i64>,
    next: usize,
    pass: i64,
    note: String,
}

impl Bare {
    fn open(path: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        drop(SqliteSink::open(path, Epoch(1), SinkOptions::default())?);
        let mut db = Connection::open(path)?;
        db.execute_batch("PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 67108864;")?;
        let hosts: Vec<i64> = (1..=HOSTS as i64).collect();
        let tx = db.transaction()?;
        for host in &hosts {
            tx.execute("INSERT INTO hosts (id, name) VALUES (?1, ?2)", (host, host.to_string()))?;
            tx.execute("INSERT INTO streams (id, host, epoch) VALUES (?1, ?1, 1)", [host])?;
        }
        tx.commit()?;
        let (rng, note) = (fastrand::Rng::with_seed(1), a_report().note);
        Ok(Self { db, rng, hosts, next: HOSTS, pass: 0, note })
    }

    /// The next report: its stream, and its number there. Hosts report in any order, and none
    /// twice before all have.
    fn next(&mut self) -> (i64, i64) {
        if self.next == HOSTS {
            self.rng.shuffle(&mut self.hosts);
            (self.next, self.pass) = (0, self.pass + 1);
        }
        self.next += 1;
        (self.hosts[self.next - 1], self.pass)
    }

    /// Rows a second.
    fn round(&mut self) -> rusqlite::Result<f64> {
        let begun = std::time::Instant::now();
        for _ in 0..SLICE as usize / ROWS {
            let rows: Vec<_> = (0..ROWS).map(|_| self.next()).collect();
            let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut insert = tx.prepare_cached(
                "INSERT INTO reports (stream, seq, arrived_ms, started_ms, revision, trigger,
                     duration_us, busy_us, checked, changed, failed, skipped, interrupted, note)
                 VALUES (?1, ?2, ?3, 1, 0, 3, 2600, 2400, 100, 0, 0, 0, 0, ?4)",
            )?;
            for (stream, seq) in rows {
                insert.execute(params![stream, seq, 1_700_000_000_000_i64, &self.note])?;
            }
            drop(insert);
            tx.commit()?;
        }
        Ok(f64::from(SLICE) / begun.elapsed().as_secs_f64())
    }
}

/// How many reports a database has, and of how many hosts.
fn stored(path: &Path) -> rusqlite::Result<(u32, u32)> {
    let db = Connection::open(path)?;
    db.query_row("SELECT count(*), count(DISTINCT stream) FROM reports", [], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
}

fn sqlite() -> io::Result<bool> {
    println!("sqlite: {ROUNDS} rounds of {SLICE} of {WAITING} records from {HOSTS} hosts");
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let failed = |error: Box<dyn std::error::Error>| io::Error::other(error.to_string());
    let mut bare = Bare::open(&dir.path().join(BARE)).map_err(failed)?;
    let (mut server, mut filler) = sides("sqlite", dir.path(), HOSTS, 1)?;
    filler.go()?;
    let mut drained = 0.0;
    let [mut rates, mut own_us, mut bares, mut bare_us, mut ratios] = <[Figures; 5]>::default();
    for round in 0..=ROUNDS {
        let [took, taken_us, taken] = heard(&server.ask(&SLICE.to_string())?)?;
        assert!(taken >= f64::from(SLICE), "{taken} of {SLICE} records came out");
        let before = own_cpu_us()?;
        let by_bare = bare.round().map_err(io::Error::other)?;
        let by_bare_us = (own_cpu_us()? - before) as f64 / f64::from(SLICE);
        drained += taken;
        if round > 0 {
            rates.push(taken / took);
            own_us.push(taken_us * 1e6 / taken);
            bares.push(by_bare);
            bare_us.push(by_bare_us);
            ratios.push(taken / took / by_bare);
        }
    }
    println!("  drained        {rates:.0}/s, CPU {own_us:.1} us a record, of all threads");
    println!("  bare loop      {bares:.0}/s, CPU {bare_us:.1} us a row, {ROWS} a transaction");
    for (name, count) in [(RESULTS, drained), (BARE, f64::from(SLICE) * (ROUNDS + 1) as f64)] {
        let (found, hosts) = stored(&dir.path().join(name)).map_err(io::Error::other)?;
        assert!((f64::from(found) - count).abs() < 0.5, "{name} has {found} reports, not {count}");
        assert_eq!(hosts as usize, HOSTS, "hosts with reports in {name}");
    }
    Ok(judge("rate of draining to the bare loop", &ratios, Goal::AtLeast(0.6)))
}

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().map_err(io::Error::other);
    match words[..] {
        ["serve", mode, dir] => serve(mode == "sqlite", Path::new(dir)),
        ["fill", to, conns, depth] => {
            let conns = usize::try_from(number(conns)?).map_err(io::Error::other)?;
            fill(to.parse().map_err(io::Error::other)?, conns, number(depth)?)
        }
        _ => {
            let machine = Machine::look();
            let is_wanted = |name| words.is_empty() || words.contains(&name);
            let mut met = true;
            if is_wanted("null") {
                met &= null()?;
            }
            if is_wanted("sqlite") {
                met &= sqlite()?;
            }
            machine.tell();
            println!("{}", if met { "all goals are met" } else { "a goal is missed" });
            Ok(())
        }
    }
}
