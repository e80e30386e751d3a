//! Plays courses of simulated clusters, one seed after another, until one fails.

use lexopt::prelude::{Long, ValueExt};
use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tests::sim::soak::{Plan, Size};

const USAGE: &str = "soak: whole clusters under a virtual clock, with faults at random

  soak [--small | --large] [--seeds A..B] [--for 90s] [--jobs N]
  soak [--small | --large] --seed N [--trace]

  --small      a master and three clients (the default)
  --large      a master and 200 clients
  --seeds A..B these seeds; from A on without end if there is no B (the default: 0..)
  --for TIME   no seed is begun after this: 90s, 5m, 2h
  --jobs N     so many seeds at a time (the default: 1)
  --seed N     this seed alone; a number with 0x is hexadecimal
  --trace      prints what happened in it, one event a line

It ends with status 1 at the first seed that fails, and says how to play that one again.";

struct Orders {
    size: Size,
    seeds: Range<u64>,
    time: Option<Duration>,
    jobs: usize,
    trace: bool,
}

fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("{text:?} is no seed"))
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or(format!("{text:?} is no range: write 0..1000"))?;
    let to = if to.is_empty() { u64::MAX } else { number(to)? };
    Ok(number(from)?..to)
}

fn time(text: &str) -> Result<Duration, String> {
    let unit = text.chars().last().and_then(|unit| match unit {
        's' => Some(1),
        'm' => Some(60),
        'h' => Some(3600),
        _ => None,
    });
    let count =
        text.get(..text.len().saturating_sub(1)).and_then(|count| count.parse::<u64>().ok());
    match (count, unit) {
        (Some(count), Some(unit)) => Ok(Duration::from_secs(count * unit)),
        _ => Err(format!("{text:?} is no time: write 90s, 5m or 2h")),
    }
}

fn value(parser: &mut lexopt::Parser) -> Result<String, String> {
    parser.value().and_then(ValueExt::string).map_err(|error| error.to_string())
}

fn orders() -> Result<Option<Orders>, String> {
    let mut orders =
        Orders { size: Size::Small, seeds: 0..u64::MAX, time: None, jobs: 1, trace: false };
    let mut parser = lexopt::Parser::from_env();
    let said = |error: lexopt::Error| error.to_string();
    while let Some(arg) = parser.next().map_err(said)? {
        match arg {
            Long("small") => orders.size = Size::Small,
            Long("large") => orders.size = Size::Large,
            Long("seeds") => orders.seeds = seeds(&value(&mut parser)?)?,
            Long("seed") => {
                let seed = number(&value(&mut parser)?)?;
                orders.seeds = seed..seed.saturating_add(1);
            }
            Long("for") => orders.time = Some(time(&value(&mut parser)?)?),
            Long("jobs") => {
                orders.jobs = usize::try_from(number(&value(&mut parser)?)?).unwrap_or(1).max(1)
            }
            Long("trace") => orders.trace = true,
            Long("help") => return Ok(None),
            _ => return Err(arg.unexpected().to_string()),
        }
    }
    if orders.trace && orders.seeds.clone().nth(1).is_some() {
        return Err("--trace is for one seed: add --seed N".to_owned());
    }
    Ok(Some(orders))
}

/// What all jobs share.
struct Soak {
    next: AtomicU64,
    passed: AtomicU64,
    events: AtomicU64,
    reports: AtomicU64,
    ends: AtomicBool,
    failed: Mutex<Option<(u64, String)>>,
}

fn job(orders: &Orders, soak: &Soak, began: Instant) {
    while !soak.ends.load(Relaxed) && orders.time.is_none_or(|time| began.elapsed() < time) {
        let seed = soak.next.fetch_add(1, Relaxed);
        if seed >= orders.seeds.end {
            return;
        }
        let plan = Plan { traced: orders.trace, ..Plan::new(orders.size, seed) };
        let trace = match plan.play() {
            Ok(course) => {
                soak.passed.fetch_add(1, Relaxed);
                soak.events.fetch_add(course.events, Relaxed);
                soak.reports.fetch_add(course.reports as u64, Relaxed);
                course.trace
            }
            Err(failure) => {
                soak.ends.store(true, Relaxed);
                let mut failed = soak.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.get_or_insert((seed, failure.what));
                failure.trace
            }
        };
        print!("{trace}");
    }
}

fn main() -> ExitCode {
    let orders = match orders() {
        Ok(Some(orders)) => orders,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("soak: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let soak = Soak {
        next: AtomicU64::new(orders.seeds.start),
        passed: AtomicU64::new(0),
        events: AtomicU64::new(0),
        reports: AtomicU64::new(0),
        ends: AtomicBool::new(false),
        failed: Mutex::new(None),
    };
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..orders.jobs {
            scope.spawn(|| job(&orders, &soak, began));
        }
    });
    let (passed, seconds) = (soak.passed.load(Relaxed), began.elapsed().as_secs_f64());
    let size = if orders.size == Size::Small { "small" } else { "large" };
    eprintln!(
        "{size}: {passed} seeds from {} on passed in {seconds:.1} s, {:.1} a second; {} events, {} reports",
        orders.seeds.start,
        passed as f64 / seconds,
        soak.events.load(Relaxed),
        soak.reports.load(Relaxed),
    );
    match soak.failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((seed, what)) => {
            eprintln!("FAILED: seed {seed}: {what}");
            eprintln!("again: cargo run -p tests --bin soak -- --{size} --seed {seed} --trace");
            ExitCode::FAILURE
        }
        None if passed == 0 => {
            eprintln!("no seed was played");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}
