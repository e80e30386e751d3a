//! The client's cache: damage is found, what is needed no more goes.

use super::tree::{self, assert_same, entries};
use super::watch::Watcher;
use super::{name, site, sizes_below, start};
use engine::ids::BlobHash;
use inotify::WatchMask;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

fn blob_path(cache: &Path, content: &[u8]) -> PathBuf {
    let hex = BlobHash::of(content).to_hex();
    cache.join("blobs").join(&hex[..2]).join(&hex[2..])
}

/// The blobs in a cache, each checked to be what its name says.
fn whole_blobs(cache: &Path) -> BTreeSet<BlobHash> {
    let mut found = BTreeSet::new();
    tree::walk(&cache.join("blobs"), &mut |below, path, meta| {
        if meta.is_file() {
            let hex: Vec<u8> = below.iter().copied().filter(|b| *b != b'/').collect();
            let hash = BlobHash::from_hex(std::str::from_utf8(&hex).unwrap()).unwrap();
            assert_eq!(BlobHash::of(&fs::read(path).unwrap()), hash);
            found.insert(hash);
        }
    });
    found
}

/// The blobs of the contents of files below a directory.
fn contents(top: &Path) -> BTreeSet<BlobHash> {
    let mut found = BTreeSet::new();
    tree::walk(top, &mut |_, path, meta| {
        if meta.is_file() {
            found.insert(BlobHash::of(&fs::read(path).unwrap()));
        }
    });
    found
}

#[test]
fn s1_5_a_flipped_byte_in_the_cache_is_fetched_again_and_never_placed() {
    let cluster = site("\n  - file: /motd\n    source: motd\n");
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(cluster.files().join("motd"), &content).unwrap();
    let revision = cluster.publish();
    let _master = cluster.master();
    let mut client = start(&cluster, 0);
    client.wait_converged(revision);
    let served = cluster.counter("blob_bytes");

    let blob = blob_path(&cluster.cache(&name(0)), &content);
    let mut damaged = content.clone();
    damaged[777_777] ^= 1;
    fs::write(&blob, &damaged).unwrap();
    let motd = cluster.root(&name(0)).join("motd");
    let mut placed = Watcher::below(motd.parent().unwrap(), WatchMask::MOVED_TO);
    fs::remove_file(&motd).unwrap();

    let mut contents = Vec::new();
    placed.await_event(|event| {
        contents.push(fs::read(&event.path).unwrap());
        true
    });
    client.wait_converged(revision);
    assert!(contents.iter().all(|c| *c == content), "damaged bytes were placed");
    assert_eq!(fs::read(&motd).unwrap(), content);
    assert_eq!(fs::read(&blob).unwrap(), content);
    assert_eq!(cluster.counter("blob_bytes"), served + content.len() as u64);
}

#[test]
fn s1_6_after_the_next_revision_the_cache_holds_what_it_needs_and_no_more() {
    let cluster = site("\n  - directory: /odd\n    source: odd\n    purge: true\n");
    let source = cluster.files().join("odd");
    tree::make_odd(&source);
    let first = cluster.publish();
    let _master = cluster.master();
    let mut client = start(&cluster, 0);
    client.wait_converged(first);
    let all = whole_blobs(&cluster.cache(&name(0)));
    assert!(contents(&source).is_subset(&all));

    fs::remove_dir_all(source.join("wide")).unwrap();
    let second = cluster.publish();
    client.wait_line("are not needed any more and were removed");
    let left = whole_blobs(&cluster.cache(&name(0)));
    let needed = contents(&source);
    assert!(needed.is_subset(&left), "a blob that is needed is gone");
    // Manifest, catalog and tree.
    assert_eq!(left.len(), needed.len() + 3);
    client.kill();
    start(&cluster, 0).wait_converged(second);
    assert_same(&source, &cluster.root(&name(0)).join("odd"));
}

#[test]
fn s1_6_kill_9_while_the_cache_is_cleaned_leaves_one_that_is_whole() {
    let cluster = site("\n  - directory: /odd\n    source: odd\n    purge: true\n");
    let source = cluster.files().join("odd");
    tree::make_odd(&source);
    let first = cluster.publish();
    let _master = cluster.master();
    let mut client = start(&cluster, 0);
    client.wait_converged(first);
    let before = whole_blobs(&cluster.cache(&name(0)));

    let mut cleaning = Watcher::below(&cluster.cache(&name(0)).join("blobs"), WatchMask::DELETE);
    fs::remove_dir_all(source.join("wide")).unwrap();
    let second = cluster.publish();
    cleaning.await_event(|_| true);
    client.kill();
    let left = whole_blobs(&cluster.cache(&name(0)));
    assert!(contents(&source).is_subset(&left));
    assert!(left.len() < before.len() + 3);

    let mut client = start(&cluster, 0);
    client.wait_converged(second);
    assert_same(&source, &cluster.root(&name(0)).join("odd"));
    // The next revision finishes what was begun.
    fs::write(source.join("one more"), "one more\n").unwrap();
    let third = cluster.publish();
    client.wait_converged(third);
    client.wait_line("were removed");
    assert_eq!(whole_blobs(&cluster.cache(&name(0))).len(), contents(&source).len() + 3);
}

#[test]
fn s2_12_whatever_is_taken_out_of_a_tree_comes_back() {
    let cluster = site("\n  - directory: /odd\n    source: odd\n    purge: true\n");
    let source = cluster.files().join("odd");
    tree::make_odd(&source);
    let revision = cluster.publish();
    let _master = cluster.master();
    let mut client = start(&cluster, 0);
    client.wait_converged(revision);
    let top = cluster.root(&name(0)).join("odd");
    let wanted = entries(&source);
    let mut rng = fastrand::Rng::with_seed(5);
    for _ in 0..10 {
        let paths: Vec<&Vec<u8>> = wanted.keys().filter(|path| !path.is_empty()).collect();
        let path = top.join(std::ffi::OsStr::from_bytes(paths[rng.usize(..paths.len())]));
        let meta = fs::symlink_metadata(&path).unwrap();
        match meta.is_dir() {
            true => fs::remove_dir_all(&path).unwrap(),
            false => fs::remove_file(&path).unwrap(),
        }
        client.wait_converged(revision);
    }
    assert_same(&source, &top);
    assert_eq!(sizes_below(&cluster.cache(&name(0)).join("partial")), 0);
}
