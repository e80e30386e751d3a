//! `client.toml`: how this machine's client is set up.

mod keys;
mod master;

use engine::config::{
    CLIENT_PORT, DurationValue, ListenAddr, MASTER_PORT, Mistake, path as some_path,
};
use engine::ids::{HostName, HostNameError};
use engine::node::MasterAddr;
use engine::release::{Assignment, AssignmentError, TrustedKeys};
use engine::sign::{KeyError, PublicKey};
use master::master_addr;
use serde::Deserialize;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the configuration is, if no command line says otherwise.
pub const CONFIG_PATH: &str = "/etc/drover/client.toml";

/// The master: a name for the resolver, or addresses.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum MasterNames {
    /// One host name or address, with or without a port.
    One(String),
    /// Several, tried in turn.
    Many(Vec<String>),
}

impl MasterNames {
    /// The names in the order in which they are tried.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Many(names) => names,
        }
    }
}

/// What `signature_check` must say, word for word, to switch the check off.
pub const SIGNATURES_UNCHECKED: &str = "off: whoever reaches this port decides what this host does";

/// How much the daemon says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What failed.
    Error,
    /// And what is odd.
    Warn,
    /// And what it does.
    Info,
    /// And why.
    Debug,
    /// And everything else.
    Trace,
}

impl From<LogLevel> for log::LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::Error,
            LogLevel::Warn => Self::Warn,
            LogLevel::Info => Self::Info,
            LogLevel::Debug => Self::Debug,
            LogLevel::Trace => Self::Trace,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    name: Option<String>,
    master: Option<MasterNames>,
    #[serde(default = "defaults::port")]
    port: u16,
    listen: Option<ListenAddr>,
    #[serde(default)]
    trusted_keys: Vec<String>,
    #[serde(default = "defaults::signature_check")]
    signature_check: String,
    #[serde(default = "defaults::state_dir", deserialize_with = "some_path")]
    state_dir: PathBuf,
    #[serde(default = "defaults::root")]
    root: PathBuf,
    #[serde(default)]
    allow_exec: bool,
    #[serde(default)]
    fsync: bool,
    #[serde(default = "defaults::check_interval")]
    check_interval: DurationValue,
    #[serde(default = "defaults::poll_interval")]
    poll_interval: DurationValue,
    splay: Option<DurationValue>,
    parallel: Option<usize>,
    #[serde(default = "defaults::stop_timeout")]
    stop_timeout: DurationValue,
    #[serde(default = "defaults::hosts_file", deserialize_with = "some_path")]
    hosts_file: PathBuf,
    #[serde(default = "defaults::resolv_conf", deserialize_with = "some_path")]
    resolv_conf: PathBuf,
    #[serde(default = "defaults::log_level")]
    log_level: LogLevel,
}

mod defaults {
    use super::{Duration, DurationValue, LogLevel, MASTER_PORT, PathBuf};

    pub(super) fn port() -> u16 {
        MASTER_PORT
    }
    pub(super) fn signature_check() -> String {
        "on".to_owned()
    }
    pub(super) fn state_dir() -> PathBuf {
        "/var/lib/drover-client".into()
    }
    pub(super) fn root() -> PathBuf {
        "/".into()
    }
    pub(super) fn check_interval() -> DurationValue {
        DurationValue(Duration::from_secs(30 * 60))
    }
    pub(super) fn poll_interval() -> DurationValue {
        DurationValue(Duration::from_secs(10 * 60))
    }
    pub(super) fn stop_timeout() -> DurationValue {
        DurationValue(Duration::from_secs(5 * 60))
    }
    pub(super) fn hosts_file() -> PathBuf {
        "/etc/hosts".into()
    }
    pub(super) fn resolv_conf() -> PathBuf {
        "/etc/resolv.conf".into()
    }
    pub(super) fn log_level() -> LogLevel {
        LogLevel::Info
    }
}

/// The configuration, checked, with every default in its place.
#[derive(Debug, Clone)]
pub struct Config {
    /// This host's name, as the inventory has it.
    pub name: HostName,
    /// The master's names or addresses; empty: enforcement alone.
    pub master: Vec<String>,
    /// The same, read, with a port each.
    pub master_addrs: Vec<MasterAddr>,
    /// Where pushes are taken.
    pub listen: SocketAddr,
    /// The keys that may sign assignments.
    pub trusted_keys: TrustedKeys,
    /// Where the cache, the queue and the assignment are kept.
    pub state_dir: PathBuf,
    /// The directory that all managed paths are inside of.
    pub root: PathBuf,
    /// Whether `exec` runs although `root` is not `/`.
    pub allow_exec: bool,
    /// Whether every file is synced to the disk before it takes its place.
    pub fsync: bool,
    /// Time between checks of what cannot be watched, and the longest between attempts at what
    /// failed.
    pub check_interval: Duration,
    /// Time between polls of the master.
    pub poll_interval: Duration,
    /// The first poll comes at a random point of this.
    pub splay: Duration,
    /// Resources at once.
    pub parallel: usize,
    /// On SIGTERM, running resources may take this long.
    pub stop_timeout: Duration,
    /// The hosts file of this client's resolver.
    pub hosts_file: PathBuf,
    /// The `resolv.conf` of this client's resolver.
    pub resolv_conf: PathBuf,
    /// How much the daemon says.
    pub log_level: LogLevel,
}

/// Why a configuration, or what it points at, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path:?}: {source}; {}", unreadable_hint(source))]
    Read {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is no TOML, or has a key or value that does not exist or makes no sense.
    #[error("{}:{mistake}", path.display())]
    Form {
        /// Its path.
        path: PathBuf,
        /// What exactly, and what to write instead.
        mistake: Mistake,
    },
    /// No assignment has been accepted yet.
    #[error(
        "this client has no assignment yet ({path:?} does not exist): run `drover-client run` and publish, or wait for the next poll"
    )]
    NoAssignment {
        /// Where it would be.
        path: PathBuf,
    },
    /// The stored assignment cannot be read.
    #[error("cannot read the assignment {path:?}: {source}")]
    ReadAssignment {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The stored assignment is not what it was when it was accepted.
    #[error(
        "the assignment {path:?} is damaged, and nothing is enforced until the daemon's next poll brings another"
    )]
    DamagedAssignment {
        /// Its path.
        path: PathBuf,
    },
    /// The stored assignment is not one that this client may apply.
    #[error("{path:?}: {source}")]
    Assignment {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        source: AssignmentError,
    },
}

fn unreadable_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::InvalidData => "write it anew as UTF-8",
        io::ErrorKind::IsADirectory => "--config takes the file in it, such as client.toml",
        _ => "name another with --config FILE",
    }
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`] names the key and says what to write.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Reads a configuration; `path` is for messages.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let file: ConfigFile = toml::from_str(text).map_err(|error| ConfigError::Form {
            path: path.to_owned(),
            mistake: Mistake::of(&error, text, &keys::KEYS),
        })?;
        let value = |key: &str, message: String| ConfigError::Form {
            path: path.to_owned(),
            mistake: Mistake::senseless(text, &[key], format!("{key}: {message}")),
        };
        let name = match &file.name {
            Some(name) => name.parse(),
            None => system_name(),
        }
        .map_err(|e: HostNameError| value("name", e.to_string()))?;
        let keys = file.trusted_keys.iter().map(|k| PublicKey::parse(k));
        let keys = keys.collect::<Result<Vec<_>, KeyError>>().map_err(|e| {
            value("trusted_keys", format!("{e}; write the line of the master's signing.pub"))
        })?;
        let trusted_keys = match file.signature_check.as_str() {
            "on" => TrustedKeys::Only(keys),
            SIGNATURES_UNCHECKED if keys.is_empty() => TrustedKeys::Unchecked,
            SIGNATURES_UNCHECKED => {
                let message = "it is off, and there are trusted_keys, which nobody would ask: take out one of the two";
                return Err(value("signature_check", message.to_owned()));
            }
            _ => {
                let message = format!(
                    "write \"on\", or leave it out; {SIGNATURES_UNCHECKED:?} switches the check off"
                );
                return Err(value("signature_check", message));
            }
        };
        if !file.root.is_absolute() {
            return Err(value(
                "root",
                format!("{:?} is not an absolute path, such as \"/\"", file.root),
            ));
        }
        // sockaddr_un holds 108 bytes with the final NUL.
        let socket_len = file.state_dir.join("control.sock").as_os_str().len();
        if socket_len > 107 {
            let message = format!(
                "its control.sock would be a path of {socket_len} bytes, and Unix sockets have at most 107: choose a shorter one, such as /var/lib/drover-client"
            );
            return Err(value("state_dir", message));
        }
        if file.port == 0 {
            let message = format!("write the master's, or leave it out, which means {MASTER_PORT}");
            return Err(value("port", message));
        }
        let master = file.master.map(|m| m.as_slice().to_vec()).unwrap_or_default();
        let master_addrs = master.iter().map(|text| master_addr(text, file.port));
        let master_addrs = master_addrs.collect::<Result<_, _>>();
        let master_addrs = master_addrs.map_err(|e| value("master", e.to_string()))?;
        if file.parallel == Some(0) {
            return Err(value("parallel", "write 1 or more, or leave it out".to_owned()));
        }
        if file.check_interval.0 < Duration::from_millis(100) {
            return Err(value("check_interval", "write 100ms or more".to_owned()));
        }
        if file.poll_interval.0 < Duration::from_millis(100) {
            return Err(value("poll_interval", "write 100ms or more".to_owned()));
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            name,
            master,
            master_addrs,
            listen: file
                .listen
                .map_or_else(|| SocketAddr::from(([0, 0, 0, 0], CLIENT_PORT)), |addr| addr.0),
            trusted_keys,
            state_dir: file.state_dir,
            root: file.root,
            allow_exec: file.allow_exec,
            fsync: file.fsync,
            check_interval: file.check_interval.0,
            poll_interval: file.poll_interval.0,
            splay: file.splay.map_or(file.poll_interval.0, |s| s.0),
            parallel: file.parallel.unwrap_or(cores),
            stop_timeout: file.stop_timeout.0,
            hosts_file: file.hosts_file,
            resolv_conf: file.resolv_conf,
            log_level: file.log_level,
        })
    }

    /// The directory of the blob cache; the blobs lie in `blobs/` below it.
    #[must_use]
    pub fn cache_dir(&self) -> PathBuf {
        self.state_dir.join("cache")
    }

    /// The directory of the queue of reports.
    #[must_use]
    pub fn outbox_dir(&self) -> PathBuf {
        self.state_dir.join("outbox")
    }

    /// The file with the bytes of the last `SignedAssignment` that was accepted.
    #[must_use]
    pub fn assignment_path(&self) -> PathBuf {
        assignment_path(&self.state_dir)
    }

    fn trusts(&self, key_id: &str) -> bool {
        let TrustedKeys::Only(keys) = &self.trusted_keys else { return true };
        let shown = |id: [u8; 8]| id.iter().map(|b| format!("{b:02x}")).collect::<String>();
        keys.iter().any(|key| shown(key.id()) == key_id)
    }

    /// The last assignment that was accepted, its signature verified again. Expiry is not
    /// looked at: it limits acceptance, never enforcement.
    ///
    /// # Errors
    /// [`ConfigError::NoAssignment`], [`ConfigError::ReadAssignment`] or
    /// [`ConfigError::Assignment`].
    pub fn stored_assignment(&self) -> Result<Assignment, ConfigError> {
        let path = self.assignment_path();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(ConfigError::NoAssignment { path });
            }
            Err(source) => return Err(ConfigError::ReadAssignment { path, source }),
        };
        let assignment = match self.trusted_keys.verify(&bytes) {
            Ok(assignment) => assignment,
            Err(AssignmentError::Format) => return Err(ConfigError::DamagedAssignment { path }),
            // The key is one of ours: then it is the bytes that are not what it has signed.
            Err(AssignmentError::Signature { key_id }) if self.trusts(&key_id) => {
                return Err(ConfigError::DamagedAssignment { path });
            }
            Err(source) => return Err(ConfigError::Assignment { path, source }),
        };
        if !assignment.is_for(&self.name) {
            let source =
                AssignmentError::OtherHost { pattern: assignment.pattern, host: self.name.clone() };
            return Err(ConfigError::Assignment { path, source });
        }
        Ok(assignment)
    }
}

/// Where the last accepted assignment is kept below a state directory.
fn assignment_path(state_dir: &Path) -> PathBuf {
    state_dir.join("assignment")
}

/// Keeps the bytes of an assignment that was accepted, on the disk when this returns.
///
/// # Errors
/// The system's; the one kept before is still there then.
pub(crate) fn keep_assignment(state_dir: &Path, signed: &[u8]) -> io::Result<()> {
    write_durably(&assignment_path(state_dir), signed)
}

/// Replaces a file so that after a crash it is the old one or the new one, never a part.
fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temp = path.with_extension("new");
    let mut options = std::fs::File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temp)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_all()?;
    std::fs::rename(&temp, path)?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    std::fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// The machine's own host name.
pub(crate) fn system_name() -> Result<HostName, HostNameError> {
    use std::os::unix::ffi::OsStrExt;
    let name = nix::unistd::gethostname().unwrap_or_default();
    HostName::parse(name.as_bytes())
}

#[cfg(test)]
mod tests;
