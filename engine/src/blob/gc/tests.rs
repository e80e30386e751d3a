use super::*;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::{env, fs};

fn blobs(cache: &Cache, n: usize) -> Vec<BlobHash> {
    let hashes = (0..n).map(|i| cache.insert(format!("blob {i}").as_bytes()).unwrap());
    let mut hashes: Vec<_> = hashes.collect();
    hashes.sort_unstable();
    hashes
}

#[test]
fn s1_6_what_is_not_kept_goes_and_what_is_kept_stays() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), false).unwrap();
    let all = blobs(&cache, 600);
    let (keep, stale): (Vec<_>, Vec<_>) = all.iter().partition(|hash| hash.0[31] % 3 == 0);
    let [kept_partial, stale_partial] = [b"kept", b"gone"].map(|b| BlobHash::of(b));
    for partial in [kept_partial, stale_partial] {
        cache.resume(partial, 10).unwrap().write(0, b"12345").unwrap();
    }
    fs::write(cache.partial.join("insert-1-0000"), b"of a dead process").unwrap();
    fs::write(cache.blobs.join("README"), b"somebody else's").unwrap();
    let mut keep_list = keep.clone();
    keep_list.push(kept_partial);
    fastrand::Rng::with_seed(6).shuffle(&mut keep_list);
    let collected = cache.collect(&keep_list).unwrap();
    assert_eq!(collected.removed, stale.len() as u64 + 2);
    assert!(!collected.held && collected.bytes > 5);
    assert!(keep.iter().all(|hash| cache.verify(*hash).is_ok()));
    assert!(stale.iter().all(|hash| !cache.path(*hash).exists()));
    assert_eq!(
        cache.probe(&[(kept_partial, 10), (stale_partial, 10)]),
        [(kept_partial, 10, 5), (stale_partial, 10, 0)]
    );
    assert!(cache.blobs.join("README").exists());
    assert_eq!(cache.collect(&keep_list).unwrap().removed, 0);
}

#[test]
fn s1_6_nothing_is_collected_while_somebody_holds_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), false).unwrap();
    let hold = cache.hold().unwrap();
    let hash = cache.insert(b"published, not yet in a manifest").unwrap();
    assert!(cache.collect(&[]).unwrap().held);
    cache.verify(hash).unwrap();
    drop(hold);
    assert_eq!(cache.collect(&[]).unwrap().removed, 1);
}

/// The child collects, the parent kills it when the first removals are seen.
#[test]
fn s1_6_kill_9_while_collecting_leaves_a_valid_cache() {
    const DIR: &str = "DROVER_TEST_COLLECT_DIR";
    let keeps = |hash: &BlobHash| hash.0[0].is_multiple_of(4);
    if let Ok(dir) = env::var(DIR) {
        let cache = Cache::open(Path::new(&dir), false).unwrap();
        let all = (0..4_000).map(|i| BlobHash::of(format!("blob {i}").as_bytes()));
        cache.collect(&all.filter(keeps).collect::<Vec<_>>()).unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), false).unwrap();
    let all = blobs(&cache, 4_000);
    let keep: Vec<_> = all.iter().copied().filter(keeps).collect();
    let stale: Vec<_> = all.iter().copied().filter(|hash| !keeps(hash)).collect();
    let gone = || stale.iter().filter(|hash| !cache.path(**hash).exists()).count();
    let mut before = 0;
    for _ in 0..3 {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "blob::gc::tests::s1_6_kill_9_while_collecting_leaves_a_valid_cache"])
            .env(DIR, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while gone() == before && child.try_wait().unwrap().is_none() {}
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert!(status.success() || status.signal() == Some(9), "{status}");
        before = gone();
        println!("killed after {before} of {} removals", stale.len());
        assert!(before > 0);
        assert!(keep.iter().all(|hash| cache.verify(*hash).is_ok()));
        assert!(stale.iter().all(|h| !cache.path(*h).exists() || cache.verify(*h).is_ok()));
        if before == stale.len() {
            break;
        }
    }
    assert_eq!(cache.collect(&keep).unwrap().removed, (stale.len() - before) as u64);
    assert!(keep.iter().all(|hash| cache.verify(*hash).is_ok()));
}
