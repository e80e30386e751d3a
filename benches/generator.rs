//! How near does the load generator come to the least that a client can do?
//!
//! `cargo bench -p benches --bench generator`, or `benches/generator.sh`
//!
//! A minimal server on one processor; on another one, in turn, a minimal client and a fleet of
//! `loadgen`, which carry out the same number of transactions from the same addresses with
//! frames of the same size: connect, one frame out, its ack in, close. Every client of the fleet
//! has been bound before that. Ratios are those of neighbours in time.

use benches::child::{Helper, answer};
use benches::figures::Figures;
use benches::fleet;
use benches::minimal::{self, Ends, Load, RAW_ANSWER, RAW_REQUEST, Requests, frame, poll, report};
use benches::side::{Goal, Side, judge, told};
use engine::clock::{self, SystemClock};
use engine::limits::HEADER_SIZE;
use engine::wire::message::{Report, ResourceResult};
use loadgen::measure::Timed;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

/// Clients, each with one transaction a round.
const CLIENTS: u32 = 10_000;
/// Transactions under way at once.
const WINDOW: usize = 256;
/// Rounds of each, in turn; before them one that does not count.
const ROUNDS: usize = 21;
/// The slots of a round lie within this: more than anybody carries.
const OFFERED_WITHIN: Duration = Duration::from_millis(150);
/// Before them, all clients are bound within this.
const BIND_WITHIN: Duration = Duration::from_secs(3);
/// Of the minimal client's rate the generator is to reach this.
const RATE_LEAST: f64 = 0.8;
/// Of its CPU time for a transaction the generator may take this.
const CPU_MOST: f64 = 1.3;

/// What one transaction carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Raw,
    Poll,
    Report,
}

impl What {
    const ALL: [Self; 3] = [Self::Raw, Self::Poll, Self::Report];

    fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Poll => "poll",
            Self::Report => "report",
        }
    }

    /// A request as long as a client of `loadgen` sends it, and the length of its answer.
    fn request(self) -> (Vec<u8>, usize) {
        let frame = match self {
            Self::Raw => return (vec![0; RAW_REQUEST], RAW_ANSWER),
            Self::Poll => frame(1, &poll(String::new())),
            Self::Report => frame(1, &Report { results: vec![result()], ..report(String::new()) }),
        };
        (frame, HEADER_SIZE)
    }
}

/// What a report of the generator's tells.
fn result() -> ResourceResult {
    ResourceResult {
        id: b"file /etc/motd".to_vec(),
        outcome: 1,
        before: "absent".to_owned(),
        after: "file 0644 root:root, 312 bytes".to_owned(),
        error: String::new(),
        duration_us: 420,
        output: Vec::new(),
    }
}

fn minimal_client(what: What, to: SocketAddr) -> io::Result<()> {
    let clock = SystemClock::start();
    let (request, answer_size) = what.request();
    let requests = Requests::same(request);
    let ends = Ends::Server(to);
    let load = Load { ends, requests, answer_size, transactions: CLIENTS, window: WINDOW };
    answer(|| {
        let before = clock::thread_cpu_us();
        let elapsed = minimal::run(&load, clock)?.all;
        Ok(told(elapsed, clock::thread_cpu_us() - before))
    })
}

fn fleet(what: What, to: SocketAddr, back: u16) -> io::Result<()> {
    let clock = SystemClock::start();
    let mut fleet = fleet::start(CLIENTS, WINDOW, to, back, clock)?;
    fleet::phase(&mut fleet, &fleet::work(BIND_WITHIN, Timed::Poll), clock)?;
    println!("bound");
    let kind = if what == What::Poll { Timed::Poll } else { Timed::Report };
    answer(|| {
        let phase = fleet::phase(&mut fleet, &fleet::work(OFFERED_WITHIN, kind), clock)?;
        let count = phase.tally.latencies.histogram(kind).len();
        assert_eq!(count, u64::from(CLIENTS), "each client had one slot");
        Ok(told(phase.elapsed, phase.cpu_us))
    })
}

/// Measures one kind of transaction; whether all goals are met.
fn measure(what: What) -> io::Result<bool> {
    let free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr()?.port();
    let args =
        |mode: &str, more: &[String]| [&[mode.to_owned(), what.name().to_owned()], more].concat();
    let mut server = Helper::start("1", &args("serve", &[free.to_string()]))?;
    let to = server.line()?;
    let (request, answer_size) = what.request();
    println!("{}: {} B out, {answer_size} B in", what.name(), request.len());
    let mut least = Helper::start("0", &args("minimal", std::slice::from_ref(&to)))?;
    let mut least_side = Side::default();
    if what == What::Raw {
        for round in 0..=ROUNDS {
            least_side.round(&mut least, Some(&server), CLIENTS, round > 0)?;
        }
        least_side.tell("minimal client");
        return Ok(true);
    }
    let mut fleet = Helper::start("0", &args("fleet", &[to, free.to_string()]))?;
    fleet.line()?;
    let mut fleet_side = Side::default();
    let (mut rates, mut cpus) = (Figures::default(), Figures::default());
    for round in 0..=ROUNDS {
        let by_least = least_side.round(&mut least, Some(&server), CLIENTS, round > 0)?;
        let by_fleet = fleet_side.round(&mut fleet, Some(&server), CLIENTS, round > 0)?;
        if round > 0 {
            rates.push(by_fleet.rate / by_least.rate);
            cpus.push(by_fleet.client_us / by_least.client_us);
        }
    }
    least_side.tell("minimal client");
    fleet_side.tell("loadgen");
    let mut all = judge("CPU of loadgen to the minimal client's", &cpus, Goal::AtMost(CPU_MOST));
    if what == What::Poll {
        all &= judge("rate of loadgen to the minimal client's", &rates, Goal::AtLeast(RATE_LEAST));
    }
    Ok(all)
}

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let what = |at: usize| {
        let name = args.get(at).map(String::as_str);
        What::ALL.into_iter().find(|what| Some(what.name()) == name)
    };
    let addr = |at: usize| args.get(at).and_then(|text| text.parse().ok());
    let port = |at: usize| args.get(at).and_then(|text| text.parse().ok());
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    match (args.first().map(String::as_str), what(1), addr(2)) {
        (Some("serve"), Some(_), _) => {
            minimal::serve(any, port(2).unwrap_or(0), |at| println!("{at}"))
        }
        (Some("minimal"), Some(what), Some(to)) => minimal_client(what, to),
        (Some("fleet"), Some(what), Some(to)) => fleet(what, to, port(3).unwrap_or(0)),
        _ => {
            println!("{ROUNDS} rounds of {CLIENTS} transactions, {WINDOW} under way at once");
            let mut all = true;
            for what in What::ALL.into_iter().filter(|w| what(0).is_none_or(|only| only == *w)) {
                all &= measure(what)?;
            }
            println!("{}", if all { "all goals are met" } else { "a goal is missed" });
            Ok(())
        }
    }
}
