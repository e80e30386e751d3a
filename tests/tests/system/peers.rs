//! Peers that lie, drip, flood or fall silent, beside those that do neither.

use engine::blocking::Connection;
use engine::ids::{Epoch, Origin};
use engine::wire::message::{FetchReq, Poll};
use engine::wire::{FrameBuf, Kind, RouteBuf};
use nix::sys::signal::Signal;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tests::system::{Cluster, Daemon, PATIENCE, Sender};

/// Half-open connections: as many as this process may have descriptors, at most 5,000.
const HALF_OPEN: usize = 5_000;

fn poll_of(name: &str, held: u64) -> FrameBuf {
    let origin = Origin { name: name.parse().unwrap(), epoch: Epoch(1), seq: 1 };
    let poll = Poll {
        held,
        applied: held,
        wall_ms: 1,
        version: "test".to_owned(),
        last_error: String::new(),
    };
    FrameBuf::message(Some(&RouteBuf::from(origin)), &poll, |header| {
        header.epoch = Epoch(1);
        header.seq = 1;
    })
}

/// Who claims another's name gets an ack and nothing else: what is due goes to the address
/// that the name service gives for the name.
#[test]
fn s1_9_an_impostor_gets_nothing() {
    let cluster = Cluster::new();
    cluster.write_hosts(&[("web-1.test", 2)]);
    let rightful = TcpListener::bind(cluster.client_addr(2)).unwrap();
    let impostor = TcpListener::bind(cluster.client_addr(3)).unwrap();
    cluster.publish();
    let _master = cluster.master();

    // The poll comes from the impostor's address, over a connection that it leaves open.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(cluster.ip(3), 0).into()).unwrap();
    socket.connect(&cluster.master_addr.into()).unwrap();
    let mut asking: TcpStream = socket.into();
    asking.write_all(&poll_of("web-1.test", 0).to_vec()).unwrap();
    // Its ack, 44 bytes, and then the end: no second frame comes this way.
    let mut answer = Vec::new();
    let mut byte = [0; 1024];
    asking.set_read_timeout(Some(PATIENCE)).unwrap();
    while answer.len() < 44 {
        let n = asking.read(&mut byte).unwrap();
        assert!(n > 0, "no ack");
        answer.extend_from_slice(&byte[..n]);
    }

    // The assignment arrives where the name is.
    let (mut taken, _) = rightful.accept().unwrap();
    taken.set_read_timeout(Some(PATIENCE)).unwrap();
    let n = taken.read(&mut byte).unwrap();
    assert_eq!((&byte[..4], byte[5]), (&b"DRV1"[..], Kind::MANIFEST.0), "{n} bytes");

    // Nobody called the impostor, and its own connection has said no more.
    impostor.set_nonblocking(true).unwrap();
    assert_eq!(impostor.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    asking.shutdown(std::net::Shutdown::Write).unwrap();
    asking.read_to_end(&mut answer).unwrap();
    let frame = engine::wire::Frame::parse(&answer).expect("one ack and no more");
    assert_eq!(frame.header.kind, Kind::ACK);
}

/// A file is served for its name with its hash, and for nothing else; every wrong pair gets the
/// same answer.
#[test]
fn s1_17_a_wrong_pair_of_name_and_hash_is_refused_alike() {
    let cluster = Cluster::new();
    let text = "a file that is long enough to be a blob\n".repeat(100);
    cluster.write("m/site/policies/base/files/big", &text);
    cluster.write_policy("resources:\n  - file: /big\n    source: big\n");
    cluster.publish();
    let _master = cluster.master();
    let right = *engine::ids::BlobHash::of(text.as_bytes()).0.first_chunk::<32>().unwrap();
    let fetch = |name: &[u8], hash: [u8; 32]| {
        let mut connection = Connection::connect(cluster.master_addr, PATIENCE).unwrap();
        let request = FetchReq { name: name.to_vec(), hash, offset: 0 };
        connection.send(&FrameBuf::message(None, &request, |_| {})).unwrap();
        let answer = connection.expect().unwrap();
        (answer.frame().header.kind, answer.frame().body().to_vec())
    };
    let served = fetch(b"policies/base/files/big", right);
    assert_eq!(served.0, Kind::CHUNK, "the right pair is served: {:?}", served.0);
    let mut wrong = right;
    wrong[0] ^= 1;
    for (name, hash) in [
        (&b"policies/base/files/big"[..], wrong),
        (b"policies/base/files/other", right),
        (b"policies/base/files/../files/big", right),
        (b"../../../../etc/passwd", right),
        (b"", right),
    ] {
        let (kind, body) = fetch(name, hash);
        assert_eq!(kind, Kind::FETCH_REFUSED, "{:?}", String::from_utf8_lossy(name));
        let again = fetch(b"no such name", hash);
        assert_eq!((kind, body), again, "the same answer for {:?}", String::from_utf8_lossy(name));
    }
}

/// 100 good clients deliver while others misbehave; each delivery of theirs succeeds, and the
/// threads of the master stay as many as they were (S1-29).
#[test]
fn s1_29_bad_peers_beside_a_hundred_good_ones() {
    let seed = 41;
    let cluster = Cluster::new();
    cluster.publish();
    let master = cluster.master();
    let threads = || fs_threads(&master);
    let before = threads();
    let addr = cluster.master_addr;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Half-open: connected, and silent.
        let half_open: Vec<TcpStream> =
            (0..HALF_OPEN).map_while(|_| TcpStream::connect(addr).ok()).collect();
        assert!(half_open.len() >= 500, "only {} connections", half_open.len());
        scope.spawn(|| random_bytes(addr, seed, &stop));
        scope.spawn(|| drip(addr, &stop));
        scope.spawn(|| never_reads(addr, &stop));
        let good: Vec<_> = (0..10)
            .map(|thread| {
                scope.spawn(move || {
                    for round in 1..=3 {
                        for n in 0..10 {
                            let name = format!("good-{thread}-{n}.test");
                            let mut sender = Sender::new(&name, thread * 100 + n + 1);
                            sender.acked = (round - 1) * 5;
                            let done = sender.deliver(addr, round * 5, PATIENCE);
                            assert!(matches!(done, Ok(None)), "{name}: {done:?}");
                        }
                    }
                })
            })
            .collect();
        let ended: Vec<_> = good.into_iter().map(|thread| thread.join()).collect();
        stop.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok), "a good client failed");
        assert_eq!(threads(), before, "a thread per peer?");
        drop(half_open);
    });
    let _ = cluster.until(&["status"], |status| status["inbox_records"] == 0);
    assert_eq!(cluster.ids().len(), 100 * 15);
    master.signal(Signal::SIGTERM);
    assert!(master.wait_end(PATIENCE).status.success());
}

fn fs_threads(daemon: &Daemon) -> usize {
    std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap().count()
}

fn random_bytes(addr: SocketAddr, seed: u64, stop: &AtomicBool) {
    let mut rng = fastrand::Rng::with_seed(seed);
    while !stop.load(Ordering::Relaxed) {
        let mut stream = TcpStream::connect(addr).unwrap();
        let bytes: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(1024).collect();
        // The master closes as soon as it sees that this is no frame.
        let _ = stream.write_all(&bytes);
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

/// A frame, one byte a second.
fn drip(addr: SocketAddr, stop: &AtomicBool) {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    for byte in poll_of("slow.test", 0).to_vec() {
        if stop.load(Ordering::Relaxed) || stream.write_all(&[byte]).is_err() {
            return;
        }
        let _ = stream.read(&mut [0]);
    }
}

/// Asks for more and more, and reads nothing of it.
fn never_reads(addr: SocketAddr, stop: &AtomicBool) {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let status = engine::wire::message::StatusReq { detail: 0 };
    let request = FrameBuf::message(None, &status, |_| {}).to_vec();
    while !stop.load(Ordering::Relaxed) {
        match stream.write_all(&request) {
            Err(e) if e.kind() != ErrorKind::WouldBlock => return,
            _ => {}
        }
    }
}
