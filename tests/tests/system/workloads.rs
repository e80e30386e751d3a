//! The workloads of the load generator, each as a process with a master of its own.

use super::load::{loadgen, report};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tests::system::{Daemon, output};

/// Runs one that is to reach its goal.
fn reached(dir: &Path, arguments: &[&str]) -> Value {
    let mut all = arguments.to_vec();
    all.extend(["--own-master", "--json"]);
    let done = output(&mut loadgen(dir, &all));
    let report = report(&done);
    assert_eq!(done.status.code(), Some(0), "{report:#}");
    assert_eq!(report["truth"]["acked"], report["truth"]["stored"], "{report:#}");
    report
}

fn phase<'a>(report: &'a Value, name: &str) -> &'a Value {
    let phases = report["phases"].as_array().unwrap();
    let found = phases.iter().find(|phase| phase["name"] == name);
    found.unwrap_or_else(|| panic!("no phase {name}: {report:#}"))
}

#[test]
fn a_push_reaches_everybody_without_a_poll() {
    let dir = tempfile::tempdir().unwrap();
    let report = reached(dir.path(), &["push", "--clients", "100"]);
    let push = phase(&report, "push");
    assert_eq!(push["latencies"]["push"]["count"], 100, "{push:#}");
    assert_eq!(
        (&push["messages"]["polls"], &push["messages"]["reports"]),
        (&0.into(), &100.into())
    );
}

#[test]
fn s1_68_a_release_is_fetched_by_all_and_all_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let report = reached(dir.path(), &["release", "--clients", "50", "--size", "1MiB"]);
    let distribute = phase(&report, "distribute");
    assert_eq!(distribute["latencies"]["fetch"]["count"], 50, "{distribute:#}");
    let fetched = distribute["messages"]["fetched_bytes"].as_u64().unwrap();
    // Each fetches the file, a manifest and a catalog, and nothing twice.
    assert!((50 << 20..(50 << 20) + (50 << 12)).contains(&fetched), "{fetched}");
    let reconnect = phase(&report, "reconnect");
    assert_eq!(reconnect["clients"]["done"], 50, "{reconnect:#}");
    assert_eq!(reconnect["latencies"]["bind"]["count"], 50, "{reconnect:#}");
    for phase in [distribute, reconnect] {
        assert_eq!(phase["connections"]["timeouts"], 0, "{phase:#}");
    }
}

#[test]
fn s1_71_all_come_back_to_a_master_that_starts_again() {
    let dir = tempfile::tempdir().unwrap();
    for way in [&["--within", "1s"][..], &["--no-backoff"]] {
        let report = reached(dir.path(), &[&["cold-start", "--clients", "100"], way].concat());
        let start = phase(&report, "cold-start");
        assert_eq!((&report["master_kills"], &start["clients"]["done"]), (&1.into(), &100.into()));
        // Who was fast is bound to the master that is killed, and then to the next.
        assert!(start["latencies"]["bind"]["count"].as_u64().unwrap() >= 100, "{start:#}");
    }
}

#[test]
fn a_flood_of_reports_keeps_to_its_rate_and_its_sizes() {
    let dir = tempfile::tempdir().unwrap();
    let flood =
        ["--rate", "500", "--for", "2s", "--size", "2KiB", "--burst", "5", "--failed", "50"];
    let report = reached(dir.path(), &[&["reports", "--clients", "100"], &flood[..]].concat());
    let flood = phase(&report, "reports");
    assert_eq!(flood["messages"]["reports"], 1000, "{flood:#}");
    assert_eq!(report["truth"]["acked"], 1100, "and one of each for its manifest");
}

/// Churn, bad peers of all kinds, a publication and a restart on one timeline.
#[test]
fn a_scenario_from_a_file_plays_all_that_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("evening.toml");
    let text = r#"
        name = "evening"
        clients = 60
        [[phase]]
        name = "bind"
        judged = false
        restart = "500ms"
        polls = {}
        revision = 1
        [[phase]]
        name = "evening"
        for = "4s"
        polls = { every = "1s", random = true }
        reports = { rate = 60, failed_percent = 10 }
        churn = { percent_per_minute = 100, away = "500ms" }
        newer = true
        master = [{ at = "1s", publish = "0B" }, { at = "2s", restart = true }]
        bad_peers = [
            "slow-reader=3@0", "slow-writer=3", "half-open=3", "reset=3", "garbage=3",
            "wrong-length=3", "replay=3", "duplicate-name=4", "spoofed-name=3",
        ]
    "#;
    std::fs::write(&file, text).unwrap();
    let report = reached(dir.path(), &["run", file.to_str().unwrap()]);
    assert_eq!((&report["scenario"], &report["clients"]), (&"evening".into(), &60.into()));
    let evening = phase(&report, "evening");
    assert_eq!((&evening["clients"]["holding"], &report["master_kills"]), (&60.into(), &1.into()));
    assert!(evening["messages"]["leaves"].as_u64().unwrap() > 0, "{evening:#}");
    let peers = evening["peers"].as_array().unwrap();
    assert_eq!(peers.len(), 9);
    for bad in peers {
        assert!(bad["connected"].as_u64().unwrap() > 0, "{bad}");
        assert_eq!(bad["leaked"], 0, "{bad}");
    }
    let replay = peers.iter().find(|peers| peers["badness"] == "replay").unwrap();
    assert!(replay["acks"].as_u64().unwrap() > 0, "{replay}");
}

/// Half a crowd asks without reading the answers, and sends no whole frame: the good ones do not
/// notice. Whether their p99 holds is for benches/: here nobody fails.
#[test]
fn good_clients_do_not_fail_beside_bad_ones() {
    let dir = tempfile::tempdir().unwrap();
    let load = ["--clients", "50", "--interval", "500ms", "--for", "2s", "--factor", "1000"];
    let bad = ["--bad-peers", "slow-reader=30@0", "--bad-peers", "slow-writer=30"];
    let report = reached(dir.path(), &[&["beside"], &load[..], &bad].concat());
    for name in ["alone", "slow-reader", "slow-writer"] {
        assert_eq!(phase(&report, name)["failures"], serde_json::json!({}), "{report:#}");
    }
}

#[test]
fn s1_63_a_search_tells_what_each_message_costs() {
    let dir = tempfile::tempdir().unwrap();
    let search = ["capacity", "--question", "push", "--clients", "150", "--budget", "1s", "--json"];
    let done = output(&mut loadgen(dir.path(), &search));
    let answer: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(0), "{answer:#}");
    assert_eq!((&answer["question"], &answer["carried"]), (&"push".into(), &150.into()));
    let step = &answer["steps"][0];
    assert_eq!(step["latency"]["count"], 150, "{step:#}");
    assert!(step["master_us_each"].as_f64().unwrap() > 0.0, "{step:#}");
    assert!(step["master_bytes"].as_u64().unwrap() > 0, "{step:#}");
    assert_eq!(answer["truth"]["lost"], 0, "{answer:#}");
}

/// Who ends a group of processes, as `timeout` does, sends two signals at once.
#[test]
fn two_signals_at_once_end_with_the_report_so_far_and_leave_nothing_behind() {
    for what in [&["steady", "--for", "10m", "--own-master"][..], &["capacity", "--quick"]] {
        let dir = tempfile::tempdir().unwrap();
        let arguments = [what, &["--clients", "100", "--json"]].concat();
        let mut run = Daemon::spawn(&mut loadgen(dir.path(), &arguments));
        run.wait_line("100 clients of 1 worker(s) for");
        run.signal(Signal::SIGINT);
        run.signal(Signal::SIGTERM);
        let ended = run.wait_end(Duration::from_secs(60));
        assert_eq!(ended.status.code(), Some(130), "{what:?}: {ended:?}");
        let left = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, 0, "{what:?} leaves its master's directory: {ended:?}");
    }
}

/// Its disk is a small file system in a mount namespace of the test's own.
#[test]
fn a_master_whose_disk_is_full_is_named_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let reports = ["reports", "--own-master", "--clients", "50", "--rate", "1000"];
    let size = ["--size", "32KiB", "--for", "5s", "--timeout", "3s", "--json"];
    // Beside other tests the generator may be late, which is not what is asked here.
    let lenient = ["--slo", "p99=60s"];
    let load = loadgen(dir.path(), &[&reports[..], &size, &lenient].concat());
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command
        .args(["--mount", "--propagation", "private", "sh", "-ec"])
        .arg("mount -t tmpfs -o size=64m tmpfs \"$1\" && shift && exec \"$@\"")
        .args([OsStr::new("sh"), dir.path().as_os_str(), load.get_program()])
        .args(load.get_args());
    let done = output(&mut command);
    let report = report(&done);
    assert_eq!(done.status.code(), Some(3), "{report:#}");
    let summary = report["summary"].as_str().unwrap();
    assert!(summary.contains("the master warned: no reports are accepted"), "{summary}");
    assert!(summary.contains("is full"), "{summary}");
}
