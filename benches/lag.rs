//! Does a slow disk hold up the loop?
//!
//! `cargo bench -p benches --bench lag`
//!
//! 10,000 clients connect at once to a server that was just started, and each sends a durable report
//! of 256 B; when all have their acks they come again, three times in all. Every commit takes 50 ms
//! longer than the disk does. What is told is how long the loop's turns took, by its own metrics
//! over the server's whole life. In turn with it the same on the disk as it is. The server has one
//! processor, the clients the other: where others use them as well, a turn may take as long as they
//! are let go on.

use benches::child::{Helper, Worker, answer};
use benches::crowd;
use benches::figures::Figures;
use benches::machine::Machine;
use benches::network;
use benches::server::{Builder, Durable, Taker};
use benches::side::{Goal, heard, judge};
use engine::limits::{HEADER_SIZE, Limits};
use engine::node::io::Listener;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// Clients, all at once.
const CLIENTS: u32 = 10_000;
/// How often each comes.
const TIMES: u32 = 3;
/// Bytes of a frame.
const FRAME: usize = 256;
/// What a commit takes longer.
const DELAY: Duration = Duration::from_millis(50);
/// Servers of each kind, in turn.
const ROUNDS: usize = 7;
/// 99 of 100 turns are to take no longer, milliseconds.
const LAG_MOST: f64 = 3.0;

fn serve(durable: &Durable) -> io::Result<()> {
    let limits = Limits { listen_backlog: 65_535, ..Limits::default() };
    let mut reactor = Builder::new(limits)?.durable(durable)?.build(Taker);
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    println!("{}", reactor.listen(Listener::Peers, any)?);
    let metrics = reactor.metrics();
    let commits = reactor.services_mut().store.as_ref().map(|store| store.metrics());
    std::thread::spawn(move || {
        answer(|| {
            let lag = &metrics.lag;
            let [p50, p99] = [0.5, 0.99].map(|share| lag.quantile(share).as_secs_f64());
            let commit = commits.as_ref().map_or(0.0, |c| c.commit.quantile(0.5).as_secs_f64());
            let (max, count) = (lag.max().as_secs_f64(), lag.count());
            let accepted = metrics.accepted.value();
            Ok(format!("{p50} {p99} {max} {count} {commit} {accepted}"))
        })
    });
    reactor.run()
}

/// What was measured of one kind of disk.
#[derive(Default)]
struct Disk {
    p50_ms: Figures,
    p99_ms: Figures,
    max_ms: Figures,
    turns: Figures,
    commit_ms: Figures,
    answered_ms: Figures,
    server_us: Figures,
}

impl Disk {
    /// A server's life.
    fn round(&mut self, mode: &str, dir: &Path) -> io::Result<()> {
        let start =
            |processor: &str, words: [&str; 2]| Helper::start(processor, &words.map(str::to_owned));
        let dir = tempfile::tempdir_in(dir)?;
        let mut server = start("1", [mode, &dir.path().to_string_lossy()])?;
        let mut clients = start("0", ["clients", &server.line()?])?;
        let before = server.cpu()?;
        for _ in 0..TIMES {
            let [_, answered] = heard(&clients.go()?)?;
            self.answered_ms.push(answered * 1e3);
        }
        let served = server.cpu()?.saturating_sub(before).as_secs_f64();
        let [p50, p99, max, turns, commit, accepted] = heard(&server.go()?)?;
        let reports = f64::from(TIMES * CLIENTS);
        assert!((accepted - reports).abs() < 0.5, "{accepted} connections came");
        self.server_us.push(served * 1e6 / reports);
        self.p50_ms.push(p50 * 1e3);
        self.p99_ms.push(p99 * 1e3);
        self.max_ms.push(max * 1e3);
        self.turns.push(turns);
        self.commit_ms.push(commit * 1e3);
        Ok(())
    }

    fn tell(&self, name: &str) {
        let Self { p50_ms, p99_ms, max_ms, turns, commit_ms, answered_ms, server_us } = self;
        println!(
            "  {name:<15}a turn p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms, longest {max_ms:.1} ms"
        );
        println!("  {:<15}{turns:.0} turns, server's CPU {server_us:.1} us a report", "");
        println!("  {:<15}a commit {commit_ms:.1} ms, all answered after {answered_ms:.0} ms", "");
    }
}

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["as-it-is", dir] => serve(&Durable::Drained(dir.into())),
        ["slow", dir] => serve(&Durable::DrainedSlowly(dir.into(), DELAY)),
        ["clients", to] => crowd::come(to.parse().map_err(io::Error::other)?, CLIENTS, FRAME),
        [network::INSIDE] => {
            let machine = Machine::look();
            network::bring_up()?;
            // The system's bound is not what is asked for here.
            network::allow_accept_queue(65_535)?;
            let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
            println!(
                "{ROUNDS} servers each, {CLIENTS} clients at once, {TIMES} times, {FRAME} B out, {HEADER_SIZE} B in"
            );
            let [mut as_it_is, mut slow] = <[Disk; 2]>::default();
            for _ in 0..ROUNDS {
                as_it_is.round("as-it-is", dir.path())?;
                slow.round("slow", dir.path())?;
            }
            as_it_is.tell("disk as it is");
            slow.tell("50 ms a commit");
            let commit = slow.commit_ms.quantile(0.0);
            assert!(commit >= DELAY.as_secs_f64() * 1e3, "the disk was not slow: {commit} ms");
            let what = "p99 of the loop's lag with a slow disk, ms";
            let met = judge(what, &slow.p99_ms, Goal::AtMost(LAG_MOST));
            machine.tell();
            println!("{}", if met { "all goals are met" } else { "a goal is missed" });
            Ok(())
        }
        _ => Err(network::enter()),
    }
}
