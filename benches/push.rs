//! How fast are hosts dialled back and told something, beside the least that can do so?
//!
//! `cargo bench -p benches --bench push`
//!
//! 10,000 hosts at loopback addresses of their own, all of them one process that accepts, reads a
//! frame and acks it in 44 B. In turn, 256 under way at once: the engine's event loop and node, to
//! which each is a name that the resolver's thread finds in a table, and which asks its role when
//! the connection stands; and a minimal loop, which knows the addresses, connects, writes as many
//! bytes, reads 44 B and closes. Who dials has one processor, the hosts the other. Ratios are those
//! of neighbours in time.

use benches::child::{Helper, answer, obey};
use benches::figures::Figures;
use benches::machine::Machine;
use benches::minimal::{self, Ends, Load, Requests, frame};
use benches::server::Builder;
use benches::side::{Goal, Side, judge, own_cpu_us, told};
use engine::clock::{self, SystemClock};
use engine::ids::{ConnId, Epoch, HostName};
use engine::limits::{HEADER_SIZE, Limits};
use engine::node::io::{Mail, PeerAddr};
use engine::node::{Context, Downstream, DownstreamLimits, Handled, Message, NodeEvent};
use engine::node::{Outgoing, Role};
use engine::resolver::{NameSettings, Resolver, TableFile, TableOnly};
use engine::time::Instant;
use engine::wire::message::Manifest;
use engine::wire::{Class, Frame, encode};
use loadgen::clients::address::{DEFAULT_SUFFIX, Identities};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// Each is pushed to once a round.
const HOSTS: u32 = 10_000;
/// Deliveries under way at once.
const WINDOW: usize = 256;
/// Bytes of the message's body.
const BODY: usize = 4096;
/// Rounds of each, in turn; before them one that does not count.
const ROUNDS: usize = 15;
/// Of the minimal loop's rate the engine is to reach this.
const RATE_LEAST: f64 = 0.85;

/// A message whose body has this size.
fn manifest() -> Manifest {
    let empty = encode(&Manifest { assignment: Vec::new() }).len();
    let manifest = Manifest { assignment: vec![b'.'; BODY - empty] };
    assert_eq!(encode(&manifest).len(), BODY, "a longer content makes a longer body");
    manifest
}

fn identities() -> Identities {
    Identities::new(DEFAULT_SUFFIX).expect("the default makes names")
}

/// Tells every host the same when it is ordered to.
struct Pusher {
    hosts: Vec<HostName>,
    message: Outgoing,
    /// Deliveries that have not ended.
    left: usize,
    begun: Instant,
    cpu_us: u64,
}

/// Push to all.
struct Order;

impl Role for Pusher {
    type Mail = Order;
    type Effect = ();

    fn accepts(&self, _: Class) -> bool {
        false
    }

    fn knows(&self, _: &HostName) -> bool {
        false
    }

    fn handle_message(&mut self, _: Message<'_>, _: &mut Context<'_, ()>) -> Handled {
        Handled::Taken
    }

    fn handle_request(
        &mut self,
        _: ConnId,
        _: &PeerAddr,
        _: Frame<'_>,
        _: &mut Context<'_, ()>,
    ) -> Option<()> {
        None
    }

    fn handle_mail(&mut self, _: Order, cx: &mut Context<'_, ()>) {
        assert_eq!(self.left, 0, "the last push is over");
        (self.left, self.begun) = (self.hosts.len(), cx.now.at);
        self.cpu_us = own_cpu_us().expect("the kernel has told it before");
        for host in &self.hosts {
            cx.want(host);
        }
    }

    fn handle_event(&mut self, event: NodeEvent, cx: &mut Context<'_, ()>) {
        let NodeEvent::Delivered { host, result } = event else { return };
        result.unwrap_or_else(|why| panic!("{host} was not told: {why}"));
        self.left -= 1;
        if self.left == 0 {
            let cpu_us = own_cpu_us().expect("the kernel has told it before") - self.cpu_us;
            println!("{}", told(cx.now.at.since(self.begun), cpu_us));
        }
    }

    fn handle_timeout(&mut self, _: &mut Context<'_, ()>) {}

    fn next_timeout(&self) -> Option<Instant> {
        None
    }

    fn compose(&mut self, _: &HostName, _: &mut Context<'_, ()>) -> Vec<Outgoing> {
        vec![self.message.clone()]
    }

    fn is_finished(&self) -> bool {
        true
    }
}

fn engine(table: &Path) -> io::Result<()> {
    let mut builder = Builder::new(Limits::default())?;
    let (mailbox, orders) = (builder.mailbox.clone(), builder.mailbox.clone());
    let table = TableFile::open(table).map_err(io::Error::other)?;
    let clock = SystemClock::start();
    let answered = move |name, answer| mailbox.post(Mail::Resolved { name, answer });
    let resolver =
        Resolver::start(Some(table), TableOnly, NameSettings::default(), clock, answered)?;
    builder.threads.resolver = Some(resolver);
    let limits = DownstreamLimits {
        in_flight_max: WINDOW,
        // Nobody is told so often but by a bench.
        dial_interval: Duration::from_millis(1),
        ..DownstreamLimits::default()
    };
    let name = builder.parts.name.clone();
    builder.parts.downstream = Some(Box::new(Downstream::new(name, Epoch(1), limits)));
    let hosts = (0..HOSTS).map(|number| identities().name(number)).collect();
    let message = Outgoing::of(&manifest());
    let pusher = Pusher { hosts, message, left: 0, begun: Instant::default(), cpu_us: 0 };
    let mut reactor = builder.build(pusher);
    std::thread::spawn(move || {
        obey(|_| {
            orders.post_role(Order);
            Ok(())
        })
    });
    reactor.run()
}

/// The minimal loop.
fn least(port: u16) -> io::Result<()> {
    let clock = SystemClock::start();
    let load = Load {
        ends: Ends::Hosts(port),
        requests: Requests::same(frame(1, &manifest())),
        answer_size: HEADER_SIZE,
        transactions: HOSTS,
        window: WINDOW,
    };
    answer(|| {
        let before = clock::thread_cpu_us();
        let took = minimal::run(&load, clock)?;
        Ok(told(took.all, clock::thread_cpu_us() - before))
    })
}

fn measure() -> io::Result<bool> {
    let start = |processor: &str, words: &[&str]| {
        Helper::start(processor, &words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    };
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let table = dir.path().join("hosts");
    let mut hosts = start("0", &["hosts"])?;
    let at: SocketAddr = hosts.line()?.parse().map_err(io::Error::other)?;
    identities().write_hosts_table(&table, [(0..HOSTS, at.port())])?;
    let least = start("1", &["least", &at.port().to_string()])?;
    let engine = start("1", &["engine", &table.to_string_lossy()])?;
    let mut sides = [(least, Side::default()), (engine, Side::default())];
    let (mut rates, mut cpus) = (Figures::default(), Figures::default());
    for round in 0..=ROUNDS {
        let mut by = Vec::new();
        for (dialler, side) in &mut sides {
            by.push(side.round(dialler, Some(&hosts), HOSTS, round > 0)?);
        }
        if round > 0 {
            rates.push(by[1].rate / by[0].rate);
            cpus.push(by[1].client_us / by[0].client_us);
        }
    }
    for ((_, side), name) in sides.iter().zip(["minimal loop", "engine"]) {
        println!("  {name:<15}{:.0}/s, CPU {:.1} us a push", side.rate, side.client_us);
        println!("  {:<15}the host's CPU {:.1} us", "", side.server_us);
    }
    println!("  CPU of the engine to the minimal loop's: {cpus:.2}");
    Ok(judge("rate of the engine to that of the minimal loop", &rates, Goal::AtLeast(RATE_LEAST)))
}

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    match words[..] {
        ["hosts"] => minimal::serve(any, 0, |at| println!("{at}")),
        ["engine", table] => engine(Path::new(table)),
        ["least", port] => least(port.parse().map_err(io::Error::other)?),
        _ => {
            let machine = Machine::look();
            println!(
                "{ROUNDS} rounds of {HOSTS} pushes of {BODY} B, {HEADER_SIZE} B in, {WINDOW} under way"
            );
            let met = measure()?;
            machine.tell();
            println!("{}", if met { "all goals are met" } else { "a goal is missed" });
            Ok(())
        }
    }
}
