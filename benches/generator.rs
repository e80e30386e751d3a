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
use benches::minimal::{self, Load, RAW_ANSWER, RAW_REQUEST};
use engine::clock::{self, SystemClock};
use engine::ids::{Epoch, Origin};
use engine::limits::HEADER_SIZE;
use engine::wire::message::{Poll, Report, ResourceResult};
use engine::wire::{FrameBuf, RouteBuf};
use loadgen::clients::address::{DEFAULT_SUFFIX, Identities};
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
        let name = Identities::new(DEFAULT_SUFFIX).expect("the default makes names").name(1);
        let route = RouteBuf::from(Origin { name, epoch: Epoch(1), seq: 1 });
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let frame = match self {
            Self::Raw => return (vec![0; RAW_REQUEST], RAW_ANSWER),
            Self::Poll => {
                let last_error = String::new();
                let poll = Poll { held: 0, applied: 0, wall_ms: 1, version, last_error };
                FrameBuf::message(Some(&route), &poll, |_| {})
            }
            Self::Report => FrameBuf::message(Some(&route), &report(), |_| {}),
        };
        (frame.to_vec(), HEADER_SIZE)
    }
}

/// A report of the generator's size.
fn report() -> Report {
    let result = ResourceResult {
        id: b"file /etc/motd".to_vec(),
        outcome: 1,
        before: "absent".to_owned(),
        after: "file 0644 root:root, 312 bytes".to_owned(),
        error: String::new(),
        duration_us: 420,
        output: Vec::new(),
    };
    Report {
        revision: 0,
        trigger: 3,
        started_ms: 1,
        duration_us: 2_600,
        busy_us: 2_400,
        checked: 100,
        results: vec![result],
        note: String::new(),
    }
}

fn seconds(text: Option<&str>) -> f64 {
    text.and_then(|text| text.parse().ok()).expect("a figure from a process of this bench")
}

fn told(elapsed: Duration, cpu_us: u64) -> String {
    format!("{} {}", elapsed.as_secs_f64(), cpu_us as f64 / 1e6)
}

fn minimal_client(what: What, to: SocketAddr) -> io::Result<()> {
    let clock = SystemClock::start();
    let (request, answer_size) = what.request();
    let load = Load { to, request, answer_size, transactions: CLIENTS, window: WINDOW };
    answer(|| {
        let before = clock::thread_cpu_us();
        let elapsed = minimal::run(&load, clock)?;
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

/// What was measured of one side.
#[derive(Default)]
struct Side {
    rate: Figures,
    cpu_us: Figures,
    server_us: Figures,
}

impl Side {
    /// One round; the rate and the CPU time, microseconds a transaction.
    fn round(
        &mut self,
        client: &mut Helper,
        server: &Helper,
        counts: bool,
    ) -> io::Result<(f64, f64)> {
        let before = server.cpu()?;
        let line = client.go()?;
        let served = server.cpu()?.saturating_sub(before);
        let mut words = line.split(' ');
        let (elapsed, cpu) = (seconds(words.next()), seconds(words.next()));
        let each = 1e6 / f64::from(CLIENTS);
        let (rate, cpu_us) = (f64::from(CLIENTS) / elapsed, cpu * each);
        if counts {
            self.rate.push(rate);
            self.cpu_us.push(cpu_us);
            self.server_us.push(served.as_secs_f64() * each);
        }
        Ok((rate, cpu_us))
    }

    fn tell(&self, name: &str) {
        println!("  {name:<15}rate {:.0}/s, CPU {:.1} us a transaction", self.rate, self.cpu_us);
        println!("  {:<15}server's CPU {:.1} us", "", self.server_us);
    }
}

fn verdict(holds: bool) -> &'static str {
    if holds { "met" } else { "MISSED" }
}

/// Measures one kind of transaction; whether all goals are met.
fn measure(what: What) -> io::Result<bool> {
    let free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr()?.port();
    let args =
        |mode: &str, more: &[String]| [&[mode.to_owned(), what.name().to_owned()], more].concat();
    let mut server = Helper::start(1, &args("serve", &[free.to_string()]))?;
    let to = server.line()?;
    let (request, answer_size) = what.request();
    println!("{}: {} B out, {answer_size} B in", what.name(), request.len());
    let mut least = Helper::start(0, &args("minimal", std::slice::from_ref(&to)))?;
    let mut least_side = Side::default();
    if what == What::Raw {
        for round in 0..=ROUNDS {
            least_side.round(&mut least, &server, round > 0)?;
        }
        least_side.tell("minimal client");
        return Ok(true);
    }
    let mut fleet = Helper::start(0, &args("fleet", &[to, free.to_string()]))?;
    fleet.line()?;
    let mut fleet_side = Side::default();
    let (mut rates, mut cpus) = (Figures::default(), Figures::default());
    for round in 0..=ROUNDS {
        let (least_rate, least_cpu) = least_side.round(&mut least, &server, round > 0)?;
        let (fleet_rate, fleet_cpu) = fleet_side.round(&mut fleet, &server, round > 0)?;
        if round > 0 {
            rates.push(fleet_rate / least_rate);
            cpus.push(fleet_cpu / least_cpu);
        }
    }
    least_side.tell("minimal client");
    fleet_side.tell("loadgen");
    let mut all = cpus.median() <= CPU_MOST;
    if what == What::Poll {
        all &= rates.median() >= RATE_LEAST;
        let met = verdict(rates.median() >= RATE_LEAST);
        println!(
            "  rate of loadgen to the minimal client's: {rates:.2}; at least {RATE_LEAST}: {met}"
        );
    }
    let met = verdict(cpus.median() <= CPU_MOST);
    println!("  CPU of loadgen to the minimal client's: {cpus:.2}; at most {CPU_MOST}: {met}");
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
