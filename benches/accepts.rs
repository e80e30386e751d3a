//! Does a crowd that comes at once get in, while the loop works for those who are in?
//!
//! `cargo bench -p benches --bench accepts`
//!
//! 10,000 clients connect at once, and each sends a durable report of 256 B as soon as its
//! connection stands, in a network namespace of this bench's own. In turn: a minimal server, which
//! acks whatever comes, and the engine's, which acks after the commit while a sink that does nothing
//! reads and trims. Time until the last is connected, and until the last has its ack; connections
//! that a full accept queue refused. Twice: with an accept queue that holds all of them, and with one
//! of 4,096, the kernel's own default and ours, which is only long enough for who accepts in time.

use benches::child::{Helper, Worker};
use benches::crowd;
use benches::figures::Figures;
use benches::machine::Machine;
use benches::minimal;
use benches::network;
use benches::server::{self, Durable};
use benches::side::{Goal, heard, judge};
use engine::limits::Limits;
use loadgen::kernel::Tcp;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

/// Clients, all at once.
const CLIENTS: u32 = 10_000;
/// Bytes of a frame.
const FRAME: usize = 256;
/// Longest accept queues: all fit, and the default.
const QUEUES: [u32; 2] = [65_535, 4_096];
/// Rounds of each, in turn; before them one that does not count.
const ROUNDS: usize = 7;
/// All are to be connected within so many times what the minimal server takes.
const TIME_MOST: f64 = 1.5;

/// A server with its crowd, and what was measured.
struct Side {
    name: &'static str,
    server: Helper,
    clients: Helper,
    connected: Figures,
    answered: Figures,
    server_us: Figures,
    overflows: u64,
}

impl Side {
    fn start(name: &'static str, mode: &str, dir: &str) -> io::Result<Self> {
        let start =
            |processor: &str, words: [&str; 2]| Helper::start(processor, &words.map(str::to_owned));
        let mut server = start("1", [mode, dir])?;
        let clients = start("0", ["clients", &server.line()?])?;
        let [connected, answered, server_us] = Default::default();
        Ok(Self { name, server, clients, connected, answered, server_us, overflows: 0 })
    }

    /// Seconds until all were connected.
    fn round(&mut self, counts: bool) -> io::Result<f64> {
        let (tcp, cpu) = (Tcp::read(), self.server.cpu()?);
        let [connected, answered] = heard(&self.clients.go()?)?;
        let served = self.server.cpu()?.saturating_sub(cpu).as_secs_f64();
        if counts {
            self.connected.push(connected * 1e3);
            self.answered.push(answered * 1e3);
            self.server_us.push(served * 1e6 / f64::from(CLIENTS));
            self.overflows += Tcp::read().since(&tcp).listen_overflows;
        }
        Ok(connected)
    }

    fn tell(&self) {
        let Self { name, connected, answered, server_us, overflows, .. } = self;
        println!("  {name:<15}all connected after {connected:.0} ms, answered {answered:.0} ms");
        println!(
            "  {:<15}server's CPU {server_us:.1} us a client, {overflows} overflows in all rounds",
            ""
        );
    }
}

/// Measures with accept queues of this length; whether its goals are met.
fn measure(queue: u32) -> io::Result<bool> {
    println!("an accept queue of {queue}");
    network::allow_accept_queue(queue)?;
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let dir = dir.path().to_string_lossy();
    let mut sides =
        [Side::start("minimal server", "least", &dir)?, Side::start("engine", "engine", &dir)?];
    let mut ratios = Figures::default();
    for round in 0..=ROUNDS {
        let least = sides[0].round(round > 0)?;
        let engine = sides[1].round(round > 0)?;
        if round > 0 {
            ratios.push(engine / least);
        }
    }
    sides.iter().for_each(Side::tell);
    let overflows = Figures::from_iter([sides[1].overflows as f64]);
    let queue = judge("overflows of the engine's accept queue", &overflows, Goal::AtMost(0.0));
    let what = "time until all are connected, of the engine's to the minimal server's";
    Ok(judge(what, &ratios, Goal::AtMost(TIME_MOST)) && queue)
}

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    match words[..] {
        ["least", _] => minimal::serve(any, 0, |at| println!("{at}")),
        ["engine", dir] => {
            // The system's bound is the one that counts.
            let limits = Limits { listen_backlog: 65_535, ..Limits::default() };
            server::serve(any, limits, &Durable::Drained(dir.into()), |at| println!("{at}"))
        }
        ["clients", to] => crowd::come(to.parse().map_err(io::Error::other)?, CLIENTS, FRAME),
        [network::INSIDE] => {
            let machine = Machine::look();
            network::bring_up()?;
            println!("{ROUNDS} rounds of {CLIENTS} clients at once, {FRAME} B out, 44 B in");
            let mut met = true;
            for queue in QUEUES {
                met &= measure(queue)?;
            }
            machine.tell();
            println!("{}", if met { "all goals are met" } else { "a goal is missed" });
            Ok(())
        }
        _ => Err(network::enter()),
    }
}
