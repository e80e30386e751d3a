use super::*;
use crate::clients::address::DEFAULT_SUFFIX;
use std::io::Read;
use std::net::{Shutdown, TcpListener, TcpStream};

fn start(peers: &[BadPeers], master: SocketAddr) -> Crowd {
    Crowd::start(peers, master, &Identities::new(DEFAULT_SUFFIX).unwrap(), 10).unwrap()
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

fn read_some(stream: &mut TcpStream, n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn kinds_are_read() {
    let read = |text| BadPeers::parse(text);
    assert_eq!(read("half-open=5000"), Ok(BadPeers::new(Badness::HalfOpen, 5000)));
    let slow = BadPeers { rate: 0, ..BadPeers::new(Badness::SlowReader, 20) };
    assert_eq!(read("slow-reader=20@0"), Ok(slow));
    for text in
        ["", "half-open", "half-open=", "half-open=0", "half-open=10001", "bad=1", "reset=1@x"]
    {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn a_half_open_peer_says_nothing_and_is_gone_at_the_end() {
    let (listener, addr) = listener();
    let crowd = start(&[BadPeers::new(Badness::HalfOpen, 3)], addr);
    let mut accepted: Vec<_> = (0..3).map(|_| listener.accept().unwrap().0).collect();
    let counts = crowd.end();
    assert_eq!((counts[0].peers, counts[0].sent_bytes, counts[0].ended_by_master), (3, 0, 0));
    for stream in &mut accepted {
        let mut all = Vec::new();
        assert_eq!(stream.read_to_end(&mut all).unwrap(), 0, "not a byte, and then the end");
    }
}

#[test]
fn a_slow_writer_sends_a_byte_at_a_time() {
    let (listener, addr) = listener();
    let crowd = start(&[BadPeers { rate: 20, ..BadPeers::new(Badness::SlowWriter, 1) }], addr);
    let (mut stream, _) = listener.accept().unwrap();
    assert_eq!(read_some(&mut stream, 4), b"DRV1");
    // What has come by now took the time that it takes.
    stream.shutdown(Shutdown::Both).unwrap();
    listener.accept().expect("it comes back");
    let counts = crowd.end();
    assert!(counts[0].sent_bytes < 60, "{counts:?}");
    assert_eq!(counts[0].ended_by_master, 1);
}

#[test]
fn one_that_breaks_off_resets() {
    let (listener, addr) = listener();
    let crowd = start(&[BadPeers::new(Badness::Reset, 1)], addr);
    let (mut stream, _) = listener.accept().unwrap();
    let mut all = Vec::new();
    let error = stream.read_to_end(&mut all).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    drop(crowd);
}

#[test]
fn nobody_there_is_counted() {
    let (listener, master) = listener();
    drop(listener);
    let identities = Identities::new(DEFAULT_SUFFIX).unwrap();
    let name = identities.name(1);
    let world = World { master, identities, clients: 1 };
    let bad = BadPeers::new(Badness::Garbage, 1);
    let mut now = SystemClock::start().now();
    let mut peer = Peer::new(bad, 0, name, now);
    let mut counts = PeerCounts::none(&bad);
    // A refusal on loopback comes at once; time is virtual.
    for _ in 0..4 {
        now.at = now.at + Duration::from_secs(1);
        peer.turn(&world, now, &mut counts);
    }
    assert_eq!((counts.connected, counts.refused), (0, 2), "{counts:?}");
}
