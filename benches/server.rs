//! What does the engine add to the least that a server can do?
//!
//! `cargo bench -p benches --bench server`, or with `-- volatile` or `-- durable`
//!
//! Minimal clients on one processor: connect from an address of its own, one frame of 256 B out,
//! its ack in, close. On the other processor, in turn, a minimal server, which acks whatever comes,
//! and the engine's: its event loop, a node, and for durable messages the inbox on LMDB, from which
//! a sink that does nothing reads and trims. Its ack comes after the commit. Ratios are those of
//! neighbours in time.

use benches::child::{Helper, answer};
use benches::figures::Figures;
use benches::minimal::{self, Ends, Load, Requests, padded, poll, report};
use benches::server::{self, Durable};
use benches::side::{Goal, Side, judge, told};
use engine::clock::{self, SystemClock};
use engine::limits::{HEADER_SIZE, Limits};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

/// Hosts, each with one transaction a round.
const HOSTS: u32 = 10_000;
/// Transactions under way at once.
const WINDOW: usize = 256;
/// Bytes of a frame.
const FRAME: usize = 256;
/// Rounds of each, in turn; before them one that does not count.
const ROUNDS: usize = 15;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Volatile,
    Durable,
}

impl What {
    const ALL: [Self; 2] = [Self::Volatile, Self::Durable];

    fn name(self) -> &'static str {
        match self {
            Self::Volatile => "volatile",
            Self::Durable => "durable",
        }
    }

    fn requests(self) -> Requests {
        match self {
            Self::Volatile => Requests::of_hosts(HOSTS, &padded(FRAME, poll)),
            Self::Durable => Requests::of_hosts(HOSTS, &padded(FRAME, report)),
        }
    }

    /// Of the minimal server's rate the engine is to reach this.
    fn rate_least(self) -> f64 {
        match self {
            Self::Volatile => 0.85,
            Self::Durable => 0.8,
        }
    }
}

fn clients(what: What, to: SocketAddr) -> io::Result<()> {
    let clock = SystemClock::start();
    let requests = what.requests();
    let mut load = Load {
        ends: Ends::Server(to),
        requests,
        answer_size: HEADER_SIZE,
        transactions: HOSTS,
        window: WINDOW,
    };
    let mut seq = 0;
    answer(|| {
        seq += 1;
        load.requests.renumber(seq);
        let before = clock::thread_cpu_us();
        let elapsed = minimal::run(&load, clock)?.all;
        Ok(told(elapsed, clock::thread_cpu_us() - before))
    })
}

fn serve(what: What, dir: &str) -> io::Result<()> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let durable = match what {
        What::Volatile => Durable::Refused,
        What::Durable => Durable::Drained(dir.into()),
    };
    server::serve(any, Limits::default(), &durable, |at| println!("{at}"))
}

/// Measures one kind of message; whether all goals are met.
fn measure(what: What) -> io::Result<bool> {
    println!("{}: {FRAME} B out, {HEADER_SIZE} B in", what.name());
    let args = |mode: &str, to: &str| [mode, what.name(), to].map(str::to_owned);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut sides = Vec::new();
    for mode in ["least", "engine"] {
        let mut server = Helper::start("1", &args(mode, &dir.path().to_string_lossy()))?;
        let client = Helper::start("0", &args("clients", &server.line()?))?;
        sides.push((client, server, Side::default()));
    }
    let (mut rates, mut cpus) = (Figures::default(), Figures::default());
    for round in 0..=ROUNDS {
        let mut by = Vec::new();
        for (client, server, side) in &mut sides {
            by.push(side.round(client, Some(server), HOSTS, round > 0)?);
        }
        if round > 0 {
            rates.push(by[1].rate / by[0].rate);
            cpus.push(by[1].server_us / by[0].server_us);
        }
    }
    sides[0].2.tell("minimal server");
    sides[1].2.tell("engine");
    let rate = Goal::AtLeast(what.rate_least());
    let mut all = judge("rate with the engine to that with the minimal server", &rates, rate);
    let cpu = "CPU of the engine to the minimal server's";
    match what {
        What::Volatile => println!("  {cpu}: {cpus:.2}"),
        What::Durable => all &= judge(cpu, &cpus, Goal::AtMost(1.5)),
    }
    Ok(all)
}

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let what = |at: usize| {
        let name = args.get(at).map(String::as_str);
        What::ALL.into_iter().find(|what| Some(what.name()) == name)
    };
    let to = args.get(2).and_then(|text| text.parse().ok());
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    match (args.first().map(String::as_str), what(1), to) {
        (Some("least"), Some(_), _) => minimal::serve(any, 0, |at| println!("{at}")),
        (Some("engine"), Some(what), _) => serve(what, args.get(2).map_or("", String::as_str)),
        (Some("clients"), Some(what), Some(to)) => clients(what, to),
        _ => {
            println!("{ROUNDS} rounds of {HOSTS} transactions, {WINDOW} under way at once");
            let mut all = true;
            for what in What::ALL.into_iter().filter(|w| what(0).is_none_or(|only| only == *w)) {
                all &= measure(what)?;
            }
            println!("{}", if all { "all goals are met" } else { "a goal is missed" });
            Ok(())
        }
    }
}
