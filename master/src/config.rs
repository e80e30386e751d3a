//! The master's configuration file, `master.toml`. `docs/CONFIG.md` lists its keys.

mod error;
mod keys;

pub use error::ConfigError;

use engine::config::{
    CLIENT_PORT, MASTER_PORT, Mistake, duration, listen_addr, optional_path, path, size,
};
use engine::ids::HostName;
use engine::limits::Limits;
use serde::{Deserialize, Deserializer, de::Error};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a master is configured with. Every key has a default; relative paths begin at the
/// directory of the file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MasterConfig {
    /// The name that clients know the master by. Default: the machine's host name.
    #[serde(deserialize_with = "host_name")]
    pub name: HostName,
    /// Address and TCP port for clients. Default: `0.0.0.0:7400`.
    #[serde(with = "listen_addr")]
    pub listen: SocketAddr,
    /// The Unix socket for `drover`'s commands. Default: `control.sock`.
    #[serde(deserialize_with = "path")]
    pub control_socket: PathBuf,
    /// Where inbox, results and releases are kept. Default: `state`.
    #[serde(deserialize_with = "path")]
    pub state_dir: PathBuf,
    /// The site that `drover publish` compiles. Default: `site`.
    #[serde(deserialize_with = "path")]
    pub site_dir: PathBuf,
    /// The key that signs assignments; only `drover publish` reads it. Default:
    /// `keys/signing.key`.
    #[serde(deserialize_with = "path")]
    pub signing_key: PathBuf,
    /// A table of names and addresses that goes before the name service; read again on
    /// SIGHUP. Default: none.
    #[serde(deserialize_with = "optional_path")]
    pub hosts_table: Option<PathBuf>,
    /// The TCP port on which clients listen, where the table names none. Default: 7401.
    pub client_port: u16,
    /// Dials under way at once. Default: 256.
    pub dial_in_flight_max: usize,
    /// Dials to one host per minute. Default: 60.
    pub dial_rate_per_host: u32,
    /// How often clients poll; only for warnings, the clients' own configuration decides.
    /// Default: `10m`.
    #[serde(with = "duration")]
    pub poll_interval: Duration,
    /// A host not heard for this long is silent. Default: `30m`.
    #[serde(with = "duration")]
    pub silent_after: Duration,
    /// Bytes in the inbox at which clients are told to keep their reports. Default: `1GiB`.
    #[serde(with = "size")]
    pub inbox_bytes_high: u64,
    /// Bytes in the inbox at which they are taken again. Default: `768MiB`.
    #[serde(with = "size")]
    pub inbox_bytes_low: u64,
    /// Bytes that the inbox's files may take; a fifth of it is kept for removing records.
    /// Default: `2GiB`.
    #[serde(with = "size")]
    pub queue_quota_bytes: u64,
    /// Days for which reports are kept; 0 keeps them for ever. Default: 90.
    pub keep_days: u32,
    /// Name servers, on port 53 where they name none. Default: the system's.
    #[serde(deserialize_with = "name_servers")]
    pub dns_servers: Vec<SocketAddr>,
    /// Whether a load generator on another machine may load this master. Default: `false`.
    pub load_tests: bool,
    /// How long SIGTERM waits for what is under way. Default: `20s`.
    #[serde(with = "duration")]
    pub stop_timeout: Duration,
    /// Bounds that peers can run into.
    pub limits: LimitsConfig,
}

/// The table `[limits]`: those of [`Limits`] that an operator may want to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Connections at once; each takes a file descriptor. Default: 16000.
    pub connections_max: usize,
    /// Connections at once from one address, or from one /64 of IPv6, so that none takes the last
    /// places. Default: all but a 64th of connections_max.
    pub connections_per_source: Option<usize>,
    /// Connections that may wait to be accepted. Default: 4096.
    pub listen_backlog: u32,
    /// A connect must be done after this. Default: `10s`.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// A frame that has begun must be whole after this. Default: `30s`.
    #[serde(with = "duration")]
    pub frame_timeout: Duration,
    /// Bytes that wait for a slow reader must be gone after this. Default: `30s`.
    #[serde(with = "duration")]
    pub send_timeout: Duration,
    /// A connection on which nothing is expected lives this long. Default: `60s`.
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
}

const MIB: u64 = 1024 * 1024;

impl Default for MasterConfig {
    fn default() -> Self {
        Self {
            name: machine_name(),
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, MASTER_PORT)),
            control_socket: "control.sock".into(),
            state_dir: "state".into(),
            site_dir: "site".into(),
            signing_key: "keys/signing.key".into(),
            hosts_table: None,
            client_port: CLIENT_PORT,
            dial_in_flight_max: 256,
            dial_rate_per_host: 60,
            poll_interval: Duration::from_secs(10 * 60),
            silent_after: Duration::from_secs(30 * 60),
            inbox_bytes_high: 1024 * MIB,
            inbox_bytes_low: 768 * MIB,
            queue_quota_bytes: 2048 * MIB,
            keep_days: 90,
            dns_servers: Vec::new(),
            load_tests: false,
            stop_timeout: Duration::from_secs(20),
            limits: LimitsConfig::default(),
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            connections_max: limits.connections_max,
            connections_per_source: None,
            listen_backlog: limits.listen_backlog,
            connect_timeout: limits.connect_timeout,
            frame_timeout: limits.frame_timeout,
            send_timeout: limits.send_timeout,
            idle_timeout: limits.idle_timeout,
        }
    }
}

impl LimitsConfig {
    /// The engine's limits with these in their places.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            connections_max: self.connections_max,
            connections_per_source: self
                .connections_per_source
                .unwrap_or(self.connections_max - (self.connections_max / 64).max(1)),
            listen_backlog: self.listen_backlog,
            connect_timeout: self.connect_timeout,
            frame_timeout: self.frame_timeout,
            send_timeout: self.send_timeout,
            idle_timeout: self.idle_timeout,
            ..Limits::default()
        }
    }
}

impl MasterConfig {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`] names file, line and what to write instead.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
        Self::parse(&text, path)
    }

    /// Checks the text of a configuration file that lies at `path`.
    ///
    /// # Errors
    /// As [`MasterConfig::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = toml::from_str(text).map_err(|error| ConfigError::Form {
            path: path.to_owned(),
            mistake: Mistake::of(&error, text, &keys::KEYS),
        })?;
        // An absolute path, since the daemon may change its directory later.
        let absolute = std::path::absolute(path)
            .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
        let base = absolute.parent().unwrap_or(Path::new("/"));
        for relative in [
            &mut config.control_socket,
            &mut config.state_dir,
            &mut config.site_dir,
            &mut config.signing_key,
        ]
        .into_iter()
        .chain(&mut config.hosts_table)
        {
            *relative = base.join(&*relative);
        }
        config.check().map_err(|(keys, words)| ConfigError::Form {
            path: path.to_owned(),
            mistake: Mistake::senseless(text, &keys, words),
        })?;
        Ok(config)
    }

    /// What no type can say: the keys that it is about, and what is wrong.
    fn check(&self) -> Result<(), (Vec<&'static str>, String)> {
        // sockaddr_un holds 108 bytes with the final NUL.
        let socket_len = self.control_socket.as_os_str().len();
        let least = |key: &'static str, value: u64, min: u64| {
            if value < min {
                Err((vec![key], format!("{key} = {value} is too small: write at least {min}")))
            } else {
                Ok(())
            }
        };
        if socket_len > 107 {
            let words = format!(
                "control_socket is a path of {socket_len} bytes, and Unix sockets have at most 107: choose a shorter one, such as /run/drover/control.sock"
            );
            return Err((vec!["control_socket"], words));
        }
        if self.inbox_bytes_low >= self.inbox_bytes_high {
            let words = format!(
                "inbox_bytes_low = {} must be less than inbox_bytes_high = {}, or reports would never be taken again",
                self.inbox_bytes_low, self.inbox_bytes_high
            );
            return Err((vec!["inbox_bytes_low", "inbox_bytes_high"], words));
        }
        if self.inbox_bytes_high > self.queue_quota_bytes / 5 * 4 {
            let words = format!(
                "inbox_bytes_high = {} must be at most four fifths of queue_quota_bytes = {}: removing records takes room too",
                self.inbox_bytes_high, self.queue_quota_bytes
            );
            return Err((vec!["inbox_bytes_high", "queue_quota_bytes"], words));
        }
        if self.silent_after <= self.poll_interval {
            let words = format!(
                "silent_after = {}s must be longer than poll_interval = {}s, or every host would be silent between two polls",
                self.silent_after.as_secs(),
                self.poll_interval.as_secs()
            );
            return Err((vec!["silent_after", "poll_interval"], words));
        }
        least("client_port", self.client_port.into(), 1)?;
        least("dial_in_flight_max", self.dial_in_flight_max as u64, 1)?;
        least("dial_rate_per_host", self.dial_rate_per_host.into(), 1)?;
        least("inbox_bytes_high", self.inbox_bytes_high, MIB)?;
        least("limits.connections_max", self.limits.connections_max as u64, 8)?;
        least(
            "limits.connections_per_source",
            self.limits.connections_per_source.map_or(1, |n| n as u64),
            1,
        )?;
        least("limits.listen_backlog", self.limits.listen_backlog.into(), 1)?;
        for (key, timeout) in [
            ("poll_interval", self.poll_interval),
            ("stop_timeout", self.stop_timeout),
            ("limits.connect_timeout", self.limits.connect_timeout),
            ("limits.frame_timeout", self.limits.frame_timeout),
            ("limits.send_timeout", self.limits.send_timeout),
            ("limits.idle_timeout", self.limits.idle_timeout),
        ] {
            if timeout.is_zero() {
                let words = format!("{key} = \"0s\" is too short: write at least \"1ms\"");
                return Err((vec![key], words));
            }
        }
        Ok(())
    }
}

/// The kernel's host name, or `master` where that is none that Drover can use.
fn machine_name() -> HostName {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    HostName::parse(text.trim().as_bytes())
        .unwrap_or_else(|_| HostName::parse(b"master").expect("these are letters"))
}

/// The port of name servers that name none.
const DNS_PORT: u16 = 53;

fn name_servers<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<SocketAddr>, D::Error> {
    let read = |text: &String| {
        let bare = || text.parse().map(|ip: IpAddr| SocketAddr::new(ip, DNS_PORT));
        text.parse().or_else(|_| bare()).map_err(|_| {
            D::Error::custom(format!(
                "\"{text}\" is no address of a name server: write one such as \"192.0.2.53\", \"127.0.0.1:5353\" or \"[::1]:5353\""
            ))
        })
    };
    Vec::<String>::deserialize(d)?.iter().map(read).collect()
}

fn host_name<'de, D: Deserializer<'de>>(d: D) -> Result<HostName, D::Error> {
    String::deserialize(d)?.parse().map_err(D::Error::custom)
}

#[cfg(test)]
mod tests;
