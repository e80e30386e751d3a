//! The daemon behind `drover-client run`: takes assignments, enforces them, and says what it
//! did. Without a master it goes on enforcing the last one that it accepted.

mod complaints;
mod dial_back;
mod fit;
mod refused;
mod role;
mod schedule;
mod services;
mod status_file;
mod unsent;

pub use dial_back::{DIAL_BACK_MAX, not_dialled_back};
pub use role::{
    ClientOptions, ClientRole, Effect, IN_HAND, RoleMail, UNCHECKED, Unfetched, VERSION,
};
pub use schedule::PollSchedule;
pub use services::ClientServices;
pub use status_file::{Left, StatusFile};

use crate::config::{Config, ConfigError};
use crate::enforcer::{self, EnforcerConfig, EnforcerEvent};
use crate::owner::OwnerError;
use crate::policy::{AssignedManifest, Cache as PolicyCache};
use engine::blob::{BlobThread, Cache, CacheError, FetchSettings, Fetcher};
use engine::clock::{self, Clock, SystemClock};
use engine::config::listen_hint;
use engine::ids::{Epoch, Revision};
use engine::limits::{CHUNK_SIZE_MAX, Limits};
use engine::node::io::{Listener, Mail};
use engine::node::{Fetching, Node, Parts, Uplink};
use engine::queue::lmdb::{LmdbConfig, machine_identity};
use engine::queue::outbox::{Outbox, OutboxConfig};
use engine::queue::store::{StoreError, StoreState};
use engine::queue::thread::StoreHandle;
use engine::reactor::{Mailbox, MioPoller, Reactor, Signals};
use engine::release::TrustedKeys;
use engine::resolver::{NameSettings, Resolver, Stub, StubConfig};
use engine::wire::message::trigger;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};

/// What tells this machine from a copy of its disk.
const MACHINE_ID: &str = "/etc/machine-id";
/// The threads beside the reactor answer within moments: a client has few connections.
const CONNECTIONS_MAX: usize = 64;

/// What is asked for and what is not on the disk yet is one chunk at most: that is what a cut,
/// or a kill, may cost.
fn fetch_settings() -> FetchSettings {
    FetchSettings { unwritten_bytes_max: CHUNK_SIZE_MAX, ..FetchSettings::default() }
}

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration, or the stored assignment.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The queue.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another process applies.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The port where pushes are taken.
    #[error("cannot listen on {addr}: {source}; {}", listen_hint(source, "a client"))]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The state directory.
    #[error(
        "cannot make {path:?}: {source}; run as a user who may write there, or set `state_dir`"
    )]
    StateDir {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The system has no thread or descriptor left.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
}

/// The socket for `drover-client status`.
#[must_use]
pub fn control_socket(config: &Config) -> PathBuf {
    config.state_dir.join("control.sock")
}

/// Enforces, takes assignments and reports until SIGTERM or SIGINT; running resources may then
/// finish within `stop_timeout`, a second signal ends them, and a third one the process.
///
/// # Errors
/// [`DaemonError`].
pub fn run(config: &Config) -> Result<(), DaemonError> {
    start(config, true, |addr| log::info!("drover-client {VERSION} listens on {addr}"))
}

/// The queue of reports. One that is damaged is kept aside, and another is begun: a host whose
/// reports of yesterday cannot be read is to be kept as it should be all the same.
fn open_outbox(
    config: &LmdbConfig,
    mailbox: &Mailbox<RoleMail>,
) -> Result<(StoreHandle, StoreState), DaemonError> {
    let open = || {
        let post = mailbox.clone();
        StoreHandle::open(config.clone(), move |event| post.post(Mail::Store(event)))
    };
    match open() {
        Err(StoreError::Corrupt { detail, .. }) => {
            let aside = config.dir.with_extension(format!("damaged-{}", clock::wall().0));
            std::fs::rename(&config.dir, &aside)?;
            log::error!(
                "the queue of reports is damaged ({detail}): it is kept in {}, with what was not sent yet, and a new one is begun; look at the disk",
                aside.display()
            );
            Ok(open()?)
        }
        opened => Ok(opened?),
    }
}

/// The same for a test that starts a client as a thread: without signals, told the address
/// that it got.
///
/// # Errors
/// [`DaemonError`].
pub fn start(
    config: &Config,
    signals: bool,
    listening: impl FnOnce(SocketAddr),
) -> Result<(), DaemonError> {
    let made = std::fs::create_dir_all(&config.state_dir);
    made.map_err(|source| DaemonError::StateDir { path: config.state_dir.clone(), source })?;
    let poller = MioPoller::new()?;
    let mailbox: Mailbox<RoleMail> = Mailbox::new(&poller);
    let clock = SystemClock::start();
    let now = clock.now();
    let mut rng = fastrand::Rng::new();
    if config.trusted_keys == TrustedKeys::Unchecked {
        log::warn!("{UNCHECKED}: take `signature_check` out of the configuration");
    }
    if matches!(&config.trusted_keys, TrustedKeys::Only(keys) if keys.is_empty()) {
        log::warn!(
            "no key is trusted, so no assignment will be accepted: write the line of the master's signing.pub into trusted_keys"
        );
    }
    if !config.root.is_dir() {
        log::warn!(
            "the root {} is not there, so nothing can be applied: make it, or correct `root`",
            config.root.display()
        );
    }
    let held = match config.stored_assignment() {
        Ok(assignment) => Some(assignment),
        Err(ConfigError::NoAssignment { .. }) => None,
        // Giving up would be worse than waiting for the next poll with a clear word.
        Err(error @ ConfigError::DamagedAssignment { .. }) => {
            log::error!("{error}");
            None
        }
        Err(error) => {
            log::error!("{error}; nothing is enforced until the next poll brings another");
            None
        }
    };

    let store_config = LmdbConfig {
        identity: machine_identity(Path::new(MACHINE_ID)),
        ..LmdbConfig::new(config.outbox_dir())
    };
    let (store, state) = open_outbox(&store_config, &mailbox).map_err(|error| match error {
        DaemonError::Store(error @ StoreError::InUse { .. }) => {
            OwnerError::of(error, config).into()
        }
        error => error,
    })?;
    if state.set_aside > 0 {
        log::warn!(
            "this machine is a copy of another: {} reports of its queue are the other's, and were set aside",
            state.set_aside
        );
    }
    let cache = Cache::open(&config.cache_dir(), config.fsync)?;
    let post = mailbox.clone();
    let blobs = BlobThread::start(cache, move |event| post.post(Mail::Blob(event)))?;
    let stub = StubConfig {
        hosts: config.hosts_file.clone(),
        resolv_conf: config.resolv_conf.clone(),
        ..StubConfig::default()
    };
    let post = mailbox.clone();
    let resolver = Resolver::start(
        None,
        Stub::new(stub, rng.fork()),
        NameSettings::default(),
        SystemClock::start(),
        move |name, answer| post.post(Mail::Resolved { name, answer }),
    )?;
    let (post, status_file) = (mailbox.clone(), StatusFile::of(config));
    // One that cannot be read is written anew by the next run.
    let left = status_file.read().ok().flatten().unwrap_or_default();
    let applied = left.applied_revision;
    let left = Mutex::new(left);
    let enforcer = enforcer::start(EnforcerConfig::from(config), move |event| {
        if let EnforcerEvent::RunFinished { report, converged, to_end, .. } = &event {
            let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
            *left = left.after(report, *converged, *to_end);
            if let Err(error) = status_file.write(&left) {
                log::warn!("cannot write the status file: {error}");
            }
        }
        post.post_role(RoleMail::Enforcer(event));
    })?;
    let mut unfetched = None;
    if let Some(assignment) = &held {
        match AssignedManifest::find(&PolicyCache::new(&config.cache_dir()), assignment) {
            Ok(assigned) => enforcer.enforce(assigned, None, trigger::START),
            Err(error) => {
                let why = format!("the assignment that is held cannot be enforced: {error}");
                log::error!("{why}");
                let signed = std::fs::read(config.assignment_path())?;
                unfetched = Some(Unfetched { signed, why });
            }
        }
    }

    let outbox = Outbox::restore(
        config.name.clone(),
        &state,
        Arc::new(OutboxConfig::default()),
        Epoch(rng.u64(..)),
    );
    // A client that holds nothing yet has nothing to wait for.
    let splay =
        if held.is_some() { config.splay } else { config.splay.min(config.poll_interval / 10) };
    let schedule = PollSchedule::new(config.poll_interval, splay, &mut rng, now);
    // Several clients on one machine are told apart by the loopback address that each listens on.
    let from = Some(config.listen.ip()).filter(IpAddr::is_loopback);
    let mut uplink = Uplink::new(config.master_addrs.clone(), from, VERSION, outbox);
    uplink.hold_off(schedule.next().since(now.at), now);
    let mut parts = Parts::new(config.name.clone(), rng.fork());
    parts.uplink = Some(Box::new(uplink));
    parts.fetching =
        Some(Box::new(Fetching::new(Fetcher::new(fetch_settings(), rng.fork()), from)));
    let options = ClientOptions {
        trusted_keys: config.trusted_keys.clone(),
        held,
        unfetched,
        applied: Revision(applied),
    };
    let node = Node::new(parts, ClientRole::new(config.name.clone(), options, schedule));
    let stop_timeout = config.stop_timeout;
    let services =
        ClientServices { store, blobs, resolver, enforcer, stop_timeout, mailbox: mailbox.clone() };
    let limits =
        Limits { connections_max: CONNECTIONS_MAX, listen_backlog: 128, ..Limits::default() };
    let mut reactor = Reactor::new(poller, mailbox, node, services, clock, limits);
    let metrics = reactor.metrics();
    reactor.host_mut().with_role(now, |role, cx| role.start(metrics, cx));
    if signals {
        reactor.watch(Box::new(Signals::install_patient(2)?))?;
    }
    let socket = control_socket(config);
    reactor.listen_unix(&socket).map_err(|source| {
        io::Error::new(source.kind(), format!("the control socket {}: {source}", socket.display()))
    })?;
    let addr = reactor
        .listen(Listener::Peers, config.listen)
        .map_err(|source| DaemonError::Listen { addr: config.listen, source })?;
    listening(addr);
    reactor.run()?;
    log::info!("stopped");
    Ok(())
}
