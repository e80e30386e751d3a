//! The daemon behind `drover master`: opens what is on the disk, starts the threads beside the
//! reactor, and runs the role on it.

mod claims;
mod failures;
mod hosts;
mod places;
mod probe;
mod published;
mod push;
mod role;
mod services;
mod status;
mod strangers;
mod wiring;

pub use claims::{Claim, Claims};
pub use hosts::{CLOCK_SKEW_MAX_MS, Heard, HostCounts, Hosts, Polled};
pub use places::Places;
pub use published::Published;
pub use role::{Effect, MasterOptions, MasterRole, Remembered, RoleMail, VERSION};
pub use services::MasterServices;
pub use wiring::{Direct, MasterHost, SlowDisk, Wiring};

use crate::commands::{Exit, Failure};
use crate::config::MasterConfig;
use crate::release::ReleaseStore;
use crate::resolver::{self, DnsConfig};
use crate::sink::{Answer, Query, Sink, SinkEvent, SinkOptions, SinkThread, SqliteSink};
use engine::blob::{BlobThread, Cache, Server};
use engine::clock::{Clock, SystemClock};
use engine::config::listen_hint;
use engine::ids::{Epoch, HostName, Revision};
use engine::limits::Limits;
use engine::node::io::{Listener, Mail};
use engine::node::{Downstream, DownstreamLimits, Node, Parts};
use engine::queue::inbox::{Inbox, InboxConfig};
use engine::queue::lmdb::{LmdbConfig, LmdbStore, machine_identity};
use engine::queue::thread::StoreHandle;
use engine::reactor::{Mailbox, MioPoller, Reactor, Signals};
use engine::resolver::TableFile;
use engine::time::WallMs;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Hosts that may be known at once: a glob in the inventory lets anybody make up names.
const HOSTS_MAX: usize = 250_000;
/// Steps that are remembered for the log of what fails: 1.3 MiB. A delivery takes some ten of them,
/// a message that comes four; with 1,000 messages a second those of the last four seconds are known.
const TRAIL_STEPS: usize = 16_384;
/// What tells this machine from a copy of its disk.
const MACHINE_ID: &str = "/etc/machine-id";

fn failed(what: impl Display) -> impl Fn(std::io::Error) -> Failure {
    move |error| Failure::new(format_args!("{what}: {error}"), Exit::Failed)
}

/// The result store's file of a state directory.
#[must_use]
pub fn results_path(state_dir: &Path) -> PathBuf {
    state_dir.join("results.db")
}

/// The inbox's directory of a state directory.
#[must_use]
pub fn inbox_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("inbox")
}

/// Runs the daemon until SIGTERM or SIGINT. The state directory exists, the log and the table
/// of descriptors are set up; `configured` is what `limits.connections_max` was before it had to be
/// lowered for their want.
///
/// # Errors
/// It cannot start: an address in use, a store that cannot be opened, a damaged release.
pub fn run(config: MasterConfig, configured: usize, wiring: &impl Wiring) -> Result<(), Failure> {
    let places = Places { max: config.limits.connections_max, configured };
    start_with(config, places, wiring, true, |addr| {
        log::info!("drover {VERSION} listens on {addr}");
    })
}

/// The same for a test that starts a master as a thread: without signals, told the address
/// that it got.
///
/// # Errors
/// As [`run`].
pub fn start(
    config: MasterConfig,
    signals: bool,
    listening: impl FnOnce(SocketAddr),
) -> Result<(), Failure> {
    let places = Places::all(config.limits.connections_max);
    start_with(config, places, &Direct, signals, listening)
}

fn start_with(
    config: MasterConfig,
    places: Places,
    wiring: &impl Wiring,
    signals: bool,
    listening: impl FnOnce(SocketAddr),
) -> Result<(), Failure> {
    let poller = MioPoller::new().map_err(failed("the event queue"))?;
    let mailbox: Mailbox<RoleMail> = Mailbox::new(&poller);
    let clock = SystemClock::start();
    let now = clock.now();
    let mut rng = fastrand::Rng::new();

    let store_config = LmdbConfig {
        quota_bytes: config.queue_quota_bytes,
        identity: machine_identity(Path::new(MACHINE_ID)),
        ..LmdbConfig::new(inbox_dir(&config.state_dir))
    };
    if !store_config.dir.exists() {
        log::info!("there is no inbox {}: an empty one is made", store_config.dir.display());
    }
    let (store, state) =
        LmdbStore::open(store_config).map_err(|error| Failure::new(error, Exit::Failed))?;
    let post = mailbox.clone();
    let store = StoreHandle::start(wiring.store(store), move |event| post.post(Mail::Store(event)))
        .map_err(failed("the store thread"))?;
    if state.set_aside > 0 {
        log::warn!(
            "this machine is a copy of another: {} records of its inbox were set aside",
            state.set_aside
        );
    }
    let inbox_epoch = Epoch(state.epoch);

    if !results_path(&config.state_dir).exists() {
        log::info!(
            "there is no result store {}: an empty one is made",
            results_path(&config.state_dir).display()
        );
    }
    let sink =
        SqliteSink::open(&results_path(&config.state_dir), inbox_epoch, SinkOptions::default())
            .map_err(|error| Failure::new(error, Exit::Failed))?;
    let mut sink = sink;
    let remembered = remembered_hosts(&mut sink)?;
    let cursor = sink.cursor();

    let releases = ReleaseStore::new(config.state_dir.clone());
    let cache = Cache::open(releases_cache_dir(&releases), false)
        .map_err(|error| Failure::new(error, Exit::Failed))?;
    let post = mailbox.clone();
    let blobs = BlobThread::start(cache, move |event| post.post(Mail::Blob(event)))
        .map_err(failed("the blob thread"))?;

    let table = config.hosts_table.as_deref().map(TableFile::open).transpose();
    let table = table.map_err(|error| Failure::new(error, Exit::Usage))?;
    let dns = match config.dns_servers.is_empty() {
        true => DnsConfig::System,
        false => {
            let (addrs, timeout) = (config.dns_servers.clone(), Duration::from_secs(5));
            DnsConfig::Servers { addrs, timeout }
        }
    };
    let post = mailbox.clone();
    let resolver =
        resolver::start(table, dns, move |name, answer| post.post(Mail::Resolved { name, answer }))
            .map_err(failed("the resolver thread"))?;

    let post = mailbox.clone();
    let keep =
        (config.keep_days > 0).then(|| Duration::from_secs(u64::from(config.keep_days) * 86_400));
    let sink = SinkThread::start(wiring.sink(sink), keep, move |event: SinkEvent| {
        post.post_role(RoleMail::Sink(event))
    })
    .map_err(failed("the sink's thread"))?;

    let inbox_config = InboxConfig {
        bytes_high: config.inbox_bytes_high,
        bytes_low: config.inbox_bytes_low,
        ..InboxConfig::default()
    };
    let mut inbox = Inbox::restore(&state, inbox_config, rng.u64(..));
    inbox.start_consuming(cursor.map(|seq| (inbox_epoch, seq)));
    let limits = Limits { source_seed: rng.u64(..), ..config.limits.limits() };
    let downstream = DownstreamLimits {
        in_flight_max: config.dial_in_flight_max,
        dial_interval: Duration::from_secs(60) / config.dial_rate_per_host.max(1),
        client_port: config.client_port,
        ..DownstreamLimits::default()
    };
    let mut parts = Parts::new(config.name.clone(), rng.fork());
    parts.reserve(&limits);
    parts.remember(TRAIL_STEPS);
    parts.inbox = Some(Box::new(inbox));
    parts.downstream =
        Some(Box::new(Downstream::new(config.name.clone(), Epoch(rng.u64(..)), downstream)));
    parts.server = Some(Box::new(Server::new()));
    let options = MasterOptions {
        silent_after: config.silent_after,
        client_port: config.client_port,
        hosts_max: HOSTS_MAX,
        stop_timeout: config.stop_timeout,
        load_tests: config.load_tests,
        places,
    };
    let node = Node::new(parts, MasterRole::new(options));

    let loader = Loader { releases, hosts_table: config.hosts_table.clone() };
    let loaded = loader.load();
    if let Err(error) = &loaded {
        return Err(Failure::new(error, Exit::Failed));
    }
    let store_metrics = store.metrics();
    let services =
        MasterServices { store, blobs, resolver, sink, loader, mailbox: mailbox.clone() };
    let host = wiring.host(node);
    let mut reactor = Reactor::new(poller, mailbox.clone(), host, services, clock, limits);
    let metrics = reactor.metrics();
    reactor.host_mut().as_mut().with_role(now, |role, cx| {
        role.start(
            metrics,
            store_metrics,
            Remembered { hosts: remembered, stored: cursor.unwrap_or(0) },
            cx,
        );
        role.handle_loaded(loaded, cx);
        role.push_heard(cx);
    });
    if signals {
        let signals = Signals::install().map_err(failed("signals"))?;
        reactor.watch(Box::new(signals)).map_err(failed("signals"))?;
    }
    // The port first: where it is taken, no socket's file is left behind.
    let addr = reactor
        .listen(Listener::Peers, config.listen)
        .map_err(|error| listen_failure(&config, &error))?;
    reactor
        .listen_unix(&config.control_socket)
        .map_err(|error| control_failure(&config, &error))?;
    listening(addr);
    reactor.run().map_err(failed("the event queue"))?;
    log::info!("stopped");
    Ok(())
}

fn listen_failure(config: &MasterConfig, error: &std::io::Error) -> Failure {
    Failure {
        error: format!("cannot listen on {}: {error}", config.listen),
        hint: listen_hint(error, "a master"),
        exit: Exit::Failed,
    }
}

fn control_failure(config: &MasterConfig, error: &std::io::Error) -> Failure {
    let path = config.control_socket.display();
    let hint = match error.kind() {
        std::io::ErrorKind::NotFound => "make its directory, or set control_socket",
        std::io::ErrorKind::PermissionDenied => {
            "give its directory to the user that runs the master, or set control_socket"
        }
        _ => "",
    };
    Failure {
        error: format!("the control socket {path}: {error}"),
        hint: hint.to_owned(),
        exit: Exit::Failed,
    }
}

fn remembered_hosts(sink: &mut SqliteSink) -> Result<Vec<(HostName, WallMs, Revision)>, Failure> {
    let mut remembered = Vec::new();
    let mut after = None;
    loop {
        let query = Query::Hosts { silent_before: WallMs(0), silent_only: false, after };
        let answer = sink.query(&query).map_err(|error| Failure::new(error, Exit::Failed))?;
        let Answer::Hosts(page) = answer else { return Ok(remembered) };
        for host in &page.hosts {
            if let Ok(name) = host.name.parse() {
                let seen = WallMs(host.last_seen_ms.unwrap_or(0));
                remembered.push((name, seen, Revision(host.held.unwrap_or(0))));
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(remembered);
        }
    }
}

/// Reads what `drover publish` wrote, and the table of hosts.
#[derive(Debug, Clone)]
pub struct Loader {
    releases: ReleaseStore,
    hosts_table: Option<PathBuf>,
}

impl Loader {
    /// Reads both.
    ///
    /// # Errors
    /// In words: a damaged release, a line of the table that is none.
    pub fn load(&self) -> Result<(Published, Vec<HostName>), String> {
        let current = self.releases.open_current().map_err(|error| error.to_string())?;
        let published = match current {
            None => Published::default(),
            Some(current) => {
                let older = self.releases.revisions().map_err(|error| error.to_string())?;
                let older = older.into_iter().filter(|revision| revision.0 != current.revision);
                // An older one may be collected while it is read: it is not needed then.
                let older: Vec<_> =
                    older.filter_map(|revision| self.releases.open(revision).ok()).collect();
                Published::new(&current, &older)
            }
        };
        let tabled = match &self.hosts_table {
            None => Vec::new(),
            Some(path) => {
                let table = TableFile::open(path).map_err(|error| error.to_string())?;
                table.table().iter().map(|(name, _)| name.clone()).collect()
            }
        };
        Ok((published, tabled))
    }
}

/// The cache's directory holds `blobs/`, as the release store's does.
fn releases_cache_dir(releases: &ReleaseStore) -> &Path {
    releases.state_dir()
}
