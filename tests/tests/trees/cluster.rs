//! A master and its clients as processes, below one temporary directory.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_drover-process");
/// How long anything may take; far beyond what it takes.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Clusters that one process has made: each has a port of its own.
static CLUSTERS: AtomicU32 = AtomicU32::new(0);

/// A process whose log is read line by line.
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    /// All that was read so far.
    pub log: Vec<String>,
}

impl Process {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = child.stderr.take().unwrap();
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines, log: Vec::new() }
    }

    /// Waits for a line of the log, from where the last wait ended.
    pub fn await_line(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("the line did not come; the log:\n{}", self.log.join("\n"));
            };
            self.log.push(line.clone());
            if wanted(&line) {
                return line;
            }
        }
    }

    /// The log so far, up to now.
    pub fn read_log(&mut self) -> &[String] {
        self.log.extend(self.lines.try_iter());
        &self.log
    }

    /// `SIGKILL`, and waits for the end.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // Its own child: the pid is not used again before it was waited for.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.end();
        }
        if std::thread::panicking() {
            let log: Vec<String> = self.read_log().to_vec();
            eprintln!("the log of process {}:\n{}", self.pid(), log.join("\n"));
        }
    }
}

/// One master with the hosts `h0`, `h1`, …
pub struct Cluster {
    dir: tempfile::TempDir,
    base: u32,
    port: u16,
    pub master: Option<Process>,
}

impl Cluster {
    /// A site of one policy, `tree`; `resources` is the list in it. Nothing is published yet.
    pub fn new(clients: u32, resources: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("drover-trees").tempdir().unwrap();
        let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        // A process id has 22 bits, an address of the loopback net 24: no two tests share one.
        let base = 0x7f00_0000 + ((std::process::id() & 0x3f_ffff) << 2);
        let port = 7600 + 10 * u16::try_from(number).unwrap();
        let cluster = Self { dir, base, port, master: None };
        let made = cluster.drover(&["init", cluster.path("").to_str().unwrap()]);
        assert!(made.status.success(), "{made:?}");
        let mut hosts = String::new();
        for client in 0..clients {
            writeln!(hosts, "h{client} {}", cluster.client_addr(client)).unwrap();
        }
        fs::write(cluster.path("hosts"), hosts).unwrap();
        let config = fs::read_to_string(cluster.path("master.toml")).unwrap();
        let mut lines: Vec<String> = config
            .lines()
            .filter(|l| !l.starts_with("listen") && !l.starts_with("hosts_table"))
            .map(str::to_owned)
            .collect();
        let own = format!("listen = \"{}\"\nhosts_table = \"hosts\"", cluster.master_addr());
        lines.insert(0, own);
        fs::write(cluster.path("master.toml"), lines.join("\n")).unwrap();
        fs::write(cluster.path("site/hosts.yaml"), "hosts:\n  - host: \"*\"\n    groups: [all]\n")
            .unwrap();
        fs::write(cluster.path("site/groups/all.yaml"), "policies: [tree]\n").unwrap();
        fs::create_dir_all(cluster.files()).unwrap();
        cluster.set_policy(resources);
        cluster
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// Where the policy's files are.
    pub fn files(&self) -> PathBuf {
        self.path("site/policies/tree/files")
    }

    pub fn set_policy(&self, resources: &str) {
        let text = format!("about: a tree\nresources:\n{resources}");
        fs::write(self.path("site/policies/tree/policy.yaml"), text).unwrap();
    }

    pub fn master_addr(&self) -> SocketAddr {
        (Ipv4Addr::from(self.base), self.port).into()
    }

    fn client_addr(&self, client: u32) -> SocketAddr {
        assert!(client < 3);
        (Ipv4Addr::from(self.base + 1 + client), self.port + 1).into()
    }

    /// Runs a command of the operator's.
    pub fn drover(&self, args: &[&str]) -> Output {
        let mut command = Command::new(PROGRAM);
        command.arg("drover").args(args).env("DROVER_CONFIG", self.path("master.toml"));
        command.output().unwrap()
    }

    /// Publishes; gives back the revision that is in force.
    pub fn publish(&self, args: &[&str]) -> u64 {
        let output = self.drover(&[&["publish", "--json"], args].concat());
        assert!(output.status.success(), "{output:?}");
        let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        result["revision"].as_u64().unwrap()
    }

    pub fn start_master(&mut self) {
        let config = self.path("master.toml");
        let args = ["drover", "master", "--config", config.to_str().unwrap()];
        let mut master = Process::start(&args);
        master.await_line(|l| l.contains("listens on"));
        self.master = Some(master);
    }

    /// One of the counters of `drover status`.
    pub fn counter(&self, name: &str) -> u64 {
        let output = self.drover(&["status", "--json"]);
        assert!(output.status.success(), "{output:?}");
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let value = status["counters"][name].as_u64();
        value.unwrap_or_else(|| panic!("no counter {name} in {status}"))
    }

    pub fn root(&self, client: u32) -> PathBuf {
        self.path(&format!("c{client}/root"))
    }

    pub fn cache(&self, client: u32) -> PathBuf {
        self.path(&format!("c{client}/state/cache"))
    }

    pub fn client_config(&self, client: u32, master: SocketAddr) -> PathBuf {
        fs::create_dir_all(self.root(client)).unwrap();
        let key = fs::read_to_string(self.path("keys/signing.pub")).unwrap();
        let (state, root) = (self.path(&format!("c{client}/state")), self.root(client));
        let config = format!(
            "name = \"h{client}\"\nmaster = \"{master}\"\nlisten = \"{}\"\n\
             trusted_keys = [\"{}\"]\nstate_dir = {state:?}\nroot = {root:?}\n\
             poll_interval = \"10s\"\nsplay = \"0s\"\n",
            self.client_addr(client),
            key.trim(),
        );
        let path = self.path(&format!("c{client}/client.toml"));
        fs::write(&path, config).unwrap();
        path
    }

    pub fn start_client(&self, client: u32) -> Process {
        self.start_client_of(client, self.master_addr())
    }

    /// A client that reaches its master at another address.
    pub fn start_client_of(&self, client: u32, master: SocketAddr) -> Process {
        let config = self.client_config(client, master);
        Process::start(&["client", "run", "--config", config.to_str().unwrap()])
    }

    /// Runs `drover-client apply` with these arguments.
    pub fn apply(&self, client: u32, args: &[&str]) -> Output {
        let config = self.path(&format!("c{client}/client.toml"));
        let mut command = Command::new(PROGRAM);
        command.args(["client", "apply", "--config", config.to_str().unwrap()]).args(args);
        command.output().unwrap()
    }
}

/// Whether a line tells of a finished run of a revision.
pub fn run_of(revision: u64) -> impl Fn(&str) -> bool {
    let begin = format!("revision {revision}: ");
    move |line| line.contains(&begin) && line.contains(" checked, ")
}

/// Whether a line tells that all resources of a revision are as wanted.
pub fn converged(revision: u64) -> impl Fn(&str) -> bool {
    let run = run_of(revision);
    move |line| run(line) && line.ends_with(", converged")
}

/// All files below a directory, with their sizes; for caches.
pub fn sizes_below(dir: &Path) -> u64 {
    let mut sum = 0;
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let meta = entry.metadata().unwrap();
        sum += if meta.is_dir() { sizes_below(&entry.path()) } else { meta.len() };
    }
    sum
}
