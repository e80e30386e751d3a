//! The format's golden bytes, and what every broken frame comes to.

use super::message::*;
use super::*;
use crate::ids::{Epoch, HostName, Origin};
use crate::limits::{HEADER_SIZE, HOPS_MAX};
use proptest::prelude::*;
use std::time::Duration;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn route() -> RouteBuf {
    let name = HostName::parse(b"web1.example").unwrap();
    let origin = Origin { name, epoch: Epoch(0x1122_3344_5566_7788), seq: 9 };
    let mut route = RouteBuf::from(origin).to(HostName::parse(b"master").unwrap());
    route.via.push(HostName::parse(b"relay-a").unwrap());
    route
}

fn message<B: Body>(body: &B) -> FrameBuf {
    FrameBuf::message(Some(&route()), body, |header| {
        header.epoch = Epoch(0x0102_0304_0506_0708);
        header.seq = 42;
        header.ttl_s = 3600;
        header.hops = 1;
    })
}

/// One frame of every kind, in the order of its number.
fn samples() -> Vec<FrameBuf> {
    let text = |s: &str| s.to_owned();
    let nack = Nack { reason: NackReason::Busy, highest: 0, retry_after: Duration::from_secs(3) };
    let mut chunk = Header::new(Kind::CHUNK);
    chunk.flags = FLAG_NO_CRC;
    let chunk_body = [&4096u64.to_le_bytes()[..], b"content"].concat();
    let result = ResourceResult {
        id: b"file /etc/motd".to_vec(),
        outcome: outcome::CHANGED,
        before: text("absent"),
        after: text("12 bytes, mode 0644"),
        error: String::new(),
        duration_us: 250,
        output: vec![0xff, 0x00],
    };
    vec![
        FrameBuf::bare(Kind::ACK, |h| {
            h.lane = Lane::Durable;
            h.flags = FLAG_BEHIND;
            h.epoch = Epoch(7);
            h.seq = 42;
        }),
        FrameBuf::seal(Header::new(Kind::NACK), None, nack.encode().to_vec().into()),
        FrameBuf::bare(Kind::HOLD, |_| {}),
        message(&BindReq { nonce: 1, version: text("0.1.0") }),
        message(&BindAck { nonce: 1, parent: text("relay-a") }),
        message(&Poll {
            held: 3,
            applied: 2,
            wall_ms: 1_767_225_600_000,
            version: text("0.1.0"),
            last_error: String::new(),
        }),
        message(&Heartbeat { revision: 3, checked: 100, wall_ms: 1_767_225_600_000 }),
        message(&Report {
            revision: 3,
            trigger: trigger::DRIFT,
            started_ms: 1_767_225_600_000,
            duration_us: 300,
            busy_us: 280,
            checked: 2,
            results: vec![result],
            note: text("one other was folded away"),
        }),
        message(&BindResp { nonce: 1, version: text("0.1.0") }),
        message(&Manifest { assignment: vec![1, 2, 3] }),
        message(&FetchReq { name: b"motd".to_vec(), hash: [0xab; 32], offset: 4096 }),
        FrameBuf::seal(chunk, None, chunk_body.into()),
        message(&FetchRefused { hash: [0xab; 32] }),
        message(&StatusReq { detail: 0 }),
        message(&StatusResp {
            name: text("web1.example"),
            role: text("client"),
            version: text("0.1.0"),
            revision: 3,
            bound: text("relay-a"),
            uptime_ms: 1000,
            counters: vec![(text("turns"), 5)],
            last_error: text("file /f"),
        }),
        message(&ControlReq { verb: text("status"), arguments: b"{}".to_vec() }),
        message(&ControlResp { last: true, ok: true, body: b"{}".to_vec() }),
    ]
}

/// The bytes that tagged versions send: a line that changes breaks every older peer.
const GOLDEN: &str = include_str!("tests/golden.txt");

#[test]
fn s1_20_golden_bytes_of_every_kind() {
    let mut lines = GOLDEN.lines();
    for sample in samples() {
        let bytes = sample.to_vec();
        let header = Frame::parse(&bytes).unwrap().header;
        let line = format!("{} {} {}", header.kind, header.schema, hex(&bytes));
        assert_eq!(lines.next(), Some(line.as_str()));
    }
    assert_eq!(lines.next(), None);
    let sampled: Vec<Kind> = samples().iter().map(|s| Kind(s.head[5])).collect();
    assert!(Kind::all().all(|kind| sampled.contains(&kind)), "a kind has no sample");
}

#[test]
fn s1_20_every_kind_has_one_class_and_its_bits_say_which() {
    for kind in Kind::all() {
        let expected = match kind.0 {
            0x01..=0x3f => Class::Hop,
            0x41..=0x7f => Class::Uplink,
            0x81..=0xbf => Class::Downstream,
            _ => Class::Direct,
        };
        assert_eq!(kind.class(), expected, "{kind}");
        assert!(kind.body_size_max() <= kind.class().body_size_max(), "{kind}");
        assert_eq!(Kind::all().filter(|k| *k == kind).count(), 1, "{kind}");
    }
}

#[test]
fn s1_34_unknown_kind_wrong_kind_and_damaged_body_are_three_errors() {
    let bytes = message(&StatusReq { detail: 0 }).to_vec();
    let frame = Frame::parse(&bytes).unwrap();
    assert!(access::<StatusReq>(&frame).is_ok());
    assert_eq!(
        access::<FetchReq>(&frame).err(),
        Some(WireError::UnexpectedKind { expected: Kind::FETCH_REQ, found: Kind::STATUS_REQ })
    );
    let seal = |kind: Kind, schema: u16, body: &[u8]| {
        let mut header = Header::new(kind);
        header.schema = schema;
        FrameBuf::seal_whole(header, None, body)
    };
    let error = |bytes: &[u8]| access::<StatusReq>(&Frame::parse(bytes).unwrap()).err();
    let unknown = Kind(0xff);
    assert_eq!(error(&seal(unknown, 1, &[0])), Some(WireError::UnknownKind { kind: unknown }));
    let kind = Kind::STATUS_REQ;
    let later = WireError::UnknownSchema { kind, found: 2, highest: 1 };
    assert_eq!(error(&seal(kind, 2, &[0])), Some(later));
    assert_eq!(error(&seal(kind, 1, &[])), Some(WireError::Body { kind, schema: 1 }));
    let mut damaged = bytes;
    *damaged.last_mut().unwrap() ^= 1;
    assert!(matches!(error(&damaged), Some(WireError::BodyChecksum { .. })));
}

#[test]
fn s1_32_no_mutation_of_a_frame_panics_and_a_flipped_header_bit_is_found() {
    for sample in samples() {
        let whole = sample.to_vec();
        let head = sample.head.len();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            match Frame::parse(&bytes) {
                Ok(frame) => {
                    assert!(bit / 8 >= head, "bit {bit} of {:?} went unnoticed", frame.header);
                    if frame.header.flags & FLAG_NO_CRC == 0 {
                        assert!(frame.header.check_body(frame.body()).is_err());
                    }
                }
                Err(_) => assert!(bit / 8 < head),
            }
        }
    }
}

#[test]
fn routes_survive_and_broken_ones_are_refused() {
    let written = |route: &RouteBuf| {
        let mut bytes = Vec::new();
        route.write(&mut bytes);
        assert_eq!(bytes.len(), route.size());
        bytes
    };
    let bytes = written(&route());
    let read = Route::parse(&bytes).unwrap();
    assert_eq!(read.origin().unwrap(), route().origin);
    assert_eq!(read.target().unwrap(), route().target);
    assert_eq!(read.hop_sender(), b"relay-a");
    for cut in 1..bytes.len() {
        assert!(Route::parse(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    assert!(Route::parse(&[&bytes[..], &[0]].concat()).is_err());
    let mut long = route();
    long.via = vec![HostName::parse(b"r").unwrap(); usize::from(HOPS_MAX) + 1];
    assert!(Route::parse(&written(&long)).is_err());
}

/// Feeds bytes in these pieces, and returns what came out.
fn decode(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Result<Flow, WireError>, usize) {
    let mut decoder = Decoder::new();
    let mut frames = Vec::new();
    let mut last = Ok(Flow::Next);
    for piece in pieces {
        last = decoder.feed(piece, |frame| {
            frames.push(frame.bytes().to_vec());
            Flow::Next
        });
        if last.is_err() {
            break;
        }
    }
    (frames, last, decoder.buffered())
}

#[test]
fn s1_35_one_byte_at_a_time_and_all_at_once_give_the_same() {
    let frames: Vec<Vec<u8>> = samples().iter().map(FrameBuf::to_vec).collect();
    let stream = frames.concat();
    let single: Vec<&[u8]> = stream.chunks(1).collect();
    for pieces in [single, vec![&stream[..]]] {
        assert_eq!(decode(&pieces), (frames.clone(), Ok(Flow::Next), 0));
    }
}

#[test]
fn e15_bad_magic_and_oversize_are_refused_before_anything_is_allocated() {
    let mut bytes = FrameBuf::bare(Kind::ACK, |_| {}).to_vec();
    bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    let (_, error, buffered) = decode(&[&bytes]);
    assert!(matches!(error, Err(WireError::BodyLength { found: u32::MAX, limit: 0, .. })));
    assert_eq!(buffered, 0);
    let (_, error, buffered) = decode(&[&[b'G'; HEADER_SIZE]]);
    assert!(matches!(error, Err(WireError::Magic { .. })));
    assert_eq!(buffered, 0);
}

#[test]
fn e17_a_body_of_8_mib_in_small_pieces_is_copied_once() {
    let len = Kind::CONTROL_RESP.body_size_max() as usize;
    let bytes = FrameBuf::seal_whole(Header::new(Kind::CONTROL_RESP), None, &vec![5; len]);
    let pieces: Vec<&[u8]> = bytes.chunks(1460).collect();
    let clock = crate::clock::SystemClock::start();
    let (frames, last, buffered) = decode(&pieces);
    assert_eq!((frames.len(), last, buffered), (1, Ok(Flow::Next), 0));
    // Copied anew with each of its 5,746 pieces it would be 24 GB: many seconds.
    let took = crate::clock::Clock::now(&clock).at.since(crate::time::Instant(0));
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn a_nack_says_whether_its_message_is_settled() {
    let settles = |reason, retry_after| Nack { reason, highest: 0, retry_after }.settles();
    let soon = Duration::from_secs(1);
    for reason in [NackReason::Unsupported, NackReason::Damaged, NackReason::Older] {
        assert!(settles(reason, Duration::ZERO) && settles(reason, soon), "{reason:?}");
    }
    for reason in [NackReason::Busy, NackReason::Store, NackReason::Stopping, NackReason::Unknown] {
        assert!(!settles(reason, Duration::ZERO) && !settles(reason, soon), "{reason:?}");
    }
    // With a time to wait it is about the sender.
    assert!(settles(NackReason::Refused, Duration::ZERO));
    assert!(!settles(NackReason::Refused, soon));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn s1_35_split_anywhere_gives_the_same(cuts in prop::collection::vec(0usize..4000, 0..20)) {
        let frames: Vec<Vec<u8>> = samples().iter().map(FrameBuf::to_vec).collect();
        let stream = frames.concat();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c % stream.len()).collect();
        cuts.sort_unstable();
        cuts.push(stream.len());
        let mut from = 0;
        let pieces: Vec<&[u8]> =
            cuts.iter().map(|to| &stream[std::mem::replace(&mut from, *to)..*to]).collect();
        prop_assert_eq!(decode(&pieces), (frames, Ok(Flow::Next), 0));
    }

    #[test]
    fn e16_random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), at: usize) {
        let _ = decode(&[&bytes]);
        // The same under a header that is right; and a body that is right but for one byte.
        let report = samples().into_iter().find(|frame| frame.head[5] == Kind::REPORT.0).unwrap();
        let mut body = report.body.to_vec();
        let at = at % body.len();
        body[at] = bytes.first().copied().unwrap_or(0xff);
        for body in [bytes, body] {
            for kind in [Kind::REPORT, Kind::STATUS_RESP, Kind::NACK] {
                let frame = FrameBuf::seal_whole(Header::new(kind), None, &body);
                let Ok(frame) = Frame::parse(&frame) else { continue };
                if let Ok(report) = access::<Report>(&frame) {
                    // Whatever was let through can be read to its end.
                    let read = report.results.iter().map(|r| r.id.len() + r.before.len()).sum::<usize>();
                    prop_assert!(read <= body.len() * (1 + report.results.len()));
                }
                let _ = access::<StatusResp>(&frame);
                let _ = Nack::decode(&frame);
            }
        }
    }

    #[test]
    fn parking_loses_and_reorders_nothing(piece in 1usize..400, park in prop::collection::vec(any::<bool>(), 1..40)) {
        let frames: Vec<Vec<u8>> = samples().iter().map(FrameBuf::to_vec).collect();
        let stream = frames.concat();
        let mut pieces = stream.chunks(piece);
        let mut parks = park.iter().cycle();
        let (mut decoder, mut taken) = (Decoder::new(), Vec::new());
        let mut parked = false;
        for _ in 0..100_000 {
            if taken.len() == frames.len() || park.iter().all(|p| *p) {
                break;
            }
            let input = if parked { &[][..] } else { pieces.next().unwrap_or_default() };
            let flow = decoder.feed(input, |frame| {
                if *parks.next().unwrap() {
                    return Flow::Park;
                }
                taken.push(frame.bytes().to_vec());
                Flow::Next
            });
            parked = flow == Ok(Flow::Park);
            prop_assert!(flow.is_ok());
        }
        prop_assert!(park.iter().all(|p| *p) || taken == frames);
    }
}
