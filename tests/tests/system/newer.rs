//! A newer assignment that comes while an action of the one before still runs.

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;
use std::fs;
use std::path::Path;
use tests::system::{Cluster, Daemon, output};

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
