use super::*;
use crate::time::WallMs;
use crate::wire::{FLAG_NO_CRC, Header, Lane};

fn at(ms: u64) -> Now {
    Now { at: Instant(ms * 1_000_000), wall: WallMs(0) }
}

fn hash(n: u8) -> BlobHash {
    BlobHash([n; 32])
}

fn blob(n: u8, size: u64) -> Blob {
    Blob { name: vec![n], hash: hash(n), size }
}

/// A fetcher that is connected, and knows that nothing of these blobs is here.
fn fetching(blobs: &[Blob]) -> Fetcher {
    let mut fetcher = Fetcher::new(FetchSettings::default(), fastrand::Rng::with_seed(1));
    fetcher.want(blobs.to_vec());
    assert!(matches!(fetcher.poll_command(), Some(BlobCommand::Probe { .. })));
    assert_eq!(fetcher.poll_event(), None, "no dial before it is known that something is missing");
    let missing = blobs.iter().map(|blob| (blob.hash, blob.size, 0)).collect();
    fetcher.handle_blob(&BlobEvent::Wanted { blobs: missing });
    assert_eq!(fetcher.poll_event(), Some(FetchEvent::Connect));
    fetcher.connected();
    fetcher
}

fn requests(fetcher: &mut Fetcher) -> Vec<(u64, BlobHash, u64)> {
    std::iter::from_fn(|| fetcher.poll_frame())
        .map(|frame| {
            let bytes = frame.to_vec();
            let frame = Frame::parse(&bytes).unwrap();
            let request = access::<FetchReq>(&frame).unwrap();
            (frame.header.seq, BlobHash(request.hash), request.offset.to_native())
        })
        .collect()
}

fn chunk(fetcher: &mut Fetcher, seq: u64, offset: u64, data: &[u8]) -> Result<(), WireError> {
    let mut header = Header::new(Kind::CHUNK);
    header.flags = FLAG_NO_CRC;
    header.seq = seq;
    assert_eq!(header.lane, Lane::Volatile);
    let body = [&offset.to_le_bytes()[..], data].concat();
    let bytes = FrameBuf::seal_whole(header, None, &body);
    fetcher.handle_frame(&Frame::parse(&bytes).unwrap())
}

#[test]
fn no_more_than_the_window_is_asked_for() {
    let mut fetcher = fetching(&[blob(1, 100_000), blob(2, 100_000), blob(3, 100_000)]);
    assert_eq!(requests(&mut fetcher), [(1, hash(1), 0), (2, hash(2), 0)]);
    assert!(fetcher.is_awaiting());
    chunk(&mut fetcher, 1, 0, &[0; 100_000]).unwrap();
    assert_eq!(requests(&mut fetcher), [(3, hash(3), 0)]);
}

#[test]
fn a_slow_disk_stops_the_requests_and_not_the_connection() {
    let chunk_len = CHUNK_SIZE_MAX as u64;
    let mut fetcher = fetching(&[blob(1, 100 * chunk_len)]);
    let data = vec![0; CHUNK_SIZE_MAX];
    let mut asked = 0;
    while let Some((seq, _, offset)) = requests(&mut fetcher).pop() {
        chunk(&mut fetcher, seq, offset, &data).unwrap();
        asked += 1;
    }
    assert_eq!(asked, 16, "4 MiB");
    fetcher.handle_blob(&BlobEvent::Written { hash: hash(1), upto: chunk_len });
    assert_eq!(requests(&mut fetcher).len(), 1);
}

#[test]
fn answers_to_nothing_and_wrong_answers_end_the_connection() {
    let mut fetcher = fetching(&[blob(1, 10)]);
    assert_eq!(requests(&mut fetcher).len(), 1);
    assert!(chunk(&mut fetcher, 99, 0, &[0; 10]).is_err(), "a request that was not made");
    assert!(fetcher.poll_command().is_none());
    for (offset, len) in [(1, 10), (0, 9), (0, 11)] {
        let mut fetcher = fetching(&[blob(1, 10)]);
        assert_eq!(requests(&mut fetcher).len(), 1);
        assert!(chunk(&mut fetcher, 1, offset, &vec![0; len]).is_err(), "{offset} {len}");
        assert!(fetcher.poll_command().is_none(), "nothing of it is written");
    }
    let mut header = Header::new(Kind::CHUNK);
    header.seq = 1;
    let bytes = FrameBuf::seal_whole(header, None, &[0; 7]);
    assert!(fetcher.handle_frame(&Frame::parse(&bytes).unwrap()).is_err(), "no offset");
}

#[test]
fn a_server_that_always_answers_wrongly_is_given_up() {
    let mut fetcher = fetching(&[blob(1, 10)]);
    for seq in 1..=3 {
        assert_eq!(requests(&mut fetcher), [(seq, hash(1), 0)]);
        assert!(chunk(&mut fetcher, seq, 5, &[0; 5]).is_err());
        fetcher.disconnected(at(0));
        if seq < 3 {
            fetcher.handle_timeout(at(3_600_000));
            assert_eq!(fetcher.poll_event(), Some(FetchEvent::Connect));
            fetcher.connected();
        }
    }
    assert!(matches!(fetcher.poll_event(), Some(FetchEvent::Broken { .. })));
    assert!(
        fetcher.is_done() && fetcher.poll_event().is_none() && fetcher.next_timeout().is_none()
    );
}

#[test]
fn a_refusal_of_another_blob_is_no_answer() {
    let mut fetcher = fetching(&[blob(1, 10)]);
    let [(seq, ..)] = requests(&mut fetcher)[..] else { panic!() };
    let refused = FetchRefused { hash: hash(2).0 };
    let bytes = FrameBuf::message(None, &refused, |header| header.seq = seq).to_vec();
    assert!(fetcher.handle_frame(&Frame::parse(&bytes).unwrap()).is_err());
    assert!(!fetcher.is_done());
}

#[test]
fn the_wait_doubles_up_to_its_bound_and_shrinks_when_a_chunk_came() {
    let mut fetcher = fetching(&[blob(1, 2 * CHUNK_SIZE_MAX as u64)]);
    let mut now = 0;
    let mut wait = |fetcher: &mut Fetcher| {
        fetcher.disconnected(at(now));
        let until = fetcher.next_timeout().unwrap();
        let wait = until.since(at(now).at);
        fetcher.handle_timeout(Now { at: Instant(until.0 - 1), wall: WallMs(0) });
        assert_eq!(fetcher.poll_event(), None, "not before its time");
        fetcher.handle_timeout(Now { at: until, wall: WallMs(0) });
        assert_eq!(fetcher.poll_event(), Some(FetchEvent::Connect));
        now = until.0 / 1_000_000;
        wait
    };
    for n in 0..30 {
        let longest = Duration::from_millis(100 << n.min(20)).min(Duration::from_secs(600));
        let wait = wait(&mut fetcher);
        assert!(wait <= longest && wait >= longest / 2, "{n}: {wait:?}");
    }
    // Connecting alone proves nothing.
    fetcher.connected();
    assert!(wait(&mut fetcher) > Duration::from_secs(200));
    fetcher.connected();
    let [(seq, ..)] = requests(&mut fetcher)[..] else { panic!() };
    chunk(&mut fetcher, seq, 0, &[0; CHUNK_SIZE_MAX]).unwrap();
    assert!(wait(&mut fetcher) <= Duration::from_millis(100));
    fetcher.connected();
    assert_eq!(requests(&mut fetcher)[0].2, CHUNK_SIZE_MAX as u64, "it goes on where it was");
}

#[test]
fn what_is_partly_here_is_fetched_from_there() {
    let mut fetcher = Fetcher::new(FetchSettings::default(), fastrand::Rng::with_seed(1));
    fetcher.want([blob(1, 1_000), blob(2, 5)]);
    fetcher.handle_blob(&BlobEvent::Wanted { blobs: vec![(hash(1), 1_000, 600)] });
    assert_eq!(fetcher.poll_event(), Some(FetchEvent::Stored { hash: hash(2) }));
    assert_eq!(fetcher.poll_event(), Some(FetchEvent::Connect));
    fetcher.connected();
    assert_eq!(requests(&mut fetcher), [(1, hash(1), 600)]);
    assert_eq!(fetcher.progress().bytes_missing, 400);
}

#[test]
fn answers_to_a_failed_attempt_are_not_taken_for_those_of_the_next() {
    let chunk_len = CHUNK_SIZE_MAX as u64;
    let mut fetcher = fetching(&[blob(1, 3 * chunk_len)]);
    let data = vec![0; CHUNK_SIZE_MAX];
    let broken = BlobEvent::Broken { hash: hash(1), error: "the disk is full".to_owned() };
    for attempt in 1..=3 {
        for piece in 0..2 {
            let [(seq, _, offset)] = requests(&mut fetcher)[..] else { panic!("{attempt}") };
            assert_eq!(offset, piece * chunk_len);
            chunk(&mut fetcher, seq, offset, &data).unwrap();
        }
        fetcher.handle_blob(&broken);
        assert_eq!(requests(&mut fetcher), [], "the second write is still to be answered");
        fetcher.handle_blob(&broken);
    }
    assert!(matches!(fetcher.poll_event(), Some(FetchEvent::Broken { .. })));
    assert_eq!(fetcher.poll_event(), Some(FetchEvent::Hangup));
    assert_eq!(fetcher.unwritten_bytes, 0);
}

#[test]
fn sizes_that_no_disk_has_are_only_numbers() {
    let mut fetcher = fetching(&[blob(1, u64::MAX), blob(2, u64::MAX)]);
    assert_eq!(fetcher.progress().bytes_missing, u64::MAX);
    assert_eq!(requests(&mut fetcher), [(1, hash(1), 0)]);
}
