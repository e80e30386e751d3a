//! One process at a time applies; and a daemon that starts or stops says what is true of it.

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Output;
use std::time::Instant;
use tests::system::{Cluster, Daemon, PATIENCE, output};

/// A cluster whose one client has an action that goes on, while there is the file `hold`, until
/// the test lets it end.
struct Held {
    cluster: Cluster,
    begun: PathBuf,
    go: PathBuf,
    hold: PathBuf,
}

impl Held {
    fn new() -> Self {
        let mut cluster = Cluster::new();
        cluster.client_extra = "allow_exec = true\nparallel = 1\n".to_owned();
        cluster.write_hosts(&[("web-1.test", 2)]);
        let [begun, go, hold] = ["begun", "go", "hold"].map(|name| cluster.path(name));
        for fifo in [&begun, &go] {
            mkfifo(fifo, Mode::S_IRWXU).unwrap();
        }
        let script = format!(
            "test ! -e {} || {{ echo > {}; cat {}; }}",
            hold.display(),
            begun.display(),
            go.display()
        );
        cluster.write_policy(&format!(
            "resources:\n  - exec: slow\n    command: [sh, -c, \"{script}\"]\n  - file: /later\n    content: \"x\\n\"\n    requires: [exec slow]\n"
        ));
        cluster.publish();
        Self { cluster, begun, go, hold }
    }

    fn hold(&self) {
        fs::write(&self.hold, "").unwrap();
    }

    /// Opening blocks until the action opens the other end.
    fn wait_begun(&self) {
        File::open(&self.begun).unwrap().read_to_end(&mut Vec::new()).unwrap();
    }

    fn let_go(&self) {
        drop(OpenOptions::new().write(true).open(&self.go).unwrap());
    }

    fn client(&self) -> Daemon {
        self.cluster.client("web-1.test", 2)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        output(&mut self.cluster.client_command("web-1.test", 2, arguments))
    }

    fn status(&self) -> Value {
        serde_json::from_slice(&self.run(&["status", "--json"]).stdout).unwrap()
    }
}

fn refused(done: &Output, holder: &str) {
    let says = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(2), "{says}");
    for part in [holder, "one process at a time may apply: wait for its end, or stop it"] {
        assert!(says.contains(part), "no {part:?} in: {says}");
    }
}

/// Neither does `apply --once` run beside a daemon, nor a daemon beside it; a dry run does.
#[test]
fn apply_once_and_the_daemon_exclude_each_other() {
    let held = Held::new();
    let _master = held.cluster.master();
    let mut client = held.client();
    client.wait_converged(1);
    let later = held.cluster.path("web-1.test/root/later");
    fs::remove_file(&later).unwrap();
    client.wait_line("1 changed");
    let daemon = format!("is in use by process {} (drover-client run ", client.pid());
    refused(&held.run(&["apply", "--once"]), &daemon);
    let dry = held.run(&["apply", "--once", "--dry-run"]);
    assert!(dry.status.success(), "{dry:?}");
    client.signal(Signal::SIGTERM);
    assert!(client.wait_end(PATIENCE).status.success());

    held.hold();
    let apply =
        Daemon::spawn(&mut held.cluster.client_command("web-1.test", 2, &["apply", "--once"]));
    held.wait_begun();
    let command = format!("is in use by process {} (drover-client apply --once ", apply.pid());
    refused(&held.run(&["run"]), &command);
    refused(&held.run(&["apply", "--once"]), &command);
    held.let_go();
    let ended = apply.wait_end(PATIENCE);
    assert!(ended.status.success(), "{}", ended.log);
    fs::remove_file(&held.hold).unwrap();
    held.client().wait_converged(1);
}

/// As the daemon does, `apply --once` lets what runs end at a first signal and ends it at a second;
/// and `status` tells of its run.
#[test]
fn apply_once_is_ended_by_signals_and_leaves_what_came_of_it() {
    let held = Held::new();
    let _master = held.cluster.master();
    let mut client = held.client();
    client.wait_converged(1);
    client.signal(Signal::SIGTERM);
    assert!(client.wait_end(PATIENCE).status.success());
    let started = |status: &Value| status["last_run"]["started_ms"].as_u64().unwrap();
    let by_daemon = held.status();

    held.hold();
    let apply =
        Daemon::spawn(&mut held.cluster.client_command("web-1.test", 2, &["apply", "--once"]));
    held.wait_begun();
    apply.signal(Signal::SIGTERM);
    apply.signal(Signal::SIGINT);
    let ended = apply.wait_end(PATIENCE);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.log);
    let open = OpenOptions::new().write(true).custom_flags(nix::libc::O_NONBLOCK).open(&held.go);
    assert_eq!(open.unwrap_err().raw_os_error(), Some(nix::libc::ENXIO), "the action goes on");
    let cut = held.status();
    assert_eq!(cut["last_run"]["interrupted"], 1, "{cut}");
    assert!(started(&cut) > started(&by_daemon), "{cut}");

    fs::remove_file(&held.hold).unwrap();
    assert!(held.run(&["apply", "--once"]).status.success());
    let whole = held.status();
    assert!(started(&whole) > started(&cut) && whole["last_run"]["converged"] == true, "{whole}");
}

/// What was applied before is told from the start on, however the runs after it end; and a daemon
/// that waits for an action says so until it ends.
#[test]
fn a_client_that_starts_and_stops_tells_what_is_applied_and_what_it_waits_for() {
    let held = Held::new();
    let master = held.cluster.master();
    let mut client = held.client();
    client.wait_converged(1);
    client.kill();
    held.hold();
    // No poll of this one may say that nothing is applied.
    for _ in 0..2 {
        let client = held.client();
        held.wait_begun();
        let status = held.status();
        assert_eq!(status["daemon"]["counters"]["revision_applied"], 1, "{status}");
        client.signal(Signal::SIGTERM);
        let until = Instant::now() + PATIENCE;
        loop {
            match TcpStream::connect(held.cluster.client_addr(2)) {
                Err(e) if e.kind() == ErrorKind::ConnectionRefused => break,
                _ => assert!(Instant::now() < until, "the port stays open"),
            }
        }
        let text = held.run(&["status"]);
        let says = String::from_utf8_lossy(&text.stdout);
        assert!(text.status.success(), "{says}");
        assert!(says.contains("stopping: waits for exec slow ("), "{says}");
        let status = held.status();
        assert_eq!(status["running"], true, "{status}");
        assert!(status["daemon"]["in_hand_ms"]["exec slow"].is_u64(), "{status}");
        held.let_go();
        let ended = client.wait_end(PATIENCE);
        assert!(ended.status.success(), "{}", ended.log);
        let left = held.status();
        assert_eq!((&left["running"], &left["daemon"]), (&false.into(), &Value::Null), "{left}");
    }
    let hosts = held.cluster.until(&["hosts"], |answer| answer["hosts"][0]["applied"] == 1);
    assert_eq!(hosts["hosts"][0]["held"], 1, "{hosts}");
    drop(master);
}
