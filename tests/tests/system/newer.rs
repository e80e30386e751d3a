//! A newer assignment that comes while an action of the one before still runs.

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;
use tests::system::{Cluster, Daemon, PATIENCE, output};

const HOST: &str = "web-1.test";

/// A policy whose action says through this pipe that it has begun, and ends when it is told to.
fn write_action(cluster: &Cluster, fifo: &Path, name: &str) {
    mkfifo(fifo, Mode::S_IRWXU).unwrap();
    cluster.write_policy(&format!(
        "resources:\n  - exec: {name}\n    command: [sh, -c, \"echo > {0}; cat {0}\"]\n  - file: /{name}\n    content: \"x\\n\"\n    requires: [exec {name}]\n",
        fifo.display()
    ));
}

/// A client that is in the middle of the action of revision 1.
fn client_in_action(cluster: &mut Cluster, fifo: &Path) -> (Daemon, Daemon) {
    cluster.client_extra = "allow_exec = true\n".to_owned();
    cluster.write_hosts(&[(HOST, 2)]);
    write_action(cluster, fifo, "first");
    cluster.publish();
    let master = cluster.master();
    let client = cluster.client(HOST, 2);
    fs::read(fifo).unwrap();
    (master, client)
}

/// The client is killed in the middle of a long action, when it has accepted a newer assignment:
/// started without a master, it applies the newer one.
#[test]
fn s2_22_a_newer_assignment_that_was_accepted_survives_a_kill_during_an_action() {
    let mut cluster = Cluster::new();
    let fifo = cluster.path("first");
    let (master, client) = client_in_action(&mut cluster, &fifo);
    let assignment = cluster.path(&format!("{HOST}/state/assignment"));
    let first = fs::read(&assignment).unwrap();
    cluster.write_policy("resources:\n  - file: /second\n    content: \"x\\n\"\n");
    cluster.publish();
    let until = Instant::now() + PATIENCE;
    // That it is stored nothing tells but the file itself.
    while fs::read(&assignment).unwrap() == first {
        assert!(Instant::now() < until, "it is not stored:\n{}", client.log());
        std::thread::yield_now();
    }
    client.kill();
    master.kill();
    // The action, where it has outlived the client, reads the end of its pipe.
    let mut end = File::options();
    drop(end.write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&fifo));
    let mut client = cluster.client(HOST, 2);
    client.wait_converged(2);
    assert!(cluster.root(HOST).join("second").exists());
}

fn host(answer: &Value) -> &Value {
    &answer["hosts"][0]
}

/// Neither the client nor the master takes a run that was cut short for one that was not.
#[test]
fn a_revision_that_was_cut_short_does_not_count_as_applied() {
    let mut cluster = Cluster::new();
    let (first, second) = (cluster.path("first"), cluster.path("second"));
    let (_master, mut client) = client_in_action(&mut cluster, &first);
    write_action(&cluster, &second, "second");
    cluster.publish();
    client.wait_line("revision 2 is assigned");
    // It is behind its manifest's fetch that the enforcer learns of it.
    let _ = cluster.until(&["hosts"], |answer| host(answer)["held"] == 2);
    fs::write(&first, "").unwrap();
    fs::read(&second).unwrap();
    let _ = cluster.until(&["reports"], |answer| {
        answer["reports"].to_string().contains("a newer assignment came: 1 resources")
    });
    let status = output(&mut cluster.client_command(HOST, 2, &["status", "--json"]));
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["daemon"]["counters"]["revision_applied"], 0, "{status}");
    let hosts = cluster.json(&["hosts"]);
    assert_eq!(host(&hosts)["applied"].as_u64().unwrap_or(0), 0, "{hosts}");
    fs::write(&second, "").unwrap();
    let _ = cluster.until(&["hosts"], |answer| host(answer)["applied"] == 2);
    assert!(!cluster.root(HOST).join("first").exists());
}
