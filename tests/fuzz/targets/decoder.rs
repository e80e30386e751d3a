//! A stream cut anywhere gives the frames that it gives in one piece, and no length that it names
//! is believed before its bytes have come.

#![no_main]

use engine::wire::{Decoder, Flow, WireError};
use fuzz::frames;
use fuzz::input::Input;
use fuzz::memory;
use libfuzzer_sys::fuzz_target;

/// Bytes that may be held beyond twice those that have come: what is set aside for a frame, twice
/// while a buffer grows.
const RESERVE_MAX: usize = 2 * 64 * 1024 + 4096;
const FRAMES_MAX: usize = 16;

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    // Either the rest is the stream as it is, or it describes frames, sound or damaged.
    let mut stream = Vec::new();
    let (pieces, parks) = (input.number(8), input.number(4));
    if input.one_in(2) {
        stream.extend_from_slice(input.rest());
    } else {
        for _ in 0..FRAMES_MAX {
            if input.is_empty() {
                break;
            }
            stream.extend(frames::frame(&mut input, &[]));
        }
    }
    let whole = decode(&[&stream], 0);
    let cut = cut(&stream, pieces);
    assert_same(&whole, &decode(&cut, 0));
    let single: Vec<&[u8]> = stream.chunks(1).take(4096).collect();
    if single.len() == stream.len() {
        assert_same(&whole, &decode(&single, 0));
    }
    assert_same(&whole, &decode(&cut, parks));
});

type Decoded = (Vec<Vec<u8>>, Option<WireError>, usize);

fn assert_same(whole: &Decoded, other: &Decoded) {
    assert_eq!(whole.0, other.0, "other frames");
    assert_eq!(whole.1, other.1, "another error");
    // What is kept of a stream that is refused says nothing.
    if whole.1.is_none() {
        assert_eq!(whole.2, other.2, "another rest");
    }
}

/// The pieces between these eight places.
fn cut(stream: &[u8], at: u64) -> Vec<&[u8]> {
    let mut places: Vec<usize> =
        at.to_le_bytes().iter().map(|at| usize::from(*at) * stream.len() / 255).collect();
    places.sort_unstable();
    let mut from = 0;
    let mut pieces: Vec<&[u8]> =
        places.into_iter().map(|to| &stream[std::mem::replace(&mut from, to)..to]).collect();
    pieces.push(&stream[from..]);
    pieces
}

/// Feeds the pieces; a bit of `parks` refuses a frame once, and it is offered again at once.
fn decode(pieces: &[&[u8]], parks: u64) -> Decoded {
    let mut decoder = Decoder::new();
    let mut frames: Vec<Vec<u8>> = Vec::new();
    let (mut offered, mut fed) = (0_u32, 0);
    for piece in pieces {
        let mut piece = *piece;
        loop {
            fed += piece.len();
            let before = decoder.buffered();
            let (flow, held) = memory::peak(|| {
                decoder.feed(piece, |frame| {
                    offered += 1;
                    if parks >> (offered % 32) & 1 == 1 && offered % 32 != 0 {
                        return Flow::Park;
                    }
                    frames.push(frame.bytes().to_vec());
                    Flow::Next
                })
            });
            let own: usize = frames.iter().map(|frame| frame.len() + 64).sum();
            assert!(
                held <= 2 * (before + piece.len()) + 2 * own + RESERVE_MAX,
                "{held} bytes held for {} that came on top of {before}",
                piece.len()
            );
            assert!(decoder.buffered() <= fed, "more is kept than came");
            if let Some(awaited) = decoder.awaited()
                && flow == Ok(Flow::Next)
            {
                assert!(awaited > decoder.buffered(), "a whole frame is kept back");
            }
            match flow {
                Ok(Flow::Park) => piece = &[],
                Ok(_) => break,
                Err(error) => {
                    return (frames, Some(error), decoder.buffered());
                }
            }
        }
    }
    (frames, None, decoder.buffered())
}
