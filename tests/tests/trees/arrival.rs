//! Whole trees arrive as they are, and the same again costs nothing.

use super::tree::{self, assert_same, distinct_bytes, stamps};
use super::watch::Watcher;
use super::{HOST, name, site, sizes_below, start};
use inotify::WatchMask;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Output};
use tests::system::{Cluster, Daemon, output};

const REAL_AND_ODD: &str = "
  - directory: /etc
    source: etc
    purge: true
  - directory: /doc
    source: doc
    purge: true
  - directory: /odd
    source: odd
    purge: true
";

/// Anything that a write, a change of metadata or a removal causes.
fn any_write() -> WatchMask {
    WatchMask::MODIFY
        | WatchMask::ATTRIB
        | WatchMask::CREATE
        | WatchMask::DELETE
        | WatchMask::MOVE
        | WatchMask::CLOSE_WRITE
}

#[test]
fn s1_7_s2_11_real_trees_arrive_whole_and_again_cost_no_byte_and_no_write() {
    let cluster = site(REAL_AND_ODD);
    let copied = tree::copy_real(&cluster.files());
    tree::make_odd(&cluster.files().join("odd"));
    assert!(copied > 100, "this machine has next to no files: {copied}");
    let first = cluster.publish();
    let _master = cluster.master();
    let mut clients: Vec<Daemon> = (0..3).map(|n| start(&cluster, n)).collect();
    for client in &mut clients {
        client.wait_converged(first);
    }
    for client in 0..3 {
        for dir in ["etc", "doc", "odd"] {
            assert_same(&cluster.files().join(dir), &cluster.root(&name(client)).join(dir));
        }
    }
    let before: Vec<_> = (0..3).map(|n| stamps(&cluster.root(&name(n)))).collect();
    let mut watchers: Vec<_> =
        (0..3).map(|n| Watcher::below(&cluster.root(&name(n)), any_write())).collect();
    let served = cluster.counter("blob_bytes");

    let second = cluster.publish_again();
    assert_eq!(second, first + 1);
    for client in &mut clients {
        let line = client.wait_converged(second);
        assert!(line.contains(" 0 changed, 0 failed"), "{line}");
    }
    assert_eq!(cluster.counter("blob_bytes"), served, "bytes of blobs for the same again");
    for (client, watcher) in watchers.iter_mut().enumerate() {
        let noticed = watcher.drain();
        assert!(noticed.is_empty(), "client {client} wrote: {:?}", &noticed[..1]);
        let after = stamps(&cluster.root(&name(client)));
        assert!(before[client] == after, "client {client} wrote something");
    }
}

#[test]
fn s1_7_what_three_clients_fetch_is_each_content_once() {
    let cluster = site("\n  - directory: /odd\n    source: odd\n");
    tree::make_odd(&cluster.files().join("odd"));
    let revision = cluster.publish();
    let _master = cluster.master();
    let mut clients: Vec<Daemon> = (0..3).map(|n| start(&cluster, n)).collect();
    for client in &mut clients {
        client.wait_converged(revision);
    }
    let contents = distinct_bytes(&cluster.files());
    // What else is in the cache: manifest, catalog and tree.
    let cached = sizes_below(&cluster.cache(&name(0)).join("blobs"));
    let served = cluster.counter("blob_bytes");
    assert_eq!(served, 3 * cached, "{contents} bytes of contents");
    assert!(cached > contents, "{cached} bytes in the cache, {contents} of contents");
}

#[test]
fn s1_4_a_cache_filled_by_other_means_needs_no_byte_from_the_master() {
    let cluster = site("\n  - directory: /odd\n    source: odd\n");
    tree::make_odd(&cluster.files().join("odd"));
    let revision = cluster.publish();
    let _master = cluster.master();
    start(&cluster, 0).wait_converged(revision);
    let served = cluster.counter("blob_bytes");
    // What any file server would give: the master's own directory of blobs, as it lies there.
    let from = stored_blobs(&cluster);
    let to = cluster.cache(&name(1)).join("blobs");
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    let copied = Command::new("cp").arg("-r").args([&from, &to]).status().unwrap();
    assert!(copied.success());
    start(&cluster, 1).wait_converged(revision);
    assert_eq!(cluster.counter("blob_bytes"), served);
    assert_same(&cluster.root(&name(0)), &cluster.root(&name(1)));
}

fn apply(cluster: &Cluster, arguments: &[&str]) -> Output {
    output(&mut cluster.client_command(&name(0), HOST, &[&["apply"], arguments].concat()))
}

fn stored_blobs(cluster: &Cluster) -> std::path::PathBuf {
    master::release::ReleaseStore::new(cluster.path("m/state")).blobs_dir()
}

#[test]
fn s2_12_a_dry_run_of_a_tree_shows_its_drift_and_writes_nothing() {
    let cluster = site("\n  - directory: /odd\n    source: odd\n    purge: true\n");
    tree::make_odd(&cluster.files().join("odd"));
    let revision = cluster.publish();
    let _master = cluster.master();
    let mut client = start(&cluster, 0);
    client.wait_converged(revision);
    client.kill();
    let root = cluster.root(&name(0));
    fs::write(root.join("odd/a"), "drifted\n").unwrap();
    fs::remove_file(root.join("odd/a-b")).unwrap();
    fs::write(root.join("odd/stray"), "").unwrap();
    let before = stamps(&root);
    let mut watcher = Watcher::below(&root, any_write());

    let dry = apply(&cluster, &["--once", "--dry-run"]);
    let shown = String::from_utf8(dry.stdout).unwrap();
    for line in ["-drifted", "+file 11", "/odd/a-b", "/odd/stray: a file -> absent"] {
        assert!(shown.contains(line), "{line:?} is not in\n{shown}");
    }
    assert!(watcher.drain().is_empty());
    assert!(before == stamps(&root));

    assert!(apply(&cluster, &["--once"]).status.success());
    assert_same(&cluster.files().join("odd"), &root.join("odd"));
}

#[test]
fn s2_11_owners_are_those_of_the_policy_where_it_says_so() {
    if !nix::unistd::geteuid().is_root() {
        // Without root there is nobody to give a file to: that is another test's matter.
        return;
    }
    let resources = "
  - directory: /given
    source: odd
    owner: daemon
    group: sys
  - file: /kept
    content: kept
    mode: \"4750\"
    owner: nobody
";
    let cluster = site(resources);
    tree::make_odd(&cluster.files().join("odd"));
    let revision = cluster.publish();
    let _master = cluster.master();
    let mut client = start(&cluster, 0);
    client.wait_converged(revision);
    let (daemon, sys) = (account("/etc/passwd", "daemon"), account("/etc/group", "sys"));
    tree::walk(&cluster.root(&name(0)).join("given"), &mut |_, path, meta| {
        if !meta.is_symlink() {
            assert_eq!((meta.uid(), meta.gid()), (daemon, sys), "{}", path.display());
        }
    });
    let kept = fs::metadata(cluster.root(&name(0)).join("kept")).unwrap();
    assert_eq!((kept.uid(), kept.mode() & 0o7777), (account("/etc/passwd", "nobody"), 0o4750));
    let before = stamps(&cluster.root(&name(0)));
    let again = cluster.publish_again();
    client.wait_converged(again);
    assert!(before == stamps(&cluster.root(&name(0))));
}

/// The number of a name in `/etc/passwd` or `/etc/group`.
fn account(file: &str, name: &str) -> u32 {
    let text = fs::read_to_string(file).unwrap();
    let line = text.lines().find(|l| l.split(':').next() == Some(name)).unwrap();
    line.split(':').nth(2).unwrap().parse().unwrap()
}
