//! Bounds of the machine: descriptors, the accept queue; and answers while work goes on.

use engine::blocking::Connection;
use engine::node::io::CloseReason;
use engine::wire::message::{StatusReq, StatusResp};
use engine::wire::{FrameBuf, NackReason};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::time::{Duration, Instant};
use tests::system::{Cluster, Daemon, PATIENCE, Sender, binary, output};

/// More peers than the master may have descriptors: accepting pauses, says so at most once a
/// minute, does not spin, and goes on when they have left.
#[test]
fn e1_a_master_without_descriptors_pauses_and_resumes() {
    let mut cluster = Cluster::new();
    cluster.master_extra = "[limits]\nconnections_per_source = 1000\n".to_owned();
    cluster.publish();
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 96; exec \"$0\" master --config \"$1\""]);
    let mut master = Daemon::spawn(limited.arg(binary("drover")).arg(cluster.master_config()));
    master.wait_line("raise the limit (`ulimit -n`");
    master.wait_line("listens on");
    let crowd: Vec<TcpStream> =
        (0..400).map(|_| TcpStream::connect(cluster.master_addr).unwrap()).collect();
    master.wait_line("accepting pauses: ");
    let before = ticks(&master);
    // What it costs to be full: a pause, not a loop.
    std::thread::sleep(Duration::from_secs(3));
    let (used, lines) = (ticks(&master) - before, master.count_lines("accepting pauses: "));
    assert!(used < 30, "{used} ticks of CPU time in 3 s");
    assert_eq!(lines, 1, "it is told once");
    // The operator is not kept out by it.
    let status = cluster.json(&["status"]);
    assert!(status["connections"].as_u64().unwrap() >= 40);
    let warnings = status["warnings"].to_string();
    for said in [
        "connections are taken at most, not the 16000 of limits.connections_max",
        "accepting has paused ",
    ] {
        assert!(warnings.contains(said), "{said}: {warnings}");
    }
    drop(crowd);
    let mut sender = Sender::new("load.test", 1);
    let done = sender.deliver(cluster.master_addr, 10, PATIENCE);
    assert!(matches!(done, Ok(None)), "{done:?}");
}

/// A program that watches a counter finds it although nothing has happened yet.
#[test]
fn what_is_counted_by_reason_is_in_json_from_the_start() {
    let cluster = Cluster::new();
    let _master = cluster.master();
    let counters = &cluster.json(&["status"])["counters"];
    let nacks = NackReason::ALL.map(|reason| format!("nacks_{reason:?}").to_lowercase());
    let closes = CloseReason::LABELS.map(|label| format!("closed_{label}"));
    // Whoever waited for the master's socket has left it already.
    for name in nacks.iter().chain(closes.iter().filter(|name| *name != "closed_peer_closed")) {
        assert_eq!(counters[name], 0, "{name}: {counters:#}");
    }
    assert!(counters["closed_peer_closed"].is_u64(), "{counters:#}");
}

/// More silent peers than there are places: a host that comes has one within seconds all the same,
/// and its address is none of theirs.
#[test]
fn silent_connections_give_way_to_hosts() {
    for extra in ["", "connections_per_source = 1000\n"] {
        let mut cluster = Cluster::new();
        cluster.master_extra = format!("[limits]\nconnections_max = 64\n{extra}");
        cluster.write_hosts(&[("web-1.test", 2)]);
        cluster.publish();
        let _master = cluster.master();
        let crowd: Vec<TcpStream> =
            (0..200).map(|_| TcpStream::connect(cluster.master_addr).unwrap()).collect();
        let mut client = cluster.client("web-1.test", 2);
        client.wait_converged(1);
        let counted = |name: &str| cluster.json(&["status"])["counters"][name].as_u64();
        let turned_away = counted("turned_away").unwrap();
        // By default one address has not all places; with a larger share, silence gives way.
        assert_eq!(turned_away > 0, extra.is_empty(), "{turned_away} turned away");
        assert!(counted("closed_crowded").unwrap() > 0);
        drop(crowd);
    }
}

/// utime and stime, in ticks of 10 ms.
fn ticks(daemon: &Daemon) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
    let fields = stat.rsplit_once(") ").unwrap().1;
    fields.split(' ').skip(11).take(2).map(|t| t.parse::<u64>().unwrap()).sum()
}

/// The accept queue is as long as the configuration says, which by default is no less than
/// 4,096 where the kernel allows it.
#[test]
fn e14_the_accept_queue_is_long() {
    let somaxconn = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let allowed: u64 = somaxconn.trim().parse().unwrap();
    for (extra, wanted) in [("", 4096), ("[limits]\nlisten_backlog = 77\n", 77)] {
        let mut cluster = Cluster::new();
        cluster.master_extra = extra.to_owned();
        let _master = cluster.master();
        let listed = Command::new("ss")
            .args(["-ltnH", "src", &cluster.master_addr.to_string()])
            .output()
            .expect("this test needs ss: apt install iproute2");
        let listed = String::from_utf8(listed.stdout).unwrap();
        let queue: u64 = listed.split_whitespace().nth(2).unwrap().parse().unwrap();
        assert_eq!(queue, allowed.min(wanted), "{listed}");
    }
}

/// While an action runs, whoever asks the client how it is, is answered; and the same
/// request is answered by the master (S1-22). A second signal ends the action with all that it
/// has started, and the client, which has kept the report that says so.
#[test]
fn s1_58_s1_22_status_is_answered_during_an_action() {
    let mut cluster = Cluster::new();
    cluster.client_extra = "allow_exec = true\n".to_owned();
    cluster.write_hosts(&[("web-1.test", 2)]);
    let (begun, go) = (cluster.path("begun"), cluster.path("go"));
    mkfifo(&begun, Mode::S_IRWXU).unwrap();
    mkfifo(&go, Mode::S_IRWXU).unwrap();
    cluster.write_policy(&format!(
        "resources:\n  - exec: slow\n    command: [sh, -c, \"echo > {}; cat {}\"]\n",
        begun.display(),
        go.display()
    ));
    cluster.publish();
    let _master = cluster.master();
    let client = cluster.client("web-1.test", 2);
    File::open(&begun).unwrap().read_to_end(&mut Vec::new()).unwrap();
    // It waits for `go`, which nobody has opened: these answers came while it ran.
    for addr in [cluster.client_addr(2), cluster.master_addr].repeat(10) {
        let mut connection = Connection::connect(addr, PATIENCE).unwrap();
        let request = FrameBuf::message(None, &StatusReq { detail: 0 }, |_| {});
        let answer = connection.request::<StatusResp>(&request).unwrap();
        // Whoever reaches the port learns nothing of what is managed.
        let frame = answer.frame();
        let body = frame.body();
        assert!(!body.windows(4).any(|part| part == b"slow"), "{}", body.escape_ascii());
    }
    let told = output(&mut cluster.client_command("web-1.test", 2, &["status"]));
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("in hand: exec slow"), "{told}");
    client.signal(Signal::SIGTERM);
    let until = Instant::now() + PATIENCE;
    while TcpStream::connect(cluster.client_addr(2)).is_ok() {
        assert!(Instant::now() < until, "the port stays open");
    }
    client.signal(Signal::SIGTERM);
    let ended = client.wait_end(PATIENCE);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    // Whoever of its group lived would have the pipe open.
    let nobody = OpenOptions::new().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&go);
    assert_eq!(nobody.unwrap_err().raw_os_error(), Some(Errno::ENXIO as i32));
    let left = output(&mut cluster.client_command("web-1.test", 2, &["status"]));
    let left = String::from_utf8_lossy(&left.stdout);
    assert!(left.contains("1 interrupted"), "{left}");
    let _again = cluster.client("web-1.test", 2);
    cluster.until(&["reports"], |reports| reports.to_string().contains("interrupted"));
}

/// Three files with content and one that must not be: each is as managed again, whatever is
/// done to it.
#[test]
fn s2_21_what_is_removed_overwritten_or_added_is_healed() {
    let cluster = Cluster::new();
    cluster.write_hosts(&[("web-1.test", 2)]);
    cluster.write_policy(
        "resources:\n  - file: /f1\n    content: \"1\\n\"\n  - file: /f2\n    content: \"2\\n\"\n  - file: /f3\n    content: \"3\\n\"\n  - absent: /f4\n",
    );
    cluster.publish();
    let _master = cluster.master();
    let mut client = cluster.client("web-1.test", 2);
    client.wait_line("4 checked, 3 changed, 0 failed, converged");
    let path = |name: &str| cluster.path(&format!("web-1.test/root/{name}"));
    fs::remove_file(path("f2")).unwrap();
    client.wait_line("1 changed, 0 failed, converged");
    assert_eq!(fs::read_to_string(path("f2")).unwrap(), "2\n");
    fs::write(path("f2"), "blah\n").unwrap();
    client.wait_line("1 changed, 0 failed, converged");
    assert_eq!(fs::read_to_string(path("f2")).unwrap(), "2\n");
    fs::write(path("f4"), "").unwrap();
    client.wait_line("1 changed, 0 failed, converged");
    assert!(!path("f4").exists());
}
