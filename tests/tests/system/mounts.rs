//! What is mounted below a managed directory is not the client's to empty.

use nix::sys::signal::Signal;
use std::fs;
use std::process::Command;
use tests::system::{Cluster, PATIENCE, binary, output};

/// Both a file system of its own and a directory that is mounted a second time: that one's device
/// is the same.
#[test]
fn what_is_mounted_below_a_purged_or_absent_directory_keeps_its_content() {
    let cluster = Cluster::new();
    cluster.write_hosts(&[("web-1.test", 2)]);
    cluster.write_policy(
        "resources:\n  - directory: /purged\n    purge: true\n  - absent: /gone\n  - absent: /deep\n",
    );
    cluster.publish();
    let _master = cluster.master();
    let mut client = cluster.client("web-1.test", 2);
    client.wait_line("converged");
    client.signal(Signal::SIGTERM);
    assert!(client.wait_end(PATIENCE).status.success());

    let root = cluster.root("web-1.test");
    let kept = cluster.path("kept");
    let mounts = ["purged/own", "purged/again", "gone", "deep/down/again"];
    for directory in mounts.map(|mount| root.join(mount)).iter().chain([&kept]) {
        fs::create_dir_all(directory).unwrap();
    }
    fs::write(kept.join("precious"), "x").unwrap();
    fs::write(root.join("purged/stray"), "x").unwrap();
    let run = |arguments: &str| {
        let mut command = Command::new("unshare");
        if !nix::unistd::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        let script = format!(
            "cd \"$1\"; mount -t tmpfs tmpfs purged/own; echo x > purged/own/precious; \
             for at in purged/again gone deep/down/again; do mount --bind \"$2\" $at; done; \
             \"$3\" apply --once {arguments} --config \"$4\" || echo \"status $?\"; \
             ls purged/own purged/again gone deep/down/again"
        );
        command.args(["--mount", "--propagation", "private", "sh", "-ec", &script, "sh"]);
        command.args([&root, &kept, &binary("drover-client")]);
        command.arg(cluster.client_config("web-1.test", 2));
        let done = output(&mut command);
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    for arguments in ["--dry-run", ""] {
        let says = run(arguments);
        assert_eq!(says.matches("precious").count(), 4, "{says}");
        for mount in ["/purged/own", "/gone"] {
            let told = format!("a file system is mounted at {mount}: nothing in it is removed");
            assert!(says.contains(&told), "no {told:?} in {arguments:?}:\n{says}");
        }
        // The directory itself, and three that do not belong there.
        assert!(says.contains("2 of 4 entries failed"), "{says}");
        assert_eq!(root.join("purged/stray").exists(), !arguments.is_empty(), "{says}");
    }
    assert!(kept.join("precious").exists());
}
