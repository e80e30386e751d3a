//! What does a message cost the engine's server in instructions, system calls and allocations?
//!
//! `cargo bench -p benches --bench counts`; `-- --check` fails when one has grown by more than 5 %
//! over `counts.toml`, `-- --accept` writes that file
//!
//! A volatile message is a visit: connect, 256 B, its ack, close, 32 at a time. Durable ones, of
//! 256 B too, come on 32 connections that stay, 8 on each at a time, and are acked after their
//! commit; nobody reads the inbox. The server is a process under callgrind, under strace, or under
//! nothing but its own counting allocator; its clients are in another one and act between the turns
//! of its loop. Each figure is the difference between a run and one of twice as many messages, so
//! that start and end cancel out. What the kernel does is no instruction of the server's, and what
//! keeps both in step is taken off the system calls.

use benches::allocator::{self, Counting};
use benches::child::Helper;
use benches::figures::Figures;
use benches::instrument::{Counted, Instrument};
use benches::lockstep::{self, Clients, Residents, Visitors};
use benches::minimal::{padded, poll, report};
use benches::reference::{Build, Change, Counts, GROWTH_MAX, Reference};
use benches::server::Durable;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Bytes of a message's frame.
const FRAME: usize = 256;
/// Visits, and how many of them are there at once.
const VISITS: u32 = 3_200;
const VISITS_AT_ONCE: u32 = 32;
/// Connections that stay, the messages of each, and how many of those are under way at once.
const CONNS: usize = 32;
const MESSAGES_EACH: u64 = 400;
const MESSAGES_AT_ONCE: u64 = 8;
/// How often each figure is measured.
const RUNS: usize = 3;
/// In the order in which they are shown.
const NAMES: [&str; 4] = ["instructions", "system_calls", "allocations", "allocated_bytes"];
/// System calls that are worth a word of their own, for each message.
const CALLS_SHOWN: f64 = 0.001;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

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

    /// Messages of a run.
    fn messages(self) -> u64 {
        match self {
            Self::Volatile => VISITS.into(),
            Self::Durable => CONNS as u64 * MESSAGES_EACH,
        }
    }

    /// Clients that send so many times the messages of a run.
    fn clients(self, to: SocketAddr, times: u32) -> io::Result<Box<dyn Clients>> {
        Ok(match self {
            Self::Volatile => {
                let message = padded(FRAME, poll);
                Box::new(Visitors::new(to, times * VISITS, VISITS_AT_ONCE, &message))
            }
            Self::Durable => {
                let (each, at_once) = (u64::from(times) * MESSAGES_EACH, MESSAGES_AT_ONCE);
                let message = padded(FRAME, report);
                Box::new(Residents::connect(to, CONNS, each, at_once, &message)?)
            }
        })
    }
}

/// The server's process: what it has allocated, and what it took to be in step, is its last word.
fn serve(what: What, dir: &str) -> io::Result<()> {
    let durable = match what {
        What::Volatile => Durable::Refused,
        What::Durable => Durable::Kept(dir.into()),
    };
    let pairs = lockstep::serve(&durable)?;
    println!("{} {} {pairs}", allocator::calls(), allocator::asked());
    Ok(())
}

/// What a server did for so many times the messages of a run, from its start to its end.
fn run(what: What, instrument: Instrument, times: u32) -> io::Result<Counted> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let file = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("counts-{}-{instrument}.out", what.name()));
    let args = ["serve", what.name(), &dir.path().to_string_lossy()].map(str::to_owned);
    let mut server = Helper::under(&instrument.words(&file), &args)?;
    let to = server.line()?.parse().map_err(io::Error::other)?;
    what.clients(to, times)?.run(&mut server)?;
    let said = server.end()?;
    let words: Result<Vec<i64>, _> = said.split_whitespace().map(str::parse).collect();
    let [allocations, bytes, pairs] = words.map_err(io::Error::other)?[..] else {
        return Err(io::Error::other("the server did not tell what it has allocated"));
    };
    let Some(mut counted) = instrument.read(&file)? else {
        let counts = [("allocations", allocations), ("allocated_bytes", bytes)];
        return Ok(counts.map(|(name, count)| (name.to_owned(), count)).into());
    };
    if instrument == Instrument::Strace {
        for name in ["read", "write"] {
            *counted.entry(name.to_owned()).or_default() -= pairs;
        }
    }
    Ok(counted)
}

/// What was counted of one kind of message, for each message.
#[derive(Default)]
struct Measured {
    counts: BTreeMap<String, Figures>,
    /// System calls by name.
    calls: BTreeMap<String, Figures>,
}

impl Measured {
    /// Counts with one instrument, once.
    fn add(&mut self, what: What, instrument: Instrument) -> io::Result<()> {
        let (once, twice) = (run(what, instrument, 1)?, run(what, instrument, 2)?);
        let each = |name: &String| {
            let count = |run: &Counted| run.get(name).copied().unwrap_or_default();
            (count(&twice) - count(&once)) as f64 / what.messages() as f64
        };
        let into =
            if instrument == Instrument::Strace { &mut self.calls } else { &mut self.counts };
        let mut sum = 0.0;
        for name in twice.keys() {
            into.entry(name.clone()).or_default().push(each(name));
            sum += each(name);
        }
        if instrument == Instrument::Strace {
            self.counts.entry("system_calls".to_owned()).or_default().push(sum);
        }
        Ok(())
    }

    /// The medians, as they are kept.
    fn medians(&self) -> Counts {
        let round = |figures: &Figures| (figures.median() * 1000.0).round() / 1000.0;
        self.counts.iter().map(|(name, figures)| (name.clone(), round(figures))).collect()
    }

    /// Prints all beside what is kept, and returns what is wrong with it.
    fn tell(&self, what: What, reference: Option<&Reference>) -> Vec<String> {
        let (mut wrong, medians) = (Vec::new(), self.medians());
        println!("{}: for each message", what.name());
        println!("  {:<17}{:>12}{:>12}{:>10}   range", "", "now", "kept", "change");
        for name in NAMES {
            let Some((count, figures)) = medians.get(name).zip(self.counts.get(name)) else {
                println!("  {name:<17}{:>12}", "not counted");
                continue;
            };
            let change = reference.map_or(Change::New, |r| r.change(what.name(), name, *count));
            let words = match change {
                Change::New => "-".to_owned(),
                Change::Fine(share) | Change::Grown(share) => format!("{:+.1} %", share * 100.0),
            };
            match change {
                Change::Grown(_) => wrong.push(format!("{} {name} {words}", what.name())),
                Change::New => wrong.push(format!("{} {name}: none is kept", what.name())),
                Change::Fine(_) => {}
            }
            let kept = reference.and_then(|r| r.messages.get(what.name())?.get(name));
            let (now, kept) = (shown(*count), kept.map_or("none".to_owned(), |k| shown(*k)));
            let range = [0.0, 1.0].map(|share| shown(figures.quantile(share))).join(" to ");
            println!("  {name:<17}{now:>12}{kept:>12}{words:>10}   {range}");
        }
        let calls = self.calls.iter().filter(|(_, figures)| figures.median() >= CALLS_SHOWN);
        let calls: Vec<String> =
            calls.map(|(name, figures)| format!("{name} {:.3}", figures.median())).collect();
        if !calls.is_empty() {
            println!("  system calls: {}", calls.join(", "));
        }
        wrong
    }
}

/// A figure with as many digits as say something.
fn shown(count: f64) -> String {
    format!("{count:.0$}", if count < 100.0 { 3 } else { 0 })
}

/// What is asked of the bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Show,
    Check,
    Accept,
}

fn measure(task: Task) -> io::Result<ExitCode> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("counts.toml");
    let build = Build::present()?;
    let reference = match Reference::load(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        other => Some(other?),
    };
    println!("{build}; median and range of {RUNS} runs");
    let (mut usable, mut absent) = (Vec::new(), 0);
    for instrument in Instrument::ALL {
        match instrument.hindrance() {
            None => usable.push(instrument),
            Some(why) => {
                println!("NOT COUNTED with {instrument}: {why}");
                absent += 1;
            }
        }
    }
    let (mut wrong, mut messages) = (Vec::new(), BTreeMap::new());
    for what in What::ALL {
        let mut measured = Measured::default();
        for _ in 0..RUNS {
            for instrument in &usable {
                measured.add(what, *instrument)?;
            }
        }
        wrong.extend(measured.tell(what, reference.as_ref()));
        messages.insert(what.name().to_owned(), measured.medians());
    }
    if task == Task::Accept {
        if absent > 0 {
            println!("NOT ACCEPTED: every figure has to be counted");
            return Ok(ExitCode::FAILURE);
        }
        Reference { build, messages }.store(&path)?;
        println!("accepted: benches/counts.toml is to be committed");
        return Ok(ExitCode::SUCCESS);
    }
    Ok(verdict(task, &build, reference.as_ref(), &wrong))
}

/// Says what comes of it.
fn verdict(task: Task, build: &Build, reference: Option<&Reference>, wrong: &[String]) -> ExitCode {
    let accept = "`cargo bench -p benches --bench counts -- --accept` keeps the present figures";
    if let Some(reference) = reference
        && reference.build != *build
    {
        println!("NOT JUDGED: what is kept is of {}; {accept}", reference.build);
        return ExitCode::SUCCESS;
    }
    let growth = GROWTH_MAX * 100.0;
    if wrong.is_empty() {
        println!("nothing of what was counted has grown by more than {growth:.0} %");
        return ExitCode::SUCCESS;
    }
    println!("GROWN by more than {growth:.0} %: {}", wrong.join("; "));
    println!("if that is meant to be: {accept}");
    if task == Task::Check { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn main() -> io::Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", name, dir] => {
            let what = What::ALL.into_iter().find(|what| what.name() == name);
            serve(what.ok_or(io::ErrorKind::InvalidInput)?, dir).map(|()| ExitCode::SUCCESS)
        }
        ["--check"] => measure(Task::Check),
        ["--accept"] => measure(Task::Accept),
        [] => measure(Task::Show),
        _ => {
            println!("usage: counts [--check | --accept]");
            Ok(ExitCode::FAILURE)
        }
    }
}
