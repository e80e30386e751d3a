//! What does a simulated client hold in memory, and in what?
//!
//! `cargo bench -p benches --bench memory`
//!
//! Bytes that are allocated, as a counting allocator sees them, for each client of a fleet that
//! talks with a minimal server: before it has done anything, and at rest after each kind of work.

use benches::allocator::{Counting, held};
use benches::child::Helper;
use benches::fleet;
use benches::minimal;
use engine::clock::SystemClock;
use engine::node::{Node, Parts, Uplink};
use engine::queue::memory::MemoryStore;
use engine::queue::outbox::Outbox;
use loadgen::clients::role::{LoadRole, Observation};
use loadgen::clients::swarm::Swarm;
use loadgen::measure::Timed;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

/// How many clients.
const CLIENTS: u32 = 10_000;
/// Deliveries under way at once.
const WINDOW: usize = 256;
/// Each work is spread over this.
const WITHIN: Duration = Duration::from_secs(4);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [serve, back] = args.as_slice()
        && serve == "serve"
    {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        return minimal::serve(any, back.parse().unwrap_or(0), |at| println!("{at}"));
    }
    for (name, size) in [
        ("a client, its allocations aside", Swarm::client_size()),
        ("of that Node<LoadRole>", size_of::<Node<LoadRole>>()),
        ("of that Parts", size_of::<Parts<Observation>>()),
        ("of that LoadRole", size_of::<LoadRole>()),
        ("of that MemoryStore", size_of::<MemoryStore>()),
        ("allocated beside it: Uplink", size_of::<Uplink>()),
        ("of that Outbox", size_of::<Outbox>()),
    ] {
        println!("{name:<34}{size:>6} B");
    }
    let clock = SystemClock::start();
    let back = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr()?.port();
    let mut server = Helper::start("1", &["serve".to_owned(), back.to_string()])?;
    let to = server.line()?.parse().map_err(io::Error::other)?;
    let before = held();
    let tell = |what: &str| {
        println!("{what:<34}{:>6} B a client", (held() - before) / CLIENTS as usize);
    };
    let mut fleet = fleet::start(CLIENTS, WINDOW, to, back, clock)?;
    tell("not started yet");
    for (what, kind) in [
        ("at rest after bind and poll", Timed::Poll),
        ("after another poll", Timed::Poll),
        ("after a report", Timed::Report),
    ] {
        drop(fleet::phase(&mut fleet, &fleet::work(WITHIN, kind), clock)?);
        tell(what);
    }
    Ok(())
}
