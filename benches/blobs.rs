//! How fast does a server give out blobs, beside one that does nothing else?
//!
//! `cargo bench -p benches --bench blobs -- nginx`, or without the word for the engine alone; with
//! `4K`, `1M` or `64M` for one size
//!
//! Blobs of 4 KiB, 1 MiB and 64 MiB to 50 peers at once, 64 MiB of them or two in all, so that they
//! lie in the page cache. Each peer takes one after another on a connection that stays, and drops
//! what it gets. In turn: the engine's event loop, node and blob thread, asked for pieces of
//! 256 KiB, four ahead; and nginx with one process, sendfile and a cache of open files, asked for
//! whole files by keep-alive. The server has one processor, the peers the other. Ratios are those of
//! neighbours in time.

use benches::child::{Foreign, Helper, Worker, answer};
use benches::figures::Figures;
use benches::machine::Machine;
use benches::peers::{Dialect, Drover, Http, Peers};
use benches::server::{Builder, Taker};
use benches::shelf::Shelf;
use benches::side::{Goal, Side, judge, told};
use engine::clock;
use engine::limits::Limits;
use engine::node::io::Listener;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

/// Connections.
const PEERS: usize = 50;
/// Rounds of each, in turn; before them one that does not count.
const ROUNDS: usize = 7;

/// Blobs of one size.
struct What {
    name: &'static str,
    size: usize,
    /// Different ones.
    files: usize,
    /// Fetched in a round, by all peers together.
    fetches: u32,
    /// Of nginx's rate the engine is to reach this.
    rate_least: f64,
}

const WHAT: [What; 3] = [
    What { name: "4K", size: 4 << 10, files: 256, fetches: 50_000, rate_least: 0.8 },
    What { name: "1M", size: 1 << 20, files: 64, fetches: 2_000, rate_least: 0.95 },
    What { name: "64M", size: 64 << 20, files: 2, fetches: 50, rate_least: 0.95 },
];

fn serve(dir: &Path) -> io::Result<()> {
    let shelf = Shelf::open(dir)?;
    let builder = Builder::new(Limits::default())?.blobs(shelf.cache()?, shelf.listing())?;
    let mut reactor = builder.build(Taker);
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    println!("{}", reactor.listen(Listener::Peers, any)?);
    reactor.run()
}

fn fetch<D: Dialect>(to: SocketAddr, shelf: &Shelf, fetches: usize, with: D) -> io::Result<()> {
    let mut peers = Peers::connect(to, PEERS, with)?;
    answer(|| {
        let before = clock::thread_cpu_us();
        let fetched = peers.round(fetches, shelf.hashes.len())?;
        assert_eq!(fetched.bytes, fetches as u64 * shelf.size, "each came, and came whole");
        Ok(told(fetched.elapsed, clock::thread_cpu_us() - before))
    })
}

/// An nginx that does no more than it must, on the processor of servers.
fn start_nginx(dir: &Path) -> io::Result<Option<Foreign>> {
    let config = |at: SocketAddr| {
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|of| format!("{of}_temp_path nginx-{of};\n"))
            .concat();
        format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr crit;
             events {{ worker_connections 1024; }}
             http {{
                 {temporary}
                 access_log off; sendfile on; tcp_nopush on; tcp_nodelay on;
                 keepalive_timeout 1h; keepalive_requests 1000000000;
                 open_file_cache max=1000 inactive=1h; open_file_cache_valid 1h;
                 server {{ listen {at}; root {}; }}
             }}",
            dir.display()
        )
    };
    Foreign::start("1", "nginx", "nginx-light", |at| {
        let path = dir.join("nginx.conf");
        std::fs::write(&path, config(at))?;
        let words = ["-p", &dir.to_string_lossy(), "-e", "stderr", "-c", &path.to_string_lossy()];
        Ok(words.map(str::to_owned).into())
    })
}

/// Who is asked in turn.
struct Subject {
    name: &'static str,
    server: Box<dyn Worker>,
    client: Helper,
    side: Side,
}

fn subjects(what: &What, dir: &Path, with_nginx: bool) -> io::Result<Vec<Subject>> {
    let dir_name = dir.to_string_lossy();
    let start = |processor: &str, words: &[&str]| {
        Helper::start(processor, &words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    };
    let client = |dialect, at: &str| start("0", &["fetch", dialect, at, &dir_name, what.name]);
    let mut server = start("1", &["serve", &dir_name])?;
    let at = server.line()?;
    let engine = Subject {
        name: "engine",
        server: Box::new(server),
        client: client("drover", &at)?,
        side: Side::default(),
    };
    let mut all = vec![engine];
    if with_nginx && let Some(nginx) = start_nginx(dir)? {
        let client = client("http", &nginx.at.to_string())?;
        let (server, side) = (Box::new(nginx), Side::default());
        all.push(Subject { name: "nginx", server, client, side });
    }
    Ok(all)
}

/// Measures one size; whether its goal is met.
fn measure(what: &What, with_nginx: bool) -> io::Result<bool> {
    println!("{}: {} files, {} fetched in a round", what.name, what.files, what.fetches);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    Shelf::fill(dir.path(), what.size, what.files)?;
    let mut subjects = subjects(what, dir.path(), with_nginx)?;
    let mut ratios = Figures::default();
    for round in 0..=ROUNDS {
        let mut rates = Vec::new();
        for Subject { server, client, side, .. } in &mut subjects {
            rates.push(side.round(client, Some(&**server), what.fetches, round > 0)?.rate);
        }
        if let [engine, nginx] = rates[..]
            && round > 0
        {
            ratios.push(engine / nginx);
        }
    }
    for Subject { name, side, .. } in &subjects {
        side.tell(name);
        let gigabytes = side.rate.median() * what.size as f64 / 1e9;
        println!("  {:<20}{gigabytes:.2} GB/s", "");
    }
    if subjects.len() < 2 {
        return Ok(true);
    }
    Ok(judge("rate of the engine to that of nginx", &ratios, Goal::AtLeast(what.rate_least)))
}

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let of_name = |name: &str| WHAT.iter().find(|what| what.name == name);
    match words[..] {
        ["serve", dir] => serve(Path::new(dir)),
        ["fetch", dialect, to, dir, name] => {
            let (to, shelf) = (to.parse().map_err(io::Error::other)?, Shelf::open(Path::new(dir))?);
            let fetches = of_name(name).map_or(0, |what| what.fetches) as usize;
            match dialect {
                "drover" => fetch(to, &shelf, fetches, Drover::new(&shelf)),
                _ => fetch(to, &shelf, fetches, Http::new(&shelf)),
            }
        }
        _ => {
            let machine = Machine::look();
            let with_nginx = words.contains(&"nginx");
            if !with_nginx {
                println!("without nginx, which is asked for by that word: no goal is judged");
            }
            let only: Vec<&What> = words.iter().filter_map(|word| of_name(word)).collect();
            let all: Vec<&What> = if only.is_empty() { WHAT.iter().collect() } else { only };
            println!("{ROUNDS} rounds, {PEERS} peers");
            let mut met = true;
            for what in all {
                met &= measure(what, with_nginx)?;
            }
            machine.tell();
            println!("{}", if met { "no goal is missed" } else { "a goal is missed" });
            Ok(())
        }
    }
}
