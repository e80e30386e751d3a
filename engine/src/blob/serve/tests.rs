use super::*;
use crate::time::WallMs;
use crate::wire::message::FetchReq;
use crate::wire::{Frame, access};

const NOW: Now = Now { at: Instant(0), wall: WallMs(0) };

fn conn(n: u32) -> ConnId {
    ConnId::new(n, 0)
}

fn ask(server: &mut Server, n: u32, name: &[u8], hash: BlobHash, offset: u64, seq: u64) -> Verdict {
    let request = FetchReq { name: name.to_vec(), hash: hash.0, offset };
    let bytes = FrameBuf::message(None, &request, |header| header.seq = seq).to_vec();
    let frame = Frame::parse(&bytes).unwrap();
    server.handle_request(conn(n), access::<FetchReq>(&frame).unwrap(), seq, NOW)
}

/// A server of one blob `big` and blobs `0`, `1`, … of 1,000 bytes.
fn server(small: u8, big_size: u64) -> (Server, BlobHash) {
    let mut listing = Listing::default();
    let big = BlobHash([255; 32]);
    listing.insert(b"big", big, big_size);
    for n in 0..small {
        listing.insert(&[n], BlobHash([n; 32]), 1_000);
    }
    let mut server = Server::new();
    server.listing_replaced(listing);
    (server, big)
}

/// Answers all commands as a disk would that has everything.
fn carry_out(server: &mut Server) -> Vec<&'static str> {
    let mut done = Vec::new();
    while let Some(command) = server.poll_command() {
        let event = match command {
            BlobCommand::Open { hash } => {
                done.push("open");
                let file = Arc::new(File::open("/dev/null").unwrap());
                let size = server.listing.names.values().flatten().find(|b| b.0 == hash).unwrap().1;
                BlobEvent::Opened { hash, file, size }
            }
            BlobCommand::ReadAhead { hash, offset, .. } => {
                done.push("read");
                BlobEvent::Ready { hash, offset }
            }
            other => panic!("{other:?}"),
        };
        server.handle_blob(&event, NOW);
    }
    done
}

/// Connection and length of each chunk sent now.
fn sent(server: &mut Server) -> Vec<(u32, usize)> {
    std::iter::from_fn(|| server.poll_output())
        .map(|output| match output {
            ServeOutput::SendFile { conn, len, .. } => (conn.index() as u32, len),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn s1_17_every_refusal_is_the_same_answer() {
    let (mut server, big) = server(1, 5_000);
    let small = BlobHash([0; 32]);
    let unknown = BlobHash([77; 32]);
    let long = vec![b'x'; 4_000];
    let wrong: [(&[u8], BlobHash, u64); 9] = [
        (b"big", small, 0),
        (&[0], big, 0),
        (b"nobody", big, 0),
        (b"../big", big, 0),
        (b"", big, 0),
        (&long, big, 0),
        (b"big", unknown, 0),
        (b"big", big, 5_000),
        (b"big", big, u64::MAX),
    ];
    for (name, hash, offset) in wrong {
        assert_eq!(ask(&mut server, 1, name, hash, offset, 9), Verdict::Taken);
        let Some(ServeOutput::Send { frame, .. }) = server.poll_output() else { panic!() };
        let same = FrameBuf::message(None, &FetchRefused { hash: hash.0 }, |h| h.seq = 9);
        assert_eq!(frame.to_vec(), same.to_vec(), "{}", String::from_utf8_lossy(name));
        assert!(server.poll_command().is_none(), "the disk is not asked");
    }
    assert_eq!(server.counters().refused, 9);
    ask(&mut server, 1, b"big", big, 4_999, 10);
    carry_out(&mut server);
    assert_eq!(sent(&mut server), [(1, 1)]);
}

#[test]
fn small_blobs_leave_many_at_a_time() {
    let (mut server, _) = server(60, 1);
    for n in 0..60 {
        assert_eq!(ask(&mut server, 1, &[n], BlobHash([n; 32]), 0, n.into()), Verdict::Taken);
    }
    let mut chunks = 0;
    while !carry_out(&mut server).is_empty() {
        chunks += sent(&mut server).len();
    }
    assert_eq!(chunks, 60, "without a drain in between");
}

#[test]
fn a_peer_that_never_reads_is_sent_no_more_than_the_bound() {
    let (mut server, big) = server(0, 1 << 30);
    for n in 0..REQUESTS_MAX as u64 {
        let offset = n * CHUNK_SIZE_MAX as u64;
        assert_eq!(ask(&mut server, 1, b"big", big, offset, n), Verdict::Taken);
    }
    assert_eq!(ask(&mut server, 1, b"big", big, 0, 99), Verdict::Park);
    let mut bytes = 0;
    for _ in 0..10 {
        carry_out(&mut server);
        bytes += sent(&mut server).iter().map(|(_, len)| len).sum::<usize>();
    }
    assert_eq!(bytes, OUTSTANDING_MAX);
    // Half the queue has to go before the parked request is taken.
    let mut resumed = false;
    while !resumed {
        server.drained(conn(1));
        carry_out(&mut server);
        while let Some(output) = server.poll_output() {
            resumed |= matches!(output, ServeOutput::Resume { .. });
        }
    }
    assert!(server.peers[&conn(1)].jobs.len() <= REQUESTS_MAX / 2);
    assert_eq!(ask(&mut server, 1, b"big", big, 0, 99), Verdict::Taken);
}

#[test]
fn connections_take_turns() {
    let (mut server, big) = server(0, 1 << 20);
    for n in 1..=3 {
        for piece in 0..2 {
            ask(&mut server, n, b"big", big, piece * CHUNK_SIZE_MAX as u64, piece);
        }
    }
    assert_eq!(carry_out(&mut server), ["open"], "one file, opened once for all");
    let mut order = Vec::new();
    loop {
        order.extend(sent(&mut server).iter().map(|(conn, _)| *conn));
        if carry_out(&mut server).is_empty() {
            break;
        }
    }
    assert_eq!(order, [1, 2, 3, 1, 2, 3]);
}

#[test]
fn the_next_piece_is_read_while_this_one_is_sent() {
    let (mut server, big) = server(0, 3 * CHUNK_SIZE_MAX as u64);
    ask(&mut server, 1, b"big", big, 0, 1);
    assert_eq!(carry_out(&mut server), ["open"]);
    assert_eq!(sent(&mut server).len(), 1);
    assert_eq!(carry_out(&mut server), ["read"], "piece 1, not yet asked for");
    for (piece, ahead) in [(1, 1), (2, 0)] {
        ask(&mut server, 1, b"big", big, piece * CHUNK_SIZE_MAX as u64, 2);
        server.drained(conn(1));
        assert_eq!(sent(&mut server).len(), 1, "piece {piece} is sent at once");
        assert_eq!(carry_out(&mut server).len(), ahead);
    }
}

#[test]
fn a_closed_connection_is_forgotten_and_a_late_answer_harms_nobody() {
    let (mut server, big) = server(0, 3 * CHUNK_SIZE_MAX as u64);
    ask(&mut server, 1, b"big", big, CHUNK_SIZE_MAX as u64, 1);
    server.closed(conn(1));
    assert_eq!(carry_out(&mut server), ["open"]);
    assert!(server.poll_output().is_none());
    server.drained(conn(1));
    server.handle_blob(&BlobEvent::Missing { hash: big }, NOW);
    server.handle_blob(&BlobEvent::Ready { hash: big, offset: 0 }, NOW);
    assert!(server.peers.is_empty() && server.poll_output().is_none());
}

#[test]
fn open_files_are_bounded_and_go_when_they_are_no_longer_listed() {
    let mut listing = Listing::default();
    let hash = |n: u32| BlobHash::of(&n.to_le_bytes());
    let count = FILES_MAX as u32 + 88;
    (0..count).for_each(|n| listing.insert(&n.to_le_bytes(), hash(n), 10));
    let mut server = Server::new();
    server.listing_replaced(listing);
    for n in 0..count {
        ask(&mut server, 1, &n.to_le_bytes(), hash(n), 0, 1);
        carry_out(&mut server);
        assert_eq!(sent(&mut server).len(), 1);
    }
    assert_eq!(server.files.len(), FILES_MAX);
    assert!(server.files.contains_key(&hash(count - 1)) && !server.files.contains_key(&hash(0)));
    server.listing_replaced(Listing::default());
    assert!(server.files.is_empty());
}
