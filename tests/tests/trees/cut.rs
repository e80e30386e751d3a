//! Cut off or killed in the middle, a client goes on from there.

use super::tree::{self, assert_same};
use super::watch::Watcher;
use super::{HOST, name, site, sizes_below, start};
use engine::limits::CHUNK_SIZE_MAX;
use inotify::WatchMask;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use tests::system::{Cluster, PATIENCE, start_client};

const BIG: &str = "\n  - file: /big\n    source: big\n";
const BIG_SIZE: usize = 64 * 1024 * 1024;

/// A large file that compresses to nothing and repeats nowhere.
fn write_big(path: &Path) {
    let mut bytes = vec![0; BIG_SIZE];
    fastrand::Rng::with_seed(64).fill(&mut bytes);
    tree::write(path, &bytes, 0o640);
}

fn assert_arrived(cluster: &Cluster) {
    let [sent, arrived] =
        [cluster.files(), cluster.root(&name(0))].map(|dir| fs::read(dir.join("big")));
    assert!(sent.unwrap() == arrived.unwrap(), "the file has changed on its way");
}

fn assert_served_once(cluster: &Cluster, cuts: u64) {
    let cached = sizes_below(&cluster.cache(&name(0)).join("blobs"));
    let served = cluster.counter("blob_bytes");
    let spare = cuts * CHUNK_SIZE_MAX as u64;
    assert!(cached > BIG_SIZE as u64);
    assert!((cached..=cached + spare).contains(&served), "{served} bytes for {cached}");
}

#[test]
fn s1_7_a_client_killed_while_it_fetches_costs_one_chunk_at_most() {
    let cluster = site(BIG);
    write_big(&cluster.files().join("big"));
    let revision = cluster.publish();
    let _master = cluster.master();
    let partial = cluster.cache(&name(0)).join("partial");
    fs::create_dir_all(&partial).unwrap();
    let mut arriving = Watcher::below(&partial, WatchMask::MODIFY | WatchMask::DELETE);
    let client = start(&cluster, 0);
    arriving.await_event(|event| {
        fs::metadata(&event.path).is_ok_and(|meta| meta.len() >= BIG_SIZE as u64 / 3)
    });
    client.kill();
    let arrived = sizes_below(&partial);
    assert!(arrived < BIG_SIZE as u64, "the kill came when all had arrived");

    start(&cluster, 0).wait_converged(revision);
    assert_arrived(&cluster);
    assert_served_once(&cluster, 1);
    assert_eq!(sizes_below(&partial), 0);
}

/// Forwards connections to a master, and cuts one off when so many bytes have come through.
struct Scissors {
    addr: SocketAddr,
    cuts: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Scissors {
    fn between(master: SocketAddr, cut_at: Vec<u64>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let (cuts, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (cuts, ended) = (cuts.clone(), ended.clone());
            move || {
                let passed = Arc::new(AtomicU64::new(0));
                let cut_at = Arc::new(cut_at);
                let mut pumps = Vec::new();
                while let Ok((near, _)) = listener.accept() {
                    if ended.load(Ordering::SeqCst) {
                        break;
                    }
                    let far = TcpStream::connect(master).unwrap();
                    let (near2, far2) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                    let (cuts, passed, cut_at) = (cuts.clone(), passed.clone(), cut_at.clone());
                    pumps.push(std::thread::spawn(move || pump(near2, far2, |_| false)));
                    pumps.push(std::thread::spawn(move || {
                        pump(far, near, |n| {
                            let all = passed.fetch_add(n, Ordering::SeqCst) + n;
                            let next = cuts.load(Ordering::SeqCst) as usize;
                            let cut = cut_at.get(next).is_some_and(|at| all >= *at);
                            cuts.fetch_add(u64::from(cut), Ordering::SeqCst);
                            cut
                        });
                    }));
                }
                for pump in pumps {
                    pump.join().unwrap();
                }
            }
        });
        Self { addr, cuts, ended, thread: Some(thread) }
    }
}

/// Copies until an end, or until `cut` says so of the bytes just read, which are then lost.
fn pump(mut from: TcpStream, mut to: TcpStream, cut: impl Fn(u64) -> bool) {
    from.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n) = from.read(&mut buffer) {
        if n == 0 || cut(n as u64) || to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    // Either may be gone already.
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

impl Drop for Scissors {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let woken = TcpStream::connect(self.addr);
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

#[test]
fn s1_7_each_cut_of_the_connection_costs_one_chunk_at_most() {
    let cluster = site(BIG);
    write_big(&cluster.files().join("big"));
    let revision = cluster.publish();
    let _master = cluster.master();
    let cut_at = vec![BIG_SIZE as u64 / 4, BIG_SIZE as u64 / 2, BIG_SIZE as u64 * 3 / 4];
    let scissors = Scissors::between(cluster.master_addr, cut_at);
    let mut client = start_client(&cluster.client_config_of(&name(0), HOST, scissors.addr));
    client.wait_converged(revision);
    assert_eq!(scissors.cuts.load(Ordering::SeqCst), 3);
    assert_arrived(&cluster);
    assert_served_once(&cluster, 3);
    client.kill();
}

#[test]
fn s2_11_a_client_killed_while_it_applies_converges_without_its_master() {
    let cluster = site("\n  - directory: /t\n    source: odd\n    purge: true\n");
    let source = cluster.files().join("odd");
    tree::make_odd(&source);
    let revision = cluster.publish();
    let mut master = Some(cluster.master());
    let top = cluster.root(&name(0));
    let wide = top.join("t/wide");
    for placed in [1, 50, 250] {
        fs::create_dir_all(&wide).unwrap();
        let mut applying = Watcher::below(&wide, WatchMask::MOVED_TO);
        let client = start(&cluster, 0);
        let mut seen = 0;
        applying.await_event(|_| {
            seen += 1;
            seen == placed
        });
        client.kill();
        assert!(fs::read_dir(&wide).unwrap().count() < 500, "the kill came after all was placed");
        fs::remove_dir_all(&wide).unwrap();
        // The first round has brought all that is needed.
        drop(master.take());
    }
    start(&cluster, 0).wait_converged(revision);
    assert_same(&source, &top.join("t"));
}
