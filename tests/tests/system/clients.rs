//! What a client tells its operator when something is wrong, while it goes on.

use crate::mistakes::scribble;
use nix::sys::signal::Signal;
use std::fs;
use tests::system::{Cluster, Daemon, PATIENCE, output, start_client};

/// Its whole log.
fn stop(client: Daemon) -> String {
    client.signal(Signal::SIGTERM);
    client.wait_end(PATIENCE).log
}

/// What a client cannot read is no reason to leave the host to itself: it says so, keeps it,
/// and goes on.
#[test]
fn a_client_with_a_damaged_state_goes_on_and_keeps_what_it_cannot_read() {
    let cluster = Cluster::new();
    cluster.write_hosts(&[("web-1.test", 2)]);
    cluster.write_policy("resources:\n  - file: /f\n    content: \"1\\n\"\n");
    cluster.publish();
    let master = cluster.master();
    let mut client = cluster.client("web-1.test", 2);
    client.wait_line("converged");
    stop(client);
    drop(master);
    scribble(&cluster.path("web-1.test/state/outbox/data.mdb"));
    fs::remove_file(cluster.root("web-1.test").join("f")).unwrap();
    let mut client = cluster.client("web-1.test", 2);
    client.wait_line("converged");
    let log = stop(client);
    assert!(log.contains("the queue of reports is damaged"), "{log}");
    let state = fs::read_dir(cluster.path("web-1.test/state")).unwrap();
    let kept = state.map(|e| e.unwrap().file_name().into_string().unwrap());
    assert!(kept.into_iter().any(|name| name.starts_with("outbox.damaged-")));

    let unreached = format!("{}: connection refused: nobody listens there; ", cluster.master_addr);
    // Whoever reads the log learns once what is wrong, and nothing that contradicts it.
    let told_at_start = |wrong: &str| {
        let mut client = cluster.client("web-1.test", 2);
        client.wait_line("the master cannot be reached");
        let log = stop(client);
        assert_eq!(log.matches(&unreached).count(), 1, "{log}");
        assert!(log.contains(&format!("{unreached}nothing is enforced until then; ")), "{log}");
        assert!(!log.contains("stays enforced"), "{log}");
        assert_eq!(log.matches(wrong).count(), 1, "{log}");
        assert_eq!(log.matches("WARN").count() + log.matches("ERROR").count(), 2, "{log}");
    };
    let assignment = cluster.path("web-1.test/state/assignment");
    let good = fs::read(&assignment).unwrap();
    scribble(&assignment);
    told_at_start(
        "is damaged, and nothing is enforced until the daemon's next poll brings another",
    );
    fs::write(&assignment, good).unwrap();
    for directory in fs::read_dir(cluster.cache("web-1.test").join("blobs")).unwrap() {
        for blob in fs::read_dir(directory.unwrap().path()).unwrap() {
            scribble(&blob.unwrap().path());
        }
    }
    told_at_start("the assignment that is held cannot be enforced: blob ");
}

/// What can never work is told at once, and not only when it has not.
#[test]
fn a_client_that_can_never_apply_anything_says_so_at_its_start() {
    let cluster = Cluster::new();
    let config = cluster.client_config("web-1.test", 2);
    let good = fs::read_to_string(&config).unwrap();
    let lines = good.lines().filter(|line| !line.starts_with("trusted_keys"));
    let changed: Vec<&str> = lines.collect();
    fs::write(&config, changed.join("\n") + "\n").unwrap();
    fs::remove_dir(cluster.root("web-1.test")).unwrap();
    let log = stop(start_client(&config));
    for says in ["no key is trusted", "trusted_keys", "is not there, so nothing can be applied"] {
        assert!(log.contains(says), "{says}: {log}");
    }
}

/// Its log and its status say what it is that keeps it from getting anything.
#[test]
fn a_client_that_is_not_in_the_inventory_learns_it() {
    let cluster = Cluster::new();
    cluster.write("m/site/hosts.yaml", "hosts:\n  - host: other.test\n    groups: [everyone]\n");
    cluster.publish();
    let _master = cluster.master();
    let mut client = cluster.client("stranger.test", 3);
    let says = "does not have `stranger.test` in its inventory: add it to hosts.yaml and publish, or set `name`";
    client.wait_line(says);
    let status = output(&mut cluster.client_command("stranger.test", 3, &["status"]));
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(status.contains(&format!("the master {} {says}", cluster.master_addr)), "{status}");
    assert_eq!(stop(client).matches(says).count(), 1);
}
