//! What does a connection cost that says nothing, and does it make the others dearer?
//!
//! `cargo bench -p benches --bench connections`, or with `-- sockets` or `-- simulated`
//!
//! **sockets**: processes of their own listen, a minimal server and the engine's in turn; 19,000
//! clients connect and are silent. Anonymous memory that the server has grown by, divided.
//!
//! **simulated**: the engine's event loop and node on the simulated network with 1,000 and with
//! 1,000,000 connections. Bytes allocated, without those of the network itself, and the time that a
//! message of 256 B and its ack take: all of it, and without what the network itself takes, as a
//! server tells that does no more than read and write. Those who send are 1,000, spread evenly over
//! all, or everybody in random order.

use benches::allocator::{Counting, held};
use benches::child::Helper;
use benches::figures::Figures;
use benches::minimal::{self, frame, padded, poll};
use benches::server::{self, Durable, Taker};
use benches::side::{Goal, judge};
use engine::limits::{HEADER_SIZE, Limits};
use engine::node::io::{Listener, Request, Services};
use engine::node::{Node, Parts};
use engine::reactor::poller::{Poller, Readiness, Token};
use engine::reactor::sim::{SimClock, SimConfig, SimListener, SimNet, SimPoller, SimStream};
use engine::reactor::{Mailbox, Reactor};
use loadgen::kernel::Process;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant as Watch};

/// Plain connections.
const SOCKETS: usize = 19_000;
/// Processes of each kind, in turn.
const ROUNDS: usize = 5;
/// Nothing that is waited for takes longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Connections of the simulated network: what is compared with what.
const FEW: usize = 1_000;
const MANY: usize = 1_000_000;
/// Messages under way at once there, as many as a turn takes events.
const BATCH: usize = 64;
/// Messages of a round.
const MESSAGES: usize = 64_000;
/// Bytes of a message.
const FRAME: usize = 256;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn limits(connections_max: usize) -> Limits {
    Limits {
        connections_max,
        listen_backlog: 65_535,
        idle_timeout: Duration::from_secs(86_400),
        ..Limits::default()
    }
}

fn process(of: &Helper) -> io::Result<Process> {
    Process::read(of.pid()).ok_or_else(|| io::Error::other("a server has ended early"))
}

/// Bytes of anonymous memory for each connection of a server that was just started.
fn anonymous(mode: &str) -> io::Result<f64> {
    let mut server = Helper::start("1", &[mode.to_owned()])?;
    let to: SocketAddr = server.line()?.parse().map_err(io::Error::other)?;
    let before = process(&server)?;
    let held: Vec<TcpStream> =
        (0..SOCKETS).map(|_| TcpStream::connect(to)).collect::<io::Result<_>>()?;
    let begun = Watch::now();
    let all = before.descriptors + held.len() as u64;
    while process(&server)?.descriptors < all {
        if begun.elapsed() > PATIENCE {
            return Err(io::Error::other("not every connection was accepted"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let grown = process(&server)?.anonymous_bytes.saturating_sub(before.anonymous_bytes);
    Ok(grown as f64 / held.len() as f64)
}

fn sockets() -> io::Result<bool> {
    let [mut least, mut engine] = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        least.push(anonymous("least")?);
        engine.push(anonymous("engine")?);
    }
    println!(
        "{SOCKETS} plain connections, {ROUNDS} processes each, bytes of anonymous memory each"
    );
    println!("  minimal server: {:.0}", least.into_iter().collect::<Figures>());
    Ok(judge("engine", &engine.into_iter().collect(), Goal::AtMost(160.0)))
}

struct NoThreads;

impl Services<()> for NoThreads {
    fn dispatch(&mut self, _: Request<()>) {}
}

const AT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 7400);

/// Who answers in the simulated network.
enum Server {
    Engine(Box<Reactor<SimPoller, Node<Taker>, NoThreads, SimClock>>),
    Least(Least),
}

/// Reads, writes, and nothing else.
struct Least {
    poller: SimPoller,
    listener: SimListener,
    /// Each with what it has read of a message.
    conns: Vec<(SimStream, usize)>,
    events: Vec<Readiness>,
}

const LISTENER: Token = Token(u64::MAX);

impl Least {
    fn turn(&mut self, net: &SimNet) -> io::Result<()> {
        self.events.clear();
        self.poller.poll(&mut self.events, net.now().at, None)?;
        for event in std::mem::take(&mut self.events).drain(..) {
            if event.token == LISTENER {
                while let Ok((mut stream, _)) = self.poller.accept(&self.listener) {
                    self.poller.register(&mut stream, Token(self.conns.len() as u64))?;
                    self.conns.push((stream, 0));
                }
                continue;
            }
            let (stream, read) = &mut self.conns[usize::try_from(event.token.0).expect("ours")];
            *read += self.poller.read(stream, &mut [0; 4096])?;
            if *read == FRAME {
                *read = 0;
                self.poller.write_vectored(stream, &[IoSlice::new(&[0; HEADER_SIZE])])?;
            }
        }
        self.events.reserve(BATCH);
        Ok(())
    }
}

impl Server {
    fn engine(net: &SimNet) -> io::Result<Self> {
        let poller = net.poller(AT.ip());
        let mailbox = Mailbox::new(&poller);
        let name = "server.test".parse().map_err(io::Error::other)?;
        let node = Node::new(Parts::new(name, fastrand::Rng::with_seed(1)), Taker);
        let mut reactor = Reactor::new(poller, mailbox, node, NoThreads, net.clock(), limits(MANY));
        reactor.listen(Listener::Peers, AT)?;
        Ok(Self::Engine(Box::new(reactor)))
    }

    fn least(net: &SimNet) -> io::Result<Self> {
        let mut poller = net.poller(AT.ip());
        let listener = poller.listen(AT, 65_535, LISTENER)?;
        let (conns, events) = (Vec::new(), Vec::with_capacity(BATCH));
        Ok(Self::Least(Least { poller, listener, conns, events }))
    }

    fn turn(&mut self, net: &SimNet) -> io::Result<()> {
        match self {
            Self::Engine(reactor) => reactor.turn().map(drop),
            Self::Least(least) => least.turn(net),
        }
    }
}

/// A network with a server, and clients that are connected to it.
struct World {
    net: SimNet,
    server: Server,
    poller: SimPoller,
    clients: Vec<SimStream>,
    /// What the server allocated for each connection, and what the network did.
    bytes: f64,
    events: Vec<Readiness>,
}

impl World {
    fn new(count: usize, server: impl Fn(&SimNet) -> io::Result<Server>) -> io::Result<Self> {
        let latency = Duration::from_micros(1);
        let config = SimConfig {
            latency_min: latency,
            latency_max: latency,
            piece_max: 1 << 30,
            ..SimConfig::default()
        };
        let net = SimNet::new(1, config);
        let server = server(&net)?;
        let poller = net.poller(IpAddr::from([10, 1, 0, 0]));
        let clients = Vec::with_capacity(count);
        let events = Vec::with_capacity(BATCH);
        let mut world = Self { net, server, poller, clients, bytes: 0.0, events };
        let before = held();
        for number in 0..count {
            let [_, _, high, low] = (number as u32 / 10_000).to_be_bytes();
            let from = IpAddr::from([10, 2, high, low]);
            let token = Token(number as u64);
            world.clients.push(world.poller.connect(AT, Some(from), token)?.0);
            if (number + 1) % BATCH == 0 || number + 1 == count {
                for _ in 0..4 {
                    world.net.advance(latency);
                    world.server.turn(&world.net)?;
                    world.hear(|_, _| Ok(()))?;
                }
            }
        }
        world.bytes = (held() - before) as f64 / count as f64;
        Ok(world)
    }

    /// Takes the clients' events.
    fn hear(
        &mut self,
        mut each: impl FnMut(&mut SimPoller, &mut SimStream) -> io::Result<()>,
    ) -> io::Result<usize> {
        self.events.clear();
        self.poller.poll(&mut self.events, self.net.now().at, None)?;
        for event in &self.events {
            let number = usize::try_from(event.token.0).expect("ours");
            each(&mut self.poller, &mut self.clients[number])?;
        }
        Ok(self.events.len())
    }

    /// Nanoseconds for a message and its ack, of these clients in turn.
    fn messages(&mut self, senders: &[usize], message: &[u8]) -> io::Result<f64> {
        let latency = Duration::from_micros(1);
        let begun = Watch::now();
        let mut sent = 0;
        let mut senders = senders.iter().cycle();
        while sent < MESSAGES {
            for sender in senders.by_ref().take(BATCH) {
                let stream = &mut self.clients[*sender];
                let mut rest = message;
                while !rest.is_empty() {
                    let wrote = self.poller.write_vectored(stream, &[IoSlice::new(rest)])?;
                    rest = &rest[wrote..];
                }
            }
            let mut acks = 0;
            while acks < BATCH * HEADER_SIZE {
                self.net.advance(latency);
                self.server.turn(&self.net)?;
                self.hear(|poller, stream| {
                    if let Ok(read) = poller.read(stream, &mut [0; 4096]) {
                        acks += read;
                    }
                    Ok(())
                })?;
            }
            sent += BATCH;
        }
        Ok(begun.elapsed().as_nanos() as f64 / sent as f64)
    }
}

/// Time of the engine's server, and of the least one, for a message.
#[derive(Default)]
struct Cost {
    engine: Figures,
    least: Figures,
    own: Figures,
}

impl Cost {
    fn push(&mut self, engine: f64, least: f64) {
        self.engine.push(engine);
        self.least.push(least);
        self.own.push(engine - least);
    }

    fn tell(&self, what: &str) {
        println!(
            "  {what:<36}{:.0} ns, of these the network {:.0}, so the engine {:.0}",
            self.engine, self.least, self.own
        );
    }
}

fn simulated() -> io::Result<bool> {
    let message = frame(1, &padded(FRAME, poll));
    let mut few = [World::new(FEW, Server::engine)?, World::new(FEW, Server::least)?];
    let mut many = [World::new(MANY, Server::engine)?, World::new(MANY, Server::least)?];
    let all: Vec<usize> = (0..FEW).collect();
    let spread: Vec<usize> = (0..FEW).map(|at| at * (MANY / FEW)).collect();
    let mut anybody: Vec<usize> = (0..MANY).collect();
    fastrand::Rng::with_seed(1).shuffle(&mut anybody);
    anybody.truncate(MESSAGES);
    let [mut of_few, mut of_many, mut of_anybody]: [Cost; 3] = Default::default();
    let [mut ratios, mut own_ratios] = [const { Vec::new() }; 2];
    for round in 0..=ROUNDS {
        let cost = |worlds: &mut [World; 2], senders: &[usize]| -> io::Result<[f64; 2]> {
            let [engine, least] = worlds;
            Ok([engine.messages(senders, &message)?, least.messages(senders, &message)?])
        };
        let at_few = cost(&mut few, &all)?;
        let at_many = cost(&mut many, &spread)?;
        let at_anybody = cost(&mut many, &anybody)?;
        if round > 0 {
            of_few.push(at_few[0], at_few[1]);
            of_many.push(at_many[0], at_many[1]);
            of_anybody.push(at_anybody[0], at_anybody[1]);
            ratios.push(at_many[0] / at_few[0]);
            own_ratios.push((at_many[0] - at_many[1]) / (at_few[0] - at_few[1]));
        }
    }
    println!("simulated network, {ROUNDS} rounds of {MESSAGES} messages and acks");
    of_few.tell(&format!("{FEW} connections"));
    of_many.tell(&format!("{MANY} connections, {FEW} send"));
    of_anybody.tell(&format!("{MANY} connections, all in turn"));
    let own = many[0].bytes - many[1].bytes;
    println!("  the network itself holds {:.0} B for a connection", many[1].bytes);
    let memory = judge(
        &format!("bytes allocated by the engine for each of {MANY}"),
        &Figures::from_iter([own]),
        Goal::AtMost(160.0),
    );
    let what = "a message beside a million connections to one beside a thousand";
    let time = judge(what, &own_ratios.into_iter().collect(), Goal::AtMost(1.2));
    let ratios = ratios.into_iter().collect::<Figures>();
    println!("  the same with the network's part: {ratios:.2}");
    Ok(memory && time)
}

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let only = args.first().map(String::as_str);
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    match only {
        Some("least") => return minimal::serve(any, 0, |at| println!("{at}")),
        Some("engine") => {
            return server::serve(any, limits(SOCKETS + 100), &Durable::Refused, |at| {
                println!("{at}")
            });
        }
        _ => {}
    }
    let mut all = true;
    if only.is_none_or(|only| only == "sockets") {
        all &= sockets()?;
    }
    if only.is_none_or(|only| only == "simulated") {
        all &= simulated()?;
    }
    println!("{}", if all { "all goals are met" } else { "a goal is missed" });
    Ok(())
}
