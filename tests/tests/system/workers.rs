//! The load generator's workers in processes of their own.

use super::load::{loadgen, report};
use nix::sys::signal::Signal;
use std::process::Command;
use std::time::Duration;
use tests::system::{Daemon, binary, output};

const PATIENCE: Duration = Duration::from_secs(60);

/// A worker on a port of its own, and where it waits.
fn worker() -> (Daemon, String) {
    let mut command = Command::new(binary("loadgen"));
    let mut worker = Daemon::spawn(command.args(["worker", "--listen", "127.0.0.1:0"]));
    let line = worker.wait_line(" waits for a controller");
    let address = line.split(' ').next().unwrap().to_owned();
    (worker, address)
}

/// Which connections a process has, by what the kernel calls their files.
fn sockets(worker: &Daemon) -> usize {
    let files = std::fs::read_dir(format!("/proc/{}/fd", worker.pid())).unwrap();
    let names = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
    names.filter(|name| name.to_string_lossy().starts_with("socket:")).count()
}

#[test]
fn workers_of_two_processes_are_one_load() {
    let dir = tempfile::tempdir().unwrap();
    let (mut one, first) = worker();
    let (mut other, second) = worker();
    let workers = format!("{first},{second}");
    let arguments = ["storm", "--own-master", "--clients", "200", "--json", "--workers", &workers];
    // The second run finds them waiting again.
    for _ in 0..2 {
        let done = output(&mut loadgen(dir.path(), &arguments));
        let report = report(&done);
        assert_eq!(done.status.code(), Some(0), "{report:#}");
        assert_eq!(report["generator"]["workers"], 2);
        assert_eq!(report["phases"][0]["clients"]["done"], 200);
        let latencies = &report["phases"][0]["latencies"];
        for kind in ["bind", "assignment", "report"] {
            assert_eq!(latencies[kind]["count"], 200, "{kind}: {report:#}");
        }
        let truth = &report["truth"];
        assert_eq!((&truth["acked"], &truth["stored"]), (&200.into(), &200.into()), "{truth}");
        for worker in [&mut one, &mut other] {
            worker.wait_line("100 of 200 clients for");
            worker.wait_line(" waits for a controller");
        }
    }
}

/// A load that goes on for long, and its workers.
fn long_run(dir: &std::path::Path) -> (Daemon, [Daemon; 2]) {
    let ((mut one, first), (mut other, second)) = (worker(), worker());
    let workers = format!("{first},{second}");
    let arguments = ["steady", "--own-master", "--clients", "100", "--interval", "100ms"];
    let more = ["--for", "1h", "--workers", &workers];
    let run = Daemon::spawn(loadgen(dir, &arguments).args(more));
    one.wait_line("50 of 100 clients for");
    other.wait_line("50 of 100 clients for");
    (run, [one, other])
}

#[test]
fn a_run_whose_worker_is_killed_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (mut run, [one, mut other]) = long_run(dir.path());
    run.wait_line("100 of 100 bound");
    one.kill();
    let ended = run.wait_end(PATIENCE);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.log.contains("has gone in the middle of the run"), "{ended:?}");
    other.wait_line(" waits for a controller");
}

#[test]
fn a_worker_whose_run_is_killed_ends_its_clients_and_waits() {
    let dir = tempfile::tempdir().unwrap();
    let (mut run, mut workers) = long_run(dir.path());
    run.wait_line("100 of 100 bound");
    run.kill();
    for worker in &mut workers {
        worker.wait_line(" waits for a controller");
        assert_eq!(sockets(worker), 1, "it listens, and has no connection");
    }
}

/// No loop of the run's own process watches for them.
#[test]
fn a_run_with_workers_elsewhere_is_interrupted_by_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let (mut run, mut workers) = long_run(dir.path());
    run.wait_line("100 of 100 bound");
    run.signal(Signal::SIGINT);
    let ended = run.wait_end(PATIENCE);
    assert_eq!(ended.status.code(), Some(130), "{ended:?}");
    for worker in &mut workers {
        worker.wait_line(" waits for a controller");
    }
}
