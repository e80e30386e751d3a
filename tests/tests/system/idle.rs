//! What daemons cost when there is nothing to do.

use std::fs;
use std::process::Command;
use std::time::Duration;
use tests::system::{Cluster, Daemon};

/// Resident memory that a client with 1,000 files may have, in any build;
/// `benches/idle.sh` measures a release build.
const CLIENT_RSS_MAX_KIB: u64 = 8 * 1024;
/// How long daemons are watched doing nothing.
const WATCHED: Duration = Duration::from_secs(10);

fn rss_kib(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// utime and stime, in ticks.
fn cpu_ticks(daemon: &Daemon) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
    let behind_name = stat.rsplit_once(") ").unwrap().1;
    behind_name.split(' ').skip(11).take(2).map(|t| t.parse::<u64>().unwrap()).sum()
}

/// System calls of all its threads within this time, as strace counts them.
fn system_calls(daemon: &Daemon, within: Duration) -> Vec<String> {
    let traced = Command::new("timeout")
        .args(["--signal=INT", &within.as_secs().to_string()])
        .args(["strace", "-f", "-qq", "-e", "trace=all", "-p", &daemon.pid().to_string()])
        .output()
        .expect("this test needs strace: apt install strace");
    let text = String::from_utf8_lossy(&traced.stderr).into_owned();
    assert!(!text.contains("ptrace(PTRACE_SEIZE"), "strace may not attach: {text}");
    // What a thread was in when strace let go of it began before or is no call that ended.
    let calls = text.lines().filter(|line| !line.ends_with("<detached ...>"));
    calls.map(str::to_owned).collect()
}

/// A client with 1,000 files: bounded memory, no system call between its timers, and yet a file
/// removed behind its back is there again.
#[test]
fn an_idle_client_makes_no_system_call_and_still_heals() {
    let mut cluster = Cluster::new();
    cluster.client_extra = "poll_interval = \"1h\"\ncheck_interval = \"1h\"\n".to_owned();
    cluster.write_hosts(&[("web-1.test", 2)]);
    let file = |n| format!("  - file: /d/f{n}\n    content: \"{n}\\n\"\n");
    let files: String = (1..1000).map(file).collect();
    cluster.write_policy(&format!("resources:\n  - directory: /d\n{files}"));
    cluster.publish();
    let master = cluster.master();
    let mut client = cluster.client("web-1.test", 2);
    client.wait_line("revision 1: 1000 checked, 1000 changed, 0 failed, converged");
    let _ = cluster.until(&["reports"], |answer| answer["reports"][0]["changed"] == 1000);
    // Its last connection and its trims are done when its queue is empty and it is asked no more.
    quiet(&client);

    let calls = system_calls(&client, WATCHED);
    assert!(!calls.is_empty(), "strace saw no thread at all");
    // A thread's one unfinished call is what it waits in.
    let ended = |call: &&String| call.contains(" = ") || call.contains(" resumed>");
    let busy: Vec<_> = calls.iter().filter(ended).collect();
    assert!(busy.is_empty(), "{busy:#?}\nof\n{calls:#?}");
    let rss = rss_kib(&client);
    assert!(rss < CLIENT_RSS_MAX_KIB, "{rss} KiB resident");

    fs::remove_file(cluster.path("web-1.test/root/d/f500")).unwrap();
    client.wait_line("1 changed, 0 failed, converged");
    assert_eq!(cluster.read("web-1.test/root/d/f500"), "500\n");
    drop(master);
}

/// Waits until two looks at a process's clock, a second apart, are equal: it has come to rest.
fn quiet(daemon: &Daemon) {
    let mut last = u64::MAX;
    for _ in 0..60 {
        let now = cpu_ticks(daemon);
        if now == last {
            return;
        }
        last = now;
        // Rest is the absence of events: there is none to wait for.
        std::thread::sleep(Duration::from_secs(1));
    }
    panic!("it never comes to rest: {}", daemon.log());
}

/// A master that knows 10,000 hosts, and hears of none of them, uses no CPU time.
#[test]
fn s1_1_an_idle_master_with_ten_thousand_hosts_uses_no_cpu() {
    let cluster = Cluster::new();
    let names: Vec<String> = (0..10_000).map(|n| format!("h{n}.test")).collect();
    // They resolve, and nobody listens there; dials fail at once and are not tried again
    // before a host polls.
    let hosts: String =
        names.iter().map(|name| format!("{name} {}\n", cluster.client_addr(200))).collect();
    cluster.write("m/hosts", hosts);
    cluster.publish();
    let master = cluster.master();
    let _ = cluster.until(&["status"], |status| {
        status["hosts_known"] == 10_000
            && status["counters"]["dials_in_flight"] == 0
            && status["counters"]["dials_queued"] == 0
    });
    // Before it answers this it tells the result store what it has learned of hosts, and not a
    // second later, when it may look quiet already.
    let _ = cluster.json(&["reports"]);
    quiet(&master);
    let before = cpu_ticks(&master);
    std::thread::sleep(WATCHED);
    let used = cpu_ticks(&master) - before;
    assert_eq!(used, 0, "ticks of CPU time in {WATCHED:?}");
}
