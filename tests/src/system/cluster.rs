//! A site, its master and its clients, in a directory of their own.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: a step of the set-up that fails ends the test"
)]

use super::{Daemon, PATIENCE, binary, output};
use serde_json::Value;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;
use tempfile::TempDir;

/// 127.A.B.*, and two ports: one for each cluster.
#[derive(Debug, Clone, Copy)]
struct Net {
    base: [u8; 2],
    /// The master's; the clients' is the next one.
    port: u16,
}

impl Net {
    /// One that no other cluster has: from the process id, which other tests do not share. Its
    /// ports are free of those who listen on every address, such as a master that runs here.
    fn claim() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = std::process::id().wrapping_mul(16) + NEXT.fetch_add(1, Ordering::Relaxed);
        let [_, _, a, b] = (n % (200 << 8)).to_be_bytes();
        let net = |port| Self { base: [a + 40, b], port };
        let is_free = |net: &Self| {
            let addrs = [(net.ip(1), net.port), (net.ip(2), net.port + 1)];
            addrs.into_iter().all(|addr| TcpListener::bind(addr).is_ok())
        };
        (7600..9600).step_by(2).map(net).find(is_free).expect("this machine has free ports")
    }

    fn ip(self, host: u8) -> IpAddr {
        Ipv4Addr::new(127, self.base[0], self.base[1], host).into()
    }
}

/// A site with its master and clients.
#[derive(Debug)]
pub struct Cluster {
    dir: TempDir,
    net: Net,
    /// Lines of `master.toml` beside those that every test needs.
    pub master_extra: String,
    /// Lines of each `client.toml` likewise.
    pub client_extra: String,
    /// Where the master listens, once it has been started: the same after a restart.
    pub master_addr: SocketAddr,
}

impl Cluster {
    /// `drover init` in a new directory, and an inventory that takes every name.
    ///
    /// # Panics
    /// As every method here: a step of the set-up fails.
    #[must_use]
    pub fn new() -> Self {
        let dir = TempDir::with_prefix("drover-system-").unwrap();
        let net = Net::claim();
        let master_addr = SocketAddr::new(net.ip(1), net.port);
        let cluster = Self {
            dir,
            net,
            master_extra: String::new(),
            client_extra: String::new(),
            master_addr,
        };
        let init = Command::new(binary("drover"))
            .args(["init", "--site", "test"])
            .arg(cluster.path("m"))
            .output()
            .unwrap();
        assert!(init.status.success(), "{init:?}");
        cluster.write("m/site/hosts.yaml", "hosts:\n  - host: \"*\"\n    groups: [everyone]\n");
        cluster.write_policy("resources:\n  - file: /motd\n    content: \"one\\n\"\n");
        cluster
    }

    /// A path of its directory.
    #[must_use]
    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// Writes a file, with the directories above it.
    pub fn write(&self, relative: &str, text: impl AsRef<[u8]>) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Reads a file.
    #[must_use]
    pub fn read(&self, relative: &str) -> String {
        fs::read_to_string(self.path(relative)).unwrap_or_else(|e| panic!("{relative}: {e}"))
    }

    /// Where the one policy's files are.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.path("m/site/policies/base/files")
    }

    /// What a client manages in place of `/`.
    #[must_use]
    pub fn root(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}/root"))
    }

    /// A client's cache.
    #[must_use]
    pub fn cache(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}/state/cache"))
    }

    /// Sets the one policy, which every host has.
    pub fn write_policy(&self, yaml: &str) {
        self.write("m/site/policies/base/policy.yaml", format!("about: a test\n{yaml}"));
        self.write("m/site/groups/everyone.yaml", "policies: [base]\n");
    }

    /// An address of this cluster's network.
    #[must_use]
    pub fn ip(&self, host: u8) -> IpAddr {
        self.net.ip(host)
    }

    /// Where the client with this host number listens.
    #[must_use]
    pub fn client_addr(&self, host: u8) -> SocketAddr {
        (self.ip(host), self.net.port + 1).into()
    }

    /// Writes the table that the master resolves names by: `(name, host number)`.
    pub fn write_hosts(&self, hosts: &[(&str, u8)]) {
        let line = |(name, host): &(&str, u8)| format!("{name} {}\n", self.client_addr(*host));
        self.write("m/hosts", hosts.iter().map(line).collect::<String>());
    }

    /// The master's configuration file, written anew.
    #[must_use]
    pub fn master_config(&self) -> PathBuf {
        if !self.path("m/hosts").exists() {
            self.write_hosts(&[]);
        }
        let text = format!(
            "name = \"master.test\"\nlisten = \"{}\"\nhosts_table = \"hosts\"\n{}",
            self.master_addr, self.master_extra
        );
        self.write("m/master.toml", text);
        self.path("m/master.toml")
    }

    /// A command of `drover` with this master's configuration.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("drover"));
        command.args(arguments).arg("--config").arg(self.master_config());
        command.env_remove("JOURNAL_STREAM").current_dir(self.dir.path());
        command
    }

    /// Runs it.
    #[must_use]
    pub fn drover(&self, arguments: &[&str]) -> Output {
        output(&mut self.command(arguments))
    }

    /// Runs it, and returns what it printed; it must succeed.
    #[must_use]
    pub fn drover_ok(&self, arguments: &[&str]) -> String {
        let done = self.drover(arguments);
        assert!(done.status.success(), "drover {arguments:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    }

    /// Runs it with `--json`, and reads what it printed.
    #[must_use]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.drover_ok(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("drover {arguments:?}: {e}: {text}"))
    }

    /// Publishes the site; the revision that is in force then.
    pub fn publish(&self) -> u64 {
        revision_of(&self.json(&["publish"]))
    }

    /// Publishes it also if nothing has changed.
    pub fn publish_again(&self) -> u64 {
        revision_of(&self.json(&["publish", "--force"]))
    }

    /// One of the counters of `drover status`.
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        let status = self.json(&["status"]);
        let value = status["counters"][name].as_u64();
        value.unwrap_or_else(|| panic!("no counter {name} in {status}"))
    }

    /// Asks until the answer is as wanted. For what no log line tells: what the result store
    /// has, which commands alone can see.
    pub fn until(&self, arguments: &[&str], is: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = self.json(arguments);
            if is(&answer) {
                return answer;
            }
            assert!(Instant::now() < until, "drover {arguments:?} still says {answer}");
        }
    }

    /// The ids of all stored reports: `(host, epoch, seq)`.
    #[must_use]
    pub fn ids(&self) -> Vec<(String, String, u64)> {
        let id = |line: &str| {
            let mut words = line.split_whitespace();
            let (name, epoch) = (words.next().unwrap(), words.next().unwrap());
            (name.to_owned(), epoch.to_owned(), words.next().unwrap().parse().unwrap())
        };
        self.drover_ok(&["ids"]).lines().map(id).collect()
    }

    /// Starts the master, and waits until it listens.
    #[must_use]
    pub fn master(&self) -> Daemon {
        let mut master = Daemon::spawn(&mut self.command(&["master"]));
        master.wait_line("listens on");
        master
    }

    /// The configuration file of a client, written anew.
    #[must_use]
    pub fn client_config(&self, name: &str, host: u8) -> PathBuf {
        self.client_config_of(name, host, self.master_addr)
    }

    /// The same for a client that reaches its master at another address.
    #[must_use]
    pub fn client_config_of(&self, name: &str, host: u8, master: SocketAddr) -> PathBuf {
        let dir = self.path(name);
        fs::create_dir_all(dir.join("root")).unwrap();
        let key = self.read("m/keys/signing.pub");
        let text = format!(
            "name = \"{name}\"\nmaster = \"{}\"\nlisten = \"{}\"\n\
             trusted_keys = [\"{}\"]\nstate_dir = \"{dir}/state\"\nroot = \"{dir}/root\"\n\
             splay = \"0s\"\n{}",
            master,
            self.client_addr(host),
            key.trim(),
            self.client_extra,
            dir = dir.display(),
        );
        self.write(&format!("{name}/client.toml"), text);
        dir.join("client.toml")
    }

    /// A command of `drover-client` with a client's configuration.
    #[must_use]
    pub fn client_command(&self, name: &str, host: u8, arguments: &[&str]) -> Command {
        client_command(&self.client_config(name, host), arguments)
    }

    /// Starts a client, and waits until it listens.
    #[must_use]
    pub fn client(&self, name: &str, host: u8) -> Daemon {
        start_client(&self.client_config(name, host))
    }
}

fn revision_of(published: &Value) -> u64 {
    published["revision"].as_u64().unwrap_or_else(|| panic!("no revision in {published}"))
}

fn client_command(config: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("drover-client"));
    command.args(arguments).arg("--config").arg(config);
    command
}

/// Starts a client with this configuration, and waits until it listens.
///
/// # Panics
/// It ends before.
#[must_use]
pub fn start_client(config: &Path) -> Daemon {
    let mut client = Daemon::spawn(&mut client_command(config, &["run"]));
    client.wait_line("listens on");
    client
}

impl Default for Cluster {
    fn default() -> Self {
        Self::new()
    }
}

impl AsRef<Path> for Cluster {
    fn as_ref(&self) -> &Path {
        self.dir.path()
    }
}
