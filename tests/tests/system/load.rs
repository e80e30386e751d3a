//! The load generator as a process, with a master of its own.

use nix::sys::signal::Signal;
use serde_json::Value;
use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use tests::system::{Daemon, binary, output};

/// `loadgen` with a master of its own, below a directory of the test.
pub(super) fn loadgen(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("loadgen"));
    command.args(arguments);
    // Its port is whatever is free: other tests load their masters at the same time.
    command.args(["--own-dir"]).arg(dir).args(["--port", "0"]);
    command
}

pub(super) fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn entries(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().flatten();
    let mut names: Vec<_> = names.map(|e| e.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_storm_on_a_master_of_its_own_leaves_a_report_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let arguments = ["storm", "--own-master", "--clients", "200", "--workers", "3", "--json"];
    let done = output(loadgen(dir.path(), &arguments).arg("--out").arg(&out));
    let report = report(&done);
    assert_eq!(done.status.code(), Some(0), "{report:#}");
    assert_eq!(report["generator"]["workers"], 3);
    assert_eq!(report["truth"]["acked"], report["truth"]["stored"]);
    assert_eq!(report["phases"][0]["clients"]["done"], 200);
    assert_eq!(
        report["phases"][0]["latencies"]["assignment"]["count"], 200,
        "nobody had it before: {report:#}"
    );
    assert!(report["samples"][0]["process"]["cpu_us"]["reactor"].is_u64(), "the master was seen");
    let wanted = ["junit.xml", "latency.hlog", "report.html", "report.json", "seconds.csv"];
    assert_eq!(entries(&out), wanted);
    assert_eq!(entries(dir.path()), ["out"], "the master and its files are gone");
    // A run is the same as itself.
    let json = out.join("report.json");
    let same = output(Command::new(binary("loadgen")).arg("compare").args([&json, &json]));
    assert_eq!(same.status.code(), Some(0), "{same:?}");
}

#[test]
fn s1_1_a_master_that_is_killed_under_load_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = [
        "steady",
        "--own-master",
        "--clients",
        "100",
        "--interval",
        "500ms",
        "--for",
        "4s",
        "--reports-per-poll",
        "1",
        "--kill-master",
        "1s",
        "--json",
    ];
    let done = output(&mut loadgen(dir.path(), &arguments));
    let report = report(&done);
    assert_eq!(done.status.code(), Some(0), "{report:#}");
    assert!(report["master_kills"].as_u64().unwrap() >= 2, "{report:#}");
    let truth = &report["truth"];
    assert!(truth["acked"].as_u64().unwrap() >= 800, "{truth}");
    assert_eq!((truth["lost"].as_u64(), truth["doubled"].as_u64()), (Some(0), Some(0)));
}

/// Wrong answers lead the master to another client, which takes nothing; and all are done in the
/// end, however often it has to ask.
#[test]
fn s1_12_a_faulty_name_service_brings_no_client_what_is_meant_for_another() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = [
        "steady",
        "--own-master",
        "--clients",
        "100",
        "--interval",
        "1s",
        "--expect-revision",
        "1",
        "--until-all",
        "--dns",
        "--dns-faults",
        "slow=5%@300ms,nxdomain=5%,wrong=8%,duplicate=10%,changing=10%",
        "--json",
    ];
    let done = output(&mut loadgen(dir.path(), &arguments));
    let report = report(&done);
    assert_eq!(done.status.code(), Some(0), "{report:#}");
    assert_eq!(report["phases"][0]["clients"]["done"], 100);
    let names = &report["names"];
    for kind in ["slow", "nxdomain", "wrong", "duplicate", "changing"] {
        assert!(names[kind].as_u64().unwrap() > 0, "{kind}: {names}");
    }
    assert_eq!(names["strange"], 0, "{names}");
    assert!(names["questions"].as_u64().unwrap() >= 100, "{names}");
    let misdirected = report["phases"][0]["messages"]["misdirected"].as_u64().unwrap();
    assert!(misdirected > 0, "a wrong address led to another client: {report:#}");
    let checks = report["checks"].as_array().unwrap();
    let what = "no client takes what is meant for another";
    assert!(checks.iter().any(|check| check["what"] == what), "{checks:#?}");
}

/// All that comes at once stands at once: how many did, and whether any of them was given up,
/// counts; how long it took is told, and no reason to fail.
#[test]
fn s1_28_a_storm_tells_how_many_connections_stood_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["storm", "--own-master", "--clients", "400", "--json"];
    let done = output(&mut loadgen(dir.path(), &arguments));
    let report = report(&done);
    assert_eq!(done.status.code(), Some(0), "{report:#}");
    let connections = &report["phases"][0]["connections"];
    let most = connections["generator_most"].as_u64().unwrap();
    // A client delivers to be bound, to poll and to report, and is dialled for the answers to the
    // first two; each of these stands until the other side has seen its end, so all may at once.
    assert!((100..=5 * 400).contains(&most), "{connections}");
    assert!(connections["master_most"].as_u64().unwrap() > 0, "{connections}");
    assert_eq!(connections["timeouts"], 0, "{connections}");
    assert!(report["phases"][0]["latencies"]["bind"]["max_us"].as_u64().unwrap() > 0, "{report:#}");
}

/// A master that is gone is not waited for, and a run of which nothing would be judged not begun.
#[test]
fn a_master_of_its_own_that_ends_ends_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["steady", "--own-master", "--clients", "20", "--interval", "200ms"];
    let mut load = loadgen(dir.path(), &arguments);
    load.args(["--for", "5m", "--json"]);
    let child = load.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = child.spawn().unwrap();
    let mut told = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains(" bound, ") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut told, &mut line).unwrap() > 0, "it ended");
    }
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let master = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(master), Signal::SIGKILL).unwrap();
    let all = std::thread::spawn(move || std::io::copy(&mut told, &mut std::io::sink()));
    let done = child.wait_with_output().unwrap();
    all.join().unwrap().unwrap();
    let report = report(&done);
    assert_eq!(done.status.code(), Some(6), "{report:#}");
    assert_eq!(report["outcome"], "unreachable", "{report:#}");

    let nothing = ["steady", "--own-master", "--for", "2s", "--warm-up", "3s"];
    let done = output(&mut loadgen(dir.path(), &nothing));
    assert_eq!(done.status.code(), Some(2), "{done:?}");
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(told.contains("nothing of the phase steady would be judged"), "{told}");
}

#[test]
fn s1_65_cpu_and_io_of_master_and_generator_are_told_apart() {
    // Where the build lies is a disk; a temporary directory may be memory.
    let dir = binary("loadgen").parent().unwrap().to_owned();
    let dir = tempfile::tempdir_in(dir).unwrap();
    let load =
        ["--clients", "100", "--interval", "200ms", "--for", "3s", "--reports-per-poll", "1"];
    let journal = dir.path().join("journal");
    let mut command = loadgen(dir.path(), &["steady", "--own-master", "--json"]);
    let done = output(command.args(load).arg("--journal").arg(&journal));
    let report = report(&done);
    assert_eq!(done.status.code(), Some(0), "{report:#}");
    let samples = report["samples"].as_array().unwrap();
    let (first, last) = (&samples[0]["process"], &samples[samples.len() - 1]["process"]);
    let since = |name: &str| last[name].as_u64().unwrap() - first[name].as_u64().unwrap();
    // 1,500 reports, in the log and in the result store.
    assert!(since("written_bytes") >= 2 * 1500 * 200, "{first} {last}");
    let cpu = |process: &Value, thread: &str| process["cpu_us"][thread].as_u64().unwrap();
    assert!(cpu(last, "reactor") > cpu(first, "reactor"), "{first} {last}");
    assert!(cpu(last, "sink") > 0 && last["cpu_us"]["store"].is_u64(), "{last}");
    let own = &report["generator"];
    let journal = journal.metadata().unwrap().len();
    assert!(own["cpu_s"].as_f64().unwrap() > 0.0, "{own}");
    assert!(own["written_bytes"].as_u64().unwrap() >= journal, "{own}");
}

/// An operator looks at a master that is stormed: the counters come, and tell what goes on.
#[test]
fn s1_70_counters_are_read_while_thousands_connect() {
    const CLIENTS: u64 = 3000;
    let dir = tempfile::tempdir().unwrap();
    // So long that a look falls into it.
    let arguments = ["storm", "--own-master", "--clients", "3000", "--within", "1s"];
    let mut run = Daemon::spawn(&mut loadgen(dir.path(), &arguments));
    run.wait_line("3000 clients of");
    let config = dir.path().join(&entries(dir.path())[0]).join("master.toml");
    let mut ask = Command::new(binary("drover"));
    ask.args(["status", "--json", "--config"]).arg(config);
    let mut looks = Vec::new();
    loop {
        let done = output(&mut ask);
        // The load is over, and its master with it.
        let Ok(status) = serde_json::from_slice::<Value>(&done.stdout) else { break };
        looks.push(status["counters"].clone());
    }
    let ended = run.wait_end(Duration::from_secs(60));
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let count = |look: &Value, name: &str| look[name].as_u64().unwrap_or(0);
    let stormed = |look: &&Value| (1..CLIENTS).contains(&count(look, "frames_in_Poll"));
    let midst = looks.iter().find(stormed).unwrap_or_else(|| panic!("none in it: {looks:#?}"));
    // Connections by use, dials, queues, the loop, and what came by its kind.
    for name in [
        "connections",
        "connections_inbound",
        "connections_downstream",
        "dials_in_flight",
        "dials_queued",
        "inbox_uncommitted",
        "inbox_parked",
        "inbox_waiting",
        "stalls",
        "lag_p99_us",
        "lag_max_us",
    ] {
        assert!(midst[name].is_u64(), "{name} is not told: {midst:#}");
    }
    let most = looks.iter().map(|look| count(look, "connections_inbound")).max();
    assert!(most > Some(0), "no look saw a client: {looks:#?}");
    assert!(count(midst, "accepted") > 0 && count(midst, "frames_in_BindReq") > 0, "{midst:#}");
}

/// Nobody is left to end it: a load that goes on would be charged to the next one.
#[test]
fn a_master_of_its_own_ends_with_a_generator_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let arguments =
        ["steady", "--own-master", "--clients", "20", "--interval", "200ms", "--for", "10m"];
    let mut run = Daemon::spawn(&mut loadgen(dir.path(), &arguments));
    run.wait_line("20 of 20 bound");
    let own = entries(dir.path());
    let control = dir.path().join(&own[0]).join("control.sock");
    let mut connection = UnixStream::connect(&control).unwrap();
    run.signal(Signal::SIGKILL);
    let killed = run.wait_end(Duration::from_secs(30));
    assert_eq!(killed.status.signal(), Some(Signal::SIGKILL as i32));
    // The kernel closes what the master had open. By itself the master would do so in a minute.
    connection.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let ended = connection.read(&mut [0]).map_err(|error| error.kind());
    assert!(matches!(ended, Ok(0) | Err(ErrorKind::ConnectionReset)), "{ended:?}: it still runs");
    // It closes them one after another, the listener perhaps last.
    let until = Instant::now() + Duration::from_secs(30);
    while UnixStream::connect(&control).is_ok() {
        assert!(Instant::now() < until, "somebody still listens");
    }
}

#[test]
fn s1_66_a_slow_disk_is_named_as_what_binds_the_master() {
    let dir = tempfile::tempdir().unwrap();
    let load =
        ["--clients", "200", "--interval", "500ms", "--for", "5s", "--reports-per-poll", "1"];
    let arguments = ["steady", "--own-master", "--slow-disk", "20ms", "--json"];
    let done = output(loadgen(dir.path(), &arguments).args(load));
    let report = report(&done);
    assert_eq!(done.status.code(), Some(0), "{report:#}");
    let constraint = &report["phases"][0]["constraint"];
    assert_eq!(constraint["resource"], "commit_wait", "{constraint}");
    assert!(constraint["used"].as_f64().unwrap() >= 0.85, "it binds: {constraint}");
    let last = report["samples"].as_array().unwrap().last().unwrap();
    assert!(last["said"]["commit_p99_us"].as_u64().unwrap() >= 20_000, "{last}");
}

/// The generator is stopped for longer than the bound: what it measured is its own sleep.
#[test]
fn a_generator_that_was_stopped_says_that_its_figures_do_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = [
        "steady",
        "--own-master",
        "--clients",
        "50",
        "--interval",
        "200ms",
        "--for",
        "6s",
        "--slo",
        "p99=400ms",
    ];
    let mut command = loadgen(dir.path(), &arguments);
    let mut run = Daemon::spawn(&mut command);
    run.wait_line("50 of 50 bound");
    run.signal(Signal::SIGSTOP);
    // Nothing happens that could be awaited: it is time itself that has to pass.
    std::thread::sleep(Duration::from_millis(900));
    run.signal(Signal::SIGCONT);
    let ended = run.wait_end(Duration::from_secs(60));
    assert_eq!(ended.status.code(), Some(5), "{ended:?}");
}
